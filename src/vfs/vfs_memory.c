/* The file system in memory: its object, and the operations on open files.
 *
 * memory_tree.c has the operations on names, memory_cut.c the power cut, clones and the collector, memory_image.c and
 * memory_dir.c the shared data. An inode is found by its index; names and durable names are lists of (name, index). */
#include "vfs/memory_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum status mem_fail(struct err *err, int os_errno, const char *what, const char *path)
{
    char reason[128];

    return err_set(err, status_from_errno(os_errno), os_errno, "%s %s: %s", what, path, strerror_r(os_errno, reason, sizeof reason));
}

void change_unref(struct mem_change *change)
{
    if (atomic_fetch_sub_explicit(&change->refs, 1, memory_order_acq_rel) == 1)
        free(change);
}

void mem_changes_clear(struct mem_inode *inode)
{
    while (inode->change_count > 0)
        change_unref(inode->changes[--inode->change_count]);
    inode->has_truncate = false;
}

void mem_name_change_clear(struct mem_name_change *change)
{
    name_unref(change->from);
    name_unref(change->to);
}

void mem_inode_free(struct mem_inode *inode)
{
    if (inode == NULL)
        return;
    mem_changes_clear(inode);
    free(inode->changes);
    image_unref(inode->current);
    image_unref(inode->durable);
    names_unref(inode->names);
    names_unref(inode->durable_names);
    free(inode);
}

static bool inode_fill(struct mem_inode *inode)
{
    if (inode->is_dir) {
        if ((inode->names = names_new()) == NULL)
            return false;
        inode->durable_names = names_ref(inode->names);
    } else {
        if ((inode->current = image_new()) == NULL)
            return false;
        inode->durable = image_ref(inode->current);
    }
    return true;
}

uint32_t mem_inode_new(struct mem_fs *fs, bool is_dir)
{
    struct mem_inode *inode;
    uint32_t index = fs->free_from;

    while (index < fs->inode_count && fs->inodes[index] != NULL)
        index++;
    if (index == fs->inode_room) {
        uint32_t room = fs->inode_room == 0 ? 16 : fs->inode_room * 2;
        struct mem_inode **inodes = room > 1u << 28 ? NULL : realloc(fs->inodes, room * sizeof(struct mem_inode *));

        if (inodes == NULL)
            return MEM_NO_INODE;
        fs->inodes = inodes;
        fs->inode_room = room;
    }
    if ((inode = calloc(1, sizeof *inode)) == NULL)
        return MEM_NO_INODE;
    inode->is_dir = is_dir;
    if (!inode_fill(inode)) {
        mem_inode_free(inode);
        return MEM_NO_INODE;
    }
    fs->inodes[index] = inode;
    if (index == fs->inode_count)
        fs->inode_count++;
    fs->free_from = index + 1;
    return index;
}

struct mem_fs *mem_fs_new(void)
{
    struct mem_fs *fs = calloc(1, sizeof *fs);

    if (fs == NULL)
        return NULL;
    if (pthread_mutex_init(&fs->lock, NULL) != 0) {
        free(fs);
        return NULL;
    }
    fs->base.ops = &mem_ops;
    return fs;
}

void mem_fs_free(struct mem_fs *fs)
{
    for (uint32_t i = 0; i < fs->inode_count; i++)
        mem_inode_free(fs->inodes[i]);
    for (size_t i = 0; i < fs->name_change_count; i++)
        mem_name_change_clear(&fs->name_changes[i]);
    free(fs->name_changes);
    free(fs->inodes);
    pthread_mutex_destroy(&fs->lock);
    free(fs);
}

struct vfs *vfs_memory_create(void)
{
    struct mem_fs *fs = mem_fs_new();

    if (fs == NULL)
        return NULL;
    if (mem_inode_new(fs, true) != MEM_ROOT) {
        mem_fs_free(fs);
        return NULL;
    }
    return &fs->base;
}

void vfs_memory_destroy(struct vfs *v)
{
    struct mem_fs *fs = (struct mem_fs *)v;

    if (fs == NULL)
        return;
    assert(fs->handle_count == 0);
    mem_fs_free(fs);
}

void vfs_memory_set_capacity(struct vfs *v, uint64_t bytes_max)
{
    struct mem_fs *fs = (struct mem_fs *)v;

    pthread_mutex_lock(&fs->lock);
    fs->bytes_max = bytes_max;
    pthread_mutex_unlock(&fs->lock);
}

void mem_inode_uncount(struct mem_fs *fs, struct mem_inode *inode)
{
    if (!inode->is_dir && !inode->is_linked && inode->open_count == 0 && inode->is_counted) {
        fs->bytes_used -= inode->current->length;
        inode->is_counted = false;
    }
}

/* Whether the file may end at `end`: 0 or an errno. */
static int end_check(const struct mem_fs *fs, const struct mem_inode *inode, uint64_t offset, uint64_t len, uint64_t *end)
{
    if (__builtin_add_overflow(offset, len, end) || *end > MEM_FILE_BYTES_MAX)
        return EFBIG;
    if (fs->bytes_max > 0 && *end > inode->current->length &&
        (fs->bytes_used > fs->bytes_max || *end - inode->current->length > fs->bytes_max - fs->bytes_used))
        return ENOSPC;
    return 0;
}

/* Appends a change to the inode's list; its data is to be filled in. NULL when out of memory. */
static struct mem_change *change_add(struct mem_inode *inode, enum mem_change_kind kind, uint64_t offset, uint64_t len)
{
    struct mem_change *change;

    if (inode->change_count == inode->change_room) {
        size_t room = inode->change_room == 0 ? 8 : inode->change_room * 2;
        struct mem_change **changes = realloc(inode->changes, room * sizeof(struct mem_change *));

        if (changes == NULL)
            return NULL;
        inode->changes = changes;
        inode->change_room = room;
    }
    if ((change = malloc(sizeof *change + (kind == MEM_WRITE ? (size_t)len : 0))) == NULL)
        return NULL;
    atomic_init(&change->refs, 1);
    change->kind = kind;
    change->offset = offset;
    change->len = len;
    inode->changes[inode->change_count++] = change;
    return change;
}

static void length_count(struct mem_fs *fs, const struct mem_inode *inode, uint64_t length_before)
{
    if (inode->is_counted)
        fs->bytes_used += inode->current->length - length_before; /* wraps back when it shrinks */
}

int mem_inode_truncate(struct mem_fs *fs, struct mem_inode *inode, uint64_t length)
{
    uint64_t before = inode->current->length, end;
    int os_errno;

    if ((os_errno = end_check(fs, inode, length, 0, &end)) != 0)
        return os_errno;
    if (!image_own(&inode->current, 0) || change_add(inode, MEM_TRUNCATE, length, 0) == NULL)
        return ENOMEM;
    inode->has_truncate = true;
    if (!image_truncate(inode->current, length))
        return ENOMEM;
    length_count(fs, inode, before);
    return 0;
}

/* Takes the lock and checks that the handle may be used; 0 or an errno. */
static int handle_enter(struct mem_handle *h, bool to_write)
{
    pthread_mutex_lock(&h->fs->lock);
    if (h->power_cuts != h->fs->power_cuts)
        return EIO;
    return to_write && !h->is_writable ? EBADF : 0;
}

static enum status handle_leave(struct mem_handle *h, int os_errno, const char *what, struct err *err)
{
    pthread_mutex_unlock(&h->fs->lock);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, what, h->path);
}

static enum status mem_read(struct vfs_file *file, uint64_t offset, void *out, size_t len, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    uint64_t end, length = 0;
    bool is_short = false;
    int os_errno;

    if ((os_errno = handle_enter(h, false)) == 0) {
        length = h->inode->current->length;
        is_short = __builtin_add_overflow(offset, len, &end) || (len > 0 && end > length);
        if (!is_short)
            image_read(h->inode->current, offset, out, len);
    }
    if (handle_leave(h, os_errno, "reading", err) != ST_OK)
        return status_from_errno(os_errno);
    if (is_short)
        return err_set(err, ST_CORRUPT, 0, "%s: file ends at %llu, wanted %zu bytes at %llu", h->path, (unsigned long long)length, len,
                       (unsigned long long)offset);
    return ST_OK;
}

static int write_locked(struct mem_fs *fs, struct mem_inode *inode, uint64_t offset, const struct vfs_iovec *parts, size_t part_count)
{
    uint64_t before = inode->current->length, total = 0, end, filled = 0;
    struct mem_change *change;
    bool is_done;
    int os_errno;

    for (size_t i = 0; i < part_count; i++)
        if (__builtin_add_overflow(total, parts[i].len, &total))
            return EFBIG;
    if ((os_errno = end_check(fs, inode, offset, total, &end)) != 0)
        return os_errno;
    if (total == 0)
        return 0;
    if (!image_own(&inode->current, end) || (change = change_add(inode, MEM_WRITE, offset, total)) == NULL)
        return ENOMEM;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].len > 0)
            memcpy(change->data + filled, parts[i].data, parts[i].len);
        filled += parts[i].len;
    }
    is_done = image_write(inode->current, offset, change->data, (size_t)total);
    length_count(fs, inode, before);
    return is_done ? 0 : ENOMEM;
}

static enum status mem_write(struct vfs_file *file, uint64_t offset, const struct vfs_iovec *parts, size_t part_count, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    int os_errno = handle_enter(h, true);

    if (os_errno == 0)
        os_errno = write_locked(h->fs, h->inode, offset, parts, part_count);
    return handle_leave(h, os_errno, "writing", err);
}

static int zero_locked(struct mem_fs *fs, struct mem_inode *inode, uint64_t offset, uint64_t len)
{
    uint64_t before = inode->current->length, end;
    bool is_done;
    int os_errno;

    if ((os_errno = end_check(fs, inode, offset, len, &end)) != 0)
        return os_errno;
    if (len == 0)
        return 0;
    if (!image_own(&inode->current, end) || change_add(inode, MEM_ZERO, offset, len) == NULL)
        return ENOMEM;
    is_done = image_zero(inode->current, offset, len);
    length_count(fs, inode, before);
    return is_done ? 0 : ENOMEM;
}

static enum status mem_zero(struct vfs_file *file, uint64_t offset, uint64_t len, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    int os_errno = handle_enter(h, true);

    if (os_errno == 0)
        os_errno = zero_locked(h->fs, h->inode, offset, len);
    return handle_leave(h, os_errno, "zeroing", err);
}

static enum status mem_truncate(struct vfs_file *file, uint64_t length, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    int os_errno = handle_enter(h, true);

    if (os_errno == 0)
        os_errno = mem_inode_truncate(h->fs, h->inode, length);
    return handle_leave(h, os_errno, "truncating", err);
}

/* Only the pages that were written change hands; after a truncation the whole image does. */
static int sync_locked(struct mem_inode *inode)
{
    uint64_t end = inode->current->length;

    if (inode->change_count == 0)
        return 0;
    if (inode->has_truncate) {
        image_unref(inode->durable);
        inode->durable = image_ref(inode->current);
    } else {
        for (size_t i = 0; i < inode->change_count; i++)
            if (inode->changes[i]->offset + inode->changes[i]->len > end)
                end = inode->changes[i]->offset + inode->changes[i]->len;
        if (!image_own(&inode->durable, end))
            return ENOMEM;
        for (size_t i = 0; i < inode->change_count; i++)
            image_share(inode->durable, inode->current, inode->changes[i]->offset, inode->changes[i]->len);
        inode->durable->length = inode->current->length;
    }
    mem_changes_clear(inode);
    return 0;
}

static enum status mem_sync(struct vfs_file *file, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    int os_errno = handle_enter(h, false);

    if (os_errno == 0)
        os_errno = sync_locked(h->inode);
    return handle_leave(h, os_errno, "syncing", err);
}

static enum status mem_length(struct vfs_file *file, uint64_t *out, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    int os_errno = handle_enter(h, false);

    *out = os_errno == 0 ? h->inode->current->length : 0;
    return handle_leave(h, os_errno, "length of", err);
}

static enum status mem_lock(struct vfs_file *file, struct err *err)
{
    struct mem_handle *h = (struct mem_handle *)file;
    int os_errno = handle_enter(h, false);
    bool is_busy = os_errno == 0 && h->inode->lock_owner != NULL && h->inode->lock_owner != h;

    if (os_errno == 0 && !is_busy)
        h->inode->lock_owner = h;
    if (is_busy) {
        pthread_mutex_unlock(&h->fs->lock);
        return err_set(err, ST_BUSY, EWOULDBLOCK, "%s is locked by somebody else", h->path);
    }
    return handle_leave(h, os_errno, "locking", err);
}

static void mem_close(struct vfs_file *file)
{
    struct mem_handle *h = (struct mem_handle *)file;
    struct mem_fs *fs = h->fs;

    pthread_mutex_lock(&fs->lock);
    if (h->power_cuts == fs->power_cuts) {
        if (h->inode->lock_owner == h)
            h->inode->lock_owner = NULL;
        h->inode->open_count--;
        mem_inode_uncount(fs, h->inode);
    }
    fs->handle_count--;
    pthread_mutex_unlock(&fs->lock);
    free(h);
}

const struct vfs_file_ops mem_file_ops = {
    .read = mem_read,
    .read_nowait = mem_read,
    .write = mem_write,
    .sync = mem_sync,
    .length = mem_length,
    .truncate = mem_truncate,
    .zero = mem_zero,
    .lock = mem_lock,
    .close = mem_close,
};
