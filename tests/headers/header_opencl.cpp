/* clnorm_opencl.h stands alone: nothing is included before it, no header of OpenCL is needed, and its
 * functions are there in every build. */
#include <clnorm/clnorm_opencl.h>

#if defined(CL_VERSION_1_0) || defined(CL_TARGET_OPENCL_VERSION)
#error "clnorm_opencl.h brings OpenCL's header unasked"
#endif

int main(void) {
  const clnorm_memory absent = clnorm_opencl_memory(NULL, 0, 0);
  clnorm_message message;
  clnorm_context *context = NULL;
  if (clnorm_context_create_opencl(NULL, NULL, NULL, NULL, &context, &message) == CLNORM_OK)
    return 1;
  if (clnorm_context_create("cpu", NULL, &context, &message) != CLNORM_OK) return 1;
  const int wrong = clnorm_context_cl_context(context) || clnorm_context_cl_device(context) ||
                    clnorm_context_cl_queue(context);
  clnorm_context_destroy(context);
  return absent.cl != NULL || message.text[0] != '\0' || wrong;
}
