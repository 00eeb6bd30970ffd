/* Preconditions and read sets.
 *
 * The committer decides, but reads no index: before a draft is submitted, its conditions are looked up in the index as of the newest visible
 * tx V (conditions_look_up, on the submitting thread or a worker). The committer then asks struct recent for what was written above V; this
 * also covers precommitted txs, which are in no index. When recent does not reach back to V (it was off, or its window has moved on) the draft
 * goes to a worker and comes back with a newer V; after BOUNCES_MAX times the committer looks up itself.
 *
 *   read set: conflict when the key, or any key in the range, has a version in a tx above read_tx_id.
 *   precondition: judged by the newest version of its key; deleted and expired keys do not exist.
 *
 * Keys that no index covers can only be judged by recent: older reads of them are taken for conflicts. */
#include "store/store_internal.h"

#include <assert.h>

bool draft_has_conditions(const struct store_draft *d) { return d->condition_count + d->read_count > 0; }

static enum status conflict(struct err *err) { return err_set(err, ST_CONFLICT, 0, "tx read conflict"); }

/* --- against the index --- */
static enum status look_up_condition(struct index_snapshot *view, struct draft_condition *c, bool nowait, struct err *err)
{
    struct bytes key;
    uint32_t ns;
    enum status st;

    if (!store_index_key(c->key, &ns, &key))
        return err_set(err, ST_INVALID, 0, "a precondition needs an indexed key");
    st = index_get(view, ns, key, nowait, &c->version, NULL, err);
    if (st != ST_OK && st != ST_NOT_FOUND)
        return st;
    c->is_found = st == ST_OK;
    return ST_OK;
}

static enum status look_up_point(struct index_snapshot *view, const struct draft_read *r, bool nowait, struct err *err)
{
    struct index_version version;
    struct bytes key;
    uint32_t ns;
    enum status st;

    if (!store_index_key(r->first, &ns, &key))
        return conflict(err);
    st = index_get(view, ns, key, nowait, &version, NULL, err);
    if (st == ST_OK && version.tx_id > r->read_tx_id)
        return conflict(err);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

static enum status look_up_range(struct index_snapshot *view, const struct draft_read *r, struct err *err)
{
    struct index_scan_options o = {.inclusive_seek = true, .inclusive_end = true};
    struct index_cursor *cursor = NULL;
    struct index_version version;
    struct bytes key;
    uint32_t last_ns = 0;
    uint64_t revision;
    enum status st;

    if (!store_index_key(r->first, &o.ns, &o.seek) || (r->last.len > 0 && (!store_index_key(r->last, &last_ns, &o.end) || last_ns != o.ns)))
        return conflict(err);
    if ((st = index_scan_open(view, &o, &cursor, err)) != ST_OK)
        return st;
    while ((st = index_scan_next(cursor, &key, &version, &revision, err)) == ST_OK) {
        if (version.tx_id > r->read_tx_id) {
            st = conflict(err);
            break;
        }
    }
    index_scan_close(cursor);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status conditions_look_up(struct store_draft *d, bool nowait, struct err *err)
{
    struct store *s = d->store;
    uint64_t floor = atomic_load(&s->recent_floor), upto = atomic_load(&s->visible_tx);
    struct index_snapshot *view = NULL;
    enum status st;

    d->skipped_min = UINT64_MAX;
    if (upto == 0) { /* nothing was ever written: nothing to be found */
        d->checked_upto = 0;
        d->is_checked = true;
        return ST_OK;
    }
    d->is_checked = false;
    if (atomic_load(&s->indexed_limit) != UINT64_MAX)
        return ST_OK; /* the committer parks it until the index is complete */
    if ((st = index_snapshot_open(s->index, upto, &view, err)) != ST_OK)
        return st;
    for (uint32_t i = 0; i < d->condition_count && st == ST_OK; i++)
        st = look_up_condition(view, &d->conditions[i], nowait, err);
    for (uint32_t i = 0; i < d->read_count && st == ST_OK; i++) {
        const struct draft_read *r = &d->reads[i];

        if (r->read_tx_id >= upto)
            continue;
        if (r->read_tx_id >= floor) { /* recent knows all that was written since, unless its window moves on */
            d->skipped_min = r->read_tx_id < d->skipped_min ? r->read_tx_id : d->skipped_min;
            continue;
        }
        if (r->is_range)
            st = nowait ? err_set(err, ST_AGAIN, 0, "a range is read on a worker") : look_up_range(view, r, err);
        else
            st = look_up_point(view, r, nowait, err);
    }
    index_snapshot_close(view);
    if (st == ST_OK) {
        d->checked_upto = upto;
        d->is_checked = true;
    }
    return st;
}

static void look_up_run(struct pool_job *job)
{
    struct store_draft *d = (struct store_draft *)((char *)job - offsetof(struct store_draft, job));
    struct store *s = d->store;
    struct err err;
    enum status st = conditions_look_up(d, false, &err);

    if (st == ST_OK) {
        role_submit(s, d, STORE_DRIVE_INLINE);
    } else {
        draft_complete(d, st, &err);
        role_wake_sleepers(s);
    }
    store_unuse(s);
}

void conditions_on_worker(struct store_draft *d)
{
    store_use(d->store);
    d->job.run = look_up_run;
    pool_submit(d->store->runtime->worker_pool, &d->job);
}

/* --- inside the committer --- */
static enum status recent_add_logged(struct store *s, uint64_t tx_id, struct err *err)
{
    struct log_tx t;
    struct tx_entry *entries;
    struct kv_metadata *mds;
    struct arena arena;
    enum status st;

    if ((st = log_tx_open(s->log, tx_id, false, &t, err)) != ST_OK)
        return st;
    arena_init(&arena, 4096, 0);
    entries = arena_array(&arena, t.entry_count, sizeof *entries);
    mds = arena_array(&arena, t.entry_count, sizeof *mds);
    if (entries == NULL || mds == NULL)
        st = err_set(err, ST_NOMEM, 0, "recently written keys");
    for (uint32_t i = 0; i < t.entry_count && st == ST_OK; i++) {
        st = log_tx_entry(s->log, &t, i, &entries[i], err);
        if (st == ST_OK)
            st = kv_metadata_decode(entries[i].md, &mds[i], err);
    }
    if (st == ST_OK)
        st = recent_add(&s->c.recent, tx_id, entries, mds, t.entry_count, s->c.applied_tx, err);
    arena_free(&arena);
    log_tx_close(s->log, &t);
    return st;
}

/* From now on everything above applied_tx is known: that is, what waits in the pending ring. */
static enum status recent_switch_on(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    enum status st = ST_OK;

    recent_start(&c->recent, c->applied_tx);
    for (uint64_t id = c->applied_tx + 1; id <= c->ordered_tx && st == ST_OK; id++) {
        const struct store_draft *d = pending_at(s, id)->draft;

        if (d != NULL)
            st = recent_add(&c->recent, id, d->entries, d->mds, d->entry_count, c->applied_tx, err);
        else
            st = recent_add_logged(s, id, err);
    }
    if (st != ST_OK)
        recent_stop(&c->recent);
    return st;
}

static const char *precondition_text(enum precondition_kind kind)
{
    switch (kind) {
    case KEY_MUST_EXIST:
        return "precondition failed: KeyMustExist";
    case KEY_MUST_NOT_EXIST:
        return "precondition failed: KeyMustNotExist";
    case KEY_NOT_MODIFIED_AFTER_TX:
        return "precondition failed: KeyNotModifiedAfterTxID";
    }
    return "precondition failed";
}

static enum validation refuse(struct store_draft *d, const char *text, struct err *err)
{
    d->refusal = text;
    (void)err_set(err, ST_CONFLICT, 0, "%s", text);
    return VALIDATION_FAILED;
}

static bool condition_holds(const struct store *s, const struct store_draft *d, const struct draft_condition *c, int64_t now_s)
{
    const struct recent_item *item = recent_find(&s->c.recent, c->key);
    bool is_found = c->is_found, exists;
    uint64_t tx_id = c->version.tx_id;
    struct kv_metadata md = {c->version.is_deleted, c->version.has_expiry, false, c->version.expires_at};

    if (item != NULL && item->tx_id > d->checked_upto) {
        is_found = true;
        tx_id = item->tx_id;
        md = (struct kv_metadata){item->is_deleted, item->has_expiry, false, item->expires_at};
    }
    exists = is_found && !md.is_deleted && !kv_metadata_expired(&md, now_s);
    switch (c->kind) {
    case KEY_MUST_EXIST:
        return exists;
    case KEY_MUST_NOT_EXIST:
        return !exists;
    case KEY_NOT_MODIFIED_AFTER_TX:
        return !is_found || tx_id <= c->tx_id;
    }
    return false;
}

static bool read_holds(const struct store *s, const struct draft_read *r)
{
    const struct recent_item *item;

    if (r->is_range)
        return !recent_in_range(&s->c.recent, r->first, r->last, r->read_tx_id);
    item = recent_find(&s->c.recent, r->first);
    return item == NULL || item->tx_id <= r->read_tx_id;
}

/* Does recent reach back to what was looked up? Reads newer than its floor need no look-up. */
static bool is_covered(const struct store *s, const struct store_draft *d)
{
    uint64_t floor = s->c.recent.floor;

    if (d->is_checked && d->checked_upto >= floor && d->skipped_min >= floor)
        return true;
    if (d->condition_count > 0)
        return false;
    for (uint32_t i = 0; i < d->read_count; i++)
        if (d->reads[i].read_tx_id < floor)
            return false;
    return true;
}

/* Conditions need a full index; see batch.c for how this ends. */
static enum validation park(struct store *s, struct store_draft *d)
{
    d->is_checked = false;
    list_push(&s->c.parked, d);
    store_arm(s, draft_deadline(d, s->c.clock_mono_ns));
    return VALIDATION_MOVED;
}

enum validation conditions_validate(struct store *s, struct store_draft *d, int64_t now_s, struct err *err)
{
    struct committer *c = &s->c;

    d->refusal = NULL;
    c->conditions_ns = c->clock_mono_ns;
    if (atomic_load(&s->indexed_limit) != UINT64_MAX)
        return park(s, d);
    if (!c->recent.is_on && recent_switch_on(s, err) != ST_OK)
        return VALIDATION_FAILED;
    if (!is_covered(s, d)) {
        if (d->bounces++ < BOUNCES_MAX) {
            conditions_on_worker(d);
            return VALIDATION_MOVED;
        }
        if (conditions_look_up(d, false, err) != ST_OK)
            return VALIDATION_FAILED;
        if (!is_covered(s, d)) /* a damaged run was taken out just now */
            return park(s, d);
    }
    atomic_store(&s->recent_floor, c->recent.floor);
    for (uint32_t i = 0; i < d->condition_count; i++) {
        if (!condition_holds(s, d, &d->conditions[i], now_s))
            return refuse(d, precondition_text(d->conditions[i].kind), err);
    }
    for (uint32_t i = 0; i < d->read_count; i++) {
        if (!read_holds(s, &d->reads[i]))
            return refuse(d, "tx read conflict", err);
    }
    return VALIDATION_OK;
}
