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

const clnorm_items_functions CLNORM_FORWARD_NAME = {
    .stages = {
        [CLNORM_STAGE_CHANNEL] = clnorm_items_channel,
        [CLNORM_STAGE_PARTIALS] = clnorm_items_partials,
        [CLNORM_STAGE_FINALIZE] = clnorm_items_finalize,
        [CLNORM_STAGE_APPLY] = clnorm_items_apply,
        [CLNORM_STAGE_COPY] = clnorm_items_copy,
    }};
