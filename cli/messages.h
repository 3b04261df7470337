/* Exit statuses, and messages on standard error. */
#ifndef CLNORM_CLI_MESSAGES_H
#define CLNORM_CLI_MESSAGES_H

#include <clnorm/clnorm.h>

enum {
  CLNORM_EXIT_GOOD = 0,
  CLNORM_EXIT_DIFFERENT = 1, /* verification found a difference */
  CLNORM_EXIT_USAGE = 2,     /* wrong usage, or a bad file */
  CLNORM_EXIT_DEVICE = 3     /* no such device, or the device failed */
};

/* The exit status for a failed library call. */
int clnorm_exit_status(clnorm_status status);

/* Prints "clnorm: ..." and a newline. Control characters in the text become '?', so one message is
 * one line whatever a file's name or a driver's answer contains. */
void clnorm_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Shows what is being done in a line of its own that the next call overwrites; NULL removes it. Nothing
 * where standard error is not a terminal. */
void clnorm_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Keeps the formatted text and returns false: a failure is one expression. */
bool clnorm_refuse(clnorm_message *message, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
