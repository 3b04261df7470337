/* Device lists and contexts: from a string to an opened device. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "objects.h"
#include "tuning.h"

/* ---- Device lists --------------------------------------------------------------------------------- */

struct clnorm_device_list {
  clnorm_device_info *devices;
  const clnorm_backend **backends; /* of each device */
  int num_devices;
  char **missing;
  int num_missing;
  const clnorm_backend *listing; /* the back end whose list() runs */
};

clnorm_status clnorm_device_list_add(clnorm_device_list *list, const clnorm_device_info *info) {
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

clnorm_status clnorm_device_list_add_missing(clnorm_device_list *list, const char *format, ...) {
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

clnorm_status clnorm_device_list_create(clnorm_device_list **list) {
  if (!list) return CLNORM_ERROR_INVALID_ARGUMENT;
  *list = NULL;
  clnorm_device_list *result = calloc(1, sizeof *result);
  if (!result) return CLNORM_ERROR_OUT_OF_MEMORY;
  for (int i = 0; clnorm_backends[i]; i++) {
    result->listing = clnorm_backends[i];
    const clnorm_status status = clnorm_backends[i]->list(result);
    if (status != CLNORM_OK) {
      clnorm_device_list_destroy(result);
      return status;
    }
  }
  *list = result;
  return CLNORM_OK;
}

void clnorm_device_list_destroy(clnorm_device_list *list) {
  if (!list) return;
  for (int i = 0; i < list->num_missing; i++) free(list->missing[i]);
  free(list->missing);
  free(list->backends);
  free(list->devices);
  free(list);
}

int clnorm_device_list_count(const clnorm_device_list *list) { return list->num_devices; }

const clnorm_device_info *clnorm_device_list_get(const clnorm_device_list *list, int index) {
  return index >= 0 && index < list->num_devices ? &list->devices[index] : NULL;
}

static int find_gpu(const clnorm_device_list *list) {
  for (int i = 0; i < list->num_devices; i++)
    if (list->devices[i].usable && !strcmp(list->devices[i].type, "gpu")) return i;
  return -1;
}

int clnorm_device_list_default(const clnorm_device_list *list) {
  const int gpu = find_gpu(list);
  return gpu >= 0 ? gpu : 0;
}

int clnorm_device_list_missing_count(const clnorm_device_list *list) { return list->num_missing; }

const char *clnorm_device_list_missing(const clnorm_device_list *list, int index) {
  return index >= 0 && index < list->num_missing ? list->missing[index] : NULL;
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
static void describe_choice(const clnorm_device_list *list, char *text, size_t size) {
  size_t used = (size_t)snprintf(text, size, "; there is:");
  for (int i = 0; i < list->num_devices && used < size; i++) {
    const clnorm_device_info *d = &list->devices[i];
    used += (size_t)snprintf(text + used, size - used, " %s (%s)%s%s", d->id, d->name,
                             d->usable ? "" : ": ", d->usable ? "" : d->status);
    if (used < size && i + 1 < list->num_devices)
      used += (size_t)snprintf(text + used, size - used, ",");
  }
  for (int i = 0; i < list->num_missing && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "; %s", list->missing[i]);
}

static clnorm_status choose(const clnorm_device_list *list, const char *device, int *index,
                            clnorm_error *error) {
  *index = -1;
  const bool automatic = !strcmp(device, "auto");
  if (automatic) *index = clnorm_device_list_default(list);
  if (!strcmp(device, "gpu")) *index = find_gpu(list);
  for (int i = 0; i < list->num_devices && *index < 0; i++)
    if (!strcmp(list->devices[i].id, device)) *index = i;
  const bool generic = automatic || !strcmp(device, "gpu") || !device[0];
  for (int i = 1; i < list->num_devices && *index < 0 && !generic; i++)
    if (list->devices[i].usable && (contains_ignoring_case(list->devices[i].name, device) ||
                                    contains_ignoring_case(list->devices[i].platform, device)))
      *index = i;
  char there[1536];
  describe_choice(list, there, sizeof there);
  if (*index < 0)
    return clnorm_fail(error, CLNORM_ERROR_NO_DEVICE, "no device \"%s\"%s", device, there);
  if (!list->devices[*index].usable)
    return clnorm_fail(error, CLNORM_ERROR_NO_DEVICE, "device %s (%s) cannot be used: %s",
                       list->devices[*index].id, list->devices[*index].name,
                       list->devices[*index].status);
  return CLNORM_OK;
}

/* ---- Contexts ------------------------------------------------------------------------------------- */

clnorm_context_options clnorm_context_options_defaults(void) {
  clnorm_context_options options = {0,    CLNORM_ISA_AUTO, CLNORM_FORM_AUTO, NULL, NULL, NULL, NULL,
                                    false};
  return options;
}

clnorm_status clnorm_context_options_check(const clnorm_context_options *options,
                                           clnorm_error *error) {
  if (options->num_threads < 0 || options->num_threads > 1024)
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                       "num_threads is %d, but must be in [0, 1024]", options->num_threads);
  if (options->form < CLNORM_FORM_AUTO || options->form > CLNORM_FORM_WIDE)
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "form is %d, but must be in [0, 2]",
                       (int)options->form);
  if (options->isa < CLNORM_ISA_AUTO || options->isa > CLNORM_ISA_AVX512)
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "isa is %d, but must be in [0, 3]",
                       (int)options->isa);
  return options->tuning ? clnorm_tuning_check(options->tuning, error) : CLNORM_OK;
}

clnorm_status clnorm_context_adopt(clnorm_device *device, const clnorm_context_options *options,
                                   const char *note, clnorm_context **context,
                                   clnorm_error *error) {
  static const char *const tuned[] = {"", ", tuned", ", tuning given"};
  clnorm_context *result = calloc(1, sizeof *result);
  if (!result) {
    device->operations->close(device);
    return clnorm_fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a context");
  }
  result->device = device;
  result->error.log = options->log;
  result->error.log_user_data = options->log_user_data;
  clnorm_tuning_apply(device);
  clnorm_tuning_place(device, result->tuning_path, sizeof result->tuning_path);
  snprintf(result->description, sizeof result->description, "%s%s%s%s", device->description,
           tuned[device->tuning_source], note ? "; " : "", note ? note : "");
  *context = result;
  return CLNORM_OK;
}

clnorm_device *clnorm_context_opened(const clnorm_context *context) { return context->device; }

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
  return clnorm_context_adopt(device, options, note[0] ? note : NULL, context, error);
}

clnorm_status clnorm_context_create(const char *device, const clnorm_context_options *options,
                                    clnorm_context **context, clnorm_message *message) {
  const clnorm_context_options defaults = clnorm_context_options_defaults();
  if (!options) options = &defaults;
  clnorm_error error = {{""}, options->log, options->log_user_data};
  clnorm_device_list *list = NULL;
  clnorm_status status;
  if (!context) {
    status = clnorm_fail(&error, CLNORM_ERROR_INVALID_ARGUMENT, "context is NULL");
    goto done;
  }
  *context = NULL;
  status = clnorm_context_options_check(options, &error);
  if (status != CLNORM_OK) goto done;
  status = clnorm_device_list_create(&list);
  if (status != CLNORM_OK) {
    clnorm_fail(&error, status, "no host memory for the list of devices");
    goto done;
  }
  status = open_chosen(list, device ? device : "auto", options, context, &error);
  clnorm_device_list_destroy(list);
done:
  if (message) *message = error.message;
  return status;
}

void clnorm_context_destroy(clnorm_context *context) {
  if (!context) return;
  context->device->operations->close(context->device);
  free(context);
}

const clnorm_device_info *clnorm_context_device(const clnorm_context *context) {
  return &context->device->info;
}

const char *clnorm_context_description(const clnorm_context *context) {
  return context->description;
}

const char *clnorm_last_error(const clnorm_context *context) { return context->error.message.text; }

clnorm_status clnorm_finish(clnorm_context *context) {
  if (!context) return CLNORM_ERROR_INVALID_ARGUMENT;
  return context->device->operations->finish(context->device, &context->error);
}

clnorm_status clnorm_fail_no_run(clnorm_error *error) {
  return clnorm_fail(error, CLNORM_ERROR_STATE, "the context has made no run yet that was timed");
}

clnorm_status clnorm_last_run_seconds(clnorm_context *context, double *seconds) {
  if (!context) return CLNORM_ERROR_INVALID_ARGUMENT;
  if (!seconds)
    return clnorm_fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "seconds is NULL");
  clnorm_device *device = context->device;
  if (!device->profiling)
    return clnorm_fail(&context->error, CLNORM_ERROR_STATE,
                       "runs are not timed: the context was opened without profiling "
                       "(clnorm_context_options)");
  return device->operations->last_run_seconds(device, seconds, &context->error);
}
