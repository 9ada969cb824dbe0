/* Library preloaded into Nix (LD_PRELOAD), so that a sandboxed build cannot change its inputs. Without build users, builds run
   as the store's user, and Nix bind-mounts each input into the sandbox unprotected: a build could chmod it and write to it.
   This library makes each such mount read-only. A build cannot undo that, even in its own user namespace, where the flag is
   locked (mount_namespaces(7)).

   Only these bind mounts stay writable, as Nix intends: the sandbox's root and store, which are bound to themselves; the
   build's folder; /dev, /proc and /sys. A mount that cannot be made read-only is undone and fails.

   READONLY_EXCEPT   folder that contains the folders of builds (Nix' setting build-dir) */
#define _GNU_SOURCE
#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static char builds[4096];

static char *find(const char *name) {
  size_t length = strlen(name);
  for (char **one = environ; one && *one; one++)
    if (!strncmp(*one, name, length) && (*one)[length] == '=') return *one + length + 1;
  return NULL;
}

/* The first getenv() of Nix (for its settings) removes this library's own variables: a build may read Nix' variables by name
   (impureEnvVars), and programs that Nix starts do not need the library. */
char *getenv(const char *name) {
  static int began;
  if (!began++) {
    const char *except = find("READONLY_EXCEPT");
    if (except && strlen(except) < sizeof builds) strcpy(builds, except);
    unsetenv("READONLY_EXCEPT");
    unsetenv("LD_PRELOAD");
  }
  return find(name);
}

static int below(const char *path, const char *folder) {
  size_t length = strlen(folder);
  return length && !strncmp(path, folder, length) && (!path[length] || path[length] == '/');
}

static int stays_writable(const char *source, const char *target) {
  return !strcmp(source, target) || below(source, builds) || below(source, "/dev") || below(source, "/proc") ||
         below(source, "/sys");
}

/* Remounts read-only and keeps the mount's flags: a user namespace may not clear flags that it has not set. */
static int protect(const char *target) {
  static const unsigned long flags[][2] = {{ST_NOSUID, MS_NOSUID},         {ST_NODEV, MS_NODEV},
                                           {ST_NOEXEC, MS_NOEXEC},         {ST_NOATIME, MS_NOATIME},
                                           {ST_NODIRATIME, MS_NODIRATIME}, {ST_RELATIME, MS_RELATIME}};
  unsigned long wanted = MS_REMOUNT | MS_BIND | MS_RDONLY;
  struct statvfs found;
  if (statvfs(target, &found)) return -1;
  for (size_t at = 0; at < sizeof flags / sizeof *flags; at++)
    if (found.f_flag & flags[at][0]) wanted |= flags[at][1];
  return syscall(SYS_mount, NULL, target, NULL, wanted, NULL);
}

/* Protects mounts below `target`, which MS_REC has bound with it. The store has none. */
static int protect_inner(const char *target) {
  FILE *table = setmntent("/proc/self/mounts", "r");
  struct mntent *entry;
  int problem = table ? 0 : -1;
  while (!problem && (entry = getmntent(table)))
    if (strcmp(entry->mnt_dir, target) && below(entry->mnt_dir, target)) problem = protect(entry->mnt_dir);
  int cause = errno;
  if (table) endmntent(table);
  errno = cause;
  return problem;
}

int mount(const char *source, const char *target, const char *kind, unsigned long flags, const void *data) {
  int result = syscall(SYS_mount, source, target, kind, flags, data);
  if (result || !(flags & MS_BIND) || (flags & MS_REMOUNT) || stays_writable(source, target)) return result;
  if (!protect(target) && (below(source, "/nix/store") || !protect_inner(target))) return 0;
  int cause = errno;
  umount2(target, MNT_DETACH);
  errno = cause;
  return -1;
}
