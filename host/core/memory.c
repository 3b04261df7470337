/* Memory of a device, and copies to and from it. */
#include <inttypes.h>
#include <string.h>

#include "objects.h"

clnorm_memory clnorm_host_memory(const void *pointer, size_t size) {
  clnorm_memory memory = {(void *)(uintptr_t)pointer, NULL, 0, size};
  return memory;
}

/* Address and offset are multiples, each by itself: kernels add offsets in elements. */
static clnorm_status check_place(clnorm_memory memory, const clnorm_need *need,
                                 const clnorm_span *span, clnorm_error *error) {
  if (span->object % need->alignment)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s is at address %p%s, but must be at a multiple of %zu", need->name,
                        (void *)span->object, memory.cl ? " (CL_MEM_USE_HOST_PTR)" : "",
                        need->alignment);
  if (memory.offset % need->alignment)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s has offset %zu, but it must be a multiple of %zu", need->name,
                        memory.offset, need->alignment);
  return CLNORM_OK;
}

clnorm_status clnorm__memory_span(clnorm_context *context, clnorm_memory memory,
                                  const clnorm_need *need, clnorm_span *span) {
  clnorm_error *error = &context->error;
  if (clnorm__memory_absent(memory))
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is absent, but required",
                        need->name);
  if (memory.host && memory.cl)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s has both host and OpenCL memory, but must have one of them",
                        need->name);
  clnorm_status status = context->device->operations->span(context->device, memory, need->name,
                                                           need->access, span, error);
  if (status == CLNORM_OK) status = check_place(memory, need, span, error);
  if (status != CLNORM_OK) return status;
  if (span->end - span->begin < need->bytes)
    return clnorm__fail(error, CLNORM_ERROR_BUFFER_TOO_SMALL,
                        "%s has %" PRIu64 " bytes, but the operation needs %" PRIu64, need->name,
                        span->end - span->begin, need->bytes);
  return CLNORM_OK;
}

clnorm_status clnorm_memory_alloc(clnorm_context *context, size_t size, clnorm_memory *memory) {
  clnorm_status status = clnorm__context_ready(context);
  if (status != CLNORM_OK) return status;
  if (!memory)
    return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "memory is NULL");
  memset(memory, 0, sizeof *memory);
  if (!size) return CLNORM_OK;
  status = context->device->operations->alloc(context->device, size, memory, &context->error);
  if (status == CLNORM_OK) clnorm__context_retain(context);
  return status;
}

void clnorm_memory_free(clnorm_context *context, clnorm_memory *memory) {
  if (!context || !memory || clnorm__memory_absent(*memory)) return;
  context->device->operations->free(context->device, *memory);
  memset(memory, 0, sizeof *memory);
  clnorm__context_release(context);
}

/* Is there something to copy between memory and the host's `pointer`? */
static clnorm_status check_copy(clnorm_context *context, clnorm_memory memory, const char *role,
                                unsigned access, const void *pointer, const char *name,
                                size_t size) {
  clnorm_status status = clnorm__context_ready(context);
  clnorm_span span;
  if (status != CLNORM_OK || !size) return status;
  if (!pointer)
    return clnorm__fail(&context->error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
  const clnorm_need need = {role, size, 1, access};
  return clnorm__memory_span(context, memory, &need, &span);
}

clnorm_status clnorm__memory_write_after(clnorm_context *context, const clnorm_order *order,
                                         clnorm_memory memory, const void *source, size_t size) {
  const clnorm_status status =
      check_copy(context, memory, "the destination", CLNORM_HOST_WRITES, source, "source", size);
  if (status != CLNORM_OK || !size) return status;
  return context->device->operations->write(context->device, memory, source, size, order,
                                            &context->error);
}

clnorm_status clnorm__memory_read_after(clnorm_context *context, const clnorm_order *order,
                                        clnorm_memory memory, void *destination, size_t size) {
  const clnorm_status status = check_copy(context, memory, "the source", CLNORM_HOST_READS,
                                          destination, "destination", size);
  if (status != CLNORM_OK || !size) return status;
  return context->device->operations->read(context->device, memory, destination, size, order,
                                           &context->error);
}

clnorm_status clnorm_memory_write(clnorm_context *context, clnorm_memory memory, const void *source,
                                  size_t size) {
  return clnorm__memory_write_after(context, NULL, memory, source, size);
}

clnorm_status clnorm_memory_read(clnorm_context *context, clnorm_memory memory, void *destination,
                                 size_t size) {
  return clnorm__memory_read_after(context, NULL, memory, destination, size);
}
