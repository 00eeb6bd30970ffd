/* streamGet, streamScan, streamHistory, streamZScan, streamVerifiableGet: entries as parts of chunks.
 *
 * A worker reads entries and sends their chunks until enough is queued, then lets go of its thread; the reactor hands the stream
 * back to a worker when the client has taken most of it. Large values stay in the log until their chunks are sent, from buffers of their own, freed as they leave: what a
 * stream holds is one entry without its value and what rope_stream_bytes() says, whatever its length. */
#include <assert.h>
#include <stdlib.h>

#include "handlers/kv_handlers.h"
#include "handlers/kv_verify.h"
#include "handlers/rope.h"
#include "wire/part.h"

#define FAR_BYTES ((size_t)32 << 10) /* longer values are read as they are sent */
#define SCRATCH_BYTES 4096u
#define ITEM_PARTS_MAX 5u

struct stream_out {
    struct pool_job job;
    struct request *rq;
    const void *message;
    /* Checks the request and opens what next reads from. */
    enum status (*open)(struct stream_out *s, struct err *err);
    /* The parts of the next item; ST_NOT_FOUND with an empty text at the end. */
    enum status (*next)(struct stream_out *s, struct err *err);
    struct kv_reader reader;
    struct arena scratch; /* of the current item */
    struct kv_scan scan;
    struct kv_zscan zscan;
    struct kv_history history;
    bool is_reader_open, is_opened, is_single, is_done;
    struct rope parts[ITEM_PARTS_MAX];
    struct rope_cut value_cut; /* of the part whose value is in the log */
    size_t part_count, part_index, chunk_index;
    struct rope_reader part; /* the one whose turn it is */
};

static void stream_close(struct stream_out *s)
{
    rope_reader_close(&s->part);
    kv_scan_close(&s->scan);
    kv_zscan_close(&s->zscan);
    if (s->is_reader_open)
        kv_reader_close(&s->reader);
    arena_free(&s->scratch);
}

static void stream_fail(struct stream_out *s, enum status st, const struct err *err)
{
    stream_close(s);
    kv_fail(s->rq, st, err);
}

/* ------------------------------------------------------------ the producer */

static void on_drained(struct rpc_call *call)
{
    struct stream_out *s = request_of(call)->message;

    pool_submit(s->rq->server->runtime->worker_pool, &s->job);
}

/* Sends the next chunk of the current item; *queued tells how much waits to be taken. */
static enum status send_chunk(struct stream_out *s, size_t *queued, struct err *err)
{
    const struct rope *part = &s->parts[s->part_index];
    enum status st;

    if (s->chunk_index == 0)
        rope_reader_init(&s->part, s->rq->store, part);
    if ((st = rope_send_chunk(s->rq, &s->part, s->chunk_index, NULL, 0, queued, err)) != ST_OK)
        return st;
    if (++s->chunk_index == part_chunk_count(part->len)) {
        s->chunk_index = 0;
        s->part_index++;
    }
    return ST_OK;
}

static enum status next_item(struct stream_out *s, struct err *err)
{
    if (s->is_done)
        return err_set(err, ST_NOT_FOUND, 0, "%s", "");
    kv_reader_unpin(&s->reader);
    arena_reset(&s->scratch);
    s->part_index = s->part_count = 0;
    s->is_done = s->is_single;
    return s->next(s, err);
}

static void produce(struct stream_out *s)
{
    struct request *rq = s->rq;
    size_t queued = 0, queued_max = rope_stream_bytes(rq);
    enum status st = ST_OK;

    while (st == ST_OK && queued < queued_max && !rpc_is_cancelled(rq->call)) {
        bool is_fresh = s->part_index == s->part_count;

        if (is_fresh && (st = next_item(s, &rq->err)) == ST_NOT_FOUND && rq->err.text[0] == '\0') {
            stream_close(s);
            request_end(rq);
            return;
        }
        if (st == ST_OK)
            st = send_chunk(s, &queued, &rq->err);
    }
    if (st != ST_OK) {
        stream_fail(s, st, &rq->err);
    } else if (rpc_is_cancelled(rq->call)) {
        stream_close(s);
        request_fail(rq, RPC_CANCELLED, "context canceled");
    } else {
        rpc_on_drained(rq->call, ROPE_STREAM_LOW_BYTES, on_drained); /* from here on it may run elsewhere */
    }
}

static void run(struct pool_job *job)
{
    struct stream_out *s = (struct stream_out *)(void *)((char *)job - offsetof(struct stream_out, job));
    enum status st;

    if (!s->is_opened && !rpc_is_cancelled(s->rq->call)) { /* else produce() ends it */
        s->is_opened = true;
        if ((st = s->open(s, &s->rq->err)) != ST_OK) {
            stream_fail(s, st, &s->rq->err);
            return;
        }
        s->reader.arena = &s->scratch;
        kv_reader_far(&s->reader, FAR_BYTES, SIZE_MAX);
    }
    produce(s);
}

static void start(struct request *rq, enum status (*open)(struct stream_out *, struct err *), enum status (*next)(struct stream_out *, struct err *),
                  bool is_single)
{
    struct stream_out *s = arena_zalloc(rq->arena, sizeof *s);

    if (s == NULL) {
        request_fail_nomem(rq);
        return;
    }
    s->job.run = run;
    s->rq = rq;
    s->message = rq->message;
    s->open = open;
    s->next = next;
    s->is_single = is_single;
    arena_init(&s->scratch, SCRATCH_BYTES, rq->arena->bytes_max);
    arena_set_meter(&s->scratch, rq->arena->meter, 0);
    rq->message = s; /* where on_drained() finds it */
    pool_submit(rq->server->runtime->worker_pool, &s->job);
}

/* ------------------------------------------------------------ what is sent */

static enum status reader_open(struct stream_out *s, uint64_t since_tx, struct err *err)
{
    enum status st = kv_reader_open(s->rq, &s->reader, since_tx, false, err);

    s->is_reader_open = st == ST_OK;
    return st;
}

static struct rope rope_of(struct bytes b) { return (struct rope){.bytes = b, .len = b.len}; }

/* The value as a part, which may be left where it lies. */
static struct rope value_part(struct stream_out *s, const struct kv_entry *e)
{
    if (e->far.tx_id == 0)
        return rope_of(e->value);
    s->value_cut = (struct rope_cut){0, e->value.len, e->far};
    return (struct rope){.bytes = bytes_of("", 0), .cuts = &s->value_cut, .cut_count = 1, .len = e->value.len};
}

static void key_and_value(struct stream_out *s, const struct kv_entry *e)
{
    s->parts[0] = rope_of(e->key);
    s->parts[1] = value_part(s, e);
    s->part_count = 2;
}

static enum status get_open(struct stream_out *s, struct err *err)
{
    (void)err;
    kv_reader_init(&s->reader, s->rq->store, &s->scratch, s->rq->now_s, false);
    s->is_reader_open = true;
    return ST_OK;
}
static enum status get_next(struct stream_out *s, struct err *err)
{
    struct kv_get_options o;
    struct kv_entry e;
    enum status st;

    kv_get_options_of(s->rq, s->message, false, &o);
    if ((st = kv_get(&s->reader, &o, &e, err)) == ST_OK)
        key_and_value(s, &e);
    return st;
}
void handle_stream_get(struct request *rq) { start(rq, get_open, get_next, true); }

static enum status scan_open(struct stream_out *s, struct err *err)
{
    const Immudb__Schema__ScanRequest *m = s->message;
    struct kv_scan_options o;
    enum status st;

    if ((st = reader_open(s, m->sincetx, err)) != ST_OK || (st = kv_scan_of(m, &o, err)) != ST_OK)
        return st;
    return kv_scan_open(&s->scan, &s->reader, &o, err);
}
static enum status scan_next(struct stream_out *s, struct err *err)
{
    struct kv_entry e;
    enum status st = kv_scan_next(&s->scan, &e, err);

    if (st == ST_OK)
        key_and_value(s, &e);
    return st;
}
void handle_stream_scan(struct request *rq) { start(rq, scan_open, scan_next, false); }

static enum status history_open(struct stream_out *s, struct err *err)
{
    const Immudb__Schema__HistoryRequest *m = s->message;
    uint64_t ignored;
    enum status st;

    if ((st = reader_open(s, m->sincetx, err)) != ST_OK || (st = kv_limit(m->limit > 0 ? (uint64_t)m->limit : 0, &ignored, err)) != ST_OK)
        return st;
    return kv_history_open(&s->history, &s->reader, bytes_pb(m->key), m->offset, m->limit, m->desc, err);
}
static enum status history_next(struct stream_out *s, struct err *err)
{
    struct kv_entry e;
    enum status st = kv_history_next(&s->history, &e, err);

    if (st == ST_OK)
        key_and_value(s, &e);
    return st;
}
void handle_stream_history(struct request *rq) { start(rq, history_open, history_next, false); }

static enum status zscan_open(struct stream_out *s, struct err *err)
{
    const Immudb__Schema__ZScanRequest *m = s->message;
    struct kv_zscan_options o;
    enum status st;

    if ((st = kv_zscan_of(m, &o, err)) != ST_OK || (st = reader_open(s, m->sincetx, err)) != ST_OK)
        return st;
    return kv_zscan_open(&s->zscan, &s->reader, &o, err);
}
/* Set, key, score, atTx, value. */
static enum status zscan_next(struct stream_out *s, struct err *err)
{
    struct kv_zentry z;
    uint8_t *numbers;
    uint64_t score;
    enum status st;

    if ((st = kv_zscan_next(&s->zscan, &z, err)) != ST_OK)
        return st;
    if ((numbers = arena_alloc(&s->scratch, 16)) == NULL)
        return err_set(err, ST_NOMEM, 0, "a set member");
    memcpy(&score, &z.score, 8);
    store_u64be(numbers, score);
    store_u64be(numbers + 8, z.at_tx);
    s->parts[0] = rope_of(z.set);
    s->parts[1] = rope_of(z.key);
    s->parts[2] = rope_of(bytes_of(numbers, 8));
    s->parts[3] = rope_of(bytes_of(numbers + 8, 8));
    s->parts[4] = value_part(s, &z.entry);
    s->part_count = 5;
    return ST_OK;
}
void handle_stream_zscan(struct request *rq) { start(rq, zscan_open, zscan_next, false); }

static enum status verifiable_open(struct stream_out *s, struct err *err)
{
    enum status st = kv_verifiable_get_check(s->rq, s->message);

    if (st != ST_OK && err != &s->rq->err)
        *err = s->rq->err;
    return st == ST_OK ? get_open(s, err) : st;
}

/* The entry without value, metadata and revision; the tx with its proof; the inclusion proof; the value. */
static enum status verifiable_parts(struct stream_out *s, const struct kv_entry *e, const struct kv_entry_proof *p, struct err *err)
{
    struct wire_verifiable_tx v = kv_proof_wire(&p->proof, &p->tx.tx);
    struct kv_entry head = {.tx_id = e->tx_id, .key = e->key, .has_reference = e->has_reference, .reference = e->reference};
    enum status st;
    struct pb w;

    pb_init(&w, &s->scratch, wire_entry_size(&head));
    wire_entry(&w, &head);
    if ((st = pb_take_rope(&w, &s->parts[0], err)) != ST_OK)
        return st;
    pb_init(&w, &s->scratch, wire_tx_hint(&p->tx.tx) + wire_proof_hint(&p->proof.proof));
    wire_verifiable_tx(&w, &v);
    if ((st = pb_take_rope(&w, &s->parts[1], err)) != ST_OK)
        return st;
    pb_init(&w, &s->scratch, p->inclusion.term_count * 34 + 16);
    wire_inclusion_proof(&w, p->leaf, p->tx.log_tx.entry_count, &p->inclusion);
    if ((st = pb_take_rope(&w, &s->parts[2], err)) != ST_OK)
        return st;
    s->parts[3] = value_part(s, e);
    s->part_count = 4;
    return ST_OK;
}

static enum status verifiable_next(struct stream_out *s, struct err *err)
{
    const Immudb__Schema__VerifiableGetRequest *m = s->message;
    struct kv_get_options o;
    struct kv_entry_proof p;
    struct kv_entry e;
    enum status st;

    kv_get_options_of(s->rq, m->keyrequest, false, &o);
    if ((st = kv_get(&s->reader, &o, &e, err)) != ST_OK || (st = kv_prove_entry(s->rq, &s->reader, &e, m->provesincetx, &p, err)) != ST_OK)
        return st;
    st = verifiable_parts(s, &e, &p, err);
    kv_tx_close(&p.tx);
    return st;
}
void handle_stream_verifiable_get(struct request *rq) { start(rq, verifiable_open, verifiable_next, true); }
