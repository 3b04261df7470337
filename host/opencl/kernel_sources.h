/* The source text of the kernel programs, one a form and one that tries double precision, with their includes
 * expanded; the build embeds it (cmake/EmbedKernels.cmake). The sizes do not count the terminating zero. */
#ifndef CLNORM_OPENCL_KERNEL_SOURCES_H
#define CLNORM_OPENCL_KERNEL_SOURCES_H

#include <stddef.h>

extern const char clnorm__kernel_fp64[];
extern const size_t clnorm__kernel_fp64_size;
extern const char clnorm__kernel_vector[];
extern const size_t clnorm__kernel_vector_size;
extern const char clnorm__kernel_wide[];
extern const size_t clnorm__kernel_wide_size;

#endif
