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

#include "halves.h"
#include "npy.h"

enum {
  F16 = CLNORM_NPY_F16,
  BF16 = CLNORM_NPY_BF16,
  F32 = CLNORM_NPY_F32,
  F64 = CLNORM_NPY_F64,
  NUMPYS_OWN = F16 | F32 | F64,
  ALL = NUMPYS_OWN | BF16
};

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
static void assert_refused(unsigned types, const char *words) {
  clnorm_npy array;
  clnorm_message message = {""};
  const bool good = clnorm_npy_read(path, types, &array, &message);
  fixture_rejected(message.text, good ? CLNORM_OK : CLNORM_ERROR_INVALID_ARGUMENT,
                   CLNORM_ERROR_INVALID_ARGUMENT, words, words);
  assert_null(strchr(message.text, '\n'));
  assert_null(array.values);
}

static clnorm_npy read_good(unsigned types) {
  clnorm_npy array;
  clnorm_message message = {""};
  if (!clnorm_npy_read(path, types, &array, &message)) fail_msg("%s", message.text);
  return array;
}

/* ---- Good files ------------------------------------------------------------------------------ */

static bool host_is_big(void) {
  const uint16_t one = 1;
  return *(const unsigned char *)&one == 0;
}

/* Puts the value's bytes in the given order. */
static void put(unsigned char *target, const void *value, size_t size, bool big) {
  const unsigned char *bytes = value;
  for (size_t i = 0; i < size; i++) target[i] = bytes[big == host_is_big() ? i : size - 1 - i];
}

/* The value's bytes in native order. */
static size_t make_item(unsigned type, double value, unsigned char item[8]) {
  const float narrow = (float)value;
  const uint16_t half = type == F16 ? clnorm_double_to_half(value) : clnorm_double_to_bfloat(value);
  const void *bytes = type == F64   ? (const void *)&value
                      : type == F32 ? (const void *)&narrow
                                    : &half;
  const size_t size = type == F64 ? sizeof value : type == F32 ? sizeof narrow : sizeof half;
  memcpy(item, bytes, size);
  return size;
}

static size_t put_values(unsigned char *data, const double *values, size_t count, unsigned type,
                         bool big) {
  size_t size = 0;
  for (size_t i = 0; i < count; i++) {
    unsigned char item[8];
    const size_t item_size = make_item(type, values[i], item);
    put(data + size, item, item_size, big);
    size += item_size;
  }
  return size;
}

/* Everything that NumPy and its extensions write for the types. */
static const struct {
  const char *code;
  unsigned type;
} codes[] = {{"<f2", F16},  {">f2", F16},  {"=f2", F16},  {"<f4", F32},  {">f4", F32},
             {"|f4", F32},  {"<f8", F64},  {">f8", F64},  {"f8", F64},   {"<u2", BF16},
             {">u2", BF16}, {"=u2", BF16}, {"<V2", BF16}, {">V2", BF16}, {"|V2", BF16}};

/* a[i][j][k] = 100 i + 10 j + k + 1/2, shape (2, 3, 2), which every type holds; once with all types accepted, and
 * once with its own alone. */
static void read_one(int version, size_t row, bool fortran, unsigned accepted) {
  static const double in_c[] = {.5,    1.5,   10.5,  11.5,  20.5,  21.5,
                                100.5, 101.5, 110.5, 111.5, 120.5, 121.5};
  static const double in_fortran[] = {.5,  100.5, 10.5, 110.5, 20.5, 120.5,
                                      1.5, 101.5, 11.5, 111.5, 21.5, 121.5};
  const char *code = codes[row].code;
  const bool big = *code == '>' || (*code != '<' && host_is_big());
  char header[128];
  unsigned char data[96], native[96];
  const size_t size = put_values(data, fortran ? in_fortran : in_c, 12, codes[row].type, big);
  put_values(native, in_c, 12, codes[row].type, host_is_big());
  snprintf(header, sizeof header,
           "{'descr': '%s', 'fortran_order': %s, 'shape': (2, 3, 2), }    \n", code,
           fortran ? "True" : "False");
  write_npy(version, header, data, size);
  clnorm_npy array = read_good(accepted);
  assert_int_equal(array.type, codes[row].type);
  assert_int_equal(array.ndim, 3);
  assert_int_equal(array.dims[1], 3);
  assert_int_equal(array.count, 12);
  assert_int_equal(array.count * clnorm_npy_item_size(array.type), size);
  assert_memory_equal(array.values, native, size);
  clnorm_npy_free(&array);
}

static void test_every_version_order_and_type(void **state) {
  (void)state;
  for (int version = 1; version <= 3; version++)
    for (size_t row = 0; row < FIXTURE_LENGTH(codes); row++)
      for (int fortran = 0; fortran < 2; fortran++) {
        read_one(version, row, fortran, ALL);
        read_one(version, row, fortran, codes[row].type);
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
    clnorm_npy array = read_good(F32);
    assert_int_equal(array.count, 1);
    assert_true(*(const float *)array.values == 1.5f);
    clnorm_npy_free(&array);
  }
}

static void test_empty_arrays(void **state) {
  (void)state;
  write_npy(1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 0, 4, 4), }\n", NULL, 0);
  clnorm_npy array = read_good(F32);
  assert_int_equal(array.count, 0);
  assert_int_equal(array.ndim, 4);
  assert_non_null(array.values);
  clnorm_npy_free(&array);
}

/* Ranks 0 to 5, in either order of dimensions; every value in a place of its own. */
static void test_every_rank(void **state) {
  (void)state;
  static const char *const shapes[] = {"()",        "(4,)",         "(2, 2)",
                                       "(2, 1, 2)", "(1, 2, 2, 1)", "(2, 1, 1, 2, 1)"};
  const double in_c[] = {1, 2, 3, 4}, in_fortran[] = {1, 3, 2, 4};
  for (int ndim = 0; ndim < 6; ndim++)
    for (unsigned type = 1; type <= ALL; type *= 2)
      for (int fortran = 0; fortran < 2; fortran++) {
        static const char *const written[] = {"f2", "u2", "f4", "f8"};
        const size_t count = ndim == 0 ? 1 : 4;
        char header[128];
        unsigned char data[32], native[32];
        const size_t size =
            put_values(data, fortran && ndim > 1 ? in_fortran : in_c, count, type, false);
        put_values(native, in_c, count, type, host_is_big());
        snprintf(header, sizeof header, "{'descr': '<%s', 'fortran_order': %s, 'shape': %s, }",
                 written[type == F16    ? 0
                         : type == BF16 ? 1
                         : type == F32  ? 2
                                        : 3],
                 fortran ? "True" : "False", shapes[ndim]);
        write_npy(1, header, data, size);
        clnorm_npy array = read_good(type);
        assert_int_equal(array.ndim, ndim);
        assert_int_equal(array.count, count);
        assert_memory_equal(array.values, native, size);
        clnorm_npy_free(&array);
      }
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
    {"{'descr': '<f4x', 'fortran_order': False, 'shape': (1,)}", "no type that is known"},
    {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
     "dtype is a structure|must be float16, float32 or float64"},
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
    assert_refused(NUMPYS_OWN, bad_headers[i].words);
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
  assert_refused(F32, "nothing after");
}

static void test_sizes_that_do_not_match(void **state) {
  (void)state;
  static const char three[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n";
  const float values[4] = {1, 2, 3, 4};
  write_npy(1, three, values, 11);
  assert_refused(F32, "truncated|12 bytes|has 11");
  write_npy(1, three, values, 0);
  assert_refused(F32, "truncated");
  write_npy(1, three, values, 13);
  assert_refused(F32, "1 bytes after the data");
  static const char pair[] = "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2), }\n";
  write_npy(1, pair, values, 3);
  assert_refused(F16, "truncated|4 bytes|has 3");
  write_npy(1, pair, values, 8);
  assert_refused(F16, "4 bytes after the data");
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
  assert_refused(F32, "truncated|34359738368 bytes|has 0");
  (void)little;
  setrlimit(RLIMIT_AS, &before);
}

/* Header lengths beyond the cap, and beyond the file. */
static void test_header_lengths(void **state) {
  (void)state;
  write_bytes("\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'", 20);
  assert_refused(F32, "declares a header of 4294967295 bytes|65536");
  write_bytes("\x93NUMPY\x03\x00\x01\x00\x01\x00{'descr'", 20);
  assert_refused(F32, "declares a header of 65537 bytes");
  write_bytes("\x93NUMPY\x01\x00\xff\xff{'descr'", 18);
  assert_refused(F32, "truncated in the header");
  write_bytes("\x93NUMPY\x02\x00\x10\x00", 10);
  assert_refused(F32, "truncated in the header");
}

static void test_other_files(void **state) {
  (void)state;
  write_bytes("", 0);
  assert_refused(F32, "too short");
  write_bytes("\x93NUMPY\x01\x00", 8);
  assert_refused(F32, "too short");
  write_bytes("hello, this is text", 19);
  assert_refused(F32, "not a .npy file");
  write_bytes("\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.", 12);
  assert_refused(F32, "pickle");
  write_bytes("PK\x03\x04xxxxxxxx", 12);
  assert_refused(F32, "archive");
  write_bytes("\x93NUMPY\x04\x00\x10\x00xxxxxxxx", 18);
  assert_refused(F32, "version 4.0");
  write_bytes("\x93NUMPY\x01\x02\x10\x00xxxxxxxx", 18);
  assert_refused(F32, "version 1.2");
}

static void test_things_that_are_no_files(void **state) {
  (void)state;
  unlink(path);
  assert_refused(F32, "cannot open|No such file");
  assert_int_equal(mkdir(path, 0700), 0);
  assert_refused(F32, "folder");
  rmdir(path);
}

/* The message names the type that was found and all those that are accepted. */
static void test_types_that_are_not_accepted(void **state) {
  (void)state;
  static const struct {
    unsigned accepted;
    const char *code, *words;
  } rows[] = {
      {NUMPYS_OWN, "<i4", "'<i4' is int32, but must be float16, float32 or float64"},
      {NUMPYS_OWN, "<c8", "'<c8' is complex64, but must be float16, float32 or float64"},
      {NUMPYS_OWN, ">c16", "'>c16' is complex128, but must be float16"},
      {NUMPYS_OWN, "|b1", "'|b1' is bool, but must be float16"},
      {NUMPYS_OWN, "<i2", "'<i2' is int16, but must be float16"},
      {NUMPYS_OWN, "<f16", "'<f16' is float128, but must be float16"},
      {NUMPYS_OWN, "|V4", "'|V4' is no type that is known here, but must be float16"},
      {NUMPYS_OWN, "<u2",
       "'<u2' is uint16 (or bfloat16, which was not asked for), but must be float16, float32 or "
       "float64"},
      {NUMPYS_OWN, "|V2",
       "'|V2' is 2 raw bytes (or bfloat16, which was not asked for), but must be float16"},
      {NUMPYS_OWN, "<V2", "'<V2' is 2 raw bytes (or bfloat16, which was not asked for)"},
      {F32, "<f8", "'<f8' is float64, but must be float32"},
      {F32, "<f2", "'<f2' is float16, but must be float32"},
      {F32, ">u2", "'>u2' is uint16|not asked for|must be float32"},
      {F16, "<f4", "'<f4' is float32, but must be float16"},
      {F32 | F64, "<f2", "'<f2' is float16, but must be float32 or float64"},
      {BF16, "<f2", "'<f2' is float16, but must be bfloat16 (as '<u2' or '|V2')"},
      {BF16, "<f4", "'<f4' is float32, but must be bfloat16 (as '<u2' or '|V2')"},
      {BF16, "<i2", "'<i2' is int16, but must be bfloat16 (as '<u2' or '|V2')"},
      {ALL, "<u4",
       "'<u4' is uint32, but must be float16, bfloat16 (as '<u2' or '|V2'), float32 or float64"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const double values[2] = {1, 2};
    char header[128];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (1,), }\n",
             rows[i].code);
    write_npy(1, header, values, sizeof values);
    assert_refused(rows[i].accepted, rows[i].words);
  }
}

/* Every file that a good one becomes by losing its end, or by one changed byte, is read or refused;
 * the sanitizers watch. */
static void damage(const char *header, size_t size_of_data) {
  unsigned char good[256];
  const double values[6] = {1, 2, 3, 4, 5, 6};
  write_npy(1, header, values, size_of_data);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  const size_t size = fread(good, 1, sizeof good, file);
  fclose(file);
  for (size_t cut = 0; cut < size; cut++) {
    write_bytes(good, cut);
    assert_refused(ALL, "");
  }
  for (size_t at = 0; at < size; at++)
    for (int change = 1; change < 256; change = 2 * change + 1) {
      clnorm_npy array;
      clnorm_message message;
      good[at] ^= (unsigned char)change;
      write_bytes(good, size);
      if (clnorm_npy_read(path, ALL, &array, &message)) clnorm_npy_free(&array);
      good[at] ^= (unsigned char)change;
    }
}

static void test_damaged_files(void **state) {
  (void)state;
  damage("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", 24);
  damage("{'descr': '>f2', 'fortran_order': True, 'shape': (2, 3), }\n", 12);
  damage("{'descr': '|V2', 'fortran_order': True, 'shape': (2, 3), }\n", 12);
  damage("{'descr': '>f8', 'fortran_order': True, 'shape': (2, 3), }\n", 48);
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
  return clnorm_npy_read("-", F32, array, message);
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
  const clnorm_npy written = {
      .ndim = 1, .dims = {COUNT}, .count = COUNT, .values = values, .type = CLNORM_NPY_F32};
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

/* ---- Converting ------------------------------------------------------------------------------ */

/* A file of these values of one type, read and converted to another. */
static bool convert(unsigned from, const double *values, size_t count, unsigned to,
                    clnorm_npy *array, clnorm_message *message) {
  unsigned char data[64];
  memset(array, 0, sizeof *array);
  const size_t size = put_values(data, values, count, from, host_is_big());
  array->type = (clnorm_npy_type)from;
  array->ndim = 1;
  array->dims[0] = array->count = (int64_t)count;
  array->values = malloc(size);
  assert_non_null(array->values);
  memcpy(array->values, data, size);
  return clnorm_npy_convert(array, (clnorm_npy_type)to, message);
}

/* From every type into every type: values that all hold, infinities, NaN, zeros of both signs. */
static void test_conversions_keep_values(void **state) {
  (void)state;
  const double values[] = {1.5, -0.0, -240, 0x1p-14, (double)INFINITY, -(double)INFINITY};
  for (unsigned from = 1; from <= ALL; from *= 2)
    for (unsigned to = 1; to <= ALL; to *= 2) {
      clnorm_npy array;
      clnorm_message message = {""};
      unsigned char expected[64];
      const size_t size = put_values(expected, values, 6, to, host_is_big());
      if (!convert(from, values, 6, to, &array, &message)) fail_msg("%s", message.text);
      assert_int_equal(array.type, to);
      assert_int_equal(array.count, 6);
      assert_memory_equal(array.values, expected, size);
      clnorm_npy_free(&array);
      const double nan = (double)NAN;
      if (!convert(from, &nan, 1, to, &array, &message)) fail_msg("%s", message.text);
      if (!clnorm_npy_convert(&array, CLNORM_NPY_F64, &message)) fail_msg("%s", message.text);
      assert_true(isnan(*(const double *)array.values));
      clnorm_npy_free(&array);
    }
}

/* Above and below the middle of two neighbours by less than float shows: a rounding to float before would
 * give the even one. Then the largest value of all that fits, and the smallest that does not. */
static void test_conversions_round_once_and_refuse(void **state) {
  (void)state;
  static const struct {
    unsigned type;
    double near_middles[2], rounded[2], fits, largest, too_large;
    const char *words;
  } rows[] = {
      {F16,
       {0x1.002p+0 + 0x1p-50, 0x1.006p+0 - 0x1p-50},
       {0x1.004p+0, 0x1.004p+0},
       0x1.ffdfffffffffp+15,
       65504,
       65520,
       "value -65520 at index 2 does not fit float16"},
      {BF16,
       {0x1.01p+0 + 0x1p-50, 0x1.03p+0 - 0x1p-50},
       {0x1.02p+0, 0x1.02p+0},
       0x1.feffffffffffp+127,
       0x1.fep+127,
       0x1.ffp+127,
       "at index 2 does not fit bfloat16"},
      {F32,
       {0x1.000001p+0 + 0x1p-50, 0x1.000003p+0 - 0x1p-50},
       {0x1.000002p+0, 0x1.000002p+0},
       0x1.fffffefffffffp+127,
       0x1.fffffep+127,
       0x1.ffffffp+127,
       "at index 2 does not fit float32"},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_npy array;
    clnorm_message message = {""};
    const double good[] = {rows[i].near_middles[0], rows[i].near_middles[1], rows[i].fits, 1e-320};
    const double bad[] = {1, (double)INFINITY, -rows[i].too_large};
    if (!convert(F64, good, 4, rows[i].type, &array, &message)) fail_msg("%s", message.text);
    if (!clnorm_npy_convert(&array, CLNORM_NPY_F64, &message)) fail_msg("%s", message.text);
    const double *values = array.values;
    assert_true(values[0] == rows[i].rounded[0] && values[1] == rows[i].rounded[1]);
    assert_true(values[2] == rows[i].largest && values[3] == 0);
    clnorm_npy_free(&array);
    assert_false(convert(F64, bad, 3, rows[i].type, &array, &message));
    fixture_rejected(message.text, CLNORM_ERROR_INVALID_ARGUMENT, CLNORM_ERROR_INVALID_ARGUMENT,
                     rows[i].words, rows[i].words);
    assert_int_equal(array.type, F64);
    assert_memory_equal(array.values, bad, sizeof bad);
    clnorm_npy_free(&array);
  }
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* The file's own bytes: its size is as told, the values begin at a multiple of 64, little endian. */
static void assert_written(const clnorm_npy *written, const char *code, const void *data,
                           size_t size) {
  unsigned char bytes[512];
  FILE *file = fopen(path, "w+b");
  assert_non_null(file);
  assert_true(clnorm_npy_write(file, written));
  assert_int_equal(ftell(file), clnorm_npy_size(written));
  rewind(file);
  const size_t length = fread(bytes, 1, sizeof bytes - 1, file);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(length, clnorm_npy_size(written));
  assert_int_equal((length - size) % 64, 0);
  assert_memory_equal(bytes + length - size, data, size);
  bytes[length - size] = '\0';
  if (!strstr((const char *)bytes + 10, code)) fail_msg("%s: %s", code, bytes + 10);
}

static void test_written_files_are_read(void **state) {
  (void)state;
  static const int64_t shapes[][5] = {
      {1}, {6}, {2, 3}, {1, 6, 1}, {1, 6, 1, 1}, {1, 2, 1, 3, 1}, {2, 0, 3, 1}};
  static const int ndims[] = {0, 1, 2, 3, 4, 5, 4};
  static const size_t counts[] = {1, 6, 6, 6, 6, 6, 0};
  static const struct {
    unsigned type;
    const char *code, *name;
  } types[] = {{F16, "'<f2'", "float16"},
               {BF16, "'<u2'", "bfloat16"},
               {F32, "'<f4'", "float32"},
               {F64, "'<f8'", "float64"}};
  const double values[6] = {1, -2, 3e-39, (double)INFINITY, 0.1, -0.0};
  for (size_t t = 0; t < FIXTURE_LENGTH(types); t++)
    for (size_t i = 0; i < FIXTURE_LENGTH(ndims); i++) {
      unsigned char native[64], little[64];
      put_values(native, values, counts[i], types[t].type, host_is_big());
      const size_t size = put_values(little, values, counts[i], types[t].type, false);
      clnorm_npy written = {.type = (clnorm_npy_type)types[t].type,
                            .ndim = ndims[i],
                            .count = (int64_t)counts[i],
                            .values = native};
      memcpy(written.dims, shapes[i], sizeof shapes[i]);
      assert_written(&written, types[t].code, little, size);
      clnorm_npy array = read_good(types[t].type);
      assert_int_equal(array.type, types[t].type);
      assert_string_equal(clnorm_npy_type_name(array.type), types[t].name);
      assert_int_equal(array.ndim, ndims[i]);
      assert_memory_equal(array.dims, shapes[i], (size_t)ndims[i] * sizeof shapes[i][0]);
      assert_int_equal(array.count, written.count);
      assert_memory_equal(array.values, native, size);
      clnorm_npy_free(&array);
    }
}

static void test_a_full_device(void **state) {
  (void)state;
  FILE *full = fopen("/dev/full", "wb");
  assert_non_null(full);
  float values[4096] = {0};
  const clnorm_npy array = {
      .ndim = 1, .dims = {4096}, .count = 4096, .values = values, .type = CLNORM_NPY_F32};
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
      cmocka_unit_test(test_every_rank),
      cmocka_unit_test(test_bad_headers),
      cmocka_unit_test(test_zero_byte_in_header),
      cmocka_unit_test(test_sizes_that_do_not_match),
      cmocka_unit_test(test_huge_shape_in_a_small_file),
      cmocka_unit_test(test_header_lengths),
      cmocka_unit_test(test_other_files),
      cmocka_unit_test(test_things_that_are_no_files),
      cmocka_unit_test(test_types_that_are_not_accepted),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_a_pipe_is_read),
      cmocka_unit_test(test_pipes_that_are_refused),
      cmocka_unit_test(test_a_long_stream),
      cmocka_unit_test(test_conversions_keep_values),
      cmocka_unit_test(test_conversions_round_once_and_refuse),
      cmocka_unit_test(test_written_files_are_read),
      cmocka_unit_test(test_a_full_device),
  };
  return cmocka_run_group_tests_name("npy", tests, make_folder, remove_folder);
}
