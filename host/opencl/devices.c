#include "devices.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "missing.h"
#include "traits.h"

/* ---- Enumeration -------------------------------------------------------------------------------- */

/* Both receive an array for free(), or NULL with what the driver said where there is nothing; they fail
 * for lack of host memory only. */
static clnorm_status get_platforms(const clnorm_opencl_api *api, cl_platform_id **platforms,
                                   cl_uint *count, cl_int *code) {
  *platforms = NULL;
  *count = 0;
  cl_uint number = 0;
  *code = api->clGetPlatformIDs(0, NULL, &number);
  if (*code != CL_SUCCESS || number == 0) return CLNORM_OK;
  cl_platform_id *ids = calloc(number, sizeof *ids);
  if (!ids) return CLNORM_ERROR_OUT_OF_MEMORY;
  *code = api->clGetPlatformIDs(number, ids, NULL);
  if (*code != CL_SUCCESS) {
    free(ids);
    return CLNORM_OK;
  }
  *platforms = ids;
  *count = number;
  return CLNORM_OK;
}

/* Drivers look for their devices when they are first asked for them, and some without a lock: with several
 * threads in the first call PoCL 3.1 crashes. The only thing that contexts share without being told to. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static cl_int ask_for_devices(const clnorm_opencl_api *api, cl_platform_id platform, cl_uint room,
                              cl_device_id *ids, cl_uint *number) {
  pthread_mutex_lock(&one_at_a_time);
  const cl_int code = api->clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, room, ids, number);
  pthread_mutex_unlock(&one_at_a_time);
  return code;
}

static clnorm_status get_devices(const clnorm_opencl_api *api, cl_platform_id platform,
                                 cl_device_id **devices, cl_uint *count, cl_int *code) {
  *devices = NULL;
  *count = 0;
  cl_uint number = 0;
  *code = ask_for_devices(api, platform, 0, NULL, &number);
  if (*code != CL_SUCCESS || number == 0) return CLNORM_OK;
  cl_device_id *ids = calloc(number, sizeof *ids);
  if (!ids) return CLNORM_ERROR_OUT_OF_MEMORY;
  *code = ask_for_devices(api, platform, number, ids, NULL);
  if (*code != CL_SUCCESS) {
    free(ids);
    return CLNORM_OK;
  }
  *devices = ids;
  *count = number;
  return CLNORM_OK;
}

/* A platform has never had 65536 devices; the limit shows the compiler that the text fits. */
static void format_id(char id[16], cl_uint platform, cl_uint device) {
  snprintf(id, 16, "%u.%u", platform & 0xffffu, device & 0xffffu);
}

static clnorm_status list_platform(const clnorm_opencl_api *api, clnorm_device_list *list,
                                   cl_platform_id platform, unsigned index, bool *gpu) {
  cl_device_id *devices = NULL;
  cl_uint count = 0;
  cl_int code = CL_SUCCESS;
  if (!clnorm__device_list_wants(list, index, -1)) return CLNORM_OK;
  clnorm_status status = get_devices(api, platform, &devices, &count, &code);
  if (status != CLNORM_OK) return status;
  if (count == 0) return clnorm__opencl_no_device(api, list, platform, index, code);
  for (cl_uint d = 0; d < count && status == CLNORM_OK; d++) {
    char id[16];
    clnorm_device_info info;
    if (!clnorm__device_list_wants(list, index, (int)d)) continue;
    format_id(id, index, d);
    status = clnorm__opencl_describe(api, devices[d], id, &info);
    if (status != CLNORM_OK) break;
    if (strcmp(info.type, "gpu") == 0) *gpu = true;
    status = clnorm__device_list_add(list, &info);
  }
  free(devices);
  return status;
}

clnorm_status clnorm__opencl_list_devices(const clnorm_opencl_api *api, clnorm_device_list *list) {
  cl_platform_id *platforms = NULL;
  cl_uint count = 0;
  cl_int code = CL_SUCCESS;
  clnorm_status status = get_platforms(api, &platforms, &count, &code);
  if (status != CLNORM_OK) return status;
  if (count == 0) return clnorm__opencl_no_platform(list, code);
  bool gpu = false;
  for (cl_uint p = 0; p < count && status == CLNORM_OK; p++) {
    status = list_platform(api, list, platforms[p], p, &gpu);
  }
  if (status == CLNORM_OK && !gpu) status = clnorm__opencl_no_gpu(list);
  free(platforms);
  return status;
}

static clnorm_status find_platform(const clnorm_opencl_api *api, cl_uint index,
                                   cl_platform_id *platform, clnorm_error *error) {
  cl_platform_id *platforms = NULL;
  cl_uint count = 0;
  cl_int code = CL_SUCCESS;
  const clnorm_status status = get_platforms(api, &platforms, &count, &code);
  if (status != CLNORM_OK) return clnorm__fail(error, status, "no host memory for the platforms");
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clGetPlatformIDs", code);
  if (index < count) *platform = platforms[index];
  free(platforms);
  if (index < count) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE,
                      "OpenCL platform %u was asked for, but there are %u, counted from 0", index,
                      count);
}

clnorm_status clnorm__opencl_find_device(const clnorm_opencl_api *api, const char *id,
                                         cl_device_id *device, clnorm_error *error) {
  unsigned p = 0;
  unsigned d = 0;
  if (sscanf(id, "%u.%u", &p, &d) != 2) {
    return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE, "\"%s\" is not a platform.device", id);
  }
  cl_platform_id platform = NULL;
  clnorm_status status = find_platform(api, p, &platform, error);
  if (status != CLNORM_OK) return status;
  cl_device_id *devices = NULL;
  cl_uint count = 0;
  cl_int code = CL_SUCCESS;
  status = get_devices(api, platform, &devices, &count, &code);
  if (status != CLNORM_OK) return clnorm__fail(error, status, "no host memory for the devices");
  if (code != CL_SUCCESS && code != CL_DEVICE_NOT_FOUND) {
    return clnorm__opencl_fail(error, "clGetDeviceIDs", code);
  }
  if (d < count) *device = devices[d];
  free(devices);
  if (d < count) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_NO_DEVICE,
                      "device %u of OpenCL platform %u was asked for, but there are %u, counted "
                      "from 0",
                      d, p, count);
}

/* The position of a device among its platform's; false where it is not listed. */
static bool index_in_platform(const clnorm_opencl_api *api, cl_platform_id platform,
                              cl_device_id device, cl_uint *index) {
  cl_device_id *devices = NULL;
  cl_uint count = 0;
  cl_int code = CL_SUCCESS;
  if (get_devices(api, platform, &devices, &count, &code) != CLNORM_OK) return false;
  *index = 0;
  while (*index < count && devices[*index] != device) ++*index;
  free(devices);
  return *index < count;
}

void clnorm__opencl_device_name(const clnorm_opencl_api *api, cl_device_id device, char id[16]) {
  cl_platform_id *platforms = NULL;
  cl_uint count = 0;
  cl_uint d = 0;
  snprintf(id, 16, "-");
  cl_int code = CL_SUCCESS;
  if (get_platforms(api, &platforms, &count, &code) != CLNORM_OK) return;
  for (cl_uint p = 0; p < count; p++) {
    if (!index_in_platform(api, platforms[p], device, &d)) continue;
    format_id(id, p, d);
    break;
  }
  free(platforms);
}

/* ---- Description -------------------------------------------------------------------------------- */

/* Looks for a whole word in a list of words that blanks separate. */
static bool has_word(const char *words, const char *word) {
  const size_t length = strlen(word);
  for (const char *at = strstr(words, word); at; at = strstr(at + length, word)) {
    const bool starts = at == words || at[-1] == ' ';
    const bool ends = at[length] == '\0' || at[length] == ' ';
    if (starts && ends) return true;
  }
  return false;
}

/* `text` is "OpenCL 1.2 ..." or "OpenCL C 1.2 ...", as the specification wants it. */
static bool at_least_1_2(const char *text, const char *format) {
  unsigned major = 0;
  unsigned minor = 0;
  if (!text || sscanf(text, format, &major, &minor) != 2) return false;
  return major > 1 || (major == 1 && minor >= 2);
}

/* The texts that decide whether a device is usable; released with free_texts. */
typedef struct device_texts {
  char *platform_version, *version, *language, *profile, *extensions;
} device_texts;

static device_texts get_texts(clnorm_opencl_query *query) {
  const device_texts texts = {
      clnorm__opencl_platform_text(query, CL_PLATFORM_VERSION),
      clnorm__opencl_device_text(query, CL_DEVICE_VERSION),
      clnorm__opencl_device_text(query, CL_DEVICE_OPENCL_C_VERSION),
      clnorm__opencl_device_text(query, CL_DEVICE_PROFILE),
      clnorm__opencl_device_text(query, CL_DEVICE_EXTENSIONS),
  };
  return texts;
}

static void free_texts(device_texts *texts) {
  free(texts->platform_version);
  free(texts->version);
  free(texts->language);
  free(texts->profile);
  free(texts->extensions);
}

/* Writes why versions, profile and switches rule the device out; leaves status empty where they do not. */
static void judge(clnorm_opencl_query *query, const device_texts *texts, char *status,
                  size_t size) {
  cl_bool available = CL_FALSE;
  cl_bool compiler = CL_FALSE;
  cl_bool little = CL_FALSE;
  cl_device_fp_config floats = 0;
  const cl_device_fp_config needed = CL_FP_ROUND_TO_NEAREST | CL_FP_INF_NAN;
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_AVAILABLE, &available);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_COMPILER_AVAILABLE, &compiler);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_ENDIAN_LITTLE, &little);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_SINGLE_FP_CONFIG, &floats);
  if (query->call) {
    snprintf(status, size, "%s failed: %s (%d)", query->call,
             clnorm__opencl_error_name(query->code), (int)query->code);
  } else if (!at_least_1_2(texts->platform_version, "OpenCL %u.%u")) {
    snprintf(status, size, "platform version \"%s\", but OpenCL 1.2 is needed",
             texts->platform_version);
  } else if (!at_least_1_2(texts->version, "OpenCL %u.%u")) {
    snprintf(status, size, "device version \"%s\", but OpenCL 1.2 is needed", texts->version);
  } else if (!at_least_1_2(texts->language, "OpenCL C %u.%u")) {
    snprintf(status, size, "language version \"%s\", but OpenCL C 1.2 is needed", texts->language);
  } else if (!available) {
    snprintf(status, size, "the driver says that the device is not available");
  } else if (!compiler) {
    snprintf(status, size, "the driver has no compiler for it (CL_DEVICE_COMPILER_AVAILABLE)");
  } else if (!little) {
    snprintf(status, size, "big-endian devices are not supported");
  } else if (strcmp(texts->profile, "EMBEDDED_PROFILE") == 0 &&
             !has_word(texts->extensions, "cles_khr_int64")) {
    snprintf(status, size, "embedded profile without 64-bit integers (cles_khr_int64)");
  } else if ((floats & needed) != needed) {
    snprintf(status, size, "float arithmetic does not round to nearest with infinities and NaN");
  }
}

/* A simulator may claim to be everything; what runs on the processor is a cpu. */
static const char *type_name(cl_device_type type) {
  if ((type & CL_DEVICE_TYPE_CPU) != 0) return "cpu";
  if ((type & CL_DEVICE_TYPE_GPU) != 0) return "gpu";
  return (type & CL_DEVICE_TYPE_ACCELERATOR) != 0 ? "accelerator" : "other";
}

static void fill_names(clnorm_opencl_query *query, clnorm_device_info *info) {
  char *name = clnorm__opencl_device_text(query, CL_DEVICE_NAME);
  char *platform = clnorm__opencl_platform_text(query, CL_PLATFORM_NAME);
  char *driver = clnorm__opencl_device_text(query, CL_DRIVER_VERSION);
  snprintf(info->name, sizeof info->name, "%s", name ? name : "unnamed device");
  const bool repeats = platform && driver && strncmp(driver, platform, strlen(platform)) == 0;
  snprintf(info->platform, sizeof info->platform, "%s%s%s", platform && !repeats ? platform : "",
           platform && !repeats ? " " : "", driver ? driver : "");
  free(driver);
  free(platform);
  free(name);
}

clnorm_status clnorm__opencl_describe(const clnorm_opencl_api *api, cl_device_id device,
                                      const char *id, clnorm_device_info *info) {
  memset(info, 0, sizeof *info);
  snprintf(info->id, sizeof info->id, "%s", id);
  clnorm_opencl_query query = clnorm__opencl_query_device(api, device);
  fill_names(&query, info);

  cl_device_type type = 0;
  cl_device_fp_config floats = 0;
  cl_ulong memory = 0;
  cl_ulong alloc = 0;
  cl_uint vector_width = 0;
  char note[160];
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_TYPE, &type);
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_SINGLE_FP_CONFIG, &floats);
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_GLOBAL_MEM_SIZE, &memory);
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_MAX_MEM_ALLOC_SIZE, &alloc);
  CLNORM_OPENCL_VALUE(&query, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, &vector_width);
  const clnorm_traits traits = clnorm__opencl_traits(
      &query, CLNORM_FORM_AUTO, CLNORM_OPENCL_LARGEST_GROUP, note, sizeof note);
  snprintf(info->type, sizeof info->type, "%s", type_name(type));
  snprintf(info->form, sizeof info->form, "%s",
           traits.form == CLNORM_FORM_VECTOR ? "vector" : "wide");
  info->denormals = (floats & CL_FP_DENORM) != 0;
  info->compute_units = (int)traits.workers;
  info->memory_bytes = memory;
  info->max_alloc_bytes = alloc;
  info->vector_width = (int)vector_width;

  device_texts texts = get_texts(&query);
  judge(&query, &texts, info->status, sizeof info->status);
  free_texts(&texts);
  info->usable = info->status[0] == '\0';
  if (info->usable) snprintf(info->status, sizeof info->status, "ok");
  return query.out_of_memory ? CLNORM_ERROR_OUT_OF_MEMORY : CLNORM_OK;
}
