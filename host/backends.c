/* The one file that names the back ends, and their order: the CPU path is device 0. */
#include "core/backend.h"
#include "cpu/cpu.h"

#ifdef CLNORM_WITH_OPENCL
#include "opencl/opencl.h"
#else
static clnorm_status list_nothing(clnorm_device_list *list) {
  return clnorm_device_list_add_missing(
      list, "this build has no OpenCL back end: configure with -D CLNORM_OPENCL=ON (needs the "
            "OpenCL headers; Debian and Ubuntu: opencl-headers)");
}
static const clnorm_backend clnorm_opencl_backend = {"opencl", list_nothing, NULL};
#endif

const clnorm_backend *const clnorm_backends[] = {
    &clnorm_cpu_backend,
    &clnorm_opencl_backend,
    NULL,
};
