#include "targets.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"

static bool is_cpu_path(const clnorm_context *context) {
  return strcmp(clnorm_context_device(context)->id, "cpu") == 0;
}

/* What was forced is part of the label: two targets of one device must be told apart. */
static void set_label(clnorm_target *target, const clnorm_context_options *options) {
  static const char *const forms[] = {"", ", vector form", ", wide form"};
  static const char *const isas[] = {"", ", plain code, 1 thread", ", AVX2, 1 thread",
                                     ", AVX-512, 1 thread"};
  const clnorm_device_info *info = clnorm_context_device(target->context);
  const bool is_cpu = is_cpu_path(target->context);
  const char *forced = is_cpu ? isas[options->isa] : forms[options->form];
  char groups[32] = "";
  if (!is_cpu && options->group_size)
    snprintf(groups, sizeof groups, ", work-groups of %d", options->group_size);
  snprintf(target->label, sizeof target->label, "%s (%s)%s%s", info->name, info->id, forced,
           groups);
}

/* The library's status, and its words where it is not good. */
static clnorm_status try_open(const char *device, const clnorm_context_options *options,
                              clnorm_target *target, clnorm_message *message) {
  const clnorm_status status = clnorm_context_create(device, options, &target->context, message);
  target->trouble[0] = '\0';
  if (!status) set_label(target, options);
  return status;
}

static int open_with(const char *device, const clnorm_context_options *options,
                     clnorm_target *target) {
  clnorm_message message;
  const clnorm_status status = try_open(device, options, target, &message);
  if (status) clnorm_complain("device '%s': %s", device, message.text);
  return clnorm_exit_status(status);
}

static clnorm_context_options context_options(const clnorm_target_options *options, int form) {
  clnorm_context_options result = dense_context_options();
  static const int group_sizes[] = {0, 64, 128, 256}; /* as CLNORM_GROUP_SIZE_CHOICES */
  result.form = (clnorm_form)form;
  result.group_size = group_sizes[options->group_size];
  result.profiling = options->profiling;
  result.num_threads = options->threads > INT_MAX ? INT_MAX : (int)options->threads;
  return result;
}

/* On one thread: how many there are is the baseline's part. */
static clnorm_context_options isa_options(int isa) {
  clnorm_context_options result = dense_context_options();
  result.isa = (clnorm_isa)isa;
  result.num_threads = 1;
  return result;
}

int clnorm_target_open(const clnorm_target_options *options, clnorm_target *target) {
  const clnorm_context_options forced = context_options(options, options->form);
  return open_with(options->device, &forced, target);
}

int clnorm_target_open_baseline(const clnorm_target *target, int64_t threads,
                                clnorm_target *baseline) {
  const clnorm_target_options as_it_is = {.threads = threads};
  const bool is_cpu = target && is_cpu_path(target->context);
  const clnorm_context_options how =
      is_cpu ? isa_options(CLNORM_ISA_PLAIN) : context_options(&as_it_is, CLNORM_FORM_AUTO);
  const int status = open_with("cpu", &how, baseline);
  if (!status)
    snprintf(baseline->label, sizeof baseline->label, "%s",
             clnorm_context_description(baseline->context));
  return status;
}

int clnorm_target_check(const clnorm_target *target, int dtype) {
  const int64_t dims[2] = {1, 1};
  clnorm_problem problem;
  clnorm_plan *plan = NULL;
  clnorm_problem_init(&problem, sizeof problem);
  problem.statistics = CLNORM_GIVEN_STATISTICS;
  clnorm_tensor_nchw(&problem.tensors[CLNORM_X], dtype, 2, dims);
  const clnorm_status status = clnorm_plan_create(target->context, &problem, &plan);
  if (status) clnorm_complain("%s", clnorm_last_error(target->context));
  clnorm_plan_destroy(plan);
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

static clnorm_target *add_target(opener *o) {
  if (o->count == o->capacity) {
    const size_t capacity = o->capacity ? 2 * o->capacity : 8;
    clnorm_target *targets = realloc(o->targets, capacity * sizeof *targets);
    if (!targets) {
      clnorm_complain("no memory for a list of devices");
      return NULL;
    }
    o->targets = targets;
    o->capacity = capacity;
  }
  clnorm_target *target = &o->targets[o->count++];
  memset(target, 0, sizeof *target);
  return target;
}

/* Adds a target, with its trouble if it does not open. Wrong usage is nobody's trouble, and ends all. */
static int add_open(opener *o, const char *device, const clnorm_context_options *options) {
  clnorm_target *target = add_target(o);
  clnorm_message message;
  if (!target) return CLNORM_EXIT_DEVICE;
  const clnorm_status status = try_open(device, options, target, &message);
  if (!status) return CLNORM_EXIT_GOOD;
  snprintf(target->label, sizeof target->label, "device '%.170s'", device);
  clnorm_target_give_up(target, "%s", message.text);
  const int exit_status = clnorm_exit_status(status);
  return exit_status == CLNORM_EXIT_USAGE ? exit_status : CLNORM_EXIT_GOOD;
}

bool clnorm_vector_form_compiles(const clnorm_device_info *info, clnorm_message *why) {
  if (info->vector_width >= 4) return true;
  snprintf(why->text, sizeof why->text,
           "the driver's native vector has %d float%s, and it could compile for many minutes",
           info->vector_width, info->vector_width == 1 ? "" : "s");
  return false;
}

/* The CPU path with every instruction set that the processor has. */
static int add_isas(opener *o) {
  int status = CLNORM_EXIT_GOOD;
  for (int isa = CLNORM_ISA_PLAIN; isa <= CLNORM_ISA_AVX512 && !status; isa++) {
    const clnorm_context_options how = isa_options(isa);
    clnorm_target tried = {.context = NULL};
    clnorm_message message;
    if (try_open("cpu", &how, &tried, &message) == CLNORM_ERROR_INVALID_ARGUMENT) continue;
    clnorm_target_close(&tried);
    status = add_open(o, "cpu", &how);
  }
  return status;
}

/* Beside the target that was added last, one of the form that the rule does not pick, if that works. */
static int add_other_form(opener *o, const char *device) {
  clnorm_target *first = &o->targets[o->count - 1];
  const clnorm_form form = (clnorm_form)dense_context_tuning(first->context, NULL).form;
  const clnorm_form other = form == CLNORM_FORM_WIDE ? CLNORM_FORM_VECTOR : CLNORM_FORM_WIDE;
  const clnorm_context_options how = context_options(o->options, other);
  clnorm_target tried = {.form = other};
  clnorm_message why;
  if (other == CLNORM_FORM_VECTOR &&
      !clnorm_vector_form_compiles(clnorm_context_device(first->context), &why))
    return CLNORM_EXIT_GOOD;
  if (try_open(device, &how, &tried, &why)) {
    clnorm_complain("%s, %s form is left out: %s", first->label,
                    other == CLNORM_FORM_WIDE ? "wide" : "vector", why.text);
    return CLNORM_EXIT_GOOD;
  }
  first->form = form;
  first->by_rule = true;
  clnorm_target *second = add_target(o);
  if (second) *second = tried;
  if (!second) clnorm_target_close(&tried);
  return second ? CLNORM_EXIT_GOOD : CLNORM_EXIT_DEVICE;
}

/* The device in every form asked for. It is opened as the user wrote it, and is the CPU path if
 * that is what came out. */
static int add_device(opener *o, const char *device) {
  const bool all_forms = o->options->form == CLNORM_ALL_FORMS;
  const bool in_turn = o->options->form == CLNORM_FORM_IN_TURN;
  const clnorm_context_options first = context_options(o->options, all_forms ? CLNORM_FORM_VECTOR
                                                                   : in_turn ? CLNORM_FORM_AUTO
                                                                             : o->options->form);
  const int status = add_open(o, device, &first);
  clnorm_target *opened = &o->targets[o->count - 1];
  if (status || !clnorm_target_works(opened)) return status;
  if (is_cpu_path(opened->context)) {
    if (o->options->cpu_as_it_is) return CLNORM_EXIT_GOOD;
    clnorm_target_close(opened);
    o->count--;
    return add_isas(o);
  }
  if (in_turn) return add_other_form(o, device);
  if (!all_forms) return CLNORM_EXIT_GOOD;
  const clnorm_context_options wide = context_options(o->options, CLNORM_FORM_WIDE);
  const clnorm_device_info *info = clnorm_context_device(opened->context);
  clnorm_message why;
  if (!clnorm_vector_form_compiles(info, &why)) {
    clnorm_complain("%s (%s), vector form is left out: %s; --form vector tries it", info->name,
                    info->id, why.text);
    clnorm_target_close(opened);
    o->count--;
  }
  return add_open(o, device, &wide);
}

static int add_all(opener *o) {
  clnorm_device_list *list;
  const clnorm_status listed = clnorm_device_list_create(&list);
  if (listed) {
    clnorm_complain("cannot list devices: %s", clnorm_status_text(listed));
    return clnorm_exit_status(listed);
  }
  int status = CLNORM_EXIT_GOOD, usable = 0;
  for (int i = 0; i < clnorm_device_list_count(list) && !status; i++) {
    const clnorm_device_info *info = clnorm_device_list_get(list, i);
    usable += info->usable;
    if (info->usable)
      status = add_device(o, info->id);
    else
      clnorm_complain("%s (%s) is left out: %s", info->name, info->id, info->status);
  }
  if (usable < 2) /* the CPU path alone: say why */
    for (int i = 0; i < clnorm_device_list_missing_count(list); i++)
      clnorm_complain("missing: %s", clnorm_device_list_missing(list, i));
  clnorm_device_list_destroy(list);
  return status;
}

/* The targets from `first` on are of the device `name`; the same one before them is a mistake. */
static int refuse_twice(const opener *o, size_t first, const char *name) {
  for (size_t i = 0; i < first && first < o->count; i++) {
    const clnorm_target *a = &o->targets[i], *b = &o->targets[first];
    if (!clnorm_target_works(a) || !clnorm_target_works(b)) continue;
    const clnorm_device_info *info = clnorm_context_device(b->context);
    if (strcmp(clnorm_context_device(a->context)->id, info->id) != 0) continue;
    clnorm_complain("--device names %s (%s) twice, the second time as '%s'", info->name, info->id,
                    name);
    return CLNORM_EXIT_USAGE;
  }
  return CLNORM_EXIT_GOOD;
}

static int add_listed(opener *o, const clnorm_texts *devices) {
  int status = CLNORM_EXIT_GOOD;
  for (size_t i = 0; i < devices->count && !status; i++) {
    const size_t first = o->count;
    if (strcmp(devices->items[i], "all") == 0) {
      clnorm_complain("--device all names every device, and stands alone");
      return CLNORM_EXIT_USAGE;
    }
    status = add_device(o, devices->items[i]);
    if (!status) status = refuse_twice(o, first, devices->items[i]);
  }
  return status;
}

int clnorm_targets_open(const clnorm_target_options *options, clnorm_target **targets,
                        size_t *count) {
  opener o = {options, NULL, 0, 0};
  clnorm_texts listed = options->devices;
  if (listed.count == 0) listed.items[listed.count++] = options->device;
  const bool all = listed.count == 1 && strcmp(listed.items[0], "all") == 0;
  int status = all ? add_all(&o) : add_listed(&o, &listed);
  bool works = false;
  for (size_t i = 0; i < o.count; i++) works = works || clnorm_target_works(&o.targets[i]);
  if (!status && !works) status = CLNORM_EXIT_DEVICE;
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

/* ---- Trouble --------------------------------------------------------------------------------- */

bool clnorm_target_works(const clnorm_target *target) {
  return target->context && !target->trouble[0];
}

void clnorm_target_give_up(clnorm_target *target, const char *format, ...) {
  clnorm_message message;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message.text, sizeof message.text, format, arguments);
  va_end(arguments);
  clnorm_complain("%s: %s", target->label, message.text);
  snprintf(target->trouble, sizeof target->trouble, "%.500s", message.text);
}

int clnorm_targets_status(const clnorm_target *targets, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (targets[i].trouble[0]) return CLNORM_EXIT_DEVICE;
  return CLNORM_EXIT_GOOD;
}

void clnorm_targets_failed_json(clnorm_json *json, const clnorm_target *targets, size_t count) {
  clnorm_json_array(json, "failed");
  for (size_t i = 0; i < count; i++) {
    if (!targets[i].trouble[0]) continue;
    clnorm_json_object(json, NULL);
    clnorm_json_text(json, "device", targets[i].label);
    clnorm_json_text(json, "reason", targets[i].trouble);
    clnorm_json_end_object(json);
  }
  clnorm_json_end_array(json);
}
