/* clnorm as a contestant, through its public API. target: a device of clnorm_context_create. option "queued":
 * runs are enqueued one after the other, as an engine does it, and waited for at the end. */
#include <clnorm/clnorm.h>
#include <clnorm/clnorm_opencl.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

struct peer {
  clnorm_context *context;
  clnorm_plan *plan;
  clnorm_binding bindings[PEER_OPERANDS];
  size_t num_bindings;
  clnorm_memory own[PEER_OPERANDS]; /* device memory; absent on the CPU path */
  void *host_operands[PEER_OPERANDS];
  size_t sizes[PEER_OPERANDS]; /* bytes */
  int on_device, queued;
  cl_mem mapped; /* the buffer that is mapped, and where */
  void *mapped_at;
  char text[PEER_TEXT];
};

peer *peer_open(const char *target, const char *option, int threads, char *why) {
  peer *self = calloc(1, sizeof(*self));
  if (!self) return peer_fail(why, "clnorm", "no memory"), NULL;
  clnorm_context_options options;
  clnorm_message message;
  clnorm_context_options_init(&options, sizeof(options));
  options.num_threads = threads;
  if (clnorm_context_create(target, &options, &self->context, &message)) {
    peer_fail(why, target, message.text);
    free(self);
    return NULL;
  }
  const clnorm_device_info *device = clnorm_context_device(self->context);
  self->on_device = device->id[0] != 'c';
  self->queued = strcmp(option, "queued") == 0;
  snprintf(self->text, sizeof(self->text), "clnorm %s, %s (%s)", clnorm_version(),
           clnorm_context_description(self->context), device->platform);
  return self;
}

const char *peer_description(const peer *self) { return self->text; }

void peer_drop(peer *self) {
  clnorm_plan_destroy(self->plan);
  self->plan = NULL;
  for (int i = 0; i < PEER_OPERANDS; i++) clnorm_memory_free(self->context, &self->own[i]);
}

void peer_close(peer *self) {
  if (!self) return;
  peer_drop(self);
  clnorm_context_destroy(self->context);
  free(self);
}

/* Binds operand i. What is only written is copied too: the device's pages are then there before the first measured
 * run. */
static clnorm_status bind(peer *self, int i) {
  static const int32_t roles[PEER_OPERANDS] = {
      CLNORM_X,           CLNORM_Y,          CLNORM_WEIGHT,      CLNORM_BIAS, CLNORM_RUNNING_MEAN,
      CLNORM_RUNNING_VAR, CLNORM_SAVED_MEAN, CLNORM_SAVED_INVSTD};
  clnorm_memory memory = clnorm_host_memory(self->host_operands[i], self->sizes[i]);
  if (self->on_device) {
    clnorm_status status = clnorm_memory_alloc(self->context, self->sizes[i], &self->own[i]);
    if (status) return status;
    memory = self->own[i];
    status = clnorm_memory_write(self->context, memory, self->host_operands[i], self->sizes[i]);
    if (status) return status;
  }
  self->bindings[i] = clnorm_bind(roles[i], memory);
  return CLNORM_OK;
}

static clnorm_status bind_all(peer *self) {
  for (size_t i = 0; i < self->num_bindings; i++) {
    clnorm_status status = bind(self, (int)i);
    if (status) return status;
  }
  return CLNORM_OK;
}

static int find_type(const char *name, int32_t *dtype) {
  static const int32_t dtypes[] = {CLNORM_F32, CLNORM_F16, CLNORM_BF16};
  for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++)
    if (strcmp(name, clnorm_dtype_name(dtypes[i])) == 0) return *dtype = dtypes[i], 1;
  return 0;
}

static int describe(const peer_case *wanted, clnorm_tensor *x, char *why) {
  const int64_t block = peer_block(wanted);
  int32_t dtype;
  if (!find_type(wanted->dtype, &dtype)) return peer_fail(why, "no such type", wanted->dtype);
  if (block > 1)
    clnorm_tensor_blocked(x, dtype, 4, wanted->dims, block);
  else if (strcmp(wanted->layout, "nhwc") == 0)
    clnorm_tensor_nhwc(x, dtype, 4, wanted->dims);
  else if (strcmp(wanted->layout, "nchw") == 0)
    clnorm_tensor_nchw(x, dtype, 4, wanted->dims);
  else
    return peer_fail(why, "no such layout", wanted->layout);
  return 1;
}

int peer_prepare(peer *self, const peer_case *wanted, void *const operands[PEER_OPERANDS],
                 char *why) {
  clnorm_problem problem;
  peer_drop(self);
  clnorm_problem_init(&problem, sizeof(problem));
  if (!describe(wanted, &problem.tensors[CLNORM_X], why)) return 0;
  problem.statistics = wanted->training ? CLNORM_BATCH_STATISTICS : CLNORM_GIVEN_STATISTICS;
  problem.eps = wanted->eps;
  self->num_bindings = wanted->training ? PEER_OPERANDS : PEER_MEAN;
  for (int i = 0; i < PEER_OPERANDS; i++) {
    self->host_operands[i] = operands[i];
    self->sizes[i] =
        i <= PEER_Y ? peer_tensor_bytes(wanted) : (size_t)wanted->dims[1] * sizeof(float);
  }
  if (clnorm_plan_create(self->context, &problem, &self->plan) || bind_all(self))
    return peer_fail(why, "clnorm", clnorm_last_error(self->context));
  return 1;
}

const char *peer_kernel(const peer *self) { return clnorm_plan_description(self->plan); }

double peer_time(peer *self, long calls, char *why) {
  const double begin = peer_now();
  for (long i = 0; i < calls; i++) {
    const int wait = !self->queued || i + 1 == calls;
    if (clnorm_run(self->plan, self->bindings, self->num_bindings, NULL) ||
        (wait && clnorm_finish(self->context))) {
      peer_fail(why, "clnorm", clnorm_last_error(self->context));
      return -1;
    }
  }
  return peer_now() - begin;
}

void *peer_map(peer *self, int operand, size_t *bytes, char *why) {
  const cl_map_flags how = operand == PEER_X ? CL_MAP_WRITE_INVALIDATE_REGION : CL_MAP_READ;
  cl_int status = CL_SUCCESS;
  *bytes = self->sizes[operand];
  if (!self->on_device) return self->host_operands[operand];
  self->mapped = self->own[operand].cl;
  self->mapped_at =
      clEnqueueMapBuffer(clnorm_context_cl_queue(self->context), self->mapped, CL_TRUE, how, 0,
                         self->sizes[operand], 0, NULL, NULL, &status);
  if (status != CL_SUCCESS) return peer_fail(why, "clnorm", "clEnqueueMapBuffer failed"), NULL;
  return self->mapped_at;
}

int peer_unmap(peer *self, char *why) {
  if (!self->on_device) return 1;
  const cl_command_queue queue = clnorm_context_cl_queue(self->context);
  if (clEnqueueUnmapMemObject(queue, self->mapped, self->mapped_at, 0, NULL, NULL) ||
      clFinish(queue))
    return peer_fail(why, "clnorm", "clEnqueueUnmapMemObject failed");
  return 1;
}

int peer_fetch(peer *self, char *why) {
  static const size_t outputs[] = {PEER_Y, PEER_MEAN, PEER_INVSTD};
  if (!self->on_device) return 1;
  for (size_t i = 0; i < 3; i++) {
    const size_t k = outputs[i];
    if (k < self->num_bindings &&
        clnorm_memory_read(self->context, self->own[k], self->host_operands[k], self->sizes[k]))
      return peer_fail(why, "clnorm", clnorm_last_error(self->context));
  }
  return 1;
}
