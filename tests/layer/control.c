/* The tests' side of the layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <stdlib.h>

#include "layer.h"

static const char *const names[] = {
#define NAME(name, exhausted, broken) #name,
    LAYER_FUNCTIONS(NAME)
#undef NAME
};

layer_control *layer_open(void) {
  const char *path = getenv("OPENCL_LAYERS");
  if (!path) fail_msg("OPENCL_LAYERS does not name the test layer");
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) fail_msg("%s", dlerror());
  layer_control *layer = dlsym(library, LAYER_SYMBOL);
  if (!layer) fail_msg("%s is not the test layer", path);
  return layer;
}

void layer_reset(layer_control *layer, long fail_at, bool broken) {
  atomic_store(&layer->armed, false);
  layer->fail_at = fail_at;
  layer->broken = broken;
  atomic_store(&layer->calls, 0);
  atomic_store(&layer->failed, -1);
  for (int i = 0; i < LAYER_NUM_FUNCTIONS; i++) atomic_store(&layer->counts[i], 0);
  atomic_store(&layer->blocking, 0);
  atomic_store(&layer->largest_group, 0);
}

const char *layer_function_name(layer_function function) { return names[function]; }

void layer_live(const layer_control *layer, long *live) {
  for (int i = 0; i < LAYER_NUM_OBJECTS; i++) live[i] = atomic_load(&layer->live[i]);
}

void layer_assert_live(const layer_control *layer, const long *before, const char *where) {
  static const char *const kinds[LAYER_NUM_OBJECTS] = {
      "cl_device_id", "cl_context", "cl_command_queue", "cl_mem",
      "cl_program",   "cl_kernel",  "cl_event"};
  for (int i = 0; i < LAYER_NUM_OBJECTS; i++) {
    const long more = atomic_load(&layer->live[i]) - before[i];
    if (more != 0) fail_msg("%s: %+ld references to a %s are left", where, more, kinds[i]);
  }
}
