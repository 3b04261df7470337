/* Memory of a device, and copies to and from it. */
#include <inttypes.h>
#include <string.h>

#include "objects.h"

clnorm_status clnorm_memory_check_place(clnorm_memory memory, const char *role,
                                        clnorm_error *error) {
  if ((uintptr_t)memory.host % sizeof(float))
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                       "%s is at address %p, but must be at a multiple of %zu", role, memory.host,
                       sizeof(float));
  if (memory.offset % sizeof(float))
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                       "%s has offset %zu, but it must be a multiple of %zu", role, memory.offset,
                       sizeof(float));
  return CLNORM_OK;
}

clnorm_status clnorm_memory_span(clnorm_context *context, clnorm_memory memory, const char *role,
                                 uint64_t needed, clnorm_span *span) {
  clnorm_error *error = &context->error;
  if (clnorm_memory_absent(memory))
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is absent, but required", role);
  if (memory.host && memory.cl)
    return clnorm_fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                       "%s has both host and OpenCL memory, but must have one of them", role);
  clnorm_status status =
      context->device->operations->span(context->device, memory, role, span, error);
  if (status == CLNORM_OK) status = clnorm_memory_check_place(memory, role, error);
  if (status != CLNORM_OK) return status;
  if (span->end - span->begin < needed)
    return clnorm_fail(error, CLNORM_ERROR_BUFFER_TOO_SMALL,
                       "%s has %" PRIu64 " bytes, but the operation needs %" PRIu64, role,
                       span->end - span->begin, needed);
  return CLNORM_OK;
}

clnorm_status clnorm_memory_alloc(clnorm_context *context, size_t size, clnorm_memory *memory) {
  if (!context) return CLNORM_ERROR_INVALID_ARGUMENT;
  if (!memory) return clnorm_fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "memory is NULL");
  memset(memory, 0, sizeof *memory);
  if (!size) return CLNORM_OK;
  return context->device->operations->alloc(context->device, size, memory, &context->error);
}

void clnorm_memory_free(clnorm_context *context, clnorm_memory *memory) {
  if (!context || !memory || clnorm_memory_absent(*memory)) return;
  context->device->operations->free(context->device, *memory);
  memset(memory, 0, sizeof *memory);
}

clnorm_status clnorm_memory_write(clnorm_context *context, clnorm_memory memory, const void *source,
                                  size_t size) {
  if (!context) return CLNORM_ERROR_INVALID_ARGUMENT;
  if (!size) return CLNORM_OK;
  if (!source) return clnorm_fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "source is NULL");
  clnorm_span span;
  const clnorm_status status = clnorm_memory_span(context, memory, "the destination", size, &span);
  if (status != CLNORM_OK) return status;
  return context->device->operations->write(context->device, memory, source, size, &context->error);
}

clnorm_status clnorm_memory_read(clnorm_context *context, clnorm_memory memory, void *destination,
                                 size_t size) {
  if (!context) return CLNORM_ERROR_INVALID_ARGUMENT;
  if (!size) return CLNORM_OK;
  if (!destination)
    return clnorm_fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "destination is NULL");
  clnorm_span span;
  const clnorm_status status = clnorm_memory_span(context, memory, "the source", size, &span);
  if (status != CLNORM_OK) return status;
  return context->device->operations->read(context->device, memory, destination, size,
                                           &context->error);
}
