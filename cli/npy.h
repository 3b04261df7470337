/*
 * NumPy's .npy files, versions 1.0, 2.0 and 3.0, of every type that a tensor can have.
 *
 * A file is untrusted: its header is capped and parsed strictly, its size is compared with the
 * shape before anything is allocated for the values (a pipe, which has no size, gets memory as its bytes
 * come), and types other than those that are asked for are refused by name. Nothing in a file is ever executed:
 * object arrays are pickles, and are refused. Nothing is converted unless clnorm_npy_convert is told to.
 */
#ifndef CLNORM_CLI_NPY_H
#define CLNORM_CLI_NPY_H

#include <clnorm/clnorm.h>
#include <stdio.h>

#define CLNORM_NPY_MAX_DIMS 32 /* NumPy's own limit before version 2 */

/* What an element is; types that are accepted are joined with |. */
typedef enum clnorm_npy_type {
  CLNORM_NPY_F16 = 1,
  /* NumPy has no type for it: arrays of 2 bytes, '<u2', '<V2' or '|V2', are read as bfloat16 where it is accepted,
   * and nowhere else. */
  CLNORM_NPY_BF16 = 2,
  CLNORM_NPY_F32 = 4,
  CLNORM_NPY_F64 = 8
} clnorm_npy_type;

/* "float16", "bfloat16", "float32", "float64" */
const char *clnorm_npy_type_name(clnorm_npy_type type);
/* Bytes of an element. */
int clnorm_npy_item_size(clnorm_npy_type type);
/* Value i of an array of that type; exact. */
double clnorm_npy_value(clnorm_npy_type type, const void *values, int64_t i);

/* An array in C order and native byte order. */
typedef struct clnorm_npy {
  clnorm_npy_type type;
  int ndim;
  int64_t dims[CLNORM_NPY_MAX_DIMS];
  int64_t count;
  /* Of that type, as the file has them. Released with clnorm_npy_free; never NULL after a successful read. */
  void *values;
} clnorm_npy;

/* Reads a whole file, pipe or device, or standard input where path is "-"; arrays in Fortran order are
 * brought into C order. On failure array is empty and message is one line without the file's name. */
bool clnorm_npy_read(const char *path, unsigned types, clnorm_npy *array, clnorm_message *message);
void clnorm_npy_free(clnorm_npy *array);

/* Gives the values another type, rounded once, to nearest, ties to even. A finite value that would become
 * infinite is refused with its index in C order, and then nothing has changed. */
bool clnorm_npy_convert(clnorm_npy *array, clnorm_npy_type type, clnorm_message *message);

/* Writes *array with its type (bfloat16 as '<u2'), C order, little endian, version 1.0. False, with errno, where
 * that fails. For clnorm_output_file. */
bool clnorm_npy_write(FILE *out, const void *array);
/* Bytes that it writes. */
int64_t clnorm_npy_size(const clnorm_npy *array);

#endif
