/* Linear proof: the hash chain from one tx to a later one, alh(s) followed by the inner hashes of s+1..t.
 * Linear advance proof: the same chain over the txs start+1..end, each of them also proven to be in the target's tree.
 * It stands in for the chain that is missing between what the source's tree holds and the source itself. */
#include "proof/proof.h"

static bool term_is(const struct hash_list *l, size_t at, const hash_t *h) { return hash_equal(&l->items[at], h); }

bool linear_proof_verify(const struct linear_proof *p, uint64_t source, uint64_t target, const hash_t *source_alh, const hash_t *target_alh)
{
    hash_t alh;

    if (p->source_tx_id != source || p->target_tx_id != target)
        return false;
    if (source == 0 || source > target || p->terms.count == 0 || p->terms.count - 1 != target - source)
        return false;
    if (!term_is(&p->terms, 0, source_alh))
        return false;
    alh = p->terms.items[0];
    for (size_t k = 1; k < p->terms.count; k++)
        alh_compute(source + k, &alh, &p->terms.items[k], &alh);
    return hash_equal(&alh, target_alh);
}

bool linear_advance_verify(const struct linear_advance_proof *p, uint64_t start, uint64_t end, const hash_t *end_alh, const hash_t *root,
                           uint64_t size)
{
    hash_t alh;

    if (end < start)
        return false;
    if (end - start <= 1)
        return true;
    if (!p->is_present || p->terms.count != end - start || p->inclusion_count != end - start - 1)
        return false;
    alh = p->terms.items[0];
    for (size_t k = 0; k < p->inclusion_count; k++) {
        const struct hash_list *path = &p->inclusions[k];

        if (!inclusion_verify(path->items, path->count, start + 1 + k, size, &alh, root))
            return false;
        alh_compute(start + 2 + k, &alh, &p->terms.items[k + 1], &alh);
    }
    return hash_equal(&alh, end_alh);
}
