/* What stands for host/opencl in a build without it: the header clnorm_opencl.h is there, and its functions
 * with it. */
#include <clnorm/clnorm_opencl.h>

#include "core/backend.h"
#include "opencl/opencl.h"

#define ABSENT                                                                                     \
  "this build has no OpenCL back end: configure with -D CLNORM_OPENCL=ON (needs the OpenCL "       \
  "headers; Debian and Ubuntu: opencl-headers)"

static clnorm_status list_nothing(clnorm_device_list *list) {
  return clnorm__device_list_add_missing(list, ABSENT);
}

const clnorm_backend clnorm__opencl_backend = {"opencl", list_nothing, NULL};

clnorm_status clnorm_context_create_opencl(struct _cl_context *cl, struct _cl_device_id *device,
                                           struct _cl_command_queue *queue,
                                           const clnorm_context_options *options,
                                           clnorm_context **context, clnorm_message *message) {
  clnorm_error error = {
      {""}, options ? options->log : NULL, options ? options->log_user_data : NULL};
  (void)cl;
  (void)device;
  (void)queue;
  const clnorm_status status = clnorm__fail(&error, CLNORM_ERROR_UNSUPPORTED, ABSENT);
  if (context) *context = NULL;
  if (message) *message = error.message;
  return status;
}

struct _cl_context *clnorm_context_cl_context(const clnorm_context *context) {
  (void)context;
  return NULL;
}

struct _cl_device_id *clnorm_context_cl_device(const clnorm_context *context) {
  (void)context;
  return NULL;
}

struct _cl_command_queue *clnorm_context_cl_queue(const clnorm_context *context) {
  (void)context;
  return NULL;
}
