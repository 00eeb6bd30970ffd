/* The file system in memory: paths, and the operations on names.
 *
 * Absolute and relative paths start at the same root; empty components and "." are skipped, ".." is refused.
 * sync_dir makes all names of a directory durable. A rename across two directories is one change: syncing either of them
 * makes both durable, as a journal does, so that a file never has two names or none. */
#include "vfs/memory_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { NAME_LEN_MAX = 255, GARBAGE_MAX = 256 };

/* Where a path leads: the directory and the last component. len is 0 for the root. */
struct place {
    uint32_t dir;
    const char *name;
    size_t len;
    struct mem_entry *entry; /* NULL: nothing there; only valid until the list of names changes */
};

static struct mem_inode *dir_of(const struct mem_fs *fs, uint32_t index) { return fs->inodes[index]; }

static struct mem_entry *entry_again(const struct mem_fs *fs, const struct place *place)
{
    return names_find(dir_of(fs, place->dir)->names, place->name, place->len);
}

/* Under the lock. avoid: a directory that the path may not pass (EINVAL), or MEM_NO_INODE. 0 or an errno. */
static int walk(const struct mem_fs *fs, const char *path, uint32_t avoid, struct place *out)
{
    const char *at = path;

    *out = (struct place){.dir = MEM_ROOT};
    for (;;) {
        size_t len;

        while (*at == '/')
            at++;
        if ((len = strcspn(at, "/")) == 0)
            return 0;
        if (len == 1 && at[0] == '.') {
            at++;
            continue;
        }
        if (len == 2 && at[0] == '.' && at[1] == '.')
            return EINVAL;
        if (len > NAME_LEN_MAX)
            return ENAMETOOLONG;
        if (out->len > 0) { /* what was the last component turns out to be a directory on the way */
            if (out->entry == NULL)
                return ENOENT;
            if (!out->entry->is_dir)
                return ENOTDIR;
            out->dir = out->entry->inode_index;
            if (out->dir == avoid)
                return EINVAL;
        }
        out->name = at;
        out->len = len;
        out->entry = entry_again(fs, out);
        at += len;
    }
}

/* The directory that path names; 0 or an errno. */
static int walk_dir(const struct mem_fs *fs, const char *path, uint32_t *out)
{
    struct place place;
    int os_errno;

    if ((os_errno = walk(fs, path, MEM_NO_INODE, &place)) != 0)
        return os_errno;
    if (place.len > 0 && place.entry == NULL)
        return ENOENT;
    if (place.len > 0 && !place.entry->is_dir)
        return ENOTDIR;
    *out = place.len > 0 ? place.entry->inode_index : MEM_ROOT;
    return 0;
}

static bool name_change_reserve(struct mem_fs *fs)
{
    struct mem_name_change *changes;
    size_t room = fs->name_change_room == 0 ? 16 : fs->name_change_room * 2;

    if (fs->name_change_count < fs->name_change_room)
        return true;
    if ((changes = realloc(fs->name_changes, room * sizeof *changes)) == NULL)
        return false;
    fs->name_changes = changes;
    fs->name_change_room = room;
    return true;
}

/* Under the lock, all memory reserved: notes the change; takes the references of both names. */
static void name_change_add(struct mem_fs *fs, struct mem_name_change change) { fs->name_changes[fs->name_change_count++] = change; }

/* Makes a file or directory at a place where nothing is; 0 or an errno. */
static int create_locked(struct mem_fs *fs, const struct place *place, bool is_dir, uint32_t *out)
{
    struct mem_inode *dir = dir_of(fs, place->dir);
    struct mem_name *name = NULL;
    uint32_t index = MEM_NO_INODE;

    *out = MEM_NO_INODE;
    if (!name_change_reserve(fs) || !names_own(&dir->names) || (name = name_new(place->name, place->len)) == NULL ||
        (index = mem_inode_new(fs, is_dir)) == MEM_NO_INODE) {
        name_unref(name);
        return ENOMEM;
    }
    names_set(dir->names, name, index, is_dir);
    fs->inodes[index]->is_linked = true;
    fs->inodes[index]->is_counted = !is_dir;
    name_change_add(fs, (struct mem_name_change){.from_dir = MEM_NO_INODE, .to_dir = place->dir, .inode_index = index, .is_dir = is_dir, .to = name});
    *out = index;
    return 0;
}

/* Takes the entry at place away and notes it; 0 or an errno. */
static int remove_locked(struct mem_fs *fs, const struct place *place)
{
    struct mem_inode *dir = dir_of(fs, place->dir);
    struct mem_entry *entry;
    struct mem_inode *inode;

    if (!name_change_reserve(fs) || !names_own(&dir->names))
        return ENOMEM;
    entry = entry_again(fs, place);
    inode = fs->inodes[entry->inode_index];
    name_change_add(fs, (struct mem_name_change){.from_dir = place->dir,
                                                 .to_dir = MEM_NO_INODE,
                                                 .inode_index = entry->inode_index,
                                                 .is_dir = entry->is_dir,
                                                 .from = name_ref(entry->name)});
    names_remove(dir->names, entry);
    inode->is_linked = false;
    mem_inode_uncount(fs, inode);
    if (++fs->garbage_count > GARBAGE_MAX)
        mem_collect(fs);
    return 0;
}

static int open_locked(struct mem_fs *fs, struct mem_handle *h, unsigned flags)
{
    struct place place;
    uint32_t index;
    int os_errno;

    if ((os_errno = walk(fs, h->path, MEM_NO_INODE, &place)) != 0)
        return os_errno;
    if (place.len == 0 || (place.entry != NULL && place.entry->is_dir))
        return (flags & VFS_CREATE) != 0 && (flags & VFS_EXCLUSIVE) != 0 ? EEXIST : EISDIR;
    if (place.entry == NULL) {
        if ((flags & VFS_CREATE) == 0)
            return ENOENT;
        if ((os_errno = create_locked(fs, &place, false, &index)) != 0)
            return os_errno;
    } else {
        if ((flags & VFS_CREATE) != 0 && (flags & VFS_EXCLUSIVE) != 0)
            return EEXIST;
        index = place.entry->inode_index;
        if ((flags & VFS_TRUNCATE) != 0 && fs->inodes[index]->current->length > 0 && (os_errno = mem_inode_truncate(fs, fs->inodes[index], 0)) != 0)
            return os_errno;
    }
    h->inode = fs->inodes[index];
    h->inode->open_count++;
    h->power_cuts = fs->power_cuts;
    fs->handle_count++;
    return 0;
}

static enum status mem_open(struct vfs *v, const char *path, unsigned flags, struct vfs_file **out, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    size_t path_len = strlen(path) + 1;
    struct mem_handle *h;
    int os_errno;

    *out = NULL;
    if ((flags & VFS_TRUNCATE) != 0 && (flags & VFS_WRITE) == 0)
        return err_set(err, ST_INVALID, 0, "opening %s: truncation needs write access", path);
    if ((h = calloc(1, sizeof *h + path_len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory to open %s", path);
    h->base.ops = &mem_file_ops;
    h->fs = fs;
    h->is_writable = (flags & VFS_WRITE) != 0;
    memcpy(h->path, path, path_len);
    pthread_mutex_lock(&fs->lock);
    os_errno = open_locked(fs, h, flags);
    pthread_mutex_unlock(&fs->lock);
    if (os_errno != 0) {
        free(h);
        return mem_fail(err, os_errno, "opening", path);
    }
    *out = &h->base;
    return ST_OK;
}

/* Whether the entry at `from` may take the place of the one at `to`; 0 or an errno. */
static int rename_check(const struct mem_fs *fs, const struct mem_entry *from, const struct mem_entry *to)
{
    if (to == NULL)
        return 0;
    if (to->is_dir && !from->is_dir)
        return EISDIR;
    if (!to->is_dir && from->is_dir)
        return ENOTDIR;
    return to->is_dir && dir_of(fs, to->inode_index)->names->count > 0 ? ENOTEMPTY : 0;
}

static int rename_locked(struct mem_fs *fs, const char *from_path, const char *to_path)
{
    struct mem_name_change change;
    struct place from, to;
    struct mem_entry *entry;
    struct mem_name *to_name;
    struct mem_inode *replaced = NULL;
    int os_errno;

    if ((os_errno = walk(fs, from_path, MEM_NO_INODE, &from)) != 0)
        return os_errno;
    if (from.len == 0)
        return EBUSY;
    if (from.entry == NULL)
        return ENOENT;
    if ((os_errno = walk(fs, to_path, from.entry->is_dir ? from.entry->inode_index : MEM_NO_INODE, &to)) != 0)
        return os_errno;
    if (to.len == 0)
        return EBUSY;
    if (from.entry == to.entry)
        return 0;
    if ((os_errno = rename_check(fs, from.entry, to.entry)) != 0)
        return os_errno;
    if (!name_change_reserve(fs) || (to_name = name_new(to.name, to.len)) == NULL)
        return ENOMEM;
    if (!names_own(&dir_of(fs, from.dir)->names) || !names_own(&dir_of(fs, to.dir)->names)) {
        name_unref(to_name);
        return ENOMEM;
    }
    entry = entry_again(fs, &from);
    change = (struct mem_name_change){.from_dir = from.dir,
                                      .to_dir = to.dir,
                                      .inode_index = entry->inode_index,
                                      .is_dir = entry->is_dir,
                                      .from = name_ref(entry->name),
                                      .to = to_name};
    names_remove(dir_of(fs, from.dir)->names, entry);
    if ((entry = entry_again(fs, &to)) != NULL)
        replaced = fs->inodes[entry->inode_index];
    names_set(dir_of(fs, to.dir)->names, to_name, change.inode_index, change.is_dir);
    name_change_add(fs, change);
    if (replaced != NULL) {
        replaced->is_linked = false;
        mem_inode_uncount(fs, replaced);
        if (++fs->garbage_count > GARBAGE_MAX)
            mem_collect(fs);
    }
    return 0;
}

static enum status mem_rename(struct vfs *v, const char *from, const char *to, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    enum status st;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    os_errno = rename_locked(fs, from, to);
    pthread_mutex_unlock(&fs->lock);
    if (os_errno == 0)
        return ST_OK;
    st = mem_fail(err, os_errno, "renaming", from);
    return err_while(err, st, "giving it the name %s", to);
}

static enum status mem_unlink(struct vfs *v, const char *path, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct place place;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk(fs, path, MEM_NO_INODE, &place)) == 0) {
        if (place.len == 0 || (place.entry != NULL && place.entry->is_dir))
            os_errno = EISDIR;
        else
            os_errno = place.entry == NULL ? ENOENT : remove_locked(fs, &place);
    }
    pthread_mutex_unlock(&fs->lock);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, "removing", path);
}

static enum status mem_mkdir(struct vfs *v, const char *path, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct place place;
    uint32_t index;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk(fs, path, MEM_NO_INODE, &place)) == 0)
        os_errno = place.len == 0 || place.entry != NULL ? EEXIST : create_locked(fs, &place, true, &index);
    pthread_mutex_unlock(&fs->lock);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, "making directory", path);
}

static enum status mem_rmdir(struct vfs *v, const char *path, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct place place;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk(fs, path, MEM_NO_INODE, &place)) == 0) {
        if (place.len == 0)
            os_errno = EBUSY;
        else if (place.entry == NULL)
            os_errno = ENOENT;
        else if (!place.entry->is_dir)
            os_errno = ENOTDIR;
        else if (dir_of(fs, place.entry->inode_index)->names->count > 0)
            os_errno = ENOTEMPTY;
        else
            os_errno = remove_locked(fs, &place);
    }
    pthread_mutex_unlock(&fs->lock);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, "removing directory", path);
}

static enum status mem_list(struct vfs *v, const char *path, bool (*visit)(void *ctx, const char *name, bool is_dir), void *ctx, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct mem_names *names = NULL;
    uint32_t index;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk_dir(fs, path, &index)) == 0)
        names = names_ref(dir_of(fs, index)->names);
    pthread_mutex_unlock(&fs->lock);
    if (os_errno != 0)
        return mem_fail(err, os_errno, "listing", path);
    /* Outside the lock, on a list that no longer changes: visit may use the file system. */
    for (size_t i = 0; i < names->count && visit(ctx, names->entries[i].name->text, names->entries[i].is_dir); i++) {}
    names_unref(names);
    return ST_OK;
}

/* Marks the directory and all that a pending rename ties to a marked one. */
static void sync_mark(struct mem_fs *fs, uint32_t dir)
{
    bool has_changed;

    for (uint32_t i = 0; i < fs->inode_count; i++)
        if (fs->inodes[i] != NULL)
            fs->inodes[i]->is_marked = false;
    dir_of(fs, dir)->is_marked = true;
    do {
        has_changed = false;
        for (size_t i = 0; i < fs->name_change_count; i++) {
            const struct mem_name_change *change = &fs->name_changes[i];

            if (change->from_dir != MEM_NO_INODE && change->to_dir != MEM_NO_INODE &&
                dir_of(fs, change->from_dir)->is_marked != dir_of(fs, change->to_dir)->is_marked) {
                dir_of(fs, change->from_dir)->is_marked = dir_of(fs, change->to_dir)->is_marked = true;
                has_changed = true;
            }
        }
    } while (has_changed);
}

static void sync_dir_locked(struct mem_fs *fs, uint32_t dir)
{
    size_t kept = 0;

    sync_mark(fs, dir);
    for (uint32_t i = 0; i < fs->inode_count; i++) {
        struct mem_inode *inode = fs->inodes[i];

        if (inode != NULL && inode->is_dir && inode->is_marked && inode->durable_names != inode->names) {
            names_unref(inode->durable_names);
            inode->durable_names = names_ref(inode->names);
        }
    }
    for (size_t i = 0; i < fs->name_change_count; i++) {
        struct mem_name_change *change = &fs->name_changes[i];

        if (dir_of(fs, change->to_dir != MEM_NO_INODE ? change->to_dir : change->from_dir)->is_marked)
            mem_name_change_clear(change);
        else
            fs->name_changes[kept++] = *change;
    }
    fs->name_change_count = kept;
}

static enum status mem_sync_dir(struct vfs *v, const char *path, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    uint32_t index;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk_dir(fs, path, &index)) == 0)
        sync_dir_locked(fs, index);
    pthread_mutex_unlock(&fs->lock);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, "syncing directory", path);
}

static enum status mem_space(struct vfs *v, const char *path, uint64_t *bytes_free, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct place place;
    int os_errno;

    *bytes_free = 0;
    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk(fs, path, MEM_NO_INODE, &place)) == 0 && place.len > 0 && place.entry == NULL)
        os_errno = ENOENT;
    if (os_errno == 0)
        *bytes_free = fs->bytes_max == 0 ? (uint64_t)1 << 40 : fs->bytes_max > fs->bytes_used ? fs->bytes_max - fs->bytes_used : 0;
    pthread_mutex_unlock(&fs->lock);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, "free space of", path);
}

enum status vfs_memory_flip_bit(struct vfs *v, const char *path, uint64_t bit, struct err *err)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct mem_inode *inode;
    struct place place;
    bool is_beyond = false;
    int os_errno;

    pthread_mutex_lock(&fs->lock);
    if ((os_errno = walk(fs, path, MEM_NO_INODE, &place)) == 0) {
        if (place.len == 0 || place.entry == NULL || place.entry->is_dir) {
            os_errno = ENOENT;
        } else {
            inode = fs->inodes[place.entry->inode_index];
            is_beyond = bit / 8 >= inode->current->length;
            if (!is_beyond && (!image_own(&inode->current, inode->current->length) || !image_flip_bit(inode->current, bit)))
                os_errno = ENOMEM;
            else if (!is_beyond && bit / 8 < inode->durable->length &&
                     (!image_own(&inode->durable, inode->durable->length) || !image_flip_bit(inode->durable, bit)))
                os_errno = ENOMEM;
        }
    }
    pthread_mutex_unlock(&fs->lock);
    if (is_beyond)
        return err_set(err, ST_INVALID, 0, "bit %llu lies beyond the end of %s", (unsigned long long)bit, path);
    return os_errno == 0 ? ST_OK : mem_fail(err, os_errno, "flipping a bit of", path);
}

const struct vfs_ops mem_ops = {
    .open = mem_open,
    .rename = mem_rename,
    .unlink = mem_unlink,
    .mkdir = mem_mkdir,
    .rmdir = mem_rmdir,
    .list = mem_list,
    .sync_dir = mem_sync_dir,
    .space = mem_space,
};
