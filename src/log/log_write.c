/* The tail of the log: writing frames, opening segments, syncing.
 *
 * Invariants
 *   - A frame is written only behind frames of the same segment that were written completely, and into a segment only after the one before it
 *     is synced as a whole. So the frames that may be missing after a power cut are the last ones of one segment (and all of its followers).
 *   - synced_batch in a frame is what was durable before it was written: recovery rests on it (docs/format.md, "What recovery may cut").
 *   - Whatever a failed write left behind is wiped before anybody may write there again; where that fails too, and after any failed sync, the
 *     log refuses writes until it is opened again.
 *   - A segment's file, its header, its name and its line in the manifest are durable before the first frame goes into it. */
#include "log/log_internal.h"

#include <assert.h>
#include <stdlib.h>

enum status log_fail(struct log *l, enum status st, const struct err *err)
{
    pthread_mutex_lock(&l->table_change);
    if (!atomic_load(&l->is_failed)) {
        snprintf(l->failure, sizeof l->failure, "%.*s", (int)sizeof l->failure - 1, err == NULL ? status_name(st) : err->text);
        atomic_store(&l->is_failed, true);
        env_log(l->env, LOG_ERROR, "log %s refuses writes from now on: %s", l->dir, l->failure);
    }
    pthread_mutex_unlock(&l->table_change);
    return st;
}

enum status log_check_writable(struct log *l, struct err *err)
{
    if (l->is_damaged)
        return err_set(err, ST_READ_ONLY, 0, "log is damaged and was opened read-only");
    if (atomic_load(&l->is_failed))
        return err_set(err, ST_READ_ONLY, 0, "log failed before: %s", l->failure);
    return ST_OK;
}

/* --- new segments --- */

static enum status segment_file_create(struct log *l, struct segment *s, struct err *err)
{
    struct segment_header h = {
        .segment_no = s->no, .generation = s->generation, .values_removed = s->values_removed, .created_ns = env_wall_ns(l->env)};
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    enum status st;

    memcpy(h.uuid, l->uuid, LOG_UUID_LEN);
    memcpy(h.salt, s->salt, LOG_SALT_LEN);
    segment_header_encode(&h, bytes);
    /* A leftover of an earlier attempt may be there: it was never in the manifest. */
    if ((st = l->vfs->ops->open(l->vfs, cache_file_path(s->file), VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &s->out, err)) != ST_OK)
        return st;
    if ((st = vfs_write_at(s->out, 0, bytes, sizeof bytes, err)) != ST_OK)
        return st;
    if ((st = s->out->ops->sync(s->out, err)) != ST_OK)
        return st;
    return l->vfs->ops->sync_dir(l->vfs, l->dir, err);
}

enum status segment_prepare(struct log *l, struct err *err)
{
    size_t index = table_count(l);
    struct manifest_entry e = {.segment_no = index + 1};
    struct segment *s = NULL;
    enum status st;

    if (index >= SEGMENT_NO_MAX)
        return err_set(err, ST_LIMIT, 0, "log has %zu segments", index);
    env_random(l->env, e.salt, LOG_SALT_LEN);
    if ((st = segment_new(l, index + 1, 0, e.salt, false, &s, err)) != ST_OK)
        goto done;
    if ((st = segment_file_create(l, s, err)) != ST_OK)
        goto done;
    if ((st = table_reserve(l, err)) != ST_OK)
        goto done;
    pthread_mutex_lock(&l->manifest_lock);
    st = manifest_append(&l->manifest, l->vfs, l->dir, &e, err);
    pthread_mutex_unlock(&l->manifest_lock);
    if (st != ST_OK)
        goto done;
    table_append(l, s);
    s = NULL;
done:
    segment_free(s);
    if (st != ST_OK && st != ST_NO_SPACE && st != ST_NOMEM)
        log_fail(l, st, err);
    return st;
}

/* The segment after the active one, made when it is not there yet. */
static enum status segment_next(struct log *l, size_t index, struct segment **out, struct err *err)
{
    enum status st = ST_OK;

    pthread_mutex_lock(&l->prepare);
    if (index >= table_count(l))
        st = segment_prepare(l, err);
    *out = table_at(l, index);
    pthread_mutex_unlock(&l->prepare);
    return st;
}

static enum status segment_open_out(struct log *l, struct segment *s, struct err *err)
{
    return s->out != NULL ? ST_OK : l->vfs->ops->open(l->vfs, cache_file_path(s->file), VFS_WRITE, &s->out, err);
}

struct end_mark log_end_mark(const struct log *l)
{
    const struct tail *t = &l->tail;
    struct end_mark m = {.batch = t->last_batch, .chain = t->chain, .tx_id = t->last_tx, .is_close = t->last_is_close};

    memcpy(m.uuid, l->uuid, LOG_UUID_LEN);
    if (t->active != NULL) {
        m.segment_no = t->active->no;
        m.offset = atomic_load(&t->active->end);
    }
    return m;
}

enum status log_note_end(struct log *l, const struct end_mark *m, struct err *err)
{
    struct err why;
    enum status st = end_mark_write(&l->end, l->vfs, l->dir, m, false, &why);

    if (st == ST_NO_SPACE || st == ST_NOMEM) { /* costs later knowledge only */
        if (!l->end.is_failing)
            env_log(l->env, LOG_WARN, "log %s: END cannot be written: %s", l->dir, why.text);
        l->end.is_failing = true;
        return ST_OK;
    }
    l->end.is_failing = false;
    return st == ST_OK ? ST_OK : err_set(err, st, why.os_errno, "%s; while writing log/END", why.text);
}

static void segment_activate(struct log *l, struct segment *s)
{
    struct tail *t = &l->tail;

    assert(s->state == SEGMENT_PREPARED);
    s->state = SEGMENT_ACTIVE;
    s->first_batch = t->last_batch + 1;
    s->last_batch = t->last_batch;
    s->chain_begin = s->chain_end = t->chain;
    table_set_first_tx(l, s, t->last_tx + 1);
    t->active = s;
}

static bool frame_fits(const struct segment *s, uint64_t frame_len)
{
    uint64_t end = atomic_load_explicit(&s->end, memory_order_relaxed);

    /* An empty segment takes a frame of any length. */
    return end == SEGMENT_HEADER_BYTES || end + frame_align(frame_len) <= s->capacity;
}

enum status log_roll(struct log *l, uint64_t frame_len, bool is_forced, struct err *err)
{
    struct tail *t = &l->tail;
    struct segment *s, *next = NULL;
    struct end_mark end;
    enum status st = ST_OK;
    size_t next_index;

    pthread_mutex_lock(&l->sync);
    pthread_mutex_lock(&l->write);
    s = t->active;
    if (s != NULL && !is_forced && frame_fits(s, frame_len))
        goto done; /* somebody else was faster */
    if (s != NULL && t->synced_batch < t->last_batch) {
        if (t->reprove_len > 0)
            st = vfs_write_at(s->out, atomic_load(&s->end) - t->reprove_len, t->reprove, t->reprove_len, err);
        if (st == ST_NO_SPACE || st == ST_NOMEM) /* the same bytes as before: it may be tried again */
            goto done;
        if (st != ST_OK || (st = s->out->ops->sync(s->out, err)) != ST_OK) {
            log_fail(l, st, err);
            goto done;
        }
        t->reprove_len = 0;
        atomic_fetch_add(&l->syncs, 1);
        t->synced_batch = t->last_batch;
        t->synced_tx = t->last_tx;
        t->synced_committed = t->committed_written;
        end = log_end_mark(l);
        if ((st = log_note_end(l, &end, err)) != ST_OK) {
            log_fail(l, st, err);
            goto done;
        }
    }
    for (next_index = s == NULL ? 0 : s->table_index + 1; s == NULL && next_index < table_count(l); next_index++)
        if (table_at(l, next_index)->state == SEGMENT_PREPARED)
            break;
    if ((st = segment_next(l, next_index, &next, err)) != ST_OK)
        goto done;
    if ((st = segment_open_out(l, next, err)) != ST_OK)
        goto done;
    if (s != NULL) {
        s->state = SEGMENT_FULL;
        s->end_tx = t->last_tx;
        /* Without memory the footer does without: only the time of a later rebuild is lost. */
        if (t->frontier.size > 0 && (s->frontier = malloc(sizeof *s->frontier)) != NULL)
            *s->frontier = t->frontier;
    }
    segment_activate(l, next);
done:
    pthread_mutex_unlock(&l->write);
    pthread_mutex_unlock(&l->sync);
    return st;
}

/* --- frames --- */

/* Takes back what a failed write may have left at the tail, so that it can never be taken for a frame. */
static enum status tail_wipe(struct segment *s, uint64_t at, struct err *err)
{
    static const uint8_t zeros[FRAME_ALIGN * 2];
    struct err ignored;

    if (at + sizeof zeros <= s->zeroed_upto && vfs_write_at(s->out, at, zeros, sizeof zeros, &ignored) == ST_OK)
        return ST_OK;
    if (s->zeroed_upto > at)
        s->zeroed_upto = at;
    return s->out->ops->truncate(s->out, at, err);
}

static void wait_for_zeroing(struct log *l, uint64_t from, uint64_t to)
{
    struct tail *t = &l->tail;

    while (t->zero_to > t->zero_from && from < t->zero_to && to > t->zero_from)
        pthread_cond_wait(&l->zero_done, &l->write);
}

enum status log_write_frame(struct log *l, const struct frame_header *h, struct vfs_iovec *parts, size_t part_count, struct err *err)
{
    struct tail *t = &l->tail;
    struct segment *s = t->active;
    uint64_t at = atomic_load_explicit(&s->end, memory_order_relaxed), end = at + frame_align(h->len), from = at;
    enum status st;

    wait_for_zeroing(l, at, end);
    assert(t->reprove_len == 0 || at - t->reprove_len >= SEGMENT_HEADER_BYTES);
    if (t->reprove_len > 0) {
        from -= t->reprove_len;
        parts[0] = (struct vfs_iovec){t->reprove, t->reprove_len};
    } else {
        parts++;
        part_count--;
    }
    if ((st = s->out->ops->write(s->out, from, parts, part_count, err)) != ST_OK) {
        struct err wipe_err;

        if ((st != ST_NO_SPACE && st != ST_NOMEM) || tail_wipe(s, at, &wipe_err) != ST_OK)
            log_fail(l, st, err);
        return st;
    }
    t->reprove_len = 0;
    t->last_batch = s->last_batch = h->batch;
    t->chain = s->chain_end = h->header_crc;
    t->vouched_batch = h->synced_batch;
    if (h->committed_upto > t->committed_written)
        t->committed_written = h->committed_upto;
    if (h->record_count > 0)
        t->data_batch = h->batch;
    t->last_is_close = (h->flags & FRAME_FLAG_CLOSE) != 0;
    atomic_store_explicit(&s->end, end, memory_order_release);
    if (end > s->zeroed_upto)
        s->zeroed_upto = end;
    atomic_fetch_add_explicit(&l->bytes_written, end - at, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->frames_written, 1, memory_order_relaxed);
    return ST_OK;
}

static struct frame_header next_frame(const struct log *l, uint64_t len)
{
    const struct tail *t = &l->tail;

    return (struct frame_header){
        .prev_crc = t->chain, .len = len, .batch = t->last_batch + 1, .committed_upto = t->committed, .synced_batch = t->synced_batch};
}

/* Offsets of the batch's txs become findable. */
static void batch_take_offsets(struct log *l, struct segment *s, uint64_t frame_at)
{
    struct batch *b = &l->batch;
    uint64_t count = atomic_load_explicit(&s->tx_count, memory_order_relaxed);

    for (size_t i = 0; i < b->tx_count; i++)
        map_set(s, count + i, (uint32_t)((frame_at + b->txs[i].at) / OFFSET_UNIT), b->txs[i].ts);
    atomic_store_explicit(&s->tx_count, count + b->tx_count, memory_order_release);
    if (b->tx_count > 0) {
        l->tail.last_tx = b->last_tx_id;
        atomic_store_explicit(&l->last_tx, b->last_tx_id, memory_order_release);
    }
}

/* write lock held, the frame fits. */
static enum status batch_write_here(struct log *l, uint64_t committed_upto, struct err *err)
{
    struct batch *b = &l->batch;
    struct tail *t = &l->tail;
    struct segment *s = t->active;
    uint64_t at = atomic_load_explicit(&s->end, memory_order_relaxed);
    struct frame_header h;
    size_t part_count;
    enum status st;

    if ((st = map_reserve(s, atomic_load_explicit(&s->tx_count, memory_order_relaxed) + b->tx_count, err)) != ST_OK)
        return st;
    if ((st = batch_parts(b, &part_count, err)) != ST_OK)
        return st;
    if (committed_upto > t->committed)
        t->committed = committed_upto;
    if (b->committed > t->committed)
        t->committed = b->committed;
    h = next_frame(l, b->frame_len);
    h.body_crc = b->body_crc;
    h.first_tx_id = b->first_tx_id;
    h.last_tx_id = b->last_tx_id;
    h.record_count = b->record_count;
    frame_header_encode(&h, segment_place_seed(s->seed, at), b->buf);
    if ((st = log_write_frame(l, &h, b->parts, part_count, err)) != ST_OK)
        return st;
    batch_take_offsets(l, s, at);
    if (b->has_discard) {
        t->is_discarding = true;
        t->discard_after = b->discard_after;
        t->discard_batch = h.batch;
    }
    return ST_OK;
}

enum status log_batch_write(struct log *l, uint64_t committed_upto, struct err *err)
{
    struct batch *b = &l->batch;
    enum status st;

    assert(b->is_open && b->record_count > 0);
    assert(committed_upto <= l->tail.last_tx || committed_upto <= b->last_tx_id);
    for (;;) {
        if ((st = log_check_writable(l, err)) != ST_OK)
            return st;
        pthread_mutex_lock(&l->write);
        if (l->tail.active != NULL && frame_fits(l->tail.active, b->frame_len))
            break;
        pthread_mutex_unlock(&l->write);
        /* sync comes before write in the lock order. */
        if ((st = log_roll(l, b->frame_len, false, err)) != ST_OK)
            goto done;
    }
    st = batch_write_here(l, committed_upto, err);
    pthread_mutex_unlock(&l->write);
done:
    if (st == ST_OK) {
        log_batch_abort(l);
        return ST_OK;
    }
    return err_while(err, st, "writing a batch of the log");
}

/* --- sync --- */

static void count_sync(struct log *l, uint64_t ns)
{
    uint64_t max = atomic_load_explicit(&l->sync_ns_max, memory_order_relaxed);

    atomic_fetch_add_explicit(&l->syncs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->sync_ns_total, ns, memory_order_relaxed);
    while (ns > max && !atomic_compare_exchange_weak_explicit(&l->sync_ns_max, &max, ns, memory_order_relaxed, memory_order_relaxed))
        ;
}

enum status log_sync(struct log *l, struct err *err)
{
    struct tail *t = &l->tail;
    uint64_t batch, tx, committed, begin_ns;
    struct end_mark end;
    struct segment *s;
    enum status st;

    if ((st = log_check_writable(l, err)) != ST_OK)
        return st;
    pthread_mutex_lock(&l->sync);
    pthread_mutex_lock(&l->write);
    s = t->active;
    batch = t->last_batch;
    tx = t->last_tx;
    committed = t->committed_written;
    end = log_end_mark(l);
    if (s == NULL || t->data_batch <= t->synced_batch) /* empty frames need no sync */
        goto done;
    if ((st = log_check_writable(l, err)) != ST_OK) /* failed while we waited */
        goto done;
    s->out_users++;
    pthread_mutex_unlock(&l->write);

    begin_ns = env_mono_ns(l->env);
    st = s->out->ops->sync(s->out, err);
    count_sync(l, env_mono_ns(l->env) - begin_ns);
    if (st == ST_OK) /* before anybody is told that his tx is durable */
        st = log_note_end(l, &end, err);

    pthread_mutex_lock(&l->write);
    s->out_users--;
    if (st != ST_OK) {
        log_fail(l, st, err);
        st = err_set(err, ST_READ_ONLY, 0, "log refuses writes: %s", l->failure);
        goto done;
    }
    t->synced_batch = batch; /* log_roll() cannot have been faster: it takes the sync lock */
    t->synced_tx = tx;
    t->synced_committed = committed;
done:
    pthread_mutex_unlock(&l->write);
    pthread_mutex_unlock(&l->sync);
    return st;
}

static enum status empty_frame_write(struct log *l, uint32_t flags, struct err *err)
{
    uint8_t bytes[2 * FRAME_ALIGN] = {0};
    struct vfs_iovec parts[2] = {{NULL, 0}, {bytes, sizeof bytes}};
    struct segment *s = l->tail.active;
    struct frame_header h = next_frame(l, FRAME_HEADER_BYTES);

    static_assert(sizeof bytes >= FRAME_HEADER_BYTES, "an empty frame and its padding");
    h.flags = flags;
    frame_header_encode(&h, segment_place_seed(s->seed, atomic_load_explicit(&s->end, memory_order_relaxed)), bytes);
    return log_write_frame(l, &h, parts, 2, err);
}

enum status log_vouch(struct log *l, struct err *err)
{
    struct tail *t = &l->tail;
    enum status st;

    if ((st = log_check_writable(l, err)) != ST_OK)
        return st;
    pthread_mutex_lock(&l->write);
    /* Empty frames may exceed the segment's capacity; they never open one. */
    if (t->active != NULL && t->synced_batch > t->vouched_batch && t->vouched_batch < t->data_batch)
        st = empty_frame_write(l, FRAME_FLAG_EMPTY, err);
    pthread_mutex_unlock(&l->write);
    batch_trim(l);
    return st;
}

/* Everything up to the close mark is made durable, then log/END that says so. After an open without writes there is nothing to be said:
 * reprove_len > 0 tells that the last frames are as they were found. sync lock held. */
static enum status end_seal(struct log *l, struct err *err)
{
    struct tail *t = &l->tail;
    struct end_mark end = log_end_mark(l);
    enum status st = ST_OK;

    end.is_close = true;
    if (t->active == NULL || t->reprove_len > 0 || (l->end.is_durable && l->end.batch >= end.batch))
        return ST_OK;
    if (l->end.batch < end.batch && (st = segment_open_out(l, t->active, err)) == ST_OK)
        st = t->active->out->ops->sync(t->active->out, err);
    return st == ST_OK ? end_mark_write(&l->end, l->vfs, l->dir, &end, true, err) : st;
}

enum status log_write_close_mark(struct log *l, struct err *err)
{
    struct tail *t = &l->tail;
    enum status st = ST_OK;

    pthread_mutex_lock(&l->sync);
    pthread_mutex_lock(&l->write);
    if (t->active != NULL && !t->last_is_close && atomic_load(&t->active->end) > SEGMENT_HEADER_BYTES)
        st = empty_frame_write(l, FRAME_FLAG_EMPTY | FRAME_FLAG_CLOSE, err);
    /* A closed log keeps no zeros ahead. */
    if (st == ST_OK && t->active != NULL && t->active->zeroed_upto > atomic_load(&t->active->end))
        st = t->active->out->ops->truncate(t->active->out, atomic_load(&t->active->end), err);
    if (st == ST_OK)
        st = end_seal(l, err);
    pthread_mutex_unlock(&l->write);
    pthread_mutex_unlock(&l->sync);
    return st;
}

enum status log_end_active(struct log *l, uint64_t tx_id, struct err *err)
{
    struct tail *t = &l->tail;
    enum status st = ST_OK;
    bool wanted;

    pthread_mutex_lock(&l->write);
    wanted = t->active != NULL && atomic_load(&t->active->end) > SEGMENT_HEADER_BYTES && t->last_tx <= tx_id && t->last_tx <= t->committed &&
             !t->is_discarding;
    /* Only a durable frame that says so lets a segment seal. */
    if (wanted && t->committed > t->committed_written)
        st = empty_frame_write(l, FRAME_FLAG_EMPTY, err);
    pthread_mutex_unlock(&l->write);
    return wanted && st == ST_OK ? log_roll(l, 0, true, err) : st;
}

/* --- marks of the owner --- */

void log_note_frontier(struct log *l, const struct frontier *f)
{
    pthread_mutex_lock(&l->write);
    l->tail.frontier = *f;
    pthread_mutex_unlock(&l->write);
}

void log_note_committed(struct log *l, uint64_t tx_id)
{
    pthread_mutex_lock(&l->write);
    if (tx_id > l->tail.committed && tx_id <= l->tail.last_tx)
        l->tail.committed = tx_id;
    pthread_mutex_unlock(&l->write);
}

void log_publish(struct log *l, uint64_t tx_id)
{
    assert(tx_id <= atomic_load_explicit(&l->last_tx, memory_order_relaxed));
    if (tx_id > atomic_load_explicit(&l->published, memory_order_relaxed))
        atomic_store_explicit(&l->published, tx_id, memory_order_release);
}

uint64_t log_published(const struct log *l) { return atomic_load_explicit(&l->published, memory_order_acquire); }

void log_cut(struct log *l, uint64_t tx_id)
{
    struct tail *t = &l->tail;

    assert(tx_id >= log_published(l));
    pthread_mutex_lock(&l->write);
    assert(t->is_discarding && t->discard_after == tx_id && t->synced_batch >= t->discard_batch);
    table_cut(l, tx_id);
    t->last_tx = tx_id;
    if (t->synced_tx > tx_id)
        t->synced_tx = tx_id;
    if (t->frontier.size > tx_id)
        t->frontier.size = 0;
    t->is_discarding = false;
    atomic_store_explicit(&l->last_tx, tx_id, memory_order_release);
    pthread_mutex_unlock(&l->write);
}

uint64_t log_synced_tx(const struct log *l)
{
    struct log *mutable = (struct log *)(uintptr_t)l;
    uint64_t tx;

    pthread_mutex_lock(&mutable->write);
    tx = l->tail.synced_tx;
    pthread_mutex_unlock(&mutable->write);
    return tx;
}

uint64_t log_bytes_written(const struct log *l) { return atomic_load_explicit(&l->bytes_written, memory_order_relaxed); }
