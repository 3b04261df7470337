/*
 * The user's folder of things that are kept from run to run: compiled programs, tunings. What is in it
 * is a convenience; whatever goes wrong is told in a message that the caller may log, or report.
 *
 * Files are private to the user: folders are created with mode 0700; a folder or file that belongs to
 * somebody else, or that somebody else may write, is not used, since what is read is trusted. Writers
 * replace files atomically, so any number of processes may share a folder.
 */
#ifndef CLNORM_CORE_CACHE_FOLDER_H
#define CLNORM_CORE_CACHE_FOLDER_H

#include <clnorm/clnorm.h>

/* Bytes with a length. */
typedef struct clnorm_blob {
  unsigned char *data; /* for free(), where a function returns it; NULL where there is nothing */
  size_t size;
} clnorm_blob;

/* The folder that cache_dir of clnorm_context_options means, for free(); NULL for none, or where memory
 * is short. */
char *clnorm__cache_folder(const char *cache_dir);

/* Did somebody name that folder, as a program's author or its user? Else it is the default. */
bool clnorm__cache_folder_is_named(const char *cache_dir);

/* FNV-1a. */
uint64_t clnorm__cache_hash(const void *data, size_t size);

/* In all of these `name` is at most 40 bytes long, and why becomes "" or says what is wrong. */

/* A whole file of at most `largest` bytes. Nothing, and why "", where it or the folder is not there. */
clnorm_blob clnorm__cache_read(const char *folder, const char *name, size_t largest,
                               clnorm_message *why);
/* Writes the parts, one after the other, to a file that takes the place of the old one; makes the folder
 * where it is not there. False: nothing has changed. */
bool clnorm__cache_write(const char *folder, const char *name, const clnorm_blob *parts,
                         int num_parts, clnorm_message *why);
/* True too where there was no such file. */
bool clnorm__cache_remove(const char *folder, const char *name, clnorm_message *why);

#endif
