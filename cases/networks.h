/* Layer shapes of published networks, as tables. */
#ifndef CLNORM_CASES_NETWORKS_H
#define CLNORM_CASES_NETWORKS_H

#include <stddef.h>
#include <stdint.h>

typedef struct clnorm_layer {
  int64_t channels, height, width;
  int occurrences; /* batch normalizations of this shape in one pass through the network */
} clnorm_layer;

typedef struct clnorm_network {
  const char *name;
  int64_t verify_batch; /* batch that keeps verification short */
  size_t num_layers;
  const clnorm_layer *layers;
} clnorm_network;

extern const clnorm_network clnorm_networks[];
extern const size_t clnorm_num_networks;

#endif
