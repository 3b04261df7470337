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

  const clnorm_forward_args inputs = {
      .x = clnorm_host_memory(x, sizeof x),
      .running_mean = clnorm_host_memory(running_mean, sizeof running_mean),
      .running_var = clnorm_host_memory(running_var, sizeof running_var),
      .momentum = 0.9,
  };
  const clnorm_forward_desc desc =
      clnorm_forward_desc_defaults(CLNORM_BATCH_STATISTICS, N, C, H * W);

  clnorm_context *device = open_device(argc > 1 ? argv[1] : "auto");
  clnorm_context *cpu = open_device("cpu");
  clnorm_difference differences[CLNORM_NUM_OUTPUTS];
  if (clnorm_compare_forward(device, cpu, &desc, &inputs, differences) != CLNORM_OK) {
    fprintf(stderr, "%s\n", clnorm_last_error(device));
    return 3;
  }
  static const char *const names[CLNORM_NUM_OUTPUTS] = {"y", "running_mean", "running_var",
                                                        "saved_mean", "saved_invstd"};
  int64_t differing = 0;
  for (int i = 0; i < CLNORM_NUM_OUTPUTS; i++) {
    printf("%-12s %8" PRId64 " elements, %" PRId64 " differ, at most %" PRIu32 " ulp\n", names[i],
           differences[i].elements, differences[i].differing_elements, differences[i].max_ulp);
    differing += differences[i].differing_elements;
  }
  clnorm_context_destroy(cpu);
  clnorm_context_destroy(device);
  return differing != 0;
}
