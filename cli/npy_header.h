/* The header of a .npy file: a Python dictionary literal with three known keys. */
#ifndef CLNORM_CLI_NPY_HEADER_H
#define CLNORM_CLI_NPY_HEADER_H

#include "npy.h"

typedef struct clnorm_npy_header {
  int item_size; /* 4 or 8 */
  bool big_endian, fortran_order;
  int ndim;
  int64_t dims[CLNORM_NPY_MAX_DIMS];
  int64_t count; /* product of dims; count * item_size fits an int64_t */
} clnorm_npy_header;

/* Parses the text after the length field. Every key exactly once, nothing else. */
bool clnorm_npy_header_parse(const char *text, size_t length, clnorm_npy_types types,
                             clnorm_npy_header *header, clnorm_message *message);

bool clnorm_host_is_big_endian(void);

#endif
