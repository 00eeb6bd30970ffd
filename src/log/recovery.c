/* Opening a log: what is in it, where it ends, and whether what is missing there was ever promised.
 *
 * Sealed segments tell their contents in their trailer. The others are read frame by frame; a frame counts when its checksums hold and it continues
 * the chain (batch number, checksum of the batch before, tx ids). Let b be the batch number that is expected where no such frame stands, and
 * S the largest synced_batch of any good frame header before or behind that place.
 *   S < b   the bytes behind are a torn tail: nothing that was known durable is missing. They are cut off.
 *   S >= b  somebody knew batch b to be durable: damage. So are a sealed segment behind the place, a missing file, and a mark of derived
 *           files above the last tx. The log opens read-only and nothing on disk is touched.
 * log/END (end_mark.h) is one more witness: S is at least the batch it names, and what it says needs no bytes behind the place.
 * What is kept but not proven durable (batches above S; after a crash of the process alone it may exist in the page cache only, and after a failed
 * sync the system may believe it clean) is written once more and synced before anybody may rely on it. */
#include "log/recovery.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

void recovery_damage(struct recovery *r, const char *fmt, ...)
{
    struct log_report *report = r->report;
    size_t at = strlen(report->damage);
    va_list args;

    if (at > 0 && at + 3 < sizeof report->damage) {
        memcpy(report->damage + at, "; ", 3);
        at += 2;
    }
    va_start(args, fmt);
    (void)vsnprintf(report->damage + at, sizeof report->damage - at, fmt, args);
    va_end(args);
    env_log(r->l->env, LOG_ERROR, "log %s is damaged: %s", r->l->dir, report->damage + at);
    report->is_damaged = true;
}

/* --- one record, one frame --- */

enum status recovery_add_tx(struct segment *s, const struct tx_layout *x, uint64_t offset, struct err *err)
{
    uint64_t count = atomic_load(&s->tx_count);
    enum status st;

    if (offset > SEGMENT_OFFSET_MAX)
        return err_set(err, ST_CORRUPT, 0, "%s: record at offset %llu", s->name, (unsigned long long)offset);
    if ((st = map_reserve(s, count + 1, err)) != ST_OK)
        return st;
    map_set(s, count, (uint32_t)(offset / OFFSET_UNIT), x->ts);
    atomic_store(&s->tx_count, count + 1);
    return ST_OK;
}

/* The checksum of the frame held, so whatever is wrong here is no torn write. */
static enum status take_record(void *ctx, const struct record_view *v, struct err *err)
{
    struct recovery *r = ctx;
    struct mark_record m;
    struct tx_layout x;
    enum status st;

    if (r->nonsense != NULL)
        return ST_OK;
    if (v->type == RECORD_TX) {
        if (tx_layout_decode(v->head, v->head_len, r->l->record_seed, &x, err) != ST_OK || x.record_len != v->len)
            r->nonsense = "malformed tx record";
        else if (x.tx_id != r->next_tx)
            r->nonsense = "tx id out of order";
        if (r->nonsense != NULL)
            return ST_OK;
        if ((st = recovery_add_tx(r->at, &x, v->offset, err)) != ST_OK)
            return st;
        r->next_tx++;
        return ST_OK;
    }
    if (v->head_len < MARK_RECORD_BYTES || mark_record_decode(v->head, r->l->record_seed, &m, err) != ST_OK) {
        r->nonsense = "malformed mark record";
    } else if (m.tx_id >= r->next_tx || (m.type == RECORD_DISCARD && m.tx_id < r->committed)) {
        r->nonsense = "mark for a tx that is not there";
    } else if (m.type == RECORD_COMMIT) {
        r->committed = m.tx_id > r->committed ? m.tx_id : r->committed;
    } else {
        table_cut(r->l, m.tx_id);
        r->next_tx = m.tx_id + 1;
    }
    return ST_OK;
}

static enum status take_frame(struct recovery *r, struct segment *s, uint64_t offset, const struct frame_header *h, struct err *err)
{
    bool is_whole;
    enum status st;

    if (s->state == SEGMENT_PREPARED) {
        s->state = SEGMENT_FULL; /* the last one becomes active later */
        s->first_batch = h->batch;
        s->chain_begin = h->prev_crc;
        table_set_first_tx(r->l, s, r->next_tx);
    }
    r->at = s;
    if (h->first_tx_id != 0 && h->first_tx_id != r->next_tx)
        r->nonsense = "tx id out of order";
    if ((st = frame_walk(&r->w, offset, h, take_record, r, &is_whole, err)) != ST_OK)
        return st;
    if (!is_whole && r->nonsense == NULL)
        r->nonsense = "malformed records";
    if (h->batch == r->end.batch && h->header_crc != r->end.chain && r->nonsense == NULL)
        r->nonsense = "another frame than log/END knows";
    if (h->committed_upto > r->committed && h->committed_upto < r->next_tx)
        r->committed = h->committed_upto;
    s->last_batch = h->batch;
    s->chain_end = h->header_crc;
    atomic_store(&s->end, offset + frame_align(h->len));
    r->next_batch = h->batch + 1;
    r->chain = h->header_crc;
    r->proven = h->synced_batch > r->proven ? h->synced_batch : r->proven;
    r->last_vouched = h->synced_batch;
    if (h->record_count > 0)
        r->data_batch = h->batch;
    r->last_is_close = (h->flags & FRAME_FLAG_CLOSE) != 0;
    s->end_tx = r->next_tx - 1;
    r->tail = s;
    return ST_OK;
}

/* --- one segment --- */

static enum status scan_segment(struct recovery *r, struct segment *s, struct err *err)
{
    uint64_t at = SEGMENT_HEADER_BYTES;
    enum frame_state state;
    struct frame_header h;
    enum status st;

    if ((st = window_file(&r->w, s->file, err)) != ST_OK)
        return st;
    s->zeroed_upto = r->w.file_bytes > SEGMENT_HEADER_BYTES ? r->w.file_bytes : SEGMENT_HEADER_BYTES;
    for (;;) {
        if ((st = frame_probe(&r->w, s->seed, at, &state, &h, err)) != ST_OK)
            return st;
        if (state != FRAME_GOOD || h.batch != r->next_batch || h.prev_crc != r->chain)
            return ST_OK;
        if ((st = take_frame(r, s, at, &h, err)) != ST_OK)
            return st;
        if (r->nonsense != NULL) {
            recovery_damage(r, "%s: offset %llu: %s in batch %llu", s->name, (unsigned long long)at, r->nonsense, (unsigned long long)h.batch);
            r->nonsense = NULL;
            return ST_OK;
        }
        at += frame_align(h.len);
    }
}

/* From a trailer that was checked. */
static void take_sealed(struct recovery *r, struct segment *s)
{
    const struct segment_trailer *t = &s->trailer;

    s->state = SEGMENT_SEALED;
    s->first_batch = t->first_batch;
    s->last_batch = t->last_batch;
    s->chain_begin = t->chain_begin;
    s->chain_end = t->chain_end;
    s->ts_min = t->ts_min;
    s->ts_max = t->ts_max;
    s->zeroed_upto = t->file_bytes;
    atomic_store(&s->end, t->body_end);
    atomic_store(&s->tx_count, t->last_tx_id + 1 - t->first_tx_id);
    table_set_first_tx(r->l, s, t->first_tx_id);
    atomic_store(&s->is_sealed, true);
}

static void behind_sealed(struct recovery *r, struct segment *s, const struct manifest_entry *e)
{
    r->next_batch = s->last_batch + 1;
    r->chain = s->chain_end;
    r->next_tx = e->end_tx_id + 1;    /* a DISCARD will follow when that is not the one after the last */
    if (e->last_tx_id > r->committed) /* only committed txs are ever sealed */
        r->committed = e->last_tx_id;
    r->proven = r->data_batch = r->last_vouched = s->last_batch;
    r->last_is_close = true; /* nothing of it can be missing */
    r->tail = s;
}

static enum status load_sealed(struct recovery *r, struct segment *s, const struct manifest_entry *e, struct err *err)
{
    uint64_t file_bytes = 0;
    bool is_valid = false;
    enum status st;

    if ((st = cache_file_length(r->l->cache, s->file, &file_bytes, err)) != ST_OK)
        return st;
    if (file_bytes != e->file_bytes)
        recovery_damage(r, "%s has %llu bytes instead of %llu", s->name, (unsigned long long)file_bytes, (unsigned long long)e->file_bytes);
    else if ((st = segment_read_trailer(r->l, s, false, &is_valid, &s->trailer, err)) != ST_OK)
        return st;
    if (is_valid && s->trailer.first_tx_id == e->first_tx_id && s->trailer.last_tx_id == e->last_tx_id) {
        take_sealed(r, s);
        return ST_OK;
    }
    return salvage_sealed(r, s, e, err);
}

/* A sealed segment must continue exactly where the one before ended. */
static enum status join_sealed(struct recovery *r, struct segment *s, const struct manifest_entry *e, struct err *err)
{
    enum status st;

    if (e->first_tx_id > r->committed && e->first_tx_id < r->next_tx) { /* a DISCARD inside the sealed one took the ids back */
        table_cut(r->l, e->first_tx_id - 1);
        r->next_tx = e->first_tx_id;
    }
    if ((st = load_sealed(r, s, e, err)) != ST_OK)
        return st;
    if (s->first_batch != r->next_batch || s->chain_begin != r->chain || e->first_tx_id != r->next_tx) {
        if (!r->report->is_damaged)
            recovery_damage(r, "%s begins with batch %llu and tx %llu, batch %llu and tx %llu were expected", s->name,
                            (unsigned long long)s->first_batch, (unsigned long long)e->first_tx_id, (unsigned long long)r->next_batch,
                            (unsigned long long)r->next_tx);
        for (size_t i = r->tail == NULL ? 0 : r->tail->table_index; i < s->table_index; i++) {
            struct segment *before = table_at(r->l, i);

            if (before->state == SEGMENT_FULL || before->state == SEGMENT_PREPARED)
                if ((st = salvage_rest(r, before, atomic_load(&before->end), e->first_tx_id - 1, err)) != ST_OK)
                    return st;
        }
    }
    behind_sealed(r, s, e);
    return ST_OK;
}

/* The last tx that is known of beside the log's own frames, and who knows it. */
static uint64_t known_elsewhere(const struct recovery *r, const char **who)
{
    *who = r->end.tx_id >= r->o->vouched_tx_id ? "log/END" : "index and tree";
    return r->end.tx_id >= r->o->vouched_tx_id ? r->end.tx_id : r->o->vouched_tx_id;
}

/* A segment of which nothing can be read: only the manifest may know what was in it. It does not know that of one that was being written: such a
 * one begins behind what was read so far, and ends with the last tx that others know of, unless another segment follows. */
static void pass_lost(struct recovery *r, struct segment *s, const struct manifest_entry *e)
{
    const struct manifest_entry *next = s->table_index + 1 < r->l->manifest.count ? e + 1 : NULL;
    const char *who;
    uint64_t known = known_elsewhere(r, &who);

    table_set_first_tx(r->l, s, e->is_sealed ? e->first_tx_id : r->next_tx);
    if (!e->is_sealed) {
        if (next != NULL && next->is_sealed)
            recovery_damage(r, "%s is missing (txs %llu..%llu)", s->name, (unsigned long long)r->next_tx, (unsigned long long)next->first_tx_id - 1);
        else if (known < r->next_tx)
            recovery_damage(r, "%s is missing (it would begin with tx %llu; nobody knows of one in it)", s->name, (unsigned long long)r->next_tx);
        else if (next != NULL)
            recovery_damage(r, "%s is missing (txs from %llu on)", s->name, (unsigned long long)r->next_tx);
        else
            recovery_damage(r, "%s is missing (txs %llu..%llu, known from %s)", s->name, (unsigned long long)r->next_tx, (unsigned long long)known,
                            who);
        return;
    }
    s->first_batch = r->next_batch;
    s->last_batch = e->last_batch;
    s->chain_end = e->chain_end;
    atomic_store(&s->tx_count, e->last_tx_id + 1 - e->first_tx_id);
    behind_sealed(r, s, e);
}

/* --- the end --- */

/* What stands behind the last frame: S, the tx ids seen, and the number of bytes. */
struct remains {
    uint64_t synced;
    uint64_t first_tx, last_tx;
    uint64_t bytes;
    uint64_t tail_bytes;           /* of them in the last segment with frames */
    const struct segment *witness; /* where synced was found */
    uint64_t witness_at, witness_batch;
};

static enum status search_remains(struct recovery *r, const struct segment *s, uint64_t from, struct remains *m, struct err *err)
{
    uint64_t end, at;
    struct frame_header h;
    bool found;
    enum status st;

    if ((st = window_file(&r->w, s->file, err)) != ST_OK)
        return st;
    if (from >= r->w.file_bytes)
        return ST_OK;
    if ((st = window_nonzero_end(&r->w, from, r->w.file_bytes, &end, err)) != ST_OK)
        return st;
    m->bytes += end - from;
    if (s == r->tail)
        m->tail_bytes = end - from;
    while (from < end) {
        if ((st = frame_find(&r->w, s->seed, from, &found, &at, &h, err)) != ST_OK || !found)
            return st;
        if (h.synced_batch > m->synced) {
            m->synced = h.synced_batch;
            m->witness = s;
            m->witness_at = at;
            m->witness_batch = h.batch;
        }
        if (h.first_tx_id != 0) {
            m->first_tx = m->first_tx == 0 || h.first_tx_id < m->first_tx ? h.first_tx_id : m->first_tx;
            m->last_tx = h.last_tx_id > m->last_tx ? h.last_tx_id : m->last_tx;
        }
        from = at + FRAME_ALIGN;
    }
    return ST_OK;
}

static bool is_scanned(const struct segment *s) { return s->state == SEGMENT_FULL || s->state == SEGMENT_PREPARED; }
static size_t end_index(const struct recovery *r) { return r->tail == NULL ? 0 : r->tail->table_index; }

/* Damage at the end: the next frame of the last segment or, when nothing but zeros follows there, the first one of the next segment. */
static void damage_at_end(struct recovery *r, const struct remains *m)
{
    struct segment *s = r->tail, *next = table_at(r->l, s == NULL ? 0 : s->table_index + 1);

    if (s == NULL || !is_scanned(s) || (m->tail_bytes == 0 && (m->bytes > 0 || (m->synced < r->next_batch && s->no < r->end.segment_no))))
        s = next;
    if (s == NULL)
        s = r->tail;
    if (m->synced < r->next_batch) {
        recovery_damage(
            r,
            "%s: offset %llu: batch %llu (tx %llu and following) is missing, although log/END knows everything up to batch %llu (tx %llu, "
            "ending at offset %llu of segment %llu) durable",
            s == NULL ? "the log is empty" : s->name, s == NULL ? 0ull : (unsigned long long)atomic_load(&s->end), (unsigned long long)r->next_batch,
            (unsigned long long)r->next_tx, (unsigned long long)r->end.batch, (unsigned long long)r->end.tx_id, (unsigned long long)r->end.offset,
            (unsigned long long)r->end.segment_no);
        return;
    }
    recovery_damage(r, "%s: offset %llu: batch %llu (tx %llu and following) is damaged, although batch %llu at offset %llu of %s knew it durable",
                    s->name, (unsigned long long)atomic_load(&s->end), (unsigned long long)r->next_batch, (unsigned long long)r->next_tx,
                    (unsigned long long)m->witness_batch, (unsigned long long)m->witness_at, m->witness->name);
}

/* Did somebody begin to seal the last segment? Its footer then stands right behind the last frame. */
static enum status look_for_footer(struct recovery *r, struct err *err)
{
    struct segment_trailer trailer;
    bool is_valid = false;
    enum status st;

    if (r->tail == NULL || r->tail->state != SEGMENT_FULL)
        return ST_OK;
    if ((st = segment_read_trailer(r->l, r->tail, false, &is_valid, &trailer, err)) != ST_OK)
        return st;
    r->tail_has_footer = is_valid && trailer.body_end == atomic_load(&r->tail->end);
    return ST_OK;
}

static enum status judge_end(struct recovery *r, struct remains *m, struct err *err)
{
    enum status st;

    memset(m, 0, sizeof *m);
    if ((st = look_for_footer(r, err)) != ST_OK)
        return st;
    for (size_t i = end_index(r); i < table_count(r->l); i++) {
        struct segment *s = table_at(r->l, i);

        if (s == r->tail && r->tail_has_footer)
            continue;
        if (is_scanned(s) && (st = search_remains(r, s, atomic_load(&s->end), m, err)) != ST_OK)
            return st;
    }
    r->report->end_is_lost |= m->synced >= r->next_batch || r->end.batch >= r->next_batch || r->o->vouched_tx_id >= r->next_tx;
    if ((m->synced >= r->next_batch || r->end.batch >= r->next_batch) && !r->report->is_damaged)
        damage_at_end(r, m);
    if (r->end.batch >= r->next_batch && r->end.tx_id > r->known_tx)
        r->known_tx = r->end.tx_id;
    if (r->o->vouched_tx_id > r->known_tx)
        r->known_tx = r->o->vouched_tx_id;
    if (r->o->vouched_tx_id >= r->next_tx && !r->report->is_damaged)
        recovery_damage(r, "the log ends with tx %llu, but derived files know tx %llu (end of the log: %s, offset %llu)",
                        (unsigned long long)(r->next_tx - 1), (unsigned long long)r->o->vouched_tx_id, r->tail == NULL ? "empty" : r->tail->name,
                        r->tail == NULL ? 0ull : (unsigned long long)atomic_load(&r->tail->end));
    if (!r->report->is_damaged)
        return ST_OK;
    for (size_t i = end_index(r); i < table_count(r->l); i++) {
        struct segment *s = table_at(r->l, i);

        if (is_scanned(s) && (st = salvage_rest(r, s, atomic_load(&s->end), UINT64_MAX - 1, err)) != ST_OK)
            return st;
    }
    return ST_OK;
}

/* --- repair --- */

static enum status open_out(struct recovery *r, struct segment *s, struct err *err)
{
    return s->out != NULL ? ST_OK : r->l->vfs->ops->open(r->l->vfs, cache_file_path(s->file), VFS_WRITE, &s->out, err);
}

/* Cuts what stands behind the last frame. Repeating it after a crash comes to the same end. */
static enum status cut_torn(struct recovery *r, struct segment *s, struct err *err)
{
    uint64_t from = atomic_load(&s->end), end;
    enum status st;

    if ((st = window_file(&r->w, s->file, err)) != ST_OK || from >= r->w.file_bytes)
        return st;
    if ((st = window_nonzero_end(&r->w, from, r->w.file_bytes, &end, err)) != ST_OK || end == from)
        return st;
    if ((st = open_out(r, s, err)) != ST_OK)
        return st;
    if ((st = s->out->ops->truncate(s->out, from, err)) != ST_OK)
        return st;
    s->zeroed_upto = from;
    return s->out->ops->sync(s->out, err);
}

/* Offset of the first frame of s with a batch above `batch`. */
static enum status first_frame_above(struct recovery *r, const struct segment *s, uint64_t batch, uint64_t *out, struct err *err)
{
    uint64_t at = SEGMENT_HEADER_BYTES, end = atomic_load(&s->end);
    struct frame_header h;
    const uint8_t *p;
    enum status st;

    if ((st = window_file(&r->w, s->file, err)) != ST_OK)
        return st;
    while (at < end) {
        if ((st = window_bytes(&r->w, at, FRAME_HEADER_BYTES, &p, err)) != ST_OK)
            return st;
        if (!frame_header_decode(p, segment_place_seed(s->seed, at), &h))
            return err_set(err, ST_CORRUPT, 0, "%s changed while it was read", s->name);
        if (h.batch > batch)
            break;
        at += frame_align(h.len);
    }
    *out = at;
    return ST_OK;
}

/* See the head of this file: what is not proven durable becomes it now. */
static enum status make_durable(struct recovery *r, struct segment *s, struct err *err)
{
    uint64_t from = 0, end = atomic_load(&s->end);
    struct tail *t = &r->l->tail;
    const uint8_t *p;
    enum status st;

    if (r->end.batch > r->proven)
        r->proven = r->end.batch;
    t->synced_batch = r->proven;
    if (r->proven >= r->next_batch - 1)
        return ST_OK;
    if ((st = first_frame_above(r, s, r->proven, &from, err)) != ST_OK)
        return st;
    if (r->report->was_clean && !r->tail_has_footer && r->proven >= r->data_batch && end - from <= sizeof t->reprove && end <= r->w.file_bytes) {
        /* Only empty frames: they go along with the next write, an open of an idle database costs no sync. */
        if ((st = window_bytes(&r->w, from, (size_t)(end - from), &p, err)) != ST_OK)
            return st;
        memcpy(t->reprove, p, (size_t)(end - from));
        t->reprove_len = (size_t)(end - from);
        return ST_OK;
    }
    if ((st = open_out(r, s, err)) != ST_OK)
        return st;
    if (end > r->w.file_bytes) { /* the zeros behind the last frame did not make it */
        static const uint8_t zeros[FRAME_ALIGN];

        if ((st = vfs_write_at(s->out, r->w.file_bytes, zeros, (size_t)(end - r->w.file_bytes), err)) != ST_OK)
            return st;
        end = r->w.file_bytes;
    }
    while (from < end) {
        size_t piece = end - from < WINDOW_BYTES ? (size_t)(end - from) : WINDOW_BYTES;

        if ((st = window_bytes(&r->w, from, piece, &p, err)) != ST_OK)
            return st;
        if ((st = vfs_write_at(s->out, from, p, piece, err)) != ST_OK)
            return st;
        from += piece;
    }
    if ((st = s->out->ops->sync(s->out, err)) != ST_OK)
        return st;
    if ((st = r->l->vfs->ops->sync_dir(r->l->vfs, r->l->dir, err)) != ST_OK)
        return st;
    t->synced_batch = r->next_batch - 1;
    r->was_rewritten = true;
    return ST_OK;
}

static enum status repair(struct recovery *r, const struct remains *m, struct err *err)
{
    struct log_report *report = r->report;
    struct log *l = r->l;
    enum status st;

    report->torn_bytes = m->bytes;
    report->torn_first_tx = m->first_tx;
    report->torn_last_tx = m->last_tx;
    report->was_clean = m->bytes == 0 && (r->last_is_close || r->next_batch == 1);
    if (m->bytes > 0)
        env_log(l->env, LOG_WARN, "log %s: %llu bytes of an unfinished write are cut off behind %s offset %llu (tx ids seen in them: %llu..%llu)",
                l->dir, (unsigned long long)m->bytes, r->tail == NULL ? "the header" : r->tail->name,
                (unsigned long long)(r->tail == NULL ? 0 : atomic_load(&r->tail->end)), (unsigned long long)m->first_tx,
                (unsigned long long)m->last_tx);
    for (size_t i = end_index(r); i < table_count(l) && m->bytes > 0; i++) {
        struct segment *s = table_at(l, i);

        if (is_scanned(s) && !(s == r->tail && r->tail_has_footer) && (st = cut_torn(r, s, err)) != ST_OK)
            return st;
    }
    if (r->tail != NULL && is_scanned(r->tail)) {
        if ((st = make_durable(r, r->tail, err)) != ST_OK)
            return st;
    } else {
        l->tail.synced_batch = r->next_batch - 1;
    }
    return recovery_tidy(r, err);
}

/* The last segment with frames goes on being written, unless its footer is there already: then it is sealed again later. */
static enum status choose_active(struct recovery *r, struct err *err)
{
    enum status st;

    if (r->tail == NULL || r->tail->state != SEGMENT_FULL || r->tail_has_footer)
        return ST_OK;
    if ((st = open_out(r, r->tail, err)) != ST_OK)
        return st;
    r->tail->state = SEGMENT_ACTIVE;
    r->l->tail.active = r->tail;
    return ST_OK;
}

/* Of a damaged log: all txs up to here have a known place. */
static uint64_t intact_upto(const struct recovery *r)
{
    uint64_t upto = 0, offset, end;

    for (size_t i = 0; i < table_count(r->l); i++) {
        struct segment *s = table_at(r->l, i);
        uint64_t first = atomic_load(&s->first_tx), count = atomic_load(&s->tx_count);

        if (s->state == SEGMENT_PREPARED)
            continue;
        if (s->is_lost || first > upto + 1)
            break;
        for (uint64_t k = 0; k < count; k++)
            if (map_get(s, k, &offset, &end) && offset == 0)
                return first + k - 1;
        upto = first + count - 1; /* what the segment before had above first was discarded */
    }
    return upto < r->next_tx ? upto : r->next_tx - 1;
}

/* Of a damaged log: segments without a readable frame stand for the txs missing between their neighbours. */
static void close_gaps(struct recovery *r)
{
    uint64_t expected = 1;

    for (size_t i = 0; i < end_index(r); i++) {
        struct segment *s = table_at(r->l, i);

        if (s->state == SEGMENT_PREPARED)
            table_set_first_tx(r->l, s, expected);
        expected = atomic_load(&s->first_tx) + atomic_load(&s->tx_count);
    }
}

static void take_over(struct recovery *r)
{
    struct log *l = r->l;
    struct tail *t = &l->tail;

    /* Ids that are known to have existed are answered with damage, not with "not found". */
    if (r->report->is_damaged && r->known_tx >= r->next_tx)
        r->next_tx = r->known_tx + 1;
    if (r->report->is_damaged)
        close_gaps(r);
    r->report->intact_upto = r->report->is_damaged ? intact_upto(r) : r->next_tx - 1;
    r->report->precommitted_upto = r->next_tx - 1;
    r->report->committed_upto = r->committed;
    t->last_batch = r->next_batch - 1;
    t->chain = r->chain;
    t->last_tx = r->next_tx - 1;
    t->vouched_batch = r->last_vouched;
    t->data_batch = r->data_batch;
    t->synced_tx = t->last_tx;
    t->committed = t->committed_written = t->synced_committed = r->committed;
    t->last_is_close = r->last_is_close;
    l->is_damaged = r->report->is_damaged;
    l->end.batch = r->end.batch;
    l->end.is_durable = r->end.is_close;
    atomic_store(&l->last_tx, t->last_tx);
    atomic_store(&l->published, r->committed);
}

static enum status scan_all(struct recovery *r, struct err *err)
{
    struct log *l = r->l;
    enum status st = ST_OK;

    for (size_t i = 0; i < table_count(l) && st == ST_OK; i++) {
        struct segment *s = table_at(l, i);
        const struct manifest_entry *e = &l->manifest.entries[i];

        if (s->state == SEGMENT_LOST)
            pass_lost(r, s, e);
        else if (e->is_sealed)
            st = join_sealed(r, s, e, err);
        else
            st = scan_segment(r, s, err);
    }
    return st;
}

enum status log_recover(struct log *l, const struct log_options *o, struct log_report *report, struct err *err)
{
    struct recovery r = {.l = l, .o = o, .report = report, .next_batch = 1, .next_tx = 1};
    struct remains m;
    enum status st;

    memset(report, 0, sizeof *report);
    if ((st = window_init(&r.w, l->cache, err)) != ST_OK)
        goto done;
    if ((st = recovery_files(&r, err)) != ST_OK)
        goto done;
    if ((st = end_mark_load(l->vfs, l->dir, l->uuid, &r.end, &l->end.slot, err)) != ST_OK)
        goto done;
    if ((st = scan_all(&r, err)) != ST_OK)
        goto done;
    if ((st = judge_end(&r, &m, err)) != ST_OK)
        goto done;
    if (!report->is_damaged) {
        if ((st = repair(&r, &m, err)) != ST_OK)
            goto done;
        if ((st = choose_active(&r, err)) != ST_OK)
            goto done;
    }
    take_over(&r);
    if (r.was_rewritten) { /* from now on they are shown: their loss must not pass unnoticed */
        struct end_mark end = log_end_mark(l);

        st = log_note_end(l, &end, err);
    }
done:
    free(r.files.items);
    window_free(&r.w);
    return st;
}
