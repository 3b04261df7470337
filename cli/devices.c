#include <stdio.h>
#include <string.h>

#include "arguments.h"
#include "commands.h"
#include "dense.h"
#include "json.h"
#include "messages.h"
#include "probe.h"

static const char help[] =
    "clnorm devices [--json]\n"
    "\n"
    "Lists the CPU path and every OpenCL device, marks with * the one that is used where none\n"
    "is named, and says what is missing and how to get it. What clnorm tune keeps for a device\n"
    "is named; form is the one that it then runs in. An OpenCL driver that crashes when it is\n"
    "asked for its devices leaves OpenCL out, and makes the exit status 3.\n"
    "\n"
    "  --json    one JSON object: devices (with all that the library knows of each), default,\n"
    "            missing\n"
    "\n"
    "example: clnorm devices --json\n";

static const char *default_id(const clnorm_device_list *list) {
  return clnorm_device_list_get(list, clnorm_device_list_default(list))->id;
}

/* The form that the device runs in where none is forced: that of *kept, else the rule's. */
static const char *form_of(const clnorm_device_info *info, const clnorm_tuning *kept) {
  static const char *const forms[] = {NULL, "vector", "wide"};
  return kept->form != CLNORM_FORM_AUTO ? forms[kept->form] : info->form;
}

/* What a driver says is believed up to what JSON readers hold. */
static void json_bytes(clnorm_json *json, const char *key, uint64_t bytes) {
  clnorm_json_integer(json, key, bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes);
}

static void print_json(const clnorm_device_list *list) {
  clnorm_json json = {stdout, false};
  clnorm_json_object(&json, NULL);
  clnorm_json_array(&json, "devices");
  for (int i = 0; i < clnorm_device_list_count(list); i++) {
    const clnorm_device_info *info = clnorm_device_list_get(list, i);
    clnorm_tuning kept = dense_tuning();
    const bool tuned = clnorm_tuning_kept(info, NULL, &kept);
    clnorm_json_object(&json, NULL);
    clnorm_json_text(&json, "id", info->id);
    clnorm_json_text(&json, "name", info->name);
    clnorm_json_text(&json, "platform", info->platform);
    clnorm_json_text(&json, "type", info->type);
    clnorm_json_text(&json, "form", form_of(info, &kept));
    clnorm_json_text(&json, "status", info->status);
    clnorm_json_bool(&json, "usable", info->usable);
    clnorm_json_bool(&json, "denormals", info->denormals);
    clnorm_json_integer(&json, "compute_units", info->compute_units);
    json_bytes(&json, "memory_bytes", info->memory_bytes);
    json_bytes(&json, "max_alloc_bytes", info->max_alloc_bytes);
    clnorm_json_integer(&json, "vector_width", info->vector_width);
    clnorm_json_bool(&json, "tuned", tuned);
    clnorm_json_end_object(&json);
  }
  clnorm_json_end_array(&json);
  clnorm_json_text(&json, "default", default_id(list));
  clnorm_json_array(&json, "missing");
  for (int i = 0; i < clnorm_device_list_missing_count(list); i++)
    clnorm_json_text(&json, NULL, clnorm_device_list_missing(list, i));
  clnorm_json_end_array(&json);
  clnorm_json_end_object(&json);
  putchar('\n');
}

static int name_width(const clnorm_device_list *list) {
  size_t width = 4;
  for (int i = 0; i < clnorm_device_list_count(list); i++) {
    const size_t length = strlen(clnorm_device_list_get(list, i)->name);
    if (length > width) width = length;
  }
  return (int)width;
}

static void print_table(const clnorm_device_list *list) {
  const int width = name_width(list), chosen = clnorm_device_list_default(list);
  printf("  %-5s %-11s %-6s  %-*s  %s\n", "id", "type", "form", width, "name", "platform");
  for (int i = 0; i < clnorm_device_list_count(list); i++) {
    const clnorm_device_info *info = clnorm_device_list_get(list, i);
    clnorm_tuning kept = dense_tuning();
    const bool tuned = clnorm_tuning_kept(info, NULL, &kept);
    printf("%c %-5s %-11s %-6s  %-*s  %s\n", i == chosen ? '*' : ' ', info->id, info->type,
           form_of(info, &kept), width, info->name, info->platform);
    if (strcmp(info->status, "ok") != 0) printf("        %s\n", info->status);
    if (tuned)
      printf("        tuned: clnorm tune --device %s --reset goes back to the rule\n", info->id);
    if (info->usable && !info->denormals)
      printf("        flushes subnormal values to zero: results that depend on them are not "
             "promised\n");
  }
  printf("\n* is used where no device is named (auto).\n");
  for (int i = 0; i < clnorm_device_list_missing_count(list); i++)
    printf("missing: %s\n", clnorm_device_list_missing(list, i));
}

int clnorm_command_devices(int argc, char **argv) {
  bool as_json = false;
  const clnorm_option options[] = {{"--json", CLNORM_OPTION_SET, &as_json, NULL},
                                   {NULL, CLNORM_OPTION_SET, NULL, NULL}};
  int usage;
  if (!clnorm_arguments_options(argc, argv, options, help, &usage)) return usage;
  const bool drivers_survive = clnorm_probe_drivers();
  clnorm_device_list *list;
  const clnorm_status status = clnorm_device_list_create(&list);
  if (status) {
    clnorm_complain("cannot list devices: %s", clnorm_status_text(status));
    return clnorm_exit_status(status);
  }
  if (as_json)
    print_json(list);
  else
    print_table(list);
  clnorm_device_list_destroy(list);
  return drivers_survive ? CLNORM_EXIT_GOOD : CLNORM_EXIT_DEVICE;
}
