#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DECIMALS 9

clnorm_text clnorm_number_text(double value) {
  clnorm_text result;
  int decimals = 0;
  if (isfinite(value) && value != 0) {
    snprintf(result.text, sizeof result.text, "%.2e", value); /* rounds before it counts */
    decimals = 2 - atoi(strchr(result.text, 'e') + 1);
    if (decimals < 0) decimals = 0;
    if (decimals > MAX_DECIMALS) decimals = MAX_DECIMALS;
  }
  if (fabs(value) >= 1e15)
    snprintf(result.text, sizeof result.text, "%.3g", value);
  else
    snprintf(result.text, sizeof result.text, "%.*f", decimals, value);
  return result;
}

clnorm_text clnorm_time_text(double seconds) {
  static const struct {
    double size;
    const char *name;
  } units[] = {{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}, {1e-9, "ns"}};
  clnorm_text result = {"-"};
  size_t unit = 0;
  if (seconds == 0) strcpy(result.text, "0 s");
  if (!(seconds > 0)) return result;
  while (unit < 3 && seconds < 0.9995 * units[unit].size) unit++;
  snprintf(result.text, sizeof result.text, "%.20s %s",
           clnorm_number_text(seconds / units[unit].size).text, units[unit].name);
  return result;
}
