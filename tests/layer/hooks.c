#include "hooks.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

hooks_control hooks;

void hooks_reset(hooks_kind kind, long fail_at) {
  atomic_store(&hooks.armed, false);
  hooks.kind = kind;
  hooks.fail_at = fail_at;
  for (int i = 0; i < HOOKS_NUM_KINDS; i++) atomic_store(&hooks.calls[i], 0);
  atomic_store(&hooks.failed, NULL);
}

/* Counts a call; true if it is to fail. */
static bool fails(hooks_kind kind, const char *name) {
  if (!atomic_load(&hooks.armed)) return false;
  const long call = atomic_fetch_add(&hooks.calls[kind], 1) + 1;
  if (kind != hooks.kind || call != hooks.fail_at) return false;
  atomic_store(&hooks.failed, name);
  errno = kind == HOOKS_ALLOCATION ? ENOMEM : EAGAIN;
  return true;
}

static void *allocated(void *pointer) {
  if (pointer) atomic_fetch_add(&hooks.live, 1);
  return pointer;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
  return fails(HOOKS_ALLOCATION, "malloc") ? NULL : allocated(__real_malloc(size));
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
  return fails(HOOKS_ALLOCATION, "calloc") ? NULL : allocated(__real_calloc(count, size));
}

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size) {
  if (fails(HOOKS_ALLOCATION, "realloc")) return NULL;
  void *pointer = __real_realloc(old, size);
  return old ? pointer : allocated(pointer);
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size) {
  if (fails(HOOKS_ALLOCATION, "aligned_alloc")) return NULL;
  return allocated(__real_aligned_alloc(alignment, size));
}

int __real_posix_memalign(void **pointer, size_t alignment, size_t size);
int __wrap_posix_memalign(void **pointer, size_t alignment, size_t size);
int __wrap_posix_memalign(void **pointer, size_t alignment, size_t size) {
  if (fails(HOOKS_ALLOCATION, "posix_memalign")) return ENOMEM;
  const int code = __real_posix_memalign(pointer, alignment, size);
  if (code == 0) allocated(*pointer);
  return code;
}

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text) {
  return fails(HOOKS_ALLOCATION, "strdup") ? NULL : allocated(__real_strdup(text));
}

void __real_free(void *pointer);
void __wrap_free(void *pointer);
void __wrap_free(void *pointer) {
  if (pointer) atomic_fetch_sub(&hooks.live, 1);
  __real_free(pointer);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument) {
  if (fails(HOOKS_THREAD, "pthread_create")) return EAGAIN;
  return __real_pthread_create(thread, attributes, start, argument);
}
