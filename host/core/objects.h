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

/* What an operand must be in memory. */
typedef struct clnorm_need {
  const char *name;
  uint64_t bytes;
  size_t alignment;
  /* bits of clnorm_access */
  unsigned access;
} clnorm_need;

/* The span of present memory that is as it must be. */
clnorm_status clnorm__memory_span(clnorm_context *context, clnorm_memory memory,
                                  const clnorm_need *need, clnorm_span *span);
/* clnorm_memory_write and clnorm_memory_read, after the runs that `order` (may be NULL) has. */
clnorm_status clnorm__memory_write_after(clnorm_context *context, const clnorm_order *order,
                                         clnorm_memory memory, const void *source, size_t size);
clnorm_status clnorm__memory_read_after(clnorm_context *context, const clnorm_order *order,
                                        clnorm_memory memory, void *destination, size_t size);

/* What a run is given, by operand. */
typedef struct clnorm_request {
  clnorm_memory operands[CLNORM_NUM_OPERANDS];
  double momentum;
  const clnorm_opencl_sync *sync;
  /* what the run also uses; order NULL: nothing */
  clnorm_use parameters;
} clnorm_request;

/* Puts bindings in the place of operands, which are absent before; a role that is not `allowed` of this index is
 * refused with the reason. */
clnorm_status clnorm__bindings_take(const clnorm_binding *bindings, size_t count,
                                    const char *const refused[CLNORM_NUM_OPERANDS],
                                    clnorm_memory operands[CLNORM_NUM_OPERANDS],
                                    clnorm_error *error);
/* Copies run options; NULL: defaults. */
clnorm_status clnorm__run_options_take(const clnorm_run_options *given, clnorm_run_options *taken,
                                       clnorm_error *error);
clnorm_status clnorm__plan_run(clnorm_plan *plan, const clnorm_request *request);

#endif
