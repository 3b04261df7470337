/* Compiled once per instruction set, with CLNORM_FORWARD_NAME set to the table's name. */
#include "forward.h"
#include "lanes.h"

#include "vector.h"

#define CLNORM_ITEMS(stage)                                                                        \
  static void clnorm_items_##stage(const clnorm_buffers *b, const clnorm_call *call,               \
                                   clnorm_items *items) {                                          \
    uint64_t begin, end;                                                                           \
    while (clnorm__items_take(items, &begin, &end))                                                \
      for (uint64_t item = begin; item < end; item++) clnorm_item_##stage(b, call, item);          \
  }
CLNORM_ITEMS(partials)
CLNORM_ITEMS(finalize)
CLNORM_ITEMS(apply)
CLNORM_ITEMS(copy)

static void clnorm_items_channel(const clnorm_buffers *b, const clnorm_call *call,
                                 clnorm_items *items) {
  clnorm_writer w;
  uint64_t begin, end;
  clnorm_writer_none(&w);
  while (clnorm__items_take(items, &begin, &end))
    for (uint64_t item = begin; item < end; item++) clnorm_item_channel(b, call, item, &w);
  clnorm_write_all(&w);
}

/* Subnormal values as they are given to a sum, a product and an fma, and come out of one; in lanes and alone,
 * since some processors keep them in one of the two only (NEON of 32 bits). Every operand is read from
 * volatile memory: compilers compute neither constants nor equal lanes alone. */
static bool clnorm_keeps_subnormals(void) {
  static const volatile float values[4] = {0x1p-149f, 1.0f, 0x1p-126f, 0.5f};
  static const uint32_t wanted[4] = {2, 1, 0x400000, 0x400001};
  float in[4][CLNORM_LANES], got[4][CLNORM_LANES];
  for (uint32_t i = 0; i < 4 * CLNORM_LANES; i++) in[i % 4][i / 4] = values[i % 4];
  const clnorm_vec tiny = clnorm_vec_load(in[0]), one = clnorm_vec_load(in[1]);
  const clnorm_vec least = clnorm_vec_load(in[2]), half = clnorm_vec_load(in[3]);
  clnorm_vec_store(got[0], tiny + tiny);
  clnorm_vec_store(got[1], tiny * one);
  clnorm_vec_store(got[2], least * half);
  clnorm_vec_store(got[3], clnorm_vec_fma(least, half, tiny));
  const float t = values[0], u = values[1], l = values[2], h = values[3];
  const float alone[4] = {t + t, t * u, l * h, clnorm_fma(l, h, t)};
  bool kept = true;
  for (uint32_t i = 0; i < 4; i++) {
    kept = kept && clnorm_bits(alone[i]) == wanted[i];
    for (uint32_t k = 0; k < CLNORM_LANES; k++) kept = kept && clnorm_bits(got[i][k]) == wanted[i];
  }
  return kept;
}

const clnorm_items_functions CLNORM_FORWARD_NAME = {
    .name = CLNORM_ISA_NAME,
    .keeps_subnormals = clnorm_keeps_subnormals,
    .stages = {
        [CLNORM_STAGE_CHANNEL] = clnorm_items_channel,
        [CLNORM_STAGE_PARTIALS] = clnorm_items_partials,
        [CLNORM_STAGE_FINALIZE] = clnorm_items_finalize,
        [CLNORM_STAGE_APPLY] = clnorm_items_apply,
        [CLNORM_STAGE_COPY] = clnorm_items_copy,
    }};
