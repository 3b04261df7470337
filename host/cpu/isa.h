/* Instruction sets: which this processor has, and what was compiled for each. */
#ifndef CLNORM_CPU_ISA_H
#define CLNORM_CPU_ISA_H

#include "forward.h"

/* Every extension that the objects are built with is asked for. */
bool clnorm__isa_available(clnorm_isa isa);
clnorm_isa clnorm__isa_best(void);

/* The object that has this path for x and y; NULL where there is none, for GENERAL never. isa is available, and the
 * pair is one that plans may have. */
const clnorm_items_functions *clnorm__isa_functions(clnorm_isa isa, clnorm_path path, uint32_t x,
                                                    uint32_t y);

const char *clnorm__isa_name(clnorm_isa isa);

/* In the environment that items run in. */
bool clnorm__isa_keeps_subnormals(clnorm_isa isa);

#endif
