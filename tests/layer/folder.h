/* A folder of the test's own, such as a new program cache. */
#ifndef CLNORM_TESTS_FOLDER_H
#define CLNORM_TESTS_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

/* Removes the files in it; a folder that is not there is empty. */
static inline void folder_empty(const char *path) {
  char entry[1024];
  DIR *folder = opendir(path);
  for (struct dirent *e = folder ? readdir(folder) : NULL; e; e = readdir(folder)) {
    snprintf(entry, sizeof entry, "%s/%s", path, e->d_name);
    if (e->d_name[0] != '.') unlink(entry);
  }
  if (folder) closedir(folder);
}

#endif
