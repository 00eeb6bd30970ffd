/* Moving window over a segment file, frames, records: see scan.h. */
#include "log/scan.h"

#include "base/hash.h"
#include "log/segment.h"

#include <assert.h>
#include <stdlib.h>

enum status window_init(struct window *w, struct cache *cache, struct err *err)
{
    memset(w, 0, sizeof *w);
    w->cache = cache;
    if ((w->buf = malloc(WINDOW_BYTES)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory to read a segment");
    return ST_OK;
}

void window_free(struct window *w)
{
    free(w->buf);
    memset(w, 0, sizeof *w);
}

enum status window_file(struct window *w, struct cache_file *file, struct err *err)
{
    w->file = file;
    w->at = 0;
    w->len = 0;
    return cache_file_length(w->cache, file, &w->file_bytes, err);
}

enum status window_bytes(struct window *w, uint64_t offset, size_t len, const uint8_t **out, struct err *err)
{
    uint64_t take;
    enum status st;

    assert(len <= WINDOW_BYTES);
    *out = NULL;
    if (offset > w->file_bytes || len > w->file_bytes - offset)
        return err_set(err, ST_CORRUPT, 0, "%s ends before offset %llu", cache_file_path(w->file), (unsigned long long)(offset + len));
    if (offset < w->at || offset + len > w->at + w->len) {
        take = w->file_bytes - offset < WINDOW_BYTES ? w->file_bytes - offset : WINDOW_BYTES;
        w->len = 0;
        if ((st = cache_file_read(w->cache, w->file, offset, w->buf, (size_t)take, err)) != ST_OK)
            return st;
        w->at = offset;
        w->len = (size_t)take;
    }
    *out = w->buf + (offset - w->at);
    return ST_OK;
}

enum status window_crc(struct window *w, uint64_t offset, uint64_t len, uint32_t *crc, struct err *err)
{
    const uint8_t *p;
    enum status st;

    while (len > 0) {
        /* What the window holds already first, then full windows. */
        uint64_t held = offset >= w->at && offset < w->at + w->len ? w->at + w->len - offset : WINDOW_BYTES;
        size_t piece = (size_t)(held < len ? held : len);

        if ((st = window_bytes(w, offset, piece, &p, err)) != ST_OK)
            return st;
        *crc = crc32c(*crc, p, piece);
        offset += piece;
        len -= piece;
    }
    return ST_OK;
}

enum status window_nonzero_end(struct window *w, uint64_t from, uint64_t to, uint64_t *end, struct err *err)
{
    const uint8_t *p;
    enum status st;

    *end = from;
    while (from < to) {
        size_t piece = to - from < WINDOW_BYTES ? (size_t)(to - from) : WINDOW_BYTES, i = piece;

        if ((st = window_bytes(w, from, piece, &p, err)) != ST_OK)
            return st;
        if (p[0] != 0 || memcmp(p, p + 1, piece - 1) != 0) {
            while (p[i - 1] == 0)
                i--;
            *end = from + i;
        }
        from += piece;
    }
    return ST_OK;
}

enum status frame_probe(struct window *w, uint32_t seed, uint64_t offset, enum frame_state *state, struct frame_header *h, struct err *err)
{
    uint32_t crc = 0;
    const uint8_t *p;
    enum status st;

    *state = FRAME_NONE;
    if (offset > w->file_bytes || w->file_bytes - offset < FRAME_HEADER_BYTES)
        return ST_OK;
    if ((st = window_bytes(w, offset, FRAME_HEADER_BYTES, &p, err)) != ST_OK)
        return st;
    if (!frame_header_decode(p, segment_place_seed(seed, offset), h))
        return ST_OK;
    *state = FRAME_BROKEN;
    if (h->len > w->file_bytes - offset)
        return ST_OK;
    /* A frame that reaches over the window's end: move the window to its start, the records are read next. */
    if (h->len <= WINDOW_BYTES && (st = window_bytes(w, offset, (size_t)h->len, &p, err)) != ST_OK)
        return st;
    if ((st = window_crc(w, offset + FRAME_HEADER_BYTES, h->len - FRAME_HEADER_BYTES, &crc, err)) != ST_OK)
        return st;
    if (crc == h->body_crc)
        *state = FRAME_GOOD;
    return ST_OK;
}

enum status frame_find(struct window *w, uint32_t seed, uint64_t from, bool *found, uint64_t *offset, struct frame_header *h, struct err *err)
{
    const uint8_t *p;
    enum status st;

    *found = false;
    while (from + FRAME_HEADER_BYTES <= w->file_bytes) {
        uint64_t left = w->file_bytes - from;
        size_t piece = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES, i;

        if ((st = window_bytes(w, from, piece, &p, err)) != ST_OK)
            return st;
        for (i = 0; i + FRAME_HEADER_BYTES <= piece; i += FRAME_ALIGN)
            if (load_u32le(p + i) == FRAME_MAGIC && frame_header_decode(p + i, segment_place_seed(seed, from + i), h)) {
                *found = true;
                *offset = from + i;
                return ST_OK;
            }
        from += i;
    }
    return ST_OK;
}

enum status frame_walk(struct window *w, uint64_t offset, const struct frame_header *h, record_visit visit, void *ctx, bool *is_whole,
                       struct err *err)
{
    uint64_t at = offset + FRAME_HEADER_BYTES, end = offset + h->len;
    struct record_view v;
    const uint8_t *p;
    uint32_t count = 0;
    enum status st;

    *is_whole = false;
    if (end > w->file_bytes)
        end = w->file_bytes;
    while (at < end) {
        if (end - at < RECORD_HEAD_MIN)
            return ST_OK;
        if ((st = window_bytes(w, at, RECORD_HEAD_MIN, &p, err)) != ST_OK)
            return st;
        v.offset = at;
        v.len = load_u32le(p + 4);
        v.type = p[8];
        if (v.len < MARK_RECORD_BYTES || record_align(v.len) > end - at)
            return ST_OK;
        v.head_len = v.len < sizeof v.head ? v.len : sizeof v.head;
        if ((st = window_bytes(w, at, v.head_len, &p, err)) != ST_OK)
            return st;
        memcpy(v.head, p, v.head_len);
        if ((st = visit(ctx, &v, err)) != ST_OK)
            return st;
        count++;
        at += record_align(v.len);
    }
    *is_whole = at == offset + h->len && count == h->record_count;
    return ST_OK;
}
