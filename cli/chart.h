/* An SVG of curves over tensor size: the picture of `clnorm bench --svg`. */
#ifndef CLNORM_CLI_CHART_H
#define CLNORM_CLI_CHART_H

#include <stdbool.h>
#include <stddef.h>

typedef struct clnorm_chart_point {
  double bytes;    /* of the tensor, > 0 */
  double fraction; /* of the ceiling, >= 0 */
} clnorm_chart_point;

typedef struct clnorm_chart_series {
  char name[160];
  clnorm_chart_point *points; /* any order; several of one size are joined by their median */
  size_t count;
} clnorm_chart_series;

/* Writes the file; false with errno set if that fails. */
bool clnorm_chart_write(const char *path, const char *title, const clnorm_chart_series *series,
                        size_t num_series);

#endif
