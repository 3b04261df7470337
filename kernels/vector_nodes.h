/*
 * The vector form: nodes of a group's channels, which become their coefficients.
 */
#ifndef CLNORM_VECTOR_NODES_H
#define CLNORM_VECTOR_NODES_H

#include "tiles.h"

/* Nodes of a group's channels, which count alike. */
typedef struct clnorm_nodes {
  clnorm_ulong count;
  clnorm_real hi[CLNORM_CHANNELS_MAX], lo[CLNORM_CHANNELS_MAX], m2[CLNORM_CHANNELS_MAX];
} clnorm_nodes;

CLNORM_FN clnorm_partial clnorm_nodes_get(const clnorm_nodes *n, clnorm_ulong c) {
  const clnorm_partial p = {n->count, n->hi[c], n->lo[c], n->m2[c], 0};
  return p;
}

CLNORM_FN void clnorm_nodes_set(clnorm_nodes *n, clnorm_ulong c, clnorm_partial p) {
  n->hi[c] = p.hi;
  n->lo[c] = p.lo;
  n->m2[c] = p.m2;
}

/* a becomes what it and b after it make. */
CLNORM_FN void clnorm_nodes_merge(clnorm_nodes *a, const clnorm_nodes *b, clnorm_uint channels) {
  const clnorm_weights k = clnorm_weights_make(a->count, b->count);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_nodes_set(a, c,
                     clnorm_merge_weighted(clnorm_nodes_get(a, c), clnorm_nodes_get(b, c), k));
  a->count += b->count;
}

/* Nodes that arrive one after the other, as in counter.h, all channels alike; the next one is at[depth]. */
typedef struct clnorm_nodes_stack {
  clnorm_nodes at[32];
  clnorm_uint depth;
} clnorm_nodes_stack;

/* before: how many nodes arrived before the one that is at[depth]. */
CLNORM_FN void clnorm_nodes_push(clnorm_nodes_stack *s, clnorm_uint before, clnorm_uint channels) {
  for (; before & 1; before >>= 1, s->depth--)
    clnorm_nodes_merge(&s->at[s->depth - 1], &s->at[s->depth], channels);
  s->depth++;
}

CLNORM_FN void clnorm_nodes_result(clnorm_nodes *nodes, clnorm_nodes_stack *s,
                                   clnorm_uint channels) {
  for (s->depth--; s->depth; s->depth--)
    clnorm_nodes_merge(&s->at[s->depth - 1], &s->at[s->depth], channels);
  nodes->count = s->at[0].count;
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_nodes_set(nodes, c, clnorm_nodes_get(&s->at[0], c));
}

/* The coefficients of a tile's channels. */
typedef struct clnorm_coefficient_rows {
  clnorm_real hi[CLNORM_CHANNELS_MAX], scale[CLNORM_CHANNELS_MAX], shift[CLNORM_CHANNELS_MAX];
} clnorm_coefficient_rows;

CLNORM_FN void clnorm_coefficient_rows_set(clnorm_coefficient_rows *all, clnorm_ulong c,
                                           clnorm_coefficients a) {
  all->hi[c] = a.hi;
  all->scale[c] = a.scale;
  all->shift[c] = a.shift;
}

/* The coefficients of a tile's channels, and what else there is of them. Short loops, and copies that no store
 * can change: each loop becomes vectors. */
CLNORM_FN void clnorm_coefficient_rows_batch(clnorm_coefficient_rows *rows,
                                             const clnorm_buffers *buffers,
                                             const clnorm_call *forward, const clnorm_tile *t,
                                             const clnorm_nodes *n) {
  const clnorm_buffers b = *buffers;
  const clnorm_call call = *forward;
  const clnorm_ulong c0 = t->c0;
  const clnorm_uint channels = (clnorm_uint)(t->c1 - c0);
  clnorm_spread k[CLNORM_CHANNELS_MAX];
  clnorm_two mean[CLNORM_CHANNELS_MAX];
  for (clnorm_uint c = 0; c < channels; c++) k[c] = clnorm_spread_make(&call, n->count, n->m2[c]);
  for (clnorm_uint c = 0; c < channels; c++) mean[c] = clnorm_mean(n->hi[c], n->lo[c]);
  for (clnorm_uint c = 0; c < channels; c++) clnorm_update_mean(&b, &call, c0 + c, mean[c].hi);
  for (clnorm_uint c = 0; c < channels; c++) clnorm_update_var(&b, &call, c0 + c, k[c].running_var);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_save_mean(&b, &call, c0 + c, mean[c].hi, mean[c].lo);
  for (clnorm_uint c = 0; c < channels; c++) clnorm_save_invstd(&b, &call, c0 + c, k[c].invstd);
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_coefficient_rows_set(
        rows, c, clnorm_coefficients_make(&b, &call, c0 + c, mean[c].hi, mean[c].lo, k[c].invstd));
}

CLNORM_FN void clnorm_coefficient_rows_given(clnorm_coefficient_rows *rows,
                                             const clnorm_buffers *buffers,
                                             const clnorm_call *forward, const clnorm_tile *t) {
  const clnorm_buffers b = *buffers;
  const clnorm_call call = *forward;
  const clnorm_ulong c0 = t->c0;
  const clnorm_uint channels = (clnorm_uint)(t->c1 - c0);
  clnorm_real invstd[CLNORM_CHANNELS_MAX];
  for (clnorm_uint c = 0; c < channels; c++)
    invstd[c] = clnorm_rsqrt(b.running_var[c0 + c] + clnorm_eps(&call));
  if (clnorm_tile_saves(t)) {
    for (clnorm_uint c = 0; c < channels; c++)
      clnorm_save_mean(&b, &call, c0 + c, b.running_mean[c0 + c], 0.0f);
    for (clnorm_uint c = 0; c < channels; c++) clnorm_save_invstd(&b, &call, c0 + c, invstd[c]);
  }
  for (clnorm_uint c = 0; c < channels; c++)
    clnorm_coefficient_rows_set(
        rows, c,
        clnorm_coefficients_make(&b, &call, c0 + c, b.running_mean[c0 + c], 0.0f, invstd[c]));
}

#endif
