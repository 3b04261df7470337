/* Back ends below the interface, every path and pair of storages, on the CPU path every instruction set, whatever
 * views the tensors have: the bits are those that the CPU path's plain instructions give for floats (or doubles)
 * side by side, rounded once for y's storage by cases/halves.c; nothing but the tensor's elements is written, and
 * where memory is the host's, nothing around them read. */
#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"
#include "data.h"
#include "halves.h"
#include "objects.h"

enum { MAX_CHANNELS = 520, GUARD = 0xa5 };

static const char *const storage_names[] = {"f32", "f16", "bf16", "f64"};

static uint64_t state = 1;

/* 0 to limit - 1. */
static uint32_t random_below(uint32_t limit) { return (uint32_t)(clnorm_random(&state) % limit); }

/* ---- Elements ---------------------------------------------------------------------------------------- */

static void element_set(void *base, uint32_t storage, uint64_t i, double value) {
  switch (storage) {
  case CLNORM_STORAGE_F32:
    ((float *)base)[i] = (float)value;
    break;
  case CLNORM_STORAGE_F16:
    ((uint16_t *)base)[i] = clnorm_float_to_half((float)value);
    break;
  case CLNORM_STORAGE_BF16:
    ((uint16_t *)base)[i] = clnorm_float_to_bfloat((float)value);
    break;
  default:
    ((double *)base)[i] = value;
  }
}

static double element_get(const void *base, uint32_t storage, uint64_t i) {
  switch (storage) {
  case CLNORM_STORAGE_F32:
    return ((const float *)base)[i];
  case CLNORM_STORAGE_F16:
    return clnorm_half_to_float(((const uint16_t *)base)[i]);
  case CLNORM_STORAGE_BF16:
    return clnorm_bfloat_to_float(((const uint16_t *)base)[i]);
  default:
    return ((const double *)base)[i];
  }
}

/* ---- Tensors ----------------------------------------------------------------------------------------- */

/* Its last element ends, or its first begins, where a page begins that nobody may touch. */
typedef struct tensor {
  clnorm_view view;
  unsigned char *pages, *base, *mine; /* mine: 1 for bytes of elements, 2 for those of the tail */
  size_t mapped, bytes;
} tensor;

/* By the words of kernels/call.h, and not by its functions. */
static uint64_t address(const clnorm_call *call, const clnorm_view *v, uint64_t n, uint64_t c,
                        uint64_t p) {
  const uint64_t k = p % call->extent[1], j = p / call->extent[1] % call->extent[0];
  const uint64_t i = p / call->extent[1] / call->extent[0];
  return v->offset + n * v->sample + c / v->block * v->channel + c % v->block + i * v->position[0] +
         j * v->position[1] + k * v->position[2];
}

static uint64_t padded_channels(const clnorm_call *call, const clnorm_view *v) {
  return (call->channels + v->block - 1) / v->block * v->block;
}

static void tensor_make(tensor *t, const clnorm_call *call, const clnorm_view *view) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE),
               size = clnorm_dtype_size((int32_t)view->storage);
  t->view = *view;
  const uint64_t channels = padded_channels(call, view);
  t->bytes = (address(call, view, call->batch - 1, channels - 1, call->spatial - 1) + 1) * size;
  t->mapped = (t->bytes + page - 1) / page * page + 2 * page;
  t->pages = mmap(NULL, t->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(t->pages != MAP_FAILED);
  assert_int_equal(mprotect(t->pages + page, t->mapped - 2 * page, PROT_READ | PROT_WRITE), 0);
  memset(t->pages + page, GUARD, t->mapped - 2 * page);
  t->base = random_below(2) ? t->pages + page : t->pages + t->mapped - page - t->bytes;
  t->mine = calloc(t->bytes, 1);
  assert_non_null(t->mine);
  for (uint64_t n = 0; n < call->batch; n++)
    for (uint64_t c = 0; c < channels; c++)
      for (uint64_t p = 0; p < call->spatial; p++) {
        unsigned char *mine = t->mine + address(call, view, n, c, p) * size;
        assert_int_equal(*mine, 0); /* the view overlaps nowhere */
        memset(mine, c < call->channels ? 1 : 2, size);
      }
}

static void tensor_free(tensor *t) {
  munmap(t->pages, t->mapped);
  free(t->mine);
}

/* ---- Problems ---------------------------------------------------------------------------------------- */

/* Values of a problem without a layout, and what comes of them. */
typedef struct problem {
  clnorm_work work;
  unsigned workers;
  uint64_t count;
  /* in the order of (n, c, p); what x's storage can hold */
  double *x;
  /* in reals; operands by clnorm_operand */
  size_t real_bytes;
  unsigned char parameters[CLNORM_NUM_OPERANDS][MAX_CHANNELS * sizeof(double)];
  bool affine, running;
} problem;

static void problem_parameters(problem *p) {
  static const struct {
    double mean, spread;
  } of[CLNORM_NUM_OPERANDS] = {[CLNORM_OPERAND_WEIGHT] = {1, 1},
                               [CLNORM_OPERAND_BIAS] = {0, 1},
                               [CLNORM_OPERAND_RUNNING_MEAN] = {7, 1},
                               [CLNORM_OPERAND_RUNNING_VAR] = {9, 1}};
  const bool doubles = p->real_bytes == sizeof(double);
  memset(p->parameters, GUARD, sizeof p->parameters);
  for (unsigned o = CLNORM_OPERAND_WEIGHT; o < CLNORM_OPERAND_SAVED_MEAN; o++) {
    float values[MAX_CHANNELS];
    fixture_fill(values, MAX_CHANNELS, o, of[o].mean, of[o].spread);
    for (uint64_t c = 0; c < p->work.call.channels; c++)
      element_set(p->parameters[o], doubles ? CLNORM_STORAGE_F64 : CLNORM_STORAGE_F32, c,
                  values[c]);
  }
}

static void set_factors(clnorm_call *call, double eps, double keep) {
  const double values[3] = {eps, keep, 1 - keep};
  call->eps = (float)eps;
  call->keep = (float)keep;
  call->take = (float)(1 - keep);
  memcpy(&call->eps_bits, &values[0], sizeof(double));
  memcpy(&call->keep_bits, &values[1], sizeof(double));
  memcpy(&call->take_bits, &values[2], sizeof(double));
}

static void problem_make(problem *p, const uint64_t shape[3], uint32_t x_storage) {
  memset(p, 0, sizeof *p);
  clnorm_call *call = &p->work.call;
  call->batch = shape[0];
  call->channels = shape[1];
  call->spatial = shape[2];
  set_factors(call, 1e-3, 0.9);
  p->count = shape[0] * shape[1] * shape[2];
  p->real_bytes = x_storage == CLNORM_STORAGE_F64 ? sizeof(double) : sizeof(float);
  p->x = malloc(p->count * sizeof(double));
  float *values = malloc(p->count * sizeof(float));
  assert_true(p->x && values);
  fixture_fill(values, p->count, clnorm_random(&state), 3, 2);
  for (uint64_t i = 0; i < p->count; i++) {
    double stored;
    element_set(&stored, x_storage, 0, values[i] * (x_storage == CLNORM_STORAGE_F64 ? 1.1 : 1));
    p->x[i] = element_get(&stored, x_storage, 0);
  }
  free(values);
  p->affine = random_below(4) != 0;
  p->running = random_below(4) != 0;
  problem_parameters(p);
}

static clnorm_view dense_view(const clnorm_call *call, uint32_t storage) {
  const clnorm_view v = {.storage = storage,
                         .block = 1,
                         .channel = call->spatial,
                         .sample = call->channels * call->spatial,
                         .position = {call->spatial, call->spatial, 1}};
  return v;
}

/* ---- A run ------------------------------------------------------------------------------------------- */

typedef struct results {
  unsigned char parameters[CLNORM_NUM_OPERANDS][MAX_CHANNELS * sizeof(double)];
} results;

/* What CLNORM_ALIGNED says, where buffers begin at multiples of 16 bytes. */
static unsigned aligned(const clnorm_call *call) {
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++) {
    const clnorm_view *v = &call->views[i];
    const uint64_t size = clnorm_dtype_size((int32_t)v->storage);
    const uint64_t all = v->offset | v->sample | v->channel | call->spatial;
    if (v->block != 1 || v->position[2] != 1 || all * size % 16 != 0) return 0;
  }
  return CLNORM_ALIGNED;
}

static clnorm_call run_call(const problem *p, const clnorm_schedule *schedule, unsigned tail) {
  clnorm_call call = schedule->call;
  call.flags |= CLNORM_SAVE_MEAN | CLNORM_SAVE_MEAN_LOW | CLNORM_SAVE_INVSTD | tail;
  call.flags |= aligned(&call);
  if (p->affine) call.flags |= CLNORM_HAS_WEIGHT | CLNORM_HAS_BIAS;
  if (p->running || p->work.statistics == CLNORM_GIVEN_STATISTICS) call.flags |= CLNORM_HAS_RUNNING;
  return call;
}

/* Memory of the host as a context has it. */
typedef struct lent {
  clnorm_memory memory;
  void *host;
} lent;

static lent lend(clnorm_context *context, void *host, size_t size) {
  lent l = {clnorm_host_memory(host, size), host};
  if (!fixture_is_opencl(context)) return l;
  assert_ok(context, clnorm_memory_alloc(context, size, &l.memory));
  assert_ok(context, clnorm_memory_write(context, l.memory, host, size));
  return l;
}

static void give_back(clnorm_context *context, lent *l) {
  if (!fixture_is_opencl(context)) return;
  assert_ok(context, clnorm_memory_read(context, l->memory, l->host, l->memory.size));
  clnorm_memory_free(context, &l->memory);
}

static void submit(clnorm_context *context, const clnorm_schedule *schedule,
                   const clnorm_call *call, const lent *operands) {
  clnorm_device *device = clnorm__context_opened(context);
  clnorm_job run = {.schedule = schedule, .call = *call};
  for (int o = 0; o < CLNORM_NUM_OPERANDS; o++) run.operands[o] = operands[o].memory;
  assert_ok(context, device->operations->prepare(device, schedule, &run.prepared, &context->error));
  assert_ok(context, device->operations->run(device, &run, &context->error));
  assert_ok(context, device->operations->finish(device, &context->error));
  device->operations->unprepare(device, run.prepared);
}

/* The work's views are those of x and y. */
static void run(const problem *p, clnorm_context *context, const tensor *x, const tensor *y,
                unsigned tail, results *r) {
  clnorm_traits traits = clnorm__context_opened(context)->traits;
  traits.workers = p->workers;
  const clnorm_schedule schedule = clnorm__schedule_make(&p->work, &traits);
  const clnorm_call call = run_call(p, &schedule, tail);
  lent operands[CLNORM_NUM_OPERANDS];
  memset(operands, 0, sizeof operands);
  memcpy(r->parameters, p->parameters, sizeof r->parameters);
  for (int o = CLNORM_OPERAND_WEIGHT; o <= CLNORM_OPERAND_SAVED_INVSTD; o++)
    if (call.flags & CLNORM_HAS_WEIGHT || o > CLNORM_OPERAND_BIAS)
      operands[o] = lend(context, r->parameters[o], sizeof r->parameters[o]);
  operands[CLNORM_OPERAND_X] = lend(context, x->base, x->bytes);
  operands[CLNORM_OPERAND_Y] =
      x == y ? operands[CLNORM_OPERAND_X] : lend(context, y->base, y->bytes);
  const size_t size = (schedule.workspace_size + 64) / 64 * 64;
  void *workspace = aligned_alloc(64, size);
  assert_non_null(workspace);
  memset(workspace, GUARD, size);
  operands[CLNORM_OPERAND_WORKSPACE] = lend(context, workspace, size);
  submit(context, &schedule, &call, operands);
  for (int o = 0; o < CLNORM_NUM_OPERANDS; o++)
    if (operands[o].host && (o != CLNORM_OPERAND_Y || x != y)) give_back(context, &operands[o]);
  free(workspace);
}

/* ---- Contexts ---------------------------------------------------------------------------------------- */

/* What is tested, NULL behind the last: on the CPU path a context for each instruction set, unless the environment
 * names one. */
static clnorm_context *contexts[4];
static clnorm_context *plain;

static int set_up(void **unused) {
  clnorm_context_options options = fixture_options();
  const clnorm_isa wanted = options.isa;
  int count = 0;
  (void)unused;
  options.isa = CLNORM_ISA_PLAIN;
  options.form = CLNORM_FORM_AUTO;
  plain = fixture_open_with("cpu", &options);
  const bool one = strcmp(fixture_device(), "cpu") != 0 || wanted != CLNORM_ISA_AUTO;
  if (one) contexts[count++] = fixture_open();
  for (int isa = CLNORM_ISA_PLAIN; !one && isa <= CLNORM_ISA_AVX512; isa++) {
    options.isa = (clnorm_isa)isa;
    if (clnorm_context_create("cpu", &options, &contexts[count], NULL) == CLNORM_OK) count++;
  }
  for (int i = 0; i < count; i++) print_message("%s\n", clnorm_context_description(contexts[i]));
  return 0;
}

static int tear_down(void **unused) {
  (void)unused;
  for (int i = 0; contexts[i]; i++) clnorm_context_destroy(contexts[i]);
  clnorm_context_destroy(plain);
  return 0;
}

/* f64 may be what a device has not; every other pair it has. */
static bool has(clnorm_context *context, clnorm_path path, uint32_t x, uint32_t y) {
  clnorm_work work;
  clnorm_device *device = clnorm__context_opened(context);
  clnorm_key key = {.form = device->traits.form,
                    .group_size = device->traits.group_size,
                    .x = x,
                    .y = y,
                    .path = path};
  memset(&work, 0, sizeof work);
  work.call.views[CLNORM_VIEW_X].storage = x;
  work.call.views[CLNORM_VIEW_Y].storage = y;
  if (!device->operations->has_path(device, path, &work)) return false;
  const clnorm_status status = device->operations->supports(device, &key, &context->error);
  if (status == CLNORM_OK) return true;
  if (x != CLNORM_STORAGE_F64) fail_msg("%s", clnorm_last_error(context));
  print_message("%s\n", clnorm_last_error(context));
  return false;
}

/* ---- What is right ----------------------------------------------------------------------------------- */

/* y before it is stored, and the parameters: from reals side by side, by the plain instructions. */
typedef struct expected {
  double *y;
  results results;
} expected;

static void fill(const clnorm_call *call, tensor *t, const double *values) {
  for (uint64_t n = 0; n < call->batch; n++)
    for (uint64_t c = 0; c < call->channels; c++)
      for (uint64_t p = 0; p < call->spatial; p++)
        element_set(t->base, t->view.storage, address(call, &t->view, n, c, p), *values++);
}

/* Element i of a channel. */
static uint64_t dense_address(const clnorm_call *call, uint64_t c, uint64_t i) {
  return (i / call->spatial * call->channels + c) * call->spatial + i % call->spatial;
}

static void expect(const problem *p, expected *e) {
  problem dense = *p;
  clnorm_call *call = &dense.work.call;
  tensor x, y;
  const uint32_t real = p->real_bytes == sizeof(double) ? CLNORM_STORAGE_F64 : CLNORM_STORAGE_F32;
  call->extent[0] = 1;
  call->extent[1] = call->spatial;
  for (int v = 0; v < CLNORM_NUM_VIEWS; v++) call->views[v] = dense_view(call, real);
  dense.work.path = CLNORM_PATH_POSITIONS;
  dense.work.cut = CLNORM_CUT_CHANNEL;
  dense.work.store = CLNORM_STORE_CACHED;
  tensor_make(&x, call, &call->views[CLNORM_VIEW_X]);
  tensor_make(&y, call, &call->views[CLNORM_VIEW_Y]);
  fill(call, &x, p->x);
  run(&dense, plain, &x, &y, 0, &e->results);
  e->y = malloc(p->count * sizeof(double));
  assert_non_null(e->y);
  for (uint64_t i = 0; i < p->count; i++) e->y[i] = element_get(y.base, real, i);
  tensor_free(&x);
  tensor_free(&y);
}

static double parameter(const problem *p, int operand, uint64_t c) {
  return element_get(p->parameters[operand], CLNORM_STORAGE_F64, c);
}

/* Doubles against long doubles, within the bound of docs/arithmetic.md with the u of double. */
static void check_doubles(const problem *p, const expected *e, const char *text) {
  const clnorm_call *call = &p->work.call;
  const uint64_t count = call->batch * call->spatial;
  const bool given = p->work.statistics == CLNORM_GIVEN_STATISTICS;
  for (uint64_t c = 0; c < call->channels; c++) {
    long double sum = 0, squares = 0;
    for (uint64_t i = 0; i < count; i++) sum += p->x[dense_address(call, c, i)];
    const long double mean =
        given ? (long double)parameter(p, CLNORM_OPERAND_RUNNING_MEAN, c) : sum / (double)count;
    for (uint64_t i = 0; i < count; i++) {
      const long double d = p->x[dense_address(call, c, i)] - mean;
      squares += d * d;
    }
    const long double var =
        given ? (long double)parameter(p, CLNORM_OPERAND_RUNNING_VAR, c) : squares / (double)count;
    const long double invstd = 1 / sqrtl(var + 1e-3);
    const double weight = p->affine ? parameter(p, CLNORM_OPERAND_WEIGHT, c) : 1;
    const double bias = p->affine ? parameter(p, CLNORM_OPERAND_BIAS, c) : 0;
    for (uint64_t i = 0; i < count; i++) {
      const uint64_t at = dense_address(call, c, i);
      const long double xhat = (p->x[at] - mean) * invstd;
      const long double scale = fabs(weight) * (fabsl(xhat) + 1) + fabs(bias);
      if (fabsl(e->y[at] - (xhat * weight + bias)) > 8 * 0x1p-53L * scale)
        fail_msg("%s: y[%d] is %a, far from %a", text, (int)at, e->y[at],
                 (double)(xhat * weight + bias));
    }
  }
}

/* Elements of y, byte by byte, its tail, and all around it. */
static void check_y(const problem *p, const tensor *y, unsigned tail, const double *values,
                    const char *text) {
  const clnorm_call *call = &p->work.call;
  const size_t size = clnorm_dtype_size((int32_t)y->view.storage);
  unsigned char *right = malloc(y->bytes);
  assert_non_null(right);
  for (size_t i = 0; i < y->bytes; i++) right[i] = y->mine[i] == 2 && tail ? 0 : GUARD;
  for (uint64_t n = 0; n < call->batch; n++)
    for (uint64_t c = 0; c < call->channels; c++)
      for (uint64_t s = 0; s < call->spatial; s++)
        element_set(right, y->view.storage, address(call, &y->view, n, c, s), *values++);
  for (size_t i = 0; i < y->bytes; i++)
    if (y->base[i] != right[i])
      fail_msg("%s: y's element %zu is %a, expected %a", text, i / size,
               element_get(y->base, y->view.storage, i / size),
               element_get(right, y->view.storage, i / size));
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  for (unsigned char *at = y->pages + page; at < y->pages + y->mapped - page; at++)
    if ((at < y->base || at >= y->base + y->bytes) && *at != GUARD)
      fail_msg("%s: byte %td from y on was written", text, at - y->base);
  free(right);
}

static void check_results(const problem *p, const results *got, const results *right,
                          const char *text) {
  for (int o = CLNORM_OPERAND_RUNNING_MEAN; o <= CLNORM_OPERAND_SAVED_INVSTD; o++)
    for (size_t i = 0; i < MAX_CHANNELS * sizeof(double); i++)
      if (got->parameters[o][i] != right->parameters[o][i])
        fail_msg("%s: operand %d differs in channel %zu", text, o, i / p->real_bytes);
}

/* ---- Views ------------------------------------------------------------------------------------------- */

typedef enum layout {
  DENSE,
  PADDED,
  STRIDED,
  BLOCKED,
  BLOCKS,
  BESIDE,
  BESIDE_PADDED,
  NUM_LAYOUTS
} layout;

/* Those that a path has. */
static const struct {
  layout first, count;
} path_layouts[] = {[CLNORM_PATH_GENERAL] = {DENSE, NUM_LAYOUTS},
                    [CLNORM_PATH_POSITIONS] = {DENSE, 2},
                    [CLNORM_PATH_CHANNELS] = {BLOCKED, 4}};

/* Axes are laid out one behind the other, with gaps: a random order of samples, channels and positions, or, where
 * lanes are to be positions, positions within the channels or within the samples. */
static void view_strides(clnorm_view *v, const clnorm_call *call, bool positions) {
  const uint64_t outer = call->spatial / call->extent[1] / call->extent[0];
  const struct {
    uint64_t *stride, size;
  } axes[5] = {{&v->position[2], call->extent[1]},
               {&v->position[1], call->extent[0]},
               {&v->position[0], outer},
               {&v->channel, (call->channels + v->block - 1) / v->block},
               {&v->sample, call->batch}};
  int order[5] = {0, 1, 2, 3, 4};
  for (int i = positions ? 3 : 0; i < 5; i++) {
    const int k = i + (int)random_below((uint32_t)(5 - i)), moved = order[k];
    order[k] = order[i];
    order[i] = moved;
  }
  uint64_t stride = v->block;
  for (int i = 0; i < 5; i++) {
    if (!positions || i >= 3) stride += random_below(2) * random_below(7) * v->block;
    *axes[order[i]].stride = stride;
    stride *= axes[order[i]].size;
  }
  v->offset = random_below(2) ? 8 * random_below(3) : random_below(20);
}

/* All axes without gaps: samples, blocks of channels, positions. */
static void view_blocks(clnorm_view *v, const clnorm_call *call) {
  v->position[2] = v->block;
  v->position[1] = v->position[2] * call->extent[1];
  v->position[0] = v->position[1] * call->extent[0];
  v->channel = v->block * call->spatial;
  v->sample = padded_channels(call, v) * call->spatial;
}

static clnorm_view make_view(const clnorm_call *call, layout l, uint32_t storage) {
  clnorm_view v = dense_view(call, storage);
  const bool blocks = l == BLOCKED || l == BLOCKS;
  v.block = blocks ? 4u << random_below(4) : l >= BESIDE ? (uint32_t)call->channels : 1;
  if (blocks && call->channels > 512 && random_below(2)) v.block = 512;
  if (l == BLOCKS || l == BESIDE)
    view_blocks(&v, call);
  else if (l != DENSE)
    view_strides(&v, call, l == PADDED);
  if (l >= BESIDE) v.block = 1, v.channel = 1;
  return v;
}

/* Of the positions' axes, where a path may have several. */
static void set_extents(clnorm_call *call, bool several) {
  call->extent[0] = 1;
  call->extent[1] = call->spatial;
  for (int i = 0; several && i < 2; i++) {
    const uint64_t divisor = 2 + random_below(9);
    if (call->extent[1] % divisor) continue;
    call->extent[1] /= divisor;
    call->extent[0] = i || random_below(2) ? divisor : 1;
  }
}

/* ---- Cases ------------------------------------------------------------------------------------------- */

static void check_layout(problem *p, const expected *e, const char *text) {
  clnorm_call *call = &p->work.call;
  const bool general = p->work.path == CLNORM_PATH_GENERAL;
  const bool positions = p->work.path == CLNORM_PATH_POSITIONS;
  const layout first = path_layouts[p->work.path].first, num = path_layouts[p->work.path].count;
  const layout x_layout = (layout)(first + random_below(num));
  const layout y_layout = (layout)(first + random_below(num));
  const bool in_place = call->views[0].storage == call->views[1].storage && random_below(3) == 0;
  const unsigned tail = !positions && !in_place && random_below(2) ? CLNORM_OWNS_TAIL : 0;
  tensor x, y;
  results r;
  set_extents(call, general && x_layout > PADDED && y_layout > PADDED);
  call->views[CLNORM_VIEW_X] = make_view(call, x_layout, call->views[CLNORM_VIEW_X].storage);
  call->views[CLNORM_VIEW_Y] = in_place
                                   ? call->views[CLNORM_VIEW_X]
                                   : make_view(call, y_layout, call->views[CLNORM_VIEW_Y].storage);
  p->work.store = random_below(2) ? CLNORM_STORE_STREAMED : CLNORM_STORE_CACHED;
  p->workers = 1 + random_below(5);
  tensor_make(&x, call, &call->views[CLNORM_VIEW_X]);
  if (!in_place) tensor_make(&y, call, &call->views[CLNORM_VIEW_Y]);
  fill(call, &x, p->x);
  for (int i = 0; contexts[i]; i++) {
    char of[400];
    if (!has(contexts[i], p->work.path, x.view.storage, call->views[CLNORM_VIEW_Y].storage))
      continue;
    snprintf(of, sizeof of, "context %d, %s, layouts %d %d%s%s", i, text, x_layout, y_layout,
             in_place ? ", in place" : "", tail ? ", with a tail" : "");
    if (in_place) fill(call, &x, p->x);
    run(p, contexts[i], &x, in_place ? &x : &y, tail, &r);
    check_y(p, in_place ? &x : &y, tail, e->y, of);
    if (p->work.operation != CLNORM_COPY) check_results(p, &r, &e->results, of);
  }
  tensor_free(&x);
  if (!in_place) tensor_free(&y);
}

typedef struct mode {
  const char *name;
  clnorm_operation operation;
  clnorm_statistics statistics;
  clnorm_cut cut;
} mode;

static const mode modes[] = {
    {"channel", CLNORM_FORWARD, CLNORM_BATCH_STATISTICS, CLNORM_CUT_CHANNEL},
    {"split", CLNORM_FORWARD, CLNORM_BATCH_STATISTICS, CLNORM_CUT_SPLIT},
    {"given", CLNORM_FORWARD, CLNORM_GIVEN_STATISTICS, CLNORM_CUT_AUTO},
    {"copy", CLNORM_COPY, CLNORM_BATCH_STATISTICS, CLNORM_CUT_AUTO}};

static void check_shape(const uint64_t shape[3], uint32_t x, uint32_t y) {
  problem p;
  problem_make(&p, shape, x);
  p.workers = 1;
  for (size_t m = 0; m < FIXTURE_LENGTH(modes); m++)
    for (int path = CLNORM_PATH_GENERAL; path < CLNORM_NUM_PATHS; path++) {
      char text[200];
      expected e;
      p.work.operation = modes[m].operation;
      p.work.statistics = modes[m].statistics;
      p.work.cut = modes[m].cut;
      p.work.call.flags = random_below(2) ? CLNORM_BIASED_RUNNING_VAR : 0;
      expect(&p, &e);
      p.work.path = (clnorm_path)path;
      p.work.call.views[CLNORM_VIEW_X].storage = x;
      p.work.call.views[CLNORM_VIEW_Y].storage = y;
      snprintf(text, sizeof text, "%s to %s, %dx%dx%d, %s, path %d", storage_names[x],
               storage_names[y], (int)shape[0], (int)shape[1], (int)shape[2], modes[m].name, path);
      if (x == CLNORM_STORAGE_F64 && p.work.operation != CLNORM_COPY) check_doubles(&p, &e, text);
      check_layout(&p, &e, text);
      free(e.y);
    }
  free(p.x);
}

static const uint64_t batches[] = {1, 2, 33}, channels[] = {1, 3, 8, 16, 21, 71, 320, 520},
                      spatials[] = {1, 7, 49, 64, 65, 100, 2048, 5000};

/* Channels that are one piece of memory in tiles, and more than a table repeats. */
static const uint64_t many[][3] = {{20, 300, 65}};

/* For devices that take long: planes that share a segment, several segments, and channels of few values. */
static const uint64_t few[][3] = {{2, 3, 48}, {33, 1, 65}, {1, 1, 2104}, {1, 17, 1}};
static bool only_few;

static void check_pair(uint32_t x, uint32_t y) {
  for (size_t i = 0; only_few && i < FIXTURE_LENGTH(few); i++) check_shape(few[i], x, y);
  if (only_few) return;
  for (size_t n = 0; n < FIXTURE_LENGTH(batches); n++)
    for (size_t c = 0; c < FIXTURE_LENGTH(channels); c++)
      for (size_t s = 0; s < FIXTURE_LENGTH(spatials); s++) {
        const uint64_t shape[3] = {batches[n], channels[c], spatials[s]};
        if (shape[0] * shape[1] * shape[2] <= 40000) check_shape(shape, x, y);
      }
  for (size_t i = 0; i < FIXTURE_LENGTH(many); i++) check_shape(many[i], x, y);
}

/* Where kernels have to be compiled, each storage with itself and with another. */
static void floats_and_halves(void **unused) {
  (void)unused;
  for (uint32_t x = CLNORM_STORAGE_F32; x <= CLNORM_STORAGE_BF16; x++)
    for (uint32_t y = CLNORM_STORAGE_F32; y <= CLNORM_STORAGE_BF16; y++)
      if (!fixture_is_opencl(contexts[0]) || y == x || y == (x + 1) % 3) check_pair(x, y);
}

static void doubles(void **unused) {
  (void)unused;
  check_pair(CLNORM_STORAGE_F64, CLNORM_STORAGE_F64);
  check_pair(CLNORM_STORAGE_F64, CLNORM_STORAGE_F32);
}

/* ---- Conversions -------------------------------------------------------------------------------------- */

/* Floats at and beside what decides a rounding to either half, of both signs: all middles and all values of halves
 * from 2^-27 on, and all of bfloats, NaN and infinities among them. */
static uint32_t *make_floats(uint64_t *count) {
  uint32_t *bits = malloc(1000000 * sizeof *bits), *end = bits;
  assert_non_null(bits);
  for (uint32_t sign = 0; sign < 2; sign++)
    for (uint32_t steps = 100u << 11; steps < 146u << 11; steps++)
      for (uint32_t beside = 0; beside < 3; beside++)
        *end++ = sign << 31 | ((steps << 12) + beside - 1);
  for (uint32_t high = 0; high < 65536; high++) {
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    for (size_t i = 0; i < FIXTURE_LENGTH(low); i++) *end++ = high << 16 | low[i];
  }
  *count = (uint64_t)(end - bits);
  return bits;
}

/* Doubles at and beside the middles between floats and at floats, where floats end and are subnormal too. */
static double *make_doubles(uint64_t *count) {
  double *values = malloc(1000000 * sizeof *values), *end = values;
  assert_non_null(values);
  for (uint64_t i = 0; i < 100000; i++) {
    uint32_t bits = (uint32_t)clnorm_random(&state);
    if (i % 3 == 0) bits = (bits & 0x80ffffffu) | 0x7f000000u * (i % 2);
    float from, to;
    memcpy(&from, &bits, sizeof from);
    bits++;
    memcpy(&to, &bits, sizeof to);
    const double middle = ((double)from + (double)to) / 2;
    const double beside[] = {from, middle, nextafter(middle, from), nextafter(middle, to)};
    for (size_t k = 0; k < FIXTURE_LENGTH(beside); k++) *end++ = beside[k];
  }
  const double last = 0x1.ffffffp+127; /* the middle from where on a float is infinite */
  const double ends[] = {last, nextafter(last, 0), INFINITY, -INFINITY, NAN, 0x1p-150, 0x1.8p-150};
  for (size_t k = 0; k < FIXTURE_LENGTH(ends); k++) *end++ = ends[k];
  *count = (uint64_t)(end - values);
  return values;
}

static bool same_element(const void *a, const void *b, uint32_t storage, bool moved, uint64_t i) {
  const size_t size = clnorm_dtype_size((int32_t)storage);
  if (memcmp((const char *)a + i * size, (const char *)b + i * size, size) == 0) return true;
  return !moved && isnan(element_get(a, storage, i)) && isnan(element_get(b, storage, i));
}

/* A copy of count elements, by every path and instruction set. */
static void check_copy(uint32_t from, uint32_t to, const void *elements, uint64_t count) {
  const size_t from_size = clnorm_dtype_size((int32_t)from),
               to_size = clnorm_dtype_size((int32_t)to);
  problem p = {.count = count, .real_bytes = sizeof(float)};
  clnorm_call *call = &p.work.call;
  call->batch = call->channels = call->extent[0] = 1;
  call->spatial = call->extent[1] = count;
  p.work.operation = CLNORM_COPY;
  p.workers = 3;
  call->views[CLNORM_VIEW_X] = dense_view(call, from);
  call->views[CLNORM_VIEW_Y] = dense_view(call, to);
  unsigned char *right = malloc(count * to_size);
  assert_non_null(right);
  for (uint64_t i = 0; i < count; i++) element_set(right, to, i, element_get(elements, from, i));
  if (from == to) memcpy(right, elements, count * to_size);
  for (int path = CLNORM_PATH_GENERAL; path <= CLNORM_PATH_POSITIONS; path++)
    for (int c = 0; contexts[c]; c++)
      for (int streamed = 0; streamed < 2; streamed++) {
        tensor x, y;
        results r;
        if (!has(contexts[c], (clnorm_path)path, from, to)) continue;
        p.work.path = (clnorm_path)path;
        p.work.store = streamed ? CLNORM_STORE_STREAMED : CLNORM_STORE_CACHED;
        call->views[CLNORM_VIEW_Y].offset = random_below(20);
        tensor_make(&x, call, &call->views[CLNORM_VIEW_X]);
        tensor_make(&y, call, &call->views[CLNORM_VIEW_Y]);
        memcpy(x.base, elements, count * from_size);
        run(&p, contexts[c], &x, &y, 0, &r);
        const unsigned char *got = y.base + call->views[CLNORM_VIEW_Y].offset * to_size;
        for (uint64_t i = 0; i < count; i++)
          if (!same_element(got, right, to, from == to, i))
            fail_msg("context %d, %s to %s, path %d: %a became %a, not %a", c, storage_names[from],
                     storage_names[to], path, element_get(elements, from, i),
                     element_get(got, to, i), element_get(right, to, i));
        tensor_free(&x);
        tensor_free(&y);
      }
  free(right);
}

static void conversions(void **unused) {
  (void)unused;
  uint64_t count;
  uint32_t *floats = make_floats(&count);
  for (uint32_t to = CLNORM_STORAGE_F32; to <= CLNORM_STORAGE_BF16; to++)
    check_copy(CLNORM_STORAGE_F32, to, floats, count);
  free(floats);
  uint16_t *halves = malloc(65536 * sizeof *halves);
  assert_non_null(halves);
  for (uint32_t i = 0; i < 65536; i++) halves[i] = (uint16_t)i;
  for (uint32_t from = CLNORM_STORAGE_F16; from <= CLNORM_STORAGE_BF16; from++)
    for (uint32_t to = CLNORM_STORAGE_F32; to <= CLNORM_STORAGE_BF16; to++)
      check_copy(from, to, halves, 65536);
  free(halves);
  double *values = make_doubles(&count);
  check_copy(CLNORM_STORAGE_F64, CLNORM_STORAGE_F64, values, count);
  check_copy(CLNORM_STORAGE_F64, CLNORM_STORAGE_F32, values, count);
  free(values);
}

/* test_paths [CASE [few]] */
int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(conversions),
      cmocka_unit_test(floats_and_halves),
      cmocka_unit_test(doubles),
  };
  if (argc > 1) cmocka_set_test_filter(argv[1]);
  only_few = argc > 2 && strcmp(argv[2], "few") == 0;
  return cmocka_run_group_tests_name("paths", tests, set_up, tear_down);
}
