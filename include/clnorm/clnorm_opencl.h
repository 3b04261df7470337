/*
 * clnorm with OpenCL objects of the caller: context, device, queue, memory and events.
 *
 * The library loads libOpenCL at run time and calls the driver through it, so a program that includes
 * this header links OpenCL itself only if it makes OpenCL calls of its own.
 */
#ifndef CLNORM_CLNORM_OPENCL_H
#define CLNORM_CLNORM_OPENCL_H

#include <clnorm/clnorm.h>

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Works on the caller's queue. All three are retained until clnorm_context_destroy. Runs are enqueued on
 * this queue and on no other; it may be in order or out of order (clnorm chains its own launches by
 * events on an out-of-order queue). The queue must belong to the device, the device to the context; with
 * options->profiling it must have CL_QUEUE_PROFILING_ENABLE. Otherwise as clnorm_context_create. */
CLNORM_API clnorm_status clnorm_context_create_opencl(cl_context cl, cl_device_id device,
                                                      cl_command_queue queue,
                                                      const clnorm_context_options *options,
                                                      clnorm_context **context,
                                                      clnorm_message *message);

/* The OpenCL objects a context works with; NULL for a CPU context. Not retained for the caller. */
CLNORM_API cl_context clnorm_context_cl_context(const clnorm_context *context);
CLNORM_API cl_device_id clnorm_context_cl_device(const clnorm_context *context);
CLNORM_API cl_command_queue clnorm_context_cl_queue(const clnorm_context *context);

/* A cl_mem of the caller, from byte offset on. Not retained. size 0: up to its end. */
static inline clnorm_memory clnorm_opencl_memory(cl_mem memory, size_t offset, size_t size) {
  clnorm_memory result = {NULL, memory, offset, size};
  return result;
}

/* Events around one run, for clnorm_forward_args.sync and clnorm_batchnorm2d_args.sync. */
typedef struct clnorm_opencl_sync {
  cl_uint num_events_in_wait_list;
  const cl_event *event_wait_list; /* the run starts after these; NULL if there are none */
  cl_event
      *event; /* may be NULL; receives an event that completes with the run, to be released by the
                      caller. A run that has nothing to do returns a marker */
} clnorm_opencl_sync;

#ifdef __cplusplus
}
#endif
#endif
