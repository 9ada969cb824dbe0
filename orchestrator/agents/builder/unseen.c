/* Library preloaded into Nix while it evaluates (LD_PRELOAD), so that an evaluation reads nothing that tells of the run or of
   other runs. Nix copies what a search path (flake:path:/...), builtins.getFlake or a flake's input names without asking its
   setting restrict-eval: it may copy whatever its user may read.

   Hidden, whatever path leads there: files and folders below /nix/var (Nix' database, and links to what other runs have left
   in the store), below /run (the lease's token), and in the run's own folder but for what is `shown`; the files of
   /nix/store/.links; the list of the store. Who knows the name of a store path may read it.

   Nix itself reads none of these but the number of its database's version: it opens the database to write. The error is
   EPERM: Nix' collection of garbage would pass over roots that it may not access (EACCES). */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RUNS "/var/nixos-image/"
#define LINKS "/nix/store/.links/" /* Nix lists that folder (auto-optimise-store), but reads no file there */

/* Of a run's folder: what was sent, the evaluation's arguments, the caller's CA bundle, the folders of builds. */
static const char *shown[] = {"input", "inputs.json", "ca-bundle.crt", "builds"};
static const char *hidden[] = {"/nix/var", "/run"};

static int below(const char *path, const char *folder) {
  size_t length = strlen(folder);
  return !strncmp(path, folder, length) && (!path[length] || path[length] == '/');
}

static int is_hidden(const char *path) {
  if (!strncmp(path, LINKS, strlen(LINKS))) return 1;
  if (!strcmp(path, "/nix/var/nix/db/schema")) return 0;
  for (size_t at = 0; at < sizeof hidden / sizeof *hidden; at++)
    if (below(path, hidden[at])) return 1;
  const char *inner = strncmp(path, RUNS, strlen(RUNS)) ? NULL : strchr(path + strlen(RUNS), '/');
  if (!inner) return 0;
  for (size_t at = 0; at < sizeof shown / sizeof *shown; at++)
    if (below(inner + 1, shown[at])) return 0;
  return 1;
}

/* The path of an open file or folder, without links; NULL if it is hidden. It is "" where there is no /proc: in a child that sets
   up a build's sandbox, which reads nothing that an expression names. */
static const char *seen(int file, char *path, size_t size) {
  char name[32];
  snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  ssize_t length = readlink(name, path, size - 1);
  if (length < 0 && errno != ENOENT) return NULL;
  path[length < 0 ? 0 : length] = 0;
  return is_hidden(path) ? NULL : path;
}

static int may_read(int file, int flags) {
  struct stat status;
  char path[8192];
  if ((flags & O_ACCMODE) != O_RDONLY || flags & O_PATH) return 1;
  if (!fstat(file, &status) && S_ISDIR(status.st_mode)) return 1; /* fdopendir() reads it */
  return !!seen(file, path, sizeof path);
}

static int checked(int file, int flags) {
  if (file < 0 || may_read(file, flags)) return file;
  close(file);
  errno = EPERM;
  return -1;
}

/* --- all calls by which Nix and its libraries open files -------------------------------------------------------------- */

#define OPENS(name, name_at)                                                                    \
  int name_at(int folder, const char *path, int flags, ...) {                                   \
    static int (*next)(int, const char *, int, ...);                                            \
    va_list more;                                                                               \
    va_start(more, flags);                                                                      \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                     \
    va_end(more);                                                                               \
    if (!next) next = dlsym(RTLD_NEXT, #name_at);                                               \
    return checked(next(folder, path, flags, mode), flags);                                     \
  }                                                                                             \
  int name(const char *path, int flags, ...) {                                                  \
    va_list more;                                                                               \
    va_start(more, flags);                                                                      \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                     \
    va_end(more);                                                                               \
    return name_at(AT_FDCWD, path, flags, mode);                                                \
  }

OPENS(open, openat)
OPENS(open64, openat64)

/* What a call becomes whose flags the compiler does not know (_FORTIFY_SOURCE). */
int __open_2(const char *path, int flags) { return openat(AT_FDCWD, path, flags); }
int __open64_2(const char *path, int flags) { return openat64(AT_FDCWD, path, flags); }
int __openat_2(int folder, const char *path, int flags) { return openat(folder, path, flags); }
int __openat64_2(int folder, const char *path, int flags) { return openat64(folder, path, flags); }

/* openat2(2) has no function of its own. Its third argument begins with the flags, 64 bits. */
long syscall(long number, ...) {
  static long (*next)(long, ...);
  long word[6];
  va_list more;
  va_start(more, number);
  for (int at = 0; at < 6; at++) word[at] = va_arg(more, long);
  va_end(more);
  if (!next) next = dlsym(RTLD_NEXT, "syscall");
  long result = next(number, word[0], word[1], word[2], word[3], word[4], word[5]);
  return number == SYS_openat2 ? checked(result, *(unsigned long long *)word[2]) : result;
}

#define FOPENS(name)                                                                            \
  FILE *name(const char *path, const char *mode) {                                              \
    static FILE *(*next)(const char *, const char *);                                           \
    if (!next) next = dlsym(RTLD_NEXT, #name);                                                  \
    FILE *file = next(path, mode);                                                              \
    int flags = *mode != 'r' || strchr(mode, '+') ? O_RDWR : O_RDONLY;                          \
    if (!file || may_read(fileno(file), flags)) return file;                                    \
    fclose(file);                                                                               \
    errno = EPERM;                                                                              \
    return NULL;                                                                                \
  }

FOPENS(fopen)
FOPENS(fopen64)

DIR *fdopendir(int folder) {
  static DIR *(*next)(int);
  char buffer[8192];
  const char *path = seen(folder, buffer, sizeof buffer);
  if (!next) next = dlsym(RTLD_NEXT, "fdopendir");
  if (path && strcmp(path, "/nix/store")) return next(folder);
  errno = EPERM;
  return NULL;
}

DIR *opendir(const char *path) {
  int folder = open(path, O_RDONLY | O_NDELAY | O_DIRECTORY | O_CLOEXEC);
  DIR *list = folder < 0 ? NULL : fdopendir(folder);
  int cause = errno;
  if (folder >= 0 && !list) close(folder);
  errno = cause;
  return list;
}
