/* Writing complete pages to the bands' files, beside the writer and the readers.
 *
 * A page stays in memory until its write has returned; then the band's page count is raised and the page taken out, in this
 * order, so that a reader finds it in one of the two places. Before the first write of this process whatever the files hold
 * beyond the known pages is cut off and synced: pages of a life that was lost must never be taken for ours later.
 * After a failed sync nobody knows what the disk holds: nothing more is written, the pages stay in memory. */
#include "merkle/merkle_internal.h"

#include <assert.h>
#include <stdlib.h>

#define BATCH_PAGES 64

static enum status file_open(struct tree *t, unsigned band, unsigned flags, struct vfs_file **out, struct err *err)
{
    char path[PATH_BYTES_MAX];
    enum status st = band_path(t, band, path, err);

    *out = NULL;
    return st == ST_OK ? t->vfs->ops->open(t->vfs, path, flags, out, err) : st;
}

static enum status band_trim(struct tree *t, unsigned band, struct err *err)
{
    uint64_t known = atomic_load(&t->bands[band].disk_pages) * PAGE_BYTES, len = 0;
    struct vfs_file *file = NULL;
    enum status st = file_open(t, band, VFS_WRITE, &file, err);

    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st != ST_OK)
        return st;
    if ((st = file->ops->length(file, &len, err)) == ST_OK && len > known) {
        st = file->ops->truncate(file, known, err);
        if (st == ST_OK && (st = file->ops->sync(file, err)) != ST_OK)
            t->sync_failed = true;
    }
    file->ops->close(file);
    return st;
}

static enum status files_trim(struct tree *t, struct err *err)
{
    enum status st = ST_OK;

    for (unsigned b = 0; b < BANDS && st == ST_OK && !t->is_trimmed; b++)
        st = band_trim(t, b, err);
    t->is_trimmed = t->is_trimmed || st == ST_OK;
    return st;
}

/* Complete pages from no first on, at most BATCH_PAGES of them and none at or beyond end. They stay in the ring: only this
 * thread takes complete pages out. */
static size_t batch_gather(struct band *band, uint64_t first, uint64_t end, const struct page *batch[BATCH_PAGES])
{
    struct tree *t = band->tree;
    size_t count = 0;

    pthread_mutex_lock(&t->lock);
    for (uint64_t no = first; no < end && count < BATCH_PAGES; no++) {
        const struct page *page = ring_find(band, no);

        if (page == NULL)
            break;
        batch[count++] = page;
    }
    pthread_mutex_unlock(&t->lock);
    return count;
}

/* What was just written is what will be asked for next. */
static void batch_offer(struct band *band, const struct page *const batch[], size_t count, const uint8_t *stored)
{
    struct tree *t = band->tree;

    for (size_t i = 0; i < count; i++) {
        uint64_t no = batch[i]->no;

        if (band->no == 0)
            cache_put(t->cache, cache_file_id(atomic_load(&band->file)), no * PAGE_BYTES, stored + i * PAGE_BYTES, PAGE_BYTES, NULL);
        else
            cache_put(t->cache, t->expanded_id, (uint64_t)band->no << 56 | no, batch[i]->nodes, sizeof batch[i]->nodes, NULL);
    }
}

static void batch_release(struct band *band, uint64_t first, size_t count)
{
    struct tree *t = band->tree;
    struct retired *garbage = NULL;

    pthread_mutex_lock(&t->lock);
    atomic_store_explicit(&band->disk_pages, first + count, memory_order_release);
    for (uint64_t no = first; no < first + count; no++) {
        struct ring *ring = atomic_load(&band->ring);
        struct page *page = ring_find(band, no);

        atomic_store_explicit(&ring->slots[no & ring->mask], NULL, memory_order_release);
        grace_retire(&t->grace, &page->retired);
    }
    garbage = grace_collect(&t->grace);
    pthread_mutex_unlock(&t->lock);
    retired_free(t, garbage);
}

static enum status batch_write(struct band *band, struct vfs_file *file, uint64_t end, uint8_t *buf, struct err *err)
{
    const struct page *batch[BATCH_PAGES];
    uint64_t first = atomic_load(&band->disk_pages);
    size_t count = batch_gather(band, first, end, batch);
    enum status st = ST_OK;

    assert(count > 0); /* complete and not on disk is in memory */
    for (size_t i = 0; i < count; i++)
        page_encode(batch[i]->nodes, band->tree->seed, band->no, batch[i]->no, buf + i * PAGE_BYTES);
    band->is_dirty = true;
    if ((st = vfs_write_at(file, first * PAGE_BYTES, buf, count * PAGE_BYTES, err)) != ST_OK)
        return st;
    batch_offer(band, batch, count, buf);
    batch_release(band, first, count);
    return ST_OK;
}

static enum status band_flush(struct band *band, uint64_t end, struct err *err)
{
    struct tree *t = band->tree;
    struct vfs_file *file = NULL;
    uint8_t *buf = NULL;
    enum status st = ST_OK;

    if (atomic_load(&band->disk_pages) >= end)
        return ST_OK;
    if ((st = band_file_register(band, err)) != ST_OK)
        return st;
    buf = malloc((size_t)BATCH_PAGES * PAGE_BYTES);
    if (buf == NULL)
        return err_set(err, ST_NOMEM, 0, "writing tree pages");
    band->is_name_dirty = band->is_name_dirty || atomic_load(&band->disk_pages) == 0;
    st = file_open(t, band->no, VFS_WRITE | VFS_CREATE, &file, err);
    while (st == ST_OK && atomic_load(&band->disk_pages) < end)
        st = batch_write(band, file, end, buf, err);
    if (file != NULL)
        file->ops->close(file);
    free(buf);
    return st;
}

static struct repair *repair_take(struct tree *t)
{
    struct repair *r = NULL;

    pthread_mutex_lock(&t->lock);
    r = t->repairs;
    if (r != NULL) {
        t->repairs = r->next;
        t->repair_count--;
    }
    pthread_mutex_unlock(&t->lock);
    return r;
}

/* Writes rebuilt pages in their places. One that cannot be written is dropped: it will be rebuilt again when needed. */
static enum status repairs_flush(struct tree *t, struct err *err)
{
    enum status st = ST_OK;
    struct repair *r = NULL;

    for (size_t i = 0; i < REPAIRS_MAX && st == ST_OK && (r = repair_take(t)) != NULL; i++) {
        struct vfs_file *file = NULL;

        t->bands[r->band].is_dirty = t->bands[r->band].is_name_dirty = true;
        st = file_open(t, r->band, VFS_WRITE | VFS_CREATE, &file, err);
        if (st == ST_OK)
            st = vfs_write_at(file, r->no * PAGE_BYTES, r->data, PAGE_BYTES, err);
        if (file != NULL)
            file->ops->close(file);
        tree_unaccount(t, sizeof *r);
        free(r);
    }
    return st;
}

static enum status band_sync(struct band *band, struct err *err)
{
    struct vfs_file *file = NULL;
    enum status st = ST_OK;

    if (!band->is_dirty)
        return ST_OK;
    st = file_open(band->tree, band->no, VFS_WRITE, &file, err);
    if (st == ST_NOT_FOUND) { /* lost, and nothing was written since: its pages are made again when needed */
        band->is_dirty = false;
        return ST_OK;
    }
    if (st != ST_OK)
        return st;
    if ((st = file->ops->sync(file, err)) == ST_OK)
        band->is_dirty = false;
    else
        band->tree->sync_failed = true;
    file->ops->close(file);
    return st;
}

static enum status files_sync(struct tree *t, struct err *err)
{
    uint64_t written = atomic_load(&t->bands[0].disk_pages) * PAGE_WIDTH;
    bool is_name_dirty = false;
    enum status st = ST_OK;

    for (unsigned b = 0; b < BANDS && st == ST_OK; b++) {
        st = band_sync(&t->bands[b], err);
        is_name_dirty = is_name_dirty || t->bands[b].is_name_dirty;
    }
    if (st == ST_OK && is_name_dirty && (st = t->vfs->ops->sync_dir(t->vfs, t->dir, err)) != ST_OK)
        t->sync_failed = true;
    for (unsigned b = 0; b < BANDS && st == ST_OK; b++)
        t->bands[b].is_name_dirty = false;
    if (st == ST_OK)
        atomic_store_explicit(&t->flushed, written, memory_order_release);
    return st;
}

enum status tree_flush(struct tree *t, uint64_t upto, bool sync, struct err *err)
{
    uint64_t size = tree_size(t), limit = upto < size ? upto : size;
    bool is_more = false;
    enum status st = ST_OK;

    if (t->sync_failed)
        return err_set(err, ST_READ_ONLY, 0, "the tree in %s could not be synced before", t->dir);
    for (unsigned b = 0; b < BANDS; b++)
        is_more = is_more || pages_complete(limit, b) > atomic_load(&t->bands[b].disk_pages);
    if (is_more)
        st = files_trim(t, err);
    if (st == ST_OK)
        st = repairs_flush(t, err);
    /* From the bottom: a page above is never on disk before those it is made of. */
    for (unsigned b = 0; b < BANDS && st == ST_OK; b++)
        st = band_flush(&t->bands[b], pages_complete(limit, b), err);
    if (st == ST_OK && sync)
        st = files_sync(t, err);
    return st == ST_OK ? ST_OK : err_while(err, st, "writing the tree in %s", t->dir);
}
