/* The per-tx tree: root and inclusion proofs over the entry digests of one transaction.
 *
 * A level is built from the one below by pairing neighbours; a last node without partner moves up unchanged. All levels
 * share one scratch array of width hashes, each overwriting the one below it, so nothing is allocated. */
#include "merkle/merkle.h"

#include <assert.h>

static void leaves_hash(const hash_t *digests, size_t count, hash_t *out)
{
    for (size_t i = 0; i < count; i++)
        sha256_leaf(&digests[i], &out[i]);
}

/* Replaces a level of count nodes by its parent level; returns that one's length. */
static size_t level_up(hash_t *level, size_t count)
{
    size_t pairs = count / 2;

    sha256_nodes(level, pairs, level);
    if (count % 2 == 1)
        level[pairs] = level[count - 1];
    return pairs + count % 2;
}

void htree_root(const hash_t *digests, size_t count, hash_t *scratch, hash_t *root)
{
    if (count == 0) {
        *root = HASH_EMPTY;
        return;
    }
    leaves_hash(digests, count, scratch);
    while (count > 1)
        count = level_up(scratch, count);
    *root = scratch[0];
}

enum status htree_inclusion(const hash_t *digests, size_t width, size_t entry_index, hash_t *scratch, struct merkle_path *out, struct err *err)
{
    size_t index = entry_index;

    out->term_count = 0;
    if (entry_index >= width)
        return err_set(err, ST_INVALID, 0, "entry %zu of a tx of %zu entries", entry_index, width);
    leaves_hash(digests, width, scratch);
    for (size_t count = width; count > 1; index /= 2) {
        size_t sibling = index ^ 1;

        if (sibling < count)
            out->terms[out->term_count++] = scratch[sibling];
        count = level_up(scratch, count);
    }
    assert(out->term_count < MERKLE_TERMS_MAX);
    return ST_OK;
}

bool htree_verify(const hash_t *terms, size_t term_count, uint64_t leaf, uint64_t width, const hash_t *digest, const hash_t *root)
{
    uint64_t at = leaf, last = width - 1;
    hash_t h;

    if (width == 0)
        return false;
    sha256_leaf(digest, &h);
    for (size_t i = 0; i < term_count; i++) {
        if (at % 2 == 0 && at != last)
            sha256_node(&h, &terms[i], &h);
        else
            sha256_node(&terms[i], &h, &h);
        at /= 2;
        last /= 2;
    }
    return at == last && hash_equal(&h, root);
}
