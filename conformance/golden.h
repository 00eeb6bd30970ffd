/* Recorded vectors of the published protocol, judged by this tree's own code: what golden_proofs' files share.
 *
 * Bytes are lower-case hex strings. Integers are JSON numbers up to 64 bits; those above 2^63-1 are turned into strings
 * while loading, because the JSON library holds signed 64 bits. */
#ifndef CONFORMANCE_GOLDEN_H
#define CONFORMANCE_GOLDEN_H

#include <jansson.h>

#include "merkle/merkle_tree.h"
#include "proof/proof.h"

struct golden {
    const char *dir;
    const char *file; /* being judged */
    size_t passed, failed;
    struct arena arena; /* emptied after each vector */
    struct vfs *vfs;    /* a file system in memory, for struct tree */
    struct budget budget;
    struct cache *cache;
    unsigned tree_count; /* names the directories of trees */
};

/* Counts, and prints what failed (vector may be NULL; its running number and note are printed). Returns is_ok. */
bool golden_check(struct golden *g, bool is_ok, const char *what, const json_t *vector);

/* NULL when the file is missing; a file that cannot be read or parsed counts as a failure. */
json_t *golden_load(struct golden *g, const char *file);

/* --- values; a missing member reads as 0, empty, false --- */
uint64_t golden_u64(const json_t *object, const char *key);
bool golden_true(const json_t *object, const char *key);
const char *golden_text(const json_t *object, const char *key);
/* Hex, in the arena. */
struct bytes golden_hex_of(struct golden *g, const json_t *value);
struct bytes golden_hex(struct golden *g, const json_t *object, const char *key);
/* 32 bytes as taken from the wire: cut or padded with zeros. */
void golden_hash_of(struct golden *g, const json_t *value, hash_t *out);
void golden_hash(struct golden *g, const json_t *object, const char *key, hash_t *out);
struct hash_list golden_hashes(struct golden *g, const json_t *list);
bool golden_list_is(const struct hash_list *got, const struct hash_list *want);

/* --- protocol objects --- */
/* Attribute members deleted, nonIndexable, expiresAt (or expiration.expiresAt). */
void golden_kv_metadata(const json_t *object, struct kv_metadata *out);
void golden_tx_metadata(struct golden *g, const json_t *object, struct tx_metadata *out);
void golden_header(struct golden *g, const json_t *object, struct tx_header *out);
void golden_dual(struct golden *g, const json_t *object, struct dual_proof *out);
void golden_dual_v2(struct golden *g, const json_t *object, struct dual_proof_v2 *out);

/* --- chains (golden_chain.c) --- */
struct chain {
    uint64_t tx_count;
    struct tx_header *headers; /* [1..tx_count] */
    hash_t *alhs;              /* [0..tx_count] */
    hash_t *leaves;            /* leaf hashes, [0..tx_count-1] */
    struct tree *tree;
    struct frontier frontier;
    hash_t *roots; /* of size n, [0..tx_count] */
};
bool chain_open(struct golden *g, struct chain *c);
void chain_close(struct chain *c);
/* Judges one export as a replica would: parse, unique keys, digests, Eh, order, blRoot, prevAlh; appends when accepted.
 * ST_OK, or a refusal with the published text. */
enum status chain_import(struct golden *g, struct chain *c, struct bytes blob, bool skip_integrity, struct err *err);
/* Proofs from struct tree, or from the naive tree. */
struct proof_source chain_source(struct chain *c, bool is_naive);

void golden_entry_digests(struct golden *g, const json_t *root);
void golden_htree(struct golden *g, const json_t *root);
void golden_aht(struct golden *g, const json_t *root);
void golden_tx_headers(struct golden *g, const json_t *root);
void golden_signatures(struct golden *g, const json_t *root);
void golden_chain_file(struct golden *g, const char *name, const json_t *root);
void golden_import_sequence(struct golden *g, const json_t *root);
void golden_calls(struct golden *g, const json_t *root);
void golden_documents(struct golden *g, const json_t *root);

#endif
