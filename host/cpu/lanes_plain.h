/* Vectors of the compiler, 16 bytes, in what the base target has: 4 floats, or 2 doubles (lanes.h). Half
 * precision is computed in whole numbers. */
#ifndef CLNORM_CPU_LANES_PLAIN_H
#define CLNORM_CPU_LANES_PLAIN_H

#if defined(__ARM_NEON)
#define CLNORM_ISA_NAME "NEON"
#else
#define CLNORM_ISA_NAME "plain"
#endif
#define CLNORM_LANES ((clnorm_uint)(16 / sizeof(clnorm_real)))
typedef clnorm_real clnorm_vec __attribute__((vector_size(16)));
typedef uint32_t clnorm_part;

static inline clnorm_part clnorm_part_of(uint32_t n) { return n; }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  for (uint32_t i = 0; i < CLNORM_LANES; i++) a[i] = clnorm_fma(a[i], b[i], c[i]);
  return a;
}
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  for (uint32_t i = 0; i < n; i++) b[i] = a[i];
  return b;
}

/* ---- Reals ------------------------------------------------------------------------------------------ */

#ifdef CLNORM_REAL_IS_DOUBLE
static inline clnorm_vec clnorm_splat(double s) { return (clnorm_vec){s, s}; }
static inline clnorm_vec clnorm_real_load(const double *p) { return (clnorm_vec){p[0], p[1]}; }
static inline double clnorm_fold_vec(clnorm_vec v) { return v[0] + v[1]; }
#else
static inline clnorm_vec clnorm_splat(float s) { return (clnorm_vec){s, s, s, s}; }
static inline clnorm_vec clnorm_real_load(const float *p) {
  return (clnorm_vec){p[0], p[1], p[2], p[3]};
}
static inline float clnorm_fold_vec(clnorm_vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }
#endif
static inline clnorm_vec clnorm_real_load_part(const clnorm_real *p, uint32_t n, clnorm_vec fill) {
  for (uint32_t i = 0; i < n; i++) fill[i] = p[i];
  return fill;
}
static inline void clnorm_real_store(clnorm_real *p, clnorm_vec v) {
  for (uint32_t i = 0; i < CLNORM_LANES; i++) p[i] = v[i];
}
static inline void clnorm_real_store_part(clnorm_real *p, clnorm_vec v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = v[i];
}
static inline void clnorm_real_stream(clnorm_real *p, clnorm_vec v) { clnorm_real_store(p, v); }
static inline clnorm_vec clnorm_vec_load_private_part(const clnorm_real *t, clnorm_part part) {
  return part == CLNORM_LANES ? clnorm_real_load(t)
                              : clnorm_real_load_part(t, part, clnorm_splat(0.0f));
}

/* ---- Half as wide ----------------------------------------------------------------------------------- */

#include "lanes_narrow.h"

#endif
