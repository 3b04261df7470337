#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Elements (floats) up to which waking a thread costs more than it brings. */
#define ALONE 65536u
#define PARTS_PER_THREAD 16u
#define PART_MULTIPLE 4096u

struct clnorm_team {
  int num_threads; /* the caller included */
  int num_started;
  pthread_t *threads;
  cpu_set_t processors; /* that the process could use when the team was made */
  int caller_processor; /* that threads keep away from; -1: none so far */

  clnorm_team_function function;
  void *argument;
  size_t count, part;
  _Atomic size_t next;
  _Atomic int inside; /* threads at work */

  pthread_mutex_t mutex; /* of what follows */
  pthread_cond_t wake;
  unsigned piece; /* its number; changes wake the threads */
  bool open;      /* threads may begin */
  bool quit;
};

static void take_parts(clnorm_team *team) {
  for (;;) {
    const size_t begin = atomic_fetch_add(&team->next, team->part);
    if (begin >= team->count) return;
    const size_t left = team->count - begin;
    team->function(team->argument, begin, begin + (left < team->part ? left : team->part));
  }
}

static void *thread_main(void *argument) {
  clnorm_team *team = argument;
  unsigned seen = 0;
  pthread_mutex_lock(&team->mutex);
  while (!team->quit) {
    if (team->piece == seen) {
      pthread_cond_wait(&team->wake, &team->mutex);
      continue;
    }
    seen = team->piece;
    if (!team->open) continue;
    atomic_fetch_add(&team->inside, 1);
    pthread_mutex_unlock(&team->mutex);
    take_parts(team);
    atomic_fetch_sub(&team->inside, 1);
    pthread_mutex_lock(&team->mutex);
  }
  pthread_mutex_unlock(&team->mutex);
  return NULL;
}

/* A thread that wakes on the caller's processor gets no time before the work is done. */
static void keep_off_caller(clnorm_team *team) {
  const int processor = sched_getcpu();
  if (processor < 0 || processor == team->caller_processor) return;
  cpu_set_t others = team->processors;
  CPU_CLR(processor, &others);
  if (CPU_COUNT(&others) == 0) return;
  team->caller_processor = processor;
  for (int i = 0; i < team->num_started; i++)
    pthread_setaffinity_np(team->threads[i], sizeof others, &others);
}

static void set_open(clnorm_team *team, bool open) {
  pthread_mutex_lock(&team->mutex);
  team->open = open;
  if (open) {
    team->piece++;
    pthread_cond_broadcast(&team->wake);
  }
  pthread_mutex_unlock(&team->mutex);
}

void clnorm_team_run(clnorm_team *team, clnorm_team_function function, void *argument,
                     size_t count) {
  if (team->num_started == 0 || count <= ALONE) {
    function(argument, 0, count);
    return;
  }
  const size_t share = count / ((size_t)team->num_threads * PARTS_PER_THREAD);
  team->function = function;
  team->argument = argument;
  team->count = count;
  team->part = (share / PART_MULTIPLE + 1) * PART_MULTIPLE;
  atomic_store(&team->next, 0);
  keep_off_caller(team);
  set_open(team, true);
  take_parts(team);
  set_open(team, false);
  while (atomic_load(&team->inside)) sched_yield(); /* parts are short */
}

clnorm_team *clnorm_team_create(int num_threads) {
  clnorm_team *team = calloc(1, sizeof *team);
  if (!team) return NULL;
  team->num_threads = num_threads;
  team->caller_processor = -1;
  if (sched_getaffinity(0, sizeof team->processors, &team->processors) != 0)
    CPU_ZERO(&team->processors);
  pthread_mutex_init(&team->mutex, NULL);
  pthread_cond_init(&team->wake, NULL);
  team->threads = calloc((size_t)num_threads, sizeof *team->threads);
  if (!team->threads) goto failed;
  for (; team->num_started < num_threads - 1; team->num_started++)
    if (pthread_create(&team->threads[team->num_started], NULL, thread_main, team) != 0)
      goto failed;
  return team;
failed:
  clnorm_team_destroy(team);
  return NULL;
}

void clnorm_team_destroy(clnorm_team *team) {
  if (!team) return;
  pthread_mutex_lock(&team->mutex);
  team->quit = true;
  pthread_cond_broadcast(&team->wake);
  pthread_mutex_unlock(&team->mutex);
  for (int i = 0; i < team->num_started; i++) pthread_join(team->threads[i], NULL);
  pthread_cond_destroy(&team->wake);
  pthread_mutex_destroy(&team->mutex);
  free(team->threads);
  free(team);
}
