/* clnorm.h stands alone: nothing is included before it. Every structure of it is used, as C99 and C++11 both allow:
 * enumerations are assigned to int32_t, structures are made without designators. */
#include <clnorm/clnorm.h>

static clnorm_status compare(clnorm_context *context, const clnorm_problem *problem,
                             const clnorm_binding *x, clnorm_difference *difference) {
  clnorm_run_options options;
  clnorm_compared compared;
  clnorm_context *const contexts[2] = {context, context};
  clnorm_run_options_init(&options, sizeof options);
  clnorm_difference_init(difference, sizeof *difference);
  compared.role = CLNORM_Y;
  compared.reserved = 0;
  compared.difference = difference;
  return clnorm_compare_runs(contexts, problem, x, 1, &options, &compared, 1);
}

/* y = x, channels last, on the CPU path. */
static int copy(clnorm_context *context) {
  static const int64_t dims[CLNORM_MAX_RANK] = {1, 2, 3, 1, 1};
  float x[6] = {1, 2, 3, 4, 5, 6}, y[6] = {0, 0, 0, 0, 0, 0};
  const clnorm_binding bindings[2] = {clnorm_bind(CLNORM_X, clnorm_host_memory(x, sizeof x)),
                                      clnorm_bind(CLNORM_Y, clnorm_host_memory(y, sizeof y))};
  clnorm_problem problem;
  clnorm_operand operand;
  clnorm_difference difference;
  clnorm_plan *plan = NULL;
  int right;
  clnorm_problem_init(&problem, sizeof problem);
  clnorm_operand_init(&operand, sizeof operand);
  problem.operation = CLNORM_COPY;
  problem.route = CLNORM_ROUTE_GENERAL;
  clnorm_tensor_nhwc(&problem.tensors[CLNORM_X], CLNORM_F32, 3, dims);
  right = clnorm_plan_create(context, &problem, &plan) == CLNORM_OK &&
          clnorm_plan_operand(plan, CLNORM_Y, &operand) == CLNORM_OK && operand.bytes == sizeof y &&
          clnorm_run(plan, bindings, 2, NULL) == CLNORM_OK && y[0] == 1 && y[5] == 6 &&
          compare(context, &problem, bindings, &difference) == CLNORM_OK &&
          difference.elements == 6 && difference.differing_elements == 0;
  clnorm_plan_destroy(plan);
  return right;
}

static int module(clnorm_context *context) {
  clnorm_batchnorm_options options;
  clnorm_batchnorm *bn = NULL;
  int right;
  clnorm_batchnorm_options_init(&options, sizeof options, 2);
  options.momentum_convention = CLNORM_MOMENTUM_NEW;
  right =
      clnorm_batchnorm_create(context, &options, &bn) == CLNORM_OK && clnorm_batchnorm_training(bn);
  clnorm_batchnorm_destroy(bn);
  return right;
}

int main(void) {
  clnorm_context_options options;
  clnorm_tuning tuning;
  clnorm_context *context = NULL;
  clnorm_message message;
  int right;
  clnorm_tuning_init(&tuning, sizeof tuning);
  clnorm_context_options_init(&options, sizeof options);
  tuning.form = CLNORM_FORM_VECTOR;
  options.isa = CLNORM_ISA_PLAIN;
  options.tuning = &tuning;
  right = clnorm_context_create("cpu", &options, &context, &message) == CLNORM_OK &&
          clnorm_context_device(context)->usable && copy(context) && module(context);
  clnorm_context_destroy(context);
  return !right;
}
