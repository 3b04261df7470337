/* The caches of the host's processor, as far as rules ask for them. */
#ifndef CLNORM_CORE_CACHES_H
#define CLNORM_CORE_CACHES_H

#include <stdint.h>

typedef struct clnorm_caches {
  uint64_t second; /* bytes of the second level */
  uint64_t last;   /* bytes of the last level; of several last caches, one */
} clnorm_caches;

/* Those of the first processor that the calling thread may use. Asks the system, then the processor itself,
 * then, for the second level alone, the C library. What nobody tells is 1 MiB for the second level, and for
 * the last one what that many workers' second ones have together. */
clnorm_caches clnorm__caches_find(unsigned workers);

/* The same from a folder like /sys/devices/system/cpu, for one of its processors; members that it does not
 * tell are 0. */
clnorm_caches clnorm__caches_read(const char *folder, int processor);

#endif
