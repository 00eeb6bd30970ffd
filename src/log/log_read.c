/* Reading: from a tx id to its segment, its place, its record. Single entries by address: log_entry.c.
 *
 * What is cached, under the segment's cache id (each generation has its own, so blocks of a replaced one are never found again):
 *   whole   key = tx id             the record; all its checksums were verified when it was filled
 *   meta    key = tx id             a large record up to its value area (the block is shorter than the record it tells of); values are read one by one
 *                                   and checked by their entry CRC
 * Only txs at or below `published` are kept: ids above may be discarded and given out again. */
#include "log/log_read.h"

#include <assert.h>
#include <stdlib.h>

/* --- places --- */

static enum status page_check(void *ctx, uint64_t offset, const uint8_t *data, size_t len, struct err *err)
{
    const struct segment *s = ctx;

    if (len != OFFSET_PAGE_BYTES || !offset_page_is_valid(data, segment_place_seed(s->seed, offset)))
        return err_set(err, ST_CORRUPT, 0, "%s: offset page at %llu is damaged", s->name, (unsigned long long)offset);
    return ST_OK;
}

enum status log_offset_page(struct log *l, struct segment *s, uint64_t page_index, bool nowait, struct cache_block *out, struct err *err)
{
    return cache_get(l->cache, s->file, s->trailer.pages_offset + page_index * OFFSET_PAGE_BYTES, OFFSET_PAGE_BYTES, nowait, page_check, s, out, err);
}

static enum status lost(const struct segment *s, uint64_t tx_id, struct err *err)
{
    return err_set(err, ST_CORRUPT, 0, "tx %llu cannot be read: %s is damaged or missing", (unsigned long long)tx_id, s->name);
}

/* The segment of a tx that is in the log, referenced. */
static enum status segment_of(struct log *l, uint64_t tx_id, struct segment **out, struct err *err)
{
    struct segment *s;

    *out = NULL;
    if (tx_id == 0 || tx_id > atomic_load_explicit(&l->last_tx, memory_order_acquire))
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    do {
        if ((s = table_find(l, tx_id)) == NULL)
            return err_set(err, ST_CORRUPT, 0, "tx %llu cannot be read: its segment is missing", (unsigned long long)tx_id);
    } while (!segment_ref(s)); /* replaced meanwhile */
    *out = s;
    return ST_OK;
}

enum status segment_place(struct log *l, struct segment *s, uint64_t tx_id, bool nowait, uint64_t *offset, uint64_t *end, struct err *err)
{
    uint64_t first = atomic_load(&s->first_tx), index = tx_id - first, bound;
    struct cache_block page;
    enum status st;

    if (s->is_lost || tx_id < first || index >= atomic_load_explicit(&s->tx_count, memory_order_acquire))
        return lost(s, tx_id, err);
    bound = atomic_load_explicit(&s->end, memory_order_acquire);
    if (!map_get(s, index, offset, end)) {
        if (!atomic_load_explicit(&s->is_sealed, memory_order_acquire))
            return lost(s, tx_id, err);
        if ((st = log_offset_page(l, s, index / OFFSET_PAGE_TXS, nowait, &page, err)) != ST_OK)
            return st;
        *offset = offset_page_at(page.data, index % OFFSET_PAGE_TXS);
        *end = offset_page_at(page.data, index % OFFSET_PAGE_TXS + 1);
        cache_unpin(l->cache, &page);
    } else {
        bound = *end > bound ? *end : bound; /* frames may have been added meanwhile */
    }
    if (*offset < SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES || *end > bound || *end < *offset + TX_FIXED_BYTES)
        return lost(s, tx_id, err);
    return ST_OK;
}

enum status log_locate(struct log *l, uint64_t tx_id, bool nowait, struct segment **s, uint64_t *offset, uint64_t *end, struct err *err)
{
    enum status st = segment_of(l, tx_id, s, err);

    if (st != ST_OK)
        return st;
    if ((st = segment_place(l, *s, tx_id, nowait, offset, end, err)) != ST_OK) {
        segment_unref(*s);
        *s = NULL;
    }
    return st;
}

/* --- bytes --- */

enum status segment_read(struct log *l, struct segment *s, uint64_t offset, void *out, size_t len, bool nowait, struct err *err)
{
    return nowait ? cache_file_read_nowait(l->cache, s->file, offset, out, len, err) : cache_file_read(l->cache, s->file, offset, out, len, err);
}

/* --- records --- */

bool block_find(struct log *l, const struct segment *s, uint64_t tx_id, struct cache_block *out)
{
    return cache_lookup(l->cache, s->cache_id, tx_id, out);
}

static enum status block_put(struct log *l, const struct segment *s, uint64_t tx_id, const uint8_t *data, size_t len, struct cache_block *out,
                             struct err *err)
{
    bool is_stable = tx_id <= log_published(l);
    uint64_t id = is_stable ? s->cache_id : cache_new_id(l->cache);

    if (!cache_put(l->cache, id, tx_id, data, len, out))
        return err_set(err, ST_NOMEM, 0, "no memory for a record of %zu bytes", len);
    if (!is_stable)
        cache_drop(l->cache, id, tx_id);
    return ST_OK;
}

enum status head_read(struct log *l, struct segment *s, uint64_t tx_id, uint64_t offset, uint64_t end, bool nowait, uint8_t *buf, size_t want,
                      size_t *have, struct tx_layout *x, struct err *err)
{
    enum status st;

    *have = end - offset < want ? (size_t)(end - offset) : want;
    if ((st = segment_read(l, s, offset, buf, *have, nowait, err)) != ST_OK)
        return st;
    atomic_fetch_add_explicit(&l->records_read, 1, memory_order_relaxed);
    if ((st = tx_layout_decode(buf, *have, l->record_seed, x, err)) == ST_OK && (x->tx_id != tx_id || x->record_len > end - offset))
        st = err_set(err, ST_CORRUPT, 0, "found the record of tx %llu with %u bytes", (unsigned long long)x->tx_id, x->record_len);
    return st;
}

enum status block_load(struct log *l, struct segment *s, const struct tx_layout *x, uint64_t offset, size_t len, const uint8_t *buf, size_t have,
                       bool nowait, struct cache_block *out, struct err *err)
{
    uint8_t *whole = NULL;
    enum status st;

    if (have < len) {
        if ((whole = malloc(len)) == NULL)
            return err_set(err, ST_NOMEM, 0, "no memory for a record of %zu bytes", len);
        memcpy(whole, buf, have);
        if ((st = segment_read(l, s, offset + have, whole + have, len - have, nowait, err)) != ST_OK)
            goto done;
        buf = whole;
    }
    if ((st = tx_meta_check(buf, x, err)) != ST_OK)
        goto done;
    if (len == x->record_len && (st = tx_values_check(buf, x, err)) != ST_OK)
        goto done;
    st = block_put(l, s, x->tx_id, buf, len, out, err);
done:
    free(whole);
    return st;
}

/* Would all of a large record be wanted, given that its meta is? When its hvals must be computed from small values. */
static bool values_are_small(const struct tx_layout *x)
{
    return x->record_len <= RECORD_WARM_MAX && x->record_len - x->values_at <= (uint64_t)x->entry_count * TX_HVAL_INLINE_MAX;
}

enum status in_segment(const struct segment *s, uint64_t tx_id, uint64_t offset, enum status st, struct err *err)
{
    if (st == ST_OK || st == ST_AGAIN)
        return st;
    return err_while(err, st, "reading tx %llu from %s at offset %llu", (unsigned long long)tx_id, s->name, (unsigned long long)offset);
}

/* --- whole txs --- */

/* Points t at a block (or any memory that holds the record, len bytes of it). */
static enum status tx_attach(struct log_tx *t, const uint8_t *data, size_t len, const struct tx_layout *x, struct err *err)
{
    t->entry_count = x->entry_count;
    t->rows_ = data + x->rows_at;
    t->keys_ = data + x->keys_at;
    t->values_ = len >= x->record_len ? data + x->values_at : NULL;
    t->body_seed_ = x->body_seed;
    return tx_head_to_header(data, x, &t->header, err);
}

/* Eh of a single entry is not stored. */
static enum status tx_complete_eh(struct log *l, struct log_tx *t, struct err *err)
{
    hash_t digest;
    enum status st;

    if (t->entry_count != 1)
        return ST_OK;
    if ((st = log_tx_digests(l, t, &digest, err)) != ST_OK)
        return st;
    sha256_leaf(&digest, &t->header.eh);
    return ST_OK;
}

enum status log_tx_from_memory(struct log *l, const uint8_t *data, size_t len, uint64_t tx_id, struct log_tx *out, struct err *err)
{
    struct tx_layout x;
    enum status st;

    memset(&out->block_, 0, sizeof out->block_);
    out->segment_ = NULL;
    out->values_offset_ = 0;
    if ((st = tx_layout_decode(data, len, l->record_seed, &x, err)) != ST_OK)
        return st;
    if (x.tx_id != tx_id || x.record_len > len)
        return err_set(err, ST_CORRUPT, 0, "found the record of tx %llu with %u bytes", (unsigned long long)x.tx_id, x.record_len);
    if ((st = tx_meta_check(data, &x, err)) != ST_OK || (st = tx_values_check(data, &x, err)) != ST_OK)
        return st;
    if ((st = tx_attach(out, data, len, &x, err)) != ST_OK)
        return st;
    return tx_complete_eh(l, out, err);
}

enum status log_tx_open(struct log *l, uint64_t tx_id, bool nowait, struct log_tx *out, struct err *err)
{
    uint8_t head[4096];
    uint64_t offset = 0, end;
    struct segment *s = NULL;
    struct tx_layout x;
    size_t have, len;
    enum status st;

    memset(&out->block_, 0, sizeof out->block_);
    out->segment_ = NULL;
    out->values_offset_ = 0;
    if ((st = segment_of(l, tx_id, &s, err)) != ST_OK)
        return st;
    if (tx_id <= log_published(l) && block_find(l, s, tx_id, &out->block_)) {
        tx_layout_trusted(out->block_.data, &x);
        if (out->block_.len < x.record_len && (st = segment_place(l, s, tx_id, nowait, &offset, &end, err)) != ST_OK)
            goto done;
    } else {
        if ((st = segment_place(l, s, tx_id, nowait, &offset, &end, err)) != ST_OK)
            goto done;
        if ((st = head_read(l, s, tx_id, offset, end, nowait, head, sizeof head, &have, &x, err)) != ST_OK)
            goto done;
        len = x.record_len <= RECORD_WHOLE_MAX || values_are_small(&x) ? x.record_len : x.values_at;
        if ((st = block_load(l, s, &x, offset, len, head, have, nowait, &out->block_, err)) != ST_OK)
            goto done;
    }
    if ((st = tx_attach(out, out->block_.data, out->block_.len, &x, err)) != ST_OK)
        goto done;
    if (out->values_ == NULL) {
        out->segment_ = s;
        out->values_offset_ = offset + x.values_at;
    }
    st = tx_complete_eh(l, out, err);
done:
    st = in_segment(s, tx_id, offset, st, err);
    if (st != ST_OK || out->segment_ == NULL)
        segment_unref(s);
    if (st != ST_OK) {
        out->segment_ = NULL;
        cache_unpin_if(l, &out->block_);
    }
    return st;
}

void log_tx_close(struct log *l, struct log_tx *t)
{
    cache_unpin_if(l, &t->block_);
    if (t->segment_ != NULL)
        segment_unref(t->segment_);
    t->segment_ = NULL;
    t->rows_ = t->keys_ = t->values_ = NULL;
    t->entry_count = 0;
}

enum status log_tx_header(struct log *l, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    uint8_t head[512];
    uint64_t offset = 0, end;
    struct segment *s = NULL;
    struct tx_layout x;
    struct log_tx t;
    size_t have;
    enum status st;

    if ((st = segment_of(l, tx_id, &s, err)) != ST_OK)
        return st;
    /* A cached block serves, and a small record is worth being one; of a large one with Eh the head is enough. */
    if (tx_id > log_published(l) || !block_find(l, s, tx_id, &t.block_)) {
        if ((st = segment_place(l, s, tx_id, false, &offset, &end, err)) != ST_OK)
            goto done;
        if (end - offset > RECORD_WHOLE_MAX) {
            if ((st = head_read(l, s, tx_id, offset, end, false, head, sizeof head, &have, &x, err)) != ST_OK)
                goto done;
            if (x.has_eh && x.record_len > RECORD_WHOLE_MAX) {
                st = tx_head_to_header(head, &x, out, err);
                goto done;
            }
        }
    } else {
        tx_layout_trusted(t.block_.data, &x);
        if (x.has_eh) {
            st = tx_head_to_header(t.block_.data, &x, out, err);
            cache_unpin(l->cache, &t.block_);
            goto done;
        }
        cache_unpin(l->cache, &t.block_);
    }
    segment_unref(s);
    if ((st = log_tx_open(l, tx_id, false, &t, err)) != ST_OK)
        return st;
    *out = t.header;
    log_tx_close(l, &t);
    return ST_OK;
done:
    st = in_segment(s, tx_id, offset, st, err);
    segment_unref(s);
    return st;
}

/* --- entries of an open tx --- */

static uint32_t row_value_start(const struct log_tx *t, uint32_t i) { return i == 0 ? 0 : load_u32le(t->rows_ + (size_t)(i - 1) * TX_ROW_BYTES + 4); }

/* Reads a value that is not in memory and checks it together with its entry. */
static enum status value_read(struct log *l, const struct log_tx *t, uint32_t i, const struct tx_row *row, uint8_t *buf, struct err *err)
{
    struct segment *s = t->segment_;
    uint64_t offset = t->values_offset_ + row->value_at;
    enum status st = segment_read(l, s, offset, buf, row->value_len, false, err);

    if (st == ST_OK && row->entry_crc != tx_entry_crc(t->body_seed_, i, t->rows_ + (size_t)i * TX_ROW_BYTES,
                                                      bytes_of(t->keys_ + row->key_at, row->key_part_len), bytes_of(buf, row->value_len)))
        st = err_set(err, ST_CORRUPT, 0, "entry %u has a wrong checksum", i);
    return in_segment(s, t->header.id, offset, st, err);
}

static enum status no_entry(const struct log_tx *t, uint32_t i, struct err *err)
{
    return err_set(err, ST_NOT_FOUND, 0, "tx %llu has no entry %u", (unsigned long long)t->header.id, i);
}

enum status log_tx_entry(struct log *l, struct log_tx *t, uint32_t i, struct tx_entry *out, struct err *err)
{
    uint8_t small[TX_HVAL_INLINE_MAX];
    const uint8_t *key, *value;
    struct tx_row row;
    enum status st;

    if (i >= t->entry_count)
        return no_entry(t, i, err);
    if (!tx_row_decode(t->rows_ + (size_t)i * TX_ROW_BYTES, row_value_start(t, i), &row))
        return err_set(err, ST_CORRUPT, 0, "entry %u of tx %llu contradicts itself", i, (unsigned long long)t->header.id);
    key = t->keys_ + row.key_at;
    value = t->values_ == NULL || row.is_removed ? NULL : t->values_ + row.value_at;
    out->key = bytes_of(key, row.key_len);
    out->md = bytes_of(key + row.key_len, row.md_len);
    out->value = bytes_of(value, value == NULL ? 0 : row.value_len);
    out->value_len = row.value_len;
    out->is_value_gone = row.is_removed;
    if (row.has_hval) {
        memcpy(out->hval.b, key + row.key_len + row.md_len, HASH_LEN);
        return ST_OK;
    }
    if (value == NULL && row.value_len > 0) {
        if ((st = value_read(l, t, i, &row, small, err)) != ST_OK)
            return st;
        value = small;
    }
    sha256(value, row.value_len, &out->hval);
    return ST_OK;
}

enum status log_tx_digests(struct log *l, struct log_tx *t, hash_t *out, struct err *err)
{
    struct tx_entry e;
    enum status st;

    for (uint32_t i = 0; i < t->entry_count; i++) {
        if ((st = log_tx_entry(l, t, i, &e, err)) != ST_OK)
            return st;
        if ((st = entry_digest(t->header.version, e.key, e.md, &e.hval, &out[i], err)) != ST_OK)
            return err_set(err, ST_CORRUPT, 0, "entry %u of tx %llu has metadata that its version does not know", i,
                           (unsigned long long)t->header.id);
    }
    return ST_OK;
}

enum status log_tx_value(struct log *l, struct log_tx *t, uint32_t i, struct arena *arena, struct bytes *out, struct err *err)
{
    struct tx_row row;
    uint8_t *buf;
    enum status st;

    *out = bytes_of(NULL, 0);
    if (i >= t->entry_count)
        return no_entry(t, i, err);
    if (!tx_row_decode(t->rows_ + (size_t)i * TX_ROW_BYTES, row_value_start(t, i), &row))
        return err_set(err, ST_CORRUPT, 0, "entry %u of tx %llu contradicts itself", i, (unsigned long long)t->header.id);
    if (row.is_removed)
        return err_set(err, ST_NOT_FOUND, 0, "value was truncated");
    if (t->values_ != NULL) {
        *out = bytes_of(t->values_ + row.value_at, row.value_len);
        return ST_OK;
    }
    if ((buf = arena_alloc(arena, row.value_len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a value of %u bytes", row.value_len);
    if ((st = value_read(l, t, i, &row, buf, err)) != ST_OK)
        return st;
    *out = bytes_of(buf, row.value_len);
    return ST_OK;
}
