/*
 * What a vector is on this processor: the words that kernels/vector.h is written in. The
 * instruction set is the one that the including file is compiled for.
 */
#ifndef CLNORM_CPU_LANES_H
#define CLNORM_CPU_LANES_H

#include "storage.h"

#define CLNORM_UNROLL /* compilers do it by themselves */

#if defined(__AVX512F__)
#include <immintrin.h>

#define CLNORM_ISA_NAME "AVX-512"
#define CLNORM_LANES 16u
typedef __m512 clnorm_vec;

static inline __mmask16 clnorm_mask(uint32_t n) { return (__mmask16)((1u << n) - 1); }
static inline clnorm_vec clnorm_splat(float s) { return _mm512_set1_ps(s); }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline clnorm_vec clnorm_vec_load(const float *p) { return _mm512_loadu_ps(p); }
static inline clnorm_vec clnorm_vec_load_part(const float *p, uint32_t n, clnorm_vec fill) {
  return _mm512_mask_loadu_ps(fill, clnorm_mask(n), p);
}
static inline void clnorm_vec_store(float *p, clnorm_vec v) { _mm512_storeu_ps(p, v); }
static inline void clnorm_vec_store_part(float *p, clnorm_vec v, uint32_t n) {
  _mm512_mask_storeu_ps(p, clnorm_mask(n), v);
}
static inline void clnorm_vec_stream(float *p, clnorm_vec v) { _mm512_stream_ps(p, v); }
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  return _mm512_mask_blend_ps(clnorm_mask(n), b, a);
}
typedef __mmask16 clnorm_part;
static inline clnorm_part clnorm_part_of(uint32_t n) { return clnorm_mask(n); }
static inline clnorm_vec clnorm_vec_load_private_part(const float *t, clnorm_part part) {
  return _mm512_maskz_loadu_ps(part, t);
}
static inline float clnorm_fold_vec(clnorm_vec v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v),
                                 _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

#define CLNORM_ISA_NAME "AVX2"
#define CLNORM_LANES 8u
typedef __m256 clnorm_vec;

static inline __m256i clnorm_mask(uint32_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline clnorm_vec clnorm_splat(float s) { return _mm256_set1_ps(s); }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  return _mm256_fmadd_ps(a, b, c);
}
static inline clnorm_vec clnorm_vec_load(const float *p) { return _mm256_loadu_ps(p); }
static inline clnorm_vec clnorm_vec_load_part(const float *p, uint32_t n, clnorm_vec fill) {
  const __m256i mask = clnorm_mask(n);
  return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}
static inline void clnorm_vec_store(float *p, clnorm_vec v) { _mm256_storeu_ps(p, v); }
static inline void clnorm_vec_store_part(float *p, clnorm_vec v, uint32_t n) {
  _mm256_maskstore_ps(p, clnorm_mask(n), v);
}
static inline void clnorm_vec_stream(float *p, clnorm_vec v) { _mm256_stream_ps(p, v); }
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(clnorm_mask(n)));
}
typedef __m256i clnorm_part;
static inline clnorm_part clnorm_part_of(uint32_t n) { return clnorm_mask(n); }
static inline clnorm_vec clnorm_vec_load_private_part(const float *t, clnorm_part part) {
  return _mm256_maskload_ps(t, part);
}
static inline float clnorm_fold_vec(clnorm_vec v) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#else /* vectors of the compiler, in what the base target has */

#if defined(__ARM_NEON)
#define CLNORM_ISA_NAME "NEON"
#else
#define CLNORM_ISA_NAME "plain"
#endif
#define CLNORM_LANES 4u
typedef float clnorm_vec __attribute__((vector_size(16)));

static inline clnorm_vec clnorm_splat(float s) { return (clnorm_vec){s, s, s, s}; }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  for (int i = 0; i < 4; i++) a[i] = clnorm_fma(a[i], b[i], c[i]);
  return a;
}
static inline clnorm_vec clnorm_vec_load(const float *p) {
  return (clnorm_vec){p[0], p[1], p[2], p[3]};
}
static inline clnorm_vec clnorm_vec_load_part(const float *p, uint32_t n, clnorm_vec fill) {
  for (uint32_t i = 0; i < n; i++) fill[i] = p[i];
  return fill;
}
static inline void clnorm_vec_store(float *p, clnorm_vec v) {
  for (int i = 0; i < 4; i++) p[i] = v[i];
}
static inline void clnorm_vec_store_part(float *p, clnorm_vec v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = v[i];
}
static inline void clnorm_vec_stream(float *p, clnorm_vec v) { clnorm_vec_store(p, v); }
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  for (uint32_t i = 0; i < n; i++) b[i] = a[i];
  return b;
}
typedef uint32_t clnorm_part;
static inline clnorm_part clnorm_part_of(uint32_t n) { return n; }
static inline clnorm_vec clnorm_vec_load_private_part(const float *t, clnorm_part part) {
  return part == 4 ? clnorm_vec_load(t) : clnorm_vec_load_part(t, part, clnorm_splat(0.0f));
}
static inline float clnorm_fold_vec(clnorm_vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }

#endif

static inline clnorm_vec clnorm_vec_load_private(const float *t) { return clnorm_vec_load(t); }
static inline void clnorm_vec_store_private(float *t, clnorm_vec v) { clnorm_vec_store(t, v); }

static inline void clnorm_prefetch(const float *p, uint64_t i) {
  __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)i * sizeof(float)));
}

#endif
