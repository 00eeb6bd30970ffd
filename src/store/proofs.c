/* Proofs: the store gives headers and tree nodes to proof/. Only txs that are committed and durable are proven.
 *
 * Inclusion of an entry in its tx: hashing all digests of a large tx for each proof would cost more than the rest of the answer, so the levels
 * of its tree (leaf hashes first, about 2 * width hashes) are kept in the shared cache under (entry_trees_id, tx id). */
#include "store/store_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { WIDTH_UNCACHED_MAX = 16, LEVELS_MAX = 33, TREE_CACHED_MAX = 1 << 22 /* bytes */ };

enum status store_alh(struct store *s, uint64_t tx_id, hash_t *out, struct err *err)
{
    struct tx_header h;
    enum status st;

    if (tx_id == 0) {
        *out = HASH_EMPTY;
        return ST_OK;
    }
    if ((st = log_tx_header(s->log, tx_id, &h, err)) == ST_OK)
        tx_header_alh(&h, out);
    return st;
}

static enum status provable_check(struct store *s, uint64_t tx_id, struct err *err)
{
    if (tx_id == 0)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    return tx_id <= atomic_load_explicit(&s->durable_tx, memory_order_acquire) ? ST_OK : beyond_error(s, err);
}

/* --- between transactions --- */
static enum status source_header(void *ctx, uint64_t tx_id, struct tx_header *out, struct err *err)
{
    struct store *s = ctx;

    return log_tx_header(s->log, tx_id, out, err);
}
static enum status source_alh(void *ctx, uint64_t tx_id, hash_t *out, struct err *err) { return store_alh(ctx, tx_id, out, err); }
static enum status source_inclusion(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    struct store *s = ctx;
    enum status st = tree_reaches(s, j, err);

    return st != ST_OK ? st : tree_inclusion(s->tree, i, j, out, err);
}
static enum status source_consistency(void *ctx, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    struct store *s = ctx;
    enum status st = tree_reaches(s, j, err);

    return st != ST_OK ? st : tree_consistency(s->tree, i, j, out, err);
}
static struct proof_source source_of(struct store *s)
{
    return (struct proof_source){s, source_header, source_alh, source_inclusion, source_consistency};
}

static enum status both_provable(struct store *s, uint64_t source, uint64_t target, struct err *err)
{
    enum status st = provable_check(s, source, err);

    return st != ST_OK ? st : provable_check(s, target, err);
}

enum status store_dual_proof(struct store *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof *out, struct err *err)
{
    struct proof_source from = source_of(s);
    enum status st = both_provable(s, source, target, err);

    return st != ST_OK ? st : dual_proof_make(&from, source, target, arena, out, err);
}

enum status store_dual_proof_v2(struct store *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof_v2 *out, struct err *err)
{
    struct proof_source from = source_of(s);
    enum status st = both_provable(s, source, target, err);

    return st != ST_OK ? st : dual_proof_v2_make(&from, source, target, arena, out, err);
}

enum status store_linear_proof(struct store *s, uint64_t source, uint64_t target, struct arena *arena, struct linear_proof *out, struct err *err)
{
    struct proof_source from = source_of(s);
    enum status st = both_provable(s, source, target, err);

    return st != ST_OK ? st : linear_proof_make(&from, source, target, arena, out, err);
}

enum status store_linear_advance(struct store *s, uint64_t start, uint64_t end, uint64_t size, struct arena *arena, struct linear_advance_proof *out,
                                 struct err *err)
{
    struct proof_source from = source_of(s);
    uint64_t durable = atomic_load_explicit(&s->durable_tx, memory_order_acquire);

    if (end > durable || size > durable)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    return linear_advance_make(&from, start, end, size, arena, out, err);
}

enum status store_root_at(struct store *s, uint64_t size, hash_t *root, struct err *err)
{
    enum status st;

    if (size > atomic_load_explicit(&s->durable_tx, memory_order_acquire))
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    if ((st = tree_reaches(s, size, err)) != ST_OK)
        return st;
    return tree_root_at(s->tree, size, root, err);
}

/* --- inside a transaction --- */
/* Hashes of all levels for a width: the levels halve, rounding up. */
static size_t levels_total(size_t width)
{
    size_t total = width;

    while (width > 1) {
        width = (width + 1) / 2;
        total += width;
    }
    return total;
}

/* digests stand in the first level's place; they become leaf hashes, the further levels follow. A last node without partner is carried up. */
static void levels_build(hash_t *level, size_t width)
{
    for (size_t i = 0; i < width; i++)
        sha256_leaf(&level[i], &level[i]);
    while (width > 1) {
        hash_t *above = level + width;

        sha256_nodes(level, width / 2, above);
        if (width % 2 == 1)
            above[width / 2] = level[width - 1];
        level = above;
        width = (width + 1) / 2;
    }
}

static void levels_path(const hash_t *level, size_t width, size_t at, struct merkle_path *out)
{
    out->term_count = 0;
    while (width > 1) {
        size_t sibling = at ^ 1;

        if (sibling < width)
            out->terms[out->term_count++] = level[sibling];
        level += width;
        at /= 2;
        width = (width + 1) / 2;
    }
}

static enum status levels_of(struct store *s, struct log_tx *t, hash_t *levels, struct err *err)
{
    enum status st = log_tx_digests(s->log, t, levels, err);

    if (st == ST_OK)
        levels_build(levels, t->entry_count);
    return st;
}

enum status store_entry_inclusion(struct store *s, struct log_tx *t, uint32_t entry_index, struct arena *arena, struct merkle_path *out,
                                  struct err *err)
{
    hash_t small[2 * WIDTH_UNCACHED_MAX + LEVELS_MAX];
    struct cache_block block = {NULL, 0, NULL};
    size_t width = t->entry_count, bytes = levels_total(width) * sizeof(hash_t);
    hash_t *levels = small;
    enum status st;

    if (entry_index >= width)
        return err_set(err, ST_INVALID, 0, "entry %u of %zu", entry_index, width);
    if (width > WIDTH_UNCACHED_MAX) {
        if (bytes <= TREE_CACHED_MAX && cache_lookup(s->runtime->cache, s->entry_trees_id, t->header.id, &block)) {
            assert(block.len == bytes);
            levels_path((const hash_t *)block.data, width, entry_index, out);
            cache_unpin(s->runtime->cache, &block);
            return ST_OK;
        }
        levels = arena_array(arena, levels_total(width), sizeof *levels);
        if (levels == NULL)
            return err_set(err, ST_NOMEM, 0, "the tree of a transaction of %zu entries", width);
    }
    if ((st = levels_of(s, t, levels, err)) != ST_OK)
        return st;
    levels_path(levels, width, entry_index, out);
    /* Only what is committed keeps its id for ever. */
    if (levels != small && bytes <= TREE_CACHED_MAX && t->header.id <= atomic_load(&s->durable_tx))
        cache_put(s->runtime->cache, s->entry_trees_id, t->header.id, levels, bytes, NULL);
    return ST_OK;
}
