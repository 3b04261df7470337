/* Shape arithmetic as a table: products, overflow, and that every schedule covers its tensor once. */
#include "fixture.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "caches.h"
#include "planned_schedule.h"
#include "tensor.h"
#include "tiles.h"

static void test_products(void **state) {
  static const struct {
    int64_t factors[4];
    bool fits;
    int64_t product;
  } rows[] = {
      {{1, 1, 1, 1}, true, 1},
      {{0, INT64_MAX, INT64_MAX, 4}, true, 0},
      {{INT64_MAX, INT64_MAX, 4, 0}, true, 0},
      {{INT64_MAX, 1, 1, 1}, true, INT64_MAX},
      {{INT64_MAX, 1, 1, 2}, false, 0},
      {{INT64_C(1) << 31, INT64_C(1) << 31, 1, 1}, true, INT64_C(1) << 62},
      {{INT64_C(1) << 31, INT64_C(1) << 31, 2, 1}, false, 0},
      {{INT64_C(1) << 32, INT64_C(1) << 32, 1, 1}, false, 0},
      {{3037000500, 3037000500, 1, 1}, false, 0},
      {{3037000499, 3037000499, 1, 1}, true, INT64_C(9223372030926249001)},
  };
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    int64_t product = -1;
    assert_int_equal(rows[i].fits, clnorm__checked_product(rows[i].factors, 4, &product));
    assert_int_equal(rows[i].fits ? rows[i].product : -1, product);
  }
}

/* What a plan makes of sizes that overflow: the status, and words of the message. */
static void test_overflow(void **state) {
  static const struct {
    int64_t batch, channels, spatial;
    clnorm_status status;
    const char *words;
  } rows[] = {
      {INT64_MAX, 2, 1, CLNORM_ERROR_OVERFLOW, "9223372036854775807|63 bits"},
      {INT64_C(1) << 21, INT64_C(1) << 21, INT64_C(1) << 21, CLNORM_ERROR_OVERFLOW, "63 bits"},
      {1, 1, INT64_C(1) << 62, CLNORM_ERROR_OVERFLOW, "4611686018427387904|63 bits"},
      {INT64_C(1) << 41, 1, 1, CLNORM_ERROR_OVERFLOW, "2199023255552 x 1|2^40"},
      {3, 1, INT64_C(1) << 39, CLNORM_ERROR_OVERFLOW, "3 x 549755813888|2^40"},
      {-1, 1, 1, CLNORM_ERROR_INVALID_ARGUMENT, "x.dims[0] is -1|negative"},
      {1, -2, 1, CLNORM_ERROR_INVALID_ARGUMENT, "x.dims[1] is -2|negative"},
      {1, 1, INT64_MIN, CLNORM_ERROR_INVALID_ARGUMENT,
       "x.dims[2] is -9223372036854775808|negative"},
  };
  (void)state;
  clnorm_context *context = fixture_open_with("cpu", NULL);
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_plan *plan;
    const dense_desc desc = dense_desc_defaults(CLNORM_GIVEN_STATISTICS, rows[i].batch,
                                                rows[i].channels, rows[i].spatial);
    const clnorm_status status = dense_plan_create(context, &desc, &plan);
    fixture_rejected(clnorm_last_error(context), status, rows[i].status, rows[i].words, "overflow");
    assert_null(plan);
  }
  clnorm_context_destroy(context);
}

/* Strides lead further than the elements do: the end that still fits, and the one that does not. */
static void test_ends(void **state) {
  static const struct {
    int32_t dtype;
    int64_t dims[3], strides[3];
    uint64_t bytes;
  } rows[] = {
      {CLNORM_F32, {2, 1, 1}, {(INT64_C(1) << 61) - 2, 1, 1}, UINT64_C(0x7ffffffffffffffc)},
      {CLNORM_F32, {2, 1, 1}, {(INT64_C(1) << 61) - 1, 1, 1}, 0},
      {CLNORM_F16, {2, 1, 1}, {(INT64_C(1) << 61) - 1, 1, 1}, UINT64_C(1) << 62},
      {CLNORM_F64, {2, 1, 1}, {(INT64_C(1) << 60) - 2, 1, 1}, UINT64_C(0x7ffffffffffffff8)},
      {CLNORM_F64, {2, 1, 1}, {(INT64_C(1) << 60) - 1, 1, 1}, 0},
      {CLNORM_F32, {3, 1, 1}, {INT64_MAX, 1, 1}, 0},
      {CLNORM_F32, {2, 2, 2}, {INT64_C(1) << 62, INT64_C(1) << 62, 1}, 0},
      {CLNORM_F32, {1, 1, 1}, {INT64_MAX, INT64_MAX, INT64_MAX}, 4},
      {CLNORM_F32, {0, 3, 4}, {INT64_MAX, INT64_MAX, INT64_MAX}, 0},
  };
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_tensor tensor;
    clnorm_tensor_nchw(&tensor, rows[i].dtype, 3, rows[i].dims);
    memcpy(tensor.strides, rows[i].strides, sizeof rows[i].strides);
    if (clnorm_tensor_bytes(&tensor) != rows[i].bytes)
      fail_msg("row %zu: %llu bytes", i, (unsigned long long)clnorm_tensor_bytes(&tensor));
  }
}

/* Sizes that no machine holds still have a schedule. */
static void test_huge(void **state) {
  const clnorm_traits traits = {CLNORM_FORM_WIDE, 128, 256, 1 << 22, 1 << 22, 0, 2};
  const int64_t shapes[][3] = {{INT64_C(1) << 40, 1, 1},
                               {1, 3, INT64_C(1) << 40},
                               {INT64_C(1) << 31, 4, 7},
                               {1, INT64_C(1) << 40, 2},
                               {INT64_C(1) << 20, 64, INT64_C(1) << 20}};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(shapes); i++) {
    const dense_desc desc =
        dense_desc_defaults(CLNORM_BATCH_STATISTICS, shapes[i][0], shapes[i][1], shapes[i][2]);
    const clnorm_schedule s = planned_schedule(&desc, &traits);
    assert_true(s.num_launches >= 1 && s.num_launches <= 3);
    assert_true(s.call.channels_each >= 1 && s.call.channels_each <= CLNORM_CHANNELS_MAX);
    assert_true(s.call.chunks <= traits.group_size);
  }
}

/* Every element lies in one tile, and in one node of its channel. */
static void check_cover(const dense_desc *desc, const clnorm_traits *traits) {
  const size_t total = (size_t)(desc->batch * desc->channels * desc->spatial);
  unsigned char seen[70000];
  assert_true(total >= 1 && total <= sizeof seen);
  const clnorm_schedule s = planned_schedule(desc, traits);
  memset(seen, 0, sizeof seen);
  for (unsigned l = 0; l < s.num_launches; l++) {
    if (s.launches[l].stage == CLNORM_STAGE_CHANNEL)
      assert_true(s.launches[l].items * s.call.channels_each >= s.call.channels &&
                  (s.launches[l].items - 1) * s.call.channels_each < s.call.channels);
    if (s.launches[l].stage == CLNORM_STAGE_PARTIALS)
      assert_int_equal(s.launches[l].items,
                       s.call.chunks * (s.key.form == CLNORM_FORM_WIDE
                                            ? s.call.channels
                                            : (s.call.channels + s.call.channels_each - 1) /
                                                  s.call.channels_each));
    if (s.launches[l].stage != CLNORM_STAGE_APPLY) continue;
    for (uint64_t i = 0; i < s.launches[l].items; i++) {
      const clnorm_tile t = clnorm_tile_at(&s.call, i);
      assert_true(t.c1 > t.c0 && t.n1 > t.n0 && t.p1 > t.p0);
      for (uint64_t n = t.n0; n < t.n1; n++)
        for (uint64_t c = t.c0; c < t.c1; c++)
          for (uint64_t p = t.p0; p < t.p1; p++)
            seen[(n * s.call.channels + c) * s.call.spatial + p]++;
    }
    for (size_t i = 0; i < total; i++) assert_int_equal(seen[i], 1);
  }
}

static void test_cover(void **state) {
  static const int64_t shapes[][3] = {{1, 1, 2},   {2, 3, 5},    {7, 130, 1},   {32, 5, 49},
                                      {3, 2, 196}, {1, 3, 4097}, {2, 1, 20000}, {1, 700, 9},
                                      {33, 1, 33}, {1, 1, 65536}};
  static const clnorm_traits traits[] = {
      {CLNORM_FORM_VECTOR, 1, 1, 1 << 22, 1 << 22, 1 << 20, 4},
      {CLNORM_FORM_VECTOR, 2, 1, 1, 1, 1 << 20, 1e6},
      {CLNORM_FORM_VECTOR, 64, 1, 1 << 22, 1 << 22, 1 << 20, 0.5},
      {CLNORM_FORM_WIDE, 4, 64, 0, 0, 0, 2},
      {CLNORM_FORM_WIDE, 128, 256, 0, 0, 0, 16}};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(shapes); i++)
    for (size_t k = 0; k < FIXTURE_LENGTH(traits); k++)
      for (int variant = 0; variant <= CLNORM_CUT_SPLIT; variant++)
        for (int statistics = 0; statistics <= CLNORM_GIVEN_STATISTICS; statistics++) {
          dense_desc desc = dense_desc_defaults((clnorm_statistics)statistics, shapes[i][0],
                                                shapes[i][1], shapes[i][2]);
          desc.cut = (clnorm_cut)variant;
          check_cover(&desc, &traits[k]);
        }
}

/* Channels go together, and a copy is one plane, only where planes touch in x and in y, and only on the path that
 * is made of planes. */
static void test_views(void **state) {
  static const struct {
    uint64_t x_channel, y_channel, x_sample, y_sample;
    clnorm_path path;
    bool together, one_plane;
  } rows[] = {
      {49, 49, 64 * 49, 64 * 49, CLNORM_PATH_POSITIONS, true, true},
      {49, 49, 64 * 49, 99 * 49, CLNORM_PATH_POSITIONS, true, false},
      {49, 49, 65 * 49, 64 * 49, CLNORM_PATH_POSITIONS, true, false},
      {50, 49, 64 * 50, 64 * 49, CLNORM_PATH_POSITIONS, false, false},
      {49, 50, 64 * 49, 64 * 50, CLNORM_PATH_POSITIONS, false, false},
      {49, 49, 64 * 49, 64 * 49, CLNORM_PATH_GENERAL, false, false},
  };
  static const int32_t statistics[] = {CLNORM_BATCH_STATISTICS, CLNORM_GIVEN_STATISTICS,
                                       DENSE_COPY};
  const clnorm_traits traits = {CLNORM_FORM_VECTOR, 2, 1, 1 << 22, 1 << 22, 1 << 20, 4};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++)
    for (size_t k = 0; k < FIXTURE_LENGTH(statistics); k++) {
      const dense_desc desc = dense_desc_defaults(statistics[k], 32, 64, 49);
      clnorm_work work = planned_work(&desc);
      work.path = rows[i].path;
      work.call.views[CLNORM_VIEW_X].channel = rows[i].x_channel;
      work.call.views[CLNORM_VIEW_Y].channel = rows[i].y_channel;
      work.call.views[CLNORM_VIEW_X].sample = rows[i].x_sample;
      work.call.views[CLNORM_VIEW_Y].sample = rows[i].y_sample;
      const clnorm_schedule s = clnorm__schedule_make(&work, &traits);
      const bool copy = statistics[k] == DENSE_COPY;
      assert_int_equal(s.call.batch == 1, copy && rows[i].one_plane);
      if (s.call.batch > 1) assert_int_equal(s.call.channels_each > 1, rows[i].together);
    }
}

static void test_nothing_to_do(void **state) {
  const clnorm_traits traits = {CLNORM_FORM_VECTOR, 2, 1, 1 << 22, 1 << 22, 1 << 20, 4};
  const int64_t shapes[][3] = {{0, 3, 4}, {2, 0, 4}, {2, 3, 0}, {0, INT64_MAX, INT64_MAX}};
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(shapes); i++) {
    const dense_desc desc =
        dense_desc_defaults(CLNORM_BATCH_STATISTICS, shapes[i][0], shapes[i][1], shapes[i][2]);
    const clnorm_schedule s = planned_schedule(&desc, &traits);
    assert_int_equal(s.num_launches, 0);
    assert_int_equal(s.workspace_size, 0);
  }
}

/* ---- Stores ---------------------------------------------------------------------------------------- */

#define KIB(n) (UINT64_C(n) << 10)
#define MIB(n) (UINT64_C(n) << 20)

static bool streams(const clnorm_traits *traits, int32_t statistics, int64_t kib,
                    clnorm_store store) {
  dense_desc desc = dense_desc_defaults(statistics, kib, 4, 64);
  desc.store = store;
  return (planned_schedule(&desc, traits).call.flags & CLNORM_STREAMED) != 0;
}

/* Up to which size, in KiB, outputs are written through the caches, by rule. */
static void test_stores(void **state) {
  static const struct {
    clnorm_caches caches;
    int64_t largest_eval, largest_train;
  } rows[] = {
      {{MIB(1), MIB(32)}, 16384, 12287},  /* two of eight processors of an AMD EPYC */
      {{MIB(2), MIB(105)}, 53760, 40319}, /* an Intel Xeon */
      {{KIB(256), MIB(4)}, 2048, 1535},   /* a small one */
  };
  (void)state;
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    clnorm_traits traits = {.form = CLNORM_FORM_VECTOR, .workers = 2, .group_size = 1};
    traits.split_below = 4;
    clnorm__traits_set_caches(&traits, rows[i].caches);
    assert_int_equal(traits.cache_bytes, rows[i].caches.second);
    for (int statistics = 0; statistics <= DENSE_COPY; statistics++) {
      const int32_t s = statistics;
      const int64_t largest =
          s == CLNORM_BATCH_STATISTICS ? rows[i].largest_train : rows[i].largest_eval;
      assert_false(streams(&traits, s, 1, CLNORM_STORE_AUTO));
      assert_false(streams(&traits, s, largest, CLNORM_STORE_AUTO));
      assert_true(streams(&traits, s, largest + 1, CLNORM_STORE_AUTO));
      assert_true(streams(&traits, s, 1, CLNORM_STORE_STREAMED));
      assert_false(streams(&traits, s, largest + 1, CLNORM_STORE_CACHED));
    }
    traits.form = CLNORM_FORM_WIDE;
    traits.group_size = 64;
    assert_false(streams(&traits, CLNORM_GIVEN_STATISTICS, 1 << 20, CLNORM_STORE_AUTO));
    assert_false(streams(&traits, CLNORM_GIVEN_STATISTICS, 1, CLNORM_STORE_STREAMED));
  }
}

/* ---- Caches ---------------------------------------------------------------------------------------- */

/* What a system tells of one processor's cache. */
typedef struct told_cache {
  int processor, index, level;
  const char *type, *size;
} told_cache;

static const char *const folder = CLNORM_TEST_BINARY_DIR "/caches";

static void write_member(const char *place, const char *name, const char *text) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", place, name);
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fprintf(file, "%s\n", text);
  fclose(file);
}

static void tell(const char *machine, const told_cache *c) {
  char place[512], level[16];
  snprintf(place, sizeof place, "%s/%s/cpu%d/cache/index%d", folder, machine, c->processor,
           c->index);
  for (char *slash = place + strlen(folder); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    mkdir(place, 0700);
    *slash = '/';
  }
  mkdir(place, 0700);
  snprintf(level, sizeof level, "%d", c->level);
  write_member(place, "level", level);
  write_member(place, "type", c->type);
  write_member(place, "size", c->size);
}

static void test_caches(void **state) {
  static const told_cache two[] = {
      {0, 0, 1, "Data", "32K"},      {0, 1, 1, "Instruction", "32K"},
      {0, 2, 2, "Unified", "1024K"}, {0, 3, 3, "Unified", "32768K"},
      {1, 0, 1, "Data", "32K"},      {1, 1, 1, "Instruction", "32K"},
      {1, 2, 2, "Unified", "1024K"}, {1, 3, 3, "Unified", "32768K"},
  };
  static const told_cache four[] = {
      /* two last caches; the second has another number for its caches */
      {0, 0, 2, "Unified", "512K"},
      {0, 1, 3, "Unified", "16M"},
      {1, 0, 3, "Unified", "8M"},
      {1, 1, 2, "Unified", "256K"},
  };
  static const told_cache none[] = {
      {0, 0, 1, "Data", "32K"}, {0, 1, 2, "Unified", ""}, {0, 2, 3, "Unified", "0K"}};
  (void)state;
  mkdir(folder, 0700);
  for (size_t i = 0; i < FIXTURE_LENGTH(two); i++) tell("two", &two[i]);
  for (size_t i = 0; i < FIXTURE_LENGTH(four); i++) tell("four", &four[i]);
  for (size_t i = 0; i < FIXTURE_LENGTH(none); i++) tell("none", &none[i]);
  static const struct {
    const char *machine;
    int processor;
    clnorm_caches expected;
  } rows[] = {
      {"two", 0, {MIB(1), MIB(32)}},    {"two", 1, {MIB(1), MIB(32)}},   {"two", 2, {0, 0}},
      {"four", 0, {KIB(512), MIB(16)}}, {"four", 1, {KIB(256), MIB(8)}}, {"none", 0, {0, 0}},
      {"nowhere", 0, {0, 0}},
  };
  for (size_t i = 0; i < FIXTURE_LENGTH(rows); i++) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, rows[i].machine);
    const clnorm_caches found = clnorm__caches_read(path, rows[i].processor);
    assert_int_equal(found.second, rows[i].expected.second);
    assert_int_equal(found.last, rows[i].expected.last);
  }
}

/* This machine's, whatever they are. */
static void test_own_caches(void **state) {
  (void)state;
  for (unsigned workers = 1; workers <= 1024; workers *= 4) {
    const clnorm_caches found = clnorm__caches_find(workers);
    assert_true(found.second > 0);
    assert_true(found.last >= found.second);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_products),      cmocka_unit_test(test_overflow),
      cmocka_unit_test(test_ends),          cmocka_unit_test(test_huge),
      cmocka_unit_test(test_cover),         cmocka_unit_test(test_views),
      cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_stores),
      cmocka_unit_test(test_caches),        cmocka_unit_test(test_own_caches),
  };
  return cmocka_run_group_tests_name("schedule", tests, NULL, NULL);
}
