/* Compiled once per instruction set, with CLNORM_FORWARD_NAME set to the table's name. */
#include "forward.h"
#include "lanes.h"

#include "clnorm_vector.h"

const clnorm_item_functions CLNORM_FORWARD_NAME = {
    .stages = {
        [CLNORM_STAGE_CHANNEL] = clnorm_item_channel,
        [CLNORM_STAGE_PARTIALS] = clnorm_item_partials,
        [CLNORM_STAGE_FINALIZE] = clnorm_item_finalize,
        [CLNORM_STAGE_APPLY] = clnorm_item_apply,
        [CLNORM_STAGE_COPY] = clnorm_item_copy,
    }};
