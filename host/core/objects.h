/* The context, seen from inside the core. */
#ifndef CLNORM_CORE_OBJECTS_H
#define CLNORM_CORE_OBJECTS_H

#include "backend.h"

struct clnorm_context {
  clnorm_device *device;
  size_t references; /* the caller's own until it is destroyed, one for everything made from it */
  bool destroyed;    /* by the caller; what was made from it lives on */
  clnorm_error error;
  char description[1600];
  char tuning_path[4096];
};

static inline bool clnorm__memory_absent(clnorm_memory memory) {
  return !memory.host && !memory.cl;
}

/* Asked first by every function that does something: INVALID_ARGUMENT without a context; STATE where the
 * caller has destroyed it, or where it was opened by the process that this one was forked from. */
clnorm_status clnorm__context_ready(clnorm_context *context);
/* One more that was made from the context, and one less; the last one's end is the context's. */
void clnorm__context_retain(clnorm_context *context);
void clnorm__context_release(clnorm_context *context);

/* INVALID_ARGUMENT unless eps is a finite float >= 0, rounded to nearest whatever the caller's mode; unless
 * momentum is in [0, 1]. */
clnorm_status clnorm__check_eps(double eps, clnorm_error *error);
clnorm_status clnorm__check_momentum(double momentum, clnorm_error *error);

/* Pointer and offset are multiples of a float's size, each by itself: kernels add offsets in floats. */
clnorm_status clnorm__memory_check_place(clnorm_memory memory, const char *role,
                                         clnorm_error *error);
/* The span of present memory, at least `needed` bytes of it, in such a place, for `access` (bits of
 * clnorm_access). */
clnorm_status clnorm__memory_span(clnorm_context *context, clnorm_memory memory, const char *role,
                                  unsigned access, uint64_t needed, clnorm_span *span);
/* clnorm_memory_write and clnorm_memory_read, after the runs that `order` (may be NULL) has. */
clnorm_status clnorm__memory_write_after(clnorm_context *context, const clnorm_order *order,
                                         clnorm_memory memory, const void *source, size_t size);
clnorm_status clnorm__memory_read_after(clnorm_context *context, const clnorm_order *order,
                                        clnorm_memory memory, void *destination, size_t size);

/* clnorm_forward_run of a plan whose runs also use what `parameters` says. */
clnorm_status clnorm__forward_plan_run(clnorm_forward_plan *plan, const clnorm_forward_args *args,
                                       clnorm_use parameters);

#endif
