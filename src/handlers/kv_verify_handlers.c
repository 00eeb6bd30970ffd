/* VerifiableGet, VerifiableTxById: answers with proof. Nothing that could still vanish is proven: in asynchronous mode an entry
 * that is not yet synced is synced first. */
#include "handlers/kv_verify.h"

#include "handlers/kv_handlers.h"

enum status kv_prove_entry(struct request *rq, struct kv_reader *r, const struct kv_entry *e, uint64_t since_tx, struct kv_entry_proof *out,
                           struct err *err)
{
    static const struct kv_tx_spec digests = {.is_given = false};
    uint64_t tx_id = e->has_reference ? e->reference.tx_id : e->tx_id;
    struct bytes key = e->has_reference ? e->reference.key : e->key, store_key;
    enum status st;

    if (tx_id > kv_proven_tx(rq->store)) {
        if (r->nowait)
            return ST_AGAIN;
        if ((st = store_sync(rq->store, err)) != ST_OK)
            return st;
    }
    if ((st = kv_tree_wait(rq, tx_id > since_tx ? tx_id : since_tx, r->nowait, err)) != ST_OK ||
        (st = kv_tx_open(&out->tx, r, tx_id, &digests, err)) != ST_OK)
        return st;
    if ((st = kv_store_key(rq->arena, key, &store_key, err)) != ST_OK ||
        (st = store_tx_find(rq->store, &out->tx.log_tx, store_key, &out->leaf, err)) != ST_OK ||
        (st = store_entry_inclusion(rq->store, &out->tx.log_tx, out->leaf, rq->arena, &out->inclusion, err)) != ST_OK ||
        (st = kv_proof_make(rq, tx_id, since_tx, &out->proof, err)) != ST_OK)
        kv_tx_close(&out->tx);
    return st;
}

enum status kv_verifiable_get_check(struct request *rq, const Immudb__Schema__VerifiableGetRequest *m)
{
    if (m->keyrequest == NULL)
        return err_set(&rq->err, ST_INVALID, 0, "illegal arguments: empty request");
    if (m->provesincetx > kv_proven_tx(rq->store))
        return err_set(&rq->err, ST_INVALID, 0, KV_TEXT_ILLEGAL_STATE);
    return ST_OK;
}

static void encode(struct pb *w, struct request *rq, const struct kv_entry *e, const struct kv_entry_proof *p)
{
    struct wire_verifiable_tx v = kv_proof_wire(&p->proof, &p->tx.tx);

    pb_init(w, rq->arena,
            wire_entry_size(e) - wire_entry_far(e) + wire_tx_hint(&p->tx.tx) + wire_proof_hint(&p->proof.proof) + p->inclusion.term_count * 34 + 64);
    wire_verifiable_entry(w, e, &v, p->leaf, p->tx.log_tx.entry_count, &p->inclusion);
}

static enum status verifiable_get_attempt(struct request *rq, bool nowait)
{
    const Immudb__Schema__VerifiableGetRequest *m = rq->message;
    struct kv_get_options o;
    struct kv_entry_proof p;
    struct kv_reader r;
    struct kv_entry e;
    enum status st;
    struct pb w;

    if ((st = kv_verifiable_get_check(rq, m)) != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_get_options_of(rq, m->keyrequest, nowait, &o);
    kv_reader_init(&r, rq->store, rq->arena, rq->now_s, nowait);
    kv_leave_large(rq, &r);
    if ((st = kv_get(&r, &o, &e, &rq->err)) == ST_OK && (st = kv_prove_entry(rq, &r, &e, m->provesincetx, &p, &rq->err)) == ST_OK) {
        encode(&w, rq, &e, &p);
        kv_tx_close(&p.tx);
    }
    kv_reader_close(&r);
    if (st != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_reply(rq, &w);
    return ST_OK;
}
KV_READ_HANDLER(handle_verifiable_get, verifiable_get_attempt)

/* ------------------------------------------------------------ VerifiableTxById */

static enum status tx_check(struct request *rq, const Immudb__Schema__VerifiableTxRequest *m, struct kv_reader *r, bool nowait)
{
    uint64_t last = kv_proven_tx(rq->store);

    if (m->provesincetx > last)
        return err_set(&rq->err, ST_LIMIT, 0, "illegal state: latest txID=%llu is lower than specified as initial tx=%llu", (unsigned long long)last,
                       (unsigned long long)m->provesincetx);
    if (!m->keepreferencesunresolved)
        return kv_reader_open(rq, r, m->sincetx, nowait, &rq->err);
    kv_reader_init(r, rq->store, rq->arena, rq->now_s, nowait);
    return ST_OK;
}

static enum status verifiable_tx_attempt(struct request *rq, bool nowait)
{
    const Immudb__Schema__VerifiableTxRequest *m = rq->message;
    struct kv_tx_spec spec = kv_tx_spec_of(m->entriesspec, m->keepreferencesunresolved);
    struct wire_verifiable_tx v;
    struct kv_proof proof;
    struct kv_tx_read t;
    struct kv_reader r;
    enum status st;
    struct pb w;

    if ((st = tx_check(rq, m, &r, nowait)) != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_leave_large(rq, &r);
    if ((st = kv_tx_open(&t, &r, m->tx, &spec, &rq->err)) == ST_OK) {
        if (m->tx > kv_proven_tx(rq->store))
            st = nowait ? ST_AGAIN : store_sync(rq->store, &rq->err);
        if (st == ST_OK && (st = kv_tree_wait(rq, m->tx > m->provesincetx ? m->tx : m->provesincetx, nowait, &rq->err)) == ST_OK &&
            (st = kv_proof_make(rq, m->tx, m->provesincetx, &proof, &rq->err)) == ST_OK) {
            v = kv_proof_wire(&proof, &t.tx);
            pb_init(&w, rq->arena, wire_tx_hint(&t.tx) + wire_proof_hint(&proof.proof));
            wire_verifiable_tx(&w, &v);
        }
        kv_tx_close(&t);
    }
    kv_reader_close(&r);
    if (st != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_reply(rq, &w);
    return ST_OK;
}
KV_READ_HANDLER(handle_verifiable_tx_by_id, verifiable_tx_attempt)
