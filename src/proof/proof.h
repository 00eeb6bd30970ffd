/* Proofs between two transactions, and the signed state: what a client checks by itself.
 *
 * Verification is pure: no I/O, no allocation, any thread; it judges exactly as the published verifiers do (fields whose
 * condition does not hold are ignored). Generation asks a struct proof_source for headers and tree nodes. */
#ifndef PROOF_PROOF_H
#define PROOF_PROOF_H

#include "merkle/merkle.h"
#include "tx/tx.h"

/* Terms are held in an arena or borrowed from the received message. */
struct hash_list {
    size_t count;
    const hash_t *items;
};

struct linear_proof {
    uint64_t source_tx_id, target_tx_id;
    struct hash_list terms;
};
struct linear_advance_proof {
    bool is_present;
    struct hash_list terms;
    size_t inclusion_count;
    const struct hash_list *inclusions;
};
struct dual_proof {
    bool has_source, has_target; /* headers may be missing in a received message */
    struct tx_header source, target;
    struct hash_list inclusion;
    struct hash_list consistency;
    hash_t target_bl_alh;
    struct hash_list last_inclusion;
    bool has_linear;
    struct linear_proof linear;
    struct linear_advance_proof advance;
};
struct dual_proof_v2 {
    bool has_source, has_target;
    struct tx_header source, target;
    struct hash_list inclusion;
    struct hash_list consistency;
};

/* --- verification --- */
bool linear_proof_verify(const struct linear_proof *p, uint64_t source, uint64_t target, const hash_t *source_alh, const hash_t *target_alh);
bool linear_advance_verify(const struct linear_advance_proof *p, uint64_t start, uint64_t end, const hash_t *end_alh, const hash_t *root,
                           uint64_t size);
bool dual_proof_verify(const struct dual_proof *p, uint64_t source, uint64_t target, const hash_t *source_alh, const hash_t *target_alh);
/* ST_OK, or ST_INVALID with the published text ("source tx is newer than target tx", "unexpected linking error", ...). */
MUST_USE enum status dual_proof_v2_verify(const struct dual_proof_v2 *p, uint64_t source, uint64_t target, const hash_t *source_alh,
                                          const hash_t *target_alh, struct err *err);

/* --- generation --- */
struct proof_source {
    void *ctx;
    enum status (*header)(void *ctx, uint64_t tx_id, struct tx_header *out, struct err *err);
    /* alh of a tx, 0 gives HASH_EMPTY. */
    enum status (*alh)(void *ctx, uint64_t tx_id, hash_t *out, struct err *err);
    enum status (*inclusion)(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err);
    enum status (*consistency)(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err);
};
/* Lists are allocated in the arena. ST_INVALID "source tx is newer than target tx" when source > target. A linear part longer
 * than linear_terms_max is ST_LIMIT (old databases with a long stalled tree). */
#define LINEAR_TERMS_MAX 1000000
MUST_USE enum status dual_proof_make(const struct proof_source *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof *out,
                                     struct err *err);
MUST_USE enum status dual_proof_v2_make(const struct proof_source *s, uint64_t source, uint64_t target, struct arena *arena,
                                        struct dual_proof_v2 *out, struct err *err);
MUST_USE enum status linear_proof_make(const struct proof_source *s, uint64_t source, uint64_t target, struct arena *arena, struct linear_proof *out,
                                       struct err *err);
MUST_USE enum status linear_advance_make(const struct proof_source *s, uint64_t start, uint64_t end, uint64_t size, struct arena *arena,
                                         struct linear_advance_proof *out, struct err *err);

/* --- signed state --- */
/* payload = u32(len db) || db || u64(tx id) || tx hash */
#define STATE_DB_LEN_MAX 256
size_t state_payload(struct bytes db, uint64_t tx_id, const hash_t *alh, uint8_t out[STATE_DB_LEN_MAX + 64]);

#define SIGNATURE_BYTES_MAX 160
#define PUBLIC_KEY_BYTES_MAX 133
struct state_signature {
    size_t signature_len;
    uint8_t signature[SIGNATURE_BYTES_MAX]; /* ASN.1 DER ECDSA over SHA-256(payload) */
    size_t public_key_len;
    uint8_t public_key[PUBLIC_KEY_BYTES_MAX]; /* uncompressed point */
};
struct signer;
/* From the bytes of a PEM file whose first block is a SEC1 EC private key; texts of errors as published (docs/verification.md).
 * The key's memory is cleansed when closed. */
MUST_USE enum status signer_open(struct bytes pem, struct signer **out, struct err *err);
void signer_close(struct signer *s);
/* Safe from any thread. */
MUST_USE enum status signer_sign(struct signer *s, struct bytes db, uint64_t tx_id, const hash_t *alh, struct state_signature *out, struct err *err);
/* public_key: uncompressed point, or a PEM SubjectPublicKeyInfo. */
bool state_signature_verify(struct bytes public_key, struct bytes signature, struct bytes db, uint64_t tx_id, const hash_t *alh);

#endif
