/*
 * What a vector is on this processor: the words that the vector form is written in (kernels/vector_write.h). The
 * instruction set is the one that the including file is compiled for; its file has, for the real of this file,
 *   the words for vectors of reals and for private arrays, and
 *   clnorm_real_load(p), clnorm_real_load_part(p, n, fill), clnorm_real_store(p, v), clnorm_real_store_part(p, v, n),
 *   clnorm_real_stream(p, v)             memory that has reals
 *   clnorm_narrow                        as many elements of half a real's size
 *   clnorm_narrow_load(p), clnorm_narrow_load_part(p, n), clnorm_narrow_store(p, v),
 *   clnorm_narrow_store_part(p, v, n), clnorm_narrow_stream(p, v)
 *   clnorm_from_f16(v), clnorm_from_bf16(v), clnorm_to_f16(v), clnorm_to_bf16(v); where real is double,
 *   clnorm_to_f32(v)                     between the two
 * and here they become the words for the storages of x and y.
 */
#ifndef CLNORM_CPU_LANES_H
#define CLNORM_CPU_LANES_H

#include "storage.h"

#define CLNORM_UNROLL /* compilers do it by themselves */

#if defined(__AVX512F__)
#include "lanes_avx512.h"
#elif defined(__AVX2__)
#include "lanes_avx2.h"
#else
#include "lanes_plain.h"
#endif

static inline clnorm_vec clnorm_vec_load_private(const clnorm_real *t) {
  return clnorm_real_load(t);
}
static inline void clnorm_vec_store_private(clnorm_real *t, clnorm_vec v) {
  clnorm_real_store(t, v);
}

static inline void clnorm_prefetch(const clnorm_in *p, uint64_t i) {
  __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)i * sizeof(clnorm_in)));
}

/* ---- Loads ------------------------------------------------------------------------------------------ */

#if CLNORM_X_STORAGE == CLNORM_STORAGE_F16 || CLNORM_X_STORAGE == CLNORM_STORAGE_BF16
#if CLNORM_X_STORAGE == CLNORM_STORAGE_F16
#define clnorm_widen(v) clnorm_from_f16(v)
#else
#define clnorm_widen(v) clnorm_from_bf16(v)
#endif
static inline clnorm_vec clnorm_vec_load(const clnorm_in *p) {
  return clnorm_widen(clnorm_narrow_load(p));
}
static inline clnorm_vec clnorm_vec_load_part(const clnorm_in *p, uint32_t n, clnorm_vec fill) {
  return clnorm_vec_blend(n, clnorm_widen(clnorm_narrow_load_part(p, n)), fill);
}
#else
#define clnorm_vec_load(p) clnorm_real_load(p)
#define clnorm_vec_load_part(p, n, fill) clnorm_real_load_part(p, n, fill)
#endif

/* ---- Stores ----------------------------------------------------------------------------------------- */

#if CLNORM_Y_STORAGE == CLNORM_STORAGE_F16
#define CLNORM_NARROW clnorm_to_f16
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_BF16
#define CLNORM_NARROW clnorm_to_bf16
#elif CLNORM_Y_STORAGE == CLNORM_STORAGE_F32 && defined(CLNORM_REAL_IS_DOUBLE)
#define CLNORM_NARROW clnorm_to_f32
#endif

#ifdef CLNORM_NARROW
static inline void clnorm_vec_store(clnorm_out *p, clnorm_vec v) {
  clnorm_narrow_store(p, CLNORM_NARROW(v));
}
static inline void clnorm_vec_store_part(clnorm_out *p, clnorm_vec v, uint32_t n) {
  clnorm_narrow_store_part(p, CLNORM_NARROW(v), n);
}
static inline void clnorm_vec_stream(clnorm_out *p, clnorm_vec v) {
  clnorm_narrow_stream(p, CLNORM_NARROW(v));
}
#else
#define clnorm_vec_store(p, v) clnorm_real_store(p, v)
#define clnorm_vec_store_part(p, v, n) clnorm_real_store_part(p, v, n)
#define clnorm_vec_stream(p, v) clnorm_real_stream(p, v)
#endif

/* ---- Copies ----------------------------------------------------------------------------------------- */

/* The bits as they are, where both are one storage. */
#if CLNORM_X_STORAGE == CLNORM_Y_STORAGE && defined(CLNORM_NARROW)
#define clnorm_vec_move(y, x) clnorm_narrow_store(y, clnorm_narrow_load(x))
#define clnorm_vec_move_part(y, x, n) clnorm_narrow_store_part(y, clnorm_narrow_load_part(x, n), n)
#define clnorm_vec_move_stream(y, x) clnorm_narrow_stream(y, clnorm_narrow_load(x))
#else
#define clnorm_vec_move(y, x) clnorm_vec_store(y, clnorm_vec_load(x))
#define clnorm_vec_move_part(y, x, n)                                                              \
  clnorm_vec_store_part(y, clnorm_vec_load_part(x, n, clnorm_splat(0.0f)), n)
#define clnorm_vec_move_stream(y, x) clnorm_vec_stream(y, clnorm_vec_load(x))
#endif

#endif
