#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "errors.h"
#include "fp64.h"
#include "order.h"
#include "programs.h"

/* What prepare() makes: one kernel object a launch. */
typedef struct prepared_launches {
  cl_kernel kernels[CLNORM_MAX_LAUNCHES];
} prepared_launches;

/* ---- Preparing ---------------------------------------------------------------------------------- */

static const char *kernel_name(clnorm_stage stage) {
  static const char *const names[CLNORM_NUM_STAGES] = {
      [CLNORM_STAGE_CHANNEL] = "clnorm_channel",
      [CLNORM_STAGE_PARTIALS] = "clnorm_partials",
      [CLNORM_STAGE_FINALIZE] = "clnorm_finalize",
      [CLNORM_STAGE_APPLY] = "clnorm_apply",
      [CLNORM_STAGE_COPY] = "clnorm_copy",
      [CLNORM_STAGE_BACKWARD_CHANNEL] = "clnorm_backward_channel",
      [CLNORM_STAGE_BACKWARD_PARTIALS] = "clnorm_backward_partials",
      [CLNORM_STAGE_BACKWARD_FINALIZE] = "clnorm_backward_finalize",
      [CLNORM_STAGE_BACKWARD_APPLY] = "clnorm_backward_apply",
  };
  return names[stage];
}

clnorm_status clnorm__opencl_supports(clnorm_device *base, const clnorm_key *key,
                                      clnorm_error *error) {
  const bool doubles = key->x == CLNORM_STORAGE_F64 || key->y == CLNORM_STORAGE_F64;
  return doubles ? clnorm__opencl_check_fp64((clnorm_opencl_device *)base, error) : CLNORM_OK;
}

/* All types can be compiled for every path that the form has, but for backward's vectors, where x and dy are of one. */
bool clnorm__opencl_has_path(const clnorm_device *base, clnorm_path path, const clnorm_work *work) {
  const clnorm_view *views = work->call.views;
  if (work->operation == CLNORM_BACKWARD && base->traits.form == CLNORM_FORM_VECTOR)
    return path == CLNORM_PATH_GENERAL ||
           views[CLNORM_VIEW_DY].storage == views[CLNORM_VIEW_X].storage;
  return path != CLNORM_PATH_CHANNELS || base->traits.form == CLNORM_FORM_VECTOR;
}

/* A driver may allow a kernel fewer work-items than it allows in general, for want of registers. Some
 * drivers tell too small a limit (rusticl 22.3: 32), so a kernel that was compiled for the size it needs
 * is tried all the same. */
static clnorm_status check_group_size(const clnorm_opencl_device *device, cl_kernel kernel,
                                      clnorm_stage stage, clnorm_error *error) {
  const size_t needed = device->base.traits.group_size;
  size_t limit = 0;
  size_t compiled[3] = {0, 0, 0};
  cl_int code = device->api.clGetKernelWorkGroupInfo(kernel, device->id, CL_KERNEL_WORK_GROUP_SIZE,
                                                     sizeof limit, &limit, NULL);
  if (code == CL_SUCCESS) {
    code = device->api.clGetKernelWorkGroupInfo(
        kernel, device->id, CL_KERNEL_COMPILE_WORK_GROUP_SIZE, sizeof compiled, compiled, NULL);
  }
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clGetKernelWorkGroupInfo", code);
  if (limit >= needed || compiled[0] == needed) return CLNORM_OK;
  return clnorm__fail(
      error, CLNORM_ERROR_DEVICE,
      "kernel %s needs work-groups of %zu, but the driver allows it %zu work-items; "
      "the vector form (form in clnorm_context_options) needs 1",
      kernel_name(stage), needed, limit);
}

clnorm_status clnorm__opencl_prepare(clnorm_device *base, const clnorm_schedule *schedule,
                                     void **prepared, clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  *prepared = NULL;
  if (schedule->num_launches == 0) return CLNORM_OK;
  cl_program program = NULL; /* the store's */
  clnorm_status status = clnorm__opencl_programs_get(device, &schedule->key, &program, error);
  if (status != CLNORM_OK) return status;
  prepared_launches *launches = calloc(1, sizeof *launches);
  if (!launches)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for kernels");
  for (unsigned i = 0; i < schedule->num_launches && status == CLNORM_OK; i++) {
    const clnorm_stage stage = schedule->launches[i].stage;
    cl_int code = CL_SUCCESS;
    cl_kernel kernel = device->api.clCreateKernel(program, kernel_name(stage), &code);
    if (code != CL_SUCCESS) {
      status = clnorm__opencl_fail_create(error, "clCreateKernel", code);
      break;
    }
    launches->kernels[i] = kernel;
    status = check_group_size(device, kernel, stage, error);
  }
  if (status == CLNORM_OK) {
    *prepared = launches;
  } else {
    clnorm__opencl_unprepare(base, launches);
  }
  return status;
}

/* Drivers keep what a running kernel needs until it has ended. */
void clnorm__opencl_unprepare(clnorm_device *base, void *prepared) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  prepared_launches *launches = prepared;
  if (!launches) return;
  const bool inherited = clnorm__opencl_is_inherited(device);
  for (size_t i = 0; i < sizeof launches->kernels / sizeof launches->kernels[0]; i++) {
    if (launches->kernels[i] && !inherited) device->api.clReleaseKernel(launches->kernels[i]);
  }
  free(launches);
}

/* ---- Running ------------------------------------------------------------------------------------ */

/* Absent operands are never accessed, but OpenCL wants a buffer for every pointer: for those that kernels only read,
 * one that is read where there is one; for the others one that is written. */
static cl_mem stand_in(const clnorm_memory *operands, clnorm_operand_index operand) {
  static const clnorm_operand_index read[] = {CLNORM_OPERAND_X, CLNORM_OPERAND_DY};
  static const clnorm_operand_index written[] = {CLNORM_OPERAND_Y, CLNORM_OPERAND_DX,
                                                 CLNORM_OPERAND_DWEIGHT, CLNORM_OPERAND_DBIAS};
  enum { NUM_READ = sizeof read / sizeof *read, NUM_WRITTEN = sizeof written / sizeof *written };
  const bool read_only = operand == CLNORM_OPERAND_X || operand == CLNORM_OPERAND_DY ||
                         operand == CLNORM_OPERAND_WEIGHT || operand == CLNORM_OPERAND_BIAS;
  if (operands[operand].cl) return operands[operand].cl;
  for (int i = 0; i < NUM_READ && read_only; i++)
    if (operands[read[i]].cl) return operands[read[i]].cl;
  for (int i = 0; i < NUM_WRITTEN; i++)
    if (operands[written[i]].cl) return operands[written[i]].cl;
  return operands[CLNORM_OPERAND_X].cl;
}

static cl_int set_arguments(const clnorm_opencl_api *api, cl_kernel kernel, const clnorm_call *call,
                            const clnorm_memory *operands) {
  for (cl_uint i = 0; i < CLNORM_NUM_OPERANDS; i++) {
    const cl_mem buffer = stand_in(operands, (clnorm_operand_index)i);
    const cl_int code = api->clSetKernelArg(kernel, i, sizeof buffer, &buffer);
    if (code != CL_SUCCESS) return code;
  }
  return api->clSetKernelArg(kernel, CLNORM_NUM_OPERANDS, sizeof *call, call);
}

/* All arguments are set before the first launch, so that a failure leaves everything unchanged. */
static clnorm_status bind_arguments(const clnorm_opencl_device *device, const clnorm_job *run,
                                    clnorm_error *error) {
  const prepared_launches *launches = run->prepared;
  for (unsigned i = 0; i < run->schedule->num_launches; i++) {
    const cl_int code =
        set_arguments(&device->api, launches->kernels[i], &run->call, run->operands);
    if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clSetKernelArg", code);
  }
  return CLNORM_OK;
}

/* One run on its way to the device. The events are of its first launch and of its last so far, each a
 * reference of its own; there are none on a queue that keeps its order, unless they are wanted. */
typedef struct submission {
  clnorm_opencl_device *device;
  const clnorm_job *run;
  clnorm_opencl_queue queue;
  bool wants_events;
  cl_event first, last;
} submission;

/* Makes *kept another reference to event in the place of the one it was. */
static cl_int keep(const clnorm_opencl_api *api, cl_event event, cl_event *kept) {
  const cl_int code = event ? api->clRetainEvent(event) : CL_SUCCESS;
  if (code != CL_SUCCESS) return code;
  if (*kept) api->clReleaseEvent(*kept);
  *kept = event;
  return CL_SUCCESS;
}

/* Submits the launches. The first waits for the events given; in order, the queue does the rest; out of
 * order, each launch waits for the one before. */
static clnorm_status submit_launches(submission *s, cl_uint num_waits, const cl_event *waits,
                                     clnorm_error *error) {
  const clnorm_opencl_api *api = &s->device->api;
  const clnorm_schedule *schedule = s->run->schedule;
  const prepared_launches *launches = s->run->prepared;
  for (unsigned i = 0; i < schedule->num_launches; i++) {
    const size_t local = s->device->base.traits.group_size;
    const clnorm_launch *launch = &schedule->launches[i];
    const uint64_t groups = launch->items / launch->each + (launch->items % launch->each != 0);
    const size_t global = (size_t)groups * local;
    cl_event done = NULL;
    cl_int code =
        api->clEnqueueNDRangeKernel(s->queue.handle, launches->kernels[i], 1, NULL, &global, &local,
                                    num_waits, waits, s->wants_events ? &done : NULL);
    if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clEnqueueNDRangeKernel", code);
    if (s->last) api->clReleaseEvent(s->last);
    s->last = done;
    if (i == 0) code = keep(api, done, &s->first);
    if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clRetainEvent", code);
    num_waits = s->queue.out_of_order ? 1 : 0;
    waits = s->queue.out_of_order ? &s->last : NULL;
  }
  return CLNORM_OK;
}

static clnorm_status enqueue_marker(submission *s, cl_uint num_waits, const cl_event *waits,
                                    cl_event *event, clnorm_error *error) {
  const cl_int code =
      s->device->api.clEnqueueMarkerWithWaitList(s->queue.handle, num_waits, waits, event);
  if (code == CL_SUCCESS) return CLNORM_OK;
  return clnorm__opencl_fail(error, "clEnqueueMarkerWithWaitList", code);
}

/* After the caller's events and the earlier runs that this one follows; these were flushed when they were
 * submitted, on whatever queue. There may be any number of the caller's events: a marker joins them, so that
 * both are waited for without allocating. */
static clnorm_status submit_run(submission *s, cl_uint num_waits, const cl_event *waits,
                                clnorm_error *error) {
  clnorm_opencl_waits earlier = {0, {NULL}};
  clnorm_status status = CLNORM_OK;
  for (int i = 0; i < CLNORM_USES && status == CLNORM_OK; i++)
    status = clnorm__opencl_follow(s->device, s->queue, s->run->uses[i].order,
                                   s->run->uses[i].writes, &earlier, error);
  if (status != CLNORM_OK) return status;
  if (earlier.count == 0) return submit_launches(s, num_waits, waits, error);
  if (num_waits == 0) return submit_launches(s, earlier.count, earlier.events, error);
  cl_event joined = NULL;
  status = enqueue_marker(s, num_waits, waits, &joined, error);
  if (status != CLNORM_OK) return status;
  cl_event both[1 + sizeof earlier.events / sizeof earlier.events[0]] = {joined};
  memcpy(both + 1, earlier.events, earlier.count * sizeof both[0]);
  status = submit_launches(s, 1 + earlier.count, both, error);
  s->device->api.clReleaseEvent(joined);
  return status;
}

/* A run of no launches: what waits for it waits for a marker. */
static clnorm_status submit_nothing(submission *s, cl_uint num_waits, const cl_event *waits,
                                    clnorm_error *error) {
  if (!s->wants_events && num_waits == 0) return CLNORM_OK;
  clnorm_status status = enqueue_marker(s, num_waits, waits, &s->last, error);
  const cl_int code = status == CLNORM_OK ? keep(&s->device->api, s->last, &s->first) : CL_SUCCESS;
  if (code != CL_SUCCESS) status = clnorm__opencl_fail(error, "clRetainEvent", code);
  return status;
}

/* What was submitted is entered into the orders of what it uses, even where the rest failed. */
static cl_int enter_run(const submission *s) {
  cl_int code = CL_SUCCESS;
  for (int i = 0; i < CLNORM_USES && s->run->schedule->num_launches > 0; i++) {
    const cl_int entered = clnorm__opencl_enter(s->device, s->queue, s->run->uses[i], s->last);
    if (code == CL_SUCCESS) code = entered;
  }
  return code;
}

static cl_int keep_times(const submission *s) {
  clnorm_opencl_device *device = s->device;
  const bool timed = s->run->schedule->num_launches > 0;
  if (!device->base.profiling) return CL_SUCCESS;
  cl_int code = keep(&device->api, timed ? s->first : NULL, &device->timed[0]);
  if (code == CL_SUCCESS) code = keep(&device->api, timed ? s->last : NULL, &device->timed[1]);
  device->has_run = code == CL_SUCCESS;
  return code;
}

/* The caller gets his events if he gets all of them. */
static cl_int give_events(const submission *s) {
  const clnorm_opencl_api *api = &s->device->api;
  const clnorm_opencl_sync *sync = s->run->sync;
  cl_event first = NULL, last = NULL;
  cl_int code = sync && sync->first_event ? keep(api, s->first, &first) : CL_SUCCESS;
  if (code == CL_SUCCESS && sync && sync->event) code = keep(api, s->last, &last);
  if (code != CL_SUCCESS && first) api->clReleaseEvent(first);
  if (code != CL_SUCCESS) return code;
  if (first) *sync->first_event = first;
  if (last) *sync->event = last;
  return CL_SUCCESS;
}

/* The queue that the run names, or the context's. */
static clnorm_status choose_queue(submission *s, clnorm_error *error) {
  const clnorm_opencl_device *device = s->device;
  const clnorm_opencl_sync *sync = s->run->sync;
  s->queue = device->queue;
  if (!sync || !sync->queue || sync->queue == device->queue.handle) return CLNORM_OK;
  s->queue.handle = sync->queue;
  return clnorm__opencl_check_queue(&device->api, device->context, device->id,
                                    device->base.profiling, &s->queue, error);
}

static clnorm_status submit(submission *s, clnorm_error *error) {
  const clnorm_opencl_sync *sync = s->run->sync;
  const cl_uint num_waits = sync ? sync->num_events_in_wait_list : 0;
  const cl_event *waits = sync ? sync->event_wait_list : NULL;
  if (s->run->schedule->num_launches == 0) return submit_nothing(s, num_waits, waits, error);
  const clnorm_status status = bind_arguments(s->device, s->run, error);
  return status == CLNORM_OK ? submit_run(s, num_waits, waits, error) : status;
}

clnorm_status clnorm__opencl_run(clnorm_device *base, const clnorm_job *run, clnorm_error *error) {
  submission s = {.device = (clnorm_opencl_device *)base, .run = run};
  const clnorm_opencl_api *api = &s.device->api;
  clnorm_status status = choose_queue(&s, error);
  if (status != CLNORM_OK) return status;
  const bool asked = run->sync && (run->sync->event || run->sync->first_event);
  const bool shared = run->uses[0].order || run->uses[1].order;
  s.wants_events = s.queue.out_of_order || base->profiling || asked || shared;
  status = submit(&s, error);
  const cl_int flushed = api->clFlush(s.queue.handle); /* work starts without a wait */
  if (status == CLNORM_OK && flushed != CL_SUCCESS)
    status = clnorm__opencl_fail(error, "clFlush", flushed);
  cl_int code = enter_run(&s);
  if (status == CLNORM_OK && code == CL_SUCCESS) code = keep_times(&s);
  if (status == CLNORM_OK && code == CL_SUCCESS) code = give_events(&s);
  if (status == CLNORM_OK && code != CL_SUCCESS)
    status = clnorm__opencl_fail(error, "clRetainEvent", code);
  if (s.first) api->clReleaseEvent(s.first);
  if (s.last) api->clReleaseEvent(s.last);
  return status;
}

/* ---- Times -------------------------------------------------------------------------------------- */

clnorm_status clnorm__opencl_last_run_seconds(clnorm_device *base, double *seconds,
                                              clnorm_error *error) {
  const clnorm_opencl_device *device = (const clnorm_opencl_device *)base;
  const clnorm_opencl_api *api = &device->api;
  cl_ulong start = 0, end = 0;
  if (!device->has_run) return clnorm__fail_no_run(error);
  if (!device->timed[1]) {
    *seconds = 0;
    return CLNORM_OK;
  }
  cl_int code = api->clWaitForEvents(1, &device->timed[1]);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clWaitForEvents", code);
  code = api->clGetEventProfilingInfo(device->timed[0], CL_PROFILING_COMMAND_START, sizeof start,
                                      &start, NULL);
  if (code == CL_SUCCESS) {
    code = api->clGetEventProfilingInfo(device->timed[1], CL_PROFILING_COMMAND_END, sizeof end,
                                        &end, NULL);
  }
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clGetEventProfilingInfo", code);
  if (end < start) {
    return clnorm__fail(error, CLNORM_ERROR_DEVICE,
                        "the driver's times are no times: the run ended at %llu ns and started at "
                        "%llu ns",
                        (unsigned long long)end, (unsigned long long)start);
  }
  *seconds = 1e-9 * (double)(end - start);
  return CLNORM_OK;
}
