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
 * stages of one run, and runs in a loop, find the threads awake; and how many of them there are between
 * two offers of the processor to whoever waits for it: in an engine that is who reads what was written. */
#define SPIN_ROUNDS 2000
#define ROUNDS_PER_OFFER 64

struct clnorm_pool {
  unsigned num_threads; /* the caller included */
  pthread_t *threads;
  unsigned num_started;
  /* That the threads are in: a forked child has a copy of the pool, but no threads. */
  pid_t process;

  /* One launch. Written by the caller while it is closed and nobody is inside. */
  clnorm_pool_function function;
  void *argument;
  clnorm_range *ranges;    /* one for each worker */
  _Atomic bool open;       /* threads may enter */
  _Atomic unsigned inside; /* threads that have entered, or look whether they may */
  _Atomic unsigned launch; /* number of the launch; changes wake the threads */
  _Atomic unsigned named;  /* threads that have a number */

  cpu_set_t processors; /* that the process could use when the pool was made */
  int caller_processor; /* that threads keep away from; -1: none so far */

  pthread_mutex_t mutex; /* for sleeping only */
  pthread_cond_t wake;
  _Atomic unsigned sleeping;
  _Atomic bool quit;
};

/* Each worker begins with the same share of neighbouring items in every launch: what the same thread
 * wrote or will read next to it, in the cache of its processor. Two thirds of what is left of it at a time:
 * long ranges first, since items side by side share work, and short ones last, so that no thread waits long
 * for another. Then it helps the others, with a part for everyone that may come. */
bool clnorm__items_take(clnorm_items *items, uint64_t *begin, uint64_t *end) {
  for (; items->done < items->workers; items->done++) {
    clnorm_range *range = &items->ranges[(items->own + items->done) % items->workers];
    *begin = atomic_load(&range->next);
    while (*begin < range->end) {
      const uint64_t left = range->end - *begin;
      const uint64_t share = items->workers == 1 ? left : left * 2 / (items->done ? 6 : 3);
      *end = *begin + (share ? share : 1);
      if (atomic_compare_exchange_weak(&range->next, begin, *end)) return true;
    }
  }
  return false;
}

static void work(clnorm_pool *pool, unsigned worker) {
  clnorm_items items = {pool->ranges, pool->num_threads, worker, 0};
  pool->function(pool->argument, &items);
}

static void wait_for_launch(clnorm_pool *pool, unsigned seen) {
  for (int i = 0; i < SPIN_ROUNDS; i++) {
    if (atomic_load(&pool->launch) != seen) return;
    if (i % ROUNDS_PER_OFFER == ROUNDS_PER_OFFER - 1)
      sched_yield();
    else
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
  const unsigned worker = atomic_fetch_add(&pool->named, 1) + 1;
  unsigned seen = 0;
  while (!atomic_load(&pool->quit)) {
    wait_for_launch(pool, seen);
    seen = atomic_load(&pool->launch);
    atomic_fetch_add(&pool->inside, 1);
    if (atomic_load(&pool->open)) work(pool, worker);
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

/* The first item of a worker's share. */
static uint64_t share_begin(const clnorm_pool *pool, uint64_t count, unsigned worker) {
  return count / pool->num_threads * worker +
         count % pool->num_threads * worker / pool->num_threads;
}

static void share_out(clnorm_pool *pool, uint64_t count) {
  for (unsigned i = 0; i < pool->num_threads; i++) {
    atomic_store(&pool->ranges[i].next, share_begin(pool, count, i));
    pool->ranges[i].end = share_begin(pool, count, i + 1);
  }
}

void clnorm__pool_run(clnorm_pool *pool, clnorm_pool_function function, void *argument,
                      uint64_t count, bool alone) {
  if (alone || pool->num_threads == 1 || count <= 1 || is_forked_copy(pool)) {
    clnorm_range all = {0, count};
    clnorm_items items = {&all, 1, 0, 0};
    function(argument, &items);
    return;
  }
  pool->function = function;
  pool->argument = argument;
  share_out(pool, count);
  atomic_store(&pool->open, true);
  announce_launch(pool);
  work(pool, 0);
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

clnorm_pool *clnorm__pool_create(unsigned num_threads) {
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
  pool->ranges = aligned_alloc(64, num_threads * sizeof *pool->ranges);
  if (pool->threads && pool->ranges) start_threads(pool);
  if (pool->num_started + 1 == num_threads) return pool;
  clnorm__pool_destroy(pool);
  return NULL;
}

void clnorm__pool_destroy(clnorm_pool *pool) {
  if (!pool) return;
  if (!is_forked_copy(pool)) {
    atomic_store(&pool->quit, true);
    announce_launch(pool);
    for (unsigned i = 0; i < pool->num_started; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
  }
  free(pool->ranges);
  free(pool->threads);
  free(pool);
}
