/* A library that Nix is started with (LD_PRELOAD), so that a sandboxed build cannot change what it is built from. Without
   build users the store belongs to the user of the builds, too, and Nix binds each input into the sandbox as it is: a
   build could make it writable and write. Here each such mount becomes read-only. That a build cannot undo, not in a user
   namespace of its own either: there the flag is locked (mount_namespaces(7)).

   What is bound stays writable only where Nix means it to be: the sandbox's root and store, which are bound to themselves;
   the folder that the build works in; devices and what else the kernel makes. A mount that cannot be made read-only is
   undone and fails.

   READONLY_EXCEPT   the folder below which Nix makes those that builds work in (its setting build-dir) */
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

/* What this library is started with is taken away as soon as Nix asks for any variable, as for its settings (NIX_CONFIG): a
   build may ask for variables of Nix by their names (impureEnvVars), and other programs that Nix starts need none of it. */
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

/* The flags that a mount has are asked for again: a user namespace may not take away what it has not given. */
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

/* Mounts below `target` came with it (MS_REC). The store has none. */
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
