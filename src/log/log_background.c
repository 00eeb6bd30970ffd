/* What goes on beside the writer: zeroing ahead, preparing the next segment, sealing full ones, removing replaced files.
 *
 * Zeroing ahead makes a sync cheaper (no blocks to allocate, no length to journal), but costs a second write of every byte, time of the writer (who
 * waits for the file's lock meanwhile) and space: so it follows the write rate of the last seconds, and there is none while a sync carries so much
 * that what it saves does not show: an asynchronous database under load. An idle or new log has no zeros ahead. Steps begin at 64 KiB and double up to 1 MiB. The range
 * being zeroed is reserved under the write lock; a writer that reaches it waits, one that is faster simply appends behind the zeros. */
#include "log/log_internal.h"

#define ZERO_STEP_FIRST ((uint64_t)64 << 10)
#define ZERO_STEP_MAX ((uint64_t)1 << 20)
#define ZERO_AHEAD_MAX ((uint64_t)4 << 20)
#define RATE_WINDOW_NS 1000000000ull
#define RATE_SAMPLE_NS 100000000ull
#define RATE_IDLE_PER_S ((uint64_t)64 << 10)
#define SYNC_BYTES_LARGE ((uint64_t)512 << 10) /* from here on a sync is bound by its data */
#define ZERO_RETRY_NS 5000000000ull

/* Bytes per second over about the last second; maintain lock. */
static void rate_measure(struct log *l, uint64_t now_ns)
{
    uint64_t bytes = atomic_load(&l->bytes_written), syncs = atomic_load(&l->syncs), ns = now_ns - l->rate_at_ns, ahead;
    bool is_large;

    if (l->rate_at_ns == 0) {
        l->rate_at_ns = now_ns;
        l->rate_bytes = bytes;
        l->rate_syncs = syncs;
        return;
    }
    if (ns < RATE_SAMPLE_NS)
        return;
    {
        uint64_t rate = (bytes - l->rate_bytes) * 1000 / (ns / 1000000 + 1);
        uint64_t weight = ns < RATE_WINDOW_NS ? ns : RATE_WINDOW_NS;

        l->rate_per_s = (uint64_t)(((double)rate * (double)weight + (double)l->rate_per_s * (double)(RATE_WINDOW_NS - weight)) /
                                   (double)RATE_WINDOW_NS);
    }
    is_large = (bytes - l->rate_bytes) / (syncs - l->rate_syncs + 1) >= SYNC_BYTES_LARGE;
    l->rate_at_ns = now_ns;
    l->rate_bytes = bytes;
    l->rate_syncs = syncs;
    if (l->rate_per_s < RATE_IDLE_PER_S || is_large) {
        l->zero_step = 0;
        ahead = 0;
    } else {
        ahead = l->rate_per_s < ZERO_AHEAD_MAX ? l->rate_per_s : ZERO_AHEAD_MAX;
    }
    atomic_store(&l->ahead_bytes, ahead);
}

/* Reserves the next step of the active segment; 0 bytes when none is wanted. Also takes a reference, so that the segment stays. */
static uint64_t zero_reserve(struct log *l, struct segment **out, uint64_t *from)
{
    struct tail *t = &l->tail;
    struct segment *s;
    uint64_t ahead = atomic_load(&l->ahead_bytes), end, len = 0;

    pthread_mutex_lock(&l->write);
    s = t->active;
    if (s == NULL || ahead == 0)
        goto done;
    end = atomic_load(&s->end);
    *from = s->zeroed_upto > end ? s->zeroed_upto : end;
    if (*from >= end + ahead || *from >= s->capacity)
        goto done;
    l->zero_step = l->zero_step == 0 ? ZERO_STEP_FIRST : l->zero_step < ZERO_STEP_MAX ? l->zero_step * 2 : ZERO_STEP_MAX;
    len = l->zero_step < s->capacity - *from ? l->zero_step : s->capacity - *from;
    if (!segment_ref(s)) {
        len = 0;
        goto done;
    }
    t->zero_from = *from;
    t->zero_to = *from + len;
    *out = s;
done:
    pthread_mutex_unlock(&l->write);
    return len;
}

static void zero_release(struct log *l, struct segment *s, uint64_t from, uint64_t len, bool is_done)
{
    struct tail *t = &l->tail;

    pthread_mutex_lock(&l->write);
    if (is_done && s->zeroed_upto <= from)
        s->zeroed_upto = from + len;
    t->zero_from = t->zero_to = 0;
    pthread_cond_broadcast(&l->zero_done);
    pthread_mutex_unlock(&l->write);
}

/* The writer may go on as soon as the bytes are zero in memory; the sync after that makes its own ones cheap. A handle of its own: an error of
 * this sync must not hide one that the writer's sync would report. */
static enum status zero_step(struct log *l, bool *did, struct err *err)
{
    struct vfs_file *f = NULL;
    struct segment *s = NULL;
    uint64_t from = 0, len;
    enum status st;

    *did = false;
    if ((len = zero_reserve(l, &s, &from)) == 0)
        return ST_OK;
    st = l->vfs->ops->open(l->vfs, cache_file_path(s->file), VFS_WRITE, &f, err);
    if (st == ST_OK)
        st = f->ops->zero(f, from, len, err);
    zero_release(l, s, from, len, st == ST_OK);
    if (st == ST_OK)
        st = f->ops->sync(f, err);
    if (f != NULL)
        f->ops->close(f);
    segment_unref(s);
    *did = st == ST_OK;
    if (st == ST_NO_SPACE || st == ST_NOMEM) { /* writers will notice by themselves */
        l->zero_retry_at_ns = env_mono_ns(l->env) + ZERO_RETRY_NS;
        return ST_OK;
    }
    return st == ST_OK ? ST_OK : log_fail(l, st, err);
}

/* The next segment is wanted when the active one is three quarters full and writing goes on. Its table index, or 0; maintain lock. */
static size_t wanted_segment(struct log *l)
{
    const struct segment *s;
    size_t index = 0;

    pthread_mutex_lock(&l->write);
    s = l->tail.active;
    if (s != NULL && l->rate_per_s >= RATE_IDLE_PER_S && atomic_load(&s->end) >= s->capacity / 4 * 3)
        index = s->table_index + 1;
    pthread_mutex_unlock(&l->write);
    return index;
}

static enum status prepare_step(struct log *l, struct err *err)
{
    size_t index = wanted_segment(l);
    enum status st = ST_OK;

    if (index == 0)
        return ST_OK;
    pthread_mutex_lock(&l->prepare);
    if (table_count(l) == index)
        st = segment_prepare(l, err);
    pthread_mutex_unlock(&l->prepare);
    return st == ST_NO_SPACE ? ST_OK : st;
}

enum status log_seal_full(struct log *l, struct err *err)
{
    enum status st = ST_OK;
    bool done = true;

    for (size_t i = 0; i < table_count(l) && st == ST_OK && done; i++) {
        struct segment *s = table_at(l, i);

        if (s->map_old != NULL)
            map_retire(s); /* a reader was looking at it last time */
        if (atomic_load(&s->is_sealed) || s->footer_is_damaged)
            continue;
        st = segment_seal(l, s, &done, err);
    }
    return st == ST_NO_SPACE ? ST_OK : st;
}

enum status log_advance_background(struct log *l, struct err *err)
{
    enum { ZERO_STEPS_MAX = 4 };
    bool did = true;
    uint64_t now_ns;
    enum status st;

    if ((st = log_check_writable(l, err)) != ST_OK)
        return st;
    pthread_mutex_lock(&l->maintain);
    now_ns = env_mono_ns(l->env);
    rate_measure(l, now_ns);
    for (int i = 0; i < ZERO_STEPS_MAX && did && st == ST_OK && now_ns >= l->zero_retry_at_ns; i++)
        st = zero_step(l, &did, err);
    if (st == ST_OK)
        st = prepare_step(l, err);
    if (st == ST_OK)
        st = log_seal_full(l, err);
    segments_reap(l);
    pthread_mutex_unlock(&l->maintain);
    return st;
}

bool log_wants_background(struct log *l)
{
    uint64_t ahead = atomic_load(&l->ahead_bytes);
    bool wants = false;

    if (l->is_damaged || atomic_load(&l->is_failed))
        return false;
    pthread_mutex_lock(&l->write);
    if (l->tail.active != NULL) {
        const struct segment *s = l->tail.active;
        uint64_t end = atomic_load(&s->end), zeroed = s->zeroed_upto > end ? s->zeroed_upto : end;

        /* Bytes were written since the rate was measured, or zeros run short. */
        wants = atomic_load(&l->bytes_written) - atomic_load(&l->rate_bytes) >= ZERO_STEP_FIRST ||
                (ahead > 0 && zeroed < s->capacity && zeroed < end + ahead / 2);
        if (s->table_index > 0) {
            const struct segment *before = table_at(l, s->table_index - 1);

            wants = wants || (before->state == SEGMENT_FULL &&
                              atomic_load(&before->first_tx) + atomic_load(&before->tx_count) - 1 <= l->tail.synced_committed);
        }
    }
    pthread_mutex_unlock(&l->write);
    return wants;
}
