/* clnorm_opencl.h with OpenCL's own header before it (FIRST), after it (LAST), or brought by it (neither):
 * the version is the includer's, and handles of the one are handles of the other. Also read as C++. */
#ifdef FIRST
#define CL_TARGET_OPENCL_VERSION FIRST
#include <CL/cl.h>
#elif !defined(LAST)
#define CL_TARGET_OPENCL_VERSION 210
#endif

#include <clnorm/clnorm_opencl.h>

#ifdef LAST
#ifdef CL_TARGET_OPENCL_VERSION
#error "clnorm_opencl.h chooses OpenCL's version for its includer"
#endif
#define CL_TARGET_OPENCL_VERSION LAST
#include <CL/cl.h>
#endif

int main(void) {
  cl_event event = NULL;
  cl_context cl = NULL;
  cl_device_id device = NULL;
  cl_command_queue queue = NULL;
  cl_mem memory = NULL;
  clnorm_context *context = NULL;
  const clnorm_opencl_sync sync = {1, &event, &event, &event, queue};
  if (clnorm_context_create_opencl(cl, device, queue, NULL, &context, NULL) == CLNORM_OK) return 1;
  if (clnorm_context_create("cpu", NULL, &context, NULL) != CLNORM_OK) return 1;
  cl = clnorm_context_cl_context(context);
  device = clnorm_context_cl_device(context);
  queue = clnorm_context_cl_queue(context);
  clnorm_context_destroy(context);
  return cl || device || queue || clnorm_opencl_memory(memory, 0, 0).cl || *sync.event;
}
