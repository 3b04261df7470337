#include "tuning.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_folder.h"
#include "objects.h"
#include "structures.h"

/* Changes with the format of the file, and with the meaning of its values. */
#define FIRST_LINE "clnorm tuning 2\n"
#define LARGEST_FILE 4096u
#define SPLIT_MIN 0.001
#define SPLIT_MAX 1e6
#define THOUSANDTHS_MAX UINT64_C(1000000000) /* SPLIT_MAX of them */

static const char *const form_names[] = {"rule", "vector", "wide"};

static const clnorm_tuning by_rule = {.size = sizeof(clnorm_tuning)};

void clnorm_tuning_init(clnorm_tuning *tuning, size_t size) {
  clnorm__structure_init(tuning, size, &by_rule, sizeof by_rule);
}

clnorm_status clnorm__tuning_check(const clnorm_tuning *tuning, clnorm_error *error) {
  const double split = tuning->split_below;
  if (tuning->form < CLNORM_FORM_AUTO || tuning->form > CLNORM_FORM_WIDE)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "tuning.form is %d, but must be in [0, 2]", tuning->form);
  if (split != 0 && !(split >= SPLIT_MIN && split <= SPLIT_MAX))
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "tuning.split_below is %s, but must be 0 or in [%g, %g]",
                        clnorm__quote(split).text, SPLIT_MIN, SPLIT_MAX);
  return CLNORM_OK;
}

/* ---- The file ------------------------------------------------------------------------------------- */

typedef struct file_name {
  char text[32];
} file_name;

typedef struct identity_text {
  char text[384];
} identity_text;

typedef struct file_text {
  char text[640];
} file_text;

/* Whose tuning it is. A driver's text may hold anything: it must not look like lines of its own. */
static identity_text identity(const clnorm_device_info *info) {
  char names[2][sizeof info->name];
  const char *const given[2] = {info->name, info->platform};
  for (int i = 0; i < 2; i++) {
    snprintf(names[i], sizeof names[i], "%s", given[i]);
    for (char *c = names[i]; *c; c++)
      if ((unsigned char)*c < 32) *c = '?';
  }
  identity_text result;
  snprintf(result.text, sizeof result.text, "device %s\nplatform %s\ncompute_units %d\n", names[0],
           names[1], info->compute_units);
  return result;
}

static file_name name_of(const clnorm_device_info *info) {
  const identity_text who = identity(info);
  file_name name;
  snprintf(name.text, sizeof name.text, "%016" PRIx64 ".tuning",
           clnorm__cache_hash(who.text, strlen(who.text)));
  return name;
}

/* No floating point: its text depends on the caller's locale. */
static file_text write_text(const clnorm_device_info *info, const clnorm_tuning *tuning) {
  file_text file;
  snprintf(file.text, sizeof file.text,
           FIRST_LINE "%sform %s\nsplit_below_thousandths %" PRIu64 "\nstream_bytes %" PRIu64
                      "\ntrain_stream_bytes %" PRIu64 "\n",
           identity(info).text, form_names[tuning->form],
           (uint64_t)(tuning->split_below * 1000 + 0.5), tuning->stream_bytes,
           tuning->train_stream_bytes);
  return file;
}

/* Steps over `words`, if they come next. */
static bool skip(const char **at, const char *words) {
  const size_t length = strlen(words);
  if (strncmp(*at, words, length) != 0) return false;
  *at += length;
  return true;
}

static bool read_form(const char **at, int32_t *form) {
  for (int i = 0; i < 3; i++) {
    const char *after = *at;
    if (!skip(&after, form_names[i]) || !skip(&after, "\n")) continue;
    *at = after;
    *form = i;
    return true;
  }
  return false;
}

/* Digits, and the end of the line. */
static bool read_whole(const char **at, uint64_t largest, uint64_t *value) {
  *value = 0;
  if (**at < '0' || **at > '9') return false;
  for (; **at >= '0' && **at <= '9'; ++*at) {
    const unsigned digit = (unsigned)(**at - '0');
    if (*value > (largest - digit) / 10) return false;
    *value = *value * 10 + digit;
  }
  return skip(at, "\n");
}

/* NULL, or why the text is not used. */
static const char *read_text(const char *at, const clnorm_device_info *info,
                             clnorm_tuning *tuning) {
  uint64_t thousandths;
  clnorm_tuning found = by_rule;
  if (!skip(&at, FIRST_LINE)) return "it is damaged or of another version";
  if (!skip(&at, identity(info).text)) return "it belongs to another device";
  if (!skip(&at, "form ") || !read_form(&at, &found.form)) return "its form is damaged";
  if (!skip(&at, "split_below_thousandths ") || !read_whole(&at, THOUSANDTHS_MAX, &thousandths))
    return "its split_below is damaged or out of range";
  if (!skip(&at, "stream_bytes ") || !read_whole(&at, UINT64_MAX, &found.stream_bytes))
    return "its stream_bytes is damaged or out of range";
  if (!skip(&at, "train_stream_bytes ") || !read_whole(&at, UINT64_MAX, &found.train_stream_bytes))
    return "its train_stream_bytes is damaged or out of range";
  if (*at) return "there is more than a tuning in it";
  if (found.form == CLNORM_FORM_WIDE && strcmp(info->id, "cpu") == 0)
    return "its form is wide, but the CPU path has the vector form only";
  found.split_below = (double)thousandths / 1000;
  *tuning = found;
  return NULL;
}

static bool load(const char *folder, const clnorm_device_info *info, clnorm_tuning *tuning,
                 const clnorm_error *error) {
  clnorm_message why;
  const file_name name = name_of(info);
  const clnorm_blob file = clnorm__cache_read(folder, name.text, LARGEST_FILE, &why);
  if (!file.data) {
    if (why.text[0]) clnorm__log(error, "%s", why.text);
    return false;
  }
  char text[LARGEST_FILE + 1] = "";
  memcpy(text, file.data, file.size);
  free(file.data);
  const char *reason = strlen(text) == file.size ? read_text(text, info, tuning) : "it is damaged";
  if (reason) clnorm__log(error, "tuning %s/%s is not used: %s", folder, name.text, reason);
  return !reason;
}

/* ---- Opening a device ------------------------------------------------------------------------------- */

clnorm_form clnorm__tuning_choose(clnorm_device *device, const clnorm_context_options *options,
                                  const clnorm_error *error) {
  const bool forced = options->form != CLNORM_FORM_AUTO || options->isa != CLNORM_ISA_AUTO;
  device->cache_folder = clnorm__cache_folder(options->cache_dir);
  device->tuning = by_rule;
  device->tuning_source = CLNORM_TUNING_RULE;
  if (options->tuning) {
    device->tuning = *options->tuning;
    device->tuning_source = CLNORM_TUNING_GIVEN;
  } else if (!forced && device->cache_folder &&
             load(device->cache_folder, &device->info, &device->tuning, error)) {
    device->tuning_source = CLNORM_TUNING_KEPT;
  }
  return (clnorm_form)(options->form != CLNORM_FORM_AUTO ? options->form : device->tuning.form);
}

void clnorm__tuning_apply(clnorm_device *device) {
  const clnorm_tuning *tuning = &device->tuning;
  clnorm_traits *traits = &device->traits;
  if (tuning->split_below > 0) traits->split_below = tuning->split_below;
  if (tuning->stream_bytes > 0)
    traits->stream_bytes = traits->train_stream_bytes = tuning->stream_bytes;
  if (tuning->train_stream_bytes > 0) traits->train_stream_bytes = tuning->train_stream_bytes;
}

void clnorm__tuning_place(const clnorm_device *device, char *path, size_t size) {
  path[0] = '\0';
  if (device->cache_folder)
    snprintf(path, size, "%s/%s", device->cache_folder, name_of(&device->info).text);
}

/* ---- Interface --------------------------------------------------------------------------------------- */

void clnorm_context_tuning(const clnorm_context *context, clnorm_tuning *tuning, int32_t *source) {
  clnorm_tuning result = by_rule;
  if (source) *source = context ? (int32_t)context->device->tuning_source : CLNORM_TUNING_RULE;
  if (context) {
    const clnorm_traits *traits = &context->device->traits;
    result.form = traits->form;
    result.split_below = traits->split_below;
    result.stream_bytes = traits->stream_bytes;
    result.train_stream_bytes = traits->train_stream_bytes;
  }
  clnorm__structure_give(tuning, &result, sizeof result);
}

static clnorm_status need_folder(clnorm_context *context) {
  if (context->device->cache_folder) return CLNORM_OK;
  return clnorm__fail(&context->error, CLNORM_ERROR_STATE,
                      "this context keeps nothing on disk: cache_dir is \"\", or there is no home");
}

clnorm_status clnorm_tuning_keep(clnorm_context *context, const clnorm_tuning *tuning) {
  clnorm_tuning own;
  clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  clnorm_error *error = &context->error;
  const clnorm_device *device = context->device;
  status = clnorm__structure_take(&own, sizeof own, tuning, "tuning", error);
  if (status == CLNORM_OK) status = clnorm__tuning_check(&own, error);
  if (status == CLNORM_OK) status = need_folder(context);
  if (status != CLNORM_OK) return status;
  if (own.form == CLNORM_FORM_WIDE && strcmp(device->info.id, "cpu") == 0)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "tuning.form is wide, but the CPU path has the vector form only");
  clnorm_message why;
  file_text file = write_text(&device->info, &own);
  const clnorm_blob part = {(unsigned char *)file.text, strlen(file.text)};
  if (!clnorm__cache_write(device->cache_folder, name_of(&device->info).text, &part, 1, &why))
    return clnorm__fail(error, CLNORM_ERROR_STATE, "%s", why.text);
  return CLNORM_OK;
}

clnorm_status clnorm_tuning_forget(clnorm_context *context) {
  clnorm_status status = clnorm__context_ready(context);
  if (status == CLNORM_OK) status = need_folder(context);
  if (status != CLNORM_OK) return status;
  const clnorm_device *device = context->device;
  clnorm_message why;
  if (!clnorm__cache_remove(device->cache_folder, name_of(&device->info).text, &why))
    return clnorm__fail(&context->error, CLNORM_ERROR_STATE, "%s", why.text);
  return CLNORM_OK;
}

const char *clnorm_tuning_path(const clnorm_context *context) {
  return context ? context->tuning_path : "";
}

bool clnorm_tuning_kept(const clnorm_device_info *device, const char *cache_dir,
                        clnorm_tuning *tuning) {
  const clnorm_error silent = {{""}, NULL, NULL};
  clnorm_tuning found = by_rule;
  char *folder = device ? clnorm__cache_folder(cache_dir) : NULL;
  const bool kept = folder && load(folder, device, &found, &silent);
  free(folder);
  clnorm__structure_give(tuning, &found, sizeof found);
  return kept;
}
