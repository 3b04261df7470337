#include "program_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry is this header, the key, the binary. Written and read on one machine, in its byte order: the
 * magic number reads differently on another. */
typedef struct entry_header {
  uint64_t magic;
  uint64_t key_size;
  uint64_t binary_size;
  uint64_t checksum; /* of the binary */
} entry_header;

#define MAGIC UINT64_C(0x31504c434d524f4e) /* changes with the format */
#define LARGEST_ENTRY ((size_t)256 * 1024 * 1024)

typedef struct entry_name {
  char text[32];
} entry_name;

static entry_name name_of(clnorm_blob key) {
  entry_name name;
  snprintf(name.text, sizeof name.text, "%016" PRIx64 ".clbin",
           clnorm__cache_hash(key.data, key.size));
  return name;
}

/* NULL: *binary is the part of entry that was kept under key. Else why it is not used. */
static const char *find_binary(clnorm_blob entry, clnorm_blob key, clnorm_blob *binary) {
  entry_header header = {0, 0, 0, 0};
  if (entry.size >= sizeof header) memcpy(&header, entry.data, sizeof header);
  if (header.magic != MAGIC) return "its header is damaged or of another version";
  const uint64_t rest = entry.size - sizeof header;
  if (header.key_size > rest || header.binary_size != rest - header.key_size)
    return "its size is wrong";
  const unsigned char *kept_key = entry.data + sizeof header;
  if (header.key_size != key.size || memcmp(kept_key, key.data, key.size) != 0)
    return "it belongs to another program";
  binary->data = entry.data + sizeof header + key.size;
  binary->size = (size_t)header.binary_size;
  if (clnorm__cache_hash(binary->data, binary->size) != header.checksum)
    return "its checksum is wrong";
  return NULL;
}

clnorm_blob clnorm__program_cache_load(const char *folder, clnorm_blob key,
                                       const clnorm_error *error) {
  const clnorm_blob nothing = {NULL, 0};
  clnorm_message why;
  const entry_name name = name_of(key);
  clnorm_blob entry = clnorm__cache_read(folder, name.text, LARGEST_ENTRY, &why);
  if (!entry.data) {
    if (why.text[0]) clnorm__log(error, "%s", why.text);
    return nothing;
  }
  clnorm_blob binary = nothing;
  const char *reason = find_binary(entry, key, &binary);
  if (reason) {
    clnorm__log(error, "cache entry %s/%s is not used: %s", folder, name.text, reason);
    free(entry.data);
    return nothing;
  }
  memmove(entry.data, binary.data, binary.size);
  entry.size = binary.size;
  return entry;
}

void clnorm__program_cache_store(const char *folder, clnorm_blob key, clnorm_blob binary,
                                 const clnorm_error *error) {
  clnorm_message why;
  entry_header header = {MAGIC, key.size, binary.size,
                         clnorm__cache_hash(binary.data, binary.size)};
  const clnorm_blob parts[] = {{(unsigned char *)&header, sizeof header}, key, binary};
  if (!clnorm__cache_write(folder, name_of(key).text, parts, 3, &why))
    clnorm__log(error, "%s", why.text);
}
