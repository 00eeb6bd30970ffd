/* Opening and closing a database.
 *
 * Order of opening: folder, is it one that lost its log, lock, what index and tree vouch for, log (which may cut a torn tail, never what they vouch for), tree, index,
 * recovery. A new database is durable - files and folders, the parent included - before store_open() returns.
 *
 * Closing: no new drafts; the queue is driven to its end; what is still precommitted stays so in the log; the index is written only when
 * replaying it would take long; then the close mark. */
#include "store/store_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "log/log_identity.h"

enum {
    CLOSE_POLL_NS = 200000,
    CLOSE_TRIES_MAX = 25000 /* 5 s: short memory may last */,
    SMALL_TAIL_TXS = 1000,
    MEMTABLE_BYTES_DEFAULT = 64 << 20,
    MEMTABLE_BYTES_LEAST = 64 << 10
};

/* --- options --- */
static void options_fill(struct store *s, const struct store_options *from)
{
    struct store_options *o = &s->o;
    size_t share = from->runtime->budget.share[BUDGET_MEMTABLE];

    *o = *from;
    o->dir = s->dir;
    if (o->tx_entries_max == 0)
        o->tx_entries_max = 1024;
    if (o->key_len_max == 0)
        o->key_len_max = 1024;
    if (o->value_len_max == 0)
        o->value_len_max = 32u << 20;
    if (o->read_set_max == 0)
        o->read_set_max = 100000;
    if (o->waiters_max == 0)
        o->waiters_max = 1000;
    if (o->tx_bytes_max == 0)
        o->tx_bytes_max = (uint64_t)1 << 30;
    if (o->batch_bytes_max == 0)
        o->batch_bytes_max = (size_t)4 << 20;
    if (o->batch_txs_max == 0)
        o->batch_txs_max = 4096;
    if (o->async_sync_interval_ns == 0)
        o->async_sync_interval_ns = 20000000;
    if (o->memtable_bytes_max == 0)
        o->memtable_bytes_max = share / 4 < MEMTABLE_BYTES_DEFAULT ? share / 4 : MEMTABLE_BYTES_DEFAULT;
    if (o->memtable_bytes_max < MEMTABLE_BYTES_LEAST)
        o->memtable_bytes_max = MEMTABLE_BYTES_LEAST;
    /* A precommitted tx is reported to others: it must be durable. */
    if (o->external_commit)
        o->durability = STORE_DURABLE;
    s->queue_bytes_max = from->runtime->budget.share[BUDGET_QUEUE];
}

static enum status options_check(const struct store_options *o, struct err *err)
{
    if (o->runtime == NULL || o->dir == NULL || o->dir[0] == '\0')
        return err_set(err, ST_INVALID, 0, "a database needs a runtime and a directory");
    if (o->tx_version > TX_VERSION_MAX)
        return err_set(err, ST_INVALID, 0, "transaction header version %u", o->tx_version);
    if (o->key_len_max > UINT16_MAX)
        return err_set(err, ST_INVALID, 0, "key length limit %u is above %u", o->key_len_max, UINT16_MAX);
    return ST_OK;
}

/* --- folder and lock --- */
static void parent_of(const char *dir, char out[PATH_BYTES_MAX])
{
    size_t len = strlen(dir);

    while (len > 1 && dir[len - 1] == '/')
        len--;
    while (len > 0 && dir[len - 1] != '/')
        len--;
    while (len > 1 && dir[len - 1] == '/')
        len--;
    if (len == 0)
        snprintf(out, PATH_BYTES_MAX, ".");
    else
        snprintf(out, PATH_BYTES_MAX, "%.*s", (int)len, dir);
}

static enum status dir_make(struct store *s, struct err *err)
{
    struct vfs *v = s->runtime->vfs;
    char parent[PATH_BYTES_MAX];
    enum status st;

    if (!s->o.create)
        return ST_OK;
    if (strlen(s->dir) >= PATH_BYTES_MAX)
        return err_set(err, ST_LIMIT, 0, "path of %zu bytes", strlen(s->dir));
    st = v->ops->mkdir(v, s->dir, err);
    if (st != ST_OK && st != ST_EXISTS)
        return st;
    /* Also when it was there: an earlier attempt may have ended right here. */
    parent_of(s->dir, parent);
    return v->ops->sync_dir(v, parent, err);
}

static enum status lock_busy(struct vfs *v, const char *path, struct err *err)
{
    uint8_t *text = NULL;
    size_t len = 0;
    unsigned long pid = 0;

    if (vfs_read_all(v, path, 32, &text, &len, NULL) == ST_OK)
        for (size_t i = 0; i < len && text[i] >= '0' && text[i] <= '9' && pid < 1000000000; i++)
            pid = pid * 10 + (unsigned long)(text[i] - '0');
    free(text);
    return err_set(err, ST_BUSY, 0, "database directory is in use by process %lu", pid);
}

static enum status lock_take(struct store *s, struct err *err)
{
    struct vfs *v = s->runtime->vfs;
    char path[PATH_BYTES_MAX], pid[32];
    enum status st;

    if ((st = vfs_path(path, err, s->dir, "LOCK")) != ST_OK)
        return st;
    if ((st = v->ops->open(v, path, VFS_WRITE | VFS_CREATE, &s->lock_file, err)) != ST_OK)
        return st;
    st = s->lock_file->ops->lock(s->lock_file, err);
    if (st == ST_BUSY)
        return lock_busy(v, path, err);
    if (st != ST_OK || s->o.read_only)
        return st;
    snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if ((st = s->lock_file->ops->truncate(s->lock_file, 0, err)) == ST_OK)
        st = vfs_write_at(s->lock_file, 0, pid, strlen(pid), err);
    /* The pid only informs: a full disk must not keep a database from being read. */
    return st == ST_NO_SPACE ? ST_OK : st;
}

/* --- parts --- */
static enum status alh_of_leaf(void *ctx, uint64_t n, hash_t *out, struct err *err) { return store_alh(ctx, n, out, err); }

enum status tree_make(struct store *s, uint64_t size_max, struct err *err)
{
    char dir[PATH_BYTES_MAX];
    struct tree_options o = {
        .vfs = s->runtime->vfs, .cache = s->runtime->cache, .budget = &s->runtime->budget, .dir = dir, .alh_of = alh_of_leaf, .ctx = s};
    enum status st = vfs_path(dir, err, s->dir, "tree");

    memcpy(o.uuid, s->uuid, sizeof o.uuid);
    return st != ST_OK ? st : tree_open(&o, size_max, &s->tree, err);
}

static enum status index_make(struct store *s, uint64_t tx_id_max, struct err *err)
{
    char dir[PATH_BYTES_MAX];
    struct index_options o = {.vfs = s->runtime->vfs,
                              .cache = s->runtime->cache,
                              .budget = &s->runtime->budget,
                              .env = s->env,
                              .dir = dir,
                              .memtable_bytes_max = s->o.memtable_bytes_max,
                              .runs_max = 6};
    enum status st = vfs_path(dir, err, s->dir, "index");

    memcpy(o.uuid, s->uuid, sizeof o.uuid);
    return st != ST_OK ? st : index_open(&o, tx_id_max, &s->index, err);
}

/* Index and tree on disk hold nothing that was not durable in the log: what they reach to must be there. Their checksums need the uuid,
 * which the log's manifest or its segments tell before the log is opened; without one nothing is vouched for. */
static enum status vouched_find(struct store *s, const char *log_dir, uint64_t *vouched, struct err *err)
{
    bool is_found = false;
    enum status st;

    *vouched = 0;
    if ((st = log_identity(s->runtime->vfs, log_dir, s->uuid, &is_found, err)) == ST_OK && !is_found)
        return ST_OK;
    if (st == ST_OK)
        st = index_make(s, UINT64_MAX, err);
    if (st == ST_OK) {
        *vouched = index_published(s->index);
        index_close(s->index);
        s->index = NULL;
        st = tree_make(s, UINT64_MAX, err);
    }
    if (st == ST_OK) {
        if (tree_size(s->tree) > *vouched)
            *vouched = tree_size(s->tree);
        tree_close(s->tree);
        s->tree = NULL;
    }
    return st;
}

static void report_tell(struct store *s, const struct log_report *r)
{
    if (r->torn_bytes > 0 && r->torn_first_tx > 0)
        env_log(s->env, LOG_WARN,
                "database %s: %llu bytes of unfinished writes were cut from the log; unacknowledged transactions %llu to %llu are gone", s->dir,
                (unsigned long long)r->torn_bytes, (unsigned long long)r->torn_first_tx, (unsigned long long)r->torn_last_tx);
    else if (r->torn_bytes > 0)
        env_log(s->env, LOG_INFO, "database %s: %llu bytes of unfinished writes were cut from the log", s->dir, (unsigned long long)r->torn_bytes);
    if (!r->is_damaged)
        return;
    atomic_store(&s->is_damaged, true);
    s->end_is_lost = r->end_is_lost;
    store_set_health_text(s, "read-only: %s", r->damage);
    env_log(s->env, LOG_ERROR, "database %s is read-only: %s", s->dir, r->damage);
}

static enum status parts_open(struct store *s, struct err *err)
{
    struct runtime *rt = s->runtime;
    char log_dir[PATH_BYTES_MAX];
    struct log_options o = {.vfs = rt->vfs,
                            .cache = rt->cache,
                            .budget = &rt->budget,
                            .env = s->env,
                            .dir = log_dir,
                            .create = s->o.create,
                            .segment_bytes_first = s->o.segment_bytes_first,
                            .segment_bytes_max = s->o.segment_bytes_max};
    struct log_report report = {0};
    uint64_t committed;
    enum status st;

    if ((st = vfs_path(log_dir, err, s->dir, "log")) != ST_OK)
        return st;
    if ((st = vouched_find(s, log_dir, &o.vouched_tx_id, err)) != ST_OK || (st = log_open(&o, &s->log, &report, err)) != ST_OK)
        return st;
    memcpy(s->uuid, log_uuid(s->log), sizeof s->uuid);
    report_tell(s, &report);
    committed = report.committed_upto < report.precommitted_upto ? report.committed_upto : report.precommitted_upto;
    if ((st = tree_make(s, committed, err)) != ST_OK)
        return st;
    /* A damaged database is left as it is: runs beyond the log's end are not dropped from it, only not looked at. */
    if ((st = index_make(s, report.is_damaged ? UINT64_MAX : committed, err)) != ST_OK)
        return st;
    if (s->o.create && (st = rt->vfs->ops->sync_dir(rt->vfs, s->dir, err)) != ST_OK)
        return st;
    return recover(s, &report, err);
}

/* --- life --- */
static void timer_fired(struct timer *t)
{
    struct store *s = (struct store *)((char *)t - offsetof(struct store, timer));

    role_kick(s);
}

static void maintenance_timer_fired(struct timer *t)
{
    struct store *s = (struct store *)((char *)t - offsetof(struct store, maintenance_timer));

    maintenance_kick(s);
}

static void locks_init(struct store *s)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&s->wait_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wait_cond, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->health_lock, NULL);
    pthread_mutex_init(&s->maintenance_lock, NULL);
    for (unsigned i = 0; i < SNAPSHOT_SHARDS; i++)
        pthread_mutex_init(&s->snapshots[i].lock, NULL);
}

static void store_free(struct store *s, bool is_clean)
{
    index_rebuild_abort(s->rebuild);
    index_close(s->index);
    tree_close(s->tree);
    if (s->log != NULL)
        log_close(s->log, is_clean);
    if (s->lock_file != NULL)
        s->lock_file->ops->close(s->lock_file);
    recent_stop(&s->c.recent);
    free(s->c.pending);
    for (unsigned i = 0; i < SNAPSHOT_SHARDS; i++)
        pthread_mutex_destroy(&s->snapshots[i].lock);
    pthread_mutex_destroy(&s->maintenance_lock);
    pthread_mutex_destroy(&s->health_lock);
    pthread_cond_destroy(&s->wait_cond);
    pthread_mutex_destroy(&s->wait_lock);
    free(s->dir);
    free(s);
}

enum status store_open(const struct store_options *o, struct store **out, struct err *err)
{
    struct store *s = NULL;
    uint64_t seed;
    enum status st;

    *out = NULL;
    if ((st = options_check(o, err)) != ST_OK)
        return st;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return err_set(err, ST_NOMEM, 0, "opening database %s", o->dir);
    s->runtime = o->runtime;
    s->env = o->runtime->env;
    locks_init(s);
    s->timer.fire = timer_fired;
    s->maintenance_timer.fire = maintenance_timer_fired;
    s->maintenance_job.run = maintenance_run;
    s->drive_job.run = role_drive_job;
    s->sync.job.run = batch_sync_job;
    atomic_store(&s->indexed_limit, UINT64_MAX);
    atomic_store(&s->recent_floor, UINT64_MAX);
    env_random(s->env, &seed, sizeof seed);
    recent_init(&s->c.recent, seed);
    s->entry_trees_id = cache_new_id(s->runtime->cache);
    s->dir = strdup(o->dir);
    if (s->dir == NULL) {
        st = err_set(err, ST_NOMEM, 0, "opening a database");
        goto done;
    }
    options_fill(s, o);
    if ((st = dir_make(s, err)) != ST_OK || (st = lost_log_check(s, err)) != ST_OK || (st = lock_take(s, err)) != ST_OK ||
        (st = parts_open(s, err)) != ST_OK)
        goto done;
    state_publish(s);
    *out = s;
    if (atomic_load(&s->indexed_limit) != UINT64_MAX || tree_is_rebuilding(s))
        maintenance_kick(s);
    s = NULL;
done:
    if (s != NULL)
        store_free(s, false);
    return st == ST_OK ? ST_OK : err_while(err, st, "opening database %s", o->dir);
}

static void poll_pause(void)
{
    struct timespec pause = {0, CLOSE_POLL_NS};

    nanosleep(&pause, NULL);
}

/* Precommitted txs stay what they are; whoever waits for them is told. */
static void pending_close(struct store *s)
{
    struct committer *c = &s->c;
    struct store_draft *d;
    struct err err;

    (void)err_set(&err, ST_CLOSED, 0, "already closed");
    for (uint64_t id = c->applied_tx + 1; id <= c->ordered_tx; id++) {
        struct pending *p = pending_at(s, id);

        if (p->draft != NULL)
            draft_complete(p->draft, ST_CLOSED, &err);
        p->draft = NULL;
    }
    while ((d = list_pop(&c->finished)) != NULL || (d = list_pop(&c->refused)) != NULL || (d = list_pop(&c->syncs)) != NULL)
        draft_complete(d, ST_CLOSED, &err);
    role_wake_sleepers(s);
}

static bool close_flush(struct store *s)
{
    uint64_t durable = atomic_load(&s->durable_tx);
    struct err err;

    if (s->o.read_only || atomic_load(&s->is_failed) || atomic_load(&s->is_damaged))
        return false;
    /* Not for a handful: many small runs would have to be merged again. */
    if (durable - index_flushed(s->index) > SMALL_TAIL_TXS && maintenance_flush(s, true, &err) != ST_OK)
        env_log(s->env, LOG_WARN, "database %s: index not written at close: %s", s->dir, err.text);
    return s->c.ordered_tx == s->c.durable_tx && s->c.unsynced_since_ns == 0;
}

void store_close(struct store *s)
{
    unsigned tries = 0;
    bool is_clean;

    if (s == NULL)
        return;
    atomic_store(&s->is_closing, true);
    state_wake_waiters(s);
    /* The queue runs dry by itself: whoever holds the role drives it, and a kick takes it when nobody does. Drafts of precommitted txs
     * have nobody to finish them any more; closing takes the role for good to answer them. */
    while (!role_take_dry(s, tries > CLOSE_TRIES_MAX && atomic_load(&s->queue_length) == 0)) {
        role_kick(s);
        poll_pause();
        tries++;
    }
    pending_close(s);
    alarm_cancel(s->runtime->timers, &s->timer);
    alarm_cancel(s->runtime->timers, &s->maintenance_timer);
    index_cancel(s->index);
    while (atomic_load(&s->users) > 0)
        poll_pause();
    /* A job that was still running may have armed one once more; nobody is left now. */
    alarm_cancel(s->runtime->timers, &s->timer);
    alarm_cancel(s->runtime->timers, &s->maintenance_timer);
    is_clean = close_flush(s);
    store_free(s, is_clean);
}
