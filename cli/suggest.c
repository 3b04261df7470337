#include "suggest.h"

#include <stdio.h>
#include <string.h>

#define MAX_LENGTH 40 /* of words that are compared: no name is longer */

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Characters to insert, delete or replace until a is b (V. I. Levenshtein, 1966), row by row. */
static size_t edits(const char *a, size_t a_length, const char *b, size_t b_length) {
  size_t row[MAX_LENGTH + 1];
  for (size_t j = 0; j <= b_length; j++) row[j] = j;
  for (size_t i = 1; i <= a_length; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b_length; j++) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
    }
  }
  return row[b_length];
}

clnorm_suggestion clnorm_suggestion_for(const char *word, size_t length) {
  const size_t close = length / 3; /* more changes than that make another word */
  const clnorm_suggestion suggestion = {word, length, NULL, close + 1};
  return suggestion;
}

void clnorm_suggestion_try(clnorm_suggestion *suggestion, const char *name) {
  const size_t length = strlen(name);
  if (suggestion->length > MAX_LENGTH || length > MAX_LENGTH) return;
  const size_t distance = edits(suggestion->word, suggestion->length, name, length);
  if (distance >= suggestion->distance) return;
  suggestion->best = name;
  suggestion->distance = distance;
}

clnorm_suggestion_text clnorm_suggestion_say(const clnorm_suggestion *suggestion) {
  clnorm_suggestion_text said = {""};
  if (suggestion->best)
    snprintf(said.text, sizeof said.text, " (did you mean %s?)", suggestion->best);
  return said;
}
