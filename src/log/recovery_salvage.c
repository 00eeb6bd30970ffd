/* What can still be read of a damaged log: every record whose own checksum holds, in any frame whose header does. Nothing is written. */
#include "log/recovery.h"

struct salvage {
    struct recovery *r;
    struct segment *s;
    uint64_t limit;     /* largest tx id that may be here */
    uint64_t holes_max; /* lost txs of this segment are at most so many: a shorter record does not exist */
    bool is_stopped;
};

static enum status salvage_tx(struct salvage *v, const struct tx_layout *x, uint64_t offset, struct err *err)
{
    struct recovery *r = v->r;
    struct segment *s = v->s;
    uint64_t count = atomic_load(&s->tx_count), first = atomic_load(&s->first_tx), holes;
    enum status st;

    if (x->tx_id < r->next_tx || x->tx_id > v->limit)
        return ST_OK;
    if (count == 0) {
        table_set_first_tx(r->l, s, x->tx_id);
        first = x->tx_id;
    }
    holes = x->tx_id - (first + count);
    if (x->tx_id < first + count || holes > v->holes_max) {
        v->is_stopped = true;
        return ST_OK;
    }
    if ((st = map_reserve(s, count + holes + 1, err)) != ST_OK)
        return st;
    for (; holes > 0; holes--)
        map_set(s, count++, 0, 0);
    atomic_store(&s->tx_count, count);
    if ((st = recovery_add_tx(s, x, offset, err)) != ST_OK)
        return st;
    r->next_tx = x->tx_id + 1;
    return ST_OK;
}

static enum status salvage_record(void *ctx, const struct record_view *view, struct err *err)
{
    struct salvage *v = ctx;
    struct recovery *r = v->r;
    struct mark_record m;
    struct tx_layout x;

    if (v->is_stopped)
        return ST_OK;
    if (view->type == RECORD_TX) {
        if (tx_layout_decode(view->head, view->head_len, r->l->record_seed, &x, NULL) == ST_OK && x.record_len == view->len)
            return salvage_tx(v, &x, view->offset, err);
    } else if (view->head_len >= MARK_RECORD_BYTES && mark_record_decode(view->head, r->l->record_seed, &m, NULL) == ST_OK && m.tx_id < r->next_tx) {
        if (m.type == RECORD_COMMIT) {
            r->committed = m.tx_id > r->committed ? m.tx_id : r->committed;
        } else if (m.tx_id >= r->committed) {
            table_cut(r->l, m.tx_id);
            r->next_tx = m.tx_id + 1;
        }
    }
    return ST_OK;
}

enum status salvage_rest(struct recovery *r, struct segment *s, uint64_t from, uint64_t limit, struct err *err)
{
    struct salvage v = {.r = r, .s = s, .limit = limit};
    struct frame_header h;
    bool found, is_whole;
    uint64_t at;
    enum status st;

    if ((st = window_file(&r->w, s->file, err)) != ST_OK)
        return st;
    if (atomic_load(&s->end) > r->w.file_bytes)
        atomic_store(&s->end, r->w.file_bytes);
    v.holes_max = r->w.file_bytes / TX_FIXED_BYTES;
    while (!v.is_stopped) {
        if ((st = frame_find(&r->w, s->seed, from, &found, &at, &h, err)) != ST_OK || !found)
            return st;
        from = at + FRAME_ALIGN;
        if (h.batch < r->next_batch)
            continue;
        r->known_tx = h.committed_upto > r->known_tx ? h.committed_upto : r->known_tx;
        r->known_tx = h.last_tx_id > r->known_tx ? h.last_tx_id : r->known_tx;
        if (s->state == SEGMENT_PREPARED) {
            s->state = SEGMENT_FULL;
            s->first_batch = h.batch;
            table_set_first_tx(r->l, s, r->next_tx);
        }
        if ((st = frame_walk(&r->w, at, &h, salvage_record, &v, &is_whole, err)) != ST_OK)
            return st;
        if (h.committed_upto > r->committed && h.committed_upto < r->next_tx)
            r->committed = h.committed_upto;
        s->last_batch = h.batch;
        r->next_batch = h.batch + 1;
        r->chain = h.header_crc;
        r->tail = s;
        if (h.len <= r->w.file_bytes - at)
            from = at + frame_align(h.len);
        atomic_store(&s->end, from < r->w.file_bytes ? from : r->w.file_bytes);
    }
    return ST_OK;
}

/* --- sealed --- */

struct sealed_salvage {
    struct log *l;
    struct segment *s;
    uint64_t first_tx, last_tx;
};

static enum status sealed_record(void *ctx, const struct record_view *view, struct err *err)
{
    struct sealed_salvage *v = ctx;
    struct tx_layout x;

    (void)err;
    if (view->type != RECORD_TX || tx_layout_decode(view->head, view->head_len, v->l->record_seed, &x, NULL) != ST_OK || x.record_len != view->len ||
        view->offset > SEGMENT_OFFSET_MAX)
        return ST_OK;
    /* Ids may have been discarded and given out again: the last record of an id counts. */
    if (x.tx_id >= v->first_tx && x.tx_id <= v->last_tx)
        map_set(v->s, x.tx_id - v->first_tx, (uint32_t)(view->offset / OFFSET_UNIT), x.ts);
    return ST_OK;
}

/* *is_whole: frames follow one another without a gap up to batch last_batch. */
static enum status sealed_frames(struct recovery *r, struct sealed_salvage *v, uint64_t last_batch, bool *is_whole, struct err *err)
{
    struct segment *s = v->s;
    uint64_t from = SEGMENT_HEADER_BYTES, at, batch = 0;
    struct frame_header h;
    bool found, walked;
    enum status st;

    *is_whole = true;
    while (batch < last_batch) {
        if ((st = frame_find(&r->w, s->seed, from, &found, &at, &h, err)) != ST_OK)
            return st;
        if (!found || at != from)
            *is_whole = false;
        if (!found)
            break;
        if (batch == 0) {
            s->first_batch = h.batch;
            s->chain_begin = h.prev_crc;
        }
        batch = h.batch;
        if ((st = frame_walk(&r->w, at, &h, sealed_record, v, &walked, err)) != ST_OK)
            return st;
        *is_whole = *is_whole && walked;
        from = at + (h.len <= r->w.file_bytes - at ? frame_align(h.len) : FRAME_ALIGN);
        atomic_store(&s->end, from < r->w.file_bytes ? from : r->w.file_bytes);
    }
    return ST_OK;
}

enum status salvage_sealed(struct recovery *r, struct segment *s, const struct manifest_entry *e, struct err *err)
{
    struct sealed_salvage v = {r->l, s, e->first_tx_id, e->last_tx_id};
    uint64_t count = e->last_tx_id + 1 - e->first_tx_id, missing = 0, offset, end;
    bool is_whole;
    enum status st;

    if ((st = window_file(&r->w, s->file, err)) != ST_OK)
        return st;
    s->first_batch = r->next_batch;
    s->chain_begin = r->chain;
    if (count > r->w.file_bytes / TX_FIXED_BYTES) { /* the file was cut: only what fits can be there */
        count = r->w.file_bytes / TX_FIXED_BYTES;
        v.last_tx = v.first_tx + count - 1;
    }
    if (count > 0 && (st = map_reserve(s, count, err)) != ST_OK)
        return st;
    for (uint64_t i = 0; i < count; i++)
        map_set(s, i, 0, 0);
    atomic_store(&s->tx_count, count);
    table_set_first_tx(r->l, s, e->first_tx_id);
    if (count == 0)
        v.last_tx = 0;
    if ((st = sealed_frames(r, &v, e->last_batch, &is_whole, err)) != ST_OK)
        return st;
    for (uint64_t i = 0; i < count; i++)
        if (!map_get(s, i, &offset, &end) || offset == 0)
            missing++;
    missing += e->last_tx_id + 1 - e->first_tx_id - count;
    s->state = SEGMENT_SEALED;
    s->footer_is_damaged = true;
    s->last_batch = e->last_batch;
    s->chain_end = e->chain_end;
    s->zeroed_upto = r->w.file_bytes;
    if (missing > 0 || !is_whole)
        recovery_damage(r, "%s: footer and frames are damaged, %llu of txs %llu..%llu are lost", s->name, (unsigned long long)missing,
                        (unsigned long long)e->first_tx_id, (unsigned long long)e->last_tx_id);
    else
        env_log(r->l->env, LOG_ERROR, "log %s: %s has a damaged footer; its txs were found by reading all of it", r->l->dir, s->name);
    /* The ids of the lost ones must not be given out again. */
    atomic_store(&s->tx_count, count);
    return ST_OK;
}
