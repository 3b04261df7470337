/*
 * The tuning of a device: the parameters of the rule, and the file that keeps them beside the program
 * cache. The file is text: who it is for, then a line for each parameter. It is read strictly; what is
 * wrong with it is logged, and the rule holds.
 */
#ifndef CLNORM_CORE_TUNING_H
#define CLNORM_CORE_TUNING_H

#include "backend.h"

/* INVALID_ARGUMENT where a value is out of its range. */
clnorm_status clnorm__tuning_check(const clnorm_tuning *tuning, clnorm_error *error);

/* For a back end that opens a device and has filled its info: sets cache_folder, tuning and
 * tuning_source. The form that the device is to take; AUTO: by rule. */
clnorm_form clnorm__tuning_choose(clnorm_device *device, const clnorm_context_options *options,
                                  const clnorm_error *error);

/* Puts the device's tuning in place of what its traits have by rule. */
void clnorm__tuning_apply(clnorm_device *device);

/* The file of the device's tuning; "" where none is kept. */
void clnorm__tuning_place(const clnorm_device *device, char *path, size_t size);

#endif
