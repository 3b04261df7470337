/* kernels/scalar.h, places.h and statistics.h: roundings against exact integer arithmetic and the hardware, the cut of
 * a channel into segments, and the merge of partials. */
#include "fixture.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "statistics.h"

__extension__ typedef unsigned __int128 wide_uint;
__extension__ typedef __int128 wide_int;

/* ---- Reciprocal square root -------------------------------------------------------------------- */

/* v == mantissa * 2^exponent, exactly. */
typedef struct exact {
  uint64_t mantissa;
  int exponent;
} exact;

static exact exact_of(float v) {
  const uint32_t bits = clnorm_bits(v);
  const int field = (int)(bits >> 23);
  const exact subnormal = {bits & 0x7fffffu, -149};
  const exact normal = {(bits & 0x7fffffu) | 0x800000u, field - 150};
  return field == 0 ? subnormal : normal;
}

/* Is point^2 * v < 1, for point = m * 2^e? All in integers: m < 2^25 and v's mantissa < 2^24, so the
 * product has at most 74 bits; it is never 1 for an odd m > 1. */
static bool is_below_rsqrt(uint64_t m, int e, exact v) {
  const wide_uint product = (wide_uint)m * m * v.mantissa;
  const int power = -(2 * e + v.exponent); /* product < 2^power ? */
  if (power >= 127) return true;
  return power >= 0 && product < (wide_uint)1 << power;
}

/* Is y the float nearest to 1 / sqrt(v)? Both midpoints to its neighbours decide. */
static bool is_rsqrt(float y, float v) {
  const exact a = exact_of(y);
  const exact b = exact_of(v);
  const bool power_of_two = a.mantissa == 0x800000u; /* the neighbour below is half as far */
  const bool below = power_of_two ? is_below_rsqrt(4 * a.mantissa - 1, a.exponent - 2, b)
                                  : is_below_rsqrt(2 * a.mantissa - 1, a.exponent - 1, b);
  return below && !is_below_rsqrt(2 * a.mantissa + 1, a.exponent - 1, b);
}

/* An odd and an even power of two with all mantissas decide every other binade. */
static void rsqrt_is_correctly_rounded_for_all_mantissas(void **state) {
  (void)state;
  for (uint32_t bits = clnorm_bits(1.0f); bits < clnorm_bits(4.0f); bits++) {
    const float v = clnorm_from_bits(bits);
    if (!is_rsqrt(clnorm_rsqrt(v), v)) fail_msg("rsqrt(%a) is %a", v, clnorm_rsqrt(v));
  }
}

static void rsqrt_is_correctly_rounded_in_every_binade(void **state) {
  (void)state;
  for (uint32_t bits = 1; bits < clnorm_bits(INFINITY); bits += 9973) {
    const float v = clnorm_from_bits(bits);
    if (!is_rsqrt(clnorm_rsqrt(v), v)) fail_msg("rsqrt(%a) is %a", v, clnorm_rsqrt(v));
  }
  for (int e = -149; e <= 127; e++) {
    const float v = ldexpf(1.0f, e);
    if (!is_rsqrt(clnorm_rsqrt(v), v)) fail_msg("rsqrt(2^%d) is %a", e, clnorm_rsqrt(v));
    if (e % 2 == 0) assert_true(clnorm_rsqrt(v) == ldexpf(1.0f, -e / 2));
  }
}

/* Both sides of the switch to scaled arithmetic, and both ends. */
static void rsqrt_is_correctly_rounded_at_the_seams(void **state) {
  (void)state;
  const uint32_t seams[] = {1, clnorm_bits(0x1p-126f), clnorm_bits(0x1p-60f), clnorm_bits(1.0f),
                            clnorm_bits(FLT_MAX) - 1000};
  for (size_t i = 0; i < FIXTURE_LENGTH(seams); i++) {
    for (uint32_t k = 0; k < 2001; k++) {
      const uint32_t bits = seams[i] > 1000 ? seams[i] - 1000 + k : seams[i] + k;
      const float v = clnorm_from_bits(bits);
      if (!is_rsqrt(clnorm_rsqrt(v), v)) fail_msg("rsqrt(%a) is %a", v, clnorm_rsqrt(v));
    }
  }
}

static void rsqrt_of_what_is_not_positive(void **state) {
  (void)state;
  assert_true(clnorm_rsqrt(0.0f) == INFINITY);
  assert_true(clnorm_rsqrt(-0.0f) == INFINITY);
  assert_true(clnorm_rsqrt(INFINITY) == 0.0f);
  assert_true(isnan(clnorm_rsqrt(-1.0f)));
  assert_true(isnan(clnorm_rsqrt(-0x1p-149f)));
  assert_true(isnan(clnorm_rsqrt(-INFINITY)));
  assert_true(isnan(clnorm_rsqrt(NAN)));
}

/* ---- Division ---------------------------------------------------------------------------------- */

/* The host rounds / correctly (IEEE-754), at run time too: volatile keeps the compiler out of it. The negative
 * dividend is asked of the host as well: nothing is concluded from symmetry. */
static void check_div(float a, float b) {
  const float signs[] = {a, -a};
  for (int i = 0; i < 2; i++) {
    volatile float dividend = signs[i];
    const float expected = dividend / b;
    const float actual = clnorm_div(signs[i], b);
    if (clnorm_bits(actual) != clnorm_bits(expected)) {
      fail_msg("div(%a, %a) is %a, expected %a", signs[i], b, actual, expected);
    }
  }
}

/* The divisor that is hardest on Newton's steps, and its neighbours, under every numerator. */
static void div_is_correctly_rounded_for_the_hardest_divisor(void **state) {
  (void)state;
  const uint32_t all_ones = clnorm_bits(2.0f) - 1;
  for (uint32_t bits = clnorm_bits(1.0f); bits < clnorm_bits(2.0f); bits++) {
    check_div(clnorm_from_bits(bits), clnorm_from_bits(all_ones));
  }
  for (uint32_t b = all_ones - 8; b <= all_ones + 8; b++) {
    for (uint32_t bits = clnorm_bits(1.0f) + b % 61; bits < clnorm_bits(2.0f); bits += 61) {
      check_div(clnorm_from_bits(bits), clnorm_from_bits(b));
    }
  }
}

static void reciprocal_is_correctly_rounded_for_all_divisors(void **state) {
  (void)state;
  for (uint32_t bits = clnorm_bits(1.0f); bits < clnorm_bits(2.0f); bits++) {
    check_div(1.0f, clnorm_from_bits(bits));
  }
}

/* Only quotients that are normal are promised. */
static void div_is_correctly_rounded_everywhere(void **state) {
  (void)state;
  uint64_t random = 1;
  for (int i = 0; i < 20000000; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const uint32_t span = clnorm_bits(0x1p63f) - clnorm_bits(1.0f) + 1;
    const float b = clnorm_from_bits(clnorm_bits(1.0f) + (uint32_t)(random >> 33) % span);
    random = random * 6364136223846793005u + 1442695040888963407u;
    const float a = clnorm_from_bits((uint32_t)(random >> 33) % clnorm_bits(INFINITY));
    if (a / b >= FLT_MIN) check_div(a, b);
  }
}

static void div_of_special_values(void **state) {
  (void)state;
  static const float divisors[] = {1.0f, 1.5f, 3.0f, 0x1.fffffep0f, 16777216.0f, 0x1p63f};
  for (size_t i = 0; i < FIXTURE_LENGTH(divisors); i++) {
    const float b = divisors[i];
    check_div(0.0f, b);
    check_div(FLT_MAX, b);
    check_div(b, b);
    check_div(FLT_MIN * b, b); /* the smallest normal quotient */
    check_div(0x1p-60f * b, b);
    check_div(0x1p-60f, b);
    check_div(clnorm_from_bits(clnorm_bits(0x1p-60f) - 1), b);
    check_div(2e19f, b); /* times 2^64 it would be infinite */
    assert_true(clnorm_div(INFINITY, b) == INFINITY && clnorm_div(-INFINITY, b) == -INFINITY);
    assert_true(isnan(clnorm_div(NAN, b)) && isnan(clnorm_div(-NAN, b)));
    assert_true(signbit(clnorm_div(-0.0f, b)) && !signbit(clnorm_div(0.0f, b)));
    /* what underflows keeps its sign */
    assert_true(signbit(clnorm_div(-0x1p-149f, b)) && !signbit(clnorm_div(0x1p-149f, b)));
  }
}

/* In integers, without the host's division: 2^k * a == q * b + rest has |2 * rest| <= b, and the even quotient
 * where it is half. Mantissas of 24 bits decide where quotient and dividend are normal. */
static bool is_quotient(float q, float a, float b) {
  const exact dividend = exact_of(fabsf(a)), divisor = exact_of(b), quotient = exact_of(fabsf(q));
  const int power = dividend.exponent - divisor.exponent - quotient.exponent;
  assert_true(power >= 0 && power < 64);
  const wide_int product = (wide_int)quotient.mantissa * divisor.mantissa;
  const wide_int rest = ((wide_int)dividend.mantissa << power) - product;
  const wide_int twice = rest < 0 ? -2 * rest : 2 * rest;
  if (twice == divisor.mantissa) return quotient.mantissa % 2 == 0;
  /* below a power of two the neighbour is half as far */
  if (rest < 0 && quotient.mantissa == 0x800000u) return 2 * twice <= divisor.mantissa;
  return twice < divisor.mantissa;
}

static void div_is_the_nearest_quotient_in_integers(void **state) {
  (void)state;
  uint64_t random = 3;
  for (int i = 0; i < 4000000; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const uint32_t low = (uint32_t)(random >> 33) & 0x7fffffu;
    const float b = clnorm_from_bits(clnorm_bits(1.0f) + (i % 8 ? low : 0x7fffffu - low % 64));
    random = random * 6364136223846793005u + 1442695040888963407u;
    const float a = -clnorm_from_bits(clnorm_bits(1.0f) + ((uint32_t)(random >> 33) & 0x7fffffu));
    const float q = clnorm_div(a, b);
    if (!(q < 0 && is_quotient(q, a, b))) fail_msg("div(%a, %a) is %a", a, b, q);
  }
}

/* ---- Counts ------------------------------------------------------------------------------------ */

static void check_count(uint64_t n) {
  volatile uint64_t count = n;
  if (clnorm_count_to_real(n) != (float)count) {
    fail_msg("%llu became %a", (unsigned long long)n, clnorm_count_to_real(n));
  }
}

static void counts_are_correctly_rounded(void **state) {
  (void)state;
  for (uint64_t n = 0; n < (1u << 20); n++) check_count(n);
  for (int shift = 20; shift < 48; shift++) {
    const uint64_t power = (uint64_t)1 << shift;
    for (int64_t d = -2000; d < 2000; d++) {
      check_count(power + (uint64_t)d);
      if (shift < 47) check_count(power + power / 2 + (uint64_t)d);
    }
  }
  uint64_t random = 7;
  for (int i = 0; i < 1000000; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    check_count(random >> 16);
  }
}

/* ---- Segments ---------------------------------------------------------------------------------- */

/* Marks the elements of every segment of channel 0 and of the last channel: each exactly once, and no
 * other. */
static void check_cover(uint64_t batch, uint64_t channels, uint64_t spatial) {
  const clnorm_geometry g = clnorm_geometry_make(batch, channels, spatial);
  const uint64_t total = batch * channels * spatial;
  unsigned char *seen = calloc(total, 1);
  assert_non_null(seen);
  for (uint64_t c = 0; c<channels; c += channels> 1 ? channels - 1 : 1) {
    for (uint32_t i = 0; i < g.segments; i++) {
      const clnorm_segment s = clnorm_segment_at(&g, i);
      assert_true(s.extent >= 1 && s.planes >= 1);
      assert_true((uint64_t)s.planes << g.slot_log2 <= CLNORM_SEGMENT);
      assert_true(s.extent <= 1u << g.slot_log2);
      for (uint32_t k = 0; k < s.planes; k++) {
        const uint64_t at = c * spatial + s.first + k * channels * spatial;
        assert_true(at + s.extent <= total);
        for (uint32_t e = 0; e < s.extent; e++) seen[at + e]++;
      }
    }
  }
  for (uint64_t i = 0; i < total; i++) {
    const uint64_t c = i / spatial % channels;
    if (seen[i] != (c == 0 || c == channels - 1)) {
      fail_msg("%dx%dx%d: element %d seen %d times", (int)batch, (int)channels, (int)spatial,
               (int)i, seen[i]);
    }
  }
  free(seen);
}

static void segments_cover_every_element_once(void **state) {
  (void)state;
  static const uint64_t spatials[] = {1,    2,    3,    4,    5,    7,    8,    16,   49,   63,
                                      64,   65,   196,  255,  256,  257,  511,  512,  513,  784,
                                      1000, 1023, 1024, 1025, 2047, 2048, 2049, 3136, 4097, 12544};
  static const uint64_t batches[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65};
  for (size_t i = 0; i < FIXTURE_LENGTH(spatials); i++) {
    for (size_t k = 0; k < FIXTURE_LENGTH(batches); k++) {
      if (batches[k] * spatials[i] > 100000) continue;
      check_cover(batches[k], 1, spatials[i]);
      check_cover(batches[k], 3, spatials[i]);
    }
  }
  check_cover(2047, 1, 1);
  check_cover(2048, 2, 1);
  check_cover(2049, 2, 1);
  check_cover(5000, 1, 1);
}

typedef struct geometry_row {
  uint64_t batch, spatial;
  uint32_t slot_log2, plane_segments, segments;
} geometry_row;

/* From docs/arithmetic.md: a slot is the smallest power of two >= min(spatial, 2048). */
static const geometry_row geometries[] = {
    {1, 1, 0, 1, 1},
    {2048, 1, 0, 1, 1},
    {2049, 1, 0, 1, 2},
    {1, 2, 1, 1, 1},
    {1024, 2, 1, 1, 1},
    {1025, 2, 1, 1, 2},
    {64, 49, 6, 1, 2},
    {32, 49, 6, 1, 1},
    {33, 64, 6, 1, 2},
    {16, 65, 7, 1, 1},
    {3, 1024, 10, 1, 2},
    {2, 1025, 11, 1, 2},
    {7, 2048, 11, 1, 7},
    {7, 2049, 11, 2, 14},
    {32, 12544, 11, 7, 224},
    {1, 262144, 11, 128, 128},
    {4, 16777216, 11, 8192, 32768},
};

/* Elements of first blocks, by batch, spatial size and segment. */
static void first_blocks_follow_the_rule(void **state) {
  (void)state;
  static const uint32_t rows[][4] = {
      {1, 1, 0, 1},     {2000, 1, 0, 512}, {2049, 1, 1, 1},   {7, 49, 0, 7 * 49},
      {32, 49, 0, 392}, {40, 64, 1, 512},  {5, 200, 0, 400},  {3, 512, 0, 512},
      {3, 513, 0, 512}, {2, 2049, 1, 1},   {2, 2049, 2, 512}, {1, 511, 0, 511},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    const clnorm_geometry g = clnorm_geometry_make(rows[i][0], 3, rows[i][1]);
    const clnorm_segment s = clnorm_segment_at(&g, rows[i][2]);
    assert_int_equal(clnorm_segment_first(&g, &s), rows[i][3]);
  }
}

static void geometry_follows_the_rule(void **state) {
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(geometries); i++) {
    const geometry_row *row = &geometries[i];
    const clnorm_geometry g = clnorm_geometry_make(row->batch, 5, row->spatial);
    if (g.slot_log2 != row->slot_log2 || g.plane_segments != row->plane_segments ||
        g.segments != row->segments) {
      fail_msg("%dx5x%d: slot 2^%u, %u segments a plane, %u in all", (int)row->batch,
               (int)row->spatial, g.slot_log2, g.plane_segments, g.segments);
    }
  }
}

/* Offsets of a tensor with more than 2^32 elements do not wrap. */
static void segments_of_huge_tensors(void **state) {
  (void)state;
  const uint64_t batch = 64, channels = 1024, spatial = 1u << 20; /* 2^36 elements */
  const clnorm_geometry g = clnorm_geometry_make(batch, channels, spatial);
  assert_int_equal(g.segments, 64 * 512);
  const clnorm_segment last = clnorm_segment_at(&g, g.segments - 1);
  assert_true(last.first == 63 * channels * spatial + spatial - CLNORM_SEGMENT);
  assert_int_equal(last.extent, CLNORM_SEGMENT);
  assert_int_equal(last.planes, 1);
}

/* ---- Merge ------------------------------------------------------------------------------------- */

static clnorm_partial partial(uint64_t count, float hi, float lo, float m2) {
  const clnorm_partial p = {.count = count, .hi = hi, .lo = lo, .m2 = m2, .unused = 0};
  return p;
}

static void merge_of_constants_is_the_constant(void **state) {
  (void)state;
  static const uint64_t counts[] = {1, 2, 3, 49, 1000, 1024, 98304, 16777217};
  static const float values[] = {0.0f, 1.0f, -3.7f, 1e30f, 1e-30f};
  for (size_t i = 0; i < FIXTURE_LENGTH(counts); i++) {
    for (size_t k = 0; k < FIXTURE_LENGTH(counts); k++) {
      for (size_t v = 0; v < FIXTURE_LENGTH(values); v++) {
        const clnorm_partial p = clnorm_merge(partial(counts[i], values[v], 0.0f, 0.0f),
                                              partial(counts[k], values[v], 0.0f, 0.0f));
        assert_true(p.count == counts[i] + counts[k]);
        assert_true(clnorm_mean(p.hi, p.lo).hi == values[v] && p.lo == 0.0f && p.m2 == 0.0f);
      }
    }
  }
}

/* The short cut for equal counts gives what the division gives. */
static void equal_counts_weigh_one_half(void **state) {
  (void)state;
  for (uint64_t n = 1; n < (uint64_t)1 << 46; n = n * 3 + 1) {
    assert_true(clnorm_div(clnorm_count_to_real(n), clnorm_count_to_real(2 * n)) == 0.5f);
  }
  const clnorm_partial p =
      clnorm_merge(partial(4, 2.0f, 0.0f, 8.0f), partial(4, 6.0f, 0.0f, 16.0f));
  assert_true(p.hi == 4.0f && p.lo == 0.0f && p.m2 == 8.0f + 16.0f + 4.0f * 4.0f * 2.0f);
}

/* Against double: means and sums of squares of two pools of any size, spread and distance. */
static void merge_agrees_with_double(void **state) {
  (void)state;
  static const uint64_t counts[] = {1, 2, 7, 49, 784, 1024, 12544, 1 << 22};
  static const float means[] = {0.0f, 1.0f, -1.5f, 100.25f, 1e6f};
  for (size_t i = 0; i < FIXTURE_LENGTH(counts) * FIXTURE_LENGTH(counts); i++) {
    for (size_t k = 0; k < FIXTURE_LENGTH(means) * FIXTURE_LENGTH(means); k++) {
      const clnorm_partial a = partial(counts[i % FIXTURE_LENGTH(counts)],
                                       means[k % FIXTURE_LENGTH(means)], 0x1p-28f, 3.5f);
      const clnorm_partial b = partial(counts[i / FIXTURE_LENGTH(counts)],
                                       means[k / FIXTURE_LENGTH(means)], -0x1p-30f, 0.25f);
      const double na = (double)a.count, nb = (double)b.count;
      const double d = ((double)b.hi - a.hi) + ((double)b.lo - a.lo);
      const double mean = a.hi + (a.lo + d * nb / (na + nb));
      const double m2 = (double)a.m2 + b.m2 + d * d * na * nb / (na + nb);
      const clnorm_partial p = clnorm_merge(a, b);
      assert_true(p.count == a.count + b.count);
      fixture_assert_near((double)p.hi + p.lo, mean, fabs(d) + 0x1p-28, 3, "merged mean");
      fixture_assert_near(p.m2, m2, m2, 6, "merged m2");
    }
  }
}

static void merge_passes_nan_on(void **state) {
  (void)state;
  const clnorm_partial good = partial(8, 1.0f, 0.0f, 2.0f);
  const clnorm_partial bad = partial(8, NAN, NAN, NAN);
  assert_true(isnan(clnorm_merge(good, bad).m2) && isnan(clnorm_merge(good, bad).hi));
  assert_true(isnan(clnorm_merge(bad, good).m2) && isnan(clnorm_merge(bad, good).hi));
}

static void partial_make_never_gives_a_negative_variance(void **state) {
  (void)state;
  const clnorm_partial p = clnorm_partial_make(1000, 0.001f, 5.0f, 1.0f, 0.0f);
  assert_true(p.m2 == 0.0f && p.hi == 5.0f + 0.001f && p.count == 1000);
  assert_true((double)p.hi + p.lo == 5.0 + (double)0.001f); /* the mean keeps what hi cannot hold */
  const clnorm_partial nan = clnorm_partial_make(4, 0.25f, NAN, NAN, NAN);
  assert_true(isnan(nan.m2));
  const clnorm_partial zero = clnorm_partial_make(4, 0.25f, 1.0f, -0.0f, 0.0f);
  assert_true(zero.lo == 0.0f && !signbit(zero.lo));
}

/* ---- The settled mean --------------------------------------------------------------------------- */

/* hi + lo in units of 2^unit, exactly. */
static wide_int sum_of(float hi, float lo, int unit) {
  wide_int sum = 0;
  const float terms[] = {hi, lo};
  for (int i = 0; i < 2; i++) {
    const exact e = exact_of(fabsf(terms[i]));
    if (!e.mantissa) continue;
    assert_true(e.exponent >= unit && e.exponent - unit < 100);
    const wide_int term = (wide_int)e.mantissa << (e.exponent - unit);
    sum += terms[i] < 0 ? -term : term;
  }
  return sum;
}

/* The sum is what it was, hi is its nearest float, nothing is left to settle, and no zero is -0. */
static void check_mean(float hi, float lo) {
  const clnorm_two mean = clnorm_mean(hi, lo), again = clnorm_mean(mean.hi, mean.lo);
  volatile float rounded = hi + lo;
  int unit = 127;
  const float all[] = {hi, lo, mean.hi, mean.lo};
  for (int i = 0; i < 4; i++) {
    const exact e = exact_of(fabsf(all[i]));
    if (e.mantissa && e.exponent < unit) unit = e.exponent;
  }
  if (sum_of(hi, lo, unit) != sum_of(mean.hi, mean.lo, unit) || mean.hi != rounded ||
      clnorm_bits(again.hi) != clnorm_bits(mean.hi) ||
      clnorm_bits(again.lo) != clnorm_bits(mean.lo) || clnorm_bits(mean.hi) == 0x80000000u ||
      clnorm_bits(mean.lo) == 0x80000000u)
    fail_msg("mean(%a, %a) is %a + %a, then %a + %a", hi, lo, mean.hi, mean.lo, again.hi, again.lo);
}

/* hi of any binade, lo up to 70 binades below it or 2 above, of either sign: half units of hi, ties and
 * cancellation among them. */
static void mean_of_random_pairs(void **state) {
  (void)state;
  uint64_t random = 11;
  for (int i = 0; i < 4000000; i++) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    const uint32_t bits = (uint32_t)(random >> 32);
    const int field = 1 + (int)(bits >> 8) % 250;
    const uint32_t mantissa = i % 3 ? bits & 0x7fffffu : i % 2 ? 0 : 0x7fffffu;
    const float hi = clnorm_from_bits((bits & 0x80000000u) | (uint32_t)field << 23 | mantissa);
    random = random * 6364136223846793005u + 1442695040888963407u;
    const uint32_t other = (uint32_t)(random >> 32);
    const int below = field + 2 - (int)(other >> 8) % 72;
    const uint32_t low = i % 5 ? other & 0x7fffffu : 0;
    check_mean(hi, clnorm_from_bits((other & 0x80000000u) |
                                    (uint32_t)(below > 0 ? below : 0) << 23 | low));
  }
}

static void mean_of_hard_pairs(void **state) {
  (void)state;
  static const float pairs[][2] = {{1.0f, 0x1p-24f},
                                   {1.0f, 0x1.000002p-24f},
                                   {0x1.000002p0f, 0x1p-24f}, /* ties */
                                   {1.0f, -0x1p-25f},
                                   {1.0f, -0x1.000002p-25f},
                                   {1.0f, -0x1p-24f}, /* below 1 */
                                   {1.0f, -1.0f},
                                   {-1.0f, 0x1.fffffep-1f},
                                   {0x1p-149f, -0x1p-149f},
                                   {0.0f, -0.0f},
                                   {-0.0f, 0.0f},
                                   {-0.0f, -0.0f},
                                   {-0.0f, 3.0f},
                                   {3.0f, -0.0f},
                                   {-0.0f, 0x1p-149f},
                                   {1.0f, 3.0f},
                                   {FLT_MIN, -0x1p-149f},
                                   {FLT_MAX, -0x1p79f},
                                   {FLT_MAX, 0x1p70f}};
  for (size_t i = 0; i < FIXTURE_LENGTH(pairs); i++) {
    check_mean(pairs[i][0], pairs[i][1]);
    check_mean(-pairs[i][0], -pairs[i][1]);
  }
}

static void mean_of_what_is_not_finite(void **state) {
  (void)state;
  const float odd[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < FIXTURE_LENGTH(odd); i++) {
    const clnorm_two mean = clnorm_mean(odd[i], 1.0f);
    assert_true(isnan(odd[i]) ? isnan(mean.hi) : mean.hi == odd[i]);
    assert_true(isnan(mean.lo)); /* so y is NaN, whatever hi is */
    assert_true(isnan(clnorm_mean(odd[i], NAN).hi) && isnan(clnorm_mean(odd[i], NAN).lo));
    assert_true(isnan(clnorm_mean(1.0f, odd[i]).lo));
  }
}

/* ---- Layout shared with the device ------------------------------------------------------------- */

static void structures_have_no_holes(void **state) {
  (void)state;
  assert_int_equal(sizeof(clnorm_partial), 24);
  assert_int_equal(sizeof(clnorm_coefficients), 12);
  assert_int_equal(offsetof(clnorm_call, eps), 40 * 8);
  assert_int_equal(sizeof(clnorm_call), 40 * 8 + 10 * 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rsqrt_is_correctly_rounded_for_all_mantissas),
      cmocka_unit_test(rsqrt_is_correctly_rounded_in_every_binade),
      cmocka_unit_test(rsqrt_is_correctly_rounded_at_the_seams),
      cmocka_unit_test(rsqrt_of_what_is_not_positive),
      cmocka_unit_test(div_is_correctly_rounded_for_the_hardest_divisor),
      cmocka_unit_test(reciprocal_is_correctly_rounded_for_all_divisors),
      cmocka_unit_test(div_is_correctly_rounded_everywhere),
      cmocka_unit_test(div_of_special_values),
      cmocka_unit_test(div_is_the_nearest_quotient_in_integers),
      cmocka_unit_test(counts_are_correctly_rounded),
      cmocka_unit_test(segments_cover_every_element_once),
      cmocka_unit_test(geometry_follows_the_rule),
      cmocka_unit_test(first_blocks_follow_the_rule),
      cmocka_unit_test(segments_of_huge_tensors),
      cmocka_unit_test(merge_of_constants_is_the_constant),
      cmocka_unit_test(equal_counts_weigh_one_half),
      cmocka_unit_test(merge_agrees_with_double),
      cmocka_unit_test(merge_passes_nan_on),
      cmocka_unit_test(partial_make_never_gives_a_negative_variance),
      cmocka_unit_test(mean_of_random_pairs),
      cmocka_unit_test(mean_of_hard_pairs),
      cmocka_unit_test(mean_of_what_is_not_finite),
      cmocka_unit_test(structures_have_no_holes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
