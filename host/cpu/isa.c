#include "isa.h"

#if defined(CLNORM_WITH_AVX2) || defined(CLNORM_WITH_AVX512)
#include <cpuid.h>
#endif

#include "environment.h"

/* The pairs of storages that have objects of their own, as in CMakeLists.txt. */
#define PAIRS(ROW, isa)                                                                            \
  ROW(isa, F32, F32)                                                                               \
  ROW(isa, F16, F16)                                                                               \
  ROW(isa, BF16, BF16)                                                                             \
  ROW(isa, F64, F64)                                                                               \
  ROW(isa, F16, F32)                                                                               \
  ROW(isa, F32, F16)                                                                               \
  ROW(isa, BF16, F32)                                                                              \
  ROW(isa, F32, BF16)
#define NUM_PAIRS 8

typedef struct pair {
  uint32_t x, y;
  const clnorm_items_functions *functions;
} pair;

typedef struct objects {
  pair pairs[NUM_PAIRS];
  const clnorm_items_functions *any_float, *any_double;
} objects;

#define DECLARE_PAIR(isa, x, y)                                                                    \
  extern const clnorm_items_functions clnorm__forward_##isa##_##x##_##y;
#define PAIR(isa, x, y)                                                                            \
  {CLNORM_STORAGE_##x, CLNORM_STORAGE_##y, &clnorm__forward_##isa##_##x##_##y},
#define OBJECTS(isa)                                                                               \
  PAIRS(DECLARE_PAIR, isa)                                                                         \
  extern const clnorm_items_functions clnorm__forward_##isa##_any_F32;                             \
  extern const clnorm_items_functions clnorm__forward_##isa##_any_F64;                             \
  static const objects isa##_objects = {                                                           \
      {PAIRS(PAIR, isa)}, &clnorm__forward_##isa##_any_F32, &clnorm__forward_##isa##_any_F64};

OBJECTS(plain)
#if defined(CLNORM_WITH_AVX2)
OBJECTS(avx2)
#endif
#if defined(CLNORM_WITH_AVX512)
OBJECTS(avx512)
#endif

#if defined(CLNORM_WITH_AVX2) || defined(CLNORM_WITH_AVX512)
/* A name that __builtin_cpu_supports of some compilers does not know. */
static bool has_f16c(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool clnorm__isa_available(clnorm_isa isa) {
#if defined(CLNORM_WITH_AVX512)
  if (isa == CLNORM_ISA_AVX512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("fma") && has_f16c();
#endif
#if defined(CLNORM_WITH_AVX2)
  if (isa == CLNORM_ISA_AVX2)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#endif
  return isa == CLNORM_ISA_PLAIN;
}

clnorm_isa clnorm__isa_best(void) {
  clnorm_isa isa = CLNORM_ISA_AVX512;
  while (!clnorm__isa_available(isa)) isa = (clnorm_isa)((int)isa - 1);
  return isa;
}

static const objects *objects_of(clnorm_isa isa) {
#if defined(CLNORM_WITH_AVX512)
  if (isa == CLNORM_ISA_AVX512) return &avx512_objects;
#endif
#if defined(CLNORM_WITH_AVX2)
  if (isa == CLNORM_ISA_AVX2) return &avx2_objects;
#endif
  (void)isa;
  return &plain_objects;
}

const clnorm_items_functions *clnorm__isa_functions(clnorm_isa isa, clnorm_path path, uint32_t x,
                                                    uint32_t y) {
  const objects *all = objects_of(isa);
  if (path == CLNORM_PATH_GENERAL)
    return x == CLNORM_STORAGE_F64 ? all->any_double : all->any_float;
  for (int i = 0; i < NUM_PAIRS; i++) {
    const pair *p = &all->pairs[i];
    if (p->x == x && p->y == y)
      return p->functions->stages[path][CLNORM_STAGE_APPLY] ? p->functions : NULL;
  }
  return NULL;
}

const char *clnorm__isa_name(clnorm_isa isa) { return objects_of(isa)->any_float->name; }

bool clnorm__isa_keeps_subnormals(clnorm_isa isa) {
  const clnorm_environment saved = clnorm__environment_enter();
  const bool kept = objects_of(isa)->pairs[0].functions->keeps_subnormals();
  clnorm__environment_leave(saved);
  return kept;
}
