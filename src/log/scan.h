/* Reading a segment file from front to back: frames and the records in them, with bounded memory. Used by recovery, sealing, truncation and scrub. */
#ifndef LOG_SCAN_H
#define LOG_SCAN_H

#include "log/frame.h"
#include "log/record.h"
#include "vfs/cache.h"

#define WINDOW_BYTES ((size_t)1 << 20)

/* A moving piece of a file. Reads beyond file_bytes are never asked for. */
struct window {
    struct cache *cache;
    struct cache_file *file;
    uint64_t file_bytes;
    uint8_t *buf; /* WINDOW_BYTES */
    uint64_t at;
    size_t len;
};
MUST_USE enum status window_init(struct window *w, struct cache *cache, struct err *err);
void window_free(struct window *w);
/* Turns to another file; reads nothing but its length. */
MUST_USE enum status window_file(struct window *w, struct cache_file *file, struct err *err);
/* The bytes [offset, offset + len): len <= WINDOW_BYTES and inside the file (else ST_CORRUPT). Valid until the next call. */
MUST_USE enum status window_bytes(struct window *w, uint64_t offset, size_t len, const uint8_t **out, struct err *err);
/* CRC-32C over any length inside the file. */
MUST_USE enum status window_crc(struct window *w, uint64_t offset, uint64_t len, uint32_t *crc, struct err *err);
/* File offset behind the last byte in [from, to) that is not zero; from when there is none. */
MUST_USE enum status window_nonzero_end(struct window *w, uint64_t from, uint64_t to, uint64_t *end, struct err *err);

enum frame_state {
    FRAME_NONE = 0, /* no frame header of this place */
    FRAME_BROKEN,   /* the header is good, the body is not (or not all there) */
    FRAME_GOOD
};
/* Looks at the place; a failure is a failed read, never what the bytes say. */
MUST_USE enum status frame_probe(struct window *w, uint32_t segment_seed, uint64_t offset, enum frame_state *state, struct frame_header *h,
                                 struct err *err);
/* The next good frame header at or after from (a multiple of 64). *found false: none up to the end of the file. */
MUST_USE enum status frame_find(struct window *w, uint32_t segment_seed, uint64_t from, bool *found, uint64_t *offset, struct frame_header *h,
                                struct err *err);

/* One record: offset in the file; head holds its first head_len = min(record length, TX_HEAD_BYTES_MAX) bytes, at least RECORD_HEAD_MIN, valid
 * during the call (copied, the window may move). */
struct record_view {
    uint64_t offset;
    uint32_t len;
    uint8_t type;
    size_t head_len;
    uint8_t head[TX_HEAD_BYTES_MAX];
};
typedef enum status (*record_visit)(void *ctx, const struct record_view *v, struct err *err);
/* Visits the records of a frame whose header is good. *is_whole: they fill the frame exactly, in the number it tells. Stops at the first
 * place that cannot be a record; a failing visit ends it with that status. */
MUST_USE enum status frame_walk(struct window *w, uint64_t offset, const struct frame_header *h, record_visit visit, void *ctx, bool *is_whole,
                                struct err *err);

#endif
