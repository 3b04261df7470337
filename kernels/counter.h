/*
 * Merging nodes that arrive one after the other.
 */
#ifndef CLNORM_COUNTER_H
#define CLNORM_COUNTER_H

#include "statistics.h"

/* Where a counter lives; the wide form keeps it in local memory. */
#ifndef CLNORM_COUNTER_SPACE
#define CLNORM_COUNTER_SPACE
#endif

/* The tree's order for a stream of nodes of one size: a binary counter. Every 1 in `count` stands for a
 * finished node, the most recent on top. 32 levels hold 2^32 - 1 nodes. */
typedef struct clnorm_counter {
  clnorm_partial stack[32];
  clnorm_uint count, depth;
} clnorm_counter;

CLNORM_FN void clnorm_counter_push(CLNORM_COUNTER_SPACE clnorm_counter *k, clnorm_partial p) {
  for (clnorm_uint ones = k->count; ones & 1; ones >>= 1) p = clnorm_merge(k->stack[--k->depth], p);
  k->stack[k->depth++] = p;
  k->count++;
}

/* A node without a right neighbour moves up unchanged: merge from the right. At least one was pushed. */
CLNORM_FN clnorm_partial clnorm_counter_result(CLNORM_COUNTER_SPACE clnorm_counter *k) {
  clnorm_partial p = k->stack[--k->depth];
  while (k->depth) p = clnorm_merge(k->stack[--k->depth], p);
  return p;
}

#endif
