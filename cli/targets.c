#include "targets.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"

#define ALL_FORMS 3 /* the index after those of CLNORM_FORM_CHOICES */

static bool is_cpu_path(const clnorm_context *context) {
  return strcmp(clnorm_context_device(context)->id, "cpu") == 0;
}

/* What was forced is part of the label: two targets of one device must be told apart. */
static void set_label(clnorm_target *target, const clnorm_context_options *options) {
  static const char *const forms[] = {"", ", vector form", ", wide form"};
  const clnorm_device_info *info = clnorm_context_device(target->context);
  const char *forced = options->isa == CLNORM_ISA_PLAIN ? ", plain code, 1 thread" : "";
  char groups[32] = "";
  if (!is_cpu_path(target->context)) forced = forms[options->form];
  if (!is_cpu_path(target->context) && options->group_size)
    snprintf(groups, sizeof groups, ", work-groups of %d", options->group_size);
  snprintf(target->label, sizeof target->label, "%s (%s)%s%s", info->name, info->id, forced,
           groups);
}

static int open_with(const char *device, const clnorm_context_options *options,
                     clnorm_target *target) {
  clnorm_message message;
  const clnorm_status status = clnorm_context_create(device, options, &target->context, &message);
  if (status) clnorm_complain("device '%s': %s", device, message.text);
  if (!status) set_label(target, options);
  return clnorm_exit_status(status);
}

static clnorm_context_options context_options(const clnorm_target_options *options, int form) {
  clnorm_context_options result = clnorm_context_options_defaults();
  static const int group_sizes[] = {0, 64, 128, 256}; /* as CLNORM_GROUP_SIZE_CHOICES */
  result.form = (clnorm_form)form;
  result.group_size = group_sizes[options->group_size];
  result.num_threads = options->threads > INT_MAX ? INT_MAX : (int)options->threads;
  return result;
}

static clnorm_context_options plain_options(void) {
  clnorm_context_options result = clnorm_context_options_defaults();
  result.isa = CLNORM_ISA_PLAIN;
  result.num_threads = 1;
  return result;
}

int clnorm_target_open(const clnorm_target_options *options, clnorm_target *target) {
  const clnorm_context_options forced = context_options(options, options->form);
  return open_with(options->device, &forced, target);
}

int clnorm_target_open_baseline(const clnorm_target *target, int64_t threads,
                                clnorm_target *baseline) {
  const clnorm_target_options cpu = {.device = "cpu", .threads = threads, .cpu_as_it_is = true};
  if (!target || !is_cpu_path(target->context)) return clnorm_target_open(&cpu, baseline);
  const clnorm_context_options plain = plain_options();
  return open_with("cpu", &plain, baseline);
}

int clnorm_target_check(const clnorm_target *target, int dtype, int layout) {
  clnorm_forward_desc desc = clnorm_forward_desc_defaults(CLNORM_GIVEN_STATISTICS, 1, 1, 1);
  clnorm_forward_plan *plan = NULL;
  desc.dtype = (clnorm_dtype)dtype;
  desc.layout = (clnorm_layout)layout;
  const clnorm_status status = clnorm_forward_plan_create(target->context, &desc, &plan);
  if (status) clnorm_complain("%s", clnorm_last_error(target->context));
  clnorm_forward_plan_destroy(plan);
  return clnorm_exit_status(status);
}

void clnorm_target_close(clnorm_target *target) {
  clnorm_context_destroy(target->context);
  target->context = NULL;
}

/* ---- Several --------------------------------------------------------------------------------- */

typedef struct opener {
  const clnorm_target_options *options;
  clnorm_target *targets;
  size_t count, capacity;
} opener;

static int add_target(opener *o, const char *device, const clnorm_context_options *options) {
  if (o->count == o->capacity) {
    const size_t capacity = o->capacity ? 2 * o->capacity : 8;
    clnorm_target *targets = realloc(o->targets, capacity * sizeof *targets);
    if (!targets) {
      clnorm_complain("no memory for a list of devices");
      return CLNORM_EXIT_DEVICE;
    }
    o->targets = targets;
    o->capacity = capacity;
  }
  const int status = open_with(device, options, &o->targets[o->count]);
  if (status == CLNORM_EXIT_GOOD) o->count++;
  return status;
}

bool clnorm_vector_form_compiles(const clnorm_device_info *info, clnorm_message *why) {
  if (info->vector_width >= 4) return true;
  snprintf(why->text, sizeof why->text,
           "the driver's native vector has %d float%s, and it could compile for many minutes",
           info->vector_width, info->vector_width == 1 ? "" : "s");
  return false;
}

/* The device in every form asked for. It is opened as the user wrote it, and is the CPU path if
 * that is what came out. */
static int add_device(opener *o, const char *device) {
  const bool all_forms = o->options->form == ALL_FORMS;
  const clnorm_context_options first =
      context_options(o->options, all_forms ? CLNORM_FORM_VECTOR : o->options->form);
  int status = add_target(o, device, &first);
  if (status) return status;
  clnorm_target *opened = &o->targets[o->count - 1];
  if (is_cpu_path(opened->context)) {
    if (o->options->cpu_as_it_is) return CLNORM_EXIT_GOOD;
    clnorm_target_close(opened);
    const clnorm_context_options plain = plain_options();
    return open_with("cpu", &plain, opened);
  }
  if (!all_forms) return CLNORM_EXIT_GOOD;
  const clnorm_context_options wide = context_options(o->options, CLNORM_FORM_WIDE);
  const clnorm_device_info *info = clnorm_context_device(opened->context);
  clnorm_message why;
  if (clnorm_vector_form_compiles(info, &why)) return add_target(o, device, &wide);
  clnorm_complain("%s (%s), vector form is left out: %s; --form vector tries it", info->name,
                  info->id, why.text);
  clnorm_target_close(opened);
  return open_with(device, &wide, opened);
}

static int add_all(opener *o) {
  clnorm_device_list *list;
  const clnorm_status listed = clnorm_device_list_create(&list);
  if (listed) {
    clnorm_complain("cannot list devices: %s", clnorm_status_text(listed));
    return clnorm_exit_status(listed);
  }
  int status = CLNORM_EXIT_GOOD;
  for (int i = 0; i < clnorm_device_list_count(list) && !status; i++) {
    const clnorm_device_info *info = clnorm_device_list_get(list, i);
    if (info->usable)
      status = add_device(o, info->id);
    else
      clnorm_complain("%s (%s) is left out: %s", info->name, info->id, info->status);
  }
  if (o->count < 2) /* the CPU path alone: say why */
    for (int i = 0; i < clnorm_device_list_missing_count(list); i++)
      clnorm_complain("missing: %s", clnorm_device_list_missing(list, i));
  clnorm_device_list_destroy(list);
  return status;
}

int clnorm_targets_open(const clnorm_target_options *options, clnorm_target **targets,
                        size_t *count) {
  opener o = {options, NULL, 0, 0};
  const bool all = strcmp(options->device, "all") == 0;
  const int status = all ? add_all(&o) : add_device(&o, options->device);
  *targets = o.targets;
  *count = o.count;
  if (status == CLNORM_EXIT_GOOD) return status;
  clnorm_targets_close(o.targets, o.count);
  *targets = NULL;
  *count = 0;
  return status;
}

void clnorm_targets_close(clnorm_target *targets, size_t count) {
  for (size_t i = 0; i < count; i++) clnorm_target_close(&targets[i]);
  free(targets);
}
