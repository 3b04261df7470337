/* A program of somebody else, built against the installed library. */
#include <clnorm/clnorm.h>
#include <stdio.h>

int main(void) {
  volatile float least =
      0x1p-126f; /* a library that makes its process flush subnormals changes this */
  if (!(least * 0.5f > 0)) {
    fprintf(stderr, "subnormal values are flushed in a process with clnorm\n");
    return 1;
  }
  clnorm_context *context = NULL;
  clnorm_message message;
  if (clnorm_context_create("cpu", NULL, &context, &message) != CLNORM_OK) {
    fprintf(stderr, "%s\n", message.text);
    return 1;
  }
  printf("clnorm %s: %s\n", clnorm_version(), clnorm_context_description(context));
  clnorm_context_destroy(context);
  return 0;
}
