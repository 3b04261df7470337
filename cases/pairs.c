#include "pairs.h"

#include "data.h"

enum { TRIES = 400, COST = 8 }; /* a cost weighs as much as so many pairs */

/* Two options and a value of each. */
typedef struct pair {
  int i, a, j, b;
} pair;

static bool *met(clnorm_pairs *p, pair q) { return &p->met[q.i][q.a][q.j][q.b]; }

/* Goes on behind *q to one that has not met. */
static bool next_unmet(clnorm_pairs *p, pair *q) {
  for (; q->i < p->options; q->i++, q->j = q->i + 1)
    for (; q->j < p->options; q->j++, q->a = 0)
      for (; q->a < p->sizes[q->i]; q->a++, q->b = 0)
        for (; q->b < p->sizes[q->j]; q->b++)
          if (!*met(p, *q)) return true;
  return false;
}

static int news(clnorm_pairs *p, const clnorm_row *row) {
  int count = 0;
  for (int i = 0; i < p->options; i++)
    for (int j = i + 1; j < p->options; j++)
      count += !*met(p, (pair){i, row->values[i], j, row->values[j]});
  return count - (p->paid[p->costs(row)] ? 0 : COST);
}

/* A random row with the pair. */
static bool draw(clnorm_pairs *p, pair q, clnorm_row *row) {
  const int free = p->options - p->derived;
  for (int k = 0; k < free; k++)
    row->values[k] = (int)(clnorm_random(&p->random) % (uint64_t)p->sizes[k]);
  if (q.i < free) row->values[q.i] = q.a;
  if (q.j < free) row->values[q.j] = q.b;
  return p->complete(row) && row->values[q.i] == q.a && row->values[q.j] == q.b;
}

/* The best of some rows with the pair. */
static bool best_row(clnorm_pairs *p, pair q, clnorm_row *best) {
  bool found = false;
  int most = 0;
  for (int t = 0; t < TRIES; t++) {
    clnorm_row row;
    if (!draw(p, q, &row)) continue;
    const int count = news(p, &row);
    if (found && count <= most) continue;
    *best = row;
    most = count;
    found = true;
  }
  return found;
}

bool clnorm_pairs_next(clnorm_pairs *p, clnorm_row *row) {
  pair q = {0, 0, 1, 0};
  while (next_unmet(p, &q)) {
    const bool found = best_row(p, q, row);
    *met(p, q) = true;
    if (!found) continue;
    for (int i = 0; i < p->options; i++)
      for (int j = i + 1; j < p->options; j++)
        *met(p, (pair){i, row->values[i], j, row->values[j]}) = true;
    p->paid[p->costs(row)] = true;
    return true;
  }
  return false;
}
