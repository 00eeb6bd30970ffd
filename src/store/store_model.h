/* For tests alone: what a store must hold, written straight from the definitions and as simply as possible: a list of transactions, and the
 * published formulas over flat buffers. Nothing of the code under test is used but SHA-256 itself. */
#ifndef STORE_STORE_MODEL_H
#define STORE_STORE_MODEL_H

#include "store/store.h"

struct model_entry {
    struct kv_metadata md;
    uint8_t *key, *value;
    size_t key_len, value_len;
    hash_t hval;
};
struct model_tx {
    struct model_entry *entries;
    size_t count;
    bool is_acked; /* somebody was told that it is committed */
    hash_t alh;    /* as told then */
};
struct model {
    struct model_tx *txs; /* txs[i] has id i + 1 */
    size_t count, cap;
};

void model_init(struct model *m);
void model_free(struct model *m);
/* Begins the next tx and adds entries to it; everything is copied. */
void model_begin(struct model *m);
void model_entry_add(struct model *m, struct bytes key, const struct kv_metadata *md, struct bytes value);
void model_cut(struct model *m, size_t count);

/* Compares everything a store answers up to tx upto with the model: contents, hashes, chain, roots, index (latest, revision, number of versions). Values of txs
 * up to gone_upto may be gone. Entries of a tx beyond the model's are compared only for being readable when model txs are missing: upto must
 * not exceed the model. False: *why tells. */
bool model_check(const struct model *m, struct store *s, uint64_t upto, uint64_t gone_upto, char why[512]);
/* Dual proofs from tx source with that alh to the store's present state hold. */
bool model_check_proof(struct store *s, uint64_t source, const hash_t *alh, char why[512]);

/* The formulas. */
void naive_alh(const struct tx_header *h, hash_t *out);
void naive_root(const hash_t *leaf_data, size_t count, hash_t *out); /* leaf_data: alh or digests, not yet leaf-hashed; count >= 1 */

/* A clock that moves 1 us with each look, seeded randomness, and a log that keeps its last line. */
struct test_env {
    struct env env;
    _Atomic uint64_t mono_ns, mono_step_ns; /* 1000 unless changed */
    _Atomic int64_t wall_ns;
    _Atomic uint64_t rng;
    bool is_verbose;
};
void test_env_init(struct test_env *e, uint64_t seed);

#endif
