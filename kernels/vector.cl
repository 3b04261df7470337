/*
 * Forward batch normalization, vector form: for OpenCL devices that are CPUs. A work-group is one
 * work-item; all work is in vector.h, this file says what a vector is in OpenCL C.
 *
 * Build options
 *   CLNORM_X_STORAGE, CLNORM_Y_STORAGE, CLNORM_SOFT_FMA   storage.h
 *   CLNORM_STAGES     which kernels there are (stages.h)
 *   CLNORM_PATH       clnorm_path in host/core/schedule.h: general, positions (the default) or channels
 * Kernels: clnorm_channel, clnorm_partials, clnorm_finalize, clnorm_apply, clnorm_copy, all with
 * CLNORM_KERNEL_PARAMETERS; local size 1, global size = items (clnorm_stage in host/core/schedule.h), and for
 * clnorm_channel so many that each takes call.groups_each of them.
 */
#include "storage.h"

#ifndef CLNORM_PATH
#define CLNORM_PATH 1
#endif

#define CLNORM_LANES 16u
#ifdef CLNORM_REAL_IS_DOUBLE
#define CLNORM_REALS(n) double##n
#define clnorm_lane_numbers long16
#else
#define CLNORM_REALS(n) float##n
#define clnorm_lane_numbers int16
#endif
#define clnorm_vec CLNORM_REALS(16)
#define CLNORM_UNROLL _Pragma("unroll")
#define clnorm_splat(s) ((clnorm_vec)(s))
#define clnorm_vec_fma(a, b, c) clnorm_fma16(a, b, c)

#ifndef __has_builtin
#define __has_builtin(x) 0
#endif
#if __has_builtin(__builtin_nontemporal_store) && defined(POCL_DEVICE_ADDRESS_BITS)
#define clnorm_stream_at(type, p, v) __builtin_nontemporal_store(v, (__global type *)(p))
#endif
#if __has_builtin(__builtin_prefetch) && defined(POCL_DEVICE_ADDRESS_BITS)
#define clnorm_prefetch(p, i)                                                                      \
  __builtin_prefetch((const void *)((size_t)(p) + (size_t)(i) * sizeof(clnorm_in)))
#else
#define clnorm_prefetch(p, i) (void)(i)
#endif

/* ---- Memory and reals ------------------------------------------------------------------------------------------ */

/* At any multiple of an element's size. PoCL builds vload16 from loads of two, and its compiler then computes in
 * twos. */
#ifdef POCL_DEVICE_ADDRESS_BITS
typedef clnorm_vec clnorm_vec_anywhere __attribute__((aligned(4)));
typedef ushort16 clnorm_halves_anywhere __attribute__((aligned(2)));
#define clnorm_real_load(p) (*(__global const clnorm_vec_anywhere *)(p))
#define clnorm_vec_load_private(t) (*(const clnorm_vec_anywhere *)(t))
#define clnorm_real_store(p, v) (*(__global clnorm_vec_anywhere *)(p) = (v))
#define clnorm_vec_store_private(t, v) (*(clnorm_vec_anywhere *)(t) = (v))
#define clnorm_halves_load(p) (*(__global const clnorm_halves_anywhere *)(p))
#define clnorm_halves_store(p, v) (*(__global clnorm_halves_anywhere *)(p) = (v))
#else
#define clnorm_real_load(p) vload16(0, p)
#define clnorm_vec_load_private(t) vload16(0, t)
#define clnorm_real_store(p, v) vstore16(v, 0, p)
#define clnorm_vec_store_private(t, v) vstore16(v, 0, t)
#define clnorm_halves_load(p) vload16(0, p)
#define clnorm_halves_store(p, v) vstore16(v, 0, p)
#endif

/* Lane i of `a` where i < n, else of `b`. */
inline static clnorm_vec clnorm_vec_blend(uint n, clnorm_vec a, clnorm_vec b) {
  const clnorm_lane_numbers lane =
      (clnorm_lane_numbers)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return select(b, a, lane < (clnorm_lane_numbers)((int)n));
}

typedef uint clnorm_part;
#define clnorm_part_of(n) (n)
inline static clnorm_vec clnorm_vec_load_private_part(const clnorm_real *t, clnorm_part n) {
  return n ? clnorm_vec_blend(n, clnorm_vec_load_private(t), clnorm_splat(0.0f))
           : clnorm_splat(0.0f);
}

#ifdef POCL_DEVICE_ADDRESS_BITS
inline static clnorm_real clnorm_fold_vec(clnorm_vec v) {
  const CLNORM_REALS(8) a = v.lo + v.hi;
  const CLNORM_REALS(4) b = a.lo + a.hi;
  const CLNORM_REALS(2) c = b.lo + b.hi;
  return c.x + c.y;
}
#else /* Oclgrind 21.10 takes v.hi for uninitialized */
inline static clnorm_real clnorm_fold_vec(clnorm_vec v) {
  clnorm_real t[16];
  vstore16(v, 0, t);
  for (uint w = 8; w; w /= 2)
    for (uint i = 0; i < w; i++) t[i] = t[i] + t[i + w];
  return t[0];
}
#endif

/* ---- Storages of x and y ---------------------------------------------------------------------------- */

inline static clnorm_vec clnorm_vec_load(__global const clnorm_in *p) {
#if CLNORM_X_STORAGE == CLNORM_STORAGE_F16
  return vload_half16(0, (__global const half *)p);
#elif CLNORM_X_STORAGE == CLNORM_STORAGE_BF16
  return as_float16(convert_uint16(clnorm_halves_load(p)) << 16);
#else
  return clnorm_real_load(p);
#endif
}

inline static clnorm_vec clnorm_vec_load_part(__global const clnorm_in *p, uint n,
                                              clnorm_vec fill) {
  clnorm_real *lanes = (clnorm_real *)&fill;
  for (uint i = 0; i < n; i++) lanes[i] = clnorm_element_load(p, i);
  return fill;
}

#if CLNORM_Y_STORAGE == CLNORM_STORAGE_F16
#define clnorm_narrow ushort16
inline static ushort16 clnorm_vec_narrow(float16 v) {
  ushort lanes[16];
  vstore_half16_rte(v, 0, (half *)lanes);
  return vload16(0, lanes);
}
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_BF16
#define clnorm_narrow ushort16
/* clnorm_bf16_narrow. */
inline static ushort16 clnorm_vec_narrow(float16 v) {
  const uint16 bits = as_uint16(v);
  const uint16 rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  const int16 nan = (bits & 0x7fffffffu) > (uint16)(0x7f800000u);
  return convert_ushort16(select(rounded, bits >> 16 | 0x40u, as_uint16(nan)));
}
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_F32 && defined(CLNORM_REAL_IS_DOUBLE)
#define clnorm_narrow float16
#define clnorm_vec_narrow(v) convert_float16_rte(v)
#endif

inline static void clnorm_vec_store(__global clnorm_out *p, clnorm_vec v) {
#if CLNORM_Y_STORAGE == CLNORM_STORAGE_F16
  vstore_half16_rte(v, 0, (__global half *)p);
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_BF16
  clnorm_halves_store(p, clnorm_vec_narrow(v));
#elif defined(clnorm_narrow)
  vstore16(clnorm_vec_narrow(v), 0, p);
#else
  clnorm_real_store(p, v);
#endif
}

inline static void clnorm_vec_store_part(__global clnorm_out *p, clnorm_vec v, uint n) {
  const clnorm_real *lanes = (const clnorm_real *)&v;
  for (uint i = 0; i < n; i++) clnorm_element_store(p, i, lanes[i]);
}

#ifndef clnorm_stream_at
#define clnorm_vec_stream(p, v) clnorm_vec_store(p, v)
#elif defined(clnorm_narrow)
#define clnorm_vec_stream(p, v) clnorm_stream_at(clnorm_narrow, p, clnorm_vec_narrow(v))
#else
#define clnorm_vec_stream(p, v) clnorm_stream_at(clnorm_vec, p, v)
#endif

/* The bits as they are, where both are one storage. */
#if CLNORM_X_STORAGE == CLNORM_Y_STORAGE && defined(clnorm_narrow)
#define clnorm_vec_move(y, x) clnorm_halves_store(y, clnorm_halves_load(x))
#ifdef clnorm_stream_at
#define clnorm_vec_move_stream(y, x) clnorm_stream_at(clnorm_narrow, y, clnorm_halves_load(x))
#else
#define clnorm_vec_move_stream(y, x) clnorm_vec_move(y, x)
#endif
#else
#define clnorm_vec_move(y, x) clnorm_vec_store(y, clnorm_vec_load(x))
#define clnorm_vec_move_stream(y, x) clnorm_vec_stream(y, clnorm_vec_load(x))
#endif
inline static void clnorm_vec_move_part(__global clnorm_out *y, __global const clnorm_in *x,
                                        uint n) {
  for (uint i = 0; i < n; i++) clnorm_element_move(y, i, x, i);
}

#include "stages.h"
#include "vector_finalize.h"
#if CLNORM_PATH == 0 /* GENERAL */
#include "vector_general.h"
#if CLNORM_WITH_BACKWARD
#include "vector_general_backward.h"
#endif
#define CLNORM_ITEM(stage) clnorm_general_##stage
#elif CLNORM_PATH == 1 /* POSITIONS */
#include "vector.h"
#if CLNORM_WITH_BACKWARD
#include "vector_backward.h"
#endif
#define CLNORM_ITEM(stage) clnorm_item_##stage
#elif CLNORM_PATH == 2 /* CHANNELS */
#include "vector_channels.h"
#if CLNORM_WITH_BACKWARD
#include "vector_channels_backward.h"
#endif
#define CLNORM_ITEM(stage) clnorm_channels_##stage
#else
#error "CLNORM_PATH is none of 0 (general), 1 (positions) and 2 (channels)"
#endif

/* Both attributes keep Intel's compiler for CPUs from packing work-items into vectors, for which it takes a
 * minute. */
#define CLNORM_KERNEL_OF_ONE                                                                       \
  __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16))) __kernel void

#define CLNORM_KERNEL(stage, function, written)                                                    \
  CLNORM_KERNEL_OF_ONE clnorm_##stage(CLNORM_KERNEL_PARAMETERS) {                                  \
    const clnorm_buffers b = CLNORM_KERNEL_BUFFERS_OF(written);                                    \
    function(&b, &call, get_global_id(0));                                                         \
  }

#if CLNORM_WITH_CHANNEL
CLNORM_KERNEL_OF_ONE clnorm_channel(CLNORM_KERNEL_PARAMETERS) {
  const clnorm_buffers b = CLNORM_KERNEL_BUFFERS;
  const ulong begin = get_global_id(0) * call.groups_each;
  const ulong groups = (call.channels + call.channels_each - 1) / call.channels_each;
  const ulong end = clnorm_min(begin + call.groups_each, groups);
#if CLNORM_PATH != 1
  for (ulong item = begin; item < end; item++) CLNORM_ITEM(channel)(&b, &call, item);
#else
  clnorm_writer w;
  clnorm_writer_none(&w);
  for (ulong item = begin; item < end; item++) clnorm_item_channel(&b, &call, item, &w);
  clnorm_write_all(&w);
#endif
}
#endif
#if CLNORM_WITH_PARTIALS
CLNORM_KERNEL(partials, CLNORM_ITEM(partials), y)
#endif
#if CLNORM_WITH_FINALIZE
CLNORM_KERNEL(finalize, clnorm_item_finalize, y)
#endif
#if CLNORM_WITH_APPLY
CLNORM_KERNEL(apply, CLNORM_ITEM(apply), y)
#endif
#if CLNORM_WITH_COPY
CLNORM_KERNEL(copy, CLNORM_ITEM(copy), y)
#endif
#if CLNORM_WITH_BACKWARD_CHANNEL
CLNORM_KERNEL_OF_ONE clnorm_backward_channel(CLNORM_KERNEL_PARAMETERS) {
  const clnorm_buffers b = CLNORM_KERNEL_BUFFERS_OF(dx);
  const ulong begin = get_global_id(0) * call.groups_each;
  const ulong groups = (call.channels + call.channels_each - 1) / call.channels_each;
  const ulong end = clnorm_min(begin + call.groups_each, groups);
  for (ulong item = begin; item < end; item++) CLNORM_ITEM(backward_channel)(&b, &call, item);
}
#endif
#if CLNORM_WITH_BACKWARD_PARTIALS
CLNORM_KERNEL(backward_partials, CLNORM_ITEM(backward_partials), dx)
#endif
#if CLNORM_WITH_BACKWARD_FINALIZE
CLNORM_KERNEL(backward_finalize, clnorm_item_backward_finalize, dx)
#endif
#if CLNORM_WITH_BACKWARD_APPLY
CLNORM_KERNEL(backward_apply, CLNORM_ITEM(backward_apply), dx)
#endif
