/* Prints the layer shapes of cases/networks.c, one a line: network, C, H, W. */
#include <inttypes.h>
#include <stdio.h>

#include "networks.h"

int main(void) {
  for (size_t i = 0; i < clnorm_num_networks; i++) {
    const clnorm_network *network = &clnorm_networks[i];
    for (size_t k = 0; k < network->num_layers; k++) {
      const clnorm_layer *layer = &network->layers[k];
      printf("%s %" PRId64 " %" PRId64 " %" PRId64 "\n", network->name, layer->channels,
             layer->height, layer->width);
    }
  }
  return 0;
}
