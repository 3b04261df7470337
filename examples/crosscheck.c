/* Runs one training step on a device and on the CPU path, and compares every output bit by bit.
 *
 *   example_crosscheck [DEVICE]      as for clnorm_context_create; "auto" where absent
 */
#include <clnorm/clnorm.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static clnorm_context *open_device(const char *device) {
  clnorm_context *context;
  clnorm_message message;
  if (clnorm_context_create(device, NULL, &context, &message) != CLNORM_OK) {
    fprintf(stderr, "%s\n", message.text);
    exit(3);
  }
  printf("%s\n", clnorm_context_description(context));
  return context;
}

int main(int argc, char **argv) {
  enum { N = 8, C = 16, H = 33, W = 29, COUNT = N * C * H * W };
  static float x[COUNT];
  for (int i = 0; i < COUNT; i++) x[i] = 100.0f + (float)(i * 7919 % 1009) / 64.0f;
  float running_mean[C] = {0}, running_var[C];
  for (int c = 0; c < C; c++) running_var[c] = 1.0f;

  const int64_t dims[] = {N, C, H, W};
  clnorm_problem problem;
  clnorm_problem_init(&problem, sizeof problem);
  clnorm_tensor_nchw(&problem.tensors[CLNORM_X], CLNORM_F32, 4, dims);
  const clnorm_binding inputs[] = {
      {CLNORM_X, 0, clnorm_host_memory(x, sizeof x)},
      {CLNORM_RUNNING_MEAN, 0, clnorm_host_memory(running_mean, sizeof running_mean)},
      {CLNORM_RUNNING_VAR, 0, clnorm_host_memory(running_var, sizeof running_var)},
  };
  enum { OUTPUTS = 6 };
  clnorm_difference differences[OUTPUTS];
  clnorm_compared outputs[OUTPUTS] = {{CLNORM_Y, 0, NULL},
                                      {CLNORM_RUNNING_MEAN, 0, NULL},
                                      {CLNORM_RUNNING_VAR, 0, NULL},
                                      {CLNORM_SAVED_MEAN, 0, NULL},
                                      {CLNORM_SAVED_MEAN_LOW, 0, NULL},
                                      {CLNORM_SAVED_INVSTD, 0, NULL}};
  for (int i = 0; i < OUTPUTS; i++) {
    clnorm_difference_init(&differences[i], sizeof differences[i]);
    outputs[i].difference = &differences[i];
  }

  clnorm_context *device = open_device(argc > 1 ? argv[1] : "auto");
  clnorm_context *cpu = open_device("cpu");
  clnorm_context *const contexts[2] = {device, cpu};
  if (clnorm_compare_runs(contexts, &problem, inputs, 3, NULL, outputs, OUTPUTS) != CLNORM_OK) {
    fprintf(stderr, "%s\n", clnorm_last_error(device));
    return 3;
  }
  int64_t differing = 0;
  for (int i = 0; i < OUTPUTS; i++) {
    printf("%-14s %8" PRId64 " elements, %" PRId64 " differ, at most %" PRIu64 " ulp\n",
           clnorm_role_name(outputs[i].role), differences[i].elements,
           differences[i].differing_elements, differences[i].max_ulp);
    differing += differences[i].differing_elements;
  }
  clnorm_context_destroy(cpu);
  clnorm_context_destroy(device);
  return differing != 0;
}
