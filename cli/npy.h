/*
 * NumPy's .npy files, versions 1.0, 2.0 and 3.0.
 *
 * A file is untrusted: its header is capped and parsed strictly, its size is compared with the
 * shape before anything is allocated for the values (a pipe, which has no size, gets memory as its bytes
 * come), and types other than float32 and float64 are refused by name. Nothing in a file is ever executed:
 * object arrays are pickles, and are refused.
 */
#ifndef CLNORM_CLI_NPY_H
#define CLNORM_CLI_NPY_H

#include <clnorm/clnorm.h>
#include <stdio.h>

#define CLNORM_NPY_MAX_DIMS 32 /* NumPy's own limit before version 2 */

typedef enum clnorm_npy_types {
  CLNORM_NPY_TENSOR,   /* float32 only */
  CLNORM_NPY_PARAMETER /* float64 too, rounded to float32; what does not fit is refused */
} clnorm_npy_types;

/* An array in C order and native byte order. */
typedef struct clnorm_npy {
  int ndim;
  int64_t dims[CLNORM_NPY_MAX_DIMS];
  int64_t count;
  float *values; /* released with clnorm_npy_free; never NULL after a successful read */
} clnorm_npy;

/* Reads a whole file, pipe or device, or standard input where path is "-"; arrays in Fortran order are
 * brought into C order. On failure array is empty and message is one line without the file's name. */
bool clnorm_npy_read(const char *path, clnorm_npy_types types, clnorm_npy *array,
                     clnorm_message *message);
void clnorm_npy_free(clnorm_npy *array);

/* Writes *array as float32 values, C order, little endian, version 1.0. False, with errno, where that
 * fails. For clnorm_output_file. */
bool clnorm_npy_write(FILE *out, const void *array);
/* Bytes that it writes. */
int64_t clnorm_npy_size(const clnorm_npy *array);

#endif
