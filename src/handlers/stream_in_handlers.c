/* streamSet, streamVerifiableSet, streamExecAll: chunks that carry the parts of one write.
 *
 * Parts are collected on the reactor as chunks arrive; the write starts when the client is done. What a stream may hold is bounded
 * by VALUES_BYTES_MAX and the call's arena; while memory is short a chunk is held back. A stream that ends inside a part keeps what was whole: a key without its whole value is
 * stored with an empty one (as published; no client depends on it). */
#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"
#include "wire/part.h"

#define VALUES_BYTES_MAX 33554432u /* of all values of a call */
#define KEY_BYTES_MAX 65535u       /* no longer one can be a key */
#define HEAD_BYTES_MAX 4096u       /* proveSinceTx and tags: a few bytes */

enum expected { EXPECT_STATE = 0, EXPECT_TAG, EXPECT_KEY, EXPECT_VALUE, EXPECT_ZADD };
enum exec_tag { TAG_KEY_VALUE = 0x01, TAG_ZADD = 0x02, TAG_REFERENCE = 0x04 };

struct stream_in {
    struct request *rq;
    struct part_reader parts;
    enum expected expected;
    bool is_ended; /* answered, or nothing more is read */
    bool has_key, has_state;
    struct bytes key; /* waits for its value */
    uint64_t values_bytes;
    size_t taken; /* of a chunk that was held back: bytes of its content that need not be taken again */
    uint64_t since_tx;
    /* What was collected; arrays in the arena. */
    Immudb__Schema__KeyValue **kvs;
    size_t kv_count, kv_cap;
    Immudb__Schema__Op **ops;
    size_t op_count, op_cap;
    void (*commit)(struct stream_in *s); /* the client is done */
};

static void stream_fail(struct stream_in *s, enum status st, const struct err *err)
{
    s->is_ended = true;
    kv_fail(s->rq, st, err);
}
static void no_memory(struct stream_in *s)
{
    s->is_ended = true;
    request_fail_nomem(s->rq);
}

/* ------------------------------------------------------------ collecting */

static bool append(struct stream_in *s, void ***items, size_t *count, size_t *cap, void *item)
{
    void **bigger;

    if (*count == *cap) {
        size_t want = *cap == 0 ? 8 : *cap * 2;

        if ((bigger = arena_array(s->rq->arena, want, sizeof *bigger)) == NULL)
            return false;
        if (*count > 0)
            memcpy(bigger, *items, *count * sizeof *bigger);
        *items = bigger;
        *cap = want;
    }
    (*items)[(*count)++] = item;
    return true;
}

static ProtobufCBinaryData binary(struct bytes b) { return (ProtobufCBinaryData){b.len, (uint8_t *)(uintptr_t)b.data}; }

static Immudb__Schema__KeyValue *pair_new(struct stream_in *s, struct bytes value)
{
    Immudb__Schema__KeyValue *kv = arena_alloc(s->rq->arena, sizeof *kv);

    if (kv == NULL)
        return NULL;
    immudb__schema__key_value__init(kv);
    kv->key = binary(s->key);
    kv->value = binary(value);
    s->has_key = false;
    return kv;
}

static bool add_pair(struct stream_in *s, struct bytes value)
{
    Immudb__Schema__KeyValue *kv = pair_new(s, value);

    return kv != NULL && append(s, (void ***)(void *)&s->kvs, &s->kv_count, &s->kv_cap, kv);
}

static bool add_op(struct stream_in *s, Immudb__Schema__KeyValue *kv, Immudb__Schema__ZAddRequest *z)
{
    Immudb__Schema__Op *op = arena_alloc(s->rq->arena, sizeof *op);

    if (op == NULL || (kv == NULL && z == NULL))
        return false;
    immudb__schema__op__init(op);
    if (kv != NULL) {
        op->operation_case = IMMUDB__SCHEMA__OP__OPERATION_KV;
        op->kv = kv;
    } else {
        op->operation_case = IMMUDB__SCHEMA__OP__OPERATION_Z_ADD;
        op->zadd = z;
    }
    return append(s, (void ***)(void *)&s->ops, &s->op_count, &s->op_cap, op);
}

/* ------------------------------------------------------------ parts */

static void take_state(struct stream_in *s, struct bytes part)
{
    if (part.len < 8) {
        s->is_ended = true;
        request_fail(s->rq, RPC_UNKNOWN, "unexpected EOF");
        return;
    }
    s->has_state = true;
    s->since_tx = load_u64be(part.data);
    s->expected = EXPECT_KEY;
}

/* An empty key ends the reading: what follows is not looked at. */
static void take_key(struct stream_in *s, struct bytes part, bool ends)
{
    if (part.len == 0 && ends) {
        s->is_ended = true;
        s->commit(s);
        return;
    }
    s->key = part;
    s->has_key = true;
    s->expected = EXPECT_VALUE;
}

static void take_tag(struct stream_in *s, struct bytes part)
{
    switch (part.len > 0 ? part.data[0] : 0) {
    case TAG_KEY_VALUE:
        s->expected = EXPECT_KEY;
        break;
    case TAG_ZADD:
        s->expected = EXPECT_ZADD;
        break;
    case TAG_REFERENCE:
        s->is_ended = true;
        request_fail_coded(s->rq, RPC_UNIMPLEMENTED, "42883", NULL, "reference operation is not implemented");
        break;
    default:
        break; /* ignored */
    }
}

static void take_zadd(struct stream_in *s, struct bytes part)
{
    Immudb__Schema__ZAddRequest *z = NULL;
    enum status st = wire_unpack(&immudb__schema__zadd_request__descriptor, part, s->rq->arena, (void **)&z, &s->rq->err);

    s->expected = EXPECT_TAG;
    if (st == ST_NOMEM || (st == ST_OK && !add_op(s, NULL, z))) {
        no_memory(s);
    } else if (st != ST_OK) {
        s->is_ended = true;
        request_fail_coded(s->rq, RPC_INTERNAL, "XX000", NULL, "unable to reassemble ZAdd message on a streamExecAll");
    }
}

static void take_value(struct stream_in *s, struct bytes part, bool is_exec)
{
    s->values_bytes += part.len;
    s->expected = is_exec ? EXPECT_TAG : EXPECT_KEY;
    if (is_exec ? !add_op(s, pair_new(s, part), NULL) : !add_pair(s, part))
        no_memory(s);
}

static void exec_commit(struct stream_in *s);

static void take_part(struct stream_in *s, struct bytes part)
{
    bool is_exec = s->commit == exec_commit;

    switch (s->expected) {
    case EXPECT_STATE:
        take_state(s, part);
        break;
    case EXPECT_TAG:
        take_tag(s, part);
        break;
    case EXPECT_KEY:
        take_key(s, part, !is_exec);
        break;
    case EXPECT_VALUE:
        take_value(s, part, is_exec);
        break;
    case EXPECT_ZADD:
        take_zadd(s, part);
        break;
    }
}

static uint64_t part_len_max(const struct stream_in *s)
{
    switch (s->expected) {
    case EXPECT_KEY:
        return KEY_BYTES_MAX;
    case EXPECT_VALUE:
        return VALUES_BYTES_MAX - s->values_bytes;
    case EXPECT_ZADD:
        return 2 * KEY_BYTES_MAX;
    default:
        return HEAD_BYTES_MAX;
    }
}

/* A part that is longer than it can be. */
static void part_too_long(struct stream_in *s)
{
    s->is_ended = true;
    if (s->expected == EXPECT_VALUE)
        request_fail_coded(s->rq, RPC_FAILED_PRECONDITION, "22000", NULL, "max transaction values length exceeded");
    else if (s->expected == EXPECT_KEY)
        request_fail(s->rq, RPC_UNKNOWN, "max key length exceeded");
    else
        request_fail(s->rq, RPC_INVALID_ARGUMENT, KV_TEXT_ILLEGAL_ARGUMENTS);
}

static void on_message(struct rpc_call *call, struct bytes message)
{
    struct stream_in *s = request_of(call)->message;
    struct bytes content, part;
    size_t whole;
    bool is_whole;
    enum status st;

    if (s->is_ended)
        return;
    if (wire_unpack_chunk(message, &content, &s->rq->err) != ST_OK) {
        s->is_ended = true;
        request_fail(s->rq, RPC_INTERNAL, "grpc: error unmarshalling request: %s", s->rq->err.text);
        return;
    }
    whole = content.len;
    if (s->taken > 0)
        content = bytes_of(content.data + s->taken, content.len - s->taken);
    s->taken = 0;
    while (content.len > 0 && !s->is_ended) {
        if ((st = part_reader_feed(&s->parts, &content, part_len_max(s), &is_whole, &part, &s->rq->err)) == ST_LIMIT) {
            part_too_long(s);
        } else if (st == ST_NOMEM && kv_stream_wait(s->rq)) {
            s->taken = whole - content.len;
            return;
        } else if (st == ST_NOMEM) {
            no_memory(s);
        } else if (st != ST_OK) {
            stream_fail(s, st, &s->rq->err);
        } else if (is_whole) {
            take_part(s, part);
        }
    }
    if (s->is_ended)
        return;
    s->rq->wait_since_ns = s->rq->wait_ns = 0; /* the next wait begins anew */
}

static void on_half_close(struct rpc_call *call)
{
    struct stream_in *s = request_of(call)->message;

    if (s->is_ended)
        return;
    s->is_ended = true;
    if (rpc_is_cancelled(call)) {
        request_fail(s->rq, RPC_CANCELLED, "context canceled");
        return;
    }
    s->commit(s);
}

static void start(struct request *rq, enum expected first, void (*commit)(struct stream_in *s))
{
    struct stream_in *s;

    if (kv_refuse_replica(rq))
        return;
    if ((s = arena_zalloc(rq->arena, sizeof *s)) == NULL) {
        request_fail_nomem(rq);
        return;
    }
    s->rq = rq;
    s->expected = first;
    s->commit = commit;
    part_reader_init(&s->parts, rq->arena);
    rq->message = s; /* where the callbacks find it */
    rpc_on_stream(rq->call, on_message, on_half_close);
}

/* ------------------------------------------------------------ the writes */

/* A store error inside another text; too long a value has a code of its own. */
static void refuse_wrapped(struct kv_write *w, const char *prefix, enum status st, const struct err *err)
{
    if (st == ST_LIMIT && strcmp(err->text, "max value length exceeded") == 0)
        request_fail_coded(w->rq, RPC_FAILED_PRECONDITION, "22000", NULL, "internal store max value length exceeded");
    else
        kv_fail_wrapped(w->rq, prefix, st, err);
}
#define SET_PREFIX "StreamSet receives following error: "
#define VERIFIABLE_PREFIX "StreamVerifiableSet received the following error: "
static void set_refuse(struct kv_write *w, enum status st, const struct err *err) { refuse_wrapped(w, SET_PREFIX, st, err); }
static void verifiable_refuse(struct kv_write *w, enum status st, const struct err *err) { refuse_wrapped(w, VERIFIABLE_PREFIX, st, err); }

static struct kv_write *collected_set(struct stream_in *s)
{
    Immudb__Schema__SetRequest *m = arena_alloc(s->rq->arena, sizeof *m);

    if ((s->has_key && !add_pair(s, bytes_of(NULL, 0))) || m == NULL) {
        request_fail_nomem(s->rq);
        return NULL;
    }
    immudb__schema__set_request__init(m);
    m->n_kvs = s->kv_count;
    m->kvs = s->kvs;
    return kv_set_new(s->rq, m);
}

static void set_commit(struct stream_in *s)
{
    struct kv_write *w = collected_set(s);

    if (w == NULL)
        return;
    w->refuse = set_refuse;
    kv_write_start(w);
}

static void verifiable_commit(struct stream_in *s)
{
    struct kv_write *w;

    if (!s->has_state) {
        request_fail(s->rq, RPC_UNKNOWN, "EOF");
        return;
    }
    if (s->since_tx > kv_proven_tx(s->rq->store)) {
        request_fail(s->rq, RPC_UNKNOWN, VERIFIABLE_PREFIX KV_TEXT_ILLEGAL_STATE);
        return;
    }
    if ((w = collected_set(s)) == NULL)
        return;
    w->refuse = verifiable_refuse;
    kv_write_prove(w, s->since_tx);
    kv_write_start(w);
}

static void exec_commit(struct stream_in *s)
{
    Immudb__Schema__ExecAllRequest *m = arena_alloc(s->rq->arena, sizeof *m);

    if (m == NULL) {
        request_fail_nomem(s->rq);
        return;
    }
    if (s->expected != EXPECT_TAG) { /* ended inside an operation */
        request_fail(s->rq, RPC_UNKNOWN, "EOF");
        return;
    }
    immudb__schema__exec_all_request__init(m);
    m->n_operations = s->op_count;
    m->operations = s->ops;
    kv_exec_all_start(s->rq, m);
}

void handle_stream_set(struct request *rq) { start(rq, EXPECT_KEY, set_commit); }
void handle_stream_verifiable_set(struct request *rq) { start(rq, EXPECT_STATE, verifiable_commit); }
void handle_stream_exec_all(struct request *rq) { start(rq, EXPECT_TAG, exec_commit); }
