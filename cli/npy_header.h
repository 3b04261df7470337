/* The header of a .npy file: a Python dictionary literal with three known keys. */
#ifndef CLNORM_CLI_NPY_HEADER_H
#define CLNORM_CLI_NPY_HEADER_H

#include "npy.h"

/* What is told of a type. */
typedef struct clnorm_npy_traits {
  clnorm_npy_type type;
  int item_size;
  const char *name;
  /* In a header, behind the byte order: the one that is written, and another that is read, or NULL. */
  const char *code, *other_code;
  /* Finite values from here on become infinite when they are rounded to the type. */
  double limit;
} clnorm_npy_traits;

/* NULL where it is none of the types. */
const clnorm_npy_traits *clnorm_npy_traits_of(clnorm_npy_type type);

typedef struct clnorm_npy_header {
  clnorm_npy_type type;
  int item_size;
  bool big_endian, fortran_order;
  int ndim;
  int64_t dims[CLNORM_NPY_MAX_DIMS];
  int64_t count; /* product of dims; count * item_size fits an int64_t */
} clnorm_npy_header;

/* Parses the text after the length field. Every key exactly once, nothing else. */
bool clnorm_npy_header_parse(const char *text, size_t length, unsigned types,
                             clnorm_npy_header *header, clnorm_message *message);

bool clnorm_host_is_big_endian(void);

#endif
