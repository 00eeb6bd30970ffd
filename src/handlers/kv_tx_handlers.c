/* TxById, TxScan, CurrentState. */
#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"
#include "handlers/rope.h"

/* Resolution needs a snapshot; what keeps references unresolved does without, and without the check of sinceTx. */
static enum status tx_reader(struct request *rq, struct kv_reader *r, uint64_t since_tx, bool keep_references, bool nowait)
{
    if (!keep_references)
        return kv_reader_open(rq, r, since_tx, nowait, &rq->err);
    kv_reader_init(r, rq->store, rq->arena, rq->now_s, nowait);
    return ST_OK;
}

static enum status tx_attempt(struct request *rq, bool nowait)
{
    const Immudb__Schema__TxRequest *m = rq->message;
    struct kv_tx_spec spec = kv_tx_spec_of(m->entriesspec, m->keepreferencesunresolved);
    struct kv_tx_read t;
    struct kv_reader r;
    enum status st;
    struct pb w;

    if ((st = tx_reader(rq, &r, m->sincetx, spec.keep_references, nowait)) != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_leave_large(rq, &r);
    if ((st = kv_tx_open(&t, &r, m->tx, &spec, &rq->err)) == ST_OK) {
        pb_init(&w, rq->arena, wire_tx_hint(&t.tx));
        wire_tx(&w, &t.tx);
        kv_tx_close(&t);
    }
    kv_reader_close(&r);
    if (st != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_reply(rq, &w);
    return ST_OK;
}
KV_READ_HANDLER(handle_tx_by_id, tx_attempt)

/* ------------------------------------------------------------ TxScan, on a worker */

/* One tx more; what is only needed for it lives in scratch. */
static enum status scan_tx(struct pb_list *list, struct kv_reader *r, uint64_t tx_id, const struct kv_tx_spec *spec, struct arena *scratch,
                           struct err *err)
{
    struct kv_tx_read t;
    struct rope message;
    uint8_t *body;
    enum status st;
    struct pb w;

    if ((st = kv_tx_open(&t, r, tx_id, spec, err)) != ST_OK)
        return st;
    pb_init(&w, scratch, wire_tx_hint(&t.tx));
    wire_tx(&w, &t.tx);
    kv_tx_close(&t);
    if ((st = pb_take_rope(&w, &message, err)) != ST_OK)
        return st;
    if ((body = pb_list_add(list, 1, message.len, message.cuts, message.cut_count)) != NULL && message.bytes.len > 0)
        memcpy(body, message.bytes.data, message.bytes.len);
    return list->failed ? err_set(err, ST_NOMEM, 0, "answer does not fit into memory") : ST_OK;
}

static enum status scan_txs(struct request *rq, struct kv_reader *r, uint64_t limit, struct pb_list *list)
{
    const Immudb__Schema__TxScanRequest *m = rq->message;
    struct kv_tx_spec spec = kv_tx_spec_of(m->entriesspec, false);
    uint64_t last = kv_proven_tx(rq->store), tx_id = m->initialtx;
    struct arena scratch;
    enum status st = ST_OK;

    arena_init(&scratch, 65536, rq->arena->bytes_max);
    arena_set_meter(&scratch, rq->arena->meter, 0);
    r->arena = &scratch;
    kv_leave_large(rq, r);
    while (st == ST_OK && limit-- > 0 && tx_id >= 1 && tx_id <= last && !rpc_is_cancelled(rq->call)) {
        st = scan_tx(list, r, tx_id, &spec, &scratch, &rq->err);
        tx_id = m->desc ? tx_id - 1 : tx_id + 1;
        kv_reader_unpin(r);
        arena_reset(&scratch);
    }
    arena_free(&scratch);
    return st;
}

static void tx_scan_waiting(struct request *rq)
{
    const Immudb__Schema__TxScanRequest *m = rq->message;
    struct rope message;
    struct pb_list list;
    struct kv_reader r;
    uint64_t limit;
    enum status st;

    if (m->initialtx == 0)
        st = err_set(&rq->err, ST_INVALID, 0, KV_TEXT_ILLEGAL_ARGUMENTS);
    else if ((st = kv_limit(m->limit, &limit, &rq->err)) == ST_OK)
        st = kv_reader_open(rq, &r, m->sincetx, false, &rq->err);
    if (st == ST_OK) {
        pb_list_init(&list, rq->arena, 4096);
        st = scan_txs(rq, &r, limit, &list);
        kv_reader_close(&r);
        if (st == ST_OK)
            st = pb_list_take(&list, &message, &rq->err);
    }
    if (st == ST_OK)
        rope_reply(rq, &message);
    else
        kv_fail(rq, st, &rq->err);
}
void handle_tx_scan(struct request *rq) { request_on_worker(rq, tx_scan_waiting); }

/* ------------------------------------------------------------ state */

void handle_current_state(struct request *rq)
{
    struct bytes name = bytes_str(database_name(rq->db));
    struct state_signature signature;
    struct store_state state;
    enum status st = store_end_check(rq->store, &rq->err);
    struct pb w;

    store_get_state(rq->store, &state);
    if (st == ST_OK && rq->server->signer != NULL)
        st = signer_sign(rq->server->signer, name, state.tx_id, &state.alh, &signature, &rq->err);
    if (st != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        return;
    }
    pb_init(&w, rq->arena, 512);
    wire_state(&w, name, state.tx_id, &state.alh, rq->server->signer != NULL ? &signature : NULL, state.precommitted_tx_id, &state.precommitted_alh);
    kv_reply(rq, &w);
}
