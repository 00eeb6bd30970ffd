/* Answers: what a call has queued and settled, turned into HEADERS, DATA and trailers.
 *
 * Initial HEADERS go out with the first message or with the status, so that a handler may still decide for an early refusal (one
 * HEADERS frame). Messages are sent straight from where they are: nghttp2 asks how much there is (call_data_read), then the frame
 * is written into the caller's buffer (call_data_send). Trailers are submitted when the last byte is on its way.
 *
 * Threads. On the reactor's thread rpc_send() and rpc_finish() act at once. On another one messages are pushed to the call's
 * outbox and the call is queued to the reactor, once however often; call_run_post() takes over. POST_FINISH is the last thing a
 * holder sets: after it, only whoever put the call into the queue may touch it, and the reactor frees it only out of the queue. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/grpc_call.h"

#define NV_MAX (5 + GRPC_TRAILERS_MAX)
#define NV_FLAGS (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)

static nghttp2_nv nv_of(const void *name, size_t name_len, const void *value, size_t value_len)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, name_len, value_len, NV_FLAGS};
}
#define NV_LITERAL(name, value, value_len) nv_of(name, sizeof(name) - 1, value, value_len)

/* --- the status --- */

static const char *code_digits(enum rpc_code code)
{
    static const char digits[17][3] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};

    return digits[(unsigned)code <= RPC_UNAUTHENTICATED ? code : RPC_UNKNOWN];
}

/* Appends status and trailers of the call to nv. */
static size_t status_nv(struct rpc_call *call, nghttp2_nv *nv)
{
    const struct rpc_status *s = &call->status;
    const char *digits = code_digits(s->code);
    size_t n = 0;

    nv[n++] = NV_LITERAL("grpc-status", digits, strlen(digits));
    nv[n++] = NV_LITERAL("grpc-message", s->message, s->message_len);
    /* Texts that hardly ever repeat would push the useful entries out of the peer's header table. */
    if (s->message_len > 0)
        nv[n - 1].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    if (s->details_len > 0) {
        nv[n++] = NV_LITERAL("grpc-status-details-bin", s->details, s->details_len);
        nv[n - 1].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
    }
    /* While a handler still holds an aborted call, its trailers are its own affair. */
    if (!call->is_held)
        for (const struct rpc_trailer *t = call->trailers; t != NULL; t = t->next)
            nv[n++] = nv_of(t->name, t->name_len, t->value, t->value_len);
    return n;
}

/* NOMEM of nghttp2 leaves a connection nobody can rely on. */
static void must(struct rpc_call *call, int rv)
{
    if (rv != 0 && nghttp2_is_fatal(rv))
        call->conn->is_broken = true;
}

static void submit_trailer(struct rpc_call *call)
{
    nghttp2_nv nv[NV_MAX];
    size_t n = status_nv(call, nv);

    must(call, nghttp2_submit_trailer(call->conn->session, call->stream_id, nv, n));
}

static void submit_early(struct rpc_call *call)
{
    const char *http_status = call->status.http_status == 415 ? "415" : call->status.http_status == 405 ? "405" : "400";
    nghttp2_nv nv[NV_MAX];
    size_t n = 0;

    nv[n++] = NV_LITERAL(":status", call->status.http_status == 0 ? "200" : http_status, 3);
    nv[n++] = NV_LITERAL("content-type", "application/grpc", 16);
    n += status_nv(call, nv + n);
    must(call, nghttp2_submit_response(call->conn->session, call->stream_id, nv, n, NULL));
}

/* --- sending --- */

void call_send_initial(struct rpc_call *call)
{
    const struct grpc_service *s = call->host->service;
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = call_data_read};

    if (call->is_initial_sent)
        return;
    call->is_initial_sent = true;
    must(call, nghttp2_submit_response(call->conn->session, call->stream_id, s->initial, s->initial_len, &provider));
    grpc_conn_touch(call->conn);
}

void call_advance(struct rpc_call *call)
{
    nghttp2_session *session = call->conn->session;
    bool is_settled = call->state == CALL_SENDING;

    if (call->state == CALL_CLOSED || (call->out_bytes == 0 && !is_settled))
        return;
    if (!call->is_initial_sent) {
        if (call->out_bytes > 0) {
            call_send_initial(call);
        } else if (call->status.is_early) {
            call->is_initial_sent = true;
            submit_early(call);
        } else {
            call->is_initial_sent = true;
            must(call, nghttp2_submit_headers(session, NGHTTP2_FLAG_NONE, call->stream_id, NULL, call->host->service->initial,
                                              call->host->service->initial_len, NULL) < 0
                           ? NGHTTP2_ERR_NOMEM
                           : 0);
            submit_trailer(call);
        }
    } else if (call->is_deferred) {
        call->is_deferred = false;
        must(call, nghttp2_session_resume_data(session, call->stream_id));
    }
    grpc_conn_touch(call->conn);
}

ssize_t call_data_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags, nghttp2_data_source *source,
                       void *user)
{
    struct rpc_call *call = source->ptr;
    size_t n = call->out_bytes < length ? call->out_bytes : length;

    (void)session;
    (void)stream_id;
    (void)buf;
    (void)user;
    if (n == 0 && call->state != CALL_SENDING) {
        call->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == call->out_bytes && call->state == CALL_SENDING) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        submit_trailer(call);
    }
    return (ssize_t)n;
}

static void out_free(struct rpc_out *out)
{
    free(out->owned);
    if (out->is_allocated)
        free(out);
}

static void unaccount_owned(struct rpc_call *call, const struct rpc_out *out)
{
    if (out->owned == NULL)
        return;
    call->accounted -= out->len;
    call->conn->bytes -= out->len;
    grpc_host_give(call->host, out->len);
}

static void out_pop(struct rpc_call *call)
{
    struct rpc_out *out = call->out;

    call->out = out->next;
    if (call->out == NULL)
        call->out_end = &call->out;
    unaccount_owned(call, out);
    out_free(out);
}

static void out_count_down(struct rpc_call *call, size_t len)
{
    call->out_bytes -= len;
    call->conn->unsent_bytes -= len;
    atomic_fetch_sub_explicit(&call->queued_bytes, len, memory_order_relaxed);
}

void call_drop_out(struct rpc_call *call)
{
    out_count_down(call, call->out_bytes);
    while (call->out != NULL)
        out_pop(call);
}

/* Runs on_drained through the host's queue: not from inside nghttp2. */
static void check_drained(struct rpc_call *call)
{
    if (call->is_held && atomic_load_explicit(&call->is_drained_armed, memory_order_acquire) &&
        (call->out_bytes < call->drained_low || call->state != CALL_RUNNING) &&
        !(atomic_fetch_or_explicit(&call->post, POST_QUEUED, memory_order_acq_rel) & POST_QUEUED))
        grpc_host_post(call->host, call);
}

static uint8_t *copy_out(struct rpc_call *call, uint8_t *to, size_t length)
{
    while (length > 0) {
        struct rpc_out *out = call->out;
        size_t n;

        if (out->sent < GRPC_PREFIX_LEN) {
            n = GRPC_PREFIX_LEN - out->sent < length ? GRPC_PREFIX_LEN - out->sent : length;
            memcpy(to, out->prefix + out->sent, n);
        } else {
            size_t at = out->sent - GRPC_PREFIX_LEN;

            n = out->len - at < length ? out->len - at : length;
            memcpy(to, out->data + at, n);
        }
        to += n;
        length -= n;
        out->sent += n;
        if (out->sent == GRPC_PREFIX_LEN + out->len)
            out_pop(call);
    }
    return to;
}

int call_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t length, nghttp2_data_source *source, void *user)
{
    struct rpc_call *call = source->ptr;
    struct grpc_conn *c = user;
    uint8_t *to = c->out + c->out_len;

    (void)session;
    assert(frame->data.padlen == 0 && length <= call->out_bytes && 9 + length <= c->out_room - c->out_len);
    memcpy(to, head, 9);
    to = copy_out(call, to + 9, length);
    c->out_len = (size_t)(to - c->out);
    out_count_down(call, length);
    call->sent_bytes += length;
    c->ping_count = 0;
    call->progress_ns = c->unsent_since_ns = c->host->now_ns;
    check_drained(call);
    c->is_out_full = c->out_room - c->out_len < GRPC_PULL_ROOM_MIN;
    return c->is_out_full ? NGHTTP2_ERR_PAUSE : 0;
}

/* A further piece of a message has no prefix: that counts as sent. */
static size_t out_unsent(const struct rpc_out *out) { return GRPC_PREFIX_LEN + out->len - out->sent; }

/* Queues a message whose node is complete. Takes the node. */
static void out_append(struct rpc_call *call, struct rpc_out *out)
{
    struct grpc_conn *c = call->conn;
    size_t len = out_unsent(out);

    if (call->state != CALL_RUNNING) {
        atomic_fetch_sub_explicit(&call->queued_bytes, len, memory_order_relaxed);
        out_free(out);
        return;
    }
    if (c->unsent_bytes == 0)
        c->unsent_since_ns = c->host->now_ns;
    if (call->out_bytes == 0)
        call->progress_ns = c->host->now_ns;
    if (out->owned != NULL)
        call_take_bytes(call, out->len);
    out->next = NULL;
    *call->out_end = out;
    call->out_end = &out->next;
    call->out_bytes += len;
    c->unsent_bytes += len;
}

/* --- settling --- */

static void settle(struct rpc_call *call, const struct rpc_status *status)
{
    call->status = *status;
    call->state = CALL_SENDING;
    call_leave_queue(call);
    call_advance(call);
}

/* Encodes text for grpc-message into room of the reactor's own: the arena may be in use by a handler. */
static void abort_status(struct rpc_call *call, enum rpc_code code, const char *text, struct rpc_status *out)
{
    size_t len = strlen(text);

    *out = (struct rpc_status){.code = code, .text = text, .message = (const uint8_t *)text, .message_len = len};
    if (!call->is_held && grpc_message_encoded_len(bytes_str(text)) != len) {
        uint8_t *room = arena_alloc(&call->arena, 3 * len);

        out->message = room;
        out->message_len = room == NULL ? 0 : grpc_message_encode(bytes_str(text), room, 3 * len);
    }
}

static void abort_with(struct rpc_call *call, struct rpc_status *status)
{
    bool was_receiving = call->state == CALL_RECEIVING;

    if (call->state == CALL_SENDING || call->state == CALL_CLOSED)
        return;
    call_pin(call);
    call_drop_out(call);
    settle(call, status);
    if (was_receiving) { /* nobody will read it */
        free(call->in);
        call->in = NULL;
        call->in_len = call->in_room = 0;
    }
    if (call->is_held)
        call_cancel(call);
    else
        call_report(call, status->code, status->text);
    call_unpin(call);
}

void call_abort(struct rpc_call *call, enum rpc_code code, const char *text, bool is_early)
{
    struct rpc_status status;

    abort_status(call, code, text, &status);
    status.is_early = is_early;
    abort_with(call, &status);
}

void call_abort_http(struct rpc_call *call, uint16_t http_status, enum rpc_code code, const char *text)
{
    struct rpc_status status;

    abort_status(call, code, text, &status);
    status.is_early = true;
    status.http_status = http_status;
    abort_with(call, &status);
}

/* A handler that set no on_cancel hears of it where it waits for the end of the stream, unless it paused. */
static void tell_cancelled(struct rpc_call *call)
{
    if (call->on_cancel == NULL && call->on_half_close != NULL && !call->is_half_close_told &&
        !atomic_load_explicit(&call->is_paused, memory_order_acquire)) {
        call->is_half_close_told = true;
        call->on_half_close(call);
    }
}

void call_cancel(struct rpc_call *call)
{
    atomic_store_explicit(&call->is_cancelled, true, memory_order_release);
    check_drained(call);
    if (call->on_cancel != NULL)
        call->on_cancel(call);
    else
        tell_cancelled(call);
}

/* The holder is done: takes over its status unless the call has one already. */
static void finish(struct rpc_call *call)
{
    struct rpc_status outcome = call->finish;

    assert(call->is_held);
    call->is_held = false;
    call->conn->held_count--;
    counter_sub(&call->host->counters.calls_running, 1);
    call_pin(call);
    if (call->state == CALL_RUNNING) {
        if (call->is_unqueued && outcome.code == RPC_OK) {
            outcome = (struct rpc_status){.code = RPC_RESOURCE_EXHAUSTED, .text = "out of memory"};
            outcome.message = (const uint8_t *)outcome.text;
            outcome.message_len = strlen(outcome.text);
        }
        settle(call, &outcome);
    } else {
        outcome = call->status;
    }
    call_report(call, outcome.code, outcome.text);
    call_unpin(call);
}

/* --- between the holder and the reactor --- */

static void take_outbox(struct rpc_call *call)
{
    struct rpc_out *newest, *oldest = NULL, *next;

    if (atomic_load_explicit(&call->outbox, memory_order_relaxed) == NULL)
        return;
    for (newest = atomic_exchange_explicit(&call->outbox, NULL, memory_order_acquire); newest != NULL; newest = next) {
        next = newest->next;
        newest->next = oldest;
        oldest = newest;
    }
    for (; oldest != NULL; oldest = next) {
        next = oldest->next;
        out_append(call, oldest);
    }
}

static void run_drained(struct rpc_call *call)
{
    if (!call->is_held || !atomic_load_explicit(&call->is_drained_armed, memory_order_acquire) ||
        (call->out_bytes >= call->drained_low && call->state == CALL_RUNNING))
        return;
    atomic_store_explicit(&call->is_drained_armed, false, memory_order_relaxed);
    call->on_drained(call);
}

void call_run_post(struct rpc_call *call, unsigned bits)
{
    call_pin(call);
    take_outbox(call);
    if (bits & POST_STREAM) {
        call->on_message = call->late_on_message;
        call->on_half_close = call->late_on_half_close;
    }
    if (bits & POST_RESUME)
        atomic_store_explicit(&call->is_paused, false, memory_order_release);
    if (bits & POST_DRAIN)
        atomic_store_explicit(&call->is_drained_armed, true, memory_order_relaxed);
    if (bits & POST_FINISH) {
        finish(call);
    } else {
        call_advance(call);
        run_drained(call);
        if (call->is_held && call->state == CALL_RUNNING)
            call_deliver(call);
        else if (call->is_held)
            tell_cancelled(call);
    }
    call_unpin(call);
}

bool call_is_on_reactor(const struct rpc_call *call) { return pthread_equal(pthread_self(), call->host->thread); }

/* The last touch of a caller that no longer holds the call once bits are seen. */
void call_post(struct rpc_call *call, unsigned bits)
{
    struct grpc_host *h = call->host;

    if (!(atomic_fetch_or_explicit(&call->post, POST_QUEUED | bits, memory_order_acq_rel) & POST_QUEUED))
        grpc_host_post(h, call);
}

size_t call_send(struct rpc_call *call, struct rpc_out *out)
{
    size_t len = out_unsent(out);
    size_t queued = len + atomic_fetch_add_explicit(&call->queued_bytes, len, memory_order_relaxed);

    if (call_is_on_reactor(call)) {
        take_outbox(call);
        out_append(call, out);
        if (!call->is_replying)
            call_advance(call);
    } else {
        out->next = atomic_load_explicit(&call->outbox, memory_order_relaxed);
        while (!atomic_compare_exchange_weak_explicit(&call->outbox, &out->next, out, memory_order_release, memory_order_relaxed))
            ;
        if (!call->is_replying)
            call_post(call, 0);
    }
    return queued;
}

void call_finish(struct rpc_call *call)
{
    struct grpc_host *h = call->host;

    call_leave_reserve(call, false);
    if (call_is_on_reactor(call) && atomic_load_explicit(&call->post, memory_order_relaxed) == 0) {
        take_outbox(call);
        finish(call);
    } else if (!(atomic_fetch_or_explicit(&call->post, POST_QUEUED | POST_FINISH, memory_order_acq_rel) & POST_QUEUED)) {
        grpc_host_post(h, call);
    }
}
