#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "data.h"
#include "networks.h"
#include "pairs.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

const char *const clnorm_suite_names[] = {"edge", "layouts", "resnet50", "mobilenet_v2",
                                          "unet", "smoke",   NULL};

/* Shapes at the corners of the cut into segments of 2048 places: one value, planes just below, at
 * and above a power of two, batches that fill a segment, miss one plane or have one too many. */
static const int64_t edge_shapes[][4] = {
    /* one value, or two, per channel */
    {1, 1, 1, 1},
    {1, 5, 1, 1},
    {2, 1, 1, 1},
    {2, 3, 1, 1},
    {1, 3, 1, 2},
    {3, 2, 1, 1},
    {7, 1, 1, 1},
    /* empty */
    {0, 3, 4, 4},
    {2, 3, 0, 4},
    {2, 3, 4, 0},
    /* a plane of one element: 2048 samples to a segment */
    {33, 7, 1, 1},
    {1023, 1, 1, 1},
    {1024, 2, 1, 1},
    {1025, 3, 1, 1},
    {2047, 2, 1, 1},
    {2048, 1, 1, 1},
    {2049, 1, 1, 1},
    {4, 1000, 1, 1},
    /* vectors of such planes: 64 samples to a row, 512 to a block of rows */
    {64, 16, 1, 1},
    {65, 17, 1, 1},
    {512, 16, 1, 1},
    {513, 20, 1, 1},
    {2049, 16, 1, 1},
    /* small planes */
    {5, 3, 1, 2},
    {513, 2, 2, 1},
    {4, 3, 1, 3},
    {257, 2, 1, 3},
    {3, 4, 1, 5},
    {129, 3, 5, 1},
    {1, 8, 4, 4},
    {2, 70, 2, 2},
    {70, 24, 2, 2},
    {150, 10, 1, 3},
    {9, 40, 4, 4},
    {40, 9, 5, 5},
    {129, 2, 4, 4},
    {65, 5, 1, 32},
    {1, 1, 7, 7},
    {2, 64, 7, 7},
    {8, 20, 7, 7},
    {15, 3, 7, 7},
    {16, 3, 7, 7},
    {17, 5, 7, 7},
    {33, 130, 7, 7},
    {1, 3, 1, 31},
    {32, 2, 31, 1},
    {33, 3, 1, 32},
    {31, 3, 3, 11},
    {1, 2, 7, 9},
    {17, 3, 7, 9},
    {16, 2, 8, 8},
    {33, 2, 8, 8},
    {9, 3, 5, 13},
    {17, 2, 5, 13},
    {8, 2, 1, 127},
    {9, 1, 8, 16},
    {2, 17, 3, 43},
    /* planes that fill each number of rows of 64: of a power of two of them, and alone in a segment */
    {5, 2, 13, 13},
    {3, 2, 17, 17},
    {3, 2, 18, 20},
    {3, 2, 20, 20},
    {1, 2, 24, 26},
    {1, 2, 26, 26},
    {2, 2, 27, 27},
    {2, 2, 28, 28},
    {1, 2, 29, 30},
    {1, 2, 30, 31},
    {1, 32, 14, 14},
    {4, 9, 14, 14},
    {5, 3, 14, 14},
    {9, 2, 14, 14},
    {5, 2, 17, 17},
    {3, 2, 28, 28},
    {2, 3, 1, 257},
    {3, 2, 22, 23},
    {2, 2, 16, 32},
    {3, 3, 19, 27},
    /* planes about one segment and more */
    {1, 1, 31, 33},
    {2, 3, 1, 1023},
    {3, 2, 32, 32},
    {1, 3, 1024, 1},
    {2, 3, 25, 41},
    {5, 1, 1, 1025},
    {1, 2, 1, 2047},
    {3, 2, 32, 64},
    {2, 3, 3, 683},
    {3, 2, 1, 2049},
    {1, 1, 50, 62},
    {2, 2, 64, 64},
    {1, 3, 17, 241},
    {3, 1, 1, 5121},
    {7, 2, 33, 96},
    /* few channels and large planes, and the other way round */
    {1, 1, 256, 256},
    {1, 3, 127, 129},
    {2, 3, 128, 128},
    {1, 3, 224, 224},
    {2, 257, 3, 3},
    {1, 2048, 1, 1},
    {2, 513, 1, 4},
};

/* Shapes that meet every combination of options. */
static const int64_t product_shapes[][4] = {
    {1, 4, 1, 1},   {2, 1, 1, 1},   {3, 5, 1, 1},    {17, 3, 7, 7},
    {5, 3, 14, 14}, {2, 2, 32, 32}, {2, 2, 1, 2049},
};

/* Shapes that meet types and layouts, two of each rank from 2 to 5: channels that are no multiple of a block, and
 * more than one segment in a channel, in one of them in a plane. */
static const int64_t layout_shapes[][4] = {
    {33, 7, 1, 1}, {2050, 19, 1, 1}, {3, 21, 1, 77}, {2, 5, 1, 2100},
    {17, 3, 7, 7}, {3, 18, 27, 29},  {2, 19, 6, 9},  {3, 33, 8, 90},
};

/* Kinds that the large layers of networks take in turn. */
static const clnorm_data network_data[] = {
    CLNORM_DATA_NORMAL, CLNORM_DATA_EXACT,      CLNORM_DATA_OFFSET_1E4, CLNORM_DATA_OUTLIER,
    CLNORM_DATA_NORMAL, CLNORM_DATA_OFFSET_1E2, CLNORM_DATA_NOT_FINITE, CLNORM_DATA_OFFSET_1E6,
};

typedef struct builder {
  clnorm_case *cases;
  size_t count, capacity;
  const char *suite;
  uint64_t seed;
  bool failed;
} builder;

static int64_t elements_per_channel(const int64_t dims[4]) { return dims[0] * dims[2] * dims[3]; }

/* eps and momentum that suit the kind of data. */
static void choose_numbers(clnorm_case *item, uint64_t *state) {
  static const double eps[] = {1e-5, 1e-5, 1e-3, 0.1, 0};
  static const double momentum[] = {0.9, 0.99, 0.5, 0, 1, 0.1};
  static const double exact_momentum[] = {0.5, 0.25, 0.75, 0, 1};
  const bool exact = item->data == CLNORM_DATA_EXACT;
  item->eps = eps[clnorm_random(state) % COUNT(eps)];
  item->momentum = momentum[clnorm_random(state) % COUNT(momentum)];
  if (exact) item->eps = clnorm_exact_eps(elements_per_channel(item->dims));
  if (exact) item->momentum = exact_momentum[clnorm_random(state) % COUNT(exact_momentum)];
}

/* A case with what no suite counts through chosen by its seed, a function of its place in the
 * suite. */
static clnorm_case case_make(const builder *b, const int64_t dims[4], clnorm_statistics statistics,
                             clnorm_data data) {
  uint64_t state = b->seed ^ (b->count + 1) * 0x9e3779b97f4a7c15u;
  clnorm_case item = {.suite = b->suite, .statistics = statistics, .data = data};
  memcpy(item.dims, dims, sizeof item.dims);
  item.seed = clnorm_random(&state);
  item.shift = clnorm_random(&state) % 2 ? (unsigned)(clnorm_random(&state) % 16) : 0;
  item.external_workspace = clnorm_random(&state) % 4 == 0;
  item.variant = (clnorm_cut)(clnorm_random(&state) % 3);
  choose_numbers(&item, &state);
  return item;
}

/* Choices 0 to 95: weight, bias, saved mean, saved invstd, in place, and three ways of running
 * statistics. */
#define NUM_CHOICES 96
static void choose_options(clnorm_case *item, uint64_t choice) {
  const uint64_t running = choice / 32 % 3;
  item->weight = !(choice & 1);
  item->bias = !(choice & 2);
  item->save_mean = !(choice & 4);
  item->save_invstd = !(choice & 8);
  item->save_mean_low = item->save_mean == item->save_invstd;
  item->in_place = choice & 16;
  if (item->statistics == CLNORM_GIVEN_STATISTICS) return;
  item->running = running != 2;
  item->biased_running_var = running == 1;
}

static void add(builder *b, const clnorm_case *item) {
  if (b->count == b->capacity) {
    const size_t capacity = b->capacity ? 2 * b->capacity : 256;
    clnorm_case *cases = realloc(b->cases, capacity * sizeof *cases);
    b->failed = b->failed || !cases;
    if (!cases) return;
    b->cases = cases;
    b->capacity = capacity;
  }
  b->cases[b->count++] = *item;
}

static void add_rotated(builder *b, const int64_t dims[4], clnorm_statistics statistics,
                        clnorm_data data) {
  clnorm_case item = case_make(b, dims, statistics, data);
  uint64_t state = item.seed;
  choose_options(&item, clnorm_random(&state) % NUM_CHOICES);
  add(b, &item);
}

static void add_both_modes(builder *b, const int64_t dims[4], clnorm_data data) {
  add_rotated(b, dims, CLNORM_BATCH_STATISTICS, data);
  add_rotated(b, dims, CLNORM_GIVEN_STATISTICS, data);
}

/* Every shape in training with every kind of data, in evaluation with every third kind. */
static void add_shapes(builder *b) {
  for (size_t s = 0; s < COUNT(edge_shapes); s++)
    for (size_t data = 0; data < CLNORM_NUM_DATA; data++) {
      add_rotated(b, edge_shapes[s], CLNORM_BATCH_STATISTICS, (clnorm_data)data);
      if ((data + s) % 3 == 0)
        add_rotated(b, edge_shapes[s], CLNORM_GIVEN_STATISTICS, (clnorm_data)data);
    }
}

/* Every choice of options in training on two shapes in turn, a third of them in evaluation, where no running
 * statistics are updated: every shape meets every two options (tests/test_reference.c). */
static void add_products(builder *b) {
  enum { SHAPES = COUNT(product_shapes), EACH = 2 };
  for (uint64_t choice = 0; choice < NUM_CHOICES; choice++)
    for (uint64_t k = 0; k < EACH; k++)
      for (int given = 0; given < (choice < NUM_CHOICES / 3 ? 2 : 1); given++) {
        const uint64_t shape = (choice + choice / 2 + k) % SHAPES;
        const clnorm_data data =
            (clnorm_data)((choice + choice / 12 + 5 * shape) % CLNORM_NUM_DATA);
        clnorm_case item =
            case_make(b, product_shapes[shape],
                      given ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS, data);
        choose_options(&item, choice);
        add(b, &item);
      }
}

/* All pairs of types that there are; those of one type first, which can be in place. */
static const struct {
  int32_t x, y;
} layout_types[] = {
    {CLNORM_F32, CLNORM_F32},  {CLNORM_F16, CLNORM_F16},  {CLNORM_BF16, CLNORM_BF16},
    {CLNORM_F64, CLNORM_F64},  {CLNORM_F32, CLNORM_F16},  {CLNORM_F32, CLNORM_BF16},
    {CLNORM_F16, CLNORM_F32},  {CLNORM_F16, CLNORM_BF16}, {CLNORM_BF16, CLNORM_F32},
    {CLNORM_BF16, CLNORM_F16}, {CLNORM_F64, CLNORM_F32},
};
enum { OF_ONE_TYPE = 4, MAX_ROWS = 256 };

/* The options of the suite layouts; the last follows from the others. */
enum { TYPES, X_LAYOUT, Y_LAYOUT, RANK, GIVEN, CUT, FORM, IN_PLACE, PATH, NUM_OPTIONS };
enum { POSITIONS, CHANNELS, GENERAL, NUM_WAYS };

/* Which neighbours in memory a layout has side by side; padded rows: none. */
static int way_of(int layout) {
  switch ((clnorm_layout)layout) {
  case CLNORM_LAYOUT_NCHW:
  case CLNORM_LAYOUT_SLICE:
    return POSITIONS;
  case CLNORM_LAYOUT_PADDED:
    return GENERAL;
  default:
    return CHANNELS;
  }
}

static bool complete_layouts(clnorm_row *row) {
  int *v = row->values;
  if (v[IN_PLACE]) v[Y_LAYOUT] = v[X_LAYOUT];
  v[PATH] = way_of(v[X_LAYOUT]) == way_of(v[Y_LAYOUT]) ? way_of(v[X_LAYOUT]) : GENERAL;
  return !v[IN_PLACE] || v[TYPES] < OF_ONE_TYPE;
}

/* About the program that a device needs: those of evaluation are a part of those of three launches. */
static unsigned program_of_layouts(const clnorm_row *row) {
  const int *v = row->values;
  const unsigned stages = v[GIVEN] || v[CUT] == CLNORM_CUT_SPLIT;
  return (((unsigned)v[TYPES] * NUM_WAYS + (unsigned)v[PATH]) * 2 + (unsigned)v[FORM]) * 2 + stages;
}

static clnorm_case layouts_case(const builder *b, const clnorm_row *row) {
  const int *v = row->values;
  const size_t turn = b->count;
  const int64_t *dims = layout_shapes[2 * v[RANK] + (int)(turn % 2)];
  clnorm_case item =
      case_make(b, dims, v[GIVEN] ? CLNORM_GIVEN_STATISTICS : CLNORM_BATCH_STATISTICS,
                (clnorm_data)(turn % CLNORM_NUM_DATA));
  uint64_t state = item.seed;
  choose_options(&item, clnorm_random(&state) % NUM_CHOICES);
  item.rank = 2 + v[RANK];
  item.x_dtype = layout_types[v[TYPES]].x;
  item.y_dtype = layout_types[v[TYPES]].y;
  item.variant = (clnorm_cut)v[CUT];
  item.form = v[FORM] ? CLNORM_FORM_WIDE : CLNORM_FORM_VECTOR;
  item.x_layout = (clnorm_layout)v[X_LAYOUT];
  item.y_layout = (clnorm_layout)v[Y_LAYOUT];
  item.in_place = v[IN_PLACE];
  return item;
}

/* Cases in which every two of types, layouts, ranks, modes, cuts, forms, paths, in place or not meet
 * (tests/test_place.c). Those of three launches come first: their programs do for evaluation as well. */
static void add_layouts(builder *b) {
  clnorm_pairs pairs = {.options = NUM_OPTIONS,
                        .derived = 1,
                        .sizes = {COUNT(layout_types), CLNORM_NUM_LAYOUTS, CLNORM_NUM_LAYOUTS, 4, 2,
                                  3, 2, 2, NUM_WAYS},
                        .complete = complete_layouts,
                        .costs = program_of_layouts,
                        .random = b->seed};
  clnorm_row rows[MAX_ROWS];
  size_t count = 0;
  while (count < MAX_ROWS && clnorm_pairs_next(&pairs, &rows[count])) count++;
  for (int split = 1; split >= 0; split--)
    for (size_t i = 0; i < count; i++) {
      const int *v = rows[i].values;
      if ((v[CUT] == CLNORM_CUT_SPLIT && !v[GIVEN]) != split) continue;
      const clnorm_case item = layouts_case(b, &rows[i]);
      add(b, &item);
    }
}

static void add_smoke(builder *b) {
  const int64_t largest = 8192;
  for (size_t s = 0; s < COUNT(edge_shapes); s++) {
    const int64_t *dims = edge_shapes[s];
    if (dims[1] * elements_per_channel(dims) <= largest)
      add_both_modes(b, dims, (clnorm_data)(s % CLNORM_NUM_DATA));
  }
}

static void add_network(builder *b, const clnorm_network *network) {
  for (size_t i = 0; i < network->num_layers; i++) {
    const clnorm_layer *layer = &network->layers[i];
    const int64_t dims[4] = {network->verify_batch, layer->channels, layer->height, layer->width};
    add_both_modes(b, dims, network_data[i % COUNT(network_data)]);
  }
}

static bool add_suite(builder *b, const char *name) {
  for (const char *const *known = clnorm_suite_names; *known; known++)
    if (strcmp(name, *known) == 0) b->suite = *known;
  if (!b->suite) return false;
  if (strcmp(name, "edge") == 0) {
    add_shapes(b);
    add_products(b);
  }
  if (strcmp(name, "layouts") == 0) add_layouts(b);
  if (strcmp(name, "smoke") == 0) add_smoke(b);
  for (size_t i = 0; i < clnorm_num_networks; i++)
    if (strcmp(name, clnorm_networks[i].name) == 0) add_network(b, &clnorm_networks[i]);
  return true;
}

static clnorm_case *finish(builder *b, size_t *count) {
  *count = b->count;
  if (!b->failed) return b->cases;
  free(b->cases);
  *count = 1;
  return NULL;
}

clnorm_case *clnorm_suite_cases(const char *suite, uint64_t seed, size_t *count) {
  builder b = {.seed = seed};
  if (strcmp(suite, "all") != 0) {
    add_suite(&b, suite);
    return finish(&b, count);
  }
  for (const char *const *name = clnorm_suite_names; *name; name++)
    if (strcmp(*name, "smoke") != 0) add_suite(&b, *name);
  return finish(&b, count);
}

clnorm_case *clnorm_shape_cases(const int64_t dims[4], uint64_t seed, size_t *count) {
  builder b = {.seed = seed, .suite = "shape"};
  const bool large = dims[1] * elements_per_channel(dims) > (int64_t)1 << 24;
  for (int data = 0; data < CLNORM_NUM_DATA; data++)
    if (!large || data == CLNORM_DATA_EXACT || data == CLNORM_DATA_OFFSET_1E4)
      add_both_modes(&b, dims, (clnorm_data)data);
  return finish(&b, count);
}

/* ---- Tensors --------------------------------------------------------------------------------- */

/* h in two axes, the first of them as small as can be. */
static void part_height(const int64_t dims[4], int64_t parts[CLNORM_MAX_RANK]) {
  int64_t first = 2;
  while (first < dims[2] && dims[2] % first) first++;
  if (dims[2] < 2) first = 1;
  const int64_t all[CLNORM_MAX_RANK] = {dims[0], dims[1], first, dims[2] / first, dims[3]};
  memcpy(parts, all, sizeof all);
}

clnorm_tensor clnorm_case_tensor(const clnorm_case *item, clnorm_role role) {
  const bool x = role == CLNORM_X;
  const int32_t rank = item->rank ? item->rank : 4;
  int64_t dims[CLNORM_MAX_RANK] = {item->dims[0], item->dims[1], item->dims[2], item->dims[3]};
  if (rank == 3) dims[2] *= dims[3];
  if (rank == 5) part_height(item->dims, dims);
  clnorm_tensor tensor;
  clnorm_layout_tensor(&tensor, x ? item->x_layout : item->y_layout,
                       x ? item->x_dtype : item->y_dtype, rank, dims);
  return tensor;
}

bool clnorm_case_may_be_in_place(const clnorm_case *item) {
  return item->x_dtype == item->y_dtype && item->x_layout == item->y_layout;
}

static clnorm_axis_text axis_text(const char *x, const char *y) {
  clnorm_axis_text text;
  const bool same = strcmp(x, y) == 0;
  snprintf(text.text, sizeof text.text, "%s%s%s", x, same ? "" : "->", same ? "" : y);
  return text;
}

clnorm_axis_text clnorm_case_dtype(const clnorm_case *item) {
  return axis_text(clnorm_dtype_name(item->x_dtype), clnorm_dtype_name(item->y_dtype));
}

clnorm_axis_text clnorm_case_layout(const clnorm_case *item) {
  return axis_text(clnorm_layout_name(item->x_layout), clnorm_layout_name(item->y_layout));
}

/* ---- Describing ------------------------------------------------------------------------------ */

const char *clnorm_data_name(clnorm_data data) {
  static const char *const names[] = {
#define CLNORM_DATA_TEXT(name, text) text,
      CLNORM_DATA_LIST(CLNORM_DATA_TEXT)
#undef CLNORM_DATA_TEXT
  };
  return names[data];
}

const char *clnorm_case_mode(const clnorm_case *item) {
  if (item->backward) return "backward";
  return item->statistics == CLNORM_BATCH_STATISTICS ? "train" : "eval";
}

bool clnorm_case_exact(const clnorm_case *item, clnorm_output output) {
  return item->data == CLNORM_DATA_EXACT &&
         (output != CLNORM_OUTPUT_RUNNING_VAR || item->biased_running_var);
}

double clnorm_case_slack(const clnorm_case *item) {
  return item->data == CLNORM_DATA_LEVELS ? 2 : 1;
}

static const char *running_text(const clnorm_case *item) {
  if (!item->running) return "";
  return item->biased_running_var ? " running(biased)" : " running(unbiased)";
}

void clnorm_case_describe(const clnorm_case *item, char *text, size_t size) {
  static const char *const variants[] = {"auto", "channel", "split"};
  snprintf(
      text, size,
      "dtype=%s layout=%s rank=%d data=%s%s%s%s%s%s%s%s%s eps=%g momentum=%g shift=%u variant=%s "
      "seed=0x%016" PRIx64,
      clnorm_case_dtype(item).text, clnorm_case_layout(item).text,
      (int)(item->rank ? item->rank : 4), clnorm_data_name(item->data),
      item->weight ? " weight" : "", item->bias ? " bias" : "", running_text(item),
      item->save_mean ? " saved_mean" : "", item->save_mean_low ? " saved_mean_low" : "",
      item->save_invstd ? " saved_invstd" : "", item->in_place ? " in_place" : "",
      item->external_workspace ? " external_workspace" : "", item->eps, item->momentum, item->shift,
      variants[item->variant], item->seed);
}
