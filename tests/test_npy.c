/* cli/npy.c: good files of every kind, hostile ones, and files that are written. Files live in a
 * folder of their own, which the test makes and removes. */
#include "fixture.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"

static char folder[] = "/tmp/clnorm-npy-XXXXXX";
static char path[sizeof folder + 32];

static int make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(path, sizeof path, "%s/a.npy", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  unlink(path);
  return rmdir(folder);
}

/* ---- Making files ---------------------------------------------------------------------------- */

static void write_bytes(const void *bytes, size_t size) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_true(size == 0 || fwrite(bytes, size, 1, file) == 1);
  assert_int_equal(fclose(file), 0);
}

/* A file of the given version with this header text and these bytes of data. */
static void write_npy(int version, const char *header, const void *data, size_t size) {
  unsigned char bytes[4096] = "\x93NUMPY";
  const size_t length = strlen(header), prologue = version == 1 ? 10 : 12;
  assert_true(prologue + length + size <= sizeof bytes);
  bytes[6] = (unsigned char)version;
  for (size_t i = 8; i < prologue; i++) bytes[i] = (unsigned char)(length >> 8 * (i - 8));
  memcpy(bytes + prologue, header, length);
  if (size > 0) memcpy(bytes + prologue + length, data, size);
  write_bytes(bytes, prologue + length + size);
}

/* Reading fails with every one of the words, in one line, and leaves the array empty. */
static void assert_refused(clnorm_npy_types types, const char *words) {
  clnorm_npy array;
  clnorm_message message = {""};
  const bool good = clnorm_npy_read(path, types, &array, &message);
  fixture_rejected(message.text, good ? CLNORM_OK : CLNORM_ERROR_INVALID_ARGUMENT,
                   CLNORM_ERROR_INVALID_ARGUMENT, words, words);
  assert_null(strchr(message.text, '\n'));
  assert_null(array.values);
}

static clnorm_npy read_good(clnorm_npy_types types) {
  clnorm_npy array;
  clnorm_message message = {""};
  if (!clnorm_npy_read(path, types, &array, &message)) fail_msg("%s", message.text);
  return array;
}

/* ---- Good files ------------------------------------------------------------------------------ */

/* Puts the value's bytes in the given order. */
static void put(unsigned char *target, const void *value, size_t size, bool big) {
  const uint16_t one = 1;
  const bool host_is_big = *(const unsigned char *)&one == 0;
  const unsigned char *bytes = value;
  for (size_t i = 0; i < size; i++) target[i] = bytes[big == host_is_big ? i : size - 1 - i];
}

static size_t put_values(unsigned char *data, const float *values, size_t count, int size,
                         bool big) {
  for (size_t i = 0; i < count; i++) {
    const double wide = values[i];
    if (size == 4) put(data + 4 * i, &values[i], 4, big);
    if (size == 8) put(data + 8 * i, &wide, 8, big);
  }
  return count * (size_t)size;
}

static void test_every_version_order_and_type(void **state) {
  (void)state;
  static const char *const types[] = {"<f4", ">f4", "<f8", ">f8"};
  /* a[i][j][k] = 100 i + 10 j + k, shape (2, 3, 2) */
  static const float in_c[] = {0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121};
  static const float in_fortran[] = {0, 100, 10, 110, 20, 120, 1, 101, 11, 111, 21, 121};
  for (int version = 1; version <= 3; version++)
    for (int type = 0; type < 4; type++)
      for (int fortran = 0; fortran < 2; fortran++) {
        char header[128];
        unsigned char data[96];
        const size_t size = put_values(data, fortran ? in_fortran : in_c, 12, types[type][2] - '0',
                                       types[type][0] == '>');
        snprintf(header, sizeof header,
                 "{'descr': '%s', 'fortran_order': %s, 'shape': (2, 3, 2), }    \n", types[type],
                 fortran ? "True" : "False");
        write_npy(version, header, data, size);
        clnorm_npy array = read_good(CLNORM_NPY_PARAMETER);
        assert_int_equal(array.ndim, 3);
        assert_int_equal(array.dims[1], 3);
        assert_int_equal(array.count, 12);
        assert_memory_equal(array.values, in_c, sizeof in_c);
        clnorm_npy_free(&array);
      }
}

/* Header texts that NumPy writes or accepts; the data are 4 bytes. */
static void test_header_variants(void **state) {
  (void)state;
  static const char *const headers[] = {
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n",
      "{\"shape\":(1,),\"fortran_order\":True,\"descr\":\"<f4\"}",
      "{ 'descr' : '=f4' , 'shape' : ( 1L , ) , 'fortran_order' : False }  ",
      "{'descr': 'f4', 'fortran_order': False, 'shape': ()}\n",
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1)}\n",
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(headers); i++) {
    const float value = 1.5f;
    write_npy(1, headers[i], &value, sizeof value);
    clnorm_npy array = read_good(CLNORM_NPY_TENSOR);
    assert_int_equal(array.count, 1);
    assert_true(array.values[0] == 1.5f);
    clnorm_npy_free(&array);
  }
}

static void test_empty_arrays(void **state) {
  (void)state;
  write_npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 0, 4, 4), }\n", NULL, 0);
  clnorm_npy array = read_good(CLNORM_NPY_TENSOR);
  assert_int_equal(array.count, 0);
  assert_int_equal(array.ndim, 4);
  assert_non_null(array.values);
  clnorm_npy_free(&array);
}

static void test_special_values_pass(void **state) {
  (void)state;
  const double values[] = {(double)INFINITY, -(double)INFINITY,     (double)NAN, -0.0,
                           1e-320,           0x1.fffffefffffffp+127};
  write_npy(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }\n", values,
            sizeof values);
  clnorm_npy array = read_good(CLNORM_NPY_PARAMETER);
  assert_true(isinf(array.values[0]) && array.values[0] > 0);
  assert_true(isinf(array.values[1]) && array.values[1] < 0);
  assert_true(isnan(array.values[2]));
  assert_true(array.values[3] == 0 && signbit(array.values[3]));
  assert_true(array.values[4] == 0);
  assert_true(array.values[5] == 0x1.fffffep+127f);
  clnorm_npy_free(&array);
}

/* ---- Hostile files --------------------------------------------------------------------------- */

typedef struct bad_header {
  const char *header, *words; /* words of the message, parted by '|' */
} bad_header;

static const bad_header bad_headers[] = {
    {"", "opening brace"},
    {"{", "a key"},
    {"{'descr': '<f4'", "a comma or a closing brace"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,", "a dimension"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)", "a comma or a closing brace"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "nothing after"},
    {"{'descr': '<f4', 'fortran_order': False}", "'shape' is missing"},
    {"{'fortran_order': False, 'shape': (1,)}", "'descr' is missing"},
    {"{'descr': '<f4', 'shape': (1,)}", "'fortran_order' is missing"},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "'descr' twice"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", "unknown key 'x'"},
    {"{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "True or False"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1)}", "a comma"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': [1]}", "a tuple"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", "a comma"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", "a dimension"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "negative"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1e3,)}", "a comma"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "64 bits"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "64 bits"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4294967296, 4294967296)}", "64 bits"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (2305843009213693952,)}", "64 bits"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': "
     "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
     "1,1,1,1,1,1,1,1,1,1,1)}",
     "more than 32"},
    {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "object array|pickle"},
    {"{'descr': '<f2', 'fortran_order': False, 'shape': (2,)}",
     "float16|must be float32 or float64"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (1,)}", "int32"},
    {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", "complex64"},
    {"{'descr': '|b1', 'fortran_order': False, 'shape': (4,)}", "bool"},
    {"{'descr': '<f4x', 'fortran_order': False, 'shape': (1,)}", "no type that is known"},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
     "is a structure|float32 or float64"},
    {"{'descr': '<f4\\x27', 'fortran_order': False, 'shape': (1,)}", "a type"},
    {"{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}", "no type that is known"},
    {"{'descr': '<f4", "a closing quote"},
    {"{'descr': 'ffffffffffffffffffffffffffffffffffffffffff', 'fortran_order': False}", "a type"},
    {"__import__('os').system('true')", "opening brace"},
};

static void test_bad_headers(void **state) {
  (void)state;
  const float value = 1;
  for (size_t i = 0; i < FIXTURE_LENGTH(bad_headers); i++) {
    write_npy(1, bad_headers[i].header, &value, sizeof value);
    assert_refused(CLNORM_NPY_PARAMETER, bad_headers[i].words);
  }
}

/* A zero byte must not end the header early. */
static void test_zero_byte_in_header(void **state) {
  (void)state;
  static const char text[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\0\0\0\0\0";
  unsigned char bytes[128] = "\x93NUMPY\x01";
  bytes[8] = sizeof text - 1;
  memcpy(bytes + 10, text, sizeof text - 1);
  write_bytes(bytes, 10 + sizeof text - 1 + 4);
  assert_refused(CLNORM_NPY_TENSOR, "nothing after");
}

static void test_sizes_that_do_not_match(void **state) {
  (void)state;
  static const char three[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n";
  const float values[4] = {1, 2, 3, 4};
  write_npy(1, three, values, 11);
  assert_refused(CLNORM_NPY_TENSOR, "truncated|12 bytes|has 11");
  write_npy(1, three, values, 0);
  assert_refused(CLNORM_NPY_TENSOR, "truncated");
  write_npy(1, three, values, 13);
  assert_refused(CLNORM_NPY_TENSOR, "1 bytes after the data");
}

/* The 80-byte file that declares 32 GiB, with little memory to be had: it must be refused by its
 * size. */
static void test_huge_shape_in_a_small_file(void **state) {
  (void)state;
  const struct rlimit little = {(rlim_t)1 << 30, RLIM_INFINITY};
  struct rlimit before;
  write_npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (8589934592,), }  \n", NULL, 0);
  assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
#endif
  assert_refused(CLNORM_NPY_TENSOR, "truncated|34359738368 bytes|has 0");
  (void)little;
  setrlimit(RLIMIT_AS, &before);
}

/* Header lengths beyond the cap, and beyond the file. */
static void test_header_lengths(void **state) {
  (void)state;
  write_bytes("\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'", 20);
  assert_refused(CLNORM_NPY_TENSOR, "declares a header of 4294967295 bytes|65536");
  write_bytes("\x93NUMPY\x03\x00\x01\x00\x01\x00{'descr'", 20);
  assert_refused(CLNORM_NPY_TENSOR, "declares a header of 65537 bytes");
  write_bytes("\x93NUMPY\x01\x00\xff\xff{'descr'", 18);
  assert_refused(CLNORM_NPY_TENSOR, "truncated in the header");
  write_bytes("\x93NUMPY\x02\x00\x10\x00", 10);
  assert_refused(CLNORM_NPY_TENSOR, "truncated in the header");
}

static void test_other_files(void **state) {
  (void)state;
  write_bytes("", 0);
  assert_refused(CLNORM_NPY_TENSOR, "too short");
  write_bytes("\x93NUMPY\x01\x00", 8);
  assert_refused(CLNORM_NPY_TENSOR, "too short");
  write_bytes("hello, this is text", 19);
  assert_refused(CLNORM_NPY_TENSOR, "not a .npy file");
  write_bytes("\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", 12);
  assert_refused(CLNORM_NPY_TENSOR, "pickle");
  write_bytes("PK\x03\x04xxxxxxxx", 12);
  assert_refused(CLNORM_NPY_TENSOR, "archive");
  write_bytes("\x93NUMPY\x04\x00\x10\x00xxxxxxxx", 18);
  assert_refused(CLNORM_NPY_TENSOR, "version 4.0");
  write_bytes("\x93NUMPY\x01\x02\x10\x00xxxxxxxx", 18);
  assert_refused(CLNORM_NPY_TENSOR, "version 1.2");
}

static void test_things_that_are_no_files(void **state) {
  (void)state;
  unlink(path);
  assert_refused(CLNORM_NPY_TENSOR, "cannot open|No such file");
  assert_int_equal(mkdir(path, 0700), 0);
  assert_refused(CLNORM_NPY_TENSOR, "folder");
  rmdir(path);
}

static void test_types_where_they_are_not_wanted(void **state) {
  (void)state;
  const double values[2] = {1, 1e300};
  static const char header[] = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n";
  write_npy(1, header, values, sizeof values);
  assert_refused(CLNORM_NPY_TENSOR, "'<f8' is float64|the tensor must be float32|parameters");
  assert_refused(CLNORM_NPY_PARAMETER, "1e+300 at index 1 does not fit");
}

/* Every file that a good one becomes by losing its end, or by one changed byte, is read or refused;
 * the sanitizers watch. */
static void test_damaged_files(void **state) {
  (void)state;
  unsigned char good[256];
  const float values[6] = {1, 2, 3, 4, 5, 6};
  write_npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", values,
            sizeof values);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  const size_t size = fread(good, 1, sizeof good, file);
  fclose(file);
  for (size_t cut = 0; cut < size; cut++) {
    write_bytes(good, cut);
    assert_refused(CLNORM_NPY_TENSOR, "");
  }
  for (size_t at = 0; at < size; at++)
    for (int change = 1; change < 256; change = 2 * change + 1) {
      clnorm_npy array;
      clnorm_message message;
      good[at] ^= (unsigned char)change;
      write_bytes(good, size);
      if (clnorm_npy_read(path, CLNORM_NPY_PARAMETER, &array, &message)) clnorm_npy_free(&array);
      good[at] ^= (unsigned char)change;
    }
}

/* ---- Pipes ----------------------------------------------------------------------------------- */

/* Standard input becomes a pipe that holds a file whose header declares `declared` values, with `there`
 * bytes of data behind it, and is closed at the other end. */
static void fill_pipe(long long declared, const float *values, size_t there) {
  char header[128];
  unsigned char bytes[512] = "\x93NUMPY\x01";
  const size_t length =
      (size_t)snprintf(header, sizeof header,
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld,), }\n", declared);
  bytes[8] = (unsigned char)length;
  memcpy(bytes + 10, header, length);
  memcpy(bytes + 10 + length, values, there);
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  assert_int_equal(write(ends[1], bytes, 10 + length + there), 10 + length + there);
  close(ends[1]);
  assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
  close(ends[0]);
}

static bool read_pipe(clnorm_npy *array, clnorm_message *message) {
  return clnorm_npy_read("-", CLNORM_NPY_TENSOR, array, message);
}

static void test_a_pipe_is_read(void **state) {
  (void)state;
  const float values[5] = {1, 2, 3, 4, 5};
  clnorm_npy array;
  clnorm_message message = {""};
  fill_pipe(4, values, 16);
  assert_true(read_pipe(&array, &message));
  assert_int_equal(array.count, 4);
  assert_memory_equal(array.values, values, 16);
  clnorm_npy_free(&array);
  fill_pipe(0, values, 0);
  assert_true(read_pipe(&array, &message));
  assert_int_equal(array.count, 0);
  clnorm_npy_free(&array);
}

static void test_pipes_that_are_refused(void **state) {
  (void)state;
  static const struct {
    long long declared;
    size_t there;
    const char *words[2];
  } pipes[] = {{4, 15, {"truncated", "needs 16 bytes of data, but 15 came"}},
               {4, 0, {"truncated", "but 0 came"}},
               {4, 17, {"does not end", "after the data"}},
               {0, 1, {"does not end", "after the data"}},
               {8589934592, 16, {"truncated", "needs 34359738368 bytes of data, but 16 came"}}};
  const float values[8] = {1};
  for (size_t i = 0; i < FIXTURE_LENGTH(pipes); i++) {
    clnorm_npy array;
    clnorm_message message = {""};
    fill_pipe(pipes[i].declared, values, pipes[i].there);
    assert_false(read_pipe(&array, &message));
    assert_null(array.values);
    for (int k = 0; k < 2; k++)
      if (!strstr(message.text, pipes[i].words[k])) fail_msg("%zu: %s", i, message.text);
  }
}

/* Larger than the first part that memory is taken for, and no multiple of it. */
static void test_a_long_stream(void **state) {
  (void)state;
  enum { COUNT = 1234567 };
  float *values = malloc(COUNT * sizeof *values);
  assert_non_null(values);
  for (int i = 0; i < COUNT; i++) values[i] = (float)i;
  const clnorm_npy written = {.ndim = 1, .dims = {COUNT}, .count = COUNT, .values = values};
  FILE *file = fopen(path, "w+b");
  assert_non_null(file);
  assert_true(clnorm_npy_write(file, &written));
  assert_int_equal(fflush(file), 0);
  rewind(file);
  assert_int_equal(dup2(fileno(file), STDIN_FILENO), STDIN_FILENO);
  fclose(file);
  clnorm_npy array;
  clnorm_message message = {""};
  if (!read_pipe(&array, &message)) fail_msg("%s", message.text);
  assert_int_equal(array.count, COUNT);
  assert_memory_equal(array.values, values, COUNT * sizeof *values);
  clnorm_npy_free(&array);
  free(values);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static void test_written_files_are_read(void **state) {
  (void)state;
  static const int64_t shapes[][4] = {{6, 0, 0, 0}, {2, 3, 0, 0}, {1, 6, 1, 1}, {2, 0, 3, 1}};
  static const int ndims[] = {1, 2, 4, 4};
  float values[6] = {1, -2, 3e-39f, INFINITY, 0.1f, -0.0f};
  for (size_t i = 0; i < FIXTURE_LENGTH(ndims); i++) {
    clnorm_npy written = {.ndim = ndims[i], .count = i < 3 ? 6 : 0, .values = values};
    memcpy(written.dims, shapes[i], sizeof shapes[i]);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(clnorm_npy_write(file, &written));
    assert_int_equal(ftell(file), clnorm_npy_size(&written));
    assert_int_equal(fclose(file), 0);
    clnorm_npy array = read_good(CLNORM_NPY_TENSOR);
    assert_int_equal(array.ndim, ndims[i]);
    assert_memory_equal(array.dims, shapes[i], (size_t)ndims[i] * sizeof shapes[i][0]);
    assert_int_equal(array.count, written.count);
    assert_memory_equal(array.values, values, (size_t)array.count * sizeof *values);
    assert_int_equal((clnorm_npy_size(&written) - array.count * 4) % 64, 0);
    clnorm_npy_free(&array);
  }
}

static void test_a_full_device(void **state) {
  (void)state;
  FILE *full = fopen("/dev/full", "wb");
  assert_non_null(full);
  float values[4096] = {0};
  const clnorm_npy array = {.ndim = 1, .dims = {4096}, .count = 4096, .values = values};
  setvbuf(full, NULL, _IONBF, 0);
  assert_false(clnorm_npy_write(full, &array));
  assert_int_equal(errno, ENOSPC);
  fclose(full);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_version_order_and_type),
      cmocka_unit_test(test_header_variants),
      cmocka_unit_test(test_empty_arrays),
      cmocka_unit_test(test_special_values_pass),
      cmocka_unit_test(test_bad_headers),
      cmocka_unit_test(test_zero_byte_in_header),
      cmocka_unit_test(test_sizes_that_do_not_match),
      cmocka_unit_test(test_huge_shape_in_a_small_file),
      cmocka_unit_test(test_header_lengths),
      cmocka_unit_test(test_other_files),
      cmocka_unit_test(test_things_that_are_no_files),
      cmocka_unit_test(test_types_where_they_are_not_wanted),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_a_pipe_is_read),
      cmocka_unit_test(test_pipes_that_are_refused),
      cmocka_unit_test(test_a_long_stream),
      cmocka_unit_test(test_written_files_are_read),
      cmocka_unit_test(test_a_full_device),
  };
  return cmocka_run_group_tests_name("npy", tests, make_folder, remove_folder);
}
