#include "traits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Work-items that a group may have along its first dimension. */
static size_t max_group_size(clnorm_opencl_query *query) {
  cl_uint dimensions = 0;
  size_t group = 0;
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS, &dimensions);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_MAX_WORK_GROUP_SIZE, &group);
  if (query->call) return 0;
  size_t *sizes = clnorm__opencl_query_alloc(query, (dimensions + 1u) * sizeof *sizes);
  if (!sizes) return 0;
  clnorm__opencl_value(query, "clGetDeviceInfo(CL_DEVICE_MAX_WORK_ITEM_SIZES)",
                       CL_DEVICE_MAX_WORK_ITEM_SIZES, sizes, dimensions * sizeof *sizes);
  const size_t first = sizes[0];
  free(sizes);
  return first < group ? first : group;
}

/* The largest of 256, 128 and 64 that fits, from `largest` on; 0 where the wide form does not fit, with the
 * reason in note. */
static unsigned wide_group_size(clnorm_opencl_query *query, unsigned largest, char *note,
                                size_t note_size) {
  cl_ulong local_bytes = 0;
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_LOCAL_MEM_SIZE, &local_bytes);
  const size_t limit = max_group_size(query);
  if (local_bytes < CLNORM_OPENCL_WIDE_LOCAL_BYTES) {
    snprintf(note, note_size,
             "vector form, since the wide form needs %u bytes of local memory and there are %llu",
             CLNORM_OPENCL_WIDE_LOCAL_BYTES, (unsigned long long)local_bytes);
    return 0;
  }
  for (unsigned size = largest; size >= 64; size /= 2) {
    if (size <= limit) return size;
  }
  snprintf(
      note, note_size,
      "vector form, since the wide form needs 64 work-items per work-group and %zu are allowed",
      limit);
  return 0;
}

/* Of the host where the device is its processor: drivers tell the last level alone, and some that of a
 * whole package. Else what the driver tells. */
static clnorm_caches caches_of(clnorm_opencl_query *query, cl_device_type type, unsigned workers) {
  clnorm_caches caches = clnorm__caches_find(workers);
  if (type & CL_DEVICE_TYPE_CPU) return caches;
  cl_ulong bytes = 0;
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE, &bytes);
  if (bytes > 0) caches.last = bytes;
  return caches;
}

clnorm_traits clnorm__opencl_traits(clnorm_opencl_query *query, clnorm_form form,
                                    unsigned largest_group, char *note, size_t note_size) {
  cl_device_type type = 0;
  cl_device_local_mem_type local_type = 0;
  cl_uint units = 0, vector_width = 0;
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_TYPE, &type);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_LOCAL_MEM_TYPE, &local_type);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, &vector_width);
  CLNORM_OPENCL_VALUE(query, CL_DEVICE_MAX_COMPUTE_UNITS, &units);

  note[0] = '\0';
  if (form == CLNORM_FORM_AUTO) {
    /* Vectors need a compiler that keeps them: llvmpipe, of type CPU, vectorizes across work-items
     * instead (native width 1) and takes minutes over the vector form. */
    const bool processor = (type & CL_DEVICE_TYPE_CPU) != 0 || local_type == CL_GLOBAL;
    form = processor && vector_width >= 4 ? CLNORM_FORM_VECTOR : CLNORM_FORM_WIDE;
  }
  unsigned group_size = 1;
  if (form == CLNORM_FORM_WIDE) {
    group_size = wide_group_size(query, largest_group, note, note_size);
    if (group_size == 0) {
      form = CLNORM_FORM_VECTOR;
      group_size = 1;
    }
  }

  clnorm_traits traits;
  memset(&traits, 0, sizeof traits);
  traits.form = form;
  traits.workers = units > 0 ? units : 1;
  traits.group_size = group_size;
  clnorm__traits_set_caches(&traits, caches_of(query, type, traits.workers));
  traits.split_below = form == CLNORM_FORM_WIDE ? 2 : 4;
  return traits;
}
