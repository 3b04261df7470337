/* What the parts of fuzz_forward share: random numbers, contexts, and the end of a round that finds something. */
#ifndef CLNORM_TESTS_FUZZ_H
#define CLNORM_TESTS_FUZZ_H

#include <clnorm/clnorm.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define PICK(table) ((table)[fuzz_below(LENGTH(table))])

uint64_t fuzz_below(uint64_t count);
bool fuzz_chance(unsigned percent);
/* The same for 8 rounds, then the next: where each value costs programs that must be compiled. */
uint64_t fuzz_in_turn(uint64_t count);
/* Names the seed and the round, and ends the process. */
void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void *fuzz_allocate(size_t size);
/* Around a mean, with an odd value now and then; or any bits at all. */
float *fuzz_values(size_t count);

/* The CPU path's plain code on one thread; a random context of the CPU path; the device under test, or NULL. */
clnorm_context *fuzz_baseline(void);
clnorm_context *fuzz_context(void);
clnorm_context *fuzz_device(void);

/* fuzz_layouts.c: one round. Counts of runs that were compared, and of calls that were refused. */
typedef struct fuzz_counts {
  uint64_t ran, refused;
} fuzz_counts;
void fuzz_layouts(fuzz_counts *counts);

#endif
