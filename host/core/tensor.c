#include "tensor.h"

#include <inttypes.h>
#include <string.h>

_Static_assert(CLNORM_STORAGE_F32 == CLNORM_F32 && CLNORM_STORAGE_F16 == CLNORM_F16 &&
                   CLNORM_STORAGE_BF16 == CLNORM_BF16 && CLNORM_STORAGE_F64 == CLNORM_F64,
               "kernels number types as the interface does");

static const struct {
  const char *name;
  size_t size;
} dtypes[] = {
    [CLNORM_F32] = {"f32", 4},
    [CLNORM_F16] = {"f16", 2},
    [CLNORM_BF16] = {"bf16", 2},
    [CLNORM_F64] = {"f64", 8},
};
enum { NUM_DTYPES = sizeof dtypes / sizeof *dtypes, MAX_AXES = CLNORM_MAX_RANK + 1 };

size_t clnorm_dtype_size(int32_t dtype) {
  return dtype >= 0 && dtype < NUM_DTYPES ? dtypes[dtype].size : 0;
}

const char *clnorm_dtype_name(int32_t dtype) {
  return dtype >= 0 && dtype < NUM_DTYPES ? dtypes[dtype].name : "unknown";
}

bool clnorm__checked_product(const int64_t *factors, int count, int64_t *product) {
  int64_t result = 1;
  bool fits = true, zero = false;
  for (int i = 0; i < count; i++) {
    fits = !__builtin_mul_overflow(result, factors[i], &result) && fits;
    zero = zero || factors[i] == 0;
  }
  if (!fits && !zero) return false;
  *product = zero ? 0 : result;
  return true;
}

int64_t clnorm__tensor_count(const clnorm_tensor *tensor) {
  int64_t count = 0;
  clnorm__checked_product(tensor->dims, tensor->rank, &count);
  return count;
}

int64_t clnorm__tensor_spatial(const clnorm_tensor *tensor) {
  int64_t spatial = 1;
  clnorm__checked_product(tensor->dims + 2, tensor->rank - 2, &spatial);
  return spatial;
}

/* ---- Layouts without gaps -------------------------------------------------------------------------- */

/* Sizes that overflow are found by their dims when a plan is made; here they only must not trap. */
static int64_t wrapping_product(int64_t a, int64_t b) {
  return (int64_t)((uint64_t)a * (uint64_t)b);
}

static bool start(clnorm_tensor *tensor, int32_t dtype, int32_t rank, const int64_t *dims) {
  if (!tensor) return false;
  memset(tensor, 0, sizeof *tensor);
  tensor->dtype = dtype;
  tensor->rank = rank;
  tensor->channel_block = 1;
  if (!dims || rank < 2 || rank > CLNORM_MAX_RANK) return false;
  memcpy(tensor->dims, dims, (size_t)rank * sizeof *dims);
  return true;
}

/* Strides of the positions, the last one `step` from the next; what a plane takes. */
static int64_t fill_positions(clnorm_tensor *tensor, int64_t step) {
  for (int i = tensor->rank - 1; i > 1; i--) {
    tensor->strides[i] = step;
    step = wrapping_product(step, tensor->dims[i]);
  }
  return step;
}

void clnorm_tensor_nchw(clnorm_tensor *tensor, int32_t dtype, int32_t rank, const int64_t *dims) {
  clnorm_tensor_blocked(tensor, dtype, rank, dims, 1);
  if (tensor) tensor->flags = 0;
}

void clnorm_tensor_nhwc(clnorm_tensor *tensor, int32_t dtype, int32_t rank, const int64_t *dims) {
  if (!start(tensor, dtype, rank, dims)) return;
  tensor->strides[1] = 1;
  tensor->strides[0] = fill_positions(tensor, dims[1]);
}

void clnorm_tensor_blocked(clnorm_tensor *tensor, int32_t dtype, int32_t rank, const int64_t *dims,
                           int64_t channel_block) {
  if (!start(tensor, dtype, rank, dims)) return;
  tensor->channel_block = channel_block;
  tensor->flags = CLNORM_TENSOR_OWNS_TAIL;
  if (channel_block < 1) return;
  const int64_t blocks = dims[1] / channel_block + (dims[1] % channel_block != 0);
  tensor->strides[1] = fill_positions(tensor, channel_block);
  tensor->strides[0] = wrapping_product(tensor->strides[1], blocks);
}

/* ---- Axes in memory -------------------------------------------------------------------------------- */

/* The axes of a tensor in memory: its own, with the channels as blocks and as what is inside one. */
typedef struct axes {
  int64_t size[MAX_AXES], stride[MAX_AXES];
} axes;

static axes axes_of(const clnorm_tensor *t) {
  axes a;
  memset(&a, 0, sizeof a);
  const int64_t block = t->channel_block, channels = t->dims[1];
  for (int i = 0; i < CLNORM_MAX_RANK; i++) {
    a.size[i] = i < t->rank ? t->dims[i] : 1;
    a.stride[i] = i < t->rank ? t->strides[i] : 0;
  }
  a.size[1] = channels / block + (channels % block != 0);
  a.size[MAX_AXES - 1] =
      channels < block && !(t->flags & CLNORM_TENSOR_OWNS_TAIL) ? channels : block;
  a.stride[MAX_AXES - 1] = 1;
  return a;
}

/* From the first element to behind the last one; false where that does not fit. 0: there are no elements. */
static bool extent_of(const clnorm_tensor *tensor, int64_t *extent) {
  const axes a = axes_of(tensor);
  *extent = 1;
  for (int i = 0; i < MAX_AXES; i++)
    if (a.size[i] == 0) {
      *extent = 0;
      return true;
    }
  for (int i = 0; i < MAX_AXES; i++) {
    int64_t step;
    if (__builtin_mul_overflow(a.size[i] - 1, a.stride[i], &step) ||
        __builtin_add_overflow(*extent, step, extent))
      return false;
  }
  return true;
}

uint64_t clnorm_tensor_bytes(const clnorm_tensor *tensor) {
  clnorm_error silent = {{""}, NULL, NULL};
  int64_t extent = 0;
  if (!tensor || clnorm__tensor_check(tensor, "tensor", false, &silent) != CLNORM_OK) return 0;
  return extent_of(tensor, &extent) ? (uint64_t)extent * clnorm_dtype_size(tensor->dtype) : 0;
}

/* Axes by falling stride; those of one element are out of the way. */
static int sort_axes(axes *a) {
  int count = 0;
  for (int i = 0; i < MAX_AXES; i++) {
    if (a->size[i] == 1) continue;
    const int64_t size = a->size[i], stride = a->stride[i];
    int at = count++;
    for (; at > 0 && a->stride[at - 1] < stride; at--) {
      a->size[at] = a->size[at - 1];
      a->stride[at] = a->stride[at - 1];
    }
    a->size[at] = size;
    a->stride[at] = stride;
  }
  return count;
}

/* ---- Checks ---------------------------------------------------------------------------------------- */

static clnorm_status check_type(const clnorm_tensor *t, const char *name, clnorm_error *error) {
  if (!clnorm_dtype_size(t->dtype))
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s.dtype is %" PRId32 ", but must be in [0, %d]", name, t->dtype,
                        NUM_DTYPES - 1);
  if (t->rank < 2 || t->rank > CLNORM_MAX_RANK)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s.rank is %" PRId32 ", but must be in [2, %d]", name, t->rank,
                        CLNORM_MAX_RANK);
  if (t->channel_block < 1 || t->channel_block > INT32_MAX)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s.channel_block is %" PRId64 ", but must be in [1, 2^31)", name,
                        t->channel_block);
  if (t->flags & ~CLNORM_TENSOR_OWNS_TAIL || t->reserved)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s has flags 0x%" PRIx32 " and reserved %" PRIu32
                        ", but only CLNORM_TENSOR_OWNS_TAIL is known",
                        name, t->flags, t->reserved);
  return CLNORM_OK;
}

static clnorm_status check_dims(const clnorm_tensor *t, const char *name, clnorm_error *error) {
  int64_t factors[CLNORM_MAX_RANK + 1], bytes;
  for (int i = 0; i < t->rank; i++) {
    factors[i] = t->dims[i];
    if (t->dims[i] < 0)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s.dims[%d] is %" PRId64 ", but must not be negative", name, i,
                          t->dims[i]);
  }
  factors[t->rank] = (int64_t)clnorm_dtype_size(t->dtype);
  if (!clnorm__checked_product(factors, t->rank + 1, &bytes) || (uint64_t)bytes > SIZE_MAX / 2)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "%s has %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64
                        " elements: more bytes than fit in 63 bits",
                        name, t->dims[0], t->dims[1], t->rank > 2 ? t->dims[2] : 1,
                        t->rank > 3 ? t->dims[3] : 1, t->rank > 4 ? t->dims[4] : 1);
  /* Where there are no elements strides have no meaning. */
  for (int i = 0; i < t->rank && bytes; i++)
    if (t->strides[i] < 0)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s.strides[%d] is %" PRId64 ", but must not be negative", name, i,
                          t->strides[i]);
  /* Segments of a channel are counted in 32 bits. */
  const int64_t spatial = clnorm__tensor_spatial(t);
  if (bytes && t->dims[0] > (INT64_C(1) << 40) / spatial)
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "a channel of %s has %" PRId64 " x %" PRId64
                        " values, but at most 2^40 are supported",
                        name, t->dims[0], spatial);
  return CLNORM_OK;
}

/* Sorted by size, each stride is at least the extent of all smaller ones. */
static clnorm_status check_overlap(const clnorm_tensor *t, const char *name, clnorm_error *error) {
  axes a = axes_of(t);
  const int count = sort_axes(&a);
  int64_t extent = 1;
  for (int i = count - 1; i >= 0; i--) {
    if (a.stride[i] < extent)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s is written, but its elements overlap: %" PRId64
                          " neighbours are %" PRId64 " elements apart, and %" PRId64
                          " elements lie between them",
                          name, a.size[i], a.stride[i], extent);
    extent += (a.size[i] - 1) * a.stride[i];
  }
  return CLNORM_OK;
}

clnorm_status clnorm__tensor_check(const clnorm_tensor *tensor, const char *name, bool written,
                                   clnorm_error *error) {
  clnorm_status status = check_type(tensor, name, error);
  if (status == CLNORM_OK) status = check_dims(tensor, name, error);
  if (status != CLNORM_OK) return status;
  int64_t extent;
  if (!extent_of(tensor, &extent) ||
      (uint64_t)extent > SIZE_MAX / 2 / clnorm_dtype_size(tensor->dtype))
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "%s has strides (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
                        ", %" PRId64 "): its end does not fit in 63 bits of bytes",
                        name, tensor->strides[0], tensor->strides[1], tensor->strides[2],
                        tensor->strides[3], tensor->strides[4]);
  return written && extent ? check_overlap(tensor, name, error) : CLNORM_OK;
}

/* ---- Canonical tensors ------------------------------------------------------------------------------ */

clnorm_tensor clnorm__tensor_canonical(const clnorm_tensor *tensor) {
  clnorm_tensor t = *tensor;
  const bool empty = clnorm__tensor_count(tensor) == 0, tail = t.dims[1] % t.channel_block != 0;
  if (!tail) t.flags &= ~CLNORM_TENSOR_OWNS_TAIL;
  if (t.channel_block > 1 && t.channel_block >= t.dims[1] && !(t.flags & CLNORM_TENSOR_OWNS_TAIL)) {
    t.channel_block = 1;
    t.strides[1] = 1;
  }
  for (int i = 0; i < CLNORM_MAX_RANK; i++) {
    const int64_t size = i >= t.rank ? 1
                         : i == 1    ? (t.dims[1] - 1) / t.channel_block + 1
                                     : t.dims[i];
    if (size == 1 || empty) t.strides[i] = 0;
    if (i >= t.rank) t.dims[i] = 1;
  }
  return t;
}

bool clnorm__tensor_same(const clnorm_tensor *a, const clnorm_tensor *b) {
  return a->dtype == b->dtype && a->channel_block == b->channel_block &&
         memcmp(a->dims, b->dims, sizeof a->dims) == 0 &&
         memcmp(a->strides, b->strides, sizeof a->strides) == 0;
}

/* Is there one vector of index differences, each smaller than its axis, that leads to `distance`? Strides are at least
 * the extent of what is below them, so that at each axis there are two candidates. */
static bool meets(const axes *a, int at, int count, int64_t distance) {
  if (at >= count || at == MAX_AXES) return distance == 0;
  const int64_t nearest = distance / a->stride[at];
  for (int64_t k = nearest - 1; k <= nearest + 1; k++) {
    if (k <= -a->size[at] || k >= a->size[at]) continue;
    if (meets(a, at + 1, count, distance - k * a->stride[at])) return true;
  }
  return false;
}

bool clnorm__tensors_meet(const clnorm_tensor *a, const clnorm_tensor *b, int64_t distance) {
  axes sizes = axes_of(a);
  const axes other = axes_of(b);
  for (int i = 0; i < MAX_AXES; i++)
    if (other.size[i] > sizes.size[i]) sizes.size[i] = other.size[i];
  const int count = sort_axes(&sizes);
  return meets(&sizes, 0, count, distance);
}

/* ---- Views ------------------------------------------------------------------------------------------ */

/* Do the positions of axis i follow those of the next axis that has several, in every tensor? */
static bool follows(const clnorm_tensor *const tensors[CLNORM_NUM_VIEWS], int i, int next) {
  for (int k = 0; k < CLNORM_NUM_VIEWS; k++) {
    int64_t plane;
    if (__builtin_mul_overflow(tensors[k]->strides[next], tensors[k]->dims[next], &plane) ||
        tensors[k]->strides[i] != plane)
      return false;
  }
  return true;
}

/* The axes of positions, inner ones first, where those that follow each other in all tensors are one: the size of each,
 * and the tensor's axis that has its stride. */
static int collapse(const clnorm_tensor *const tensors[CLNORM_NUM_VIEWS], int64_t sizes[3],
                    int axis[3]) {
  int count = 0, outermost = 0;
  for (int i = CLNORM_MAX_RANK - 1; i > 1; i--) {
    const int64_t size = tensors[0]->dims[i];
    if (size == 1) continue;
    if (count && follows(tensors, i, outermost)) {
      sizes[count - 1] *= size;
    } else {
      sizes[count] = size;
      axis[count++] = i;
    }
    outermost = i;
  }
  return count;
}

void clnorm__views_make(const clnorm_tensor *const tensors[CLNORM_NUM_VIEWS], clnorm_call *call) {
  int64_t sizes[3] = {1, 1, 1};
  int axis[3] = {0, 0, 0};
  const int count = collapse(tensors, sizes, axis);
  call->batch = (uint64_t)tensors[0]->dims[0];
  call->channels = (uint64_t)tensors[0]->dims[1];
  call->spatial = (uint64_t)clnorm__tensor_spatial(tensors[0]);
  call->extent[0] = (uint64_t)sizes[1];
  call->extent[1] = (uint64_t)sizes[0];
  for (int k = 0; k < CLNORM_NUM_VIEWS; k++) {
    clnorm_view *view = &call->views[k];
    const clnorm_tensor *t = tensors[k];
    view->sample = (uint64_t)t->strides[0];
    view->channel = (uint64_t)t->strides[1];
    view->block = (uint32_t)t->channel_block;
    view->storage = (uint32_t)t->dtype;
    for (int i = 0; i < 3; i++)
      view->position[2 - i] = i < count ? (uint64_t)t->strides[axis[i]] : 0;
    if (!count) view->position[2] = 1;
    /* what no element needs, as in a tensor without gaps */
    if (t->dims[0] == 1) view->sample = call->channels * call->spatial;
    if (t->dims[1] == 1 && t->channel_block == 1) view->channel = call->spatial;
  }
}
