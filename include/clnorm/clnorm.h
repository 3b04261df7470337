/*
 * clnorm: batch normalization on any OpenCL device, with a CPU path that returns the same bits.
 *
 * This header is the manual. It needs no OpenCL header; include clnorm_opencl.h as well to work
 * with OpenCL objects of your own.
 *
 *   1. Status codes, version
 *   2. Devices       what is there, and what is missing
 *   3. Contexts      one device, opened; the tuning of its speed
 *   4. Memory        where tensors live: host memory, or a cl_mem with an offset
 *   5. Tensors       type, shape, strides, channel blocks
 *   6. Problems      what is to be computed, on which tensors
 *   7. Plans, runs   planned once, run many times, no allocation in a run
 *   8. BatchNorm     the modules BatchNorm1d, 2d, 3d: parameters, running statistics, states, gradients
 *   9. Comparing     bits, ulps, first difference, histogram
 *
 * The shortest way: clnorm_context_create, clnorm_batchnorm_create, clnorm_batchnorm_forward.
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
 *   Growth     structures that the caller fills, and results that the library fills, start with their
 *              size: x_init(&x, sizeof x) sets it, and every other member to its default. A library that
 *              is older or newer than the header it was called with then knows what is there: a member
 *              that it does not know must be 0 (its default), or the call is refused (UNSUPPORTED).
 *              clnorm_memory, clnorm_tensor, clnorm_binding and clnorm_message never change.
 *   Enums      members and pointers are int32_t where they hold an enumeration's value.
 *   Output     the library never prints, never exits and never changes the locale, signal handlers or
 *              the floating-point environment of the caller.
 *   Bits       for one logical problem (shape, types, values, options) every device, thread count, layout,
 *              kernel form, route and cut gives the same bits, in place or not; docs/arithmetic.md defines them.
 *              NaN payloads are not part of the promise; neither, on a device that flushes subnormal values
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
  size_t size;
  /* OpenCL: VECTOR or WIDE. The CPU path has VECTOR only */
  int32_t form;
  /* training takes CLNORM_CUT_SPLIT where there are fewer channels per worker (thread, compute unit) than this,
   * and a channel has more than 16 segments of 2048 values. In [0.001, 1e6]; kept in thousandths */
  double split_below;
  /* VECTOR: outputs of this size and larger are written around the caches. UINT64_MAX: none are */
  uint64_t stream_bytes;
  /* the same with batch statistics. 0: stream_bytes, where that is not 0 */
  uint64_t train_stream_bytes;
} clnorm_tuning;

/* Everything by rule. */
CLNORM_API void clnorm_tuning_init(clnorm_tuning *tuning, size_t size);

typedef enum clnorm_tuning_source {
  CLNORM_TUNING_RULE = 0, /* nothing else was there */
  CLNORM_TUNING_KEPT = 1, /* kept on disk for this device by clnorm_tuning_keep */
  CLNORM_TUNING_GIVEN = 2 /* clnorm_context_options.tuning */
} clnorm_tuning_source;

typedef struct clnorm_context_options {
  size_t size;
  /* CPU path: threads a run may use; 0: one for each processor that the calling thread may use. They run where
   * the calling thread may */
  int num_threads;
  /* clnorm_isa. CPU path; an instruction set the processor lacks is an error */
  int32_t isa;
  /* clnorm_form. OpenCL: force a kernel form */
  int32_t form;
  /* folder of compiled programs and tunings. NULL: $CLNORM_CACHE_DIR, else $XDG_CACHE_HOME/clnorm, else
   * ~/.cache/clnorm. "": keep and read none. PoCL keeps programs itself: for it, only in a folder that is named */
  const char *cache_dir;
  /* NULL: no log */
  clnorm_log_function log;
  void *log_user_data;
  /* exactly this; `form` above goes before its form. NULL: what is kept for the device, unless form or isa is
   * forced; else the rule */
  const clnorm_tuning *tuning;
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

CLNORM_API void clnorm_context_options_init(clnorm_context_options *options, size_t size);

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

/* The values in force, none of them 0; source (clnorm_tuning_source) may be NULL. tuning was initialized. */
CLNORM_API void clnorm_context_tuning(const clnorm_context *context, clnorm_tuning *tuning,
                                      int32_t *source);
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
 * A CPU context takes host memory, an OpenCL context takes cl_mem; the other kind is refused.
 * What is an operand of a run lies, and starts, at a multiple of its element's size. clnorm_memory_write and
 * clnorm_memory_read copy bytes from and to any. */
typedef struct clnorm_memory {
  void *host;         /* host memory; else NULL */
  struct _cl_mem *cl; /* OpenCL memory; else NULL */
  size_t offset;      /* bytes from there to the first element */
  size_t size;        /* bytes usable from offset on. cl_mem only: 0 means up to its end */
} clnorm_memory;

/* Host memory of the caller. An input is never written, so a const pointer may be given for one. */
CLNORM_API clnorm_memory clnorm_host_memory(const void *pointer, size_t size);

/* Allocates size bytes where the context's device reads and writes fastest (64-byte aligned on the CPU
 * path); size 0 gives absent memory. Contents are undefined. Release with clnorm_memory_free. */
CLNORM_API clnorm_status clnorm_memory_alloc(clnorm_context *context, size_t size,
                                             clnorm_memory *memory);
/* Releases what clnorm_memory_alloc gave and makes *memory absent; absent memory is accepted. Waits for
 * nothing: OpenCL keeps the memory until the commands that use it have ended. */
CLNORM_API void clnorm_memory_free(clnorm_context *context, clnorm_memory *memory);
/* Copies of size bytes, any number, between the host and memory of this context, on the context's queue, which
 * have ended when the call returns. On a queue that is out of order they follow no run: see clnorm_opencl_sync.
 * Errors: INVALID_ARGUMENT (absent memory, the other kind), BUFFER_TOO_SMALL, OVERFLOW (the memory's end is past the
 * address space), DEVICE. */
CLNORM_API clnorm_status clnorm_memory_write(clnorm_context *context, clnorm_memory memory,
                                             const void *source, size_t size);
CLNORM_API clnorm_status clnorm_memory_read(clnorm_context *context, clnorm_memory memory,
                                            void *destination, size_t size);

/* ---- 5. Tensors -------------------------------------------------------------------------------- */

/* What an element is in memory. f16 and bf16 are loaded exactly and stored rounded once, to nearest even, after
 * everything was computed in float; no device needs half arithmetic for them. Where x is f64 everything is
 * computed in double, and needs a device with fp64. */
typedef enum clnorm_dtype {
  CLNORM_F32 = 0,
  CLNORM_F16 = 1,
  CLNORM_BF16 = 2,
  CLNORM_F64 = 3
} clnorm_dtype;

enum { CLNORM_MAX_RANK = 5 };

/* clnorm_tensor.flags: what lies in the last channel block behind the last channel belongs to this tensor, and is
 * written as 0 where the tensor is. Without it that memory is a neighbour's: never read into a result, never
 * written. */
#define CLNORM_TENSOR_OWNS_TAIL 1u

/* A tensor in logical order (N, C, spatial ...): rank 2 is (N, C), 3 (N, C, L), 4 (N, C, H, W), 5 (N, C, D, H, W).
 * In elements from the memory's start, element (n, c, p...) lies at
 *
 *   n * strides[0] + c / channel_block * strides[1] + c % channel_block + p... * strides[2...]
 *
 * so that strides and block say the layout:
 *   NCHW             block 1, strides (C*H*W, H*W, W, 1); larger ones where planes, rows or samples are padded
 *   NHWC             block 1, strides (H*W*C, 1, W*C, C)
 *   nChw16c, NC4HW4  block b = 16, 4: strides (ceil(C/b)*H*W*b, H*W*b, W*b, b)
 *   a slice of the channels of a larger tensor: the larger one's strides, and memory that starts at the slice
 * Strides are not negative. Those of an output must not overlap: sorted by size, each is at least the extent of all
 * smaller ones; 0 is for inputs only (and axes of size 1).
 *
 * The logical tensor decides the bits; layout and type of memory do not (but for the rounding of the type).
 * Statistics of every (c, h, w) over N alone ("per-activation" mode) are those of the rank-2 view (N, K),
 * K = C*H*W: x's memory as a tensor of rank 2, and parameters with K values in the order of that view. */
typedef struct clnorm_tensor {
  int32_t dtype; /* clnorm_dtype */
  int32_t rank;  /* 2 to 5; 0: no tensor */
  int64_t dims[CLNORM_MAX_RANK];
  int64_t strides[CLNORM_MAX_RANK];
  int64_t channel_block; /* >= 1 */
  uint32_t flags;        /* CLNORM_TENSOR_... */
  uint32_t reserved;     /* 0 */
} clnorm_tensor;

/* A tensor without gaps: NCHW and its like, NHWC and its like (channels last), channel blocks (which own their
 * tail). dims[rank] in logical order, N, C, spatial. They cannot fail: what no plan accepts (rank 7, sizes that
 * overflow, block 0) is reported when a plan is made. Of a rank outside [2, 5] dims and strides stay 0. */
CLNORM_API void clnorm_tensor_nchw(clnorm_tensor *tensor, int32_t dtype, int32_t rank,
                                   const int64_t *dims);
CLNORM_API void clnorm_tensor_nhwc(clnorm_tensor *tensor, int32_t dtype, int32_t rank,
                                   const int64_t *dims);
CLNORM_API void clnorm_tensor_blocked(clnorm_tensor *tensor, int32_t dtype, int32_t rank,
                                      const int64_t *dims, int64_t channel_block);
/* Bytes from the tensor's first element to the end of its last, tail of the last block included if it owns it; 0
 * where it has no elements, or where the tensor is none that a plan accepts. */
CLNORM_API uint64_t clnorm_tensor_bytes(const clnorm_tensor *tensor);
/* Bytes of an element; 0 for an unknown type. "f32", "f16", "bf16", "f64"; "unknown". */
CLNORM_API size_t clnorm_dtype_size(int32_t dtype);
CLNORM_API const char *clnorm_dtype_name(int32_t dtype);

/* ---- 6. Problems ------------------------------------------------------------------------------- */

/* Everything that a run reads or writes has a role: name, value (stable), text. Values below 16 are tensors in
 * storage type; from 16 on, one value a channel, without gaps, in the real type: double where x is f64, else
 * float. */
#define CLNORM_ROLE_LIST(X)                                                                        \
  X(CLNORM_X, 0, "x")                                                                              \
  X(CLNORM_Y, 1, "y")                                                                              \
  X(CLNORM_DY, 2, "dy")                                                                            \
  X(CLNORM_DX, 3, "dx")                                                                            \
  X(CLNORM_WEIGHT, 16, "weight")                                                                   \
  X(CLNORM_BIAS, 17, "bias")                                                                       \
  X(CLNORM_RUNNING_MEAN, 18, "running_mean")                                                       \
  X(CLNORM_RUNNING_VAR, 19, "running_var")                                                         \
  X(CLNORM_SAVED_MEAN, 20, "saved_mean")                                                           \
  X(CLNORM_SAVED_MEAN_LOW, 21, "saved_mean_low")                                                   \
  X(CLNORM_SAVED_INVSTD, 22, "saved_invstd")                                                       \
  X(CLNORM_DWEIGHT, 23, "dweight")                                                                 \
  X(CLNORM_DBIAS, 24, "dbias")                                                                     \
  X(CLNORM_WORKSPACE, 32, "workspace")

typedef enum clnorm_role {
#define CLNORM_ROLE_ENUM(name, value, text) name = value,
  CLNORM_ROLE_LIST(CLNORM_ROLE_ENUM)
#undef CLNORM_ROLE_ENUM
} clnorm_role;

enum { CLNORM_MAX_TENSORS = 16 };

/* "saved_mean"; "unknown" for what is no role. */
CLNORM_API const char *clnorm_role_name(int32_t role);

typedef enum clnorm_operation {
  CLNORM_FORWARD = 0,
  CLNORM_BACKWARD = 1, /* dx, dweight, dbias, from dy */
  CLNORM_COPY =
      2 /* y = x, between any layouts and types; between equal ones the yardstick of figures */
} clnorm_operation;

typedef enum clnorm_statistics {
  CLNORM_BATCH_STATISTICS = 0, /* mean and biased variance of x, per channel over (N, spatial) */
  CLNORM_GIVEN_STATISTICS = 1  /* running_mean and running_var, read only */
} clnorm_statistics;

/* Results of backward. */
typedef enum clnorm_gradient {
  CLNORM_GRADIENT_DX = 1,
  CLNORM_GRADIENT_DWEIGHT = 2,
  CLNORM_GRADIENT_DBIAS = 4
} clnorm_gradient;

/* Hints: they change speed, never bits. How batch statistics are computed, */
typedef enum clnorm_cut {
  CLNORM_CUT_AUTO = 0,
  CLNORM_CUT_CHANNEL = 1, /* one launch: workers take whole channels, statistics then output */
  CLNORM_CUT_SPLIT = 2    /* three launches: parts of channels, merge, output */
} clnorm_cut;

/* how y is written (VECTOR form only; WIDE ignores it), */
typedef enum clnorm_store {
  CLNORM_STORE_AUTO = 0,
  CLNORM_STORE_CACHED = 1,  /* through the caches: y is read again soon, or is small */
  CLNORM_STORE_STREAMED = 2 /* around the caches: saves reading y's lines before writing them */
} clnorm_store;

/* and which way through memory kernels take. */
typedef enum clnorm_route {
  CLNORM_ROUTE_AUTO = 0, /* the fastest that the layouts allow; the plan's description says which */
  CLNORM_ROUTE_GENERAL =
      1 /* the slow one, which takes every layout and type: to check the others by */
} clnorm_route;

/* What is computed, on x (N, C, spatial...). Forward:
 *
 *   y[n,c,p] = (x[n,c,p] - mean[c]) * invstd[c] * weight[c] + bias[c],  invstd = 1 / sqrt(var + eps)
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
 * unless refuse_one_value is set. Batch statistics whose sums of squares do not fit in a real give NaN in y
 * and saved_invstd; docs/arithmetic.md says where that begins.
 *
 * Copy: y = x. Backward, with xhat = (x - mean) * invstd, sums over the M values of a channel and dy the gradient of y:
 *
 *   dbias[c]   = sum of dy           dweight[c] = sum of dy * xhat
 *   dx         = weight[c] * invstd[c] * (dy - dbias[c] / M - xhat * dweight[c] / M)     batch statistics
 *   dx         = weight[c] * invstd[c] * dy                                              given statistics
 *
 * One value per channel: dx is 0, dweight 0, dbias dy (NaN where eps is 0). No values: dweight and dbias become 0, or
 * stay where accumulate is set.
 *
 *   role            batch statistics                  given statistics          copy
 *   x               read, required                    read, required            read, required
 *   y               written, required; may be x       the same                  written, required
 *   weight          read; absent: 1                   read; absent: 1           -
 *   bias            read; absent: 0                   read; absent: 0           -
 *   running_mean    read and written; absent: none    read, required            -
 *   running_var     read and written; absent: none    read, required            -
 *   saved_mean      written if present                written if present        -
 *   saved_mean_low  written if present                written if present (0)    -
 *   saved_invstd    written if present                written if present        -
 *   workspace       used if external_workspace        used if external_workspace
 *
 *   backward        batch statistics                  given statistics
 *   x               read, required but for dbias      read, required for dweight
 *   dy              read, required                    read, required
 *   dx              written, required if wanted; may be x or dy
 *   weight          read; absent: 1                   read; absent: 1
 *   running_mean    -                                 read; absent: saved ones
 *   running_var     -                                 read; absent: saved ones
 *   saved_mean      read, required; recompute: -      read; they go before running ones
 *   saved_mean_low  read; absent: 0; recompute: -     read; absent: 0
 *   saved_invstd    read, required; recompute: -      read; they go before running ones
 *   dweight, dbias  written, required if wanted; read as well if accumulate
 *   workspace       used if external_workspace        used if external_workspace
 *
 * saved_mean + saved_mean_low is the mean that y was computed with, and saved_invstd the invstd, bit for bit.
 * Backward takes these, and gives the gradients of that very y. Without the low part its mean is off by up to half a
 * unit in the last place of saved_mean.
 * running_mean and running_var come together or not at all; in backward with given statistics saved_mean and
 * saved_invstd do as well. What is written must not overlap anything else, except that y may be x itself, and dx may be
 * x or dy: the same memory, type, strides and block. Channel slices of one tensor interleave without overlapping. */
typedef struct clnorm_problem {
  size_t size;
  int32_t operation;  /* clnorm_operation; FORWARD */
  int32_t statistics; /* clnorm_statistics; BATCH */
  double eps;         /* 1e-5; finite, >= 0; rounded to the real type once */
  /* running_var takes var instead of var * M / (M - 1) (ONNX, MNN) */
  bool biased_running_var;
  /* batch statistics of one value per channel: an error (PyTorch's rule) */
  bool refuse_one_value;
  /* the caller binds the workspace at each run; else the plan has its own */
  bool external_workspace;
  /* backward: dweight and dbias are added to what is there; */
  bool accumulate;
  /* statistics of the batch are computed again from x, which reads it once more, and the saved ones are not needed */
  bool recompute;
  /* backward: which of the results are wanted, bits of clnorm_gradient; 0: all. What nobody wants costs no traffic */
  uint32_t gradients;
  /* hints: clnorm_cut, clnorm_store, clnorm_route */
  int32_t cut, store, route;
  /* tensors[role]. x is required, and has the shape of all; y, dy and dx of rank 0 are as x. x, y, dy and dx of f32,
   * f16, bf16 in any combination; or x of f64, and the others of f64 or f32 */
  clnorm_tensor tensors[CLNORM_MAX_TENSORS];
} clnorm_problem;

CLNORM_API void clnorm_problem_init(clnorm_problem *problem, size_t size);

/* ---- 7. Plans, runs ---------------------------------------------------------------------------- */

/* A plan is immutable. It holds what a run needs: the choice of kernels, compiled programs, and its
 * workspace unless external_workspace is set. Belongs to its context. */
typedef struct clnorm_plan clnorm_plan;

/* Errors: INVALID_ARGUMENT (rank, dims, strides, block or a type out of range; strides of y that overlap; dims that
 * differ; NaN, infinite or negative eps; batch statistics of one value per channel where refuse_one_value is set),
 * UNSUPPORTED (by name: a combination of types, or a type that the device lacks), OVERFLOW (bytes of a tensor beyond
 * 63 bits; more than 2^40 values a channel), OUT_OF_MEMORY, BUILD (the message holds the beginning of the compiler's
 * log; the log callback gets all of it), DEVICE.
 * A tensor with a dimension of 0 succeeds: a run then writes nothing, but backward dweight and dbias. */
CLNORM_API clnorm_status clnorm_plan_create(clnorm_context *context, const clnorm_problem *problem,
                                            clnorm_plan **plan);
/* Waits for nothing: runs of the plan that are under way go on to their end. */
CLNORM_API void clnorm_plan_destroy(clnorm_plan *plan);
/* One line: form, route, types, launches, how the work is cut. */
CLNORM_API const char *clnorm_plan_description(const clnorm_plan *plan);

/* What a plan does with a role. */
typedef struct clnorm_operand {
  size_t size;
  bool required, read, written; /* none of them: the plan has no such operand */
  /* of one value a channel: rank 1, dims[0] channels. The workspace: rank 0 */
  clnorm_tensor tensor;
  uint64_t bytes;     /* from its first element to the end of its last */
  uint64_t alignment; /* its address is a multiple of this many bytes */
} clnorm_operand;

CLNORM_API void clnorm_operand_init(clnorm_operand *operand, size_t size);
/* Errors: INVALID_ARGUMENT (no such role). */
CLNORM_API clnorm_status clnorm_plan_operand(const clnorm_plan *plan, int32_t role,
                                             clnorm_operand *operand);

/* The memory of one operand in a run. */
typedef struct clnorm_binding {
  int32_t role;      /* clnorm_role */
  uint32_t reserved; /* 0 */
  clnorm_memory memory;
} clnorm_binding;

CLNORM_API clnorm_binding clnorm_bind(int32_t role, clnorm_memory memory);

struct _cl_event; /* OpenCL's cl_event and cl_command_queue are pointers to these */
struct _cl_command_queue;

/* How a run goes along with other OpenCL commands: the queue it is put on, the events it waits for, those
 * it returns. All zero asks for nothing, and is all that a CPU context accepts.
 *
 * On a queue that is in order, commands follow each other as they were enqueued. On others, and from one
 * queue to another, clnorm orders by events what it knows of:
 *   - the launches of one run
 *   - runs of one plan that has a workspace of its own (clnorm_plan_operand, no
 *     external_workspace): each follows the one before
 *   - runs of one module: one that normalizes with the statistics of its batch, which it keeps for backward, follows
 *     all before it; others follow the last that did, and each other only where more than 8 are under way. Reading
 *     and setting its parameters waits for the runs that use them
 * Everything else is the caller's: whatever passes through x, y, parameters or workspace in memory of the
 * caller (wait for the event of the run that writes it), clnorm_memory_write and clnorm_memory_read, which
 * go through the context's queue, and memory that is used again. A blocking clEnqueueWriteBuffer does not say
 * that the values are in the buffer (Intel's runtime puts a few there later): for another queue, or out of
 * order, its event does.
 * A run that waits for an event that fails does not take place, and its own event fails. Later runs do not
 * wait for an event that has failed already, so that one failure is not handed on for ever. */
typedef struct clnorm_opencl_sync {
  /* The run starts after these events. NULL where the number is 0, and only there. */
  uint32_t num_events_in_wait_list;
  struct _cl_event *const *event_wait_list;
  /* Each may be NULL; receives an event that completes with the run's last launch, and its first, to be
   * released by the caller. The run takes place from the start of the first to the end of the last. A
   * run that has nothing to do returns markers. */
  struct _cl_event **event;
  struct _cl_event **first_event;
  /* NULL: the context's queue. Another must belong to the same cl_context and device, and be profiled
   * where the context is. The run's commands are flushed; what else is on the queue is the caller's. */
  struct _cl_command_queue *queue;
} clnorm_opencl_sync;

typedef struct clnorm_run_options {
  size_t size;
  /* kept fraction of the running statistics, in [0, 1]; used only where they are written. 0.9 */
  double momentum;
  /* queue and events of the run; NULL: the context's queue, none */
  const clnorm_opencl_sync *sync;
  /* a module's backward: dweight and dbias are added to what is there. A plan's problem says so itself. false */
  bool accumulate;
} clnorm_run_options;

CLNORM_API void clnorm_run_options_init(clnorm_run_options *options, size_t size);

/* Submits one run. CPU path: done on return. OpenCL: asynchronous on the context's queue; nothing is
 * allocated, compiled or waited for. bindings[count] in any order; absent memory is as no binding. options NULL:
 * defaults. The caller keeps operands alive until the work is done.
 * Errors, all before anything is submitted: INVALID_ARGUMENT (a missing operand; a role that is bound twice, or that
 * the plan has not; an address that is no multiple of the element's size; wrong kind of memory; momentum outside
 * [0, 1] or NaN), BUFFER_TOO_SMALL, OVERLAP, OVERFLOW (an operand's end is past the address space). DEVICE if the
 * driver refuses the submission. */
CLNORM_API clnorm_status clnorm_run(clnorm_plan *plan, const clnorm_binding *bindings, size_t count,
                                    const clnorm_run_options *options);

/* ---- 8. BatchNorm ------------------------------------------------------------------------------ */

/* The meaning of a module's momentum. */
typedef enum clnorm_momentum {
  CLNORM_MOMENTUM_KEPT = 0,      /* fraction of the old value that is kept (MegEngine, Caffe) */
  CLNORM_MOMENTUM_NEW = 1,       /* fraction of the new batch (PyTorch, cuDNN, MIOpen) */
  CLNORM_MOMENTUM_CUMULATIVE = 2 /* plain average over all batches; momentum is ignored */
} clnorm_momentum;

typedef struct clnorm_batchnorm_options {
  size_t size;
  int64_t num_features; /* C, > 0; no default */
  /* 1: BatchNorm1d, input (N, C) or (N, C, L); 2: BatchNorm2d, (N, C, H, W), the default; 3: BatchNorm3d,
   * (N, C, D, H, W); 0: any rank from 2 to 5 */
  int32_t spatial_rank;
  /* F32 or F64: the real type of its parameters. F64 takes x of f64, F32 all others */
  int32_t dtype;
  double eps;                  /* 1e-5 */
  double momentum;             /* 0.9, in [0, 1] */
  int32_t momentum_convention; /* clnorm_momentum; KEPT */
  bool affine;                 /* true: learnable weight and bias; false: there are none */
  bool track_running_stats;    /* true */
  bool freeze;             /* false; true normalizes with the running statistics in every mode */
  bool biased_running_var; /* false */
  bool refuse_one_value;   /* false; true: batch statistics of one value per channel are an error */
} clnorm_batchnorm_options;

CLNORM_API void clnorm_batchnorm_options_init(clnorm_batchnorm_options *options, size_t size,
                                              int64_t num_features);

/* BatchNorm with the semantics of MegEngine's BatchNorm2d, for every rank.
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
typedef struct clnorm_batchnorm clnorm_batchnorm;

/* Errors: INVALID_ARGUMENT (num_features < 1; spatial_rank outside [0, 3]; dtype neither F32 nor F64; eps negative,
 * infinite or NaN; momentum outside [0, 1]; freeze without track_running_stats), UNSUPPORTED (F64 on a device without
 * it), OVERFLOW (num_features that no memory holds), OUT_OF_MEMORY, DEVICE. */
CLNORM_API clnorm_status clnorm_batchnorm_create(clnorm_context *context,
                                                 const clnorm_batchnorm_options *options,
                                                 clnorm_batchnorm **bn);
/* Waits for nothing: runs that are under way go on to their end. */
CLNORM_API void clnorm_batchnorm_destroy(clnorm_batchnorm *bn);

CLNORM_API void clnorm_batchnorm_set_training(clnorm_batchnorm *bn, bool training);
CLNORM_API bool clnorm_batchnorm_training(const clnorm_batchnorm *bn);
/* Switching off keeps the running statistics and stops using them, but in a frozen module, which goes on
 * with them. Errors (STATE): on, where the module was created without. */
CLNORM_API clnorm_status clnorm_batchnorm_set_track_running_stats(clnorm_batchnorm *bn, bool track);
CLNORM_API bool clnorm_batchnorm_track_running_stats(const clnorm_batchnorm *bn);

/* Blocking copies of all count == num_features values of WEIGHT, BIAS, RUNNING_MEAN or RUNNING_VAR. values are of
 * dtype, F32 or F64, and are converted where the module's are of the other, rounded once to nearest even. Errors:
 * STATE where the module has no such parameter (affine or track_running_stats false at creation), INVALID_ARGUMENT
 * (role, dtype, count). */
CLNORM_API clnorm_status clnorm_batchnorm_set(clnorm_batchnorm *bn, int32_t role, int32_t dtype,
                                              const void *values, size_t count);
CLNORM_API clnorm_status clnorm_batchnorm_get(clnorm_batchnorm *bn, int32_t role, int32_t dtype,
                                              void *values, size_t count);
/* The module's own memory of a parameter, absent where it has none; owned by the module. For handing a
 * device-side optimizer the parameter itself. */
CLNORM_API clnorm_memory clnorm_batchnorm_memory(const clnorm_batchnorm *bn, int32_t role);
/* running_mean 0, running_var 1, num_batches_tracked 0. A no-op where there are none. */
CLNORM_API clnorm_status clnorm_batchnorm_reset_running_stats(clnorm_batchnorm *bn);
/* reset_running_stats, and weight 1, bias 0 where they exist. */
CLNORM_API clnorm_status clnorm_batchnorm_reset_parameters(clnorm_batchnorm *bn);
/* Training batches that entered the running statistics; what the cumulative average counts. */
CLNORM_API int64_t clnorm_batchnorm_num_batches_tracked(const clnorm_batchnorm *bn);
CLNORM_API clnorm_status clnorm_batchnorm_set_num_batches_tracked(clnorm_batchnorm *bn,
                                                                  int64_t count);

/* The problem that a forward pass of x in the module's present state is; problem was initialized. For plans of the
 * caller's own: other layouts or types of y, hints. Errors: INVALID_ARGUMENT ("expected 4D input (got 3D input)";
 * channels or type that do not match). */
CLNORM_API clnorm_status clnorm_batchnorm_problem(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                                  clnorm_problem *problem);

/* One forward pass in the module's present state. bindings: x and y (as x), and saved_mean, saved_mean_low,
 * saved_invstd where wanted. options NULL: defaults; its momentum is not used. Plans are kept per problem (the last
 * 16 of them), so the first call with a shape costs more than the following ones. Empty tensors succeed, write nothing
 * and leave the running statistics unchanged.
 * Errors: INVALID_ARGUMENT (a role that is the module's own), those of clnorm_batchnorm_problem,
 * clnorm_plan_create and clnorm_run. */
CLNORM_API clnorm_status clnorm_batchnorm_forward(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                                  const clnorm_binding *bindings, size_t count,
                                                  const clnorm_run_options *options);

/* The gradients of the module's last forward pass that succeeded: with the statistics that this one normalized with,
 * whatever was called since; x is that pass's. bindings: x, dy (as x), and those of dx (as x), dweight, dbias that are
 * wanted; what is not bound costs nothing. saved_mean, saved_invstd and saved_mean_low of another pass may be bound:
 * then they take the place of the module's own, all three. accumulate in options adds to dweight and dbias.
 *
 *   last forward                                 statistics, as constants or with gradients through them
 *   training, or without tracking                of the batch: dx through mean and variance
 *   evaluation, tracking                         running, which are constants
 *   frozen                                       running, constants; dweight and dbias are left as they are
 *
 * x is read only where it is needed (not for dx with constant statistics). Empty tensors succeed: dweight and dbias
 * become 0, or stay where they are added to.
 * Errors: STATE (there was no forward pass; it was one with running statistics, and these were set or reset since),
 * INVALID_ARGUMENT (a role that is the module's own; dweight or dbias without affine; none of the three is bound; dims
 * of x that are not those of the forward pass, where its statistics are of the batch), and those of
 * clnorm_batchnorm_forward. */
CLNORM_API clnorm_status clnorm_batchnorm_backward(clnorm_batchnorm *bn, const clnorm_tensor *x,
                                                   const clnorm_binding *bindings, size_t count,
                                                   const clnorm_run_options *options);
/* The problem that this is, of all gradients; for plans of the caller's own, as clnorm_batchnorm_problem. Such a plan
 * is given the saved statistics that a forward pass wrote. */
CLNORM_API clnorm_status clnorm_batchnorm_backward_problem(clnorm_batchnorm *bn,
                                                           const clnorm_tensor *x,
                                                           clnorm_problem *problem);

/* ---- 9. Comparing ------------------------------------------------------------------------------ */

enum { CLNORM_HISTOGRAM_BINS = 66 };

/* Two values are equal when their bits are, or when both are NaN. The distance in ulp, of their type, counts the
 * values between them; -0 and +0 are 1 apart; NaN against a number is UINT64_MAX. */
typedef struct clnorm_difference {
  size_t size;
  int64_t elements;           /* compared */
  int64_t differing_elements; /* 0: the same bits */
  uint64_t max_ulp;
  int64_t first
      [CLNORM_MAX_RANK]; /* index of the first difference in logical order; -1 where there is none */
  double first_a, first_b;
  /* bin 0: equal; bin k: distance in [2^(k-1), 2^k), bins 1 to 64; bin 65: NaN against a number */
  int64_t histogram[CLNORM_HISTOGRAM_BINS];
} clnorm_difference;

CLNORM_API void clnorm_difference_init(clnorm_difference *difference, size_t size);

/* Two host arrays of the same type and dims, each with strides of its own. Ranks from 1 (without strides) to 5. Where a
 * pointer is NULL, or the tensors are not alike or none that a plan accepts, nothing is compared. */
CLNORM_API void clnorm_compare(const clnorm_tensor *tensor_a, const void *a,
                               const clnorm_tensor *tensor_b, const void *b,
                               clnorm_difference *difference);
/* The same for memory of two contexts (which may be one). Errors are kept in context_a. */
CLNORM_API clnorm_status clnorm_compare_memory(clnorm_context *context_a,
                                               const clnorm_tensor *tensor_a, clnorm_memory a,
                                               clnorm_context *context_b,
                                               const clnorm_tensor *tensor_b, clnorm_memory b,
                                               clnorm_difference *difference);

/* One output of a comparison. role and difference are given, the latter initialized, and filled: of an output that the
 * operation does not write, 0 elements are compared. reserved is 0. */
typedef struct clnorm_compared {
  int32_t role;
  uint32_t reserved;
  clnorm_difference *difference;
} clnorm_compared;

/* Runs one problem on two contexts (which may be one) from the same inputs and compares the outputs that are asked for.
 * inputs hold HOST memory (x, and weight, bias, running_mean, running_var where wanted); nothing in it is written.
 * Errors are kept in contexts[0]; those of contexts[1] are quoted there. */
CLNORM_API clnorm_status clnorm_compare_runs(clnorm_context *const contexts[2],
                                             const clnorm_problem *problem,
                                             const clnorm_binding *inputs, size_t num_inputs,
                                             const clnorm_run_options *options,
                                             const clnorm_compared *outputs, size_t num_outputs);

#ifdef __cplusplus
}
#endif
#endif
