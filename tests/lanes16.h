/* What a vector is in kernels/vector.cl, in C: 16 lanes whatever the processor has. Stands in the place
 * of host/cpu/lanes.h (whose guard it takes) where test_kernels is run for coverage: the branches that are
 * reached are then those of the OpenCL kernels. */
#ifndef CLNORM_CPU_LANES_H
#define CLNORM_CPU_LANES_H

#include "storage.h"

#define CLNORM_UNROLL
#define CLNORM_LANES 16u
#define CLNORM_ISA_NAME "16 lanes"
typedef float clnorm_vec __attribute__((vector_size(64)));
typedef float clnorm_vec_anywhere __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t clnorm_part;

static inline clnorm_vec clnorm_splat(float s) { return s - (clnorm_vec){0}; }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  for (int i = 0; i < 16; i++) a[i] = clnorm_fma(a[i], b[i], c[i]);
  return a;
}
static inline clnorm_vec clnorm_vec_load(const float *p) {
  return *(const clnorm_vec_anywhere *)(const void *)p;
}
static inline void clnorm_vec_store(float *p, clnorm_vec v) {
  *(clnorm_vec_anywhere *)(void *)p = v;
}
static inline clnorm_vec clnorm_vec_load_part(const float *p, uint32_t n, clnorm_vec fill) {
  for (uint32_t i = 0; i < n; i++) fill[i] = p[i];
  return fill;
}
static inline void clnorm_vec_store_part(float *p, clnorm_vec v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = v[i];
}
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  for (uint32_t i = 0; i < n; i++) b[i] = a[i];
  return b;
}
static inline void clnorm_vec_stream(float *p, clnorm_vec v) { clnorm_vec_store(p, v); }
static inline clnorm_vec clnorm_vec_load_private(const float *t) { return clnorm_vec_load(t); }
static inline void clnorm_vec_store_private(float *t, clnorm_vec v) { clnorm_vec_store(t, v); }
static inline clnorm_part clnorm_part_of(uint32_t n) { return n; }
static inline clnorm_vec clnorm_vec_load_private_part(const float *t, clnorm_part n) {
  return clnorm_vec_load_part(t, n, clnorm_splat(0.0f));
}
static inline float clnorm_fold_vec(clnorm_vec v) {
  for (int w = 8; w; w /= 2)
    for (int i = 0; i < w; i++) v[i] = v[i] + v[i + w];
  return v[0];
}
/* However many arguments: where memory is fetched from changes nothing. */
#define clnorm_prefetch(...) ((void)0)

#endif
