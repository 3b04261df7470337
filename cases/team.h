/* Threads that share out a piece of work and sleep between two of them: the producer and the consumer of a
 * pipeline. They take no processor from the threads of the library. */
#ifndef CLNORM_CASES_TEAM_H
#define CLNORM_CASES_TEAM_H

#include <stddef.h>

typedef struct clnorm_team clnorm_team;

/* Works on elements [begin, end). */
typedef void (*clnorm_team_function)(void *argument, size_t begin, size_t end);

/* num_threads, the caller included, >= 1. NULL for lack of memory or threads. */
clnorm_team *clnorm_team_create(int num_threads);
/* NULL is accepted. */
void clnorm_team_destroy(clnorm_team *team);
/* Calls the function for every part of [0, count), on all threads that wake in time; done on return. */
void clnorm_team_run(clnorm_team *team, clnorm_team_function function, void *argument,
                     size_t count);

#endif
