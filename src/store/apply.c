/* Durable txs become visible: leaves into the tree, entries into the index, publication in the order log, index, state.
 *
 * A failure (memory) leaves it half done; the committer calls again with the same goal and it goes on where it stood: the tree by its size,
 * the index by (index_tx, index_entry). Nothing is published before all is in. */
#include "store/store_internal.h"

#include <assert.h>

enum { LEAVES_CHUNK = 64, ENTRIES_CHUNK = 256 };

static enum status apply_tree(struct store *s, uint64_t upto, struct err *err)
{
    hash_t leaves[LEAVES_CHUNK];
    enum status st;

    if (atomic_load(&s->tree_lags)) { /* it is fed from the log: recover_tree.c */
        for (uint64_t id = s->c.lag_frontier.size + 1; id <= upto; id++)
            frontier_append(&s->c.lag_frontier, &pending_at(s, id)->leaf);
        return ST_OK;
    }
    for (uint64_t at = tree_size(s->tree); at < upto;) {
        size_t count = 0;

        while (count < LEAVES_CHUNK && at + count < upto) {
            leaves[count] = pending_at(s, at + count + 1)->leaf;
            count++;
        }
        if ((st = tree_append(s->tree, leaves, count, err)) != ST_OK)
            return st;
        at += count;
    }
    return ST_OK;
}

struct feed {
    struct store *store;
    struct index_entry items[ENTRIES_CHUNK];
    size_t count;
    uint64_t tx; /* where the committer stands once items are in: see struct committer */
    uint32_t entry;
};

static enum status feed_flush(struct feed *f, struct err *err)
{
    enum status st = ST_OK;

    if (f->count > 0)
        st = index_insert(f->store->index, f->items, f->count, err);
    if (st != ST_OK)
        return st;
    f->count = 0;
    f->store->c.index_tx = f->tx;
    f->store->c.index_entry = f->entry;
    return ST_OK;
}

static enum status feed_draft(struct feed *f, uint64_t tx_id, const struct store_draft *d, struct err *err)
{
    enum status st;

    for (uint32_t i = f->entry; i < d->entry_count; i++) {
        if (f->count == ENTRIES_CHUNK && (st = feed_flush(f, err)) != ST_OK)
            return st;
        f->entry = i + 1;
        if (index_entry_of(tx_id, i, &d->entries[i], &d->mds[i], &f->items[f->count]))
            f->count++;
    }
    f->tx = tx_id;
    f->entry = 0;
    return ST_OK;
}

/* The log's copy: the draft is not ours (found at open). Its keys live only for the call. */
static enum status feed_log_add(void *ctx, const struct index_entry *entries, size_t count, struct err *err)
{
    struct feed *f = ctx;

    return index_insert(f->store->index, entries, count, err);
}

static enum status feed_logged(struct feed *f, uint64_t tx_id, struct err *err)
{
    enum status st;

    /* A failure in the middle would be repeated from the tx's start: index_insert() takes a tx whole or not at all per call, so all
     * of its entries go in one call. */
    if ((st = feed_flush(f, err)) != ST_OK)
        return st;
    if ((st = index_feed_tx(f->store, tx_id, feed_log_add, f, err)) != ST_OK)
        return st;
    f->tx = tx_id;
    f->entry = 0;
    return feed_flush(f, err);
}

static enum status apply_index(struct store *s, uint64_t upto, struct err *err)
{
    struct feed f;
    enum status st;

    f.store = s;
    f.count = 0;
    f.tx = s->c.index_tx;
    f.entry = s->c.index_entry;
    for (uint64_t id = s->c.index_tx + 1; id <= upto; id++) {
        const struct store_draft *d = pending_at(s, id)->draft;

        st = d != NULL ? feed_draft(&f, id, d, err) : feed_logged(&f, id, err);
        if (st != ST_OK)
            return st;
    }
    return feed_flush(&f, err);
}

enum status apply_upto(struct store *s, uint64_t tx_id, struct err *err)
{
    struct committer *c = &s->c;
    bool index_lags = atomic_load(&s->index_lags); /* then it is fed from the log: recover.c */
    enum status st;

    assert(tx_id > c->applied_tx && tx_id <= c->durable_tx);
    if ((st = apply_tree(s, tx_id, err)) != ST_OK || (!index_lags && (st = apply_index(s, tx_id, err)) != ST_OK))
        return st;
    /* Entries must be readable before the index shows them. */
    log_publish(s->log, tx_id);
    if (!index_lags)
        index_publish(s->index, tx_id);
    if (tx_id == c->ordered_tx && log_bytes_written(s->log) - c->noted_bytes >= FRONTIER_STEP_BYTES) {
        c->noted_bytes = log_bytes_written(s->log);
        log_note_frontier(s->log, &c->frontier);
    }
    for (uint64_t id = c->applied_tx + 1; id <= tx_id; id++) {
        struct store_draft *d = pending_at(s, id)->draft;

        if (d != NULL)
            list_push(d->wait_durable && c->unsynced_since_ns != 0 ? &c->durable : &c->finished, d);
    }
    atomic_fetch_add_explicit(&s->commit_count, tx_id - c->applied_tx, memory_order_relaxed);
    c->applied_alh = pending_at(s, tx_id)->alh;
    c->applied_tx = tx_id;
    return ST_OK;
}
