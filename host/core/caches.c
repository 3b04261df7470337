#include "caches.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#define MAX_INDEX 16 /* caches of a processor in the system's folder */

/* The caches of a processor, as they are told one by one. */
typedef struct told {
  clnorm_caches caches;
  int last_level;
} told;

static void note(told *t, int level, uint64_t size) {
  if (level < 2 || size == 0) return;
  if (level == 2) t->caches.second = size;
  if (level > t->last_level) t->caches.last = size;
  if (level > t->last_level) t->last_level = level;
}

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

/* "32768K" */
static uint64_t parse_size(const char *text) {
  char *unit;
  const uint64_t number = strtoull(text, &unit, 10);
  return *unit == 'K' ? number << 10 : *unit == 'M' ? number << 20 : number;
}

clnorm_caches clnorm__caches_read(const char *folder, int processor) {
  char line[64];
  told t = {{0, 0}, 0};
  for (int i = 0; i < MAX_INDEX && read_line(folder, processor, i, "level", line, sizeof line);
       i++) {
    const int level = atoi(line);
    if (!read_line(folder, processor, i, "type", line, sizeof line) || line[0] == 'I') continue;
    if (read_line(folder, processor, i, "size", line, sizeof line))
      note(&t, level, parse_size(line));
  }
  return t.caches;
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

static clnorm_caches ask_processor(void) {
  told t = {{0, 0}, 0};
  const unsigned leaf = cache_leaf();
  for (unsigned i = 0; leaf && i < MAX_INDEX; i++) {
    unsigned a, b, c, d;
    __cpuid_count(leaf, i, a, b, c, d);
    const unsigned type = a & 31, level = a >> 5 & 7;
    if (type == 0) break;
    if (type == 2) continue; /* instructions */
    const uint64_t size =
        (uint64_t)((b >> 22) + 1) * ((b >> 12 & 0x3ff) + 1) * ((b & 0xfff) + 1) * ((uint64_t)c + 1);
    note(&t, (int)level, size);
  }
  return t.caches;
}
#else
static clnorm_caches ask_processor(void) {
  const clnorm_caches none = {0, 0};
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

/* The first processor that the calling thread may use; 0 where nobody tells. */
static int first_processor(void) {
  cpu_set_t set;
  int first = 0;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  while (first < CPU_SETSIZE - 1 && !CPU_ISSET((size_t)first, &set)) first++;
  return first;
}

clnorm_caches clnorm__caches_find(unsigned workers) {
  clnorm_caches caches = clnorm__caches_read("/sys/devices/system/cpu", first_processor());
  if (caches.second == 0 || caches.last == 0) {
    const clnorm_caches asked = ask_processor();
    if (caches.second == 0) caches.second = asked.second;
    if (caches.last == 0) caches.last = asked.last;
  }
  if (caches.second == 0) caches.second = ask_library();
  if (caches.last == 0) caches.last = workers * caches.second;
  return caches;
}
