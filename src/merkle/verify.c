/* Verification of the append-only tree's proofs, term by term as the published verifiers do it: an unused term or a width
 * that leads the same way is accepted or refused exactly as there. */
#include "merkle/merkle.h"

bool inclusion_verify_leaf(const hash_t *terms, size_t term_count, uint64_t i, uint64_t j, const hash_t *leaf_hash, const hash_t *root)
{
    uint64_t at = i - 1, last = j - 1;
    hash_t h = *leaf_hash;

    if (i == 0 || i > j || (i < j && term_count == 0))
        return false;
    for (size_t k = 0; k < term_count; k++) {
        if (at % 2 == 0 && at != last)
            sha256_node(&h, &terms[k], &h);
        else
            sha256_node(&terms[k], &h, &h);
        at >>= 1;
        last >>= 1;
    }
    return hash_equal(&h, root);
}

bool inclusion_verify(const hash_t *terms, size_t term_count, uint64_t i, uint64_t j, const hash_t *leaf, const hash_t *root)
{
    hash_t h;

    sha256_leaf(leaf, &h);
    return inclusion_verify_leaf(terms, term_count, i, j, &h, root);
}

bool last_inclusion_verify_leaf(const hash_t *terms, size_t term_count, uint64_t n, const hash_t *leaf_hash, const hash_t *root)
{
    hash_t h = *leaf_hash;

    if (n == 0)
        return false;
    for (size_t k = 0; k < term_count; k++)
        sha256_node(&terms[k], &h, &h);
    return hash_equal(&h, root);
}

bool last_inclusion_verify(const hash_t *terms, size_t term_count, uint64_t n, const hash_t *leaf, const hash_t *root)
{
    hash_t h;

    sha256_leaf(leaf, &h);
    return last_inclusion_verify_leaf(terms, term_count, n, &h, root);
}

bool consistency_verify(const hash_t *terms, size_t term_count, uint64_t i, uint64_t j, const hash_t *root_i, const hash_t *root_j)
{
    uint64_t first = i - 1, second = j - 1;
    hash_t hash_i, hash_j;

    if (i == 0 || i > j || (i < j && term_count == 0))
        return false;
    if (term_count == 0)
        return hash_equal(root_i, root_j);
    /* Up to the node that ends the old tree: the first term is its last complete subtree. */
    while (first % 2 == 1) {
        first >>= 1;
        second >>= 1;
    }
    hash_i = hash_j = terms[0];
    for (size_t k = 1; k < term_count; k++) {
        if (first % 2 == 1 || first == second) {
            sha256_node(&terms[k], &hash_i, &hash_i);
            sha256_node(&terms[k], &hash_j, &hash_j);
            while (first % 2 == 0 && first != 0) {
                first >>= 1;
                second >>= 1;
            }
        } else {
            sha256_node(&hash_j, &terms[k], &hash_j);
        }
        first >>= 1;
        second >>= 1;
    }
    return hash_equal(&hash_i, root_i) && hash_equal(&hash_j, root_j);
}
