/* Set, Delete, SetReference, ZAdd, ExecAll and their verifiable forms: from the request to a draft. */
#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"

/* ------------------------------------------------------------ requests */

static struct kv_precondition precondition_of(const Immudb__Schema__Precondition *m)
{
    switch (m->precondition_case) {
    case IMMUDB__SCHEMA__PRECONDITION__PRECONDITION_KEY_MUST_EXIST:
        return (struct kv_precondition){true, KEY_MUST_EXIST, bytes_pb(m->keymustexist->key), 0};
    case IMMUDB__SCHEMA__PRECONDITION__PRECONDITION_KEY_MUST_NOT_EXIST:
        return (struct kv_precondition){true, KEY_MUST_NOT_EXIST, bytes_pb(m->keymustnotexist->key), 0};
    case IMMUDB__SCHEMA__PRECONDITION__PRECONDITION_KEY_NOT_MODIFIED_AFTER_TX:
        return (struct kv_precondition){true, KEY_NOT_MODIFIED_AFTER_TX, bytes_pb(m->keynotmodifiedaftertx->key), m->keynotmodifiedaftertx->txid};
    default:
        return (struct kv_precondition){.is_given = false};
    }
}

static enum status add_preconditions(struct kv_write *w, struct store_draft *d, Immudb__Schema__Precondition *const *list, size_t count,
                                     bool is_nested, struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < count && st == ST_OK; i++) {
        struct kv_precondition p = precondition_of(list[i]);

        st = kv_draft_preconditions(d, w->rq->arena, &p, 1, is_nested, err);
    }
    return st;
}

/* Too much to hash beside other connections' calls? */
static bool set_is_big(const Immudb__Schema__SetRequest *m)
{
    size_t sum = 0;

    for (size_t i = 0; i < m->n_kvs && sum <= KV_INLINE_VALUE_BYTES; i++)
        sum += 64 + m->kvs[i]->key.len + m->kvs[i]->value.len;
    return sum > KV_INLINE_VALUE_BYTES;
}

static struct kv_ref ref_of(const Immudb__Schema__ReferenceRequest *m)
{
    return (struct kv_ref){bytes_pb(m->key), bytes_pb(m->referencedkey), m->attx, m->boundref};
}

/* ------------------------------------------------------------ drafts */

static enum status build_set(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err)
{
    const Immudb__Schema__SetRequest *m = w->input;
    enum status st = ST_OK;

    (void)r;
    for (size_t i = 0; i < m->n_kvs && st == ST_OK; i++) {
        struct kv_metadata md = kv_metadata_of(m->kvs[i]->metadata);

        /* Decoded from a message, or a part: either way there is a byte in front of the value. */
        st = kv_draft_set_in_place(d, w->rq->arena, bytes_pb(m->kvs[i]->key), &md, bytes_pb(m->kvs[i]->value), err);
    }
    return st == ST_OK ? add_preconditions(w, d, m->preconditions, m->n_preconditions, true, err) : st;
}

static enum status build_delete(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err)
{
    const Immudb__Schema__DeleteKeysRequest *m = w->input;
    enum status st = ST_OK;

    for (size_t i = 0; i < m->n_keys && st == ST_OK; i++)
        st = kv_draft_delete(d, w->rq->arena, r, bytes_pb(m->keys[i]), err);
    return st;
}

static enum status build_ref(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err)
{
    const Immudb__Schema__ReferenceRequest *m = w->input;
    struct kv_ref ref = ref_of(m);
    enum status st = kv_draft_ref(d, w->rq->arena, r, &ref, err);

    return st == ST_OK ? add_preconditions(w, d, m->preconditions, m->n_preconditions, true, err) : st;
}

static enum status build_zadd(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err)
{
    struct kv_zadd z = kv_zadd_of(w->input);

    return kv_draft_zadd(d, w->rq->arena, r, &z, err);
}

/* The operations of an ExecAllRequest, decoded once. */
struct exec_all {
    const Immudb__Schema__ExecAllRequest *message;
    struct kv_op *ops;
    size_t count;
};

static enum status build_exec_all(struct kv_write *w, struct store_draft *d, struct kv_reader *r, struct err *err)
{
    const struct exec_all *x = w->input;
    enum status st = kv_draft_ops(d, w->rq->arena, r, x->ops, x->count, x->message->nowait, err);

    return st == ST_OK ? add_preconditions(w, d, x->message->preconditions, x->message->n_preconditions, false, err) : st;
}

/* ------------------------------------------------------------ plain calls */

struct kv_write *kv_set_new(struct request *rq, const Immudb__Schema__SetRequest *m)
{
    struct kv_write *w = kv_write_new(rq, m, build_set);

    if (w != NULL)
        w->is_big = set_is_big(m);
    return w;
}

static void start_set(struct request *rq, const Immudb__Schema__SetRequest *m, bool is_verifiable, uint64_t since_tx)
{
    struct kv_write *w = kv_set_new(rq, m);

    if (w == NULL)
        return;
    if (is_verifiable)
        kv_write_prove(w, since_tx);
    kv_write_start(w);
}

void handle_set(struct request *rq)
{
    if (!kv_refuse_replica(rq))
        start_set(rq, rq->message, false, 0);
}

void handle_delete(struct request *rq)
{
    const Immudb__Schema__DeleteKeysRequest *m = rq->message;
    struct store_state state;
    struct kv_write *w;

    if (kv_refuse_replica(rq))
        return;
    store_get_state(rq->store, &state);
    if (m->sincetx > state.precommitted_tx_id) {
        request_fail(rq, RPC_UNKNOWN, "tx not found");
        return;
    }
    if ((w = kv_write_new(rq, m, build_delete)) == NULL)
        return;
    w->needs_snapshot = true;
    w->is_big = m->n_keys > KV_INLINE_KEYS_MAX;
    kv_write_start(w);
}

static void start_ref(struct request *rq, const Immudb__Schema__ReferenceRequest *m, bool is_verifiable, uint64_t since_tx)
{
    struct kv_ref ref = ref_of(m);
    struct kv_write *w;
    enum status st;

    if (kv_refuse_replica(rq))
        return;
    if ((st = kv_ref_check(&ref, &rq->err)) != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    if ((w = kv_write_new(rq, m, build_ref)) == NULL)
        return;
    w->needs_snapshot = true;
    if (is_verifiable)
        kv_write_prove(w, since_tx);
    kv_write_start(w);
}

static void start_zadd(struct request *rq, const Immudb__Schema__ZAddRequest *m, bool is_verifiable, uint64_t since_tx)
{
    struct kv_zadd z = kv_zadd_of(m);
    struct kv_write *w;
    enum status st;

    if (kv_refuse_replica(rq))
        return;
    if ((st = kv_zadd_check(&z, &rq->err)) != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    if ((w = kv_write_new(rq, m, build_zadd)) == NULL)
        return;
    w->needs_snapshot = true;
    if (is_verifiable)
        kv_write_prove(w, since_tx);
    kv_write_start(w);
}

void handle_set_reference(struct request *rq) { start_ref(rq, rq->message, false, 0); }
void handle_zadd(struct request *rq) { start_zadd(rq, rq->message, false, 0); }

/* ------------------------------------------------------------ ExecAll */

static struct kv_op op_of(const Immudb__Schema__Op *m)
{
    switch (m->operation_case) {
    case IMMUDB__SCHEMA__OP__OPERATION_KV:
        return (struct kv_op){.kind = KV_OP_SET, .key = bytes_pb(m->kv->key), .value = bytes_pb(m->kv->value), .md = kv_metadata_of(m->kv->metadata)};
    case IMMUDB__SCHEMA__OP__OPERATION_REF:
        return (struct kv_op){.kind = KV_OP_REF, .ref = ref_of(m->ref)};
    case IMMUDB__SCHEMA__OP__OPERATION_Z_ADD:
        return (struct kv_op){.kind = KV_OP_ZADD, .zadd = kv_zadd_of(m->zadd)};
    default:
        return (struct kv_op){.kind = KV_OP_NONE};
    }
}

static struct exec_all *exec_all_of(struct request *rq, const Immudb__Schema__ExecAllRequest *m, size_t *bytes)
{
    struct exec_all *x = arena_zalloc(rq->arena, sizeof *x);

    if (x == NULL || (x->ops = arena_array(rq->arena, m->n_operations, sizeof *x->ops)) == NULL)
        return NULL;
    x->message = m;
    x->count = m->n_operations;
    *bytes = 0;
    for (size_t i = 0; i < x->count; i++) {
        x->ops[i] = op_of(m->operations[i]);
        *bytes += 64 + x->ops[i].value.len;
    }
    return x;
}

void kv_exec_all_start(struct request *rq, const Immudb__Schema__ExecAllRequest *m)
{
    size_t bytes = 0;
    struct exec_all *x;
    struct kv_write *w;
    enum status st;

    if ((x = exec_all_of(rq, m, &bytes)) == NULL)
        st = err_set(&rq->err, ST_NOMEM, 0, "%zu operations", m->n_operations);
    else
        st = kv_ops_check(x->ops, x->count, rq->arena, &rq->err);
    if (st != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    if (kv_refuse_replica(rq) || (w = kv_write_new(rq, x, build_exec_all)) == NULL)
        return;
    w->needs_snapshot = !m->nowait;
    w->is_big = bytes > KV_INLINE_VALUE_BYTES || x->count > KV_INLINE_KEYS_MAX;
    kv_write_start(w);
}

void handle_exec_all(struct request *rq) { kv_exec_all_start(rq, rq->message); }

/* ------------------------------------------------------------ verifiable calls */

/* A state from the future can not be proven from. Answers with text then. */
static bool refuse_future(struct request *rq, uint64_t since_tx, const char *text)
{
    if (since_tx <= kv_proven_tx(rq->store))
        return false;
    request_fail(rq, RPC_INVALID_ARGUMENT, "%s", text);
    return true;
}

void handle_verifiable_set(struct request *rq)
{
    const Immudb__Schema__VerifiableSetRequest *m = rq->message;

    if (m->setrequest == NULL)
        request_fail(rq, RPC_INVALID_ARGUMENT, KV_TEXT_ILLEGAL_ARGUMENTS);
    else if (!refuse_future(rq, m->provesincetx, KV_TEXT_ILLEGAL_STATE) && !kv_refuse_replica(rq))
        start_set(rq, m->setrequest, true, m->provesincetx);
}

void handle_verifiable_set_reference(struct request *rq)
{
    const Immudb__Schema__VerifiableReferenceRequest *m = rq->message;

    if (m->referencerequest == NULL)
        request_fail(rq, RPC_INVALID_ARGUMENT, KV_TEXT_ILLEGAL_ARGUMENTS);
    else if (!refuse_future(rq, m->provesincetx, KV_TEXT_ILLEGAL_ARGUMENTS))
        start_ref(rq, m->referencerequest, true, m->provesincetx);
}

void handle_verifiable_zadd(struct request *rq)
{
    const Immudb__Schema__VerifiableZAddRequest *m = rq->message;

    if (m->zaddrequest == NULL)
        request_fail(rq, RPC_INVALID_ARGUMENT, KV_TEXT_ILLEGAL_ARGUMENTS);
    else if (!refuse_future(rq, m->provesincetx, KV_TEXT_ILLEGAL_ARGUMENTS))
        start_zadd(rq, m->zaddrequest, true, m->provesincetx);
}
