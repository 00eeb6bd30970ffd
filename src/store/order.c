/* Giving out ids: the serial part of a commit, about 1.3 us per tx of hashing and little else.
 *
 * An ordered tx stands in the pending ring until it is applied. Nothing outside the committer knows of it: going back is cutting the ring
 * and rebuilding the frontier from the tree's and the leaves that stay. */
#include "store/store_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { PENDING_START = 64 };

struct pending *pending_at(const struct store *s, uint64_t tx_id)
{
    assert(tx_id > s->c.applied_tx && tx_id <= s->c.ordered_tx);
    return &s->c.pending[tx_id & (s->c.pending_cap - 1)];
}

enum status pending_reserve(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    size_t cap = c->pending_cap == 0 ? PENDING_START : c->pending_cap * 2;
    struct pending *grown;

    if (c->ordered_tx - c->applied_tx < c->pending_cap)
        return ST_OK;
    grown = malloc(cap * sizeof *grown);
    if (grown == NULL)
        return err_set(err, ST_NOMEM, 0, "%llu transactions wait for their commit", (unsigned long long)(c->ordered_tx - c->applied_tx));
    for (uint64_t id = c->applied_tx + 1; id <= c->ordered_tx; id++)
        grown[id & (cap - 1)] = *pending_at(s, id);
    free(c->pending);
    c->pending = grown;
    c->pending_cap = cap;
    return ST_OK;
}

void order_advance(struct store *s, const hash_t *alh, struct store_draft *d)
{
    struct committer *c = &s->c;
    struct pending *p;

    assert(c->ordered_tx - c->applied_tx < c->pending_cap);
    c->ordered_tx++;
    p = pending_at(s, c->ordered_tx);
    p->alh = *alh;
    p->draft = d;
    sha256_leaf(alh, &p->leaf);
    frontier_append(&c->frontier, &p->leaf);
    frontier_root(&c->frontier, &c->root);
    p->root = c->root;
    c->ordered_alh = *alh;
}

static int64_t order_time(struct store *s, int64_t now_s)
{
    if (s->o.exclude_commit_time)
        return 0;
    if (now_s > s->c.newest_ts)
        s->c.newest_ts = now_s;
    return s->c.newest_ts;
}

static void header_fill(struct store *s, struct store_draft *d, int64_t now_s)
{
    const struct committer *c = &s->c;
    struct tx_header *h = &d->header;

    h->id = c->ordered_tx + 1;
    h->prev_alh = c->ordered_alh;
    h->eh = d->eh;
    h->entry_count = d->entry_count;
    if (d->kind == DRAFT_IMPORT)
        return; /* the rest is taken over */
    h->ts = order_time(s, now_s);
    h->bl_tx_id = c->ordered_tx;
    h->bl_root = c->root;
    h->version = s->o.tx_version;
}

enum status order_draft(struct store *s, struct store_draft *d, int64_t now_s, struct err *err)
{
    struct committer *c = &s->c;
    enum status st;

    if ((st = pending_reserve(s, err)) != ST_OK || (st = batch_ensure(s, err)) != ST_OK)
        return st;
    if ((st = draft_finish_late(d, c->ordered_tx + 1, err)) != ST_OK)
        return st;
    header_fill(s, d, now_s);
    if ((st = log_batch_tx(s->log, &d->header, d->body, err)) != ST_OK)
        return st;
    tx_header_alh(&d->header, &d->alh);
    order_advance(s, &d->alh, d);
    if (d->header.ts > c->newest_ts)
        c->newest_ts = d->header.ts;
    if (c->batch_first_tx == 0)
        c->batch_first_tx = c->ordered_tx;
    c->batch_bytes += tx_body_bytes(d->body);
    if (c->recent.is_on && recent_add(&c->recent, c->ordered_tx, d->entries, d->mds, d->entry_count, c->applied_tx, NULL) != ST_OK) {
        /* Without memory for them, conditions are looked up again above this tx. */
        recent_stop(&c->recent);
        atomic_store(&s->recent_floor, UINT64_MAX);
    }
    return ST_OK;
}

void order_restore(struct store *s, uint64_t tx_id, struct draft_list *out)
{
    struct committer *c = &s->c;

    assert(tx_id >= c->applied_tx && tx_id <= c->ordered_tx);
    for (uint64_t id = tx_id + 1; id <= c->ordered_tx; id++)
        if (pending_at(s, id)->draft != NULL)
            list_push(out, pending_at(s, id)->draft);
    if (atomic_load(&s->tree_lags))
        c->frontier = c->lag_frontier;
    else
        tree_frontier(s->tree, &c->frontier);
    assert(c->frontier.size <= tx_id);
    for (uint64_t id = c->frontier.size + 1; id <= tx_id; id++)
        frontier_append(&c->frontier, &pending_at(s, id)->leaf);
    frontier_root(&c->frontier, &c->root);
    c->ordered_alh = tx_id == c->applied_tx ? c->applied_alh : pending_at(s, tx_id)->alh;
    c->ordered_tx = tx_id;
    /* Versions that are gone must not decide about conditions. */
    recent_stop(&c->recent);
    atomic_store(&s->recent_floor, UINT64_MAX);
}
