/* Preloaded into a process under test: logs what it writes below one folder, in the order the kernel got it, or refuses it.
 *
 * WRITELOG_ROOT   folder whose files are watched
 * WRITELOG_LOG    where the log goes (outside of that folder); unset: no log
 * WRITELOG_FAULT  "n:errno": the n-th watched write or sync (from 1) and the two after it fail
 *
 * A record is | kind u8 | path length u16 | offset u64 | data length u32 | path | data |, integers in host order.
 * Kinds: W write, T truncate (offset: the new size), S sync, C create, R rename (data: the new path), U unlink, M mkdir.
 * One lock is held over each call and its record, so the log's order is the kernel's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static long fault_at, fault_errno, watched;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_mkdir)(const char *, mode_t);

static void *symbol(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
    real_write = symbol("write");
    real_pwrite = symbol("pwrite64");
    real_fsync = symbol("fsync");
    real_fdatasync = symbol("fdatasync");
    real_ftruncate = symbol("ftruncate64");
    real_open = symbol("open64");
    real_openat = symbol("openat64");
    real_rename = symbol("rename");
    real_unlink = symbol("unlink");
    real_mkdir = symbol("mkdir");
    const char *folder = getenv("WRITELOG_ROOT"), *file = getenv("WRITELOG_LOG"), *fault = getenv("WRITELOG_FAULT");
    if (folder && realpath(folder, root)) root_length = strlen(root);
    if (file) log_fd = real_open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fault) sscanf(fault, "%ld:%ld", &fault_at, &fault_errno);
}

/* The path below the root, or NULL. */
static const char *below(const char *path) {
    if (!root_length || strncmp(path, root, root_length) || path[root_length] != '/') return NULL;
    return path + root_length + 1;
}

static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    if (length <= 0) return NULL;
    buffer[length] = 0;
    return below(buffer);
}

static void record(char kind, const char *path, uint64_t offset, const void *data, uint32_t length) {
    if (log_fd < 0) return;
    uint16_t path_length = strlen(path);
    char head[15];
    head[0] = kind;
    memcpy(head + 1, &path_length, 2);
    memcpy(head + 3, &offset, 8);
    memcpy(head + 11, &length, 4);
    real_write(log_fd, head, sizeof head);
    real_write(log_fd, path, path_length);
    if (length) real_write(log_fd, data, length);
}

/* Whether this watched call is to fail; called under the lock. */
static int refused(void) {
    watched++;
    if (!fault_at || watched < fault_at || watched > fault_at + 2) return 0;
    errno = fault_errno;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size) {
    char buffer[PATH_MAX];
    int kept = errno;
    const char *path = fd > 2 ? path_of(fd, buffer) : NULL;
    errno = kept;
    if (!path) return real_write(fd, data, size);
    pthread_mutex_lock(&lock);
    ssize_t done = refused() ? -1 : real_write(fd, data, size);
    if (done > 0) record('W', path, lseek(fd, 0, SEEK_CUR) - done, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

static ssize_t watched_pwrite(int fd, const void *data, size_t size, off_t offset) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path) return real_pwrite(fd, data, size, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = refused() ? -1 : real_pwrite(fd, data, size, offset);
    if (done > 0) record('W', path, offset, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return watched_pwrite(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return watched_pwrite(fd, data, size, offset); }

static int watched_sync(int fd, int (*real)(int)) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path && !(root_length && !strcmp(buffer, root))) return real(fd);
    pthread_mutex_lock(&lock);
    int done = refused() ? -1 : real(fd);
    if (!done) record('S', path ? path : "", 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int fsync(int fd) { return watched_sync(fd, real_fsync); }
int fdatasync(int fd) { return watched_sync(fd, real_fdatasync); }

static int watched_truncate(int fd, off_t size) {
    char buffer[PATH_MAX];
    const char *path = path_of(fd, buffer);
    if (!path) return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    int done = real_ftruncate(fd, size);
    if (!done) record('T', path, size, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t size) { return watched_truncate(fd, size); }
int ftruncate64(int fd, off_t size) { return watched_truncate(fd, size); }

static int watched_open(const char *path, int flags, mode_t mode) {
    const char *inside = (flags & (O_CREAT | O_TRUNC)) && (flags & O_ACCMODE) != O_RDONLY ? below(path) : NULL;
    if (!inside) return real_open(path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat found;
    int there = !stat(path, &found);
    int fd = real_open(path, flags, mode);
    if (fd >= 0 && !there) record('C', inside, 0, NULL, 0);
    if (fd >= 0 && there && (flags & O_TRUNC)) record('T', inside, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}
static mode_t mode_of(int flags, va_list rest) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; }
#define OPENS(name)                                 \
    int name(const char *path, int flags, ...) {    \
        va_list rest;                               \
        va_start(rest, flags);                      \
        mode_t mode = mode_of(flags, rest);         \
        va_end(rest);                               \
        return watched_open(path, flags, mode);     \
    }
#undef open
#undef open64
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                              \
    int name(int folder, const char *path, int flags, ...) {        \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = mode_of(flags, rest);                         \
        va_end(rest);                                               \
        if (*path == '/') return watched_open(path, flags, mode);   \
        return real_openat(folder, path, flags, mode);              \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

int rename(const char *from, const char *to) {
    const char *path = below(from), *target = below(to);
    if (!path || !target) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int done = real_rename(from, to);
    if (!done) record('R', path, 0, target, strlen(target));
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *file) {
    const char *path = below(file);
    if (!path) return real_unlink(file);
    pthread_mutex_lock(&lock);
    int done = real_unlink(file);
    if (!done) record('U', path, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int mkdir(const char *folder, mode_t mode) {
    const char *path = below(folder);
    if (!path) return real_mkdir(folder, mode);
    pthread_mutex_lock(&lock);
    int done = real_mkdir(folder, mode);
    if (!done) record('M', path, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}
