/* What the schedule needs to know of an OpenCL device. */
#ifndef CLNORM_OPENCL_TRAITS_H
#define CLNORM_OPENCL_TRAITS_H

#include "query.h"
#include "schedule.h"

/* Local memory that a work-group of the wide form may use. */
#define CLNORM_OPENCL_WIDE_LOCAL_BYTES (16u * 1024u)
#define CLNORM_OPENCL_LARGEST_GROUP 256u

/* The traits of the query's device, in the form asked for; AUTO takes VECTOR on processors and on devices
 * whose local memory is ordinary memory, else WIDE. A device too small for WIDE gets VECTOR even where
 * WIDE was asked for; `note` then says why, else it is "". largest_group: of WIDE's work-groups, at most
 * CLNORM_OPENCL_LARGEST_GROUP. Check the query afterwards. */
clnorm_traits clnorm__opencl_traits(clnorm_opencl_query *query, clnorm_form form,
                                    unsigned largest_group, char *note, size_t note_size);

#endif
