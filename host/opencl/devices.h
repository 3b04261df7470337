/* The OpenCL devices of this machine. */
#ifndef CLNORM_OPENCL_DEVICES_H
#define CLNORM_OPENCL_DEVICES_H

#include "backend.h"
#include "loader.h"

/* Adds all devices, platform by platform, and says what is missing. Fails for lack of host memory only. */
clnorm_status clnorm__opencl_list_devices(const clnorm_opencl_api *api, clnorm_device_list *list);

/* The device called "P.D". */
clnorm_status clnorm__opencl_find_device(const clnorm_opencl_api *api, const char *id,
                                         cl_device_id *device, clnorm_error *error);
/* The "P.D" of a device; "-" for one that no platform lists (a part of a device, say). */
void clnorm__opencl_device_name(const clnorm_opencl_api *api, cl_device_id device, char id[16]);

/* Everything the list tells about a device; its status says whether clnorm can use it, or why not. Fails
 * for lack of host memory only. */
clnorm_status clnorm__opencl_describe(const clnorm_opencl_api *api, cl_device_id device,
                                      const char *id, clnorm_device_info *info);

#endif
