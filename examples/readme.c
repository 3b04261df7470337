#include <clnorm/clnorm.h>
#include <stdio.h>

int main(void) {
  float x[2 * 3 * 4 * 4] = {1, 2, 3, 4}; /* N, C, H, W */
  clnorm_context *context;
  clnorm_batchnorm2d *bn;
  clnorm_batchnorm2d_options options = clnorm_batchnorm2d_options_defaults(3);
  clnorm_batchnorm2d_args args = {0};

  if (clnorm_context_create("auto", NULL, &context, NULL)) return 1;
  if (clnorm_batchnorm2d_create(context, &options, &bn) ||
      clnorm_memory_alloc(context, sizeof x, &args.x) ||
      clnorm_memory_write(context, args.y = args.x, x, sizeof x) || /* in place */
      clnorm_batchnorm2d_forward(bn, 4, (int64_t[]){2, 3, 4, 4}, &args) ||
      clnorm_memory_read(context, args.y, x, sizeof x))
    return puts(clnorm_last_error(context)), 1;
  printf("y[0,0,0,0] = %g on %s\n", x[0], clnorm_context_description(context));
  clnorm_memory_free(context, &args.x);
  clnorm_batchnorm2d_destroy(bn);
  clnorm_context_destroy(context);
}
