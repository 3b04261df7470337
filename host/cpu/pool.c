#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define RELAX() _mm_pause()
#else
#define RELAX() ((void)0)
#endif

/* Rounds of looking for the next launch before a thread sleeps: about 50 microseconds, so that the
 * stages of one run, and runs in a loop, find the threads awake. */
#define SPIN_ROUNDS 2000

struct clnorm_pool {
  unsigned num_threads; /* the caller included */
  pthread_t *threads;
  unsigned num_started;
  pid_t
      process; /* that the threads are in: a forked child has a copy of the pool, but no threads */

  /* One launch. Written by the caller while it is closed and nobody is inside. */
  clnorm_pool_function function;
  void *argument;
  clnorm_items items;
  _Atomic bool open;       /* threads may enter */
  _Atomic unsigned inside; /* threads that have entered, or look whether they may */
  _Atomic unsigned launch; /* number of the launch; changes wake the threads */

  cpu_set_t processors; /* that the process could use when the pool was made */
  int caller_processor; /* that threads keep away from; -1: none so far */

  pthread_mutex_t mutex; /* for sleeping only */
  pthread_cond_t wake;
  _Atomic unsigned sleeping;
  _Atomic bool quit;
};

/* Two thirds of an even share of what is left: long ranges first, since items side by side share work, and
 * short ones last, so that no thread waits long for another. */
bool clnorm_items_take(clnorm_items *items, uint64_t *begin, uint64_t *end) {
  *begin = atomic_load(&items->next);
  while (*begin < items->count) {
    const uint64_t left = items->count - *begin;
    const uint64_t share = items->workers == 1 ? left : left * 2 / (3 * (uint64_t)items->workers);
    *end = *begin + (share ? share : 1);
    if (atomic_compare_exchange_weak(&items->next, begin, *end)) return true;
  }
  return false;
}

static void wait_for_launch(clnorm_pool *pool, unsigned seen) {
  for (int i = 0; i < SPIN_ROUNDS; i++) {
    if (atomic_load(&pool->launch) != seen) return;
    RELAX();
  }
  pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->sleeping, 1);
  while (atomic_load(&pool->launch) == seen) pthread_cond_wait(&pool->wake, &pool->mutex);
  atomic_fetch_sub(&pool->sleeping, 1);
  pthread_mutex_unlock(&pool->mutex);
}

/* A thread that wakes late finds the launch closed, and nobody has waited for it. Entering before looking
 * and closing before counting, both sequentially consistent, leave no gap. */
static void *thread_main(void *argument) {
  clnorm_pool *pool = argument;
  unsigned seen = 0;
  while (!atomic_load(&pool->quit)) {
    wait_for_launch(pool, seen);
    seen = atomic_load(&pool->launch);
    atomic_fetch_add(&pool->inside, 1);
    if (atomic_load(&pool->open)) pool->function(pool->argument, &pool->items);
    atomic_fetch_sub(&pool->inside, 1);
  }
  return NULL;
}

/* A thread that wakes on the caller's processor would get no time while the caller works: the scheduler
 * is told to use the others. Only where the caller has moved since the last time. */
static void keep_off_caller(clnorm_pool *pool) {
  const int processor = sched_getcpu();
  if (processor < 0 || processor == pool->caller_processor) return;
  cpu_set_t others = pool->processors;
  CPU_CLR(processor, &others);
  if (CPU_COUNT(&others) == 0) return;
  pool->caller_processor = processor;
  for (unsigned i = 0; i < pool->num_started; i++)
    pthread_setaffinity_np(pool->threads[i], sizeof others, &others);
}

/* A thread counts itself as sleeping before it looks at the launch for the last time, so either it is
 * seen here or it sees the new number. */
static void announce_launch(clnorm_pool *pool) {
  atomic_fetch_add(&pool->launch, 1);
  if (!atomic_load(&pool->sleeping)) return;
  keep_off_caller(pool);
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->mutex);
}

/* Items are short, but a thread may lose its processor in the middle of one. */
static void wait_for_threads(clnorm_pool *pool) {
  for (int i = 0; atomic_load(&pool->inside); i++) {
    if (i < SPIN_ROUNDS)
      RELAX();
    else
      sched_yield();
  }
}

/* What this copy of the pool says about threads is from another process, and its locks may be held there
 * for ever. */
static bool is_forked_copy(const clnorm_pool *pool) { return pool->process != getpid(); }

void clnorm_pool_run(clnorm_pool *pool, clnorm_pool_function function, void *argument,
                     uint64_t count, bool alone) {
  if (alone || pool->num_threads == 1 || count <= 1 || is_forked_copy(pool)) {
    clnorm_items items = {count, 0, 1};
    function(argument, &items);
    return;
  }
  pool->function = function;
  pool->argument = argument;
  pool->items.count = count;
  pool->items.workers = pool->num_threads;
  atomic_store(&pool->items.next, 0);
  atomic_store(&pool->open, true);
  announce_launch(pool);
  function(argument, &pool->items);
  atomic_store(&pool->open, false);
  wait_for_threads(pool);
}

/* Signals are for the program's own threads: these begin, and stay, with all of them blocked but those that
 * a thread brings on itself, which a handler of the program may be there for. */
static void start_threads(clnorm_pool *pool) {
  static const int own[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) sigdelset(&blocked, own[i]);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  while (pool->num_started + 1 < pool->num_threads &&
         pthread_create(&pool->threads[pool->num_started], NULL, thread_main, pool) == 0)
    pool->num_started++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

clnorm_pool *clnorm_pool_create(unsigned num_threads) {
  clnorm_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pool->num_threads = num_threads;
  pool->process = getpid();
  pool->caller_processor = -1;
  if (sched_getaffinity(0, sizeof pool->processors, &pool->processors) != 0)
    CPU_ZERO(&pool->processors);
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pool->threads = calloc(num_threads, sizeof *pool->threads);
  if (pool->threads) start_threads(pool);
  if (pool->num_started + 1 == num_threads) return pool;
  clnorm_pool_destroy(pool);
  return NULL;
}

void clnorm_pool_destroy(clnorm_pool *pool) {
  if (!pool) return;
  if (!is_forked_copy(pool)) {
    atomic_store(&pool->quit, true);
    announce_launch(pool);
    for (unsigned i = 0; i < pool->num_started; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
  }
  free(pool->threads);
  free(pool);
}
