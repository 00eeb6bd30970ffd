/* Sealing: the footer of a full segment, its line in the manifest; and what becomes of generations that were replaced.
 *
 * Order: every frame is synced (log_roll) -> footer written, file cut to its end, synced -> manifest line appended, synced -> offsets are read from
 * the footer. A crash before the manifest line leaves a segment that is scanned frame by frame at the next open and sealed again. */
#include "log/log_internal.h"
#include "log/scan.h"

#include <assert.h>
#include <stdlib.h>

enum { PAGES_PER_WRITE = 16 };

enum status segment_read_trailer(struct log *l, struct segment *s, bool check_pages, bool *is_valid, struct segment_trailer *out, struct err *err)
{
    uint8_t bytes[SEGMENT_TRAILER_BYTES], page[OFFSET_PAGE_BYTES];
    uint64_t file_bytes, at;
    enum status st;

    *is_valid = false;
    if ((st = cache_file_length(l->cache, s->file, &file_bytes, err)) != ST_OK)
        return st;
    if (file_bytes < SEGMENT_HEADER_BYTES + SEGMENT_TRAILER_BYTES)
        return ST_OK;
    at = file_bytes - SEGMENT_TRAILER_BYTES;
    if ((st = cache_file_read(l->cache, s->file, at, bytes, sizeof bytes, err)) != ST_OK)
        return st;
    if (!segment_trailer_decode(bytes, segment_place_seed(s->seed, at), at, out) || out->segment_no != s->no || out->generation != s->generation)
        return ST_OK;
    for (uint32_t i = 0; check_pages && i < out->page_count; i++) {
        at = out->pages_offset + (uint64_t)i * OFFSET_PAGE_BYTES;
        if ((st = cache_file_read(l->cache, s->file, at, page, sizeof page, err)) != ST_OK)
            return st;
        if (!offset_page_is_valid(page, segment_place_seed(s->seed, at)))
            return ST_OK;
    }
    *is_valid = true;
    return ST_OK;
}

static enum status body_digest(struct log *l, struct cache_file *file, uint64_t body_end, hash_t *out, struct err *err)
{
    struct sha256 sha;
    struct window w;
    const uint8_t *p;
    enum status st;

    sha256_init(&sha);
    if ((st = window_init(&w, l->cache, err)) != ST_OK)
        return st;
    if ((st = window_file(&w, file, err)) != ST_OK)
        goto done;
    for (uint64_t at = SEGMENT_HEADER_BYTES; at < body_end;) {
        size_t piece = body_end - at < WINDOW_BYTES ? (size_t)(body_end - at) : WINDOW_BYTES;

        if ((st = window_bytes(&w, at, piece, &p, err)) != ST_OK)
            goto done;
        sha256_update(&sha, p, piece);
        at += piece;
    }
    sha256_final(&sha, out);
done:
    window_free(&w);
    return st;
}

/* One page from the map; the caller owns the map or keeps it from going away. */
static void page_from_map(const struct offset_map *map, const struct segment_trailer *t, uint32_t page_index, uint32_t seed, uint8_t *out)
{
    uint64_t first = (uint64_t)page_index * OFFSET_PAGE_TXS, total = t->last_tx_id + 1 - t->first_tx_id;
    size_t count = total - first < OFFSET_PAGE_TXS ? (size_t)(total - first) : OFFSET_PAGE_TXS;
    struct offset_chunk *chunk = atomic_load(&map->chunks[page_index]);
    uint64_t at = t->pages_offset + (uint64_t)page_index * OFFSET_PAGE_BYTES;
    uint32_t units[OFFSET_PAGE_TXS], end = (uint32_t)(t->body_end / OFFSET_UNIT);

    for (size_t i = 0; i < count; i++)
        units[i] = atomic_load_explicit(&chunk->units[i], memory_order_relaxed);
    if (first + count < total)
        end = atomic_load_explicit(&atomic_load(&map->chunks[page_index + 1])->units[0], memory_order_relaxed);
    offset_page_encode(out, atomic_load_explicit(&chunk->ts_max, memory_order_relaxed), units, count, end, segment_place_seed(seed, at));
}

static enum status write_pages(const struct seal_source *src, const struct segment_trailer *t, uint32_t seed, struct err *err)
{
    uint8_t *pages;
    enum status st = ST_OK;

    if ((pages = malloc(PAGES_PER_WRITE * OFFSET_PAGE_BYTES)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a footer");
    for (uint32_t i = 0; i < t->page_count && st == ST_OK;) {
        uint64_t at = t->pages_offset + (uint64_t)i * OFFSET_PAGE_BYTES;
        size_t n = 0;

        for (; n < PAGES_PER_WRITE && i < t->page_count; n++, i++)
            page_from_map(src->map, t, i, seed, pages + n * OFFSET_PAGE_BYTES);
        st = vfs_write_at(src->file, at, pages, n * OFFSET_PAGE_BYTES, err);
    }
    free(pages);
    return st;
}

enum status segment_write_footer(struct log *l, uint32_t seed, const struct seal_source *src, struct segment_trailer *t, struct err *err)
{
    uint8_t trailer[SEGMENT_TRAILER_BYTES], block[FRONTIER_BLOCK_BYTES];
    uint64_t at;
    enum status st;

    t->has_frontier = src->frontier != NULL && src->frontier->size > 0;
    t->sealed_ns = env_wall_ns(l->env);
    segment_trailer_layout(t);
    if ((st = body_digest(l, src->reader, t->body_end, &t->body_sha256, err)) != ST_OK)
        return st;
    if ((st = write_pages(src, t, seed, err)) != ST_OK)
        return st;
    if (t->has_frontier) {
        frontier_block_encode(block, src->frontier, segment_place_seed(seed, t->frontier_offset));
        if ((st = vfs_write_at(src->file, t->frontier_offset, block, sizeof block, err)) != ST_OK)
            return st;
    }
    at = t->file_bytes - SEGMENT_TRAILER_BYTES;
    segment_trailer_encode(t, trailer, segment_place_seed(seed, at));
    if ((st = vfs_write_at(src->file, at, trailer, sizeof trailer, err)) != ST_OK)
        return st;
    /* Zeros that were written ahead. */
    if ((st = src->file->ops->truncate(src->file, t->file_bytes, err)) != ST_OK)
        return st;
    return src->file->ops->sync(src->file, err);
}

enum status manifest_note_sealed(struct log *l, const struct segment *s, const struct segment_trailer *t, struct err *err)
{
    struct manifest_entry e = {.segment_no = s->no,
                               .generation = s->generation,
                               .is_sealed = true,
                               .values_removed = s->values_removed,
                               .first_tx_id = t->first_tx_id,
                               .last_tx_id = t->last_tx_id,
                               .last_batch = t->last_batch,
                               .file_bytes = t->file_bytes,
                               .chain_end = t->chain_end,
                               .end_tx_id = t->end_tx_id};
    enum status st;

    memcpy(e.salt, s->salt, LOG_SALT_LEN);
    pthread_mutex_lock(&l->manifest_lock);
    st = manifest_append(&l->manifest, l->vfs, l->dir, &e, err);
    pthread_mutex_unlock(&l->manifest_lock);
    return st;
}

/* Takes the write handle when the segment may be sealed now. */
static bool seal_begin(struct log *l, struct segment *s, struct segment_trailer *t, struct vfs_file **out, struct frontier *frontier)
{
    bool ready;

    memset(t, 0, sizeof *t);
    pthread_mutex_lock(&l->write);
    t->first_tx_id = atomic_load(&s->first_tx);
    t->last_tx_id = t->first_tx_id + atomic_load(&s->tx_count) - 1;
    ready = s->state == SEGMENT_FULL && s->out_users == 0 && t->last_tx_id <= l->tail.synced_committed;
    if (ready) {
        t->segment_no = s->no;
        t->generation = s->generation;
        t->values_removed = s->values_removed;
        t->first_batch = s->first_batch;
        t->last_batch = s->last_batch;
        t->chain_begin = s->chain_begin;
        t->chain_end = s->chain_end;
        t->end_tx_id = s->end_tx > t->last_tx_id ? s->end_tx : t->last_tx_id;
        t->body_end = atomic_load(&s->end);
        t->ts_min = s->ts_min;
        t->ts_max = s->ts_max;
        frontier->size = 0;
        if (s->frontier != NULL)
            *frontier = *s->frontier;
        *out = s->out;
        s->out = NULL;
    }
    pthread_mutex_unlock(&l->write);
    return ready;
}

enum status segment_seal(struct log *l, struct segment *s, bool *done, struct err *err)
{
    struct frontier *frontier = NULL;
    struct vfs_file *out = NULL;
    struct segment_trailer t;
    struct seal_source src;
    enum status st = ST_OK;

    *done = false;
    if ((frontier = malloc(sizeof *frontier)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory to seal %s", s->name);
    if (!seal_begin(l, s, &t, &out, frontier))
        goto done;
    if (out == NULL && (st = l->vfs->ops->open(l->vfs, cache_file_path(s->file), VFS_WRITE, &out, err)) != ST_OK)
        goto done;
    src = (struct seal_source){.file = out, .reader = s->file, .map = atomic_load(&s->map), .frontier = frontier};
    if ((st = segment_write_footer(l, s->seed, &src, &t, err)) != ST_OK)
        goto done;
    if ((st = manifest_note_sealed(l, s, &t, err)) != ST_OK)
        goto done;
    s->trailer = t;
    atomic_store(&s->is_sealed, true);
    pthread_mutex_lock(&l->write);
    s->state = SEGMENT_SEALED;
    free(s->frontier);
    s->frontier = NULL;
    pthread_mutex_unlock(&l->write);
    map_retire(s);
    *done = true;
done:
    free(frontier);
    if (out != NULL)
        out->ops->close(out);
    if (st == ST_OK)
        return ST_OK;
    if (st != ST_NO_SPACE && st != ST_NOMEM)
        log_fail(l, st, err);
    return err_while(err, st, "sealing %s", s->name);
}

void segments_reap(struct log *l)
{
    char path[PATH_BYTES_MAX];
    struct err err;
    enum status st;

    for (struct segment **at = &l->retired, *s; (s = *at) != NULL;) {
        if (atomic_load(&s->refs) != 0) {
            at = &s->retired_next;
            continue;
        }
        *at = s->retired_next;
        s->retired_next = l->reaped; /* the object stays until log_close: a reader may be about to find out */
        l->reaped = s;
        snprintf(path, sizeof path, "%s", cache_file_path(s->file));
        cache_file_close(l->cache, s->file);
        s->file = NULL;
        /* A leftover is removed at the next open. */
        if ((st = l->vfs->ops->unlink(l->vfs, path, &err)) != ST_OK)
            env_log(l->env, LOG_WARN, "log %s: %s cannot be removed: %s", l->dir, s->name, err.text);
        else if (l->vfs->ops->sync_dir(l->vfs, l->dir, &err) != ST_OK)
            env_log(l->env, LOG_WARN, "log %s: %s", l->dir, err.text);
    }
}
