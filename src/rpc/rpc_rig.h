/* For tests alone: a server connection and nghttp2's client, joined in memory, with a clock that is turned by hand.
 *
 * rig_open() makes service, host and connection; rig_pump() moves bytes both ways until nothing moves. The handlers of the
 * service "t.S" leave their call in rig.call (the last one) and do what the method's name says; see rig_methods. */
#ifndef RPC_RPC_RIG_H
#define RPC_RPC_RIG_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/test.h"
#include "rpc/grpc_call.h"

#define RIG_STREAMS 2100
#define RIG_UUID "c8g1q3h5k7m9p2r4t6v0"
#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

struct rig_stream { /* the client's view of one call */
    int32_t id;
    const uint8_t *up; /* what it sends ... */
    size_t up_len, up_at;
    bool is_up_done; /* ... and whether END_STREAM follows */
    bool is_deferred;
    unsigned headers_frames;
    bool is_trailers_only;
    char http_status[8], uuid[64], content_type[64], grpc_status[8], message[9000], details[1024], extra[256];
    bool has_message, has_uuid_in_trailers;
    uint8_t *down;
    size_t down_len, down_room;
    bool is_closed, has_end;
    uint32_t error, rst_code;
    bool has_rst;
    struct rpc_call *call; /* the server's view, by the handler */
};

struct rig {
    uint64_t now_ns;
    struct env env;
    struct budget budget;
    struct grpc_service *service;
    struct grpc_host host;
    struct grpc_conn conn;
    bool is_conn_open, is_unused;
    nghttp2_session *client;
    struct rig_stream streams[RIG_STREAMS];
    size_t stream_count;
    bool has_goaway;
    uint32_t goaway_error;
    int32_t goaway_last;
    unsigned goaways, pings_acked, pings_seen;
    bool answer_pings;
    /* the server's side */
    struct rpc_call *call;
    unsigned handler_calls, ended, half_closes, cancels, drained, messages, wakes;
    bool cancelled_at_half_close;
    enum rpc_code ended_code;
    char ended_text[256];
    uint8_t got[1 << 16];
    size_t got_len;
    bool pause_at_message;
    unsigned hold_back_count; /* so many deliveries are not taken */
    unsigned slots_freed;
};

static struct rig *rig_now; /* handlers and nghttp2 callbacks of the one rig at a time */

/* --- the server's handlers --- */

static inline void rig_remember(struct rpc_call *call)
{
    rig_now->call = call;
    rig_now->handler_calls++;
    for (size_t i = 0; i < rig_now->stream_count; i++)
        if (rig_now->streams[i].id == call->stream_id)
            rig_now->streams[i].call = call;
}
static inline void rig_on_hold(struct rpc_call *call) { rig_remember(call); }
static inline void rig_on_echo(struct rpc_call *call)
{
    rig_remember(call);
    rpc_reply(call, rpc_request(call));
}
static inline void rig_on_fail(struct rpc_call *call)
{
    rig_remember(call);
    rpc_finish(call, RPC_NOT_FOUND, "tbtree: key not found\n100% \xc3\xa4", bytes_of("\x08\x05\x12\x01x", 5));
}
static inline void rig_on_early(struct rpc_call *call)
{
    rig_remember(call);
    rpc_finish_early(call, RPC_INTERNAL, "grpc: error unmarshalling request: x");
}
static inline void rig_message(struct rpc_call *call, struct bytes message)
{
    struct rig *r = rig_now;

    if (r->hold_back_count > 0) {
        r->hold_back_count--;
        rpc_hold_back(call);
        return;
    }
    r->messages++;
    if (message.len <= sizeof(r->got) - r->got_len) {
        if (message.len > 0)
            memcpy(r->got + r->got_len, message.data, message.len);
        r->got_len += message.len;
    }
    if (r->pause_at_message)
        rpc_pause(call);
}
static inline void rig_half_close(struct rpc_call *call)
{
    rig_now->half_closes++;
    rig_now->cancelled_at_half_close = rpc_is_cancelled(call);
}
static inline void rig_cancel(struct rpc_call *call)
{
    (void)call;
    rig_now->cancels++;
}
static inline void rig_on_stream(struct rpc_call *call)
{
    rig_remember(call);
    rpc_on_stream(call, rig_message, rig_half_close);
}
static inline void rig_on_stream_cancel(struct rpc_call *call)
{
    rig_on_stream(call);
    rpc_on_cancel(call, rig_cancel);
}
static inline void rig_on_hold_cancel(struct rpc_call *call)
{
    rig_remember(call);
    rpc_on_cancel(call, rig_cancel);
}
static const struct rpc_method rig_methods[] = {
    {"/t.S/Hold", RPC_UNARY, rig_on_hold, NULL},
    {"/t.S/HoldCancel", RPC_UNARY, rig_on_hold_cancel, NULL},
    {"/t.S/Echo", RPC_UNARY, rig_on_echo, NULL},
    {"/t.S/Fail", RPC_UNARY, rig_on_fail, NULL},
    {"/t.S/Early", RPC_UNARY, rig_on_early, NULL},
    {"/t.S/Server", RPC_SERVER_STREAM, rig_on_hold, NULL},
    {"/t.S/Client", RPC_CLIENT_STREAM, rig_on_stream, NULL},
    {"/t.S/Bidi", RPC_BIDI, rig_on_stream, NULL},
    {"/t.S/BidiCancel", RPC_BIDI, rig_on_stream_cancel, NULL},
};
static const char *const rig_services[] = {"t.S"};

static inline uint64_t rig_mono(void *ctx) { return ((struct rig *)ctx)->now_ns; }
static inline int64_t rig_wall(void *ctx) { return (int64_t)((struct rig *)ctx)->now_ns; }
static inline void rig_random(void *ctx, void *out, size_t len)
{
    (void)ctx;
    memset(out, 0x5a, len);
}
static inline void rig_log(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}
static inline void rig_on_end(void *ctx, struct rpc_call *call, enum rpc_code code, const char *text)
{
    struct rig *r = ctx;

    (void)call;
    r->ended++;
    r->ended_code = code;
    snprintf(r->ended_text, sizeof(r->ended_text), "%s", text);
}
static inline void rig_slot_free(void *slot)
{
    (void)slot;
    rig_now->slots_freed++;
}
static inline void rig_unused(struct grpc_conn *c)
{
    (void)c;
    rig_now->is_unused = true;
}
static inline void rig_wake(struct grpc_host *h)
{
    (void)h;
    rig_now->wakes++;
}

/* --- the client --- */

static inline struct rig_stream *rig_stream_of(struct rig *r, int32_t id)
{
    for (size_t i = 0; i < r->stream_count; i++)
        if (r->streams[i].id == id)
            return &r->streams[i];
    return NULL;
}

static inline void rig_keep(char *to, size_t room, const uint8_t *value, size_t len)
{
    if (len >= room)
        len = room - 1;
    memcpy(to, value, len);
    to[len] = '\0';
}

static inline int rig_c_begin(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct rig_stream *s = rig_stream_of(user, frame->hd.stream_id);

    (void)session;
    if (s != NULL)
        s->headers_frames++;
    return 0;
}

static inline int rig_c_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
                               size_t value_len, uint8_t flags, void *user)
{
    struct rig_stream *s = rig_stream_of(user, frame->hd.stream_id);
    char key[64];

    (void)session;
    (void)flags;
    if (s == NULL)
        return 0;
    rig_keep(key, sizeof(key), name, name_len);
    if (strcmp(key, ":status") == 0)
        rig_keep(s->http_status, sizeof(s->http_status), value, value_len);
    else if (strcmp(key, "content-type") == 0)
        rig_keep(s->content_type, sizeof(s->content_type), value, value_len);
    else if (strcmp(key, "immudb-uuid") == 0) {
        rig_keep(s->uuid, sizeof(s->uuid), value, value_len);
        s->has_uuid_in_trailers = s->headers_frames > 1;
    } else if (strcmp(key, "grpc-status") == 0) {
        rig_keep(s->grpc_status, sizeof(s->grpc_status), value, value_len);
        s->is_trailers_only = s->headers_frames == 1;
    } else if (strcmp(key, "grpc-message") == 0) {
        rig_keep(s->message, sizeof(s->message), value, value_len);
        s->has_message = true;
    } else if (strcmp(key, "grpc-status-details-bin") == 0)
        rig_keep(s->details, sizeof(s->details), value, value_len);
    else
        rig_keep(s->extra, sizeof(s->extra), value, value_len);
    return 0;
}

static inline int rig_c_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t len, void *user)
{
    struct rig_stream *s = rig_stream_of(user, id);

    (void)session;
    (void)flags;
    if (s == NULL)
        return 0;
    if (s->down_len + len > s->down_room) {
        s->down_room = (s->down_len + len) * 2;
        s->down = realloc(s->down, s->down_room);
        assert(s->down != NULL);
    }
    memcpy(s->down + s->down_len, data, len);
    s->down_len += len;
    return 0;
}

static inline int rig_c_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct rig *r = user;
    struct rig_stream *s = rig_stream_of(r, frame->hd.stream_id);

    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        r->has_goaway = true;
        r->goaways++;
        r->goaway_error = frame->goaway.error_code;
        r->goaway_last = frame->goaway.last_stream_id;
    } else if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        r->pings_acked++;
    } else if (frame->hd.type == NGHTTP2_PING) {
        r->pings_seen++;
    } else if (frame->hd.type == NGHTTP2_RST_STREAM && s != NULL) {
        s->has_rst = true;
        s->rst_code = frame->rst_stream.error_code;
    } else if (s != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) {
        s->has_end = true;
    }
    return 0;
}

static inline int rig_c_close(nghttp2_session *session, int32_t id, uint32_t error, void *user)
{
    struct rig_stream *s = rig_stream_of(user, id);

    (void)session;
    if (s != NULL) {
        s->is_closed = true;
        s->error = error;
    }
    return 0;
}

static inline ssize_t rig_c_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags, nghttp2_data_source *source,
                                 void *user)
{
    struct rig_stream *s = source->ptr;
    size_t n = s->up_len - s->up_at;

    (void)session;
    (void)id;
    (void)user;
    if (n > len)
        n = len;
    if (n > 0)
        memcpy(buf, s->up + s->up_at, n);
    s->up_at += n;
    if (s->up_at == s->up_len && s->is_up_done) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
        s->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

static inline nghttp2_nv rig_nv(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static inline nghttp2_session *rig_client(void *user)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session *session;

    assert(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0);
    /* It must be able to misbehave. */
    nghttp2_option_set_no_http_messaging(option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(option, 100000);
    nghttp2_option_set_max_send_header_block_length(option, 1 << 20);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, rig_c_begin);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, rig_c_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, rig_c_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, rig_c_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, rig_c_close);
    assert(nghttp2_session_client_new2(&session, callbacks, user, option) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return session;
}

/* Moves bytes until nothing moves. False once the server's side is broken. */
static inline bool rig_pump(struct rig *r)
{
    static uint8_t buf[1 << 17];
    bool is_moving = true, is_good = true;

    while (is_moving && r->is_conn_open) {
        const uint8_t *chunk;
        ssize_t n;
        size_t len;

        is_moving = false;
        grpc_host_run_posted(&r->host);
        while ((n = nghttp2_session_mem_send(r->client, &chunk)) > 0) {
            is_moving = true;
            if (!grpc_conn_feed(&r->conn, chunk, (size_t)n))
                is_good = false;
        }
        while ((len = grpc_conn_pull(&r->conn, buf, sizeof(buf))) > 0) {
            is_moving = true;
            if (nghttp2_session_mem_recv(r->client, buf, len) < 0)
                is_good = false;
        }
        grpc_conn_untouch(&r->conn);
        if (!is_good)
            break;
    }
    return is_good && !r->conn.is_broken;
}

/* Turns the clock and fires what is due. */
static inline void rig_advance(struct rig *r, uint64_t ns)
{
    r->now_ns += ns;
    r->host.now_ns = r->now_ns;
    timers_run(&r->host.timers, r->now_ns);
    grpc_host_run_posted(&r->host);
}

static inline void rig_connect(struct rig *r, const nghttp2_settings_entry *settings, size_t count)
{
    struct err err;

    memset(&r->conn, 0, sizeof(r->conn));
    r->conn.on_unused = rig_unused;
    r->conn.is_loopback = true;
    snprintf(r->conn.peer, sizeof(r->conn.peer), "127.0.0.1:1234");
    r->is_unused = false;
    assert(grpc_conn_open(&r->conn, &r->host, &err) == ST_OK);
    r->is_conn_open = true;
    r->client = rig_client(r);
    assert(nghttp2_submit_settings(r->client, NGHTTP2_FLAG_NONE, settings, count) == 0);
}

static inline struct rig *rig_open_with(const struct rpc_limits *limits, size_t budget_bytes)
{
    struct rig *r = calloc(1, sizeof(*r));
    struct err err;

    assert(r != NULL);
    rig_now = r;
    r->now_ns = 1000 * SECOND;
    r->env = (struct env){r, rig_wall, rig_mono, rig_random, rig_log};
    budget_init(&r->budget, budget_bytes);
    struct rpc_options o = {
        .env = &r->env,
        .budget = &r->budget,
        .methods = rig_methods,
        .method_count = sizeof(rig_methods) / sizeof(rig_methods[0]),
        .services = rig_services,
        .service_count = 1,
        .header_name = "immudb-uuid",
        .header_value = RIG_UUID,
        .on_end = rig_on_end,
        .slot_free = rig_slot_free,
        .ctx = r,
    };
    if (limits != NULL)
        o.limits = *limits;
    assert(grpc_service_open(&o, &r->service, &err) == ST_OK);
    assert(grpc_host_open(&r->host, r->service, 0, rig_wake, &err) == ST_OK);
    r->host.now_ns = r->now_ns;
    return r;
}

static inline struct rig *rig_open(const struct rpc_limits *limits)
{
    struct rig *r = rig_open_with(limits, (size_t)1 << 30);

    rig_connect(r, NULL, 0);
    rig_pump(r);
    return r;
}

static inline void rig_disconnect(struct rig *r)
{
    if (!r->is_conn_open)
        return;
    r->is_conn_open = false;
    grpc_conn_close(&r->conn);
    nghttp2_session_del(r->client);
    r->client = NULL;
}

/* All calls must be finished: fails the test when a byte of the budget or a call is left. */
static inline void rig_close(struct rig *r)
{
    rig_disconnect(r);
    grpc_host_run_posted(&r->host);
    assert_true(r->is_unused || r->conn.host == NULL);
    assert_int_equal(r->host.counters.calls_running, 0);
    assert_int_equal(r->host.counters.streams_open, 0);
    grpc_host_close(&r->host);
    assert_int_equal(budget_used(&r->budget, BUDGET_REQUEST), 0);
    grpc_service_close(r->service);
    for (size_t i = 0; i < r->stream_count; i++)
        free(r->streams[i].down);
    rig_now = NULL;
    free(r);
}

/* Begins a request with headers of its own. up is borrowed; NULL: HEADERS end the stream. */
static inline struct rig_stream *rig_request(struct rig *r, const nghttp2_nv *nv, size_t nv_len, const void *up, size_t up_len, bool is_up_done)
{
    struct rig_stream *s = &r->streams[r->stream_count];
    nghttp2_data_provider provider = {.source.ptr = s, .read_callback = rig_c_read};

    assert(r->stream_count < RIG_STREAMS);
    *s = (struct rig_stream){.up = up, .up_len = up_len, .is_up_done = is_up_done};
    s->id = nghttp2_submit_request(r->client, NULL, nv, nv_len, up == NULL ? NULL : &provider, NULL);
    assert(s->id > 0);
    r->stream_count++;
    return s;
}

static inline struct rig_stream *rig_begin(struct rig *r, const char *path, const void *up, size_t up_len, bool is_up_done, const char *timeout)
{
    nghttp2_nv nv[8] = {rig_nv(":method", "POST"),
                        rig_nv(":scheme", "http"),
                        rig_nv(":path", path),
                        rig_nv(":authority", "h"),
                        rig_nv("content-type", "application/grpc"),
                        rig_nv("te", "trailers")};
    size_t n = 6;

    if (timeout != NULL)
        nv[n++] = rig_nv("grpc-timeout", timeout);
    return rig_request(r, nv, n, up, up_len, is_up_done);
}

/* A whole unary call. */
static inline struct rig_stream *rig_call(struct rig *r, const char *path, const void *up, size_t up_len)
{
    struct rig_stream *s = rig_begin(r, path, up, up_len, true, NULL);

    rig_pump(r);
    return s;
}

/* Goes on sending on a stream whose request was not done. */
static inline void rig_more(struct rig *r, struct rig_stream *s, const void *up, size_t up_len, bool is_up_done)
{
    assert(s->up_at == s->up_len);
    s->up = up;
    s->up_len = up_len;
    s->up_at = 0;
    s->is_up_done = is_up_done;
    if (s->is_deferred) {
        s->is_deferred = false;
        (void)nghttp2_session_resume_data(r->client, s->id);
    }
    rig_pump(r);
}

static inline void rig_reset(struct rig *r, struct rig_stream *s)
{
    nghttp2_submit_rst_stream(r->client, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_CANCEL);
    rig_pump(r);
}

/* A message with its prefix, malloc'ed: to be freed by the test. */
static inline uint8_t *rig_message_of(size_t len, uint8_t fill)
{
    uint8_t *m = malloc(GRPC_PREFIX_LEN + len);

    assert(m != NULL);
    grpc_prefix_write(m, (uint32_t)len);
    if (len > 0)
        memset(m + GRPC_PREFIX_LEN, fill, len);
    return m;
}

/* The next message the client got. */
static inline struct bytes rig_payload(const struct rig_stream *s, size_t *at)
{
    struct bytes m = {NULL, 0};

    if (s->down_len - *at >= GRPC_PREFIX_LEN) {
        assert_int_equal(s->down[*at], 0);
        m = bytes_of(s->down + *at + GRPC_PREFIX_LEN, load_u32be(s->down + *at + 1));
        *at += GRPC_PREFIX_LEN + m.len;
        assert_true(*at <= s->down_len);
    }
    return m;
}

#define assert_status(s, code, text) \
    do { \
        assert_string_equal((s)->grpc_status, code); \
        assert_true((s)->has_message); \
        assert_string_equal((s)->message, text); \
    } while (0)
/* Handled: HEADERS with the uuid, then trailers. Refused: one HEADERS frame without it. */
#define assert_handled(s) \
    do { \
        assert_int_equal((s)->headers_frames, 2); \
        assert_string_equal((s)->uuid, RIG_UUID); \
        assert_false((s)->has_uuid_in_trailers); \
        assert_string_equal((s)->http_status, "200"); \
        assert_string_equal((s)->content_type, "application/grpc"); \
        assert_true((s)->has_end); \
    } while (0)
#define assert_refused(s, http) \
    do { \
        assert_int_equal((s)->headers_frames, 1); \
        assert_true((s)->is_trailers_only); \
        assert_string_equal((s)->uuid, ""); \
        assert_string_equal((s)->http_status, http); \
        assert_string_equal((s)->content_type, "application/grpc"); \
        assert_true((s)->has_end); \
        assert_int_equal((s)->down_len, 0); \
    } while (0)

#endif
