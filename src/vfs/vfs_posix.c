/* Files of the operating system: the only file of the project with these system calls. */
#include "vfs/vfs.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    PARTS_PER_CALL = 64,
    ZERO_PIECE_BYTES = 64 << 10, /* PARTS_PER_ZERO of them go into one write: 1 MiB */
    PARTS_PER_ZERO = 16,
    DIR_TRIES_MAX = 20,
    DIR_RETRY_NS = 10000000,
};

static_assert(sizeof(struct vfs_iovec) == sizeof(struct iovec) && offsetof(struct vfs_iovec, len) == offsetof(struct iovec, iov_len),
              "vfs_iovec must be laid out like iovec");

struct posix_file {
    struct vfs_file base;
    int fd;
    char path[]; /* for error texts */
};

static struct posix_file *posix_of(struct vfs_file *f) { return (struct posix_file *)f; }

/* A table of open files that is full, the process's or the system's: nothing was done, and it goes by like a shortage of memory. */
static enum status status_of(int os_errno) { return os_errno == EMFILE || os_errno == ENFILE ? ST_NOMEM : status_from_errno(os_errno); }

static enum status fail_errno(struct err *err, int os_errno, const char *what, const char *path)
{
    char reason[128];

    return err_set(err, status_of(os_errno), os_errno, "%s %s: %s", what, path, strerror_r(os_errno, reason, sizeof reason));
}

/* The kernel takes offsets up to INT64_MAX. */
static enum status range_check(const struct posix_file *f, uint64_t offset, uint64_t len, struct err *err)
{
    uint64_t end;

    if (__builtin_add_overflow(offset, len, &end) || end > INT64_MAX)
        return err_set(err, ST_INVALID, 0, "range of %llu bytes at %llu in %s", (unsigned long long)len, (unsigned long long)offset, f->path);
    return ST_OK;
}

static enum status fail_short(const struct posix_file *f, uint64_t offset, size_t len, size_t got, struct err *err)
{
    return err_set(err, ST_CORRUPT, 0, "%s: file ends at %llu, wanted %zu bytes at %llu", f->path, (unsigned long long)(offset + got), len,
                   (unsigned long long)offset);
}

static enum status posix_read(struct vfs_file *file, uint64_t offset, void *out, size_t len, struct err *err)
{
    struct posix_file *f = posix_of(file);
    size_t done = 0;
    enum status st;

    if ((st = range_check(f, offset, len, err)) != ST_OK)
        return st;
    while (done < len) {
        ssize_t got = pread(f->fd, (uint8_t *)out + done, len - done, (off_t)(offset + done));

        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return fail_short(f, offset, len, done, err);
        else if (errno != EINTR)
            return fail_errno(err, errno, "reading", f->path);
    }
    return ST_OK;
}

static enum status posix_read_nowait(struct vfs_file *file, uint64_t offset, void *out, size_t len, struct err *err)
{
    struct posix_file *f = posix_of(file);
    size_t done = 0;
    enum status st;

    if ((st = range_check(f, offset, len, err)) != ST_OK)
        return st;
    while (done < len) {
        struct iovec part = {(uint8_t *)out + done, len - done};
        ssize_t got = preadv2(f->fd, &part, 1, (off_t)(offset + done), RWF_NOWAIT);
        int os_errno = errno;

        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return fail_short(f, offset, len, done, err);
        else if (os_errno == EAGAIN)
            return err_set(err, ST_AGAIN, 0, "%s: bytes at %llu are not in memory", f->path, (unsigned long long)(offset + done));
        else if (os_errno == EOPNOTSUPP || os_errno == ENOSYS || os_errno == EINVAL)
            return posix_read(file, offset, out, len, err); /* not known on this filesystem or kernel */
        else if (os_errno != EINTR)
            return fail_errno(err, os_errno, "reading", f->path);
    }
    return ST_OK;
}

/* Writes all of iov (which it changes) at offset. */
static enum status write_fully(struct posix_file *f, uint64_t offset, struct iovec *iov, size_t count, struct err *err)
{
    while (count > 0) {
        ssize_t put;

        if (iov->iov_len == 0) {
            iov++;
            count--;
            continue;
        }
        put = pwritev(f->fd, iov, (int)count, (off_t)offset);
        if (put < 0) {
            if (errno == EINTR)
                continue;
            return fail_errno(err, errno, "writing", f->path);
        }
        if (put == 0) /* never for regular files; not worth an endless loop if it is */
            return err_set(err, ST_IO, 0, "writing %s: nothing was written", f->path);
        offset += (uint64_t)put;
        while (put > 0) {
            size_t part = (size_t)put < iov->iov_len ? (size_t)put : iov->iov_len;

            iov->iov_base = (uint8_t *)iov->iov_base + part;
            iov->iov_len -= part;
            put -= (ssize_t)part;
            if (iov->iov_len == 0) {
                iov++;
                count--;
            }
        }
    }
    return ST_OK;
}

static enum status posix_write(struct vfs_file *file, uint64_t offset, const struct vfs_iovec *parts, size_t part_count, struct err *err)
{
    struct posix_file *f = posix_of(file);
    struct iovec iov[PARTS_PER_CALL];
    uint64_t total = 0;
    enum status st;

    for (size_t i = 0; i < part_count; i++)
        if (__builtin_add_overflow(total, parts[i].len, &total))
            return err_set(err, ST_INVALID, 0, "writing %s: length overflows", f->path);
    if ((st = range_check(f, offset, total, err)) != ST_OK)
        return st;
    while (part_count > 0) {
        size_t count = part_count < PARTS_PER_CALL ? part_count : PARTS_PER_CALL;
        uint64_t len = 0;

        memcpy(iov, parts, count * sizeof iov[0]);
        for (size_t i = 0; i < count; i++)
            len += parts[i].len;
        if ((st = write_fully(f, offset, iov, count, err)) != ST_OK)
            return st;
        offset += len;
        parts += count;
        part_count -= count;
    }
    return ST_OK;
}

/* After a failure the kernel may have dropped the dirty pages and would report success next time: the status is ST_IO
 * even for a full disk, so that nobody takes it for something that heals. */
static enum status posix_sync(struct vfs_file *file, struct err *err)
{
    struct posix_file *f = posix_of(file);

    if (fdatasync(f->fd) != 0) {
        (void)fail_errno(err, errno, "syncing", f->path);
        if (err != NULL)
            err->status = ST_IO;
        return ST_IO;
    }
    return ST_OK;
}

static enum status posix_length(struct vfs_file *file, uint64_t *out, struct err *err)
{
    struct posix_file *f = posix_of(file);
    struct stat info;

    *out = 0;
    if (fstat(f->fd, &info) != 0)
        return fail_errno(err, errno, "stat of", f->path);
    *out = (uint64_t)info.st_size;
    return ST_OK;
}

static enum status posix_truncate(struct vfs_file *file, uint64_t length, struct err *err)
{
    struct posix_file *f = posix_of(file);
    enum status st;

    if ((st = range_check(f, length, 0, err)) != ST_OK)
        return st;
    while (ftruncate(f->fd, (off_t)length) != 0)
        if (errno != EINTR)
            return fail_errno(err, errno, "truncating", f->path);
    return ST_OK;
}

/* fallocate() alone would leave unwritten extents, whose first use changes metadata and makes each later fdatasync wait
 * for the journal. So the blocks are reserved in one go (a full disk shows before anything is written), then written. */
static enum status posix_zero(struct vfs_file *file, uint64_t offset, uint64_t len, struct err *err)
{
    static const uint8_t zeros[ZERO_PIECE_BYTES];
    struct posix_file *f = posix_of(file);
    enum status st;

    if ((st = range_check(f, offset, len, err)) != ST_OK || len == 0)
        return st;
    while (fallocate(f->fd, 0, (off_t)offset, (off_t)len) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            break;
        if (errno != EINTR)
            return fail_errno(err, errno, "allocating blocks of", f->path);
    }
    while (len > 0) {
        struct iovec iov[PARTS_PER_ZERO];
        uint64_t piece = 0;
        size_t count = 0;

        while (count < PARTS_PER_ZERO && piece < len) {
            size_t part = len - piece < sizeof zeros ? (size_t)(len - piece) : sizeof zeros;

            iov[count++] = (struct iovec){(void *)(uintptr_t)zeros, part};
            piece += part;
        }
        if ((st = write_fully(f, offset, iov, count, err)) != ST_OK)
            return st;
        offset += piece;
        len -= piece;
    }
    return ST_OK;
}

static enum status posix_lock(struct vfs_file *file, struct err *err)
{
    struct posix_file *f = posix_of(file);

    while (flock(f->fd, LOCK_EX | LOCK_NB) != 0) {
        int os_errno = errno;

        if (os_errno == EWOULDBLOCK)
            return err_set(err, ST_BUSY, os_errno, "%s is locked by somebody else", f->path);
        if (os_errno == ENOLCK || os_errno == EOPNOTSUPP || os_errno == ENOSYS)
            return err_set(err, ST_IO, os_errno, "the filesystem of %s has no working locks", f->path);
        if (os_errno != EINTR)
            return fail_errno(err, os_errno, "locking", f->path);
    }
    return ST_OK;
}

static void posix_close(struct vfs_file *file)
{
    struct posix_file *f = posix_of(file);

    close(f->fd); /* what had to be durable was synced; close has nothing more to say */
    free(f);
}

static const struct vfs_file_ops posix_file_ops = {
    .read = posix_read,
    .read_nowait = posix_read_nowait,
    .write = posix_write,
    .sync = posix_sync,
    .length = posix_length,
    .truncate = posix_truncate,
    .zero = posix_zero,
    .lock = posix_lock,
    .close = posix_close,
};

static int open_flags(unsigned flags)
{
    return ((flags & VFS_WRITE) != 0 ? O_RDWR : O_RDONLY) | ((flags & VFS_CREATE) != 0 ? O_CREAT : 0) |
           ((flags & VFS_CREATE) != 0 && (flags & VFS_EXCLUSIVE) != 0 ? O_EXCL : 0) | ((flags & VFS_TRUNCATE) != 0 ? O_TRUNC : 0) | O_CLOEXEC |
           O_NOCTTY | O_NONBLOCK; /* nonblocking: a FIFO in our place must not hang the server */
}

static enum status posix_open(struct vfs *v, const char *path, unsigned flags, struct vfs_file **out, struct err *err)
{
    struct posix_file *f = NULL;
    size_t path_len = strlen(path) + 1;
    struct stat info;
    enum status st = ST_OK;
    int fd = -1;

    (void)v;
    *out = NULL;
    if ((flags & VFS_TRUNCATE) != 0 && (flags & VFS_WRITE) == 0)
        return err_set(err, ST_INVALID, 0, "opening %s: truncation needs write access", path);
    if ((f = malloc(sizeof *f + path_len)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory to open %s", path);
        goto done;
    }
    do
        fd = open(path, open_flags(flags), 0600);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        st = fail_errno(err, errno, "opening", path);
        goto done;
    }
    if (fstat(fd, &info) != 0) {
        st = fail_errno(err, errno, "stat of", path);
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        st = err_set(err, ST_IO, S_ISDIR(info.st_mode) ? EISDIR : 0, "%s is not a regular file", path);
        goto done;
    }
    f->base.ops = &posix_file_ops;
    f->fd = fd;
    memcpy(f->path, path, path_len);
    *out = &f->base;
    f = NULL;
    fd = -1;
done:
    if (fd >= 0)
        close(fd);
    free(f);
    return st;
}

static enum status posix_rename(struct vfs *v, const char *from, const char *to, struct err *err)
{
    (void)v;
    if (rename(from, to) != 0) {
        enum status st = fail_errno(err, errno, "renaming", from);

        return err_while(err, st, "giving it the name %s", to);
    }
    return ST_OK;
}

static enum status posix_unlink(struct vfs *v, const char *path, struct err *err)
{
    (void)v;
    return unlink(path) == 0 ? ST_OK : fail_errno(err, errno, "removing", path);
}

static enum status posix_mkdir(struct vfs *v, const char *path, struct err *err)
{
    (void)v;
    return mkdir(path, 0700) == 0 ? ST_OK : fail_errno(err, errno, "making directory", path);
}

static enum status posix_rmdir(struct vfs *v, const char *path, struct err *err)
{
    (void)v;
    if (rmdir(path) == 0)
        return ST_OK;
    if (errno == ENOTEMPTY || errno == EEXIST) /* either is allowed; one status for both */
        return err_set(err, ST_IO, ENOTEMPTY, "removing directory %s: not empty", path);
    return fail_errno(err, errno, "removing directory", path);
}

static bool entry_is_dir(DIR *dir, const struct dirent *entry)
{
    struct stat info;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

static enum status posix_list(struct vfs *v, const char *path, bool (*visit)(void *ctx, const char *name, bool is_dir), void *ctx, struct err *err)
{
    enum status st = ST_OK;
    struct dirent *entry;
    DIR *dir;

    (void)v;
    if ((dir = opendir(path)) == NULL)
        return fail_errno(err, errno, "listing", path);
    for (;;) {
        errno = 0;
        if ((entry = readdir(dir)) == NULL) {
            if (errno != 0)
                st = fail_errno(err, errno, "listing", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!visit(ctx, entry->d_name, entry_is_dir(dir, entry)))
            break;
    }
    closedir(dir);
    return st;
}

/* Mostly a file was renamed before, and whether that lasts is to be known: a full table of files is given some time. */
static enum status posix_sync_dir(struct vfs *v, const char *path, struct err *err)
{
    const struct timespec pause = {0, DIR_RETRY_NS};
    enum status st = ST_OK;
    int fd, tries = 0;

    (void)v;
    while ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        if (errno == EINTR)
            continue;
        if ((errno != EMFILE && errno != ENFILE) || ++tries == DIR_TRIES_MAX)
            break;
        nanosleep(&pause, NULL);
    }
    if (fd < 0)
        return fail_errno(err, errno, "opening directory", path);
    if (fsync(fd) != 0) {
        (void)fail_errno(err, errno, "syncing directory", path);
        if (err != NULL)
            err->status = ST_IO;
        st = ST_IO;
    }
    close(fd);
    return st;
}

static enum status posix_space(struct vfs *v, const char *path, uint64_t *bytes_free, struct err *err)
{
    struct statvfs info;

    (void)v;
    *bytes_free = 0;
    if (statvfs(path, &info) != 0)
        return fail_errno(err, errno, "free space of", path);
    if (__builtin_mul_overflow((uint64_t)info.f_bavail, (uint64_t)info.f_frsize, bytes_free))
        *bytes_free = UINT64_MAX;
    return ST_OK;
}

struct vfs *vfs_posix(void)
{
    static const struct vfs_ops ops = {
        .open = posix_open,
        .rename = posix_rename,
        .unlink = posix_unlink,
        .mkdir = posix_mkdir,
        .rmdir = posix_rmdir,
        .list = posix_list,
        .sync_dir = posix_sync_dir,
        .space = posix_space,
    };
    static struct vfs vfs = {.ops = &ops};

    return &vfs;
}
