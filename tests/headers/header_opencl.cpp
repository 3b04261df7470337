/* The same in C++. */
#include "header_opencl.c"
