/* Vectors of AVX-512 (F, VL, DQ, BW) and F16C: 16 floats, or 8 doubles (lanes.h). */
#ifndef CLNORM_CPU_LANES_AVX512_H
#define CLNORM_CPU_LANES_AVX512_H

#include <immintrin.h>

#define CLNORM_ISA_NAME "AVX-512"
#ifdef CLNORM_REAL_IS_DOUBLE
#define CLNORM_LANES 8u
#define CLNORM_512(operation) _mm512_##operation##_pd
typedef __m512d clnorm_vec;
typedef __mmask8 clnorm_part;
#else
#define CLNORM_LANES 16u
#define CLNORM_512(operation) _mm512_##operation##_ps
typedef __m512 clnorm_vec;
typedef __mmask16 clnorm_part;
#endif

static inline clnorm_part clnorm_part_of(uint32_t n) { return (clnorm_part)((1u << n) - 1); }
static inline clnorm_vec clnorm_splat(clnorm_real s) { return CLNORM_512(set1)(s); }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  return CLNORM_512(fmadd)(a, b, c);
}
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  return CLNORM_512(mask_blend)(clnorm_part_of(n), b, a);
}
static inline clnorm_vec clnorm_vec_load_private_part(const clnorm_real *t, clnorm_part part) {
  return CLNORM_512(maskz_loadu)(part, t);
}

/* ---- Reals ------------------------------------------------------------------------------------------ */

static inline clnorm_vec clnorm_real_load(const clnorm_real *p) { return CLNORM_512(loadu)(p); }
static inline clnorm_vec clnorm_real_load_part(const clnorm_real *p, uint32_t n, clnorm_vec fill) {
  return CLNORM_512(mask_loadu)(fill, clnorm_part_of(n), p);
}
static inline void clnorm_real_store(clnorm_real *p, clnorm_vec v) { CLNORM_512(storeu)(p, v); }
static inline void clnorm_real_store_part(clnorm_real *p, clnorm_vec v, uint32_t n) {
  CLNORM_512(mask_storeu)(p, clnorm_part_of(n), v);
}
static inline void clnorm_real_stream(clnorm_real *p, clnorm_vec v) { CLNORM_512(stream)(p, v); }

/* ---- Half as wide ----------------------------------------------------------------------------------- */

typedef __m256i clnorm_narrow;

static inline clnorm_narrow clnorm_narrow_load(const void *p) { return _mm256_loadu_si256(p); }
static inline void clnorm_narrow_store(void *p, clnorm_narrow v) { _mm256_storeu_si256(p, v); }
static inline void clnorm_narrow_stream(void *p, clnorm_narrow v) { _mm256_stream_si256(p, v); }

#ifdef CLNORM_REAL_IS_DOUBLE

static inline void clnorm_narrow_store_part(void *p, clnorm_narrow v, uint32_t n) {
  _mm256_mask_storeu_epi32(p, clnorm_part_of(n), v);
}
static inline clnorm_narrow clnorm_to_f32(clnorm_vec v) {
  return _mm256_castps_si256(_mm512_cvtpd_ps(v));
}
static inline double clnorm_fold_vec(clnorm_vec v) {
  const __m256d a = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
  const __m128d b = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
  return _mm_cvtsd_f64(_mm_add_sd(b, _mm_unpackhi_pd(b, b)));
}

#else

static inline clnorm_narrow clnorm_narrow_load_part(const void *p, uint32_t n) {
  return _mm256_maskz_loadu_epi16(clnorm_part_of(n), p);
}
static inline void clnorm_narrow_store_part(void *p, clnorm_narrow v, uint32_t n) {
  _mm256_mask_storeu_epi16(p, clnorm_part_of(n), v);
}
static inline clnorm_vec clnorm_from_f16(clnorm_narrow v) { return _mm512_cvtph_ps(v); }
static inline clnorm_narrow clnorm_to_f16(clnorm_vec v) {
  return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* A permutation of halves puts 16 of them into the upper halves of words, or takes them from there, in one step. */
static inline clnorm_vec clnorm_from_bf16(clnorm_narrow v) {
  const __m512i from = _mm512_slli_epi32(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 16);
  return _mm512_castsi512_ps(
      _mm512_maskz_permutexvar_epi16(0xaaaaaaaa, from, _mm512_castsi256_si512(v)));
}
/* clnorm_bf16_narrow in storage.h; the processor's own instruction flushes subnormals. */
static inline clnorm_narrow clnorm_to_bf16(clnorm_vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_set1_epi32(0x400000);
  const __m512i rounded =
      _mm512_mask_or_epi32(sum, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits, quiet);
  const __m512i from = _mm512_setr_epi32(0x30001, 0x70005, 0xb0009, 0xf000d, 0x130011, 0x170015,
                                         0x1b0019, 0x1f001d, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castsi512_si256(_mm512_permutexvar_epi16(from, rounded));
}
static inline float clnorm_fold_vec(clnorm_vec v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v),
                                 _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#endif
#endif
