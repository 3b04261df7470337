/*
 * Random use of the forward interface on the CPU path: descriptions, memory and offsets, right and wrong;
 * contexts with random instruction sets, threads and tunings; modules; and random tensors of every type and layout
 * (fuzz_layouts.c), on the device that CLNORM_TEST_DEVICE names as well. What the header says is expected:
 *
 *   refused    with one of the statuses whose rule is broken, with a message, and nothing is written
 *   accepted   every output is written, and nothing else; the bits are those of the plain code on one thread
 *
 *   fuzz_forward [--seconds S] [--seed N] [--round R]     also CLNORM_FUZZ_SECONDS, CLNORM_FUZZ_SEED
 *
 * A round depends on the seed and its own number alone: a failure names both, and --round runs that one
 * again. Built with -D CLNORM_LIBFUZZER and clang's -fsanitize=fuzzer, the bytes that libFuzzer gives are
 * the first random numbers of a round.
 */
#include <clnorm/clnorm.h>

#include "dense.h"
#include "fuzz.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Random numbers ------------------------------------------------------------------------------- */

static struct {
  const unsigned char *data; /* taken first */
  size_t left;
  uint64_t state, seed, round;
} source;

static uint64_t next(void) {
  uint64_t z = source.state += 0x9e3779b97f4a7c15u; /* splitmix64: Steele, Lea and Flood 2014 */
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  if (!source.left) return z;
  source.left--;
  return (z & ~(uint64_t)0xff) | *source.data++;
}

static void start_round(uint64_t seed, uint64_t round) {
  source.seed = seed;
  source.round = round;
  source.state = seed ^ (round + 1) * 0xd1342543de82ef95u;
}

uint64_t fuzz_below(uint64_t count) { return next() % count; }
uint64_t fuzz_in_turn(uint64_t count) { return (source.seed + source.round / 8) % count; }
bool fuzz_chance(unsigned percent) { return fuzz_below(100) < percent; }
static double uniform(void) { return (double)(next() >> 11) * 0x1p-53; }

static struct { uint64_t refused, ran, modules, contexts; } counted;

void fuzz_fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "FAILED with --seed %llu --round %llu: ", (unsigned long long)source.seed,
          (unsigned long long)source.round);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

void *fuzz_allocate(size_t size) {
  void *memory = malloc(size ? size : 1);
  if (!memory) fuzz_fail("no memory for %zu bytes", size);
  return memory;
}

/* ---- What is expected of a call ------------------------------------------------------------------- */

/* The statuses that broken rules give, as bits; none: CLNORM_OK. */
typedef unsigned faults;
#define FAULT(status) (1u << (status))
#define INVALID FAULT(CLNORM_ERROR_INVALID_ARGUMENT)

/* The call's status is one of the expected; a failure has a message. */
static void judge(const char *call, const clnorm_context *context, clnorm_status status,
                  faults expected) {
  const char *text = clnorm_last_error(context);
  if (status == CLNORM_OK && !expected) return;
  if (status == CLNORM_OK) fuzz_fail("%s succeeded, but breaks rules (0x%x)", call, expected);
  if (!(expected & FAULT(status)))
    fuzz_fail("%s: %s (%s), but 0x%x is expected", call, clnorm_status_name(status), text,
              expected);
  if (strlen(text) < 8) fuzz_fail("%s: %s without a message", call, clnorm_status_name(status));
  counted.refused++;
}

/* ---- Contexts --------------------------------------------------------------------------------------- */

#define MAX_CONTEXTS 6
static clnorm_context *baseline, *device, *contexts[MAX_CONTEXTS];

static void random_tuning(clnorm_tuning *tuning, faults *broken) {
  static const double splits[] = {0, 0.001, 0.5, 1, 4, 1e6, 0.0009, 1.1e6, -1, NAN, INFINITY};
  static const uint64_t bytes[] = {0, 1, 4096, 1 << 20, UINT64_MAX};
  const size_t split = fuzz_below(fuzz_chance(10) ? LENGTH(splits) : 6);
  *tuning = dense_tuning();
  tuning->split_below = splits[split];
  tuning->stream_bytes = PICK(bytes);
  tuning->form = (clnorm_form)(fuzz_chance(97) ? fuzz_below(2) : fuzz_below(5) - 1);
  if (split > 5 || tuning->form < CLNORM_FORM_AUTO || tuning->form > CLNORM_FORM_VECTOR)
    *broken |= INVALID; /* the CPU path has no wide form */
}

/* An instruction set that the processor lacks is an error, and so may be accepted or not. */
static bool open_random(clnorm_context **context) {
  static const int threads[] = {1, 2, 3, 5, 0, -1, 1025};
  const size_t thread = fuzz_below(fuzz_chance(5) ? 7 : 4);
  clnorm_context_options options = dense_context_options();
  clnorm_tuning tuning;
  clnorm_message message = {""};
  faults broken = 0;
  options.cache_dir = "";
  options.num_threads = threads[thread];
  options.isa = (clnorm_isa)(fuzz_chance(97) ? fuzz_below(4) : fuzz_below(6) - 1);
  options.form = (clnorm_form)(fuzz_chance(97) ? 0 : fuzz_below(5) - 1);
  if (fuzz_chance(70)) random_tuning(&tuning, &broken), options.tuning = &tuning;
  if (thread > 4 || options.isa < CLNORM_ISA_AUTO || options.isa > CLNORM_ISA_AVX512 ||
      options.form < CLNORM_FORM_AUTO || options.form > CLNORM_FORM_VECTOR)
    broken |= INVALID;
  *context = (clnorm_context *)&message;
  const clnorm_status status = clnorm_context_create("cpu", &options, context, &message);
  counted.contexts++;
  if ((status == CLNORM_OK) != (*context != NULL)) fuzz_fail("a context and a status disagree");
  if (status == CLNORM_OK && broken)
    fuzz_fail("a context is created from options that break rules");
  if (status == CLNORM_OK) return true;
  const bool lacking = options.isa == CLNORM_ISA_AVX2 || options.isa == CLNORM_ISA_AVX512;
  if (status != CLNORM_ERROR_INVALID_ARGUMENT || (!broken && !lacking))
    fuzz_fail("clnorm_context_create: %s: %s", clnorm_status_name(status), message.text);
  if (strlen(message.text) < 8) fuzz_fail("clnorm_context_create fails without a message");
  return false;
}

clnorm_context *fuzz_context(void) {
  clnorm_context **slot = &contexts[fuzz_below(MAX_CONTEXTS)];
  if (*slot && fuzz_chance(2)) {
    clnorm_context_destroy(*slot);
    *slot = NULL;
  }
  while (!*slot && !open_random(slot)) continue;
  return *slot;
}

static clnorm_context *open_context(const char *name, clnorm_context_options *options) {
  clnorm_context *context;
  clnorm_message message;
  if (clnorm_context_create(name, options, &context, &message))
    fuzz_fail("device '%s': %s", name, message.text);
  return context;
}

clnorm_context *fuzz_baseline(void) {
  clnorm_context_options options = dense_context_options();
  options.cache_dir = "";
  options.isa = CLNORM_ISA_PLAIN;
  options.num_threads = 1;
  if (!baseline) baseline = open_context("cpu", &options);
  return baseline;
}

clnorm_context *fuzz_device(void) {
  const char *name = getenv("CLNORM_TEST_DEVICE"), *form = getenv("CLNORM_TEST_FORM");
  clnorm_context_options options = dense_context_options();
  if (!name || !name[0] || strcmp(name, "cpu") == 0) return NULL;
  if (form && strcmp(form, "vector") == 0) options.form = CLNORM_FORM_VECTOR;
  if (form && strcmp(form, "wide") == 0) options.form = CLNORM_FORM_WIDE;
  if (!device) device = open_context(name, &options);
  return device;
}

static void close_contexts(void) {
  for (size_t i = 0; i < MAX_CONTEXTS; i++) clnorm_context_destroy(contexts[i]);
  clnorm_context_destroy(device);
  clnorm_context_destroy(baseline);
}

/* ---- Descriptions ----------------------------------------------------------------------------------- */

#define MAX_ELEMENTS (1 << 16)
#define LARGE (64 * MAX_ELEMENTS) /* more is planned, but not run */

/* About the sizes where something changes: vectors, rows, blocks, segments; small ones most often. */
static int64_t random_size(int64_t most) {
  static const int64_t near[] = {4, 8, 16, 32, 49, 64, 128, 196, 256, 512, 1024, 2048, 4096};
  int64_t size = 1 + (int64_t)fuzz_below(9);
  if (fuzz_chance(40)) size = PICK(near) + (int64_t)fuzz_below(5) - 2;
  if (fuzz_chance(10)) size = 1 + (int64_t)fuzz_below((uint64_t)most);
  return size > most ? 1 + size % most : size;
}

static void random_sizes(dense_desc *desc) {
  int64_t *const sizes[] = {&desc->batch, &desc->channels, &desc->spatial};
  int64_t left = fuzz_chance(5) ? 16 * MAX_ELEMENTS : MAX_ELEMENTS;
  const size_t shift = fuzz_below(3);
  for (size_t i = 0; i < 3; i++) {
    int64_t *size = sizes[(i + shift) % 3];
    *size = random_size(left);
    left /= *size;
  }
  if (fuzz_chance(3)) *PICK(sizes) = 0;
  if (fuzz_chance(3)) desc->batch = desc->spatial = 1;
}

static const int64_t odd_sizes[] = {-1,
                                    INT64_MIN,
                                    INT64_MAX,
                                    (int64_t)1 << 62,
                                    (int64_t)1 << 40,
                                    ((int64_t)1 << 40) + 1,
                                    3037000500,
                                    (int64_t)1 << 31,
                                    0};

/* Breaks a rule, or stays at its edge. */
static void spoil_desc(dense_desc *desc) {
  static const double odd_eps[] = {-1e-5, NAN, INFINITY, 1e39, 3.4e38, -0.0, 1e-300, 0};
  int64_t *const sizes[] = {&desc->batch, &desc->channels, &desc->spatial};
  switch (fuzz_below(5)) {
  case 0:
    for (uint64_t i = 1 + fuzz_below(3); i; i--) *PICK(sizes) = PICK(odd_sizes);
    break;
  case 1:
    desc->statistics = (int32_t)fuzz_below(5) - 1;
    break;
  case 2:
    desc->eps = PICK(odd_eps);
    break;
  case 3:
    desc->cut = (int32_t)fuzz_below(5) - 1;
    break;
  default:
    desc->store = (int32_t)fuzz_below(5) - 1;
    break;
  }
}

static dense_desc random_desc(void) {
  static const double eps[] = {1e-5, 1e-3, 0, 1e-30, 2};
  dense_desc desc = dense_desc_defaults(fuzz_chance(10) ? 2 : (int32_t)fuzz_below(2), 1, 1, 1);
  random_sizes(&desc);
  desc.eps = PICK(eps);
  desc.biased_running_var = fuzz_chance(30);
  desc.external_workspace = fuzz_chance(40);
  desc.cut = (int32_t)fuzz_below(3);
  desc.store = (int32_t)fuzz_below(3);
  desc.refuse_one_value = fuzz_chance(50);
  if (fuzz_chance(15)) spoil_desc(&desc);
  return desc;
}

static bool is_empty(const dense_desc *desc) {
  return !desc->batch || !desc->channels || !desc->spatial;
}

/* The product of three sizes and `unit`, none of them negative; -1 if it does not fit. */
static int64_t product(int64_t a, int64_t b, int64_t c, int64_t unit) {
  const int64_t factors[] = {b, c, unit};
  if (!a || !b || !c) return 0;
  for (size_t i = 0; i < LENGTH(factors); i++) {
    if (a > INT64_MAX / factors[i]) return -1;
    a *= factors[i];
  }
  return a;
}

static faults size_faults(const dense_desc *desc) {
  if (desc->batch < 0 || desc->channels < 0 || desc->spatial < 0) return INVALID;
  const int64_t bytes = product(desc->batch, desc->channels, desc->spatial, sizeof(float));
  const int64_t values = product(desc->batch, 1, desc->spatial, 1);
  faults f = 0;
  if (bytes < 0 || (uint64_t)bytes > SIZE_MAX / 2) f |= FAULT(CLNORM_ERROR_OVERFLOW);
  if (!is_empty(desc) && (values < 0 || values > (int64_t)1 << 40))
    f |= FAULT(CLNORM_ERROR_OVERFLOW);
  if (desc->refuse_one_value && desc->statistics == CLNORM_BATCH_STATISTICS && desc->batch == 1 &&
      desc->spatial == 1 && desc->channels > 0)
    f |= INVALID;
  return f;
}

static faults desc_faults(const dense_desc *desc) {
  faults f = size_faults(desc);
  if (desc->statistics < CLNORM_BATCH_STATISTICS || desc->statistics > DENSE_COPY) f |= INVALID;
  if (desc->cut < CLNORM_CUT_AUTO || desc->cut > CLNORM_CUT_SPLIT) f |= INVALID;
  if (desc->store < CLNORM_STORE_AUTO || desc->store > CLNORM_STORE_STREAMED) f |= INVALID;
  if (!(desc->eps >= 0) || isinf((float)desc->eps)) f |= INVALID;
  return f;
}

/* ---- Operands --------------------------------------------------------------------------------------- */

enum { X, Y, WEIGHT, BIAS, MEAN, VAR, SAVED_MEAN, SAVED_INVSTD, WORKSPACE, OPERANDS };

static clnorm_memory *member(dense_args *args, size_t operand) {
  clnorm_memory *const members[OPERANDS] = {&args->x,
                                            &args->y,
                                            &args->weight,
                                            &args->bias,
                                            &args->running_mean,
                                            &args->running_var,
                                            &args->saved_mean,
                                            &args->saved_invstd,
                                            &args->workspace};
  return members[operand];
}

/* One call: the sizes of its operands in bytes, 0 where one is absent, and the values of its inputs. */
typedef struct call {
  dense_desc desc;
  size_t sizes[OPERANDS];
  float *values[OPERANDS];
  bool in_place;
  double momentum;
} call;

static bool is_written(const dense_desc *desc, size_t operand) {
  if (operand == MEAN || operand == VAR) return desc->statistics == CLNORM_BATCH_STATISTICS;
  return operand == Y || operand >= SAVED_MEAN;
}

static float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Around `mean`, `spread` wide, with an odd value now and then; or any bits at all. */
float *fuzz_values(size_t count) {
  static const float odd[] = {0.0f, -0.0f, 1e-42f, 1e-33f, 1e20f, -3e38f, NAN, INFINITY, -INFINITY};
  static const double scales[] = {1, 1, 1, 1e-3, 1e3, 1e-20, 1e-33, 1e15, 0};
  float *values = fuzz_allocate(count * sizeof(float));
  const double spread = PICK(scales), mean = fuzz_chance(50) ? 0 : spread * 100 * uniform();
  const unsigned odds = fuzz_chance(80) ? 0 : 1 + (unsigned)fuzz_below(20);
  const bool anything = fuzz_chance(5);
  for (size_t i = 0; i < count; i++) {
    values[i] = (float)(mean + spread * (uniform() + uniform() - 1));
    if (anything) values[i] = from_bits((uint32_t)next());
    if (odds && fuzz_chance(odds)) values[i] = PICK(odd);
  }
  return values;
}

static call random_call(const dense_desc *desc, size_t workspace) {
  static const double momenta[] = {0.9, 0, 1, 0.5, 0.1};
  const size_t channel = (size_t)desc->channels * sizeof(float);
  const size_t tensor = (size_t)desc->batch * (size_t)desc->spatial * channel;
  const bool copy = desc->statistics == DENSE_COPY;
  const bool running = desc->statistics == CLNORM_GIVEN_STATISTICS || (!copy && fuzz_chance(70));
  call c = {.desc = *desc, .in_place = fuzz_chance(25), .momentum = PICK(momenta)};
  if (desc->channels > LARGE) return c; /* of an empty tensor, which needs no operands */
  c.sizes[X] = c.sizes[Y] = tensor;
  if (!copy && fuzz_chance(60)) c.sizes[WEIGHT] = channel;
  if (!copy && fuzz_chance(60)) c.sizes[BIAS] = channel;
  if (running) c.sizes[MEAN] = c.sizes[VAR] = channel;
  if (!copy && fuzz_chance(40)) c.sizes[SAVED_MEAN] = channel;
  if (!copy && fuzz_chance(40)) c.sizes[SAVED_INVSTD] = channel;
  if (desc->external_workspace) c.sizes[WORKSPACE] = workspace;
  for (size_t i = X; i <= VAR; i++)
    if (i != Y && c.sizes[i]) c.values[i] = fuzz_values(c.sizes[i] / sizeof(float));
  return c;
}

static void free_call(call *c) {
  for (size_t i = 0; i < OPERANDS; i++) free(c->values[i]);
}

/* ---- Memory ----------------------------------------------------------------------------------------- */

enum { GUARD = 64 }; /* bytes before and after */
static const uint32_t poison = 0x7fbad00du;

/* Operands in blocks of their own, each between guards. */
typedef struct stage {
  unsigned char *blocks[OPERANDS], *before[OPERANDS]; /* as it was before the run */
  float *at[OPERANDS];
  size_t block_sizes[OPERANDS];
  dense_args args;
} stage;

static void place(stage *s, const call *c, size_t operand, bool random) {
  const size_t size = c->sizes[operand];
  const size_t shift = random && operand != WORKSPACE ? sizeof(float) * fuzz_below(16) : 0;
  const size_t room = GUARD + 64 + shift + size + GUARD;
  unsigned char *block = fuzz_allocate(room);
  size_t start = GUARD + (64 - ((uintptr_t)block + GUARD) % 64) % 64 + shift;
  if (start + size + GUARD > room) fuzz_fail("a block is too small");
  for (size_t i = 0; i + sizeof poison <= room; i += sizeof poison)
    memcpy(block + i, &poison, sizeof poison);
  if (c->values[operand]) memcpy(block + start, c->values[operand], size);
  const size_t offset = random ? sizeof(float) * fuzz_below(start / sizeof(float) + 1) : 0;
  s->blocks[operand] = block;
  s->block_sizes[operand] = start + size + GUARD;
  s->at[operand] = (float *)(void *)(block + start);
  const clnorm_memory memory = {block + start - offset, NULL, offset,
                                size + (random ? fuzz_below(GUARD) : 0)};
  *member(&s->args, operand) = memory;
}

static stage make_stage(const call *c, bool random) {
  stage s;
  memset(&s, 0, sizeof s);
  s.args.momentum = c->momentum;
  for (size_t i = 0; i < OPERANDS; i++)
    if (c->sizes[i] && !(i == Y && c->in_place)) place(&s, c, i, random);
  if (c->in_place && c->sizes[X]) {
    s.args.y = s.args.x;
    s.at[Y] = s.at[X];
  }
  return s;
}

static void free_stage(stage *s) {
  for (size_t i = 0; i < OPERANDS; i++) {
    free(s->blocks[i]);
    free(s->before[i]);
  }
}

static void remember(stage *s) {
  for (size_t i = 0; i < OPERANDS; i++) {
    if (!s->blocks[i]) continue;
    s->before[i] = fuzz_allocate(s->block_sizes[i]);
    memcpy(s->before[i], s->blocks[i], s->block_sizes[i]);
  }
}

/* Nothing has changed but, of operands that a run writes, what is between the guards. */
static void check_unchanged(const stage *s, const call *c, bool ran) {
  for (size_t i = 0; i < OPERANDS; i++) {
    if (!s->blocks[i]) continue;
    const size_t start = (size_t)((unsigned char *)s->at[i] - s->blocks[i]);
    const size_t end = start + c->sizes[i];
    const bool written = ran && (is_written(&c->desc, i) || (i == X && c->in_place));
    for (size_t k = 0; k < s->block_sizes[i]; k++)
      if (s->blocks[i][k] != s->before[i][k] && !(written && k >= start && k < end))
        fuzz_fail("operand %zu: byte %zd was changed by a run that %s", i, (ssize_t)(k - start),
                  ran ? "succeeded" : "was refused");
  }
}

/* ---- Wrong operands --------------------------------------------------------------------------------- */

static void spoil_args(stage *s, const call *c) {
  static const double odd_momenta[] = {-0.1, 1.5, NAN, INFINITY};
  const size_t which = fuzz_below(OPERANDS), other = fuzz_below(OPERANDS);
  clnorm_memory *memory = member(&s->args, which);
  switch (fuzz_below(10)) {
  case 0:
    memset(memory, 0, sizeof *memory);
    break;
  case 1:
    if (memory->size >= c->sizes[which] && c->sizes[which])
      memory->size = c->sizes[which] - 1 - fuzz_below(4);
    break;
  case 2:
    if (memory->host) memory->host = (char *)memory->host + fuzz_below(4);
    break;
  case 3:
    memory->offset += fuzz_below(4);
    break;
  case 4:
    if (memory->host && memory->offset >= 2)
      memory->host = (char *)memory->host + 2, memory->offset -= 2;
    break;
  case 5:
    memory->cl = (struct _cl_mem *)(void *)s;
    if (fuzz_chance(50)) memory->host = NULL;
    break;
  case 6:
    if (memory->host) memory->offset = SIZE_MAX - fuzz_below(1024);
    break;
  case 7:
    s->args.momentum = PICK(odd_momenta);
    break;
  default: /* onto another operand, or near it; as large as that lies in the same block */
    if (!s->at[other]) break;
    *memory = *member(&s->args, other);
    if (fuzz_chance(50)) memory->offset += sizeof(float) * fuzz_below(3);
    memory->size = c->sizes[other] > c->sizes[which] ? c->sizes[other] : c->sizes[which];
    break;
  }
}

static bool is_absent(clnorm_memory memory) { return !memory.host && !memory.cl; }

/* Faults of a place by itself. */
static faults place_faults(clnorm_memory memory, size_t size, size_t alignment) {
  const uintptr_t begin = (uintptr_t)memory.host + memory.offset;
  faults f = 0;
  if (memory.cl) return INVALID;
  if ((uintptr_t)memory.host % alignment || memory.offset % alignment) f |= INVALID;
  if (begin < memory.offset || begin + memory.size < begin) f |= FAULT(CLNORM_ERROR_OVERFLOW);
  if (memory.size < size) f |= FAULT(CLNORM_ERROR_BUFFER_TOO_SMALL);
  return f;
}

static faults overlap_faults(const dense_desc *desc, dense_args *args, const size_t sizes[OPERANDS],
                             size_t i, size_t j) {
  const clnorm_memory a = *member(args, i), b = *member(args, j);
  const uintptr_t a_begin = (uintptr_t)a.host + a.offset, b_begin = (uintptr_t)b.host + b.offset;
  if (is_absent(a) || is_absent(b) || !sizes[i] || !sizes[j]) return 0;
  if (!is_written(desc, i) && !is_written(desc, j)) return 0;
  if (a_begin >= b_begin + sizes[j] || b_begin >= a_begin + sizes[i]) return 0;
  if (i == Y && j == X && a_begin == b_begin) return 0;
  return FAULT(CLNORM_ERROR_OVERLAP);
}

/* What dense_run does not bind: of a copy everything but x and y, and a workspace that no run needs. */
static dense_args bound(const dense_desc *desc, const dense_args *args, size_t workspace) {
  const dense_args copied = {.x = args->x, .y = args->y, .workspace = args->workspace};
  dense_args result = desc->statistics == DENSE_COPY ? copied : *args;
  if (!workspace) memset(&result.workspace, 0, sizeof result.workspace);
  return result;
}

static faults run_faults(const dense_desc *desc, const dense_args *given_args, size_t workspace) {
  dense_args own = bound(desc, given_args, workspace), *args = &own;
  const size_t channel = (size_t)desc->channels * sizeof(float);
  const size_t tensor = (size_t)desc->batch * (size_t)desc->spatial * channel;
  const bool given = desc->statistics == CLNORM_GIVEN_STATISTICS;
  const bool updates =
      desc->statistics == CLNORM_BATCH_STATISTICS && !is_absent(args->running_mean);
  const size_t sizes[OPERANDS] = {tensor,  tensor,  channel, channel,  channel,
                                  channel, channel, channel, workspace};
  const bool required[OPERANDS] = {
      [X] = true, [Y] = true, [MEAN] = given, [VAR] = given, [WORKSPACE] = workspace > 0};
  const size_t operands = desc->external_workspace ? OPERANDS : WORKSPACE;
  faults f = updates && !(args->momentum >= 0 && args->momentum <= 1) ? INVALID : 0;
  if (is_empty(desc)) return f; /* operands are not looked at */
  if (is_absent(args->running_mean) != is_absent(args->running_var)) f |= INVALID;
  if (!desc->external_workspace && !is_absent(args->workspace))
    f |= INVALID; /* the plan has its own */
  for (size_t i = 0; i < operands; i++) {
    const clnorm_memory memory = *member(args, i);
    if (is_absent(memory)) {
      if (required[i]) f |= INVALID;
      continue;
    }
    f |= place_faults(memory, sizes[i], i == WORKSPACE ? 1 : sizeof(float)); /* its sum counts */
    for (size_t j = 0; j < i; j++) f |= overlap_faults(desc, args, sizes, i, j);
  }
  if (operands == OPERANDS && workspace && args->workspace.host &&
      ((uintptr_t)args->workspace.host + args->workspace.offset) % 64)
    f |= INVALID;
  return f;
}

/* ---- One operation ---------------------------------------------------------------------------------- */

static void print_desc(char *text, size_t size, const call *c) {
  const dense_desc *d = &c->desc;
  snprintf(text, size, "%lld x %lld x %lld, statistics %d, cut %d, store %d, eps %g%s",
           (long long)d->batch, (long long)d->channels, (long long)d->spatial, (int)d->statistics,
           (int)d->cut, (int)d->store, d->eps, c->in_place ? ", in place" : "");
}

static bool same(float a, float b) { return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b)); }

/* Outputs of a run, in two stages; every element is written. Arithmetic makes no poison, but a copy may. */
static void check_outputs(const call *c, const stage *subject, const stage *expected,
                          const clnorm_context *context) {
  static const size_t outputs[] = {Y, MEAN, VAR, SAVED_MEAN, SAVED_INVSTD};
  char text[256];
  print_desc(text, sizeof text, c);
  for (size_t i = 0; i < LENGTH(outputs); i++) {
    const size_t o = outputs[i], count = c->sizes[o] / sizeof(float);
    if (!subject->at[o] || is_empty(&c->desc)) continue;
    for (size_t k = 0; k < count; k++) {
      const float value = subject->at[o][k], other = expected->at[o][k];
      if (bits_of(value) == poison && c->desc.statistics != DENSE_COPY)
        fuzz_fail("%s: operand %zu is not written", text, o);
      if (!same(value, other))
        fuzz_fail("%s: operand %zu, element %zu is %a, but %a on %s (%s)", text, o, k, value, other,
                  "the plain code", clnorm_context_description(context));
    }
  }
}

/* The call on a context, in memory of its own. */
static stage run_well(clnorm_context *context, const call *c, bool random) {
  clnorm_plan *plan;
  judge("dense_plan_create", context, dense_plan_create(context, &c->desc, &plan), 0);
  call own = *c;
  if (c->desc.external_workspace) own.sizes[WORKSPACE] = dense_workspace_size(plan);
  stage s = make_stage(&own, random);
  remember(&s);
  judge("dense_run", context, dense_run(plan, &s.args), 0);
  check_unchanged(&s, &own, true);
  clnorm_plan_destroy(plan);
  counted.ran++;
  return s;
}

static void run_wrongly(clnorm_context *context, clnorm_plan *plan, const call *c) {
  stage s = make_stage(c, true);
  for (uint64_t i = 1 + fuzz_below(2); i; i--) spoil_args(&s, c);
  const faults f = run_faults(&c->desc, &s.args, dense_workspace_size(plan));
  if (f) { /* without a fault, what it writes is not where c says */
    remember(&s);
    judge("dense_run", context, dense_run(plan, &s.args), f);
    check_unchanged(&s, c, false);
  }
  free_stage(&s);
}

/* A plan of the description, where it breaks no rule. */
static clnorm_plan *try_plan(clnorm_context *context, const dense_desc *desc, int64_t *elements) {
  clnorm_plan *plan = (clnorm_plan *)&plan;
  faults f = desc_faults(desc);
  const clnorm_status status = dense_plan_create(context, desc, &plan);
  *elements = f ? 0 : product(desc->batch, desc->channels, desc->spatial, 1);
  if (*elements > LARGE && status == CLNORM_ERROR_OUT_OF_MEMORY) f |= FAULT(status);
  judge("dense_plan_create", context, status, f);
  if ((status == CLNORM_OK) != (plan != NULL)) fuzz_fail("a plan and a status disagree");
  if (plan && !*clnorm_plan_description(plan)) fuzz_fail("a plan has no description");
  return plan;
}

static void fuzz_operation(void) {
  int64_t elements;
  clnorm_context *context = fuzz_context();
  const dense_desc desc = random_desc();
  clnorm_plan *plan = try_plan(context, &desc, &elements);
  if (!plan || elements > LARGE) {
    clnorm_plan_destroy(plan);
    return;
  }
  call c = random_call(&desc, dense_workspace_size(plan));
  if (fuzz_chance(40)) run_wrongly(context, plan, &c);
  clnorm_plan_destroy(plan);
  call apart = c;
  apart.in_place = false;
  stage expected = run_well(fuzz_baseline(), &apart, false);
  for (uint64_t i = 1 + fuzz_below(3); i; i--) {
    context = fuzz_context();
    stage subject = run_well(context, &c, true);
    check_outputs(&c, &subject, &expected, context);
    free_stage(&subject);
  }
  free_stage(&expected);
  free_call(&c);
}

/* ---- BatchNorm -------------------------------------------------------------------------------------- */

enum { SIDES = 2 }; /* the context under test, and the baseline */

typedef struct modules {
  clnorm_context *contexts[SIDES];
  clnorm_batchnorm *bn[SIDES];
  int64_t channels;
} modules;

/* Both sides answer alike; a failure has a message and a status that the header names. */
static clnorm_status both(const modules *m, const char *what, const clnorm_status status[SIDES]) {
  const faults documented = INVALID | FAULT(CLNORM_ERROR_STATE) | FAULT(CLNORM_ERROR_OVERFLOW) |
                            FAULT(CLNORM_ERROR_BUFFER_TOO_SMALL);
  if (status[0] != status[1])
    fuzz_fail("%s: %s here, %s by the plain code", what, clnorm_status_name(status[0]),
              clnorm_status_name(status[1]));
  for (int i = 0; i < SIDES && status[i]; i++) judge(what, m->contexts[i], status[i], documented);
  return status[0];
}

static clnorm_batchnorm_options random_options(void) {
  static const double odd[] = {-1, 1.5, NAN, INFINITY, 1e39};
  static const int64_t features[] = {0, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 62};
  clnorm_batchnorm_options o = dense_batchnorm_options(1 + (int64_t)fuzz_below(40));
  o.momentum = uniform();
  o.momentum_convention = (clnorm_momentum)(fuzz_chance(97) ? fuzz_below(3) : fuzz_below(5) - 1);
  o.affine = fuzz_chance(70);
  o.track_running_stats = fuzz_chance(80);
  o.freeze = fuzz_chance(15);
  o.biased_running_var = fuzz_chance(30);
  if (fuzz_chance(5)) o.eps = PICK(odd);
  if (fuzz_chance(5)) o.momentum = PICK(odd);
  if (fuzz_chance(3)) o.num_features = PICK(features);
  return o;
}

static faults option_faults(const clnorm_batchnorm_options *o) {
  faults f = 0;
  if (o->num_features < 1 || !(o->eps >= 0) || isinf((float)o->eps)) f |= INVALID;
  if (!(o->momentum >= 0 && o->momentum <= 1)) f |= INVALID;
  if (o->momentum_convention < CLNORM_MOMENTUM_KEPT ||
      o->momentum_convention > CLNORM_MOMENTUM_CUMULATIVE)
    f |= INVALID;
  if (o->freeze && !o->track_running_stats) f |= INVALID;
  if (o->num_features > MAX_ELEMENTS)
    f |= FAULT(CLNORM_ERROR_OVERFLOW) | FAULT(CLNORM_ERROR_OUT_OF_MEMORY);
  return f;
}

static void compare_parameters(const modules *m) {
  float *values[SIDES];
  const size_t count = (size_t)m->channels;
  for (int i = 0; i < SIDES; i++) values[i] = fuzz_allocate(count * sizeof(float));
  for (int p = CLNORM_WEIGHT; p <= CLNORM_RUNNING_VAR; p++) {
    clnorm_status status[SIDES];
    for (int i = 0; i < SIDES; i++)
      status[i] = dense_batchnorm_get(m->bn[i], (int32_t)p, values[i], count);
    if (both(m, "dense_batchnorm_get", status)) continue;
    for (size_t c = 0; c < count; c++)
      if (!same(values[0][c], values[1][c]))
        fuzz_fail("parameter %d of channel %zu is %a, but %a by the plain code", p, c, values[0][c],
                  values[1][c]);
  }
  for (int i = 0; i < SIDES; i++) free(values[i]);
  if (clnorm_batchnorm_num_batches_tracked(m->bn[0]) !=
      clnorm_batchnorm_num_batches_tracked(m->bn[1]))
    fuzz_fail("num_batches_tracked differs");
}

static void set_parameter(const modules *m) {
  clnorm_status status[SIDES];
  const size_t count = (size_t)m->channels - (fuzz_chance(5) ? 1 : 0);
  const int32_t which =
      CLNORM_WEIGHT + (fuzz_chance(97) ? (int32_t)fuzz_below(4) : (int32_t)fuzz_below(6) - 1);
  float *values = fuzz_values((size_t)m->channels);
  for (int i = 0; i < SIDES; i++) status[i] = dense_batchnorm_set(m->bn[i], which, values, count);
  both(m, "dense_batchnorm_set", status);
  free(values);
}

static void change_state(const modules *m) {
  clnorm_status status[SIDES] = {CLNORM_OK, CLNORM_OK};
  const uint64_t what = fuzz_below(5), count = fuzz_chance(5) ? next() : fuzz_below(9);
  const bool on = fuzz_chance(50);
  for (int i = 0; i < SIDES; i++) {
    clnorm_batchnorm *bn = m->bn[i];
    if (what == 0) clnorm_batchnorm_set_training(bn, on);
    if (what == 1) status[i] = clnorm_batchnorm_set_track_running_stats(bn, on);
    if (what == 2) status[i] = clnorm_batchnorm_reset_running_stats(bn);
    if (what == 3) status[i] = clnorm_batchnorm_reset_parameters(bn);
    if (what == 4) status[i] = clnorm_batchnorm_set_num_batches_tracked(bn, (int64_t)count);
  }
  both(m, "a change of state", status);
}

static void forward(const modules *m) {
  int64_t dims[4] = {1 + (int64_t)fuzz_below(6), m->channels, 1 + (int64_t)fuzz_below(20),
                     1 + (int64_t)fuzz_below(20)};
  clnorm_status status[SIDES];
  stage stages[SIDES];
  const size_t channel = (size_t)m->channels * sizeof(float);
  call c = {.desc =
                dense_desc_defaults(CLNORM_GIVEN_STATISTICS, dims[0], dims[1], dims[2] * dims[3])};
  c.sizes[X] = c.sizes[Y] = (size_t)(dims[0] * dims[2] * dims[3]) * channel;
  c.sizes[SAVED_MEAN] = fuzz_chance(50) ? channel : 0;
  c.sizes[SAVED_INVSTD] = fuzz_chance(50) ? channel : 0;
  c.values[X] = fuzz_values(c.sizes[X] / sizeof(float));
  if (fuzz_chance(15)) dims[fuzz_below(4)] = fuzz_chance(50) ? PICK(odd_sizes) : 0;
  const int ndim = fuzz_chance(97) ? 4 : (int)fuzz_below(4);
  for (int i = 0; i < SIDES; i++) {
    stages[i] = make_stage(&c, i == 0);
    remember(&stages[i]);
    const dense_args args = {.x = stages[i].args.x,
                             .y = stages[i].args.y,
                             .saved_mean = stages[i].args.saved_mean,
                             .saved_invstd = stages[i].args.saved_invstd};
    status[i] = dense_batchnorm_forward(m->bn[i], ndim, dims, &args);
    check_unchanged(&stages[i], &c, status[i] == CLNORM_OK);
  }
  if (both(m, "dense_batchnorm_forward", status) == CLNORM_OK &&
      product(dims[0], dims[2], dims[3], 1) == c.desc.batch * c.desc.spatial)
    check_outputs(&c, &stages[0], &stages[1], m->contexts[0]);
  for (int i = 0; i < SIDES; i++) free_stage(&stages[i]);
  free_call(&c);
}

static void fuzz_module(void) {
  const clnorm_batchnorm_options options = random_options();
  modules m = {.contexts = {fuzz_context(), fuzz_baseline()}, .channels = options.num_features};
  const faults f = option_faults(&options);
  for (int i = 0; i < SIDES; i++) {
    const clnorm_status status = clnorm_batchnorm_create(m.contexts[i], &options, &m.bn[i]);
    judge("clnorm_batchnorm_create", m.contexts[i], status, f);
  }
  counted.modules++;
  if (!f)
    for (uint64_t i = fuzz_below(8); i; i--) {
      if (fuzz_chance(30))
        set_parameter(&m);
      else if (fuzz_chance(30))
        change_state(&m);
      else
        forward(&m);
      compare_parameters(&m);
    }
  for (int i = 0; i < SIDES; i++) clnorm_batchnorm_destroy(m.bn[i]);
}

/* ---- Rounds ----------------------------------------------------------------------------------------- */

static fuzz_counts layouts;

/* A device is for random layouts: what its back end shares with the CPU path's is tried there. */
static void run_round(void) {
  if (fuzz_device() || fuzz_chance(40))
    fuzz_layouts(&layouts);
  else if (fuzz_chance(25))
    fuzz_module();
  else
    fuzz_operation();
}

#if defined(CLNORM_LIBFUZZER)
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  start_round(0, 0);
  source.data = data;
  source.left = size;
  run_round();
  return 0;
}
#else

static double seconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The value of an option, else of a variable, else NULL. */
static const char *setting(int argc, char **argv, const char *option, const char *variable) {
  for (int i = 1; i + 1 < argc; i += 2)
    if (strcmp(argv[i], option) == 0) return argv[i + 1];
  return variable ? getenv(variable) : NULL;
}

int main(int argc, char **argv) {
  const char *seconds = setting(argc, argv, "--seconds", "CLNORM_FUZZ_SECONDS");
  const char *seed = setting(argc, argv, "--seed", "CLNORM_FUZZ_SEED");
  const char *only = setting(argc, argv, "--round", NULL);
  const uint64_t chosen = seed ? strtoull(seed, NULL, 0) : 1;
  const double end = seconds_now() + (seconds ? atof(seconds) : 10);
  uint64_t round = only ? strtoull(only, NULL, 0) : 0;
  setvbuf(stdout, NULL, _IOLBF, 0);
  printf("seed %llu\n", (unsigned long long)chosen);
  do {
    start_round(chosen, round++);
    run_round();
  } while (!only && seconds_now() < end);
  const bool with_device = fuzz_device() != NULL;
  close_contexts();
  printf("%llu rounds: %llu calls refused, %llu runs compared, %llu modules, %llu contexts\n",
         (unsigned long long)round, (unsigned long long)counted.refused,
         (unsigned long long)counted.ran, (unsigned long long)counted.modules,
         (unsigned long long)counted.contexts);
  printf("layouts: %llu calls refused, %llu runs compared\n", (unsigned long long)layouts.refused,
         (unsigned long long)layouts.ran);
  const bool others = counted.refused && counted.ran && counted.modules;
  const bool tried = layouts.ran && (with_device || (others && layouts.refused));
  return only || tried ? EXIT_SUCCESS : EXIT_FAILURE;
}
#endif
