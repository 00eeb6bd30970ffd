/* Encoding of a tx record's body, ahead of the committer: table, key area, values. Layout in record.h.
 *
 * One allocation holds the object, the list of pieces, table and key area, and the values below TX_BODY_BORROW_BYTES. Runs of
 * copied values form one piece, every borrowed value is one of its own. */
#include "log/record.h"

#include <assert.h>
#include <stdlib.h>

struct body_sizes {
    size_t keys;     /* key area */
    size_t copied;   /* values that are copied */
    uint64_t values; /* all values */
    size_t pieces;   /* upper bound */
};

static bool stores_hval(const struct tx_entry *e) { return e->is_value_gone || e->value.len > TX_HVAL_INLINE_MAX; }

static enum status body_measure(const struct tx_entry *entries, size_t count, struct body_sizes *s, struct err *err)
{
    uint64_t keys = 0, values = 0, copied = 0;
    bool in_copied = false;

    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < count; i++) {
        const struct tx_entry *e = &entries[i];

        if (e->key.len == 0 || e->key.len > UINT16_MAX || e->md.len > KV_METADATA_BYTES_MAX || (e->is_value_gone && e->value.len > 0))
            return err_set(err, ST_INVALID, 0, "entry %zu: key of %zu bytes, metadata of %zu bytes, value of %zu bytes", i, e->key.len, e->md.len,
                           e->value.len);
        keys += e->key.len + e->md.len + (stores_hval(e) ? HASH_LEN : 0u);
        if (__builtin_add_overflow(values, e->value.len, &values) || values > UINT32_MAX || keys > UINT32_MAX)
            return err_set(err, ST_LIMIT, 0, "tx exceeds 4 GiB");
        if (e->value.len >= TX_BODY_BORROW_BYTES) {
            s->pieces++;
            in_copied = false;
        } else if (e->value.len > 0) {
            copied += e->value.len;
            s->pieces += in_copied ? 0 : 1;
            in_copied = true;
        }
    }
    if (count * (uint64_t)TX_ROW_BYTES + keys + values + TX_HEAD_BYTES_MAX > UINT32_MAX)
        return err_set(err, ST_LIMIT, 0, "tx exceeds 4 GiB");
    s->keys = (size_t)keys;
    s->copied = (size_t)copied;
    s->values = values;
    return ST_OK;
}

static uint8_t *put_key_part(uint8_t *at, const struct tx_entry *e)
{
    memcpy(at, e->key.data, e->key.len);
    at += e->key.len;
    if (e->md.len > 0) {
        memcpy(at, e->md.data, e->md.len);
        at += e->md.len;
    }
    if (stores_hval(e)) {
        memcpy(at, e->hval.b, HASH_LEN);
        at += HASH_LEN;
    }
    return at;
}

/* Rows without their CRC, and the key area. */
static void put_meta(struct tx_body *b, const struct tx_entry *entries, size_t count)
{
    uint8_t *keys = b->meta + count * TX_ROW_BYTES, *at = keys;
    uint32_t value_end = 0;

    for (size_t i = 0; i < count; i++) {
        const struct tx_entry *e = &entries[i];
        uint8_t *row = b->meta + i * TX_ROW_BYTES;

        at = put_key_part(at, e);
        value_end += (uint32_t)e->value.len;
        store_u32le(row, (uint32_t)(at - keys));
        store_u32le(row + 4, value_end);
        store_u16le(row + 12, (uint16_t)e->key.len);
        row[14] = (uint8_t)e->md.len;
        row[15] = (uint8_t)((stores_hval(e) ? ROW_FLAG_HVAL : 0) | (e->is_value_gone ? ROW_FLAG_REMOVED : 0));
        b->values_removed = b->values_removed || e->is_value_gone;
    }
}

static void put_values(struct tx_body *b, const struct tx_entry *entries, size_t count, uint8_t *at)
{
    bool in_copied = false;

    for (size_t i = 0; i < count; i++) {
        const struct tx_entry *e = &entries[i];

        if (e->value.len >= TX_BODY_BORROW_BYTES) {
            b->pieces[b->piece_count++] = (struct body_piece){e->value.data, e->value.len, true};
            in_copied = false;
        } else if (e->value.len > 0) {
            if (!in_copied)
                b->pieces[b->piece_count++] = (struct body_piece){at, 0, false};
            memcpy(at, e->value.data, e->value.len);
            at += e->value.len;
            b->pieces[b->piece_count - 1].len += e->value.len;
            in_copied = true;
        }
    }
}

static void put_checksums(struct tx_body *b, const struct tx_entry *entries, size_t count)
{
    const uint8_t *keys = b->meta + count * TX_ROW_BYTES;
    uint32_t seed = crc32c(0, keys, b->key_bytes), start = 0;

    for (size_t i = 0; i < count; i++)
        seed = crc32c(seed, entries[i].hval.b, HASH_LEN);
    b->seed = seed;
    for (size_t i = 0; i < count; i++) {
        uint8_t *row = b->meta + i * TX_ROW_BYTES;
        uint32_t end = load_u32le(row);

        store_u32le(row + 8, tx_entry_crc(seed, (uint32_t)i, row, bytes_of(keys + start, end - start), entries[i].value));
        start = end;
    }
    b->meta_crc = crc32c(seed, b->meta, b->meta_bytes);
}

enum status tx_body_encode(const struct tx_entry *entries, size_t count, struct tx_body **out, struct err *err)
{
    struct body_sizes sizes;
    struct tx_body *b = NULL;
    size_t pieces_bytes, meta_bytes, total;
    enum status st;

    *out = NULL;
    if (count > UINT32_MAX / TX_ROW_BYTES)
        return err_set(err, ST_LIMIT, 0, "tx of %zu entries", count);
    if ((st = body_measure(entries, count, &sizes, err)) != ST_OK)
        return st;
    pieces_bytes = sizes.pieces * sizeof(struct body_piece);
    meta_bytes = count * TX_ROW_BYTES + sizes.keys;
    total = sizeof *b + pieces_bytes + meta_bytes + sizes.copied;
    if ((b = malloc(total)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a tx of %zu bytes", total);
    memset(b, 0, sizeof *b);
    b->entry_count = (uint32_t)count;
    b->key_bytes = (uint32_t)sizes.keys;
    b->value_bytes = sizes.values;
    b->meta_bytes = meta_bytes;
    b->memory_bytes = total;
    b->pieces = (struct body_piece *)(b + 1);
    b->meta = (uint8_t *)(b + 1) + pieces_bytes;
    put_meta(b, entries, count);
    put_values(b, entries, count, b->meta + meta_bytes);
    assert(b->piece_count == sizes.pieces);
    put_checksums(b, entries, count);
    *out = b;
    return ST_OK;
}

void tx_body_free(struct tx_body *b) { free(b); }

size_t tx_body_bytes(const struct tx_body *b) { return b->memory_bytes + TX_HEAD_BYTES_MAX + b->meta_bytes + (size_t)b->value_bytes; }

size_t tx_body_borrowed(const struct tx_body *b)
{
    return b->meta_bytes + (size_t)b->value_bytes + sizeof *b + b->piece_count * sizeof(struct body_piece) - b->memory_bytes;
}
