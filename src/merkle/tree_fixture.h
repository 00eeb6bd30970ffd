/* For tests of struct tree: a tree on a file system in memory, and the leaves it should hold. */
#ifndef MERKLE_TREE_FIXTURE_H
#define MERKLE_TREE_FIXTURE_H

#include <stdlib.h>

#include "base/test.h"
#include "merkle/merkle_internal.h"
#include "merkle/naive_tree.h"
#include "vfs/vfs_memory.h"

struct fixture {
    struct vfs *vfs;
    struct budget budget;
    struct cache *cache;
    struct tree_options options;
    struct tree *tree;
    size_t size, size_max;
    hash_t *alhs, *leaves; /* model; leaf n (from 1) at n - 1 */
    uint64_t salt, random;
    uint64_t alh_calls;
};

static inline uint64_t fixture_random(struct fixture *f, uint64_t below)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return below == 0 ? 0 : f->random % below;
}

static inline enum status fixture_alh_of(void *ctx, uint64_t n, hash_t *out, struct err *err)
{
    struct fixture *f = ctx;

    if (n == 0 || n > f->size)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    *out = f->alhs[n - 1];
    f->alh_calls++;
    return ST_OK;
}

static inline void fixture_cache_renew(struct fixture *f)
{
    if (f->cache != NULL)
        cache_destroy(f->cache);
    f->cache = NULL;
    assert_int_equal(cache_create(f->vfs, &f->budget, 16, &f->cache, NULL), ST_OK);
    f->options.cache = f->cache;
}

static inline void fixture_open(struct fixture *f, uint64_t size_max)
{
    struct err err = {0};

    if (tree_open(&f->options, size_max, &f->tree, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static inline void fixture_close(struct fixture *f)
{
    tree_close(f->tree);
    f->tree = NULL;
}

static inline struct fixture *fixture_make(size_t size_max, uint64_t seed)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->random = seed * 2654435761u + 88172645463325252u;
    f->salt = seed;
    f->size_max = size_max;
    f->alhs = calloc(size_max, sizeof *f->alhs);
    f->leaves = calloc(size_max, sizeof *f->leaves);
    assert_true(f->alhs != NULL && f->leaves != NULL);
    budget_init(&f->budget, (size_t)64 << 20);
    f->vfs = vfs_memory_create();
    assert_non_null(f->vfs);
    f->options = (struct tree_options){.vfs = f->vfs, .budget = &f->budget, .dir = "tree", .uuid = "fixture", .alh_of = fixture_alh_of, .ctx = f};
    fixture_cache_renew(f);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    fixture_close(f);
    cache_destroy(f->cache);
    assert_int_equal(budget_used(&f->budget, BUDGET_TREE), 0); /* everything accounted was given back */
    vfs_memory_destroy(f->vfs);
    free(f->alhs);
    free(f->leaves);
    free(f);
}

/* Fresh leaves for the model at positions from .. from + count - 1 (from 0). */
static inline void fixture_leaves(struct fixture *f, size_t from, size_t count)
{
    assert_true(from + count <= f->size_max);
    for (size_t i = from; i < from + count; i++) {
        naive_leaf(f->salt, i, &f->alhs[i]);
        sha256_leaf(&f->alhs[i], &f->leaves[i]);
    }
}

static inline void fixture_append(struct fixture *f, size_t count)
{
    struct err err = {0};

    fixture_leaves(f, f->size, count);
    if (tree_append(f->tree, f->leaves + f->size, count, &err) != ST_OK)
        fail_msg("%s", err.text);
    f->size += count;
    assert_int_equal(tree_size(f->tree), f->size);
}

static inline void fixture_root_check(struct fixture *f, size_t n)
{
    hash_t got, want;

    naive_root(f->leaves, n, &want);
    assert_int_equal(tree_root_at(f->tree, n, &got, NULL), ST_OK);
    assert_memory_equal(&got, &want, HASH_LEN);
}

static inline void fixture_pair_check(struct fixture *f, size_t i, size_t j)
{
    struct merkle_path got, want;
    struct err err = {0};

    naive_inclusion(f->leaves, i, j, &want);
    if (tree_inclusion(f->tree, i, j, &got, &err) != ST_OK)
        fail_msg("inclusion %zu in %zu: %s", i, j, err.text);
    assert_true(naive_same(&got, &want));
    naive_consistency(f->leaves, i, j, &want);
    if (tree_consistency(f->tree, i, j, &got, &err) != ST_OK)
        fail_msg("consistency %zu to %zu: %s", i, j, err.text);
    assert_true(naive_same(&got, &want));
}

/* A cheap check of the whole at larger sizes: proofs verify against roots, roots against the frontier of the model. */
static inline void fixture_sample_check(struct fixture *f, size_t count)
{
    struct frontier have, want;
    hash_t root;

    if (f->size == 0)
        return;
    frontier_init(&want);
    for (size_t n = 0; n < f->size; n++)
        frontier_append(&want, &f->leaves[n]);
    tree_frontier(f->tree, &have);
    assert_int_equal(have.size, want.size);
    for (unsigned k = 0; k < 64; k++)
        if ((want.size >> k & 1) != 0)
            assert_memory_equal(&have.nodes[k], &want.nodes[k], HASH_LEN);
    frontier_root(&want, &root);
    for (size_t k = 0; k < count; k++) {
        size_t j = k % 2 == 0 ? f->size : 1 + fixture_random(f, f->size), i = 1 + fixture_random(f, j);
        struct merkle_path p;
        hash_t root_i, root_j, leaf;

        assert_int_equal(tree_root_at(f->tree, i, &root_i, NULL), ST_OK);
        assert_int_equal(tree_root_at(f->tree, j, &root_j, NULL), ST_OK);
        assert_true(j != f->size || hash_equal(&root, &root_j));
        assert_int_equal(tree_leaf(f->tree, i, &leaf, NULL), ST_OK);
        assert_memory_equal(&leaf, &f->leaves[i - 1], HASH_LEN);
        assert_int_equal(tree_inclusion(f->tree, i, j, &p, NULL), ST_OK);
        assert_true(inclusion_verify(p.terms, p.term_count, i, j, &f->alhs[i - 1], &root_j));
        assert_int_equal(tree_consistency(f->tree, i, j, &p, NULL), ST_OK);
        assert_true(consistency_verify(p.terms, p.term_count, i, j, &root_i, &root_j));
    }
}

#endif
