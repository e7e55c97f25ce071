/*
 * Preloaded into a process, this stands between it and the files named data.mdb: it notes every write, sync and rename
 * in the file that CRASH_TRACE names, and makes one chosen call fail, as CRASH_FAULT or crash_fault() says:
 *
 *     w:17:EIO       the 17th write fails; s:3:EIO: the 3rd sync
 *     w:17:HALF      half of it is written, and the caller is told so
 *     w:17:TORN      half of it is written, and the process is killed
 *     w:17:KILL      the process is killed before it
 *
 * It makes system calls itself, so that nothing it stands before is called by it. 64-bit Linux.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* the order of the notes is the order of the calls */
static int trace = -1;
static char fault_kind, fault_how[8];
static long fault_left;

/* Set the next fault, or none. Returns whether the one before has not happened yet. */
int crash_fault(const char *what)
{
    int left = fault_kind != 0;
    fault_kind = 0;
    if (what && sscanf(what, "%c:%ld:%7s", &fault_kind, &fault_left, fault_how) != 3)
        abort();
    return left;
}

static void note(char kind, char synced, uint64_t at, const void *data, uint64_t size)
{
    struct __attribute__((packed)) { char kind, synced; uint64_t at, size; } head = {kind, synced, at, size};
    struct iovec both[] = {{&head, sizeof head}, {(void *)data, size}};
    if (trace >= 0 && syscall(SYS_writev, trace, both, 2) != (long)(sizeof head + size))
        abort(); /* half a trace proves nothing */
}

void crash_mark(const void *data, uint64_t size)
{
    pthread_mutex_lock(&turn);
    note('m', 0, 0, data, size);
    pthread_mutex_unlock(&turn);
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CRASH_TRACE");
    if (path && (trace = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
        abort();
    crash_fault(getenv("CRASH_FAULT"));
}

static int ours(int fd)
{
    char link[32], path[4096];
    int error = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path);
    errno = error;
    return size > 9 && memcmp(path + size - 9, "/data.mdb", 9) == 0;
}

/* What is to happen to this call; empty: nothing. */
static const char *fate(char kind)
{
    if (fault_kind != kind || --fault_left != 0)
        return "";
    fault_kind = 0;
    if (strcmp(fault_how, "KILL") == 0)
        syscall(SYS_kill, getpid(), SIGKILL);
    return fault_how;
}

static int failed(const char *how)
{
    errno = strcmp(how, "EIO") == 0 ? EIO : strcmp(how, "ENOSPC") == 0 ? ENOSPC : 0;
    return errno != 0;
}

/* A write at `at`, or, where that is negative, at the place of the descriptor, which moves on. */
static ssize_t put(int fd, const struct iovec *parts, int count, off_t at)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    char *data = malloc(size + 1), *end = data;
    for (int i = 0; i < count; end += parts[i++].iov_len)
        memcpy(end, parts[i].iov_base, parts[i].iov_len);
    pthread_mutex_lock(&turn);
    off_t place = at < 0 ? lseek(fd, 0, SEEK_CUR) : at;
    const char *how = fate('w');
    ssize_t done = -1;
    if (!failed(how)) {
        done = syscall(SYS_pwrite64, fd, data, *how ? size / 2 : size, place);
        if (strcmp(how, "TORN") == 0)
            syscall(SYS_kill, getpid(), SIGKILL);
    }
    int error = errno;
    if (done > 0) {
        note('w', (fcntl(fd, F_GETFL) & O_DSYNC) != 0, place, data, done);
        if (at < 0)
            lseek(fd, place + done, SEEK_SET);
    }
    pthread_mutex_unlock(&turn);
    free(data);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec one = {(void *)data, size};
    return ours(fd) ? put(fd, &one, 1, -1) : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    struct iovec one = {(void *)data, size};
    return ours(fd) ? put(fd, &one, 1, at) : syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return ours(fd) ? put(fd, parts, count, -1) : syscall(SYS_writev, fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return ours(fd) ? put(fd, parts, count, at) : syscall(SYS_pwritev, fd, parts, count, at, 0);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) { return pwrite(fd, data, size, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at) { return pwritev(fd, parts, count, at); }

static int flush(int fd, long call)
{
    if (!ours(fd))
        return syscall(call, fd);
    pthread_mutex_lock(&turn);
    int done = failed(fate('s')) ? -1 : syscall(call, fd), error = errno;
    if (done == 0)
        note('s', 0, 0, "", 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int fsync(int fd) { return flush(fd, SYS_fsync); }
int fdatasync(int fd) { return flush(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size)
{
    pthread_mutex_lock(&turn);
    int done = syscall(SYS_ftruncate, fd, size), error = errno;
    if (done == 0 && ours(fd))
        note('t', 0, size, "", 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

int rename(const char *from, const char *to)
{
    pthread_mutex_lock(&turn);
    int done = syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to), error = errno;
    size_t size = strlen(to);
    if (done == 0 && size > 9 && strcmp(to + size - 9, "/data.mdb") == 0)
        note('r', 0, 0, "", 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
