/* The one file that names the back ends, and their order: the CPU path is device 0. */
#include "core/backend.h"
#include "cpu/cpu.h"
#include "opencl/opencl.h"

const clnorm_backend *const clnorm__backends[] = {
    &clnorm__cpu_backend,
    &clnorm__opencl_backend, /* host/no_opencl.c, in a build without OpenCL */
    NULL,
};
