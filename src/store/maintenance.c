/* Work in the background, on the runtime's one maintenance thread, in steps short enough for other databases to have their turn: zeroing ahead
 * and sealing, rebuilding, writing tree pages and index runs, merging.
 *
 * What recovery would have to replay is bounded here: when TAIL_TXS_MAX txs or TAIL_BYTES_MAX of log are nearly reached since the last flush,
 * everything is flushed. Nothing above min(committed, synced) is ever written.
 *
 * A database that is read-only - opened so, damaged, or after a failed write - is left on the disk as it is: nothing is flushed or merged on its own. Only
 * what reads need is brought back, the index; while that goes on, memtables that are full become runs, since memory is bounded.
 *
 * Lock: 20 store.maintenance, held through a step: truncation, compaction and explicit flushes take it too. */
#include "store/store_internal.h"

enum { TREE_STEP_TXS = 4096 };

static bool is_read_only(struct store *s) { return s->o.read_only || atomic_load(&s->is_damaged) || atomic_load(&s->is_failed); }

/* Is recovery's share about to grow too large? */
static bool tail_is_long(struct store *s)
{
    uint64_t durable = atomic_load(&s->durable_tx), flushed = index_flushed(s->index);

    if (flushed >= durable)
        return false;
    return durable - flushed >= TAIL_TXS_MAX / 4 * 3 || log_bytes_written(s->log) - s->flushed_bytes >= TAIL_BYTES_MAX / 4 * 3;
}

/* Not of a tree that was found to be wrong. */
static enum status tree_pages_flush(struct store *s, uint64_t durable, struct err *err)
{
    return atomic_load(&s->tree_is_stopped) ? ST_OK : tree_flush(s->tree, durable, true, err);
}

enum status maintenance_flush(struct store *s, bool everything, struct err *err)
{
    uint64_t durable = atomic_load(&s->durable_tx), written = log_bytes_written(s->log);
    uint64_t upto = durable < index_published(s->index) ? durable : index_published(s->index);
    enum status st;

    if ((st = tree_pages_flush(s, durable, err)) != ST_OK || (st = index_flush(s->index, upto, everything, err)) != ST_OK)
        return st;
    if (everything)
        s->flushed_bytes = written;
    return ST_OK;
}

/* Of a read-only database. Without a rebuild it only lets go of what nobody reads any more. */
static enum status memtables_flush(struct store *s, struct err *err)
{
    uint64_t durable = atomic_load(&s->durable_tx), published = index_published(s->index);
    bool is_rebuilding = atomic_load(&s->indexed_limit) != UINT64_MAX;

    if (!index_wants_flush(s->index))
        return ST_OK;
    return index_flush(s->index, !is_rebuilding ? 0 : durable < published ? durable : published, false, err);
}

static enum status maintenance_step(struct store *s, bool *more, struct err *err)
{
    bool was_read_only = is_read_only(s), is_long = tail_is_long(s), merge_more = false, rebuild_more = false;
    enum status st = ST_OK;

    *more = false;
    if (!was_read_only && (st = log_advance_background(s->log, err)) != ST_OK)
        return st;
    if ((st = rebuild_find_gaps(s, err)) != ST_OK || (st = rebuild_step(s, &rebuild_more, err)) != ST_OK)
        return st;
    if (was_read_only) {
        *more = rebuild_more;
        return memtables_flush(s, err);
    }
    if (is_long || index_wants_flush(s->index)) {
        if ((st = maintenance_flush(s, is_long, err)) != ST_OK)
            return st;
    } else if (!tree_is_rebuilding(s) && atomic_load(&s->durable_tx) - tree_flushed(s->tree) >= TREE_STEP_TXS) {
        if ((st = tree_pages_flush(s, atomic_load(&s->durable_tx), err)) != ST_OK)
            return st;
    }
    if (index_wants_merge(s->index))
        st = index_merge(s->index, &merge_more, err);
    *more = st == ST_OK && (merge_more || rebuild_more);
    return st;
}

static void maintenance_failed(struct store *s, enum status st, const struct err *err)
{
    if (st == ST_CANCELLED && atomic_load(&s->is_closing)) /* closing has stopped a merge */
        return;
    if (st == ST_CORRUPT && !atomic_exchange(&s->is_damaged, true)) {
        store_set_health_text(s, "read-only: %s", err->text);
        env_log(s->env, LOG_ERROR, "database %s is read-only: %s", s->dir, err->text);
        return;
    }
    if (!atomic_exchange(&s->maintenance_failing, true))
        env_log(s->env, LOG_WARN, "database %s: work in the background will be tried again: %s", s->dir, err->text);
    if (!atomic_load(&s->is_failed))
        alarm_arm(s->runtime->timers, &s->maintenance_timer, env_mono_ns(s->env) + MAINTENANCE_RETRY_NS);
}

void maintenance_run(struct pool_job *job)
{
    struct store *s = (struct store *)((char *)job - offsetof(struct store, maintenance_job));
    bool more = false;
    struct err err;
    enum status st = ST_OK;

    atomic_store(&s->maintenance_queued, false);
    if (!atomic_load(&s->is_closing)) {
        pthread_mutex_lock(&s->maintenance_lock);
        st = maintenance_step(s, &more, &err);
        pthread_mutex_unlock(&s->maintenance_lock);
    }
    if (st == ST_OK)
        atomic_store(&s->maintenance_failing, false);
    else
        maintenance_failed(s, st, &err);
    if (more)
        maintenance_kick(s);
    store_unuse(s);
}

void maintenance_kick(struct store *s)
{
    if (atomic_load_explicit(&s->maintenance_queued, memory_order_relaxed) || atomic_load(&s->is_closing))
        return;
    store_use(s);
    if (atomic_exchange(&s->maintenance_queued, true))
        store_unuse(s);
    else
        pool_submit(s->runtime->maintenance_pool, &s->maintenance_job);
}

/* --- public --- */
enum status store_maintain(struct store *s, bool *more, struct err *err)
{
    enum status st;

    store_use(s);
    pthread_mutex_lock(&s->maintenance_lock);
    st = maintenance_step(s, more, err);
    pthread_mutex_unlock(&s->maintenance_lock);
    store_unuse(s);
    return st;
}

enum status store_flush_index(struct store *s, struct err *err)
{
    enum status st = store_writable(s, err);

    if (st != ST_OK || (st = store_sync(s, err)) != ST_OK)
        return st;
    store_use(s);
    pthread_mutex_lock(&s->maintenance_lock);
    st = maintenance_flush(s, true, err);
    pthread_mutex_unlock(&s->maintenance_lock);
    store_unuse(s);
    return st;
}

enum status store_compact_index(struct store *s, struct err *err)
{
    enum status st = store_flush_index(s, err);

    if (st != ST_OK)
        return st;
    store_use(s);
    pthread_mutex_lock(&s->maintenance_lock);
    st = index_compact(s->index, err);
    pthread_mutex_unlock(&s->maintenance_lock);
    store_unuse(s);
    return st;
}
