/* Drafts that are no transactions: allowing precommitted txs to commit, discarding them, syncing. They go through the queue like the others,
 * so that their order against the txs around them is the order in which they were submitted. */
#include "store/store_internal.h"

/* alh of an ordered tx, from the ring, or from the log when it is applied. */
static enum status ordered_alh(struct store *s, uint64_t tx_id, hash_t *out, struct err *err)
{
    if (tx_id > s->c.applied_tx) {
        *out = pending_at(s, tx_id)->alh;
        return ST_OK;
    }
    return store_alh(s, tx_id, out, err);
}

void control_allow(struct store *s, struct store_draft *d)
{
    struct committer *c = &s->c;
    hash_t alh;
    struct err err;
    enum status st = store_writable(s, &err);

    if (st == ST_OK && d->control_tx_id > c->synced_tx)
        st = err_set(&err, ST_INVALID, 0, "tx %llu is not precommitted", (unsigned long long)d->control_tx_id);
    if (st == ST_OK)
        st = ordered_alh(s, d->control_tx_id, &alh, &err);
    if (st == ST_OK && d->has_alh && !hash_equal(&alh, &d->alh))
        st = err_set(&err, ST_CORRUPT, 0, "replica commit state diverged from primary's");
    if (st == ST_OK && d->control_tx_id > c->allowed_tx && d->control_tx_id > c->batch_allow) {
        if ((st = batch_ensure(s, &err)) == ST_OK)
            st = log_batch_commit(s->log, d->control_tx_id, &alh, &err);
        if (st == ST_OK)
            c->batch_allow = d->control_tx_id;
    }
    if (st != ST_OK)
        draft_complete(d, st, &err);
    else
        list_push(&c->syncs, d); /* answered when the mark is durable and the txs are applied */
}

static void complete_discarded(struct draft_list *l)
{
    struct store_draft *d;
    struct err err;

    while ((d = list_pop(l)) != NULL)
        draft_complete(d, err_set(&err, ST_CANCELLED, 0, "the transaction was discarded before its commit"), &err);
}

static enum status discard(struct store *s, uint64_t after, struct err *err)
{
    struct committer *c = &s->c;
    struct draft_list dropped = {NULL, NULL, 0};
    hash_t alh;
    enum status st = store_writable(s, err);

    if (st != ST_OK)
        return st;
    if (after < c->applied_tx || after < c->allowed_tx)
        return err_set(err, ST_INVALID, 0, "committed transactions cannot be discarded");
    if (after >= c->ordered_tx)
        return ST_OK;
    if ((st = ordered_alh(s, after, &alh, err)) != ST_OK || (st = batch_ensure(s, err)) != ST_OK)
        return st;
    c->batch_open = false;
    if ((st = log_batch_discard(s->log, after, &alh, err)) != ST_OK) {
        log_batch_abort(s->log);
        return st;
    }
    if ((st = log_batch_write(s->log, c->allowed_tx, err)) != ST_OK) {
        log_batch_abort(s->log);
        if (st != ST_NO_SPACE && st != ST_NOMEM)
            store_fail(s, err);
        return st;
    }
    /* Durable before the ids are given out again. */
    if ((st = batch_sync_log(s, err)) != ST_OK) {
        store_fail(s, err);
        return st;
    }
    atomic_store(&s->exportable_tx, after < atomic_load(&s->exportable_tx) ? after : atomic_load(&s->exportable_tx));
    order_restore(s, after, &dropped);
    c->synced_tx = c->ordered_tx;
    c->synced_alh = c->ordered_alh;
    c->durable_tx = c->ordered_tx;
    log_cut(s->log, after);
    state_publish(s);
    complete_discarded(&dropped);
    return ST_OK;
}

void control_discard(struct store *s, struct store_draft *d)
{
    struct err err;
    enum status st = discard(s, d->control_tx_id, &err);

    draft_complete(d, st, &err);
}

/* --- public --- */
static enum status control_run(struct store *s, enum draft_kind kind, uint64_t tx_id, const hash_t *alh, struct err *err)
{
    struct store_draft *d = NULL;
    struct store_result result;
    enum status st = draft_make(s, kind, &d, err);

    if (st != ST_OK)
        return st;
    d->is_internal = true;
    d->control_tx_id = tx_id;
    if (alh != NULL) {
        d->has_alh = true;
        d->alh = *alh;
    }
    return draft_commit(s, d, &result, err);
}

enum status store_allow_commit(struct store *s, uint64_t tx_id, const hash_t *alh, struct err *err)
{
    return control_run(s, DRAFT_ALLOW, tx_id, alh, err);
}

enum status store_discard(struct store *s, uint64_t after_tx_id, struct err *err) { return control_run(s, DRAFT_DISCARD, after_tx_id, NULL, err); }

enum status store_sync(struct store *s, struct err *err)
{
    if (s->o.durability != STORE_ASYNC || s->o.read_only)
        return ST_OK; /* nothing visible is ever unsynced */
    return control_run(s, DRAFT_SYNC, 0, NULL, err);
}
