/* The digest of one entry: what the per-tx tree has as leaf data.
 *
 *   version 0   SHA-256(key hval), only without metadata
 *   version 1   SHA-256(u16(len metadata) metadata u16(len key) key hval) */
#include "tx/tx.h"

/* Keys up to the store's default limit are hashed from one buffer: the usual short key then fits a single block. */
#define DIRECT_KEY_MAX 1024
#define DIRECT_BYTES_MAX (2 + KV_METADATA_BYTES_MAX + 2 + DIRECT_KEY_MAX + HASH_LEN)

static void digest_direct(uint32_t version, struct bytes key, struct bytes md, const hash_t *hval, hash_t *digest)
{
    uint8_t buf[DIRECT_BYTES_MAX], *at = buf;

    if (version == 1) {
        store_u16be(at, (uint16_t)md.len);
        if (md.len > 0)
            memcpy(at + 2, md.data, md.len);
        store_u16be(at + 2 + md.len, (uint16_t)key.len);
        at += 2 + md.len + 2;
    }
    if (key.len > 0)
        memcpy(at, key.data, key.len);
    memcpy(at + key.len, hval->b, HASH_LEN);
    sha256(buf, (size_t)(at - buf) + key.len + HASH_LEN, digest);
}

static void digest_streamed(uint32_t version, struct bytes key, struct bytes md, const hash_t *hval, hash_t *digest)
{
    struct sha256 s;
    uint8_t len[2];

    sha256_init(&s);
    if (version == 1) {
        store_u16be(len, (uint16_t)md.len);
        sha256_update(&s, len, sizeof len);
        sha256_update(&s, md.data, md.len);
        store_u16be(len, (uint16_t)key.len);
        sha256_update(&s, len, sizeof len);
    }
    sha256_update(&s, key.data, key.len);
    sha256_update(&s, hval->b, HASH_LEN);
    sha256_final(&s, digest);
}

enum status entry_digest(uint32_t version, struct bytes key, struct bytes md, const hash_t *hval, hash_t *digest, struct err *err)
{
    if (version > TX_VERSION_MAX)
        return err_set(err, ST_INVALID, 0, "tx created with a newer version or data is corrupted");
    if (version == 0 && md.len > 0)
        return err_set(err, ST_INVALID, 0, "entry metadata is not possible in a tx of version 0");
    if (key.len > UINT16_MAX || md.len > KV_METADATA_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "entry with a key of %zu and metadata of %zu bytes", key.len, md.len);
    if (key.len <= DIRECT_KEY_MAX)
        digest_direct(version, key, md, hval, digest);
    else
        digest_streamed(version, key, md, hval, digest);
    return ST_OK;
}
