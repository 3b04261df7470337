/* The programs that contexts of one cl_context and device have built: each is built by the first that needs
 * it. Contexts on different threads may hold one store. */
#ifndef CLNORM_OPENCL_PROGRAMS_H
#define CLNORM_OPENCL_PROGRAMS_H

#include "device.h"

typedef struct clnorm_opencl_programs clnorm_opencl_programs;

/* Empty, held once; NULL where there is no host memory. */
clnorm_opencl_programs *clnorm__opencl_programs_create(void);
clnorm_opencl_programs *clnorm__opencl_programs_hold(clnorm_opencl_programs *programs);
/* The last to let go releases the programs through its api; NULL: in a forked child, which has no OpenCL.
 * programs may be NULL. */
void clnorm__opencl_programs_release(clnorm_opencl_programs *programs,
                                     const clnorm_opencl_api *api);

/* A program with at least the key's stages, and all else as in the key, built unless somebody did; it is the
 * store's. Kernels are made from it by each context for itself. Errors as clnorm__opencl_program_create. */
clnorm_status clnorm__opencl_programs_get(const clnorm_opencl_device *device, const clnorm_key *key,
                                          cl_program *program, clnorm_error *error);

#endif
