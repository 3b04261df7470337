#include "programs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_sources.h"
#include "program.h"

typedef struct built_program {
  clnorm_key key;
  cl_program program;
  struct built_program *next;
} built_program;

struct clnorm_opencl_programs {
  atomic_size_t holders;
  /* Of what follows; held while a program is built, for whoever waits needs it too. */
  pthread_mutex_t mutex;
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

/* More stages than are asked for do as well. */
static bool fits(const clnorm_key *built, const clnorm_key *key) {
  clnorm_key same = *built;
  same.stages = key->stages;
  return (built->stages & key->stages) == key->stages && memcmp(&same, key, sizeof same) == 0;
}

static built_program *find(const clnorm_opencl_programs *programs, const clnorm_key *key) {
  built_program *built = programs->built;
  while (built && !fits(&built->key, key)) built = built->next;
  return built;
}

/* The key as options of the compiler (the .cl files say what each means). */
static void write_options(const clnorm_opencl_device *device, const clnorm_key *key, char *text,
                          size_t size) {
  char group_size[48] = "";
  if (key->form == CLNORM_FORM_WIDE)
    snprintf(group_size, sizeof group_size, " -D CLNORM_GROUP_SIZE=%u", key->group_size);
  snprintf(text, size,
           "-cl-std=CL1.2 -D CLNORM_X_STORAGE=%u -D CLNORM_Y_STORAGE=%u -D CLNORM_DY_STORAGE=%u "
           "-D CLNORM_PATH=%u -D CLNORM_STAGES=%u%s%s",
           key->x, key->y, key->dy, key->path, key->stages, group_size,
           device->soft_fma ? " -D CLNORM_SOFT_FMA" : "");
}

static clnorm_status build(const clnorm_opencl_device *device, const clnorm_key *key,
                           built_program **built, clnorm_error *error) {
  const bool wide = key->form == CLNORM_FORM_WIDE;
  char options[256];
  write_options(device, key, options, sizeof options);
  const clnorm_opencl_source source = {wide ? clnorm__kernel_wide : clnorm__kernel_vector,
                                       wide ? clnorm__kernel_wide_size : clnorm__kernel_vector_size,
                                       options,
                                       device->keeps_programs ? device->base.cache_folder : NULL};
  built_program *result = calloc(1, sizeof *result);
  if (!result)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for a program");
  const clnorm_status status = clnorm__opencl_program_create(
      &device->api, device->context, device->id, &source, &result->program, error);
  if (status != CLNORM_OK) {
    free(result);
    return status;
  }
  result->key = *key;
  result->next = device->programs->built;
  device->programs->built = *built = result;
  return CLNORM_OK;
}

clnorm_status clnorm__opencl_programs_get(const clnorm_opencl_device *device, const clnorm_key *key,
                                          cl_program *program, clnorm_error *error) {
  clnorm_opencl_programs *programs = device->programs;
  pthread_mutex_lock(&programs->mutex);
  built_program *built = find(programs, key);
  clnorm_status status = CLNORM_OK;
  if (!built) status = build(device, key, &built, error);
  if (status == CLNORM_OK) *program = built->program;
  pthread_mutex_unlock(&programs->mutex);
  return status;
}
