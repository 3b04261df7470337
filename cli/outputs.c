#include "outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"
#include "messages.h"

#define MAX_LINKS 40 /* followed before they are taken for a circle, as the system does */
#define TEMPORARY ".clnorm-XXXXXX" /* short: the name beside it may have all the bytes there are */

static bool is_standard_stream(const char *path) {
  return strcmp(path, CLNORM_STANDARD_STREAM) == 0;
}

const char *clnorm_input_path(const char *path) {
  return is_standard_stream(path) ? "standard input" : path;
}

const char *clnorm_output_path(const char *path) {
  return is_standard_stream(path) ? "standard output" : path;
}

static bool cannot_write(clnorm_message *message, int error) {
  return clnorm_refuse(message, "cannot write: %s", strerror(error));
}

/* ---- Paths ----------------------------------------------------------------------------------- */

/* The first `size` bytes of a, then b. */
static char *join(const char *a, size_t size, const char *b) {
  char *text = malloc(size + strlen(b) + 1);
  if (!text) return NULL;
  memcpy(text, a, size);
  strcpy(text + size, b);
  return text;
}

/* Bytes of the folder's part of a path, with its slash. */
static size_t folder_size(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? (size_t)(slash - path) + 1 : 0;
}

/* What the symbolic link at `path` names; NULL where it is none, or there is no memory. */
static char *read_link(const char *path) {
  char text[4096];
  const ssize_t size = readlink(path, text, sizeof text - 1);
  if (size < 0) return NULL;
  text[size] = '\0';
  return join(path, text[0] == '/' ? 0 : folder_size(path), text);
}

/* The path behind all symbolic links, of a file that need not be there. */
static char *follow_links(const char *path) {
  char *at = join(path, strlen(path), ""), *next;
  for (int i = 0; at && i < MAX_LINKS && (next = read_link(at)); i++) {
    free(at);
    at = next;
  }
  return at;
}

static clnorm_file_identity identity_of(const struct stat *info) {
  const clnorm_file_identity identity = {S_ISREG(info->st_mode) || S_ISFIFO(info->st_mode) ||
                                             S_ISBLK(info->st_mode),
                                         info->st_dev, info->st_ino, NULL};
  return identity;
}

static bool same_file(const clnorm_file_identity *a, const clnorm_file_identity *b) {
  if (!a->known || !b->known || a->device != b->device || a->inode != b->inode) return false;
  return a->name && b->name ? strcmp(a->name, b->name) == 0 : !a->name && !b->name;
}

/* ---- Files beside files ---------------------------------------------------------------------- */

/* An open file under a temporary name in the folder of file->place, with the owner and the rights of *old, if
 * there was one. -1, with errno, where that cannot be. */
static int open_temporary(clnorm_output_file *file, const struct stat *old) {
  const mode_t mask = umask(0);
  umask(mask);
  file->temporary = join(file->place, folder_size(file->place), TEMPORARY);
  if (!file->temporary) return -1;
  const int descriptor = mkstemp(file->temporary);
  struct stat info;
  if (descriptor >= 0 && fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 &&
      fstat(descriptor, &info) == 0 &&
      (!old || ((info.st_uid == old->st_uid && info.st_gid == old->st_gid) ||
                fchown(descriptor, old->st_uid, old->st_gid) == 0)) &&
      fchmod(descriptor, old ? old->st_mode & 0777 : 0666 & ~mask) == 0)
    return descriptor;
  const int error = errno;
  if (descriptor >= 0) {
    close(descriptor);
    unlink(file->temporary);
  }
  free(file->temporary);
  file->temporary = NULL;
  errno = error;
  return -1;
}

static void remove_temporary(clnorm_output_file *file) {
  if (file->temporary) unlink(file->temporary);
  free(file->temporary);
  file->temporary = NULL;
}

/* Whether a temporary file can be made there; none is left. */
static bool try_temporary(clnorm_output_file *file, const struct stat *old) {
  const int descriptor = open_temporary(file, old);
  const int error = errno;
  if (descriptor >= 0) close(descriptor);
  remove_temporary(file);
  errno = error;
  return descriptor >= 0;
}

/* ---- Checking -------------------------------------------------------------------------------- */

/* A file that is not there yet. */
static bool locate_new(clnorm_output_file *file, clnorm_message *message) {
  struct stat folder;
  file->kind = CLNORM_FILE_NEW;
  file->place = follow_links(file->path);
  if (!file->place) return clnorm_refuse(message, "no memory for its name");
  const size_t size = folder_size(file->place);
  char *above = join(file->place, size, ".");
  const bool there = above && stat(above, &folder) == 0;
  const int error = errno;
  free(above);
  if (!there) return cannot_write(message, error);
  if (!file->place[size])
    return clnorm_refuse(message, "cannot write: this names a folder, not a file");
  const clnorm_file_identity identity = {true, folder.st_dev, folder.st_ino, file->place + size};
  file->identity = identity;
  return try_temporary(file, NULL) || cannot_write(message, errno);
}

/* A file that is there. A rename over it would part it from its other names. */
static bool locate_old(clnorm_output_file *file, const struct stat *info, clnorm_message *message) {
  const int descriptor = open(file->path, O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return cannot_write(message, errno);
  close(descriptor);
  file->place = realpath(file->path, NULL);
  if (!file->place) return cannot_write(message, errno);
  file->kind =
      info->st_nlink == 1 && try_temporary(file, info) ? CLNORM_FILE_NEW : CLNORM_FILE_IN_PLACE;
  return true;
}

/* Where standard output leads to this file: /dev/stdout, or what the shell made of "> FILE". */
static bool is_standard_output(const struct stat *info) {
  struct stat standard;
  if (fstat(STDOUT_FILENO, &standard) != 0) return false;
  if (info->st_dev != standard.st_dev || info->st_ino != standard.st_ino) return false;
  return !S_ISCHR(info->st_mode) || isatty(STDOUT_FILENO);
}

static bool locate_standard_output(clnorm_output_file *file, clnorm_message *message) {
  struct stat info;
  const int flags = fcntl(STDOUT_FILENO, F_GETFL);
  file->kind = CLNORM_FILE_STANDARD;
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || fstat(STDOUT_FILENO, &info) != 0)
    return clnorm_refuse(message, "cannot write: standard output is closed");
  if (isatty(STDOUT_FILENO))
    return clnorm_refuse(message,
                         "is a terminal, which bytes are not for; add > FILE or | COMMAND");
  file->identity = identity_of(&info);
  return true;
}

static bool locate(clnorm_output_file *file, clnorm_message *message) {
  struct stat info;
  if (is_standard_stream(file->path)) return locate_standard_output(file, message);
  if (stat(file->path, &info) != 0)
    return errno == ENOENT ? locate_new(file, message) : cannot_write(message, errno);
  file->identity = identity_of(&info);
  if (S_ISDIR(info.st_mode)) return clnorm_refuse(message, "cannot write: it is a folder");
  if (is_standard_output(&info)) return locate_standard_output(file, message);
  if (S_ISREG(info.st_mode)) return locate_old(file, &info, message);
  file->kind = CLNORM_FILE_STREAM;
  return access(file->path, W_OK) == 0 || cannot_write(message, errno);
}

static bool same_output(const clnorm_output_file *a, const clnorm_output_file *b) {
  return (a->kind == CLNORM_FILE_STANDARD && b->kind == CLNORM_FILE_STANDARD) ||
         same_file(&a->identity, &b->identity);
}

/* The input that the file is, unless it may be; NULL: none. */
static const clnorm_input_file *find_input(const clnorm_output_file *file,
                                           const clnorm_input_file *inputs, size_t num_inputs) {
  for (size_t i = 0; i < num_inputs; i++) {
    struct stat info;
    const char *path = inputs[i].path;
    if (!path || path == file->updates) continue;
    if ((is_standard_stream(path) ? fstat(STDIN_FILENO, &info) : stat(path, &info)) != 0) continue;
    const clnorm_file_identity identity = identity_of(&info);
    if (same_file(&file->identity, &identity)) return &inputs[i];
  }
  return NULL;
}

/* Keeps standard output for the file's content, and sends everything that is printed elsewhere. */
static bool take_standard_output(clnorm_output_file *file) {
  fflush(stdout);
  file->descriptor = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (file->descriptor >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0) return true;
  clnorm_complain("cannot keep standard output for %s: %s", file->option, strerror(errno));
  return false;
}

int clnorm_outputs_check(clnorm_output_file *files, size_t count, const clnorm_input_file *inputs,
                         size_t num_inputs) {
  for (size_t i = 0; i < count; i++) {
    clnorm_message message;
    if (!locate(&files[i], &message)) {
      clnorm_complain("%s %s: %s", files[i].option, clnorm_output_path(files[i].path),
                      message.text);
      return CLNORM_EXIT_USAGE;
    }
    for (size_t j = 0; j < i; j++)
      if (same_output(&files[i], &files[j])) {
        clnorm_complain("%s %s and %s %s are the same file", files[j].option, files[j].path,
                        files[i].option, files[i].path);
        return CLNORM_EXIT_USAGE;
      }
    const clnorm_input_file *input = find_input(&files[i], inputs, num_inputs);
    if (input) {
      clnorm_complain("%s %s is the same file as %s %s, which is read", files[i].option,
                      files[i].path, input->option, input->path);
      return CLNORM_EXIT_USAGE;
    }
  }
  for (size_t i = 0; i < count; i++)
    if (files[i].kind == CLNORM_FILE_STANDARD && !take_standard_output(&files[i]))
      return CLNORM_EXIT_USAGE;
  return CLNORM_EXIT_GOOD;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* All of the content; closes the descriptor. */
static bool write_content(const clnorm_output_file *file, int descriptor, clnorm_message *message) {
  FILE *out = fdopen(descriptor, "wb");
  if (!out) {
    cannot_write(message, errno);
    close(descriptor);
    return false;
  }
  bool good = file->write(out, file->content) && fflush(out) == 0;
  int error = good ? 0 : errno;
  if (fclose(out) != 0 && good) {
    good = false;
    error = errno;
  }
  return good || cannot_write(message, error);
}

/* The new file, complete, under its temporary name. */
static bool write_beside(clnorm_output_file *file, clnorm_message *message) {
  struct stat info;
  const bool there = stat(file->place, &info) == 0;
  const int descriptor = open_temporary(file, there ? &info : NULL);
  if (descriptor < 0) return cannot_write(message, errno);
  return write_content(file, descriptor, message);
}

/* An error number, or 0, which is also the answer of systems that cannot reserve. */
static int allocate(int descriptor, int64_t size) {
#if defined(_POSIX_ADVISORY_INFO) && _POSIX_ADVISORY_INFO > 0
  const int error = posix_fallocate(descriptor, 0, (off_t)size);
  return error == ENOSPC || error == EFBIG || error == EDQUOT ? error : 0;
#else
  (void)descriptor;
  (void)size;
  return 0;
#endif
}

/* Room for the new content behind the old one, so that a full disk is found while the old one is whole. */
static bool reserve(clnorm_output_file *file, clnorm_message *message) {
  struct stat info;
  if (stat(file->place, &info) != 0) return cannot_write(message, errno);
  file->old_size = (int64_t)info.st_size;
  file->descriptor = open(file->place, O_WRONLY | O_CLOEXEC);
  if (file->descriptor < 0) return cannot_write(message, errno);
  const int error = file->size > file->old_size ? allocate(file->descriptor, file->size) : 0;
  return !error || cannot_write(message, error);
}

static bool write_in_place(clnorm_output_file *file, clnorm_message *message) {
  const int descriptor = file->descriptor;
  const int other = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  clnorm_message why;
  file->descriptor = -1;
  bool good = other >= 0 ? write_content(file, descriptor, &why) : cannot_write(&why, errno);
  if (good && ftruncate(other, lseek(other, 0, SEEK_CUR)) != 0) good = cannot_write(&why, errno);
  if (other >= 0)
    close(other);
  else
    close(descriptor);
  return good || clnorm_refuse(message, "%.1000s; its old content is lost", why.text);
}

static bool write_stream(clnorm_output_file *file, clnorm_message *message) {
  int descriptor = file->descriptor;
  file->descriptor = -1;
  if (file->kind == CLNORM_FILE_STREAM) descriptor = open(file->path, O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return cannot_write(message, errno);
  return write_content(file, descriptor, message);
}

/* A file that something else is mounted on can be written, but not replaced. */
static bool rename_or_copy(clnorm_output_file *file, clnorm_message *message) {
  if (rename(file->temporary, file->place) == 0) {
    free(file->temporary);
    file->temporary = NULL;
    return true;
  }
  if (errno != EBUSY && errno != EPERM && errno != EXDEV) return cannot_write(message, errno);
  return reserve(file, message) && write_in_place(file, message);
}

/* In this order: whatever can fail comes before the first file that changes. */
static const struct {
  int first, last; /* kinds */
  bool (*work)(clnorm_output_file *file, clnorm_message *message);
} stages[] = {
    {CLNORM_FILE_NEW, CLNORM_FILE_NEW, write_beside},
    {CLNORM_FILE_IN_PLACE, CLNORM_FILE_IN_PLACE, reserve},
    {CLNORM_FILE_STREAM, CLNORM_FILE_STANDARD, write_stream},
    {CLNORM_FILE_IN_PLACE, CLNORM_FILE_IN_PLACE, write_in_place},
    {CLNORM_FILE_NEW, CLNORM_FILE_NEW, rename_or_copy},
};

static int run_stages(clnorm_output_file *files, size_t count) {
  for (size_t s = 0; s < sizeof stages / sizeof stages[0]; s++)
    for (size_t i = 0; i < count; i++) {
      const int kind = (int)files[i].kind;
      clnorm_message message;
      if (kind < stages[s].first || kind > stages[s].last || stages[s].work(&files[i], &message))
        continue;
      clnorm_complain("%s %s: %s", files[i].option, clnorm_output_path(files[i].path),
                      message.text);
      return CLNORM_EXIT_USAGE;
    }
  return CLNORM_EXIT_GOOD;
}

int clnorm_outputs_write(clnorm_output_file *files, size_t count) {
  /* A reader that goes away is an error like others: temporary files are to be removed. */
  void (*before)(int) = signal(SIGPIPE, SIG_IGN);
  const int status = run_stages(files, count);
  signal(SIGPIPE, before);
  return status;
}

void clnorm_outputs_free(clnorm_output_file *files, size_t count) {
  for (size_t i = 0; i < count; i++) {
    clnorm_output_file *file = &files[i];
    remove_temporary(file);
    if (file->descriptor >= 0 && file->kind != CLNORM_FILE_STANDARD &&
        ftruncate(file->descriptor, (off_t)file->old_size) != 0)
      clnorm_complain("%s: zeros were left behind its content", file->path);
    if (file->descriptor >= 0) close(file->descriptor);
    free(file->place);
    file->place = NULL;
    file->descriptor = -1;
  }
}
