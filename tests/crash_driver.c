/* An OpenCL driver that ends the process as soon as the loader opens it. */
#include <stdlib.h>

static void __attribute__((constructor)) crash(void) { abort(); }
