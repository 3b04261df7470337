/* OpenCL's error codes as text and as clnorm's statuses. */
#ifndef CLNORM_OPENCL_ERRORS_H
#define CLNORM_OPENCL_ERRORS_H

#include <clnorm/clnorm_opencl.h>

#include "status.h"

/* "CL_OUT_OF_RESOURCES"; "unknown OpenCL error" for codes of extensions that clnorm does not know. */
const char *clnorm__opencl_error_name(cl_int code);

/* Keeps "clEnqueueNDRangeKernel failed: CL_OUT_OF_RESOURCES (-5)"; `call` is the failed function.
 * For calls that submit work or ask questions: always CLNORM_ERROR_DEVICE. */
clnorm_status clnorm__opencl_fail(clnorm_error *error, const char *call, cl_int code);
/* For calls that create an object: CLNORM_ERROR_OUT_OF_MEMORY where the code says that memory or
 * resources ran out, else CLNORM_ERROR_DEVICE. */
clnorm_status clnorm__opencl_fail_create(clnorm_error *error, const char *call, cl_int code);

#endif
