/* Large values in pieces: who sends one on need not hold it.
 *
 * The checksum of an entry covers its row, its key part and its value, in this order; it is carried from piece to piece and compared before the last
 * one is given out. */
#include "log/log_read.h"

#include <assert.h>

enum { HEAD_BYTES = 4096 };

/* The checksum so far: row and key part, which are read but not kept. */
static enum status key_crc(struct log *l, struct log_value *v, const struct tx_layout *x, uint64_t offset, const uint8_t *row_bytes,
                           const struct tx_row *row, uint32_t entry_index, struct err *err)
{
    uint8_t piece[HEAD_BYTES];
    uint64_t at = offset + x->keys_at + row->key_at;
    size_t left = row->key_part_len, n;
    enum status st;

    v->crc_ = tx_entry_crc(x->body_seed, entry_index, row_bytes, bytes_of(piece, 0), bytes_of(NULL, 0));
    for (; left > 0; left -= n, at += n) {
        n = left < sizeof piece ? left : sizeof piece;
        if ((st = segment_read(l, v->segment_, at, piece, n, false, err)) != ST_OK)
            return st;
        v->crc_ = crc32c(v->crc_, piece, n);
    }
    return ST_OK;
}

/* Finds the value of the entry in a record whose head is known. */
static enum status place(struct log *l, struct log_value *v, const struct tx_layout *x, uint64_t offset, uint32_t i, struct err *err)
{
    uint8_t rows[2 * TX_ROW_BYTES] = {0};
    size_t row_count = i == 0 ? 1 : 2;
    struct tx_row row;
    enum status st;

    if (i >= x->entry_count)
        return err_set(err, ST_NOT_FOUND, 0, "tx %llu has no entry %u", (unsigned long long)x->tx_id, i);
    if ((st = segment_read(l, v->segment_, offset + x->rows_at + (uint64_t)(i + 1 - row_count) * TX_ROW_BYTES, rows + (2 - row_count) * TX_ROW_BYTES,
                           row_count * TX_ROW_BYTES, false, err)) != ST_OK)
        return st;
    if (!tx_row_decode(rows + TX_ROW_BYTES, load_u32le(rows + 4), &row) || row.key_at > x->values_at - x->keys_at ||
        row.key_part_len > x->values_at - x->keys_at - row.key_at || row.value_at > x->record_len - x->values_at ||
        row.value_len > x->record_len - x->values_at - row.value_at)
        return err_set(err, ST_CORRUPT, 0, "entry %u contradicts itself", i);
    if (row.is_removed)
        return err_set(err, ST_NOT_FOUND, 0, "value was truncated");
    v->offset_ = offset + x->values_at + row.value_at;
    v->len = row.value_len;
    v->crc_wanted_ = row.entry_crc;
    return key_crc(l, v, x, offset, rows + TX_ROW_BYTES, &row, i, err);
}

enum status log_value_open(struct log *l, uint64_t tx_id, uint32_t entry_index, struct log_value *out, struct err *err)
{
    uint8_t head[HEAD_BYTES];
    uint64_t offset = 0, end;
    struct segment *s;
    struct tx_layout x;
    size_t have;
    enum status st;

    *out = (struct log_value){.tx_id = tx_id};
    if ((st = log_locate(l, tx_id, false, &s, &offset, &end, err)) != ST_OK)
        return st;
    out->segment_ = s;
    if (s->values_removed)
        st = err_set(err, ST_NOT_FOUND, 0, "value was truncated");
    else if ((st = head_read(l, s, tx_id, offset, end, false, head, sizeof head, &have, &x, err)) == ST_OK)
        st = place(l, out, &x, offset, entry_index, err);
    st = in_segment(s, tx_id, offset, st, err);
    if (st != ST_OK)
        log_value_close(out);
    return st;
}

enum status log_value_read(struct log *l, struct log_value *v, uint8_t *out, size_t len, struct err *err)
{
    struct segment *s = v->segment_;
    enum status st;

    assert(s != NULL && len <= v->len - v->at);
    st = segment_read(l, s, v->offset_ + v->at, out, len, false, err);
    if (st == ST_OK) {
        v->crc_ = len > 0 ? crc32c(v->crc_, out, len) : v->crc_;
        v->at += (uint32_t)len;
        if (v->at == v->len && v->crc_ != v->crc_wanted_)
            st = err_set(err, ST_CORRUPT, 0, "an entry has a wrong checksum");
    }
    return in_segment(s, v->tx_id, v->offset_, st, err);
}

void log_value_close(struct log_value *v)
{
    if (v->segment_ != NULL)
        segment_unref(v->segment_);
    v->segment_ = NULL;
}
