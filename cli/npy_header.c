#include "npy_header.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "messages.h"

#define MAX_ITEM_SIZE 8

static const clnorm_npy_traits traits[] = {
    {CLNORM_NPY_F16, 2, "float16", "f2", NULL, 65520},
    {CLNORM_NPY_BF16, 2, "bfloat16", "u2", "V2", 0x1.ffp+127},
    {CLNORM_NPY_F32, 4, "float32", "f4", NULL, 0x1.ffffffp+127},
    {CLNORM_NPY_F64, 8, "float64", "f8", NULL, (double)INFINITY}};

enum { NUM_TYPES = sizeof traits / sizeof traits[0] };

const clnorm_npy_traits *clnorm_npy_traits_of(clnorm_npy_type type) {
  for (int i = 0; i < NUM_TYPES; i++)
    if (traits[i].type == type) return &traits[i];
  return NULL;
}

typedef struct cursor {
  const char *at, *end;
  unsigned types; /* accepted ones */
  clnorm_message *message;
} cursor;

static bool malformed(cursor *c, const char *expected) {
  return clnorm_refuse(c->message, "malformed header: expected %s", expected);
}

static void skip_space(cursor *c) {
  while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
    c->at++;
}

static bool next_is(cursor *c, char wanted) {
  skip_space(c);
  return c->at < c->end && *c->at == wanted;
}

/* Takes the character if it is next. */
static bool take(cursor *c, char wanted) {
  if (!next_is(c, wanted)) return false;
  c->at++;
  return true;
}

/* A quoted string without escapes. */
static bool take_string(cursor *c, char *text, size_t size, const char *expected) {
  skip_space(c);
  if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) return malformed(c, expected);
  const char quote = *c->at++;
  size_t length = 0;
  while (c->at < c->end && *c->at != quote) {
    if ((unsigned char)*c->at < 32 || *c->at == '\\' || length + 1 == size)
      return malformed(c, expected);
    text[length++] = *c->at++;
  }
  text[length] = '\0';
  return take(c, quote) || malformed(c, "a closing quote");
}

/* Which of the types this code is; NULL: none. */
static const clnorm_npy_traits *find_type(unsigned types, const char *code) {
  for (int i = 0; i < NUM_TYPES; i++) {
    const clnorm_npy_traits *t = &traits[i];
    if (!(types & t->type)) continue;
    if (strcmp(code, t->code) == 0 || (t->other_code && strcmp(code, t->other_code) == 0)) return t;
  }
  return NULL;
}

/* What the code of a type that is not accepted means, for messages. */
static const char *type_name(const char *code) {
  static const char *const names[][2] = {
      {"f12", "float96"}, {"f16", "float128"}, {"c8", "complex64"},  {"c16", "complex128"},
      {"b1", "bool"},     {"?", "bool"},       {"i1", "int8"},       {"i2", "int16"},
      {"i4", "int32"},    {"i8", "int64"},     {"u1", "uint8"},      {"u4", "uint32"},
      {"u8", "uint64"},   {"u2", "uint16"},    {"V2", "2 raw bytes"}};
  const clnorm_npy_traits *type = find_type(~(unsigned)CLNORM_NPY_BF16, code);
  if (type) return type->name;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    if (strcmp(code, names[i][0]) == 0) return names[i][1];
  return "no type that is known here";
}

bool clnorm_host_is_big_endian(void) {
  const uint16_t one = 1;
  unsigned char first;
  memcpy(&first, &one, 1);
  return first == 0;
}

/* Refuses what is not among the accepted types, all of which are named. */
static bool refuse_type(cursor *c, const char *found) {
  char accepted[128] = "";
  size_t n = 0;
  unsigned left = c->types;
  for (int i = 0; i < NUM_TYPES && n < sizeof accepted; i++) {
    if (!(left & traits[i].type)) continue;
    left &= ~(unsigned)traits[i].type;
    const char *before = left ? ", " : " or ";
    n += (size_t)snprintf(accepted + n, sizeof accepted - n, "%s%s%s", n > 0 ? before : "",
                          traits[i].name,
                          traits[i].type == CLNORM_NPY_BF16 ? " (as '<u2' or '|V2')" : "");
  }
  return clnorm_refuse(c->message, "dtype %s, but must be %s", found, accepted);
}

static bool parse_type(cursor *c, clnorm_npy_header *header) {
  char text[32];
  if (next_is(c, '[')) return refuse_type(c, "is a structure");
  if (!take_string(c, text, sizeof text, "a type such as '<f4'")) return false;
  const char *code = text;
  char order = '=';
  if (*code && strchr("<>=|", *code)) order = *code++;
  if (*code == 'O')
    return clnorm_refuse(c->message, "dtype '%s' is an object array (a pickle), which is refused",
                         text);
  const clnorm_npy_traits *type = find_type(c->types, code);
  if (!type) {
    const bool bfloat = find_type(CLNORM_NPY_BF16, code) != NULL;
    char found[128];
    snprintf(found, sizeof found, "'%s' is %s%s", text, type_name(code),
             bfloat ? " (or bfloat16, which was not asked for)" : "");
    return refuse_type(c, found);
  }
  header->type = type->type;
  header->item_size = type->item_size;
  header->big_endian = order == '>' || (order != '<' && clnorm_host_is_big_endian());
  return true;
}

static bool parse_bool(cursor *c, bool *value) {
  skip_space(c);
  const size_t left = (size_t)(c->end - c->at);
  const bool yes = left >= 4 && memcmp(c->at, "True", 4) == 0;
  const bool no = left >= 5 && memcmp(c->at, "False", 5) == 0;
  if (!yes && !no) return malformed(c, "True or False for fortran_order");
  c->at += yes ? 4 : 5;
  *value = yes;
  return true;
}

/* A decimal number; Python 2 wrote an L after long ones. */
static bool parse_dim(cursor *c, int64_t *value) {
  if (next_is(c, '-')) return clnorm_refuse(c->message, "negative dimension in the shape");
  if (c->at == c->end || *c->at < '0' || *c->at > '9') return malformed(c, "a dimension");
  int64_t n = 0;
  while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
    if (n > (INT64_MAX - 9) / 10)
      return clnorm_refuse(c->message, "a dimension of the shape does not fit 64 bits");
    n = 10 * n + (*c->at++ - '0');
  }
  if (c->at < c->end && *c->at == 'L') c->at++;
  *value = n;
  return true;
}

/* The product of the dimensions, kept so small that count * MAX_ITEM_SIZE fits. A zero anywhere
 * makes the array empty, but NumPy refuses a product of the others that overflows, and so does
 * this. */
static bool count_elements(cursor *c, clnorm_npy_header *header) {
  int64_t product = 1;
  bool empty = false;
  for (int i = 0; i < header->ndim; i++) {
    empty = empty || header->dims[i] == 0;
    if (header->dims[i] > 0 && product > INT64_MAX / MAX_ITEM_SIZE / header->dims[i])
      return clnorm_refuse(c->message, "the shape's size in bytes does not fit 64 bits");
    if (header->dims[i] > 0) product *= header->dims[i];
  }
  header->count = empty ? 0 : product;
  return true;
}

static bool parse_shape(cursor *c, clnorm_npy_header *header) {
  if (!take(c, '(')) return malformed(c, "a tuple for shape");
  bool comma = true;
  while (!take(c, ')')) {
    if (!comma) return malformed(c, "a comma in the shape");
    if (header->ndim == CLNORM_NPY_MAX_DIMS)
      return clnorm_refuse(c->message, "the shape has more than %d dimensions",
                           CLNORM_NPY_MAX_DIMS);
    if (!parse_dim(c, &header->dims[header->ndim])) return false;
    header->ndim++;
    comma = take(c, ',');
  }
  if (header->ndim == 1 && !comma) return malformed(c, "a comma in a shape of one dimension");
  return count_elements(c, header);
}

static const char *const keys[] = {"descr", "fortran_order", "shape"};

static bool parse_entry(cursor *c, clnorm_npy_header *header, bool seen[3]) {
  char text[32];
  if (!take_string(c, text, sizeof text, "a key")) return false;
  int key = 0;
  while (key < 3 && strcmp(text, keys[key]) != 0) key++;
  if (key == 3) return clnorm_refuse(c->message, "malformed header: unknown key '%s'", text);
  if (seen[key]) return clnorm_refuse(c->message, "malformed header: key '%s' twice", text);
  seen[key] = true;
  if (!take(c, ':')) return malformed(c, "a colon");
  if (key == 0) return parse_type(c, header);
  if (key == 1) return parse_bool(c, &header->fortran_order);
  return parse_shape(c, header);
}

bool clnorm_npy_header_parse(const char *text, size_t length, unsigned types,
                             clnorm_npy_header *header, clnorm_message *message) {
  cursor c = {text, text + length, types, message};
  bool seen[3] = {false, false, false};
  memset(header, 0, sizeof *header);
  if (!take(&c, '{')) return malformed(&c, "an opening brace");
  bool comma = true;
  while (!take(&c, '}')) {
    if (!comma) return malformed(&c, "a comma or a closing brace");
    if (!parse_entry(&c, header, seen)) return false;
    comma = take(&c, ',');
  }
  skip_space(&c);
  if (c.at != c.end) return malformed(&c, "nothing after the closing brace");
  for (int key = 0; key < 3; key++)
    if (!seen[key])
      return clnorm_refuse(message, "malformed header: key '%s' is missing", keys[key]);
  return true;
}
