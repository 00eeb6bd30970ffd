/* From what the log holds to a running store: tree, index, chain, precommitted txs.
 *
 * The log is the truth. The tree gets the leaves it misses (recover_tree.c); the index the txs above its newest run, for REPLAY_NS_MAX at most - the flushed marks
 * keep that tail short - and the rest, if any, in the background: the committer then leaves the index alone ("lagging") until the background has
 * caught up with it. Ranges that are missing between runs are rebuilt in the background too. Until all is there, indexed_limit tells how far
 * the index can be trusted. */
#include "store/store_internal.h"

#include <assert.h>
#include <stdlib.h>

#define REPLAY_NS_MAX 500000000ull
enum { STEP_TXS = 4096, FEED_STACK = 64 };

enum status index_feed_tx(struct store *s, uint64_t tx_id, index_add add, void *ctx, struct err *err)
{
    struct index_entry stack[FEED_STACK], *items = stack;
    struct kv_metadata md;
    struct tx_entry e;
    struct log_tx t;
    size_t count = 0;
    enum status st = log_tx_open(s->log, tx_id, false, &t, err);

    if (st != ST_OK)
        return st;
    if (t.entry_count > FEED_STACK)
        items = malloc(t.entry_count * sizeof *items);
    if (items == NULL)
        st = err_set(err, ST_NOMEM, 0, "indexing a transaction of %u entries", t.entry_count);
    for (uint32_t i = 0; i < t.entry_count && st == ST_OK; i++) {
        if ((st = log_tx_entry(s->log, &t, i, &e, err)) != ST_OK || (st = kv_metadata_decode(e.md, &md, err)) != ST_OK)
            break;
        if (index_entry_of(tx_id, i, &e, &md, &items[count]))
            count++;
    }
    if (st == ST_OK && count > 0)
        st = add(ctx, items, count, err);
    if (items != stack)
        free(items);
    log_tx_close(s->log, &t);
    return st;
}

static enum status add_to_index(void *ctx, const struct index_entry *entries, size_t count, struct err *err)
{
    return index_insert(ctx, entries, count, err);
}

/* --- damage --- */
/* Read-only from here on; the first thing found is what store_health() tells. */
void damage_note(struct store *s, const struct err *why)
{
    env_log(s->env, LOG_ERROR, "database %s is read-only: %s", s->dir, why->text);
    if (!atomic_exchange(&s->is_damaged, true))
        store_set_health_text(s, "read-only: %s", why->text);
}

/* One line for each range of them, not for each tx: there may be millions. They come in order, upwards or downwards, some more than once. */
static void lost_note(struct store *s, uint64_t tx_id, const struct err *why)
{
    struct lost_range *r = &s->lost;

    if (r->first != 0 && tx_id >= r->first && tx_id <= r->last)
        return;
    if (r->first != 0 && (tx_id == r->last + 1 || tx_id + 1 == r->first)) {
        r->first = tx_id < r->first ? tx_id : r->first;
        r->last = tx_id > r->last ? tx_id : r->last;
        return;
    }
    lost_tell(s);
    *r = (struct lost_range){.first = tx_id, .last = tx_id, .why = *why};
    if (!atomic_exchange(&s->is_damaged, true))
        store_set_health_text(s, "read-only: %s", why->text);
}

void lost_tell(struct store *s)
{
    struct lost_range *r = &s->lost;

    if (r->first == 0)
        return;
    if (r->first == r->last)
        env_log(s->env, LOG_ERROR, "database %s is read-only: %s", s->dir, r->why.text);
    else
        env_log(s->env, LOG_ERROR, "database %s is read-only: txs %llu..%llu are lost: %s", s->dir, (unsigned long long)r->first,
                (unsigned long long)r->last, r->why.text);
    r->first = r->last = 0;
}

enum status recover_alh(struct store *s, uint64_t tx_id, uint64_t last, hash_t *alh, struct err *err)
{
    struct tx_header h;
    enum status st;

    if (tx_id == 0) {
        *alh = HASH_EMPTY;
        return ST_OK;
    }
    if ((st = log_tx_header(s->log, tx_id, &h, err)) == ST_OK) {
        tx_header_alh(&h, alh);
    } else if (st == ST_CORRUPT && tx_id < last) {
        lost_note(s, tx_id, err);
        if ((st = log_tx_header(s->log, tx_id + 1, &h, err)) == ST_OK)
            *alh = h.prev_alh;
    }
    return st;
}

/* --- state --- */
/* The newest tx whose alh is known: what the state is. With damage that may be less than what was committed; then reads beyond it go on
 * and tell what is wrong, but nothing is signed. */
static enum status recover_state(struct store *s, uint64_t committed, struct err *err)
{
    struct committer *c = &s->c;
    uint64_t known = committed;
    struct tx_header h;
    hash_t alh;
    enum status st;

    while ((st = recover_alh(s, known, committed, &alh, err)) == ST_CORRUPT) {
        lost_note(s, known, err);
        known--;
    }
    lost_tell(s);
    if (st != ST_OK)
        return st;
    c->applied_tx = c->ordered_tx = c->allowed_tx = committed;
    c->applied_alh = c->ordered_alh = known == committed ? alh : HASH_ZERO;
    c->synced_tx = known;
    c->synced_alh = alh;
    if (known > 0 && log_tx_header(s->log, known, &h, NULL) == ST_OK)
        c->newest_ts = h.ts;
    return ST_OK;
}

/* --- index --- */
static void missing_find(struct store *s, uint64_t upto)
{
    uint64_t published = index_published(s->index), total = 0;
    size_t found = index_missing(s->index, upto < published ? upto : published, s->missing, MISSING_RANGES_MAX);

    for (size_t i = 0; i < found; i++)
        total += s->missing[i].last - s->missing[i].first + 1;
    s->missing_count = found;
    s->rebuild_at = found > 0 ? s->missing[0].first : 0;
    atomic_fetch_add(&s->to_rebuild, total);
}

/* What may be trusted now; also says that there is work left. */
static void limit_update(struct store *s)
{
    uint64_t limit = UINT64_MAX;

    if (atomic_load(&s->index_lags))
        limit = index_published(s->index);
    if (s->missing_count > 0 && s->missing[0].first - 1 < limit)
        limit = s->missing[0].first - 1;
    atomic_store(&s->indexed_limit, limit);
}

static enum status recover_index(struct store *s, uint64_t upto, struct err *err)
{
    uint64_t start_ns = env_mono_ns(s->env), at = index_published(s->index);
    enum status st = ST_OK;

    missing_find(s, upto);
    while (at < upto) {
        if ((st = index_feed_tx(s, at + 1, add_to_index, s->index, err)) != ST_OK) {
            err_while(err, st, "indexing tx %llu", (unsigned long long)at + 1);
            break;
        }
        at++;
        if ((at & 255) == 0 && env_mono_ns(s->env) - start_ns > REPLAY_NS_MAX)
            break;
    }
    if (at > index_published(s->index))
        index_publish(s->index, at);
    s->c.index_tx = at;
    atomic_store(&s->index_lags, at < upto);
    s->lag_at = at;
    if (at < upto)
        atomic_fetch_add(&s->to_rebuild, upto - at);
    limit_update(s);
    return st;
}

/* --- chain and precommitted txs --- */
static enum status recover_pending(struct store *s, uint64_t upto, struct err *err)
{
    struct committer *c = &s->c;
    struct tx_header h;
    hash_t alh;
    enum status st = ST_OK;

    while (c->ordered_tx < upto && st == ST_OK) {
        if ((st = pending_reserve(s, err)) != ST_OK || (st = log_tx_header(s->log, c->ordered_tx + 1, &h, err)) != ST_OK)
            break;
        tx_header_alh(&h, &alh);
        if (h.ts > c->newest_ts)
            c->newest_ts = h.ts;
        if (!hash_equal(&h.prev_alh, &c->ordered_alh))
            st = err_set(err, ST_CORRUPT, 0, "tx %llu does not continue the chain", (unsigned long long)h.id);
        else
            order_advance(s, &alh, NULL);
    }
    return st;
}

/* A database that has left synchronous replication commits what it had precommitted; durable before anybody is told. */
static enum status commit_leftovers(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    enum status st;

    if (c->ordered_tx == c->applied_tx || s->o.external_commit || atomic_load(&s->is_damaged) || s->o.read_only)
        return ST_OK;
    if ((st = log_batch_begin(s->log, err)) != ST_OK)
        return st;
    if ((st = log_batch_commit(s->log, c->ordered_tx, &c->ordered_alh, err)) != ST_OK ||
        (st = log_batch_write(s->log, c->ordered_tx, err)) != ST_OK) {
        log_batch_abort(s->log);
        return st;
    }
    if ((st = log_sync(s->log, err)) != ST_OK)
        return st;
    c->allowed_tx = c->ordered_tx;
    return apply_upto(s, c->ordered_tx, err);
}

/* Damage ends a step, not the open: what is whole is served. */
static enum status unless_damage(struct store *s, enum status st, const struct err *why, struct err *err)
{
    if (st == ST_CORRUPT) {
        damage_note(s, why);
        return ST_OK;
    }
    return st == ST_OK ? ST_OK : err_set(err, st, why->os_errno, "%s", why->text);
}

enum status recover(struct store *s, const struct log_report *report, struct err *err)
{
    struct committer *c = &s->c;
    uint64_t last = report->precommitted_upto;
    uint64_t committed = report->committed_upto < last ? report->committed_upto : last;
    struct err why;
    enum status st;

    log_publish(s->log, committed);
    st = recover_tree(s, committed, &why);
    lost_tell(s);
    if (st != ST_OK && (st = unless_damage(s, st, &why, err)) != ST_OK)
        return st;
    if ((st = recover_state(s, committed, err)) != ST_OK)
        return st;
    frontier_root(&c->frontier, &c->root);
    if (c->frontier.size == committed && !atomic_load(&s->tree_is_refuted))
        log_note_frontier(s->log, &c->frontier);
    if ((st = recover_index(s, committed, &why)) != ST_OK && (st = unless_damage(s, st, &why, err)) != ST_OK)
        return st;
    if (atomic_load(&s->is_damaged)) {
        c->durable_tx = c->ordered_tx;
        return ST_OK; /* precommitted txs stay where they are */
    }
    if ((st = recover_pending(s, last, &why)) != ST_OK && (st = unless_damage(s, st, &why, err)) != ST_OK)
        return st;
    c->durable_tx = c->ordered_tx;
    if (c->ordered_tx > committed) {
        c->synced_tx = c->ordered_tx;
        c->synced_alh = c->ordered_alh;
    }
    return commit_leftovers(s, err);
}

/* --- in the background --- */
static enum status feed_rebuild(void *ctx, const struct index_entry *entries, size_t count, struct err *err)
{
    return index_rebuild_add(ctx, entries, count, err);
}

static enum status rebuild_gap_step(struct store *s, struct err *err)
{
    struct index_range *range = &s->missing[0];
    enum status st;

    if (s->rebuild == NULL && (st = index_rebuild_begin(s->index, *range, &s->rebuild, err)) != ST_OK)
        return st;
    for (unsigned i = 0; i < STEP_TXS && s->rebuild_at <= range->last; i++) {
        if ((st = index_feed_tx(s, s->rebuild_at, feed_rebuild, s->rebuild, err)) != ST_OK) {
            index_rebuild_abort(s->rebuild);
            s->rebuild = NULL;
            s->rebuild_at = range->first;
            return st;
        }
        s->rebuild_at++;
        atomic_fetch_add(&s->rebuilt, 1);
    }
    if (s->rebuild_at <= range->last)
        return ST_OK;
    st = index_rebuild_finish(s->rebuild, err);
    s->rebuild = NULL;
    if (st != ST_OK) {
        s->rebuild_at = range->first;
        return st;
    }
    memmove(&s->missing[0], &s->missing[1], (s->missing_count - 1) * sizeof s->missing[0]);
    s->missing_count--;
    s->rebuild_at = s->missing_count > 0 ? s->missing[0].first : 0;
    return ST_OK;
}

/* The committer goes on meanwhile; the last few txs are its own business (catch_up_finish). */
static enum status catch_up_step(struct store *s, struct err *err)
{
    uint64_t upto = atomic_load(&s->visible_tx);
    enum status st = ST_OK;

    for (unsigned i = 0; i < STEP_TXS && s->lag_at < upto && st == ST_OK; i++) {
        if ((st = index_feed_tx(s, s->lag_at + 1, add_to_index, s->index, err)) == ST_OK) {
            s->lag_at++;
            atomic_fetch_add(&s->rebuilt, 1);
        }
    }
    if (s->lag_at > index_published(s->index))
        index_publish(s->index, s->lag_at);
    if (st == ST_OK && upto - s->lag_at <= STEP_TXS) {
        atomic_store(&s->lag_is_short, true); /* from here on nobody but the committer touches lag_at */
        role_kick(s);
    }
    return st;
}

enum status catch_up_finish(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    enum status st;

    if (atomic_load(&s->tree_lag_is_short) && (st = tree_lag_finish(s, err)) != ST_OK)
        return st;
    if (!atomic_load(&s->lag_is_short))
        return ST_OK;
    while (s->lag_at < c->applied_tx) {
        if ((st = index_feed_tx(s, s->lag_at + 1, add_to_index, s->index, err)) != ST_OK)
            return st;
        s->lag_at++;
        atomic_fetch_add(&s->rebuilt, 1);
    }
    if (s->lag_at > index_published(s->index))
        index_publish(s->index, s->lag_at);
    c->index_tx = s->lag_at;
    c->index_entry = 0;
    atomic_store(&s->lag_is_short, false);
    atomic_store(&s->index_lags, false);
    maintenance_kick(s); /* draws the conclusion in rebuild_step() */
    return ST_OK;
}

static enum status index_step(struct store *s, bool *more, struct err *err)
{
    enum status st = ST_OK;

    *more = false;
    if (atomic_load(&s->indexed_limit) == UINT64_MAX)
        return ST_OK;
    if (s->missing_count > 0)
        st = rebuild_gap_step(s, err);
    else if (atomic_load(&s->index_lags) && !atomic_load(&s->lag_is_short))
        st = catch_up_step(s, err);
    if (st != ST_OK)
        return st;
    limit_update(s);
    state_wake_waiters(s);
    *more = s->missing_count > 0 || (atomic_load(&s->index_lags) && !atomic_load(&s->lag_is_short));
    if (atomic_load(&s->indexed_limit) == UINT64_MAX) {
        env_log(s->env, LOG_INFO, "database %s: the index is complete again", s->dir);
        role_kick(s);
    }
    return ST_OK;
}

enum status rebuild_step(struct store *s, bool *more, struct err *err)
{
    bool tree_more = false;
    enum status st = tree_rebuild_step(s, &tree_more, err);

    *more = false;
    if (st == ST_OK) {
        st = index_step(s, more, err);
        atomic_store(&s->index_is_stopped, st == ST_CORRUPT);
        if (st == ST_CORRUPT)
            state_wake_waiters(s);
    }
    *more = *more || tree_more;
    return st;
}

enum status rebuild_find_gaps(struct store *s, struct err *err)
{
    size_t dropped = 0;
    enum status st;

    if (!index_has_damage(s->index) || s->rebuild != NULL || atomic_load(&s->index_lags))
        return ST_OK;
    if ((st = index_quarantine(s->index, &dropped, err)) != ST_OK || dropped == 0)
        return st;
    missing_find(s, atomic_load(&s->durable_tx));
    limit_update(s);
    return ST_OK;
}
