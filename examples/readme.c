#include <clnorm/clnorm.h>
#include <stdio.h>

int main(void) {
  float values[2 * 3 * 4 * 4] = {1, 2, 3, 4}; /* N, C, H, W */
  clnorm_context *context;
  clnorm_batchnorm *bn;
  clnorm_batchnorm_options options;
  clnorm_tensor x;
  clnorm_binding io[2] = {{.role = CLNORM_X}, {.role = CLNORM_Y}}; /* in place */

  clnorm_batchnorm_options_init(&options, sizeof options, 3);
  clnorm_tensor_nchw(&x, CLNORM_F32, 4, (int64_t[]){2, 3, 4, 4});
  if (clnorm_context_create("auto", NULL, &context, NULL)) return 1;
  if (clnorm_batchnorm_create(context, &options, &bn) ||
      clnorm_memory_alloc(context, sizeof values, &io[0].memory) ||
      clnorm_memory_write(context, io[1].memory = io[0].memory, values, sizeof values) ||
      clnorm_batchnorm_forward(bn, &x, io, 2, NULL) ||
      clnorm_memory_read(context, io[1].memory, values, sizeof values))
    return puts(clnorm_last_error(context)), 1;
  printf("y[0,0,0,0] = %g on %s\n", values[0], clnorm_context_description(context));
  clnorm_memory_free(context, &io[0].memory);
  clnorm_batchnorm_destroy(bn);
  clnorm_context_destroy(context);
}
