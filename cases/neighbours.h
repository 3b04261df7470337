/* What stands beside an operation in an engine, on the host: a producer, which writes its input just before,
 * and a consumer, which reads its output once just after. */
#ifndef CLNORM_CASES_NEIGHBOURS_H
#define CLNORM_CASES_NEIGHBOURS_H

#include <stddef.h>

typedef struct clnorm_neighbours clnorm_neighbours;

/* On num_threads threads, the caller included, which sleep between their parts: they take no processor from
 * those of the operation. NULL for lack of memory or threads. */
clnorm_neighbours *clnorm_neighbours_create(int num_threads);
/* NULL is accepted. */
void clnorm_neighbours_destroy(clnorm_neighbours *neighbours);

/* Writes `elements` values in [-1, 3), through the caches. */
void clnorm_neighbours_produce(clnorm_neighbours *neighbours, float *x, size_t elements);
/* Reads every value. Returns the seconds that it took. */
double clnorm_neighbours_consume(clnorm_neighbours *neighbours, const float *y, size_t elements);

#endif
