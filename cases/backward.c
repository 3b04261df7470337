#include "backward.h"

#include <clnorm/clnorm.h>
#include <math.h>
#include <string.h>

/* What underflows on the way. */
static long double smallest(long double unit) { return unit < 0x1p-30L ? 0x1p-1070L : 0x1p-148L; }

long double clnorm_gradient_guarantee(int64_t batch, int64_t spatial) {
  const int64_t count = batch * spatial, segments = (count + 2047) / 2048;
  return 20 + ceill(log2l((long double)(segments > 1 ? segments : 1)));
}

static double value_at(const clnorm_gradient_case *item, const double *values, int64_t c,
                       int64_t i) {
  const int64_t n = i / item->spatial, p = i - n * item->spatial;
  return values[(n * item->channels + c) * item->spatial + p];
}

static long double deviation(const clnorm_gradient_channel *k, double x) {
  return (x - k->origin) - k->mean;
}

static void find_statistics(const clnorm_gradient_case *item, int64_t c,
                            clnorm_gradient_channel *k) {
  const int64_t count = item->batch * item->spatial;
  long double sum = 0, squares = 0;
  if (k->given) {
    k->mean = item->mean[c];
    k->invstd = item->invstd[c];
    return;
  }
  k->origin = value_at(item, item->x, c, 0);
  for (int64_t i = 0; i < count; i++) sum += value_at(item, item->x, c, i) - k->origin;
  k->mean = sum / (long double)count;
  for (int64_t i = 0; i < count; i++) {
    const long double d = deviation(k, value_at(item, item->x, c, i));
    squares += d * d;
  }
  k->invstd = 1 / sqrtl(squares / (long double)count + item->eps);
}

void clnorm_gradient_channel_make(const clnorm_gradient_case *item, int64_t c,
                                  clnorm_gradient_channel *k) {
  const int64_t count = item->batch * item->spatial;
  memset(k, 0, sizeof *k);
  k->given = item->mean != NULL;
  k->unit = item->unit;
  k->factor = item->factor;
  find_statistics(item, c, k);
  k->scale = (item->weight ? item->weight[c] : 1) * k->invstd;
  for (int64_t i = 0; i < count; i++) {
    const long double g = value_at(item, item->dy, c, i);
    const long double xhat = deviation(k, value_at(item, item->x, c, i)) * k->invstd;
    k->g += g;
    k->gx += g * xhat;
    k->size_g += fabsl(g);
    k->size_gx += fabsl(g) * (fabsl(xhat) + 1);
  }
  k->dbias = k->g;
  k->dweight = k->gx;
  k->dbias_bound = k->factor * k->unit * k->size_g + smallest(k->unit);
  k->dweight_bound = k->factor * k->unit * k->size_gx + smallest(k->unit);
  k->g /= (long double)count;
  k->gx /= (long double)count;
  k->size_g /= (long double)count;
  k->size_gx /= (long double)count;
}

long double clnorm_gradient_dx(const clnorm_gradient_channel *k, double x, double dy,
                               long double *bound) {
  const long double g = dy, xhat = deviation(k, x) * k->invstd;
  const long double terms = fabsl(g) + (k->given ? 0 : k->size_g + fabsl(xhat) * k->size_gx);
  *bound = k->factor * k->unit * fabsl(k->scale) * terms + smallest(k->unit);
  return k->scale * (k->given ? g : g - k->g - xhat * k->gx);
}

double clnorm_gradient_ratio(double actual, long double expected, long double bound) {
  if (!isfinite(expected) || !isfinite(bound)) return 0;
  return isnan(actual) ? INFINITY : (double)(fabsl(actual - expected) / bound);
}

long double clnorm_gradient_rounding(int32_t dtype, int32_t real, long double value) {
  static const int digits[] = {[CLNORM_F32] = 24, [CLNORM_F16] = 11, [CLNORM_BF16] = 8};
  static const int least[] = {[CLNORM_F32] = -125, [CLNORM_F16] = -13, [CLNORM_BF16] = -125};
  int exponent;
  if (dtype == real) return 0;
  frexpl(value, &exponent);
  return ldexpl(0.5L, (exponent < least[dtype] ? least[dtype] : exponent) - digits[dtype]);
}
