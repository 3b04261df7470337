#include "caches.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#define MAX_INDEX 16 /* caches of a processor in the system's folder */

static uint64_t at_most(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* ---- The system's folder ---------------------------------------------------------------------------- */

/* The first line of FOLDER/cpuPROCESSOR/cache/indexINDEX/NAME. */
static bool read_line(const char *folder, int processor, int index, const char *name, char *line,
                      int size) {
  char path[512];
  snprintf(path, sizeof path, "%s/cpu%d/cache/index%d/%s", folder, processor, index, name);
  FILE *file = fopen(path, "re");
  if (!file) return false;
  const bool good = fgets(line, size, file) != NULL;
  fclose(file);
  return good;
}

/* "0-3,8". */
static void parse_list(const char *text, cpu_set_t *set) {
  CPU_ZERO(set);
  while (*text >= '0' && *text <= '9') {
    char *after;
    const long first = strtol(text, &after, 10);
    const long last = *after == '-' ? strtol(after + 1, &after, 10) : first;
    for (long i = first; i <= last && i < CPU_SETSIZE; i++) CPU_SET((size_t)i, set);
    text = *after == ',' ? after + 1 : after;
  }
}

/* "32768K" */
static uint64_t parse_size(const char *text) {
  char *unit;
  const uint64_t number = strtoull(text, &unit, 10);
  return *unit == 'K' ? number << 10 : *unit == 'M' ? number << 20 : number;
}

/* A cache, and the processors that share it. */
typedef struct cache {
  int level; /* 0: there is none */
  uint64_t size;
  cpu_set_t shared;
} cache;

/* The cache of a level, or the last one where level is 0. */
static cache cache_of(const char *folder, int processor, int level) {
  char line[4096];
  cache found = {.level = 0};
  for (int i = 0; i < MAX_INDEX && read_line(folder, processor, i, "level", line, sizeof line);
       i++) {
    const int its_level = atoi(line);
    if (level ? its_level != level : its_level <= found.level) continue;
    if (!read_line(folder, processor, i, "type", line, sizeof line) || line[0] == 'I') continue;
    if (!read_line(folder, processor, i, "size", line, sizeof line)) continue;
    const uint64_t size = parse_size(line);
    if (size == 0 || !read_line(folder, processor, i, "shared_cpu_list", line, sizeof line))
      continue;
    found.level = its_level;
    found.size = size;
    parse_list(line, &found.shared);
  }
  return found;
}

/* Several last caches count each, as far as there are workers for them. */
static clnorm_caches read_folder(const char *folder, cpu_set_t left, unsigned workers) {
  clnorm_caches caches = {0, 0};
  uint64_t sum = 0;
  unsigned count = 0;
  for (int i = 0; i < CPU_SETSIZE; i++) {
    if (!CPU_ISSET((size_t)i, &left)) continue;
    if (caches.second == 0) caches.second = cache_of(folder, i, 2).size;
    const cache last = cache_of(folder, i, 0);
    CPU_CLR((size_t)i, &left);
    if (last.level < 2) continue;
    for (int k = i; k < CPU_SETSIZE; k++)
      if (CPU_ISSET((size_t)k, &last.shared)) CPU_CLR((size_t)k, &left);
    sum += last.size;
    count++;
  }
  if (count) caches.last = sum / count * at_most(count, workers);
  return caches;
}

clnorm_caches clnorm_caches_read(const char *folder, const char *processors, unsigned workers) {
  cpu_set_t set;
  parse_list(processors, &set);
  return read_folder(folder, set, workers);
}

/* ---- The processor ---------------------------------------------------------------------------------- */

#if defined(__x86_64__) || defined(__i386__)
/* Deterministic cache parameters: leaf 4 (Intel), 0x8000001D (AMD, where topology extensions are there);
 * both have the same layout. */
static unsigned cache_leaf(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return 0;
  const bool intel = b == signature_INTEL_ebx;
  if (intel) return a >= 4 ? 4 : 0;
  const unsigned topology_extensions = 1u << 22;
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & topology_extensions)) return 0;
  return (unsigned)__get_cpuid_max(0x80000000, NULL) >= 0x8000001Du ? 0x8000001Du : 0;
}

static clnorm_caches ask_processor(unsigned workers) {
  clnorm_caches caches = {0, 0};
  unsigned last_level = 0;
  const unsigned leaf = cache_leaf();
  for (unsigned i = 0; leaf && i < MAX_INDEX; i++) {
    unsigned a, b, c, d;
    __cpuid_count(leaf, i, a, b, c, d);
    const unsigned type = a & 31, level = a >> 5 & 7, sharing = (a >> 14 & 0xfff) + 1;
    if (type == 0) break;
    if (type == 2 || level < 2) continue; /* instructions; the first level */
    const uint64_t size =
        (uint64_t)((b >> 22) + 1) * ((b >> 12 & 0x3ff) + 1) * ((b & 0xfff) + 1) * ((uint64_t)c + 1);
    if (level == 2) caches.second = size;
    if (level < last_level) continue;
    last_level = level;
    caches.last = size * ((workers + sharing - 1) / sharing);
  }
  return caches;
}
#else
static clnorm_caches ask_processor(unsigned workers) {
  const clnorm_caches none = {0, 0};
  (void)workers;
  return none;
}
#endif

/* ---- Whoever tells ---------------------------------------------------------------------------------- */

/* The C library's word on the last level is not asked for: on AMD's processors it is that of a whole
 * package, of which a processor reaches a tenth. */
static uint64_t ask_library(void) {
#ifdef _SC_LEVEL2_CACHE_SIZE
  const long size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (size > 0) return (uint64_t)size;
#endif
  return 1u << 20;
}

clnorm_caches clnorm_caches_find(unsigned workers) {
  cpu_set_t set;
  clnorm_caches caches = {0, 0};
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    caches = read_folder("/sys/devices/system/cpu", set, workers);
  if (caches.second == 0 || caches.last == 0) {
    const clnorm_caches asked = ask_processor(workers);
    if (caches.second == 0) caches.second = asked.second;
    if (caches.last == 0) caches.last = asked.last;
  }
  if (caches.second == 0) caches.second = ask_library();
  if (caches.last < workers * caches.second) caches.last = workers * caches.second;
  return caches;
}
