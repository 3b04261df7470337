#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

clnorm_status clnorm__fail(clnorm_error *error, clnorm_status status, const char *format, ...) {
  clnorm_message text; /* arguments may point into the old text */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text.text, sizeof text.text, format, arguments);
  va_end(arguments);
  error->message = text;
  return status;
}

clnorm_quoted clnorm__quote(double value) {
  clnorm_quoted quoted;
  for (int digits = 6; digits <= 17; digits++) {
    snprintf(quoted.text, sizeof quoted.text, "%.*g", digits, value);
    if (strtod(quoted.text, NULL) == value) break;
  }
  return quoted;
}

void clnorm__log(const clnorm_error *error, const char *format, ...) {
  if (!error->log) return;
  char text[16384];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (char *line = text; line;) {
    char *end = strchr(line, '\n');
    if (end) *end = '\0';
    if (*line) error->log(error->log_user_data, line);
    line = end ? end + 1 : NULL;
  }
}

const char *clnorm_version(void) {
#define TEXT(x) #x
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)
  return VERSION(CLNORM_VERSION_MAJOR, CLNORM_VERSION_MINOR, CLNORM_VERSION_PATCH);
#undef VERSION
#undef TEXT
}

const char *clnorm_status_name(clnorm_status status) {
  switch (status) {
#define NAME(name, value, text)                                                                    \
  case name:                                                                                       \
    return #name;
    CLNORM_STATUS_LIST(NAME)
#undef NAME
  }
  return "CLNORM_ERROR_UNKNOWN";
}

const char *clnorm_status_text(clnorm_status status) {
  switch (status) {
#define LINE(name, value, text)                                                                    \
  case name:                                                                                       \
    return text;
    CLNORM_STATUS_LIST(LINE)
#undef LINE
  }
  return "not a status of this version";
}
