#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "messages.h"
#include "outputs.h"
#include "run.h"

const char *const clnorm_run_parameter_options[CLNORM_RUN_PARAMETERS] = {
    "--weight", "--bias", "--running-mean", "--running-var"};

clnorm_npy_type clnorm_run_npy_type(int32_t dtype) {
  static const clnorm_npy_type types[] = {[CLNORM_F32] = CLNORM_NPY_F32,
                                          [CLNORM_F16] = CLNORM_NPY_F16,
                                          [CLNORM_BF16] = CLNORM_NPY_BF16,
                                          [CLNORM_F64] = CLNORM_NPY_F64};
  return types[dtype];
}

int32_t clnorm_run_dtype(clnorm_npy_type type) {
  int32_t dtype = CLNORM_F32;
  while (clnorm_run_npy_type(dtype) != type) dtype++;
  return dtype;
}

void clnorm_run_print_dims(const clnorm_npy *array, char *text, size_t size) {
  size_t n = (size_t)snprintf(text, size, "(");
  for (int d = 0; d < array->ndim && n < size; d++)
    n += (size_t)snprintf(text + n, size - n, "%" PRId64 "%s", array->dims[d],
                          d + 1 < array->ndim ? ","
                          : array->ndim == 1  ? ",)"
                                              : ")");
  if (array->ndim == 0) snprintf(text, size, "()");
}

int64_t clnorm_run_channels(const clnorm_run_inputs *in) { return in->x_tensor.dims[1]; }

clnorm_tensor clnorm_run_output(const clnorm_run_inputs *in, clnorm_output output) {
  const int64_t dims[2] = {1, clnorm_run_channels(in)};
  clnorm_tensor tensor = in->y_tensor;
  if (output != CLNORM_OUTPUT_Y) clnorm_tensor_nchw(&tensor, in->real, 2, dims);
  return tensor;
}

/* (C,) or (1,C,1,1); per activation (K,) or a sample's shape. */
static bool fits_channels(const clnorm_run_request *o, const clnorm_run_inputs *in,
                          const clnorm_npy *array) {
  const int64_t channels = clnorm_run_channels(in);
  if (array->ndim == 1) return array->dims[0] == channels;
  if (o->per_activation)
    return array->ndim == in->x.ndim - 1 &&
           memcmp(array->dims, in->x.dims + 1, (size_t)array->ndim * sizeof *array->dims) == 0;
  return array->ndim == 4 && array->dims[0] == 1 && array->dims[1] == channels &&
         array->dims[2] == 1 && array->dims[3] == 1;
}

static bool read_parameter(const clnorm_run_request *o, int p, clnorm_run_inputs *in) {
  const char *option = clnorm_run_parameter_options[p], *path = clnorm_input_path(o->parameters[p]);
  const int64_t channels = clnorm_run_channels(in);
  clnorm_npy *array = &in->parameters[p];
  clnorm_message message;
  if (!clnorm_npy_read(o->parameters[p], CLNORM_NPY_F32 | CLNORM_NPY_F64, array, &message) ||
      !clnorm_npy_convert(array, clnorm_run_npy_type(in->real), &message)) {
    clnorm_complain("%s %s: %s", option, path, message.text);
    return false;
  }
  if (fits_channels(o, in, array)) return true;
  char shape[512];
  clnorm_run_print_dims(array, shape, sizeof shape);
  if (o->per_activation)
    clnorm_complain("%s %s: shape is %s, but must be (%" PRId64 ",) or that of a sample of %" PRId64
                    " values",
                    option, path, shape, channels, channels);
  else
    clnorm_complain("%s %s: shape is %s, but must be (%" PRId64 ",) or (1,%" PRId64
                    ",1,1) for an input of %" PRId64 " channels",
                    option, path, shape, channels, channels, channels);
  return false;
}

/* The memory of x as a tensor of the library; nothing is moved. False: the sizes overflow. */
static bool describe_x(const clnorm_run_request *o, clnorm_run_inputs *in) {
  const clnorm_npy *x = &in->x;
  int64_t dims[CLNORM_MAX_RANK] = {x->dims[0], 1};
  int rank = x->ndim;
  if (o->per_activation) {
    for (int d = 1; d < rank; d++)
      if (__builtin_mul_overflow(dims[1], x->dims[d], &dims[1])) return false;
    rank = 2;
  } else {
    for (int d = 1; d < rank; d++)
      dims[o->layout == CLNORM_RUN_NCHW ? d : d + 1 < rank ? d + 1 : 1] = x->dims[d];
  }
  if (o->layout == CLNORM_RUN_NHWC && !o->per_activation)
    clnorm_tensor_nhwc(&in->x_tensor, clnorm_run_dtype(x->type), rank, dims);
  else
    clnorm_tensor_nchw(&in->x_tensor, clnorm_run_dtype(x->type), rank, dims);
  in->y_tensor = in->x_tensor;
  if (o->dtype != CLNORM_RUN_DTYPE_OF_X) in->y_tensor.dtype = o->dtype;
  in->real = x->type == CLNORM_NPY_F64 ? CLNORM_F64 : CLNORM_F32;
  return true;
}

int clnorm_run_read_tensor(const clnorm_run_request *o, const char *path, clnorm_npy *array) {
  const unsigned halves =
      CLNORM_NPY_F16 | (o->dtype == CLNORM_BF16 ? (unsigned)CLNORM_NPY_BF16 : 0u);
  clnorm_message message;
  if (clnorm_npy_read(path, halves | CLNORM_NPY_F32 | CLNORM_NPY_F64, array, &message))
    return CLNORM_EXIT_GOOD;
  clnorm_complain("%s: %s", clnorm_input_path(path), message.text);
  return CLNORM_EXIT_USAGE;
}

int clnorm_run_read(const clnorm_run_request *o, const char *path, clnorm_run_inputs *in) {
  char shape[512];
  in->path = clnorm_input_path(path);
  const int status = clnorm_run_read_tensor(o, path, &in->x);
  if (status) return status;
  clnorm_run_print_dims(&in->x, shape, sizeof shape);
  if (in->x.ndim < 2 || in->x.ndim > CLNORM_MAX_RANK) {
    clnorm_complain("%s: expected 2D to 5D input (got %dD input): shape is %s", in->path,
                    in->x.ndim, shape);
    return CLNORM_EXIT_USAGE;
  }
  if (!describe_x(o, in)) {
    clnorm_complain("%s: a sample of shape %s has more values than 63 bits count", in->path, shape);
    return CLNORM_EXIT_USAGE;
  }
  if (clnorm_run_channels(in) == 0) {
    clnorm_complain("%s: shape is %s, without %s: a module has at least one channel", in->path,
                    shape, o->per_activation ? "a value in a sample" : "channels");
    return CLNORM_EXIT_USAGE;
  }
  for (int p = 0; p < CLNORM_RUN_PARAMETERS; p++)
    if (o->parameters[p] && !read_parameter(o, p, in)) return CLNORM_EXIT_USAGE;
  return CLNORM_EXIT_GOOD;
}

void clnorm_run_inputs_free(clnorm_run_inputs *in) {
  clnorm_npy_free(&in->x);
  for (int p = 0; p < CLNORM_RUN_PARAMETERS; p++) clnorm_npy_free(&in->parameters[p]);
}
