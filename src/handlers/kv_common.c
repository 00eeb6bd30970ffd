/* Errors, options, proofs: what the handlers of key-value calls share. */
#include "handlers/kv_common.h"

#include "handlers/rope.h"

#define KEPT_FRACTION 8 /* of the memory for requests: values in the memory of one answer, before shorter ones are left in the log */

/* Published plain statuses; whatever else these layers say about a request is UNKNOWN with its text. */
static bool is_invalid_argument(const char *text)
{
    static const char *const texts[] = {
        KV_TEXT_ILLEGAL_ARGUMENTS,
        KV_TEXT_ILLEGAL_STATE,
        "duplicated keys are not supported in single batch transaction",
        "empty set",
        "operation is not set",
        "duplicated index inside zAdd insertions are not supported in single batch transaction",
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(text, texts[i]) == 0)
            return true;
    return strncmp(text, "rpc error: code = InvalidArgument desc = ", 41) == 0;
}

/* A read that needs the index, or a proof that needs the tree, while it is being rebuilt. */
static void fail_rebuilding(struct request *rq, const struct err *err)
{
    struct store_health health;

    store_health(rq->store, &health);
    if (strncmp(err->text, "tree of database ", 17) == 0)
        request_fail(rq, RPC_UNAVAILABLE, "tree of database %s is being rebuilt: %llu of %llu transactions", database_name(rq->db),
                     (unsigned long long)health.tree_rebuilt, (unsigned long long)health.tree_to_rebuild);
    else if (health.kind == STORE_REBUILDING)
        request_fail(rq, RPC_UNAVAILABLE, "index of database %s is being rebuilt: %llu of %llu transactions", database_name(rq->db),
                     (unsigned long long)health.rebuilt, (unsigned long long)health.to_rebuild);
    else
        request_fail_err(rq, ST_BUSY, err);
}

void kv_fail(struct request *rq, enum status st, const struct err *err)
{
    const char *text = err->text;

    switch (st) {
    case ST_CONFLICT:
        if (strcmp(text, KV_TEXT_READ_CONFLICT) == 0)
            request_fail_coded(rq, RPC_UNKNOWN, "25P02", NULL, text);
        else
            request_fail_coded(rq, RPC_FAILED_PRECONDITION, "23000", NULL, text);
        break;
    case ST_INVALID:
    case ST_EXISTS:
    case ST_NOT_FOUND:
    case ST_LIMIT:
    case ST_CORRUPT:
        request_fail(rq, is_invalid_argument(text) ? RPC_INVALID_ARGUMENT : RPC_UNKNOWN, "%s", text);
        break;
    case ST_BUSY:
        fail_rebuilding(rq, err);
        break;
    default:
        request_fail_err(rq, st, err);
    }
}

void kv_fail_wrapped(struct request *rq, const char *prefix, enum status st, const struct err *err)
{
    /* Only what the reference keeps as a status of its own shows its code inside the text. */
    const char *code = st == ST_EXISTS ? "rpc error: code = InvalidArgument desc = " : "";

    switch (st) {
    case ST_INVALID:
    case ST_EXISTS:
    case ST_NOT_FOUND:
    case ST_LIMIT:
    case ST_CONFLICT:
        request_fail(rq, RPC_UNKNOWN, "%s%s%s", prefix, code, err->text);
        break;
    default:
        kv_fail(rq, st, err);
    }
}

uint64_t kv_deadline_ns(const struct request *rq)
{
    uint64_t deadline = rpc_deadline_ns(rq->call), longest = env_mono_ns(rq->server->env) + KV_INDEX_WAIT_NS;

    /* Such a wait holds a worker and does not hear that the call was given up: however much time the client has, it is short. */
    return deadline < longest ? deadline : longest;
}

bool kv_refuse_replica(struct request *rq)
{
    if (!database_is_replica(rq->db))
        return false;
    request_fail(rq, RPC_UNKNOWN, "database is read-only because it's a replica");
    return true;
}

void kv_reply(struct request *rq, struct pb *w)
{
    struct rope message;
    enum status st;

    if ((st = pb_take_rope(w, &message, &rq->err)) != ST_OK)
        request_fail_err(rq, st, &rq->err);
    else
        rope_reply(rq, &message);
}

static void go_on(struct pool_job *job) { rpc_resume(rpc_call_of_job(job)); }

bool kv_stream_wait(struct request *rq)
{
    struct pool_job *job = rpc_job(rq->call);
    bool of_connection;

    if (rpc_memory_limit_met(rq->call, &of_connection) == 0)
        return false;
    job->run = go_on;
    rpc_hold_back(rq->call); /* before the job may run */
    if (request_wait(rq, job)) {
        (void)rpc_forgive_memory(rq->call);
        return true;
    }
    return false;
}

void kv_leave_large(const struct request *rq, struct kv_reader *r)
{
    kv_reader_far(r, KV_FAR_BYTES, rq->server->runtime->budget.share[BUDGET_REQUEST] / KEPT_FRACTION);
}

enum status kv_reader_open(struct request *rq, struct kv_reader *r, uint64_t since_tx, bool nowait, struct err *err)
{
    enum status st;

    kv_reader_init(r, rq->store, rq->arena, rq->now_s, nowait);
    if ((st = kv_reader_snapshot(r, since_tx, nowait ? 0 : kv_deadline_ns(rq), err)) != ST_OK)
        kv_reader_close(r);
    return st;
}

/* ------------------------------------------------------------ proofs */

uint64_t kv_proven_tx(struct store *s)
{
    struct store_state state;

    store_get_state(s, &state);
    return state.tx_id;
}

enum status kv_tree_wait(struct request *rq, uint64_t tx_id, bool nowait, struct err *err)
{
    enum status st = store_wait_tree(rq->store, tx_id, nowait ? 1 : kv_deadline_ns(rq), err);

    return nowait && st == ST_BUSY ? ST_AGAIN : st;
}

enum status kv_proof_make(struct request *rq, uint64_t tx_id, uint64_t since_tx, struct kv_proof *out, struct err *err)
{
    uint64_t root = since_tx == 0 ? tx_id : since_tx;
    uint64_t source = root <= tx_id ? root : tx_id, target = root <= tx_id ? tx_id : root;
    enum status st;
    hash_t alh;

    out->is_signed = false;
    /* The header of the proven tx comes with its metadata message; the other one has been looked up and shows only what is there.
     */
    out->source_metadata = source == tx_id && since_tx != tx_id;
    out->target_metadata = target == tx_id;
    if ((st = store_dual_proof(rq->store, source, target, rq->arena, &out->proof, err)) != ST_OK || rq->server->signer == NULL)
        return st;
    tx_header_alh(&out->proof.target, &alh);
    st = signer_sign(rq->server->signer, bytes_str(database_name(rq->db)), target, &alh, &out->signature, err);
    out->is_signed = st == ST_OK;
    return st;
}

struct wire_verifiable_tx kv_proof_wire(const struct kv_proof *p, const struct kv_tx *tx)
{
    return (struct wire_verifiable_tx){tx, &p->proof, p->source_metadata, p->target_metadata, p->is_signed ? &p->signature : NULL};
}

/* ------------------------------------------------------------ requests */

void kv_get_options_of(const struct request *rq, const Immudb__Schema__KeyRequest *m, bool nowait, struct kv_get_options *o)
{
    *o = (struct kv_get_options){bytes_pb(m->key), m->attx, m->sincetx, m->atrevision, m->nowait, nowait ? 0 : kv_deadline_ns(rq)};
}

static enum kv_shape shape_of(const Immudb__Schema__EntryTypeSpec *spec)
{
    if (spec == NULL)
        return KV_EXCLUDE;
    switch (spec->action) {
    case IMMUDB__SCHEMA__ENTRY_TYPE_ACTION__ONLY_DIGEST:
        return KV_DIGEST;
    case IMMUDB__SCHEMA__ENTRY_TYPE_ACTION__RAW_VALUE:
        return KV_RAW;
    case IMMUDB__SCHEMA__ENTRY_TYPE_ACTION__RESOLVE:
        return KV_RESOLVE;
    default:
        return KV_EXCLUDE;
    }
}

struct kv_tx_spec kv_tx_spec_of(const Immudb__Schema__EntriesSpec *spec, bool keep_references)
{
    if (spec == NULL)
        return (struct kv_tx_spec){.keep_references = keep_references};
    return (struct kv_tx_spec){true, shape_of(spec->kventriesspec), shape_of(spec->zentriesspec), shape_of(spec->sqlentriesspec), keep_references};
}

struct kv_metadata kv_metadata_of(const Immudb__Schema__KVMetadata *m)
{
    struct kv_metadata md = {false, false, false, 0};

    if (m == NULL)
        return md;
    md.is_deleted = m->deleted;
    md.is_non_indexable = m->nonindexable;
    md.has_expiry = m->expiration != NULL;
    md.expires_at = m->expiration != NULL ? m->expiration->expiresat : 0;
    return md;
}

struct kv_zadd kv_zadd_of(const Immudb__Schema__ZAddRequest *m)
{
    return (struct kv_zadd){bytes_pb(m->set), bytes_pb(m->key), m->score, m->attx, m->boundref};
}

enum status kv_scan_of(const Immudb__Schema__ScanRequest *m, struct kv_scan_options *o, struct err *err)
{
    *o = (struct kv_scan_options){
        bytes_pb(m->prefix), bytes_pb(m->seekkey), bytes_pb(m->endkey), m->inclusiveseek, m->inclusiveend, m->desc, m->offset, 0};
    return kv_limit(m->limit, &o->limit, err);
}

enum status kv_zscan_of(const Immudb__Schema__ZScanRequest *m, struct kv_zscan_options *o, struct err *err)
{
    *o = (struct kv_zscan_options){.set = bytes_pb(m->set),
                                   .seek_key = bytes_pb(m->seekkey),
                                   .seek_score = m->seekscore,
                                   .seek_at_tx = m->seekattx,
                                   .inclusive_seek = m->inclusiveseek,
                                   .desc = m->desc,
                                   .has_min = m->minscore != NULL,
                                   .has_max = m->maxscore != NULL,
                                   .min = m->minscore != NULL ? m->minscore->score : 0,
                                   .max = m->maxscore != NULL ? m->maxscore->score : 0,
                                   .offset = m->offset};
    if (o->set.len == 0)
        return err_set(err, ST_INVALID, 0, KV_TEXT_ILLEGAL_ARGUMENTS);
    return kv_limit(m->limit, &o->limit, err);
}
