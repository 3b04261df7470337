/*
 * Storage and real: what an element of a tensor is in memory, and what is computed in.
 *   clnorm_in     an element of x in memory
 *   clnorm_out    an element of y in memory
 *   clnorm_real   what everything is computed in; parameters and statistics are it as well
 */
#ifndef CLNORM_STORAGE_H
#define CLNORM_STORAGE_H

#include "base.h"

typedef float clnorm_in;
typedef float clnorm_out;
typedef float clnorm_real;

#endif
