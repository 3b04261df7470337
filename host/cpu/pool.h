/* Threads that share the items of a launch. */
#ifndef CLNORM_CPU_POOL_H
#define CLNORM_CPU_POOL_H

#include <stdint.h>

typedef struct clnorm_pool clnorm_pool;

/* One call does items [begin, end). */
typedef void (*clnorm_pool_function)(void *argument, uint64_t begin, uint64_t end);

/* A pool of num_threads workers, the caller among them: starts num_threads - 1 threads. NULL if there is
 * no memory or no thread to be had. */
clnorm_pool *clnorm_pool_create(unsigned num_threads);
void clnorm_pool_destroy(clnorm_pool *pool);

/* Runs function over [0, items) on all workers and returns when every item is done; what they wrote is
 * then visible to the caller. One caller at a time. */
void clnorm_pool_run(clnorm_pool *pool, clnorm_pool_function function, void *argument,
                     uint64_t items);

#endif
