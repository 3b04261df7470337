#include "place.h"

#include <string.h>

#include "halves.h"

typedef struct row {
  const char *name;
  bool channels_last;
  int64_t block, channels, columns, rows;
} row;

static const row layouts[CLNORM_NUM_LAYOUTS] = {
#define CLNORM_LAYOUT_ROW(name, text, last, block, channels, columns, rows)                        \
  {text, last, block, channels, columns, rows},
    CLNORM_LAYOUT_LIST(CLNORM_LAYOUT_ROW)
#undef CLNORM_LAYOUT_ROW
};

const char *clnorm_layout_name(clnorm_layout layout) { return layouts[layout].name; }

/* Strides are those of a larger tensor without gaps. */
void clnorm_layout_tensor(clnorm_tensor *tensor, clnorm_layout layout, int32_t dtype, int32_t rank,
                          const int64_t *dims) {
  const row *r = &layouts[layout];
  int64_t larger[CLNORM_MAX_RANK];
  memcpy(larger, dims, (size_t)rank * sizeof *dims);
  larger[1] += r->channels;
  if (rank > 2) larger[rank - 1] += r->columns;
  if (rank > 3) larger[rank - 2] += r->rows;
  if (r->channels_last)
    clnorm_tensor_nhwc(tensor, dtype, rank, larger);
  else if (r->block > 1)
    clnorm_tensor_blocked(tensor, dtype, rank, larger, r->block);
  else
    clnorm_tensor_nchw(tensor, dtype, rank, larger);
  memcpy(tensor->dims, dims, (size_t)rank * sizeof *dims);
}

/* ---- Elements -------------------------------------------------------------------------------------- */

static void store(int32_t dtype, double value, char *at) {
  if (dtype == CLNORM_F64) {
    memcpy(at, &value, sizeof value);
  } else if (dtype == CLNORM_F32) {
    const float single = (float)value;
    memcpy(at, &single, sizeof single);
  } else {
    const uint16_t bits =
        dtype == CLNORM_F16 ? clnorm_double_to_half(value) : clnorm_double_to_bfloat(value);
    memcpy(at, &bits, sizeof bits);
  }
}

static double load(int32_t dtype, const char *at) {
  uint16_t bits;
  float single;
  double value;
  if (dtype == CLNORM_F32) {
    memcpy(&single, at, sizeof single);
    return (double)single;
  }
  if (dtype == CLNORM_F64) {
    memcpy(&value, at, sizeof value);
    return value;
  }
  memcpy(&bits, at, sizeof bits);
  return (double)(dtype == CLNORM_F16 ? clnorm_half_to_float(bits) : clnorm_bfloat_to_float(bits));
}

double clnorm_rounded(int32_t dtype, double value) {
  char element[sizeof value];
  store(dtype, value, element);
  return load(dtype, element);
}

/* ---- Walking --------------------------------------------------------------------------------------- */

static int64_t spatial_of(const clnorm_tensor *t) {
  int64_t spatial = 1;
  for (int i = 2; i < t->rank; i++) spatial *= t->dims[i];
  return spatial;
}

/* Where the plane of (n, c) starts, in elements. */
static int64_t plane_at(const clnorm_tensor *t, int64_t n, int64_t c) {
  return n * t->strides[0] + c / t->channel_block * t->strides[1] + c % t->channel_block;
}

/* A stretch of a plane: the positions of its last axis, one stride apart. Rank 2 has one position. A plane
 * without gaps is one stretch. */
typedef struct stretch {
  int64_t length, stride;
} stretch;

static stretch stretch_of(const clnorm_tensor *t) {
  stretch s = {t->rank > 2 ? t->dims[t->rank - 1] : 1, t->rank > 2 ? t->strides[t->rank - 1] : 1};
  for (int i = t->rank - 2; i > 1 && t->strides[i] == s.length && s.stride == 1; i--)
    s.length *= t->dims[i];
  return s;
}

/* Where position p of a plane lies behind its first. */
static int64_t position_at(const clnorm_tensor *t, int64_t p) {
  int64_t at = 0;
  for (int i = t->rank - 1; i > 1; i--) {
    at += p % t->dims[i] * t->strides[i];
    p /= t->dims[i];
  }
  return at;
}

void clnorm_place(const clnorm_tensor *tensor, const double *values, void *memory) {
  const int64_t spatial = spatial_of(tensor);
  const int64_t size = (int64_t)clnorm_dtype_size(tensor->dtype);
  const stretch s = stretch_of(tensor);
  for (int64_t n = 0; n < tensor->dims[0]; n++)
    for (int64_t c = 0; c < tensor->dims[1]; c++)
      for (int64_t p = 0; p < spatial; p += s.length, values += s.length) {
        char *to = (char *)memory + (plane_at(tensor, n, c) + position_at(tensor, p)) * size;
        for (int64_t i = 0; i < s.length; i++)
          store(tensor->dtype, values[i], to + i * s.stride * size);
      }
}

void clnorm_unplace(const clnorm_tensor *tensor, const void *memory, double *values) {
  const int64_t spatial = spatial_of(tensor);
  const int64_t size = (int64_t)clnorm_dtype_size(tensor->dtype);
  const stretch s = stretch_of(tensor);
  for (int64_t n = 0; n < tensor->dims[0]; n++)
    for (int64_t c = 0; c < tensor->dims[1]; c++)
      for (int64_t p = 0; p < spatial; p += s.length, values += s.length) {
        const char *from =
            (const char *)memory + (plane_at(tensor, n, c) + position_at(tensor, p)) * size;
        for (int64_t i = 0; i < s.length; i++)
          values[i] = load(tensor->dtype, from + i * s.stride * size);
      }
}

/* Channels that have memory of the tensor's own. */
static int64_t owned_channels(const clnorm_tensor *t) {
  const int64_t block = t->channel_block, blocks = (t->dims[1] + block - 1) / block;
  return t->flags & CLNORM_TENSOR_OWNS_TAIL ? blocks * block : t->dims[1];
}

void clnorm_place_again(const clnorm_tensor *tensor, const void *from, void *to) {
  const int64_t spatial = spatial_of(tensor), channels = owned_channels(tensor);
  const size_t size = clnorm_dtype_size(tensor->dtype);
  const stretch s = stretch_of(tensor);
  for (int64_t n = 0; n < tensor->dims[0]; n++)
    for (int64_t c = 0; c < channels; c++)
      for (int64_t p = 0; p < spatial; p += s.length) {
        const size_t at = (size_t)(plane_at(tensor, n, c) + position_at(tensor, p)) * size;
        const size_t step = (size_t)s.stride * size;
        if (s.stride == 1)
          memcpy((char *)to + at, (const char *)from + at, (size_t)s.length * size);
        for (size_t i = 0; i < (size_t)s.length && s.stride != 1; i++)
          memcpy((char *)to + at + i * step, (const char *)from + at + i * step, size);
      }
}

bool clnorm_tail_is_zero(const clnorm_tensor *tensor, const void *memory) {
  static const unsigned char zero[8];
  const int64_t spatial = spatial_of(tensor), channels = owned_channels(tensor);
  const size_t size = clnorm_dtype_size(tensor->dtype);
  for (int64_t n = 0; n < tensor->dims[0]; n++)
    for (int64_t c = tensor->dims[1]; c < channels; c++)
      for (int64_t p = 0; p < spatial; p++) {
        const size_t at = (size_t)(plane_at(tensor, n, c) + position_at(tensor, p)) * size;
        if (memcmp((const char *)memory + at, zero, size) != 0) return false;
      }
  return true;
}
