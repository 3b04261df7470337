/*
 * The vector form: nodes that items left in the workspace become a channel's coefficients, whichever path made
 * them.
 */
#ifndef CLNORM_VECTOR_FINALIZE_H
#define CLNORM_VECTOR_FINALIZE_H

#include "channel.h"
#include "counter.h"

CLNORM_FN void clnorm_item_finalize(const clnorm_buffers *b, const clnorm_call *call,
                                    clnorm_ulong item) {
  clnorm_counter counter;
  counter.count = counter.depth = 0;
  for (clnorm_uint i = 0; i < call->chunks; i++)
    clnorm_counter_push(&counter, b->partials[item * call->chunks + i]);
  b->coefficients[item] = clnorm_coefficients_batch(b, call, item, clnorm_counter_result(&counter));
}

#endif
