/* Device lists and contexts: from a string to an opened device. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "objects.h"
#include "structures.h"
#include "tuning.h"

/* ---- Device lists --------------------------------------------------------------------------------- */

struct clnorm_device_list {
  clnorm_device_info *devices;
  const clnorm_backend **backends; /* of each device */
  int num_devices;
  char **missing;
  int num_missing;
  const clnorm_backend *listing; /* the back end whose list() runs */
  const char *selector;          /* what the list is for: one device; NULL: all of them */
};

static int find(const clnorm_device_list *list, const char *selector);

/* The platform and device of "P.D". */
static bool read_id(const char *selector, unsigned *platform, int *device) {
  int length = 0;
  return sscanf(selector, "%u.%d%n", platform, device, &length) == 2 && !selector[length];
}

bool clnorm__device_list_wants(const clnorm_device_list *list, unsigned platform, int device) {
  unsigned p;
  int d;
  if (!list->selector) return true;
  if (read_id(list->selector, &p, &d)) return p == platform && (device < 0 || device == d);
  return find(list, list->selector) < 0;
}

clnorm_status clnorm__device_list_add(clnorm_device_list *list, const clnorm_device_info *info) {
  const size_t count = (size_t)list->num_devices + 1;
  clnorm_device_info *devices = realloc(list->devices, count * sizeof *devices);
  if (!devices) return CLNORM_ERROR_OUT_OF_MEMORY;
  list->devices = devices;
  const clnorm_backend **backends = realloc(list->backends, count * sizeof *backends);
  if (!backends) return CLNORM_ERROR_OUT_OF_MEMORY;
  list->backends = backends;
  devices[list->num_devices] = *info;
  backends[list->num_devices++] = list->listing;
  return CLNORM_OK;
}

clnorm_status clnorm__device_list_add_missing(clnorm_device_list *list, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  char **missing = realloc(list->missing, ((size_t)list->num_missing + 1) * sizeof *missing);
  if (!missing) return CLNORM_ERROR_OUT_OF_MEMORY;
  list->missing = missing;
  missing[list->num_missing] = strdup(text);
  if (!missing[list->num_missing]) return CLNORM_ERROR_OUT_OF_MEMORY;
  list->num_missing++;
  return CLNORM_OK;
}

/* Back ends after the one that has the device are not asked: nobody who wants the CPU path should load, or
 * fall over, an OpenCL driver. */
static clnorm_status create_list(const char *selector, clnorm_device_list **list) {
  *list = NULL;
  clnorm_device_list *result = calloc(1, sizeof *result);
  if (!result) return CLNORM_ERROR_OUT_OF_MEMORY;
  result->selector = selector;
  for (int i = 0; clnorm__backends[i]; i++) {
    if (selector && find(result, selector) >= 0) break;
    result->listing = clnorm__backends[i];
    const clnorm_status status = clnorm__backends[i]->list(result);
    if (status != CLNORM_OK) {
      clnorm_device_list_destroy(result);
      return status;
    }
  }
  *list = result;
  return CLNORM_OK;
}

clnorm_status clnorm_device_list_create(clnorm_device_list **list) {
  return list ? create_list(NULL, list) : CLNORM_ERROR_INVALID_ARGUMENT;
}

void clnorm_device_list_destroy(clnorm_device_list *list) {
  if (!list) return;
  for (int i = 0; i < list->num_missing; i++) free(list->missing[i]);
  free(list->missing);
  free(list->backends);
  free(list->devices);
  free(list);
}

int clnorm_device_list_count(const clnorm_device_list *list) {
  return list ? list->num_devices : 0;
}

const clnorm_device_info *clnorm_device_list_get(const clnorm_device_list *list, int index) {
  return list && index >= 0 && index < list->num_devices ? &list->devices[index] : NULL;
}

static int find_gpu(const clnorm_device_list *list) {
  for (int i = 0; i < list->num_devices; i++)
    if (list->devices[i].usable && !strcmp(list->devices[i].type, "gpu")) return i;
  return -1;
}

int clnorm_device_list_default(const clnorm_device_list *list) {
  const int gpu = list ? find_gpu(list) : -1;
  return gpu >= 0 ? gpu : 0;
}

int clnorm_device_list_missing_count(const clnorm_device_list *list) {
  return list ? list->num_missing : 0;
}

const char *clnorm_device_list_missing(const clnorm_device_list *list, int index) {
  return list && index >= 0 && index < list->num_missing ? list->missing[index] : NULL;
}

/* ---- Choosing a device ---------------------------------------------------------------------------- */

static bool contains_ignoring_case(const char *text, const char *part) {
  for (; *text; text++) {
    size_t i = 0;
    while (part[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) i++;
    if (!part[i]) return true;
  }
  return false;
}

/* Everything that is missing, after what is there: the reason why no device fits. */
static void describe_choice(const clnorm_device_list *all, const clnorm_device_list *list,
                            char *text, size_t size) {
  size_t used = (size_t)snprintf(text, size, "; there is:");
  for (int i = 0; i < all->num_devices && used < size; i++) {
    const clnorm_device_info *d = &all->devices[i];
    used += (size_t)snprintf(text + used, size - used, " %s (%s)%s%s", d->id, d->name,
                             d->usable ? "" : ": ", d->usable ? "" : d->status);
    if (used < size && i + 1 < all->num_devices)
      used += (size_t)snprintf(text + used, size - used, ",");
  }
  for (int i = 0; i < list->num_missing && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "; %s", list->missing[i]);
}

/* The device that the text selects among those listed so far; -1: none. "auto" is no device by itself. */
static int find(const clnorm_device_list *list, const char *selector) {
  const bool automatic = !strcmp(selector, "auto");
  if (automatic || !strcmp(selector, "gpu")) return find_gpu(list);
  for (int i = 0; i < list->num_devices; i++)
    if (!strcmp(list->devices[i].id, selector)) return i;
  for (int i = 1; i < list->num_devices && selector[0]; i++)
    if (list->devices[i].usable && (contains_ignoring_case(list->devices[i].name, selector) ||
                                    contains_ignoring_case(list->devices[i].platform, selector)))
      return i;
  return -1;
}

/* The list has what was looked at; now all devices are, to name them. */
static clnorm_status fail_to_choose(const clnorm_device_list *list, const char *device,
                                    clnorm_error *error) {
  clnorm_device_list *all;
  char there[1536];
  const clnorm_status status = create_list(NULL, &all);
  if (status != CLNORM_OK) return clnorm__fail(error, status, "no host memory for the devices");
  describe_choice(all, list, there, sizeof there);
  clnorm_device_list_destroy(all);
  return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE, "no device \"%s\"%s", device, there);
}

static clnorm_status choose(const clnorm_device_list *list, const char *device, int *index,
                            clnorm_error *error) {
  *index = find(list, device);
  if (*index < 0 && !strcmp(device, "auto")) *index = 0;
  if (*index < 0) return fail_to_choose(list, device, error);
  if (!list->devices[*index].usable)
    return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE, "device %s (%s) cannot be used: %s",
                        list->devices[*index].id, list->devices[*index].name,
                        list->devices[*index].status);
  return CLNORM_OK;
}

/* ---- Contexts ------------------------------------------------------------------------------------- */

static const clnorm_context_options defaults = {.size = sizeof(clnorm_context_options)};

void clnorm_context_options_init(clnorm_context_options *options, size_t size) {
  clnorm__structure_init(options, size, &defaults, sizeof defaults);
}

static clnorm_status check_options(const clnorm_context_options *options, clnorm_error *error) {
  if (options->num_threads < 0 || options->num_threads > 1024)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "num_threads is %d, but must be in [0, 1024]", options->num_threads);
  if (options->form < CLNORM_FORM_AUTO || options->form > CLNORM_FORM_WIDE)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "form is %d, but must be in [0, 2]",
                        options->form);
  if (options->isa < CLNORM_ISA_AUTO || options->isa > CLNORM_ISA_AVX512)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "isa is %d, but must be in [0, 3]",
                        options->isa);
  const int group = options->group_size;
  if (group != 0 && group != 64 && group != 128 && group != 256)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "group_size is %d, but must be 0, 64, 128 or 256", group);
  if (options->share && options->share->destroyed)
    return clnorm__fail(error, CLNORM_ERROR_STATE,
                        "share is destroyed: only what was made from it lives on");
  return options->tuning ? clnorm__tuning_check(options->tuning, error) : CLNORM_OK;
}

clnorm_status clnorm__context_options_take(const clnorm_context_options *given,
                                           clnorm_context_options *taken, clnorm_tuning *tuning,
                                           clnorm_error *error) {
  *taken = defaults;
  if (!given) return CLNORM_OK;
  clnorm_status status =
      clnorm__structure_take(taken, sizeof *taken, given, "context options", error);
  if (status != CLNORM_OK) {
    *taken = defaults;
    return status;
  }
  error->log = taken->log;
  error->log_user_data = taken->log_user_data;
  if (taken->tuning) {
    status = clnorm__structure_take(tuning, sizeof *tuning, taken->tuning, "tuning", error);
    if (status != CLNORM_OK) return status;
    taken->tuning = tuning;
  }
  return check_options(taken, error);
}

clnorm_status clnorm__context_adopt(clnorm_device *device, const clnorm_context_options *options,
                                    const char *note, clnorm_context **context,
                                    clnorm_error *error) {
  static const char *const tuned[] = {"", ", tuned", ", tuning given"};
  clnorm_context *result = calloc(1, sizeof *result);
  if (!result) {
    device->operations->close(device);
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a context");
  }
  result->device = device;
  result->references = 1;
  result->error.log = options->log;
  result->error.log_user_data = options->log_user_data;
  clnorm__tuning_apply(device);
  clnorm__tuning_place(device, result->tuning_path, sizeof result->tuning_path);
  snprintf(result->description, sizeof result->description, "%s%s%s%s", device->description,
           tuned[device->tuning_source], note ? "; " : "", note ? note : "");
  *context = result;
  return CLNORM_OK;
}

clnorm_device *clnorm__context_opened(const clnorm_context *context) {
  return context ? context->device : NULL;
}

/* What "auto" passed over, for the description. */
static void fallback_note(const clnorm_device_list *list, char *note, size_t size) {
  size_t used = (size_t)snprintf(note, size, "chosen by auto: no usable GPU");
  for (int i = 0; i < list->num_missing && used < size; i++)
    used += (size_t)snprintf(note + used, size - used, "; %s", list->missing[i]);
}

static clnorm_status open_chosen(const clnorm_device_list *list, const char *selector,
                                 const clnorm_context_options *options, clnorm_context **context,
                                 clnorm_error *error) {
  int index;
  clnorm_status status = choose(list, selector, &index, error);
  if (status != CLNORM_OK) return status;
  char note[1024] = "";
  if (!strcmp(selector, "auto") && index == 0) fallback_note(list, note, sizeof note);
  clnorm_device *device;
  status = list->backends[index]->open(&list->devices[index], options, error, &device);
  if (status != CLNORM_OK) return status;
  return clnorm__context_adopt(device, options, note[0] ? note : NULL, context, error);
}

clnorm_status clnorm_context_create(const char *device, const clnorm_context_options *options,
                                    clnorm_context **context, clnorm_message *message) {
  clnorm_context_options own;
  clnorm_tuning tuning;
  clnorm_error error = {{""}, NULL, NULL};
  clnorm_device_list *list = NULL;
  clnorm_status status;
  if (!context) {
    status = clnorm__fail(&error, CLNORM_ERROR_INVALID_ARGUMENT, "context is NULL");
    goto done;
  }
  *context = NULL;
  status = clnorm__context_options_take(options, &own, &tuning, &error);
  if (status != CLNORM_OK) goto done;
  if (!device) device = "auto";
  status = create_list(device, &list);
  if (status != CLNORM_OK) {
    clnorm__fail(&error, status, "no host memory for the list of devices");
    goto done;
  }
  status = open_chosen(list, device, &own, context, &error);
  clnorm_device_list_destroy(list);
done:
  if (message) *message = error.message;
  return status;
}

void clnorm__context_retain(clnorm_context *context) { context->references++; }

void clnorm__context_release(clnorm_context *context) {
  if (--context->references > 0) return;
  context->device->operations->close(context->device);
  free(context);
}

void clnorm_context_destroy(clnorm_context *context) {
  if (!context || context->destroyed) return;
  clnorm_device *device = context->device;
  /* Here, and not where the last of what lives on is destroyed, which waits for nothing. */
  if (device->owns_queue && clnorm__context_ready(context) == CLNORM_OK)
    device->operations->finish(device, &context->error);
  context->destroyed = true;
  clnorm__context_release(context);
}

clnorm_status clnorm__context_ready(clnorm_context *context) {
  if (!context) return CLNORM_ERROR_INVALID_ARGUMENT;
  const pid_t opened_by = context->device->process;
  if (context->destroyed)
    return clnorm__fail(
        &context->error, CLNORM_ERROR_STATE,
        "the context is destroyed: what was made from it can only be destroyed too");
  if (opened_by != 0 && opened_by != getpid())
    return clnorm__fail(&context->error, CLNORM_ERROR_STATE,
                        "the context was opened by process %ld, and this is its child: an OpenCL "
                        "device cannot be used after a fork",
                        (long)opened_by);
  return CLNORM_OK;
}

const clnorm_device_info *clnorm_context_device(const clnorm_context *context) {
  return context ? &context->device->info : NULL;
}

const char *clnorm_context_description(const clnorm_context *context) {
  return context ? context->description : "";
}

const char *clnorm_last_error(const clnorm_context *context) {
  return context ? context->error.message.text : "";
}

clnorm_status clnorm_finish(clnorm_context *context) {
  const clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  return context->device->operations->finish(context->device, &context->error);
}

clnorm_status clnorm__fail_no_run(clnorm_error *error) {
  return clnorm__fail(error, CLNORM_ERROR_STATE, "the context has made no run yet that was timed");
}

clnorm_status clnorm_last_run_seconds(clnorm_context *context, double *seconds) {
  const clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  if (!seconds)
    return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "seconds is NULL");
  clnorm_device *device = context->device;
  if (!device->profiling)
    return clnorm__fail(&context->error, CLNORM_ERROR_STATE,
                        "runs are not timed: the context was opened without profiling "
                        "(clnorm_context_options)");
  return device->operations->last_run_seconds(device, seconds, &context->error);
}
