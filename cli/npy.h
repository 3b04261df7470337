/*
 * NumPy's .npy files, versions 1.0, 2.0 and 3.0.
 *
 * A file is untrusted: its header is capped and parsed strictly, its size is compared with the
 * shape before anything is allocated for the values, and types other than float32 and float64 are
 * refused by name. Nothing in a file is ever executed: object arrays are pickles, and are refused.
 */
#ifndef CLNORM_CLI_NPY_H
#define CLNORM_CLI_NPY_H

#include <clnorm/clnorm.h>

#define CLNORM_NPY_MAX_DIMS 32 /* NumPy's own limit before version 2 */

typedef enum clnorm_npy_types {
  CLNORM_NPY_F32,       /* float32 only */
  CLNORM_NPY_F32_OR_F64 /* float64 too, rounded to float32; what does not fit is refused */
} clnorm_npy_types;

/* An array in C order and native byte order. */
typedef struct clnorm_npy {
  int ndim;
  int64_t dims[CLNORM_NPY_MAX_DIMS];
  int64_t count;
  float *values; /* released with clnorm_npy_free; never NULL after a successful read */
} clnorm_npy;

/* Reads a whole file; arrays in Fortran order are brought into C order. On failure array is empty
 * and message is one line without the file's name. */
bool clnorm_npy_read(const char *path, clnorm_npy_types types, clnorm_npy *array,
                     clnorm_message *message);
void clnorm_npy_free(clnorm_npy *array);

/* A file on its way: complete under a temporary name in the folder of `path`, so that the old file,
 * if there is one, stays whole until clnorm_npy_commit. Where path names something other than a
 * regular file, such as /dev/null, there is no temporary name and writing is immediate. */
typedef struct clnorm_npy_draft {
  char *path;      /* where it goes; symbolic links followed */
  char *temporary; /* NULL: nothing is left to do */
} clnorm_npy_draft;

/* Writes float32 values, C order, little endian, version 1.0. */
bool clnorm_npy_write(const char *path, int ndim, const int64_t *dims, const float *values,
                      clnorm_npy_draft *draft, clnorm_message *message);
/* Gives the file its name. On failure the draft stays, for clnorm_npy_discard. */
bool clnorm_npy_commit(clnorm_npy_draft *draft, clnorm_message *message);
/* Removes a draft that was not committed, and releases it. An all-zero draft is accepted. */
void clnorm_npy_discard(clnorm_npy_draft *draft);

#endif
