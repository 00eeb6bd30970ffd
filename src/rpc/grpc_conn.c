/* The life of a connection and of its calls: nghttp2's callbacks on one side, the owner's feed, pull and close on the other.
 * What a request means is in grpc_recv.c, how answers are sent in grpc_send.c. The state table is in grpc_conn.h. */
#include "rpc/grpc_conn.h"

#include <assert.h>
#include <stdlib.h>

#include "rpc/grpc_call.h"
#include "rpc/grpc_session.h"

#define DRAIN_PING "drain..."
#define PING_WINDOW_NS UINT64_C(10000000000)
#define OUTBOUND_FRAMES_MAX 16384
#define HEADER_OVERHEAD 32 /* RFC 9113 counts so much per field */

static const struct rpc_limits *limits_of(const struct grpc_conn *c) { return &c->host->service->options.limits; }

void grpc_conn_touch(struct grpc_conn *c)
{
    if (c->is_dirty || c->session == NULL)
        return;
    c->is_dirty = true;
    c->dirty_next = c->host->dirty;
    c->dirty_prev = NULL;
    if (c->dirty_next != NULL)
        c->dirty_next->dirty_prev = c;
    c->host->dirty = c;
}

void grpc_conn_untouch(struct grpc_conn *c)
{
    if (!c->is_dirty)
        return;
    c->is_dirty = false;
    if (c->dirty_prev != NULL)
        c->dirty_prev->dirty_next = c->dirty_next;
    else
        c->host->dirty = c->dirty_next;
    if (c->dirty_next != NULL)
        c->dirty_next->dirty_prev = c->dirty_prev;
}

/* At most `burst` events at once and per_s per second in the long run. tat: when the bucket will be full again. */
static bool rate_allow(uint64_t *tat_ns, uint64_t now_ns, uint64_t per_s, uint64_t burst)
{
    uint64_t step_ns = UINT64_C(1000000000) / per_s;

    if (*tat_ns < now_ns)
        *tat_ns = now_ns;
    *tat_ns += step_ns;
    return *tat_ns - now_ns <= burst * step_ns;
}

/* --- the life of a call --- */

static void list_add(struct rpc_call **head, struct rpc_call *call)
{
    call->prev = NULL;
    call->next = *head;
    if (*head != NULL)
        (*head)->prev = call;
    *head = call;
}

static void list_remove(struct rpc_call **head, struct rpc_call *call)
{
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        *head = call->next;
    if (call->next != NULL)
        call->next->prev = call->prev;
    call->next = call->prev = NULL;
}

static struct rpc_call *call_begin(struct grpc_conn *c, int32_t stream_id)
{
    struct rpc_call *call = grpc_host_new_call(c->host);

    if (call == NULL)
        return NULL;
    call->conn = c;
    call->stream_id = stream_id;
    call->state = CALL_HEADERS;
    if (call->is_over_budget && call_is_modest(call))
        call->is_over_budget = false;
    c->bytes += call->accounted;
    list_add(&c->calls, call);
    c->call_count++;
    counter_add(&c->host->counters.streams_open, 1);
    counter_add(&c->host->counters.calls_total, 1);
    return call;
}

void call_take_bytes(struct rpc_call *call, size_t len)
{
    grpc_host_take(call->host, len);
    call->accounted += len;
    call->conn->bytes += len;
}

bool call_try_take_bytes(struct rpc_call *call, size_t len)
{
    if (call->conn->bytes + len > call->host->service->conn_bytes_max || !grpc_host_try_take(call->host, len))
        return false;
    call->accounted += len;
    call->conn->bytes += len;
    return true;
}

void call_pin(struct rpc_call *call) { call->pins++; }

void call_unpin(struct rpc_call *call)
{
    assert(call->pins > 0);
    call->pins--;
    call_release(call);
}

/* Closed, and no call left. */
static void conn_unused(struct grpc_conn *c)
{
    if (c->slot != NULL && c->host->service->options.slot_free != NULL)
        c->host->service->options.slot_free(c->slot);
    c->slot = NULL;
    c->on_unused(c);
}

void call_release(struct rpc_call *call)
{
    struct grpc_conn *c = call->conn;

    if (call->state != CALL_CLOSED || call->is_held || call->pins > 0)
        return;
    call_give_reserve(call);
    list_remove(&c->orphans, call);
    c->call_count--;
    c->bytes -= call->accounted;
    grpc_host_free_call(call->host, call);
    if (c->session == NULL && c->call_count == 0)
        conn_unused(c);
}

void call_report(struct rpc_call *call, enum rpc_code code, const char *text)
{
    const struct rpc_options *o = &call->host->service->options;

    if (call->is_ended)
        return;
    call->is_ended = true;
    if (call->method != NULL && o->on_end != NULL)
        o->on_end(o->ctx, call, code, text);
}

/* The stream is gone, answered or not. */
static void call_closed(struct rpc_call *call)
{
    struct grpc_conn *c = call->conn;
    bool was_answered = call->state == CALL_SENDING;

    if (call == c->memo_call)
        c->memo_call = NULL;
    list_remove(&c->calls, call);
    list_add(&c->orphans, call);
    call->state = CALL_CLOSED;
    counter_sub(&c->host->counters.streams_open, 1);
    call_pin(call);
    call_leave_queue(call);
    timer_disarm(&call->host->timers, &call->deadline);
    call_drop_out(call);
    if (!was_answered) {
        call->status = (struct rpc_status){.code = RPC_CANCELLED, .text = "context canceled"};
        if (call->is_held)
            call_cancel(call);
        else
            call_report(call, RPC_CANCELLED, call->status.text);
    }
    call_unpin(call);
}

/* --- nghttp2 callbacks --- */

static struct rpc_call *call_of(struct grpc_conn *c, int32_t stream_id)
{
    if (c->memo_call == NULL || c->memo_stream_id != stream_id) {
        c->memo_call = nghttp2_session_get_stream_user_data(c->session, stream_id);
        c->memo_stream_id = stream_id;
    }
    return c->memo_call;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *c = user;
    struct rpc_call *call;

    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    if ((call = call_begin(c, frame->hd.stream_id)) == NULL || nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call) != 0) {
        if (call != NULL)
            call_closed(call);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    c->memo_call = call;
    c->memo_stream_id = frame->hd.stream_id;
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                     size_t value_len, uint8_t flags, void *user)
{
    struct grpc_conn *c = user;
    struct rpc_call *call = call_of(c, frame->hd.stream_id);
    size_t limit = limits_of(c)->header_list_bytes_max;

    (void)session;
    (void)flags;
    if (call == NULL)
        return 0;
    call->header_bytes += name_len + value_len + HEADER_OVERHEAD;
    if (call->header_bytes > limit) {
        /* Refused with a status when the block is done, but nobody may keep us busy with one for ever. */
        if (call->header_bytes / 16 > limit)
            grpc_conn_terminate(c, NGHTTP2_ENHANCE_YOUR_CALM);
        return call->header_bytes / 16 > limit ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0; /* trailers of a client mean nothing in gRPC */
    return call_header(call, bytes_of(name, name_len), bytes_of(value, value_len)) ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len, void *user)
{
    struct grpc_conn *c = user;
    struct rpc_call *call = call_of(c, stream_id);

    (void)session;
    (void)flags;
    c->window_debt += len;
    c->ping_count = 0;
    if (call != NULL)
        call_data(call, data, len);
    return 0;
}

static void on_ping(struct grpc_conn *c, const nghttp2_ping *ping)
{
    if (ping->hd.flags & NGHTTP2_FLAG_ACK) {
        if (memcmp(ping->opaque_data, DRAIN_PING, 8) == 0 && c->is_drain_pinged)
            grpc_conn_drain_last(c);
        return;
    }
    if (c->ping_count == 0 || c->host->now_ns - c->ping_since_ns > PING_WINDOW_NS) {
        c->ping_since_ns = c->host->now_ns;
        c->ping_count = 0;
    }
    if (++c->ping_count > limits_of(c)->pings_per_10s_max)
        grpc_conn_terminate(c, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* Frames that cost us work and mean nothing. */
static void on_control(struct grpc_conn *c)
{
    if (!rate_allow(&c->control_tat_ns, c->host->now_ns, GRPC_CONTROLS_PER_S, GRPC_CONTROL_BURST))
        grpc_conn_terminate(c, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* A stream reset by the peer, or by us for an error of the peer's: either way it made us work for nothing. */
static void on_reset(struct grpc_conn *c)
{
    counter_add(&c->host->counters.resets_received, 1);
    if (!rate_allow(&c->reset_tat_ns, c->host->now_ns, GRPC_RESETS_PER_S, GRPC_RESET_BURST))
        grpc_conn_terminate(c, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *c = user;
    struct rpc_call *call;

    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        if (frame->hd.type == NGHTTP2_DATA && frame->hd.length == 0 && !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
            on_control(c);
        if ((call = call_of(c, frame->hd.stream_id)) == NULL)
            break;
        call_pin(call);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            call->is_half_closed = true;
        if (frame->hd.type == NGHTTP2_DATA)
            call_frame_done(call);
        else if (frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            call_headers_done(call);
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
            call_half_closed(call);
        call_unpin(call);
        break;
    case NGHTTP2_PING:
        on_ping(c, &frame->ping);
        break;
    case NGHTTP2_RST_STREAM:
        on_reset(c);
        break;
    case NGHTTP2_SETTINGS:
        c->has_settings = true;
        on_control(c);
        break;
    case NGHTTP2_PRIORITY:
        on_control(c);
        break;
    default:
        break;
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct grpc_conn *c = user;

    if (frame->hd.type == NGHTTP2_HEADERS) {
        /* Our trailers end the call; a client that is still sending is told to stop. */
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR) == NGHTTP2_ERR_NOMEM
                       ? NGHTTP2_ERR_CALLBACK_FAILURE
                       : 0;
    } else if (frame->hd.type == NGHTTP2_RST_STREAM) {
        if (frame->rst_stream.error_code != NGHTTP2_NO_ERROR && frame->rst_stream.error_code != NGHTTP2_CANCEL)
            on_reset(c);
    } else if (frame->hd.type == NGHTTP2_GOAWAY) {
        counter_add(&c->host->counters.goaways_sent, 1);
    }
    return 0;
}

static int on_frame_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int error, void *user)
{
    (void)user;
    /* An answer that can not be sent must not leave its caller waiting. */
    if (frame->hd.type == NGHTTP2_HEADERS && error != NGHTTP2_ERR_STREAM_CLOSED && error != NGHTTP2_ERR_STREAM_CLOSING &&
        error != NGHTTP2_ERR_SESSION_CLOSING &&
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR) == NGHTTP2_ERR_NOMEM)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    struct grpc_conn *c = user;
    struct rpc_call *call = nghttp2_session_get_stream_user_data(session, stream_id);

    (void)error;
    if (call != NULL) {
        c->memo_call = NULL;
        nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        call_closed(call);
    }
    return 0;
}

enum status grpc_session_callbacks(nghttp2_session_callbacks **out)
{
    if (nghttp2_session_callbacks_new(out) != 0)
        return ST_NOMEM;
    nghttp2_session_callbacks_set_on_begin_headers_callback(*out, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*out, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*out, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*out, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(*out, on_frame_sent);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(*out, on_frame_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(*out, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(*out, call_data_send);
    return ST_OK;
}

/* --- the owner's side --- */

enum status grpc_conn_open(struct grpc_conn *c, struct grpc_host *h, struct err *err)
{
    const struct rpc_limits *l = &h->service->options.limits;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, l->streams_per_conn_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, GRPC_FIRST_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, l->header_list_bytes_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };

    /* Calls of malloc come from our code, so that tests which let them fail reach the library's as well. */
    nghttp2_mem memory = frame_rooms_allocator(&h->rooms);

    c->host = h;
    c->walk = grpc_frame_walk_begin();
    c->received_ns = c->unsent_since_ns = h->now_ns;
    if (nghttp2_session_server_new3(&c->session, h->service->callbacks, c, h->service->h2_option, &memory) != 0)
        return err_set(err, ST_NOMEM, 0, "HTTP/2 session");
    if (nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(settings[0])) != 0 ||
        nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, (int32_t)l->conn_window_bytes) != 0) {
        nghttp2_session_del(c->session);
        c->session = NULL;
        return err_set(err, ST_NOMEM, 0, "HTTP/2 settings");
    }
    counter_add(&h->counters.connections_open, 1);
    counter_add(&h->counters.connections_total, 1);
    grpc_conn_touch(c);
    if (atomic_load_explicit(&h->service->is_draining, memory_order_acquire))
        grpc_conn_drain(c);
    return ST_OK;
}

static bool session_feed(struct grpc_conn *c, const uint8_t *data, size_t len)
{
    ssize_t n = len == 0 ? 0 : nghttp2_session_mem_recv(c->session, data, len);

    return n >= 0 && (size_t)n == len;
}

bool grpc_conn_feed(struct grpc_conn *c, const uint8_t *data, size_t len)
{
    size_t as_is, taken;
    struct bytes instead;
    bool is_good = true;

    if (c->is_broken)
        return false;
    c->received_ns = c->host->now_ns;
    c->is_ping_out = false;
    counter_add(&c->host->counters.bytes_in, len);
    for (; len > 0 && is_good; data += as_is + taken, len -= as_is + taken) {
        as_is = grpc_strings_next(&c->host->strings, &c->walk, data, len, &instead, &taken);
        is_good = session_feed(c, data, as_is) && session_feed(c, instead.data, instead.len);
    }
    c->memo_call = NULL;
    /* The connection's window is refunded at once whatever the calls do: one that is held back must not stop the others. */
    if (c->window_debt > 0 && nghttp2_session_consume_connection(c->session, c->window_debt) != 0)
        is_good = false;
    c->window_debt = 0;
    grpc_conn_touch(c);
    /* The second: frames we owe a peer that makes us answer, but reads nothing. */
    if (!is_good || nghttp2_session_get_outbound_queue_size(c->session) > OUTBOUND_FRAMES_MAX)
        c->is_broken = true;
    return !c->is_broken;
}

size_t grpc_conn_pull(struct grpc_conn *c, uint8_t *out, size_t room)
{
    const uint8_t *chunk;
    ssize_t n;

    assert(room >= GRPC_PULL_ROOM_MIN);
    if (c->session == NULL)
        return 0;
    c->out = out;
    c->out_len = 0;
    c->out_room = room;
    c->is_out_full = false;
    /* mem_send() returns one frame that fits GRPC_PULL_ROOM_MIN; DATA frames before it went to call_data_send(), which stops it
     * while there is still so much room. */
    while (c->out_room - c->out_len >= GRPC_PULL_ROOM_MIN && !c->is_out_full) {
        n = nghttp2_session_mem_send(c->session, &chunk);
        if (n < 0)
            c->is_broken = true;
        if (n <= 0)
            break;
        assert((size_t)n <= c->out_room - c->out_len);
        memcpy(c->out + c->out_len, chunk, (size_t)n);
        c->out_len += (size_t)n;
    }
    c->out = NULL;
    counter_add(&c->host->counters.bytes_out, c->out_len);
    return c->out_len;
}

bool grpc_conn_is_over(const struct grpc_conn *c)
{
    return c->is_broken || (!nghttp2_session_want_read(c->session) && !nghttp2_session_want_write(c->session));
}

void grpc_conn_close(struct grpc_conn *c)
{
    nghttp2_session *session = c->session;

    assert(session != NULL);
    /* Keeps the connection's memory until we are through, whatever the handlers do. */
    c->call_count++;
    while (c->calls != NULL)
        call_closed(c->calls);
    grpc_conn_untouch(c);
    c->session = NULL;
    nghttp2_session_del(session);
    counter_sub(&c->host->counters.connections_open, 1);
    if (--c->call_count == 0)
        conn_unused(c);
}

void grpc_conn_each_orphan(const struct grpc_conn *c, void (*visit)(void *ctx, const struct rpc_call *call), void *ctx)
{
    for (const struct rpc_call *call = c->orphans; call != NULL; call = call->next)
        if (call->is_held)
            visit(ctx, call);
}

void grpc_conn_drain(struct grpc_conn *c)
{
    if (c->is_drain_pinged || c->is_going)
        return;
    c->is_drain_pinged = true;
    if (nghttp2_submit_shutdown_notice(c->session) != 0 || nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, (const uint8_t *)DRAIN_PING) != 0)
        grpc_conn_drain_last(c);
    grpc_conn_touch(c);
}

void grpc_conn_drain_last(struct grpc_conn *c)
{
    if (c->is_going)
        return;
    c->is_going = true;
    if (nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(c->session), NGHTTP2_NO_ERROR, NULL, 0) != 0)
        c->is_broken = true;
    grpc_conn_touch(c);
}

void grpc_conn_ping(struct grpc_conn *c)
{
    c->is_ping_out = nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL) == 0;
    grpc_conn_touch(c);
}

void grpc_conn_terminate(struct grpc_conn *c, uint32_t error_code)
{
    if (nghttp2_session_terminate_session(c->session, error_code) != 0)
        c->is_broken = true;
    grpc_conn_touch(c);
}

bool grpc_conn_watch(struct grpc_conn *c)
{
    uint64_t now_ns = c->host->now_ns, stall_ns = limits_of(c)->write_stall_timeout_ns;
    uint64_t before_ns = now_ns > stall_ns ? now_ns - stall_ns : 0;

    if (c->session == NULL)
        return true;
    if (c->unsent_bytes > 0 && c->unsent_since_ns < before_ns)
        return false;
    for (struct rpc_call *call = c->calls, *next; call != NULL; call = next) {
        bool is_slow = call_is_too_slow(call);

        next = call->next;
        if (call_is_stalled(call, before_ns))
            call_abort(call, RPC_DEADLINE_EXCEEDED, "the request message was not completed in time", call->state == CALL_RECEIVING);
        else if (call_sits_on_reserve(call, before_ns))
            call_abort(call, RPC_RESOURCE_EXHAUSTED, "memory for requests is short, and this one makes no progress", false);
        else if (is_slow && call->state != CALL_SENDING)
            call_abort(call, RPC_RESOURCE_EXHAUSTED, call->abort_text, call->state == CALL_RECEIVING);
        else if (call->state == CALL_SENDING && (is_slow || (call->out_bytes > 0 && call->progress_ns < before_ns)) &&
                 nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL) != 0)
            c->is_broken = true;
    }
    grpc_conn_touch(c);
    return true;
}
