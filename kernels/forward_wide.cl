/*
 * Forward batch normalization, wide form: for GPUs. A work-group is one or more teams of 64 work-items;
 * a team holds one segment of 1024 places in registers, lane l the places l, 64 + l, 128 + l, ...
 *
 *      lane       0    1    2  ...  63
 *      row 0    [ 0 ][ 1 ][ 2 ] ... [63]     each row is one coalesced load of the team
 *      row 1    [64 ][65 ][66 ] ... [127]    the tree's first four steps add rows, in registers;
 *      ...                                   its last six add lanes, in local memory
 *
 * Build option
 *   CLNORM_GROUP_SIZE   work-items in a work-group: 64, 128 or 256
 * Kernels: clnorm_channel, clnorm_partials, clnorm_finalize, clnorm_apply, all with the parameters of
 * CLNORM_KERNEL; one work-group per item (clnorm_stage in host/core/schedule.h).
 */
#ifndef CLNORM_GROUP_SIZE
#define CLNORM_GROUP_SIZE 256
#endif
#define CLNORM_COUNTER_SPACE __local

#include "clnorm_forward.h"

#define CLNORM_TEAMS (CLNORM_GROUP_SIZE / 64)

typedef struct clnorm_local {
  float d[CLNORM_GROUP_SIZE], dd[CLNORM_GROUP_SIZE];
  clnorm_partial nodes[CLNORM_GROUP_SIZE];
  clnorm_counter counter;
  clnorm_affine affine[CLNORM_GROUP_MAX];
} clnorm_local;

/* ---- One segment per team ------------------------------------------------------------------------- */

/* A work-item's share of a segment: place 64 * row + lane, in floats from the channel's first plane. */
typedef struct clnorm_places {
  clnorm_ulong first, plane_stride;
  uint slot_log2, extent, planes, lane;
} clnorm_places;

/* Segment `index` for this team; past `end` it has no planes. */
CLNORM_FN clnorm_places clnorm_places_at(const clnorm_geometry *g, uint index, uint end) {
  clnorm_segment s = clnorm_segment_at(g, index < end ? index : end - 1);
  clnorm_places p;
  p.first = s.first;
  p.plane_stride = g->channels * g->spatial;
  p.slot_log2 = g->slot_log2;
  p.extent = s.extent;
  p.planes = index < end ? s.planes : 0;
  p.lane = get_local_id(0) & 63;
  return p;
}

/* Is there an element at the row's place? Then *at says where. */
CLNORM_FN int clnorm_place(const clnorm_places *p, uint row, clnorm_ulong *at) {
  const uint place = 64 * row + p->lane;
  const uint plane = place >> p->slot_log2;
  const uint position = place & ((1u << p->slot_log2) - 1);
  *at = p->first + plane * p->plane_stride + position;
  return plane < p->planes && position < p->extent;
}

/* The tree's last six steps, for every team at once; all work-items get their team's sum. */
CLNORM_FN float clnorm_fold(__local float *a, float value) {
  const uint id = get_local_id(0), lane = id & 63;
  a[id] = value;
  for (uint w = 32; w; w /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    const float sum = lane < w ? a[id] + a[id + w] : 0.0f;
    if (lane < w) a[id] = sum;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return a[id & ~63u];
}

CLNORM_FN float clnorm_sum_rows(const float *v) {
  return (((v[0] + v[8]) + (v[4] + v[12])) + ((v[2] + v[10]) + (v[6] + v[14]))) +
         (((v[1] + v[9]) + (v[5] + v[13])) + ((v[3] + v[11]) + (v[7] + v[15])));
}

CLNORM_FN float clnorm_sum_pairs(const float *v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* The partial of this team's segment, the same in all its work-items. */
CLNORM_FN clnorm_partial clnorm_reduce(__global const float *x, const clnorm_places *p,
                                       __local clnorm_local *local_memory) {
  float v[16], d[8], dd[8];
  uint there = 0;
  for (uint row = 0; row < 16; row++) {
    clnorm_ulong at;
    const int is = clnorm_place(p, row, &at);
    v[row] = is ? x[at] : 0.0f;
    there |= (uint)is << row;
  }
  const uint count = p->extent * p->planes;
  const float reciprocal = clnorm_div(1.0f, (float)(count ? count : 1));
  const float pivot = (clnorm_fold(local_memory->d, clnorm_sum_rows(v)) + 0.0f) * reciprocal;
  for (uint row = 0; row < 8; row++) {
    const float a = there >> row & 1 ? v[row] - pivot : 0.0f;
    const float b = there >> (row + 8) & 1 ? v[row + 8] - pivot : 0.0f;
    d[row] = a + b;
    dd[row] = fma(b, b, a * a);
  }
  barrier(CLK_LOCAL_MEM_FENCE); /* everyone has read the first sum */
  const float sum_d = clnorm_fold(local_memory->d, clnorm_sum_pairs(d));
  const float sum_dd = clnorm_fold(local_memory->dd, clnorm_sum_pairs(dd));
  return clnorm_partial_make(count, reciprocal, pivot, sum_d, sum_dd);
}

/* ---- One node per work-group ---------------------------------------------------------------------- */

/* Segments [begin, end) of the channel whose first plane is at x; valid in work-item 0 alone. */
CLNORM_FN clnorm_partial clnorm_node(__global const float *x, const clnorm_geometry *g, uint begin,
                                     uint end, __local clnorm_local *local_memory) {
  const uint id = get_local_id(0), team = id / 64;
  if (id == 0) local_memory->counter.count = local_memory->counter.depth = 0;
  for (uint i = begin; i < end; i += CLNORM_TEAMS) {
    const clnorm_places p = clnorm_places_at(g, i + team, end);
    const clnorm_partial mine = clnorm_reduce(x, &p, local_memory);
    if ((id & 63) == 0) local_memory->nodes[team] = mine;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (id == 0)
      for (uint k = 0; k < CLNORM_TEAMS && i + k < end; k++)
        clnorm_counter_push(&local_memory->counter, local_memory->nodes[k]);
  }
  clnorm_partial node = {0, 0.0f, 0.0f, 0.0f, 0};
  if (id == 0) node = clnorm_counter_result(&local_memory->counter);
  return node;
}

/* ---- Stages --------------------------------------------------------------------------------------- */

CLNORM_FN float clnorm_normalize(float x, clnorm_affine a) {
  return fma((x - a.hi) - a.lo, a.scale, a.shift);
}

/* One channel: statistics, then output by the same places (x comes from the cache where it fits). */
CLNORM_FN void clnorm_group_channel(const clnorm_buffers *b, const clnorm_forward *call, clnorm_ulong c,
                                    __local clnorm_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  __global const float *x = b->x + c * g.spatial;
  __global float *y = b->y + c * g.spatial;
  const clnorm_partial node = clnorm_node(x, &g, 0, g.segments, local_memory);
  if (get_local_id(0) == 0) local_memory->affine[0] = clnorm_affine_batch(b, call, c, node);
  barrier(CLK_LOCAL_MEM_FENCE);
  const clnorm_affine a = local_memory->affine[0];
  for (uint i = get_local_id(0) / 64; i < g.segments; i += CLNORM_TEAMS) {
    const clnorm_places p = clnorm_places_at(&g, i, g.segments);
    for (uint row = 0; row < 16; row++) {
      clnorm_ulong at;
      if (clnorm_place(&p, row, &at)) y[at] = clnorm_normalize(x[at], a);
    }
  }
}

CLNORM_FN void clnorm_group_partials(const clnorm_buffers *b, const clnorm_forward *call,
                                     clnorm_ulong item, __local clnorm_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c = item / call->chunks;
  const uint begin = (uint)(item - c * call->chunks) << call->chunk_log2;
  const uint end = (uint)clnorm_min((clnorm_ulong)begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  const clnorm_partial node = clnorm_node(b->x + c * g.spatial, &g, begin, end, local_memory);
  if (get_local_id(0) == 0) b->partials[item] = node;
}

/* One channel's nodes, at most CLNORM_GROUP_SIZE of them, merged as a tree across work-items. */
CLNORM_FN void clnorm_group_finalize(const clnorm_buffers *b, const clnorm_forward *call, clnorm_ulong c,
                                     __local clnorm_local *local_memory) {
  const uint id = get_local_id(0);
  __local clnorm_partial *nodes = local_memory->nodes;
  if (id < call->chunks) nodes[id] = b->partials[c * call->chunks + id];
  for (uint w = 1; w < call->chunks; w *= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (id % (2 * w) == 0 && id + w < call->chunks) nodes[id] = clnorm_merge(nodes[id], nodes[id + w]);
  }
  if (id == 0) b->affine[c] = clnorm_affine_batch(b, call, c, nodes[0]);
}

/* A tile's elements, four at a time where alignment allows, as one list: sample, channel, position. */
CLNORM_FN void clnorm_group_apply(const clnorm_buffers *b, const clnorm_forward *call, clnorm_ulong item,
                                  __local clnorm_local *local_memory) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  const uint width = call->flags & CLNORM_ALIGNED ? 4 : 1;
  const uint channels = (uint)(t.c1 - t.c0);
  const uint plane = (uint)(t.p1 - t.p0) / width;
  const uint run = channels * plane;
  const uint total = run * (uint)(t.n1 - t.n0);
  const clnorm_ulong sample_stride = call->channels * call->spatial;
  const clnorm_ulong first = t.n0 * sample_stride + t.c0 * call->spatial + t.p0;
  for (uint c = get_local_id(0); c < channels; c += CLNORM_GROUP_SIZE)
    local_memory->affine[c] = clnorm_tile_affine(b, call, &t, t.c0 + c);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (uint i = get_local_id(0); i < total; i += CLNORM_GROUP_SIZE) {
    const uint n = i / run, r = i - n * run;
    const clnorm_affine a = local_memory->affine[r / plane];
    const clnorm_ulong at = first + n * sample_stride + r * width;
    if (width == 4) {
      const float4 v = *(__global const float4 *)(b->x + at);
      *(__global float4 *)(b->y + at) =
          fma((v - (float4)(a.hi)) - (float4)(a.lo), (float4)(a.scale), (float4)(a.shift));
    } else {
      b->y[at] = clnorm_normalize(b->x[at], a);
    }
  }
}

#define CLNORM_KERNEL(stage)                                                                         \
  __attribute__((reqd_work_group_size(CLNORM_GROUP_SIZE, 1, 1))) __kernel void clnorm_##stage(       \
      __global const float *x, __global float *y, __global const float *weight,                      \
      __global const float *bias, __global float *running_mean, __global float *running_var,         \
      __global float *saved_mean, __global float *saved_invstd, __global uchar *workspace,           \
      clnorm_forward call) {                                                                         \
    __local clnorm_local local_memory;                                                               \
    const clnorm_buffers b = {x + call.x,                                                            \
                              y + call.y,                                                            \
                              weight + call.weight,                                                  \
                              bias + call.bias,                                                      \
                              running_mean + call.running_mean,                                      \
                              running_var + call.running_var,                                        \
                              saved_mean + call.saved_mean,                                          \
                              saved_invstd + call.saved_invstd,                                      \
                              (__global clnorm_partial *)(workspace + call.partials),                \
                              (__global clnorm_affine *)(workspace + call.affine)};                  \
    clnorm_group_##stage(&b, &call, get_group_id(0), &local_memory);                                 \
  }

CLNORM_KERNEL(channel)
CLNORM_KERNEL(partials)
CLNORM_KERNEL(finalize)
CLNORM_KERNEL(apply)
