/* Compiled once per instruction set and pair of storages, with CLNORM_FORWARD_NAME set to the table's name,
 * CLNORM_X_STORAGE and CLNORM_Y_STORAGE; and for each real with CLNORM_ANY_STORAGE, for what has no object of
 * its own (storage.h). */
#include "forward.h"
#include "lanes.h"

#ifdef CLNORM_ANY_STORAGE
#include "vector_general_backward.h"
#else
#include "vector.h"
#include "vector_channels_backward.h"
#endif

_Static_assert(sizeof(clnorm_partial) == (sizeof(clnorm_real) == sizeof(float) ? 24 : 40) &&
                   sizeof(clnorm_coefficients) == 3 * sizeof(clnorm_real) &&
                   sizeof(clnorm_sums) == 2 * sizeof(clnorm_real) &&
                   sizeof(clnorm_gradient_coefficients) == 4 * sizeof(clnorm_real),
               "the sizes that clnorm__partial_bytes and the like say");

/* ---- Operands ---------------------------------------------------------------------------------------- */

#ifdef CLNORM_ANY_STORAGE
static clnorm_ulong element_bytes(const clnorm_view *view) {
  return clnorm_dtype_size((int32_t)view->storage);
}
#else
#define element_bytes(view) 1
#endif

/* A tensor's first element; NULL where there is none. */
static void *place_view(void *const *operands, const clnorm_call *call, int v,
                        clnorm_operand_index operand, size_t element) {
  char *p = operands[operand];
  return p ? p + call->views[v].offset * element * element_bytes(&call->views[v]) : NULL;
}

static clnorm_real *place(void *const *operands, const clnorm_call *call,
                          clnorm_operand_index operand) {
  clnorm_real *p = operands[operand];
  return p ? p + call->parameters[operand - CLNORM_OPERAND_WEIGHT] : NULL;
}

/* written: CLNORM_OPERAND_Y, or in backward CLNORM_OPERAND_DX. */
static clnorm_buffers make_buffers(void *const *operands, const clnorm_call *call,
                                   clnorm_operand_index written) {
  char *workspace = operands[CLNORM_OPERAND_WORKSPACE];
  void *const partials = workspace ? workspace + call->partials : NULL;
  void *const coefficients = workspace ? workspace + call->coefficients : NULL;
  const clnorm_buffers b = {
      place_view(operands, call, CLNORM_VIEW_X, CLNORM_OPERAND_X, sizeof(clnorm_in)),
      place_view(operands, call, CLNORM_VIEW_Y, written, sizeof(clnorm_out)),
      place_view(operands, call, CLNORM_VIEW_DY, CLNORM_OPERAND_DY, sizeof(clnorm_dy)),
      place(operands, call, CLNORM_OPERAND_WEIGHT),
      place(operands, call, CLNORM_OPERAND_BIAS),
      place(operands, call, CLNORM_OPERAND_RUNNING_MEAN),
      place(operands, call, CLNORM_OPERAND_RUNNING_VAR),
      place(operands, call, CLNORM_OPERAND_SAVED_MEAN),
      place(operands, call, CLNORM_OPERAND_SAVED_MEAN_LOW),
      place(operands, call, CLNORM_OPERAND_SAVED_INVSTD),
      place(operands, call, CLNORM_OPERAND_DWEIGHT),
      place(operands, call, CLNORM_OPERAND_DBIAS),
      partials,
      coefficients,
      partials,
      coefficients};
  return b;
}

/* ---- Items ------------------------------------------------------------------------------------------- */

#define CLNORM_ITEMS(function) CLNORM_ITEMS_OF(function, CLNORM_OPERAND_Y)
#define CLNORM_ITEMS_OF(function, written)                                                         \
  static void function##_items(void *const *operands, const clnorm_call *call,                     \
                               clnorm_items *items) {                                              \
    const clnorm_buffers b = make_buffers(operands, call, written);                                \
    uint64_t begin, end;                                                                           \
    while (clnorm__items_take(items, &begin, &end))                                                \
      for (uint64_t item = begin; item < end; item++) function(&b, call, item);                    \
  }

CLNORM_ITEMS(clnorm_item_finalize)
CLNORM_ITEMS_OF(clnorm_item_backward_finalize, CLNORM_OPERAND_DX)

#ifdef CLNORM_ANY_STORAGE

CLNORM_ITEMS(clnorm_general_channel)
CLNORM_ITEMS(clnorm_general_partials)
CLNORM_ITEMS(clnorm_general_apply)
CLNORM_ITEMS(clnorm_general_copy)
CLNORM_ITEMS_OF(clnorm_general_backward_channel, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_general_backward_partials, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_general_backward_apply, CLNORM_OPERAND_DX)

const clnorm_items_functions CLNORM_FORWARD_NAME = {
    .name = CLNORM_ISA_NAME,
    .stages[CLNORM_PATH_GENERAL] = {
        [CLNORM_STAGE_CHANNEL] = clnorm_general_channel_items,
        [CLNORM_STAGE_PARTIALS] = clnorm_general_partials_items,
        [CLNORM_STAGE_FINALIZE] = clnorm_item_finalize_items,
        [CLNORM_STAGE_APPLY] = clnorm_general_apply_items,
        [CLNORM_STAGE_COPY] = clnorm_general_copy_items,
        [CLNORM_STAGE_BACKWARD_CHANNEL] = clnorm_general_backward_channel_items,
        [CLNORM_STAGE_BACKWARD_PARTIALS] = clnorm_general_backward_partials_items,
        [CLNORM_STAGE_BACKWARD_FINALIZE] = clnorm_item_backward_finalize_items,
        [CLNORM_STAGE_BACKWARD_APPLY] = clnorm_general_backward_apply_items,
    }};

#else

CLNORM_ITEMS(clnorm_item_partials)
CLNORM_ITEMS(clnorm_item_apply)
CLNORM_ITEMS(clnorm_item_copy)
CLNORM_ITEMS(clnorm_channels_channel)
CLNORM_ITEMS(clnorm_channels_partials)
CLNORM_ITEMS(clnorm_channels_apply)
CLNORM_ITEMS(clnorm_channels_copy)
CLNORM_ITEMS_OF(clnorm_item_backward_channel, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_item_backward_partials, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_item_backward_apply, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_channels_backward_channel, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_channels_backward_partials, CLNORM_OPERAND_DX)
CLNORM_ITEMS_OF(clnorm_channels_backward_apply, CLNORM_OPERAND_DX)

static void clnorm_item_channel_items(void *const *operands, const clnorm_call *call,
                                      clnorm_items *items) {
  const clnorm_buffers b = make_buffers(operands, call, CLNORM_OPERAND_Y);
  clnorm_writer w;
  uint64_t begin, end;
  clnorm_writer_none(&w);
  while (clnorm__items_take(items, &begin, &end))
    for (uint64_t item = begin; item < end; item++) clnorm_item_channel(&b, call, item, &w);
  clnorm_write_all(&w);
}

#if CLNORM_X_STORAGE == CLNORM_STORAGE_F32 && CLNORM_Y_STORAGE == CLNORM_STORAGE_F32
/* Subnormal values as they are given to a sum, a product and an fma, and come out of one; in lanes and alone,
 * since some processors keep them in one of the two only (NEON of 32 bits). Every operand is read from
 * volatile memory: compilers compute neither constants nor equal lanes alone. */
static bool clnorm_keeps_subnormals(void) {
  static const volatile float values[4] = {0x1p-149f, 1.0f, 0x1p-126f, 0.5f};
  static const uint32_t wanted[4] = {2, 1, 0x400000, 0x400001};
  float in[4][CLNORM_LANES], got[4][CLNORM_LANES];
  for (uint32_t i = 0; i < 4 * CLNORM_LANES; i++) in[i % 4][i / 4] = values[i % 4];
  const clnorm_vec tiny = clnorm_vec_load_private(in[0]), one = clnorm_vec_load_private(in[1]);
  const clnorm_vec least = clnorm_vec_load_private(in[2]), half = clnorm_vec_load_private(in[3]);
  clnorm_vec_store_private(got[0], tiny + tiny);
  clnorm_vec_store_private(got[1], tiny * one);
  clnorm_vec_store_private(got[2], least * half);
  clnorm_vec_store_private(got[3], clnorm_vec_fma(least, half, tiny));
  const float t = values[0], u = values[1], l = values[2], h = values[3];
  const float alone[4] = {t + t, t * u, l * h, clnorm_fma(l, h, t)};
  bool kept = true;
  for (uint32_t i = 0; i < 4; i++) {
    kept = kept && clnorm_bits(alone[i]) == wanted[i];
    for (uint32_t k = 0; k < CLNORM_LANES; k++) kept = kept && clnorm_bits(got[i][k]) == wanted[i];
  }
  return kept;
}

#else
#define clnorm_keeps_subnormals NULL
#endif

const clnorm_items_functions CLNORM_FORWARD_NAME = {
    .name = CLNORM_ISA_NAME,
    .keeps_subnormals = clnorm_keeps_subnormals,
    .stages[CLNORM_PATH_POSITIONS] =
        {
            [CLNORM_STAGE_CHANNEL] = clnorm_item_channel_items,
            [CLNORM_STAGE_PARTIALS] = clnorm_item_partials_items,
            [CLNORM_STAGE_FINALIZE] = clnorm_item_finalize_items,
            [CLNORM_STAGE_APPLY] = clnorm_item_apply_items,
            [CLNORM_STAGE_COPY] = clnorm_item_copy_items,
            [CLNORM_STAGE_BACKWARD_CHANNEL] = clnorm_item_backward_channel_items,
            [CLNORM_STAGE_BACKWARD_PARTIALS] = clnorm_item_backward_partials_items,
            [CLNORM_STAGE_BACKWARD_FINALIZE] = clnorm_item_backward_finalize_items,
            [CLNORM_STAGE_BACKWARD_APPLY] = clnorm_item_backward_apply_items,
        },
    .stages[CLNORM_PATH_CHANNELS] = {
        [CLNORM_STAGE_CHANNEL] = clnorm_channels_channel_items,
        [CLNORM_STAGE_PARTIALS] = clnorm_channels_partials_items,
        [CLNORM_STAGE_FINALIZE] = clnorm_item_finalize_items,
        [CLNORM_STAGE_APPLY] = clnorm_channels_apply_items,
        [CLNORM_STAGE_COPY] = clnorm_channels_copy_items,
        [CLNORM_STAGE_BACKWARD_CHANNEL] = clnorm_channels_backward_channel_items,
        [CLNORM_STAGE_BACKWARD_PARTIALS] = clnorm_channels_backward_partials_items,
        [CLNORM_STAGE_BACKWARD_FINALIZE] = clnorm_item_backward_finalize_items,
        [CLNORM_STAGE_BACKWARD_APPLY] = clnorm_channels_backward_apply_items,
    }};

#endif
