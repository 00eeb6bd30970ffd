/* A transaction's header, metadata, entries and digests, and the export format.
 *
 * Everything here is byte-identical to the published protocol (big-endian); our own on-disk records are in log/record.h.
 * Pure functions: no I/O; any thread. Formats: docs/verification.md. */
#ifndef TX_TX_H
#define TX_TX_H

#include "base/arena.h"
#include "base/err.h"
#include "base/hash.h"

/* --- metadata of one entry: at most 11 bytes --- */
#define KV_METADATA_BYTES_MAX 11
struct kv_metadata {
    bool is_deleted;
    bool has_expiry;
    bool is_non_indexable;
    int64_t expires_at; /* unix seconds; meaningful when has_expiry */
};
/* Canonical bytes (attribute codes ascending), 0..11; returns the length. */
size_t kv_metadata_encode(const struct kv_metadata *md, uint8_t out[KV_METADATA_BYTES_MAX]);
/* Repeated or unordered attributes are accepted; unknown code, truncated payload or more than 11 bytes are ST_INVALID. */
MUST_USE enum status kv_metadata_decode(struct bytes in, struct kv_metadata *out, struct err *err);
static inline bool kv_metadata_expired(const struct kv_metadata *md, int64_t now_s) { return md->has_expiry && md->expires_at <= now_s; }
static inline bool kv_metadata_is_empty(const struct kv_metadata *md) { return !md->is_deleted && !md->has_expiry && !md->is_non_indexable; }

/* --- metadata of a tx: at most 268 bytes --- */
#define TX_EXTRA_BYTES_MAX 256
#define TX_METADATA_BYTES_MAX 268
struct tx_metadata {
    uint64_t truncated_upto; /* 0 = absent */
    uint16_t extra_len;      /* 0 = absent, at most TX_EXTRA_BYTES_MAX */
    uint8_t extra[TX_EXTRA_BYTES_MAX];
};
static inline bool tx_metadata_is_empty(const struct tx_metadata *md) { return md->truncated_upto == 0 && md->extra_len == 0; }
size_t tx_metadata_encode(const struct tx_metadata *md, uint8_t out[TX_METADATA_BYTES_MAX]);
MUST_USE enum status tx_metadata_decode(struct bytes in, struct tx_metadata *out, struct err *err);

/* --- header --- */
#define TX_VERSION_MAX 1
struct tx_header {
    uint64_t id;       /* counted from 1 */
    int64_t ts;        /* unix seconds; 0 when commit time is excluded */
    uint64_t bl_tx_id; /* leaves in the main tree when this header was made; < id */
    uint32_t version;  /* 0 or 1 */
    uint32_t entry_count;
    hash_t prev_alh;       /* HASH_EMPTY for id 1 */
    hash_t eh;             /* root over the entries */
    hash_t bl_root;        /* HASH_ZERO for bl_tx_id 0 */
    struct tx_metadata md; /* empty for version 0 */
};
void tx_header_inner(const struct tx_header *h, hash_t *inner);
void tx_header_alh(const struct tx_header *h, hash_t *alh);
/* SHA-256(id || prev_alh || inner). */
void alh_compute(uint64_t tx_id, const hash_t *prev_alh, const hash_t *inner, hash_t *alh);
#define TX_HEADER_BYTES_MAX 400
/* Serialized form as used by export; returns the length (124 bytes for version 0, 128 + metadata for version 1). */
size_t tx_header_encode(const struct tx_header *h, uint8_t out[TX_HEADER_BYTES_MAX]);
/* ST_INVALID: id 0, version above 1 ("tx created with a newer version or data is corrupted"), no entries, metadata too long
 * or malformed, bl_tx_id >= id, short input, trailing bytes. */
MUST_USE enum status tx_header_decode(struct bytes in, struct tx_header *out, struct err *err);

/* --- entries --- */
struct tx_entry {
    struct bytes key;   /* store key, prefix byte included; 1..65535 bytes */
    struct bytes md;    /* canonical metadata bytes, 0..11 */
    struct bytes value; /* store value; when is_value_gone: empty */
    hash_t hval;        /* SHA-256(value) */
    uint32_t value_len; /* 0 when is_value_gone */
    bool is_value_gone; /* truncated away: only hval is known */
};
/* Digest of an entry for a header version (0 or 1). Version 0 demands empty metadata: ST_INVALID otherwise. */
MUST_USE enum status entry_digest(uint32_t version, struct bytes key, struct bytes md, const hash_t *hval, hash_t *digest, struct err *err);

/* --- export / import blob --- */
/* Exact size of the export of these entries. ST_LIMIT on overflow. */
MUST_USE enum status tx_export_size(const struct tx_header *h, const struct tx_entry *entries, size_t count, uint64_t *out, struct err *err);
/* Writes the blob into w. Entries must be all with values or all without ("partially truncated transaction", ST_CORRUPT).
 * skip_integrity: Eh is written as 32 zero bytes. tx_export_parts() leaves out values whose data is NULL; value_at[i] (of count, or NULL) is where in the written
 * bytes the value of entry i belongs. */
MUST_USE enum status tx_export_parts(const struct tx_header *h, const struct tx_entry *entries, size_t count, bool skip_integrity, struct writer *w,
                                     size_t *value_at, struct err *err);
MUST_USE enum status tx_export(const struct tx_header *h, const struct tx_entry *entries, size_t count, bool skip_integrity, struct writer *w,
                               struct err *err);
/* Parses a blob; entries are allocated in the arena and borrow the blob's bytes (metadata is re-serialized canonically into
 * the arena); hval is filled in (computed, or taken for truncated ones). Texts: "illegal arguments", "invalid truncation info",
 * "tx created with a newer version or data is corrupted". entry_count_max, key_len_max, value_len_max bound what is accepted. */
MUST_USE enum status tx_import(struct bytes blob, struct arena *arena, uint32_t entry_count_max, uint32_t key_len_max, uint32_t value_len_max,
                               struct tx_header *h, struct tx_entry **entries, struct err *err);

#endif
