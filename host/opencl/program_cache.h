/*
 * Compiled programs on disk. An entry is found by a hash of its key and holds the whole key, so that no
 * collision can hand out the wrong program, and a checksum, so that damage is noticed. Whatever goes
 * wrong is logged and answered with "not there". What the folder promises: cache_folder.h.
 */
#ifndef CLNORM_OPENCL_PROGRAM_CACHE_H
#define CLNORM_OPENCL_PROGRAM_CACHE_H

#include "cache_folder.h"
#include "status.h"

/* The binary kept under key; nothing where there is none. */
clnorm_blob clnorm__program_cache_load(const char *folder, clnorm_blob key,
                                       const clnorm_error *error);
/* Keeps a binary under key, replacing what was there. */
void clnorm__program_cache_store(const char *folder, clnorm_blob key, clnorm_blob binary,
                                 const clnorm_error *error);

#endif
