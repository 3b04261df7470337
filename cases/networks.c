/* Batch-normalization layers at an input of 224x224; U-Net: 512x512. */
#include "networks.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const clnorm_layer resnet50[] = {
    {64, 112, 112, 1}, {64, 56, 56, 6},  {256, 56, 56, 4}, {128, 56, 56, 1},
    {128, 28, 28, 7},  {512, 28, 28, 5}, {256, 28, 28, 1}, {256, 14, 14, 11},
    {1024, 14, 14, 7}, {512, 14, 14, 1}, {512, 7, 7, 5},   {2048, 7, 7, 4},
};

static const clnorm_layer mobilenet_v2[] = {
    {32, 112, 112, 2}, {16, 112, 112, 1}, {96, 112, 112, 1}, {96, 56, 56, 1},  {24, 56, 56, 2},
    {144, 56, 56, 3},  {144, 28, 28, 1},  {32, 28, 28, 3},   {192, 28, 28, 5}, {192, 14, 14, 1},
    {64, 14, 14, 4},   {384, 14, 14, 8},  {96, 14, 14, 3},   {576, 14, 14, 5}, {576, 7, 7, 1},
    {160, 7, 7, 3},    {960, 7, 7, 6},    {320, 7, 7, 1},    {1280, 7, 7, 1},
};

static const clnorm_layer unet[] = {
    {64, 512, 512, 4}, {128, 256, 256, 4}, {256, 128, 128, 4}, {512, 64, 64, 4}, {1024, 32, 32, 2},
};

const clnorm_network clnorm_networks[] = {
    {"resnet50", 2, COUNT(resnet50), resnet50},
    {"mobilenet_v2", 2, COUNT(mobilenet_v2), mobilenet_v2},
    {"unet", 1, COUNT(unet), unet},
};
const size_t clnorm_num_networks = COUNT(clnorm_networks);
