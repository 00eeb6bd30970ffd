/* Checks every byte of the log against every checksum: headers, frames and their chain, records, entries, footers, digests. Reads only, with bounded
 * memory, beside writers and readers. What the hashes of the protocol say (Eh, alh) is the store's business. */
#include "log/log_read.h"
#include "log/scan.h"

#include <stdlib.h>

struct scrub {
    struct log *l;
    struct segment *s;
    struct window w;
    bool (*bad)(void *ctx, const char *file, uint64_t offset, uint64_t tx_id, const char *what);
    void *ctx;
    bool is_stopped;
    uint8_t *meta;
    size_t meta_capacity;
    uint64_t batch; /* of the frame before */
    uint32_t chain;
};

static void finding(struct scrub *c, uint64_t offset, uint64_t tx_id, const char *what)
{
    if (!c->is_stopped && !c->bad(c->ctx, c->s->name, offset, tx_id, what))
        c->is_stopped = true;
}

static enum status meta_read(struct scrub *c, uint64_t offset, size_t len, struct err *err)
{
    if (len > c->meta_capacity) {
        uint8_t *grown = realloc(c->meta, len);

        if (grown == NULL)
            return err_set(err, ST_NOMEM, 0, "no memory for a record of %zu bytes", len);
        c->meta = grown;
        c->meta_capacity = len;
    }
    return cache_file_read(c->l->cache, c->s->file, offset, c->meta, len, err);
}

static enum status scrub_tx(struct scrub *c, const struct record_view *v, struct err *err)
{
    struct err what;
    struct tx_layout x;
    struct tx_row row;
    uint32_t value_end = 0, crc;
    enum status st;

    if (tx_layout_decode(v->head, v->head_len, c->l->record_seed, &x, &what) != ST_OK || x.record_len != v->len) {
        finding(c, v->offset, 0, "tx record has a wrong header");
        return ST_OK;
    }
    if ((st = meta_read(c, v->offset, x.values_at, err)) != ST_OK)
        return st;
    if (tx_meta_check(c->meta, &x, &what) != ST_OK) {
        finding(c, v->offset, x.tx_id, what.text);
        return ST_OK;
    }
    for (uint32_t i = 0; i < x.entry_count && !c->is_stopped; i++) {
        const uint8_t *p = c->meta + x.rows_at + (size_t)i * TX_ROW_BYTES;

        if (!tx_row_decode(p, value_end, &row))
            break; /* tx_meta_check() has looked at it */
        crc = tx_entry_crc(x.body_seed, i, p, bytes_of(c->meta + x.keys_at + row.key_at, row.key_part_len), bytes_of(NULL, 0));
        if ((st = window_crc(&c->w, v->offset + x.values_at + row.value_at, row.value_len, &crc, err)) != ST_OK)
            return st;
        if (crc != row.entry_crc)
            finding(c, v->offset + x.values_at + row.value_at, x.tx_id, "value has a wrong checksum");
        value_end = load_u32le(p + 4);
    }
    return ST_OK;
}

static enum status scrub_record(void *ctx, const struct record_view *v, struct err *err)
{
    struct scrub *c = ctx;
    struct mark_record m;

    if (c->is_stopped)
        return ST_OK;
    if (v->type == RECORD_TX)
        return scrub_tx(c, v, err);
    if (v->head_len < MARK_RECORD_BYTES || mark_record_decode(v->head, c->l->record_seed, &m, NULL) != ST_OK)
        finding(c, v->offset, 0, "mark record is damaged");
    return ST_OK;
}

/* Frames from the header up to end. */
static enum status scrub_frames(struct scrub *c, uint64_t end, struct err *err)
{
    uint64_t at = SEGMENT_HEADER_BYTES;
    enum frame_state state;
    struct frame_header h;
    bool found, is_whole;
    enum status st;

    while (at < end && !c->is_stopped) {
        if ((st = frame_probe(&c->w, c->s->seed, at, &state, &h, err)) != ST_OK)
            return st;
        if (state == FRAME_NONE) {
            finding(c, at, 0, "frame has a wrong header");
            if ((st = frame_find(&c->w, c->s->seed, at + FRAME_ALIGN, &found, &at, &h, err)) != ST_OK)
                return st;
            if (!found)
                return ST_OK;
            c->batch = 0; /* the chain begins anew */
            continue;
        }
        if (state == FRAME_BROKEN)
            finding(c, at, h.first_tx_id, "frame has a wrong checksum");
        if (c->batch != 0 && (h.batch != c->batch + 1 || h.prev_crc != c->chain))
            finding(c, at, h.first_tx_id, "frame does not continue the one before");
        if ((st = frame_walk(&c->w, at, &h, scrub_record, c, &is_whole, err)) != ST_OK)
            return st;
        if (!is_whole && state == FRAME_GOOD)
            finding(c, at, h.first_tx_id, "frame holds malformed records");
        c->batch = h.batch;
        c->chain = h.header_crc;
        at += h.len <= end - at ? frame_align(h.len) : FRAME_ALIGN;
    }
    return ST_OK;
}

static enum status scrub_header(struct scrub *c, struct err *err)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct segment_header h;
    struct err what;
    enum status st;

    if (c->w.file_bytes < sizeof bytes) {
        finding(c, 0, 0, "file is shorter than its header");
        return ST_OK;
    }
    if ((st = cache_file_read(c->l->cache, c->s->file, 0, bytes, sizeof bytes, err)) != ST_OK)
        return st;
    if (segment_header_decode(bytes, &h, &what) != ST_OK)
        finding(c, 0, 0, what.text);
    else if (memcmp(h.uuid, c->l->uuid, LOG_UUID_LEN) != 0 || h.segment_no != c->s->no || h.generation != c->s->generation)
        finding(c, 0, 0, "segment header belongs to another file");
    return ST_OK;
}

static enum status scrub_footer(struct scrub *c, struct err *err)
{
    const struct segment_trailer *t = &c->s->trailer;
    uint8_t page[OFFSET_PAGE_BYTES];
    struct segment_trailer again;
    struct frontier *frontier;
    struct sha256 sha;
    const uint8_t *p;
    hash_t digest;
    bool is_valid;
    enum status st;

    if ((st = segment_read_trailer(c->l, c->s, false, &is_valid, &again, err)) != ST_OK)
        return st;
    if (!is_valid) {
        finding(c, t->file_bytes - SEGMENT_TRAILER_BYTES, 0, "trailer is damaged");
        return ST_OK;
    }
    for (uint32_t i = 0; i < t->page_count; i++) {
        uint64_t at = t->pages_offset + (uint64_t)i * OFFSET_PAGE_BYTES;

        if ((st = cache_file_read(c->l->cache, c->s->file, at, page, sizeof page, err)) != ST_OK)
            return st;
        if (!offset_page_is_valid(page, segment_place_seed(c->s->seed, at)))
            finding(c, at, t->first_tx_id + (uint64_t)i * OFFSET_PAGE_TXS, "offset page is damaged");
    }
    if (t->has_frontier) {
        if ((st = cache_file_read(c->l->cache, c->s->file, t->frontier_offset, page, FRONTIER_BLOCK_BYTES, err)) != ST_OK)
            return st;
        if ((frontier = malloc(sizeof *frontier)) == NULL)
            return err_set(err, ST_NOMEM, 0, "no memory for a frontier");
        if (!frontier_block_decode(page, segment_place_seed(c->s->seed, t->frontier_offset), frontier))
            finding(c, t->frontier_offset, 0, "frontier block is damaged");
        free(frontier);
    }
    sha256_init(&sha);
    for (uint64_t at = SEGMENT_HEADER_BYTES; at < t->body_end;) {
        size_t piece = t->body_end - at < WINDOW_BYTES ? (size_t)(t->body_end - at) : WINDOW_BYTES;

        if ((st = window_bytes(&c->w, at, piece, &p, err)) != ST_OK)
            return st;
        sha256_update(&sha, p, piece);
        at += piece;
    }
    sha256_final(&sha, &digest);
    if (!hash_equal(&digest, &t->body_sha256))
        finding(c, SEGMENT_HEADER_BYTES, 0, "body differs from its digest");
    return ST_OK;
}

static enum status scrub_segment(struct scrub *c, struct err *err)
{
    uint64_t end = atomic_load(&c->s->end);
    bool is_sealed = atomic_load(&c->s->is_sealed);
    enum status st;

    c->batch = 0;
    if (c->s->is_lost) {
        finding(c, 0, atomic_load(&c->s->first_tx), "segment is missing");
        return ST_OK;
    }
    if ((st = window_file(&c->w, c->s->file, err)) != ST_OK)
        return st;
    if ((st = scrub_header(c, err)) != ST_OK)
        return st;
    if ((st = scrub_frames(c, is_sealed ? c->s->trailer.body_end : end, err)) != ST_OK)
        return st;
    if (c->s->footer_is_damaged)
        finding(c, end, 0, "footer is damaged");
    return is_sealed && !c->is_stopped ? scrub_footer(c, err) : ST_OK;
}

enum status log_scrub(struct log *l, bool (*bad)(void *ctx, const char *file, uint64_t offset, uint64_t tx_id, const char *what), void *ctx,
                      struct err *err)
{
    struct scrub c = {.l = l, .bad = bad, .ctx = ctx};
    struct err what;
    enum status st;

    if ((st = window_init(&c.w, l->cache, err)) != ST_OK)
        return st;
    for (size_t i = 0; i < table_count(l) && !c.is_stopped; i++) {
        c.s = table_at(l, i);
        if (!segment_ref(c.s)) { /* replaced meanwhile */
            i--;
            continue;
        }
        st = scrub_segment(&c, &what);
        if (st != ST_OK && st != ST_NOMEM)
            finding(&c, 0, 0, what.text); /* unreadable is a finding; the other segments are still looked at */
        segment_unref(c.s);
        if (st == ST_NOMEM) {
            st = err_set(err, ST_NOMEM, 0, "%s", what.text);
            break;
        }
        st = ST_OK;
    }
    window_free(&c.w);
    free(c.meta);
    return st;
}
