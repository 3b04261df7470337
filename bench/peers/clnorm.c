/* clnorm as a contestant, through its public API. target: a device of clnorm_context_create. option "queued":
 * passes are enqueued one after the other, as an engine does it, and waited for at the end. */
#include <clnorm/clnorm.h>
#include <clnorm/clnorm_opencl.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

struct peer {
  clnorm_context *context;
  clnorm_forward_plan *plan;
  clnorm_forward_args args;
  clnorm_memory own[PEER_OPERANDS]; /* device memory; absent on the CPU path */
  float *host_operands[PEER_OPERANDS];
  size_t sizes[PEER_OPERANDS]; /* bytes */
  int training, on_device, queued;
  cl_mem mapped; /* the buffer that is mapped, and where */
  void *mapped_at;
  char text[PEER_TEXT];
};

peer *peer_open(const char *target, const char *option, int threads, char *why) {
  peer *self = calloc(1, sizeof(*self));
  if (!self) return peer_fail(why, "clnorm", "no memory"), NULL;
  clnorm_context_options options = clnorm_context_options_defaults();
  clnorm_message message;
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
  clnorm_forward_plan_destroy(self->plan);
  self->plan = NULL;
  for (int i = 0; i < PEER_OPERANDS; i++) clnorm_memory_free(self->context, &self->own[i]);
}

void peer_close(peer *self) {
  if (!self) return;
  peer_drop(self);
  clnorm_context_destroy(self->context);
  free(self);
}

/* The memory of operand i as a run takes it. What is only written is copied too: the device's pages
 * are then there before the first measured run. */
static clnorm_status place(peer *self, int i, clnorm_memory *memory) {
  *memory = clnorm_host_memory(self->host_operands[i], self->sizes[i]);
  if (!self->on_device) return CLNORM_OK;
  clnorm_status status = clnorm_memory_alloc(self->context, self->sizes[i], &self->own[i]);
  if (status) return status;
  *memory = self->own[i];
  return clnorm_memory_write(self->context, *memory, self->host_operands[i], self->sizes[i]);
}

static clnorm_status place_all(peer *self) {
  clnorm_memory *const places[PEER_OPERANDS] = {&self->args.x,
                                                &self->args.y,
                                                &self->args.weight,
                                                &self->args.bias,
                                                &self->args.running_mean,
                                                &self->args.running_var,
                                                &self->args.saved_mean,
                                                &self->args.saved_invstd};
  const int count = self->training ? PEER_OPERANDS : PEER_MEAN;
  for (int i = 0; i < count; i++) {
    clnorm_status status = place(self, i, places[i]);
    if (status) return status;
  }
  return CLNORM_OK;
}

int peer_prepare(peer *self, int training, const int64_t dims[4],
                 float *const operands[PEER_OPERANDS], double eps, char *why) {
  peer_drop(self);
  self->training = training;
  self->args = (clnorm_forward_args){.momentum = 0.9};
  const size_t tensor = (size_t)(dims[0] * dims[1] * dims[2] * dims[3]) * sizeof(float);
  for (int i = 0; i < PEER_OPERANDS; i++) {
    self->host_operands[i] = operands[i];
    self->sizes[i] = i <= PEER_Y ? tensor : (size_t)dims[1] * sizeof(float);
  }
  clnorm_forward_desc desc =
      clnorm_forward_desc_defaults(training ? CLNORM_BATCH_STATISTICS : CLNORM_GIVEN_STATISTICS,
                                   dims[0], dims[1], dims[2] * dims[3]);
  desc.eps = eps;
  if (clnorm_forward_plan_create(self->context, &desc, &self->plan) || place_all(self))
    return peer_fail(why, "clnorm", clnorm_last_error(self->context));
  return 1;
}

double peer_time(peer *self, long calls, char *why) {
  const double begin = peer_now();
  for (long i = 0; i < calls; i++) {
    const int wait = !self->queued || i + 1 == calls;
    if (clnorm_forward_run(self->plan, &self->args) || (wait && clnorm_finish(self->context))) {
      peer_fail(why, "clnorm", clnorm_last_error(self->context));
      return -1;
    }
  }
  return peer_now() - begin;
}

float *peer_map(peer *self, int operand, size_t *elements, char *why) {
  const cl_map_flags how = operand == PEER_X ? CL_MAP_WRITE_INVALIDATE_REGION : CL_MAP_READ;
  cl_int status = CL_SUCCESS;
  *elements = self->sizes[operand] / sizeof(float);
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
  static const int outputs[] = {PEER_Y, PEER_MEAN, PEER_INVSTD};
  if (!self->on_device) return 1;
  for (int i = 0; i < (self->training ? 3 : 1); i++) {
    const int k = outputs[i];
    if (clnorm_memory_read(self->context, self->own[k], self->host_operands[k], self->sizes[k]))
      return peer_fail(why, "clnorm", clnorm_last_error(self->context));
  }
  return 1;
}
