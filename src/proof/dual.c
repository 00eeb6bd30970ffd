/* Dual proof: binds the headers of a source and a target tx through the tree (inclusion, consistency) and through the
 * chain (linear parts). Verification only; the order of the checks is that of the published verifiers. */
#include "proof/proof.h"

/* The header's own alh; false for a version that nobody can hash. */
static bool header_alh_is(const struct tx_header *h, const hash_t *expected)
{
    hash_t alh;

    if (h->version > TX_VERSION_MAX)
        return false;
    tx_header_alh(h, &alh);
    return hash_equal(&alh, expected);
}

static bool headers_match(const struct tx_header *s, const struct tx_header *t, uint64_t source, uint64_t target, const hash_t *source_alh,
                          const hash_t *target_alh)
{
    return s->id == source && t->id == target && source > 0 && source <= target && header_alh_is(s, source_alh) && header_alh_is(t, target_alh);
}

static bool tree_parts_hold(const struct dual_proof *p, uint64_t source, const hash_t *source_alh)
{
    const struct tx_header *s = &p->source, *t = &p->target;

    if (source < t->bl_tx_id && !inclusion_verify(p->inclusion.items, p->inclusion.count, source, t->bl_tx_id, source_alh, &t->bl_root))
        return false;
    if (s->bl_tx_id > 0 && !consistency_verify(p->consistency.items, p->consistency.count, s->bl_tx_id, t->bl_tx_id, &s->bl_root, &t->bl_root))
        return false;
    return t->bl_tx_id == 0 || last_inclusion_verify(p->last_inclusion.items, p->last_inclusion.count, t->bl_tx_id, &p->target_bl_alh, &t->bl_root);
}

bool dual_proof_verify(const struct dual_proof *p, uint64_t source, uint64_t target, const hash_t *source_alh, const hash_t *target_alh)
{
    const struct tx_header *s = &p->source, *t = &p->target;

    if (!p->has_source || !p->has_target || !headers_match(s, t, source, target, source_alh, target_alh))
        return false;
    if (!tree_parts_hold(p, source, source_alh) || !p->has_linear)
        return false;
    if (source < t->bl_tx_id)
        return linear_proof_verify(&p->linear, t->bl_tx_id, target, &p->target_bl_alh, target_alh) &&
               linear_advance_verify(&p->advance, s->bl_tx_id, source, source_alh, &t->bl_root, t->bl_tx_id);
    return linear_proof_verify(&p->linear, source, target, source_alh, target_alh) &&
           linear_advance_verify(&p->advance, s->bl_tx_id, t->bl_tx_id, &p->target_bl_alh, &t->bl_root, t->bl_tx_id);
}

static enum status v2_refuse(struct err *err, const char *text) { return err_set(err, ST_INVALID, 0, "%s", text); }

enum status dual_proof_v2_verify(const struct dual_proof_v2 *p, uint64_t source, uint64_t target, const hash_t *source_alh, const hash_t *target_alh,
                                 struct err *err)
{
    const struct tx_header *s = &p->source, *t = &p->target;
    bool is_consistent = false;

    if (!p->has_source || !p->has_target || s->id == 0 || s->id != source || t->id != target)
        return v2_refuse(err, "illegal arguments");
    if (source > target)
        return v2_refuse(err, "source tx is newer than target tx");
    if (!header_alh_is(s, source_alh) || !header_alh_is(t, target_alh))
        return v2_refuse(err, "illegal arguments");
    if (s->bl_tx_id != s->id - 1 || t->bl_tx_id != t->id - 1)
        return v2_refuse(err, "internal inconsistency between linear and binary linking");
    if (source == target)
        return ST_OK;
    if (!inclusion_verify(p->inclusion.items, p->inclusion.count, source, t->bl_tx_id, source_alh, &t->bl_root))
        return v2_refuse(err, "inclusion proof does NOT validate");
    if (source == 1) { /* its own tree is empty: the tree of one leaf takes its place */
        hash_t leaf;

        sha256_leaf(source_alh, &leaf);
        is_consistent = consistency_verify(p->consistency.items, p->consistency.count, 1, t->bl_tx_id, &leaf, &t->bl_root);
    } else {
        is_consistent = consistency_verify(p->consistency.items, p->consistency.count, s->bl_tx_id, t->bl_tx_id, &s->bl_root, &t->bl_root);
    }
    return is_consistent ? ST_OK : v2_refuse(err, "consistency proof does NOT validate");
}
