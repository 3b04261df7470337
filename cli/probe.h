/* A look at the OpenCL drivers from another process, which one of them may end. */
#ifndef CLNORM_CLI_PROBE_H
#define CLNORM_CLI_PROBE_H

#include <stdbool.h>

/* Lists the devices in a child first: true where it came back. Where a driver crashes, or takes more than a
 * minute, that is told on standard error, and OpenCL then shows this process no driver at all: which of them
 * it was, nobody can tell. To be called before anything has loaded OpenCL. What a driver does later, in
 * compiling or running, is not seen. */
bool clnorm_probe_drivers(void);

#endif
