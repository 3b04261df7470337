/* cases/neighbours.c: the producer and the consumer of a pipeline. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#include "neighbours.h"

typedef struct type {
  size_t bytes;
  int exponent_bits, largest_exponent;
} type;

static const type f32 = {4, 8, 1}, f16 = {2, 5, 1}, bf16 = {2, 8, 1}, f64 = {8, 11, 4};

/* Every value of x is a normal number below 2^(largest_exponent + 1). */
static void assert_normal(const unsigned char *x, size_t bytes, type t) {
  const int fraction_bits = 8 * (int)t.bytes - 1 - t.exponent_bits;
  const int bias = (1 << (t.exponent_bits - 1)) - 1;
  for (size_t i = 0; i + t.bytes <= bytes; i += t.bytes) {
    uint64_t bits = 0;
    memcpy(&bits, x + i, t.bytes); /* little-endian */
    const int field = (int)(bits >> fraction_bits & ((1u << t.exponent_bits) - 1));
    assert_true(field > 0 && field - bias <= t.largest_exponent);
  }
}

/* Every byte of x is written, and none behind it. */
static void test_producer(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 2, 62, 64, 66, 4096, 8190, 262144, 1000002};
  for (int threads = 1; threads <= 3; threads += 2) {
    clnorm_neighbours *n = clnorm_neighbours_create(threads);
    assert_non_null(n);
    for (size_t s = 0; s < FIXTURE_LENGTH(sizes); s++) {
      unsigned char *x = malloc(sizes[s] + 64);
      assert_non_null(x);
      memset(x, 0xff, sizes[s] + 64); /* NaN in every type */
      clnorm_neighbours_produce(n, x, sizes[s]);
      assert_normal(x, sizes[s], f32);
      assert_normal(x, sizes[s], f16);
      assert_normal(x, sizes[s], bf16);
      assert_normal(x, sizes[s], f64);
      for (size_t i = 0; i < 64; i++) assert_int_equal(x[sizes[s] + i], 0xff);
      free(x);
    }
    clnorm_neighbours_destroy(n);
  }
}

/* The consumer reads what it is told and changes nothing. */
static void test_consumer(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 2, 64, 130, 1000002};
  clnorm_neighbours *n = clnorm_neighbours_create(2);
  assert_non_null(n);
  for (size_t s = 0; s < FIXTURE_LENGTH(sizes); s++) {
    unsigned char *y = malloc(sizes[s] + 1); /* sanitizers see a read behind it */
    assert_non_null(y);
    memset(y, 7, sizes[s]);
    assert_true(clnorm_neighbours_consume(n, y, sizes[s]) >= 0);
    for (size_t i = 0; i < sizes[s]; i++) assert_int_equal(y[i], 7);
    free(y);
  }
  clnorm_neighbours_destroy(n);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_producer),
                                     cmocka_unit_test(test_consumer)};
  return cmocka_run_group_tests_name("neighbours", tests, NULL, NULL);
}
