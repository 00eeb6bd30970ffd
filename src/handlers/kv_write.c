/* The life of a write call: a draft is built, submitted, and answered by the thread that committed it.
 *
 * A write that looked at current values is built anew when another commit changed them in between. Whatever may wait (index, disk)
 * or hash much runs on a worker; otherwise the draft is built and submitted right here. */
#include "handlers/kv_common.h"

struct kv_write *kv_write_new(struct request *rq, const void *input,
                              enum status (*build)(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err))
{
    struct kv_write *w = arena_zalloc(rq->arena, sizeof *w);

    if (w == NULL) {
        (void)err_set(&rq->err, ST_NOMEM, 0, "a write request");
        request_fail_err(rq, ST_NOMEM, &rq->err);
        return NULL;
    }
    w->rq = rq;
    w->input = input;
    w->build = build;
    w->answer = kv_answer_header;
    return w;
}

void kv_write_prove(struct kv_write *w, uint64_t since_tx)
{
    w->answer = kv_answer_verifiable;
    w->wait_durable = true;
    w->prove_since_tx = since_tx;
}

static void refuse(struct kv_write *w, enum status st, const struct err *err)
{
    if (w->refuse != NULL)
        w->refuse(w, st, err);
    else
        kv_fail(w->rq, st, err);
}

static bool is_given_up(void *ctx)
{
    const struct rpc_call *call = ctx;

    return rpc_is_cancelled(call);
}

static bool is_overtaken(const struct kv_write *w, const struct store_result *r)
{
    return r->status == ST_CONFLICT && w->needs_snapshot && w->attempts < KV_CONFLICT_RETRIES && strcmp(r->err.text, KV_TEXT_READ_CONFLICT) == 0;
}

/* Others fill the queue: nothing of this write has happened. */
static bool is_queue_full(const struct store_result *r) { return r->status == ST_NOMEM && strncmp(r->err.text, "commit queue of ", 16) == 0; }

static void to_worker(struct kv_write *w) { pool_submit(w->rq->server->runtime->worker_pool, &w->job); }

static void on_done(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct kv_write *w = ctx;

    if (is_overtaken(w, r))
        to_worker(w);
    else if (is_queue_full(r) && request_wait(w->rq, &w->job))
        return;
    else if (r->status != ST_OK)
        refuse(w, r->status, &r->err);
    else {
        rpc_must_answer(w->rq->call);
        w->answer(w, d, r);
    }
}

static enum status build(struct kv_write *w, struct store_draft *d, bool nowait, struct err *err)
{
    struct kv_reader r;
    enum status st = ST_OK;

    /* What cannot be proven afterwards is not written before. */
    if (w->answer == kv_answer_verifiable && (st = kv_tree_wait(w->rq, UINT64_MAX, nowait, err)) != ST_OK)
        return st;
    kv_reader_init(&r, w->rq->store, w->rq->arena, w->rq->now_s, nowait);
    if (w->needs_snapshot)
        st = kv_reader_snapshot(&r, 0, nowait ? 0 : kv_deadline_ns(w->rq), err);
    if (st == ST_OK)
        st = w->build(w, d, &r, err);
    kv_reader_close(&r);
    return st;
}

static void attempt(struct kv_write *w, bool nowait)
{
    struct request *rq = w->rq;
    struct store_draft *d = NULL;
    struct bytes extra;
    enum status st;

    arena_rewind(rq->arena, w->before); /* what an earlier attempt took */
    if ((st = draft_create(rq->store, &d, &rq->err)) == ST_OK)
        st = build(w, d, nowait, &rq->err);
    if (st != ST_OK) {
        draft_free(d);
        if (st == ST_AGAIN && nowait)
            to_worker(w);
        else
            refuse(w, st, &rq->err);
        return;
    }
    w->attempts++;
    if ((extra = request_extra(rq)).len > 0)
        draft_set_extra(d, extra);
    draft_set_deadline(d, rpc_deadline_ns(rq->call));
    draft_set_cancel(d, is_given_up, rq->call);
    rq->is_repeatable = false;
    /* From here on the call belongs to whoever commits the draft. */
    store_submit(rq->store, d, w->wait_durable, STORE_DRIVE_POOL, on_done, w);
}

static void attempt_on_worker(struct pool_job *job)
{
    struct kv_write *w = (struct kv_write *)(void *)((char *)job - offsetof(struct kv_write, job));

    if (rpc_is_cancelled(w->rq->call)) { /* nobody waits any more: no worker is to wait for it */
        (void)err_set(&w->rq->err, ST_CANCELLED, 0, "cancelled before the commit");
        refuse(w, ST_CANCELLED, &w->rq->err);
    } else {
        attempt(w, false);
    }
}

void kv_write_start(struct kv_write *w)
{
    w->job.run = attempt_on_worker;
    w->before = arena_mark(w->rq->arena);
    if (w->is_big)
        to_worker(w);
    else
        attempt(w, true);
}

/* ------------------------------------------------------------ answers */

void kv_answer_header(struct kv_write *w, const struct store_draft *d, const struct store_result *r)
{
    struct pb pb;

    (void)d;
    pb_init(&pb, w->rq->arena, 192);
    wire_tx_header(&pb, &r->header, true);
    kv_reply(w->rq, &pb);
}

/* The entries of a committed draft as digests. */
static enum status committed_tx(struct arena *arena, const struct store_draft *d, const struct store_result *r, struct kv_tx *tx, struct err *err)
{
    size_t count = draft_entry_count(d);
    struct tx_entry *entries = arena_array(arena, count, sizeof *entries);

    if (entries == NULL)
        return err_set(err, ST_NOMEM, 0, "an answer with %zu entries", count);
    for (size_t i = 0; i < count; i++) {
        draft_entry(d, i, &entries[i]);
        entries[i].value = bytes_of(NULL, 0);
    }
    *tx = (struct kv_tx){.header = &r->header, .entries = entries, .entry_count = count};
    return ST_OK;
}

void kv_answer_verifiable(struct kv_write *w, const struct store_draft *d, const struct store_result *r)
{
    struct request *rq = w->rq;
    struct wire_verifiable_tx v;
    struct kv_proof proof;
    struct kv_tx tx;
    enum status st;
    struct pb pb;

    if ((st = committed_tx(rq->arena, d, r, &tx, &rq->err)) != ST_OK ||
        (st = kv_proof_make(rq, r->header.id, w->prove_since_tx, &proof, &rq->err)) != ST_OK) {
        refuse(w, st, &rq->err);
        return;
    }
    v = kv_proof_wire(&proof, &tx);
    pb_init(&pb, rq->arena, wire_tx_hint(&tx) + wire_proof_hint(&proof.proof));
    wire_verifiable_tx(&pb, &v);
    kv_reply(rq, &pb);
}
