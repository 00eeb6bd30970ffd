/* Importing exported transactions, in the order of their ids whatever the order of arrival.
 *
 * On the caller's thread: parse, limits, unique keys, digests, Eh. In the committer: the id against the last one, then blRoot, then prevAlh.
 * An import whose predecessor is missing is parked (sorted by id) until it comes or the deadline passes; at most PRECOMMITTED_MAX ids ahead.
 * ts, version, metadata, blTxId and blRoot are taken over; Eh is the recomputed one. The main tree grows by every tx as usual: a header may
 * refer to any earlier size (blTxId lags behind in old databases); while the tree is being rebuilt such an import waits for it, until its deadline. Texts: docs/verification.md "import". */
#include "store/store_internal.h"

#include <assert.h>

/* --- before the order --- */
static enum status import_entries(struct store_draft *d, const struct tx_entry *entries, struct err *err)
{
    struct kv_metadata md;
    enum status st = ST_OK;

    for (uint32_t i = 0; i < d->header.entry_count && st == ST_OK; i++) {
        if ((st = kv_metadata_decode(entries[i].md, &md, err)) == ST_OK)
            st = draft_add_entry(d, &entries[i], &md, err);
        if (st == ST_EXISTS)
            st = err_set(err, ST_INVALID, 0, "duplicated key");
    }
    return st;
}

static enum status import_draft(struct store *s, struct bytes blob, bool must_copy, bool skip_integrity, struct store_draft **out, struct err *err)
{
    struct store_draft *d = NULL;
    struct tx_entry *entries = NULL;
    enum status st = draft_make(s, DRAFT_IMPORT, &d, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    d->wait_durable = true;
    if (must_copy) {
        blob = arena_copy(&d->arena, blob);
        if (blob.data == NULL) {
            st = err_set(err, ST_NOMEM, 0, "importing a transaction of %zu bytes", blob.len);
            goto done;
        }
    }
    st = tx_import(blob, &d->arena, s->o.tx_entries_max, s->o.key_len_max, s->o.value_len_max, &d->header, &entries, err);
    if (st != ST_OK)
        goto done;
    if ((st = import_entries(d, entries, err)) != ST_OK || (st = draft_prepare(d, err)) != ST_OK)
        goto done;
    if (!skip_integrity && !hash_equal(&d->eh, &d->header.eh)) {
        st = err_set(err, ST_INVALID, 0, "illegal arguments: entries hash (Eh) differs");
        goto done;
    }
    *out = d;
    d = NULL;
done:
    draft_free(d);
    return st;
}

enum status store_import(struct store *s, struct bytes blob, bool skip_integrity, uint64_t deadline_mono_ns, struct store_result *out,
                         struct err *err)
{
    struct store_draft *d = NULL;
    enum status st = import_draft(s, blob, false, skip_integrity, &d, err);

    if (st != ST_OK) {
        memset(out, 0, sizeof *out);
        out->status = st;
        if (err != NULL)
            out->err = *err;
        return st;
    }
    d->deadline_ns = deadline_mono_ns;
    return draft_commit(s, d, out, err);
}

void store_import_submit(struct store *s, struct bytes blob, bool skip_integrity, uint64_t deadline_mono_ns, enum store_drive drive, store_done done,
                         void *ctx)
{
    struct store_draft *d = NULL;
    struct store_result failed;
    enum status st;

    memset(&failed, 0, sizeof failed);
    st = import_draft(s, blob, true, skip_integrity, &d, &failed.err);
    if (st != ST_OK) {
        failed.status = st;
        done(ctx, NULL, &failed);
        return;
    }
    d->deadline_ns = deadline_mono_ns;
    store_submit(s, d, true, drive, done, ctx);
}

/* --- in the committer --- */
static void park(struct store *s, struct store_draft *d)
{
    struct draft_list *l = &s->c.imports;
    struct store_draft **at = &l->first;

    store_arm(s, draft_deadline(d, s->c.clock_mono_ns));
    if (l->last == NULL || l->last->header.id <= d->header.id) {
        list_push(l, d);
        return;
    }
    while ((*at)->header.id <= d->header.id)
        at = &(*at)->next;
    d->next = *at;
    *at = d;
    l->count++;
}

/* Root of the tree with size leaves, also between what is applied and what is ordered. */
static enum status root_of(struct store *s, uint64_t size, hash_t *root, struct err *err)
{
    if (size > s->c.applied_tx) {
        *root = pending_at(s, size)->root;
        return ST_OK;
    }
    return tree_applied_root(s, size, root, err);
}

static enum status import_check(struct store *s, const struct tx_header *h, struct err *err)
{
    const struct committer *c = &s->c;
    hash_t root;
    enum status st;

    if (h->id <= c->ordered_tx)
        return err_set(err, ST_EXISTS, 0, "tx already committed");
    if (h->id - c->ordered_tx > PRECOMMITTED_MAX || (s->o.external_commit && h->id - c->applied_tx > PRECOMMITTED_MAX))
        return err_set(err, ST_LIMIT, 0, "max active transactions limit exceeded");
    if (h->id > c->ordered_tx + 1)
        return ST_OK;
    if ((st = root_of(s, h->bl_tx_id, &root, err)) != ST_OK)
        return st;
    if (!hash_equal(&root, &h->bl_root))
        return err_set(err, ST_INVALID, 0, "illegal arguments: attempt to commit a tx with invalid blRoot");
    if (!hash_equal(&c->ordered_alh, &h->prev_alh))
        return err_set(err, ST_INVALID, 0, "illegal arguments: attempt to commit a tx with invalid prevAlh");
    return ST_OK;
}

bool import_take(struct store *s, struct store_draft *d)
{
    struct err err;
    enum status st = import_check(s, &d->header, &err);

    if (st == ST_BUSY) {
        store_arm(s, draft_deadline(d, env_mono_ns(s->env)));
        list_push(&s->c.rootless, d);
        return false;
    }
    if (st != ST_OK) {
        draft_complete(d, st, &err);
        return false;
    }
    if (d->header.id > s->c.ordered_tx + 1) {
        park(s, d);
        return false;
    }
    return true;
}
