/* LD_PRELOAD: a file whose name ends with disk.img behaves like a broken disk. FAULT says how, and from which byte on:
   write:N   a write error      short:N   the disk ends there      flip:N   that byte reads back differently
   gone:N    pulled out when N is written: from then on every call fails
   late:0    written data is lost at the end: fsync fails      busy:0    it is mounted, and cannot be opened */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int gone;

static off_t fault(const char *kind)
{
    const char *told = getenv("FAULT");
    size_t length = strlen(kind);
    return told && !strncmp(told, kind, length) && told[length] == ':' ? atoll(told + length + 1) : -1;
}

static int is_disk_name(const char *name)
{
    size_t length = strlen(name);
    return length >= 8 && !strcmp(name + length - 8, "disk.img");
}

static int is_disk(int file)
{
    char link[64], name[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    return readlink(link, name, sizeof name - 1) > 0 && is_disk_name(name);
}

static ssize_t fails(int number) { errno = number; return -1; }

typedef ssize_t call(int, const struct iovec *, int, off_t, int);

/* put, get: Python calls pwritev2 and preadv2 */
static ssize_t put(const char *symbol, int file, const struct iovec *pieces, int count, off_t offset, int flags)
{
    call *real = (call *)dlsym(RTLD_NEXT, symbol);
    off_t end = offset + (off_t)pieces[0].iov_len, at;
    struct iovec cut = pieces[0];
    if (!is_disk(file)) return real(file, pieces, count, offset, flags);
    if (gone || ((at = fault("gone")) >= 0 && end > at)) { gone = 1; return fails(EIO); }
    if ((at = fault("write")) >= 0 && end > at && at >= offset) return fails(EIO);
    if ((at = fault("short")) >= 0 && end > at) {
        if (offset >= at) return fails(ENOSPC);
        cut.iov_len = at - offset;
        return real(file, &cut, 1, offset, flags);
    }
    return real(file, pieces, count, offset, flags);
}

static ssize_t get(const char *symbol, int file, const struct iovec *pieces, int count, off_t offset, int flags)
{
    call *real = (call *)dlsym(RTLD_NEXT, symbol);
    ssize_t done;
    off_t at = fault("flip");
    if (is_disk(file) && gone) return fails(EIO);
    done = real(file, pieces, count, offset, flags);
    if (is_disk(file) && at >= offset && at < offset + done) ((char *)pieces[0].iov_base)[at - offset] ^= 1;
    return done;
}

ssize_t pwritev2(int f, const struct iovec *p, int c, off_t o, int m) { return put("pwritev2", f, p, c, o, m); }
ssize_t pwritev64v2(int f, const struct iovec *p, int c, off_t o, int m) { return put("pwritev64v2", f, p, c, o, m); }
ssize_t preadv2(int f, const struct iovec *p, int c, off_t o, int m) { return get("preadv2", f, p, c, o, m); }
ssize_t preadv64v2(int f, const struct iovec *p, int c, off_t o, int m) { return get("preadv64v2", f, p, c, o, m); }

int fsync(int file)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    if (is_disk(file) && (gone || fault("late") >= 0)) return fails(EIO);
    return real(file);
}

static int opened(const char *symbol, const char *name, int flags, mode_t mode)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, symbol);
    if (is_disk_name(name) && gone) return fails(ENXIO);
    if (is_disk_name(name) && fault("busy") >= 0 && (flags & O_ACCMODE) == O_RDWR) return fails(EBUSY);
    return real(name, flags, mode);
}

int open(const char *name, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return opened("open", name, flags, mode);
}

int open64(const char *name, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return opened("open64", name, flags, mode);
}
