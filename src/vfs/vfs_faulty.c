/* A vfs that passes everything on to another one until the armed operation comes.
 *
 * Every operation first asks `gate` what to do with it. Mutating operations and reads have counters of their own; an armed
 * fault fires when the counter that it watches reaches fire_at. Close always passes: handles must not leak.
 * An open counts as mutating when it may create or truncate. Lock: faulty.lock, a leaf, never held during I/O. */
#include "vfs/vfs_faulty.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct faulty {
    struct vfs base;
    struct vfs *inner;
    pthread_mutex_t lock; /* guards everything below */
    enum fault_kind kind;
    uint64_t fire_at; /* number of the operation, counted as op_count or read_count */
    uint64_t seed;
    uint64_t op_count, read_count;
    bool has_fired;
};

struct faulty_file {
    struct vfs_file base;
    struct vfs_file *inner;
    struct faulty *owner;
};

enum op_class {
    OP_OTHER, /* changes and reads nothing: length, list, lock, space, open of what exists */
    OP_READ,
    OP_MUTATE,
};

enum verdict {
    PASS,
    FAIL,          /* ST_IO, nothing is done */
    FAIL_HALF,     /* ST_IO; a write may have been done in part */
    FAIL_IF_GROWS, /* ST_NO_SPACE when the operation needs room, else pass */
};

static struct faulty *faulty_of(struct vfs *v) { return (struct faulty *)v; }

static enum verdict gate_locked(struct faulty *f, enum op_class op)
{
    bool is_now, is_due;

    if (op == OP_MUTATE)
        f->op_count++;
    else if (op == OP_READ)
        f->read_count++;
    is_now = op == (f->kind == FAULT_EIO_READ ? OP_READ : OP_MUTATE) && (op == OP_READ ? f->read_count : f->op_count) == f->fire_at && !f->has_fired;
    is_due = f->has_fired || is_now;
    switch (f->kind) {
    case FAULT_STOP:
    case FAULT_STOP_TORN:
        f->has_fired = is_due;
        if (!is_due)
            return PASS;
        return is_now && f->kind == FAULT_STOP_TORN ? FAIL_HALF : FAIL;
    case FAULT_EIO:
    case FAULT_EIO_READ:
        f->has_fired = is_due;
        return !is_now ? PASS : f->kind == FAULT_EIO ? FAIL_HALF : FAIL;
    case FAULT_NO_SPACE:
        f->has_fired = is_due;
        return is_due && op == OP_MUTATE ? FAIL_IF_GROWS : PASS;
    case FAULT_NONE:
        break;
    }
    return PASS;
}

static enum verdict gate(struct faulty *f, enum op_class op)
{
    enum verdict verdict;

    pthread_mutex_lock(&f->lock);
    verdict = gate_locked(f, op);
    pthread_mutex_unlock(&f->lock);
    return verdict;
}

static bool is_failure(enum verdict verdict) { return verdict == FAIL || verdict == FAIL_HALF; }

static enum status fail_io(struct err *err, const char *what) { return err_set(err, ST_IO, EIO, "%s: injected fault", what); }
static enum status fail_space(struct err *err, const char *what) { return err_set(err, ST_NO_SPACE, ENOSPC, "%s: injected full disk", what); }

static struct faulty_file *file_of(struct vfs_file *file) { return (struct faulty_file *)file; }

/* Whether the range ends beyond the file. A length that cannot be had counts as growing. */
static bool range_grows(struct faulty_file *f, uint64_t offset, uint64_t len)
{
    uint64_t length, end;

    return f->inner->ops->length(f->inner, &length, NULL) != ST_OK || __builtin_add_overflow(offset, len, &end) || end > length;
}

static enum status faulty_read(struct vfs_file *file, uint64_t offset, void *out, size_t len, struct err *err)
{
    struct faulty_file *f = file_of(file);

    return is_failure(gate(f->owner, OP_READ)) ? fail_io(err, "reading") : f->inner->ops->read(f->inner, offset, out, len, err);
}

static enum status faulty_read_nowait(struct vfs_file *file, uint64_t offset, void *out, size_t len, struct err *err)
{
    struct faulty_file *f = file_of(file);

    return is_failure(gate(f->owner, OP_READ)) ? fail_io(err, "reading") : f->inner->ops->read_nowait(f->inner, offset, out, len, err);
}

/* Writes the first bytes of the parts, how many the seed says: none to all. */
static void write_half(struct faulty_file *f, uint64_t offset, const struct vfs_iovec *parts, size_t part_count)
{
    uint64_t total = 0, left, z = f->owner->seed + 0x9e3779b97f4a7c15u;

    for (size_t i = 0; i < part_count; i++)
        total += parts[i].len;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    left = (z >> 8) % (total + 1);
    if (z % 2 == 0) /* as often at a sector as within one */
        left = left / 512 * 512;
    for (size_t i = 0; i < part_count && left > 0; i++) {
        struct vfs_iovec part = {parts[i].data, parts[i].len < left ? parts[i].len : (size_t)left};

        if (f->inner->ops->write(f->inner, offset, &part, 1, NULL) != ST_OK)
            return;
        offset += part.len;
        left -= part.len;
    }
}

static enum status faulty_write(struct vfs_file *file, uint64_t offset, const struct vfs_iovec *parts, size_t part_count, struct err *err)
{
    struct faulty_file *f = file_of(file);
    enum verdict verdict = gate(f->owner, OP_MUTATE);
    uint64_t total = 0;

    for (size_t i = 0; i < part_count; i++)
        if (__builtin_add_overflow(total, parts[i].len, &total))
            return err_set(err, ST_INVALID, 0, "writing: length overflows");
    if (verdict == FAIL_HALF)
        write_half(f, offset, parts, part_count);
    if (is_failure(verdict))
        return fail_io(err, "writing");
    if (verdict == FAIL_IF_GROWS && range_grows(f, offset, total))
        return fail_space(err, "writing");
    return f->inner->ops->write(f->inner, offset, parts, part_count, err);
}

static enum status faulty_sync(struct vfs_file *file, struct err *err)
{
    struct faulty_file *f = file_of(file);

    return is_failure(gate(f->owner, OP_MUTATE)) ? fail_io(err, "syncing") : f->inner->ops->sync(f->inner, err);
}

static enum status faulty_length(struct vfs_file *file, uint64_t *out, struct err *err)
{
    struct faulty_file *f = file_of(file);

    *out = 0;
    return is_failure(gate(f->owner, OP_OTHER)) ? fail_io(err, "length") : f->inner->ops->length(f->inner, out, err);
}

static enum status faulty_truncate(struct vfs_file *file, uint64_t length, struct err *err)
{
    struct faulty_file *f = file_of(file);
    enum verdict verdict = gate(f->owner, OP_MUTATE);

    if (is_failure(verdict))
        return fail_io(err, "truncating");
    return f->inner->ops->truncate(f->inner, length, err); /* an extension allocates nothing */
}

static enum status faulty_zero(struct vfs_file *file, uint64_t offset, uint64_t len, struct err *err)
{
    struct faulty_file *f = file_of(file);
    enum verdict verdict = gate(f->owner, OP_MUTATE);

    if (is_failure(verdict))
        return fail_io(err, "zeroing");
    if (verdict == FAIL_IF_GROWS && range_grows(f, offset, len))
        return fail_space(err, "zeroing");
    return f->inner->ops->zero(f->inner, offset, len, err);
}

static enum status faulty_lock(struct vfs_file *file, struct err *err)
{
    struct faulty_file *f = file_of(file);

    return is_failure(gate(f->owner, OP_OTHER)) ? fail_io(err, "locking") : f->inner->ops->lock(f->inner, err);
}

static void faulty_close(struct vfs_file *file)
{
    struct faulty_file *f = file_of(file);

    f->inner->ops->close(f->inner);
    free(f);
}

static const struct vfs_file_ops faulty_file_ops = {
    .read = faulty_read,
    .read_nowait = faulty_read_nowait,
    .write = faulty_write,
    .sync = faulty_sync,
    .length = faulty_length,
    .truncate = faulty_truncate,
    .zero = faulty_zero,
    .lock = faulty_lock,
    .close = faulty_close,
};

static enum status faulty_open(struct vfs *v, const char *path, unsigned flags, struct vfs_file **out, struct err *err)
{
    struct faulty *f = faulty_of(v);
    struct faulty_file *file = NULL;
    enum verdict verdict = gate(f, (flags & (VFS_CREATE | VFS_TRUNCATE)) != 0 ? OP_MUTATE : OP_OTHER);
    enum status st;

    *out = NULL;
    if (is_failure(verdict))
        return fail_io(err, "opening");
    if ((file = malloc(sizeof *file)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory to open %s", path);
    if (verdict == FAIL_IF_GROWS && (flags & VFS_CREATE) != 0 && (flags & VFS_EXCLUSIVE) == 0) {
        /* On a full disk what exists can still be opened. */
        st = f->inner->ops->open(f->inner, path, flags & ~(unsigned)VFS_CREATE, &file->inner, err);
        if (st == ST_NOT_FOUND)
            st = fail_space(err, "creating");
    } else if (verdict == FAIL_IF_GROWS && (flags & VFS_CREATE) != 0) {
        st = fail_space(err, "creating");
    } else {
        st = f->inner->ops->open(f->inner, path, flags, &file->inner, err);
    }
    if (st != ST_OK) {
        free(file);
        return st;
    }
    file->base.ops = &faulty_file_ops;
    file->owner = f;
    *out = &file->base;
    return ST_OK;
}

static enum status faulty_rename(struct vfs *v, const char *from, const char *to, struct err *err)
{
    struct faulty *f = faulty_of(v);

    return is_failure(gate(f, OP_MUTATE)) ? fail_io(err, "renaming") : f->inner->ops->rename(f->inner, from, to, err);
}

static enum status faulty_unlink(struct vfs *v, const char *path, struct err *err)
{
    struct faulty *f = faulty_of(v);

    return is_failure(gate(f, OP_MUTATE)) ? fail_io(err, "removing") : f->inner->ops->unlink(f->inner, path, err);
}

static enum status faulty_mkdir(struct vfs *v, const char *path, struct err *err)
{
    struct faulty *f = faulty_of(v);
    enum verdict verdict = gate(f, OP_MUTATE);

    if (is_failure(verdict))
        return fail_io(err, "making directory");
    return verdict == FAIL_IF_GROWS ? fail_space(err, "making directory") : f->inner->ops->mkdir(f->inner, path, err);
}

static enum status faulty_rmdir(struct vfs *v, const char *path, struct err *err)
{
    struct faulty *f = faulty_of(v);

    return is_failure(gate(f, OP_MUTATE)) ? fail_io(err, "removing directory") : f->inner->ops->rmdir(f->inner, path, err);
}

static enum status faulty_list(struct vfs *v, const char *path, bool (*visit)(void *ctx, const char *name, bool is_dir), void *ctx, struct err *err)
{
    struct faulty *f = faulty_of(v);

    return is_failure(gate(f, OP_OTHER)) ? fail_io(err, "listing") : f->inner->ops->list(f->inner, path, visit, ctx, err);
}

static enum status faulty_sync_dir(struct vfs *v, const char *path, struct err *err)
{
    struct faulty *f = faulty_of(v);

    return is_failure(gate(f, OP_MUTATE)) ? fail_io(err, "syncing directory") : f->inner->ops->sync_dir(f->inner, path, err);
}

static enum status faulty_space(struct vfs *v, const char *path, uint64_t *bytes_free, struct err *err)
{
    struct faulty *f = faulty_of(v);

    *bytes_free = 0;
    return is_failure(gate(f, OP_OTHER)) ? fail_io(err, "free space") : f->inner->ops->space(f->inner, path, bytes_free, err);
}

static const struct vfs_ops faulty_ops = {
    .open = faulty_open,
    .rename = faulty_rename,
    .unlink = faulty_unlink,
    .mkdir = faulty_mkdir,
    .rmdir = faulty_rmdir,
    .list = faulty_list,
    .sync_dir = faulty_sync_dir,
    .space = faulty_space,
};

struct vfs *vfs_faulty_create(struct vfs *inner)
{
    struct faulty *f = calloc(1, sizeof *f);

    if (f == NULL)
        return NULL;
    if (pthread_mutex_init(&f->lock, NULL) != 0) {
        free(f);
        return NULL;
    }
    f->base.ops = &faulty_ops;
    f->inner = inner;
    return &f->base;
}

void vfs_faulty_destroy(struct vfs *v)
{
    struct faulty *f = faulty_of(v);

    if (f == NULL)
        return;
    pthread_mutex_destroy(&f->lock);
    free(f);
}

void vfs_faulty_arm(struct vfs *v, enum fault_kind kind, uint64_t n, uint64_t seed)
{
    struct faulty *f = faulty_of(v);

    assert(n >= 1 || kind == FAULT_NONE);
    pthread_mutex_lock(&f->lock);
    f->kind = kind;
    f->fire_at = (kind == FAULT_EIO_READ ? f->read_count : f->op_count) + n;
    f->seed = seed;
    f->has_fired = false;
    pthread_mutex_unlock(&f->lock);
}

void vfs_faulty_heal(struct vfs *v)
{
    struct faulty *f = faulty_of(v);

    pthread_mutex_lock(&f->lock);
    f->kind = FAULT_NONE; /* has_fired stays, to be asked for */
    pthread_mutex_unlock(&f->lock);
}

uint64_t vfs_faulty_op_count(struct vfs *v)
{
    struct faulty *f = faulty_of(v);
    uint64_t count;

    pthread_mutex_lock(&f->lock);
    count = f->op_count;
    pthread_mutex_unlock(&f->lock);
    return count;
}

uint64_t vfs_faulty_read_count(struct vfs *v)
{
    struct faulty *f = faulty_of(v);
    uint64_t count;

    pthread_mutex_lock(&f->lock);
    count = f->read_count;
    pthread_mutex_unlock(&f->lock);
    return count;
}

bool vfs_faulty_fired(struct vfs *v)
{
    struct faulty *f = faulty_of(v);
    bool has_fired;

    pthread_mutex_lock(&f->lock);
    has_fired = f->has_fired;
    pthread_mutex_unlock(&f->lock);
    return has_fired;
}
