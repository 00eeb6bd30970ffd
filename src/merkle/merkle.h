/* Merkle trees: the per-tx tree over entry digests, and the append-only tree over the alh of every tx.
 *
 * Shape and hashes: RFC 6962, leaf = SHA-256(0x00 || data), node = SHA-256(0x01 || left || right), splits at the largest
 * power of two below the size. Leaves of the append-only tree are counted from 1 (the tx id).
 * Proof forms are those of the published protocol, which differ from RFC 6962 in two places: a consistency proof always
 * begins with the old root's last complete subtree (also for powers of two), and consistency(n, n) has two terms for n > 1.
 *
 * Part 1, pure functions: no I/O, no allocation, any thread. Part 2, struct tree: the append-only tree with its tile pages
 * on disk (merkle_tree.h). */
#ifndef MERKLE_MERKLE_H
#define MERKLE_MERKLE_H

#include "base/err.h"
#include "base/hash.h"

/* A path never has more than one term per level; consistency has at most one more. */
#define MERKLE_TERMS_MAX 65

struct merkle_path {
    size_t term_count;
    hash_t terms[MERKLE_TERMS_MAX]; /* from the leaf upwards, in protocol order */
};

/* --- per-tx tree (entry_index from 0, width = number of entries) --- */

/* Root over count entry digests (not yet leaf-hashed); count 0 gives SHA-256(""). scratch: room for count hashes. */
void htree_root(const hash_t *digests, size_t count, hash_t *scratch, hash_t *root);
/* Inclusion proof of the entry in a tree of width digests. scratch: room for width hashes. ST_INVALID when index >= width. */
MUST_USE enum status htree_inclusion(const hash_t *digests, size_t width, size_t entry_index, hash_t *scratch, struct merkle_path *out,
                                     struct err *err);
/* True when the proof leads from digest to root. term_count may be any number. */
bool htree_verify(const hash_t *terms, size_t term_count, uint64_t leaf, uint64_t width, const hash_t *digest, const hash_t *root);

/* --- append-only tree, verification --- */

/* Data below are the 32-byte alh; leaf hashing is done inside. */
bool inclusion_verify(const hash_t *terms, size_t term_count, uint64_t i, uint64_t j, const hash_t *leaf, const hash_t *root);
bool last_inclusion_verify(const hash_t *terms, size_t term_count, uint64_t n, const hash_t *leaf, const hash_t *root);
bool consistency_verify(const hash_t *terms, size_t term_count, uint64_t i, uint64_t j, const hash_t *root_i, const hash_t *root_j);

/* The same two for a caller who holds the leaf hash, SHA-256(0x00 || alh), instead of the alh. */
bool inclusion_verify_leaf(const hash_t *terms, size_t term_count, uint64_t i, uint64_t j, const hash_t *leaf_hash, const hash_t *root);
bool last_inclusion_verify_leaf(const hash_t *terms, size_t term_count, uint64_t n, const hash_t *leaf_hash, const hash_t *root);

/* --- append-only tree, incremental root (the frontier) --- */

/* Roots of the complete subtrees of a tree of size leaves, the largest first: one per set bit of size. 2,056 bytes. */
struct frontier {
    uint64_t size;
    hash_t nodes[64]; /* nodes[k]: root of the complete subtree of 2^k leaves, valid when bit k of size is set */
};
void frontier_init(struct frontier *f);
/* Appends the leaf hash of the next position. */
void frontier_append(struct frontier *f, const hash_t *leaf);
/* Root of the tree; HASH_ZERO for size 0 (the blRoot of the first tx). */
void frontier_root(const struct frontier *f, hash_t *root);

#endif
