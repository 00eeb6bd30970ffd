/* libimmuverify: checks what an immudb server or database has proven, without trusting it.
 *
 * No I/O, no allocation, no threads, no state: every function judges its arguments and may be called from any thread. All pointers are borrowed
 * for the call. The same functions are part of libimmudb. Usable from C99 and C++.
 *
 * The structs here mirror the published protocol and are fixed by it. Formats: docs/verification.md. */
#ifndef IMMUVERIFY_H
#define IMMUVERIFY_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define IMMUDB_EXPORT __attribute__((visibility("default")))
#define IMMUDB_MUST_USE __attribute__((warn_unused_result))
#else
#define IMMUDB_EXPORT
#define IMMUDB_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define IMMUDB_HASH_BYTES 32

typedef struct immudb_hash {
    uint8_t bytes[IMMUDB_HASH_BYTES];
} immudb_hash;

typedef struct immudb_bytes {
    const void *data; /* may be NULL when len is 0 */
    size_t len;
} immudb_bytes;

typedef struct immudb_hashes {
    const immudb_hash *items;
    size_t count;
} immudb_hashes;

/* Metadata of one entry. */
typedef struct immudb_metadata {
    uint8_t is_deleted;
    uint8_t is_non_indexable;
    uint8_t has_expiry;
    int64_t expires_at; /* unix seconds; with has_expiry */
} immudb_metadata;

/* A transaction's header. alh, the hash over all of it and its history, is computed by immudb_header_alh(). */
typedef struct immudb_header {
    uint64_t id;        /* from 1 */
    int64_t ts;         /* unix seconds; 0: not recorded */
    uint64_t bl_tx_id;  /* transactions in the tree when it was made */
    uint32_t version;   /* 0 or 1 */
    uint32_t entry_count;
    immudb_hash prev_alh;
    immudb_hash eh;     /* root over its entries */
    immudb_hash bl_root;
    uint64_t truncated_upto; /* 0: absent */
    uint16_t extra_len;      /* at most 256 */
    uint8_t extra[256];
} immudb_header;

/* A proof that the history up to target extends the one up to source. Lists are ordered as published. */
typedef struct immudb_dual_proof {
    immudb_header source, target;
    immudb_hashes inclusion;
    immudb_hashes consistency;
    immudb_hash target_bl_alh;
    immudb_hashes last_inclusion;
    uint64_t linear_source, linear_target;
    immudb_hashes linear;
    uint8_t has_advance;
    immudb_hashes advance;
    const immudb_hashes *advance_inclusions;
    size_t advance_inclusion_count;
} immudb_dual_proof;

/* The form used for documents. */
typedef struct immudb_dual_proof_v2 {
    immudb_header source, target;
    immudb_hashes inclusion;
    immudb_hashes consistency;
} immudb_dual_proof_v2;

/* What a client trusts. */
typedef struct immudb_state {
    uint64_t tx_id; /* 0: empty database, alh is SHA-256 of nothing */
    immudb_hash alh;
} immudb_state;

/* All verifying functions answer 1 when it holds and 0 when not. */

IMMUDB_EXPORT void immudb_sha256(const void *data, size_t len, immudb_hash *out);

/* alh of a header; 0 when version or metadata are not acceptable. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_header_alh(const immudb_header *header, immudb_hash *out);

/* Digest of an entry by the header's version. key and value with their prefix bytes, as stored: for a plain set 0x00 || key and 0x00 || value.
 * 0 for an unknown version, or metadata with version 0. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_entry_digest(uint32_t version, immudb_bytes key, const immudb_metadata *metadata, const immudb_hash *value_hash,
                                                      immudb_hash *out);
/* The same for a plain key and value without prefixes, as written by immudb_set(). */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_kv_digest(uint32_t version, immudb_bytes key, const immudb_metadata *metadata, immudb_bytes value, immudb_hash *out);

/* An entry is the entry_index-th (from 0) of entry_count in the transaction with this eh. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_verify_entry(immudb_hashes proof, uint64_t entry_index, uint64_t entry_count, const immudb_hash *digest, const immudb_hash *eh);

/* Transaction i is the leaf i of the tree of size j with that root. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_verify_inclusion(immudb_hashes proof, uint64_t i, uint64_t j, const immudb_hash *alh, const immudb_hash *root);
/* The tree of size j extends the one of size i. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_verify_consistency(immudb_hashes proof, uint64_t i, uint64_t j, const immudb_hash *root_i, const immudb_hash *root_j);

/* The history up to target extends the one up to source, source <= target; both alh are what the caller holds or was given for these ids. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_verify_dual_proof(const immudb_dual_proof *proof, uint64_t source, uint64_t target, const immudb_hash *source_alh,
                                                           const immudb_hash *target_alh);
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_verify_dual_proof_v2(const immudb_dual_proof_v2 *proof, uint64_t source, uint64_t target, const immudb_hash *source_alh,
                                                              const immudb_hash *target_alh);

/* A signed state: ECDSA over SHA-256 of (length of the database's name, name, tx id, alh). public_key: uncompressed point, or PEM. */
IMMUDB_EXPORT IMMUDB_MUST_USE int immudb_verify_state(immudb_bytes public_key, immudb_bytes signature, immudb_bytes database, const immudb_state *state);
/* The signed bytes into out (room for 320); returns their number, 0 when the name is longer than 256. */
IMMUDB_EXPORT IMMUDB_MUST_USE size_t immudb_state_payload(immudb_bytes database, const immudb_state *state, uint8_t *out);

#ifdef __cplusplus
}
#endif

#endif
