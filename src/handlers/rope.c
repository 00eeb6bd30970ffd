/* Reading and sending what is only partly in memory; see rope.h.
 *
 * Two blocks of the call's arena take turns: while the client takes one, a worker fills the other, and no thread waits for a slow client. Short memory makes the blocks
 * small, not the answer impossible. */
#include "handlers/rope.h"

#include <assert.h>
#include <stdlib.h>

#include "databases/databases.h"
#include "handlers/kv_common.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "wire/part.h"

#define BLOCK_BYTES_MIN ((size_t)8 << 10)

/* ------------------------------------------------------------ reading */

void rope_reader_init(struct rope_reader *r, struct store *s, const struct rope *rope) { *r = (struct rope_reader){.store = s, .rope = rope}; }

void rope_reader_close(struct rope_reader *r) { store_value_close(&r->value); }

/* Begins the value of the next cut. */
static enum status cut_open(struct rope_reader *r, const struct rope_cut *cut, struct err *err)
{
    uint8_t skipped;
    enum status st;

    assert(cut->from.skip <= 1);
    if ((st = store_value_open(r->store, cut->from.tx_id, cut->from.entry_index, &r->value, err)) != ST_OK)
        return st;
    if (r->value.len != cut->len + cut->from.skip)
        return err_set(err, ST_CORRUPT, 0, "data is corrupted: a value of %zu bytes has become one of %u", cut->len, r->value.len);
    return cut->from.skip == 0 ? ST_OK : store_value_read(r->store, &r->value, &skipped, 1, err);
}

/* At most len bytes of the value whose turn it is. */
static enum status cut_read(struct rope_reader *r, uint8_t *to, size_t len, size_t *got, struct err *err)
{
    const struct rope_cut *cut = &r->rope->cuts[r->cut_index];
    enum status st;

    *got = 0;
    if (r->value.segment_ == NULL && (st = cut_open(r, cut, err)) != ST_OK)
        return st;
    *got = r->value.len - r->value.at < len ? r->value.len - r->value.at : len;
    if ((st = store_value_read(r->store, &r->value, to, *got, err)) != ST_OK)
        return st;
    if (r->value.at == r->value.len) {
        store_value_close(&r->value);
        r->cut_index++;
    }
    return ST_OK;
}

enum status rope_read(struct rope_reader *r, uint8_t *to, size_t len, struct err *err)
{
    const struct rope *rope = r->rope;
    enum status st;
    size_t n;

    for (; len > 0; to += n, len -= n) {
        size_t upto = r->cut_index < rope->cut_count ? rope->cuts[r->cut_index].at : rope->bytes.len;

        if (r->at < upto) {
            n = upto - r->at < len ? upto - r->at : len;
            memcpy(to, rope->bytes.data + r->at, n);
            r->at += n;
        } else {
            assert(r->cut_index < rope->cut_count);
            if ((st = cut_read(r, to, len, &n, err)) != ST_OK)
                return st;
        }
    }
    return ST_OK;
}

/* ------------------------------------------------------------ streams */

#define STREAM_HIGH_BYTES ((size_t)256 << 10)
#define STREAM_TIGHT_PERCENT 50u
#define STREAM_FRACTION 64 /* of the memory for requests */

size_t rope_stream_bytes(const struct request *rq)
{
    const struct budget *b = &rq->server->runtime->budget;
    size_t part = b->share[BUDGET_REQUEST] / STREAM_FRACTION;

    if (budget_pressure(b, BUDGET_REQUEST) >= STREAM_TIGHT_PERCENT || part < ROPE_STREAM_LOW_BYTES)
        return ROPE_STREAM_LOW_BYTES;
    return part < STREAM_HIGH_BYTES ? part : STREAM_HIGH_BYTES;
}

enum status rope_send_chunk(struct request *rq, struct rope_reader *r, size_t index, const struct wire_chunk_metadata *metadata,
                            size_t metadata_count, size_t *queued, struct err *err)
{
    size_t size = part_chunk_size(r->rope->len, index, metadata, metadata_count), from, len;
    uint8_t *message = malloc(size), *room;
    enum status st;

    if (message == NULL)
        return err_set(err, ST_NOMEM, 0, "a chunk of %zu bytes", size);
    room = part_chunk_begin(r->rope->len, index, metadata, metadata_count, message, size, &from, &len);
    if ((st = rope_read(r, room, len, err)) != ST_OK) {
        free(message);
        return st;
    }
    rq->is_repeatable = false;
    *queued = rpc_send_owned(rq->call, message, size);
    return ST_OK;
}

/* ------------------------------------------------------------ unary answers */

struct rope_answer {
    struct pool_job job;
    struct request *rq;
    struct rope rope;
    struct rope_reader reader;
    uint8_t *blocks[2];
    size_t block_bytes, sent;
    unsigned turn;
};

static void answer_end(struct rope_answer *a, enum status st)
{
    struct request *rq = a->rq;

    rope_reader_close(&a->reader);
    if (rpc_is_cancelled(rq->call))
        request_fail(rq, RPC_CANCELLED, "context canceled");
    else if (st != ST_OK)
        kv_fail(rq, st, &rq->err);
    else
        request_end(rq);
}

static void on_drained(struct rpc_call *call)
{
    struct rope_answer *a = request_of(call)->message;

    pool_submit(a->rq->server->runtime->worker_pool, &a->job);
}

/* Fills and sends a block. */
static enum status block_send(struct rope_answer *a, size_t *queued)
{
    struct request *rq = a->rq;
    uint8_t *block = a->blocks[a->turn];
    size_t left = a->rope.len - a->sent, n = left < a->block_bytes ? left : a->block_bytes;
    enum status st = rope_read(&a->reader, block, n, &rq->err);

    if (st != ST_OK)
        return st;
    rq->is_repeatable = false;
    *queued = rpc_send_piece(rq->call, bytes_of(block, n), a->rope.len, a->sent == 0);
    a->sent += n;
    a->turn ^= 1;
    return ST_OK;
}

static void run(struct pool_job *job)
{
    struct rope_answer *a = (struct rope_answer *)(void *)((char *)job - offsetof(struct rope_answer, job));
    size_t queued = 0;
    enum status st = ST_OK;

    if (rpc_is_cancelled(a->rq->call)) {
        answer_end(a, ST_OK);
        return;
    }
    if (a->sent == 0) /* both blocks are free */
        st = block_send(a, &queued);
    if (st == ST_OK && a->sent < a->rope.len)
        st = block_send(a, &queued);
    if (st != ST_OK || a->sent == a->rope.len)
        answer_end(a, st);
    else
        rpc_on_drained(a->rq->call, a->block_bytes + 1, on_drained); /* from here on it may run elsewhere */
}

/* Two blocks as large as memory allows. */
static bool blocks_take(struct rope_answer *a)
{
    struct arena *arena = a->rq->arena;
    size_t first = rope_stream_bytes(a->rq) / 2;
    uint8_t *both = NULL;

    for (a->block_bytes = first; both == NULL && a->block_bytes >= BLOCK_BYTES_MIN; a->block_bytes /= 4)
        both = arena_alloc(arena, 2 * a->block_bytes);
    if (both == NULL || !rpc_forgive_memory(a->rq->call))
        return false;
    a->block_bytes *= 4; /* the loop's last step */
    a->blocks[0] = both;
    a->blocks[1] = both + a->block_bytes;
    return true;
}

void rope_reply(struct request *rq, const struct rope *message)
{
    struct rope_answer *a;

    if (message->cut_count == 0) {
        request_reply(rq, message->bytes);
        return;
    }
    if ((a = arena_zalloc(rq->arena, sizeof *a)) == NULL) {
        request_fail_nomem(rq);
        return;
    }
    a->job.run = run;
    a->rq = rq;
    a->rope = *message;
    rope_reader_init(&a->reader, rq->store, &a->rope);
    if (!blocks_take(a)) {
        request_fail_nomem(rq);
        return;
    }
    rq->message = a; /* where on_drained() finds it */
    run(&a->job);
}
