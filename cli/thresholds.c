#include "thresholds.h"

#include <math.h>

/* What it costs, in logarithms of time, to take the way below at this point instead of the one above. */
static double cost_of_below(double ratio) {
  const double cost = log(ratio);
  return fabs(cost) < log1p(CLNORM_NOISE) ? 0 : cost;
}

static size_t distance(size_t a, size_t b) { return a > b ? a - b : b - a; }

size_t clnorm_choose_threshold(const double *ratios, size_t count, size_t rule) {
  size_t best = 0;
  double cost = 0, least = 0; /* of threshold 0, where every point takes the way above */
  for (size_t i = 1; i <= count; i++) {
    cost += cost_of_below(ratios[i - 1]);
    /* Sums of the same terms in another order may differ in their last bits. */
    const double margin = cost - least;
    if (margin > 1e-9 || (margin > -1e-9 && distance(i, rule) >= distance(best, rule))) continue;
    best = i;
    least = cost;
  }
  return best;
}

double clnorm_geometric_mean(const double *values, size_t count) {
  double sum = 0;
  for (size_t i = 0; i < count; i++) sum += log(values[i]);
  return count ? exp(sum / (double)count) : 1;
}
