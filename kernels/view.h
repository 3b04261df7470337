/*
 * Views: where the values of a channel lie in memory. They decide no bit.
 */
#ifndef CLNORM_VIEW_H
#define CLNORM_VIEW_H

#include "tiles.h"

/* Positions that follow each other at one distance in x and in y: `count` of them, at most up to an end. */
typedef struct clnorm_piece {
  clnorm_ulong count;
  clnorm_ulong at[CLNORM_NUM_VIEWS]; /* of the first, from its plane's first */
} clnorm_piece;

CLNORM_FN clnorm_piece clnorm_piece_at(const clnorm_call *call, clnorm_ulong position,
                                       clnorm_ulong end) {
  const clnorm_ulong row = position / call->extent[1], k = position - row * call->extent[1];
  const clnorm_ulong i = row / call->extent[0], j = row - i * call->extent[0];
  clnorm_piece p;
  p.count = clnorm_min(call->extent[1] - k, end - position);
  for (clnorm_uint v = 0; v < CLNORM_NUM_VIEWS; v++) {
    const clnorm_view *view = &call->views[v];
    p.at[v] = i * view->position[0] + j * view->position[1] + k * view->position[2];
  }
  return p;
}

/* Where a channel's plane begins. */
CLNORM_FN clnorm_ulong clnorm_plane_at(const clnorm_view *v, clnorm_ulong n, clnorm_ulong c) {
  const clnorm_ulong block = c / v->block;
  return n * v->sample + block * v->channel + (c - block * v->block);
}

#endif
