/* Structures that carry their size: callers and library may have been compiled with different versions of them. */
#ifndef CLNORM_CORE_STRUCTURES_H
#define CLNORM_CORE_STRUCTURES_H

#include "status.h"

/* Fills a caller's structure of `size` bytes from the library's own defaults, `own` bytes, and sets its size. */
void clnorm__structure_init(void *structure, size_t size, const void *defaults, size_t own);

/* Copies a structure that a caller filled to the library's own kind of it. INVALID_ARGUMENT where its size says that it
 * was not initialized; UNSUPPORTED where it has a member that this version does not know, and that is not 0. */
clnorm_status clnorm__structure_take(void *taken, size_t own, const void *given, const char *name,
                                     clnorm_error *error);

/* INVALID_ARGUMENT where a result's size says that it was not initialized. */
clnorm_status clnorm__structure_check(const void *given, size_t own, const char *name,
                                      clnorm_error *error);
/* Copies a result as far as the caller's structure goes. Of one that was not initialized, nothing. */
void clnorm__structure_give(void *given, const void *result, size_t own);

#endif
