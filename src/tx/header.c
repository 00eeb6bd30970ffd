/* The tx header: its serialized form and the two hashes over it.
 *
 *   mid(0)      u16(0) entry_count:u16
 *   mid(1)      u16(1) u16(len metadata) metadata entry_count:u32
 *   serialized  id:u64 prev_alh:32 ts:i64 mid eh:32 bl_tx_id:u64 bl_root:32
 *   inner       SHA-256(ts mid eh bl_tx_id bl_root), the tail of the serialized form
 *   alh         SHA-256(id prev_alh inner)
 *
 * All integers big-endian. */
#include "tx/tx.h"

#include <assert.h>

#define HEAD_BYTES (8 + HASH_LEN) /* id and prev_alh: what inner leaves out */
#define TAIL_BYTES (HASH_LEN + 8 + HASH_LEN)
#define HEADER_BYTES_MIN 124 /* version 0; version 1 needs four more, which the reader notices */

static_assert(HEAD_BYTES + 8 + 2 + 2 + TX_METADATA_BYTES_MAX + 4 + TAIL_BYTES <= TX_HEADER_BYTES_MAX, "room for the longest header");

static uint8_t *put_hash(uint8_t *at, const hash_t *h)
{
    memcpy(at, h->b, HASH_LEN);
    return at + HASH_LEN;
}

/* Writes what inner covers; returns the end. Room for TX_HEADER_BYTES_MAX - HEAD_BYTES is enough for any header. */
static uint8_t *inner_put(const struct tx_header *h, uint8_t *at)
{
    store_u64be(at, (uint64_t)h->ts);
    store_u16be(at + 8, (uint16_t)h->version);
    at += 10;
    if (h->version == 0) {
        store_u16be(at, (uint16_t)h->entry_count);
        at += 2;
    } else {
        size_t md_len = tx_metadata_is_empty(&h->md) ? 0 : tx_metadata_encode(&h->md, at + 2);

        store_u16be(at, (uint16_t)md_len);
        at += 2 + md_len;
        store_u32be(at, h->entry_count);
        at += 4;
    }
    at = put_hash(at, &h->eh);
    store_u64be(at, h->bl_tx_id);
    return put_hash(at + 8, &h->bl_root);
}

void tx_header_inner(const struct tx_header *h, hash_t *inner)
{
    uint8_t buf[TX_HEADER_BYTES_MAX];

    sha256(buf, (size_t)(inner_put(h, buf) - buf), inner);
}

void alh_compute(uint64_t tx_id, const hash_t *prev_alh, const hash_t *inner, hash_t *alh)
{
    uint8_t buf[8 + 2 * HASH_LEN];

    store_u64be(buf, tx_id);
    put_hash(put_hash(buf + 8, prev_alh), inner);
    sha256(buf, sizeof buf, alh);
}

void tx_header_alh(const struct tx_header *h, hash_t *alh)
{
    hash_t inner;

    tx_header_inner(h, &inner);
    alh_compute(h->id, &h->prev_alh, &inner, alh);
}

size_t tx_header_encode(const struct tx_header *h, uint8_t out[TX_HEADER_BYTES_MAX])
{
    store_u64be(out, h->id);
    return (size_t)(inner_put(h, put_hash(out + 8, &h->prev_alh)) - out);
}

static void hash_read(struct reader *r, hash_t *out)
{
    const uint8_t *p = reader_take(r, HASH_LEN);

    if (p != NULL)
        memcpy(out->b, p, HASH_LEN);
}

static enum status mid_decode(struct reader *r, struct tx_header *h, struct err *err)
{
    struct bytes md;

    h->version = reader_u16be(r);
    if (h->version > TX_VERSION_MAX)
        return err_set(err, ST_INVALID, 0, "tx created with a newer version or data is corrupted");
    if (h->version == 0) {
        h->entry_count = reader_u16be(r);
        return ST_OK;
    }
    md = reader_bytes(r, reader_u16be(r));
    if (md.len > 0 && tx_metadata_decode(md, &h->md, NULL) != ST_OK)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    h->entry_count = reader_u32be(r);
    return ST_OK;
}

enum status tx_header_decode(struct bytes in, struct tx_header *out, struct err *err)
{
    struct reader r = reader_of(in);
    enum status st = ST_OK;

    memset(out, 0, sizeof *out);
    if (in.len < HEADER_BYTES_MIN)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    out->id = reader_u64be(&r);
    if (out->id == 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments: invalid tx ID");
    hash_read(&r, &out->prev_alh);
    out->ts = (int64_t)reader_u64be(&r);
    if ((st = mid_decode(&r, out, err)) != ST_OK)
        return st;
    hash_read(&r, &out->eh);
    out->bl_tx_id = reader_u64be(&r);
    hash_read(&r, &out->bl_root);
    /* Only the record of a truncation may be without entries. */
    if (!reader_done(&r) || (out->entry_count == 0 && out->md.truncated_upto == 0))
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if (out->bl_tx_id >= out->id)
        return err_set(err, ST_INVALID, 0, "illegal arguments: invalid BlTxID");
    return ST_OK;
}
