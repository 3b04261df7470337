#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 }; /* floats on each side; 256 bytes keep the view aligned for every device */
static const uint32_t canary = 0x7fc0ffeeu;

/* ---- The device -------------------------------------------------------------------------------- */

/* Index of the variable's value in names; 0 where it is unset. */
static int choice(const char *variable, const char *const *names, int count) {
  const char *value = getenv(variable);
  if (value == NULL || value[0] == '\0') return 0;
  for (int i = 0; i < count; i++) {
    if (strcmp(value, names[i]) == 0) return i;
  }
  fail_msg("%s is '%s', which this test does not know", variable, value);
  return 0;
}

clnorm_context_options fixture_options(void) {
  static const char *const forms[] = {"auto", "vector", "wide"};
  static const char *const isas[] = {"auto", "plain", "avx2", "avx512"};
  clnorm_context_options options = dense_context_options();
  options.form = (clnorm_form)choice("CLNORM_TEST_FORM", forms, 3);
  options.isa = (clnorm_isa)choice("CLNORM_TEST_ISA", isas, 4);
  const char *threads = getenv("CLNORM_TEST_THREADS");
  if (threads != NULL) options.num_threads = atoi(threads);
  return options;
}

const char *fixture_device(void) {
  const char *device = getenv("CLNORM_TEST_DEVICE");
  return device != NULL && device[0] != '\0' ? device : "cpu";
}

void fixture_leave_out(void) {
  const char *name = getenv("CLNORM_TEST_LEAVE_OUT");
  if (name && name[0]) cmocka_set_skip_filter(name);
}

clnorm_context *fixture_open_with(const char *device, const clnorm_context_options *options) {
  clnorm_context *context = NULL;
  clnorm_message message;
  const clnorm_status status = clnorm_context_create(device, options, &context, &message);
  if (status != CLNORM_OK) {
    fail_msg("device '%s': %s: %s", device, clnorm_status_name(status), message.text);
  }
  return context;
}

clnorm_context *fixture_open(void) {
  const clnorm_context_options options = fixture_options();
  return fixture_open_with(fixture_device(), &options);
}

bool fixture_is_opencl(const clnorm_context *context) {
  return strcmp(clnorm_context_device(context)->id, "cpu") != 0;
}

void fixture_ok(const clnorm_context *context, clnorm_status status, const char *what) {
  if (status != CLNORM_OK) {
    fail_msg("%s: %s: %s", what, clnorm_status_name(status), clnorm_last_error(context));
  }
}

void fixture_rejected(const char *text, clnorm_status status, clnorm_status expected,
                      const char *words, const char *row) {
  if (status != expected) {
    fail_msg("%s: expected %s, got %s (%s)", row, clnorm_status_name(expected),
             clnorm_status_name(status), text);
  }
  char word[128];
  while (*words != '\0') {
    const size_t length = strcspn(words, "|");
    snprintf(word, sizeof word, "%.*s", (int)length, words);
    if (strstr(text, word) == NULL) fail_msg("%s: no '%s' in '%s'", row, word, text);
    words += length + (words[length] == '|');
  }
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static float *filled(size_t count, uint32_t bits) {
  if (count >= PTRDIFF_MAX / sizeof(uint32_t)) fail_msg("%zu floats are too many", count);
  uint32_t *values = malloc((count + 1) * sizeof(uint32_t));
  assert_non_null(values);
  for (size_t i = 0; i < count; i++) values[i] = bits;
  return (float *)values;
}

fixture_tensor fixture_tensor_make(clnorm_context *context, const float *values, size_t count) {
  fixture_tensor tensor = {.count = count};
  const size_t total = count + 2 * GUARD;
  float *image = filled(total, canary);
  if (values != NULL) {
    memcpy(image + GUARD, values, count * sizeof(float));
  } else {
    float *poison = filled(count, FIXTURE_POISON);
    memcpy(image + GUARD, poison, count * sizeof(float));
    free(poison);
  }
  assert_ok(context, clnorm_memory_alloc(context, total * sizeof(float), &tensor.whole));
  assert_ok(context, clnorm_memory_write(context, tensor.whole, image, total * sizeof(float)));
  free(image);
  tensor.view = tensor.whole;
  tensor.view.offset += GUARD * sizeof(float);
  tensor.view.size = count * sizeof(float);
  return tensor;
}

void fixture_tensor_read(clnorm_context *context, const fixture_tensor *tensor, float *values) {
  const size_t total = tensor->count + 2 * GUARD;
  float *image = filled(total, 0);
  assert_ok(context, clnorm_finish(context));
  assert_ok(context, clnorm_memory_read(context, tensor->whole, image, total * sizeof(float)));
  const uint32_t *bits = (const uint32_t *)image;
  for (size_t i = 0; i < GUARD; i++) {
    if (bits[i] != canary) fail_msg("written %zu floats before the start", GUARD - i);
    if (bits[GUARD + tensor->count + i] != canary) fail_msg("written %zu floats past the end", i);
  }
  memcpy(values, image + GUARD, tensor->count * sizeof(float));
  free(image);
}

void fixture_tensor_free(clnorm_context *context, fixture_tensor *tensor) {
  clnorm_memory_free(context, &tensor->whole);
  memset(tensor, 0, sizeof *tensor);
}

void fixture_assert_poisoned(clnorm_context *context, const fixture_tensor *tensor,
                             const char *row) {
  float *values = filled(tensor->count, 0);
  fixture_tensor_read(context, tensor, values);
  const uint32_t *bits = (const uint32_t *)values;
  for (size_t i = 0; i < tensor->count; i++) {
    if (bits[i] != FIXTURE_POISON) fail_msg("%s: element %zu was written", row, i);
  }
  free(values);
}

/* ---- Values and the reference ------------------------------------------------------------------ */

void fixture_fill(float *values, size_t count, uint64_t seed, double mean, double spread) {
  uint64_t state = seed * 2862933555777941757u + 3037000493u;
  for (size_t i = 0; i < count; i++) {
    double sum = 0; /* of four uniform values: near enough to a bell, with a standard deviation 1 */
    for (int k = 0; k < 4; k++) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      sum += (double)(state >> 40) * 0x1p-24 - 0.5;
    }
    values[i] = (float)(mean + spread * 1.7320508075688772 * sum);
  }
}

static const float *plane(const float *x, int64_t channels, int64_t spatial, int64_t n, int64_t c) {
  return x + (n * channels + c) * spatial;
}

fixture_moments fixture_channel_moments(const float *x, int64_t batch, int64_t channels,
                                        int64_t spatial, int64_t channel) {
  fixture_moments moments = {0, 0, (double)batch * (double)spatial};
  for (int64_t n = 0; n < batch; n++) {
    for (int64_t s = 0; s < spatial; s++) {
      moments.mean += plane(x, channels, spatial, n, channel)[s] / moments.count;
    }
  }
  for (int64_t n = 0; n < batch; n++) {
    for (int64_t s = 0; s < spatial; s++) {
      const double d = plane(x, channels, spatial, n, channel)[s] - moments.mean;
      moments.var += d * d / moments.count;
    }
  }
  return moments;
}

void fixture_assert_normalized(const float *x, const float *y, const int64_t dims[3],
                               int64_t channel, const fixture_channel *by) {
  const double invstd = 1.0 / sqrt(by->var + by->eps);
  for (int64_t n = 0; n < dims[0]; n++) {
    for (int64_t s = 0; s < dims[2]; s++) {
      const double xhat = (plane(x, dims[1], dims[2], n, channel)[s] - by->mean) * invstd;
      const double expected = xhat * by->weight + by->bias;
      const double bound = 8 * 0x1p-24 * (fabs(by->weight) * (fabs(xhat) + 1) + fabs(by->bias));
      const double actual = plane(y, dims[1], dims[2], n, channel)[s];
      if (!(fabs(actual - expected) <= bound)) {
        fail_msg("y[%d,%d,%d] is %.9g, expected %.9g within %.3g", (int)n, (int)channel, (int)s,
                 actual, expected, bound);
      }
    }
  }
}

void fixture_assert_near(double actual, double expected, double scale, double ulps,
                         const char *what) {
  if (!(fabs(actual - expected) <= ulps * 0x1p-24 * scale)) {
    fail_msg("%s is %.9g, expected %.9g", what, actual, expected);
  }
}

int fixture_set_up(void **state) {
  *state = fixture_open();
  print_message("%s\n", clnorm_context_description(*state));
  return 0;
}

int fixture_tear_down(void **state) {
  clnorm_context_destroy(*state);
  return 0;
}

int fixture_set_up_sides(void **state) {
  static fixture_sides s;
  clnorm_context_options plain;
  clnorm_context_options_init(&plain, sizeof plain);
  plain.isa = CLNORM_ISA_PLAIN;
  plain.num_threads = 1;
  s.baseline = fixture_open_with("cpu", &plain);
  s.subject = fixture_open();
  print_message("%s\n", clnorm_context_description(s.subject));
  *state = &s;
  return 0;
}

int fixture_tear_down_sides(void **state) {
  const fixture_sides *s = *state;
  clnorm_context_destroy(s->subject);
  clnorm_context_destroy(s->baseline);
  return 0;
}
