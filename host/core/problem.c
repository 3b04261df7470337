#include "problem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "environment.h"
#include "structures.h"
#include "tensor.h"

void clnorm_problem_init(clnorm_problem *problem, size_t size) {
  const clnorm_problem defaults = {.size = sizeof defaults, .eps = 1e-5};
  clnorm__structure_init(problem, size, &defaults, sizeof defaults);
}

int32_t clnorm__real_of(int32_t dtype) { return dtype == CLNORM_F64 ? CLNORM_F64 : CLNORM_F32; }

/* ---- Checks ---------------------------------------------------------------------------------------- */

clnorm_status clnorm__check_eps(double eps, int32_t real, clnorm_error *error) {
  if (eps >= 0 && !isinf(real == CLNORM_F64 ? eps : (double)clnorm__default_float(eps)))
    return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "eps is %s, but must be a finite %s >= 0", clnorm__quote(eps).text,
                      real == CLNORM_F64 ? "double" : "float");
}

clnorm_status clnorm__check_momentum(double momentum, clnorm_error *error) {
  if (momentum >= 0 && momentum <= 1) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT, "momentum is %s, but must be in [0, 1]",
                      clnorm__quote(momentum).text);
}

static clnorm_status check_enumerations(const clnorm_problem *p, clnorm_error *error) {
  const struct {
    const char *name;
    int32_t value, most;
  } rows[] = {
      {"operation", p->operation, CLNORM_COPY},
      {"statistics", p->statistics, CLNORM_GIVEN_STATISTICS},
      {"cut", p->cut, CLNORM_CUT_SPLIT},
      {"store", p->store, CLNORM_STORE_STREAMED},
      {"route", p->route, CLNORM_ROUTE_GENERAL},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (rows[i].value < 0 || rows[i].value > rows[i].most)
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "%s is %" PRId32 ", but must be in [0, %" PRId32 "]", rows[i].name,
                          rows[i].value, rows[i].most);
  return CLNORM_OK;
}

/* Members that are backward's alone. */
static clnorm_status check_backward(const clnorm_problem *p, clnorm_error *error) {
  const uint32_t known = CLNORM_GRADIENT_DX | CLNORM_GRADIENT_DWEIGHT | CLNORM_GRADIENT_DBIAS;
  const char *member = p->accumulate ? "accumulate" : p->recompute ? "recompute" : NULL;
  if (p->gradients & ~known)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "gradients is 0x%" PRIx32 ", but has bits of clnorm_gradient only",
                        p->gradients);
  if (p->operation != CLNORM_BACKWARD && (member || p->gradients))
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "%s is set, but the operation is not backward",
                        member ? member : "gradients");
  if (p->recompute && p->statistics == CLNORM_GIVEN_STATISTICS)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "recompute is set, but given statistics are not computed");
  return CLNORM_OK;
}

/* Tensors of roles that the operation has not. */
static clnorm_status check_strangers(const clnorm_problem *p, clnorm_error *error) {
  for (int32_t role = 0; role < CLNORM_MAX_TENSORS; role++) {
    const int index = clnorm__operand_of(role);
    if (p->tensors[role].rank && (index < 0 || clnorm__operand_use(index, p) == '-'))
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "tensors[%" PRId32 "] (%s) has rank %" PRId32
                          ", but the operation has no such tensor",
                          role, clnorm_role_name(role), p->tensors[role].rank);
  }
  return CLNORM_OK;
}

static clnorm_status check_pair(const clnorm_problem *p, int32_t role, clnorm_error *error) {
  const clnorm_tensor *x = &p->tensors[CLNORM_X], *y = &p->tensors[role];
  const char *name = clnorm_role_name(role);
  if (x->rank != y->rank)
    return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                        "x has rank %" PRId32 " and %s %" PRId32 ", but they must be equal",
                        x->rank, name, y->rank);
  for (int i = 0; i < x->rank; i++)
    if (x->dims[i] != y->dims[i])
      return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                          "x.dims[%d] is %" PRId64 " and %s.dims[%d] %" PRId64
                          ", but they must be equal",
                          i, x->dims[i], name, i, y->dims[i]);
  const bool doubles = x->dtype == CLNORM_F64;
  const bool supported =
      doubles ? y->dtype == CLNORM_F64 || y->dtype == CLNORM_F32 : y->dtype != CLNORM_F64;
  if (supported) return CLNORM_OK;
  return clnorm__fail(
      error, CLNORM_ERROR_UNSUPPORTED,
      "x of %s with %s of %s is not supported: %s of f64 needs x of f64, and x of f64 "
      "needs %s of f64 or f32",
      clnorm_dtype_name(x->dtype), name, clnorm_dtype_name(y->dtype), name, name);
}

static clnorm_status check_one_value(const clnorm_problem *p, clnorm_error *error) {
  const clnorm_tensor *x = &p->tensors[CLNORM_X];
  const bool one = x->dims[0] == 1 && x->dims[1] > 0 && clnorm__tensor_spatial(x) == 1;
  const bool batch = p->operation != CLNORM_COPY && p->statistics == CLNORM_BATCH_STATISTICS;
  if (!one || !batch || !p->refuse_one_value) return CLNORM_OK;
  return clnorm__fail(error, CLNORM_ERROR_INVALID_ARGUMENT,
                      "batch statistics need more than one value per channel, but the input is "
                      "1 x %" PRId64 " x 1, and refuse_one_value is true",
                      x->dims[1]);
}

/* The tensors beside x; those that are not described are as x. */
static clnorm_status take_tensors(clnorm_problem *p, clnorm_error *error) {
  const clnorm_tensor *x = &p->tensors[CLNORM_X];
  clnorm_status status = CLNORM_OK;
  for (int i = CLNORM_OPERAND_Y; i <= CLNORM_OPERAND_DX && status == CLNORM_OK; i++) {
    const int32_t role = clnorm__operands[i].role;
    clnorm_tensor *t = &p->tensors[role];
    if (clnorm__operand_use(i, p) == '-') continue;
    if (t->rank == 0) *t = *x;
    status = clnorm__tensor_check(t, clnorm_role_name(role), i != CLNORM_OPERAND_DY, error);
    if (status == CLNORM_OK) status = check_pair(p, role, error);
  }
  return status;
}

clnorm_status clnorm__problem_take(clnorm_problem *taken, const clnorm_problem *given,
                                   clnorm_error *error) {
  clnorm_problem *p = taken;
  clnorm_status status = clnorm__structure_take(p, sizeof *p, given, "problem", error);
  if (status == CLNORM_OK) status = check_enumerations(p, error);
  if (status == CLNORM_OK) status = check_backward(p, error);
  if (status == CLNORM_OK) status = clnorm__tensor_check(&p->tensors[CLNORM_X], "x", false, error);
  if (status == CLNORM_OK) status = check_strangers(p, error);
  if (status == CLNORM_OK) status = take_tensors(p, error);
  if (status != CLNORM_OK) return status;
  status = clnorm__check_eps(p->eps, clnorm__real_of(p->tensors[CLNORM_X].dtype), error);
  return status == CLNORM_OK ? check_one_value(p, error) : status;
}

/* ---- Work ------------------------------------------------------------------------------------------- */

/* Fewer channels side by side than this are no lanes. */
enum { LEAST_BLOCK = 4 };

static bool positions_possible(const clnorm_call *call) {
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++)
    if (call->views[i].block != 1 || call->views[i].position[2] != 1) return false;
  return call->extent[0] == 1 && call->extent[1] == call->spatial;
}

static bool channels_possible(const clnorm_call *call) {
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++) {
    const clnorm_view *view = &call->views[i];
    if (view->block == 1 ? view->channel != 1 || call->channels == 1 : view->block < LEAST_BLOCK)
      return false;
  }
  return call->extent[0] == 1 && call->extent[1] == call->spatial;
}

/* The fastest path that the layouts allow and the device has. (N, C) is both: its planes are one position. */
static clnorm_path choose_path(const clnorm_problem *p, const clnorm_work *work,
                               const clnorm_device *device) {
  const clnorm_call *call = &work->call;
  const struct {
    clnorm_path path;
    bool possible;
  } paths[] = {
      {CLNORM_PATH_POSITIONS, positions_possible(call)},
      {CLNORM_PATH_CHANNELS, channels_possible(call)},
  };
  for (size_t i = 0; i < sizeof paths / sizeof *paths && p->route == CLNORM_ROUTE_AUTO; i++)
    if (paths[i].possible && (!device || device->operations->has_path(device, paths[i].path, work)))
      return paths[i].path;
  return CLNORM_PATH_GENERAL;
}

clnorm_ulong clnorm__double_bits(double value) {
  clnorm_ulong bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

clnorm_work clnorm__work_make(const clnorm_problem *problem, const clnorm_device *device) {
  clnorm_work work;
  memset(&work, 0, sizeof work);
  clnorm_tensor tensors[CLNORM_NUM_VIEWS];
  const clnorm_tensor *pointers[CLNORM_NUM_VIEWS];
  for (int i = 0; i < CLNORM_NUM_VIEWS; i++) {
    const int32_t role = clnorm__operands[clnorm__operand_of_view(i, problem->operation)].role;
    const bool there = problem->tensors[role].rank != 0;
    /* what the problem has not is as x, which then says nothing new */
    tensors[i] = clnorm__tensor_canonical(&problem->tensors[there ? role : CLNORM_X]);
    pointers[i] = &tensors[i];
    if (i == CLNORM_VIEW_Y && there && tensors[i].flags & CLNORM_TENSOR_OWNS_TAIL)
      work.call.flags |= CLNORM_OWNS_TAIL;
  }
  clnorm__views_make(pointers, &work.call);
  work.call.eps = clnorm__default_float(problem->eps);
  work.call.eps_bits = clnorm__double_bits(problem->eps);
  if (problem->biased_running_var) work.call.flags |= CLNORM_BIASED_RUNNING_VAR;
  work.operation = (clnorm_operation)problem->operation;
  work.statistics = (clnorm_statistics)problem->statistics;
  work.cut = (clnorm_cut)problem->cut;
  work.store = (clnorm_store)problem->store;
  if (work.operation == CLNORM_BACKWARD) {
    work.gradients = clnorm__gradients_wanted(problem);
    work.recompute = problem->recompute && clnorm__gradients_need_x(problem);
    if (problem->accumulate) work.call.flags |= CLNORM_ACCUMULATE;
    if (clnorm__gradients_need_x(problem)) work.call.flags |= CLNORM_READS_X;
  }
  work.path = choose_path(problem, &work, device);
  return work;
}
