/* What the library logged. */
#ifndef CLNORM_TESTS_JOURNAL_H
#define CLNORM_TESTS_JOURNAL_H

#include <stdio.h>
#include <string.h>

typedef struct journal {
  int lines;
  char text[8192];
} journal;

/* A clnorm_log_function; user_data is the journal. */
static inline void journal_keep_line(void *user_data, const char *line) {
  journal *log = user_data;
  const size_t used = strlen(log->text);
  snprintf(log->text + used, sizeof log->text - used, "%s\n", line);
  log->lines++;
}

#endif
