/* Compiled once per instruction set, with CLNORM_FORWARD_NAME set to the table's name. */
#include "forward.h"
#include "lanes.h"

#include "clnorm_vector.h"

#define CLNORM_ITEMS(stage)                                                                        \
  static void clnorm_items_##stage(const clnorm_buffers *b, const clnorm_forward *call,            \
                                   clnorm_items *items) {                                          \
    uint64_t begin, end;                                                                           \
    while (clnorm_items_take(items, &begin, &end))                                                 \
      for (uint64_t item = begin; item < end; item++) clnorm_item_##stage(b, call, item);          \
  }
CLNORM_ITEMS(partials)
CLNORM_ITEMS(finalize)
CLNORM_ITEMS(apply)
CLNORM_ITEMS(copy)

static void clnorm_items_channel(const clnorm_buffers *b, const clnorm_forward *call,
                                 clnorm_items *items) {
  clnorm_writer w;
  uint64_t begin, end;
  clnorm_writer_none(&w);
  while (clnorm_items_take(items, &begin, &end))
    for (uint64_t item = begin; item < end; item++) clnorm_item_channel(b, call, item, &w);
  clnorm_write_all(&w);
}

/* Subnormal values as they are given to a sum, a product and an fma, and come out of one; in lanes and alone,
 * since some processors keep them in one of the two only (NEON of 32 bits). */
static bool clnorm_keeps_subnormals(void) {
  volatile float inputs[4] = {0x1p-149f, 1.0f, 0x1p-126f,
                              0.5f}; /* not for the compiler to compute */
  const float tiny = inputs[0], one = inputs[1], least = inputs[2], half = inputs[3];
  const clnorm_vec v = clnorm_splat(tiny);
  float got[4 * CLNORM_LANES];
  clnorm_vec_store(got, v + v);
  clnorm_vec_store(got + CLNORM_LANES, v * clnorm_splat(one));
  clnorm_vec_store(got + 2 * CLNORM_LANES, clnorm_splat(least) * clnorm_splat(half));
  clnorm_vec_store(got + 3 * CLNORM_LANES,
                   clnorm_vec_fma(clnorm_splat(least), clnorm_splat(half), v));
  const float alone[4] = {tiny + tiny, tiny * one, least * half, clnorm_fma(least, half, tiny)};
  static const uint32_t wanted[4] = {2, 1, 0x400000, 0x400001};
  for (uint32_t i = 0; i < 4 * CLNORM_LANES; i++)
    if (clnorm_bits(got[i]) != wanted[i / CLNORM_LANES]) return false;
  for (int i = 0; i < 4; i++)
    if (clnorm_bits(alone[i]) != wanted[i]) return false;
  return true;
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
