/* Removing the values of old transactions now and then; see truncator.h. */
#include "databases/truncator.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/config.h"
#include "config/logger.h"
#include "databases/databases_internal.h"

static const uint64_t ROUND_NS = 5ull * 1000000000, MS_NS = 1000000;
static const int64_t DAY_S = 86400;
enum { STACK_BYTES = 512 * 1024 };

/* --- one database --- */

static int64_t day_start(int64_t at_s) { return at_s - (at_s % DAY_S + DAY_S) % DAY_S; }

/* The last tx before from_s; 0: there is none, or nobody knows how old it is (commit times are left out). */
static enum status last_before(struct database *db, int64_t from_s, uint64_t *tx_id, struct err *err)
{
    struct store_state state;
    struct tx_header header;
    uint64_t since, last;
    enum status st;
    hash_t alh;

    *tx_id = 0;
    store_get_state(db->store, &state);
    if ((st = store_tx_since(db->store, from_s, &since, err)) != ST_OK)
        return st;
    last = since - 1 < state.tx_id ? since - 1 : state.tx_id;
    if (last == 0)
        return ST_OK;
    if ((st = store_tx_header(db->store, last, &header, &alh, err)) == ST_OK && header.ts > 0)
        *tx_id = last;
    return st;
}

enum status database_truncate(struct database *db, int64_t retention_ms, uint64_t skip_upto, bool (*is_cancelled)(void *ctx), void *ctx,
                              struct truncation_result *out, struct err *err)
{
    int64_t now_s = env_wall_s(db->owner->options.env);
    struct store_truncation o = {
        .with_catalog = !database_is_replica(db), .part_before_s = day_start(now_s), .is_cancelled = is_cancelled, .ctx = ctx};
    enum status st;

    *out = (struct truncation_result){0};
    if ((st = last_before(db, day_start(now_s - retention_ms / 1000), &out->upto, err)) != ST_OK)
        return st;
    o.tx_id = out->upto == skip_upto ? 0 : out->upto;
    st = store_truncate_steps(db->store, &o, &out->freed_bytes, err);
    atomic_fetch_add_explicit(&db->truncated_bytes, out->freed_bytes, memory_order_relaxed);
    if (st != ST_OK)
        return st;
    if (out->upto == 0)
        return err_set(err, ST_NOT_FOUND, 0, "retention period has not been reached");
    if (o.tx_id == 0)
        return ST_OK;
    atomic_fetch_add_explicit(&db->truncations, 1, memory_order_relaxed);
    LOG_INFO_AT(db->owner->options.logger, "database '%s' truncated up to transaction %llu: %llu bytes freed", db->name,
                (unsigned long long)out->upto, (unsigned long long)out->freed_bytes);
    return ST_OK;
}

struct truncation_counts database_truncations(const struct database *db)
{
    return (struct truncation_counts){.truncations = atomic_load_explicit(&db->truncations, memory_order_relaxed),
                                      .bytes = atomic_load_explicit(&db->truncated_bytes, memory_order_relaxed)};
}

/* --- the thread --- */

struct truncator {
    struct databases *databases;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the wait; leaf */
    pthread_cond_t wake;
    _Atomic bool is_stopping;
    size_t truncated; /* in this round */
};

static bool is_stopping(void *ctx) { return atomic_load_explicit(&((struct truncator *)ctx)->is_stopping, memory_order_relaxed); }

/* Its settings may have changed since the last round: then it is due. */
static bool is_due(struct truncator *t, struct database *db, uint64_t now_ns)
{
    struct database_settings s;
    int64_t frequency_ms;

    database_settings_get(db, &s);
    frequency_ms = s.truncation_frequency_ms > 0 ? s.truncation_frequency_ms : TRUNCATION_FREQUENCY_DEFAULT_MS;
    if (s.retention_period_ms <= 0)
        return false;
    if (db->truncation.retention_ms != s.retention_period_ms || db->truncation.frequency_ms != frequency_ms) {
        LOG_INFO_AT(t->databases->options.logger,
                    "starting truncator for database '%s' with retention period '%llds' and truncation frequency '%llds'", db->name,
                    (long long)(s.retention_period_ms / 1000), (long long)(frequency_ms / 1000));
        db->truncation.retention_ms = s.retention_period_ms;
        db->truncation.frequency_ms = frequency_ms;
        db->truncation.due_ns = now_ns;
        db->truncation.upto = 0;
    }
    return db->truncation.due_ns <= now_ns;
}

static void truncate_due(struct truncator *t, struct database *db, uint64_t now_ns)
{
    struct truncation_result result;
    struct err err;
    enum status st;

    if ((st = database_pin(db, true, &err)) == ST_OK) {
        st = database_truncate(db, db->truncation.retention_ms, db->truncation.upto, is_stopping, t, &result, &err);
        databases_unpin(db);
    }
    if (st == ST_OK) {
        t->truncated += result.upto != db->truncation.upto;
        db->truncation.upto = result.upto;
    } else if (st != ST_NOT_FOUND && st != ST_CLOSED && st != ST_CANCELLED) {
        LOG_ERROR_AT(t->databases->options.logger, "database '%s' could not be truncated: %s", db->name, err.text);
    }
    /* A frequency of many years is none that ever passes. */
    if (__builtin_add_overflow(now_ns, (uint64_t)db->truncation.frequency_ms * MS_NS, &db->truncation.due_ns))
        db->truncation.due_ns = UINT64_MAX;
}

static bool visit(void *ctx, struct database *db)
{
    struct truncator *t = ctx;
    uint64_t now_ns = env_mono_ns(t->databases->options.env);

    if (is_stopping(t))
        return false;
    if (atomic_load_explicit(&db->has_retention, memory_order_relaxed)) {
        if (database_is_loaded(db) && is_due(t, db, now_ns))
            truncate_due(t, db, now_ns);
    } else if (db->truncation.retention_ms != 0) {
        LOG_INFO_AT(t->databases->options.logger, "truncation for database '%s' is not required any more", db->name);
        db->truncation.retention_ms = 0;
    }
    return true;
}

size_t truncator_round(struct truncator *t)
{
    t->truncated = 0;
    databases_each(t->databases, visit, t);
    return t->truncated;
}

/* Waits for the next round; false: stop. */
static bool wait_round(struct truncator *t)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ROUND_NS / 1000000000);
    pthread_mutex_lock(&t->lock);
    while (!is_stopping(t) && rc == 0)
        rc = pthread_cond_timedwait(&t->wake, &t->lock, &until);
    pthread_mutex_unlock(&t->lock);
    return !is_stopping(t);
}

static void *run(void *arg)
{
    struct truncator *t = arg;

    pthread_setname_np(pthread_self(), "truncator");
    while (wait_round(t))
        (void)truncator_round(t);
    return NULL;
}

enum status truncator_create(struct databases *d, struct truncator **out, struct err *err)
{
    struct truncator *t = calloc(1, sizeof *t);
    pthread_condattr_t attr;

    *out = NULL;
    if (t == NULL)
        return err_set(err, ST_NOMEM, 0, "starting the truncator: out of memory");
    t->databases = d;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->wake, &attr);
    pthread_condattr_destroy(&attr);
    *out = t;
    return ST_OK;
}

static void truncator_free(struct truncator *t)
{
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

enum status truncator_start(struct databases *d, struct truncator **out, struct err *err)
{
    struct truncator *t = NULL;
    sigset_t all, old;
    pthread_attr_t attr;
    enum status st;
    int rc;

    *out = NULL;
    if ((st = truncator_create(d, &t, err)) != ST_OK)
        return st;
    if ((rc = pthread_attr_init(&attr)) == 0) {
        pthread_attr_setstacksize(&attr, STACK_BYTES);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = pthread_create(&t->thread, &attr, run, t);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
    }
    if (rc != 0) {
        truncator_free(t);
        return err_set(err, ST_NOMEM, rc, "starting the truncator: %s", strerror(rc));
    }
    *out = t;
    return ST_OK;
}

void truncator_stop(struct truncator *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->is_stopping, true);
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
    if (t->thread != 0)
        pthread_join(t->thread, NULL);
    truncator_free(t);
}
