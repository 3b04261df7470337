/*
 * clnorm with OpenCL objects of the caller: context, device, queue, memory and events.
 *
 * The library loads libOpenCL at run time and calls the driver through it, so a program that includes
 * this header links OpenCL itself only if it makes OpenCL calls of its own. The functions are there in
 * every build of the library; in one without OpenCL (CLNORM_OPENCL=OFF), creating a context is refused
 * (CLNORM_ERROR_UNSUPPORTED).
 *
 * OpenCL's version is for the includer to choose. Where CL_TARGET_OPENCL_VERSION is defined, CL/cl.h
 * comes with this header. Where it is not, CL/cl.h is neither needed nor included: the handles of OpenCL
 * are pointers to the structures declared here (cl_context is struct _cl_context *, and so on), and
 * CL/cl.h may be included before or after, in any version.
 */
#ifndef CLNORM_CLNORM_OPENCL_H
#define CLNORM_CLNORM_OPENCL_H

#include <clnorm/clnorm.h>

#ifdef CL_TARGET_OPENCL_VERSION
#ifdef __APPLE__
#include <OpenCL/cl.h>
#else
#include <CL/cl.h>
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct _cl_context;
struct _cl_device_id;
struct _cl_command_queue;

/* Works on the caller's queue. All three are retained until the context's end, which waits for nothing on
 * this queue. Runs are enqueued on it unless they name another (clnorm_opencl_sync.queue). Queues may be in
 * order or out of order; what clnorm orders by itself, and what the caller has to, stands at
 * clnorm_opencl_sync in clnorm.h. The queue must belong to the device, the device to the context; with
 * options->profiling it must have CL_QUEUE_PROFILING_ENABLE. Otherwise as clnorm_context_create. */
CLNORM_API clnorm_status clnorm_context_create_opencl(
    struct _cl_context *cl, struct _cl_device_id *device, struct _cl_command_queue *queue,
    const clnorm_context_options *options, clnorm_context **context, clnorm_message *message);

/* The OpenCL objects a context works with; NULL for a CPU context. Not retained for the caller. */
CLNORM_API struct _cl_context *clnorm_context_cl_context(const clnorm_context *context);
CLNORM_API struct _cl_device_id *clnorm_context_cl_device(const clnorm_context *context);
CLNORM_API struct _cl_command_queue *clnorm_context_cl_queue(const clnorm_context *context);

/* A cl_mem of the caller, from byte offset on. Not retained. size 0: up to its end. */
static inline clnorm_memory clnorm_opencl_memory(struct _cl_mem *memory, size_t offset,
                                                 size_t size) {
  clnorm_memory result = {NULL, memory, offset, size};
  return result;
}

#ifdef __cplusplus
}
#endif
#endif
