/* Preloaded: lets the chosen call that changes files below a folder fail, as the system does on a broken disk. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long *calls; /* Shared with the process that asked: how many there were. */
static long first, last;
static int error;

/* From the first-th to the last-th call fails with this error; none where first is 0. */
void fail(const char *below, long *counter, long from, long to, int number) {
    snprintf(folder, sizeof folder, "%s/", below);
    calls = counter;
    first = from;
    last = to;
    error = number;
}

static int fails(const char *path) {
    if (!calls || !path)
        return 0;
    char whole[8192];
    if (path[0] != '/') {
        char here[4096];
        if (!getcwd(here, sizeof here))
            return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    if (strncmp(path, folder, strlen(folder)))
        return 0;
    long call = ++*calls;
    if (!first || call < first || call > last)
        return 0;
    errno = error;
    return 1;
}

static int fails_at(int descriptor) {
    if (!calls || (fcntl(descriptor, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int descriptor, const void *bytes, size_t count) {
    return fails_at(descriptor) ? -1 : REAL(write)(descriptor, bytes, count);
}

int fsync(int descriptor) { return fails_at(descriptor) ? -1 : REAL(fsync)(descriptor); }

int close(int descriptor) {
    int failed = fails_at(descriptor);
    int result = REAL(close)(descriptor); /* The descriptor is gone in either case. */
    if (!failed)
        return result;
    errno = error;
    return -1;
}

int rename(const char *from, const char *to) { return fails(to) ? -1 : REAL(rename)(from, to); }

int link(const char *from, const char *to) { return fails(to) ? -1 : REAL(link)(from, to); }

int linkat(int base, const char *from, int other, const char *to, int flags) {
    return fails(to) ? -1 : REAL(linkat)(base, from, other, to, flags);
}

int mkdir(const char *path, mode_t mode) { return fails(path) ? -1 : REAL(mkdir)(path, mode); }

static int opened(const char *path, int flags, mode_t mode) {
    return (flags & O_ACCMODE) != O_RDONLY && fails(path) ? -1 : REAL(open)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(path, flags | O_LARGEFILE, mode);
}
