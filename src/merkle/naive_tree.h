/* For tests: the append-only tree written straight from its definition (RFC 6962 section 2.1 and the two published
 * differences), recursive and slow. Leaves are given as leaf hashes, positions from 0, ranges half open. */
#ifndef MERKLE_NAIVE_TREE_H
#define MERKLE_NAIVE_TREE_H

#include "merkle/merkle.h"

static inline size_t naive_split(size_t count)
{
    size_t k = 1;

    while (k * 2 < count)
        k *= 2;
    return k;
}

static inline void naive_root(const hash_t *leaves, size_t count, hash_t *out)
{
    size_t k = naive_split(count);
    hash_t left, right;

    if (count == 0) {
        *out = HASH_ZERO;
        return;
    }
    if (count == 1) {
        *out = leaves[0];
        return;
    }
    naive_root(leaves, k, &left);
    naive_root(leaves + k, count - k, &right);
    sha256_node(&left, &right, out);
}

static inline void naive_put(struct merkle_path *p, const hash_t *leaves, size_t count) { naive_root(leaves, count, &p->terms[p->term_count++]); }

/* path(m, leaves): m counts from 0. */
static inline void naive_path(const hash_t *leaves, size_t m, size_t count, struct merkle_path *p)
{
    size_t k = naive_split(count);

    if (count <= 1)
        return;
    if (m < k) {
        naive_path(leaves, m, k, p);
        naive_put(p, leaves + k, count - k);
    } else {
        naive_path(leaves + k, m - k, count - k, p);
        naive_put(p, leaves, k);
    }
}

static inline void naive_inclusion(const hash_t *leaves, size_t i, size_t j, struct merkle_path *p)
{
    p->term_count = 0;
    naive_path(leaves, i - 1, j, p);
}

static inline void naive_subproof(const hash_t *leaves, size_t m, size_t count, struct merkle_path *p)
{
    size_t k = naive_split(count);

    if (m == count) {
        naive_put(p, leaves, count);
        return;
    }
    if (m <= k) {
        naive_subproof(leaves, m, k, p);
        naive_put(p, leaves + k, count - k);
    } else {
        naive_subproof(leaves + k, m - k, count - k, p);
        naive_put(p, leaves, k);
    }
}

static inline void naive_consistency(const hash_t *leaves, size_t i, size_t j, struct merkle_path *p)
{
    size_t k = naive_split(j);

    p->term_count = 0;
    if (i < j) {
        naive_subproof(leaves, i, j, p);
    } else if (j > 1) {
        naive_put(p, leaves + k, j - k);
        naive_put(p, leaves, k);
    }
}

static inline bool naive_same(const struct merkle_path *a, const struct merkle_path *b)
{
    return a->term_count == b->term_count && memcmp(a->terms, b->terms, a->term_count * sizeof(hash_t)) == 0;
}

/* Leaf hash number i (from 0) of test tree number salt. */
static inline void naive_leaf(uint64_t salt, uint64_t i, hash_t *out)
{
    uint8_t data[16];

    store_u64le(data, salt);
    store_u64le(data + 8, i);
    sha256(data, sizeof data, out);
}

#endif
