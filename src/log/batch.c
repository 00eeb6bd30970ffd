/* The batch: one frame under construction.
 *
 * Everything but values from TX_BODY_BORROW_BYTES on is copied into one reused buffer that begins with room for the frame header;
 * borrowed values are remembered with the place in the buffer where they belong. The body checksum is carried along while the bytes are warm,
 * so writing the frame touches only its header. A call that fails leaves the batch as it was before it. */
#include "log/log_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { BUFFER_FIRST = 4096, LIST_FIRST = 64 };

struct batch_mark {
    size_t len, ref_count, tx_count;
    uint64_t frame_len;
    uint32_t body_crc, record_count;
};

static struct batch_mark batch_mark(const struct batch *b)
{
    return (struct batch_mark){b->len, b->ref_count, b->tx_count, b->frame_len, b->body_crc, b->record_count};
}

static void batch_back(struct batch *b, const struct batch_mark *m)
{
    b->len = m->len;
    b->ref_count = m->ref_count;
    b->tx_count = m->tx_count;
    b->frame_len = m->frame_len;
    b->body_crc = m->body_crc;
    b->record_count = m->record_count;
}

static void batch_reset(struct log *l)
{
    struct batch *b = &l->batch;

    if (b->capacity > BATCH_BUFFER_KEEP) {
        budget_give(l->budget, BUDGET_QUEUE, b->capacity);
        free(b->buf);
        b->buf = NULL;
        b->capacity = 0;
    }
    b->is_open = false;
    b->len = FRAME_HEADER_BYTES;
    b->ref_count = b->tx_count = 0;
    b->frame_len = FRAME_HEADER_BYTES;
    b->body_crc = 0;
    b->record_count = 0;
    b->first_tx_id = b->last_tx_id = b->committed = 0;
    b->has_discard = false;
    b->discard_after = 0;
}

void batch_trim(struct log *l)
{
    struct batch *b = &l->batch;

    if (b->is_open || b->capacity <= BATCH_BUFFER_IDLE)
        return;
    budget_give(l->budget, BUDGET_QUEUE, b->capacity);
    free(b->buf);
    b->buf = NULL;
    b->capacity = 0;
}

void batch_free(struct log *l)
{
    struct batch *b = &l->batch;

    budget_give(l->budget, BUDGET_QUEUE, b->capacity);
    free(b->buf);
    free(b->refs);
    free(b->txs);
    free(b->parts);
    memset(b, 0, sizeof *b);
}

static enum status no_memory(struct err *err) { return err_set(err, ST_NOMEM, 0, "no memory for a batch of the log"); }

/* Room for more bytes (and for zeros up to the next multiple of 64 behind them). */
static enum status buffer_reserve(struct log *l, size_t more, struct err *err)
{
    struct batch *b = &l->batch;
    size_t need, capacity = b->capacity == 0 ? BUFFER_FIRST : b->capacity;
    uint8_t *grown;

    if (__builtin_add_overflow(b->len, more, &need) || __builtin_add_overflow(need, (size_t)FRAME_ALIGN, &need))
        return no_memory(err);
    if (need <= b->capacity)
        return ST_OK;
    while (capacity < need)
        if (__builtin_mul_overflow(capacity, (size_t)2, &capacity))
            return no_memory(err);
    if ((grown = realloc(b->buf, capacity)) == NULL)
        return no_memory(err);
    budget_take(l->budget, BUDGET_QUEUE, capacity - b->capacity);
    b->buf = grown;
    b->capacity = capacity;
    return ST_OK;
}

static enum status list_reserve(void **list, size_t *capacity, size_t need, size_t item, struct err *err)
{
    size_t wanted = *capacity == 0 ? LIST_FIRST : *capacity;
    void *grown;

    if (need <= *capacity)
        return ST_OK;
    while (wanted < need)
        wanted *= 2;
    if ((grown = realloc(*list, wanted * item)) == NULL)
        return no_memory(err);
    *list = grown;
    *capacity = wanted;
    return ST_OK;
}

enum status log_batch_begin(struct log *l, struct err *err)
{
    enum status st = log_check_writable(l, err);

    if (st != ST_OK)
        return st;
    assert(!l->batch.is_open);
    batch_reset(l);
    if ((st = buffer_reserve(l, 0, err)) != ST_OK)
        return st;
    l->batch.is_open = true;
    return ST_OK;
}

void log_batch_abort(struct log *l) { batch_reset(l); }

size_t log_batch_bytes(const struct log *l) { return l->batch.is_open ? (size_t)l->batch.frame_len : 0; }

/* Appends bytes that were already written at buf + len. */
static void batch_account(struct batch *b, size_t len)
{
    b->body_crc = crc32c(b->body_crc, b->buf + b->len, len);
    b->len += len;
    b->frame_len += len;
}

/* Zeros up to a multiple of 8: the room was reserved with the record. */
static void batch_pad(struct batch *b)
{
    size_t gap = (size_t)(record_align(b->frame_len) - b->frame_len);

    memset(b->buf + b->len, 0, gap);
    batch_account(b, gap);
}

static enum status batch_put_body(struct log *l, const struct tx_body *body, struct err *err)
{
    struct batch *b = &l->batch;
    enum status st;

    memcpy(b->buf + b->len, body->meta, body->meta_bytes);
    batch_account(b, body->meta_bytes);
    for (size_t i = 0; i < body->piece_count; i++) {
        const struct body_piece *p = &body->pieces[i];

        if (!p->is_borrowed) {
            memcpy(b->buf + b->len, p->data, p->len);
            batch_account(b, p->len);
            continue;
        }
        if ((st = list_reserve((void **)&b->refs, &b->ref_capacity, b->ref_count + 1, sizeof *b->refs, err)) != ST_OK)
            return st;
        b->refs[b->ref_count++] = (struct batch_ref){b->len, p->data, p->len};
        b->body_crc = crc32c(b->body_crc, p->data, p->len);
        b->frame_len += p->len;
    }
    return ST_OK;
}

static size_t body_copied_bytes(const struct tx_body *body)
{
    size_t bytes = body->meta_bytes;

    for (size_t i = 0; i < body->piece_count; i++)
        bytes += body->pieces[i].is_borrowed ? 0 : body->pieces[i].len;
    return bytes;
}

enum status log_batch_tx(struct log *l, const struct tx_header *h, const struct tx_body *body, struct err *err)
{
    struct batch *b = &l->batch;
    struct batch_mark before = batch_mark(b);
    uint64_t expected = (b->last_tx_id != 0 ? b->last_tx_id : l->tail.last_tx) + 1;
    size_t head_len;
    enum status st;

    assert(b->is_open && !b->has_discard);
    if (h->id != expected || l->tail.is_discarding)
        return err_set(err, ST_INVALID, 0, "tx %llu does not follow tx %llu", (unsigned long long)h->id, (unsigned long long)(expected - 1));
    if (b->frame_len + tx_body_bytes(body) > SEGMENT_OFFSET_MAX / 2)
        return err_set(err, ST_LIMIT, 0, "batch exceeds %llu bytes", (unsigned long long)(SEGMENT_OFFSET_MAX / 2));
    if ((st = list_reserve((void **)&b->txs, &b->tx_capacity, b->tx_count + 1, sizeof *b->txs, err)) != ST_OK)
        return st;
    if ((st = buffer_reserve(l, TX_HEAD_BYTES_MAX + body_copied_bytes(body) + RECORD_ALIGN, err)) != ST_OK)
        return st;
    if ((st = tx_record_head_encode(h, body, l->record_seed, b->buf + b->len, &head_len, err)) != ST_OK)
        return st;
    b->txs[b->tx_count++] = (struct batch_tx){b->frame_len, h->ts};
    batch_account(b, head_len);
    if ((st = batch_put_body(l, body, err)) != ST_OK) {
        batch_back(b, &before);
        return st;
    }
    batch_pad(b);
    b->record_count++;
    b->last_tx_id = h->id;
    if (b->first_tx_id == 0)
        b->first_tx_id = h->id;
    return ST_OK;
}

static enum status batch_mark_record(struct log *l, enum record_type type, uint64_t tx_id, const hash_t *alh, struct err *err)
{
    struct mark_record m = {type, tx_id, *alh};
    struct batch *b = &l->batch;
    enum status st;

    assert(b->is_open);
    if ((st = buffer_reserve(l, MARK_RECORD_BYTES, err)) != ST_OK)
        return st;
    mark_record_encode(&m, l->record_seed, b->buf + b->len);
    batch_account(b, MARK_RECORD_BYTES);
    b->record_count++;
    return ST_OK;
}

enum status log_batch_commit(struct log *l, uint64_t tx_id, const hash_t *alh, struct err *err)
{
    uint64_t last = l->batch.last_tx_id != 0 ? l->batch.last_tx_id : l->tail.last_tx;
    enum status st;

    if (tx_id > last)
        return err_set(err, ST_INVALID, 0, "commit of tx %llu, but the last one is %llu", (unsigned long long)tx_id, (unsigned long long)last);
    if ((st = batch_mark_record(l, RECORD_COMMIT, tx_id, alh, err)) != ST_OK)
        return st;
    if (tx_id > l->batch.committed)
        l->batch.committed = tx_id;
    return ST_OK;
}

enum status log_batch_discard(struct log *l, uint64_t tx_id, const hash_t *alh, struct err *err)
{
    struct batch *b = &l->batch;
    uint64_t committed;
    enum status st;

    pthread_mutex_lock(&l->write);
    committed = l->tail.committed > b->committed ? l->tail.committed : b->committed;
    pthread_mutex_unlock(&l->write);
    /* Discarded ids are given out again only after log_cut(): so a frame with a DISCARD holds no tx. */
    if (b->tx_count > 0 || b->has_discard || tx_id > l->tail.last_tx || tx_id < committed)
        return err_set(err, ST_INVALID, 0, "discard after tx %llu: committed are %llu, the last one is %llu", (unsigned long long)tx_id,
                       (unsigned long long)committed, (unsigned long long)l->tail.last_tx);
    if ((st = batch_mark_record(l, RECORD_DISCARD, tx_id, alh, err)) != ST_OK)
        return st;
    b->has_discard = true;
    b->discard_after = tx_id;
    return ST_OK;
}

enum status batch_parts(struct batch *b, size_t *part_count, struct err *err)
{
    size_t gap = (size_t)(frame_align(b->frame_len) - b->frame_len), at = 0, n = 0;
    enum status st;

    *part_count = 0;
    if ((st = list_reserve((void **)&b->parts, &b->part_capacity, 2 * b->ref_count + 3, sizeof *b->parts, err)) != ST_OK)
        return st;
    memset(b->buf + b->len, 0, gap); /* reserved by buffer_reserve() */
    n = 1;                           /* the first one is log_write_frame()'s */
    for (size_t i = 0; i < b->ref_count; i++) {
        if (b->refs[i].buf_at > at)
            b->parts[n++] = (struct vfs_iovec){b->buf + at, b->refs[i].buf_at - at};
        at = b->refs[i].buf_at;
        b->parts[n++] = (struct vfs_iovec){b->refs[i].data, b->refs[i].len};
    }
    if (b->len + gap > at)
        b->parts[n++] = (struct vfs_iovec){b->buf + at, b->len + gap - at};
    *part_count = n;
    return ST_OK;
}
