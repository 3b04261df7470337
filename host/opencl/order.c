#include "order.h"

#include <string.h>

#include "errors.h"

static void release(const clnorm_opencl_api *api, clnorm_run_end *end) {
  if (end->event) api->clReleaseEvent(end->event);
  memset(end, 0, sizeof *end);
}

static clnorm_status add(const clnorm_opencl_device *device, clnorm_opencl_queue queue,
                         const clnorm_run_end *end, clnorm_opencl_waits *waits,
                         clnorm_error *error) {
  cl_int progress = CL_COMPLETE;
  if (!end->event || (end->queue == queue.handle && !queue.out_of_order)) return CLNORM_OK;
  const cl_int code = device->api.clGetEventInfo(end->event, CL_EVENT_COMMAND_EXECUTION_STATUS,
                                                 sizeof progress, &progress, NULL);
  if (code != CL_SUCCESS) return clnorm__opencl_fail(error, "clGetEventInfo", code);
  if (progress > CL_COMPLETE) waits->events[waits->count++] = end->event;
  return CLNORM_OK;
}

/* Where a reader is entered: in the place of one that its queue makes it follow, else of the oldest. */
static unsigned place_of_reader(const clnorm_order *order, clnorm_opencl_queue queue) {
  for (unsigned i = 0; i < CLNORM_ORDER_READERS && !queue.out_of_order; i++)
    if (order->readers[i].queue == queue.handle) return i;
  return order->next_reader;
}

clnorm_status clnorm__opencl_follow(const clnorm_opencl_device *device, clnorm_opencl_queue queue,
                                    const clnorm_order *order, bool writes,
                                    clnorm_opencl_waits *waits, clnorm_error *error) {
  if (!order) return CLNORM_OK;
  clnorm_status status = add(device, queue, &order->writer, waits, error);
  const unsigned place = place_of_reader(order, queue);
  for (unsigned i = 0; i < CLNORM_ORDER_READERS && status == CLNORM_OK; i++)
    if (writes || i == place) status = add(device, queue, &order->readers[i], waits, error);
  return status;
}

cl_int clnorm__opencl_enter(const clnorm_opencl_device *device, clnorm_opencl_queue queue,
                            clnorm_use use, cl_event end) {
  if (!use.order || !end) return CL_SUCCESS;
  const clnorm_opencl_api *api = &device->api;
  const unsigned place = place_of_reader(use.order, queue);
  clnorm_run_end *entry = use.writes ? &use.order->writer : &use.order->readers[place];
  const cl_int code = api->clRetainEvent(end);
  if (code != CL_SUCCESS) return code;
  for (unsigned i = 0; i < CLNORM_ORDER_READERS && use.writes; i++)
    release(api, &use.order->readers[i]);
  release(api, entry);
  entry->event = end;
  entry->queue = queue.handle;
  if (!use.writes && place == use.order->next_reader)
    use.order->next_reader = (place + 1) % CLNORM_ORDER_READERS;
  return CL_SUCCESS;
}

void clnorm__opencl_forget(clnorm_device *base, clnorm_order *order) {
  const clnorm_opencl_device *device = (const clnorm_opencl_device *)base;
  const bool held = !clnorm__opencl_is_inherited(device);
  if (held) release(&device->api, &order->writer);
  for (unsigned i = 0; i < CLNORM_ORDER_READERS && held; i++)
    release(&device->api, &order->readers[i]);
  memset(order, 0, sizeof *order);
}
