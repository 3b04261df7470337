#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Elements (lines of 64 bytes) up to which waking a thread costs more than it brings. */
#define ALONE 4096u
#define PARTS_PER_THREAD 8u
#define PART_MULTIPLE 256u

/* Elements of one thread's share. */
typedef struct share {
  _Alignas(64) _Atomic size_t next;
  size_t end;
} share;

struct clnorm_team {
  int num_threads; /* the caller included */
  int num_started;
  pthread_t *threads;
  cpu_set_t processors; /* that the process could use when the team was made */
  int caller_processor; /* that threads keep away from; -1: none so far */

  clnorm_team_function function;
  void *argument;
  size_t part;
  share *shares;
  _Atomic int named;  /* threads that have a number */
  _Atomic int inside; /* threads at work */

  pthread_mutex_t mutex; /* of what follows */
  pthread_cond_t wake;
  unsigned piece; /* its number; changes wake the threads */
  bool open;      /* threads may begin */
  bool quit;
};

/* A thread has the same share every time, as in most engines: what it wrote is in the cache of its processor.
 * When that is done it helps the others. */
static void take_parts(clnorm_team *team, int thread) {
  for (int i = 0; i < team->num_threads; i++) {
    share *s = &team->shares[(thread + i) % team->num_threads];
    for (;;) {
      const size_t begin = atomic_fetch_add(&s->next, team->part);
      if (begin >= s->end) break;
      const size_t left = s->end - begin;
      team->function(team->argument, begin, begin + (left < team->part ? left : team->part));
    }
  }
}

static void *thread_main(void *argument) {
  clnorm_team *team = argument;
  const int thread = atomic_fetch_add(&team->named, 1) + 1;
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
    take_parts(team, thread);
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
  const size_t each = count / (size_t)team->num_threads;
  for (int i = 0; i < team->num_threads; i++) {
    atomic_store(&team->shares[i].next, (size_t)i * each);
    team->shares[i].end = i + 1 < team->num_threads ? (size_t)(i + 1) * each : count;
  }
  team->function = function;
  team->argument = argument;
  team->part = (each / PARTS_PER_THREAD / PART_MULTIPLE + 1) * PART_MULTIPLE;
  keep_off_caller(team);
  set_open(team, true);
  take_parts(team, 0);
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
  team->shares = aligned_alloc(64, (size_t)num_threads * sizeof *team->shares);
  if (!team->threads || !team->shares) goto failed;
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
  free(team->shares);
  free(team->threads);
  free(team);
}
