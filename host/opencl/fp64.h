/* Double precision of a device: whether it is there, and rounds as the standard says. */
#ifndef CLNORM_OPENCL_FP64_H
#define CLNORM_OPENCL_FP64_H

#include "device.h"

/* UNSUPPORTED where the device has no f64: the message says what it lacks, or which operation it got wrong. Tries
 * some thousand hard cases on the device when it is first asked, on a queue of its own, and keeps the answer.
 * Else the errors of building a program and of running it; then it is tried again next time. */
clnorm_status clnorm__opencl_check_fp64(clnorm_opencl_device *device, clnorm_error *error);

#endif
