#include "device.h"
#include "errors.h"
#include "order.h"

clnorm_status clnorm__opencl_alloc(clnorm_device *base, size_t size, clnorm_memory *memory,
                                   clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  cl_int code = CL_SUCCESS;
  cl_mem buffer = device->api.clCreateBuffer(device->context, CL_MEM_READ_WRITE, size, NULL, &code);
  if (code == CL_INVALID_BUFFER_SIZE) {
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY,
                        "clCreateBuffer failed: CL_INVALID_BUFFER_SIZE (%d): %zu bytes, but this "
                        "device allows %llu in one buffer",
                        (int)code, size, (unsigned long long)base->info.max_alloc_bytes);
  }
  if (code != CL_SUCCESS) return clnorm__opencl_fail_create(error, "clCreateBuffer", code);
  memory->host = NULL;
  memory->cl = buffer;
  memory->offset = 0;
  memory->size = size;
  return CLNORM_OK;
}

void clnorm__opencl_free(clnorm_device *base, clnorm_memory memory) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  if (!clnorm__opencl_is_inherited(device)) device->api.clReleaseMemObject(memory.cl);
}

/* A blocking write of OpenCL 1.2 may return when the values are copied, before they are in the buffer (Intel's
 * runtime does so), and what runs on another queue or out of order does not wait for it: its event does. */
clnorm_status clnorm__opencl_write(clnorm_device *base, clnorm_memory memory, const void *source,
                                   size_t size, const clnorm_order *order, clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  clnorm_opencl_waits waits = {0, {NULL}};
  const clnorm_status status =
      clnorm__opencl_follow(device, device->queue, order, true, &waits, error);
  if (status != CLNORM_OK) return status;
  cl_event written = NULL;
  cl_int code = device->api.clEnqueueWriteBuffer(device->queue.handle, memory.cl, CL_TRUE,
                                                 memory.offset, size, source, waits.count,
                                                 waits.count > 0 ? waits.events : NULL, &written);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clEnqueueWriteBuffer", code);
  code = device->api.clWaitForEvents(1, &written);
  device->api.clReleaseEvent(written);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clWaitForEvents", code);
  return CLNORM_OK;
}

clnorm_status clnorm__opencl_read(clnorm_device *base, clnorm_memory memory, void *destination,
                                  size_t size, const clnorm_order *order, clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  clnorm_opencl_waits waits = {0, {NULL}};
  const clnorm_status status =
      clnorm__opencl_follow(device, device->queue, order, false, &waits, error);
  if (status != CLNORM_OK) return status;
  const cl_int code = device->api.clEnqueueReadBuffer(device->queue.handle, memory.cl, CL_TRUE,
                                                      memory.offset, size, destination, waits.count,
                                                      waits.count > 0 ? waits.events : NULL, NULL);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clEnqueueReadBuffer", code);
  return CLNORM_OK;
}

/* ---- Where memory lies -------------------------------------------------------------------------- */

/* What the driver tells about a cl_mem. */
typedef struct object_info {
  cl_mem_object_type type;
  cl_context context;
  size_t size;
  cl_mem_flags flags; /* a sub-buffer has those of its parent */
  void *host;         /* CL_MEM_USE_HOST_PTR: where the memory is; else NULL */
  cl_mem parent;      /* of a sub-buffer, which starts at `origin` of it; else NULL */
  size_t origin;
} object_info;

typedef struct question {
  cl_mem_info parameter;
  void *value;
  size_t size;
} question;

static cl_int answer(const clnorm_opencl_api *api, cl_mem memory, const question *questions,
                     size_t count) {
  cl_int code = CL_SUCCESS;
  for (size_t i = 0; i < count && code == CL_SUCCESS; i++)
    code = api->clGetMemObjectInfo(memory, questions[i].parameter, questions[i].size,
                                   questions[i].value, NULL);
  return code;
}

static cl_int ask(const clnorm_opencl_api *api, cl_mem memory, object_info *info) {
  const question questions[] = {
      {CL_MEM_TYPE, &info->type, sizeof info->type},
      {CL_MEM_CONTEXT, &info->context, sizeof info->context},
      {CL_MEM_SIZE, &info->size, sizeof info->size},
      {CL_MEM_FLAGS, &info->flags, sizeof info->flags},
      {CL_MEM_HOST_PTR, &info->host, sizeof info->host},
      {CL_MEM_ASSOCIATED_MEMOBJECT, &info->parent, sizeof info->parent},
  };
  const question origin = {CL_MEM_OFFSET, &info->origin, sizeof info->origin};
  const question host = {CL_MEM_HOST_PTR, &info->host, sizeof info->host};
  cl_int code = answer(api, memory, questions, sizeof questions / sizeof questions[0]);
  if (code != CL_SUCCESS || !info->parent) return code;
  code = answer(api, memory, &origin, 1);
  return code == CL_SUCCESS ? answer(api, info->parent, &host, 1) : code;
}

static clnorm_status check_object(const clnorm_opencl_device *device, cl_int code,
                                  const object_info *info, const char *role, clnorm_error *error) {
  if (code == CL_INVALID_MEM_OBJECT) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s is no OpenCL memory object (CL_INVALID_MEM_OBJECT)", role);
  }
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clGetMemObjectInfo", code);
  if (info->type != CL_MEM_OBJECT_BUFFER) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s is an OpenCL object of type 0x%x, but must be a buffer", role,
                        (unsigned)info->type);
  }
  if (info->context != device->context) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s belongs to another cl_context than this clnorm_context", role);
  }
  return CLNORM_OK;
}

/* OpenCL leaves it undefined what a kernel finds in memory that it was not to read, or does to memory that
 * it was not to write. */
static clnorm_status check_access(cl_mem_flags flags, unsigned access, const char *role,
                                  clnorm_error *error) {
  static const struct {
    cl_mem_flags flag;
    unsigned forbids;
    const char *name, *verb;
  } rules[] = {
      {CL_MEM_WRITE_ONLY, CLNORM_DEVICE_READS, "CL_MEM_WRITE_ONLY", "the device reads"},
      {CL_MEM_READ_ONLY, CLNORM_DEVICE_WRITES, "CL_MEM_READ_ONLY", "the device writes"},
      {CL_MEM_HOST_WRITE_ONLY, CLNORM_HOST_READS, "CL_MEM_HOST_WRITE_ONLY", "the host reads"},
      {CL_MEM_HOST_READ_ONLY, CLNORM_HOST_WRITES, "CL_MEM_HOST_READ_ONLY", "the host writes"},
      {CL_MEM_HOST_NO_ACCESS, CLNORM_HOST_READS | CLNORM_HOST_WRITES, "CL_MEM_HOST_NO_ACCESS",
       "the host uses"},
  };
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
    if (!(flags & rules[i].flag) || !(access & rules[i].forbids)) continue;
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s was made with %s, but %s it",
                        role, rules[i].name, rules[i].verb);
  }
  return CLNORM_OK;
}

clnorm_status clnorm__opencl_span(clnorm_device *base, clnorm_memory memory, const char *role,
                                  unsigned access, clnorm_span *span, clnorm_error *error) {
  const clnorm_opencl_device *device = (const clnorm_opencl_device *)base;
  if (memory.host || !memory.cl) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s is host memory, but an OpenCL context takes cl_mem", role);
  }
  object_info info = {0};
  const cl_int code = ask(&device->api, memory.cl, &info);
  clnorm_status status = check_object(device, code, &info, role, error);
  if (status == CLNORM_OK) status = check_access(info.flags, access, role, error);
  if (status != CLNORM_OK) return status;
  if (memory.offset > info.size || memory.size > info.size - memory.offset) {
    return clnorm__fail(error, CLNORM_ERROR_BUFFER_TOO_SMALL,
                        "%s is %zu bytes from offset %zu on, but its buffer has %zu bytes", role,
                        memory.size, memory.offset, info.size);
  }
  const size_t size = memory.size > 0 ? memory.size : info.size - memory.offset;
  span->base = (uintptr_t)(info.parent ? info.parent : memory.cl);
  span->begin = (info.parent ? info.origin : 0) + memory.offset;
  span->end = span->begin + size;
  span->object = (uintptr_t)info.host;
  span->address = span->object + span->begin; /* what drivers allocate is aligned */
  return CLNORM_OK;
}
