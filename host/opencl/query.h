/* Asking the driver about platforms and devices, many questions with one check at the end. */
#ifndef CLNORM_OPENCL_QUERY_H
#define CLNORM_OPENCL_QUERY_H

#include "loader.h"

/* Remembers the first question that failed; later ones are still asked. */
typedef struct clnorm_opencl_query {
  const clnorm_opencl_api *api;
  cl_platform_id platform;
  cl_device_id device;
  const char *call;   /* the first question that failed; NULL while all went well */
  cl_int code;        /* its error */
  bool out_of_memory; /* an answer found no host memory; call is set too */
} clnorm_opencl_query;

/* The platform is asked for. Check call afterwards. */
clnorm_opencl_query clnorm__opencl_query_device(const clnorm_opencl_api *api, cl_device_id device);

/* size bytes of zeros from the host; NULL, remembered, where there are none. */
void *clnorm__opencl_query_alloc(clnorm_opencl_query *query, size_t size);

/* Reads a value of fixed size; zeros on failure. */
#define CLNORM_OPENCL_VALUE(query, parameter, value)                                               \
  clnorm__opencl_value(query, "clGetDeviceInfo(" #parameter ")", parameter, value, sizeof *(value))
void clnorm__opencl_value(clnorm_opencl_query *query, const char *call, cl_device_info parameter,
                          void *value, size_t size);

/* The text of a parameter without blanks at its ends, to be released with free(); NULL on failure. */
char *clnorm__opencl_device_text(clnorm_opencl_query *query, cl_device_info parameter);
char *clnorm__opencl_platform_text(clnorm_opencl_query *query, cl_platform_info parameter);

#endif
