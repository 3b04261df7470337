#include "npy.h"

#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "messages.h"
#include "npy_header.h"

#define MAX_HEADER ((uint32_t)65536)
#define PROLOGUE 12 /* magic, version, and the longer of the two length fields */

static const char magic[6] = {'\x93', 'N', 'U', 'M', 'P', 'Y'};

/* ---- Reading --------------------------------------------------------------------------------- */

static bool read_exactly(int file, void *target, size_t size) {
  unsigned char *at = target;
  while (size > 0) {
    const ssize_t got = read(file, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= (size_t)got;
  }
  return true;
}

/* O_NONBLOCK: opening a pipe nobody writes to must not wait. */
static bool open_regular(const char *path, int *file, int64_t *size, clnorm_message *message) {
  struct stat info = {0};
  *file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (*file < 0) return clnorm_refuse(message, "cannot open: %s", strerror(errno));
  if (fstat(*file, &info) == 0 && S_ISREG(info.st_mode)) {
    *size = info.st_size;
    return true;
  }
  close(*file);
  return clnorm_refuse(message, S_ISDIR(info.st_mode) ? "is a folder, not a .npy file"
                                                      : "is not a regular file (a pipe or device)");
}

static bool wrong_magic(const unsigned char *start, clnorm_message *message) {
  if (memcmp(start, "PK\x03\x04", 4) == 0)
    return clnorm_refuse(message, "is an archive (.npz?); unpack it and give one .npy file");
  if (start[0] == 0x80 && start[1] <= 5)
    return clnorm_refuse(message, "is a pickle, which is refused; save it with numpy.save");
  return clnorm_refuse(message, "is not a .npy file (it does not start with \\x93NUMPY)");
}

/* Reads up to the first value: *data_offset bytes into the file. */
static bool read_header(int file, int64_t file_size, clnorm_npy_header *header,
                        int64_t *data_offset, clnorm_message *message) {
  unsigned char start[PROLOGUE] = {0};
  if (file_size < 10) return clnorm_refuse(message, "is too short for a .npy file");
  if (!read_exactly(file, start, 10)) return clnorm_refuse(message, "cannot be read");
  if (memcmp(start, magic, sizeof magic) != 0) return wrong_magic(start, message);
  if (start[6] < 1 || start[6] > 3 || start[7] != 0)
    return clnorm_refuse(message, ".npy version %d.%d; 1.0, 2.0 and 3.0 are known", start[6],
                         start[7]);
  const size_t prologue = start[6] == 1 ? 10 : 12;
  if (prologue == 12 && !read_exactly(file, start + 10, 2))
    return clnorm_refuse(message, "is truncated in the header");
  uint32_t length = (uint32_t)start[8] | (uint32_t)start[9] << 8;
  if (prologue == 12) length |= (uint32_t)start[10] << 16 | (uint32_t)start[11] << 24;
  if (length > MAX_HEADER)
    return clnorm_refuse(message,
                         "declares a header of %" PRIu32 " bytes; at most %" PRIu32 " are accepted",
                         length, MAX_HEADER);
  *data_offset = (int64_t)prologue + length;
  if (*data_offset > file_size) return clnorm_refuse(message, "is truncated in the header");
  char *text = malloc((size_t)length + 1);
  if (!text) return clnorm_refuse(message, "no memory for the header");
  const bool good = read_exactly(file, text, length)
                        ? clnorm_npy_header_parse(text, length, header, message)
                        : clnorm_refuse(message, "is truncated in the header");
  free(text);
  return good;
}

static bool check_size(const clnorm_npy_header *header, int64_t data_offset, int64_t file_size,
                       clnorm_message *message) {
  const int64_t wanted = header->count * header->item_size, there = file_size - data_offset;
  if (there < wanted)
    return clnorm_refuse(
        message, "is truncated: the shape needs %" PRId64 " bytes of data, the file has %" PRId64,
        wanted, there);
  if (there > wanted)
    return clnorm_refuse(message, "has %" PRId64 " bytes after the data", there - wanted);
  return true;
}

static void swap_bytes(unsigned char *data, int64_t count, int item_size) {
  for (int64_t i = 0; i < count; i++, data += item_size)
    for (int k = 0; k < item_size / 2; k++) {
      const unsigned char kept = data[k];
      data[k] = data[item_size - 1 - k];
      data[item_size - 1 - k] = kept;
    }
}

/* Doubles become floats in place, front to back. */
static bool narrow(void *data, int64_t count, clnorm_message *message) {
  unsigned char *bytes = data;
  for (int64_t i = 0; i < count; i++) {
    double wide;
    memcpy(&wide, bytes + i * (int64_t)sizeof wide, sizeof wide);
    if (isfinite(wide) && fabs(wide) >= 0x1.ffffffp+127) /* rounds to infinity from here on */
      return clnorm_refuse(message, "value %g at index %" PRId64 " does not fit float32", wide, i);
    const float value = (float)wide;
    memcpy(bytes + i * (int64_t)sizeof value, &value, sizeof value);
  }
  return true;
}

/* Index of the element behind dims index, first dimension fastest. */
static int64_t fortran_index(const clnorm_npy_header *header, const int64_t *index) {
  int64_t result = 0;
  for (int d = header->ndim - 1; d >= 0; d--) result = result * header->dims[d] + index[d];
  return result;
}

static float *to_c_order(const clnorm_npy_header *header, const float *values) {
  float *result = malloc((size_t)header->count * sizeof *result + 1);
  if (!result) return NULL;
  int64_t index[CLNORM_NPY_MAX_DIMS] = {0};
  for (int64_t i = 0; i < header->count; i++) {
    result[i] = values[fortran_index(header, index)];
    for (int d = header->ndim - 1; d >= 0 && ++index[d] == header->dims[d]; d--) index[d] = 0;
  }
  return result;
}

/* Reads and converts the values; array->values may be set even on failure. */
static bool read_values(int file, const clnorm_npy_header *header, clnorm_npy *array,
                        clnorm_message *message) {
  const size_t bytes = (size_t)(header->count * header->item_size);
  array->values = malloc(bytes + 1);
  if (!array->values) return clnorm_refuse(message, "no memory for %zu bytes", bytes);
  if (!read_exactly(file, array->values, bytes))
    return clnorm_refuse(message, "cannot be read: it ends early");
  if (header->big_endian != clnorm_host_is_big_endian())
    swap_bytes((unsigned char *)array->values, header->count, header->item_size);
  if (header->item_size == 8 && !narrow(array->values, header->count, message)) return false;
  if (!header->fortran_order || header->ndim < 2) return true;
  float *ordered = to_c_order(header, array->values);
  if (!ordered) return clnorm_refuse(message, "no memory to bring it into C order");
  free(array->values);
  array->values = ordered;
  return true;
}

static bool read_file(int file, int64_t file_size, clnorm_npy_types types, clnorm_npy *array,
                      clnorm_message *message) {
  clnorm_npy_header header;
  int64_t data_offset = 0;
  if (!read_header(file, file_size, &header, &data_offset, message)) return false;
  if (types == CLNORM_NPY_F32 && header.item_size != 4)
    return clnorm_refuse(message, "dtype is float64; float32 is wanted here");
  if (!check_size(&header, data_offset, file_size, message)) return false;
  array->ndim = header.ndim;
  memcpy(array->dims, header.dims, sizeof header.dims);
  array->count = header.count;
  return read_values(file, &header, array, message);
}

bool clnorm_npy_read(const char *path, clnorm_npy_types types, clnorm_npy *array,
                     clnorm_message *message) {
  int file = -1;
  int64_t size = 0;
  memset(array, 0, sizeof *array);
  if (!open_regular(path, &file, &size, message)) return false;
  const bool good = read_file(file, size, types, array, message);
  close(file);
  if (!good) clnorm_npy_free(array);
  return good;
}

void clnorm_npy_free(clnorm_npy *array) {
  free(array->values);
  memset(array, 0, sizeof *array);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static char *join(const char *a, const char *b) {
  char *text = malloc(strlen(a) + strlen(b) + 1);
  if (text) {
    strcpy(text, a);
    strcat(text, b);
  }
  return text;
}

/* The header, padded so that the values start at a multiple of 64 bytes. Returns its size. */
static size_t make_header(int ndim, const int64_t *dims, char *text, size_t size) {
  size_t n = 10;
  memcpy(text, magic, sizeof magic);
  text[6] = 1;
  text[7] = 0;
  n += (size_t)snprintf(text + n, size - n, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
  for (int d = 0; d < ndim; d++)
    n += (size_t)snprintf(text + n, size - n, "%" PRId64 "%s", dims[d],
                          d + 1 < ndim || ndim == 1 ? "," : "");
  n += (size_t)snprintf(text + n, size - n, "), }");
  while ((n + 1) % 64 != 0) text[n++] = ' ';
  text[n++] = '\n';
  text[8] = (char)((n - 10) & 0xff);
  text[9] = (char)((n - 10) >> 8);
  return n;
}

static bool write_values(FILE *file, const float *values, int64_t count) {
  if (!clnorm_host_is_big_endian())
    return fwrite(values, sizeof *values, (size_t)count, file) == (size_t)count;
  for (int64_t i = 0; i < count; i++) {
    unsigned char item[sizeof *values];
    memcpy(item, &values[i], sizeof item);
    swap_bytes(item, 1, sizeof item);
    if (fwrite(item, sizeof item, 1, file) != 1) return false;
  }
  return true;
}

/* Closes the file whatever happens. */
static bool write_file(int descriptor, int ndim, const int64_t *dims, const float *values,
                       clnorm_message *message) {
  char header[1024];
  int64_t count = 1;
  for (int d = 0; d < ndim; d++) count *= dims[d];
  const size_t header_size = make_header(ndim, dims, header, sizeof header - 64);
  FILE *file = fdopen(descriptor, "wb");
  if (!file) {
    close(descriptor);
    return clnorm_refuse(message, "cannot write: %s", strerror(errno));
  }
  bool good = fwrite(header, header_size, 1, file) == 1 && write_values(file, values, count);
  const int first_error = good ? 0 : errno;
  good = fclose(file) == 0 && good;
  return good ||
         clnorm_refuse(message, "cannot write: %s", strerror(first_error ? first_error : errno));
}

/* Where the file goes, and a temporary file beside it unless it is a device or a pipe. */
static bool open_draft(const char *path, clnorm_npy_draft *draft, int *file,
                       clnorm_message *message) {
  struct stat info;
  const bool exists = stat(path, &info) == 0;
  if (exists && S_ISDIR(info.st_mode))
    return clnorm_refuse(message, "cannot write: it is a folder");
  if (exists && !S_ISREG(info.st_mode)) {
    *file = open(path, O_WRONLY | O_CLOEXEC);
    return *file >= 0 || clnorm_refuse(message, "cannot write: %s", strerror(errno));
  }
  draft->path = exists ? realpath(path, NULL) : join(path, "");
  draft->temporary = draft->path ? join(draft->path, ".XXXXXX") : NULL;
  if (!draft->temporary) return clnorm_refuse(message, "no memory for its name");
  *file = mkstemp(draft->temporary);
  if (*file >= 0) {
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(*file, exists ? info.st_mode & 0777 : 0666 & ~mask);
    return true;
  }
  free(draft->temporary);
  draft->temporary = NULL;
  return clnorm_refuse(message, "cannot write: %s", strerror(errno));
}

bool clnorm_npy_write(const char *path, int ndim, const int64_t *dims, const float *values,
                      clnorm_npy_draft *draft, clnorm_message *message) {
  int file = -1;
  memset(draft, 0, sizeof *draft);
  const bool good =
      open_draft(path, draft, &file, message) && write_file(file, ndim, dims, values, message);
  if (!good) clnorm_npy_discard(draft);
  return good;
}

bool clnorm_npy_commit(clnorm_npy_draft *draft, clnorm_message *message) {
  if (!draft->temporary) return true;
  if (rename(draft->temporary, draft->path) != 0)
    return clnorm_refuse(message, "cannot rename: %s", strerror(errno));
  free(draft->temporary);
  draft->temporary = NULL;
  return true;
}

void clnorm_npy_discard(clnorm_npy_draft *draft) {
  if (draft->temporary) unlink(draft->temporary);
  free(draft->temporary);
  free(draft->path);
  memset(draft, 0, sizeof *draft);
}
