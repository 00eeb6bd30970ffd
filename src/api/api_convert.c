/* Headers and proofs between their public form and ours. */
#include "api/api_struct.h"

enum status header_in(const immudb_header *from, struct tx_header *to, struct err *err)
{
    immudb_header h;
    enum status st;

    memset(to, 0, sizeof *to);
    if ((st = sized_in(&h, sizeof h, from, false, "immudb_header", err)) != ST_OK)
        return st;
    if (h.version > TX_VERSION_MAX)
        return err_set(err, ST_UNSUPPORTED, 0, "tx created with a newer version or data is corrupted");
    if (h.extra_len > TX_EXTRA_BYTES_MAX)
        return err_set(err, ST_INVALID, 0, "metadata of %u bytes", h.extra_len);
    if (h.version == 0 && h.entry_count > UINT16_MAX)
        return err_set(err, ST_INVALID, 0, "%u entries do not fit a header of version 0", h.entry_count);
    to->id = h.tx_id;
    to->ts = h.ts;
    to->bl_tx_id = h.bl_tx_id;
    to->version = h.version;
    to->entry_count = h.entry_count;
    to->prev_alh = *hash_in(&h.prev_alh);
    to->eh = *hash_in(&h.eh);
    to->bl_root = *hash_in(&h.bl_root);
    to->md.truncated_upto = h.truncated_upto;
    to->md.extra_len = (uint16_t)h.extra_len;
    memcpy(to->md.extra, h.extra, h.extra_len);
    return ST_OK;
}

void header_out(const struct tx_header *from, immudb_header *to)
{
    immudb_header_init(to);
    to->tx_id = from->id;
    to->ts = from->ts;
    to->bl_tx_id = from->bl_tx_id;
    to->version = from->version;
    to->entry_count = from->entry_count;
    to->prev_alh = hash_out(&from->prev_alh);
    to->eh = hash_out(&from->eh);
    to->bl_root = hash_out(&from->bl_root);
    to->truncated_upto = from->md.truncated_upto;
    to->extra_len = from->md.extra_len;
    memcpy(to->extra, from->md.extra, from->md.extra_len);
}

enum status header_copy(const struct tx_header *from, struct arena *arena, const immudb_header **to, struct err *err)
{
    immudb_header *h = arena_alloc(arena, sizeof *h);

    *to = h;
    if (h == NULL)
        return err_set(err, ST_NOMEM, 0, "a header in a proof");
    header_out(from, h);
    return ST_OK;
}

static enum status advance_out(const struct linear_advance_proof *from, struct arena *arena, const immudb_linear_advance_proof **to, struct err *err)
{
    immudb_linear_advance_proof *a = arena_alloc(arena, sizeof *a);

    *to = NULL;
    if (a == NULL)
        return err_set(err, ST_NOMEM, 0, "a proof of %zu inclusions", from->inclusion_count);
    immudb_linear_advance_proof_init(a);
    a->terms = list_out(from->terms);
    a->inclusion_count = from->inclusion_count;
    a->inclusions = (const immudb_hashes *)from->inclusions;
    *to = a;
    return ST_OK;
}

enum status dual_out(const struct dual_proof *from, struct arena *arena, immudb_dual_proof *to, struct err *err)
{
    immudb_linear_proof *linear;
    enum status st;

    immudb_dual_proof_init(to);
    if ((st = header_copy(&from->source, arena, &to->source, err)) != ST_OK || (st = header_copy(&from->target, arena, &to->target, err)) != ST_OK)
        return st;
    to->inclusion = list_out(from->inclusion);
    to->consistency = list_out(from->consistency);
    to->target_bl_alh = hash_out(&from->target_bl_alh);
    to->last_inclusion = list_out(from->last_inclusion);
    if (from->has_linear) {
        if ((linear = arena_alloc(arena, sizeof *linear)) == NULL)
            return err_set(err, ST_NOMEM, 0, "a linear proof");
        immudb_linear_proof_init(linear);
        linear->source_tx_id = from->linear.source_tx_id;
        linear->target_tx_id = from->linear.target_tx_id;
        linear->terms = list_out(from->linear.terms);
        to->linear = linear;
    }
    return from->advance.is_present ? advance_out(&from->advance, arena, &to->advance, err) : ST_OK;
}

enum status advance_in(const immudb_linear_advance_proof *from, struct linear_advance_proof *to, struct err *err)
{
    immudb_linear_advance_proof a;
    enum status st = sized_in(&a, sizeof a, from, false, "immudb_linear_advance_proof", err);

    memset(to, 0, sizeof *to);
    if (st != ST_OK)
        return st;
    if (a.inclusions == NULL && a.inclusion_count > 0)
        return api_null(err, "inclusions");
    for (size_t i = 0; i < a.inclusion_count; i++)
        if (a.inclusions[i].items == NULL && a.inclusions[i].count > 0)
            return api_null(err, "inclusions");
    *to = (struct linear_advance_proof){true, list_in(a.terms), a.inclusion_count, (const struct hash_list *)a.inclusions};
    return ST_OK;
}

enum status dual_in(const immudb_dual_proof *from, struct dual_proof *to, struct err *err)
{
    immudb_dual_proof p;
    immudb_linear_proof linear;
    enum status st;

    memset(to, 0, sizeof *to);
    if ((st = sized_in(&p, sizeof p, from, false, "immudb_dual_proof", err)) != ST_OK)
        return st;
    if ((st = header_in(p.source, &to->source, err)) != ST_OK || (st = header_in(p.target, &to->target, err)) != ST_OK)
        return st;
    to->has_source = to->has_target = true;
    to->inclusion = list_in(p.inclusion);
    to->consistency = list_in(p.consistency);
    to->target_bl_alh = *hash_in(&p.target_bl_alh);
    to->last_inclusion = list_in(p.last_inclusion);
    if (p.linear != NULL) {
        if ((st = sized_in(&linear, sizeof linear, p.linear, false, "immudb_linear_proof", err)) != ST_OK)
            return st;
        to->has_linear = true;
        to->linear = (struct linear_proof){linear.source_tx_id, linear.target_tx_id, list_in(linear.terms)};
    }
    return p.advance != NULL ? advance_in(p.advance, &to->advance, err) : ST_OK;
}
