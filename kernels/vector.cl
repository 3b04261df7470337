/*
 * Forward batch normalization, vector form: for OpenCL devices that are CPUs. A work-group is one
 * work-item; all work is in vector.h, this file says what a vector is in OpenCL C.
 *
 * Build options
 *   CLNORM_STAGES     which kernels there are (stages.h)
 *   CLNORM_SOFT_FMA   defined for devices without CL_FP_FMA (base.h)
 * Kernels: clnorm_channel, clnorm_partials, clnorm_finalize, clnorm_apply, clnorm_copy, all with
 * CLNORM_KERNEL_PARAMETERS; local size 1, global size = items (clnorm_stage in host/core/schedule.h), and for
 * clnorm_channel so many that each takes call.groups_each of them.
 */
#define CLNORM_LANES 16u
#define clnorm_vec float16
#define CLNORM_UNROLL _Pragma("unroll")
#define clnorm_splat(s) ((float16)(s))
#define clnorm_vec_fma(a, b, c) clnorm_fma16(a, b, c)

/* PoCL builds vload16 from loads of two floats, and its compiler then computes in twos. */
#ifdef POCL_DEVICE_ADDRESS_BITS
typedef float16 clnorm_vec_anywhere __attribute__((aligned(4)));
#define clnorm_vec_load(p) (*(__global const clnorm_vec_anywhere *)(p))
#define clnorm_vec_load_private(t) (*(const clnorm_vec_anywhere *)(t))
#define clnorm_vec_store(p, v) (*(__global clnorm_vec_anywhere *)(p) = (v))
#define clnorm_vec_store_private(t, v) (*(clnorm_vec_anywhere *)(t) = (v))
#else
#define clnorm_vec_load(p) vload16(0, p)
#define clnorm_vec_load_private(t) vload16(0, t)
#define clnorm_vec_store(p, v) vstore16(v, 0, p)
#define clnorm_vec_store_private(t, v) vstore16(v, 0, t)
#endif

#ifndef __has_builtin
#define __has_builtin(x) 0
#endif
#if __has_builtin(__builtin_nontemporal_store) && defined(POCL_DEVICE_ADDRESS_BITS)
#define clnorm_vec_stream(p, v) __builtin_nontemporal_store(v, (__global float16 *)(p))
#else
#define clnorm_vec_stream(p, v) clnorm_vec_store(p, v)
#endif
#if __has_builtin(__builtin_prefetch) && defined(POCL_DEVICE_ADDRESS_BITS)
#define clnorm_prefetch(p, i)                                                                      \
  __builtin_prefetch((const void *)((size_t)(p) + (size_t)(i) * sizeof(float)))
#else
#define clnorm_prefetch(p, i) (void)(i)
#endif

inline static float16 clnorm_vec_load_part(__global const float *p, uint n, float16 fill) {
  float *lanes = (float *)&fill;
  for (uint i = 0; i < n; i++) lanes[i] = p[i];
  return fill;
}

/* Lane i of `a` where i < n, else of `b`. */
inline static float16 clnorm_vec_blend(uint n, float16 a, float16 b) {
  const int16 lane = (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return select(b, a, lane < (int16)((int)n));
}

typedef uint clnorm_part;
#define clnorm_part_of(n) (n)
inline static float16 clnorm_vec_load_private_part(const float *t, clnorm_part n) {
  return n ? clnorm_vec_blend(n, clnorm_vec_load_private(t), (float16)(0.0f)) : (float16)(0.0f);
}

inline static void clnorm_vec_store_part(__global float *p, float16 v, uint n) {
  const float *lanes = (const float *)&v;
  for (uint i = 0; i < n; i++) p[i] = lanes[i];
}

#ifdef POCL_DEVICE_ADDRESS_BITS
inline static float clnorm_fold_vec(float16 v) {
  const float8 a = v.lo + v.hi;
  const float4 b = a.lo + a.hi;
  const float2 c = b.lo + b.hi;
  return c.x + c.y;
}
#else /* Oclgrind 21.10 takes v.hi for uninitialized */
inline static float clnorm_fold_vec(float16 v) {
  float t[16];
  vstore16(v, 0, t);
  for (uint w = 8; w; w /= 2)
    for (uint i = 0; i < w; i++) t[i] = t[i] + t[i + w];
  return t[0];
}
#endif

#include "stages.h"
#include "vector.h"

/* Both attributes keep Intel's compiler for CPUs from packing work-items into vectors, for which it takes a
 * minute. */
#define CLNORM_KERNEL_OF_ONE                                                                       \
  __attribute__((reqd_work_group_size(1, 1, 1), vec_type_hint(float16))) __kernel void

#define CLNORM_KERNEL(stage)                                                                       \
  CLNORM_KERNEL_OF_ONE clnorm_##stage(CLNORM_KERNEL_PARAMETERS) {                                  \
    const clnorm_buffers b = CLNORM_KERNEL_BUFFERS;                                                \
    clnorm_item_##stage(&b, &call, get_global_id(0));                                              \
  }

#if CLNORM_WITH_CHANNEL
CLNORM_KERNEL_OF_ONE clnorm_channel(CLNORM_KERNEL_PARAMETERS) {
  clnorm_writer w;
  const clnorm_buffers b = CLNORM_KERNEL_BUFFERS;
  const ulong begin = get_global_id(0) * call.groups_each;
  const ulong groups = (call.channels + call.channels_each - 1) / call.channels_each;
  const ulong end = clnorm_min(begin + call.groups_each, groups);
  clnorm_writer_none(&w);
  for (ulong item = begin; item < end; item++) clnorm_item_channel(&b, &call, item, &w);
  clnorm_write_all(&w);
}
#endif
#if CLNORM_WITH_PARTIALS
CLNORM_KERNEL(partials)
#endif
#if CLNORM_WITH_FINALIZE
CLNORM_KERNEL(finalize)
#endif
#if CLNORM_WITH_APPLY
CLNORM_KERNEL(apply)
#endif
#if CLNORM_WITH_COPY
CLNORM_KERNEL(copy)
#endif
