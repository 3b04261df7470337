/* An opened OpenCL device, and its slots of clnorm_device_operations (contracts: backend.h). */
#ifndef CLNORM_OPENCL_DEVICE_H
#define CLNORM_OPENCL_DEVICE_H

#include "backend.h"
#include "loader.h"

typedef struct clnorm_opencl_device {
  clnorm_device base; /* first: a clnorm_device is cast to this */
  clnorm_opencl_api api;
  cl_device_id id;
  cl_context context;
  cl_command_queue queue;
  bool soft_fma;       /* no CL_FP_FMA: fma is software, see CLNORM_SOFT_FMA */
  bool keeps_programs; /* compiled programs are kept in base.cache_folder */
  bool out_of_order;   /* then commands are chained by events */
  cl_event last;       /* out of order: the end of the latest run; NULL before the first */
  cl_event timed[2];   /* profiling: the first and the last launch of the latest run; NULL where it
                          had none */
  bool has_run;        /* profiling: `timed` is of a run */
  cl_program program;  /* of the device's form; built when first needed, NULL before */
} clnorm_opencl_device;

/* memory.c */
clnorm_status clnorm_opencl_alloc(clnorm_device *base, size_t size, clnorm_memory *memory,
                                  clnorm_error *error);
void clnorm_opencl_free(clnorm_device *base, clnorm_memory memory);
clnorm_status clnorm_opencl_write(clnorm_device *base, clnorm_memory memory, const void *source,
                                  size_t size, clnorm_error *error);
clnorm_status clnorm_opencl_read(clnorm_device *base, clnorm_memory memory, void *destination,
                                 size_t size, clnorm_error *error);
clnorm_status clnorm_opencl_span(clnorm_device *base, clnorm_memory memory, const char *role,
                                 clnorm_span *span, clnorm_error *error);

/* launch.c */
clnorm_status clnorm_opencl_prepare(clnorm_device *base, const clnorm_schedule *schedule,
                                    void **prepared, clnorm_error *error);
void clnorm_opencl_unprepare(clnorm_device *base, void *prepared);
clnorm_status clnorm_opencl_run(clnorm_device *base, void *prepared,
                                const clnorm_schedule *schedule, const clnorm_forward *call,
                                const clnorm_memory operands[CLNORM_NUM_OPERANDS],
                                const struct clnorm_opencl_sync *sync, clnorm_error *error);
clnorm_status clnorm_opencl_last_run_seconds(clnorm_device *base, double *seconds,
                                             clnorm_error *error);

#endif
