/* The export blob, one tx as it travels between servers.
 *
 *   u32(len header) header
 *   per entry: u16(len key) key u16(len metadata) metadata u32(len value) value
 *   u16(1) flag        00 values present, 01 values truncated away: each value field holds the 32-byte hval
 *
 * Old exporters leave the trailer out: values present. */
#include "tx/tx.h"

enum truncation_flag { VALUES_PRESENT = 0, VALUES_TRUNCATED = 1 };

#define ENTRY_BYTES_MIN (2 + 2 + 4)
#define TRAILER_BYTES 3

static enum status entries_check(const struct tx_header *h, const struct tx_entry *entries, size_t count, struct err *err)
{
    if (h->entry_count != count)
        return err_set(err, ST_INVALID, 0, "header speaks of %u entries, %zu are given", h->entry_count, count);
    if (h->version > TX_VERSION_MAX)
        return err_set(err, ST_INVALID, 0, "tx created with a newer version or data is corrupted");
    for (size_t i = 0; i < count; i++) {
        if (entries[i].is_value_gone != entries[0].is_value_gone)
            return err_set(err, ST_CORRUPT, 0, "partially truncated transaction");
        if (entries[i].key.len > UINT16_MAX || entries[i].md.len > UINT16_MAX || entries[i].value.len > UINT32_MAX)
            return err_set(err, ST_INVALID, 0, "entry %zu of tx %llu is too long to export", i, (unsigned long long)h->id);
    }
    return ST_OK;
}

enum status tx_export_size(const struct tx_header *h, const struct tx_entry *entries, size_t count, uint64_t *out, struct err *err)
{
    uint8_t header[TX_HEADER_BYTES_MAX];
    uint64_t total = 4 + tx_header_encode(h, header) + TRAILER_BYTES;
    bool is_over = false;

    *out = 0;
    for (size_t i = 0; i < count && !is_over; i++) {
        size_t value_len = entries[i].is_value_gone ? HASH_LEN : entries[i].value.len;

        is_over = __builtin_add_overflow(total, (uint64_t)ENTRY_BYTES_MIN, &total) ||
                  __builtin_add_overflow(total, (uint64_t)entries[i].key.len, &total) ||
                  __builtin_add_overflow(total, (uint64_t)entries[i].md.len, &total) || __builtin_add_overflow(total, (uint64_t)value_len, &total);
    }
    if (is_over)
        return err_set(err, ST_LIMIT, 0, "export of tx %llu is too long", (unsigned long long)h->id);
    *out = total;
    return ST_OK;
}

static void header_write(const struct tx_header *h, bool skip_integrity, struct writer *w)
{
    struct tx_header sent = *h;
    uint8_t buf[TX_HEADER_BYTES_MAX];
    size_t len = 0;

    if (skip_integrity)
        sent.eh = HASH_ZERO;
    len = tx_header_encode(&sent, buf);
    writer_u32be(w, (uint32_t)len);
    writer_put(w, buf, len);
}

enum status tx_export(const struct tx_header *h, const struct tx_entry *entries, size_t count, bool skip_integrity, struct writer *w, struct err *err)
{
    return tx_export_parts(h, entries, count, skip_integrity, w, NULL, err);
}

enum status tx_export_parts(const struct tx_header *h, const struct tx_entry *entries, size_t count, bool skip_integrity, struct writer *w,
                            size_t *value_at, struct err *err)
{
    bool is_truncated = count > 0 && entries[0].is_value_gone;
    enum status st = entries_check(h, entries, count, err);

    if (st != ST_OK)
        return st;
    header_write(h, skip_integrity, w);
    for (size_t i = 0; i < count; i++) {
        const struct tx_entry *e = &entries[i];
        struct bytes value = is_truncated ? bytes_of(e->hval.b, HASH_LEN) : e->value;

        writer_u16be(w, (uint16_t)e->key.len);
        writer_put(w, e->key.data, e->key.len);
        writer_u16be(w, (uint16_t)e->md.len);
        writer_put(w, e->md.data, e->md.len);
        writer_u32be(w, (uint32_t)value.len);
        if (value_at != NULL)
            value_at[i] = writer_len(w);
        if (value.data != NULL)
            writer_put(w, value.data, value.len);
    }
    writer_u16be(w, 1);
    writer_u8(w, is_truncated ? VALUES_TRUNCATED : VALUES_PRESENT);
    return w->failed ? err_set(err, ST_LIMIT, 0, "no room for the export of tx %llu", (unsigned long long)h->id) : ST_OK;
}

/* Limits of the importing database, and where its copies live. */
struct import {
    struct reader r;
    struct arena *arena;
    uint32_t key_len_max, value_len_max;
};

/* Metadata is stored and hashed in canonical form only: usually the received bytes are that already. */
static enum status metadata_import(struct import *im, struct bytes raw, struct bytes *out, struct err *err)
{
    uint8_t canonical[KV_METADATA_BYTES_MAX];
    struct kv_metadata md;
    struct bytes b;

    *out = bytes_of(NULL, 0);
    if (raw.len == 0)
        return ST_OK;
    if (kv_metadata_decode(raw, &md, NULL) != ST_OK)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    b = bytes_of(canonical, kv_metadata_encode(&md, canonical));
    if (bytes_equal(b, raw)) {
        *out = raw;
        return ST_OK;
    }
    b = arena_copy(im->arena, b);
    if (b.data == NULL)
        return err_set(err, ST_NOMEM, 0, "importing a tx");
    *out = b;
    return ST_OK;
}

static enum status entry_import(struct import *im, struct tx_entry *e, struct err *err)
{
    enum status st = ST_OK;
    struct bytes md;

    e->key = reader_bytes(&im->r, reader_u16be(&im->r));
    md = reader_bytes(&im->r, reader_u16be(&im->r));
    e->value = reader_bytes(&im->r, reader_u32be(&im->r));
    if (im->r.failed || e->key.len == 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if (e->key.len > im->key_len_max)
        return err_set(err, ST_LIMIT, 0, "max key length exceeded");
    if (e->value.len > im->value_len_max)
        return err_set(err, ST_LIMIT, 0, "max value length exceeded");
    st = metadata_import(im, md, &e->md, err);
    e->value_len = (uint32_t)e->value.len;
    return st;
}

static enum status trailer_import(struct reader *r, bool *is_truncated, struct err *err)
{
    struct bytes info;

    *is_truncated = false;
    if (reader_left(r) == 0)
        return ST_OK;
    info = reader_bytes(r, reader_u16be(r));
    if (!reader_done(r))
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if (info.len == 0 || info.data[0] > VALUES_TRUNCATED)
        return err_set(err, ST_INVALID, 0, "illegal arguments: invalid truncation info");
    *is_truncated = info.data[0] == VALUES_TRUNCATED;
    return ST_OK;
}

static enum status hvals_fill(struct tx_entry *entries, size_t count, bool is_truncated, struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct tx_entry *e = &entries[i];

        if (!is_truncated) {
            sha256(e->value.data, e->value.len, &e->hval);
            continue;
        }
        if (e->value.len != HASH_LEN)
            return err_set(err, ST_INVALID, 0, "illegal arguments: invalid truncation info");
        memcpy(e->hval.b, e->value.data, HASH_LEN);
        e->value = bytes_of(NULL, 0);
        e->value_len = 0;
        e->is_value_gone = true;
    }
    return ST_OK;
}

enum status tx_import(struct bytes blob, struct arena *arena, uint32_t entry_count_max, uint32_t key_len_max, uint32_t value_len_max,
                      struct tx_header *h, struct tx_entry **entries, struct err *err)
{
    struct import im = {reader_of(blob), arena, key_len_max, value_len_max};
    struct tx_entry *list = NULL;
    bool is_truncated = false;
    struct bytes header;
    enum status st = ST_OK;

    *entries = NULL;
    memset(h, 0, sizeof *h);
    header = reader_bytes(&im.r, reader_u32be(&im.r));
    if (im.r.failed)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if ((st = tx_header_decode(header, h, err)) != ST_OK)
        return st;
    if (h->entry_count > entry_count_max)
        return err_set(err, ST_LIMIT, 0, "max number of entries per tx exceeded");
    /* Before anything is allocated for a count that the blob cannot hold. */
    if (h->entry_count > reader_left(&im.r) / ENTRY_BYTES_MIN)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    list = arena_array(arena, h->entry_count, sizeof *list);
    if (list == NULL)
        return err_set(err, ST_NOMEM, 0, "importing a tx of %u entries", h->entry_count);
    memset(list, 0, h->entry_count * sizeof *list);
    for (uint32_t i = 0; i < h->entry_count && st == ST_OK; i++)
        st = entry_import(&im, &list[i], err);
    if (st == ST_OK)
        st = trailer_import(&im.r, &is_truncated, err);
    if (st == ST_OK)
        st = hvals_fill(list, h->entry_count, is_truncated, err);
    if (st == ST_OK)
        *entries = list;
    return st;
}
