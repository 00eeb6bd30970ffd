/* exportTx, streamExportTx, replicateTx: transactions as they are, out and in.
 *
 * Exports and imports run on a worker. What has to wait (for a tx that is not there yet, for the predecessor of an import) holds no
 * thread meanwhile: a timer looks again, first soon, then less often. Large values of an exported transaction stay in the log until their chunks are sent. */
#include <stdlib.h>

#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"
#include "handlers/rope.h"
#include "store/timer.h"
#include "wire/part.h"

#define WAIT_FIRST_NS 1000000ull /* 1 ms, then doubled */
#define WAIT_LONGEST_NS 20000000ull
#define SCRATCH_BYTES 4096u
#define FAR_BYTES ((size_t)64 << 10) /* longer values are read as they are sent */
#define IMPORT_AHEAD_MAX 1000u       /* an id further ahead is refused by the store */
#define BLOB_BYTES_MAX (256u << 20)

/* A job on the worker pool that can be put off. */
struct delayed {
    struct pool_job job;
    struct timer timer;
    struct request *rq;
    uint64_t wait_ns;
};

static void timer_fired(struct timer *t)
{
    struct delayed *d = (struct delayed *)(void *)((char *)t - offsetof(struct delayed, timer));

    pool_submit(d->rq->server->runtime->worker_pool, &d->job);
}
static void delayed_init(struct delayed *d, struct request *rq, void (*run)(struct pool_job *job))
{
    d->rq = rq;
    d->job.run = run;
    d->timer.fire = timer_fired;
    d->wait_ns = 0;
}
static void delayed_now(struct delayed *d) { pool_submit(d->rq->server->runtime->worker_pool, &d->job); }
/* The caller does not touch d any more. */
static void delayed_later(struct delayed *d)
{
    const struct runtime *runtime = d->rq->server->runtime;

    d->wait_ns = d->wait_ns == 0 ? WAIT_FIRST_NS : d->wait_ns * 2 < WAIT_LONGEST_NS ? d->wait_ns * 2 : WAIT_LONGEST_NS;
    alarm_arm(runtime->timers, &d->timer, env_mono_ns(runtime->env) + d->wait_ns);
}
static struct delayed *delayed_of(struct pool_job *job) { return (struct delayed *)(void *)((char *)job - offsetof(struct delayed, job)); }

static void answer_given_up(struct request *rq)
{
    if (env_mono_ns(rq->server->env) >= rpc_deadline_ns(rq->call))
        request_fail(rq, RPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    else
        request_fail(rq, RPC_CANCELLED, "context canceled");
}

/* ------------------------------------------------------------ export */

struct exporter {
    struct delayed delayed;
    bool is_stream; /* streamExportTx: many requests */
    const Immudb__Schema__ExportTxRequest *message;
    struct arena scratch; /* of one request and its answer */
    struct rope blob;     /* the tx; its len is 0 until it was made */
    struct rope_reader reader;
    size_t chunk_index;
};

static enum status export_check(struct exporter *x, bool *must_wait, struct err *err)
{
    const Immudb__Schema__ExportTxRequest *m = x->message;
    struct store_state state;

    *must_wait = false;
    if (m->tx == 0)
        return err_set(err, ST_INVALID, 0, KV_TEXT_ILLEGAL_ARGUMENTS);
    store_get_state(x->delayed.rq->store, &state);
    if (!m->allowprecommitted && m->tx > state.tx_id)
        return err_set(err, ST_NOT_FOUND, 0, "no new transactions");
    if (m->replicastate != NULL)
        return err_set(err, ST_INVALID, 0, "illegal state: replica state was NOT expected");
    *must_wait = m->tx > state.precommitted_tx_id;
    return ST_OK;
}

static enum status blob_make(struct exporter *x, struct err *err)
{
    struct store *store = x->delayed.rq->store;
    struct store_export_parts parts;
    struct rope_cut *cuts;
    enum status st;

    st = store_export_parts(store, x->message->tx, x->message->allowprecommitted, x->message->skipintegritycheck, FAR_BYTES, &x->scratch, &parts,
                            err);
    if (st != ST_OK)
        return st;
    if ((cuts = arena_array(&x->scratch, parts.gap_count, sizeof *cuts)) == NULL)
        return err_set(err, ST_NOMEM, 0, "exporting a transaction of %zu bytes", parts.len);
    for (size_t i = 0; i < parts.gap_count; i++)
        cuts[i] = (struct rope_cut){parts.gaps[i].at, parts.gaps[i].len, {.tx_id = x->message->tx, .entry_index = parts.gaps[i].entry_index}};
    x->blob = (struct rope){parts.bytes, cuts, parts.gap_count, parts.len};
    x->chunk_index = 0;
    rope_reader_init(&x->reader, store, &x->blob);
    return ST_OK;
}

/* Sends chunks of the exported tx until enough is queued. */
static enum status export_send(struct exporter *x, struct err *err)
{
    struct request *rq = x->delayed.rq;
    struct wire_chunk_metadata md = {"committed-txid-bin", bytes_of(NULL, 0)};
    size_t queued = 0, queued_max = rope_stream_bytes(rq), count;
    struct store_state state;
    uint8_t committed[8];
    enum status st = ST_OK;

    if (x->blob.len == 0 && (st = blob_make(x, err)) != ST_OK)
        return st;
    store_get_state(rq->store, &state);
    store_u64be(committed, state.tx_id);
    md.value = bytes_of(committed, sizeof committed);
    count = part_chunk_count(x->blob.len);
    while (st == ST_OK && x->chunk_index < count && queued < queued_max)
        st = rope_send_chunk(rq, &x->reader, x->chunk_index++, &md, 1, &queued, err);
    return st;
}

static bool is_sent(const struct exporter *x) { return x->blob.len > 0 && x->chunk_index == part_chunk_count(x->blob.len); }

static void export_drained(struct rpc_call *call)
{
    struct exporter *x = request_of(call)->message;

    if (!is_sent(x)) {
        delayed_now(&x->delayed);
        return;
    }
    x->message = NULL;
    x->blob.len = 0;
    arena_reset(&x->scratch);
    rpc_resume(call); /* the next request */
}

/* Nothing of it is used any more. */
static void export_close(struct exporter *x)
{
    rope_reader_close(&x->reader);
    arena_free(&x->scratch);
}

static void export_end(struct exporter *x, enum status st, const struct err *err)
{
    export_close(x);
    if (st != ST_OK)
        kv_fail(x->delayed.rq, st, err);
    else
        request_end(x->delayed.rq);
}

static void export_run(struct pool_job *job)
{
    struct exporter *x = (struct exporter *)(void *)delayed_of(job);
    struct request *rq = x->delayed.rq;
    bool must_wait = false;
    enum status st = ST_OK;

    if (rpc_is_cancelled(rq->call)) {
        export_close(x);
        answer_given_up(rq);
        return;
    }
    if (x->blob.len == 0)
        st = export_check(x, &must_wait, &rq->err);
    if (st == ST_OK && must_wait) {
        delayed_later(&x->delayed);
        return;
    }
    if (st == ST_OK)
        st = export_send(x, &rq->err);
    if (st == ST_OK && (x->is_stream || !is_sent(x)))
        rpc_on_drained(rq->call, ROPE_STREAM_LOW_BYTES, export_drained); /* one answer at a time is in memory */
    else
        export_end(x, st, &rq->err);
}

static struct exporter *exporter_new(struct request *rq)
{
    struct exporter *x = arena_zalloc(rq->arena, sizeof *x);

    if (x == NULL) {
        request_fail_nomem(rq);
        return NULL;
    }
    delayed_init(&x->delayed, rq, export_run);
    arena_init(&x->scratch, SCRATCH_BYTES, BLOB_BYTES_MAX);
    arena_set_meter(&x->scratch, rq->arena->meter, 0);
    return x;
}

void handle_export_tx(struct request *rq)
{
    struct exporter *x = exporter_new(rq);

    if (x == NULL)
        return;
    x->message = rq->message;
    rq->message = x; /* where export_drained() finds it */
    delayed_now(&x->delayed);
}

/* Requests are answered in order: no further one is taken until the answer is nearly gone. */
static void export_on_message(struct rpc_call *call, struct bytes message)
{
    struct exporter *x = request_of(call)->message;
    struct request *rq = x->delayed.rq;
    enum status st;

    st = wire_unpack(&immudb__schema__export_tx_request__descriptor, message, &x->scratch, (void **)(void *)&x->message, &rq->err);
    if (st != ST_OK) {
        arena_free(&x->scratch);
        rpc_pause(call);
        request_fail(rq, st == ST_NOMEM ? RPC_RESOURCE_EXHAUSTED : RPC_INTERNAL, "grpc: error unmarshalling request: %s", rq->err.text);
        return;
    }
    rpc_pause(call);
    x->delayed.wait_ns = 0;
    delayed_now(&x->delayed);
}

/* The client is done: the published end of this stream is an error. */
static void export_on_half_close(struct rpc_call *call)
{
    struct exporter *x = request_of(call)->message;

    arena_free(&x->scratch);
    request_fail(x->delayed.rq, RPC_UNKNOWN, "EOF");
}

void handle_stream_export_tx(struct request *rq)
{
    struct exporter *x = exporter_new(rq);

    if (x == NULL)
        return;
    x->is_stream = true;
    rq->message = x; /* where the callbacks find it */
    rpc_on_stream(rq->call, export_on_message, export_on_half_close);
}

/* ------------------------------------------------------------ replicate */

struct importer {
    struct delayed delayed;
    struct part_reader parts;
    struct bytes blob;
    size_t taken; /* of a chunk that was held back: bytes of its content that need not be taken again */
    bool is_first_seen, is_ended;
    bool skip_integrity, wait_for_indexing;
};

/* Boolean texts as Go's strconv.ParseBool takes them; an absent header is false. Answers when it is none. */
static bool metadata_bool(struct request *rq, const char *name, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    static const char *const no[] = {"0", "f", "F", "FALSE", "false", "False"};
    struct bytes value = rpc_metadata(rq->call, name);

    *out = false;
    if (value.data == NULL)
        return true;
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (bytes_equal(value, bytes_str(yes[i]))) {
            *out = true;
            return true;
        }
        if (bytes_equal(value, bytes_str(no[i])))
            return true;
    }
    request_fail(rq, RPC_UNKNOWN, "strconv.ParseBool: parsing \"%.*s\": invalid syntax", (int)(value.len < 200 ? value.len : 200),
                 (const char *)value.data);
    return false;
}

/* What decides whether this database takes imports. Answers when it does not. */
static bool takes_imports(struct request *rq)
{
    struct database_settings settings;

    if (!database_is_replica(rq->db)) {
        request_fail(rq, RPC_UNKNOWN, "database is NOT a replica");
        return false;
    }
    database_settings_get(rq->db, &settings);
    if (settings.primary_database[0] != '\0' && settings.primary_host[0] != '\0' && settings.primary_port > 0) {
        request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "replication already in progress");
        return false;
    }
    return true;
}

/* The predecessor is not there yet, and the store would still take it when it comes. */
static bool is_early(const struct importer *im)
{
    struct reader r = reader_of(im->blob);
    struct store_state state;
    uint64_t tx_id;

    (void)reader_u32be(&r);
    tx_id = reader_u64be(&r);
    store_get_state(im->delayed.rq->store, &state);
    return !r.failed && tx_id > state.precommitted_tx_id + 1 && tx_id - state.precommitted_tx_id <= IMPORT_AHEAD_MAX;
}

static void import_reply(struct importer *im, const struct store_result *r)
{
    struct request *rq = im->delayed.rq;
    enum status st = ST_OK;
    struct pb w;

    if (im->wait_for_indexing)
        st = store_wait(rq->store, r->header.id, kv_deadline_ns(rq), &rq->err);
    if (st != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    pb_init(&w, rq->arena, 192);
    wire_tx_header(&w, &r->header, true);
    kv_reply(rq, &w);
}

static void import_run(struct pool_job *job)
{
    struct importer *im = (struct importer *)(void *)delayed_of(job);
    struct request *rq = im->delayed.rq;
    struct store_result result;
    bool is_first_run = im->delayed.wait_ns == 0;
    enum status st;

    if (rpc_is_cancelled(rq->call)) {
        answer_given_up(rq);
        return;
    }
    if (is_first_run && (!metadata_bool(rq, "skip-integrity-check", &im->skip_integrity) ||
                         !metadata_bool(rq, "wait-for-indexing", &im->wait_for_indexing) || !takes_imports(rq)))
        return;
    if (is_early(im)) {
        delayed_later(&im->delayed);
        return;
    }
    st = store_import(rq->store, im->blob, im->skip_integrity, kv_deadline_ns(rq), &result, &rq->err);
    if (st != ST_OK)
        kv_fail(rq, st, &rq->err);
    else
        import_reply(im, &result);
}

static void import_fail(struct importer *im, enum status st)
{
    struct request *rq = im->delayed.rq;

    if (st == ST_NOMEM)
        request_fail_nomem(rq);
    else
        request_fail(rq, RPC_INVALID_ARGUMENT, KV_TEXT_ILLEGAL_ARGUMENTS);
}

/* One part is the transaction; nothing after it is looked at. */
static void import_on_message(struct rpc_call *call, struct bytes message)
{
    struct importer *im = request_of(call)->message;
    struct request *rq = im->delayed.rq;
    struct bytes content;
    bool is_whole = false;
    size_t whole;
    enum status st;

    if (im->is_ended)
        return;
    st = wire_unpack_chunk(message, &content, &rq->err);
    whole = content.len;
    if (im->taken > 0)
        content = bytes_of(content.data + im->taken, content.len - im->taken);
    im->taken = 0;
    if (st != ST_OK) {
        im->is_ended = true;
        request_fail(rq, RPC_INTERNAL, "grpc: error unmarshalling request: %s", rq->err.text);
    } else if (!im->is_first_seen && content.len < PART_LENGTH_BYTES) {
        im->is_ended = true;
        request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "minimum chunk size is 4096");
    } else if ((st = part_reader_feed(&im->parts, &content, BLOB_BYTES_MAX, &is_whole, &im->blob, &rq->err)) == ST_NOMEM && kv_stream_wait(rq)) {
        im->taken = whole - content.len;
    } else if (st != ST_OK) {
        im->is_ended = true;
        import_fail(im, st);
    } else if (is_whole) {
        im->is_ended = true;
        rpc_pause(call);
        delayed_now(&im->delayed);
    } else {
        rq->wait_since_ns = rq->wait_ns = 0; /* the next wait begins anew */
    }
    im->is_first_seen = true;
}

static void import_on_half_close(struct rpc_call *call)
{
    struct importer *im = request_of(call)->message;

    if (im->is_ended)
        return;
    im->is_ended = true;
    if (rpc_is_cancelled(call))
        answer_given_up(im->delayed.rq);
    else
        request_fail(im->delayed.rq, RPC_UNKNOWN, "EOF");
}

void handle_replicate_tx(struct request *rq)
{
    struct importer *im = arena_zalloc(rq->arena, sizeof *im);

    if (im == NULL) {
        request_fail_nomem(rq);
        return;
    }
    delayed_init(&im->delayed, rq, import_run);
    part_reader_init(&im->parts, rq->arena);
    rq->message = im; /* where the callbacks find it */
    rpc_on_stream(rq->call, import_on_message, import_on_half_close);
}
