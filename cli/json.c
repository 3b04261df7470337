#include "json.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Length of the UTF-8 character at `at`, 0 if it is none, as overlong forms and surrogates. */
static int utf8_length(const unsigned char *at) {
  const unsigned char lead = at[0];
  if (lead < 0x80) return 1;
  const int length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  for (int i = 1; i < length; i++)
    if ((at[i] & 0xc0) != 0x80) return 0;
  if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f)) return 0;
  if ((lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] > 0x8f)) return 0;
  return length;
}

static void print_string(FILE *out, const char *text) {
  const unsigned char *at = (const unsigned char *)text;
  fputc('"', out);
  while (*at) {
    const int length = utf8_length(at);
    if (length == 0)
      fputs("\\ufffd", out);
    else if (*at == '"' || *at == '\\')
      fprintf(out, "\\%c", *at);
    else if (*at < 32 || *at == 127)
      fprintf(out, "\\u%04x", *at);
    else
      fwrite(at, 1, (size_t)length, out);
    at += length > 0 ? length : 1;
  }
  fputc('"', out);
}

static void begin_item(clnorm_json *json, const char *key) {
  if (json->comma) fputs(", ", json->out);
  json->comma = true;
  if (!key) return;
  print_string(json->out, key);
  fputs(": ", json->out);
}

static void open_bracket(clnorm_json *json, const char *key, char bracket) {
  begin_item(json, key);
  fputc(bracket, json->out);
  json->comma = false;
}

static void close_bracket(clnorm_json *json, char bracket) {
  fputc(bracket, json->out);
  json->comma = true;
}

void clnorm_json_object(clnorm_json *json, const char *key) { open_bracket(json, key, '{'); }
void clnorm_json_array(clnorm_json *json, const char *key) { open_bracket(json, key, '['); }
void clnorm_json_end_object(clnorm_json *json) { close_bracket(json, '}'); }
void clnorm_json_end_array(clnorm_json *json) { close_bracket(json, ']'); }

void clnorm_json_text(clnorm_json *json, const char *key, const char *text) {
  begin_item(json, key);
  if (text)
    print_string(json->out, text);
  else
    fputs("null", json->out);
}

void clnorm_json_bool(clnorm_json *json, const char *key, bool value) {
  begin_item(json, key);
  fputs(value ? "true" : "false", json->out);
}

void clnorm_json_integer(clnorm_json *json, const char *key, int64_t value) {
  begin_item(json, key);
  fprintf(json->out, "%" PRId64, value);
}

void clnorm_json_unsigned(clnorm_json *json, const char *key, uint64_t value) {
  begin_item(json, key);
  fprintf(json->out, "%" PRIu64, value);
}

void clnorm_json_number(clnorm_json *json, const char *key, double value) {
  begin_item(json, key);
  if (isnan(value))
    fputs("null", json->out);
  else
    fprintf(json->out, "%.9g", isinf(value) ? copysign(DBL_MAX / 1.0000001, value) : value);
}
