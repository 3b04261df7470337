/* The layer itself (layer.h); loaded by the OpenCL loader. */
#include "layer.h"

#include <CL/cl_layer.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "loader.h"

#define EXPORT __attribute__((visibility("default")))

extern layer_control clnorm_test_layer;
EXPORT layer_control clnorm_test_layer = {.failed = -1};
#define layer clnorm_test_layer

static const cl_icd_dispatch *target; /* the driver, or the next layer */

#define CHECK(name) _Static_assert(LAYER_##name >= 0, "the layer sees every function of loader.h");
CLNORM_OPENCL_FUNCTIONS(CHECK)
#undef CHECK

/* Counts a call; the error that it is to fail with, or CL_SUCCESS. */
static cl_int enter(layer_function function) {
  static const cl_int errors[LAYER_NUM_FUNCTIONS][2] = {
#define ERRORS(name, exhausted, broken) {exhausted, broken},
      LAYER_FUNCTIONS(ERRORS)
#undef ERRORS
  };
  atomic_fetch_add(&layer.counts[function], 1);
  if (!atomic_load(&layer.armed)) return CL_SUCCESS;
  if (atomic_fetch_add(&layer.calls, 1) + 1 != layer.fail_at) return CL_SUCCESS;
  atomic_store(&layer.failed, function);
  return errors[function][layer.broken];
}

static void count(layer_object object, bool more) {
  atomic_fetch_add(&layer.live[object], more ? 1 : -1);
}

/* ---- Functions of one kind each ------------------------------------------------------------------ */

/* clang-format off */
#define PASS(name, parameters, arguments)                                                          \
  static cl_int CL_API_CALL layer_##name parameters {                                              \
    const cl_int code = enter(LAYER_##name);                                                       \
    return code == CL_SUCCESS ? target->name arguments : code;                                     \
  }
#define RETAIN(name, object, type)                                                                 \
  static cl_int CL_API_CALL layer_##name(type handle) {                                            \
    cl_int code = enter(LAYER_##name);                                                             \
    if (code == CL_SUCCESS) code = target->name(handle);                                           \
    if (code == CL_SUCCESS) count(object, true);                                                   \
    return code;                                                                                   \
  }
#define RELEASE(name, object, type)                                                                \
  static cl_int CL_API_CALL layer_##name(type handle) {                                            \
    const cl_int fault = enter(LAYER_##name);                                                      \
    const cl_int code = target->name(handle);                                                      \
    if (code == CL_SUCCESS) count(object, false);                                                  \
    return fault == CL_SUCCESS ? code : fault;                                                     \
  }
/* The parameters end with `cl_int *error`, the arguments with `&code`. `limit` is an error of the
 * personality, or CL_SUCCESS. */
#define CREATE(name, object, type, limit, parameters, arguments)                                   \
  static type CL_API_CALL layer_##name parameters {                                                \
    type made = NULL;                                                                              \
    cl_int code = enter(LAYER_##name);                                                             \
    if (code == CL_SUCCESS) code = limit;                                                          \
    if (code == CL_SUCCESS) made = target->name arguments;                                         \
    if (made) count(object, true);                                                                 \
    if (error) *error = code;                                                                      \
    return made;                                                                                   \
  }
/* The parameters end with `cl_event *event`. `then` is done behind a call that succeeded. */
#define ENQUEUE_THEN(name, limit, then, parameters, arguments)                                     \
  static cl_int CL_API_CALL layer_##name parameters {                                              \
    cl_int code = enter(LAYER_##name);                                                             \
    if (code == CL_SUCCESS) code = limit;                                                          \
    if (code == CL_SUCCESS) code = target->name arguments;                                         \
    if (code == CL_SUCCESS && event) count(LAYER_EVENT, true);                                     \
    if (code == CL_SUCCESS) {                                                                      \
      then;                                                                                        \
    }                                                                                              \
    return code;                                                                                   \
  }
#define ENQUEUE(name, limit, parameters, arguments)                                                \
  ENQUEUE_THEN(name, limit, (void)0, parameters, arguments)
#define INFO(name, type, kind)                                                                     \
  PASS(name, (type object, kind parameter, size_t size, void *value, size_t *needed),              \
       (object, parameter, size, value, needed))

/* ---- Personalities ------------------------------------------------------------------------------ */

static bool is(layer_personality personality) { return layer.personality == personality; }

static cl_int buffer_limit(size_t size) {
  return is(LAYER_SMALL_GPU) && size > LAYER_SMALL_ALLOC ? CL_INVALID_BUFFER_SIZE : CL_SUCCESS;
}
static cl_int context_limit(void) {
  return is(LAYER_NOT_AVAILABLE) ? CL_DEVICE_NOT_AVAILABLE : CL_SUCCESS;
}
static cl_int compiler_limit(void) {
  return is(LAYER_NO_COMPILER) ? CL_COMPILER_NOT_AVAILABLE : CL_SUCCESS;
}

/* A launch in one dimension; also keeps the largest work-group. */
static cl_int launch_limit(cl_kernel kernel, const size_t *local) {
  if (!local) return CL_SUCCESS;
  if (*local > atomic_load(&layer.largest_group)) atomic_store(&layer.largest_group, *local);
  if (!is(LAYER_SMALL_GPU)) return CL_SUCCESS;
  if (*local > LAYER_SMALL_GROUP) return CL_INVALID_WORK_GROUP_SIZE;
  cl_ulong bytes = 0;
  target->clGetKernelWorkGroupInfo(kernel, NULL, CL_KERNEL_LOCAL_MEM_SIZE, sizeof bytes, &bytes, NULL);
  return bytes > LAYER_SMALL_LOCAL ? CL_OUT_OF_RESOURCES : CL_SUCCESS;
}

/* Answers a question as the specification wants it. */
static cl_int answer(const void *data, size_t data_size, size_t size, void *value, size_t *needed) {
  if (needed) *needed = data_size;
  if (value && size < data_size) return CL_INVALID_VALUE;
  if (value) memcpy(value, data, data_size);
  return CL_SUCCESS;
}

typedef struct fact {
  layer_personality personality;
  cl_uint parameter;
  const void *data;
  size_t size;
} fact;

static const cl_device_type gpu = CL_DEVICE_TYPE_GPU;
static const size_t group = LAYER_SMALL_GROUP;
static const size_t groups[3] = {LAYER_SMALL_GROUP, LAYER_SMALL_GROUP, LAYER_SMALL_GROUP};
static const cl_ulong local_bytes = LAYER_SMALL_LOCAL, alloc_bytes = LAYER_SMALL_ALLOC;
static const cl_device_local_mem_type local_type = CL_LOCAL;
static const cl_bool no = CL_FALSE;
static const cl_device_fp_config no_doubles = 0;
static const char none[] = "", version[] = "OpenCL 1.1 old", language[] = "OpenCL C 1.1 old";

static const fact device_facts[] = {
    {LAYER_SMALL_GPU, CL_DEVICE_TYPE, &gpu, sizeof gpu},
    {LAYER_SMALL_GPU, CL_DEVICE_MAX_WORK_GROUP_SIZE, &group, sizeof group},
    {LAYER_SMALL_GPU, CL_DEVICE_MAX_WORK_ITEM_SIZES, groups, sizeof groups},
    {LAYER_SMALL_GPU, CL_DEVICE_LOCAL_MEM_SIZE, &local_bytes, sizeof local_bytes},
    {LAYER_SMALL_GPU, CL_DEVICE_LOCAL_MEM_TYPE, &local_type, sizeof local_type},
    {LAYER_SMALL_GPU, CL_DEVICE_MAX_MEM_ALLOC_SIZE, &alloc_bytes, sizeof alloc_bytes},
    {LAYER_SMALL_GPU, CL_DEVICE_EXTENSIONS, none, sizeof none},
    {LAYER_SMALL_GPU, CL_DEVICE_DOUBLE_FP_CONFIG, &no_doubles, sizeof no_doubles},
    {LAYER_NO_COMPILER, CL_DEVICE_COMPILER_AVAILABLE, &no, sizeof no},
    {LAYER_NOT_AVAILABLE, CL_DEVICE_AVAILABLE, &no, sizeof no},
    {LAYER_OPENCL_1_1, CL_DEVICE_VERSION, version, sizeof version},
    {LAYER_OPENCL_1_1, CL_DEVICE_OPENCL_C_VERSION, language, sizeof language},
};
static const fact kernel_facts[] = {
    {LAYER_SMALL_GPU, CL_KERNEL_WORK_GROUP_SIZE, &group, sizeof group},
};

/* What the personality says; NULL: what the driver says. */
static const fact *find(const fact *facts, size_t length, cl_uint parameter) {
  for (size_t i = 0; i < length; i++)
    if (is(facts[i].personality) && facts[i].parameter == parameter) return &facts[i];
  return NULL;
}
#define FIND(facts, parameter) find(facts, sizeof facts / sizeof facts[0], parameter)

static cl_int CL_API_CALL layer_clGetDeviceInfo(cl_device_id device, cl_device_info parameter,
                                                size_t size, void *value, size_t *needed) {
  const cl_int code = enter(LAYER_clGetDeviceInfo);
  const fact *known = FIND(device_facts, parameter);
  if (code != CL_SUCCESS) return code;
  if (known) return answer(known->data, known->size, size, value, needed);
  return target->clGetDeviceInfo(device, parameter, size, value, needed);
}

static cl_int CL_API_CALL layer_clGetKernelWorkGroupInfo(cl_kernel kernel, cl_device_id device,
                                                         cl_kernel_work_group_info parameter,
                                                         size_t size, void *value, size_t *needed) {
  const cl_int code = enter(LAYER_clGetKernelWorkGroupInfo);
  const fact *known = FIND(kernel_facts, parameter);
  if (code != CL_SUCCESS) return code;
  if (known) return answer(known->data, known->size, size, value, needed);
  return target->clGetKernelWorkGroupInfo(kernel, device, parameter, size, value, needed);
}

static cl_int CL_API_CALL layer_clGetDeviceIDs(cl_platform_id platform, cl_device_type type,
                                               cl_uint num, cl_device_id *devices, cl_uint *found) {
  const cl_int code = enter(LAYER_clGetDeviceIDs);
  if (code != CL_SUCCESS) return code;
  if (is(LAYER_NO_DEVICES)) {
    if (found) *found = 0;
    return CL_DEVICE_NOT_FOUND;
  }
  if (is(LAYER_SMALL_GPU) && (type & CL_DEVICE_TYPE_GPU)) type = CL_DEVICE_TYPE_ALL;
  return target->clGetDeviceIDs(platform, type, num, devices, found);
}

/* ---- The table ------------------------------------------------------------------------------------ */

PASS(clGetPlatformIDs, (cl_uint num, cl_platform_id *ids, cl_uint *found), (num, ids, found))
INFO(clGetPlatformInfo, cl_platform_id, cl_platform_info)
INFO(clGetContextInfo, cl_context, cl_context_info)
INFO(clGetCommandQueueInfo, cl_command_queue, cl_command_queue_info)
INFO(clGetMemObjectInfo, cl_mem, cl_mem_info)
INFO(clGetProgramInfo, cl_program, cl_program_info)
PASS(clGetProgramBuildInfo,
     (cl_program program, cl_device_id device, cl_program_build_info parameter, size_t size,
      void *value, size_t *needed),
     (program, device, parameter, size, value, needed))
PASS(clSetKernelArg, (cl_kernel kernel, cl_uint index, size_t size, const void *value),
     (kernel, index, size, value))
INFO(clGetEventInfo, cl_event, cl_event_info)
INFO(clGetEventProfilingInfo, cl_event, cl_profiling_info)
PASS(clWaitForEvents, (cl_uint num, const cl_event *events), (num, events))
PASS(clFlush, (cl_command_queue queue), (queue))
PASS(clFinish, (cl_command_queue queue), (queue))

RETAIN(clRetainDevice, LAYER_DEVICE, cl_device_id)
RETAIN(clRetainContext, LAYER_CONTEXT, cl_context)
RETAIN(clRetainCommandQueue, LAYER_QUEUE, cl_command_queue)
RETAIN(clRetainEvent, LAYER_EVENT, cl_event)
RELEASE(clReleaseDevice, LAYER_DEVICE, cl_device_id)
RELEASE(clReleaseContext, LAYER_CONTEXT, cl_context)
RELEASE(clReleaseCommandQueue, LAYER_QUEUE, cl_command_queue)
RELEASE(clReleaseMemObject, LAYER_MEMORY, cl_mem)
RELEASE(clReleaseProgram, LAYER_PROGRAM, cl_program)
RELEASE(clReleaseKernel, LAYER_KERNEL, cl_kernel)
RELEASE(clReleaseEvent, LAYER_EVENT, cl_event)

CREATE(clCreateContext, LAYER_CONTEXT, cl_context, context_limit(),
       (const cl_context_properties *properties, cl_uint num, const cl_device_id *devices,
        void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *data,
        cl_int *error),
       (properties, num, devices, notify, data, &code))
CREATE(clCreateCommandQueue, LAYER_QUEUE, cl_command_queue, CL_SUCCESS,
       (cl_context context, cl_device_id device, cl_command_queue_properties properties,
        cl_int *error),
       (context, device, properties, &code))
CREATE(clCreateBuffer, LAYER_MEMORY, cl_mem, buffer_limit(size),
       (cl_context context, cl_mem_flags flags, size_t size, void *host, cl_int *error),
       (context, flags, size, host, &code))
CREATE(clCreateProgramWithSource, LAYER_PROGRAM, cl_program, compiler_limit(),
       (cl_context context, cl_uint num, const char **texts, const size_t *sizes, cl_int *error),
       (context, num, texts, sizes, &code))
CREATE(clCreateProgramWithBinary, LAYER_PROGRAM, cl_program, CL_SUCCESS,
       (cl_context context, cl_uint num, const cl_device_id *devices, const size_t *sizes,
        const unsigned char **binaries, cl_int *accepted, cl_int *error),
       (context, num, devices, sizes, binaries, accepted, &code))
CREATE(clCreateKernel, LAYER_KERNEL, cl_kernel, CL_SUCCESS,
       (cl_program program, const char *name, cl_int *error), (program, name, &code))
CREATE(clCreateUserEvent, LAYER_EVENT, cl_event, CL_SUCCESS, (cl_context context, cl_int *error),
       (context, &code))
PASS(clBuildProgram,
     (cl_program program, cl_uint num, const cl_device_id *devices, const char *options,
      void(CL_CALLBACK *notify)(cl_program, void *), void *data),
     (program, num, devices, options, notify, data))

static cl_int wait_seen(cl_bool blocking) {
  if (blocking) atomic_fetch_add(&layer.blocking, 1);
  return CL_SUCCESS;
}
static void spoil(void *values, size_t size) {
  if (layer.spoilt > 0 && layer.spoilt <= size) ((unsigned char *)values)[layer.spoilt - 1] ^= 1;
}
ENQUEUE_THEN(clEnqueueReadBuffer, wait_seen(blocking), if (blocking) spoil(to, size),
             (cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset, size_t size,
              void *to, cl_uint num, const cl_event *waits, cl_event *event),
             (queue, memory, blocking, offset, size, to, num, waits, event))
ENQUEUE(clEnqueueWriteBuffer, wait_seen(blocking),
        (cl_command_queue queue, cl_mem memory, cl_bool blocking, size_t offset, size_t size,
         const void *from, cl_uint num, const cl_event *waits, cl_event *event),
        (queue, memory, blocking, offset, size, from, num, waits, event))
ENQUEUE(clEnqueueNDRangeKernel, launch_limit(kernel, local),
        (cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset,
         const size_t *global, const size_t *local, cl_uint num, const cl_event *waits,
         cl_event *event),
        (queue, kernel, dimensions, offset, global, local, num, waits, event))
ENQUEUE(clEnqueueMarkerWithWaitList, CL_SUCCESS,
        (cl_command_queue queue, cl_uint num, const cl_event *waits, cl_event *event),
        (queue, num, waits, event))
/* clang-format on */

static const cl_icd_dispatch dispatch = {
#define ENTRY(name, exhausted, broken) .name = layer_##name,
    LAYER_FUNCTIONS(ENTRY)
#undef ENTRY
};

EXPORT cl_int CL_API_CALL clGetLayerInfo(cl_layer_info parameter, size_t size, void *value,
                                         size_t *needed) {
  const cl_layer_api_version api = CL_LAYER_API_VERSION_100;
  static const char name[] = "clnorm test layer";
  if (parameter == CL_LAYER_API_VERSION) return answer(&api, sizeof api, size, value, needed);
  if (parameter == CL_LAYER_NAME) return answer(name, sizeof name, size, value, needed);
  return CL_INVALID_VALUE;
}

EXPORT cl_int CL_API_CALL clInitLayer(cl_uint num, const cl_icd_dispatch *next, cl_uint *num_ret,
                                      const cl_icd_dispatch **dispatch_ret) {
  if (!next || !num_ret || !dispatch_ret) return CL_INVALID_VALUE;
  if (num < sizeof dispatch / sizeof dispatch.clGetPlatformIDs) return CL_INVALID_VALUE;
  target = next;
  const char *personality = getenv("CLNORM_TEST_LAYER_PERSONALITY");
  if (personality) layer.personality = (layer_personality)atoi(personality);
  const char *fail_at = getenv("CLNORM_TEST_LAYER_FAIL_AT");
  if (fail_at) {
    layer.fail_at = atol(fail_at);
    layer.broken = true;
    atomic_store(&layer.armed, true);
  }
  *num_ret = sizeof dispatch / sizeof dispatch.clGetPlatformIDs;
  *dispatch_ret = &dispatch;
  return CL_SUCCESS;
}
