/* Plans that are timed in the same rounds, on the same operands: what measure.c is made of. */
#ifndef CLNORM_CLI_ROUNDS_H
#define CLNORM_CLI_ROUNDS_H

#include "measure.h"

#define CLNORM_MAX_ROUNDS 301

/* What is timed in every round: a plan on operands. */
typedef struct clnorm_subject {
  clnorm_context *context;
  const dense_args *args;
  clnorm_plan *plan;
  int repeats;
  double times[CLNORM_MAX_ROUNDS]; /* seconds of a call, or of a call and its consumer */
} clnorm_subject;

enum { CLNORM_MAX_SUBJECTS = 5, CLNORM_MAX_CONTEXTS = 2 };

struct clnorm_pipeline;

typedef struct clnorm_rounds {
  const clnorm_measure_case *wanted;
  void *x;                                       /* the tensor's memory */
  clnorm_context *contexts[CLNORM_MAX_CONTEXTS]; /* with what belongs to each: */
  dense_args args[CLNORM_MAX_CONTEXTS];
  struct clnorm_pipeline *pipelines[CLNORM_MAX_CONTEXTS]; /* NULL: calls are timed by themselves */
  int num_contexts;
  clnorm_subject subjects[CLNORM_MAX_SUBJECTS];
  int num_subjects;
  int rounds;
} clnorm_rounds;

/* The operation of a case, but for types and layout. */
dense_desc clnorm_rounds_describe(const clnorm_measure_case *wanted, clnorm_cut variant,
                                  clnorm_store store);

/* NULL, with a message, for lack of memory. */
clnorm_rounds *clnorm_rounds_create(const clnorm_measure_case *wanted, clnorm_message *message);
void clnorm_rounds_destroy(clnorm_rounds *rounds);
/* Adds a plan on operands of the context, which are made when it is first named; a copy is of the case's type, but
 * NCHW. On failure message says why. */
clnorm_status clnorm_rounds_add(clnorm_rounds *rounds, clnorm_context *context,
                                const dense_desc *desc, clnorm_message *message);
/* From now on subjects are timed between a producer and a consumer (pipeline.h). */
clnorm_status clnorm_rounds_in_pipeline(clnorm_rounds *rounds, clnorm_message *message);
/* The same operation on the CPU path must give the same bits as subjects [first, end). */
clnorm_status clnorm_rounds_check(const clnorm_rounds *rounds, int first, int end,
                                  clnorm_context *baseline, clnorm_message *message);
/* Times all subjects in turn, whoever begins changing, as often as the case says. */
clnorm_status clnorm_rounds_time(clnorm_rounds *rounds, clnorm_message *message);

double clnorm_rounds_median(const clnorm_rounds *rounds, int which);
/* Over rounds, of the time of one subject over that of another. */
double clnorm_rounds_ratio(const clnorm_rounds *rounds, int over, int under);

/* Bytes of the elements of x. */
double clnorm_rounds_bytes(const clnorm_rounds *rounds);

#endif
