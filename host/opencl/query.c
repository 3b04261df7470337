#include "query.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void note(clnorm_opencl_query *query, const char *call, cl_int code) {
  if (code == CL_SUCCESS || query->call) return;
  query->call = call;
  query->code = code;
}

clnorm_opencl_query clnorm__opencl_query_device(const clnorm_opencl_api *api, cl_device_id device) {
  clnorm_opencl_query query = {api, NULL, device, NULL, CL_SUCCESS, false};
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_PLATFORM, &query.platform);
  return query;
}

void *clnorm__opencl_query_alloc(clnorm_opencl_query *query, size_t size) {
  void *memory = calloc(size, 1);
  if (!memory) {
    note(query, "calloc", CL_OUT_OF_HOST_MEMORY);
    query->out_of_memory = true;
  }
  return memory;
}

void clnorm__opencl_value(clnorm_opencl_query *query, const char *call, cl_device_info parameter,
                          void *value, size_t size) {
  memset(value, 0, size);
  note(query, call, query->api->clGetDeviceInfo(query->device, parameter, size, value, NULL));
}

static void trim(char *text) {
  size_t start = 0;
  size_t end = strlen(text);
  while (end > 0 && isspace((unsigned char)text[end - 1])) end--;
  while (start < end && isspace((unsigned char)text[start])) start++;
  memmove(text, text + start, end - start);
  text[end - start] = '\0';
}

static cl_int get_info(const clnorm_opencl_query *query, bool of_device, cl_uint parameter,
                       size_t size, char *text, size_t *needed) {
  return of_device ? query->api->clGetDeviceInfo(query->device, parameter, size, text, needed)
                   : query->api->clGetPlatformInfo(query->platform, parameter, size, text, needed);
}

static char *read_text(clnorm_opencl_query *query, bool of_device, cl_uint parameter) {
  const char *call = of_device ? "clGetDeviceInfo" : "clGetPlatformInfo";
  size_t size = 0;
  cl_int code = get_info(query, of_device, parameter, 0, NULL, &size);
  note(query, call, code);
  if (code != CL_SUCCESS) return NULL;
  char *text = clnorm__opencl_query_alloc(query, size + 1);
  if (!text) return NULL;
  code = get_info(query, of_device, parameter, size, text, NULL);
  note(query, call, code);
  if (code != CL_SUCCESS) {
    free(text);
    return NULL;
  }
  trim(text);
  return text;
}

char *clnorm__opencl_device_text(clnorm_opencl_query *query, cl_device_info parameter) {
  return read_text(query, true, parameter);
}

char *clnorm__opencl_platform_text(clnorm_opencl_query *query, cl_platform_info parameter) {
  return read_text(query, false, parameter);
}
