#include <stdio.h>
#include <stdlib.h>

#include "device.h"
#include "errors.h"
#include "kernel_sources.h"
#include "program.h"
#include "program_cache.h"

/* What prepare() makes: one kernel object a launch. */
typedef struct prepared_launches {
  cl_kernel kernels[3];
} prepared_launches;

/* ---- Preparing ---------------------------------------------------------------------------------- */

static const char *kernel_name(clnorm_stage stage) {
  static const char *const names[CLNORM_NUM_STAGES] = {
      [CLNORM_STAGE_CHANNEL] = "clnorm_channel",   [CLNORM_STAGE_PARTIALS] = "clnorm_partials",
      [CLNORM_STAGE_FINALIZE] = "clnorm_finalize", [CLNORM_STAGE_APPLY] = "clnorm_apply",
      [CLNORM_STAGE_COPY] = "clnorm_copy",
  };
  return names[stage];
}

/* Builds the device's program, of the form and group size of its traits, when it is first needed. */
static clnorm_status need_program(clnorm_opencl_device *device, clnorm_error *error) {
  if (device->program) return CLNORM_OK;
  const bool wide = device->base.traits.form == CLNORM_FORM_WIDE;
  char options[128], group_size[48] = "";
  if (wide)
    snprintf(group_size, sizeof group_size, " -D CLNORM_GROUP_SIZE=%u",
             device->base.traits.group_size);
  snprintf(options, sizeof options, "-cl-std=CL1.2%s%s", group_size,
           device->soft_fma ? " -D CLNORM_SOFT_FMA" : "");
  const clnorm_opencl_source source = {
      wide ? clnorm_kernel_forward_wide : clnorm_kernel_forward_vector,
      wide ? clnorm_kernel_forward_wide_size : clnorm_kernel_forward_vector_size, options,
      device->keeps_programs ? device->base.cache_folder : NULL};
  return clnorm_opencl_program_create(&device->api, device->context, device->id, &source,
                                      &device->program, error);
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
  if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clGetKernelWorkGroupInfo", code);
  if (limit >= needed || compiled[0] == needed) return CLNORM_OK;
  return clnorm_fail(error, CLNORM_ERROR_DEVICE,
                     "kernel %s needs work-groups of %zu, but the driver allows it %zu work-items; "
                     "the vector form (form in clnorm_context_options) needs 1",
                     kernel_name(stage), needed, limit);
}

clnorm_status clnorm_opencl_prepare(clnorm_device *base, const clnorm_schedule *schedule,
                                    void **prepared, clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  *prepared = NULL;
  if (schedule->num_launches == 0) return CLNORM_OK;
  clnorm_status status = need_program(device, error);
  if (status != CLNORM_OK) return status;
  prepared_launches *launches = calloc(1, sizeof *launches);
  if (!launches)
    return clnorm_fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for kernels");
  for (unsigned i = 0; i < schedule->num_launches && status == CLNORM_OK; i++) {
    const clnorm_stage stage = schedule->launches[i].stage;
    cl_int code = CL_SUCCESS;
    cl_kernel kernel = device->api.clCreateKernel(device->program, kernel_name(stage), &code);
    if (code != CL_SUCCESS) {
      status = clnorm_opencl_fail_create(error, "clCreateKernel", code);
      break;
    }
    launches->kernels[i] = kernel;
    status = check_group_size(device, kernel, stage, error);
  }
  if (status == CLNORM_OK) {
    *prepared = launches;
  } else {
    clnorm_opencl_unprepare(base, launches);
  }
  return status;
}

/* Drivers keep what a running kernel needs until it has ended. */
void clnorm_opencl_unprepare(clnorm_device *base, void *prepared) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  prepared_launches *launches = prepared;
  if (!launches) return;
  for (size_t i = 0; i < sizeof launches->kernels / sizeof launches->kernels[0]; i++) {
    if (launches->kernels[i]) device->api.clReleaseKernel(launches->kernels[i]);
  }
  free(launches);
}

/* ---- Running ------------------------------------------------------------------------------------ */

/* Absent operands are never accessed, but OpenCL wants a buffer for every pointer. */
static cl_mem stand_in(const clnorm_memory *operands, clnorm_operand operand) {
  if (operands[operand].cl) return operands[operand].cl;
  const bool read_only = operand == CLNORM_OPERAND_WEIGHT || operand == CLNORM_OPERAND_BIAS;
  return read_only || !operands[CLNORM_OPERAND_Y].cl ? operands[CLNORM_OPERAND_X].cl
                                                     : operands[CLNORM_OPERAND_Y].cl;
}

static cl_int set_arguments(const clnorm_opencl_api *api, cl_kernel kernel,
                            const clnorm_forward *call, const clnorm_memory *operands) {
  for (cl_uint i = 0; i < CLNORM_NUM_OPERANDS; i++) {
    const cl_mem buffer = stand_in(operands, (clnorm_operand)i);
    const cl_int code = api->clSetKernelArg(kernel, i, sizeof buffer, &buffer);
    if (code != CL_SUCCESS) return code;
  }
  return api->clSetKernelArg(kernel, CLNORM_NUM_OPERANDS, sizeof *call, call);
}

/* All arguments are set before the first launch, so that a failure leaves everything unchanged. */
static clnorm_status bind_arguments(const clnorm_opencl_device *device,
                                    const prepared_launches *launches,
                                    const clnorm_schedule *schedule, const clnorm_forward *call,
                                    const clnorm_memory *operands, clnorm_error *error) {
  for (unsigned i = 0; i < schedule->num_launches; i++) {
    const cl_int code = set_arguments(&device->api, launches->kernels[i], call, operands);
    if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clSetKernelArg", code);
  }
  return CLNORM_OK;
}

/* The events of a run: of its first launch and of its last so far, each a reference of its own. */
typedef struct run_events {
  bool wanted; /* else there are none on a queue that keeps its order */
  cl_event first, last;
} run_events;

/* Makes *kept another reference to event in the place of the one it was. */
static cl_int keep(const clnorm_opencl_api *api, cl_event event, cl_event *kept) {
  const cl_int code = event ? api->clRetainEvent(event) : CL_SUCCESS;
  if (code != CL_SUCCESS) return code;
  if (*kept) api->clReleaseEvent(*kept);
  *kept = event;
  return CL_SUCCESS;
}

static void release_events(const clnorm_opencl_api *api, run_events *events) {
  if (events->first) api->clReleaseEvent(events->first);
  if (events->last) api->clReleaseEvent(events->last);
}

/* Submits the launches. The first waits for the events given; in order, the queue does the rest; out of
 * order, each launch waits for the one before. */
static clnorm_status submit(clnorm_opencl_device *device, const prepared_launches *launches,
                            const clnorm_schedule *schedule, cl_uint num_waits,
                            const cl_event *waits, run_events *events, clnorm_error *error) {
  const clnorm_opencl_api *api = &device->api;
  for (unsigned i = 0; i < schedule->num_launches; i++) {
    const size_t local = device->base.traits.group_size;
    const clnorm_launch *launch = &schedule->launches[i];
    const uint64_t groups = launch->items / launch->each + (launch->items % launch->each != 0);
    const size_t global = (size_t)groups * local;
    cl_event done = NULL;
    cl_int code = api->clEnqueueNDRangeKernel(
        device->queue, launches->kernels[i], 1, NULL, &global, &local, num_waits, waits,
        device->out_of_order || events->wanted ? &done : NULL);
    if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clEnqueueNDRangeKernel", code);
    if (events->last) api->clReleaseEvent(events->last);
    events->last = done;
    if (i == 0) code = keep(api, done, &events->first);
    if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clRetainEvent", code);
    num_waits = device->out_of_order ? 1 : 0;
    waits = device->out_of_order ? &events->last : NULL;
  }
  return CLNORM_OK;
}

/* The caller's events, and the previous run's on an out-of-order queue. There may be any number of the
 * caller's: a marker joins them, so that two are waited for without allocating. */
static clnorm_status submit_after(clnorm_opencl_device *device, const prepared_launches *launches,
                                  const clnorm_schedule *schedule, cl_uint num_waits,
                                  const cl_event *waits, run_events *events, clnorm_error *error) {
  if (!device->last) {
    return submit(device, launches, schedule, num_waits, waits, events, error);
  }
  cl_event both[2] = {device->last, NULL};
  if (num_waits > 0) {
    const cl_int code =
        device->api.clEnqueueMarkerWithWaitList(device->queue, num_waits, waits, &both[1]);
    if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clEnqueueMarkerWithWaitList", code);
  }
  const clnorm_status status =
      submit(device, launches, schedule, both[1] ? 2 : 1, both, events, error);
  if (both[1]) device->api.clReleaseEvent(both[1]);
  return status;
}

/* A run of no launches: what waits for it waits for a marker. */
static clnorm_status submit_marker(clnorm_opencl_device *device, cl_uint num_waits,
                                   const cl_event *waits, run_events *events, clnorm_error *error) {
  if (!events->wanted && num_waits == 0) return CLNORM_OK;
  const cl_int code =
      device->api.clEnqueueMarkerWithWaitList(device->queue, num_waits, waits, &events->last);
  return code == CL_SUCCESS ? CLNORM_OK
                            : clnorm_opencl_fail(error, "clEnqueueMarkerWithWaitList", code);
}

/* What later runs and the caller need of the events. The caller gets his only if all went well. */
static clnorm_status hand_out(clnorm_opencl_device *device, const clnorm_schedule *schedule,
                              const run_events *events, const struct clnorm_opencl_sync *sync,
                              clnorm_error *error) {
  const clnorm_opencl_api *api = &device->api;
  cl_int code = CL_SUCCESS;
  if (device->out_of_order && schedule->num_launches > 0)
    code = keep(api, events->last, &device->last);
  if (device->base.profiling) {
    const bool timed = schedule->num_launches > 0;
    device->has_run = true;
    if (code == CL_SUCCESS) code = keep(api, timed ? events->first : NULL, &device->timed[0]);
    if (code == CL_SUCCESS) code = keep(api, timed ? events->last : NULL, &device->timed[1]);
    if (code != CL_SUCCESS) device->has_run = false;
  }
  if (sync && sync->event && code == CL_SUCCESS) {
    code = api->clRetainEvent(events->last);
    if (code == CL_SUCCESS) *sync->event = events->last;
  }
  return code == CL_SUCCESS ? CLNORM_OK : clnorm_opencl_fail(error, "clRetainEvent", code);
}

clnorm_status clnorm_opencl_run(clnorm_device *base, void *prepared,
                                const clnorm_schedule *schedule, const clnorm_forward *call,
                                const clnorm_memory operands[CLNORM_NUM_OPERANDS],
                                const struct clnorm_opencl_sync *sync, clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  const cl_uint num_waits = sync ? sync->num_events_in_wait_list : 0;
  const cl_event *waits = num_waits > 0 ? sync->event_wait_list : NULL;
  if (num_waits > 0 && !waits) {
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                       "num_events_in_wait_list is %u, but event_wait_list is NULL", num_waits);
  }
  run_events events = {base->profiling || (sync && sync->event), NULL, NULL};
  clnorm_status status = CLNORM_OK;
  if (schedule->num_launches > 0) {
    status = bind_arguments(device, prepared, schedule, call, operands, error);
    if (status == CLNORM_OK)
      status = submit_after(device, prepared, schedule, num_waits, waits, &events, error);
  } else {
    status = submit_marker(device, num_waits, waits, &events, error);
  }
  const cl_int flushed = device->api.clFlush(device->queue); /* work starts without a wait */
  if (status == CLNORM_OK && flushed != CL_SUCCESS) {
    status = clnorm_opencl_fail(error, "clFlush", flushed);
  }
  if (status == CLNORM_OK) {
    status = hand_out(device, schedule, &events, sync, error);
  } else if (device->out_of_order && events.last) {
    keep(&device->api, events.last, &device->last);
  }
  release_events(&device->api, &events);
  return status;
}

/* ---- Times -------------------------------------------------------------------------------------- */

clnorm_status clnorm_opencl_last_run_seconds(clnorm_device *base, double *seconds,
                                             clnorm_error *error) {
  const clnorm_opencl_device *device = (const clnorm_opencl_device *)base;
  const clnorm_opencl_api *api = &device->api;
  cl_ulong start = 0, end = 0;
  if (!device->has_run) return clnorm_fail_no_run(error);
  if (!device->timed[1]) {
    *seconds = 0;
    return CLNORM_OK;
  }
  cl_int code = api->clWaitForEvents(1, &device->timed[1]);
  if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clWaitForEvents", code);
  code = api->clGetEventProfilingInfo(device->timed[0], CL_PROFILING_COMMAND_START, sizeof start,
                                      &start, NULL);
  if (code == CL_SUCCESS) {
    code = api->clGetEventProfilingInfo(device->timed[1], CL_PROFILING_COMMAND_END, sizeof end,
                                        &end, NULL);
  }
  if (code != CL_SUCCESS) return clnorm_opencl_fail(error, "clGetEventProfilingInfo", code);
  if (end < start) {
    return clnorm_fail(error, CLNORM_ERROR_DEVICE,
                       "the driver's times are no times: the run ended at %llu ns and started at "
                       "%llu ns",
                       (unsigned long long)end, (unsigned long long)start);
  }
  *seconds = 1e-9 * (double)(end - start);
  return CLNORM_OK;
}
