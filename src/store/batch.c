/* One batch: take drafts from the waiting list, order them, one frame, one sync, apply, complete.
 *
 *     collect -> log_batch_write -> log_sync -> apply_upto -> state_publish -> done callbacks -> one wake
 *
 * Durable mode syncs every frame before the next one is written. Asynchronous mode applies right after the write and syncs when somebody waits
 * for it, when UNSYNCED_BYTES_MAX are outstanding, or by the timer. With external commit txs stay in the pending ring after the sync until an
 * ALLOW draft brings a COMMIT mark. In every frame that no external allowance governs, committed_upto is the last tx of the frame itself: such
 * txs are committed by being durable.
 *
 * What fails: no space, short memory before anything was written - the batch is taken back, and tried again or refused (space.c); a write or sync
 * error - the store is read-only for good, nothing of the batch reached tree or index; short memory after the sync - the txs are committed but
 * not yet visible, apply is tried again before anything else is ordered. */
#include "store/store_internal.h"

#include <assert.h>
#include <time.h>

enum { BEHIND_NS_START = 50000, BEHIND_NS_MAX = 20000000, LOOK_NS = 50000000 };

static bool is_async(const struct store *s) { return s->o.durability == STORE_ASYNC; }

void store_fail(struct store *s, const struct err *err)
{
    if (atomic_exchange(&s->is_failed, true))
        return;
    store_set_health_text(s, "read-only since a write failed; restart to recover: %s", err->text);
    env_log(s->env, LOG_ERROR, "database %s is read-only: %s", s->dir, err->text);
}

uint64_t draft_deadline(struct store_draft *d, uint64_t now_ns)
{
    if (d->deadline_ns != 0)
        return d->deadline_ns;
    if (d->submitted_ns == 0)
        d->submitted_ns = now_ns;
    return d->submitted_ns + DEADLINE_DEFAULT_NS;
}

/* The clock as of the running batch: read once, since a batch may be one small transaction. */
uint64_t batch_clock(struct store *s)
{
    if (s->c.batch_ns == 0)
        s->c.batch_ns = env_mono_ns(s->env);
    return s->c.batch_ns;
}

/* Arms the store's timer unless it is armed early enough. If it fires just now, it has also kicked the store: another batch follows, which asks again
 * for what is still wanted. So armed_ns is what the timer is armed for, not what was asked for: of a time that is over nothing more is to be expected. */
void store_arm(struct store *s, uint64_t at_ns)
{
    struct committer *c = &s->c;

    if (c->armed_ns <= at_ns && c->armed_ns > batch_clock(s))
        return;
    c->armed_ns = alarm_arm(s->runtime->timers, &s->timer, at_ns);
}

/* --- what must not go on waiting --- */
typedef void (*expire_how)(struct store *s, struct err *err);
typedef uint64_t (*expire_when)(struct store_draft *d, uint64_t now_ns);

static void expired_space(struct store *s, struct err *err) { (void)space_error(s, err); }
static void expired_apply(struct store *s, struct err *err)
{
    (void)s;
    (void)err_set(err, ST_NOMEM, 0, "out of memory: transactions before this one wait for it");
}
static void expired_index(struct store *s, struct err *err) { rebuilding_error(s, err); }
static void expired_tree(struct store *s, struct err *err) { tree_rebuilding_error(s, err); }
static void expired_import(struct store *s, struct err *err)
{
    (void)s;
    (void)err_set(err, ST_TIMEOUT, 0, "timeout waiting for the previous transaction");
}

/* Completes those of the list whose time is over; returns when it is to be looked after again (UINT64_MAX: nobody is left whose time ends). Nothing tells
 * of a cancellation: it is asked for now and then. */
static uint64_t list_expire(struct store *s, struct draft_list *l, uint64_t now_ns, expire_when when, expire_how how)
{
    /* Who waits for space has another try first: space_thin_out(). */
    bool is_stopping = how != expired_space && atomic_load_explicit(&s->runtime->is_stopping, memory_order_relaxed);
    struct draft_list keep = {NULL, NULL, 0};
    uint64_t earliest = UINT64_MAX;
    struct store_draft *d;
    struct err err;

    while ((d = list_pop(l)) != NULL) {
        uint64_t deadline = when(d, now_ns);

        if (atomic_load(&s->is_closing)) {
            draft_complete(d, err_set(&err, ST_CLOSED, 0, "already closed"), &err);
        } else if (is_stopping) {
            draft_complete(d, err_set(&err, ST_CLOSED, 0, "the server is stopping"), &err);
        } else if (d->is_cancelled != NULL && d->is_cancelled(d->cancel_ctx)) {
            draft_complete(d, err_set(&err, ST_CANCELLED, 0, "cancelled before the commit"), &err);
        } else if (deadline <= now_ns) {
            how(s, &err);
            draft_complete(d, err.status, &err);
        } else {
            if (d->is_cancelled != NULL && now_ns + LOOK_NS < deadline)
                deadline = now_ns + LOOK_NS;
            earliest = deadline < earliest ? deadline : earliest;
            list_push(&keep, d);
        }
    }
    *l = keep;
    return earliest;
}

/* Looks after the parked lists; cheap when they are empty. */
static void parked_look_after(struct store *s)
{
    struct committer *c = &s->c;
    uint64_t now_ns, next_ns, other_ns;
    struct store_draft *d;

    if (c->imports.first == NULL && c->parked.first == NULL && c->rootless.first == NULL)
        return;
    now_ns = env_mono_ns(s->env);
    next_ns = list_expire(s, &c->imports, now_ns, draft_deadline, expired_import);
    if (atomic_load(&s->indexed_limit) == UINT64_MAX) {
        /* The index is complete again: their conditions are to be looked up. */
        while ((d = list_pop(&c->parked)) != NULL)
            conditions_on_worker(d);
    }
    other_ns = list_expire(s, &c->parked, now_ns, draft_deadline, expired_index);
    next_ns = other_ns < next_ns ? other_ns : next_ns;
    other_ns = list_expire(s, &c->rootless, now_ns, draft_deadline, expired_tree);
    next_ns = other_ns < next_ns ? other_ns : next_ns;
    if (!tree_is_rebuilding(s))
        list_append(&c->waiting, &c->rootless); /* looked at again */
    if (next_ns != UINT64_MAX)
        store_arm(s, next_ns);
}

/* With external commit a tx may wait for its allowance for ever; whoever wrote it need not: the tx stays, without its draft. In a database that has
 * become read-only no allowance can come any more. */
static void precommitted_look_after(struct store *s)
{
    struct committer *c = &s->c;
    uint64_t now_ns, allowed = c->allowed_tx > c->applied_tx ? c->allowed_tx : c->applied_tx;
    bool is_awaited = false, is_over;
    struct err err, why;

    if (!s->o.external_commit || c->durable_tx <= allowed)
        return;
    now_ns = env_mono_ns(s->env);
    is_over = store_writable(s, &why) != ST_OK;
    for (uint64_t id = allowed + 1; id <= c->durable_tx && (is_over || now_ns >= c->look_ns); id++) {
        struct store_draft *d = pending_at(s, id)->draft;

        if (d == NULL)
            continue;
        if (is_over) {
            err = why;
        } else if (d->is_cancelled != NULL && d->is_cancelled(d->cancel_ctx)) {
            (void)err_set(&err, ST_CANCELLED, 0, "cancelled before the commit");
        } else if (d->deadline_ns != 0 && d->deadline_ns <= now_ns) {
            (void)err_set(&err, ST_TIMEOUT, 0, "the deadline passed before the commit");
        } else {
            is_awaited = true;
            continue;
        }
        pending_at(s, id)->draft = NULL;
        draft_complete(d, err.status, &err);
    }
    if (is_awaited)
        c->look_ns = now_ns + LOOK_NS;
    if (c->look_ns > now_ns)
        store_arm(s, c->look_ns);
}

/* --- collecting --- */
enum status batch_ensure(struct store *s, struct err *err)
{
    enum status st;

    if (s->c.batch_open)
        return ST_OK;
    if ((st = log_batch_begin(s->log, err)) != ST_OK)
        return st;
    s->c.batch_open = true;
    s->c.batch_first_tx = 0;
    s->c.batch_allow = 0;
    return ST_OK;
}

/* What is decided without looking at other transactions. */
static enum status draft_refuse(struct store *s, struct store_draft *d, struct err *err)
{
    const struct committer *c = &s->c;

    if (d->is_cancelled != NULL && d->is_cancelled(d->cancel_ctx))
        return err_set(err, ST_CANCELLED, 0, "cancelled before the commit");
    if (d->deadline_ns != 0 && d->deadline_ns <= env_mono_ns(s->env))
        return err_set(err, ST_TIMEOUT, 0, "the deadline passed before the commit");
    if (s->o.external_commit && d->kind == DRAFT_TX && c->ordered_tx - c->applied_tx >= PRECOMMITTED_MAX)
        return err_set(err, ST_LIMIT, 0, "max active transactions limit exceeded");
    return store_writable(s, err);
}

/* The next parked import may have become the next tx. */
static void import_unpark(struct store *s)
{
    struct committer *c = &s->c;

    while (c->imports.first != NULL && c->imports.first->header.id <= c->ordered_tx + 1)
        list_push_front(&c->waiting, list_pop(&c->imports));
}

static void take_tx(struct store *s, struct store_draft *d, int64_t now_s)
{
    struct err err;
    enum status st = draft_refuse(s, d, &err);

    if (st == ST_OK && draft_has_conditions(d)) {
        switch (conditions_validate(s, d, now_s, &err)) {
        case VALIDATION_OK:
            break;
        case VALIDATION_FAILED:
            st = err.status;
            break;
        case VALIDATION_MOVED:
            return;
        }
    }
    if (st == ST_OK && d->kind == DRAFT_IMPORT && !import_take(s, d))
        return;
    if (st == ST_OK && (st = order_draft(s, d, now_s, &err)) == ST_READ_ONLY)
        store_fail(s, &err); /* the log has failed in the background */
    if (st == ST_CONFLICT)
        atomic_fetch_add_explicit(&s->conflict_count, 1, memory_order_relaxed);
    if (st == ST_CONFLICT && d->refusal != NULL && s->c.batch_first_tx != 0) {
        /* Maybe because of a tx that nobody can read yet, and that may still be lost: told when that one is. */
        list_push(&s->c.refused, d);
        return;
    }
    if (st != ST_OK) {
        draft_complete(d, st, &err);
        return;
    }
    import_unpark(s);
}

static void take_control(struct store *s, struct store_draft *d)
{
    struct err err;

    if (d->kind == DRAFT_ALLOW)
        control_allow(s, d);
    else if (d->kind == DRAFT_DISCARD)
        control_discard(s, d);
    else if (atomic_load(&s->is_failed))
        draft_complete(d, store_writable(s, &err), &err);
    else {
        d->control_tx_id = s->c.ordered_tx;
        list_push(&s->c.syncs, d);
    }
}

/* Seconds for the headers of this batch; a clock that jumped is told. */
static int64_t batch_now_s(struct store *s)
{
    struct committer *c = &s->c;
    int64_t wall_ns = env_wall_ns(s->env), drift_ns;
    uint64_t mono_ns = env_mono_ns(s->env);

    if (c->clock_mono_ns != 0) {
        drift_ns = (wall_ns - c->clock_wall_ns) - (int64_t)(mono_ns - c->clock_mono_ns);
        if (drift_ns > CLOCK_JUMP_NS || drift_ns < -CLOCK_JUMP_NS) {
            atomic_fetch_add(&s->clock_jumps, 1);
            env_log(s->env, LOG_WARN, "database %s: the clock jumped by %lld s", s->dir, (long long)(drift_ns / 1000000000));
        }
    }
    c->clock_wall_ns = wall_ns;
    c->clock_mono_ns = mono_ns;
    c->batch_ns = mono_ns;
    return wall_ns / 1000000000 - (wall_ns % 1000000000 < 0);
}

/* True when anything was taken from the list. */
static bool batch_collect(struct store *s)
{
    struct committer *c = &s->c;
    int64_t now_s;
    unsigned taken = 0, txs_max = c->is_out_of_space ? 1 : s->o.batch_txs_max; /* one tries whether there is room again */
    struct store_draft *d;

    if (c->waiting.first == NULL)
        return false;
    if (!c->batch_open)
        c->batch_bytes = 0; /* of the batch before, which may have filled its bound */
    now_s = batch_now_s(s);
    while (taken < txs_max && c->batch_bytes < s->o.batch_bytes_max && (d = list_pop(&c->waiting)) != NULL) {
        taken++;
        if (d->kind == DRAFT_DISCARD && c->batch_open) {
            list_push_front(&c->waiting, d); /* on its own, after what came before it */
            break;
        }
        if (d->kind == DRAFT_TX || d->kind == DRAFT_IMPORT)
            take_tx(s, d, now_s);
        else
            take_control(s, d);
    }
    return true;
}

/* --- what becomes of it --- */
static void list_complete(struct draft_list *l, enum status st, const struct err *err)
{
    struct store_draft *d;

    while ((d = list_pop(l)) != NULL)
        draft_complete(d, st, err);
}

static uint64_t batch_restore_tx(const struct store *s) { return s->c.batch_first_tx != 0 ? s->c.batch_first_tx - 1 : s->c.ordered_tx; }

/* The disk is full, or memory short before anything was written: everything back to where it came from. */
static void batch_take_back(struct store *s, enum status st, const struct err *why)
{
    struct committer *c = &s->c;
    struct draft_list all = {NULL, NULL, 0};

    if (c->batch_open) {
        log_batch_abort(s->log);
        c->batch_open = false;
        order_restore(s, batch_restore_tx(s), &all);
    }
    c->batch_first_tx = 0;
    c->batch_allow = 0;             /* its mark went with the batch: it is to be written again */
    list_append(&all, &c->refused); /* to be judged again */
    /* Allowances and syncs go behind the txs they came with: nothing is acknowledged earlier than asked. */
    list_append(&all, &c->syncs);
    list_append(&all, &c->waiting);
    c->waiting = all;
    space_lost(s, st, why);
    space_thin_out(s, &c->waiting);
}

/* A write or sync failed for good. */
static void batch_failed(struct store *s, enum status st, const struct err *err)
{
    struct committer *c = &s->c;
    struct draft_list lost = {NULL, NULL, 0};

    store_fail(s, err);
    if (c->batch_open) {
        log_batch_abort(s->log);
        c->batch_open = false;
    }
    if (c->batch_first_tx != 0 && c->batch_first_tx > c->applied_tx && c->batch_first_tx <= c->ordered_tx)
        order_restore(s, c->batch_first_tx - 1, &lost);
    c->batch_first_tx = 0;
    c->batch_allow = 0; /* nobody knows whether its mark is there: nothing is committed by it */
    list_complete(&lost, st, err);
    list_complete(&c->refused, st, err);
    list_complete(&c->syncs, st, err);
    list_complete(&c->durable, st, err);
}

static unsigned log2_bucket(uint64_t ns)
{
    unsigned bucket = ns == 0 ? 0 : 63 - (unsigned)__builtin_clzll(ns);

    return bucket < 31 ? bucket : 31;
}

static void synced_upto(struct store *s, uint64_t tx_id, const hash_t *alh, uint64_t bytes, uint64_t next_since_ns)
{
    struct committer *c = &s->c;

    if (tx_id > c->synced_tx) {
        c->synced_tx = tx_id;
        c->synced_alh = *alh;
    }
    if (bytes > c->synced_bytes)
        c->synced_bytes = bytes;
    c->unsynced_since_ns = c->synced_tx == c->ordered_tx ? 0 : next_since_ns;
    c->wants_vouch = true;
}

static void count_sync(struct store *s, uint64_t start_ns)
{
    atomic_fetch_add_explicit(&s->sync_ns_histogram[log2_bucket(env_mono_ns(s->env) - start_ns)], 1, memory_order_relaxed);
}

enum status batch_sync_log(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    uint64_t start_ns = env_mono_ns(s->env);
    enum status st = log_sync(s->log, err);

    if (st != ST_OK)
        return st;
    count_sync(s, start_ns);
    synced_upto(s, c->ordered_tx, &c->ordered_alh, log_bytes_written(s->log), 0);
    return ST_OK;
}

/* --- syncing beside the committer (asynchronous mode) --- */
void batch_sync_job(struct pool_job *job)
{
    struct store *s = (struct store *)((char *)job - offsetof(struct store, sync.job));

    s->sync.status = log_sync(s->log, &s->sync.err);
    count_sync(s, s->sync.start_ns);
    atomic_store_explicit(&s->sync.is_finished, true, memory_order_release);
    role_look_around(s);
    store_unuse(s);
}

static void sync_start(struct store *s)
{
    struct committer *c = &s->c;

    c->sync_is_running = true;
    s->sync.tx_id = c->ordered_tx;
    s->sync.alh = c->ordered_alh;
    s->sync.bytes = log_bytes_written(s->log);
    s->sync.start_ns = env_mono_ns(s->env);
    atomic_store_explicit(&s->sync.is_finished, false, memory_order_relaxed);
    store_use(s);
    pool_submit(s->runtime->sync_pool, &s->sync.job);
}

/* Takes over what the job has reached. */
static enum status sync_absorb(struct store *s, struct err *err)
{
    struct committer *c = &s->c;

    if (!c->sync_is_running || !atomic_load_explicit(&s->sync.is_finished, memory_order_acquire))
        return ST_OK;
    c->sync_is_running = false;
    if (s->sync.status != ST_OK)
        return err_set(err, s->sync.status, s->sync.err.os_errno, "%s", s->sync.err.text);
    synced_upto(s, s->sync.tx_id, &s->sync.alh, s->sync.bytes, s->sync.start_ns);
    return ST_OK;
}

static enum status batch_write(struct store *s, struct err *err)
{
    struct committer *c = &s->c;
    enum status st;

    /* Without external commit a frame commits its own txs. */
    st = log_batch_write(s->log, s->o.external_commit ? c->allowed_tx : c->ordered_tx, err);
    if (st != ST_OK)
        return st;
    c->batch_open = false;
    atomic_fetch_add_explicit(&s->batch_count, 1, memory_order_relaxed);
    space_found(s);
    if (is_async(s) && c->unsynced_since_ns == 0)
        c->unsynced_since_ns = batch_clock(s);
    return ST_OK;
}

/* Asynchronous mode: is it time? */
static bool sync_is_due(struct store *s)
{
    const struct committer *c = &s->c;

    if (c->unsynced_since_ns == 0)
        return false;
    return c->syncs.first != NULL || c->durable.first != NULL || log_bytes_written(s->log) - c->synced_bytes > UNSYNCED_BYTES_DUE ||
           batch_clock(s) - c->unsynced_since_ns >= s->o.async_sync_interval_ns;
}

/* Starts a sync beside us when it is time; waits for one only when too much is outstanding, or at the end. */
static enum status batch_sync_async(struct store *s, struct err *err)
{
    struct committer *c = &s->c;

    if (atomic_load(&s->is_failed) || c->unsynced_since_ns == 0)
        return ST_OK;
    if (atomic_load(&s->is_closing) || s->o.sync_inline || log_bytes_written(s->log) - c->synced_bytes > UNSYNCED_BYTES_MAX)
        return atomic_load(&s->is_closing) || sync_is_due(s) ? batch_sync_log(s, err) : ST_OK;
    if (!c->sync_is_running && sync_is_due(s))
        sync_start(s);
    return ST_OK;
}

/* Applies what may be applied; on short memory a later attempt follows. */
static bool batch_apply(struct store *s)
{
    struct committer *c = &s->c;
    uint64_t upto = c->durable_tx;
    struct err err;

    if (s->o.external_commit && upto > c->allowed_tx)
        upto = c->allowed_tx;
    if (upto <= c->applied_tx || apply_upto(s, upto, &err) == ST_OK) {
        c->apply_failed = false;
        return true;
    }
    if (!c->apply_failed)
        env_log(s->env, LOG_WARN, "database %s: committed transactions wait for memory: %s", s->dir, err.text);
    c->apply_failed = true;
    store_arm(s, env_mono_ns(s->env) + RETRY_NS);
    return false;
}

static void batch_finish(struct store *s)
{
    struct committer *c = &s->c;
    struct store_draft *d;
    struct err err;

    /* Whoever is told of his tx, or of one that was faster, finds it in the state. */
    state_publish(s);
    list_complete(&c->finished, ST_OK, NULL);
    while ((d = list_pop(&c->refused)) != NULL)
        draft_complete(d, err_set(&err, ST_CONFLICT, 0, "%s", d->refusal), &err);
    while (c->durable.first != NULL && c->durable.first->header.id <= c->synced_tx)
        draft_complete(list_pop(&c->durable), ST_OK, NULL);
    while (c->syncs.first != NULL && c->syncs.first->control_tx_id <= c->synced_tx)
        draft_complete(list_pop(&c->syncs), ST_OK, NULL);
    if (log_bytes_written(s->log) - c->maintained_bytes >= MAINTENANCE_STEP_BYTES || index_wants_flush(s->index)) {
        c->maintained_bytes = log_bytes_written(s->log);
        maintenance_kick(s);
    }
}

/* Writers slow down smoothly while flush, merge or the rebuild of a lost tree are behind, and speed up again. */
static void pause_while_behind(struct store *s)
{
    struct committer *c = &s->c;
    struct timespec pause = {0, 0};

    if (c->waiting.first == NULL)
        return;
    if (!index_is_behind(s->index) && !tree_is_outrun(s)) {
        c->behind_ns /= 2;
        if (c->behind_ns < BEHIND_NS_START)
            c->behind_ns = 0;
    } else {
        c->behind_ns = c->behind_ns == 0 ? BEHIND_NS_START : c->behind_ns * 2;
        if (c->behind_ns > BEHIND_NS_MAX)
            c->behind_ns = BEHIND_NS_MAX;
        maintenance_kick(s);
    }
    if (c->behind_ns == 0)
        return;
    pause.tv_nsec = (long)c->behind_ns;
    nanosleep(&pause, NULL);
}

static bool wait_for_space(struct store *s)
{
    struct committer *c = &s->c;
    uint64_t now_ns;

    if (!c->is_out_of_space)
        return false;
    now_ns = env_mono_ns(s->env);
    if (now_ns < c->space_retry_ns && !atomic_load(&s->is_closing)) {
        store_arm(s, c->space_retry_ns);
        return true;
    }
    list_expire(s, &c->waiting, now_ns, space_deadline, expired_space);
    return false;
}

/* Writes what was collected and makes it durable as far as the mode asks for it. */
static enum status batch_store(struct store *s, bool has_frame, struct err *err)
{
    enum status st = sync_absorb(s, err);

    if (st == ST_OK && has_frame && (st = batch_write(s, err)) != ST_OK)
        return st;
    if (st == ST_OK)
        st = is_async(s) ? batch_sync_async(s, err) : has_frame ? batch_sync_log(s, err) : ST_OK;
    /* A sync that fails is never one that may be tried again. */
    return st == ST_NO_SPACE || st == ST_NOMEM ? err_set(err, ST_IO, 0, "the sync failed") : st;
}

/* What must be finished before anything new is ordered. */
static bool batch_leftovers(struct store *s)
{
    struct err err;

    if (s->c.apply_failed) {
        if (!batch_apply(s)) {
            list_expire(s, &s->c.waiting, env_mono_ns(s->env), space_deadline, expired_apply);
            return false;
        }
        batch_finish(s);
    }
    if ((atomic_load_explicit(&s->lag_is_short, memory_order_acquire) || atomic_load_explicit(&s->tree_lag_is_short, memory_order_acquire)) &&
        catch_up_finish(s, &err) != ST_OK)
        store_arm(s, env_mono_ns(s->env) + RETRY_NS);
    return true;
}

bool batch_run(struct store *s)
{
    struct committer *c = &s->c;
    uint64_t synced_before = c->synced_tx;
    bool has_frame, is_taken;
    enum status st;
    struct err err;

    c->batch_ns = 0;
    if (!batch_leftovers(s))
        return false;
    parked_look_after(s);
    precommitted_look_after(s);
    if (wait_for_space(s))
        return false;
    pause_while_behind(s);
    is_taken = batch_collect(s);
    if (c->batch_open && c->batch_first_tx == 0 && c->batch_allow == 0) {
        log_batch_abort(s->log); /* its only record was refused */
        c->batch_open = false;
    }
    has_frame = c->batch_open;
    st = batch_store(s, has_frame, &err);
    if ((st == ST_NO_SPACE || st == ST_NOMEM) && c->batch_open) {
        batch_take_back(s, st, &err);
        return false;
    }
    if (st != ST_OK) {
        batch_failed(s, st, &err);
        state_publish(s);
        return true;
    }
    c->durable_tx = c->ordered_tx;
    if (c->batch_allow > c->allowed_tx)
        c->allowed_tx = c->batch_allow;
    c->batch_allow = 0;
    c->batch_first_tx = 0;
    if ((is_taken || has_frame || c->synced_tx != synced_before || c->syncs.first != NULL) && batch_apply(s))
        batch_finish(s);
    precommitted_look_after(s);
    /* Also when there was nothing to do: the timer that brought this batch may have been armed for something that is over. */
    if (c->unsynced_since_ns != 0 && !c->sync_is_running && !atomic_load(&s->is_failed))
        store_arm(s, c->unsynced_since_ns + s->o.async_sync_interval_ns);
    return is_taken;
}

void batch_dry(struct store *s)
{
    struct committer *c = &s->c;
    struct err err;
    enum status st;

    if (c->recent.is_on && env_mono_ns(s->env) - c->conditions_ns > RECENT_IDLE_NS) {
        recent_stop(&c->recent);
        atomic_store(&s->recent_floor, UINT64_MAX);
    }
    if (!c->wants_vouch || c->is_out_of_space || atomic_load(&s->is_failed) || atomic_load(&s->is_damaged))
        return;
    c->wants_vouch = false;
    st = log_vouch(s->log, &err);
    if (st != ST_OK && st != ST_NO_SPACE && st != ST_NOMEM)
        store_fail(s, &err);
}
