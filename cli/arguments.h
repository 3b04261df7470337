/* Command-line options, read by a table. */
#ifndef CLNORM_CLI_ARGUMENTS_H
#define CLNORM_CLI_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLNORM_STANDARD_STREAM "-" /* a path that means standard input, or standard output */

typedef enum clnorm_option_kind {
  CLNORM_OPTION_SET,      /* no value: *(bool *)target becomes true */
  CLNORM_OPTION_CLEAR,    /* no value: *(bool *)target becomes false */
  CLNORM_OPTION_TEXT,     /* const char * */
  CLNORM_OPTION_NUMBER,   /* double; "inf" and "nan" are numbers, for the library to judge */
  CLNORM_OPTION_SECONDS,  /* double: the time of a measurement, in [0, 3600] */
  CLNORM_OPTION_COUNT,    /* int64_t, 0 or more */
  CLNORM_OPTION_POSITIVE, /* int64_t, 1 or more */
  CLNORM_OPTION_SEED,     /* uint64_t, decimal or 0x... */
  CLNORM_OPTION_CHOICE,   /* int: index of the value in `choices` */
  CLNORM_OPTION_TEXTS,    /* clnorm_texts; may be given several times */
  CLNORM_OPTION_LIST,     /* clnorm_texts; the same, and A,B is two of them */
  CLNORM_OPTION_SHAPES    /* clnorm_shapes; may be given several times */
} clnorm_option_kind;

#define CLNORM_MAX_VALUES 64 /* of one option that may be given several times */

typedef struct clnorm_texts {
  size_t count;
  const char *items[CLNORM_MAX_VALUES];
  char room[1024]; /* of items that are parts of a list */
  size_t used;
} clnorm_texts;

typedef struct clnorm_shapes {
  size_t count;
  /* There were others, which are no shapes: a message was printed, and the rest goes on. */
  bool wrong;
  int64_t items[CLNORM_MAX_VALUES][4];
} clnorm_shapes;

typedef struct clnorm_option {
  const char *name; /* "--device", or "-o" */
  clnorm_option_kind kind;
  void *target;
  const char *choices; /* CHOICE: "auto|vector|wide" */
} clnorm_option;

typedef enum clnorm_parsed {
  CLNORM_PARSED,
  CLNORM_PARSED_HELP, /* --help or -h was among them */
  CLNORM_PARSED_WRONG /* a message was printed */
} clnorm_parsed;

/* Reads argv[1..argc) of a command called argv[0]: "--name value", "--name=value", and positional
 * arguments into positionals, in any order; "--" ends the options. options ends with a NULL
 * name. An option that takes one value is refused where it comes twice, under either of two names; the same
 * flag twice is once. A value that looks like an option is refused where it is a word of its own: the value was
 * forgotten. */
clnorm_parsed clnorm_arguments_parse(int argc, char **argv, const clnorm_option *options,
                                     clnorm_texts *positionals);

/* The same for a command that takes options alone. True: go on. Else help or a message was printed, and
 * *status is the exit status. */
bool clnorm_arguments_options(int argc, char **argv, const clnorm_option *options, const char *help,
                              int *status);

#endif
