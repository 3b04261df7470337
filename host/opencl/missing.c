#include "missing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "errors.h"
#include "query.h"

#define GPU_PACKAGES                                                                               \
  "intel-opencl-icd (Intel), mesa-opencl-icd (AMD; set RUSTICL_ENABLE=radeonsi), or the vendor's " \
  "own (NVIDIA: nvidia-opencl-icd)"

/* The loader looks for drivers where this variable says; a user who set it should be reminded. */
static const char *vendors_reminder(char *text, size_t size) {
  const char *vendors = getenv("OCL_ICD_VENDORS");
  text[0] = '\0';
  if (vendors)
    snprintf(text, size, " (OCL_ICD_VENDORS is \"%.200s\" and limits the search)", vendors);
  return text;
}

clnorm_status clnorm__opencl_no_platform(clnorm_device_list *list, cl_int code) {
  char reminder[300];
  return clnorm__device_list_add_missing(
      list,
      "the OpenCL loader is there, but finds no driver (clGetPlatformIDs: %s)%s; package "
      "pocl-opencl-icd brings one for the processor; for GPUs there are " GPU_PACKAGES,
      clnorm__opencl_error_name(code), vendors_reminder(reminder, sizeof reminder));
}

clnorm_status clnorm__opencl_no_device(const clnorm_opencl_api *api, clnorm_device_list *list,
                                       cl_platform_id platform, unsigned index, cl_int code) {
  clnorm_opencl_query query = {api, platform, NULL, NULL, CL_SUCCESS, false};
  char *name = clnorm__opencl_platform_text(&query, CL_PLATFORM_NAME);
  if (query.out_of_memory) return CLNORM_ERROR_OUT_OF_MEMORY;
  const bool rusticl = name && strstr(name, "rusticl") != NULL;
  const clnorm_status status = clnorm__device_list_add_missing(
      list, "OpenCL platform %u (%s) has no device (clGetDeviceIDs: %s)%s", index,
      name ? name : "unnamed", clnorm__opencl_error_name(code),
      rusticl ? "; rusticl shows a device only where it is enabled, for example "
                "RUSTICL_ENABLE=llvmpipe for the processor or RUSTICL_ENABLE=radeonsi for AMD GPUs"
              : "; the driver is installed and found no hardware that it may use");
  free(name);
  return status;
}

/* The first file of a graphics device that exists and that this user may not open; else NULL. */
static const char *locked_gpu(char *path, size_t size) {
  for (int node = 128; node < 144; node++) {
    snprintf(path, size, "/dev/dri/renderD%d", node);
    if (access(path, R_OK | W_OK) != 0 && errno == EACCES) return path;
  }
  return NULL;
}

clnorm_status clnorm__opencl_no_gpu(clnorm_device_list *list) {
  char path[32];
  char reminder[300];
  if (locked_gpu(path, sizeof path)) {
    return clnorm__device_list_add_missing(
        list, "no OpenCL GPU; there is %s, but this user may not open it: join its group (render)",
        path);
  }
  if (access("/dev/nvidiactl", F_OK) == 0) {
    return clnorm__device_list_add_missing(
        list,
        "no OpenCL GPU; there is an NVIDIA GPU (/dev/nvidiactl), but no OpenCL driver for it%s; "
        "package nvidia-opencl-icd brings one",
        vendors_reminder(reminder, sizeof reminder));
  }
  return clnorm__device_list_add_missing(list,
                                         "no OpenCL GPU%s; drivers for one come with " GPU_PACKAGES,
                                         vendors_reminder(reminder, sizeof reminder));
}
