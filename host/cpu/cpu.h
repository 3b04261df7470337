/* The CPU back end: the vector form of the kernels on threads of its own. */
#ifndef CLNORM_CPU_CPU_H
#define CLNORM_CPU_CPU_H

#include "backend.h"

extern const clnorm_backend clnorm__cpu_backend;

#endif
