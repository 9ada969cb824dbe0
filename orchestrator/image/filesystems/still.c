/* Library preloaded into mkfs.btrfs and mkfs.xfs (LD_PRELOAD): equal inputs give equal bytes, and files belong to root although
   the tool runs without root. The clock stands still, random numbers are fixed, folders are sorted, and holes, hard links and
   extended attributes are hidden.

   STILL_SEED    16 bytes as hex digits: seed of the tools' random identifiers
   STILL_OWNERS  a file of lines "UID GID PATH": paths that do not belong to root
   STILL_FILES   a file of lines "SOURCE PATH": opening PATH opens SOURCE, and lstat has its size
   STILL_SIZE    if set, the first nftw() finds nothing: mkfs.btrfs uses it to guess the size, which is given */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { STORE_TIME = 1 };

/* --- files that lie elsewhere ------------------------------------------------------------------------------------------ */

static char *read_table(const char *variable) {
  char *lines = NULL;
  size_t size = 0;
  const char *file = getenv(variable);
  FILE *table = file ? fopen(file, "r") : NULL;
  if (table && getdelim(&lines, &size, '\0', table) < 0) lines = NULL;
  if (table) fclose(table);
  return lines ? lines : "";
}

/* Returns the file with the content of `path`: its SOURCE in STILL_FILES, or `path`. */
static const char *content(const char *path) {
  static char *lines;
  static char source[4096];
  if (!getenv("STILL_FILES")) return path;
  if (!lines) lines = read_table("STILL_FILES");
  for (char *line = lines, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
    char *blank = memchr(line, ' ', end - line);
    if (!blank || (size_t)(blank - line) >= sizeof source) continue;
    if (strlen(path) != (size_t)(end - blank - 1) || strncmp(path, blank + 1, end - blank - 1)) continue;
    memcpy(source, line, blank - line);
    source[blank - line] = 0;
    return source;
  }
  return path;
}

/* open(2) has a third argument only if the flags may create a file. */
int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return openat(AT_FDCWD, content(path), flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return openat(AT_FDCWD, content(path), flags | O_LARGEFILE, mode);
}

/* --- owners and times ------------------------------------------------------------------------------------------------ */

static void own(const char *path, struct stat *status) {
  static char *lines;
  status->st_uid = status->st_gid = 0;
  if (!getenv("STILL_OWNERS")) return;
  if (!lines) lines = read_table("STILL_OWNERS");
  for (char *line = lines; *line;) {
    char *end = strchr(line, '\n'), *rest;
    if (!end) break;
    unsigned long user = strtoul(line, &rest, 10), group = strtoul(rest, &rest, 10);
    size_t length = end - rest - 1;
    if (strlen(path) == length && !strncmp(path, rest + 1, length)) {
      status->st_uid = user;
      status->st_gid = group;
      return;
    }
    line = end + 1;
  }
}

int lstat(const char *path, struct stat *status) {
  int result = fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
  if (result || S_ISBLK(status->st_mode) || S_ISCHR(status->st_mode)) return result;
  own(path, status);
  if (S_ISREG(status->st_mode) && content(path) != path) {
    struct stat other;
    if (fstatat(AT_FDCWD, content(path), &other, 0)) return -1;
    status->st_size = other.st_size;
  }
  status->st_atim.tv_sec = status->st_mtim.tv_sec = status->st_ctim.tv_sec = STORE_TIME;
  status->st_atim.tv_nsec = status->st_mtim.tv_nsec = status->st_ctim.tv_nsec = 0;
  /* Hides hard links: Nix may or may not have merged equal files, and the image must not depend on that. */
  if (!S_ISDIR(status->st_mode)) status->st_nlink = 1;
  else status->st_size = 4096;
  return 0;
}

int lstat64(const char *path, struct stat64 *status) { return lstat(path, (struct stat *)status); }

time_t time(time_t *target) {
  if (target) *target = STORE_TIME;
  return STORE_TIME;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  now->tv_sec = STORE_TIME;
  now->tv_usec = 0;
  return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (clock == CLOCK_REALTIME) {
    now->tv_sec = STORE_TIME;
    now->tv_nsec = 0;
    return 0;
  }
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  return real(clock, now);
}

/* --- identifiers ------------------------------------------------------------------------------------------------------ */

static void seed(unsigned char *bytes) {
  const char *text = getenv("STILL_SEED");
  memset(bytes, 0, 16);
  for (int at = 0; text && at < 16 && text[2 * at] && text[2 * at + 1]; at++) {
    char pair[3] = {text[2 * at], text[2 * at + 1], 0};
    bytes[at] = strtoul(pair, NULL, 16);
  }
}

ssize_t getrandom(void *target, size_t size, unsigned flags) {
  unsigned char bytes[16];
  (void)flags;
  seed(bytes);
  for (size_t at = 0; at < size; at++) ((unsigned char *)target)[at] = bytes[at % 16];
  return size;
}

void uuid_generate(unsigned char *target) {
  static unsigned char count;
  seed(target);
  target[15] ^= ++count;
  target[6] = (target[6] & 0x0f) | 0x40; /* a random UUID has version 4 and variant 10 (RFC 9562) */
  target[8] = (target[8] & 0x3f) | 0x80;
}

/* --- folders, holes and attributes ------------------------------------------------------------------------------------ */

typedef int (*visitor)(const char *, const struct stat *, int, struct FTW *);

static int by_name(const void *one, const void *other) { return strcmp(*(char **)one, *(char **)other); }

static int walk(const char *path, visitor visit, int level, int base) {
  struct stat status;
  struct FTW place = {base, level};
  if (lstat(path, &status)) return visit(path, &status, FTW_NS, &place);
  int kind = S_ISDIR(status.st_mode) ? FTW_D : S_ISLNK(status.st_mode) ? FTW_SL : FTW_F;
  char **names = NULL;
  size_t count = 0, room = 0;
  if (kind == FTW_D) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    if (!folder) return visit(path, &status, FTW_DNR, &place);
    while ((entry = readdir(folder))) {
      if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
      if (count == room && !(names = realloc(names, (room = room ? 2 * room : 64) * sizeof *names))) abort();
      if (!(names[count++] = strdup(entry->d_name))) abort();
    }
    closedir(folder);
    if (count) qsort(names, count, sizeof *names, by_name);
  }
  int result = visit(path, &status, kind, &place);
  for (size_t at = 0; at < count; at++) {
    char *inner;
    if (!result) {
      if (asprintf(&inner, "%s/%s", path, names[at]) < 0) abort();
      result = walk(inner, visit, level + 1, strlen(path) + 1);
      free(inner);
    }
    free(names[at]);
  }
  free(names);
  return result;
}

int nftw(const char *path, visitor visit, int descriptors, int flags) {
  static int walked;
  const char *name = strrchr(path, '/');
  (void)descriptors;
  (void)flags; /* both tools ask nftw not to follow links */
  if (!walked++ && getenv("STILL_SIZE")) return 0;
  return walk(path, visit, 0, name ? name + 1 - path : 0);
}

int nftw64(const char *path, int (*visit)(const char *, const struct stat64 *, int, struct FTW *), int descriptors,
           int flags) {
  return nftw(path, (visitor)visit, descriptors, flags);
}

off_t lseek(int file, off_t offset, int from) {
  static off_t (*real)(int, off_t, int);
  if (!real) real = dlsym(RTLD_NEXT, "lseek");
  if (from != SEEK_DATA && from != SEEK_HOLE) return real(file, offset, from);
  struct stat status;
  if (fstat(file, &status)) return -1;
  if (offset >= status.st_size) {
    errno = ENXIO;
    return -1;
  }
  return from == SEEK_DATA ? offset : status.st_size;
}

off64_t lseek64(int file, off64_t offset, int from) { return lseek(file, offset, from); }

ssize_t llistxattr(const char *path, char *list, size_t size) {
  (void)path, (void)list, (void)size;
  return 0;
}

ssize_t flistxattr(int file, char *list, size_t size) {
  (void)file, (void)list, (void)size;
  return 0;
}
