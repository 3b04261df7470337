/* Sentences about OpenCL devices that are not there, with the package that brings each. */
#ifndef CLNORM_OPENCL_MISSING_H
#define CLNORM_OPENCL_MISSING_H

#include "backend.h"
#include "loader.h"

/* All add to the list and fail for lack of host memory only. */

/* The loader is there and finds no driver; code is what clGetPlatformIDs said. */
clnorm_status clnorm__opencl_no_platform(clnorm_device_list *list, cl_int code);
/* Platform `index` answered clGetDeviceIDs with `code` and has no device. */
clnorm_status clnorm__opencl_no_device(const clnorm_opencl_api *api, clnorm_device_list *list,
                                       cl_platform_id platform, unsigned index, cl_int code);
/* There are devices, but no GPU. */
clnorm_status clnorm__opencl_no_gpu(clnorm_device_list *list);

#endif
