/* Choosing a parameter from measured ratios. Pure. */
#ifndef CLNORM_CLI_THRESHOLDS_H
#define CLNORM_CLI_THRESHOLDS_H

#include <stddef.h>

/* Ratios closer to 1 than this are noise: they speak for nothing. */
#define CLNORM_NOISE 0.05

/* Along a row of points in ascending order, one way is taken below a threshold and another one from it
 * on. ratios[i] is the time of the way below over that of the way above, at point i. The result is the
 * index of the first point that takes the way above, `count` for none of them, so that the measured times
 * are least in the geometric mean; of equally good ones, that closest to `rule`, an index too. */
size_t clnorm_choose_threshold(const double *ratios, size_t count, size_t rule);

/* exp(mean(log)); 1 where count is 0. */
double clnorm_geometric_mean(const double *values, size_t count);

#endif
