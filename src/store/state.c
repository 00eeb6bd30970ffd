/* What the outside may know: the state (a seqlock, so that readers never wait), its waiters, and the store's health. */
#include "store/store_internal.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

static_assert(sizeof(struct store_state) <= STATE_WORDS * 8, "the state fits its cell");

static void cell_write(struct state_cell *cell, const struct store_state *state)
{
    uint64_t words[STATE_WORDS] = {0};
    uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_relaxed);

    memcpy(words, state, sizeof *state);
    atomic_store_explicit(&cell->sequence, sequence + 1, memory_order_relaxed);
    for (size_t i = 0; i < STATE_WORDS; i++)
        atomic_store_explicit(&cell->words[i], words[i], memory_order_release); /* after the odd number */
    atomic_store_explicit(&cell->sequence, sequence + 2, memory_order_release);
}

void store_get_state(struct store *s, struct store_state *out)
{
    uint64_t words[STATE_WORDS], before, after;

    do {
        before = atomic_load_explicit(&s->state.sequence, memory_order_acquire);
        for (size_t i = 0; i < STATE_WORDS; i++)
            words[i] = atomic_load_explicit(&s->state.words[i], memory_order_acquire);
        after = atomic_load_explicit(&s->state.sequence, memory_order_relaxed);
    } while (before != after || (before & 1) != 0);
    memcpy(out, words, sizeof *out);
}

void state_wake_waiters(struct store *s)
{
    if (atomic_load(&s->waiters) == 0)
        return;
    pthread_mutex_lock(&s->wait_lock);
    pthread_cond_broadcast(&s->wait_cond);
    pthread_mutex_unlock(&s->wait_lock);
}

/* By the role's holder (and before there is one). Only what is committed and durable is offered for proofs and signatures. */
void state_publish(struct store *s)
{
    const struct committer *c = &s->c;
    bool is_external = s->o.external_commit, is_async = s->o.durability == STORE_ASYNC;
    struct store_state state;

    memset(&state, 0, sizeof state);
    state.tx_id = c->applied_tx <= c->synced_tx ? c->applied_tx : c->synced_tx;
    state.alh = c->applied_tx <= c->synced_tx ? c->applied_alh : c->synced_alh;
    state.visible_tx_id = c->applied_tx;
    if (is_external) {
        state.precommitted_tx_id = c->synced_tx;
        state.precommitted_alh = c->synced_alh;
    } else {
        state.precommitted_tx_id = is_async ? c->applied_tx : state.tx_id;
        state.precommitted_alh = is_async ? c->applied_alh : state.alh;
    }
    cell_write(&s->state, &state);
    atomic_store_explicit(&s->durable_tx, state.tx_id, memory_order_release);
    atomic_store_explicit(&s->exportable_tx, is_external ? c->synced_tx : state.tx_id, memory_order_release);
    atomic_store(&s->visible_tx, state.visible_tx_id);
    state_wake_waiters(s);
}

const uint8_t *store_uuid(const struct store *s) { return s->uuid; }
const struct env *store_env(const struct store *s) { return s->env; }

uint64_t store_indexed(struct store *s)
{
    uint64_t limit = atomic_load(&s->indexed_limit), visible = atomic_load(&s->visible_tx);

    return limit < visible ? limit : visible;
}

/* --- waiting --- */
static enum status wait_slice(struct store *s, uint64_t deadline_ns, struct err *err)
{
    uint64_t now_ns = env_mono_ns(s->env), slice_ns = 1000000000;
    struct timespec until;

    if (atomic_load(&s->is_closing))
        return err_set(err, ST_CLOSED, 0, "already closed");
    if (deadline_ns != 0 && deadline_ns <= now_ns)
        return err_set(err, ST_TIMEOUT, 0, "timeout waiting for a transaction");
    if (deadline_ns != 0 && deadline_ns - now_ns < slice_ns)
        slice_ns = deadline_ns - now_ns;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)slice_ns;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&s->wait_cond, &s->wait_lock, &until);
    return ST_OK;
}

enum status store_wait(struct store *s, uint64_t tx_id, uint64_t deadline_mono_ns, struct err *err)
{
    enum status st = ST_OK;

    if (store_indexed(s) >= tx_id)
        return ST_OK;
    store_use(s);
    if (atomic_fetch_add(&s->waiters, 1) >= s->o.waiters_max) {
        st = err_set(err, ST_LIMIT, 0, "watchers: max waiting limit exceeded");
        goto done;
    }
    pthread_mutex_lock(&s->wait_lock);
    while (st == ST_OK && store_indexed(s) < tx_id && !atomic_load(&s->index_is_stopped))
        st = wait_slice(s, deadline_mono_ns, err);
    pthread_mutex_unlock(&s->wait_lock);
    if ((st == ST_OK || st == ST_TIMEOUT) && store_indexed(s) < tx_id && atomic_load(&s->indexed_limit) < tx_id)
        st = rebuilding_error(s, err);
done:
    atomic_fetch_sub(&s->waiters, 1);
    store_unuse(s);
    return st;
}

enum status store_wait_tree(struct store *s, uint64_t tx_id, uint64_t deadline_mono_ns, struct err *err)
{
    enum status st = ST_OK;

    if (tree_size(s->tree) >= tx_id || !tree_is_rebuilding(s))
        return ST_OK;
    store_use(s);
    if (atomic_fetch_add(&s->waiters, 1) >= s->o.waiters_max) {
        st = err_set(err, ST_LIMIT, 0, "watchers: max waiting limit exceeded");
        goto done;
    }
    pthread_mutex_lock(&s->wait_lock);
    while (st == ST_OK && tree_size(s->tree) < tx_id && tree_is_rebuilding(s))
        st = wait_slice(s, deadline_mono_ns, err);
    pthread_mutex_unlock(&s->wait_lock);
    if (st == ST_TIMEOUT)
        st = tree_rebuilding_error(s, err);
done:
    atomic_fetch_sub(&s->waiters, 1);
    store_unuse(s);
    return st;
}

enum status rebuilding_error(struct store *s, struct err *err)
{
    struct store_health health;

    if (atomic_load(&s->index_is_stopped)) {
        store_health(s, &health);
        return err_set(err, ST_CORRUPT, 0, "index of database %s cannot be rebuilt: %s", s->dir, health.text);
    }
    return err_set(err, ST_BUSY, 0, "index of database %s is being rebuilt: %llu of %llu transactions", s->dir,
                   (unsigned long long)atomic_load(&s->rebuilt), (unsigned long long)atomic_load(&s->to_rebuild));
}

enum status beyond_error(struct store *s, struct err *err)
{
    struct store_health health;

    if (!s->end_is_lost)
        return err_set(err, ST_NOT_FOUND, 0, "tx not found");
    store_health(s, &health);
    return err_set(err, ST_CORRUPT, 0, "the end of the log is damaged: %s", health.text);
}

enum status store_end_check(struct store *s, struct err *err) { return s->end_is_lost ? beyond_error(s, err) : ST_OK; }

/* --- health --- */
void store_set_health_text(struct store *s, const char *fmt, ...)
{
    va_list args;

    pthread_mutex_lock(&s->health_lock);
    va_start(args, fmt);
    vsnprintf(s->health_text, sizeof s->health_text, fmt, args);
    va_end(args);
    pthread_mutex_unlock(&s->health_lock);
}

void store_health(struct store *s, struct store_health *out)
{
    memset(out, 0, sizeof *out);
    out->rebuilt = atomic_load(&s->rebuilt);
    out->to_rebuild = atomic_load(&s->to_rebuild);
    if (atomic_load(&s->tree_lags))
        tree_progress(s, &out->tree_rebuilt, &out->tree_to_rebuild);
    if (atomic_load(&s->is_damaged))
        out->kind = STORE_READ_ONLY_DAMAGED;
    else if (atomic_load(&s->is_failed))
        out->kind = STORE_READ_ONLY_FAILED;
    else if (atomic_load(&s->is_out_of_space))
        out->kind = STORE_DEGRADED;
    else if (atomic_load(&s->indexed_limit) != UINT64_MAX || tree_is_rebuilding(s))
        out->kind = STORE_REBUILDING;
    else
        return;
    pthread_mutex_lock(&s->health_lock);
    if (out->kind == STORE_DEGRADED)
        snprintf(out->text, sizeof out->text, "%s: writes wait or are refused",
                 s->space_why.status == ST_NO_SPACE ? "no space left on device" : s->space_why.text);
    else if (out->kind == STORE_REBUILDING && atomic_load(&s->indexed_limit) == UINT64_MAX)
        snprintf(out->text, sizeof out->text, "the tree is being rebuilt: %llu of %llu transactions", (unsigned long long)out->tree_rebuilt,
                 (unsigned long long)out->tree_to_rebuild);
    else if (out->kind == STORE_REBUILDING)
        snprintf(out->text, sizeof out->text, "the index is being rebuilt: %llu of %llu transactions", (unsigned long long)out->rebuilt,
                 (unsigned long long)out->to_rebuild);
    else
        memcpy(out->text, s->health_text, sizeof out->text);
    pthread_mutex_unlock(&s->health_lock);
}

enum status store_writable(struct store *s, struct err *err)
{
    struct store_health health;

    if (atomic_load_explicit(&s->is_failed, memory_order_relaxed) || atomic_load_explicit(&s->is_damaged, memory_order_relaxed)) {
        store_health(s, &health);
        return err_set(err, ST_READ_ONLY, 0, "%s", health.text);
    }
    if (s->o.read_only)
        return err_set(err, ST_READ_ONLY, 0, "database is read-only");
    return ST_OK;
}
