#include "programs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct built_program {
  const char *text; /* of the source: which of the library's it is */
  char options[CLNORM_OPENCL_OPTIONS_SIZE];
  cl_program program;
  struct built_program *next;
} built_program;

struct clnorm_opencl_programs {
  atomic_size_t holders;
  pthread_mutex_t
      mutex; /* of what follows; held while a program is built, for whoever waits needs it too */
  built_program *built;
};

clnorm_opencl_programs *clnorm__opencl_programs_create(void) {
  clnorm_opencl_programs *programs = calloc(1, sizeof *programs);
  if (!programs) return NULL;
  atomic_init(&programs->holders, 1);
  pthread_mutex_init(&programs->mutex, NULL);
  return programs;
}

clnorm_opencl_programs *clnorm__opencl_programs_hold(clnorm_opencl_programs *programs) {
  atomic_fetch_add(&programs->holders, 1);
  return programs;
}

void clnorm__opencl_programs_release(clnorm_opencl_programs *programs,
                                     const clnorm_opencl_api *api) {
  if (!programs || atomic_fetch_sub(&programs->holders, 1) > 1) return;
  while (programs->built) {
    built_program *built = programs->built;
    programs->built = built->next;
    if (api) api->clReleaseProgram(built->program);
    free(built);
  }
  if (api)
    pthread_mutex_destroy(&programs->mutex); /* a parent's thread may hold the copy of a child */
  free(programs);
}

static built_program *find(const clnorm_opencl_programs *programs,
                           const clnorm_opencl_source *source) {
  built_program *built = programs->built;
  while (built && (built->text != source->text || strcmp(built->options, source->options) != 0))
    built = built->next;
  return built;
}

static clnorm_status build(clnorm_opencl_programs *programs, const clnorm_opencl_api *api,
                           cl_context context, cl_device_id device,
                           const clnorm_opencl_source *source, built_program **built,
                           clnorm_error *error) {
  built_program *result = calloc(1, sizeof *result);
  if (!result)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a program");
  const clnorm_status status =
      clnorm__opencl_program_create(api, context, device, source, &result->program, error);
  if (status != CLNORM_OK) {
    free(result);
    return status;
  }
  result->text = source->text;
  snprintf(result->options, sizeof result->options, "%s", source->options);
  result->next = programs->built;
  programs->built = *built = result;
  return CLNORM_OK;
}

clnorm_status clnorm__opencl_programs_get(clnorm_opencl_programs *programs,
                                          const clnorm_opencl_api *api, cl_context context,
                                          cl_device_id device, const clnorm_opencl_source *source,
                                          cl_program *program, clnorm_error *error) {
  pthread_mutex_lock(&programs->mutex);
  built_program *built = find(programs, source);
  clnorm_status status = CLNORM_OK;
  if (!built) status = build(programs, api, context, device, source, &built, error);
  if (status == CLNORM_OK) *program = built->program;
  pthread_mutex_unlock(&programs->mutex);
  return status;
}
