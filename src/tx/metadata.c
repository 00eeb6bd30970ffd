/* Metadata of an entry and of a tx: sequences of attributes, a code byte followed by its payload, written in ascending code
 * order, each at most once, absent ones as no bytes.
 *
 *   entry   00 deleted | 01 expires_at:i64be | 02 non-indexable                     at most 11 bytes
 *   tx      00 truncated_upto:u64be | 01 extra_len:u16be extra:1..256 bytes         at most 268 bytes
 *
 * Decoding accepts repeated and unordered attributes (the last one counts); hashing always uses the canonical bytes. */
#include "tx/tx.h"

#include <assert.h>

enum kv_attribute { KV_DELETED = 0, KV_EXPIRES_AT = 1, KV_NON_INDEXABLE = 2 };
enum tx_attribute { TX_TRUNCATED_UPTO = 0, TX_EXTRA = 1 };

static_assert(KV_METADATA_BYTES_MAX == 1 + 9 + 1, "each attribute once");
static_assert(TX_METADATA_BYTES_MAX == 9 + 3 + TX_EXTRA_BYTES_MAX, "each attribute once");

size_t kv_metadata_encode(const struct kv_metadata *md, uint8_t out[KV_METADATA_BYTES_MAX])
{
    struct writer w = writer_of(out, KV_METADATA_BYTES_MAX);

    if (md->is_deleted)
        writer_u8(&w, KV_DELETED);
    if (md->has_expiry) {
        writer_u8(&w, KV_EXPIRES_AT);
        writer_u64be(&w, (uint64_t)md->expires_at);
    }
    if (md->is_non_indexable)
        writer_u8(&w, KV_NON_INDEXABLE);
    return writer_len(&w);
}

enum status kv_metadata_decode(struct bytes in, struct kv_metadata *out, struct err *err)
{
    struct reader r = reader_of(in);
    struct kv_metadata md = {0};
    bool is_unknown = false;

    *out = md;
    if (in.len == 0)
        return ST_OK;
    if (in.len > KV_METADATA_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "entry metadata of %zu bytes", in.len);
    while (reader_left(&r) > 0 && !r.failed && !is_unknown) {
        switch (reader_u8(&r)) {
        case KV_DELETED:
            md.is_deleted = true;
            break;
        case KV_EXPIRES_AT:
            md.has_expiry = true;
            md.expires_at = (int64_t)reader_u64be(&r);
            break;
        case KV_NON_INDEXABLE:
            md.is_non_indexable = true;
            break;
        default:
            is_unknown = true;
        }
    }
    if (is_unknown || !reader_done(&r))
        return err_set(err, ST_INVALID, 0, "malformed entry metadata of %zu bytes", in.len);
    *out = md;
    return ST_OK;
}

size_t tx_metadata_encode(const struct tx_metadata *md, uint8_t out[TX_METADATA_BYTES_MAX])
{
    struct writer w = writer_of(out, TX_METADATA_BYTES_MAX);

    assert(md->extra_len <= TX_EXTRA_BYTES_MAX);
    if (md->truncated_upto != 0) {
        writer_u8(&w, TX_TRUNCATED_UPTO);
        writer_u64be(&w, md->truncated_upto);
    }
    if (md->extra_len != 0) {
        writer_u8(&w, TX_EXTRA);
        writer_u16be(&w, md->extra_len);
        writer_put(&w, md->extra, md->extra_len);
    }
    return writer_len(&w);
}

static void extra_decode(struct reader *r, struct tx_metadata *md)
{
    uint16_t len = reader_u16be(r);
    const uint8_t *p = NULL;

    if (len > TX_EXTRA_BYTES_MAX)
        r->failed = true;
    p = reader_take(r, len);
    if (p == NULL)
        return;
    md->extra_len = len;
    memcpy(md->extra, p, len);
}

enum status tx_metadata_decode(struct bytes in, struct tx_metadata *out, struct err *err)
{
    struct reader r = reader_of(in);
    bool is_unknown = false;

    out->truncated_upto = 0;
    out->extra_len = 0;
    if (in.len == 0)
        return ST_OK;
    if (in.len > TX_METADATA_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "tx metadata of %zu bytes", in.len);
    while (reader_left(&r) > 0 && !r.failed && !is_unknown) {
        switch (reader_u8(&r)) {
        case TX_TRUNCATED_UPTO:
            out->truncated_upto = reader_u64be(&r);
            break;
        case TX_EXTRA:
            extra_decode(&r, out);
            break;
        default:
            is_unknown = true;
        }
    }
    if (is_unknown || !reader_done(&r)) {
        out->truncated_upto = 0;
        out->extra_len = 0;
        return err_set(err, ST_INVALID, 0, "malformed tx metadata of %zu bytes", in.len);
    }
    return ST_OK;
}
