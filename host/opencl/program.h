/* Building a program from source, or from its binary in the disk cache. */
#ifndef CLNORM_OPENCL_PROGRAM_H
#define CLNORM_OPENCL_PROGRAM_H

#include "loader.h"
#include "status.h"

typedef struct clnorm_opencl_source {
  const char *text;
  size_t size;
  const char *options;   /* of clBuildProgram */
  const char *cache_dir; /* from clnorm__cache_folder; NULL: no cache */
} clnorm_opencl_source;

/* Builds for one device of the context. Errors: BUILD (the message holds the beginning of the compiler's
 * log, the log callback gets all of it), OUT_OF_MEMORY, DEVICE. Trouble with the cache is logged only. */
clnorm_status clnorm__opencl_program_create(const clnorm_opencl_api *api, cl_context context,
                                            cl_device_id device, const clnorm_opencl_source *source,
                                            cl_program *program, clnorm_error *error);

#endif
