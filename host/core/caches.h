/* The caches of the host's processor, as far as rules ask for them. */
#ifndef CLNORM_CORE_CACHES_H
#define CLNORM_CORE_CACHES_H

#include <stdint.h>

typedef struct clnorm_caches {
  uint64_t second; /* bytes of the second level that a worker has for itself */
  uint64_t last;   /* bytes of the last level that all workers reach together */
} clnorm_caches;

/* Of the processors that the calling thread may use, with that many workers. Asks the system, then the
 * processor itself, then, for the second level alone, the C library. What nobody tells is 1 MiB a worker
 * for the second level, and for the last one what the workers' second ones have together. */
clnorm_caches clnorm_caches_find(unsigned workers);

/* The same from a folder like /sys/devices/system/cpu, for the processors listed ("0-3,8"); members that it
 * does not tell are 0. */
clnorm_caches clnorm_caches_read(const char *folder, const char *processors, unsigned workers);

#endif
