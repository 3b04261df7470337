/* "did you mean ...?" for a word that is not known. */
#ifndef CLNORM_CLI_SUGGEST_H
#define CLNORM_CLI_SUGGEST_H

#include <stddef.h>

typedef struct clnorm_suggestion {
  const char *word;
  size_t length;    /* of the word; what follows is not looked at */
  const char *best; /* the closest name so far, if it is close; else NULL */
  size_t distance;
} clnorm_suggestion;

typedef struct clnorm_suggestion_text {
  char text[96]; /* " (did you mean NAME?)", or "" */
} clnorm_suggestion_text;

clnorm_suggestion clnorm_suggestion_for(const char *word, size_t length);
void clnorm_suggestion_try(clnorm_suggestion *suggestion, const char *name);
clnorm_suggestion_text clnorm_suggestion_say(const clnorm_suggestion *suggestion);

#endif
