/* Library preloaded into mkfs.btrfs and mkfs.xfs (LD_PRELOAD): equal inputs give equal bytes, and files belong to root although
   the tool runs without root. The clock stands still, random numbers are fixed, folders are sorted, and holes, hard links and
   extended attributes are hidden. The content of files comes from a tar stream on stdin, not from the files, which are empty:
   nobody can change what was hashed (pack.c) before the tool reads it.

   STILL_SEED    16 bytes as hex digits: seed of the tools' random identifiers
   STILL_OWNERS  a file of lines "UID GID PATH": paths that do not belong to root
   STILL_ROOT    folder, with a slash at its end, whose files' content comes from the stream, in the order of a sorted walk
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

/* --- owners and times ------------------------------------------------------------------------------------------------ */

static char *read_table(const char *variable) {
  char *lines = NULL;
  size_t size = 0;
  const char *file = getenv(variable);
  FILE *table = file ? fopen(file, "r") : NULL;
  if (table && getdelim(&lines, &size, '\0', table) < 0) lines = NULL;
  if (table) fclose(table);
  return lines ? lines : "";
}

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

/* --- content of files ------------------------------------------------------------------------------------------------- */

enum { RECORD = 512, NAME = 1 << 16 };

/* The file that the tool reads now, and the next one in the stream, whose header has been read already. */
static struct file {
  char name[NAME];
  size_t size, at;
} files[2], *now = files, *ahead = files + 1;
static int source = -1; /* descriptor by which the tool reads `now` */

static void fail(const char *why) {
  fprintf(stderr, "%s: %s\n", now->name, why);
  _exit(1);
}

static char buffer[1 << 17];
static size_t buffered, used;

static ssize_t read_stream(void *target, size_t size) {
  ssize_t got;
  while ((got = read(STDIN_FILENO, target, size)) < 0 && errno == EINTR) {}
  if (got < 0) fail(strerror(errno));
  return got;
}

/* Returns 0 at the stream's end. */
static int more(void) {
  if (used == buffered) {
    buffered = read_stream(buffer, sizeof buffer);
    used = 0;
  }
  return buffered > 0;
}

static void take(char *target, size_t size) {
  for (size_t part; size; size -= part, target += part) {
    if (used == buffered && size >= sizeof buffer) part = read_stream(target, size); /* a large piece needs no copy */
    else {
      part = !more() ? 0 : buffered - used < size ? buffered - used : size;
      memcpy(target, buffer + used, part);
      used += part;
    }
    if (!part) fail("the stream of the files' content ends too early");
  }
}

/* Gets the value of `key` from pax records "LENGTH KEY=VALUE\n"; returns 0 if there is none. */
static int record(const char *records, const char *end, const char *key, char *value, size_t room) {
  size_t length, letters = strlen(key);
  for (const char *at = records; at < end; at += length) {
    char *word;
    length = strtoul(at, &word, 10);
    const char *text = word + 1 + letters + 1;
    if (!length || length > (size_t)(end - at)) fail("a header in the stream of the files' content is wrong");
    if (text >= at + length || strncmp(word + 1, key, letters) || text[-1] != '=') continue;
    size_t size = at + length - 1 - text;
    if (size >= room) fail("a header in the stream of the files' content is too long");
    memcpy(value, text, size);
    value[size] = 0;
    return 1;
  }
  return 0;
}

/* Reads on to the header of the next file. After the last one reads to the end of the stream, so that its writer does not find
   a broken pipe. */
static void look_ahead(void) {
  static char header[RECORD], zeros[RECORD], records[4 * NAME];
  size_t extended = 0;
  ahead->name[0] = 0;
  while (more()) {
    char digits[24] = "";
    take(header, RECORD);
    if (!memcmp(header, zeros, RECORD)) continue; /* the end of one of several archives */
    if (memcmp(header + 257, "ustar", 5)) fail("no header follows in the stream of the files' content");
    memcpy(digits, header + 124, 12);
    size_t size = strtoull(digits, NULL, 8);
    if (header[156] == 'x') {
      if (size > sizeof records - RECORD) fail("a header in the stream of the files' content is too long");
      take(records, size + -size % RECORD);
      records[extended = size] = 0;
      continue;
    }
    if (header[156] == '0') {
      if (!record(records, records + extended, "path", ahead->name, NAME))
        sprintf(ahead->name, header[345] ? "%.155s/%.100s" : "%.0s%.100s", header + 345, header);
      ahead->at = 0;
      ahead->size = record(records, records + extended, "size", digits, sizeof digits) ? strtoull(digits, NULL, 10) : size;
      return;
    }
    extended = 0;
  }
}

/* Tells whether the tool's `path` names the file `name` of the stream. A prototype of mkfs.xfs has a question mark for a blank. */
static int names(const char *path, const char *name) {
  for (; *path && *name; path++, name++)
    if (*path != *name && !(*path == '?' && strchr(" \t\n\v\f\r", *name))) return 0;
  return *path == *name;
}

/* Makes `now` the file `path` of the tree; returns 0 if `path` is not in the tree. */
static int reach(const char *path) {
  static int began;
  const char *root = getenv("STILL_ROOT");
  if (!root || strncmp(path, root, strlen(root))) return 0;
  path += strlen(root);
  if (!began++) look_ahead();
  if (names(path, now->name)) return 1;
  if (now->at != now->size) fail("was not read whole");
  if (!names(path, ahead->name)) {
    fprintf(stderr, "%s: is not what follows in the stream of the files' content: %s\n", path, ahead->name);
    _exit(1);
  }
  struct file *last = now;
  now = ahead;
  ahead = last;
  if (!now->size) look_ahead();
  return 1;
}

static int open_content(void) { return source = openat(AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC); }

/* open(2) has a third argument only if the flags may create a file. */
int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return reach(path) ? open_content() : openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
  va_end(more);
  return reach(path) ? open_content() : openat(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int close(int file) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "close");
  if (file == source) source = -1;
  return real(file);
}

/* Both tools read a file once, from its beginning to its end. */
ssize_t pread(int file, void *target, size_t size, off_t offset) {
  static ssize_t (*real)(int, void *, size_t, off_t);
  if (!real) real = dlsym(RTLD_NEXT, "pread");
  if (file != source) return real(file, target, size, offset);
  if (offset != now->at) fail("is not read in the order of its bytes");
  if (size > now->size - now->at) size = now->size - now->at;
  if (!size) return 0;
  take(target, size);
  if ((now->at += size) == now->size) {
    char rest[RECORD];
    take(rest, -now->size % RECORD);
    look_ahead();
  }
  return size;
}

ssize_t pread64(int file, void *target, size_t size, off64_t offset) { return pread(file, target, size, offset); }

int fstat(int file, struct stat *status) {
  int result = fstatat(file, "", status, AT_EMPTY_PATH);
  if (result || file != source) return result;
  status->st_mode = S_IFREG | 0444;
  status->st_size = now->size;
  return 0;
}

int fstat64(int file, struct stat64 *status) { return fstat(file, (struct stat *)status); }

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
  if (kind == FTW_F && reach(path)) status.st_size = now->size;
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
