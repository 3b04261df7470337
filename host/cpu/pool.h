/* Threads that share the items of a launch. */
#ifndef CLNORM_CPU_POOL_H
#define CLNORM_CPU_POOL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct clnorm_pool clnorm_pool;

/* Items [next, end), which belong to one worker until it comes to others that have more left. */
typedef struct clnorm_range {
  _Alignas(64) _Atomic uint64_t next; /* first item that nobody has taken */
  uint64_t end;
} clnorm_range;

/* The items of a launch as one worker sees them: an even share of neighbouring ones for each worker. */
typedef struct clnorm_items {
  clnorm_range *ranges;
  unsigned workers;
  unsigned own;  /* the range that this worker begins with */
  unsigned done; /* ranges, from its own on, that it found empty */
} clnorm_items;

/* Takes items [*begin, *end); false if none are left. */
bool clnorm__items_take(clnorm_items *items, uint64_t *begin, uint64_t *end);

/* Called once by every worker that comes in time: does items until none are left. */
typedef void (*clnorm_pool_function)(void *argument, clnorm_items *items);

/* A pool of num_threads workers, the caller among them: starts num_threads - 1 threads, which take no
 * signals. NULL if there is no memory or no thread to be had. A forked child's copy has no threads: there
 * the caller runs alone. */
clnorm_pool *clnorm__pool_create(unsigned num_threads);
void clnorm__pool_destroy(clnorm_pool *pool);

/* Runs function over `count` items, on all workers or on the caller alone, and returns when every item is
 * done; what they wrote is then visible to the caller. One caller at a time. */
void clnorm__pool_run(clnorm_pool *pool, clnorm_pool_function function, void *argument,
                      uint64_t count, bool alone);

#endif
