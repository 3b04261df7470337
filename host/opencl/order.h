/* Which commands follow which, where no queue sees to it (clnorm_order in backend.h). */
#ifndef CLNORM_OPENCL_ORDER_H
#define CLNORM_OPENCL_ORDER_H

#include "device.h"

/* Events to wait for; owned by the orders that they come from. */
typedef struct clnorm_opencl_waits {
  cl_uint count;
  cl_event events[CLNORM_USES * (1 + CLNORM_ORDER_READERS)];
} clnorm_opencl_waits;

/* Adds the runs of `order` (may be NULL) that a command on this queue is to follow, all of them or those that
 * write: what the queue itself keeps in order is left out,
 * and so are runs that have failed, for whoever waits for one of these fails too. */
clnorm_status clnorm__opencl_follow(const clnorm_opencl_device *device, clnorm_opencl_queue queue,
                                    const clnorm_order *order, bool writes,
                                    clnorm_opencl_waits *waits, clnorm_error *error);

/* Enters a run whose last launch has this event, which is retained. Fails with what clRetainEvent says. */
cl_int clnorm__opencl_enter(const clnorm_opencl_device *device, clnorm_opencl_queue queue,
                            clnorm_use use, cl_event end);

#endif
