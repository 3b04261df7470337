/*
 * oneDNN as a contestant, through its C API.
 *   target   path of libdnnl.so. It is loaded by path, so that two versions can be there side by
 *            side; this file is compiled against the headers of the same version.
 *   option   layout of x and y: "nchw" (the caller's memory), "blocked8", "blocked16" (own memory)
 *
 * oneDNN has no running statistics: training leaves the mean and the variance of the batch.
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
  X(dnnl_memory_desc_get_size)                                                                     \
  X(dnnl_memory_create)                                                                            \
  X(dnnl_memory_destroy)                                                                           \
  X(dnnl_batch_normalization_forward_primitive_desc_create)                                        \
  X(dnnl_reorder_primitive_desc_create)                                                            \
  X(dnnl_primitive_desc_destroy)                                                                   \
  X(dnnl_primitive_create)                                                                         \
  X(dnnl_primitive_execute)                                                                        \
  X(dnnl_primitive_destroy)                                                                        \
  X(dnnl_version)

typedef struct api {
#define MEMBER(name) __typeof__(&name) name;
  FUNCTIONS(MEMBER)
#undef MEMBER
} api;

enum { NUM_ARGS = 7 };

struct peer {
  api call;
  void *library;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_format_tag_t tag;
  const char *layout;
  /* what is prepared */
  dnnl_memory_desc_t plain, tensor, vector; /* NCHW, the layout under test, (C) */
  dnnl_primitive_desc_t primitive_desc;
  dnnl_primitive_t primitive;
  dnnl_exec_arg_t args[NUM_ARGS];
  int num_args;
  void *own_x, *own_y; /* blocked layouts; else NULL */
  void *x, *y;         /* where they are, in the layout under test */
  size_t elements;     /* padded channels included */
  dnnl_memory_t plain_y;
  int training;
  int64_t channels;
  double eps;
  float *mean, *invstd; /* of the caller; oneDNN leaves the variance in invstd until peer_fetch */
  char text[PEER_TEXT];
};

static int failed(char *why, const char *what, dnnl_status_t status) {
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

static int choose_layout(peer *self, const char *layout, char *why) {
  static const struct {
    const char *name, *text;
    dnnl_format_tag_t tag;
  } layouts[] = {{"nchw", "NCHW", dnnl_abcd},
                 {"blocked8", "nChw8c", dnnl_aBcd8b},
                 {"blocked16", "nChw16c", dnnl_aBcd16b}};
  for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
    if (strcmp(layout, layouts[i].name)) continue;
    self->tag = layouts[i].tag;
    self->layout = layouts[i].text;
    return 1;
  }
  return peer_fail(why, "unknown layout", layout);
}

static int start(peer *self, char *why) {
  TRY(dnnl_engine_create, &self->engine, dnnl_cpu, 0);
  TRY(dnnl_stream_create, &self->stream, self->engine, dnnl_stream_default_flags);
  const dnnl_version_t *version = self->call.dnnl_version();
  const unsigned runtime = version->cpu_runtime;
  snprintf(self->text, sizeof(self->text), "oneDNN %d.%d.%d, %s, %s", version->major,
           version->minor, version->patch,
           runtime == DNNL_RUNTIME_OMP    ? "OpenMP"
           : runtime == DNNL_RUNTIME_TBB  ? "TBB"
           : runtime == DNNL_RUNTIME_SYCL ? "SYCL over TBB"
                                          : "other threads",
           self->layout);
  return 1;
}

peer *peer_open(const char *target, const char *option, int threads, char *why) {
  (void)threads; /* the environment has told oneDNN's threads already */
  peer *self = calloc(1, sizeof(*self));
  if (!self) return peer_fail(why, "oneDNN", "no memory"), NULL;
  if (choose_layout(self, option, why) && load(self, target, why) && start(self, why)) return self;
  peer_close(self);
  return NULL;
}

const char *peer_description(const peer *self) { return self->text; }

void peer_drop(peer *self) {
  for (int i = 0; i < self->num_args; i++) self->call.dnnl_memory_destroy(self->args[i].memory);
  self->num_args = 0;
  if (self->plain_y) self->call.dnnl_memory_destroy(self->plain_y);
  if (self->primitive) self->call.dnnl_primitive_destroy(self->primitive);
  if (self->primitive_desc) self->call.dnnl_primitive_desc_destroy(self->primitive_desc);
  dnnl_memory_desc_t *const descs[] = {&self->plain, &self->tensor, &self->vector};
  for (int i = 0; i < 3; i++) {
    if (*descs[i]) self->call.dnnl_memory_desc_destroy(*descs[i]);
    *descs[i] = NULL;
  }
  self->plain_y = NULL;
  self->primitive = NULL;
  self->primitive_desc = NULL;
  free(self->own_x);
  free(self->own_y);
  self->own_x = self->own_y = NULL;
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

static int reorder(peer *self, dnnl_memory_desc_t from_desc, dnnl_memory_t from,
                   dnnl_memory_desc_t to_desc, dnnl_memory_t to, char *why) {
  dnnl_primitive_desc_t desc;
  dnnl_primitive_t primitive;
  TRY(dnnl_reorder_primitive_desc_create, &desc, from_desc, self->engine, to_desc, self->engine,
      NULL);
  dnnl_status_t status = self->call.dnnl_primitive_create(&primitive, desc);
  self->call.dnnl_primitive_desc_destroy(desc);
  if (status != dnnl_success) return failed(why, "reorder", status);
  const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
  status = self->call.dnnl_primitive_execute(primitive, self->stream, 2, args);
  if (status == dnnl_success) status = self->call.dnnl_stream_wait(self->stream);
  self->call.dnnl_primitive_destroy(primitive);
  return status == dnnl_success ? 1 : failed(why, "reorder", status);
}

/* x and y in the layout under test. Blocked: padded channels are zero, as oneDNN asks. */
static int place_tensors(peer *self, float *x, float *y, char *why) {
  self->x = x;
  self->y = y;
  self->elements = self->call.dnnl_memory_desc_get_size(self->tensor) / sizeof(float);
  if (self->tag == dnnl_abcd)
    return add(self, DNNL_ARG_SRC, self->tensor, x, why) &&
           add(self, DNNL_ARG_DST, self->tensor, y, why);
  const size_t size = (self->call.dnnl_memory_desc_get_size(self->tensor) + 63) / 64 * 64;
  self->own_x = aligned_alloc(64, size);
  self->own_y = aligned_alloc(64, size);
  if (!self->own_x || !self->own_y) return peer_fail(why, "oneDNN", "no memory");
  self->x = self->own_x;
  self->y = self->own_y;
  memset(self->own_x, 0, size);
  memset(self->own_y, 0, size);
  if (!add(self, DNNL_ARG_SRC, self->tensor, self->own_x, why) ||
      !add(self, DNNL_ARG_DST, self->tensor, self->own_y, why))
    return 0;
  TRY(dnnl_memory_create, &self->plain_y, self->plain, self->engine, y);
  dnnl_memory_t plain_x;
  TRY(dnnl_memory_create, &plain_x, self->plain, self->engine, x);
  const int done = reorder(self, self->plain, plain_x, self->tensor, self->args[0].memory, why);
  self->call.dnnl_memory_destroy(plain_x);
  return done;
}

static int describe(peer *self, const int64_t dims[4], char *why) {
  const dnnl_dims_t shape = {dims[0], dims[1], dims[2], dims[3]}, channels = {dims[1]};
  const unsigned flags = dnnl_use_scale | dnnl_use_shift;
  TRY(dnnl_memory_desc_create_with_tag, &self->plain, 4, shape, dnnl_f32, dnnl_abcd);
  TRY(dnnl_memory_desc_create_with_tag, &self->tensor, 4, shape, dnnl_f32, self->tag);
  TRY(dnnl_memory_desc_create_with_tag, &self->vector, 1, channels, dnnl_f32, dnnl_a);
  TRY(dnnl_batch_normalization_forward_primitive_desc_create, &self->primitive_desc, self->engine,
      self->training ? dnnl_forward_training : dnnl_forward_inference, self->tensor, self->tensor,
      (float)self->eps, self->training ? flags : flags | dnnl_use_global_stats, NULL);
  TRY(dnnl_primitive_create, &self->primitive, self->primitive_desc);
  return 1;
}

int peer_prepare(peer *self, int training, const int64_t dims[4],
                 float *const operands[PEER_OPERANDS], double eps, char *why) {
  peer_drop(self);
  self->training = training;
  self->channels = dims[1];
  self->eps = eps;
  self->mean = operands[PEER_MEAN];
  self->invstd = operands[PEER_INVSTD];
  float *const mean = training ? self->mean : operands[PEER_RUNNING_MEAN];
  float *const variance = training ? self->invstd : operands[PEER_RUNNING_VAR];
  return describe(self, dims, why) &&
         place_tensors(self, operands[PEER_X], operands[PEER_Y], why) &&
         add(self, DNNL_ARG_SCALE, self->vector, operands[PEER_WEIGHT], why) &&
         add(self, DNNL_ARG_SHIFT, self->vector, operands[PEER_BIAS], why) &&
         add(self, DNNL_ARG_MEAN, self->vector, mean, why) &&
         add(self, DNNL_ARG_VARIANCE, self->vector, variance, why);
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

float *peer_map(peer *self, int operand, size_t *elements, char *why) {
  (void)why;
  *elements = self->elements;
  return operand == PEER_X ? self->x : self->y;
}

int peer_unmap(peer *self, char *why) {
  (void)self;
  (void)why;
  return 1;
}

int peer_fetch(peer *self, char *why) {
  for (int64_t c = 0; self->training && c < self->channels; c++)
    self->invstd[c] = (float)(1 / sqrt((double)self->invstd[c] + self->eps));
  return !self->plain_y ||
         reorder(self, self->tensor, self->args[1].memory, self->plain, self->plain_y, why);
}
