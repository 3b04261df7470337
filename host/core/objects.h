/* The context, seen from inside the core. */
#ifndef CLNORM_CORE_OBJECTS_H
#define CLNORM_CORE_OBJECTS_H

#include "backend.h"

struct clnorm_context {
  clnorm_device *device;
  clnorm_error error;
  char description[1600];
  char tuning_path[4096];
};

static inline bool clnorm_memory_absent(clnorm_memory memory) { return !memory.host && !memory.cl; }

/* Pointer and offset are multiples of a float's size, each by itself: kernels add offsets in floats. */
clnorm_status clnorm_memory_check_place(clnorm_memory memory, const char *role,
                                        clnorm_error *error);
/* The span of present memory, at least `needed` bytes of it, in such a place. */
clnorm_status clnorm_memory_span(clnorm_context *context, clnorm_memory memory, const char *role,
                                 uint64_t needed, clnorm_span *span);

#endif
