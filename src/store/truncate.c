/* Truncation: the values of old transactions go, hashes and headers stay.
 *
 * First one tx with copies of all live catalog entries and "truncated up to" in its metadata, so that catalogs remain readable; it is durable
 * before anything is removed. Nothing is written when there is nothing to copy: a tx without entries could not be imported by replicas.
 * A replica drops its values without writing a tx of its own (store_drop_values): its history is the primary's. */
#include "store/store_internal.h"

struct copy {
    struct store *store;
    struct store_draft *draft;
    struct log_pin pin;
    int64_t now_s;
};

static enum status copy_entry(struct copy *c, const struct index_version *v, struct err *err)
{
    struct arena *arena = &c->draft->arena;
    struct tx_entry e;
    enum status st;

    if (v->is_deleted || (v->has_expiry && v->expires_at <= c->now_s))
        return ST_OK;
    if ((st = log_entry_read(c->store->log, v->tx_id, v->entry_index, false, true, arena, &c->pin, &e, err)) != ST_OK)
        return st;
    /* The pin moves on with the next entry; the draft keeps copies. */
    e.key = arena_copy(arena, e.key);
    e.value = arena_copy(arena, e.value);
    if (e.key.data == NULL || (e.value.len > 0 && e.value.data == NULL))
        return err_set(err, ST_NOMEM, 0, "copying the catalog");
    return draft_set(c->draft, e.key, NULL, e.value, err);
}

static enum status copy_catalog(struct copy *c, struct store_snapshot *view, struct err *err)
{
    struct index_scan_options o = {.ns = INDEX_NS_CATALOG};
    struct index_cursor *cursor = NULL;
    struct index_version version;
    struct bytes key;
    uint64_t revision;
    enum status st = index_scan_open(view->index, &o, &cursor, err);

    if (st != ST_OK)
        return st;
    while ((st = index_scan_next(cursor, &key, &version, &revision, err)) == ST_OK)
        if ((st = copy_entry(c, &version, err)) != ST_OK)
            break;
    index_scan_close(cursor);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* A catalog that changes meanwhile must not be overwritten by an older copy: the copy is conditional on what was read. */
static enum status catalog_draft(struct store *s, uint64_t tx_id, struct store_draft **out, struct err *err)
{
    struct copy c = {.store = s, .now_s = env_wall_s(s->env)};
    struct store_snapshot *view = NULL;
    uint64_t read_tx;
    enum status st;

    *out = NULL;
    if ((st = draft_make(s, DRAFT_TX, &c.draft, err)) != ST_OK)
        return st;
    c.draft->is_internal = true;
    c.draft->wait_durable = true;
    c.draft->header.md.truncated_upto = tx_id;
    if ((st = store_snapshot_open(s, 0, &view, err)) != ST_OK)
        goto done;
    read_tx = store_snapshot_tx(view);
    st = copy_catalog(&c, view, err);
    log_pin_release(s->log, &c.pin);
    store_snapshot_close(view);
    if (st == ST_OK)
        st = draft_read_range(c.draft,
                              bytes_str("\x02"
                                        "CTL."),
                              bytes_str("\x02"
                                        "CTL.\xff\xff"),
                              read_tx, err);
    if (st == ST_OK)
        st = draft_read_range(c.draft,
                              bytes_str("\x03"
                                        "CTL."),
                              bytes_str("\x03"
                                        "CTL.\xff\xff"),
                              read_tx, err);
done:
    if (st != ST_OK) {
        draft_free(c.draft);
        return st;
    }
    *out = c.draft;
    return ST_OK;
}

static enum status catalog_copy(struct store *s, uint64_t tx_id, struct err *err)
{
    enum { TRIES_MAX = 16 };
    struct store_draft *d = NULL;
    struct store_result result;
    enum status st = ST_CONFLICT;

    for (int i = 0; i < TRIES_MAX && st == ST_CONFLICT; i++) {
        if ((st = store_wait(s, atomic_load(&s->visible_tx), env_mono_ns(s->env) + DEADLINE_DEFAULT_NS, err)) != ST_OK ||
            (st = catalog_draft(s, tx_id, &d, err)) != ST_OK)
            return st;
        if (draft_entry_count(d) == 0) {
            draft_free(d);
            return ST_OK;
        }
        st = draft_commit(s, d, &result, err);
    }
    return st;
}

/* --- values --- */

/* Txs by which a step advances: few while values go, so that the lock is given back between segments and the end of the wait for a cancelled
 * truncation is near; more and more while there is nothing to be done. */
enum { STEP_TXS_LEAST = 256 };

static enum status drop_step(struct store *s, uint64_t tx_id, uint64_t *freed_bytes, struct err *err)
{
    uint64_t upto = 0;
    enum status st;

    pthread_mutex_lock(&s->maintenance_lock);
    st = log_truncate(s->log, tx_id, freed_bytes, &upto, err);
    pthread_mutex_unlock(&s->maintenance_lock);
    return st;
}

static enum status drop_all(struct store *s, const struct store_truncation *o, uint64_t *freed_bytes, struct err *err)
{
    uint64_t at = 0, step = STEP_TXS_LEAST, freed;
    enum status st = ST_OK;

    while (at < o->tx_id && st == ST_OK) {
        if (o->is_cancelled != NULL && o->is_cancelled(o->ctx))
            return err_set(err, ST_CANCELLED, 0, "truncation was interrupted; it goes on with the next one");
        at = o->tx_id - at < step ? o->tx_id : at + step;
        st = drop_step(s, at, &freed, err);
        *freed_bytes += freed;
        step = freed > 0 ? STEP_TXS_LEAST : step * 2;
    }
    return st;
}

enum status store_truncate_steps(struct store *s, const struct store_truncation *o, uint64_t *freed_bytes, struct err *err)
{
    enum status st;

    *freed_bytes = 0;
    if (o->tx_id > atomic_load(&s->durable_tx))
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    if ((st = store_writable(s, err)) != ST_OK)
        return st;
    store_use(s);
    pthread_mutex_lock(&s->maintenance_lock);
    st = log_truncate_begin(s->log, o->tx_id, o->part_before_s, err);
    pthread_mutex_unlock(&s->maintenance_lock);
    if (st != ST_OK)
        goto done;
    if (o->tx_id > 0 && o->with_catalog && (st = catalog_copy(s, o->tx_id, err)) != ST_OK)
        goto done;
    st = drop_all(s, o, freed_bytes, err);
done:
    store_unuse(s);
    return st;
}

static enum status truncate_plainly(struct store *s, uint64_t tx_id, bool with_catalog, uint64_t *freed_bytes, struct err *err)
{
    const struct store_truncation o = {.tx_id = tx_id, .with_catalog = with_catalog};

    *freed_bytes = 0;
    return tx_id == 0 ? err_set(err, ST_NOT_FOUND, 0, "tx not found") : store_truncate_steps(s, &o, freed_bytes, err);
}

enum status store_drop_values(struct store *s, uint64_t tx_id, uint64_t *freed_bytes, struct err *err)
{
    return truncate_plainly(s, tx_id, false, freed_bytes, err);
}

enum status store_truncate(struct store *s, uint64_t tx_id, uint64_t *freed_bytes, struct err *err)
{
    return truncate_plainly(s, tx_id, true, freed_bytes, err);
}
