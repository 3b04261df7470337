/* Vectors of AVX2, FMA and F16C: 8 floats, or 4 doubles (lanes.h). */
#ifndef CLNORM_CPU_LANES_AVX2_H
#define CLNORM_CPU_LANES_AVX2_H

#include <immintrin.h>
#include <string.h>

#define CLNORM_ISA_NAME "AVX2"
#ifdef CLNORM_REAL_IS_DOUBLE
#define CLNORM_LANES 4u
#define CLNORM_256(operation) _mm256_##operation##_pd
#define CLNORM_256_CAST _mm256_castsi256_pd
typedef __m256d clnorm_vec;
#else
#define CLNORM_LANES 8u
#define CLNORM_256(operation) _mm256_##operation##_ps
#define CLNORM_256_CAST _mm256_castsi256_ps
typedef __m256 clnorm_vec;
#endif

typedef __m256i clnorm_part;
static inline clnorm_part clnorm_part_of(uint32_t n) {
#ifdef CLNORM_REAL_IS_DOUBLE
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x((int64_t)n), _mm256_setr_epi64x(0, 1, 2, 3));
#else
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#endif
}
static inline clnorm_vec clnorm_splat(clnorm_real s) { return CLNORM_256(set1)(s); }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  return CLNORM_256(fmadd)(a, b, c);
}
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  return CLNORM_256(blendv)(b, a, CLNORM_256_CAST(clnorm_part_of(n)));
}
static inline clnorm_vec clnorm_vec_load_private_part(const clnorm_real *t, clnorm_part part) {
  return CLNORM_256(maskload)(t, part);
}

/* ---- Reals ------------------------------------------------------------------------------------------ */

static inline clnorm_vec clnorm_real_load(const clnorm_real *p) { return CLNORM_256(loadu)(p); }
static inline clnorm_vec clnorm_real_load_part(const clnorm_real *p, uint32_t n, clnorm_vec fill) {
  const clnorm_part part = clnorm_part_of(n);
  return CLNORM_256(blendv)(fill, CLNORM_256(maskload)(p, part), CLNORM_256_CAST(part));
}
static inline void clnorm_real_store(clnorm_real *p, clnorm_vec v) { CLNORM_256(storeu)(p, v); }
static inline void clnorm_real_store_part(clnorm_real *p, clnorm_vec v, uint32_t n) {
  CLNORM_256(maskstore)(p, clnorm_part_of(n), v);
}
static inline void clnorm_real_stream(clnorm_real *p, clnorm_vec v) { CLNORM_256(stream)(p, v); }

/* ---- Half as wide ----------------------------------------------------------------------------------- */

typedef __m128i clnorm_narrow;
#define CLNORM_NARROW_BYTES (16u / CLNORM_LANES)

static inline clnorm_narrow clnorm_narrow_load(const void *p) { return _mm_loadu_si128(p); }
static inline void clnorm_narrow_store(void *p, clnorm_narrow v) { _mm_storeu_si128(p, v); }
static inline void clnorm_narrow_stream(void *p, clnorm_narrow v) { _mm_stream_si128(p, v); }

/* Masks know 4 bytes at the least: parts are pieces of 8, 4 and 2 bytes, in this order in memory. */
static inline void clnorm_narrow_store_part(void *p, clnorm_narrow v, uint32_t n) {
  const uint32_t bytes = n * CLNORM_NARROW_BYTES;
  char *at = p;
  if (bytes & 8) {
    _mm_storel_epi64((__m128i *)(void *)at, v);
    v = _mm_srli_si128(v, 8);
    at += 8;
  }
  if (bytes & 4) {
    const int piece = _mm_cvtsi128_si32(v);
    memcpy(at, &piece, 4);
    v = _mm_srli_si128(v, 4);
    at += 4;
  }
  if (bytes & 2) {
    const int piece = _mm_cvtsi128_si32(v);
    memcpy(at, &piece, 2);
  }
}

#ifdef CLNORM_REAL_IS_DOUBLE

static inline clnorm_narrow clnorm_to_f32(clnorm_vec v) {
  return _mm_castps_si128(_mm256_cvtpd_ps(v));
}
static inline double clnorm_fold_vec(clnorm_vec v) {
  const __m128d b = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
  return _mm_cvtsd_f64(_mm_add_sd(b, _mm_unpackhi_pd(b, b)));
}

#else

static inline clnorm_narrow clnorm_narrow_load_part(const void *p, uint32_t n) {
  const uint32_t bytes = n * CLNORM_NARROW_BYTES;
  const char *at = (const char *)p + bytes;
  clnorm_narrow v = _mm_setzero_si128();
  if (bytes & 2) {
    uint16_t piece;
    memcpy(&piece, at -= 2, 2);
    v = _mm_cvtsi32_si128(piece);
  }
  if (bytes & 4) {
    int piece;
    memcpy(&piece, at -= 4, 4);
    v = _mm_or_si128(_mm_slli_si128(v, 4), _mm_cvtsi32_si128(piece));
  }
  if (bytes & 8)
    v = _mm_or_si128(_mm_slli_si128(v, 8),
                     _mm_loadl_epi64((const __m128i *)(const void *)(at - 8)));
  return v;
}
static inline clnorm_vec clnorm_from_f16(clnorm_narrow v) { return _mm256_cvtph_ps(v); }
static inline clnorm_narrow clnorm_to_f16(clnorm_vec v) {
  return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline clnorm_vec clnorm_from_bf16(clnorm_narrow v) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}
/* clnorm_bf16_narrow in storage.h. */
static inline clnorm_narrow clnorm_to_bf16(clnorm_vec v) {
  const __m256i bits = _mm256_castps_si256(v), high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i words = _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16),
                                           _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
static inline float clnorm_fold_vec(clnorm_vec v) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

#endif
#endif
