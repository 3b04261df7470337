#include "chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WIDTH 900
#define LEFT 64
#define RIGHT 24
#define TITLE_Y 22
#define LINE 17   /* from one line of text to the next */
#define PLOT 356  /* height of the part with the curves */
#define BOTTOM 56 /* below it: sizes, and what they are */

static const char *const colors[] = {"#0b6e4f", "#c8553d", "#2b59c3", "#a37b00",
                                     "#7a3e9d", "#3f3f3f", "#d1495b", "#00798c"};
#define NUM_COLORS (sizeof colors / sizeof *colors)

typedef struct frame {
  FILE *out;
  double low, high; /* log2 of bytes */
  double largest;   /* fraction shown */
  int top, height;  /* of the part with the curves, below title, notes and legend; of the whole */
} frame;

static double x_of(const frame *f, double bytes) {
  return LEFT + (log2(bytes) - f->low) / (f->high - f->low) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const frame *f, double fraction) {
  return f->top + (1 - fraction / f->largest) * PLOT;
}

static void escape(FILE *out, const char *text) {
  for (; *text; text++) switch (*text) {
    case '&':
      fputs("&amp;", out);
      break;
    case '<':
      fputs("&lt;", out);
      break;
    case '>':
      fputs("&gt;", out);
      break;
    default:
      fputc(*text, out);
    }
}

static void label_of_bytes(double log2_bytes, char *text, size_t size) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  const int unit = (int)log2_bytes / 10;
  snprintf(text, size, "%.0f %s", exp2(log2_bytes - 10 * unit), units[unit > 4 ? 4 : unit]);
}

static frame make_frame(FILE *out, const clnorm_chart *chart) {
  frame f = {out, INFINITY, 0, 1.2, 0, 0};
  f.top = TITLE_Y + LINE * (int)(chart->num_notes + chart->num_series + 1);
  f.height = f.top + PLOT + BOTTOM;
  for (size_t i = 0; i < chart->num_series; i++)
    for (size_t k = 0; k < chart->series[i].count; k++) {
      const clnorm_chart_point p = chart->series[i].points[k];
      f.low = fmin(f.low, floor(log2(p.bytes)));
      f.high = fmax(f.high, ceil(log2(p.bytes)));
      f.largest = fmax(f.largest, ceil(p.fraction * 10) / 10);
    }
  if (!(f.low < f.high)) {
    f.low = isfinite(f.low) ? f.low - 1 : 12;
    f.high = f.low + 2;
  }
  return f;
}

static void draw_text(const frame *f, int x, int y, int size, const char *text) {
  fprintf(f->out, "<text x=\"%d\" y=\"%d\" font-size=\"%d\">", x, y, size);
  escape(f->out, text);
  fputs("</text>\n", f->out);
}

/* Above the curves, where it hides none. */
static void draw_heading(const frame *f, const clnorm_chart *chart) {
  int y = TITLE_Y;
  draw_text(f, LEFT, y, 15, chart->title);
  for (size_t i = 0; i < chart->num_notes; i++) draw_text(f, LEFT, y += LINE, 11, chart->notes[i]);
  for (size_t i = 0; i < chart->num_series; i++) {
    y += LINE;
    fprintf(f->out, "<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"4\" fill=\"%s\"/>\n", LEFT,
            y - 6, colors[i % NUM_COLORS]);
    draw_text(f, LEFT + 20, y, 12, chart->series[i].name);
  }
}

static void draw_axes(const frame *f) {
  const int bottom = f->top + PLOT;
  const double step = f->largest > 2 ? 0.5 : 0.2;
  for (double v = 0; v <= f->largest + 1e-9; v += step)
    fprintf(f->out,
            "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>"
            "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f</text>\n",
            LEFT, WIDTH - RIGHT, y_of(f, v), y_of(f, v), fabs(v - 1) < 1e-9 ? "#555" : "#ddd",
            LEFT - 8, y_of(f, v) + 4, v);
  const int stride = f->high - f->low > 12 ? 2 : 1;
  for (int b = (int)f->low; b <= (int)f->high; b += stride) {
    char text[32];
    label_of_bytes(b, text, sizeof text);
    fprintf(f->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
            x_of(f, exp2(b)), bottom + 18, text);
  }
  fprintf(f->out,
          "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">size of the tensor</text>\n"
          "<text transform=\"translate(16 %d) rotate(-90)\" text-anchor=\"middle\">"
          "floor bytes / time / ceiling</text>\n",
          (LEFT + WIDTH - RIGHT) / 2, bottom + 42, (f->top + bottom) / 2);
}

static int by_size(const void *a, const void *b) {
  const clnorm_chart_point *p = a, *q = b;
  if (p->bytes != q->bytes) return p->bytes > q->bytes ? 1 : -1;
  return (p->fraction > q->fraction) - (p->fraction < q->fraction);
}

static void draw_series(const frame *f, const clnorm_chart_series *s, size_t index) {
  const char *color = colors[index % NUM_COLORS];
  qsort(s->points, s->count, sizeof *s->points, by_size);
  fprintf(f->out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" points=\"", color);
  for (size_t i = 0, end; i < s->count; i = end) {
    for (end = i; end < s->count && s->points[end].bytes == s->points[i].bytes;) end++;
    fprintf(f->out, "%.1f,%.1f ", x_of(f, s->points[i].bytes),
            y_of(f, s->points[(i + end - 1) / 2].fraction));
  }
  fputs("\"/>\n", f->out);
  for (size_t i = 0; i < s->count; i++)
    fprintf(f->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" fill=\"%s\"/>\n",
            x_of(f, s->points[i].bytes), y_of(f, s->points[i].fraction), color);
}

bool clnorm_chart_write(FILE *out, const void *content) {
  const clnorm_chart *chart = content;
  const frame f = make_frame(out, chart);
  fprintf(out,
          "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
          "font-family=\"sans-serif\" font-size=\"12\">\n"
          "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
          WIDTH, f.height);
  draw_heading(&f, chart);
  draw_axes(&f);
  for (size_t i = 0; i < chart->num_series; i++) draw_series(&f, &chart->series[i], i);
  fputs("</svg>\n", out);
  return !ferror(out);
}
