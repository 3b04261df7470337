#include "messages.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

int clnorm_exit_status(clnorm_status status) {
  switch (status) {
  case CLNORM_OK:
    return CLNORM_EXIT_GOOD;
  case CLNORM_ERROR_NO_DEVICE:
  case CLNORM_ERROR_DEVICE:
  case CLNORM_ERROR_BUILD:
  case CLNORM_ERROR_OUT_OF_MEMORY:
    return CLNORM_EXIT_DEVICE;
  default:
    return CLNORM_EXIT_USAGE;
  }
}

static atomic_bool progress_is_shown; /* devices complain from threads of their own */

void clnorm_complain(const char *format, ...) {
  char text[4096];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *c = text; *c; c++)
    if ((unsigned char)*c < 32 || *c == 127) *c = '?';
  clnorm_progress(NULL);
  fprintf(stderr, "clnorm: %s\n", text);
}

void clnorm_progress(const char *format, ...) {
  if (!format && !progress_is_shown) return;
  if (!isatty(STDERR_FILENO)) return;
  fputs("\r\033[K", stderr);
  progress_is_shown = format != NULL;
  if (!format) return;
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
}

bool clnorm_refuse(clnorm_message *message, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message->text, sizeof message->text, format, arguments);
  va_end(arguments);
  return false;
}
