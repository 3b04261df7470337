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
 *   CLNORM_X_STORAGE, CLNORM_Y_STORAGE, CLNORM_SOFT_FMA   storage.h
 *   CLNORM_GROUP_SIZE   work-items in a work-group: 64, 128 or 256 (the default)
 *   CLNORM_STAGES       which kernels there are (stages.h)
 *   CLNORM_PATH         clnorm_path in host/core/schedule.h: general, or positions (the default)
 * Kernels: clnorm_channel, clnorm_partials, clnorm_finalize, clnorm_apply, clnorm_copy, and those of backward in
 * wide_backward.h, all with CLNORM_KERNEL_PARAMETERS; one work-group per item (clnorm_stage in host/core/schedule.h).
 */
#ifndef CLNORM_GROUP_SIZE
#define CLNORM_GROUP_SIZE 256
#endif
#ifndef CLNORM_PATH
#define CLNORM_PATH 1
#endif
#if CLNORM_PATH != 0 && CLNORM_PATH != 1
#error "CLNORM_PATH is neither 0 (general) nor 1 (positions): the wide form has no other kernels"
#endif
#define CLNORM_COUNTER_SPACE __local

#include "counter.h"
#include "stages.h"
#include "view.h"

#define CLNORM_TEAMS (CLNORM_GROUP_SIZE / 64)

/* Two sums side by side. */
#ifdef CLNORM_REAL_IS_DOUBLE
typedef double2 clnorm_pair;
#else
typedef float2 clnorm_pair;
#endif

/* Where a segment's rows are, for lane 0: plane, position in it, and, where positions follow each other,
 * elements of x from the segment's first. In local memory, since the compiler would otherwise keep all of them
 * in registers across the loop over segments. 16 aligned bytes, which is one read, and `at` needs no register to
 * be widened in. */
typedef struct clnorm_row {
  int plane, position;
  clnorm_ulong at;
} clnorm_row;

/* Local memory of each stage, no more than it needs: it limits how many work-groups run at a time. */
typedef struct clnorm_local {
  clnorm_row rows[CLNORM_ROWS];
  clnorm_pair sums[CLNORM_GROUP_SIZE];
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
  /* the lane's own place of row 0 */
  clnorm_ulong sample, position;
  /* elements of the segment, and of its first block; at least 1 */
  uint count, first_count;
  /* how many there are from the lane's own on; may be negative */
  int planes, extent;
} clnorm_places;

/* Segment `index` for this team; past `end` it has no elements. */
CLNORM_FN clnorm_places clnorm_places_at(const clnorm_geometry *g, uint index, uint end) {
  const clnorm_segment s = clnorm_segment_at(g, index < end ? index : end - 1);
  const uint lane = get_local_id(0) & 63;
  const uint plane = lane >> g->slot_log2, position = lane & ((1u << g->slot_log2) - 1);
  clnorm_places p;
  p.sample = s.sample + plane;
  p.position = s.position + position;
  p.count = s.planes * s.extent;
  p.first_count = clnorm_segment_first(g, &s);
  p.planes = index < end ? (int)s.planes - (int)plane : 0;
  p.extent = (int)s.extent - (int)position;
  return p;
}

/* Fills the table of rows. The caller's next barrier makes it visible. */
CLNORM_FN void clnorm_rows_make(const clnorm_call *call, const clnorm_geometry *g,
                                __local clnorm_row *rows) {
  const uint row = get_local_id(0);
  if (row >= CLNORM_ROWS) return;
  rows[row].plane = (int)(64 * row >> g->slot_log2);
  rows[row].position = (int)(64 * row & ((1u << g->slot_log2) - 1));
  rows[row].at =
      (uint)rows[row].plane * call->views[CLNORM_VIEW_X].sample + (uint)rows[row].position;
}

/* Has the row an element in this lane? */
CLNORM_FN int clnorm_there(const clnorm_places *p, __local const clnorm_row *row) {
  return row->plane < p->planes && row->position < p->extent;
}

/* ---- Where elements lie --------------------------------------------------------------------------- */

/* A place is a lane's and a row's part, from the first element of its channel on: clnorm_channel_at +
 * clnorm_lane_at + clnorm_row_at. A tile's element r is the r-th of a sample, channel by channel. */
#if CLNORM_PATH == 0

CLNORM_FN clnorm_ulong clnorm_channel_at(const clnorm_call *call, uint v, clnorm_ulong c) {
  return clnorm_plane_at(&call->views[v], 0, c);
}

CLNORM_FN clnorm_ulong clnorm_lane_at(const clnorm_call *call, uint v, const clnorm_places *p) {
  return p->sample * call->views[v].sample;
}

CLNORM_FN clnorm_ulong clnorm_row_at(const clnorm_call *call, uint v, const clnorm_places *p,
                                     __local const clnorm_row *row) {
  const clnorm_ulong position = p->position + (uint)row->position;
  return (uint)row->plane * call->views[v].sample +
         clnorm_piece_at(call, position, position + 1).at[v];
}

CLNORM_FN clnorm_ulong clnorm_element_at(const clnorm_call *call, uint v, const clnorm_tile *t,
                                         uint n, uint r) {
  const clnorm_ulong position = t->p0 + r; /* such a tile has one channel */
  return clnorm_plane_at(&call->views[v], t->n0 + n, t->c0) +
         clnorm_piece_at(call, position, position + 1).at[v];
}

/* How many channels behind c its block of y has that are to become 0: those beyond the last. */
CLNORM_FN uint clnorm_tail(const clnorm_call *call, clnorm_ulong c) {
  const uint block = call->views[CLNORM_VIEW_Y].block;
  if (c + 1 != call->channels || !(call->flags & CLNORM_OWNS_TAIL)) return 0;
  return block - 1 - (uint)(c % block);
}

#else

CLNORM_FN clnorm_ulong clnorm_channel_at(const clnorm_call *call, uint v, clnorm_ulong c) {
  return c * call->views[v].channel;
}

CLNORM_FN clnorm_ulong clnorm_lane_at(const clnorm_call *call, uint v, const clnorm_places *p) {
  return p->sample * call->views[v].sample + p->position;
}

CLNORM_FN clnorm_ulong clnorm_row_at(const clnorm_call *call, uint v, const clnorm_places *p,
                                     __local const clnorm_row *row) {
  (void)p;
  if (v == CLNORM_VIEW_X) return row->at;
  return (uint)row->plane * call->views[v].sample + (uint)row->position;
}

CLNORM_FN clnorm_ulong clnorm_element_at(const clnorm_call *call, uint v, const clnorm_tile *t,
                                         uint n, uint r) {
  const clnorm_ulong sample = call->views[v].sample;
  return t->n0 * sample + t->c0 * call->views[v].channel + t->p0 + n * sample + r;
}

#define clnorm_tail(call, c) 0u

#endif

/* `tail` elements behind one of y become 0. */
CLNORM_FN void clnorm_clear_tail(__global clnorm_out *y, clnorm_ulong at, uint tail) {
  for (uint k = 1; k <= tail; k++) clnorm_element_store(y, at + k, 0.0f);
}

/* ---- One segment per team: statistics ------------------------------------------------------------- */

/* The work-item's values of a block, 0 where there is none. x: the channel's first element. */
CLNORM_FN void clnorm_load_block(__global const clnorm_in *x, const clnorm_call *call,
                                 const clnorm_places *p, __local const clnorm_row *rows,
                                 clnorm_real *v) {
  __global const clnorm_in *first = x + clnorm_lane_at(call, CLNORM_VIEW_X, p);
#pragma unroll
  for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++)
    v[row] = clnorm_there(p, &rows[row])
                 ? clnorm_element_load(first, clnorm_row_at(call, CLNORM_VIEW_X, p, &rows[row]))
                 : 0.0f;
}

/* The tree, for every team at once and for two sums side by side; all work-items get
 * their team's sums. Operands are at constant distances from `mine`: one address, not one per step. */
CLNORM_FN clnorm_pair clnorm_fold(__local clnorm_pair *sums, clnorm_pair value) {
  const size_t id = get_local_id(0),
               lane = id & 63; /* as uint they would be widened at each step */
  __local clnorm_pair *mine = sums + id;
  *mine = value;
  for (uint w = 32; w; w /= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    const clnorm_pair sum = lane < w ? mine[0] + mine[w] : value;
    if (lane < w) *mine = sum;
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  return sums[id - lane];
}

/* The partial of this team's segment, the same in all its work-items. Which rows are there is found anew
 * after they are loaded: the answers cost more registers than asking twice. */
CLNORM_FN clnorm_partial clnorm_reduce(__global const clnorm_in *x, const clnorm_call *call,
                                       const clnorm_places *p, __local clnorm_local *local_memory) {
  __local const clnorm_row *rows = local_memory->rows;
  const clnorm_reciprocals r = clnorm_reciprocals_make(p->count, p->first_count);
  clnorm_real v[CLNORM_BLOCK_ROWS], sum = 0.0f;
  clnorm_load_block(x, call, p, rows, v);
#pragma unroll
  for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++) sum += v[row];
  const clnorm_real pivot =
      clnorm_plus_zero(clnorm_fold(local_memory->sums, (clnorm_pair)(sum, 0.0f)).x) * r.first;
  clnorm_pair sums = (clnorm_pair)(0.0f);
#pragma unroll 1
  for (uint block = 0; block < CLNORM_BLOCKS; block++, rows += CLNORM_BLOCK_ROWS) {
    clnorm_real d = 0.0f, dd = 0.0f;
    if (block) clnorm_load_block(x, call, p, rows, v); /* the first one is there */
#pragma unroll
    for (uint row = 0; row < CLNORM_BLOCK_ROWS; row++) {
      const clnorm_real deviation = clnorm_there(p, &rows[row]) ? v[row] - pivot : 0.0f;
      d += deviation;
      dd = clnorm_fma(deviation, deviation, dd);
    }
    sums += (clnorm_pair)(d, dd);
  }
  barrier(CLK_LOCAL_MEM_FENCE); /* everyone has read the first sum */
  const clnorm_pair moments = clnorm_fold(local_memory->sums, sums);
  return clnorm_partial_make(p->count, r.all, pivot, moments.x, moments.y);
}

/* ---- One node per work-group ---------------------------------------------------------------------- */

/* Segments [begin, end) of the channel whose first element is at x; valid in work-item 0 alone. */
CLNORM_FN clnorm_partial clnorm_node(__global const clnorm_in *x, const clnorm_call *call,
                                     const clnorm_geometry *g, uint begin, uint end,
                                     __local clnorm_local *local_memory) {
  const uint id = get_local_id(0), team = id / 64;
  if (id == 0) local_memory->counter.count = local_memory->counter.depth = 0;
  clnorm_rows_make(call, g, local_memory->rows);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (uint i = begin; i < end; i += CLNORM_TEAMS) {
    const clnorm_places p = clnorm_places_at(g, i + team, end);
    const clnorm_partial mine = clnorm_reduce(x, call, &p, local_memory);
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

CLNORM_FN clnorm_real clnorm_normalize(clnorm_real x, clnorm_coefficients a) {
  return clnorm_fma(x - a.hi, a.scale, a.shift);
}

/* The output of this team's segment, by its places. x and y: the channel's first elements. */
CLNORM_FN void clnorm_write_segment(__global const clnorm_in *x, __global clnorm_out *y,
                                    const clnorm_call *call, const clnorm_places *p,
                                    __local const clnorm_local *local_memory, uint tail) {
  const clnorm_coefficients a = local_memory->coefficients;
  x += clnorm_lane_at(call, CLNORM_VIEW_X, p);
  y += clnorm_lane_at(call, CLNORM_VIEW_Y, p);
#pragma unroll 4 /* all of them would keep the whole table of rows in registers */
  for (uint row = 0; row < CLNORM_ROWS; row++) {
    __local const clnorm_row *r = &local_memory->rows[row];
    if (!clnorm_there(p, r)) continue;
    const clnorm_real v = clnorm_element_load(x, clnorm_row_at(call, CLNORM_VIEW_X, p, r));
    const clnorm_ulong to = clnorm_row_at(call, CLNORM_VIEW_Y, p, r);
    clnorm_element_store(y, to, clnorm_normalize(v, a));
    clnorm_clear_tail(y, to, tail);
  }
}

/* One channel: statistics, then output by the same places (x comes from the cache where it fits). */
CLNORM_FN void clnorm_group_channel(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong c, __local clnorm_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  __global const clnorm_in *x = b->x + clnorm_channel_at(call, CLNORM_VIEW_X, c);
  __global clnorm_out *y = b->y + clnorm_channel_at(call, CLNORM_VIEW_Y, c);
  const clnorm_partial node = clnorm_node(x, call, &g, 0, g.segments, local_memory);
  if (get_local_id(0) == 0)
    local_memory->coefficients = clnorm_coefficients_batch(b, call, c, node);
  barrier(CLK_LOCAL_MEM_FENCE);
  const uint tail = clnorm_tail(call, c);
  for (uint i = get_local_id(0) / 64; i < g.segments; i += CLNORM_TEAMS) {
    const clnorm_places p = clnorm_places_at(&g, i, g.segments);
    clnorm_write_segment(x, y, call, &p, local_memory, tail);
  }
}

CLNORM_FN void clnorm_group_partials(const clnorm_buffers *b, const clnorm_call *call,
                                     clnorm_ulong item, __local clnorm_local *local_memory) {
  const clnorm_geometry g = clnorm_geometry_make(call->batch, call->channels, call->spatial);
  const clnorm_ulong c = item / call->chunks;
  const uint begin = (uint)(item - c * call->chunks) << call->chunk_log2;
  const uint end =
      (uint)clnorm_min((clnorm_ulong)begin + ((clnorm_ulong)1 << call->chunk_log2), g.segments);
  const clnorm_partial node = clnorm_node(b->x + clnorm_channel_at(call, CLNORM_VIEW_X, c), call,
                                          &g, begin, end, local_memory);
  if (get_local_id(0) == 0) b->partials[item] = node;
}

/* One channel's nodes, at most CLNORM_GROUP_SIZE of them, merged as a tree across work-items. */
CLNORM_FN void clnorm_group_finalize(const clnorm_buffers *b, const clnorm_call *call,
                                     clnorm_ulong c, __local clnorm_finalize_local *local_memory) {
  const uint id = get_local_id(0);
  __local clnorm_partial *nodes = local_memory->nodes;
  if (id < call->chunks) nodes[id] = b->partials[c * call->chunks + id];
  for (uint w = 1; w < call->chunks; w *= 2) {
    barrier(CLK_LOCAL_MEM_FENCE);
    if (id % (2 * w) == 0 && id + w < call->chunks)
      nodes[id] = clnorm_merge(nodes[id], nodes[id + w]);
  }
  if (id == 0) b->coefficients[c] = clnorm_coefficients_batch(b, call, c, nodes[0]);
}

/* Floats move four at a time where alignment allows. */
#if CLNORM_PATH == 1 && CLNORM_X_STORAGE == CLNORM_STORAGE_F32 &&                                  \
    CLNORM_Y_STORAGE == CLNORM_STORAGE_F32
#define CLNORM_BY_FOURS
#define clnorm_width(call) ((call)->flags & CLNORM_ALIGNED ? 4u : 1u)
#else
#define clnorm_width(call) 1u
#endif

/* A tile's elements as one list: sample, channel, position. */
CLNORM_FN void clnorm_group_apply(const clnorm_buffers *b, const clnorm_call *call,
                                  clnorm_ulong item, __local clnorm_apply_local *local_memory) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  const uint width = clnorm_width(call), channels = (uint)(t.c1 - t.c0);
  const uint plane = (uint)(t.p1 - t.p0) / width;
  const uint run = channels * plane;
  const uint total = run * (uint)(t.n1 - t.n0), tail = clnorm_tail(call, t.c0);
  for (uint c = get_local_id(0); c < channels; c += CLNORM_GROUP_SIZE)
    local_memory->coefficients[c] = clnorm_tile_coefficients(b, call, &t, t.c0 + c);
  barrier(CLK_LOCAL_MEM_FENCE);
  for (uint i = get_local_id(0); i < total; i += CLNORM_GROUP_SIZE) {
    const uint n = i / run, r = i - n * run;
    const clnorm_coefficients a = local_memory->coefficients[r / plane];
    const clnorm_ulong from = clnorm_element_at(call, CLNORM_VIEW_X, &t, n, r * width);
    const clnorm_ulong to = clnorm_element_at(call, CLNORM_VIEW_Y, &t, n, r * width);
#ifdef CLNORM_BY_FOURS
    if (width == 4) {
      const float4 v = *(__global const float4 *)(b->x + from);
      *(__global float4 *)(b->y + to) =
          clnorm_fma4(v - (float4)(a.hi), (float4)(a.scale), (float4)(a.shift));
      continue;
    }
#endif
    clnorm_element_store(b->y, to, clnorm_normalize(clnorm_element_load(b->x, from), a));
    clnorm_clear_tail(b->y, to, tail);
  }
}

/* Tiles of one sample, as those of a tensor without gaps are, need no division. */
CLNORM_FN void clnorm_group_copy(const clnorm_buffers *b, const clnorm_call *call,
                                 clnorm_ulong item, __local clnorm_copy_local *local_memory) {
  const clnorm_tile t = clnorm_tile_at(call, item);
  const uint width = clnorm_width(call);
  const uint run = (uint)(t.c1 - t.c0) * ((uint)(t.p1 - t.p0) / width);
  const uint total = run * (uint)(t.n1 - t.n0), tail = clnorm_tail(call, t.c0);
  (void)local_memory;
  for (uint i = get_local_id(0); i < total; i += CLNORM_GROUP_SIZE) {
    const uint n = total == run ? 0 : i / run, r = i - n * run;
    const clnorm_ulong from = clnorm_element_at(call, CLNORM_VIEW_X, &t, n, r * width);
    const clnorm_ulong to = clnorm_element_at(call, CLNORM_VIEW_Y, &t, n, r * width);
#ifdef CLNORM_BY_FOURS
    if (width == 4) {
      *(__global float4 *)(b->y + to) = *(__global const float4 *)(b->x + from);
      continue;
    }
#endif
    clnorm_element_move(b->y, to, b->x, from);
    clnorm_clear_tail(b->y, to, tail);
  }
}

#define CLNORM_KERNEL(stage, local_type)                                                           \
  __attribute__((reqd_work_group_size(CLNORM_GROUP_SIZE, 1, 1)))                                   \
  __kernel void clnorm_##stage(CLNORM_KERNEL_PARAMETERS) {                                         \
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

#if CLNORM_WITH_BACKWARD
#include "wide_backward.h"
#endif
