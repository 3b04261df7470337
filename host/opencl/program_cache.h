/*
 * Compiled programs on disk. An entry is found by a hash of its key and holds the whole key, so that no
 * collision can hand out the wrong program, and a checksum, so that damage is noticed. The cache is a
 * convenience: whatever goes wrong is logged and answered with "not there".
 *
 * Files are private to the user: folders are created with mode 0700; a folder or entry that belongs to
 * somebody else, or that somebody else may write, is not used, since compiled programs are trusted.
 * Writers replace entries atomically, so any number of processes may share a folder.
 */
#ifndef CLNORM_OPENCL_PROGRAM_CACHE_H
#define CLNORM_OPENCL_PROGRAM_CACHE_H

#include "status.h"

/* Bytes with a length. */
typedef struct clnorm_blob {
  unsigned char *data; /* for free(); NULL where there is nothing */
  size_t size;
} clnorm_blob;

/* The folder that cache_dir of clnorm_context_options means, for free(); NULL for no cache, or where
 * memory is short. */
char *clnorm_program_cache_folder(const char *cache_dir);

/* The binary kept under key; nothing where there is none. folder may be NULL. */
clnorm_blob clnorm_program_cache_load(const char *folder, clnorm_blob key,
                                      const clnorm_error *error);
/* Keeps a binary under key, replacing what was there. folder may be NULL. */
void clnorm_program_cache_store(const char *folder, clnorm_blob key, clnorm_blob binary,
                                const clnorm_error *error);

#endif
