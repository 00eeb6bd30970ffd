/* Files, as the store sees them: the only way from the store to a disk.
 *
 * Three implementations: vfs_posix() (the operating system), vfs_memory (a tree in memory with a model of what a power
 * cut keeps), vfs_faulty (wraps another one, fails or cuts at a chosen operation, records a journal). Everything that
 * reaches a disk goes through these operations, so that crash tests see every one of them.
 *
 * Rules for callers: a file's content is durable once sync() returned ST_OK; its name (create, rename, unlink) is durable
 * once sync_dir() of its directory returned ST_OK. A failed sync is never retried.
 * ST_NOMEM also says that no more files can be open just now. Like ST_NO_SPACE it goes by: nothing was opened, renamed or made durable.
 * All operations may be called from any thread; operations on one file at overlapping ranges are the caller's matter.
 * Paths are NUL terminated, absolute or relative to the process' working directory, with '/' separators. */
#ifndef VFS_VFS_H
#define VFS_VFS_H

#include "base/bytes.h"
#include "base/err.h"

struct vfs_file {
    const struct vfs_file_ops *ops;
};

struct vfs {
    const struct vfs_ops *ops;
};

enum vfs_open_flags {
    VFS_READ = 0,
    VFS_WRITE = 1,     /* read and write */
    VFS_CREATE = 2,    /* make it when missing (mode 0600) */
    VFS_EXCLUSIVE = 4, /* with CREATE: ST_EXISTS when it is there */
    VFS_TRUNCATE = 8   /* cut to length 0 */
};

struct vfs_iovec { /* layout compatible with struct iovec */
    const void *data;
    size_t len;
};

struct vfs_file_ops {
    /* Reads exactly len bytes at offset; a shorter file gives ST_CORRUPT ("file ends at ..."), nothing is half read. */
    enum status (*read)(struct vfs_file *f, uint64_t offset, void *out, size_t len, struct err *err);
    /* As read, but ST_AGAIN when the bytes are not in the operating system's cache. Where that cannot be known, as read. */
    enum status (*read_nowait)(struct vfs_file *f, uint64_t offset, void *out, size_t len, struct err *err);
    /* Writes all bytes at offset (extending the file as needed). After a failure any part may have been written. */
    enum status (*write)(struct vfs_file *f, uint64_t offset, const struct vfs_iovec *parts, size_t part_count, struct err *err);
    enum status (*sync)(struct vfs_file *f, struct err *err); /* fdatasync: content and length */
    enum status (*length)(struct vfs_file *f, uint64_t *out, struct err *err);
    enum status (*truncate)(struct vfs_file *f, uint64_t length, struct err *err);
    /* Makes [offset, offset+len) read as zeros and reserves its blocks, so that later writes there need no allocation. */
    enum status (*zero)(struct vfs_file *f, uint64_t offset, uint64_t len, struct err *err);
    /* Exclusive advisory lock for the life of the handle; ST_BUSY when another handle holds it. */
    enum status (*lock)(struct vfs_file *f, struct err *err);
    void (*close)(struct vfs_file *f);
};

struct vfs_ops {
    enum status (*open)(struct vfs *v, const char *path, unsigned flags, struct vfs_file **out, struct err *err);
    enum status (*rename)(struct vfs *v, const char *from, const char *to, struct err *err); /* replaces to */
    enum status (*unlink)(struct vfs *v, const char *path, struct err *err);                 /* ST_NOT_FOUND when missing */
    enum status (*mkdir)(struct vfs *v, const char *path, struct err *err);                  /* mode 0700; ST_EXISTS */
    enum status (*rmdir)(struct vfs *v, const char *path, struct err *err);                  /* must be empty */
    /* Calls visit for each name (not "." and ".."), in any order; visit returns false to stop. is_dir as known. */
    enum status (*list)(struct vfs *v, const char *path, bool (*visit)(void *ctx, const char *name, bool is_dir), void *ctx, struct err *err);
    enum status (*sync_dir)(struct vfs *v, const char *path, struct err *err);
    enum status (*space)(struct vfs *v, const char *path, uint64_t *bytes_free, struct err *err);
};

/* The operating system. A static object. */
struct vfs *vfs_posix(void);

/* Convenience over the operations. */
MUST_USE enum status vfs_write_at(struct vfs_file *f, uint64_t offset, const void *data, size_t len, struct err *err);
/* Whole small file (at most bytes_max) into a malloc'ed buffer owned by the caller. */
MUST_USE enum status vfs_read_all(struct vfs *v, const char *path, size_t bytes_max, uint8_t **out, size_t *out_len, struct err *err);
/* Replaces path atomically and durably: writes path.tmp, syncs it, renames, syncs the directory. ST_NO_SPACE and ST_NOMEM: the old content is there. */
MUST_USE enum status vfs_replace(struct vfs *v, const char *dir, const char *path, const void *data, size_t len, struct err *err);
/* dir + "/" + formatted name into out (PATH_BYTES_MAX); ST_LIMIT when it does not fit. */
#define PATH_BYTES_MAX 4096
MUST_USE enum status vfs_path(char *out, struct err *err, const char *dir, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* Removes a directory with everything in it; used by delete database and tests. Durable after sync_dir of the parent. */
MUST_USE enum status vfs_remove_tree(struct vfs *v, const char *path, struct err *err);

#endif
