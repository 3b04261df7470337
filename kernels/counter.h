/*
 * Merging nodes that arrive one after the other.
 */
#ifndef CLNORM_COUNTER_H
#define CLNORM_COUNTER_H

#include "gradients.h"
#include "statistics.h"

/* Where a counter lives; the wide form keeps it in local memory. */
#ifndef CLNORM_COUNTER_SPACE
#define CLNORM_COUNTER_SPACE
#endif

/* The tree's order for a stream of nodes of one size: a binary counter. Every 1 in `count` stands for a
 * finished node, the most recent on top. 32 levels hold 2^32 - 1 nodes. A node without a right neighbour moves up
 * unchanged: NAME_result, after one push at least, merges from the right. */
#define CLNORM_COUNTER(name, node, merge)                                                          \
  typedef struct name {                                                                            \
    node stack[32];                                                                                \
    clnorm_uint count, depth;                                                                      \
  } name;                                                                                          \
  CLNORM_FN void name##_push(CLNORM_COUNTER_SPACE name *k, node p) {                               \
    for (clnorm_uint ones = k->count; ones & 1; ones >>= 1) p = merge(k->stack[--k->depth], p);    \
    k->stack[k->depth++] = p;                                                                      \
    k->count++;                                                                                    \
  }                                                                                                \
  CLNORM_FN node name##_result(CLNORM_COUNTER_SPACE name *k) {                                     \
    node p = k->stack[--k->depth];                                                                 \
    while (k->depth) p = merge(k->stack[--k->depth], p);                                           \
    return p;                                                                                      \
  }

CLNORM_COUNTER(clnorm_counter, clnorm_partial, clnorm_merge)
CLNORM_COUNTER(clnorm_sums_counter, clnorm_sums, clnorm_sums_merge)

#endif
