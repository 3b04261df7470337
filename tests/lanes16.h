/* What a vector is in kernels/vector.cl, in C: 16 lanes whatever the processor has. Stands in the place
 * of host/cpu/lanes_plain.h (whose guard it takes) where test_kernels is run for coverage: the branches that are
 * reached are then those of the OpenCL kernels. */
#ifndef CLNORM_CPU_LANES_PLAIN_H
#define CLNORM_CPU_LANES_PLAIN_H

#include "storage.h"

#define CLNORM_LANES 16u
#define CLNORM_ISA_NAME "16 lanes"
typedef clnorm_real clnorm_vec __attribute__((vector_size(16 * sizeof(clnorm_real))));
typedef clnorm_real clnorm_vec_anywhere
    __attribute__((vector_size(16 * sizeof(clnorm_real)), aligned(4), may_alias));
typedef uint32_t clnorm_part;

static inline clnorm_vec clnorm_splat(clnorm_real s) { return s - (clnorm_vec){0}; }
static inline clnorm_vec clnorm_vec_fma(clnorm_vec a, clnorm_vec b, clnorm_vec c) {
  for (int i = 0; i < 16; i++) a[i] = clnorm_fma(a[i], b[i], c[i]);
  return a;
}
static inline clnorm_vec clnorm_real_load(const clnorm_real *p) {
  return *(const clnorm_vec_anywhere *)(const void *)p;
}
static inline void clnorm_real_store(clnorm_real *p, clnorm_vec v) {
  *(clnorm_vec_anywhere *)(void *)p = v;
}
static inline clnorm_vec clnorm_real_load_part(const clnorm_real *p, uint32_t n, clnorm_vec fill) {
  for (uint32_t i = 0; i < n; i++) fill[i] = p[i];
  return fill;
}
static inline void clnorm_real_store_part(clnorm_real *p, clnorm_vec v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = v[i];
}
static inline clnorm_vec clnorm_vec_blend(uint32_t n, clnorm_vec a, clnorm_vec b) {
  for (uint32_t i = 0; i < n; i++) b[i] = a[i];
  return b;
}
static inline void clnorm_real_stream(clnorm_real *p, clnorm_vec v) { clnorm_real_store(p, v); }
static inline clnorm_part clnorm_part_of(uint32_t n) { return n; }
static inline clnorm_vec clnorm_vec_load_private_part(const clnorm_real *t, clnorm_part n) {
  return clnorm_real_load_part(t, n, clnorm_splat(0.0f));
}
static inline clnorm_real clnorm_fold_vec(clnorm_vec v) {
  for (int w = 8; w; w /= 2)
    for (int i = 0; i < w; i++) v[i] = v[i] + v[i + w];
  return v[0];
}

#include "lanes_narrow.h"

#endif
