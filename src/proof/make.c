/* Generation of proofs from a struct proof_source: which nodes, headers and chain links a verifier will ask for.
 *
 *   tree      inclusion(source in target's tree), consistency(source's tree -> target's tree), last inclusion of target's tree
 *   linear    from max(source, target.bl_tx_id) to target: one or two terms while the tree never lags
 *   advance   over (source.bl_tx_id, min(source, target.bl_tx_id)]: absent while the tree never lags */
#include "proof/proof.h"

#include <assert.h>

static enum status no_memory(struct err *err) { return err_set(err, ST_NOMEM, 0, "building a proof"); }

static enum status path_keep(const struct merkle_path *path, struct arena *arena, struct hash_list *out, struct err *err)
{
    hash_t *items = arena_array(arena, path->term_count, sizeof *items);

    if (items == NULL)
        return no_memory(err);
    memcpy(items, path->terms, path->term_count * sizeof *items);
    *out = (struct hash_list){path->term_count, items};
    return ST_OK;
}

static enum status inclusion_make(const struct proof_source *s, uint64_t i, uint64_t j, struct arena *arena, struct hash_list *out, struct err *err)
{
    struct merkle_path path;
    enum status st = s->inclusion(s->ctx, i, j, &path, err);

    return st == ST_OK ? path_keep(&path, arena, out, err) : st;
}

static enum status consistency_make(const struct proof_source *s, uint64_t i, uint64_t j, struct arena *arena, struct hash_list *out, struct err *err)
{
    struct merkle_path path;
    enum status st = s->consistency(s->ctx, i, j, &path, err);

    return st == ST_OK ? path_keep(&path, arena, out, err) : st;
}

/* alh(first), inner(first + 1) .. inner(last). known is a header the caller has at hand (or NULL): not fetched again. */
static enum status chain_make(const struct proof_source *s, uint64_t first, uint64_t last, const struct tx_header *known, struct arena *arena,
                              struct hash_list *out, struct err *err)
{
    struct tx_header h;
    hash_t *terms = NULL;
    enum status st = ST_OK;

    assert(first > 0 && first <= last);
    if (last - first >= LINEAR_TERMS_MAX)
        return err_set(err, ST_LIMIT, 0, "a linear proof from tx %llu to %llu has too many terms", (unsigned long long)first,
                       (unsigned long long)last);
    terms = arena_array(arena, (size_t)(last - first) + 1, sizeof *terms);
    if (terms == NULL)
        return no_memory(err);
    st = s->alh(s->ctx, first, &terms[0], err);
    for (uint64_t id = first + 1; id <= last && st == ST_OK; id++) {
        const struct tx_header *at = known;

        if (known == NULL || known->id != id) {
            st = s->header(s->ctx, id, &h, err);
            at = &h;
        }
        if (st == ST_OK)
            tx_header_inner(at, &terms[id - first]);
    }
    if (st == ST_OK)
        *out = (struct hash_list){(size_t)(last - first) + 1, terms};
    return st;
}

static enum status linear_make(const struct proof_source *s, uint64_t source, uint64_t target, const struct tx_header *known, struct arena *arena,
                               struct linear_proof *out, struct err *err)
{
    memset(out, 0, sizeof *out);
    if (source == 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if (source > target)
        return err_set(err, ST_INVALID, 0, "source tx is newer than target tx");
    out->source_tx_id = source;
    out->target_tx_id = target;
    return chain_make(s, source, target, known, arena, &out->terms, err);
}

enum status linear_proof_make(const struct proof_source *s, uint64_t source, uint64_t target, struct arena *arena, struct linear_proof *out,
                              struct err *err)
{
    return linear_make(s, source, target, NULL, arena, out, err);
}

enum status linear_advance_make(const struct proof_source *s, uint64_t start, uint64_t end, uint64_t size, struct arena *arena,
                                struct linear_advance_proof *out, struct err *err)
{
    struct hash_list *paths = NULL;
    enum status st = ST_OK;
    size_t count = 0;

    memset(out, 0, sizeof *out);
    if (end < start)
        return err_set(err, ST_INVALID, 0, "source tx is newer than target tx");
    if (end - start <= 1)
        return ST_OK;
    if ((st = chain_make(s, start + 1, end, NULL, arena, &out->terms, err)) != ST_OK)
        return st;
    count = (size_t)(end - start - 1);
    paths = arena_array(arena, count, sizeof *paths);
    if (paths == NULL)
        return no_memory(err);
    for (size_t k = 0; k < count && st == ST_OK; k++)
        st = inclusion_make(s, start + 1 + k, size, arena, &paths[k], err);
    if (st != ST_OK)
        return st;
    out->inclusions = paths;
    out->inclusion_count = count;
    out->is_present = true;
    return ST_OK;
}

static enum status headers_fetch(const struct proof_source *s, uint64_t source, uint64_t target, struct tx_header *source_header,
                                 struct tx_header *target_header, struct err *err)
{
    enum status st = ST_OK;

    if (source == 0)
        return err_set(err, ST_INVALID, 0, "illegal arguments");
    if (source > target)
        return err_set(err, ST_INVALID, 0, "source tx is newer than target tx");
    if ((st = s->header(s->ctx, target, target_header, err)) != ST_OK)
        return st;
    if (source != target)
        return s->header(s->ctx, source, source_header, err);
    *source_header = *target_header;
    return ST_OK;
}

static enum status tree_parts_make(const struct proof_source *s, uint64_t source, struct arena *arena, struct dual_proof *out, struct err *err)
{
    uint64_t from = out->source.bl_tx_id, to = out->target.bl_tx_id;
    enum status st = ST_OK;

    if (from > to)
        return err_set(err, ST_CORRUPT, 0, "the tree shrinks from %llu to %llu leaves", (unsigned long long)from, (unsigned long long)to);
    if (source < to)
        st = inclusion_make(s, source, to, arena, &out->inclusion, err);
    if (st == ST_OK && from > 0)
        st = consistency_make(s, from, to, arena, &out->consistency, err);
    if (st == ST_OK && to > 0)
        st = s->alh(s->ctx, to, &out->target_bl_alh, err);
    if (st == ST_OK && to > 0)
        st = inclusion_make(s, to, to, arena, &out->last_inclusion, err);
    return st;
}

enum status dual_proof_make(const struct proof_source *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof *out,
                            struct err *err)
{
    enum status st = ST_OK;
    uint64_t tree_size = 0;

    memset(out, 0, sizeof *out);
    if ((st = headers_fetch(s, source, target, &out->source, &out->target, err)) != ST_OK)
        goto done;
    out->has_source = out->has_target = true;
    tree_size = out->target.bl_tx_id;
    if ((st = tree_parts_make(s, source, arena, out, err)) != ST_OK)
        goto done;
    if ((st = linear_make(s, source > tree_size ? source : tree_size, target, &out->target, arena, &out->linear, err)) != ST_OK)
        goto done;
    out->has_linear = true;
    st = linear_advance_make(s, out->source.bl_tx_id, source < tree_size ? source : tree_size, tree_size, arena, &out->advance, err);
done:
    if (st != ST_OK)
        memset(out, 0, sizeof *out);
    return st;
}

enum status dual_proof_v2_make(const struct proof_source *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof_v2 *out,
                               struct err *err)
{
    enum status st = ST_OK;

    memset(out, 0, sizeof *out);
    if ((st = headers_fetch(s, source, target, &out->source, &out->target, err)) != ST_OK)
        goto done;
    out->has_source = out->has_target = true;
    if (out->source.bl_tx_id != source - 1 || out->target.bl_tx_id != target - 1) {
        st = err_set(err, ST_INVALID, 0, "unexpected linking error");
        goto done;
    }
    if (source == target)
        goto done;
    if ((st = inclusion_make(s, source, out->target.bl_tx_id, arena, &out->inclusion, err)) == ST_OK)
        st = consistency_make(s, source > 1 ? source - 1 : 1, out->target.bl_tx_id, arena, &out->consistency, err);
done:
    if (st != ST_OK)
        memset(out, 0, sizeof *out);
    return st;
}
