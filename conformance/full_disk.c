/* Preloaded into a server, is a disk that can be full: while the file FULL_DISK_FLAG exists, nothing grows below the folder FULL_DISK_DIR. Writes that would
 * extend a file there, and files and folders that would be new, fail with ENOSPC, as they do on a file system without a free block; what is there can be
 * overwritten, read, cut and removed.
 *
 *   LD_PRELOAD=build/conformance/libfull_disk.so FULL_DISK_FLAG=/tmp/full FULL_DISK_DIR=/tmp/data build/cmd/immudb ... */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

static int is_full(void)
{
    const char *flag = getenv("FULL_DISK_FLAG");

    return flag != NULL && access(flag, F_OK) == 0;
}

/* A path that begins with the folder's name; the folder is given as the server gets it. */
static int is_below(const char *path)
{
    const char *dir = getenv("FULL_DISK_DIR");
    size_t len = dir != NULL ? strlen(dir) : 0;

    return len > 0 && strncmp(path, dir, len) == 0;
}

static int fd_is_below(int fd)
{
    char link[64], path[4096];
    ssize_t len;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((len = readlink(link, path, sizeof path - 1)) <= 0)
        return 0;
    path[len] = '\0';
    return is_below(path);
}

static int would_grow(int fd, off_t end)
{
    struct stat info;
    int saved = errno, grows = is_full() && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && end > info.st_size && fd_is_below(fd);

    errno = saved;
    return grows;
}

static int full(void)
{
    errno = ENOSPC;
    return -1;
}

/* The function behind ours; without it nothing can go on. */
static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (found == NULL)
        abort();
    return found;
}

static off_t length_of(const struct iovec *parts, int count)
{
    off_t sum = 0;

    for (int i = 0; i < count; i++)
        sum += (off_t)parts[i].iov_len;
    return sum;
}

typedef ssize_t pwritev_type(int, const struct iovec *, int, off_t);
typedef int fallocate_type(int, int, off_t, off_t);
typedef int open_type(const char *, int, ...);
typedef int mkdir_type(const char *, mode_t);

/* With 64-bit offsets the headers give these the names under which the server asks for them. */
PUBLIC ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    void *found = real("pwritev");
    pwritev_type *go_on;

    if (would_grow(fd, at + length_of(parts, count)))
        return full();
    memcpy(&go_on, &found, sizeof go_on);
    return go_on(fd, parts, count, at);
}

PUBLIC int fallocate(int fd, int mode, off_t at, off_t len)
{
    void *found = real("fallocate");
    fallocate_type *go_on;

    if (would_grow(fd, at + len))
        return full();
    memcpy(&go_on, &found, sizeof go_on);
    return go_on(fd, mode, at, len);
}

PUBLIC int open(const char *path, int flags, ...)
{
    void *found = real("open");
    open_type *go_on;
    mode_t mode = 0;
    va_list args;

    if ((flags & O_CREAT) != 0) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
        if (is_full() && is_below(path) && access(path, F_OK) != 0)
            return full();
    }
    memcpy(&go_on, &found, sizeof go_on);
    return go_on(path, flags, mode);
}

PUBLIC int mkdir(const char *path, mode_t mode)
{
    void *found = real("mkdir");
    mkdir_type *go_on;

    if (is_full() && is_below(path) && access(path, F_OK) != 0) /* one that is there takes no room */
        return full();
    memcpy(&go_on, &found, sizeof go_on);
    return go_on(path, mode);
}
