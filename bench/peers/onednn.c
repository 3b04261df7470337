/*
 * oneDNN as a contestant, through its C API.
 *   target   path of libdnnl.so. It is loaded by path, so that two versions can be there side by
 *            side; this file is compiled against the headers of the same version.
 *   option   none
 *
 * It works in the caller's memory. oneDNN has no running statistics: training leaves the mean and the variance
 * of the batch.
 */
#include <dlfcn.h>
#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define FUNCTIONS(X)                                                                               \
  X(dnnl_engine_create)                                                                            \
  X(dnnl_engine_destroy)                                                                           \
  X(dnnl_stream_create)                                                                            \
  X(dnnl_stream_destroy)                                                                           \
  X(dnnl_stream_wait)                                                                              \
  X(dnnl_memory_desc_create_with_tag)                                                              \
  X(dnnl_memory_desc_destroy)                                                                      \
  X(dnnl_memory_create)                                                                            \
  X(dnnl_memory_destroy)                                                                           \
  X(dnnl_batch_normalization_forward_primitive_desc_create)                                        \
  X(dnnl_primitive_desc_destroy)                                                                   \
  X(dnnl_primitive_desc_query)                                                                     \
  X(dnnl_primitive_create)                                                                         \
  X(dnnl_primitive_execute)                                                                        \
  X(dnnl_primitive_destroy)                                                                        \
  X(dnnl_version)

typedef struct api {
#define MEMBER(name) __typeof__(&name) name;
  FUNCTIONS(MEMBER)
#undef MEMBER
} api;

enum { NUM_ARGS = 6 };

struct peer {
  api call;
  void *library;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  /* what is prepared */
  int training;
  int64_t channels;
  double eps;
  dnnl_memory_desc_t tensor, vector; /* x and y; (C) */
  dnnl_primitive_desc_t primitive_desc;
  dnnl_primitive_t primitive;
  dnnl_exec_arg_t args[NUM_ARGS];
  int num_args;
  void *x, *y;
  size_t tensor_bytes;
  float *invstd; /* of the caller; oneDNN leaves the variance there until peer_fetch */
  char text[PEER_TEXT];
};

static int failed(char *why, const char *what, dnnl_status_t status) {
  if (status == dnnl_unimplemented) return peer_fail(why, what, "not implemented");
  char detail[64];
  snprintf(detail, sizeof(detail), "oneDNN status %d", (int)status);
  return peer_fail(why, what, detail);
}

/* Returns 0 from the enclosing function, with a reason, if the call fails. */
#define TRY(name, ...)                                                                             \
  do {                                                                                             \
    const dnnl_status_t status_ = self->call.name(__VA_ARGS__);                                    \
    if (status_ != dnnl_success) return failed(why, #name, status_);                               \
  } while (0)

static int load(peer *self, const char *path, char *why) {
  self->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!self->library) return peer_fail(why, "oneDNN", dlerror());
#define LOAD(name)                                                                                 \
  *(void **)&self->call.name = dlsym(self->library, #name);                                        \
  if (!self->call.name) return peer_fail(why, path, "has no " #name);
  FUNCTIONS(LOAD)
#undef LOAD
  return 1;
}

static int start(peer *self, char *why) {
  TRY(dnnl_engine_create, &self->engine, dnnl_cpu, 0);
  TRY(dnnl_stream_create, &self->stream, self->engine, dnnl_stream_default_flags);
  const dnnl_version_t *version = self->call.dnnl_version();
  const unsigned runtime = version->cpu_runtime;
  snprintf(self->text, sizeof(self->text), "oneDNN %d.%d.%d, %s", version->major, version->minor,
           version->patch,
           runtime == DNNL_RUNTIME_OMP    ? "OpenMP"
           : runtime == DNNL_RUNTIME_TBB  ? "TBB"
           : runtime == DNNL_RUNTIME_SYCL ? "SYCL over TBB"
                                          : "other threads");
  return 1;
}

peer *peer_open(const char *target, const char *option, int threads, char *why) {
  (void)option;
  (void)threads; /* the environment has told oneDNN's threads already */
  peer *self = calloc(1, sizeof(*self));
  if (!self) return peer_fail(why, "oneDNN", "no memory"), NULL;
  if (load(self, target, why) && start(self, why)) return self;
  peer_close(self);
  return NULL;
}

const char *peer_description(const peer *self) { return self->text; }

void peer_drop(peer *self) {
  for (int i = 0; i < self->num_args; i++) self->call.dnnl_memory_destroy(self->args[i].memory);
  self->num_args = 0;
  if (self->primitive) self->call.dnnl_primitive_destroy(self->primitive);
  if (self->primitive_desc) self->call.dnnl_primitive_desc_destroy(self->primitive_desc);
  dnnl_memory_desc_t *const descs[] = {&self->tensor, &self->vector};
  for (int i = 0; i < 2; i++) {
    if (*descs[i]) self->call.dnnl_memory_desc_destroy(*descs[i]);
    *descs[i] = NULL;
  }
  self->primitive = NULL;
  self->primitive_desc = NULL;
}

/* The library stays loaded: its threads may not outlive it. */
void peer_close(peer *self) {
  if (!self) return;
  if (self->engine) peer_drop(self);
  if (self->stream) self->call.dnnl_stream_destroy(self->stream);
  if (self->engine) self->call.dnnl_engine_destroy(self->engine);
  free(self);
}

static int add(peer *self, int name, dnnl_memory_desc_t desc, void *data, char *why) {
  dnnl_exec_arg_t *arg = &self->args[self->num_args];
  arg->arg = name;
  TRY(dnnl_memory_create, &arg->memory, desc, self->engine, data);
  self->num_args++;
  return 1;
}

static int find_tag(const char *layout, dnnl_format_tag_t *tag) {
  static const struct {
    const char *name;
    dnnl_format_tag_t tag;
  } layouts[] = {
      {"nchw", dnnl_abcd}, {"nhwc", dnnl_acdb}, {"nchw8c", dnnl_aBcd8b}, {"nchw16c", dnnl_aBcd16b}};
  for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
    if (strcmp(layout, layouts[i].name) == 0) return *tag = layouts[i].tag, 1;
  return 0;
}

static int find_type(const char *dtype, dnnl_data_type_t *type) {
  static const struct {
    const char *name;
    dnnl_data_type_t type;
  } types[] = {{"f32", dnnl_f32}, {"f16", dnnl_f16}, {"bf16", dnnl_bf16}};
  for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
    if (strcmp(dtype, types[i].name) == 0) return *type = types[i].type, 1;
  return 0;
}

static int make_primitive(peer *self, const peer_case *wanted, char *why) {
  const dnnl_dims_t shape = {wanted->dims[0], wanted->dims[1], wanted->dims[2], wanted->dims[3]};
  const dnnl_dims_t channels = {wanted->dims[1]};
  const unsigned flags = dnnl_use_scale | dnnl_use_shift;
  dnnl_format_tag_t tag;
  dnnl_data_type_t type;
  if (!find_tag(wanted->layout, &tag)) return peer_fail(why, "no such layout", wanted->layout);
  if (!find_type(wanted->dtype, &type)) return peer_fail(why, "no such type", wanted->dtype);
  TRY(dnnl_memory_desc_create_with_tag, &self->tensor, 4, shape, type, tag);
  TRY(dnnl_memory_desc_create_with_tag, &self->vector, 1, channels, dnnl_f32, dnnl_a);
  TRY(dnnl_batch_normalization_forward_primitive_desc_create, &self->primitive_desc, self->engine,
      wanted->training ? dnnl_forward_training : dnnl_forward_inference, self->tensor, self->tensor,
      (float)wanted->eps, wanted->training ? flags : flags | dnnl_use_global_stats, NULL);
  TRY(dnnl_primitive_create, &self->primitive, self->primitive_desc);
  return 1;
}

int peer_prepare(peer *self, const peer_case *wanted, void *const operands[PEER_OPERANDS],
                 char *why) {
  peer_drop(self);
  self->training = wanted->training;
  self->channels = wanted->dims[1];
  self->eps = wanted->eps;
  self->tensor_bytes = peer_tensor_bytes(wanted);
  self->x = operands[PEER_X];
  self->y = operands[PEER_Y];
  self->invstd = operands[PEER_INVSTD];
  const int mean = wanted->training ? PEER_MEAN : PEER_RUNNING_MEAN;
  const int variance = wanted->training ? PEER_INVSTD : PEER_RUNNING_VAR;
  return make_primitive(self, wanted, why) && add(self, DNNL_ARG_SRC, self->tensor, self->x, why) &&
         add(self, DNNL_ARG_DST, self->tensor, self->y, why) &&
         add(self, DNNL_ARG_SCALE, self->vector, operands[PEER_WEIGHT], why) &&
         add(self, DNNL_ARG_SHIFT, self->vector, operands[PEER_BIAS], why) &&
         add(self, DNNL_ARG_MEAN, self->vector, operands[mean], why) &&
         add(self, DNNL_ARG_VARIANCE, self->vector, operands[variance], why);
}

const char *peer_kernel(const peer *self) {
  const char *text = "";
  self->call.dnnl_primitive_desc_query(self->primitive_desc, dnnl_query_impl_info_str, 0, &text);
  return text;
}

double peer_time(peer *self, long calls, char *why) {
  const double begin = peer_now();
  for (long i = 0; i < calls; i++) {
    dnnl_status_t status = self->call.dnnl_primitive_execute(self->primitive, self->stream,
                                                             self->num_args, self->args);
    if (status == dnnl_success) status = self->call.dnnl_stream_wait(self->stream);
    if (status != dnnl_success) return failed(why, "batch normalization", status), -1;
  }
  return peer_now() - begin;
}

void *peer_map(peer *self, int operand, size_t *bytes, char *why) {
  (void)why;
  *bytes = self->tensor_bytes;
  return operand == PEER_X ? self->x : self->y;
}

int peer_unmap(peer *self, char *why) {
  (void)self;
  (void)why;
  return 1;
}

int peer_fetch(peer *self, char *why) {
  (void)why;
  for (int64_t c = 0; self->training && c < self->channels; c++)
    self->invstd[c] = (float)(1 / sqrt((double)self->invstd[c] + self->eps));
  return 1;
}
