#include "program_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* An entry is this header, the key, the binary. Written and read on one machine, in its byte order: the
 * magic number reads differently on another. */
typedef struct entry_header {
  uint64_t magic;
  uint64_t key_size;
  uint64_t binary_size;
  uint64_t checksum; /* of the binary */
} entry_header;

#define MAGIC UINT64_C(0x31504c434d524f4e) /* changes with the format */
#define LARGEST_ENTRY ((off_t)256 * 1024 * 1024)

/* FNV-1a. */
static uint64_t hash_bytes(clnorm_blob blob) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < blob.size; i++) hash = (hash ^ blob.data[i]) * UINT64_C(0x100000001b3);
  return hash;
}

/* ---- Folder ------------------------------------------------------------------------------------- */

static char *join(const char *a, const char *b) {
  const size_t size = strlen(a) + strlen(b) + 1;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s%s", a, b);
  return path;
}

char *clnorm_program_cache_folder(const char *cache_dir) {
  if (!cache_dir) cache_dir = getenv("CLNORM_CACHE_DIR");
  if (cache_dir) return cache_dir[0] ? join(cache_dir, "") : NULL;
  const char *base = getenv("XDG_CACHE_HOME");
  if (base && base[0] == '/') return join(base, "/clnorm");
  base = getenv("HOME");
  return base && base[0] == '/' ? join(base, "/.cache/clnorm") : NULL;
}

/* Only this user may own it, and nobody else may write it. */
static bool is_private(const struct stat *info) {
  return info->st_uid == geteuid() && (info->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Creates a folder and its parents. Failures show when it is opened. */
static void make_folders(const char *folder) {
  char *path = join(folder, "");
  if (!path) return;
  for (char *slash = path + 1; *slash; slash++) {
    if (*slash != '/') continue;
    *slash = '\0';
    mkdir(path, 0700);
    *slash = '/';
  }
  mkdir(path, 0700);
  free(path);
}

/* A file descriptor, or -1 where the folder cannot be used. */
static int open_folder(const char *folder, bool create, const clnorm_error *error) {
  if (create) make_folders(folder);
  const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    if (create || errno != ENOENT) {
      clnorm_log(error, "program cache %s cannot be opened: %s", folder, strerror(errno));
    }
    return -1;
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !is_private(&info)) {
    clnorm_log(error,
               "program cache %s is not used: it belongs to another user, or others may write it",
               folder);
    close(fd);
    return -1;
  }
  return fd;
}

typedef struct entry_name {
  char text[64];
} entry_name;

static entry_name name_of(clnorm_blob key) {
  entry_name name;
  snprintf(name.text, sizeof name.text, "%016" PRIx64 ".clbin", hash_bytes(key));
  return name;
}

/* ---- Reading ------------------------------------------------------------------------------------ */

static bool read_all(int fd, void *buffer, size_t size) {
  unsigned char *at = buffer;
  while (size > 0) {
    const ssize_t got = read(fd, at, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    size -= (size_t)got;
  }
  return true;
}

/* Reads an open entry of `file_size` bytes. NULL: *binary is what was kept. Else why it is not used. */
static const char *read_entry(int fd, off_t file_size, clnorm_blob key, clnorm_blob *binary) {
  entry_header header;
  if (file_size > LARGEST_ENTRY) return "it is too large";
  if (!read_all(fd, &header, sizeof header) || header.magic != MAGIC) {
    return "its header is damaged or of another version";
  }
  const uint64_t rest = (uint64_t)file_size - sizeof header;
  if (header.key_size > rest || header.binary_size != rest - header.key_size) {
    return "its size is wrong";
  }
  if (header.key_size != key.size) return "it belongs to another program";
  unsigned char *data = malloc((size_t)rest + 1);
  if (!data) return "memory is short";
  if (!read_all(fd, data, (size_t)rest)) {
    free(data);
    return "it cannot be read";
  }
  const clnorm_blob found = {data, (size_t)header.binary_size};
  const bool same = memcmp(data, key.data, key.size) == 0;
  memmove(data, data + key.size, found.size);
  if (!same || hash_bytes(found) != header.checksum) {
    free(data);
    return same ? "its checksum is wrong" : "it belongs to another program";
  }
  *binary = found;
  return NULL;
}

clnorm_blob clnorm_program_cache_load(const char *folder, clnorm_blob key,
                                      const clnorm_error *error) {
  clnorm_blob binary = {NULL, 0};
  const int dir = folder ? open_folder(folder, false, error) : -1;
  if (dir < 0) return binary;
  const entry_name name = name_of(key);
  const int fd = openat(dir, name.text, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) {
    struct stat info;
    const char *reason = "it is not a file that this user alone may write";
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && is_private(&info)) {
      reason = read_entry(fd, info.st_size, key, &binary);
    }
    if (reason) {
      clnorm_log(error, "program cache entry %s/%s is not used: %s", folder, name.text, reason);
    }
    close(fd);
  } else if (errno != ENOENT) {
    clnorm_log(error, "program cache entry %s/%s cannot be opened: %s", folder, name.text,
               strerror(errno));
  }
  close(dir);
  return binary;
}

/* ---- Writing ------------------------------------------------------------------------------------ */

static bool write_all(int fd, const void *buffer, size_t size) {
  const unsigned char *at = buffer;
  while (size > 0) {
    const ssize_t put = write(fd, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    at += put;
    size -= (size_t)put;
  }
  return true;
}

static bool write_entry(int fd, clnorm_blob key, clnorm_blob binary) {
  const entry_header header = {MAGIC, key.size, binary.size, hash_bytes(binary)};
  return write_all(fd, &header, sizeof header) && write_all(fd, key.data, key.size) &&
         write_all(fd, binary.data, binary.size);
}

/* Creates a file that no other writer uses: several threads or processes may store one entry at once. */
static int create_temporary(int dir, const char *entry, entry_name *name) {
  struct timespec now;
  for (int attempt = 0; attempt < 100; attempt++) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(name->text, sizeof name->text, "%.16s.%ld-%09ld.tmp", entry, (long)getpid(),
             now.tv_nsec);
    const int fd = openat(dir, name->text, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

void clnorm_program_cache_store(const char *folder, clnorm_blob key, clnorm_blob binary,
                                const clnorm_error *error) {
  const int dir = folder ? open_folder(folder, true, error) : -1;
  if (dir < 0) return;
  const entry_name name = name_of(key);
  entry_name temporary;
  const int fd = create_temporary(dir, name.text, &temporary);
  if (fd < 0) {
    clnorm_log(error, "program cache %s cannot be written: %s", folder, strerror(errno));
    goto close_dir;
  }
  bool written = write_entry(fd, key, binary);
  if (close(fd) != 0) written = false;
  if (!written || renameat(dir, temporary.text, dir, name.text) != 0) {
    clnorm_log(error, "program cache entry %s/%s cannot be written: %s", folder, name.text,
               strerror(errno));
    unlinkat(dir, temporary.text, 0);
  }
close_dir:
  close(dir);
}
