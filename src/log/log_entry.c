/* Single entries by (tx id, entry index): the path of Get and Scan.
 *
 * The pin holds the block of the tx last read; entries of the same tx then cost no look-up at all. A record is cached as a whole when it is touched
 * again soon (cache_is_warm()), up to RECORD_WARM_MAX. Before that a small one is read, checked and forgotten: reads all over a large log, which hardly
 * ever come back to a record, would else push out what they share. Of a large one its meta is cached, and the value is read and checked alone. An entry
 * of a record whose key area is large too is read alone: head, two rows, key, value.
 *
 * Who reads one tx and then a near one is taken to go on so (scans of keys that were written one after the other): small records of sealed segments
 * then come from pages of the file instead of each being kept by itself. Their checksums are verified at every use. */
#include "log/log_read.h"

#include <assert.h>
#include <stdlib.h>

enum { LOG_PAGE_BYTES = 8192, NEAR_TXS = 32 };

/* tx_id stays: the next read may be a near one. */
void log_pin_release(struct log *l, struct log_pin *pin) { cache_unpin_if(l, &pin->block); }

/* Everything of an entry but a value that is not in the block. */
static enum status entry_from_block(const struct cache_block *b, const struct tx_layout *x, uint32_t i, struct tx_row *row, struct tx_entry *out,
                                    struct err *err)
{
    const uint8_t *rows = b->data + x->rows_at, *key;

    if (i >= x->entry_count)
        return err_set(err, ST_NOT_FOUND, 0, "tx %llu has no entry %u", (unsigned long long)x->tx_id, i);
    if (!tx_row_decode(rows + (size_t)i * TX_ROW_BYTES, i == 0 ? 0 : load_u32le(rows + (size_t)(i - 1) * TX_ROW_BYTES + 4), row))
        return err_set(err, ST_CORRUPT, 0, "entry %u of tx %llu contradicts itself", i, (unsigned long long)x->tx_id);
    key = b->data + x->keys_at + row->key_at;
    out->key = bytes_of(key, row->key_len);
    out->md = bytes_of(key + row->key_len, row->md_len);
    out->value_len = row->value_len;
    out->is_value_gone = row->is_removed;
    if (row->has_hval)
        memcpy(out->hval.b, key + row->key_len + row->md_len, HASH_LEN);
    else
        out->hval = HASH_ZERO;
    if (b->len >= x->record_len && !row->is_removed)
        out->value = bytes_of(b->data + x->values_at + row->value_at, row->value_len);
    else
        out->value = bytes_of(NULL, 0);
    return ST_OK;
}

/* Left where it is. */
static bool is_far(size_t far_bytes, uint32_t value_len) { return far_bytes > 0 && value_len >= far_bytes; }

static enum status value_is_gone(struct err *err) { return err_set(err, ST_NOT_FOUND, 0, "value was truncated"); }

/* The value of an entry whose meta is in the block. */
static enum status entry_value(struct log *l, const struct cache_block *b, const struct tx_layout *x, uint32_t i, const struct tx_row *row,
                               bool nowait, struct arena *arena, struct tx_entry *out, struct err *err)
{
    uint64_t offset = 0, end;
    struct segment *s;
    uint8_t *buf;
    enum status st;

    if ((st = log_locate(l, x->tx_id, nowait, &s, &offset, &end, err)) != ST_OK)
        return st;
    if (s->values_removed) { /* since the block was filled */
        st = value_is_gone(err);
        goto done;
    }
    if ((buf = arena_alloc(arena, row->value_len)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for a value of %u bytes", row->value_len);
        goto done;
    }
    offset += x->values_at + row->value_at;
    st = segment_read(l, s, offset, buf, row->value_len, nowait, err);
    if (st == ST_OK && row->entry_crc != tx_entry_crc(x->body_seed, i, b->data + x->rows_at + (size_t)i * TX_ROW_BYTES,
                                                      bytes_of(b->data + x->keys_at + row->key_at, row->key_part_len), bytes_of(buf, row->value_len)))
        st = err_set(err, ST_CORRUPT, 0, "entry %u has a wrong checksum", i);
    if (st == ST_OK)
        out->value = bytes_of(buf, row->value_len);
    st = in_segment(s, x->tx_id, offset, st, err);
done:
    segment_unref(s);
    return st;
}

/* One entry of a record whose key area is large: its rows, key part and value alone, in the arena. */
static enum status entry_alone(struct log *l, struct segment *s, const struct tx_layout *x, uint64_t offset, uint32_t i, bool nowait,
                               struct arena *arena, size_t far_bytes, struct tx_entry *out, struct err *err)
{
    uint8_t rows[2 * TX_ROW_BYTES] = {0}, *buf;
    struct bytes key_part, value;
    struct tx_row row;
    size_t row_count = i == 0 ? 1 : 2, value_len;
    enum status st;

    if (i >= x->entry_count)
        return err_set(err, ST_NOT_FOUND, 0, "tx %llu has no entry %u", (unsigned long long)x->tx_id, i);
    if ((st = segment_read(l, s, offset + x->rows_at + (uint64_t)(i + 1 - row_count) * TX_ROW_BYTES, rows + (2 - row_count) * TX_ROW_BYTES,
                           row_count * TX_ROW_BYTES, nowait, err)) != ST_OK)
        return st;
    if (!tx_row_decode(rows + TX_ROW_BYTES, load_u32le(rows + 4), &row) || row.key_at > x->values_at - x->keys_at ||
        row.key_part_len > x->values_at - x->keys_at - row.key_at || row.value_at > x->record_len - x->values_at ||
        row.value_len > x->record_len - x->values_at - row.value_at)
        return err_set(err, ST_CORRUPT, 0, "entry %u contradicts itself", i);
    value_len = is_far(far_bytes, row.value_len) ? 0 : row.value_len;
    if ((buf = arena_alloc(arena, (size_t)row.key_part_len + value_len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an entry of %u bytes", row.value_len);
    key_part = bytes_of(buf, row.key_part_len);
    value = bytes_of(buf + row.key_part_len, value_len);
    if ((st = segment_read(l, s, offset + x->keys_at + row.key_at, buf, row.key_part_len, nowait, err)) != ST_OK)
        return st;
    if (value_len > 0 && (st = segment_read(l, s, offset + x->values_at + row.value_at, buf + row.key_part_len, value_len, nowait, err)) != ST_OK)
        return st;
    if (value_len == row.value_len && row.entry_crc != tx_entry_crc(x->body_seed, i, rows + TX_ROW_BYTES, key_part, value))
        return err_set(err, ST_CORRUPT, 0, "entry %u has a wrong checksum", i);
    out->key = bytes_of(buf, row.key_len);
    out->md = bytes_of(buf + row.key_len, row.md_len);
    out->value = row.is_removed || value_len < row.value_len ? bytes_of(NULL, 0) : value;
    out->value_len = row.value_len;
    out->is_value_gone = row.is_removed;
    if (row.has_hval)
        memcpy(out->hval.b, buf + row.key_len + row.md_len, HASH_LEN);
    else
        out->hval = HASH_ZERO;
    return ST_OK;
}

/* An entry of a small record that nothing keeps: checked, and copied into the arena. */
static enum status entry_copied(const uint8_t *record, const struct tx_layout *x, uint32_t i, struct arena *arena, struct tx_entry *out,
                                struct err *err)
{
    const struct cache_block whole = {.data = record, .len = x->record_len};
    struct tx_row row;
    uint8_t *buf;
    enum status st;

    if ((st = tx_meta_check(record, x, err)) != ST_OK || (st = tx_values_check(record, x, err)) != ST_OK ||
        (st = entry_from_block(&whole, x, i, &row, out, err)) != ST_OK)
        return st;
    if ((buf = arena_alloc(arena, out->key.len + out->md.len + out->value.len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for an entry of %u bytes", row.value_len);
    memcpy(buf, out->key.data, out->key.len + out->md.len); /* one behind the other in the record */
    out->key.data = buf;
    out->md.data = buf + out->key.len;
    if (out->value.len > 0)
        out->value.data = memcpy(buf + out->key.len + out->md.len, out->value.data, out->value.len);
    return ST_OK;
}

/* The tx is not in the cache. Fills pin, or *is_alone and *out. */
static enum status entry_miss(struct log *l, uint64_t tx_id, uint32_t i, bool nowait, bool want_value, struct arena *arena, struct log_pin *pin,
                              bool *is_alone, struct tx_entry *out, struct err *err)
{
    uint8_t head[RECORD_WHOLE_MAX];
    uint64_t offset = 0, end;
    struct segment *s;
    struct tx_layout x;
    size_t have, len;
    enum status st;

    *is_alone = false;
    if ((st = log_locate(l, tx_id, nowait, &s, &offset, &end, err)) != ST_OK)
        return st;
    if ((st = head_read(l, s, tx_id, offset, end, nowait, head, end - offset <= sizeof head ? sizeof head : 4096, &have, &x, err)) != ST_OK)
        goto done;
    if (x.record_len <= RECORD_WARM_MAX && cache_is_warm(l->cache, s->cache_id, tx_id)) {
        len = x.record_len;
    } else if (x.record_len <= RECORD_WHOLE_MAX) {
        *is_alone = true;
        st = entry_copied(head, &x, i, arena, out, err);
        goto done;
    } else if (x.values_at <= META_CACHE_MAX || !want_value) {
        len = x.values_at;
    } else {
        *is_alone = true;
        st = entry_alone(l, s, &x, offset, i, nowait, arena, pin->far_bytes, out, err);
        goto done;
    }
    if ((st = block_load(l, s, &x, offset, len, head, have, nowait, &pin->block, err)) == ST_OK)
        pin->tx_id = tx_id;
done:
    st = in_segment(s, tx_id, offset, st, err);
    segment_unref(s);
    return st;
}

/* The record lies wholly in one page of a sealed segment: pins it there. *is_found = false: take the ordinary way, which also decides what is damaged:
 * the page may have been read badly once. */
static enum status pin_in_page(struct log *l, uint64_t tx_id, struct log_pin *pin, bool *is_found, struct err *err)
{
    uint64_t offset = 0, end, page_at, body_end;
    struct cache_block page = {0};
    struct segment *s;
    struct tx_layout x;
    const uint8_t *record;
    enum status st;

    *is_found = false;
    if ((st = log_locate(l, tx_id, false, &s, &offset, &end, err)) != ST_OK)
        return st;
    page_at = offset / LOG_PAGE_BYTES * LOG_PAGE_BYTES;
    if (!atomic_load_explicit(&s->is_sealed, memory_order_acquire) || end - page_at > LOG_PAGE_BYTES)
        goto done;
    body_end = s->trailer.body_end;
    if (body_end <= page_at || end > body_end)
        goto done;
    st = cache_get(l->cache, s->file, page_at, body_end - page_at < LOG_PAGE_BYTES ? (size_t)(body_end - page_at) : LOG_PAGE_BYTES, false, NULL, NULL,
                   &page, err);
    if (st != ST_OK)
        goto done;
    record = page.data + (offset - page_at);
    if (tx_layout_decode(record, (size_t)(end - offset), l->record_seed, &x, NULL) != ST_OK || x.tx_id != tx_id || x.record_len > end - offset ||
        tx_meta_check(record, &x, NULL) != ST_OK || tx_values_check(record, &x, NULL) != ST_OK) {
        cache_unpin_if(l, &page);
        cache_drop(l->cache, cache_file_id(s->file), page_at);
        goto done;
    }
    atomic_fetch_add_explicit(&l->records_read, 1, memory_order_relaxed);
    pin->block = (struct cache_block){record, x.record_len, page.owner_};
    pin->tx_id = tx_id;
    page.data = NULL;
    *is_found = true;
done:
    cache_unpin_if(l, &page);
    st = in_segment(s, tx_id, offset, st, err);
    segment_unref(s);
    return st;
}

static bool is_near(uint64_t a, uint64_t b) { return a != 0 && b != 0 && (a > b ? a - b : b - a) <= NEAR_TXS; }

static bool pin_find(struct log *l, uint64_t tx_id, struct log_pin *pin)
{
    const struct segment *s;

    if (tx_id == 0 || tx_id > log_published(l) || (s = table_find(l, tx_id)) == NULL || !block_find(l, s, tx_id, &pin->block))
        return false;
    pin->tx_id = tx_id;
    return true;
}

/* A meta block was found, a value is wanted: the second touch in a row loads the whole record. */
static enum status pin_warm(struct log *l, uint64_t tx_id, bool nowait, struct log_pin *pin, struct tx_layout *x, struct err *err)
{
    struct cache_block block;
    uint64_t offset = 0, end;
    struct segment *s;
    enum status st;

    if (x->record_len > RECORD_WARM_MAX)
        return ST_OK;
    if ((st = log_locate(l, tx_id, nowait, &s, &offset, &end, err)) != ST_OK)
        return st;
    if (!cache_is_warm(l->cache, s->cache_id, tx_id)) {
        segment_unref(s);
        return ST_OK;
    }
    cache_drop(l->cache, s->cache_id, tx_id); /* the record comes in place of its meta */
    /* Another generation than the block's has no values worth loading. */
    if (!s->values_removed && (st = block_load(l, s, x, offset, x->record_len, pin->block.data, pin->block.len, nowait, &block, err)) == ST_OK) {
        cache_unpin(l->cache, &pin->block);
        pin->block = block;
        tx_layout_trusted(pin->block.data, x);
    }
    st = in_segment(s, tx_id, offset, st, err);
    segment_unref(s);
    return st;
}

enum status log_entry_read(struct log *l, uint64_t tx_id, uint32_t i, bool nowait, bool want_value, struct arena *arena, struct log_pin *pin,
                           struct tx_entry *out, struct err *err)
{
    bool is_alone = false;
    struct tx_layout x;
    struct tx_row row;
    enum status st;

    if (pin->block.data == NULL || pin->tx_id != tx_id) {
        bool is_found = false, is_next = !nowait && is_near(pin->tx_id, tx_id) && tx_id <= log_published(l);

        log_pin_release(l, pin);
        if (is_next && (st = pin_in_page(l, tx_id, pin, &is_found, err)) != ST_OK)
            return st;
        if (!is_found && !pin_find(l, tx_id, pin)) {
            if ((st = entry_miss(l, tx_id, i, nowait, want_value, arena, pin, &is_alone, out, err)) != ST_OK)
                return st;
            pin->tx_id = tx_id;
            if (is_alone)
                return want_value && out->is_value_gone ? value_is_gone(err) : ST_OK;
        }
    }
    tx_layout_trusted(pin->block.data, &x);
    if (want_value && pin->block.len < x.record_len && (st = pin_warm(l, tx_id, nowait, pin, &x, err)) != ST_OK)
        return st;
    if ((st = entry_from_block(&pin->block, &x, i, &row, out, err)) != ST_OK || !want_value)
        return st;
    if (row.is_removed)
        return value_is_gone(err);
    if (pin->block.len < x.record_len && row.value_len > 0 && !is_far(pin->far_bytes, row.value_len))
        return entry_value(l, &pin->block, &x, i, &row, nowait, arena, out, err);
    return ST_OK;
}
