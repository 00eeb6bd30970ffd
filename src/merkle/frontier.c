/* The frontier: one root per complete subtree of a growing tree, enough to append and to know the current root. */
#include "merkle/merkle.h"

#include <assert.h>

void frontier_init(struct frontier *f) { f->size = 0; }

void frontier_append(struct frontier *f, const hash_t *leaf)
{
    hash_t carry = *leaf;
    unsigned level = 0;

    assert(f->size < UINT64_MAX);
    for (; (f->size >> level & 1) != 0; level++)
        sha256_node(&f->nodes[level], &carry, &carry);
    f->nodes[level] = carry;
    f->size++;
}

void frontier_root(const struct frontier *f, hash_t *root)
{
    bool is_begun = false;

    *root = HASH_ZERO;
    for (uint64_t left = f->size; left != 0; left &= left - 1) {
        const hash_t *node = &f->nodes[__builtin_ctzll(left)];

        if (is_begun)
            sha256_node(node, root, root);
        else
            *root = *node;
        is_begun = true;
    }
}
