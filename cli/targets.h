/* The contexts that a command works on. */
#ifndef CLNORM_CLI_TARGETS_H
#define CLNORM_CLI_TARGETS_H

#include <clnorm/clnorm.h>

#include "arguments.h"
#include "json.h"
#include "verification.h"

typedef struct clnorm_target {
  clnorm_context *context;       /* NULL: not open */
  char label[CLNORM_LABEL_SIZE]; /* "NAME (ID)" and what was forced */
  char trouble[512]; /* why it takes no part any more; "": it works. Only of one among several */
  /* CLNORM_FORM_IN_TURN: the form of one of two targets of a device, and whether the rule picks it; else AUTO */
  clnorm_form form;
  bool by_rule;
} clnorm_target;

/* Values of options, in the order of the library's enumerations. */
#define CLNORM_FORM_CHOICES "auto|vector|wide"
#define CLNORM_GROUP_SIZE_CHOICES "auto|64|128|256"
#define CLNORM_DTYPE_CHOICES "f32|f16|bf16|f64"
#define CLNORM_CASE_LAYOUT_CHOICES "nchw|nhwc|nchw4c|nchw8c|nchw16c|padded|slice|nhwc_slice"
#define CLNORM_LAYOUT_CHOICES "nchw|nhwc"

/* Instead of one form: vector and wide, each a target; the rule's, and a target of the other where that works. */
enum { CLNORM_ALL_FORMS = 3, CLNORM_FORM_IN_TURN = 4 };

typedef struct clnorm_target_options {
  const char *device; /* as clnorm_context_create takes it, or "all" */
  int form;           /* index in CLNORM_FORM_CHOICES, or one of the two below */
  int64_t threads;    /* CPU path; 0: all */
  int group_size;     /* index in CLNORM_GROUP_SIZE_CHOICES */
  bool cpu_as_it_is;  /* the CPU path among several is opened like any device: for measuring */
  bool profiling;     /* runs are timed by the device */
  /* What a user listed; where there is something, `device` is not looked at. */
  clnorm_texts devices;
} clnorm_target_options;

/* Opens one device. On failure a message is printed and the exit status returned. */
int clnorm_target_open(const clnorm_target_options *options, clnorm_target *target);
/* Opens what results are compared with: the CPU path; for a target that is the CPU path itself, its
 * plain code on one thread, which shares no vector instruction with it. Its label is the library's description:
 * instruction set and threads are part of it. */
int clnorm_target_open_baseline(const clnorm_target *target, int64_t threads,
                                clnorm_target *baseline);
/* Refuses types and layouts that this version does not have in the library's own words: prints them
 * and returns the exit status. */
int clnorm_target_check(const clnorm_target *target, int dtype);
void clnorm_target_close(clnorm_target *target);

/* False where a driver makes vectors of work-items instead: its compiler may take many minutes, and more
 * memory than there is, over the vector form. why: then says so. */
bool clnorm_vector_form_compiles(const clnorm_device_info *info, clnorm_message *why);

/* Opens one device, those of a list, or all that are usable, in every form asked for; the CPU path among
 * them is opened once for each instruction set that the processor has, on one thread, unless cpu_as_it_is.
 * *targets has *count of them; release with clnorm_targets_close. A device that cannot be opened is among them
 * with its trouble, if another one works; else, and for wrong usage, the exit status is not good. */
int clnorm_targets_open(const clnorm_target_options *options, clnorm_target **targets,
                        size_t *count);
void clnorm_targets_close(clnorm_target *targets, size_t count);

bool clnorm_target_works(const clnorm_target *target);
/* Reports the trouble of one among several; the others go on. */
void clnorm_target_give_up(clnorm_target *target, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* CLNORM_EXIT_DEVICE if one of them has trouble. */
int clnorm_targets_status(const clnorm_target *targets, size_t count);
/* "failed": [{device, reason}] of those with trouble. */
void clnorm_targets_failed_json(clnorm_json *json, const clnorm_target *targets, size_t count);

#endif
