/*
 * clnorm: batch normalization on any OpenCL device, with a CPU path that returns the same bits.
 *
 * This header is the manual. It needs no OpenCL header; include clnorm_opencl.h as well to work
 * with OpenCL objects of your own.
 *
 *   1. Status codes, version
 *   2. Devices                what is there, and what is missing
 *   3. Contexts               one device, opened; the tuning of its speed
 *   4. Memory                 where tensors live: host memory, or a cl_mem with an offset
 *   5. The forward operator   planned once, run many times, no allocation in a run
 *   6. BatchNorm2d            the module with parameters, running statistics and states
 *   7. Comparing              bits, ulps, first difference, histogram
 *
 * Rules that hold everywhere
 *   Result     every function that can fail returns a clnorm_status; the text of the last failure is
 *              kept in the context (clnorm_last_error). On failure nothing is changed: no output is
 *              written, no state moves. The exception is CLNORM_ERROR_DEVICE after work was handed to
 *              the device: outputs are then undefined, as after any lost device.
 *   NULL       pointers must not be NULL unless the declaration says so; where it can be checked it is,
 *              and reported as CLNORM_ERROR_INVALID_ARGUMENT. In place of an object every function takes
 *              NULL: those without a status do nothing, or return 0, false, "", NULL, absent memory.
 *   Threads    a context, and all that was made from it, is used by one thread at a time. Any number
 *              of contexts may be used at once. There is no global state but a lock: drivers are asked for
 *              their devices by one thread at a time. The threads that the library starts block all signals
 *              but those that a thread causes itself (SIGSEGV and the like).
 *   fork       a child can destroy what it has inherited, and run on an inherited context of the CPU path:
 *              there the calling thread does all the work, since threads are not inherited (a context of
 *              the child's own has threads). OpenCL does not survive a fork: in the child an inherited
 *              OpenCL context is an error (STATE), destroying it releases host memory only, and drivers
 *              that the parent has used may hang or fail where the child opens a context of its own; so
 *              fork first, then open. What a run was writing when another thread forked is undefined in the
 *              child.
 *   Output     the library never prints, never exits and never changes the locale, signal handlers or
 *              the floating-point environment of the caller.
 *   Bits       for one logical problem (shape, values, options) every device, thread count, kernel form
 *              and variant gives the same bits; docs/arithmetic.md defines them. NaN payloads are not
 *              part of the promise; neither, on a device that flushes subnormal values
 *              (clnorm_device_info.denormals is false), are elements that depend on what it flushes
 *              on the way to them. The programs' verify and run --verify tell these from the data.
 */
#ifndef CLNORM_CLNORM_H
#define CLNORM_CLNORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(CLNORM_BUILDING) && defined(__GNUC__)
#define CLNORM_API __attribute__((visibility("default")))
#else
#define CLNORM_API
#endif

/* ---- 1. Status codes, version ------------------------------------------------------------------ */

#define CLNORM_VERSION_MAJOR 0
#define CLNORM_VERSION_MINOR 1
#define CLNORM_VERSION_PATCH 0

/* Code, value (stable), text. */
#define CLNORM_STATUS_LIST(X)                                                                      \
  X(CLNORM_OK, 0, "success")                                                                       \
  X(CLNORM_ERROR_INVALID_ARGUMENT, 1, "an argument breaks a rule")                                 \
  X(CLNORM_ERROR_UNSUPPORTED, 2, "a valid request that this version does not implement")           \
  X(CLNORM_ERROR_OVERFLOW, 3, "a size does not fit")                                               \
  X(CLNORM_ERROR_BUFFER_TOO_SMALL, 4, "a buffer is smaller than the operation needs")              \
  X(CLNORM_ERROR_OVERLAP, 5, "two operands overlap without being the same")                        \
  X(CLNORM_ERROR_STATE, 6, "the object's state does not allow the call")                           \
  X(CLNORM_ERROR_OUT_OF_MEMORY, 7, "out of memory, on the host or on the device")                  \
  X(CLNORM_ERROR_NO_DEVICE, 8, "no such device")                                                   \
  X(CLNORM_ERROR_DEVICE, 9, "the device or its driver failed")                                     \
  X(CLNORM_ERROR_BUILD, 10, "the device's compiler rejected a kernel")

typedef enum clnorm_status {
#define CLNORM_STATUS_ENUM(name, value, text) name = value,
  CLNORM_STATUS_LIST(CLNORM_STATUS_ENUM)
#undef CLNORM_STATUS_ENUM
} clnorm_status;

/* The version of the library that runs, "MAJOR.MINOR.PATCH". Static. */
CLNORM_API const char *clnorm_version(void);
/* "CLNORM_ERROR_OVERLAP", and its one-line text. Static, never NULL; unknown codes are named so. */
CLNORM_API const char *clnorm_status_name(clnorm_status status);
CLNORM_API const char *clnorm_status_text(clnorm_status status);

/* ---- 2. Devices -------------------------------------------------------------------------------- */

/* How a kernel spreads over a device. Both give the same bits.
 *   VECTOR  one work-item per work-group, 16-wide vectors: OpenCL on CPUs, and the CPU path itself
 *   WIDE    64 to 256 work-items per work-group, coalesced rows: GPUs */
typedef enum clnorm_form {
  CLNORM_FORM_AUTO = 0,
  CLNORM_FORM_VECTOR = 1,
  CLNORM_FORM_WIDE = 2
} clnorm_form;

typedef struct clnorm_device_info {
  char id[16];        /* "cpu", or "P.D": OpenCL platform P, device D, both counted from 0 */
  char name[128];     /* the driver's name of the device */
  char platform[128]; /* platform and driver version; "clnorm" for the CPU path */
  char type[16];      /* "cpu", "gpu", "accelerator" or "other" */
  char form[16];      /* form that the rule picks: "vector" or "wide" */
  char status[256];   /* "ok", or why the device cannot be used */
  bool usable;
  bool denormals;        /* subnormal values are kept (CL_FP_DENORM; CPU path: found by trying) */
  int compute_units;     /* CPU path: hardware threads that this process may use */
  uint64_t memory_bytes; /* global memory; 0 where unknown */
  uint64_t max_alloc_bytes;
  int vector_width; /* floats in a native vector, as the driver says; CPU path: 0 */
} clnorm_device_info;

/* A snapshot of what is there. Making one never fails for a missing driver: what is missing is told
 * by clnorm_device_list_missing. Needs no context; released with clnorm_device_list_destroy. */
typedef struct clnorm_device_list clnorm_device_list;
CLNORM_API clnorm_status clnorm_device_list_create(clnorm_device_list **list);
CLNORM_API void clnorm_device_list_destroy(clnorm_device_list *list);
/* Device 0 is always the CPU path. index in [0, count). Pointers live as long as the list. */
CLNORM_API int clnorm_device_list_count(const clnorm_device_list *list);
CLNORM_API const clnorm_device_info *clnorm_device_list_get(const clnorm_device_list *list,
                                                            int index);
/* Index of the device that "auto" opens: the first usable GPU, else the CPU path (an OpenCL driver for
 * the host's own processor is never faster than the CPU path; name it to use it). */
CLNORM_API int clnorm_device_list_default(const clnorm_device_list *list);
/* One sentence per thing that is missing, naming the package that brings it where one is known. */
CLNORM_API int clnorm_device_list_missing_count(const clnorm_device_list *list);
CLNORM_API const char *clnorm_device_list_missing(const clnorm_device_list *list, int index);

/* ---- 3. Contexts ------------------------------------------------------------------------------- */

typedef struct clnorm_context clnorm_context;

/* Room for the text of an error that happens before there is a context to keep it. */
typedef struct clnorm_message {
  char text[2048];
} clnorm_message;

/* One line without a newline: build logs, fallbacks, damaged cache entries. Called on the thread that
 * made the call. */
typedef void (*clnorm_log_function)(void *user_data, const char *line);

/* Instruction set of the CPU path. All give the same bits; for tests and measurements. */
typedef enum clnorm_isa {
  CLNORM_ISA_AUTO = 0,
  CLNORM_ISA_PLAIN = 1, /* what the compiler's base target offers; on ARM that is NEON */
  CLNORM_ISA_AVX2 = 2,  /* AVX2 + FMA */
  CLNORM_ISA_AVX512 = 3 /* AVX-512 F, VL and DQ */
} clnorm_isa;

/* The parameters of the rule that cuts work for a device (docs/performance.md). They change speed, never
 * bits. A member that is 0 (AUTO) takes the rule's own value. `clnorm tune` measures them. */
typedef struct clnorm_tuning {
  clnorm_form form;      /* OpenCL: VECTOR or WIDE. The CPU path has VECTOR only */
  double split_below;    /* training takes CLNORM_VARIANT_SPLIT where there are fewer channels
                          per worker (thread, compute unit) than this, and a channel has more than 16
                          segments of 2048 values. In [0.001, 1e6]; kept in thousandths */
  uint64_t stream_bytes; /* VECTOR: outputs of this size and larger are written around the caches.
                          UINT64_MAX: none are */
  uint64_t
      train_stream_bytes; /* the same with batch statistics. 0: stream_bytes, where that is not 0 */
} clnorm_tuning;

/* Everything by rule. */
CLNORM_API clnorm_tuning clnorm_tuning_defaults(void);

typedef enum clnorm_tuning_source {
  CLNORM_TUNING_RULE = 0, /* nothing else was there */
  CLNORM_TUNING_KEPT = 1, /* kept on disk for this device by clnorm_tuning_keep */
  CLNORM_TUNING_GIVEN = 2 /* clnorm_context_options.tuning */
} clnorm_tuning_source;

typedef struct clnorm_context_options {
  int num_threads;         /* CPU path: threads a run may use; 0: one for each processor that the
                            calling thread may use. They run where the calling thread may */
  clnorm_isa isa;          /* CPU path; an instruction set the processor lacks is an error */
  clnorm_form form;        /* OpenCL: force a kernel form */
  const char *cache_dir;   /* folder of compiled programs and tunings. NULL: $CLNORM_CACHE_DIR, else
                            $XDG_CACHE_HOME/clnorm, else ~/.cache/clnorm. "": keep and read none.
                            PoCL keeps programs itself: for it, only in a folder that is named */
  clnorm_log_function log; /* NULL: no log */
  void *log_user_data;
  const clnorm_tuning
      *tuning; /* exactly this; `form` above goes before its form. NULL: what is kept for
                                the device, unless form or isa is forced; else the rule */
  /* Runs are timed: clnorm_last_run_seconds. OpenCL: the context's own queue is made with
   * CL_QUEUE_PROFILING_ENABLE; a queue of the caller must have it. */
  bool profiling;
  /* OpenCL: a context that compiled programs are shared with, whichever of the two needs one first; both
   * are on one cl_context and device (clnorm_context_create opens this one there). They may be used by
   * different threads and end in any order; `share` must live until this one is open. NULL: none. */
  const clnorm_context *share;
  /* OpenCL, wide form: work-items in a work-group, 256, 128 or 64; 0: the largest of these that the device
   * allows. More than it allows is an error. */
  int group_size;
} clnorm_context_options;

CLNORM_API clnorm_context_options clnorm_context_options_defaults(void);

/* Opens a device.
 *   device   "auto" (or NULL)  the list's default; the description says what was chosen and why
 *            "cpu"             the CPU path; OpenCL is not loaded
 *            "gpu"             the first usable OpenCL GPU
 *            "P.D"             OpenCL platform P, device D; no other is asked anything
 *            other text        the first usable OpenCL device whose name or platform contains it,
 *                              upper and lower case alike
 *            Devices are asked about themselves in their order until the one that is wanted is found. The
 *            OpenCL loader opens all drivers when the first platform is asked for: one that crashes then
 *            is out of the library's hands (the loader's OCL_ICD_VENDORS leaves it out).
 *   options  NULL: defaults
 *   context  set to the new context, or to NULL on failure; released with clnorm_context_destroy
 *   message  may be NULL; receives the reason on failure, "" on success
 * Errors: NO_DEVICE (the message says what is missing and what brings it), INVALID_ARGUMENT, STATE (share is
 * destroyed, or inherited through a fork), DEVICE, OUT_OF_MEMORY. */
CLNORM_API clnorm_status clnorm_context_create(const char *device,
                                               const clnorm_context_options *options,
                                               clnorm_context **context, clnorm_message *message);
/* Releases the context. One that has an OpenCL queue of its own first waits for the commands on it, also
 * where something that was made from it lives on; for commands on queues of the caller nothing waits.
 * Plans, modules and memory that were made from the context may outlive it: they can still be destroyed
 * (memory: clnorm_memory_free with the old handle) in any order, and the last of them releases what is
 * left. Until then every other use of them, and of the handle, is an error (STATE). */
CLNORM_API void clnorm_context_destroy(clnorm_context *context);
/* The device in use. Lives as long as the context. */
CLNORM_API const clnorm_device_info *clnorm_context_device(const clnorm_context *context);
/* One line: device, form or instruction set, threads, whether it is tuned, and any fallback that "auto"
 * took. */
CLNORM_API const char *clnorm_context_description(const clnorm_context *context);
/* Text of the last failed call on this context or on what was made from it; "" if none failed. It
 * names the value and the rule it broke. Valid until the next failing call. */
CLNORM_API const char *clnorm_last_error(const clnorm_context *context);
/* Waits until all work on the context's queue is done (a no-op on the CPU path). Runs that named another
 * queue are waited for by their events, or by that queue. */
CLNORM_API clnorm_status clnorm_finish(clnorm_context *context);
/* Waits for the context's last run, the last one that was submitted without an error, and tells how long
 * it took: on an OpenCL device from the start of its first launch to the end of its last, by the device's
 * clock; on the CPU path the time of the call, by the host's. A run with nothing to do took 0 seconds.
 * Errors: INVALID_ARGUMENT (NULL), STATE (the context was opened without profiling, or there was no run
 * yet), DEVICE (the run failed, or the driver has no times of it). */
CLNORM_API clnorm_status clnorm_last_run_seconds(clnorm_context *context, double *seconds);

/* The values in force, none of them 0; source may be NULL. */
CLNORM_API clnorm_tuning clnorm_context_tuning(const clnorm_context *context,
                                               clnorm_tuning_source *source);
/* Keeps a tuning on disk, for contexts that are opened on this device from then on, with these values or
 * the rule's where a member is 0; replaces what was kept. A device is known by its name, platform, driver
 * version and number of compute units (CPU path: threads that the process may use). What is on disk is
 * never a reason for an error: a file that is damaged, foreign or of another version is logged and
 * ignored. Errors: INVALID_ARGUMENT (a value out of its range), STATE (cache_dir is "", or the folder
 * cannot be written). */
CLNORM_API clnorm_status clnorm_tuning_keep(clnorm_context *context, const clnorm_tuning *tuning);
/* Removes what is kept for the context's device, if anything is. Errors: STATE, as above. */
CLNORM_API clnorm_status clnorm_tuning_forget(clnorm_context *context);
/* The file that these two write and remove; "" where cache_dir is "". Lives as long as the context. */
CLNORM_API const char *clnorm_tuning_path(const clnorm_context *context);
/* What is kept for a device that need not be opened; false where nothing is. cache_dir as in
 * clnorm_context_options. */
CLNORM_API bool clnorm_tuning_kept(const clnorm_device_info *device, const char *cache_dir,
                                   clnorm_tuning *tuning);

/* ---- 4. Memory --------------------------------------------------------------------------------- */

struct _cl_mem; /* OpenCL's cl_mem is a pointer to this */

/* A place in memory that a device can reach. A plain value: copy it freely; it owns nothing unless it
 * came from clnorm_memory_alloc. All zero means "absent".
 * A CPU context takes host memory, an OpenCL context takes cl_mem; the other kind is refused. */
typedef struct clnorm_memory {
  void *host;         /* host memory: a multiple of the element size; else NULL */
  struct _cl_mem *cl; /* OpenCL memory; else NULL */
  size_t offset;      /* bytes from there to the first element; a multiple of the element size */
  size_t size;        /* bytes usable from offset on. cl_mem only: 0 means up to its end */
} clnorm_memory;

/* Host memory of the caller. An input is never written, so a const pointer may be given for one. */
static inline clnorm_memory clnorm_host_memory(const void *pointer, size_t size) {
  clnorm_memory memory = {(void *)(uintptr_t)pointer, NULL, 0, size};
  return memory;
}

/* Allocates size bytes where the context's device reads and writes fastest (64-byte aligned on the CPU
 * path); size 0 gives absent memory. Contents are undefined. Release with clnorm_memory_free. */
CLNORM_API clnorm_status clnorm_memory_alloc(clnorm_context *context, size_t size,
                                             clnorm_memory *memory);
/* Releases what clnorm_memory_alloc gave and makes *memory absent; absent memory is accepted. Waits for
 * nothing: OpenCL keeps the memory until the commands that use it have ended. */
CLNORM_API void clnorm_memory_free(clnorm_context *context, clnorm_memory *memory);
/* Copies of size bytes, any number, between the host and memory of this context, on the context's queue, which
 * have ended when the call returns. On a queue that is out of order they follow no run: see clnorm_opencl_sync.
 * Errors: INVALID_ARGUMENT (absent memory, the other kind, pointer or offset no multiple of 4),
 * BUFFER_TOO_SMALL, OVERFLOW (the memory's end is past the address space), DEVICE. */
CLNORM_API clnorm_status clnorm_memory_write(clnorm_context *context, clnorm_memory memory,
                                             const void *source, size_t size);
CLNORM_API clnorm_status clnorm_memory_read(clnorm_context *context, clnorm_memory memory,
                                            void *destination, size_t size);

/* ---- 5. The forward operator ------------------------------------------------------------------- */

typedef enum clnorm_dtype {
  CLNORM_F32 = 0,
  CLNORM_F16 = 1, /* named so that a description can ask; refused in this version */
  CLNORM_BF16 = 2,
  CLNORM_F64 = 3
} clnorm_dtype;

typedef enum clnorm_layout {
  CLNORM_NCHW = 0,
  CLNORM_NHWC = 1 /* refused in this version */
} clnorm_layout;

typedef enum clnorm_statistics {
  CLNORM_BATCH_STATISTICS = 0, /* mean and biased variance of x, per channel over (N, spatial) */
  CLNORM_GIVEN_STATISTICS = 1, /* running_mean and running_var, read only */
  CLNORM_NO_STATISTICS = 2     /* y = x: the plain copy that figures are measured against */
} clnorm_statistics;

/* How batch statistics are computed; never changes the bits. */
typedef enum clnorm_variant {
  CLNORM_VARIANT_AUTO = 0,
  CLNORM_VARIANT_CHANNEL = 1, /* one launch: workers take whole channels, statistics then output */
  CLNORM_VARIANT_SPLIT = 2    /* three launches: parts of channels, merge, output */
} clnorm_variant;

/* How y is written (VECTOR form only; WIDE ignores it); never changes the bits. */
typedef enum clnorm_store {
  CLNORM_STORE_AUTO = 0,
  CLNORM_STORE_CACHED = 1,  /* through the caches: y is read again soon, or is small */
  CLNORM_STORE_STREAMED = 2 /* around the caches: saves reading y's lines before writing them */
} clnorm_store;

/* What is computed, on (N, C, spatial), spatial = any product of trailing dimensions:
 *
 *   y[n,c,s] = (x[n,c,s] - mean[c]) * invstd[c] * weight[c] + bias[c],  invstd = 1 / sqrt(var + eps)
 *
 * (Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.) With batch statistics and running
 * statistics present:
 *
 *   running_mean[c] = momentum * running_mean[c] + (1 - momentum) * mean[c]
 *   running_var[c]  = momentum * running_var[c]  + (1 - momentum) * var[c] * M / (M - 1),  M = N * spatial
 *
 * momentum is the fraction that is KEPT (0.9 here is 0.1 in PyTorch, cuDNN and MIOpen).
 *
 * One value per channel (M = 1) has the variance 0, in running_var as well: y is bias (NaN where eps is 0),
 * unless refuse_one_value is set. Batch statistics whose sums of squares do not fit in a float give NaN in y
 * and saved_invstd; docs/arithmetic.md says where that begins. */
typedef struct clnorm_forward_desc {
  int64_t batch;    /* N >= 0 */
  int64_t channels; /* C >= 0 */
  int64_t spatial;  /* H * W, or any product; >= 0. 1 for (N, C) tensors */
  clnorm_dtype dtype;
  clnorm_layout layout;
  int64_t x_strides[3]; /* elements between neighbours along N, C, spatial; all 0: contiguous. */
  int64_t y_strides[3]; /* Anything but the contiguous strides is refused in this version */
  clnorm_statistics statistics;
  double eps;              /* >= 0, finite; rounded to float once */
  bool biased_running_var; /* running_var takes var instead of var * M / (M - 1) (ONNX, MNN) */
  bool external_workspace; /* the caller hands in the workspace at each run */
  clnorm_variant variant;
  clnorm_store store;
  bool refuse_one_value; /* batch statistics of one value per channel: an error (PyTorch's rule) */
} clnorm_forward_desc;

/* f32, NCHW, contiguous, eps 1e-5, everything else off or automatic. */
CLNORM_API clnorm_forward_desc clnorm_forward_desc_defaults(clnorm_statistics statistics,
                                                            int64_t batch, int64_t channels,
                                                            int64_t spatial);

/* A plan is immutable. It holds what a run needs: the choice of kernels, compiled programs, and its
 * workspace unless external_workspace is set. Belongs to its context. */
typedef struct clnorm_forward_plan clnorm_forward_plan;

/* Errors: INVALID_ARGUMENT (negative sizes; NaN, infinite or negative eps; batch statistics of one value
 * per channel where refuse_one_value is set), UNSUPPORTED (types, layouts and strides that this version
 * refuses by name), OVERFLOW (bytes of a tensor beyond 63 bits; more than 2^40 values a channel; strides of
 * an empty tensor that no 63 bits hold), OUT_OF_MEMORY, BUILD (the message holds the beginning of the
 * compiler's log; the log callback gets all of it), DEVICE.
 * Sizes with N, C or spatial 0 succeed: a run then writes nothing. */
CLNORM_API clnorm_status clnorm_forward_plan_create(clnorm_context *context,
                                                    const clnorm_forward_desc *desc,
                                                    clnorm_forward_plan **plan);
/* Waits for nothing: runs of the plan that are under way go on to their end. */
CLNORM_API void clnorm_forward_plan_destroy(clnorm_forward_plan *plan);
/* Bytes of workspace a run uses (may be 0), whoever provides it; its address must be a multiple of 64. */
CLNORM_API size_t clnorm_forward_plan_workspace_size(const clnorm_forward_plan *plan);
/* One line: variant, form, launches, how the work is cut. */
CLNORM_API const char *clnorm_forward_plan_description(const clnorm_forward_plan *plan);

struct _cl_event; /* OpenCL's cl_event and cl_command_queue are pointers to these */
struct _cl_command_queue;

/* How a run goes along with other OpenCL commands: the queue it is put on, the events it waits for, those
 * it returns. All zero asks for nothing, and is all that a CPU context accepts.
 *
 * On a queue that is in order, commands follow each other as they were enqueued. On others, and from one
 * queue to another, clnorm orders by events what it knows of:
 *   - the launches of one run
 *   - runs of one plan that has a workspace of its own (clnorm_forward_plan_workspace_size not 0, no
 *     external_workspace): each follows the one before
 *   - runs of one BatchNorm2d: one that updates the running statistics follows all before it; others
 *     follow the last that did, and each other only where more than 8 are under way. Reading and setting
 *     its parameters waits for the runs that use them
 * Everything else is the caller's: whatever passes through x, y, parameters or workspace in memory of the
 * caller (wait for the event of the run that writes it), clnorm_memory_write and clnorm_memory_read, which
 * go through the context's queue, and memory that is used again. A blocking clEnqueueWriteBuffer does not say
 * that the values are in the buffer (Intel's runtime puts a few there later): for another queue, or out of
 * order, its event does.
 * A run that waits for an event that fails does not take place, and its own event fails. Later runs do not
 * wait for an event that has failed already, so that one failure is not handed on for ever. */
typedef struct clnorm_opencl_sync {
  uint32_t num_events_in_wait_list;
  struct _cl_event *const *event_wait_list; /* the run starts after these; NULL if there are none */
  /* Each may be NULL; receives an event that completes with the run's last launch, and its first, to be
   * released by the caller. The run takes place from the start of the first to the end of the last. A
   * run that has nothing to do returns markers. */
  struct _cl_event **event;
  struct _cl_event **first_event;
  /* NULL: the context's queue. Another must belong to the same cl_context and device, and be profiled
   * where the context is. The run's commands are flushed; what else is on the queue is the caller's. */
  struct _cl_command_queue *queue;
} clnorm_opencl_sync;

/* Operands of a run. Tensors are (N, C, spatial) f32; all others (C) f32.
 *
 *                 batch statistics                        given statistics
 *   x             read                                    read
 *   y             written; may be x itself (in place)     written; may be x itself
 *   weight        read; absent: 1                         read; absent: 1
 *   bias          read; absent: 0                         read; absent: 0
 *   running_mean  read and written; absent: no update     read, required
 *   running_var   read and written; absent: no update     read, required
 *   saved_mean    written if present                      written if present
 *   saved_invstd  written if present                      written if present
 *   workspace     used if external_workspace              used if external_workspace
 *
 * running_mean and running_var come together or not at all. Writable operands must not overlap any
 * other operand, except y == x exactly. */
typedef struct clnorm_forward_args {
  clnorm_memory x, y;
  clnorm_memory weight, bias;
  clnorm_memory running_mean, running_var;
  clnorm_memory saved_mean, saved_invstd;
  clnorm_memory workspace;
  double
      momentum; /* kept fraction of the running statistics, in [0, 1]; used only where they are written */
  const clnorm_opencl_sync *sync; /* queue and events of the run; NULL: the context's queue, none */
} clnorm_forward_args;

/* Submits one run. CPU path: done on return. OpenCL: asynchronous on the context's queue; nothing is
 * allocated, compiled or waited for. The caller keeps operands alive until the work is done.
 * Errors, all before anything is submitted: INVALID_ARGUMENT (missing operand; pointer or offset no
 * multiple of 4; wrong kind of memory; momentum outside [0, 1] or NaN), BUFFER_TOO_SMALL, OVERLAP,
 * OVERFLOW (an operand's end is past the address space). DEVICE if the driver refuses the submission. */
CLNORM_API clnorm_status clnorm_forward_run(clnorm_forward_plan *plan,
                                            const clnorm_forward_args *args);

/* ---- 6. BatchNorm2d ---------------------------------------------------------------------------- */

/* The meaning of BatchNorm2d's momentum. */
typedef enum clnorm_momentum {
  CLNORM_MOMENTUM_KEPT = 0,      /* fraction of the old value that is kept (MegEngine, Caffe) */
  CLNORM_MOMENTUM_NEW = 1,       /* fraction of the new batch (PyTorch, cuDNN, MIOpen) */
  CLNORM_MOMENTUM_CUMULATIVE = 2 /* plain average over all batches; momentum is ignored */
} clnorm_momentum;

typedef struct clnorm_batchnorm2d_options {
  int64_t num_features;                /* C, > 0 */
  double eps;                          /* 1e-5 */
  double momentum;                     /* 0.9, in [0, 1] */
  clnorm_momentum momentum_convention; /* KEPT */
  bool affine;                         /* true: learnable weight and bias; false: there are none */
  bool track_running_stats;            /* true */
  bool freeze;             /* false; true normalizes with the running statistics in every mode */
  bool biased_running_var; /* false */
  bool refuse_one_value;   /* false; true: batch statistics of one value per channel are an error */
} clnorm_batchnorm2d_options;

CLNORM_API clnorm_batchnorm2d_options clnorm_batchnorm2d_options_defaults(int64_t num_features);

/* BatchNorm2d with the semantics of MegEngine's module of that name.
 *
 *   state                                        normalizes with    running statistics
 *   training, tracking                           the batch          updated
 *   evaluation, tracking                         running            unchanged
 *   created without tracking, either mode        the batch          none exist
 *   tracking switched off later, either mode     the batch          kept, unchanged
 *   frozen, in any of these states               running            unchanged
 *
 * A new module is in training mode. weight starts at 1, bias at 0, running_mean at 0, running_var at 1.
 * Parameters and running statistics live in the context's memory. */
typedef struct clnorm_batchnorm2d clnorm_batchnorm2d;

/* Errors: INVALID_ARGUMENT (num_features < 1; eps negative, infinite or NaN; momentum outside [0, 1];
 * freeze without track_running_stats), OVERFLOW (num_features that no memory holds), OUT_OF_MEMORY, DEVICE. */
CLNORM_API clnorm_status clnorm_batchnorm2d_create(clnorm_context *context,
                                                   const clnorm_batchnorm2d_options *options,
                                                   clnorm_batchnorm2d **bn);
/* Waits for nothing: runs that are under way go on to their end. */
CLNORM_API void clnorm_batchnorm2d_destroy(clnorm_batchnorm2d *bn);

CLNORM_API void clnorm_batchnorm2d_set_training(clnorm_batchnorm2d *bn, bool training);
CLNORM_API bool clnorm_batchnorm2d_training(const clnorm_batchnorm2d *bn);
/* Switching off keeps the running statistics and stops using them, but in a frozen module, which goes on
 * with them. Errors (STATE): on, where the module was created without. */
CLNORM_API clnorm_status clnorm_batchnorm2d_set_track_running_stats(clnorm_batchnorm2d *bn,
                                                                    bool track);
CLNORM_API bool clnorm_batchnorm2d_track_running_stats(const clnorm_batchnorm2d *bn);

typedef enum clnorm_parameter {
  CLNORM_WEIGHT = 0,
  CLNORM_BIAS = 1,
  CLNORM_RUNNING_MEAN = 2,
  CLNORM_RUNNING_VAR = 3
} clnorm_parameter;

/* Blocking copies of all count == num_features values. Errors: STATE where the module has no such
 * parameter (affine or track_running_stats false at creation), INVALID_ARGUMENT (count). */
CLNORM_API clnorm_status clnorm_batchnorm2d_set(clnorm_batchnorm2d *bn, clnorm_parameter parameter,
                                                const float *values, size_t count);
CLNORM_API clnorm_status clnorm_batchnorm2d_get(clnorm_batchnorm2d *bn, clnorm_parameter parameter,
                                                float *values, size_t count);
/* The module's own memory of a parameter, absent where it has none; owned by the module. For handing a
 * device-side optimizer the parameter itself. */
CLNORM_API clnorm_memory clnorm_batchnorm2d_memory(const clnorm_batchnorm2d *bn,
                                                   clnorm_parameter parameter);
/* running_mean 0, running_var 1, num_batches_tracked 0. A no-op where there are none. */
CLNORM_API clnorm_status clnorm_batchnorm2d_reset_running_stats(clnorm_batchnorm2d *bn);
/* reset_running_stats, and weight 1, bias 0 where they exist. */
CLNORM_API clnorm_status clnorm_batchnorm2d_reset_parameters(clnorm_batchnorm2d *bn);
/* Training batches that entered the running statistics; what the cumulative average counts. */
CLNORM_API int64_t clnorm_batchnorm2d_num_batches_tracked(const clnorm_batchnorm2d *bn);
CLNORM_API clnorm_status clnorm_batchnorm2d_set_num_batches_tracked(clnorm_batchnorm2d *bn,
                                                                    int64_t count);

typedef struct clnorm_batchnorm2d_args {
  clnorm_memory x, y;                     /* (N, C, H, W) f32; y may be x itself */
  clnorm_memory saved_mean, saved_invstd; /* (C) f32 each; absent: not written */
  const clnorm_opencl_sync *sync;         /* as in clnorm_forward_args */
} clnorm_batchnorm2d_args;

/* One forward pass in the module's present state. dims[ndim] is the shape of x: 4 dimensions, the second
 * of which is num_features. Plans are kept per shape and state (the last 16 of them), so the first call
 * with a shape costs more than the following ones. Empty tensors (N, H or W = 0) succeed, write nothing
 * and leave the running statistics unchanged.
 * Errors: INVALID_ARGUMENT ("expected 4D input (got 3D input)"; channels that do not match), and those of clnorm_forward_plan_create and clnorm_forward_run. */
CLNORM_API clnorm_status clnorm_batchnorm2d_forward(clnorm_batchnorm2d *bn, int ndim,
                                                    const int64_t *dims,
                                                    const clnorm_batchnorm2d_args *args);

/* ---- 7. Comparing ------------------------------------------------------------------------------ */

#define CLNORM_HISTOGRAM_BINS 34

/* Two floats are equal when their bits are, or when both are NaN. The distance in ulp counts the floats
 * between them; -0 and +0 are 1 apart; NaN against a number is UINT32_MAX. */
typedef struct clnorm_difference {
  int64_t elements;           /* compared */
  int64_t differing_elements; /* 0: the same bits */
  uint32_t max_ulp;
  int64_t first[4]; /* (n, c, h, w) of the first difference; -1 where there is none */
  float first_a, first_b;
  /* bin 0: equal; bin k: distance in [2^(k-1), 2^k), bins 1 to 32; bin 33: NaN against a number */
  int64_t histogram[CLNORM_HISTOGRAM_BINS];
} clnorm_difference;

/* Two host arrays of shape dims (n, c, h, w). Sizes must not be negative. Where a pointer is NULL, nothing is
 * compared. */
CLNORM_API void clnorm_compare(const int64_t dims[4], const float *a, const float *b,
                               clnorm_difference *difference);
/* The same for memory of two contexts (which may be one). Errors are kept in context_a. */
CLNORM_API clnorm_status clnorm_compare_memory(clnorm_context *context_a, clnorm_memory a,
                                               clnorm_context *context_b, clnorm_memory b,
                                               const int64_t dims[4],
                                               clnorm_difference *difference);

typedef enum clnorm_output {
  CLNORM_OUTPUT_Y = 0,
  CLNORM_OUTPUT_RUNNING_MEAN = 1,
  CLNORM_OUTPUT_RUNNING_VAR = 2,
  CLNORM_OUTPUT_SAVED_MEAN = 3,
  CLNORM_OUTPUT_SAVED_INVSTD = 4,
  CLNORM_NUM_OUTPUTS = 5
} clnorm_output;

/* Runs one operation on two contexts from the same inputs and compares every output. inputs holds HOST
 * memory: x, and weight, bias, running_mean, running_var where wanted, and momentum; its other members
 * are ignored and nothing in it is written. Outputs that the operation does not write compare 0
 * elements. Errors are kept in context_a; those of context_b are quoted there. */
CLNORM_API clnorm_status clnorm_compare_forward(clnorm_context *context_a,
                                                clnorm_context *context_b,
                                                const clnorm_forward_desc *desc,
                                                const clnorm_forward_args *inputs,
                                                clnorm_difference differences[CLNORM_NUM_OUTPUTS]);

#ifdef __cplusplus
}
#endif
#endif
