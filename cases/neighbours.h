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

/* Writes x through the caches: normal numbers of at most a few units, whichever type it has (f32, f16, bf16,
 * f64). */
void clnorm_neighbours_produce(clnorm_neighbours *neighbours, void *x, size_t bytes);
/* Reads every byte. Returns the seconds that it took. */
double clnorm_neighbours_consume(clnorm_neighbours *neighbours, const void *y, size_t bytes);

#endif
