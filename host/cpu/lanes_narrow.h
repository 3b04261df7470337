/* Elements of half a real's size, an element at a time: for vectors of any size (lanes.h). */
#ifndef CLNORM_CPU_LANES_NARROW_H
#define CLNORM_CPU_LANES_NARROW_H

#ifdef CLNORM_REAL_IS_DOUBLE
typedef float clnorm_narrow_element;
#else
typedef uint16_t clnorm_narrow_element;
#endif
typedef struct clnorm_narrow {
  clnorm_narrow_element at[CLNORM_LANES];
} clnorm_narrow;

static inline clnorm_narrow clnorm_narrow_load_part(const clnorm_narrow_element *p, uint32_t n) {
  clnorm_narrow v = {{0}};
  for (uint32_t i = 0; i < n; i++) v.at[i] = p[i];
  return v;
}
static inline void clnorm_narrow_store_part(clnorm_narrow_element *p, clnorm_narrow v, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) p[i] = v.at[i];
}
static inline clnorm_narrow clnorm_narrow_load(const clnorm_narrow_element *p) {
  return clnorm_narrow_load_part(p, CLNORM_LANES);
}
static inline void clnorm_narrow_store(clnorm_narrow_element *p, clnorm_narrow v) {
  clnorm_narrow_store_part(p, v, CLNORM_LANES);
}
static inline void clnorm_narrow_stream(clnorm_narrow_element *p, clnorm_narrow v) {
  clnorm_narrow_store(p, v);
}

/* clnorm_from_... and clnorm_to_... of vectors, from those of one element. */
#define CLNORM_FROM(storage, function)                                                             \
  static inline clnorm_vec clnorm_from_##storage(clnorm_narrow v) {                                \
    clnorm_vec wide = clnorm_splat(0.0f);                                                          \
    for (uint32_t i = 0; i < CLNORM_LANES; i++) wide[i] = function(v.at[i]);                       \
    return wide;                                                                                   \
  }
#define CLNORM_TO(storage, function)                                                               \
  static inline clnorm_narrow clnorm_to_##storage(clnorm_vec v) {                                  \
    clnorm_narrow narrow;                                                                          \
    for (uint32_t i = 0; i < CLNORM_LANES; i++)                                                    \
      narrow.at[i] = (clnorm_narrow_element)function(v[i]);                                        \
    return narrow;                                                                                 \
  }
#ifdef CLNORM_REAL_IS_DOUBLE
CLNORM_TO(f32, )
#else
CLNORM_FROM(f16, clnorm_f16_widen)
CLNORM_FROM(bf16, clnorm_bf16_widen)
CLNORM_TO(f16, clnorm_f16_narrow)
CLNORM_TO(bf16, clnorm_bf16_narrow)
#endif

#endif
