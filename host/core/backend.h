/*
 * The interface between the core and a back end. There are two: host/cpu and host/opencl; only
 * host/backends.c names them. Back ends know the core, never each other.
 *
 * The core has checked every argument before it calls a slot: shapes, presence, sizes, overlap, state.
 * A back end sees valid requests only and reports what its device says. No slot may be NULL unless it
 * says so. Slots of one device are called by one thread at a time.
 */
#ifndef CLNORM_CORE_BACKEND_H
#define CLNORM_CORE_BACKEND_H

#include <sys/types.h>

#include "operands.h"
#include "schedule.h"
#include "status.h"

typedef struct clnorm_device clnorm_device;

/* The bytes [begin, end) of the allocation `base`; two spans overlap when base is equal and they cross.
 * begin lies at `address`, as far as alignment goes: device addresses are known modulo 64 at the best. The object
 * lies at `object` of the host's memory, or it is 0: elsewhere, and aligned. */
typedef struct clnorm_span {
  uintptr_t base, object;
  uint64_t begin, end, address;
} clnorm_span;

/* What is done with the bytes of an operand: by a device in a run, or by the host in a copy. */
typedef enum clnorm_access {
  CLNORM_DEVICE_READS = 1,
  CLNORM_DEVICE_WRITES = 2,
  CLNORM_HOST_READS = 4,
  CLNORM_HOST_WRITES = 8
} clnorm_access;

/* The end of a run, for the back end that made it. All zero: of none. */
typedef struct clnorm_run_end {
  void *event, *queue;
} clnorm_run_end;

enum { CLNORM_ORDER_READERS = 8 };

/* The runs that use a thing which they share: the workspace of a plan, the parameters of a module. A run
 * that writes it follows all before; one that only reads it follows the last that wrote. Belongs to whoever
 * owns the thing, all zero at first; ends with forget(). */
typedef struct clnorm_order {
  clnorm_run_end writer;
  clnorm_run_end readers[CLNORM_ORDER_READERS]; /* since then; a further one follows the oldest */
  unsigned next_reader;
} clnorm_order;

/* What a run does with such a thing; order NULL: there is none. */
typedef struct clnorm_use {
  clnorm_order *order;
  bool writes;
} clnorm_use;

enum { CLNORM_USES = 2 }; /* the workspace, and the parameters */

/* Everything about one run. */
typedef struct clnorm_job {
  void *prepared;
  const clnorm_schedule *schedule; /* num_launches may be 0: then only sync is served */
  /* this run's offsets (memory's own offset included), flags and factors */
  clnorm_call call;
  /* absent ones are all zero and never accessed */
  clnorm_memory operands[CLNORM_NUM_OPERANDS];
  clnorm_use uses[CLNORM_USES];
  const clnorm_opencl_sync *sync; /* may be NULL */
} clnorm_job;

/* Receives devices and diagnoses while the list is made (context.c implements both). */
clnorm_status clnorm__device_list_add(clnorm_device_list *list, const clnorm_device_info *info);
clnorm_status clnorm__device_list_add_missing(clnorm_device_list *list, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* False where nobody asks for that device: it need not be described. device -1: any of the platform's. */
bool clnorm__device_list_wants(const clnorm_device_list *list, unsigned platform, int device);

/* A back end: finds devices and opens them. */
typedef struct clnorm_backend {
  const char *name;
  /* Adds every device that is wanted, usable or not, in a stable order, and a sentence for everything that
   * is missing. Fails only for lack of host memory. Any thread. */
  clnorm_status (*list)(clnorm_device_list *list);
  /* Opens the device that list() named info->id. On success *device is ready, its fields filled. */
  clnorm_status (*open)(const clnorm_device_info *info, const clnorm_context_options *options,
                        clnorm_error *error, clnorm_device **device);
} clnorm_backend;

typedef struct clnorm_device_operations {
  /* Releases the device; waits for nothing. */
  void (*close)(clnorm_device *device);
  /* Waits for all submitted work. */
  clnorm_status (*finish)(clnorm_device *device, clnorm_error *error);
  /* size > 0; *memory covers exactly size bytes from offset 0. */
  clnorm_status (*alloc)(clnorm_device *device, size_t size, clnorm_memory *memory,
                         clnorm_error *error);
  /* memory came from alloc. Submitted runs may still use it. */
  void (*free)(clnorm_device *device, clnorm_memory memory);
  /* Blocking; size > 0; the range was checked with span(). They follow the runs that `order` (may be NULL)
   * has: write all of them, read those that write. */
  clnorm_status (*write)(clnorm_device *device, clnorm_memory memory, const void *source,
                         size_t size, const clnorm_order *order, clnorm_error *error);
  clnorm_status (*read)(clnorm_device *device, clnorm_memory memory, void *destination, size_t size,
                        const clnorm_order *order, clnorm_error *error);
  /* Says which bytes memory covers, asking the driver for the true size of a cl_mem; refuses the other
   * kind of memory, and memory that was made for less than `access` (bits of clnorm_access)
   * (INVALID_ARGUMENT, naming `role`), and a size beyond the object's end (BUFFER_TOO_SMALL). memory is
   * not absent. */
  clnorm_status (*span)(clnorm_device *device, clnorm_memory memory, const char *role,
                        unsigned access, clnorm_span *span, clnorm_error *error);
  /* Whether runs of such a key can be had; the message of UNSUPPORTED says what the device lacks. */
  clnorm_status (*supports)(clnorm_device *device, const clnorm_key *key, clnorm_error *error);
  /* Whether kernels of this path exist for the work's operation and storages; GENERAL always. */
  bool (*has_path)(const clnorm_device *device, clnorm_path path, const clnorm_work *work);
  /* Makes what runs of the schedule need (kernel objects); *prepared may stay NULL. May compile. */
  clnorm_status (*prepare)(clnorm_device *device, const clnorm_schedule *schedule, void **prepared,
                           clnorm_error *error);
  /* Releases what prepare gave; NULL is accepted. Submitted runs may still be under way. */
  void (*unprepare)(clnorm_device *device, void *prepared);
  /* Submits the launches of the schedule, in order, after sync's events and the runs that its uses are
   * to follow, and enters the run into their orders. Allocates nothing; the host waits for nothing. */
  clnorm_status (*run)(clnorm_device *device, const clnorm_job *run, clnorm_error *error);
  /* Makes an order all zero, releasing what it holds. */
  void (*forget)(clnorm_device *device, clnorm_order *order);
  /* How long the last successful run took, waiting for it; STATE where there was none. Called only where
   * the device was opened with profiling. */
  clnorm_status (*last_run_seconds)(clnorm_device *device, double *seconds, clnorm_error *error);
} clnorm_device_operations;

/* An opened device. A back end's own structure starts with this one. */
struct clnorm_device {
  const clnorm_device_operations *operations;
  clnorm_device_info info;
  clnorm_traits traits; /* by rule; the core then applies the tuning */
  bool profiling;       /* as in the options */
  bool owns_queue;      /* finish() has its work done before the caller's context ends */
  /* the only one that can use the device; 0: any that has a copy of it. In others close, free, unprepare and forget
   * release host memory, and nothing else is called */
  pid_t process;
  /* these three by clnorm__tuning_choose (tuning.h); close() frees the folder */
  char *cache_folder;
  clnorm_tuning tuning; /* 0: by rule */
  clnorm_tuning_source tuning_source;
  char description[512]; /* "PoCL ... (0.0), vector form, 2 compute units" */
};

/* host/backends.c: in the order in which devices are listed; ends with NULL. */
extern const clnorm_backend *const clnorm__backends[];

/* STATE: last_run_seconds of a device that has run nothing. */
clnorm_status clnorm__fail_no_run(clnorm_error *error);
/* Copies and checks what a caller gave, which may be NULL; taken->tuning becomes `tuning` where there is one, and error
 * gets the log. INVALID_ARGUMENT where a member is out of its range; STATE where `share` is destroyed. */
clnorm_status clnorm__context_options_take(const clnorm_context_options *given,
                                           clnorm_context_options *taken, clnorm_tuning *tuning,
                                           clnorm_error *error);
/* Wraps an opened device in a context, which then owns it; closes it on failure. `note` is added to the
 * description and may be NULL. */
clnorm_status clnorm__context_adopt(clnorm_device *device, const clnorm_context_options *options,
                                    const char *note, clnorm_context **context,
                                    clnorm_error *error);
/* The device behind a context. */
clnorm_device *clnorm__context_opened(const clnorm_context *context);

#endif
