/*
 * Which kernels a program has: those of the stages that a schedule launches, since drivers compile all that is in
 * a program. CLNORM_STAGES has a bit 1 << stage for each (clnorm_stage in host/core/schedule.h); without it
 * all are there.
 */
#ifndef CLNORM_STAGES_H
#define CLNORM_STAGES_H

#ifndef CLNORM_STAGES
#define CLNORM_STAGES 511
#endif
#define CLNORM_WITH_CHANNEL (CLNORM_STAGES & 1)
#define CLNORM_WITH_PARTIALS (CLNORM_STAGES & 2)
#define CLNORM_WITH_FINALIZE (CLNORM_STAGES & 4)
#define CLNORM_WITH_APPLY (CLNORM_STAGES & 8)
#define CLNORM_WITH_COPY (CLNORM_STAGES & 16)
#define CLNORM_WITH_BACKWARD (CLNORM_STAGES & 480)
#define CLNORM_WITH_BACKWARD_CHANNEL (CLNORM_STAGES & 32)
#define CLNORM_WITH_BACKWARD_PARTIALS (CLNORM_STAGES & 64)
#define CLNORM_WITH_BACKWARD_FINALIZE (CLNORM_STAGES & 128)
#define CLNORM_WITH_BACKWARD_APPLY (CLNORM_STAGES & 256)

#endif
