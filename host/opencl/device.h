/* An opened OpenCL device, and its slots of clnorm_device_operations (contracts: backend.h). */
#ifndef CLNORM_OPENCL_DEVICE_H
#define CLNORM_OPENCL_DEVICE_H

#include "backend.h"
#include "loader.h"

/* A queue, and whether its commands may overtake each other. */
typedef struct clnorm_opencl_queue {
  cl_command_queue handle;
  bool out_of_order;
} clnorm_opencl_queue;

typedef struct clnorm_opencl_device {
  clnorm_device base; /* first: a clnorm_device is cast to this */
  clnorm_opencl_api api;
  cl_device_id id;
  cl_context context;
  clnorm_opencl_queue queue;
  bool soft_fma;       /* no CL_FP_FMA: fma is software, see CLNORM_SOFT_FMA */
  bool keeps_programs; /* compiled programs are kept in base.cache_folder */
  /* profiling: the first and the last launch of the latest run; NULL where it had none */
  cl_event timed[2];
  bool has_run; /* profiling: `timed` is of a run */
  /* fp64.h: whether the answer is known, and it; "": it has f64 */
  bool fp64_tried;
  char fp64_fault[256];
  struct clnorm_opencl_programs *programs; /* programs.h */
} clnorm_opencl_device;

/* Was the device opened by the process that this one was forked from? Its driver's threads and locks are
 * not here: no OpenCL function may be called. */
bool clnorm__opencl_is_inherited(const clnorm_opencl_device *device);

/* INVALID_ARGUMENT unless the queue belongs to the cl_context and the device, and is profiled if that is
 * wanted. The rest of *queue is filled. */
clnorm_status clnorm__opencl_check_queue(const clnorm_opencl_api *api, cl_context context,
                                         cl_device_id device, bool profiling,
                                         clnorm_opencl_queue *queue, clnorm_error *error);

/* memory.c */
clnorm_status clnorm__opencl_alloc(clnorm_device *base, size_t size, clnorm_memory *memory,
                                   clnorm_error *error);
void clnorm__opencl_free(clnorm_device *base, clnorm_memory memory);
clnorm_status clnorm__opencl_write(clnorm_device *base, clnorm_memory memory, const void *source,
                                   size_t size, const clnorm_order *order, clnorm_error *error);
clnorm_status clnorm__opencl_read(clnorm_device *base, clnorm_memory memory, void *destination,
                                  size_t size, const clnorm_order *order, clnorm_error *error);
clnorm_status clnorm__opencl_span(clnorm_device *base, clnorm_memory memory, const char *role,
                                  unsigned access, clnorm_span *span, clnorm_error *error);

/* launch.c */
clnorm_status clnorm__opencl_supports(clnorm_device *base, const clnorm_key *key,
                                      clnorm_error *error);
bool clnorm__opencl_has_path(const clnorm_device *base, clnorm_path path, const clnorm_work *work);
clnorm_status clnorm__opencl_prepare(clnorm_device *base, const clnorm_schedule *schedule,
                                     void **prepared, clnorm_error *error);
void clnorm__opencl_unprepare(clnorm_device *base, void *prepared);
clnorm_status clnorm__opencl_run(clnorm_device *base, const clnorm_job *run, clnorm_error *error);
clnorm_status clnorm__opencl_last_run_seconds(clnorm_device *base, double *seconds,
                                              clnorm_error *error);

/* order.c */
void clnorm__opencl_forget(clnorm_device *base, clnorm_order *order);

#endif
