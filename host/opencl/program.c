#include "program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "program_cache.h"
#include "query.h"

/* What one build works with. */
typedef struct build {
  const clnorm_opencl_api *api;
  cl_context context;
  cl_device_id device;
  const clnorm_opencl_source *source;
  clnorm_error *error;
} build;

/* ---- Cache key ---------------------------------------------------------------------------------- */

/* Everything that decides what a binary is good for, each part with its terminating zero. Empty where the
 * driver does not answer or memory is short: the cache is then left alone. */
static clnorm_blob make_key(const build *b) {
  clnorm_opencl_query query = clnorm__opencl_query_device(b->api, b->device);
  char *texts[] = {
      clnorm__opencl_platform_text(&query, CL_PLATFORM_NAME),
      clnorm__opencl_platform_text(&query, CL_PLATFORM_VERSION),
      clnorm__opencl_device_text(&query, CL_DEVICE_NAME),
      clnorm__opencl_device_text(&query, CL_DEVICE_VENDOR),
      clnorm__opencl_device_text(&query, CL_DEVICE_VERSION),
      clnorm__opencl_device_text(&query, CL_DRIVER_VERSION),
  };
  const size_t count = sizeof texts / sizeof texts[0];
  clnorm_blob key = {NULL, strlen(b->source->options) + 1 + b->source->size};
  for (size_t i = 0; i < count && !query.call; i++) key.size += strlen(texts[i]) + 1;
  if (!query.call) key.data = malloc(key.size);
  if (key.data) {
    unsigned char *at = key.data;
    for (size_t i = 0; i < count; i++) {
      const size_t size = strlen(texts[i]) + 1;
      memcpy(at, texts[i], size);
      at += size;
    }
    const size_t size = strlen(b->source->options) + 1;
    memcpy(at, b->source->options, size);
    memcpy(at + size, b->source->text, b->source->size);
  }
  for (size_t i = 0; i < count; i++) free(texts[i]);
  return key;
}

/* ---- Build log ---------------------------------------------------------------------------------- */

/* The compiler's log for free(); NULL where there is none. */
static char *read_log(const build *b, cl_program program) {
  size_t size = 0;
  if (b->api->clGetProgramBuildInfo(program, b->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &size) !=
      CL_SUCCESS) {
    return NULL;
  }
  char *log = calloc(size + 1, 1);
  if (log && b->api->clGetProgramBuildInfo(program, b->device, CL_PROGRAM_BUILD_LOG, size, log,
                                           NULL) != CL_SUCCESS) {
    free(log);
    return NULL;
  }
  return log;
}

static void hand_out_log(const build *b, const char *log) {
  while (log && *log) {
    const size_t length = strcspn(log, "\n");
    if (length > 0) clnorm__log(b->error, "%.*s", (int)length, log);
    log += length;
    log += strspn(log, "\n");
  }
}

static clnorm_status fail_build(const build *b, cl_program program, cl_int code) {
  if (code != CL_BUILD_PROGRAM_FAILURE && code != CL_INVALID_BUILD_OPTIONS &&
      code != CL_COMPILER_NOT_AVAILABLE) {
    return clnorm__opencl_fail_create(b->error, "clBuildProgram", code);
  }
  char *log = read_log(b, program);
  hand_out_log(b, log);
  const clnorm_status status =
      clnorm__fail(b->error, CLNORM_ERROR_BUILD,
                   "clBuildProgram failed: %s (%d), with options \"%s\"; the compiler says:\n%s",
                   clnorm__opencl_error_name(code), (int)code, b->source->options,
                   log && *log ? log : "(nothing)");
  free(log);
  return status;
}

/* ---- Binaries ----------------------------------------------------------------------------------- */

/* The position of the device among the program's; a caller's context may have several. */
static bool device_index(const build *b, cl_program program, cl_uint *count, cl_uint *index) {
  if (b->api->clGetProgramInfo(program, CL_PROGRAM_NUM_DEVICES, sizeof *count, count, NULL) !=
      CL_SUCCESS) {
    return false;
  }
  cl_device_id *devices = calloc(*count + 1u, sizeof *devices);
  const bool known =
      devices && b->api->clGetProgramInfo(program, CL_PROGRAM_DEVICES, *count * sizeof *devices,
                                          devices, NULL) == CL_SUCCESS;
  *index = 0;
  while (known && *index < *count && devices[*index] != b->device) ++*index;
  free(devices);
  return known && *index < *count;
}

/* The program's binary for the device; empty where the driver gives none. */
static clnorm_blob read_binary(const build *b, cl_program program) {
  clnorm_blob binary = {NULL, 0};
  cl_uint count = 0;
  cl_uint index = 0;
  if (!device_index(b, program, &count, &index)) return binary;
  size_t *sizes = calloc(count, sizeof *sizes);
  unsigned char **pointers = calloc(count, sizeof *pointers); /* NULL: that device is skipped */
  if (!sizes || !pointers) goto free_arrays;
  if (b->api->clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, count * sizeof *sizes, sizes,
                               NULL) != CL_SUCCESS ||
      sizes[index] == 0) {
    goto free_arrays;
  }
  pointers[index] = malloc(sizes[index]);
  if (!pointers[index]) goto free_arrays;
  if (b->api->clGetProgramInfo(program, CL_PROGRAM_BINARIES, count * sizeof *pointers, pointers,
                               NULL) == CL_SUCCESS) {
    binary.data = pointers[index];
    binary.size = sizes[index];
  } else {
    free(pointers[index]);
  }
free_arrays:
  free(pointers);
  free(sizes);
  return binary;
}

static void store_binary(const build *b, clnorm_blob key, cl_program program) {
  clnorm_blob binary = read_binary(b, program);
  if (binary.data) {
    clnorm__program_cache_store(b->source->cache_dir, key, binary, b->error);
  } else {
    clnorm__log(b->error, "the driver gives no binary of the program, so none is kept");
  }
  free(binary.data);
}

/* ---- The two ways to a program ------------------------------------------------------------------ */

/* NULL where the binary does not become a program; the source then does. */
static cl_program create_from_binary(const build *b, clnorm_blob binary) {
  const unsigned char *data = binary.data;
  cl_int accepted = CL_SUCCESS;
  cl_int code = CL_SUCCESS;
  const char *call = "clCreateProgramWithBinary";
  cl_program program = b->api->clCreateProgramWithBinary(b->context, 1, &b->device, &binary.size,
                                                         &data, &accepted, &code);
  if (code == CL_SUCCESS) code = accepted;
  if (program && code == CL_SUCCESS) {
    call = "clBuildProgram";
    code = b->api->clBuildProgram(program, 1, &b->device, b->source->options, NULL, NULL);
  }
  if (program && code == CL_SUCCESS) return program;
  clnorm__log(b->error, "the cached program is built again, since %s failed: %s (%d)", call,
              clnorm__opencl_error_name(code), (int)code);
  if (program) b->api->clReleaseProgram(program);
  return NULL;
}

static clnorm_status create_from_source(const build *b, cl_program *program) {
  cl_int code = CL_SUCCESS;
  const char *text = b->source->text;
  cl_program built =
      b->api->clCreateProgramWithSource(b->context, 1, &text, &b->source->size, &code);
  if (code != CL_SUCCESS) {
    return clnorm__opencl_fail_create(b->error, "clCreateProgramWithSource", code);
  }
  code = b->api->clBuildProgram(built, 1, &b->device, b->source->options, NULL, NULL);
  if (code != CL_SUCCESS) {
    const clnorm_status status = fail_build(b, built, code);
    b->api->clReleaseProgram(built);
    return status;
  }
  char *log = read_log(b, built);
  hand_out_log(b, log);
  free(log);
  *program = built;
  return CLNORM_OK;
}

clnorm_status clnorm__opencl_program_create(const clnorm_opencl_api *api, cl_context context,
                                            cl_device_id device, const clnorm_opencl_source *source,
                                            cl_program *program, clnorm_error *error) {
  const build b = {api, context, device, source, error};
  clnorm_blob key = {NULL, 0};
  *program = NULL;
  if (source->cache_dir) key = make_key(&b);
  if (key.data) {
    clnorm_blob binary = clnorm__program_cache_load(source->cache_dir, key, error);
    if (binary.data) *program = create_from_binary(&b, binary);
    free(binary.data);
  }
  clnorm_status status = CLNORM_OK;
  if (!*program) {
    status = create_from_source(&b, program);
    if (status == CLNORM_OK && key.data) store_binary(&b, key, *program);
  }
  free(key.data);
  return status;
}
