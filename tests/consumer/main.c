/* A program of somebody else, built against the installed library. */
#include <clnorm/clnorm.h>
#include <stdio.h>

int main(void) {
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
