/*
 * Backward, wide form: as in wide.cl, a team of 64 work-items walks a segment row by row, lane l its places l,
 * 64 + l, ...; sums are folded in local memory. dx is written by places, or by tiles.
 */
#ifndef CLNORM_WIDE_BACKWARD_H
#define CLNORM_WIDE_BACKWARD_H

#include "counter.h"
#include "view.h"

#define CLNORM_BACKWARD_TEAMS (CLNORM_GROUP_SIZE / 64)

/* Local memory of each stage. */
typedef struct clnorm_backward_local {
  clnorm_sums sums[CLNORM_GROUP_SIZE];
  clnorm_sums nodes[CLNORM_BACKWARD_TEAMS];
  clnorm_sums_counter counter;
  clnorm_gradient_coefficients coefficients;
} clnorm_backward_local;

typedef struct clnorm_backward_finalize_local {
  clnorm_sums nodes[CLNORM_GROUP_SIZE];
} clnorm_backward_finalize_local;

typedef struct clnorm_backward_apply_local {
  clnorm_gradient_coefficients coefficients[CLNORM_CHANNELS_MAX];
} clnorm_backward_apply_local;

/* ---- Elements --------------------------------------------------------------------------------------- */

/* Position p of a plane in view v. */
CLNORM_FN clnorm_ulong clnorm_backward_at(const clnorm_call *call, uint v, clnorm_ulong n,
                                          clnorm_ulong c, clnorm_ulong p) {
#if CLNORM_PATH == 1
  return n * call->views[v].sample + c * call->views[v].channel + p;
#else
  return clnorm_plane_at(&call->views[v], n, c) + clnorm_piece_at(call, p, p + 1).at[v];
#endif
}

/* Writes dx of one value; of the last channel also the 0 of what its block has beyond it. */
CLNORM_FN void clnorm_backward_write(const clnorm_buffers *b, const clnorm_call *call,
                                     clnorm_ulong n, clnorm_ulong c, clnorm_ulong p,
                                     clnorm_gradient_coefficients a) {
  const clnorm_real g = clnorm_dy_load(b->dy, clnorm_backward_at(call, CLNORM_VIEW_DY, n, c, p));
  const clnorm_ulong to = clnorm_backward_at(call, CLNORM_VIEW_Y, n, c, p);
  if (call->flags & CLNORM_BATCH_MODE) {
    const clnorm_ulong from = clnorm_backward_at(call, CLNORM_VIEW_X, n, c, p);
    clnorm_element_store(b->y, to, clnorm_dx_of(g, clnorm_element_load(b->x, from), a, 1));
  } else {
    clnorm_element_store(b->y, to, clnorm_dx_of(g, 0.0f, a, 0));
  }
#if CLNORM_PATH == 0
  const uint block = call->views[CLNORM_VIEW_Y].block;
  if (c + 1 == call->channels && call->flags & CLNORM_OWNS_TAIL)
    for (uint k = (uint)(c % block) + 1; k < block; k++)
      clnorm_element_store(b->y, to + k - (uint)(c % block), 0.0f);
#endif
}

/* ---- One segment per team --------------------------------------------------------------------------- */

/* Sample and position of a place; false where it has no value. */
CLNORM_FN int clnorm_backward_place(const clnorm_geometry *g, const clnorm_segment *s, uint place,
                                    clnorm_ulong *n, clnorm_ulong *p) {
  const uint slot = place >> g->slot_log2, position = place & ((1u << g->slot_log2) - 1);
  *n = s->sample + slot;
  *p = s->position + position;
  return slot < s->planes && position < s->extent;
}

/* The lane's sums over a segment. */
CLNORM_FN clnorm_sums clnorm_backward_lane(const clnorm_buffers *b, const clnorm_call *call,
                                           const clnorm_geometry *g, clnorm_ulong c, clnorm_real hi,
                                           uint index) {
  const clnorm_segment segment = clnorm_segment_at(g, index);
  const uint lane = get_local_id(0) & 63;
  clnorm_sums sums = {0.0f, 0.0f};
  for (uint block = 0; block < CLNORM_BLOCKS; block++) {
    clnorm_sums some = {0.0f, 0.0f};
#pragma unroll
    for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
      clnorm_ulong n, p;
      const uint place = block * CLNORM_BLOCK + row * CLNORM_ROW + lane;
      if (!clnorm_backward_place(g, &segment, place, &n, &p)) continue;
      const clnorm_real dy =
          clnorm_dy_load(b->dy, clnorm_backward_at(call, CLNORM_VIEW_DY, n, c, p));
      some.s += dy;
      if (call->flags & CLNORM_READS_X) {
        const clnorm_real x =
            clnorm_element_load(b->x, clnorm_backward_at(call, CLNORM_VIEW_X, n, c, p));
        some.t = clnorm_fma(dy, x - hi, some.t);
      }
    }
    sums = clnorm_sums_merge(sums, some);
  }
  return sums;
}

/* The tree, for every team at once; all work-items get their team's sums. */
CLNORM_FN clnorm_sums clnorm_backward_fold(__local clnorm_sums *all, clnorm_sums value) {
  const uint id = get_local_id(0), lane = id & 63;
  barrier(CLK_LOCAL_MEM_FENCE); /* everyone has read what was there */
  all[id] = value;
  for (uint w = 32; w; w /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane < w) all[id] = clnorm_sums_merge(all[id], all[id + w]);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return clnorm_sums_make(all[id - lane].s, all[id - lane].t);
}

/* Segments [begin, end) of a channel; valid in work-item 0 alone. */
CLNORM_FN clnorm_sums clnorm_backward_node(const clnorm_buffers *b, const clnorm_call *call,
                                           const clnorm_geometry *g, clnorm_ulong c, uint begin,
                                           uint end, __local clnorm_backward_local *local_memory) {
  const uint id = get_local_id(0), team = id / 64;
  const clnorm_real hi = clnorm_normalizer_get(b, call, c).hi;
  clnorm_sums node = {0.0f, 0.0f};
  if (id == 0) local_memory->counter.count = local_memory->counter.depth = 0;
  for (uint i = begin; i < end; i += CLNORM_BACKWARD_TEAMS) {
    clnorm_sums mine = {0.0f, 0.0f};
    if (i + team < end) mine = clnorm_backward_lane(b, call, g, c, hi, i + team);
    mine = clnorm_backward_fold(local_memory->sums, mine);
    if ((id & 63) == 0) local_memory->nodes[team] = mine;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (id == 0)
      for (uint k = 0; k < CLNORM_BACKWARD_TEAMS && i + k < end; k++)
        clnorm_sums_counter_push(&local_memory->counter, local_memory->nodes[k]);
  }
  if (id == 0) node = clnorm_sums_counter_result(&local_memory->counter);
  return node;
}

/* ---- Stages ----------------------------------------------------------------------------------------- */

CLNORM_FN void clnorm_group_backward_channel(const clnorm_buffers *b, const clnorm_call *call,
                                             clnorm_ulong c,
                                             __local clnorm_backward_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_sums node = clnorm_backward_node(b, call, &g, c, 0, g.segments, local_memory);
  if (get_local_id(0) == 0)
    local_memory->coefficients =
        clnorm_gradient_coefficients_make(b, call, c, clnorm_normalizer_get(b, call, c), node);
  barrier(CLK_LOCAL_MEM_FENCE);
  if (!(call->flags & CLNORM_HAS_DX)) return;
  const clnorm_gradient_coefficients a = local_memory->coefficients;
  for (uint i = get_local_id(0) / 64; i < g.segments; i += CLNORM_BACKWARD_TEAMS) {
    const clnorm_segment segment = clnorm_segment_at(&g, i);
    for (uint place = get_local_id(0) & 63; place < CLNORM_SEGMENT; place += 64) {
      clnorm_ulong n, p;
      if (clnorm_backward_place(&g, &segment, place, &n, &p))
        clnorm_backward_write(b, call, n, c, p, a);
    }
  }
}

CLNORM_FN void clnorm_group_backward_partials(const clnorm_buffers *b, const clnorm_call *call,
                                              clnorm_ulong item,
                                              __local clnorm_backward_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c = item / call->chunks;
  const uint begin = (uint)(item - c * call->chunks) << call->chunk_log2;
  const uint end =
      (uint)clnorm_min((clnorm_ulong)begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  const clnorm_sums node = clnorm_backward_node(b, call, &g, c, begin, end, local_memory);
  if (get_local_id(0) == 0) b->sums[item] = node;
}

/* One channel's nodes, at most CLNORM_GROUP_SIZE of them, merged as a tree across work-items; of no values none. */
CLNORM_FN void
clnorm_group_backward_finalize(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                               __local clnorm_backward_finalize_local *local_memory) {
  const clnorm_sums none = {0.0f, 0.0f};
  const uint id = get_local_id(0);
  __local clnorm_sums *nodes = local_memory->nodes;
  if (id < call->chunks) nodes[id] = b->sums[c * call->chunks + id];
  for (uint w = 1; w < call->chunks; w *= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (id % (2 * w) == 0 && id + w < call->chunks)
      nodes[id] = clnorm_sums_merge(nodes[id], nodes[id + w]);
  }
  if (id == 0 && !call->chunks) clnorm_gradients_write(b, call, c, none, 0.0f);
  if (id == 0 && call->chunks)
    b->gradient_coefficients[c] =
        clnorm_gradient_coefficients_make(b, call, c, clnorm_normalizer_get(b, call, c), nodes[0]);
}

/* A tile's elements as one list: sample, channel, position. */
CLNORM_FN void clnorm_group_backward_apply(const clnorm_buffers *b, const clnorm_call *call,
                                           clnorm_ulong item,
                                           __local clnorm_backward_apply_local *local_memory) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  const uint channels = (uint)(t.c1 - t.c0), plane = (uint)(t.p1 - t.p0);
  const uint run = channels * plane, total = run * (uint)(t.n1 - t.n0);
  for (uint c = get_local_id(0); c < channels; c += CLNORM_GROUP_SIZE)
    local_memory->coefficients[c] = clnorm_tile_gradient_coefficients(b, call, t.c0 + c);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (uint i = get_local_id(0); i < total; i += CLNORM_GROUP_SIZE) {
    const uint n = i / run, r = i - n * run, c = r / plane;
    clnorm_backward_write(b, call, t.n0 + n, t.c0 + c, t.p0 + (r - c * plane),
                          local_memory->coefficients[c]);
  }
}

#define CLNORM_BACKWARD_KERNEL(stage, local_type)                                                  \
  __attribute__((reqd_work_group_size(CLNORM_GROUP_SIZE, 1, 1)))                                   \
  __kernel void clnorm_##stage(CLNORM_KERNEL_PARAMETERS) {                                         \
    __local local_type local_memory;                                                               \
    const clnorm_buffers b = CLNORM_KERNEL_BUFFERS_OF(dx);                                         \
    clnorm_group_##stage(&b, &call, get_group_id(0), &local_memory);                               \
  }

#if CLNORM_WITH_BACKWARD_CHANNEL
CLNORM_BACKWARD_KERNEL(backward_channel, clnorm_backward_local)
#endif
#if CLNORM_WITH_BACKWARD_PARTIALS
CLNORM_BACKWARD_KERNEL(backward_partials, clnorm_backward_local)
#endif
#if CLNORM_WITH_BACKWARD_FINALIZE
CLNORM_BACKWARD_KERNEL(backward_finalize, clnorm_backward_finalize_local)
#endif
#if CLNORM_WITH_BACKWARD_APPLY
CLNORM_BACKWARD_KERNEL(backward_apply, clnorm_backward_apply_local)
#endif

#endif
