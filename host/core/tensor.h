/* Tensors: whether they can be, how many bytes they span, whether two of them overlap. No memory, no device. */
#ifndef CLNORM_CORE_TENSOR_H
#define CLNORM_CORE_TENSOR_H

#include "call.h"
#include "status.h"

/* The product of count factors, none of them negative: false if it does not fit, which one with a factor 0
 * always does. */
bool clnorm__checked_product(const int64_t *factors, int count, int64_t *product);

/* Elements of a tensor that was checked. */
int64_t clnorm__tensor_count(const clnorm_tensor *tensor);
/* Positions: the product of the dims after N and C. */
int64_t clnorm__tensor_spatial(const clnorm_tensor *tensor);

/* Type, rank, dims, block, strides that fit, and for an output strides that do not overlap. */
clnorm_status clnorm__tensor_check(const clnorm_tensor *tensor, const char *name, bool written,
                                   clnorm_error *error);

/* One way to write each layout: block 1 where the block holds all channels; flags without meaning are 0; axes of size 1
 * have the stride 0, all of them where there are no elements. Of a tensor that was checked. */
clnorm_tensor clnorm__tensor_canonical(const clnorm_tensor *tensor);
/* The same elements in the same places. Of canonical tensors. */
bool clnorm__tensor_same(const clnorm_tensor *a, const clnorm_tensor *b);
/* Does a tensor `distance` elements after another of the same type and strides have an element in its place? Of
 * canonical tensors whose strides do not overlap by themselves. */
bool clnorm__tensors_meet(const clnorm_tensor *a, const clnorm_tensor *b, int64_t distance);

/* The views of the tensors of a call, and the extents of positions they have in common. Canonical tensors of equal
 * dims. */
void clnorm__views_make(const clnorm_tensor *const tensors[CLNORM_NUM_VIEWS], clnorm_call *call);

#endif
