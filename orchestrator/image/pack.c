/* Reads store paths once and makes two things of them: a tar stream, as GNU tar would write a pristine Nix store, and the Nix
   archive hash of each path. So the content of an image is what was hashed.

     Usage: pack DESCRIPTOR [FOLDER/ [CONTENT/]] < PATHS

   PATHS each end with a zero byte. DESCRIPTOR gets a record "SHA-256 BYTES PATH\0" for each path: hash and size of its Nix
   archive (NAR: "Nix Archive" in Nix' manual). With FOLDER/, which must be a prefix of all paths, the tar stream goes to
   stdout, with names relative to FOLDER/; without it there is no tar stream. With CONTENT/, what a file has in it is read from
   the file of the same name below CONTENT/; folders, links, and who may execute a file are those of FOLDER/.

   Everything in the stream belongs to root, has the store's time and one of the three modes that Nix gives, whatever the
   files in the store have: the Nix archive's hash does not cover them. Hard links are not kept, because Nix may or may not
   have merged equal files. The stream's format is POSIX.1-2001 ("pax"). */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STORE_TIME = 1, RECORD = 512, PIECE = 128 << 10, PIECES = 8, PIPE = 1 << 20, DIGEST = 32 };

static char path[1 << 16]; /* path that is being read: for messages and for names in the stream */
static size_t prefix;      /* length of FOLDER/, which names in the stream do not have */
static int streams;
static const char *content; /* CONTENT/, or NULL */

/* Ends the process with a message. Only the first of two threads that fail has the word. exit() would take OpenSSL down while
   the other thread computes, which would then fail, too. */
static void fail(const char *format, ...) {
  static pthread_mutex_t word = PTHREAD_MUTEX_INITIALIZER;
  va_list more;
  pthread_mutex_lock(&word);
  va_start(more, format);
  vfprintf(stderr, format, more);
  va_end(more);
  fputc('\n', stderr);
  _exit(1);
}

static void fail_at_path(void) { fail("%s: %s", path, strerror(errno)); }

/* --- what goes out ----------------------------------------------------------------------------------------------------- */

static void write_all(int file, const char *bytes, size_t size) {
  while (size) {
    ssize_t now = write(file, bytes, size);
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) fail("cannot write: %s", strerror(errno));
    bytes += now, size -= now;
  }
}

static char stream[PIECE];
static size_t streamed;

static void flush_stream(void) {
  write_all(STDOUT_FILENO, stream, streamed);
  streamed = 0;
}

static void put_stream(const void *bytes, size_t size) {
  if (!streams) return;
  if (streamed + size > sizeof stream) flush_stream();
  if (size > sizeof stream / 4) { /* large pieces are written without a copy */
    flush_stream();
    write_all(STDOUT_FILENO, bytes, size);
    return;
  }
  memcpy(stream + streamed, bytes, size);
  streamed += size;
}

/* Ring of archive pieces for the hashing thread: one piece is filled while others wait. */
static struct piece {
  char bytes[PIECE], *path; /* the archive's path, set in its last piece */
  size_t size;
  uint64_t archive_bytes;
} pieces[PIECES], *piece = pieces;
static sem_t free_pieces, full_pieces;
static uint64_t archive_bytes;
static int lines;

static void *hash_pieces(void *unused) {
  unsigned char digest[DIGEST];
  EVP_MD_CTX *hash = EVP_MD_CTX_new();
  (void)unused;
  if (!hash || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) fail("cannot compute SHA-256");
  for (struct piece *one = pieces;; one = one + 1 < pieces + PIECES ? one + 1 : pieces) {
    while (sem_wait(&full_pieces)) {}
    if (!one->size) return NULL;
    if (!EVP_DigestUpdate(hash, one->bytes, one->size)) fail("cannot compute SHA-256");
    if (one->path) {
      if (!EVP_DigestFinal_ex(hash, digest, NULL) || !EVP_DigestInit_ex(hash, EVP_sha256(), NULL)) fail("cannot compute SHA-256");
      for (int at = 0; at < DIGEST; at++) dprintf(lines, "%02x", digest[at]);
      dprintf(lines, " %llu %s", (unsigned long long)one->archive_bytes, one->path);
      write_all(lines, "", 1);
      free(one->path);
    }
    one->path = NULL;
    one->size = 0;
    sem_post(&free_pieces);
  }
}

static void send_piece(void) {
  sem_post(&full_pieces);
  piece = piece + 1 < pieces + PIECES ? piece + 1 : pieces;
  while (sem_wait(&free_pieces)) {}
}

static void end_archive(void) {
  if (!(piece->path = strdup(path))) fail("no memory");
  piece->archive_bytes = archive_bytes;
  archive_bytes = 0;
  send_piece();
}

/* Returns free space in the current piece, at least one byte; `size` gets its size. */
static char *archive_room(size_t *size) {
  if (piece->size == PIECE) send_piece();
  *size = PIECE - piece->size;
  return piece->bytes + piece->size;
}

static void archive_put(size_t size) {
  piece->size += size;
  archive_bytes += size;
}

static void put_archive(const void *bytes, size_t size) {
  for (size_t room; size; size -= room, bytes = (const char *)bytes + room) {
    char *target = archive_room(&room);
    if (room > size) room = size;
    memcpy(target, bytes, room);
    archive_put(room);
  }
}

/* --- the Nix archive --------------------------------------------------------------------------------------------------- */

static const char zeros[RECORD];

static void put_number(uint64_t number) {
  unsigned char bytes[8];
  for (int at = 0; at < 8; at++) bytes[at] = number >> 8 * at;
  put_archive(bytes, sizeof bytes);
}

static void put_padding(uint64_t size) { put_archive(zeros, -size % 8); }

static void put_string(const char *text) {
  size_t size = strlen(text);
  put_number(size);
  put_archive(text, size);
  put_padding(size);
}

static void put_strings(const char *text, ...) {
  va_list more;
  va_start(more, text);
  for (; text; text = va_arg(more, const char *)) put_string(text);
  va_end(more);
}

/* --- the tar stream ---------------------------------------------------------------------------------------------------- */

/* Header of a file in the tar stream: pax(1), "ustar Interchange Format". */
struct header {
  char name[100], mode[8], user[8], group[8], size[12], time[12], sum[8], kind, target[100];
  char magic[6], version[2], user_name[32], group_name[32], major[8], minor[8], prefix[155], rest[12];
};

static void put_header(struct header *header, char kind, unsigned mode, uint64_t size) {
  unsigned sum = 0;
  memcpy(header->magic, "ustar", 6);
  memcpy(header->version, "00", 2);
  sprintf(header->mode, "%07o", mode);
  sprintf(header->user, "%07o", 0);
  sprintf(header->group, "%07o", 0);
  sprintf(header->size, "%011llo", size >> 33 ? 0ULL : (unsigned long long)size);
  sprintf(header->time, "%011o", STORE_TIME);
  header->kind = kind;
  memset(header->sum, ' ', sizeof header->sum);
  for (size_t at = 0; at < sizeof *header; at++) sum += ((unsigned char *)header)[at];
  sprintf(header->sum, "%06o", sum);
  put_stream(header, sizeof *header);
}

/* Writes a pax record "LENGTH KEY=VALUE\n"; LENGTH counts its own digits. */
static size_t extend(char *target, const char *key, const char *value) {
  size_t rest = strlen(key) + strlen(value) + 3, size = rest + 1;
  while (rest + snprintf(NULL, 0, "%zu", size) > size) size++;
  return sprintf(target, "%zu %s=%s\n", size, key, value);
}

/* Stores `name` in the header, split at a slash if it is long; returns 0 if it does not fit. */
static int put_name(struct header *header, const char *name) {
  size_t length = strlen(name);
  if (length <= sizeof header->name) {
    memcpy(header->name, name, length);
    return 1;
  }
  for (size_t at = length - sizeof header->name - 1; at <= sizeof header->prefix && at + 1 < length; at++)
    if (at && name[at] == '/') {
      memcpy(header->prefix, name, at);
      memcpy(header->name, name + at + 1, length - at - 1);
      return 1;
    }
  return 0;
}

static void put_entry(char kind, unsigned mode, uint64_t size, const char *target) {
  static char name[sizeof path + 1], records[4 * sizeof path];
  struct header header = {0};
  size_t extended = 0;
  if (!streams) return;
  sprintf(name, "%s%s", path + prefix, kind == '5' ? "/" : "");
  if (!put_name(&header, name)) {
    memcpy(header.name, name, sizeof header.name);
    extended += extend(records + extended, "path", name);
  }
  /* A long target begins in the header, too. With an empty field there, libarchive 3.7 has no target for the first link of a
     stream, and mke2fs crashes. */
  size_t length = strlen(target);
  memcpy(header.target, target, length < sizeof header.target ? length : sizeof header.target);
  if (length > sizeof header.target) extended += extend(records + extended, "linkpath", target);
  if (size >> 33) {
    char digits[24];
    sprintf(digits, "%llu", (unsigned long long)size);
    extended += extend(records + extended, "size", digits);
  }
  if (extended) {
    struct header more = {"././@PaxHeader"};
    put_header(&more, 'x', 0644, extended);
    put_stream(records, extended);
    put_stream(zeros, -extended % RECORD);
  }
  put_header(&header, kind, mode, size);
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

static void pack_file(int folder, const char *name, int executable) {
  static char source[2 * sizeof path];
  struct stat status;
  if (content) {
    snprintf(source, sizeof source, "%s%s", content, path + prefix);
    folder = AT_FDCWD;
    name = source;
  }
  /* O_NONBLOCK: a pipe that has replaced the file since stat must not block. */
  int file = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0 || fstat(file, &status)) fail_at_path();
  if (!S_ISREG(status.st_mode)) fail("%s: is not a regular file any more", path);
  uint64_t size = status.st_size, left = size;
  put_entry('0', executable ? 0555 : 0444, size, "");
  put_strings("(", "type", "regular", NULL);
  if (executable) put_strings("executable", "", NULL);
  put_string("contents");
  put_number(size);
  while (left) {
    size_t room;
    char *bytes = archive_room(&room);
    ssize_t now = read(file, bytes, left < room ? left : room);
    if (now < 0 && errno == EINTR) continue;
    if (now < 0) fail_at_path();
    if (!now) fail("%s: became shorter while it was read", path);
    put_stream(bytes, now);
    archive_put(now);
    left -= now;
  }
  close(file);
  put_stream(zeros, -size % RECORD);
  put_padding(size);
  put_string(")");
}

static void pack_link(int folder, const char *name) {
  static char target[sizeof path];
  ssize_t size = readlinkat(folder, name, target, sizeof target - 1);
  if (size < 0) fail_at_path();
  target[size] = 0;
  put_entry('2', 0777, 0, target);
  put_strings("(", "type", "symlink", "target", target, ")", NULL);
}

static int by_name(const void *one, const void *other) { return strcmp(*(char **)one, *(char **)other); }

static char **names_in(int folder, size_t *count) {
  char **names = NULL;
  size_t room = *count = 0;
  struct dirent *entry;
  int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *list = copy < 0 ? NULL : fdopendir(copy);
  if (!list) fail_at_path();
  while (errno = 0, entry = readdir(list)) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    if (*count == room && !(names = realloc(names, (room = room ? 2 * room : 64) * sizeof *names))) fail("no memory");
    if (!(names[(*count)++] = strdup(entry->d_name))) fail("no memory");
  }
  if (errno) fail_at_path();
  closedir(list);
  if (*count) qsort(names, *count, sizeof *names, by_name);
  return names;
}

static void pack_path(int folder, const char *name);

static void pack_folder(int above, const char *name) {
  size_t count, length = strlen(path);
  int folder = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) fail_at_path();
  char **names = names_in(folder, &count);
  put_entry('5', 0555, 0, "");
  put_strings("(", "type", "directory", NULL);
  for (size_t at = 0; at < count; at++) {
    if (length + strlen(names[at]) + 2 > sizeof path) fail("%s: a name below is too long", path);
    sprintf(path + length, "/%s", names[at]);
    put_strings("entry", "(", "name", names[at], "node", NULL);
    pack_path(folder, names[at]);
    put_string(")");
    path[length] = 0;
    free(names[at]);
  }
  free(names);
  close(folder);
  put_string(")");
}

static void pack_path(int folder, const char *name) {
  struct stat status;
  if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW)) fail_at_path();
  if (S_ISREG(status.st_mode)) pack_file(folder, name, status.st_mode & S_IXUSR);
  else if (S_ISLNK(status.st_mode)) pack_link(folder, name);
  else if (S_ISDIR(status.st_mode)) pack_folder(folder, name);
  else fail("%s: is not a file, folder or link", path);
}

int main(int count, char **words) {
  static char *given;
  size_t room = 0;
  ssize_t length;
  pthread_t hasher;
  if (count < 2 || count > 4) fail("usage: pack DESCRIPTOR [FOLDER/ [CONTENT/]] < PATHS (pack.c explains the arguments)");
  lines = atoi(words[1]);
  streams = count > 2;
  content = count > 3 ? words[3] : NULL;
  prefix = streams ? strlen(words[2]) : 0;
  signal(SIGPIPE, SIG_IGN); /* a broken pipe becomes a write error */
  if (streams) fcntl(STDOUT_FILENO, F_SETPIPE_SZ, PIPE); /* the largest pipe buffer without privileges; fails for a file */
  sem_init(&free_pieces, 0, PIECES - 1);
  sem_init(&full_pieces, 0, 0);
  if (pthread_create(&hasher, NULL, hash_pieces, NULL)) fail("cannot start a thread");
  while ((length = getdelim(&given, &room, 0, stdin)) > 0) {
    if ((size_t)length >= sizeof path || (streams && strncmp(given, words[2], prefix))) fail("%s: is too long a path, or not below FOLDER/", given);
    strcpy(path, given);
    put_string("nix-archive-1");
    pack_path(AT_FDCWD, path);
    end_archive();
  }
  if (ferror(stdin)) fail("cannot read the paths");
  for (int at = 0; at < 2; at++) put_stream(zeros, sizeof zeros);
  flush_stream();
  send_piece(); /* an empty piece ends the hashing thread */
  pthread_join(hasher, NULL);
  return 0;
}
