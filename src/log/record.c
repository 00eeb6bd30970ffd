/* Encoding and checking of records: layouts in record.h. */
#include "log/record.h"

#include <assert.h>
#include <stdlib.h>

static_assert(TX_HEAD_BYTES_MAX == 420, "longest head of a TX record");

uint32_t record_seed(const uint8_t uuid[16]) { return crc32c(0, uuid, 16); }

/* --- head --- */

enum status tx_record_head_encode(const struct tx_header *h, const struct tx_body *b, uint32_t seed, uint8_t out[TX_HEAD_BYTES_MAX], size_t *head_len,
                                  struct err *err)
{
    uint8_t md[TX_METADATA_BYTES_MAX];
    size_t md_len = tx_metadata_is_empty(&h->md) ? 0 : tx_metadata_encode(&h->md, md);
    bool has_eh = b->entry_count != 1;
    size_t at = TX_FIXED_BYTES;
    uint64_t record_len;

    assert(h->entry_count == b->entry_count && h->version <= TX_VERSION_MAX && md_len <= TX_METADATA_BYTES_MAX);
    *head_len = 0;
    record_len = TX_FIXED_BYTES + (has_eh ? HASH_LEN : 0) + md_len + b->meta_bytes + b->value_bytes;
    if (record_len > UINT32_MAX)
        return err_set(err, ST_LIMIT, 0, "tx record of %llu bytes exceeds 4 GiB", (unsigned long long)record_len);
    store_u32le(out + 4, (uint32_t)record_len);
    out[8] = RECORD_TX;
    out[9] = (uint8_t)h->version;
    store_u16le(out + 10, (uint16_t)((has_eh ? TX_FLAG_EH : 0) | (b->values_removed ? TX_FLAG_VALUES_REMOVED : 0)));
    store_u32le(out + 12, b->entry_count);
    store_u64le(out + 16, h->id);
    store_u64le(out + 24, (uint64_t)h->ts);
    store_u64le(out + 32, h->bl_tx_id);
    store_u32le(out + 40, b->meta_crc);
    store_u32le(out + 44, b->seed);
    store_u32le(out + 48, b->key_bytes);
    store_u16le(out + 52, (uint16_t)md_len);
    store_u16le(out + 54, 0);
    memcpy(out + 56, h->prev_alh.b, HASH_LEN);
    memcpy(out + 88, h->bl_root.b, HASH_LEN);
    if (has_eh) {
        memcpy(out + at, h->eh.b, HASH_LEN);
        at += HASH_LEN;
    }
    memcpy(out + at, md, md_len);
    at += md_len;
    store_u32le(out, crc32c(seed, out + 4, at - 4));
    *head_len = at;
    return ST_OK;
}

size_t tx_head_len(const uint8_t *p)
{
    size_t md_len = load_u16le(p + 52);

    if (md_len > TX_METADATA_BYTES_MAX)
        md_len = TX_METADATA_BYTES_MAX;
    return TX_FIXED_BYTES + ((load_u16le(p + 10) & TX_FLAG_EH) != 0 ? HASH_LEN : 0) + md_len;
}

enum status tx_layout_decode(const uint8_t *head, size_t len, uint32_t seed, struct tx_layout *out, struct err *err)
{
    uint64_t rows_at, keys_at, values_at;
    size_t head_len, md_len;

    memset(out, 0, sizeof *out);
    if (len < TX_FIXED_BYTES)
        return err_set(err, ST_CORRUPT, 0, "tx record is cut short");
    head_len = tx_head_len(head);
    if (head[8] != RECORD_TX || len < head_len || load_u32le(head) != crc32c(seed, head + 4, head_len - 4))
        return err_set(err, ST_CORRUPT, 0, "tx record has a wrong header checksum");
    md_len = load_u16le(head + 52);
    out->flags = load_u16le(head + 10);
    out->has_eh = (out->flags & TX_FLAG_EH) != 0;
    out->record_len = load_u32le(head + 4);
    out->entry_count = load_u32le(head + 12);
    out->tx_id = load_u64le(head + 16);
    out->ts = (int64_t)load_u64le(head + 24);
    out->meta_crc = load_u32le(head + 40);
    out->body_seed = load_u32le(head + 44);
    rows_at = head_len;
    keys_at = rows_at + (uint64_t)out->entry_count * TX_ROW_BYTES;
    values_at = keys_at + load_u32le(head + 48);
    if (head[9] > TX_VERSION_MAX || md_len > TX_METADATA_BYTES_MAX || out->tx_id == 0 || out->has_eh != (out->entry_count != 1) ||
        values_at > out->record_len)
        return err_set(err, ST_CORRUPT, 0, "tx record has fields out of range");
    out->rows_at = (uint32_t)rows_at;
    out->keys_at = (uint32_t)keys_at;
    out->values_at = (uint32_t)values_at;
    return ST_OK;
}

enum status tx_head_to_header(const uint8_t *head, const struct tx_layout *x, struct tx_header *out, struct err *err)
{
    size_t at = TX_FIXED_BYTES, md_len = load_u16le(head + 52);

    out->id = x->tx_id;
    out->ts = x->ts;
    out->bl_tx_id = load_u64le(head + 32);
    out->version = head[9];
    out->entry_count = x->entry_count;
    memcpy(out->prev_alh.b, head + 56, HASH_LEN);
    memcpy(out->bl_root.b, head + 88, HASH_LEN);
    if (x->has_eh) {
        memcpy(out->eh.b, head + at, HASH_LEN);
        at += HASH_LEN;
    } else {
        out->eh = HASH_ZERO;
    }
    if (md_len == 0) {
        out->md.truncated_upto = 0;
        out->md.extra_len = 0;
    } else if (tx_metadata_decode(bytes_of(head + at, md_len), &out->md, err) != ST_OK) {
        return err_set(err, ST_CORRUPT, 0, "tx record holds malformed metadata");
    }
    return ST_OK;
}

/* --- rows --- */

bool tx_row_decode(const uint8_t *row, uint32_t value_start, struct tx_row *out)
{
    uint32_t key_end = load_u32le(row), value_end = load_u32le(row + 4);
    uint8_t flags = row[15];

    out->key_len = load_u16le(row + 12);
    out->md_len = row[14];
    out->entry_crc = load_u32le(row + 8);
    out->has_hval = (flags & ROW_FLAG_HVAL) != 0;
    out->is_removed = (flags & ROW_FLAG_REMOVED) != 0;
    out->key_part_len = (uint32_t)out->key_len + out->md_len + (out->has_hval ? HASH_LEN : 0u);
    if (out->key_len == 0 || out->md_len > KV_METADATA_BYTES_MAX || (flags & ~(ROW_FLAG_HVAL | ROW_FLAG_REMOVED)) != 0 ||
        key_end < out->key_part_len || value_end < value_start)
        return false;
    out->key_at = key_end - out->key_part_len;
    out->value_at = value_start;
    out->value_len = value_end - value_start;
    if (out->is_removed)
        return out->has_hval && out->value_len == 0;
    return out->has_hval == (out->value_len > TX_HVAL_INLINE_MAX);
}

uint32_t tx_entry_crc(uint32_t body_seed, uint32_t entry_index, const uint8_t *row, struct bytes key_part, struct bytes value)
{
    uint8_t fixed[16];
    uint32_t crc;

    store_u32le(fixed, entry_index);
    memcpy(fixed + 4, row, 8);
    memcpy(fixed + 12, row + 12, 4);
    crc = crc32c(body_seed, fixed, sizeof fixed);
    crc = crc32c(crc, key_part.data, key_part.len);
    return value.len == 0 ? crc : crc32c(crc, value.data, value.len);
}

enum status tx_meta_check(const uint8_t *meta, const struct tx_layout *x, struct err *err)
{
    uint32_t key_end = 0, value_end = 0, key_bytes = x->values_at - x->keys_at;
    bool has_removed = false;
    struct tx_row row;

    if (x->meta_crc != crc32c(x->body_seed, meta + x->rows_at, x->values_at - x->rows_at))
        return err_set(err, ST_CORRUPT, 0, "keys of tx %llu have a wrong checksum", (unsigned long long)x->tx_id);
    for (uint32_t i = 0; i < x->entry_count; i++) {
        const uint8_t *p = meta + x->rows_at + (size_t)i * TX_ROW_BYTES;

        if (!tx_row_decode(p, value_end, &row) || row.key_at != key_end || row.key_part_len > key_bytes - key_end)
            return err_set(err, ST_CORRUPT, 0, "entry table of tx %llu contradicts itself at entry %u", (unsigned long long)x->tx_id, i);
        key_end = load_u32le(p);
        value_end = load_u32le(p + 4);
        has_removed = has_removed || row.is_removed;
    }
    if (key_end != key_bytes || value_end != x->record_len - x->values_at || has_removed != ((x->flags & TX_FLAG_VALUES_REMOVED) != 0))
        return err_set(err, ST_CORRUPT, 0, "entry table of tx %llu does not fill its record", (unsigned long long)x->tx_id);
    return ST_OK;
}

enum status tx_values_check(const uint8_t *record, const struct tx_layout *x, struct err *err)
{
    uint32_t value_end = 0;
    struct tx_row row;

    for (uint32_t i = 0; i < x->entry_count; i++) {
        const uint8_t *p = record + x->rows_at + (size_t)i * TX_ROW_BYTES;

        if (!tx_row_decode(p, value_end, &row) ||
            row.entry_crc != tx_entry_crc(x->body_seed, i, p, bytes_of(record + x->keys_at + row.key_at, row.key_part_len),
                                          bytes_of(record + x->values_at + row.value_at, row.value_len)))
            return err_set(err, ST_CORRUPT, 0, "entry %u of tx %llu has a wrong checksum", i, (unsigned long long)x->tx_id);
        value_end = load_u32le(p + 4);
    }
    return ST_OK;
}

/* --- marks --- */

void mark_record_encode(const struct mark_record *m, uint32_t seed, uint8_t out[MARK_RECORD_BYTES])
{
    memset(out, 0, MARK_RECORD_BYTES);
    store_u32le(out + 4, MARK_RECORD_BYTES);
    out[8] = (uint8_t)m->type;
    store_u64le(out + 16, m->tx_id);
    memcpy(out + 24, m->alh.b, HASH_LEN);
    store_u32le(out, crc32c(seed, out + 4, MARK_RECORD_BYTES - 4));
}

enum status mark_record_decode(const uint8_t in[MARK_RECORD_BYTES], uint32_t seed, struct mark_record *out, struct err *err)
{
    if (load_u32le(in) != crc32c(seed, in + 4, MARK_RECORD_BYTES - 4))
        return err_set(err, ST_CORRUPT, 0, "mark record has a wrong checksum");
    if (load_u32le(in + 4) != MARK_RECORD_BYTES || (in[8] != RECORD_COMMIT && in[8] != RECORD_DISCARD))
        return err_set(err, ST_CORRUPT, 0, "mark record has fields out of range");
    out->type = (enum record_type)in[8];
    out->tx_id = load_u64le(in + 16);
    memcpy(out->alh.b, in + 24, HASH_LEN);
    return ST_OK;
}
