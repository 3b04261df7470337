#include "loader.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const struct {
  const char *name;
  size_t offset;
} functions[] = {
#define CLNORM_OPENCL_ENTRY(name) {#name, offsetof(clnorm_opencl_api, name)},
    CLNORM_OPENCL_FUNCTIONS(CLNORM_OPENCL_ENTRY)
#undef CLNORM_OPENCL_ENTRY
};

bool clnorm__opencl_load(const char *library, clnorm_opencl_api *api, clnorm_message *reason) {
  memset(api, 0, sizeof *api);
  api->library = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!api->library) {
    const char *cause = dlerror();
    snprintf(reason->text, sizeof reason->text,
             "the OpenCL loader %s cannot be opened (%s); package ocl-icd-libopencl1 brings it",
             library, cause ? cause : "no reason given");
    return false;
  }
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    void *symbol = dlsym(api->library, functions[i].name);
    if (!symbol) {
      snprintf(reason->text, sizeof reason->text,
               "%s has no %s, so it is older than OpenCL 1.2; package ocl-icd-libopencl1 brings a "
               "newer one",
               library, functions[i].name);
      clnorm__opencl_unload(api);
      return false;
    }
    memcpy((char *)api + functions[i].offset, &symbol, sizeof symbol);
  }
  return true;
}

void clnorm__opencl_unload(clnorm_opencl_api *api) {
  if (api->library) dlclose(api->library);
  memset(api, 0, sizeof *api);
}
