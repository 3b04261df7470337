#include "cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "environment.h"
#include "isa.h"
#include "pool.h"
#include "tuning.h"

typedef struct cpu_device {
  clnorm_device base; /* first */
  clnorm_pool *pool;
  clnorm_isa isa;
  double last_run; /* seconds of the last run with profiling; below 0: there was none */
} cpu_device;

/* Up to this many elements a second thread costs more than it brings. Where there are statistics to
 * compute, elements take longer, and a channel as long as some elements. */
#define ONE_THREAD_ELEMENTS 32768u
#define ONE_THREAD_BATCH_STATISTICS 8192u
#define CHANNEL_AS_ELEMENTS 8u

/* ---- What this processor is ----------------------------------------------------------------------- */

static unsigned usable_threads(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return (unsigned)CPU_COUNT(&set);
  const long count = sysconf(_SC_NPROCESSORS_ONLN);
  return count > 0 ? (unsigned)count : 1;
}

static void processor_name(char *name, size_t size) {
  snprintf(name, size, "host processor");
  FILE *file = fopen("/proc/cpuinfo", "re");
  char line[256];
  while (file && fgets(line, sizeof line, file)) {
    const char *colon = strchr(line, ':');
    if (strncmp(line, "model name", 10) != 0 || !colon) continue;
    snprintf(name, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    break;
  }
  if (file) fclose(file);
}

/* ---- Device operations ---------------------------------------------------------------------------- */

static void cpu_close(clnorm_device *device) {
  cpu_device *self = (cpu_device *)device;
  clnorm__pool_destroy(self->pool);
  free(self->base.cache_folder);
  free(self);
}

static clnorm_status cpu_finish(clnorm_device *device, clnorm_error *error) {
  (void)device;
  (void)error;
  return CLNORM_OK; /* runs are done when they return */
}

static clnorm_status cpu_alloc(clnorm_device *device, size_t size, clnorm_memory *memory,
                               clnorm_error *error) {
  (void)device;
  memset(memory, 0, sizeof *memory);
  if (size > SIZE_MAX - 64 || posix_memalign(&memory->host, 64, size) != 0) {
    memory->host = NULL;
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for %zu bytes", size);
  }
  memory->size = size;
  return CLNORM_OK;
}

static void cpu_free(clnorm_device *device, clnorm_memory memory) {
  (void)device;
  free(memory.host);
}

static clnorm_status cpu_write(clnorm_device *device, clnorm_memory memory, const void *source,
                               size_t size, const clnorm_order *order, clnorm_error *error) {
  (void)device;
  (void)order; /* runs are done when they return */
  (void)error;
  memcpy((char *)memory.host + memory.offset, source, size);
  return CLNORM_OK;
}

static clnorm_status cpu_read(clnorm_device *device, clnorm_memory memory, void *destination,
                              size_t size, const clnorm_order *order, clnorm_error *error) {
  (void)device;
  (void)order;
  (void)error;
  memcpy(destination, (const char *)memory.host + memory.offset, size);
  return CLNORM_OK;
}

/* Host memory is one allocation as far as overlap goes: base 1, addresses as offsets. */
static clnorm_status cpu_span(clnorm_device *device, clnorm_memory memory, const char *role,
                              unsigned access, clnorm_span *span, clnorm_error *error) {
  (void)device;
  (void)access; /* host memory does not tell what it was made for */
  if (memory.cl)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s is OpenCL memory, but this context is the CPU path: use host memory",
                        role);
  span->base = 1;
  span->object = (uintptr_t)memory.host;
  uintptr_t begin, end;
  if (__builtin_add_overflow((uintptr_t)memory.host, memory.offset, &begin) ||
      __builtin_add_overflow(begin, memory.size, &end))
    return clnorm__fail(error, CLNORM_ERROR_OVERFLOW,
                        "%s has offset %zu and size %zu: its end is past the address space", role,
                        memory.offset, memory.size);
  span->begin = span->address = begin;
  span->end = end;
  return CLNORM_OK;
}

/* Every pair that plans may have, in double precision too. */
static clnorm_status cpu_supports(clnorm_device *device, const clnorm_key *key,
                                  clnorm_error *error) {
  (void)device;
  (void)key;
  (void)error;
  return CLNORM_OK;
}

static bool cpu_has_path(const clnorm_device *device, clnorm_path path, const clnorm_work *work) {
  const clnorm_view *views = work->call.views;
  const clnorm_items_functions *functions =
      clnorm__isa_functions(((const cpu_device *)device)->isa, path, views[CLNORM_VIEW_X].storage,
                            views[CLNORM_VIEW_Y].storage);
  if (!functions || work->operation != CLNORM_BACKWARD) return functions != NULL;
  return functions->stages[path][CLNORM_STAGE_BACKWARD_APPLY] &&
         (path == CLNORM_PATH_GENERAL ||
          views[CLNORM_VIEW_DY].storage == views[CLNORM_VIEW_X].storage);
}

static clnorm_status cpu_prepare(clnorm_device *device, const clnorm_schedule *schedule,
                                 void **prepared, clnorm_error *error) {
  (void)device;
  (void)schedule;
  (void)error;
  *prepared = NULL; /* everything was compiled with the library */
  return CLNORM_OK;
}

static void cpu_unprepare(clnorm_device *device, void *prepared) {
  (void)device;
  (void)prepared;
}

/* ---- Runs ----------------------------------------------------------------------------------------- */

typedef struct cpu_run {
  clnorm_items_function function;
  void *operands[CLNORM_NUM_OPERANDS];
  const clnorm_call *call;
} cpu_run;

static void run_items(void *argument, clnorm_items *items) {
  const cpu_run *run = argument;
  const clnorm_environment saved = clnorm__environment_enter();
  run->function(run->operands, run->call, items);
#if defined(__SSE2__)
  _mm_sfence(); /* streamed stores are seen by whoever sees that the items are done */
#endif
  clnorm__environment_leave(saved);
}

static bool is_small(const clnorm_call *call) {
  const uint64_t elements = call->batch * call->channels * call->spatial;
  if (!(call->flags & CLNORM_BATCH_MODE)) return elements <= ONE_THREAD_ELEMENTS;
  return elements + call->channels * CHANNEL_AS_ELEMENTS <= ONE_THREAD_BATCH_STATISTICS;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs are done when they return, and there are no events. */
static clnorm_status check_sync(const clnorm_opencl_sync *sync, clnorm_error *error) {
  const char *member = !sync                           ? NULL
                       : sync->num_events_in_wait_list ? "num_events_in_wait_list"
                       : sync->event                   ? "event"
                       : sync->first_event             ? "first_event"
                       : sync->queue                   ? "queue"
                                                       : NULL;
  if (!member) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "sync.%s is given, but a CPU context has no OpenCL events and queues",
                      member);
}

static clnorm_status cpu_run_schedule(clnorm_device *device, const clnorm_job *request,
                                      clnorm_error *error) {
  cpu_device *self = (cpu_device *)device;
  const clnorm_schedule *schedule = request->schedule;
  const clnorm_status status = check_sync(request->sync, error);
  if (status != CLNORM_OK) return status;
  const bool small = is_small(&request->call);
  const double start = self->base.profiling ? now() : 0;
  cpu_run run = {.call = &request->call};
  for (int i = 0; i < CLNORM_NUM_OPERANDS; i++) run.operands[i] = request->operands[i].host;
  const clnorm_items_functions *functions = clnorm__isa_functions(
      self->isa, (clnorm_path)schedule->key.path, schedule->key.x, schedule->key.y);
  for (unsigned i = 0; i < schedule->num_launches; i++) {
    run.function = functions->stages[schedule->key.path][schedule->launches[i].stage];
    clnorm__pool_run(self->pool, run_items, &run, schedule->launches[i].items, small);
  }
  if (self->base.profiling) self->last_run = schedule->num_launches > 0 ? now() - start : 0;
  return CLNORM_OK;
}

static void cpu_forget(clnorm_device *device, clnorm_order *order) {
  (void)device;
  (void)order; /* nothing was entered */
}

static clnorm_status cpu_last_run_seconds(clnorm_device *device, double *seconds,
                                          clnorm_error *error) {
  const cpu_device *self = (const cpu_device *)device;
  if (self->last_run < 0) return clnorm__fail_no_run(error);
  *seconds = self->last_run;
  return CLNORM_OK;
}

static const clnorm_device_operations cpu_operations = {
    .close = cpu_close,
    .finish = cpu_finish,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .write = cpu_write,
    .read = cpu_read,
    .span = cpu_span,
    .supports = cpu_supports,
    .has_path = cpu_has_path,
    .prepare = cpu_prepare,
    .unprepare = cpu_unprepare,
    .run = cpu_run_schedule,
    .forget = cpu_forget,
    .last_run_seconds = cpu_last_run_seconds,
};

/* ---- Back end ------------------------------------------------------------------------------------- */

static clnorm_status cpu_list(clnorm_device_list *list) {
  clnorm_device_info info;
  memset(&info, 0, sizeof info);
  snprintf(info.id, sizeof info.id, "cpu");
  processor_name(info.name, sizeof info.name);
  snprintf(info.platform, sizeof info.platform, "clnorm");
  snprintf(info.type, sizeof info.type, "cpu");
  snprintf(info.form, sizeof info.form, "vector");
  snprintf(info.status, sizeof info.status, "ok");
  info.usable = true;
  info.denormals = clnorm__isa_keeps_subnormals(clnorm__isa_best());
  info.compute_units = (int)usable_threads();
  info.memory_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  info.max_alloc_bytes = info.memory_bytes;
  return clnorm__device_list_add(list, &info);
}

static clnorm_status choose_isa(clnorm_isa wanted, clnorm_isa *isa, clnorm_error *error) {
  static const char *const names[] = {"automatic", "plain", "AVX2", "AVX-512"};
  *isa = wanted == CLNORM_ISA_AUTO ? clnorm__isa_best() : wanted;
  if (!clnorm__isa_available(*isa))
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "isa is %s, but this processor, or this build, does not have it",
                        names[*isa]);
  return CLNORM_OK;
}

static clnorm_status cpu_open(const clnorm_device_info *info, const clnorm_context_options *options,
                              clnorm_error *error, clnorm_device **device) {
  clnorm_isa isa;
  if (options->form == CLNORM_FORM_WIDE ||
      (options->tuning && options->tuning->form == CLNORM_FORM_WIDE))
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "form is wide, but the CPU path has the vector form only");
  const clnorm_device *share = clnorm__context_opened(options->share);
  if (share && share->operations != &cpu_operations)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "share is an OpenCL context, but the CPU path has no programs to share");
  const clnorm_status status = choose_isa(options->isa, &isa, error);
  if (status != CLNORM_OK) return status;
  cpu_device *self = calloc(1, sizeof *self);
  if (!self)
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY, "no host memory for the CPU path");
  const unsigned threads = options->num_threads ? (unsigned)options->num_threads : usable_threads();
  self->pool = clnorm__pool_create(threads);
  if (!self->pool) {
    free(self);
    return clnorm__fail(error, CLNORM_ERROR_OUT_OF_MEMORY,
                        "no memory for %u threads, or no thread to be had", threads);
  }
  self->isa = isa;
  self->last_run = -1;
  self->base.operations = &cpu_operations;
  self->base.profiling = options->profiling;
  self->base.info = *info;
  self->base.info.denormals = clnorm__isa_keeps_subnormals(isa);
  self->base.traits.form = CLNORM_FORM_VECTOR;
  self->base.traits.workers = threads;
  self->base.traits.group_size = 1;
  clnorm__traits_set_caches(&self->base.traits, clnorm__caches_find(threads));
  self->base.traits.split_below = 4;
  clnorm__tuning_choose(&self->base, options, error);
  snprintf(self->base.description, sizeof self->base.description, "CPU path: %s, %s, %u thread%s%s",
           info->name, clnorm__isa_name(isa), threads, threads == 1 ? "" : "s",
           self->base.info.denormals ? "" : ", no subnormals");
  *device = &self->base;
  return CLNORM_OK;
}

const clnorm_backend clnorm__cpu_backend = {"cpu", cpu_list, cpu_open};
