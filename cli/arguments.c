#include "arguments.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "messages.h"
#include "suggest.h"

#define MAX_OPTIONS 64 /* of a command; a table that is longer is a mistake of ours */

typedef struct reader {
  int argc;
  char **argv;
  int at;
  const clnorm_option *options;
  const char *given[MAX_OPTIONS]; /* the value that each has; NULL: none yet */
} reader;

static bool wrong_value(const clnorm_option *option, const char *value, const char *rule) {
  clnorm_complain("%s is '%s', but must be %s", option->name, value, rule);
  return false;
}

static bool read_number(const clnorm_option *option, const char *value) {
  char *end;
  errno = 0;
  const double number = strtod(value, &end);
  if (end == value || *end) return wrong_value(option, value, "a number");
  if (errno == ERANGE && (number == 0 || isinf(number)))
    return wrong_value(option, value, "a number that a double can hold");
  *(double *)option->target = number;
  return true;
}

static bool read_seconds(const clnorm_option *option, const char *value) {
  char *end;
  const double number = strtod(value, &end);
  if (end == value || *end || !(number >= 0 && number <= 3600))
    return wrong_value(option, value, "a number in [0, 3600]");
  *(double *)option->target = number;
  return true;
}

static bool read_count(const clnorm_option *option, const char *value) {
  const bool positive = option->kind == CLNORM_OPTION_POSITIVE;
  char *end;
  errno = 0;
  const long long number = strtoll(value, &end, 10);
  if (end == value || *end || errno || number < positive)
    return wrong_value(option, value,
                       positive ? "a whole number, 1 or more" : "a whole number, 0 or more");
  *(int64_t *)option->target = number;
  return true;
}

static bool read_seed(const clnorm_option *option, const char *value) {
  char *end;
  errno = 0;
  const unsigned long long number = strtoull(value, &end, 0);
  if (*value < '0' || *value > '9' || *end || errno)
    return wrong_value(option, value, "a whole number below 2^64");
  *(uint64_t *)option->target = number;
  return true;
}

static bool read_choice(const clnorm_option *option, const char *value) {
  const size_t length = strlen(value);
  const char *choice = option->choices;
  for (int index = 0; *choice; index++) {
    const size_t size = strcspn(choice, "|");
    if (size == length && memcmp(choice, value, length) == 0) {
      *(int *)option->target = index;
      return true;
    }
    choice += size + (choice[size] == '|');
  }
  clnorm_complain("%s is '%s', but must be one of %s", option->name, value, option->choices);
  return false;
}

static bool read_text(const clnorm_option *option, const char *value) {
  clnorm_texts *texts = option->target;
  if (texts->count == CLNORM_MAX_VALUES) {
    clnorm_complain("%s is given more than %d times", option->name, CLNORM_MAX_VALUES);
    return false;
  }
  texts->items[texts->count++] = value;
  return true;
}

/* The comma that ends the first item of a list. Names of devices have commas too, with a space behind them. */
static const char *find_comma(const char *list) {
  while ((list = strchr(list, ',')) && list[1] == ' ') list++;
  return list;
}

static bool read_list(const clnorm_option *option, const char *value) {
  clnorm_texts *texts = option->target;
  const char *comma;
  for (const char *item = value; item; item = comma ? comma + 1 : NULL) {
    comma = find_comma(item);
    const size_t length = comma ? (size_t)(comma - item) : strlen(item);
    char *kept = texts->room + texts->used;
    if (length == 0) return wrong_value(option, value, "one name, or names parted by commas");
    if (length >= sizeof texts->room - texts->used)
      return wrong_value(option, value, "shorter: a list has 1024 bytes at most");
    memcpy(kept, item, length);
    kept[length] = '\0';
    texts->used += length + 1;
    if (!read_text(option, kept)) return false;
  }
  return true;
}

/* Four sizes whose product, in bytes, is far from overflow. */
static bool read_dims(const char *value, int64_t dims[4]) {
  int64_t product = 4;
  for (int i = 0; i < 4; i++) {
    char *end;
    errno = 0;
    if (*value < '0' || *value > '9') return false;
    dims[i] = strtoll(value, &end, 10);
    if (errno || *end != (i < 3 ? 'x' : '\0')) return false;
    if (dims[i] > ((int64_t)1 << 48) / product) return false;
    if (dims[i] > 0) product *= dims[i];
    value = end + 1;
  }
  return true;
}

/* What is no shape leaves the others: the command goes on, and tells by its exit status. */
static bool read_shape(const clnorm_option *option, const char *value) {
  clnorm_shapes *shapes = option->target;
  if (shapes->count == CLNORM_MAX_VALUES) {
    clnorm_complain("%s is given more than %d times", option->name, CLNORM_MAX_VALUES);
    return false;
  }
  if (read_dims(value, shapes->items[shapes->count])) {
    shapes->count++;
  } else {
    wrong_value(option, value, "NxCxHxW, four sizes of a tensor below 2^48 bytes");
    shapes->wrong = true;
  }
  return true;
}

static bool takes_value(const clnorm_option *option) {
  return option->kind != CLNORM_OPTION_SET && option->kind != CLNORM_OPTION_CLEAR;
}

static bool takes_several(const clnorm_option *option) {
  return option->kind == CLNORM_OPTION_TEXTS || option->kind == CLNORM_OPTION_LIST ||
         option->kind == CLNORM_OPTION_SHAPES;
}

static bool store(const clnorm_option *option, const char *value) {
  switch (option->kind) {
  case CLNORM_OPTION_SET:
    *(bool *)option->target = true;
    return true;
  case CLNORM_OPTION_CLEAR:
    *(bool *)option->target = false;
    return true;
  case CLNORM_OPTION_TEXT:
    if (!*value) return wrong_value(option, value, "a name");
    *(const char **)option->target = value;
    return true;
  case CLNORM_OPTION_NUMBER:
    return read_number(option, value);
  case CLNORM_OPTION_SECONDS:
    return read_seconds(option, value);
  case CLNORM_OPTION_COUNT:
  case CLNORM_OPTION_POSITIVE:
    return read_count(option, value);
  case CLNORM_OPTION_SEED:
    return read_seed(option, value);
  case CLNORM_OPTION_CHOICE:
    return read_choice(option, value);
  case CLNORM_OPTION_TEXTS:
    return read_text(option, value);
  case CLNORM_OPTION_LIST:
    return read_list(option, value);
  case CLNORM_OPTION_SHAPES:
    return read_shape(option, value);
  }
  return false;
}

static const clnorm_option *find(const clnorm_option *options, const char *name, size_t length) {
  for (; options->name; options++)
    if (strlen(options->name) == length && memcmp(options->name, name, length) == 0) return options;
  return NULL;
}

static bool unknown_option(const reader *r, const char *name, size_t length) {
  clnorm_suggestion suggestion = clnorm_suggestion_for(name, length);
  for (const clnorm_option *o = r->options; o->name; o++)
    clnorm_suggestion_try(&suggestion, o->name);
  clnorm_suggestion_try(&suggestion, "--help");
  clnorm_complain("unknown option '%.*s'%s; see clnorm %s --help", (int)length, name,
                  clnorm_suggestion_say(&suggestion).text, r->argv[0]);
  return false;
}

/* Two names of one option have the same target. */
static bool store_once(reader *r, const clnorm_option *option, const char *value) {
  size_t first = 0;
  while (r->options[first].target != option->target) first++;
  if (r->given[first] && !takes_several(option)) {
    clnorm_complain("%s is given twice: '%s' and '%s'", option->name, r->given[first], value);
    return false;
  }
  r->given[first] = value;
  return store(option, value);
}

/* The option at r->at, with its value. */
static bool read_option(reader *r) {
  const char *name = r->argv[r->at];
  const size_t length = strcspn(name, "=");
  const bool joined = name[length] == '=';
  const clnorm_option *option = find(r->options, name, length);
  if (!option) return unknown_option(r, name, length);
  if (!takes_value(option)) {
    if (joined) clnorm_complain("%s takes no value, but got '%s'", option->name, name + length + 1);
    return !joined && store(option, NULL);
  }
  if (joined) return store_once(r, option, name + length + 1);
  const char *value = r->argv[r->at + 1]; /* NULL at the end */
  const bool forgotten =
      value && (strncmp(value, "--", 2) == 0 || find(r->options, value, strlen(value)));
  if (value && !forgotten) {
    r->at++;
    return store_once(r, option, value);
  }
  if (value)
    clnorm_complain("%s needs a value, but is followed by %s (a value like that is given as "
                    "%s=%s); see clnorm %s --help",
                    option->name, value, option->name, value, r->argv[0]);
  else
    clnorm_complain("%s needs a value; see clnorm %s --help", option->name, r->argv[0]);
  return false;
}

static bool wants_help(int argc, char **argv) {
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

clnorm_parsed clnorm_arguments_parse(int argc, char **argv, const clnorm_option *options,
                                     clnorm_texts *positionals) {
  if (wants_help(argc, argv)) return CLNORM_PARSED_HELP;
  reader r = {argc, argv, 1, options, {NULL}};
  const clnorm_option positional = {"argument", CLNORM_OPTION_TEXTS, positionals, NULL};
  bool only_positionals = false;
  for (; r.at < argc; r.at++) {
    const char *word = argv[r.at];
    const bool is_option = !only_positionals && word[0] == '-' && word[1];
    if (is_option && strcmp(word, "--") == 0)
      only_positionals = true;
    else if (!(is_option ? read_option(&r) : read_text(&positional, word)))
      return CLNORM_PARSED_WRONG;
  }
  return CLNORM_PARSED;
}

bool clnorm_arguments_options(int argc, char **argv, const clnorm_option *options, const char *help,
                              int *status) {
  clnorm_texts positionals = {0};
  const clnorm_parsed parsed = clnorm_arguments_parse(argc, argv, options, &positionals);
  *status = parsed == CLNORM_PARSED_HELP ? CLNORM_EXIT_GOOD : CLNORM_EXIT_USAGE;
  if (parsed == CLNORM_PARSED_HELP) fputs(help, stdout);
  if (parsed != CLNORM_PARSED) return false;
  if (positionals.count == 0) return true;
  clnorm_complain("%s takes no argument, but got '%s'; see clnorm %s --help", argv[0],
                  positionals.items[0], argv[0]);
  return false;
}
