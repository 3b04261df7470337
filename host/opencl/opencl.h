/* The OpenCL back end. host/backends.c names it; nothing else outside this folder needs to. */
#ifndef CLNORM_OPENCL_OPENCL_H
#define CLNORM_OPENCL_OPENCL_H

#include "backend.h"

extern const clnorm_backend clnorm__opencl_backend;

#endif
