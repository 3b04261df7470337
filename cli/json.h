/* Prints one JSON document; commas and escapes are taken care of. key is NULL inside an array. */
#ifndef CLNORM_CLI_JSON_H
#define CLNORM_CLI_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct clnorm_json {
  FILE *out;
  bool comma; /* something stands before the next item */
} clnorm_json;

void clnorm_json_object(clnorm_json *json, const char *key);
void clnorm_json_array(clnorm_json *json, const char *key);
void clnorm_json_end_object(clnorm_json *json);
void clnorm_json_end_array(clnorm_json *json);
/* Bytes that are not UTF-8 become U+FFFD; NULL is printed as null. */
void clnorm_json_text(clnorm_json *json, const char *key, const char *text);
void clnorm_json_bool(clnorm_json *json, const char *key, bool value);
void clnorm_json_integer(clnorm_json *json, const char *key, int64_t value);
void clnorm_json_unsigned(clnorm_json *json, const char *key, uint64_t value);
/* JSON has no infinities and no NaN: they become the largest double, and null. */
void clnorm_json_number(clnorm_json *json, const char *key, double value);

#endif
