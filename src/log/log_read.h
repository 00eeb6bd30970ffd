/* Shared by the reading files of the log. */
#ifndef LOG_LOG_READ_H
#define LOG_LOG_READ_H

#include "log/log_internal.h"

/* The layout of a head that was checked before (a cached block). */
static inline void tx_layout_trusted(const uint8_t *p, struct tx_layout *x)
{
    x->record_len = load_u32le(p + 4);
    x->flags = load_u16le(p + 10);
    x->has_eh = (x->flags & TX_FLAG_EH) != 0;
    x->entry_count = load_u32le(p + 12);
    x->tx_id = load_u64le(p + 16);
    x->ts = (int64_t)load_u64le(p + 24);
    x->meta_crc = load_u32le(p + 40);
    x->body_seed = load_u32le(p + 44);
    x->rows_at = TX_FIXED_BYTES + (x->has_eh ? HASH_LEN : 0u) + load_u16le(p + 52);
    x->keys_at = x->rows_at + x->entry_count * TX_ROW_BYTES;
    x->values_at = x->keys_at + load_u32le(p + 48);
}

static inline void cache_unpin_if(struct log *l, struct cache_block *b)
{
    if (b->data != NULL && b->owner_ != NULL)
        cache_unpin(l->cache, b);
    memset(b, 0, sizeof *b);
}

/* Place of a tx in a referenced segment. */
MUST_USE enum status segment_place(struct log *l, struct segment *s, uint64_t tx_id, bool nowait, uint64_t *offset, uint64_t *end, struct err *err);
MUST_USE enum status segment_read(struct log *l, struct segment *s, uint64_t offset, void *out, size_t len, bool nowait, struct err *err);
/* Pins a page of the footer of a sealed, referenced segment. */
MUST_USE enum status log_offset_page(struct log *l, struct segment *s, uint64_t page_index, bool nowait, struct cache_block *out, struct err *err);
/* A cached block of tx_id: the whole record, or its meta. */
bool block_find(struct log *l, const struct segment *s, uint64_t tx_id, struct cache_block *out);
/* Reads the beginning of the record (at most want bytes) and checks its head. */
MUST_USE enum status head_read(struct log *l, struct segment *s, uint64_t tx_id, uint64_t offset, uint64_t end, bool nowait, uint8_t *buf,
                               size_t want, size_t *have, struct tx_layout *x, struct err *err);
/* Reads and checks the first len bytes of the record (all of it, or its meta) and keeps them as a block. buf holds `have` bytes already. */
MUST_USE enum status block_load(struct log *l, struct segment *s, const struct tx_layout *x, uint64_t offset, size_t len, const uint8_t *buf,
                                size_t have, bool nowait, struct cache_block *out, struct err *err);
/* Adds to a failed status where it happened. */
enum status in_segment(const struct segment *s, uint64_t tx_id, uint64_t offset, enum status st, struct err *err);
/* An open tx over memory of the caller that holds its record; checked. log_tx_close() is not needed. */
MUST_USE enum status log_tx_from_memory(struct log *l, const uint8_t *data, size_t len, uint64_t tx_id, struct log_tx *out, struct err *err);

#endif
