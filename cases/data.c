#include "data.h"

#include <math.h>
#include <stdlib.h>

#include "cases.h"

uint64_t clnorm_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* In [0, count). */
static uint64_t below(uint64_t *state, uint64_t count) { return clnorm_random(state) % count; }

static double uniform(uint64_t *state, double low, double high) {
  return low + (high - low) * (double)(clnorm_random(state) >> 11) * 0x1p-53;
}

/* Mean 0, variance 1, within 3.5: the sum of four uniform numbers, quick and smooth enough. */
static double bell(uint64_t *state) {
  const uint64_t r = clnorm_random(state);
  const double sum =
      (double)((r & 0xffff) + ((r >> 16) & 0xffff) + ((r >> 32) & 0xffff) + (r >> 48));
  return (sum - 2 * 65535.0) * (1.7320508075688772 / 65536.0);
}

/* ---- Exact data ---------------------------------------------------------------------------------
 *
 * Every sum that any order of summation can form is a small integer, and so exact. For the means of
 * parts to be exact as well, each part that docs/arithmetic.md computes a mean of (the first block
 * of a segment, and so the rest of it too) sums to zero: it consists of pairs +a, -a in random
 * order, with zeros between. Pairs of 2 and 1 are dealt out so that the
 * variance of the channel is 2; eps is 2 as well, and 1 / sqrt(4) is exact. Where every part has a
 * power of two of elements, an integer mean is added. Weights and biases are multiples of 1/4. */

static double exact_variance(int64_t elements) { return elements == 1 ? 0 : elements == 2 ? 1 : 2; }

double clnorm_exact_eps(int64_t elements_per_channel) {
  return 4 - exact_variance(elements_per_channel);
}

enum { SEGMENT = 2048, BLOCK = 512 };

/* A part of a channel: `count` elements of a segment, from element `begin` on; the segment has runs of
 * `extent` elements. */
typedef struct part {
  double *first;
  int64_t extent, plane_stride, begin, count;
} part;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Places of a slot: the power of two that holds a plane, or a segment. */
static int64_t slot_of(int64_t spatial) {
  int64_t slot = 1;
  while (slot < spatial && slot < SEGMENT) slot *= 2;
  return slot;
}

/* How many segments a plane has (1 where planes share one), and how many parts a channel: two for
 * each segment. */
static int64_t segments_of_plane(int64_t spatial) { return (spatial + SEGMENT - 1) / SEGMENT; }
static int64_t parts_of_channel(const dense_desc *desc) {
  const int64_t together = SEGMENT / slot_of(desc->spatial);
  return (desc->batch + together - 1) / together * segments_of_plane(desc->spatial) * 2;
}

static part part_at(const dense_desc *desc, double *x, int64_t channel, int64_t index) {
  const int64_t pieces = segments_of_plane(desc->spatial);
  const int64_t slot = slot_of(desc->spatial), segment = index / 2;
  const int64_t n = segment / pieces * (SEGMENT / slot), position = segment % pieces * SEGMENT;
  const int64_t planes = smaller(desc->batch - n, SEGMENT / slot);
  part p;
  p.extent = smaller(desc->spatial - position, SEGMENT);
  p.plane_stride = desc->channels * desc->spatial;
  p.first = x + n * p.plane_stride + channel * desc->spatial + position;
  const int64_t block =
      slot > BLOCK ? smaller(p.extent, BLOCK) : smaller(planes, BLOCK / slot) * p.extent;
  p.begin = index % 2 ? block : 0;
  p.count = index % 2 ? planes * p.extent - block : block;
  return p;
}

static bool power_of_two(int64_t n) { return (n & (n - 1)) == 0; } /* or 0 */

/* What is known of a channel before its values are dealt out. */
typedef struct deal {
  int64_t pairs, twos, ones; /* pairs in all; of which +-2; +-1 */
  bool mean_allowed;
} deal;

static deal deal_make(const dense_desc *desc, double *x) {
  const int64_t count = desc->batch * desc->spatial;
  deal d = {0, count / 4, count % 4, true};
  const int64_t parts = parts_of_channel(desc);
  for (int64_t i = 0; i < parts; i++) {
    const part p = part_at(desc, x, 0, i);
    d.pairs += p.count / 2;
    d.mean_allowed = d.mean_allowed && power_of_two(p.count);
  }
  if (count == 2) d.ones = 1;
  return d;
}

/* +-2 for `twos` pairs spread evenly over all, +-1 for the first `ones` of the others. */
static int pair_value(const deal *d, int64_t index, int64_t *ones_left) {
  if ((index + 1) * d->twos / d->pairs > index * d->twos / d->pairs) return 2;
  if (*ones_left == 0) return 0;
  --*ones_left;
  return 1;
}

static void shuffle(uint64_t *state, double *values, int64_t count) {
  for (int64_t i = count - 1; i > 0; i--) {
    const int64_t j = (int64_t)below(state, (uint64_t)i + 1);
    const double kept = values[i];
    values[i] = values[j];
    values[j] = kept;
  }
}

/* Counts that pairs alone cannot serve. */
static bool deal_by_hand(int64_t count, double *values) {
  static const double three[] = {1, 1, -2}, seven[] = {1, 1, -2, 2, -2, 0, 0};
  if (count != 3 && count != 7) return false;
  for (int64_t i = 0; i < count; i++) values[i] = count == 3 ? three[i] : seven[i];
  return true;
}

static void fill_exact_channel(const dense_desc *desc, double *x, int64_t channel,
                               uint64_t *state) {
  const deal d = deal_make(desc, x);
  const double mean = d.mean_allowed ? (double)below(state, 17) - 8 : 0;
  const int64_t parts = parts_of_channel(desc);
  int64_t pair = 0, ones_left = d.ones;
  double values[SEGMENT];
  for (int64_t i = 0; i < parts; i++) {
    const part p = part_at(desc, x, channel, i);
    for (int64_t k = 0; k < p.count; k++) values[k] = 0;
    if (!deal_by_hand(desc->batch * desc->spatial, values))
      for (int64_t k = 0; k + 1 < p.count; k += 2) {
        values[k] = pair_value(&d, pair++, &ones_left);
        values[k + 1] = -values[k];
      }
    shuffle(state, values, p.count);
    for (int64_t k = 0; k < p.count; k++) {
      const int64_t at = p.begin + k;
      p.first[at / p.extent * p.plane_stride + at % p.extent] = mean + values[k];
    }
  }
}

/* ---- The other kinds ------------------------------------------------------------------------- */

/* Where a real type ends. */
typedef struct ends {
  /* powers of 10: magnitudes of overflow, and of spreads that have something subnormal in between */
  double large[2], tiny[2];
  double largest_spread;
  /* subnormal values are multiples of the smallest, fewer than this many */
  double smallest;
  uint64_t multiples;
} ends;

static const ends ends_of_f32 = {{15, 38}, {-44, -18}, 1e30, 0x1p-149, (uint64_t)1 << 23};
static const ends ends_of_f64 = {{150, 308}, {-323, -150}, 1e240, 0x1p-1074, (uint64_t)1 << 52};

/* What the elements of one channel are drawn from. */
typedef struct source {
  clnorm_data data;
  const ends *real;
  double mean, std;
} source;

static double offset_of(clnorm_data data) {
  return data == CLNORM_DATA_OFFSET_1E2 ? 1e2 : data == CLNORM_DATA_OFFSET_1E4 ? 1e4 : 1e6;
}

static double power(uint64_t *state, const double exponents[2]) {
  return pow(10, uniform(state, exponents[0], exponents[1]));
}

static source source_make(const clnorm_case *item, uint64_t *state) {
  const ends *real = item->x_dtype == CLNORM_F64 ? &ends_of_f64 : &ends_of_f32;
  source s = {item->data, real, uniform(state, -3, 3), uniform(state, 0.25, 4)};
  switch (item->data) {
  case CLNORM_DATA_OFFSET_1E2:
  case CLNORM_DATA_OFFSET_1E4:
  case CLNORM_DATA_OFFSET_1E6:
    s.mean = (s.mean < 0 ? -1 : 1) * uniform(state, 0.5, 0.9) * offset_of(item->data) * s.std;
    break;
  case CLNORM_DATA_CONSTANT:
    if (below(state, 2)) s.mean = 0.1 * (double)(1 + below(state, 30));
    break;
  case CLNORM_DATA_MIXED:
    s.std = 1e14;
    break;
  case CLNORM_DATA_OVERFLOW:
    s.std = real->largest_spread;
    break;
  case CLNORM_DATA_TINY:
    if (below(state, 2)) break; /* an ordinary channel */
    s.std = power(state, real->tiny);
    s.mean *= s.std;
    break;
  case CLNORM_DATA_ZEROS:
  case CLNORM_DATA_SUBNORMAL:
    s.mean = 0;
    s.std = 1;
    break;
  default:
    break;
  }
  return s;
}

static double sign(uint64_t *state) { return clnorm_random(state) >> 63 ? -1 : 1; }

static double element(const source *s, uint64_t *state) {
  static const double mixed[2] = {-15, 15};
  switch (s->data) {
  case CLNORM_DATA_CONSTANT:
    return s->mean;
  case CLNORM_DATA_MIXED:
    return sign(state) * power(state, mixed);
  case CLNORM_DATA_ZEROS:
    return sign(state) * 0.0;
  case CLNORM_DATA_OVERFLOW:
    return sign(state) * power(state, s->real->large);
  case CLNORM_DATA_SUBNORMAL:
    return sign(state) * (double)below(state, s->real->multiples) * s->real->smallest;
  default:
    return s->mean + s->std * bell(state);
  }
}

static void fill_channel(const dense_desc *desc, double *x, int64_t channel, const source *s,
                         uint64_t *state) {
  for (int64_t n = 0; n < desc->batch; n++) {
    double *plane = x + (n * desc->channels + channel) * desc->spatial;
    for (int64_t i = 0; i < desc->spatial; i++) plane[i] = element(s, state);
  }
}

/* Most levels are as long as a first block, and little is added to them. */
static void fill_levels(const dense_desc *desc, double *x, int64_t channel, const source *s,
                        uint64_t *state) {
  uint64_t left = 0;
  double level = 0;
  for (int64_t n = 0; n < desc->batch; n++) {
    double *plane = x + (n * desc->channels + channel) * desc->spatial;
    for (int64_t i = 0; i < desc->spatial; i++, left--) {
      if (left == 0) {
        left = below(state, 4) ? BLOCK : 1 + below(state, 2 * BLOCK);
        level = s->mean + s->std * bell(state);
      }
      plane[i] = level + 1e-3 * s->std * bell(state);
    }
  }
}

/* A random element of a channel. */
static double *pick(const dense_desc *desc, double *x, int64_t channel, uint64_t *state) {
  const int64_t n = (int64_t)below(state, (uint64_t)desc->batch);
  const int64_t i = (int64_t)below(state, (uint64_t)desc->spatial);
  return x + (n * desc->channels + channel) * desc->spatial + i;
}

/* Puts the odd elements of outlier and not_finite data in place. */
static void spoil(const dense_desc *desc, double *x, clnorm_data data, uint64_t *state) {
  const int64_t victim = (int64_t)below(state, (uint64_t)desc->channels);
  if (data == CLNORM_DATA_OUTLIER)
    for (int64_t c = 0; c < desc->channels; c++) *pick(desc, x, c, state) = sign(state) * 1e6;
  if (data == CLNORM_DATA_NOT_FINITE) {
    const uint64_t what = below(state, 4);
    if (what != 1) *pick(desc, x, victim, state) = sign(state) * INFINITY;
    if (what != 2) *pick(desc, x, victim, state) = NAN;
    if (what == 3) *pick(desc, x, victim, state) = INFINITY;
  }
}

/* ---- Per-channel operands -------------------------------------------------------------------- */

typedef struct parameters {
  double *weight, *bias, *running_mean, *running_var;
} parameters;

static void fill_exact_parameters(const clnorm_case *item, const parameters *p, int64_t c,
                                  uint64_t *state) {
  static const double weights[] = {1, -1, 0.5, -0.5, 1.5, 2, -3, 0.25};
  p->weight[c] = weights[below(state, 8)];
  p->bias[c] = ((double)below(state, 17) - 8) / 4;
  p->running_mean[c] = ((double)below(state, 17) - 8) / 4;
  p->running_var[c] = (below(state, 2) ? 4 : 16) - item->eps;
}

static void fill_parameters(const source *s, const parameters *p, int64_t c, uint64_t *state) {
  p->weight[c] = below(state, 8) ? uniform(state, -2, 2) : 0.0;
  p->bias[c] = below(state, 8) ? uniform(state, -1, 1) : -0.0;
  p->running_mean[c] = s->mean + 0.5 * s->std * uniform(state, -1, 1);
  p->running_var[c] = s->std * s->std * uniform(state, 0.5, 2);
  if (s->data == CLNORM_DATA_ZEROS) p->running_mean[c] = sign(state) * 0.0;
  if (s->data == CLNORM_DATA_SUBNORMAL) p->running_mean[c] = 768 * s->real->smallest;
  if (s->data == CLNORM_DATA_OVERFLOW) p->running_var[c] = s->std;
}

static void fill(const clnorm_case *item, const dense_desc *desc, double *x, const parameters *p) {
  const bool empty = desc->batch == 0 || desc->spatial == 0;
  for (int64_t c = 0; c < desc->channels; c++) {
    uint64_t state = item->seed ^ ((uint64_t)c + 1) * 0xd1342543de82ef95u;
    const source s = source_make(item, &state);
    if (item->data == CLNORM_DATA_EXACT) {
      fill_exact_parameters(item, p, c, &state);
      if (!empty) fill_exact_channel(desc, x, c, &state);
    } else {
      fill_parameters(&s, p, c, &state);
      if (!empty && item->data == CLNORM_DATA_LEVELS)
        fill_levels(desc, x, c, &s, &state);
      else if (!empty)
        fill_channel(desc, x, c, &s, &state);
    }
  }
  uint64_t state = item->seed;
  if (!empty && desc->channels > 0) spoil(desc, x, item->data, &state);
}

static void round_all(int32_t dtype, double *values, int64_t count) {
  for (int64_t i = 0; i < count; i++) values[i] = clnorm_rounded(dtype, values[i]);
}

static dense_desc describe(const clnorm_case *item) {
  dense_desc desc = dense_desc_defaults(item->statistics, item->dims[0], item->dims[1],
                                        item->dims[2] * item->dims[3]);
  desc.eps = item->eps;
  desc.biased_running_var = item->biased_running_var;
  desc.external_workspace = item->external_workspace;
  desc.cut = item->variant;
  return desc;
}

bool clnorm_case_operands_make(const clnorm_case *item, clnorm_case_operands *operands) {
  const dense_desc desc = describe(item);
  const int64_t elements = desc.batch * desc.channels * desc.spatial, channels = desc.channels;
  operands->storage = malloc(((size_t)elements + 4 * (size_t)channels + 1) * sizeof(double));
  if (!operands->storage) return false;
  double *x = operands->storage;
  const parameters p = {x + elements, x + elements + channels, x + elements + 2 * channels,
                        x + elements + 3 * channels};
  fill(item, &desc, x, &p);
  const bool running = item->running || item->statistics == CLNORM_GIVEN_STATISTICS;
  clnorm_case_problem *problem = &operands->problem;
  *problem = (clnorm_case_problem){.desc = desc,
                                   .x_dtype = item->x_dtype,
                                   .y_dtype = item->y_dtype,
                                   .momentum = item->momentum,
                                   .x = x,
                                   .weight = item->weight ? p.weight : NULL,
                                   .bias = item->bias ? p.bias : NULL,
                                   .running_mean = running ? p.running_mean : NULL,
                                   .running_var = running ? p.running_var : NULL};
  for (int i = 0; i < 4; i++) problem->dims[i] = item->dims[i];
  round_all(item->x_dtype, x, elements);
  round_all(clnorm_case_problem_real(problem), x + elements, 4 * channels);
  return true;
}

void clnorm_case_operands_free(clnorm_case_operands *operands) {
  free(operands->storage);
  operands->storage = NULL;
}
