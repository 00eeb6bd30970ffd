/* Looking through the log as a whole: walking it, finding a time in it, the tree frontier at the end of a segment. */
#include "log/log_read.h"

#include <stdlib.h>

#define WALK_BYTES ((size_t)256 << 10)

/* --- walking --- */

struct walk {
    struct segment *s; /* referenced; what buf was read from */
    uint8_t *buf;
    uint64_t at;
    size_t len;
};

static void walk_leave(struct walk *w)
{
    if (w->s != NULL)
        segment_unref(w->s);
    w->s = NULL;
    w->len = 0;
}

/* The record at [offset, offset + at most WALK_BYTES) of s is in the buffer afterwards, as far as `end` goes. Takes the reference of s. */
static enum status walk_fill(struct log *l, struct walk *w, struct segment *s, uint64_t offset, uint64_t end, struct err *err)
{
    uint64_t bound = atomic_load_explicit(&s->end, memory_order_acquire), left;
    enum status st;

    if (w->s == s && offset >= w->at && end <= w->at + w->len) {
        segment_unref(s);
        return ST_OK;
    }
    walk_leave(w);
    w->s = s;
    left = (bound > end ? bound : end) - offset;
    w->at = offset;
    if ((st = segment_read(l, s, offset, w->buf, left < WALK_BYTES ? (size_t)left : WALK_BYTES, false, err)) != ST_OK)
        return st;
    w->len = left < WALK_BYTES ? (size_t)left : WALK_BYTES;
    return ST_OK;
}

/* The record may be followed by frame headers and other records up to `end`: its own length is in its head. */
static enum status walk_one(struct log *l, struct walk *w, uint64_t tx_id, bool (*visit)(void *, struct log_tx *), void *ctx, bool *go_on,
                            struct err *err)
{
    uint64_t offset, end;
    struct segment *s;
    struct log_tx t;
    enum status st;

    if ((st = log_locate(l, tx_id, false, &s, &offset, &end, err)) != ST_OK)
        return st;
    if (end - offset > WALK_BYTES)
        end = offset + WALK_BYTES;
    if ((st = walk_fill(l, w, s, offset, end, err)) != ST_OK)
        return st;
    if (load_u32le(w->buf + (offset - w->at) + 4) <= w->at + w->len - offset) {
        st = log_tx_from_memory(l, w->buf + (offset - w->at), (size_t)(w->at + w->len - offset), tx_id, &t, err);
        if (st == ST_OK)
            *go_on = visit(ctx, &t);
        else
            st = err_while(err, st, "reading tx %llu from %s at offset %llu", (unsigned long long)tx_id, w->s->name, (unsigned long long)offset);
        return st;
    }
    if ((st = log_tx_open(l, tx_id, false, &t, err)) != ST_OK)
        return st;
    *go_on = visit(ctx, &t);
    log_tx_close(l, &t);
    return ST_OK;
}

enum status log_walk(struct log *l, uint64_t first, uint64_t last, bool (*visit)(void *ctx, struct log_tx *t), void *ctx, struct err *err)
{
    struct walk w = {0};
    enum status st = ST_OK;
    bool go_on = true;

    if ((w.buf = malloc(WALK_BYTES)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory to walk the log");
    for (uint64_t tx_id = first; tx_id <= last && go_on && st == ST_OK; tx_id++)
        st = walk_one(l, &w, tx_id, visit, ctx, &go_on, err);
    walk_leave(&w);
    free(w.buf);
    return st;
}

/* --- time --- */

/* Largest ts of txs up to the end of a chunk (or page) of the segment: never too small, after a DISCARD perhaps too large. */
static enum status chunk_ts_max(struct log *l, struct segment *s, uint64_t chunk, int64_t *out, struct err *err)
{
    struct cache_block page;
    enum status st;

    if (map_ts_max(s, chunk, out))
        return ST_OK;
    *out = INT64_MAX; /* a lost segment: look into it and report */
    if (s->is_lost || !atomic_load_explicit(&s->is_sealed, memory_order_acquire))
        return ST_OK;
    if (chunk + 1 >= s->trailer.page_count) {
        *out = s->trailer.ts_max;
        return ST_OK;
    }
    if ((st = log_offset_page(l, s, chunk, false, &page, err)) != ST_OK)
        return st;
    *out = offset_page_ts_max(page.data);
    cache_unpin(l->cache, &page);
    return ST_OK;
}

static enum status tx_ts(struct log *l, uint64_t tx_id, int64_t *out, struct err *err)
{
    uint8_t head[512];
    struct cache_block b;
    struct segment *s;
    uint64_t offset, end;
    struct tx_layout x;
    enum status st;

    if ((st = log_locate(l, tx_id, false, &s, &offset, &end, err)) != ST_OK)
        return st;
    if (tx_id <= log_published(l) && cache_lookup(l->cache, s->cache_id, tx_id, &b)) {
        tx_layout_trusted(b.data, &x);
        *out = x.ts;
        cache_unpin(l->cache, &b);
        goto done;
    }
    if (end - offset > sizeof head)
        end = offset + sizeof head;
    if ((st = segment_read(l, s, offset, head, (size_t)(end - offset), false, err)) != ST_OK)
        goto done;
    if ((st = tx_layout_decode(head, (size_t)(end - offset), l->record_seed, &x, err)) == ST_OK)
        *out = x.ts;
done:
    segment_unref(s);
    return st == ST_OK ? ST_OK : err_while(err, st, "reading the time of tx %llu", (unsigned long long)tx_id);
}

/* First chunk from `from` on whose running maximum reaches ts; chunk_count when none. */
static enum status chunk_find(struct log *l, struct segment *s, uint64_t from, uint64_t chunk_count, int64_t ts, uint64_t *out, struct err *err)
{
    uint64_t low = from, high = chunk_count;
    int64_t max;
    enum status st;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if ((st = chunk_ts_max(l, s, middle, &max, err)) != ST_OK)
            return st;
        if (max == 0 || max < ts)
            low = middle + 1;
        else
            high = middle;
    }
    *out = low;
    return ST_OK;
}

/* First tx of the segment with ts in time, up to tx_id_max; 0 = none. */
static enum status segment_since(struct log *l, struct segment *s, int64_t ts, uint64_t tx_id_max, uint64_t *out, struct err *err)
{
    uint64_t first = atomic_load(&s->first_tx), count = atomic_load_explicit(&s->tx_count, memory_order_acquire), chunk_count, chunk;
    int64_t found;
    enum status st;

    *out = 0;
    if (count == 0 || first > tx_id_max)
        return ST_OK;
    if (count > tx_id_max - first + 1)
        count = tx_id_max - first + 1;
    chunk_count = (count + OFFSET_PAGE_TXS - 1) / OFFSET_PAGE_TXS;
    if ((st = chunk_find(l, s, 0, chunk_count, ts, &chunk, err)) != ST_OK)
        return st;
    for (uint64_t i = chunk * OFFSET_PAGE_TXS; i < count; i++) {
        if ((st = tx_ts(l, first + i, &found, err)) != ST_OK)
            return st;
        if (found != 0 && found >= ts) {
            *out = first + i;
            return ST_OK;
        }
    }
    return ST_OK;
}

enum status log_tx_since(struct log *l, int64_t ts_s, uint64_t *tx_id, struct err *err)
{
    uint64_t published = log_published(l), found = 0;
    enum status st = ST_OK;

    *tx_id = published + 1;
    for (size_t i = 0; i < table_count(l) && st == ST_OK && found == 0; i++) {
        struct segment *s = table_at(l, i);

        if (!segment_ref(s)) { /* replaced meanwhile */
            i--;
            continue;
        }
        st = segment_since(l, s, ts_s, published, &found, err);
        segment_unref(s);
    }
    if (st == ST_OK && found != 0)
        *tx_id = found;
    return st;
}

/* --- frontier --- */

enum status log_frontier_before(struct log *l, uint64_t tx_id, struct frontier *out, uint64_t *at, struct err *err)
{
    uint8_t block[FRONTIER_BLOCK_BYTES];
    enum status st;

    *at = 0;
    frontier_init(out);
    for (size_t i = table_count(l); i-- > 0;) {
        struct segment *s = table_at(l, i);
        uint64_t offset;

        if (!atomic_load_explicit(&s->is_sealed, memory_order_acquire) || !s->trailer.has_frontier || s->trailer.first_tx_id > tx_id)
            continue;
        if (!segment_ref(s)) {
            i++;
            continue;
        }
        offset = s->trailer.frontier_offset;
        st = cache_file_read(l->cache, s->file, offset, block, sizeof block, err);
        segment_unref(s);
        if (st != ST_OK)
            return st;
        /* A damaged block costs only time: an older one serves as well. */
        if (!frontier_block_decode(block, segment_place_seed(s->seed, offset), out) || out->size == 0 || out->size > tx_id) {
            frontier_init(out);
            continue;
        }
        *at = out->size;
        return ST_OK;
    }
    return ST_OK;
}
