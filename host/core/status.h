/* Setting an error and returning it is one expression; the text goes where the caller can read it. */
#ifndef CLNORM_CORE_STATUS_H
#define CLNORM_CORE_STATUS_H

#include <clnorm/clnorm.h>

/* Where failing calls leave their text. Lives in a context, or on the stack before there is one. */
typedef struct clnorm_error {
  clnorm_message message;
  clnorm_log_function log;
  void *log_user_data;
} clnorm_error;

/* Keeps the formatted text and returns status. */
clnorm_status clnorm__fail(clnorm_error *error, clnorm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A number in as few digits as tell it from every other double: a message quotes what was given. */
typedef struct clnorm_quoted {
  char text[32];
} clnorm_quoted;
clnorm_quoted clnorm__quote(double value);

/* Hands text to the log callback, one call a line; nothing without a callback. */
void clnorm__log(const clnorm_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
