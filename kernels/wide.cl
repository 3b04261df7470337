/*
 * Forward batch normalization, wide form: for GPUs. A work-group is one or more teams of 64 work-items;
 * a team walks one segment of 2048 places block by block, lane l the places l, 64 + l, 128 + l, ...
 *
 *      lane       0    1    2  ...  63
 *      row 0    [ 0 ][ 1 ][ 2 ] ... [63]     each row is one coalesced load of the team
 *      row 1    [64 ][65 ][66 ] ... [127]    rows are added one after the other, in registers;
 *      ...                                   then lanes as a tree, in local memory
 *
 * Build options
 *   CLNORM_GROUP_SIZE      work-items in a work-group: 64, 128 or 256 (the default)
 *   CLNORM_STAGES          which kernels there are (stages.h)
 *   CLNORM_SOFT_FMA        defined for devices without CL_FP_FMA (base.h)
 * Kernels: clnorm_channel, clnorm_partials, clnorm_finalize, clnorm_apply, clnorm_copy, all with
 * CLNORM_KERNEL_PARAMETERS; one work-group per item (clnorm_stage in host/core/schedule.h).
 */
#ifndef CLNORM_GROUP_SIZE
#define CLNORM_GROUP_SIZE 256
#endif
#define CLNORM_COUNTER_SPACE __local

#include "counter.h"
#include "stages.h"
#include "tiles.h"

#define CLNORM_TEAMS (CLNORM_GROUP_SIZE / 64)

/* Where a segment's rows are, for lane 0: plane, position in it, floats from the segment's first. In local
 * memory, since the compiler would otherwise keep all of them in registers across the loop over segments. 16
 * aligned bytes, which is one read, and `at` needs no register to be widened in. */
typedef struct clnorm_row {
  int plane, position;
  clnorm_ulong at;
} clnorm_row;

/* Local memory of each stage, no more than it needs: it limits how many work-groups run at a time. */
typedef struct clnorm_local {
  clnorm_row rows[CLNORM_ROWS];
  float2 sums[CLNORM_GROUP_SIZE];
  clnorm_partial nodes[CLNORM_TEAMS];
  clnorm_counter counter;
  clnorm_coefficients coefficients;
} clnorm_local;

typedef struct clnorm_finalize_local {
  clnorm_partial nodes[CLNORM_GROUP_SIZE];
} clnorm_finalize_local;

typedef struct clnorm_apply_local {
  clnorm_coefficients coefficients[CLNORM_CHANNELS_MAX];
} clnorm_apply_local;

typedef int clnorm_copy_local; /* none */

/* ---- One segment per team ------------------------------------------------------------------------- */

/* A team's segment, as one of its work-items sees it. Place 64 * row + lane is the sum of two that do not
 * carry into each other: the row's is the same everywhere (clnorm_row), the lane's does not change. */
typedef struct clnorm_places {
  clnorm_ulong first;  /* the lane's own place of row 0, in floats from the channel's first plane */
  uint count, first_count; /* elements of the segment, and of its first block; at least 1 */
  int planes, extent;  /* how many there are from the lane's own on; may be negative */
} clnorm_places;

/* Segment `index` for this team; past `end` it has no elements. */
CLNORM_FN clnorm_places clnorm_places_at(const clnorm_geometry *g, uint index, uint end) {
  const clnorm_segment s = clnorm_segment_at(g, index < end ? index : end - 1);
  const uint lane = get_local_id(0) & 63;
  const uint plane = lane >> g->slot_log2, position = lane & ((1u << g->slot_log2) - 1);
  clnorm_places p;
  p.first = s.first + plane * (g->channels * g->spatial) + position;
  p.count = s.planes * s.extent;
  p.first_count = clnorm_segment_first(g, &s);
  p.planes = index < end ? (int)s.planes - (int)plane : 0;
  p.extent = (int)s.extent - (int)position;
  return p;
}

/* Fills the table of rows. The caller's next barrier makes it visible. */
CLNORM_FN void clnorm_rows_make(const clnorm_geometry *g, __local clnorm_row *rows) {
  const uint row = get_local_id(0);
  if (row >= CLNORM_ROWS) return;
  rows[row].plane = (int)(64 * row >> g->slot_log2);
  rows[row].position = (int)(64 * row & ((1u << g->slot_log2) - 1));
  rows[row].at =
      (uint)rows[row].plane * (g->channels * g->spatial) + (uint)rows[row].position;
}

/* Has the row an element in this lane? */
CLNORM_FN int clnorm_there(const clnorm_places *p, __local const clnorm_row *row) {
  return row->plane < p->planes && row->position < p->extent;
}

/* The work-item's values of a block, 0 where there is none. */
CLNORM_FN void clnorm_load_block(__global const float *x, const clnorm_places *p,
                                 __local const clnorm_row *rows, float *v) {
  __global const float *first = x + p->first;
#pragma unroll
  for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++)
    v[row] = clnorm_there(p, &rows[row]) ? first[rows[row].at] : 0.0f;
}

/* The tree, for every team at once and for two sums side by side; all work-items get
 * their team's sums. Operands are at constant distances from `mine`: one address, not one per step. */
CLNORM_FN float2 clnorm_fold(__local float2 *sums, float2 value) {
  const size_t id = get_local_id(0), lane = id & 63; /* as uint they would be widened at each step */
  __local float2 *mine = sums + id;
  *mine = value;
  for (uint w = 32; w; w /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    const float2 sum = lane < w ? mine[0] + mine[w] : value;
    if (lane < w) *mine = sum;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return sums[id - lane];
}

/* The partial of this team's segment, the same in all its work-items. Which rows are there is found anew
 * after they are loaded: the answers cost more registers than asking twice. */
CLNORM_FN clnorm_partial clnorm_reduce(__global const float *x, const clnorm_places *p,
                                       __local clnorm_local *local_memory) {
  __local const clnorm_row *rows = local_memory->rows;
  const clnorm_reciprocals r = clnorm_reciprocals_make(p->count, p->first_count);
  float v[CLNORM_BLOCK_ROWS], sum = 0.0f;
  clnorm_load_block(x, p, rows, v);
#pragma unroll
  for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++) sum += v[row];
  const float pivot =
      clnorm_plus_zero(clnorm_fold(local_memory->sums, (float2)(sum, 0.0f)).x) * r.first;
  float2 sums = (float2)(0.0f);
#pragma unroll 1
  for (uint block = 0; block < CLNORM_BLOCKS; block++, rows += CLNORM_BLOCK_ROWS) {
    float d = 0.0f, dd = 0.0f;
    if (block) clnorm_load_block(x, p, rows, v); /* the first one is there */
#pragma unroll
    for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
      const float deviation = clnorm_there(p, &rows[row]) ? v[row] - pivot : 0.0f;
      d += deviation;
      dd = clnorm_fma(deviation, deviation, dd);
    }
    sums += (float2)(d, dd);
  }
  barrier(CLK_LOCAL_MEM_FENCE); /* everyone has read the first sum */
  const float2 moments = clnorm_fold(local_memory->sums, sums);
  return clnorm_partial_make(p->count, r.all, pivot, moments.x, moments.y);
}

/* ---- One node per work-group ---------------------------------------------------------------------- */

/* Segments [begin, end) of the channel whose first plane is at x; valid in work-item 0 alone. */
CLNORM_FN clnorm_partial clnorm_node(__global const float *x, const clnorm_geometry *g, uint begin,
                                     uint end, __local clnorm_local *local_memory) {
  const uint id = get_local_id(0), team = id / 64;
  if (id == 0) local_memory->counter.count = local_memory->counter.depth = 0;
  clnorm_rows_make(g, local_memory->rows);
  barrier(CLK_LOCAL_MEM_FENCE);
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

CLNORM_FN float clnorm_normalize(float x, clnorm_coefficients a) {
  return clnorm_fma(x - a.hi, a.scale, a.shift);
}

/* One channel: statistics, then output by the same places (x comes from the cache where it fits). */
CLNORM_FN void clnorm_group_channel(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                    __local clnorm_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  __global const float *x = b->x + c * g.spatial;
  __global float *y = b->y + c * g.spatial;
  const clnorm_partial node = clnorm_node(x, &g, 0, g.segments, local_memory);
  if (get_local_id(0) == 0) local_memory->coefficients = clnorm_coefficients_batch(b, call, c, node);
  barrier(CLK_LOCAL_MEM_FENCE);
  const clnorm_coefficients a = local_memory->coefficients;
  for (uint i = get_local_id(0) / 64; i < g.segments; i += CLNORM_TEAMS) {
    const clnorm_places p = clnorm_places_at(&g, i, g.segments);
#pragma unroll 4 /* all of them would keep the whole table of rows in registers */
    for (uint row = 0; row < CLNORM_ROWS; row++) {
      const clnorm_ulong at = p.first + local_memory->rows[row].at;
      if (clnorm_there(&p, &local_memory->rows[row])) y[at] = clnorm_normalize(x[at], a);
    }
  }
}

CLNORM_FN void clnorm_group_partials(const clnorm_buffers *b, const clnorm_call *call,
                                     clnorm_ulong item, __local clnorm_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c = item / call->chunks;
  const uint begin = (uint)(item - c * call->chunks) << call->chunk_log2;
  const uint end = (uint)clnorm_min((clnorm_ulong)begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  const clnorm_partial node = clnorm_node(b->x + c * g.spatial, &g, begin, end, local_memory);
  if (get_local_id(0) == 0) b->partials[item] = node;
}

/* One channel's nodes, at most CLNORM_GROUP_SIZE of them, merged as a tree across work-items. */
CLNORM_FN void clnorm_group_finalize(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong c,
                                     __local clnorm_finalize_local *local_memory) {
  const uint id = get_local_id(0);
  __local clnorm_partial *nodes = local_memory->nodes;
  if (id < call->chunks) nodes[id] = b->partials[c * call->chunks + id];
  for (uint w = 1; w < call->chunks; w *= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (id % (2 * w) == 0 && id + w < call->chunks) nodes[id] = clnorm_merge(nodes[id], nodes[id + w]);
  }
  if (id == 0) b->coefficients[c] = clnorm_coefficients_batch(b, call, c, nodes[0]);
}

/* A tile's elements, four at a time where alignment allows, as one list: sample, channel, position. */
CLNORM_FN void clnorm_group_apply(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong item,
                                  __local clnorm_apply_local *local_memory) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  const uint width = call->flags & CLNORM_ALIGNED ? 4 : 1;
  const uint channels = (uint)(t.c1 - t.c0);
  const uint plane = (uint)(t.p1 - t.p0) / width;
  const uint run = channels * plane;
  const uint total = run * (uint)(t.n1 - t.n0);
  const clnorm_ulong sample_stride = call->channels * call->spatial;
  const clnorm_ulong first = t.n0 * sample_stride + t.c0 * call->spatial + t.p0;
  for (uint c = get_local_id(0); c < channels; c += CLNORM_GROUP_SIZE)
    local_memory->coefficients[c] = clnorm_tile_coefficients(b, call, &t, t.c0 + c);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (uint i = get_local_id(0); i < total; i += CLNORM_GROUP_SIZE) {
    const uint n = i / run, r = i - n * run;
    const clnorm_coefficients a = local_memory->coefficients[r / plane];
    const clnorm_ulong at = first + n * sample_stride + r * width;
    if (width == 4) {
      const float4 v = *(__global const float4 *)(b->x + at);
      *(__global float4 *)(b->y + at) =
          clnorm_fma4(v - (float4)(a.hi), (float4)(a.scale), (float4)(a.shift));
    } else {
      b->y[at] = clnorm_normalize(b->x[at], a);
    }
  }
}

CLNORM_FN void clnorm_group_copy(const clnorm_buffers *b, const clnorm_call *call, clnorm_ulong item,
                                 __local clnorm_copy_local *local_memory) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  (void)local_memory;
  if (call->flags & CLNORM_ALIGNED) {
    __global const float4 *x = (__global const float4 *)b->x;
    __global float4 *y = (__global float4 *)b->y;
    for (clnorm_ulong i = t.p0 / 4 + get_local_id(0); i < t.p1 / 4; i += CLNORM_GROUP_SIZE) y[i] = x[i];
  } else {
    for (clnorm_ulong i = t.p0 + get_local_id(0); i < t.p1; i += CLNORM_GROUP_SIZE) b->y[i] = b->x[i];
  }
}

#define CLNORM_KERNEL(stage, local_type)                                                           \
  __attribute__((reqd_work_group_size(CLNORM_GROUP_SIZE, 1, 1))) __kernel void clnorm_##stage(     \
      CLNORM_KERNEL_PARAMETERS) {                                                                  \
    __local local_type local_memory;                                                               \
    const clnorm_buffers b = CLNORM_KERNEL_BUFFERS;                                                \
    clnorm_group_##stage(&b, &call, get_group_id(0), &local_memory);                               \
  }

#if CLNORM_WITH_CHANNEL
CLNORM_KERNEL(channel, clnorm_local)
#endif
#if CLNORM_WITH_PARTIALS
CLNORM_KERNEL(partials, clnorm_local)
#endif
#if CLNORM_WITH_FINALIZE
CLNORM_KERNEL(finalize, clnorm_finalize_local)
#endif
#if CLNORM_WITH_APPLY
CLNORM_KERNEL(apply, clnorm_apply_local)
#endif
#if CLNORM_WITH_COPY
CLNORM_KERNEL(copy, clnorm_copy_local)
#endif
