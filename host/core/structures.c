#include "structures.h"

#include <string.h>

static size_t size_of(const void *structure) {
  size_t size;
  memcpy(&size, structure, sizeof size);
  return size;
}

static void set_size(void *structure, size_t size) { memcpy(structure, &size, sizeof size); }

void clnorm__structure_init(void *structure, size_t size, const void *defaults, size_t own) {
  if (!structure || size < sizeof size) return;
  memset(structure, 0, size);
  memcpy(structure, defaults, size < own ? size : own);
  set_size(structure, size);
}

clnorm_status clnorm__structure_check(const void *given, size_t own, const char *name,
                                      clnorm_error *error) {
  if (!given) return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
  const size_t size = size_of(given);
  if (size >= own && size <= own + 65536) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "%s.size is %zu, but must be what its init function sets: %zu or more", name,
                      size, own);
}

clnorm_status clnorm__structure_take(void *taken, size_t own, const void *given, const char *name,
                                     clnorm_error *error) {
  const clnorm_status status = clnorm__structure_check(given, own, name, error);
  if (status != CLNORM_OK) return status;
  const unsigned char *bytes = given;
  for (size_t i = own; i < size_of(given); i++)
    if (bytes[i])
      return clnorm__fail(error, CLNORM_ERROR_UNSUPPORTED,
                          "%s has a member at byte %zu that is not 0, and that this version of the "
                          "library does not know",
                          name, i);
  memcpy(taken, given, own);
  set_size(taken, own);
  return CLNORM_OK;
}

void clnorm__structure_give(void *given, const void *result, size_t own) {
  if (!given) return;
  const size_t size = size_of(given);
  if (size < sizeof size) return;
  memcpy((char *)given + sizeof size, (const char *)result + sizeof size,
         (size < own ? size : own) - sizeof size);
}
