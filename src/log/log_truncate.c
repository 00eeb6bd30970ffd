/* Truncation: a sealed segment is replaced by a generation without values.
 *
 *   1  seg-N.(g+1) is written: the same frames with the same batch numbers, every tx with its keys, metadata and hval; footer; sync; sync_dir
 *   2  the manifest says that generation g+1 counts; sync
 *   3  new readers find the new generation; the old one's blocks leave the cache
 *   4  its file is unlinked once the last reader is gone (segments_reap), at the latest at the next open
 * A crash before 2 is durable leaves the old generation in force and a leftover file; after it, the new one. Headers, digests and
 * hashes of the txs are the same in both. A segment in which anything does not check is left alone: truncation must not hide damage. */
#include "log/log_read.h"
#include "log/scan.h"

#include <assert.h>
#include <stdlib.h>

#define OUT_BYTES ((size_t)256 << 10)

struct rewrite {
    struct log *l;
    struct segment *old, *new;
    struct vfs_file *file;
    struct window w;
    uint8_t *out; /* OUT_BYTES, bytes [out_at, out_at + out_len) of the new file */
    uint64_t out_at;
    size_t out_len;
    uint8_t *record; /* the record being transformed */
    size_t record_capacity;
    struct tx_entry *entries;
    size_t entry_capacity;
    uint64_t frame_at; /* in the new file */
    uint32_t body_crc;
    uint32_t chain;
};

/* --- output --- */

static enum status out_flush(struct rewrite *rw, struct err *err)
{
    enum status st = rw->out_len == 0 ? ST_OK : vfs_write_at(rw->file, rw->out_at, rw->out, rw->out_len, err);

    rw->out_at += rw->out_len;
    rw->out_len = 0;
    return st;
}

static enum status out_put(struct rewrite *rw, const uint8_t *data, size_t len, struct err *err)
{
    enum status st;

    while (len > 0) {
        size_t room = OUT_BYTES - rw->out_len, piece = len < room ? len : room;

        memcpy(rw->out + rw->out_len, data, piece);
        rw->out_len += piece;
        data += piece;
        len -= piece;
        if (rw->out_len == OUT_BYTES && (st = out_flush(rw, err)) != ST_OK)
            return st;
    }
    return ST_OK;
}

static uint64_t out_position(const struct rewrite *rw) { return rw->out_at + rw->out_len; }

static enum status out_zeros(struct rewrite *rw, uint64_t upto, struct err *err)
{
    static const uint8_t zeros[FRAME_HEADER_BYTES];
    uint64_t len = upto - out_position(rw);

    assert(len <= sizeof zeros);
    return out_put(rw, zeros, (size_t)len, err);
}

/* Bytes of a record: under the body checksum. */
static enum status body_put(struct rewrite *rw, const uint8_t *data, size_t len, struct err *err)
{
    rw->body_crc = crc32c(rw->body_crc, data, len);
    return out_put(rw, data, len, err);
}

static enum status body_pad(struct rewrite *rw, struct err *err)
{
    static const uint8_t zeros[RECORD_ALIGN];

    return body_put(rw, zeros, (size_t)(record_align(out_position(rw)) - out_position(rw)), err);
}

/* --- one tx --- */

static enum status record_reserve(struct rewrite *rw, size_t len, struct err *err)
{
    uint8_t *grown;

    if (len <= rw->record_capacity)
        return ST_OK;
    if ((grown = realloc(rw->record, len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a record of %zu bytes", len);
    rw->record = grown;
    rw->record_capacity = len;
    return ST_OK;
}

static enum status entries_reserve(struct rewrite *rw, size_t count, struct err *err)
{
    struct tx_entry *grown;

    if (count <= rw->entry_capacity)
        return ST_OK;
    if ((grown = realloc(rw->entries, count * sizeof *grown)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for %zu entries", count);
    rw->entries = grown;
    rw->entry_capacity = count;
    return ST_OK;
}

/* Entry i without its value; hval comes from the record, or from a small value that is read and checked. */
static enum status entry_strip(struct rewrite *rw, const struct tx_layout *x, uint64_t offset, uint32_t i, uint32_t value_start, struct err *err)
{
    const uint8_t *row_bytes = rw->record + x->rows_at + (size_t)i * TX_ROW_BYTES, *key;
    struct tx_entry *e = &rw->entries[i];
    const uint8_t *value = NULL;
    struct tx_row row;
    enum status st;

    if (!tx_row_decode(row_bytes, value_start, &row))
        return err_set(err, ST_CORRUPT, 0, "entry %u contradicts itself", i);
    key = rw->record + x->keys_at + row.key_at;
    memset(e, 0, sizeof *e);
    e->key = bytes_of(key, row.key_len);
    e->md = bytes_of(key + row.key_len, row.md_len);
    e->is_value_gone = true;
    if (row.has_hval) {
        memcpy(e->hval.b, key + row.key_len + row.md_len, HASH_LEN);
        return ST_OK;
    }
    if ((st = window_bytes(&rw->w, offset + x->values_at + row.value_at, row.value_len, &value, err)) != ST_OK)
        return st;
    if (row.entry_crc != tx_entry_crc(x->body_seed, i, row_bytes, bytes_of(key, row.key_part_len), bytes_of(value, row.value_len)))
        return err_set(err, ST_CORRUPT, 0, "entry %u has a wrong checksum", i);
    sha256(value, row.value_len, &e->hval);
    return ST_OK;
}

static enum status tx_put(struct rewrite *rw, const struct tx_layout *x, struct err *err)
{
    uint8_t head[TX_HEAD_BYTES_MAX];
    struct tx_body *body = NULL;
    struct tx_header header;
    size_t head_len;
    enum status st;

    if ((st = tx_head_to_header(rw->record, x, &header, err)) != ST_OK)
        goto done;
    if ((st = tx_body_encode(rw->entries, x->entry_count, &body, err)) != ST_OK)
        goto done;
    if ((st = tx_record_head_encode(&header, body, rw->l->record_seed, head, &head_len, err)) != ST_OK)
        goto done;
    if ((st = body_put(rw, head, head_len, err)) != ST_OK)
        goto done;
    if ((st = body_put(rw, body->meta, body->meta_bytes, err)) != ST_OK)
        goto done;
    st = body_pad(rw, err);
done:
    tx_body_free(body);
    return st;
}

static enum status tx_strip(struct rewrite *rw, const struct record_view *v, struct err *err)
{
    uint64_t first = rw->old->trailer.first_tx_id, last = rw->old->trailer.last_tx_id, at = out_position(rw);
    uint32_t value_start = 0;
    struct tx_layout x;
    enum status st;

    if ((st = tx_layout_decode(v->head, v->head_len, rw->l->record_seed, &x, err)) != ST_OK)
        return st;
    if (x.record_len != v->len)
        return err_set(err, ST_CORRUPT, 0, "tx record has %u bytes instead of %u", x.record_len, v->len);
    if ((st = record_reserve(rw, x.values_at, err)) != ST_OK || (st = entries_reserve(rw, x.entry_count, err)) != ST_OK)
        return st;
    if ((st = cache_file_read(rw->l->cache, rw->old->file, v->offset, rw->record, x.values_at, err)) != ST_OK)
        return st;
    if ((st = tx_meta_check(rw->record, &x, err)) != ST_OK)
        return st;
    for (uint32_t i = 0; i < x.entry_count; i++) {
        if ((st = entry_strip(rw, &x, v->offset, i, value_start, err)) != ST_OK)
            return err_while(err, st, "reading tx %llu", (unsigned long long)x.tx_id);
        value_start = load_u32le(rw->record + x.rows_at + (size_t)i * TX_ROW_BYTES + 4);
    }
    /* Of an id that was discarded and given out again the last record counts. */
    if (x.tx_id >= first && x.tx_id <= last)
        map_set(rw->new, x.tx_id - first, (uint32_t)(at / OFFSET_UNIT), x.ts);
    return tx_put(rw, &x, err);
}

static enum status record_strip(void *ctx, const struct record_view *v, struct err *err)
{
    struct rewrite *rw = ctx;
    enum status st;

    if (v->type == RECORD_TX)
        return tx_strip(rw, v, err);
    if (v->len != MARK_RECORD_BYTES)
        return err_set(err, ST_CORRUPT, 0, "mark record of %u bytes", v->len);
    if ((st = body_put(rw, v->head, MARK_RECORD_BYTES, err)) != ST_OK)
        return st;
    return body_pad(rw, err);
}

/* --- frames --- */

static enum status frame_header_put(struct rewrite *rw, const struct frame_header *old, uint64_t end, struct err *err)
{
    struct frame_header h = *old;
    uint8_t bytes[FRAME_HEADER_BYTES];

    h.prev_crc = rw->chain;
    h.body_crc = rw->body_crc;
    h.len = end - rw->frame_at;
    frame_header_encode(&h, segment_place_seed(rw->new->seed, rw->frame_at), bytes);
    rw->chain = h.header_crc;
    if (rw->frame_at < rw->out_at) /* partly or wholly written out */
        return vfs_write_at(rw->file, rw->frame_at, bytes, sizeof bytes, err);
    memcpy(rw->out + (rw->frame_at - rw->out_at), bytes, sizeof bytes);
    return ST_OK;
}

static enum status frame_strip(struct rewrite *rw, uint64_t offset, const struct frame_header *h, struct err *err)
{
    bool is_whole;
    uint64_t end;
    enum status st;

    rw->frame_at = out_position(rw);
    rw->body_crc = 0;
    /* The header must not be torn apart by the buffer's end. */
    if (OUT_BYTES - rw->out_len < FRAME_HEADER_BYTES && (st = out_flush(rw, err)) != ST_OK)
        return st;
    if ((st = out_zeros(rw, rw->frame_at + FRAME_HEADER_BYTES, err)) != ST_OK)
        return st;
    if ((st = frame_walk(&rw->w, offset, h, record_strip, rw, &is_whole, err)) != ST_OK)
        return st;
    if (!is_whole)
        return err_set(err, ST_CORRUPT, 0, "malformed records");
    end = out_position(rw);
    if ((st = frame_header_put(rw, h, end, err)) != ST_OK)
        return st;
    return out_zeros(rw, frame_align(end), err);
}

static enum status frames_strip(struct rewrite *rw, struct err *err)
{
    const struct segment_trailer *t = &rw->old->trailer;
    uint64_t at = SEGMENT_HEADER_BYTES, batch = t->first_batch;
    enum frame_state state;
    struct frame_header h;
    enum status st;

    rw->chain = t->chain_begin;
    for (; at < t->body_end; at += frame_align(h.len), batch++) {
        if ((st = frame_probe(&rw->w, rw->old->seed, at, &state, &h, err)) != ST_OK)
            return st;
        if (state != FRAME_GOOD || h.batch != batch)
            return err_set(err, ST_CORRUPT, 0, "damaged frame at offset %llu", (unsigned long long)at);
        if ((st = frame_strip(rw, at, &h, err)) != ST_OK)
            return err_while(err, st, "rewriting the frame at offset %llu", (unsigned long long)at);
    }
    if (batch != t->last_batch + 1)
        return err_set(err, ST_CORRUPT, 0, "frames end with batch %llu", (unsigned long long)(batch - 1));
    return out_flush(rw, err);
}

/* --- one segment --- */

static enum status header_put(struct rewrite *rw, struct err *err)
{
    struct segment_header h = {.segment_no = rw->new->no,
                               .generation = rw->new->generation,
                               .values_removed = true,
                               .first_tx_id = rw->old->trailer.first_tx_id,
                               .created_ns = env_wall_ns(rw->l->env)};
    uint8_t bytes[SEGMENT_HEADER_BYTES];

    memcpy(h.uuid, rw->l->uuid, LOG_UUID_LEN);
    memcpy(h.salt, rw->new->salt, LOG_SALT_LEN);
    segment_header_encode(&h, bytes);
    return out_put(rw, bytes, sizeof bytes, err);
}

static enum status old_frontier(struct rewrite *rw, struct frontier *out, struct err *err)
{
    const struct segment_trailer *t = &rw->old->trailer;
    uint8_t block[FRONTIER_BLOCK_BYTES];
    enum status st;

    frontier_init(out);
    if (!t->has_frontier)
        return ST_OK;
    if ((st = cache_file_read(rw->l->cache, rw->old->file, t->frontier_offset, block, sizeof block, err)) != ST_OK)
        return st;
    if (!frontier_block_decode(block, segment_place_seed(rw->old->seed, t->frontier_offset), out))
        return err_set(err, ST_CORRUPT, 0, "damaged frontier block");
    return ST_OK;
}

/* Writes the whole new file, durable with its name. */
static enum status generation_write(struct rewrite *rw, struct segment_trailer *t, struct err *err)
{
    struct log *l = rw->l;
    struct frontier *frontier = NULL;
    struct seal_source src;
    enum status st;

    if ((frontier = malloc(sizeof *frontier)) == NULL || (rw->out = malloc(OUT_BYTES)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory to rewrite a segment");
        goto done;
    }
    if ((st = window_init(&rw->w, l->cache, err)) != ST_OK || (st = window_file(&rw->w, rw->old->file, err)) != ST_OK)
        goto done;
    if ((st = map_reserve(rw->new, t->last_tx_id + 1 - t->first_tx_id, err)) != ST_OK)
        goto done;
    if ((st = l->vfs->ops->open(l->vfs, cache_file_path(rw->new->file), VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &rw->file, err)) != ST_OK)
        goto done;
    if ((st = header_put(rw, err)) != ST_OK || (st = frames_strip(rw, err)) != ST_OK || (st = old_frontier(rw, frontier, err)) != ST_OK)
        goto done;
    t->generation = rw->new->generation;
    t->values_removed = true;
    t->body_end = out_position(rw);
    src = (struct seal_source){.file = rw->file, .reader = rw->new->file, .map = atomic_load(&rw->new->map), .frontier = frontier};
    if ((st = segment_write_footer(l, rw->new->seed, &src, t, err)) != ST_OK)
        goto done;
    st = l->vfs->ops->sync_dir(l->vfs, l->dir, err);
done:
    if (rw->file != NULL)
        rw->file->ops->close(rw->file);
    window_free(&rw->w);
    free(rw->out);
    free(rw->record);
    free(rw->entries);
    free(frontier);
    return st;
}

/* New readers find the new generation from here on. */
static void generation_switch(struct log *l, struct segment *old, struct segment *new, const struct segment_trailer *t)
{
    new->trailer = *t;
    new->first_batch = t->first_batch;
    new->last_batch = t->last_batch;
    new->chain_begin = t->chain_begin;
    new->chain_end = t->chain_end;
    new->ts_min = t->ts_min;
    new->ts_max = t->ts_max;
    new->zeroed_upto = t->file_bytes;
    new->state = SEGMENT_SEALED;
    atomic_store(&new->first_tx, t->first_tx_id);
    atomic_store(&new->tx_count, t->last_tx_id + 1 - t->first_tx_id);
    atomic_store(&new->end, t->body_end);
    atomic_store(&new->is_sealed, true);
    map_retire(new);
    pthread_mutex_lock(&l->write); /* log_stats() goes through the table under it */
    table_replace(l, new);
    pthread_mutex_unlock(&l->write);
    old->retired_next = l->retired;
    l->retired = old;
    segment_unref(old);
    segments_reap(l);
}

static enum status segment_truncate(struct log *l, struct segment *old, uint64_t *freed, struct err *err)
{
    struct segment_trailer t = old->trailer;
    struct rewrite rw = {.l = l, .old = old};
    uint8_t salt[LOG_SALT_LEN];
    enum status st;

    env_random(l->env, salt, sizeof salt);
    if ((st = segment_new(l, old->no, old->generation + 1, salt, true, &rw.new, err)) != ST_OK)
        goto done;
    if ((st = generation_write(&rw, &t, err)) != ST_OK)
        goto done;
    if ((st = manifest_note_sealed(l, rw.new, &t, err)) != ST_OK) {
        /* Without knowing whether the manifest names it, the file must stay. */
        if (st != ST_NO_SPACE && st != ST_NOMEM)
            log_fail(l, st, err);
        goto done;
    }
    *freed += old->trailer.file_bytes > t.file_bytes ? old->trailer.file_bytes - t.file_bytes : 0;
    generation_switch(l, old, rw.new, &t);
    rw.new = NULL;
done:
    if (rw.new != NULL && !atomic_load(&l->is_failed))
        (void)l->vfs->ops->unlink(l->vfs, cache_file_path(rw.new->file), NULL);
    segment_free(rw.new);
    return st == ST_OK ? ST_OK : err_while(err, st, "removing the values of %s", old->name);
}

static bool active_is_older(struct log *l, int64_t before_s)
{
    bool is_older;

    pthread_mutex_lock(&l->write);
    is_older = l->tail.active != NULL && l->tail.active->ts_min > 0 && l->tail.active->ts_min < before_s;
    pthread_mutex_unlock(&l->write);
    return is_older;
}

enum status log_truncate_begin(struct log *l, uint64_t tx_id, int64_t part_before_s, struct err *err)
{
    enum status st;

    if ((st = log_check_writable(l, err)) != ST_OK)
        return st;
    pthread_mutex_lock(&l->maintain);
    st = log_end_active(l, active_is_older(l, part_before_s) ? UINT64_MAX : tx_id, err);
    pthread_mutex_unlock(&l->maintain);
    return st;
}

enum status log_truncate(struct log *l, uint64_t tx_id, uint64_t *freed_bytes, uint64_t *truncated_upto, struct err *err)
{
    enum status st;

    *freed_bytes = 0;
    *truncated_upto = 0;
    if ((st = log_check_writable(l, err)) != ST_OK)
        return st;
    pthread_mutex_lock(&l->maintain);
    if ((st = log_end_active(l, tx_id, err)) != ST_OK)
        goto done;
    if ((st = log_seal_full(l, err)) != ST_OK)
        goto done;
    for (size_t i = 0; i < table_count(l); i++) {
        struct segment *s = table_at(l, i);

        if (!atomic_load(&s->is_sealed) || s->trailer.last_tx_id > tx_id)
            break;
        if (!s->values_removed && s->trailer.last_tx_id >= s->trailer.first_tx_id && (st = segment_truncate(l, s, freed_bytes, err)) != ST_OK)
            break;
        *truncated_upto = table_at(l, i)->trailer.last_tx_id;
    }
done:
    pthread_mutex_unlock(&l->maintain);
    return st;
}
