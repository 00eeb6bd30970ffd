/* The power cut, clones, and the collector of inodes that nothing leads to any longer.
 *
 * After a random cut each unsynced change of content was kept, kept in part (in sectors), or lost, by itself; each
 * unsynced change of names was kept or lost as a whole. What was kept is applied in the order it was made. Order of
 * writing to the disk needs no further choice: for changes that do not overlap it makes no difference, and for those that
 * do, a later one that reached the disk first is overwritten by an earlier one only if the later was lost, which is
 * another choice of the same kind. A rename is atomic: the inode leaves every other name it has in those directories. */
#include "vfs/memory_internal.h"

#include <assert.h>
#include <stdlib.h>

struct cut {
    uint64_t rng;
    unsigned keep_of_256, tear_of_256; /* how likely a change is kept; how likely a kept one is torn */
};

/* splitmix64 */
static uint64_t next_random(struct cut *cut)
{
    uint64_t z = cut->rng += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static bool chance(struct cut *cut, unsigned of_256) { return next_random(cut) % 256 < of_256; }

/* Different cuts favour losing, keeping and tearing differently, so that all kinds of states come up. */
static struct cut cut_begin(uint64_t seed)
{
    static const unsigned keep[8] = {16, 64, 128, 128, 192, 240, 250, 128};
    static const unsigned tear[4] = {0, 32, 64, 160};
    struct cut cut = {.rng = seed};
    uint64_t style = next_random(&cut);

    cut.keep_of_256 = keep[style % 8];
    cut.tear_of_256 = tear[(style >> 8) % 4];
    return cut;
}

static void change_apply(struct mem_image *image, const struct mem_change *change, uint64_t start, uint64_t end)
{
    if (start >= end)
        return;
    /* Out of memory here means that a part was lost: also an outcome of a power cut. */
    if (change->kind == MEM_WRITE)
        (void)image_write(image, start, change->data + (start - change->offset), (size_t)(end - start));
    else
        (void)image_zero(image, start, end - start);
}

/* Some of the sectors of a change: the first ones, the last ones, or each by itself. */
static void change_apply_torn(struct mem_image *image, const struct mem_change *change, struct cut *cut)
{
    uint64_t start = change->offset, end = start + change->len, first = start / MEM_SECTOR_BYTES;
    uint64_t sector_count = (end - 1) / MEM_SECTOR_BYTES - first + 1, style = next_random(cut) % 4;
    uint64_t split = (first + next_random(cut) % (sector_count + 1)) * MEM_SECTOR_BYTES;

    if (style < 2 || change->kind == MEM_ZERO) {
        if (style % 2 == 0)
            change_apply(image, change, start, split < end ? split : end);
        else
            change_apply(image, change, split > start ? split : start, end);
        return;
    }
    for (uint64_t at = start; at < end;) {
        uint64_t next = (at / MEM_SECTOR_BYTES + 1) * MEM_SECTOR_BYTES;

        if (next > end)
            next = end;
        if (chance(cut, 128))
            change_apply(image, change, at, next);
        at = next;
    }
}

static void content_cut(struct mem_inode *inode, struct cut *cut)
{
    uint64_t end = inode->current->length > inode->durable->length ? inode->current->length : inode->durable->length;

    for (size_t i = 0; i < inode->change_count; i++)
        if (inode->changes[i]->offset + inode->changes[i]->len > end)
            end = inode->changes[i]->offset + inode->changes[i]->len;
    if (!image_own(&inode->durable, end))
        return;
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct mem_change *change = inode->changes[i];
        bool is_kept = chance(cut, cut->keep_of_256);

        if (change->kind == MEM_TRUNCATE) {
            if (is_kept)
                (void)image_truncate(inode->durable, change->offset);
        } else if (!is_kept) {
            /* The length may have become durable though the bytes have not: then they read as zeros. */
            if (change->offset + change->len > inode->durable->length && chance(cut, 32))
                inode->durable->length = change->offset + change->len;
        } else if (chance(cut, cut->tear_of_256)) {
            change_apply_torn(inode->durable, change, cut);
        } else {
            change_apply(inode->durable, change, change->offset, change->offset + change->len);
        }
    }
}

/* Whatever name the inode has in the directory. */
static struct mem_entry *find_inode(const struct mem_names *names, uint32_t inode_index)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->entries[i].inode_index == inode_index)
            return &names->entries[i];
    return NULL;
}

/* Takes the inode out of the directory's durable names, under whatever name it has there. */
static void inode_unname(struct mem_names *names, const struct mem_name *name, uint32_t inode_index)
{
    struct mem_entry *entry = names_find(names, name->text, name->len);

    if (entry == NULL || entry->inode_index != inode_index)
        entry = find_inode(names, inode_index);
    if (entry != NULL)
        names_remove(names, entry);
}

static void name_change_apply(struct mem_fs *fs, const struct mem_name_change *change)
{
    struct mem_names **from = change->from_dir == MEM_NO_INODE ? NULL : &fs->inodes[change->from_dir]->durable_names;
    struct mem_names **to = change->to_dir == MEM_NO_INODE ? NULL : &fs->inodes[change->to_dir]->durable_names;

    /* Without memory the change is lost as a whole, which is allowed. */
    if ((from != NULL && !names_own(from)) || (to != NULL && !names_own(to)))
        return;
    if (from != NULL)
        inode_unname(*from, change->from, change->inode_index);
    if (to != NULL) {
        if (from != NULL && *from != *to)
            inode_unname(*to, change->to, change->inode_index);
        names_set(*to, change->to, change->inode_index, change->is_dir);
    }
}

/* The current state becomes what is on the disk. */
static void state_settle(struct mem_fs *fs, bool keep_all)
{
    for (uint32_t i = 0; i < fs->inode_count; i++) {
        struct mem_inode *inode = fs->inodes[i];

        if (inode == NULL)
            continue;
        if (inode->is_dir) {
            struct mem_names *names = names_ref(keep_all ? inode->names : inode->durable_names);

            names_unref(inode->names);
            names_unref(inode->durable_names);
            inode->names = names;
            inode->durable_names = names_ref(names);
        } else {
            struct mem_image *image = image_ref(keep_all ? inode->current : inode->durable);

            image_unref(inode->current);
            image_unref(inode->durable);
            inode->current = image;
            inode->durable = image_ref(image);
            mem_changes_clear(inode);
        }
        inode->open_count = 0;
        inode->lock_owner = NULL;
        inode->is_linked = inode->is_counted = false;
    }
    while (fs->name_change_count > 0)
        mem_name_change_clear(&fs->name_changes[--fs->name_change_count]);
}

/* Finds out anew which files have names, and the sum of their lengths. */
static void links_count(struct mem_fs *fs)
{
    fs->bytes_used = 0;
    for (uint32_t i = 0; i < fs->inode_count; i++) {
        const struct mem_names *names = fs->inodes[i] == NULL || !fs->inodes[i]->is_dir ? NULL : fs->inodes[i]->names;

        for (size_t k = 0; names != NULL && k < names->count; k++) {
            struct mem_inode *inode = fs->inodes[names->entries[k].inode_index];

            inode->is_linked = true;
            if (!inode->is_dir && !inode->is_counted) {
                inode->is_counted = true;
                fs->bytes_used += inode->current->length;
            }
        }
    }
}

void vfs_memory_power_cut(struct vfs *v, enum power_cut_mode mode, uint64_t seed)
{
    struct mem_fs *fs = (struct mem_fs *)v;
    struct cut cut = cut_begin(seed);

    pthread_mutex_lock(&fs->lock);
    fs->power_cuts++;
    if (mode == POWER_CUT_RANDOM) {
        for (uint32_t i = 0; i < fs->inode_count; i++)
            if (fs->inodes[i] != NULL && !fs->inodes[i]->is_dir && fs->inodes[i]->change_count > 0)
                content_cut(fs->inodes[i], &cut);
        for (size_t i = 0; i < fs->name_change_count; i++)
            if (chance(&cut, cut.keep_of_256))
                name_change_apply(fs, &fs->name_changes[i]);
    }
    state_settle(fs, mode == POWER_CUT_KEEP_ALL);
    mem_collect(fs);
    links_count(fs);
    pthread_mutex_unlock(&fs->lock);
}

static void mark(struct mem_inode *inode, struct mem_inode **list)
{
    if (!inode->is_marked) {
        inode->is_marked = true;
        inode->next_marked = *list;
        *list = inode;
    }
}

static void mark_names(struct mem_fs *fs, const struct mem_names *names, struct mem_inode **list)
{
    for (size_t i = 0; i < names->count; i++)
        mark(fs->inodes[names->entries[i].inode_index], list);
}

void mem_collect(struct mem_fs *fs)
{
    struct mem_inode *list = NULL;

    for (uint32_t i = 0; i < fs->inode_count; i++)
        if (fs->inodes[i] != NULL)
            fs->inodes[i]->is_marked = false;
    mark(fs->inodes[MEM_ROOT], &list);
    for (uint32_t i = 0; i < fs->inode_count; i++)
        if (fs->inodes[i] != NULL && fs->inodes[i]->open_count > 0)
            mark(fs->inodes[i], &list);
    for (size_t i = 0; i < fs->name_change_count; i++) {
        const struct mem_name_change *change = &fs->name_changes[i];

        mark(fs->inodes[change->inode_index], &list);
        if (change->from_dir != MEM_NO_INODE)
            mark(fs->inodes[change->from_dir], &list);
        if (change->to_dir != MEM_NO_INODE)
            mark(fs->inodes[change->to_dir], &list);
    }
    while (list != NULL) {
        struct mem_inode *inode = list;

        list = inode->next_marked;
        if (inode->is_dir) {
            mark_names(fs, inode->names, &list);
            mark_names(fs, inode->durable_names, &list);
        }
    }
    for (uint32_t i = 0; i < fs->inode_count; i++)
        if (fs->inodes[i] != NULL && !fs->inodes[i]->is_marked) {
            mem_inode_free(fs->inodes[i]);
            fs->inodes[i] = NULL;
            if (i < fs->free_from)
                fs->free_from = i;
        }
    fs->garbage_count = 0;
}

static bool inode_clone(const struct mem_inode *from, struct mem_inode **out)
{
    struct mem_inode *inode = calloc(1, sizeof *inode);

    *out = inode;
    if (inode == NULL)
        return false;
    inode->is_dir = from->is_dir;
    inode->is_linked = from->is_linked;
    inode->has_truncate = from->has_truncate;
    inode->is_counted = from->is_counted && from->is_linked; /* the clone has no open files */
    if (from->is_dir) {
        inode->names = names_ref(from->names);
        inode->durable_names = names_ref(from->durable_names);
        return true;
    }
    inode->current = image_ref(from->current);
    inode->durable = image_ref(from->durable);
    if (from->change_count > 0) {
        if ((inode->changes = malloc(from->change_count * sizeof(struct mem_change *))) == NULL)
            return false;
        inode->change_room = from->change_count;
        for (; inode->change_count < from->change_count; inode->change_count++) {
            inode->changes[inode->change_count] = from->changes[inode->change_count];
            atomic_fetch_add_explicit(&inode->changes[inode->change_count]->refs, 1, memory_order_relaxed);
        }
    }
    return true;
}

static bool fs_copy(struct mem_fs *fs, struct mem_fs *clone)
{
    if ((clone->inodes = calloc(fs->inode_room, sizeof(struct mem_inode *))) == NULL)
        return false;
    clone->inode_room = fs->inode_room;
    clone->free_from = fs->free_from;
    clone->bytes_max = fs->bytes_max;
    for (uint32_t i = 0; i < fs->inode_count; i++) {
        clone->inode_count = i + 1;
        if (fs->inodes[i] != NULL && !inode_clone(fs->inodes[i], &clone->inodes[i]))
            return false;
        if (fs->inodes[i] != NULL && clone->inodes[i]->is_counted)
            clone->bytes_used += clone->inodes[i]->current->length;
    }
    if (fs->name_change_count > 0) {
        if ((clone->name_changes = malloc(fs->name_change_count * sizeof *clone->name_changes)) == NULL)
            return false;
        clone->name_change_room = clone->name_change_count = fs->name_change_count;
        for (size_t i = 0; i < fs->name_change_count; i++) {
            struct mem_name_change *change = &clone->name_changes[i];

            *change = fs->name_changes[i];
            if (change->from != NULL)
                name_ref(change->from);
            if (change->to != NULL)
                name_ref(change->to);
        }
    }
    return true;
}

struct vfs *vfs_memory_clone(struct vfs *v)
{
    struct mem_fs *fs = (struct mem_fs *)v, *clone = mem_fs_new();
    bool is_whole;

    if (clone == NULL)
        return NULL;
    pthread_mutex_lock(&fs->lock);
    if (fs->garbage_count > 0)
        mem_collect(fs);
    is_whole = fs_copy(fs, clone);
    pthread_mutex_unlock(&fs->lock);
    if (!is_whole) {
        mem_fs_free(clone);
        return NULL;
    }
    mem_collect(clone); /* files that were only open in the original */
    return &clone->base;
}
