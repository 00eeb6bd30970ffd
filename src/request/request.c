/* A request from its first byte to its answer: decoding, the hand-over to workers, and the ways to answer. Checks: prelude.c. */
#include "request/request.h"

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/session.h"
#include "base/hash.h"
#include "config/config.h"
#include "databases/databases.h"
#include "metrics/rpc_metrics.h"
#include "request/prelude.h"
#include "request/server_parts.h"
#include "wire/wire.h"

enum { TEXT_MAX = 2048, ADDRESS_MAX = 64, LIMIT_TEXT_MAX = 160 };
#define WAIT_FIRST_NS UINT64_C(2000000) /* 2 ms, then doubled */
#define WAIT_LONGEST_NS UINT64_C(50000000)

static void run_on_worker(struct pool_job *job);

struct request *request_of(const struct rpc_call *call) { return rpc_state(call); }

/* --- the end --- */

/* The call may be gone, and with it the request, as soon as it is finished: what must be given back is noted before. */
struct leftover {
    struct database *db;
    struct session *session;
};

static struct leftover leftover_of(struct request *rq)
{
    struct leftover l = {rq->is_pinned ? rq->db : NULL, rq->session};

    if (rq->is_pinned)
        database_note_request(rq->db);
    if (rq->is_write)
        database_write_end(rq->db);
    rq->is_pinned = false;
    return l;
}

static void leftover_release(struct leftover l)
{
    if (l.db != NULL)
        databases_unpin(l.db);
    session_unref(l.session);
}

/* The call's arena was not allowed to grow: whatever failed, failed for that. */
static bool is_refused_memory(const struct request *rq, char text[LIMIT_TEXT_MAX])
{
    bool of_connection;
    size_t limit = rpc_memory_limit_met(rq->call, &of_connection);

    if (limit > 0)
        snprintf(text, LIMIT_TEXT_MAX, "the memory limit for requests and unread answers%s is reached (%zu MiB), try again later",
                 of_connection ? " of one connection" : "", limit >> 20);
    return limit > 0;
}

/* --- waiting --- */

static void wait_over(struct timer *t)
{
    struct request *rq = (struct request *)(void *)((char *)t - offsetof(struct request, wait));

    pool_submit(rq->server->runtime->worker_pool, rq->wait_job);
}

bool request_wait(struct request *rq, struct pool_job *job)
{
    const struct runtime *runtime = rq->server->runtime;
    uint64_t now_ns = env_mono_ns(runtime->env);

    if (rq->wait_since_ns == 0)
        rq->wait_since_ns = now_ns;
    if (rpc_is_cancelled(rq->call) || now_ns - rq->wait_since_ns >= (rpc_deadline_ns(rq->call) != UINT64_MAX ? REQUEST_WAIT_MAX_NS : REQUEST_WAIT_NS))
        return false;
    rq->wait_ns = rq->wait_ns == 0 ? WAIT_FIRST_NS : rq->wait_ns * 2 < WAIT_LONGEST_NS ? rq->wait_ns * 2 : WAIT_LONGEST_NS;
    rq->wait_job = job;
    rq->wait.fire = wait_over;
    alarm_arm(runtime->timers, &rq->wait, now_ns + rq->wait_ns); /* from here on it may run elsewhere */
    return true;
}

/* All that was taken since the mark is given back; what began there begins anew later. */
static bool repeat_later(struct request *rq)
{
    struct pool_job *job = rpc_job(rq->call);

    if (!rq->is_repeatable || !rpc_forgive_memory(rq->call))
        return false;
    arena_rewind(rq->arena, rq->before);
    rq->message = rq->decoded;
    memset(&rq->err, 0, sizeof rq->err);
    rq->on_worker = rq->again;
    rq->is_off_reactor = true;
    job->run = run_on_worker;
    return request_wait(rq, job);
}

void request_handle(struct request *rq)
{
    const struct method *m = rq->method;

    /* Calls on keys and values; the other ones may have several steps. */
    rq->is_repeatable = rq->store != NULL && (m->kind == RPC_UNARY || m->kind == RPC_SERVER_STREAM) &&
                        (m->who == CLASS_READ || m->who == CLASS_WRITE);
    rq->again = m->handler;
    rq->before = arena_mark(rq->arena);
    rq->decoded = rq->message;
    m->handler(rq);
}

static void finish(struct request *rq, enum rpc_code code, const char *text, struct bytes details)
{
    char limit_text[LIMIT_TEXT_MAX];
    bool is_refused = code != RPC_OK && is_refused_memory(rq, limit_text);
    struct leftover l;

    if (is_refused && repeat_later(rq))
        return;
    l = leftover_of(rq);
    if (is_refused)
        rpc_finish(rq->call, RPC_RESOURCE_EXHAUSTED, limit_text, bytes_of(NULL, 0));
    else
        rpc_finish(rq->call, code, text, details);
    leftover_release(l);
}

void request_reply(struct request *rq, struct bytes message)
{
    struct leftover l = leftover_of(rq);

    rpc_reply(rq->call, message);
    leftover_release(l);
}

void request_reply_message(struct request *rq, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *buf = rpc_message_alloc(rq->call, len);

    if (buf == NULL) {
        request_fail_nomem(rq);
        return;
    }
    len = protobuf_c_message_pack(message, buf);
    request_reply(rq, bytes_of(buf, len));
}

void request_reply_empty(struct request *rq) { request_reply(rq, bytes_of("", 0)); }

void request_end(struct request *rq) { finish(rq, RPC_OK, "", bytes_of(NULL, 0)); }

void request_fail(struct request *rq, enum rpc_code code, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    finish(rq, code, text, bytes_of(NULL, 0));
}

void request_fail_coded(struct request *rq, enum rpc_code code, const char *info_code, const char *text, const char *cause)
{
    struct bytes details = bytes_of(NULL, 0);
    struct pb w;

    if (text == NULL)
        text = cause;
    pb_init(&w, rq->arena, 256);
    wire_status_details(&w, (uint32_t)code, bytes_str(text), bytes_str(info_code), bytes_str(cause));
    if (pb_take(&w, &details, NULL) != ST_OK) /* the status itself still arrives */
        details = bytes_of(NULL, 0);
    finish(rq, code, text, details);
}

void request_deny(struct request *rq) { request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "permission denied"); }

void request_fail_nomem(struct request *rq) { request_fail(rq, RPC_RESOURCE_EXHAUSTED, "the server is short of memory for this request"); }

/* --- workers --- */

static void run_on_worker(struct pool_job *job)
{
    struct request *rq = request_of(rpc_call_of_job(job));

    if (rpc_is_cancelled(rq->call)) { /* nobody waits any more: the work is not begun */
        if (env_mono_ns(rq->server->env) >= rpc_deadline_ns(rq->call))
            request_fail(rq, RPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        else
            request_fail(rq, RPC_CANCELLED, "context canceled");
        return;
    }
    rq->on_worker(rq);
}

void request_on_worker(struct request *rq, void (*fn)(struct request *rq))
{
    struct pool_job *job = rpc_job(rq->call);

    rq->on_worker = fn;
    rq->is_off_reactor = true;
    job->run = run_on_worker;
    pool_submit(rq->server->runtime->worker_pool, job);
}

/* --- the beginning --- */

static bool has_message(enum rpc_kind kind) { return kind == RPC_UNARY || kind == RPC_SERVER_STREAM; }

static bool decode(struct request *rq)
{
    struct err err;
    enum status st;

    if (rq->method->message == NULL || !has_message(rq->method->kind))
        return true;
    st = wire_unpack(rq->method->message, rpc_request(rq->call), rq->arena, &rq->message, &err);
    if (st == ST_NOMEM)
        request_fail_nomem(rq);
    else if (st != ST_OK)
        request_fail(rq, RPC_INTERNAL, "grpc: error unmarshalling request: %s", err.text);
    return st == ST_OK;
}

/* Decoding may have to wait for memory too: a message of many small parts takes more than it has bytes. */
static void begin(struct request *rq)
{
    if (!decode(rq))
        return;
    rq->is_repeatable = false;
    prelude_run(rq);
}

static void count(struct request *rq, const struct bound_method *bound)
{
    struct rpc_client *client = credentials_client(rq);

    rpc_metrics_started(rq->server->call_metrics, rpc_reactor_index(rq->call), bound->method_index);
    if (client != NULL)
        rpc_client_count(client, rq->now_s);
}

void request_entry(struct rpc_call *call)
{
    const struct bound_method *bound = rpc_method(call)->user;
    struct request *rq = arena_zalloc(rpc_arena(call), sizeof *rq);

    if (rq == NULL) {
        rpc_set_state(call, NULL);
        rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "the server is short of memory for this request", bytes_of(NULL, 0));
        return;
    }
    rq->call = call;
    rq->server = bound->server;
    rq->method = bound->method;
    rq->arena = rpc_arena(call);
    rq->user = "";
    rq->token_database = -1;
    rq->now_ns = env_wall_ns(rq->server->env);
    rq->now_s = rq->now_ns / 1000000000;
    rpc_set_state(call, rq);
    count(rq, bound);
    rq->again = begin;
    rq->before = arena_mark(rq->arena);
    rq->is_repeatable = true;
    begin(rq);
}

/* --- about the caller --- */

struct bytes request_peer(const struct request *rq)
{
    const char *peer = rpc_peer(rq->call), *colon = strrchr(peer, ':');
    struct bytes host = bytes_of(peer, colon != NULL ? (size_t)(colon - peer) : strlen(peer));

    if (host.len >= 2 && host.data[0] == '[') /* [::1]:1234 */
        host = bytes_of(host.data + 1, host.len - 2);
    return host;
}

bool request_id_of(const struct request *rq, char out[REQUEST_ID_MAX + 1])
{
    struct bytes given = rpc_metadata(rq->call, "x-request-id");
    uint64_t seed[2] = {rpc_started_ns(rq->call), (uint64_t)(uintptr_t)rq->call};
    size_t i;

    for (i = 0; i < given.len && given.len <= REQUEST_ID_MAX; i++)
        if (given.data[i] <= 0x20 || given.data[i] >= 0x7f || given.data[i] == ',' || given.data[i] == '=')
            break;
    if (given.len > 0 && i == given.len) {
        memcpy(out, given.data, given.len);
        out[given.len] = '\0';
        return true;
    }
    snprintf(out, REQUEST_ID_MAX + 1, "%016llx", (unsigned long long)hash64(0, seed, sizeof seed));
    return false;
}

const char *request_ip(struct request *rq)
{
    struct bytes from = rpc_metadata(rq->call, "x-forwarded-for");
    const uint8_t *comma;
    char *text;
    size_t i;

    if (from.len == 0)
        from = rpc_metadata(rq->call, "x-real-ip");
    if (from.len == 0)
        from = request_peer(rq);
    if ((comma = memchr(from.data, ',', from.len)) != NULL)
        from.len = (size_t)(comma - from.data);
    if (from.len > ADDRESS_MAX)
        from.len = ADDRESS_MAX;
    if ((text = arena_str(rq->arena, from)) == NULL)
        return "";
    for (i = 0; text[i] != '\0'; i++) /* it goes into logs and records */
        if ((unsigned char)text[i] <= 0x20 || (unsigned char)text[i] >= 0x7f)
            text[i] = '_';
    return text;
}

/* Pairs of one-byte lengths minus one, then both texts. */
static void put_pair(struct writer *w, const char *key, const char *value)
{
    size_t key_len = strlen(key), value_len = strlen(value);

    if (value_len == 0 || value_len > 256)
        return;
    writer_u8(w, (uint8_t)(key_len - 1));
    writer_u8(w, (uint8_t)(value_len - 1));
    writer_put(w, key, key_len);
    writer_put(w, value, value_len);
}

struct bytes request_extra(struct request *rq)
{
    uint8_t *buf;
    struct writer w;

    if (!rq->server->config->log_request_metadata || (buf = arena_alloc(rq->arena, TX_EXTRA_BYTES_MAX)) == NULL)
        return bytes_of(NULL, 0);
    w = writer_of(buf, TX_EXTRA_BYTES_MAX);
    put_pair(&w, "usr", rq->user);
    put_pair(&w, "ip", request_ip(rq));
    return w.failed ? bytes_of(NULL, 0) : bytes_of(buf, writer_len(&w));
}
