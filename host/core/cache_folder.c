#include "cache_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static bool explain(clnorm_message *why, const char *format,
                                                          ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why->text, sizeof why->text, format, arguments);
  va_end(arguments);
  return false;
}

uint64_t clnorm__cache_hash(const void *data, size_t size) {
  const unsigned char *bytes = data;
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
  return hash;
}

/* ---- Folder ------------------------------------------------------------------------------------- */

static char *join(const char *a, const char *b) {
  const size_t size = strlen(a) + strlen(b) + 1;
  char *path = malloc(size);
  if (path) snprintf(path, size, "%s%s", a, b);
  return path;
}

/* The folder that somebody named; "" where there is to be none, NULL where nobody named one. */
static const char *named_folder(const char *cache_dir) {
  return cache_dir ? cache_dir : getenv("CLNORM_CACHE_DIR");
}

bool clnorm__cache_folder_is_named(const char *cache_dir) {
  return named_folder(cache_dir) != NULL;
}

char *clnorm__cache_folder(const char *cache_dir) {
  const char *named = named_folder(cache_dir);
  if (named) return named[0] ? join(named, "") : NULL;
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
static int open_folder(const char *folder, bool create, clnorm_message *why) {
  why->text[0] = '\0';
  if (create) make_folders(folder);
  const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    if (create || errno != ENOENT)
      explain(why, "cache folder %s cannot be opened: %s", folder, strerror(errno));
    return -1;
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !is_private(&info)) {
    explain(why, "cache folder %s is not used: it belongs to another user, or others may write it",
            folder);
    close(fd);
    return -1;
  }
  return fd;
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

/* NULL: *content is what the open file holds. Else why it is not used. */
static const char *read_file(int fd, size_t largest, clnorm_blob *content) {
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || !is_private(&info))
    return "it is not a file that this user alone may write";
  const size_t size = (size_t)info.st_size;
  if (size > largest) return "it is too large";
  unsigned char *data = malloc(size + 1);
  if (!data) return "memory is short";
  if (!read_all(fd, data, size)) {
    free(data);
    return "it cannot be read";
  }
  content->data = data;
  content->size = size;
  return NULL;
}

clnorm_blob clnorm__cache_read(const char *folder, const char *name, size_t largest,
                               clnorm_message *why) {
  clnorm_blob content = {NULL, 0};
  const int dir = open_folder(folder, false, why);
  if (dir < 0) return content;
  const int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd >= 0) {
    const char *reason = read_file(fd, largest, &content);
    if (reason) explain(why, "cache entry %s/%s is not used: %s", folder, name, reason);
    close(fd);
  } else if (errno != ENOENT) {
    explain(why, "cache entry %s/%s cannot be opened: %s", folder, name, strerror(errno));
  }
  close(dir);
  return content;
}

/* ---- Writing ------------------------------------------------------------------------------------ */

static bool write_all(int fd, clnorm_blob part) {
  while (part.size > 0) {
    const ssize_t put = write(fd, part.data, part.size);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    part.data += put;
    part.size -= (size_t)put;
  }
  return true;
}

typedef struct temporary_name {
  char text[64];
} temporary_name;

/* Creates a file that no other writer uses: several threads or processes may write one entry at once. */
static int create_temporary(int dir, const char *entry, temporary_name *name) {
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

bool clnorm__cache_write(const char *folder, const char *name, const clnorm_blob *parts,
                         int num_parts, clnorm_message *why) {
  const int dir = open_folder(folder, true, why);
  if (dir < 0) return false;
  temporary_name temporary;
  const int fd = create_temporary(dir, name, &temporary);
  bool written = fd >= 0;
  if (!written) {
    explain(why, "cache folder %s cannot be written: %s", folder, strerror(errno));
    goto close_dir;
  }
  for (int i = 0; i < num_parts && written; i++) written = write_all(fd, parts[i]);
  if (close(fd) != 0) written = false;
  if (!written || renameat(dir, temporary.text, dir, name) != 0) {
    written =
        explain(why, "cache entry %s/%s cannot be written: %s", folder, name, strerror(errno));
    unlinkat(dir, temporary.text, 0);
  }
close_dir:
  close(dir);
  return written;
}

bool clnorm__cache_remove(const char *folder, const char *name, clnorm_message *why) {
  const int dir = open_folder(folder, false, why);
  if (dir < 0) return !why->text[0];
  if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
    explain(why, "cache entry %s/%s cannot be removed: %s", folder, name, strerror(errno));
  close(dir);
  return !why->text[0];
}
