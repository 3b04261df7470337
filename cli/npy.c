#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"
#include "halves.h"
#include "messages.h"
#include "npy_header.h"

#define MAX_HEADER ((uint32_t)65536)
#define PROLOGUE 12 /* magic, version, and the longer of the two length fields */

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

/* ---- Reading --------------------------------------------------------------------------------- */

/* Bytes that were read, fewer than size at the end of the file; -1, with errno, where reading fails. */
static int64_t read_up_to(int file, void *target, size_t size) {
  unsigned char *at = target;
  size_t left = size;
  while (left > 0) {
    const ssize_t got = read(file, at, left);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    at += got;
    left -= (size_t)got;
  }
  return (int64_t)(size - left);
}

/* `fault` is what a file that ends early is told. */
static bool read_exactly(int file, void *target, size_t size, const char *fault,
                         clnorm_message *message) {
  const int64_t got = read_up_to(file, target, size);
  if (got < 0) return clnorm_refuse(message, "cannot be read: %s", strerror(errno));
  return got == (int64_t)size || clnorm_refuse(message, "%s", fault);
}

/* *size: bytes of the file; -1 where only reading tells. A terminal is refused, or the program would wait
 * for an array to be typed. */
static bool open_input(const char *path, int *file, int64_t *size, clnorm_message *message) {
  struct stat info = {0};
  const bool standard = strcmp(path, CLNORM_STANDARD_STREAM) == 0;
  *file = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(path, O_RDONLY | O_CLOEXEC);
  if (*file < 0) return clnorm_refuse(message, "cannot open: %s", strerror(errno));
  const bool known = fstat(*file, &info) == 0;
  *size = known && S_ISREG(info.st_mode) && !standard ? (int64_t)info.st_size : -1;
  if (known && !S_ISDIR(info.st_mode) && !isatty(*file)) return true;
  close(*file);
  return clnorm_refuse(message, S_ISDIR(info.st_mode) ? "is a folder, not a .npy file"
                                                      : "is a terminal, not a .npy file");
}

static bool wrong_magic(const unsigned char *start, clnorm_message *message) {
  if (memcmp(start, "PK\x03\x04", 4) == 0)
    return clnorm_refuse(message, "is an archive (.npz?); unpack it and give one .npy file");
  if (start[0] == 0x80 && start[1] <= 5)
    return clnorm_refuse(message, "is a pickle, which is refused; save it with numpy.save");
  return clnorm_refuse(message, "is not a .npy file (it does not start with \\x93NUMPY)");
}

/* Reads up to the first value: *data_offset bytes into the file. */
static bool read_header(int file, unsigned types, clnorm_npy_header *header, int64_t *data_offset,
                        clnorm_message *message) {
  static const char truncated[] = "is truncated in the header";
  unsigned char start[PROLOGUE] = {0};
  if (!read_exactly(file, start, 10, "is too short for a .npy file", message)) return false;
  if (memcmp(start, magic, sizeof magic) != 0) return wrong_magic(start, message);
  if (start[6] < 1 || start[6] > 3 || start[7] != 0)
    return clnorm_refuse(message, ".npy version %d.%d; 1.0, 2.0 and 3.0 are known", start[6],
                         start[7]);
  const size_t prologue = start[6] == 1 ? 10 : 12;
  if (prologue == 12 && !read_exactly(file, start + 10, 2, truncated, message)) return false;
  uint32_t length = (uint32_t)start[8] | (uint32_t)start[9] << 8;
  if (prologue == 12) length |= (uint32_t)start[10] << 16 | (uint32_t)start[11] << 24;
  if (length > MAX_HEADER)
    return clnorm_refuse(message,
                         "declares a header of %" PRIu32 " bytes; at most %" PRIu32 " are accepted",
                         length, MAX_HEADER);
  *data_offset = (int64_t)prologue + length;
  char *text = malloc((size_t)length + 1);
  if (!text) return clnorm_refuse(message, "no memory for the header");
  const bool good = read_exactly(file, text, length, truncated, message) &&
                    clnorm_npy_header_parse(text, length, types, header, message);
  free(text);
  return good;
}

/* The shape's bytes against those that follow the header, where the file's size is known. */
static bool check_size(const clnorm_npy_header *header, int64_t data_offset, int64_t file_size,
                       clnorm_message *message) {
  const int64_t wanted = header->count * header->item_size, there = file_size - data_offset;
  if ((uint64_t)wanted > PTRDIFF_MAX - 1)
    return clnorm_refuse(message, "needs %" PRId64 " bytes, more than this system can address",
                         wanted);
  if (file_size < 0) return true;
  if (there < wanted)
    return clnorm_refuse(
        message, "is truncated: the shape needs %" PRId64 " bytes of data, the file has %" PRId64,
        wanted, there);
  if (there > wanted)
    return clnorm_refuse(message, "has %" PRId64 " bytes after the data", there - wanted);
  return true;
}

#define FIRST_PART ((size_t)1 << 20)

/* Memory grows with what has come: a header alone takes none, whatever it declares. NULL: refused. */
static unsigned char *read_stream(int file, size_t size, clnorm_message *message) {
  unsigned char *data = NULL;
  size_t have = 0;
  do {
    const size_t next = have > FIRST_PART ? have : FIRST_PART;
    const size_t part = size - have < next ? size - have : next;
    unsigned char *grown = realloc(data, have + part + 1);
    if (!grown) {
      clnorm_refuse(message, "no memory for %zu bytes", have + part);
      goto refused;
    }
    data = grown;
    const int64_t got = read_up_to(file, data + have, part);
    if (got < 0) clnorm_refuse(message, "cannot be read: %s", strerror(errno));
    if (got >= 0 && (size_t)got < part)
      clnorm_refuse(message, "is truncated: the shape needs %zu bytes of data, but %zu came", size,
                    have + (size_t)got);
    if (got < (int64_t)part) goto refused;
    have += part;
  } while (have < size);
  if (read_up_to(file, data + size, 1) == 0) return data;
  clnorm_refuse(message, "does not end after the data");
refused:
  free(data);
  return NULL;
}

/* The values' bytes as the file has them, with room for one more. NULL: refused. */
static void *read_data(int file, size_t size, bool is_stream, clnorm_message *message) {
  if (is_stream) return read_stream(file, size, message);
  void *data = malloc(size + 1);
  if (!data) clnorm_refuse(message, "no memory for %zu bytes", size);
  if (data && read_exactly(file, data, size, "cannot be read: it ends early", message)) return data;
  free(data);
  return NULL;
}

static void swap_bytes(unsigned char *data, int64_t count, int item_size) {
  for (int64_t i = 0; i < count; i++, data += item_size)
    for (int k = 0; k < item_size / 2; k++) {
      const unsigned char kept = data[k];
      data[k] = data[item_size - 1 - k];
      data[item_size - 1 - k] = kept;
    }
}

/* Index of the element behind dims index, first dimension fastest. */
static int64_t fortran_index(const clnorm_npy_header *header, const int64_t *index) {
  int64_t result = 0;
  for (int d = header->ndim - 1; d >= 0; d--) result = result * header->dims[d] + index[d];
  return result;
}

static unsigned char *to_c_order(const clnorm_npy_header *header, const unsigned char *values) {
  const int64_t size = header->item_size;
  unsigned char *result = malloc((size_t)(header->count * size) + 1);
  if (!result) return NULL;
  int64_t index[CLNORM_NPY_MAX_DIMS] = {0};
  for (int64_t i = 0; i < header->count; i++) {
    memcpy(result + i * size, values + fortran_index(header, index) * size, (size_t)size);
    for (int d = header->ndim - 1; d >= 0 && ++index[d] == header->dims[d]; d--) index[d] = 0;
  }
  return result;
}

/* Reads the values; array->values may be set even on failure. */
static bool read_values(int file, const clnorm_npy_header *header, bool is_stream,
                        clnorm_npy *array, clnorm_message *message) {
  const size_t bytes = (size_t)(header->count * header->item_size);
  array->values = read_data(file, bytes, is_stream, message);
  if (!array->values) return false;
  if (header->big_endian != clnorm_host_is_big_endian())
    swap_bytes(array->values, header->count, header->item_size);
  if (!header->fortran_order || header->ndim < 2) return true;
  unsigned char *ordered = to_c_order(header, array->values);
  if (!ordered) return clnorm_refuse(message, "no memory to bring it into C order");
  free(array->values);
  array->values = ordered;
  return true;
}

static bool read_file(int file, int64_t file_size, unsigned types, clnorm_npy *array,
                      clnorm_message *message) {
  clnorm_npy_header header;
  int64_t data_offset = 0;
  if (!read_header(file, types, &header, &data_offset, message)) return false;
  if (!check_size(&header, data_offset, file_size, message)) return false;
  array->type = header.type;
  array->ndim = header.ndim;
  memcpy(array->dims, header.dims, sizeof header.dims);
  array->count = header.count;
  return read_values(file, &header, file_size < 0, array, message);
}

bool clnorm_npy_read(const char *path, unsigned types, clnorm_npy *array, clnorm_message *message) {
  int file = -1;
  int64_t size = 0;
  memset(array, 0, sizeof *array);
  if (!open_input(path, &file, &size, message)) return false;
  const bool good = read_file(file, size, types, array, message);
  close(file);
  if (!good) clnorm_npy_free(array);
  return good;
}

void clnorm_npy_free(clnorm_npy *array) {
  free(array->values);
  memset(array, 0, sizeof *array);
}

/* ---- Converting ------------------------------------------------------------------------------ */

const char *clnorm_npy_type_name(clnorm_npy_type type) { return clnorm_npy_traits_of(type)->name; }
int clnorm_npy_item_size(clnorm_npy_type type) { return clnorm_npy_traits_of(type)->item_size; }

double clnorm_npy_value(clnorm_npy_type type, const void *values, int64_t i) {
  switch (type) {
  case CLNORM_NPY_F16:
    return (double)clnorm_half_to_float(((const uint16_t *)values)[i]);
  case CLNORM_NPY_BF16:
    return (double)clnorm_bfloat_to_float(((const uint16_t *)values)[i]);
  case CLNORM_NPY_F32:
    return (double)((const float *)values)[i];
  default:
    return ((const double *)values)[i];
  }
}

/* Rounded once; below the type's limit, or no number. */
static void store(clnorm_npy_type type, void *values, int64_t i, double value) {
  switch (type) {
  case CLNORM_NPY_F16:
    ((uint16_t *)values)[i] = clnorm_double_to_half(value);
    return;
  case CLNORM_NPY_BF16:
    ((uint16_t *)values)[i] = clnorm_double_to_bfloat(value);
    return;
  case CLNORM_NPY_F32:
    ((float *)values)[i] = (float)value;
    return;
  default:
    ((double *)values)[i] = value;
  }
}

/* NULL: refused. */
static void *converted(const clnorm_npy *array, const clnorm_npy_traits *type,
                       clnorm_message *message) {
  if (array->count > (PTRDIFF_MAX - 1) / type->item_size) {
    clnorm_refuse(message, "%" PRId64 " values of %s are more than this system can address",
                  array->count, type->name);
    return NULL;
  }
  const size_t size = (size_t)(array->count * type->item_size);
  void *values = malloc(size + 1);
  if (!values) clnorm_refuse(message, "no memory for %zu bytes", size);
  for (int64_t i = 0; values && i < array->count; i++) {
    const double value = clnorm_npy_value(array->type, array->values, i);
    if (isfinite(value) && fabs(value) >= type->limit) {
      clnorm_refuse(message, "value %g at index %" PRId64 " does not fit %s", value, i, type->name);
      free(values);
      return NULL;
    }
    store(type->type, values, i, value);
  }
  return values;
}

bool clnorm_npy_convert(clnorm_npy *array, clnorm_npy_type type, clnorm_message *message) {
  if (array->type == type) return true;
  void *values = converted(array, clnorm_npy_traits_of(type), message);
  if (!values) return false;
  free(array->values);
  array->values = values;
  array->type = type;
  return true;
}

/* ---- Writing --------------------------------------------------------------------------------- */

#define MAX_OWN_HEADER 1024 /* 32 dimensions of 20 digits fit */

/* The header, padded so that the values start at a multiple of 64 bytes. Returns its size. */
static size_t make_header(const clnorm_npy *array, char text[MAX_OWN_HEADER]) {
  const size_t size = MAX_OWN_HEADER - 64;
  size_t n = 10;
  memcpy(text, magic, sizeof magic);
  text[6] = 1;
  text[7] = 0;
  n += (size_t)snprintf(text + n, size - n, "{'descr': '<%s', 'fortran_order': False, 'shape': (",
                        clnorm_npy_traits_of(array->type)->code);
  for (int d = 0; d < array->ndim; d++)
    n += (size_t)snprintf(text + n, size - n, "%" PRId64 "%s", array->dims[d],
                          d + 1 < array->ndim || array->ndim == 1 ? "," : "");
  n += (size_t)snprintf(text + n, size - n, "), }");
  while ((n + 1) % 64 != 0) text[n++] = ' ';
  text[n++] = '\n';
  text[8] = (char)((n - 10) & 0xff);
  text[9] = (char)((n - 10) >> 8);
  return n;
}

static bool write_values(FILE *file, const unsigned char *values, int64_t count, int item_size) {
  const size_t size = (size_t)item_size;
  if (!clnorm_host_is_big_endian())
    return fwrite(values, size, (size_t)count, file) == (size_t)count;
  for (int64_t i = 0; i < count; i++, values += size) {
    unsigned char item[sizeof(double)];
    memcpy(item, values, size);
    swap_bytes(item, 1, item_size);
    if (fwrite(item, size, 1, file) != 1) return false;
  }
  return true;
}

bool clnorm_npy_write(FILE *out, const void *array) {
  const clnorm_npy *a = array;
  char header[MAX_OWN_HEADER];
  const size_t size = make_header(a, header);
  return fwrite(header, size, 1, out) == 1 &&
         write_values(out, a->values, a->count, clnorm_npy_item_size(a->type));
}

int64_t clnorm_npy_size(const clnorm_npy *array) {
  char header[MAX_OWN_HEADER];
  return (int64_t)make_header(array, header) + array->count * clnorm_npy_item_size(array->type);
}
