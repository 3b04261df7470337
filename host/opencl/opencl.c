#include "opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache_folder.h"
#include "device.h"
#include "devices.h"
#include "errors.h"
#include "programs.h"
#include "traits.h"
#include "tuning.h"

/* ---- Closing ------------------------------------------------------------------------------------ */

bool clnorm__opencl_is_inherited(const clnorm_opencl_device *device) {
  return device->base.process != getpid();
}

/* Releases what is there; also of a device that was opened halfway. */
static void release(clnorm_opencl_device *device) {
  const clnorm_opencl_api *api = &device->api;
  for (int i = 0; i < 2; i++)
    if (device->timed[i]) api->clReleaseEvent(device->timed[i]);
  clnorm__opencl_programs_release(device->programs, api);
  if (device->queue.handle) api->clReleaseCommandQueue(device->queue.handle);
  if (device->context) api->clReleaseContext(device->context);
  if (device->id) api->clReleaseDevice(device->id);
  clnorm__opencl_unload(&device->api);
}

static void free_device(clnorm_opencl_device *device) {
  free(device->base.cache_folder);
  free(device);
}

static void device_close(clnorm_device *base) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  if (clnorm__opencl_is_inherited(device)) {
    clnorm__opencl_programs_release(device->programs, NULL);
  } else {
    release(device);
  }
  free_device(device);
}

static clnorm_status device_finish(clnorm_device *base, clnorm_error *error) {
  clnorm_opencl_device *device = (clnorm_opencl_device *)base;
  const cl_int code = device->api.clFinish(device->queue.handle);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clFinish", code);
  return CLNORM_OK;
}

static const clnorm_device_operations operations = {
    .close = device_close,
    .finish = device_finish,
    .alloc = clnorm__opencl_alloc,
    .free = clnorm__opencl_free,
    .write = clnorm__opencl_write,
    .read = clnorm__opencl_read,
    .span = clnorm__opencl_span,
    .supports = clnorm__opencl_supports,
    .has_path = clnorm__opencl_has_path,
    .prepare = clnorm__opencl_prepare,
    .unprepare = clnorm__opencl_unprepare,
    .run = clnorm__opencl_run,
    .forget = clnorm__opencl_forget,
    .last_run_seconds = clnorm__opencl_last_run_seconds,
};

/* ---- Opening ------------------------------------------------------------------------------------ */

/* The opened context whose programs are to be shared; NULL: none. */
static clnorm_status find_share(const clnorm_context_options *options,
                                const clnorm_opencl_device **share, clnorm_error *error) {
  const clnorm_device *base = clnorm__context_opened(options->share);
  *share = (const clnorm_opencl_device *)base;
  if (!base) return CLNORM_OK;
  if (base->operations != &operations) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "share is a context of the CPU path, which has no programs to share");
  }
  if (!clnorm__opencl_is_inherited(*share)) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_STATE,
                      "share was opened by process %ld, and this is its child: an OpenCL device "
                      "cannot be used after a fork",
                      (long)base->process);
}

/* Programs are good for one cl_context, and are built for one of its devices. */
static clnorm_status check_share(const clnorm_opencl_device *share, cl_context context,
                                 cl_device_id id, clnorm_error *error) {
  if (!share || (share->context == context && share->id == id)) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "share is a context on another %s: it is on device %s (%s)",
                      share->id == id ? "cl_context" : "cl_device_id", share->base.info.id,
                      share->base.info.name);
}

/* A device structure with the functions loaded and the store of programs, and nothing else. For close_half(). */
static clnorm_status create_device(const clnorm_opencl_device *share, clnorm_error *error,
                                   clnorm_opencl_device **created) {
  clnorm_message reason;
  clnorm_opencl_device *device = calloc(1, sizeof *device);
  if (!device)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a device");
  device->base.process = getpid();
  device->programs =
      share ? clnorm__opencl_programs_hold(share->programs) : clnorm__opencl_programs_create();
  if (!device->programs) {
    free_device(device);
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for programs");
  }
  if (!clnorm__opencl_load(CLNORM_OPENCL_LIBRARY, &device->api, &reason)) {
    clnorm__opencl_programs_release(device->programs, NULL);
    free_device(device);
    return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE, "%s", reason.text);
  }
  *created = device;
  return CLNORM_OK;
}

/* A device that could not be opened: nothing was submitted to it. */
static void close_half(clnorm_opencl_device *device) {
  release(device);
  free_device(device);
}

static clnorm_status retain_device(clnorm_opencl_device *device, cl_device_id id,
                                   clnorm_error *error) {
  const cl_int code = device->api.clRetainDevice(id);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clRetainDevice", code);
  device->id = id;
  return CLNORM_OK;
}

static const char *form_text(clnorm_form form) {
  return form == CLNORM_FORM_VECTOR ? "vector form" : "wide form";
}

/* PoCL keeps compiled kernels itself, and whoever asks it for a binary makes it compile all of them once more,
 * for work-groups of any size: about twice the time on a new machine, and nothing gained later. There programs
 * are kept only in a folder that somebody named. */
static bool wants_programs_kept(const clnorm_device_info *info, const char *cache_dir) {
  return !strstr(info->platform, "Portable Computing Language") ||
         clnorm__cache_folder_is_named(cache_dir);
}

/* Fills what the core and the user see. device->id is known. */
static clnorm_status fill_base(clnorm_opencl_device *device, const char *id,
                               const clnorm_context_options *options, clnorm_error *error) {
  clnorm_device *base = &device->base;
  char note[160];
  base->operations = &operations;
  base->profiling = options->profiling;
  if (clnorm__opencl_describe(&device->api, device->id, id, &base->info) != CLNORM_OK) {
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for device %s", id);
  }
  if (!base->info.usable) {
    return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE, "device %s (%s) cannot be used: %s", id,
                        base->info.name, base->info.status);
  }
  clnorm_opencl_query query = clnorm__opencl_query_device(&device->api, device->id);
  const clnorm_form form = clnorm__tuning_choose(base, options, error);
  device->keeps_programs = wants_programs_kept(&base->info, options->cache_dir);
  const unsigned wanted = (unsigned)options->group_size;
  base->traits = clnorm__opencl_traits(&query, form, wanted ? wanted : CLNORM_OPENCL_LARGEST_GROUP,
                                       note, sizeof note);
  cl_device_fp_config floats = 0;
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_SINGLE_FP_CONFIG, &floats);
  device->soft_fma = (floats & CL_FP_FMA) == 0;
  if (query.out_of_memory) {
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for device %s", id);
  }
  if (query.call) return clnorm__opencl_fail(error, query.call, query.code);
  if (base->traits.form == CLNORM_FORM_WIDE && wanted > base->traits.group_size) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "group_size is %u, but device %s allows work-groups of %u only", wanted, id,
                        base->traits.group_size);
  }
  snprintf(base->description, sizeof base->description, "%s (%s, %s), %s, %d compute units%s",
           base->info.name, base->info.id, base->info.platform,
           note[0] ? note : form_text(base->traits.form), base->info.compute_units,
           base->info.denormals ? "" : ", no subnormals");
  return CLNORM_OK;
}

/* That of `share`, or a new one. */
static clnorm_status get_context(clnorm_opencl_device *device, const clnorm_opencl_device *share,
                                 clnorm_error *error) {
  cl_int code = CL_SUCCESS;
  if (share) {
    const clnorm_status status = check_share(share, share->context, device->id, error);
    if (status != CLNORM_OK) return status;
    code = device->api.clRetainContext(share->context);
    if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clRetainContext", code);
    device->context = share->context;
    return CLNORM_OK;
  }
  cl_context context = device->api.clCreateContext(NULL, 1, &device->id, NULL, NULL, &code);
  if (code != CL_SUCCESS) return clnorm__opencl_fail_create(error, "clCreateContext", code);
  device->context = context;
  return CLNORM_OK;
}

static clnorm_status create_queue(clnorm_opencl_device *device, clnorm_error *error) {
  cl_int code = CL_SUCCESS;
  const cl_command_queue_properties properties =
      device->base.profiling ? CL_QUEUE_PROFILING_ENABLE : 0;
  cl_command_queue queue =
      device->api.clCreateCommandQueue(device->context, device->id, properties, &code);
  if (code != CL_SUCCESS) return clnorm__opencl_fail_create(error, "clCreateCommandQueue", code);
  device->queue.handle = queue;
  device->base.owns_queue = true;
  return CLNORM_OK;
}

static clnorm_status backend_open(const clnorm_device_info *info,
                                  const clnorm_context_options *options, clnorm_error *error,
                                  clnorm_device **opened) {
  clnorm_opencl_device *device = NULL;
  const clnorm_opencl_device *share = NULL;
  clnorm_status status = find_share(options, &share, error);
  if (status == CLNORM_OK) status = create_device(share, error, &device);
  if (status != CLNORM_OK) return status;
  cl_device_id id = NULL;
  status = clnorm__opencl_find_device(&device->api, info->id, &id, error);
  if (status == CLNORM_OK) status = retain_device(device, id, error);
  if (status == CLNORM_OK) status = fill_base(device, info->id, options, error);
  if (status == CLNORM_OK) status = get_context(device, share, error);
  if (status == CLNORM_OK) status = create_queue(device, error);
  if (status != CLNORM_OK) {
    close_half(device);
    return status;
  }
  *opened = &device->base;
  return CLNORM_OK;
}

static clnorm_status backend_list(clnorm_device_list *list) {
  clnorm_opencl_api api;
  clnorm_message reason;
  if (!clnorm__opencl_load(CLNORM_OPENCL_LIBRARY, &api, &reason)) {
    return clnorm__device_list_add_missing(list, "%s", reason.text);
  }
  const clnorm_status status = clnorm__opencl_list_devices(&api, list);
  clnorm__opencl_unload(&api);
  return status;
}

const clnorm_backend clnorm__opencl_backend = {"opencl", backend_list, backend_open};

/* ---- The caller's objects ----------------------------------------------------------------------- */

clnorm_status clnorm__opencl_check_queue(const clnorm_opencl_api *api, cl_context context,
                                         cl_device_id device, bool profiling,
                                         clnorm_opencl_queue *queue, clnorm_error *error) {
  cl_context queue_context = NULL;
  cl_device_id queue_device = NULL;
  cl_command_queue_properties properties = 0;
  cl_int code = api->clGetCommandQueueInfo(queue->handle, CL_QUEUE_CONTEXT, sizeof queue_context,
                                           &queue_context, NULL);
  if (code == CL_SUCCESS) {
    code = api->clGetCommandQueueInfo(queue->handle, CL_QUEUE_DEVICE, sizeof queue_device,
                                      &queue_device, NULL);
  }
  if (code == CL_SUCCESS) {
    code = api->clGetCommandQueueInfo(queue->handle, CL_QUEUE_PROPERTIES, sizeof properties,
                                      &properties, NULL);
  }
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clGetCommandQueueInfo", code);
  if (queue_context != context || queue_device != device) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "queue belongs to another %s than the one given",
                        queue_context != context ? "cl_context" : "cl_device_id");
  }
  if (profiling && !(properties & CL_QUEUE_PROFILING_ENABLE)) {
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "profiling is asked for, but queue was made without "
                        "CL_QUEUE_PROFILING_ENABLE");
  }
  queue->out_of_order = (properties & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;
  return CLNORM_OK;
}

/* Each handle is kept once it is retained, so that release() fits at any point. */
static clnorm_status retain(clnorm_opencl_device *device, cl_context context, cl_device_id id,
                            clnorm_opencl_queue queue, clnorm_error *error) {
  const clnorm_status status = retain_device(device, id, error);
  if (status != CLNORM_OK) return status;
  cl_int code = device->api.clRetainContext(context);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clRetainContext", code);
  device->context = context;
  code = device->api.clRetainCommandQueue(queue.handle);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clRetainCommandQueue", code);
  device->queue = queue;
  return CLNORM_OK;
}

static clnorm_status adopt(cl_context context, cl_device_id id, cl_command_queue handle,
                           const clnorm_context_options *options, clnorm_error *error,
                           clnorm_device **adopted) {
  char name[16];
  clnorm_opencl_queue queue = {handle, false};
  clnorm_opencl_device *device = NULL;
  const clnorm_opencl_device *share = NULL;
  clnorm_status status = find_share(options, &share, error);
  if (status == CLNORM_OK) status = check_share(share, context, id, error);
  if (status == CLNORM_OK) status = create_device(share, error, &device);
  if (status != CLNORM_OK) return status;
  status = clnorm__opencl_check_queue(&device->api, context, id, options->profiling, &queue, error);
  if (status == CLNORM_OK) status = retain(device, context, id, queue, error);
  if (status == CLNORM_OK) {
    clnorm__opencl_device_name(&device->api, id, name);
    status = fill_base(device, name, options, error);
  }
  if (status != CLNORM_OK) {
    close_half(device);
    return status;
  }
  *adopted = &device->base;
  return CLNORM_OK;
}

clnorm_status clnorm_context_create_opencl(cl_context cl, cl_device_id device,
                                           cl_command_queue queue,
                                           const clnorm_context_options *options,
                                           clnorm_context **context, clnorm_message *message) {
  clnorm_context_options own;
  clnorm_tuning tuning;
  clnorm_error error = {{""}, NULL, NULL};
  clnorm_device *adopted = NULL;
  clnorm_status status = CLNORM_OK;
  if (!context || !cl || !device || !queue) {
    status = clnorm__fail(&error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL",
                          !context  ? "context"
                          : !cl     ? "cl"
                          : !device ? "device"
                                    : "queue");
  }
  if (context) *context = NULL;
  if (status == CLNORM_OK) status = clnorm__context_options_take(options, &own, &tuning, &error);
  if (status == CLNORM_OK) status = adopt(cl, device, queue, &own, &error, &adopted);
  if (status == CLNORM_OK) {
    status = clnorm__context_adopt(adopted, &own, "the caller's queue", context, &error);
  }
  if (message) *message = error.message;
  return status;
}

/* NULL for a device of another back end. */
static const clnorm_opencl_device *opencl_device(const clnorm_context *context) {
  const clnorm_device *base = clnorm__context_opened(context);
  return base && base->operations == &operations ? (const clnorm_opencl_device *)base : NULL;
}

cl_context clnorm_context_cl_context(const clnorm_context *context) {
  const clnorm_opencl_device *device = opencl_device(context);
  return device ? device->context : NULL;
}

cl_device_id clnorm_context_cl_device(const clnorm_context *context) {
  const clnorm_opencl_device *device = opencl_device(context);
  return device ? device->id : NULL;
}

cl_command_queue clnorm_context_cl_queue(const clnorm_context *context) {
  const clnorm_opencl_device *device = opencl_device(context);
  return device ? device->queue.handle : NULL;
}
