/*
 * The files that a command writes, or standard output.
 *
 * They are checked before the work, so that an hour of it is not lost to a misspelled folder, and written
 * after it. A file that is there is replaced by a complete one, under a name of its own until then, or
 * stays as it is. Where its folder does not allow that, or where the file would lose its owner or its
 * other names (hard links), it is written in place, after room for all of it was found. Symbolic links are
 * followed, to a file that is not there yet too. Pipes and devices are written as they are.
 */
#ifndef CLNORM_CLI_OUTPUTS_H
#define CLNORM_CLI_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* One file on the disk, under whatever name. */
typedef struct clnorm_file_identity {
  bool known; /* false: a terminal, a device such as /dev/null, a socket, or no file at all */
  dev_t device;
  ino_t inode;
  const char *name; /* of a file that is not there yet, in the folder with this inode; else NULL */
} clnorm_file_identity;

typedef struct clnorm_input_file {
  const char *option; /* "--weight", for messages */
  const char *path;   /* NULL: not given */
} clnorm_input_file;

typedef struct clnorm_output_file {
  const char *option;  /* "--output", for messages */
  const char *path;    /* as given */
  const char *updates; /* path of the input that it may replace, or NULL */
  int64_t size; /* bytes that `write` writes; 0: not known. Needed from clnorm_outputs_write on */
  bool (*write)(FILE *out, const void *content); /* false, with errno, where that fails */
  const void *content;
  /* What clnorm_outputs_check found; private. */
  enum { CLNORM_FILE_NEW, CLNORM_FILE_IN_PLACE, CLNORM_FILE_STREAM, CLNORM_FILE_STANDARD } kind;
  clnorm_file_identity identity;
  char *place;     /* the path behind all links; NULL: none is needed */
  char *temporary; /* a complete file on its way to `place`; NULL: none */
  /* Of a file that is written in place, or of standard output; -1: not open, as it has to be from the beginning. */
  int descriptor;
  int64_t old_size;
} clnorm_output_file;

/* Finds out where each of `count` files goes and whether it may, and refuses two that are one file, or one
 * that is among the inputs. Nothing is changed. Where one of them is standard output, what the program
 * prints goes to standard error from here on: only the file's content is to be on standard output.
 * A message is printed where the exit status, which is returned, is not good. clnorm_outputs_free in any
 * case. */
int clnorm_outputs_check(clnorm_output_file *files, size_t count, const clnorm_input_file *inputs,
                         size_t num_inputs);
/* Writes all of them. Files get their names when everything else has succeeded. */
int clnorm_outputs_write(clnorm_output_file *files, size_t count);
void clnorm_outputs_free(clnorm_output_file *files, size_t count);

/* "standard input" or "standard output" for "-", else the path. */
const char *clnorm_input_path(const char *path);
const char *clnorm_output_path(const char *path);

#endif
