/* The bits of results, kept: for a fixed list of cases the hashes of all outputs stand in tests/digests.txt, and
 * every instruction set, variant and number of threads of the CPU path gives them. Other tests compare devices and
 * implementations with each other; this one compares them with the past.
 *   test_digests            compares
 *   test_digests --print    prints the table, as it is to stand in tests/digests.txt
 * What goes in is made with integers and exact conversions alone, and its hash stands in the table as well: where
 * that differs, nothing is said of the arithmetic. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data.h"
#include "storage.h"

/* ---- Cases ------------------------------------------------------------------------------------------ */

typedef enum values_kind {
  NORMAL,
  OFFSET,     /* mean / std about 1e6 */
  CONSTANT,   /* one value a channel, of many digits */
  ZEROS,      /* of both signs */
  OUTLIER,    /* normal, with one value of 2^20 a channel */
  LEVELS,     /* a level for some hundred values, then another */
  MIXED,      /* from 2^-50 to 2^50 */
  HUGE_ONES,  /* up to 2^127: sums and squares overflow in some channels */
  TINY,       /* from 2^-126 to 2^-67 */
  SUBNORMAL,  /* only subnormal values */
  NOT_FINITE, /* normal; channels with a NaN, an infinity, two */
  NUM_KINDS
} values_kind;

static const char *const kind_names[NUM_KINDS] = {"normal",  "offset",    "constant",  "zeros",
                                                  "outlier", "levels",    "mixed",     "huge",
                                                  "tiny",    "subnormal", "not_finite"};

/* options: w weight, b bias, r running statistics, v biased running_var, g given statistics, 0 eps 0 */
typedef struct digest_case {
  int batch, channels, spatial;
  values_kind kind;
  const char *options;
} digest_case;

static const digest_case cases[] = {
    /* one value; rows that samples share, in part and in whole; several segments, in a ragged tree */
    {1, 3, 1, NORMAL, "wbr"},
    {1, 3, 1, NORMAL, "0"},
    {2, 5, 1, NORMAL, "wb"},
    {65, 17, 1, NORMAL, "wbr"},
    {2048, 3, 1, NORMAL, "rv"},
    {2049, 2, 1, NORMAL, "w"},
    {12289, 2, 1, NORMAL, "br"},
    /* planes of up to 64 values: odd ones, (N, C, 7, 7), whole rows, more channels than are taken together */
    {3, 7, 4, NORMAL, "wbr"},
    {4, 130, 9, NORMAL, "wbr"},
    {5, 9, 63, NORMAL, "b"},
    {32, 8, 49, NORMAL, "wbr"},
    {70, 5, 49, NORMAL, "wbrv"},
    {40, 6, 64, NORMAL, ""},
    {300, 3, 25, NORMAL, "wbr"},
    /* larger planes: 1, 4 and 8 rows and more a slot, one segment a plane, several of them */
    {1, 3, 65, NORMAL, "wbr"},
    {17, 4, 100, NORMAL, "wb"},
    {16, 3, 196, NORMAL, "wbr"},
    {7, 3, 300, NORMAL, "r"},
    {9, 3, 784, NORMAL, "wbr"},
    {5, 2, 1025, NORMAL, "wbrv"},
    {3, 2, 2048, NORMAL, "wbr"},
    {2, 3, 2049, NORMAL, "wbr"},
    {4, 2, 5000, NORMAL, "w"},
    {2, 2, 12544, NORMAL, "wbr"},
    {1, 1, 140000, NORMAL, "wbr"},
    /* kinds of values, by both ways of adding */
    {70, 5, 49, OFFSET, "wbr"},
    {3, 3, 3000, OFFSET, "wbr"},
    {70, 5, 49, CONSTANT, "wbr"},
    {3, 5, 3000, CONSTANT, "wbr"},
    {3, 5, 3000, CONSTANT, "wb0"},
    {70, 4, 49, ZEROS, "wbr"},
    {3, 4, 300, ZEROS, "0"},
    {70, 5, 49, OUTLIER, "wbr"},
    {3, 3, 3000, OUTLIER, "wbr"},
    {70, 5, 49, LEVELS, "wbr"},
    {3, 3, 3000, LEVELS, "wbr"},
    {70, 5, 49, MIXED, "wbr"},
    {3, 3, 3000, MIXED, "wbr"},
    {70, 8, 49, HUGE_ONES, "wbr"},
    {3, 8, 3000, HUGE_ONES, "wbr"},
    {70, 8, 49, TINY, "wbr"},
    {3, 8, 3000, TINY, "r0"},
    {70, 4, 49, SUBNORMAL, "wbr"},
    {3, 4, 300, SUBNORMAL, "r0"},
    {70, 6, 49, NOT_FINITE, "wbr"},
    {3, 6, 3000, NOT_FINITE, "wbr"},
    /* given statistics; a running_var of inf and of 0 among them */
    {65, 17, 1, NORMAL, "gwb"},
    {32, 8, 49, NORMAL, "gwb"},
    {9, 9, 784, NORMAL, "g"},
    {3, 9, 300, NORMAL, "gwb0"},
    {3, 5, 3000, OFFSET, "gb"},
    {4, 9, 49, TINY, "gw"},
    {4, 9, 49, NOT_FINITE, "gwb"},
};

static bool has(const digest_case *item, char option) { return strchr(item->options, option); }

/* A device that flushes subnormal values may give other bits. */
static bool is_subnormal(const digest_case *item) {
  return item->kind == TINY || item->kind == SUBNORMAL;
}

/* ---- What goes in ----------------------------------------------------------------------------------- */

enum { WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR, NUM_PARAMETERS };

typedef struct inputs {
  float *x, *parameters[NUM_PARAMETERS];
  size_t elements, channels;
} inputs;

/* About a bell of the width 37837, within 131070. */
static int64_t bell(uint64_t *state) {
  const uint64_t r = clnorm_random(state);
  return (int64_t)((r & 0xffff) + (r >> 16 & 0xffff) + (r >> 32 & 0xffff) + (r >> 48)) - 131070;
}

/* Of any sign and mantissa, with an exponent field in [low, high]. */
static float any_of(uint64_t *state, uint32_t low, uint32_t high) {
  const uint64_t r = clnorm_random(state);
  const uint32_t field = low + (uint32_t)(r >> 32 & 0xffff) % (high - low + 1);
  return clnorm_from_bits((uint32_t)(r >> 63) << 31 | field << 23 | (uint32_t)(r & 0x7fffff));
}

/* What the values of one channel come from. */
typedef struct source {
  uint64_t state;
  int64_t mean, level;
  uint64_t left; /* values that are to have this level */
} source;

static float next(source *s, values_kind kind, size_t c) {
  switch (kind) {
  case OFFSET:
    return (float)(bell(&s->state) + (s->mean < 0 ? -1 : 1) * ((int64_t)1 << 35)) * 0x1p-15f;
  case CONSTANT:
    return clnorm_from_bits(0x3dcccccdu + 0x00345678u * (uint32_t)c);
  case ZEROS:
    return clnorm_from_bits((uint32_t)(clnorm_random(&s->state) >> 63) << 31);
  case LEVELS:
    if (s->left-- == 0) {
      s->left = clnorm_random(&s->state) % 1024;
      s->level = 1024 * bell(&s->state);
    }
    return (float)(s->level + bell(&s->state) / 64) * 0x1p-25f;
  case MIXED:
    return any_of(&s->state, 77, 177);
  case HUGE_ONES:
    return any_of(&s->state, 150, c % 2 ? 254 : 180);
  case TINY:
    return any_of(&s->state, 1, 60);
  case SUBNORMAL:
    return any_of(&s->state, 0, 0);
  default:
    return (float)(bell(&s->state) + s->mean) * 0x1p-15f;
  }
}

/* Places an odd value or two in the channel's first and last plane. */
static void spoil(const digest_case *item, const inputs *in, size_t c) {
  const size_t spatial = (size_t)item->spatial;
  float *first = in->x + c * spatial;
  float *last = in->x + in->elements - (in->channels - c) * spatial + spatial - 1;
  if (item->kind == OUTLIER) *last = 0x1p20f;
  if (item->kind != NOT_FINITE) return;
  if (c % 5 == 1 || c % 5 == 4) *first = CLNORM_INFINITY;
  if (c % 5 == 2) *last = CLNORM_NAN;
  if (c % 5 == 3 || c % 5 == 4) *last = -CLNORM_INFINITY;
}

static void fill_channel(const digest_case *item, const inputs *in, size_t c) {
  source s = {.state = (uint64_t)item->kind << 32 | (uint64_t)c};
  float *const *p = in->parameters;
  p[WEIGHT][c] = c % 8 == 3 ? 0.0f : (float)bell(&s.state) * 0x1p-16f;
  p[BIAS][c] = c % 8 == 2 ? -0.0f : (float)bell(&s.state) * 0x1p-17f;
  p[RUNNING_MEAN][c] = c % 8 == 1 ? -0.0f : (float)bell(&s.state) * 0x1p-16f;
  p[RUNNING_VAR][c] = fabsf(any_of(&s.state, 120, 130));
  if (c == 5) p[RUNNING_VAR][c] = CLNORM_INFINITY;
  if (c == 6) p[RUNNING_VAR][c] = 0.0f;
  s.mean = 4 * bell(&s.state);
  for (size_t n = 0; n < (size_t)item->batch; n++) {
    float *plane = in->x + (n * in->channels + c) * (size_t)item->spatial;
    for (size_t i = 0; i < (size_t)item->spatial; i++) plane[i] = next(&s, item->kind, c);
  }
  spoil(item, in, c);
}

static inputs inputs_make(const digest_case *item) {
  inputs in = {.channels = (size_t)item->channels};
  in.elements = (size_t)item->batch * in.channels * (size_t)item->spatial;
  in.x = malloc((in.elements + NUM_PARAMETERS * in.channels) * sizeof(float));
  assert_non_null(in.x);
  for (int k = 0; k < NUM_PARAMETERS; k++)
    in.parameters[k] = in.x + in.elements + (size_t)k * in.channels;
  for (size_t c = 0; c < in.channels; c++) fill_channel(item, &in, c);
  return in;
}

/* ---- What comes out --------------------------------------------------------------------------------- */

/* FNV-1a (Fowler, Noll and Vo) of the bits, from the lowest byte on. A NaN counts without its payload. */
static uint64_t hash(const float *values, size_t count) {
  uint64_t h = 0xcbf29ce484222325u;
  for (size_t i = 0; i < count; i++) {
    const uint32_t bits = clnorm_bits(isnan(values[i]) ? CLNORM_NAN : values[i]);
    for (int shift = 0; shift < 32; shift += 8) h = (h ^ (bits >> shift & 0xff)) * 0x100000001b3u;
  }
  return h;
}

enum { Y, NEW_MEAN, NEW_VAR, SAVED_MEAN, SAVED_MEAN_LOW, SAVED_INVSTD, NUM_RESULTS };
static const char *const columns[] = {"case",           "inputs",      "y",
                                      "running_mean",   "running_var", "saved_mean",
                                      "saved_mean_low", "saved_invstd"};

typedef struct results {
  float *values[NUM_RESULTS];
  size_t counts[NUM_RESULTS]; /* 0: not written */
} results;

static results results_make(const digest_case *item, const inputs *in) {
  results r = {.counts = {in->elements, 0, 0, in->channels, in->channels, in->channels}};
  if (has(item, 'r')) r.counts[NEW_MEAN] = r.counts[NEW_VAR] = in->channels;
  for (int k = 0; k < NUM_RESULTS; k++) {
    r.values[k] = malloc((r.counts[k] + 1) * sizeof(float));
    assert_non_null(r.values[k]);
  }
  if (!has(item, 'r')) return r;
  memcpy(r.values[NEW_MEAN], in->parameters[RUNNING_MEAN], in->channels * sizeof(float));
  memcpy(r.values[NEW_VAR], in->parameters[RUNNING_VAR], in->channels * sizeof(float));
  return r;
}

static void results_free(results *r) {
  for (int k = 0; k < NUM_RESULTS; k++) free(r->values[k]);
}

/* Nothing else here knows the interface of the operator. split: in three launches. */
static void run(clnorm_context *context, const digest_case *item, const inputs *in, bool split,
                const results *r) {
  const bool given = has(item, 'g');
  const size_t tensor = in->elements * sizeof(float), channel = in->channels * sizeof(float);
  dense_desc desc = dense_desc_defaults(given ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS,
                                        item->batch, item->channels, item->spatial);
  desc.biased_running_var = has(item, 'v');
  if (has(item, '0')) desc.eps = 0;
  if (!given) desc.cut = split ? CLNORM_CUT_SPLIT : CLNORM_CUT_CHANNEL;
  dense_args args = {.x = clnorm_host_memory(in->x, tensor),
                     .y = clnorm_host_memory(r->values[Y], tensor),
                     .saved_mean = clnorm_host_memory(r->values[SAVED_MEAN], channel),
                     .saved_mean_low = clnorm_host_memory(r->values[SAVED_MEAN_LOW], channel),
                     .saved_invstd = clnorm_host_memory(r->values[SAVED_INVSTD], channel),
                     .momentum = 0.9};
  if (has(item, 'w')) args.weight = clnorm_host_memory(in->parameters[WEIGHT], channel);
  if (has(item, 'b')) args.bias = clnorm_host_memory(in->parameters[BIAS], channel);
  if (has(item, 'r')) {
    args.running_mean = clnorm_host_memory(r->values[NEW_MEAN], channel);
    args.running_var = clnorm_host_memory(r->values[NEW_VAR], channel);
  }
  if (given) {
    args.running_mean = clnorm_host_memory(in->parameters[RUNNING_MEAN], channel);
    args.running_var = clnorm_host_memory(in->parameters[RUNNING_VAR], channel);
  }
  clnorm_plan *plan;
  assert_ok(context, dense_plan_create(context, &desc, &plan));
  assert_ok(context, dense_run(plan, &args));
  assert_ok(context, clnorm_finish(context));
  clnorm_plan_destroy(plan);
}

/* ---- The table -------------------------------------------------------------------------------------- */

enum { LINE = 256 };

/* A case's line of the table. */
static void describe(clnorm_context *context, const digest_case *item, bool split, char *line) {
  const inputs in = inputs_make(item);
  results r = results_make(item, &in);
  run(context, item, &in, split, &r);
  int at = snprintf(line, LINE, "%dx%dx%d/%s/%s %016llx", item->batch, item->channels,
                    item->spatial, kind_names[item->kind], item->options,
                    (unsigned long long)hash(in.x, in.elements + NUM_PARAMETERS * in.channels));
  for (int k = 0; k < NUM_RESULTS; k++)
    if (r.counts[k])
      at += snprintf(line + at, (size_t)(LINE - at), " %016llx",
                     (unsigned long long)hash(r.values[k], r.counts[k]));
    else
      at += snprintf(line + at, (size_t)(LINE - at), " -");
  results_free(&r);
  free(in.x);
}

static void first_line(char *line) { snprintf(line, LINE, "arithmetic %d", CLNORM_ARITHMETIC); }

static clnorm_context *open_cpu(clnorm_isa isa, int threads) {
  clnorm_context_options options = dense_context_options();
  clnorm_context *context = NULL;
  options.isa = isa;
  options.num_threads = threads;
  clnorm_context_create("cpu", &options, &context, NULL);
  return context;
}

static int print_table(void) {
  char line[LINE];
  clnorm_context *context = open_cpu(CLNORM_ISA_PLAIN, 1);
  if (!context) return 1;
  first_line(line);
  printf("%s\n#", line);
  for (size_t k = 0; k < FIXTURE_LENGTH(columns); k++) printf(" %s", columns[k]);
  printf("\n");
  for (size_t i = 0; i < FIXTURE_LENGTH(cases); i++) {
    describe(context, &cases[i], false, line);
    printf("%s\n", line);
  }
  clnorm_context_destroy(context);
  return 0;
}

#define PRINT_IT "print the table anew (test_digests --print > tests/digests.txt)"

/* The next line that is no comment; "" at the end. */
static void read_line(FILE *table, char *line) {
  do {
    if (!fgets(line, LINE, table)) line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
  } while (line[0] == '#');
}

/* Fails with the column that differs and what follows from it. where: what was run. */
static void check_line(const char *where, const char *expected, const char *actual) {
  size_t column = 0;
  const int name = (int)strcspn(actual, " ");
  const char *e = expected, *a = actual;
  for (; *e && *a && *e == *a; e++, a++) column += *a == ' ';
  if (*e == *a) return;
  if (column == 0)
    fail_msg("%.*s: the table has '%s' here. Where cases were added or changed, " PRINT_IT, name,
             actual, expected);
  if (column == 1)
    fail_msg(
        "%.*s: what goes in has other bits than it had, which says nothing of the arithmetic. Mend "
        "the generator; where the case was changed, " PRINT_IT,
        name, actual);
  fail_msg(
      "%.*s, %s: %s has other bits than the table. Where that is meant, this is another "
      "arithmetic: "
      "change CLNORM_ARITHMETIC (kernels/base.h), say in docs/arithmetic.md what is different, and "
      "then " PRINT_IT,
      name, actual, where, columns[column]);
}

static void check_table(clnorm_context *context, bool split) {
  char expected[LINE], actual[LINE], where[LINE];
  int left_out = 0;
  const bool keeps = clnorm_context_device(context)->denormals;
  FILE *table = fopen(CLNORM_TEST_DIGESTS, "r");
  if (!table) fail_msg("%s: cannot be read", CLNORM_TEST_DIGESTS);
  snprintf(where, sizeof where, "%.200s, %s", clnorm_context_description(context),
           split ? "in three launches" : "in one launch");
  first_line(actual);
  read_line(table, expected);
  if (strcmp(expected, actual) != 0)
    fail_msg("the table is of '%s', the code of '%s': " PRINT_IT, expected, actual);
  for (size_t i = 0; i < FIXTURE_LENGTH(cases); i++) {
    read_line(table, expected);
    if (is_subnormal(&cases[i]) && !keeps) {
      left_out++;
      continue;
    }
    describe(context, &cases[i], split, actual);
    check_line(where, expected, actual);
  }
  read_line(table, expected);
  if (expected[0]) fail_msg("the table has a case too many: '%s'", expected);
  fclose(table);
  print_message("%s: %zu cases are as they were, %d left out (subnormal values are flushed)\n",
                where, FIXTURE_LENGTH(cases) - (size_t)left_out, left_out);
}

/* ---- Tests ------------------------------------------------------------------------------------------ */

static void results_have_the_bits_of_the_table(void **state) {
  static const clnorm_isa isas[] = {CLNORM_ISA_AUTO, CLNORM_ISA_PLAIN, CLNORM_ISA_AVX2,
                                    CLNORM_ISA_AVX512};
  static const char *const names[] = {"auto", "plain", "AVX2", "AVX-512"};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(isas); i++)
    for (int threads = 1; threads <= 3; threads += 2) {
      clnorm_context *context = open_cpu(isas[i], threads);
      if (!context) {
        if (isas[i] <= CLNORM_ISA_PLAIN) fail_msg("the CPU path (%s) does not open", names[i]);
        print_message("%s is not here\n", names[i]);
        break;
      }
      check_table(context, false);
      check_table(context, true);
      clnorm_context_destroy(context);
    }
}

/* A hash that does not see a bit, or sees what is not promised, would make the table worthless. */
static void the_hash_sees_every_bit_but_payloads(void **state) {
  (void)state;
  const float values[] = {1.0f, 0.0f, -2.5f};
  for (int k = 0; k < 3; k++)
    for (int bit = 0; bit < 32; bit++) {
      float other[] = {values[0], values[1], values[2]};
      other[k] = clnorm_from_bits(clnorm_bits(values[k]) ^ (uint32_t)1 << bit);
      assert_true(hash(other, 3) != hash(values, 3));
    }
  const float nan = clnorm_from_bits(0xffc12345u), quiet = CLNORM_NAN;
  assert_true(hash(&nan, 1) == hash(&quiet, 1));
}

int main(int argc, char **argv) {
  if (argc == 2 && strcmp(argv[1], "--print") == 0) return print_table();
  if (argc != 1) {
    fprintf(stderr, "usage: test_digests [--print]\n");
    return 2;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_hash_sees_every_bit_but_payloads),
      cmocka_unit_test(results_have_the_bits_of_the_table),
  };
  return cmocka_run_group_tests_name("digests", tests, NULL, NULL);
}
