/* What suites need to know of the kinds of data. */
#ifndef CLNORM_CASES_DATA_H
#define CLNORM_CASES_DATA_H

#include <stdint.h>

/* The eps with which exact data of this many elements a channel gives exact results. */
double clnorm_exact_eps(int64_t elements_per_channel);

/* The next of a sequence of well-mixed numbers (splitmix64: Steele, Lea and Flood 2014). */
uint64_t clnorm_random(uint64_t *state);

#endif
