/* An SVG of curves over tensor size: the picture of `clnorm bench --svg`. */
#ifndef CLNORM_CLI_CHART_H
#define CLNORM_CLI_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CLNORM_CHART_MAX_NOTES 16

typedef struct clnorm_chart_point {
  double bytes;    /* of the tensor, > 0 */
  double fraction; /* of the ceiling, >= 0 */
} clnorm_chart_point;

typedef struct clnorm_chart_series {
  char name[160];
  clnorm_chart_point *points; /* any order; several of one size are joined by their median */
  size_t count;
} clnorm_chart_series;

typedef struct clnorm_chart {
  const char *title;
  char notes[CLNORM_CHART_MAX_NOTES][160]; /* lines under the title: machine, driver, date */
  size_t num_notes;
  clnorm_chart_series *series;
  size_t num_series;
} clnorm_chart;

/* Writes a clnorm_chart, whose points it sorts; false, with errno, where that fails. For
 * clnorm_output_file. */
bool clnorm_chart_write(FILE *out, const void *chart);

#endif
