#include <clnorm/clnorm.h>
#include <stdio.h>

int main(void) {
  const int64_t dims[4] = {2, 3, 4, 4}; /* N, C, H, W */
  float x[2 * 3 * 4 * 4] = {1, 2, 3, 4}, y[2 * 3 * 4 * 4];

  clnorm_context *context;
  clnorm_message why;
  if (clnorm_context_create("auto", NULL, &context, &why)) return puts(why.text), 1;
  clnorm_batchnorm2d_options options = clnorm_batchnorm2d_options_defaults(3);
  clnorm_batchnorm2d *bn;
  clnorm_batchnorm2d_args args = {0};
  if (clnorm_batchnorm2d_create(context, &options, &bn) ||
      clnorm_memory_alloc(context, sizeof x, &args.x) ||
      clnorm_memory_alloc(context, sizeof y, &args.y) ||
      clnorm_memory_write(context, args.x, x, sizeof x) ||
      clnorm_batchnorm2d_forward(bn, 4, dims, &args) ||
      clnorm_memory_read(context, args.y, y, sizeof y))
    return puts(clnorm_last_error(context)), 1;
  printf("%s\ny[0,0,0,0] = %g\n", clnorm_context_description(context), y[0]);
}
