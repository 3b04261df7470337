/*
 * Tiles: how the output is cut into work.
 */
#ifndef CLNORM_TILES_H
#define CLNORM_TILES_H

#include "channel.h"

CLNORM_FN clnorm_ulong clnorm_min(clnorm_ulong a, clnorm_ulong b) { return a < b ? a : b; }

/* Channels [c0, c1) of samples [n0, n1), positions [p0, p1). */
typedef struct clnorm_tile {
  clnorm_ulong c0, c1, n0, n1, p0, p1;
} clnorm_tile;

/* Tiles are numbered in the order of memory. */
CLNORM_FN clnorm_tile clnorm_tile_at(const clnorm_call *call, clnorm_ulong index) {
  const clnorm_ulong groups = (call->channels + call->channels_each - 1) / call->channels_each;
  const clnorm_ulong pieces = (call->spatial + call->tile_spatial - 1) / call->tile_spatial;
  const clnorm_ulong row = index / pieces, block = row / groups;
  clnorm_tile t;
  t.c0 = (row - block * groups) * call->channels_each;
  t.n0 = block * call->tile_batch;
  t.p0 = (index - row * pieces) * call->tile_spatial;
  t.c1 = clnorm_min(t.c0 + call->channels_each, call->channels);
  t.n1 = clnorm_min(t.n0 + call->tile_batch, call->batch);
  t.p1 = clnorm_min(t.p0 + call->tile_spatial, call->spatial);
  return t;
}

/* A group of channels as a whole. */
CLNORM_FN clnorm_tile clnorm_tile_of_group(const clnorm_call *call, clnorm_ulong group) {
  const clnorm_ulong c0 = group * call->channels_each;
  const clnorm_tile t = {
      c0, clnorm_min(c0 + call->channels_each, call->channels), 0, call->batch, 0, call->spatial};
  return t;
}

/* The first tile of a channel saves given statistics. */
CLNORM_FN int clnorm_tile_saves(const clnorm_tile *t) { return t->n0 == 0 && t->p0 == 0; }

/* The coefficients of one of the tile's channels. */
CLNORM_FN clnorm_coefficients clnorm_tile_coefficients(const clnorm_buffers *b,
                                                       const clnorm_call *call,
                                                       const clnorm_tile *t, clnorm_ulong c) {
  if (call->flags & CLNORM_BATCH_MODE) return b->coefficients[c];
  return clnorm_coefficients_given(b, call, c, clnorm_tile_saves(t));
}

#endif
