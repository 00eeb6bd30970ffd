/* Requests: which headers mean what, what is refused before a handler sees it, and how messages are put together.
 *
 * Memory. A request of up to GRPC_SMALL_MESSAGE_BYTES that comes in one piece is copied into the call's arena. Anything else
 * collects in call->in, which grows as bytes arrive: its room is accounted to the budget, within the share of the connection.
 * A stream begins with a window of 64 KiB, which is refunded and widened only as far as the memory for what it lets in could be
 * accounted beforehand; otherwise the call waits (admission queue of the service) and is tried again every few milliseconds. The
 * oldest waiting call of the server gets the reserve: it may go beyond the budget by its one message. Bytes that come within a
 * window given earlier and find no memory end the call with RESOURCE_EXHAUSTED; so does waiting for too long. The connection's
 * window is always refunded. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/grpc_call.h"

#define IN_ROOM_MIN 4096
#define IN_ROOM_KEPT 65536   /* a stream's buffer above this is freed when it is empty */
#define LARGE_PERCENT_MAX 75 /* of the requests' share of the budget; see grpc_memory.c */
#define QUOTED_MAX 128
#define TEXT_MAX 512
#define NO_MEMORY_TEXT "server is short of memory for requests"

static const struct rpc_limits *limits_of(const struct rpc_call *call) { return &call->host->service->options.limits; }
static bool is_stream_in(const struct rpc_call *call) { return call->method->kind == RPC_CLIENT_STREAM || call->method->kind == RPC_BIDI; }

static size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
/* Nothing is to be delivered now: the handler paused, or is on another thread and has not looked at the stream yet. */
static bool is_held_back(const struct rpc_call *call)
{
    return call->on_message == NULL || atomic_load_explicit(&call->is_paused, memory_order_acquire);
}
/* No handler has begun: refused without initial metadata. */
static bool is_early(const struct rpc_call *call) { return call->state == CALL_HEADERS || call->state == CALL_RECEIVING; }

/* --- headers --- */

static bool keep(struct rpc_call *call, struct bytes value, struct bytes *out)
{
    *out = arena_copy(&call->arena, value);
    return out->data != NULL;
}

#define IS(literal) (name.len == sizeof(literal) - 1 && memcmp(name.data, literal, sizeof(literal) - 1) == 0)

static bool pseudo_header(struct rpc_call *call, struct bytes name, struct bytes value)
{
    if (IS(":path")) {
        call->method = grpc_service_method(call->host->service, value);
        return call->method != NULL || keep(call, value, &call->path);
    }
    if (IS(":method")) {
        call->is_post = value.len == 4 && memcmp(value.data, "POST", 4) == 0;
        return call->is_post || keep(call, value, &call->bad_method);
    }
    return true;
}

static bool grpc_header(struct rpc_call *call, struct bytes name, struct bytes value)
{
    uint64_t timeout_ns;

    if (IS("grpc-encoding"))
        return bytes_equal(value, bytes_str("identity")) || keep(call, value, &call->encoding);
    if (IS("grpc-timeout")) {
        call->bad_timeout_result = (uint8_t)grpc_timeout_parse(value, &timeout_ns);
        if (call->bad_timeout_result != GRPC_TIMEOUT_OK)
            return keep(call, value, &call->bad_timeout);
        if (__builtin_add_overflow(call->started_ns, timeout_ns, &call->deadline_ns))
            call->deadline_ns = UINT64_MAX;
    }
    return true;
}

bool call_header(struct rpc_call *call, struct bytes name, struct bytes value)
{
    struct rpc_header *header;
    uint8_t *room;

    if (name.len == 0)
        return true;
    if (name.data[0] == ':')
        return pseudo_header(call, name, value);
    if (IS("te"))
        return true;
    if (IS("content-type")) {
        call->is_grpc = grpc_content_type_is_grpc(value);
        return call->is_grpc || keep(call, value, &call->content_type);
    }
    if (name.len > 5 && memcmp(name.data, "grpc-", 5) == 0 && !grpc_header(call, name, value))
        return false;
    if ((header = arena_alloc(&call->arena, sizeof(*header) + name.len + value.len)) == NULL)
        return false;
    room = (uint8_t *)(header + 1);
    memcpy(room, name.data, name.len);
    if (value.len > 0)
        memcpy(room + name.len, value.data, value.len);
    *header = (struct rpc_header){NULL, room, (uint32_t)name.len, (uint32_t)value.len};
    *call->headers_end = header;
    call->headers_end = &header->next;
    return true;
}

/* Refuses with a text of three parts, the middle one from the client: quoted and cut. */
static void refuse(struct rpc_call *call, uint16_t http_status, enum rpc_code code, const char *before, struct bytes value, const char *after)
{
    char *text = arena_alloc(&call->arena, TEXT_MAX), quoted[QUOTED_MAX];

    grpc_quote(value, quoted, sizeof(quoted));
    if (text == NULL) {
        call_abort(call, RPC_RESOURCE_EXHAUSTED, "out of memory", true);
        return;
    }
    snprintf(text, TEXT_MAX, "%s%s%s", before, quoted, after);
    call_abort_http(call, http_status, code, text);
}

static void refuse_timeout(struct rpc_call *call)
{
    static const char *const reason[] = {
        [GRPC_TIMEOUT_OK] = "",
        [GRPC_TIMEOUT_SHORT] = "malformed grpc-timeout: transport: timeout string is too short: ",
        [GRPC_TIMEOUT_LONG] = "malformed grpc-timeout: transport: timeout string is too long: ",
        [GRPC_TIMEOUT_UNIT] = "malformed grpc-timeout: transport: timeout unit is not recognized: ",
        [GRPC_TIMEOUT_DIGITS] = "malformed grpc-timeout: transport: timeout is not a number: ",
    };

    refuse(call, 400, RPC_INTERNAL, reason[call->bad_timeout_result], call->bad_timeout, "");
}

/* "unknown service X" or "unknown method X for service Y": X and Y are cut, not quoted. */
static void refuse_path(struct rpc_call *call)
{
    struct bytes path = call->path, service, method;
    const uint8_t *slash;
    char *text;

    if (path.len > 0 && path.data[0] == '/')
        path = bytes_of(path.data + 1, path.len - 1);
    if (path.len == 0 || (slash = memrchr(path.data, '/', path.len)) == NULL) {
        refuse(call, 0, RPC_UNIMPLEMENTED, "malformed method name: ", call->path, "");
        return;
    }
    service = bytes_of(path.data, (size_t)(slash - path.data));
    method = bytes_of(slash + 1, path.len - service.len - 1);
    if ((text = arena_alloc(&call->arena, TEXT_MAX)) == NULL)
        call_abort(call, RPC_RESOURCE_EXHAUSTED, "out of memory", true);
    else if (!grpc_service_has(call->host->service, service))
        snprintf(text, TEXT_MAX, "unknown service %.*s", (int)min_size(service.len, 256), (const char *)service.data);
    else
        snprintf(text, TEXT_MAX, "unknown method %.*s for service %.*s", (int)min_size(method.len, 128), (const char *)method.data,
                 (int)min_size(service.len, 256), (const char *)service.data);
    if (text != NULL)
        call_abort(call, RPC_UNIMPLEMENTED, text, true);
}

/* True when the call was refused because of its headers. */
static bool is_refused(struct rpc_call *call)
{
    const struct rpc_limits *l = limits_of(call);
    struct grpc_conn *c = call->conn;

    if (call->header_bytes > l->header_list_bytes_max) {
        snprintf(call->abort_text, sizeof(call->abort_text), "received headers larger than max (%zu vs. %u)", call->header_bytes,
                 l->header_list_bytes_max);
        call_abort(call, RPC_RESOURCE_EXHAUSTED, call->abort_text, true);
    } else if (!call->is_grpc) {
        refuse(call, 415, RPC_INVALID_ARGUMENT, "invalid gRPC request content-type ", call->content_type, "");
    } else if (call->bad_timeout_result != GRPC_TIMEOUT_OK) {
        refuse_timeout(call);
    } else if (!call->is_post) {
        refuse(call, 405, RPC_INTERNAL, "Received a HEADERS frame with :method ", call->bad_method, " which should be POST");
    } else if (atomic_load_explicit(&call->host->service->is_draining, memory_order_relaxed)) {
        call_abort(call, RPC_UNAVAILABLE, "the server is shutting down", true);
    } else if (call->is_over_budget || c->bytes > call->host->service->conn_bytes_max) {
        call_abort(call, RPC_RESOURCE_EXHAUSTED, NO_MEMORY_TEXT, true);
    } else if (c->held_count >= 2 * l->streams_per_conn_max) {
        /* Streams that were reset while their handlers run do not count for HTTP/2, but for us. */
        call_abort(call, RPC_RESOURCE_EXHAUSTED, "too many calls of this connection are still running", true);
    } else if (call->method == NULL) {
        refuse_path(call);
    } else if (call->encoding.data != NULL) {
        refuse(call, 0, RPC_UNIMPLEMENTED, "grpc: Decompressor is not installed for grpc-encoding ", call->encoding, "");
    } else if (call->deadline_ns <= call->started_ns) {
        call_abort(call, RPC_DEADLINE_EXCEEDED, "context deadline exceeded", true);
    } else {
        return false;
    }
    return true;
}

static void on_deadline(struct timer *timer)
{
    struct rpc_call *call = (struct rpc_call *)(void *)((char *)timer - offsetof(struct rpc_call, deadline));

    if (call->is_waiting)
        call_abort(call, RPC_RESOURCE_EXHAUSTED, NO_MEMORY_TEXT, is_early(call));
    else if (call->state == CALL_SENDING)
        /* Nobody waits for the rest of the answer. */
        nghttp2_submit_rst_stream(call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
    else
        call_abort(call, RPC_DEADLINE_EXCEEDED, "context deadline exceeded", is_early(call));
    grpc_conn_touch(call->conn);
}

/* The handler takes the call over. */
static void run_handler(struct rpc_call *call)
{
    call->state = CALL_RUNNING;
    call->is_held = true;
    call->conn->held_count++;
    counter_add(&call->host->counters.calls_running, 1);
    call_pin(call);
    call->method->handler(call);
    /* A client may wait for the initial metadata of a stream before it sends its first message. */
    if (is_stream_in(call) && call->state == CALL_RUNNING)
        call_send_initial(call);
    call_unpin(call);
}

void call_headers_done(struct rpc_call *call)
{
    if (is_refused(call))
        return;
    if (call->deadline_ns != UINT64_MAX) {
        call->deadline.fire = on_deadline;
        timer_arm(&call->host->timers, &call->deadline, call->deadline_ns);
    }
    if (is_stream_in(call))
        run_handler(call);
    else
        call->state = CALL_RECEIVING;
}

/* --- waiting for memory --- */

void call_leave_queue(struct rpc_call *call)
{
    struct grpc_admission *a = &call->host->service->admission;

    if (!call->is_waiting)
        return;
    pthread_mutex_lock(&a->lock);
    *(call->older != NULL ? &call->older->newer : &a->oldest) = call->newer;
    *(call->newer != NULL ? &call->newer->older : &a->newest) = call->older;
    a->waiting--;
    pthread_mutex_unlock(&a->lock);
    *(call->host_prev != NULL ? &call->host_prev->host_next : &call->host->waiting) = call->host_next;
    if (call->host_next != NULL)
        call->host_next->host_prev = call->host_prev;
    call->host_next = call->host_prev = call->older = call->newer = NULL;
    call->is_waiting = false;
}

void call_give_reserve(struct rpc_call *call)
{
    struct grpc_admission *a = &call->host->service->admission;

    budget_give(call->host->service->options.budget, BUDGET_OTHER, call->reserved);
    call->in_admitted -= call->reserved;
    call->reserved = 0;
    if (!call->has_reserve)
        return;
    call->has_reserve = false;
    call->host->reserve_of = NULL;
    pthread_mutex_lock(&a->lock);
    a->reserve_of = NULL;
    pthread_mutex_unlock(&a->lock);
}

static void enter_queue(struct rpc_call *call)
{
    struct grpc_admission *a = &call->host->service->admission;

    call->is_waiting = true;
    call->waiting_since_ns = call->host->now_ns;
    call->host_next = call->host->waiting;
    if (call->host_next != NULL)
        call->host_next->host_prev = call;
    call->host->waiting = call;
    pthread_mutex_lock(&a->lock);
    call->older = a->newest;
    *(a->newest != NULL ? &a->newest->newer : &a->oldest) = call;
    a->newest = call;
    a->waiting++;
    pthread_mutex_unlock(&a->lock);
    grpc_host_need_tick(call->host, 0);
}

static bool take_reserve(struct rpc_call *call)
{
    struct grpc_admission *a = &call->host->service->admission;

    pthread_mutex_lock(&a->lock);
    if (a->reserve_of == NULL && a->oldest == call) {
        a->reserve_of = call;
        call->has_reserve = true;
        call->host->reserve_of = call;
        call->received_ns = call->host->now_ns;
    }
    pthread_mutex_unlock(&a->lock);
    return call->has_reserve;
}

/* Accounts up to len bytes for call->in. What the reserve pays for is accounted elsewhere, so that it leaves the requests' share,
 * and the connection's, to the calls of others. */
static bool admit(struct rpc_call *call, size_t len)
{
    const struct grpc_service *s = call->host->service;
    size_t more = len > call->in_admitted ? len - call->in_admitted : 0;

    if (more == 0)
        return true;
    /* Who may go beyond the share with what it collected must not wait for what it is sent: the one with this reserve may be waiting for the other. */
    if (call->has_reserve || atomic_load_explicit(&s->arena_reserve_of, memory_order_relaxed) == call) {
        budget_take(s->options.budget, BUDGET_OTHER, more);
        call->reserved += more;
    } else {
        /* Large requests leave room for small calls, and for the first window of others. */
        if (len > GRPC_FIRST_WINDOW_BYTES && (budget_pressure(s->options.budget, BUDGET_REQUEST) >= LARGE_PERCENT_MAX ||
                                              call->conn->bytes + more > s->conn_large_bytes_max || !call_upload_allows(call, more)))
            return false;
        if (!call_try_take_bytes(call, more))
            return false;
        if (len > GRPC_FIRST_WINDOW_BYTES) {
            call_upload_take(call, more);
            call->in_upload += more;
        }
    }
    call->in_admitted = len;
    return true;
}

/* Bytes of the message at the front of call->in, with its prefix; 0 when that is not known yet. */
static size_t front_len(const struct rpc_call *call)
{
    return call->in_len < GRPC_PREFIX_LEN ? 0 : GRPC_PREFIX_LEN + (size_t)load_u32be(call->in + 1);
}

static void widen_window(struct rpc_call *call)
{
    if (call->is_wide)
        return;
    call->is_wide = true;
    if (nghttp2_session_set_local_window_size(call->conn->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                              (int32_t)limits_of(call)->stream_window_bytes) == NGHTTP2_ERR_NOMEM)
        call->conn->is_broken = true;
}

/* Refunds the stream's window as far as memory allows. False: the call has to wait. */
static bool refund_window(struct rpc_call *call)
{
    size_t whole = front_len(call), window = limits_of(call)->stream_window_bytes;
    size_t left = whole > call->in_len ? whole - call->in_len : 0;
    int32_t open;

    if (call->window_debt == 0 || call->is_half_closed)
        return true;
    open = nghttp2_session_get_stream_local_window_size(call->conn->session, call->stream_id);
    if (!is_stream_in(call) && open >= 0 && left <= (size_t)open)
        return true; /* the rest of the only message fits as it is */
    if (left > 0 && !admit(call, call->in_len + min_size(left, window)))
        return false;
    /* A stream that carries much gets a wide window when there is memory for it; with a small one it is slower, not stuck. */
    if (open < 0 || left > (size_t)open || (call->window_debt >= GRPC_FIRST_WINDOW_BYTES / 2 && !call->is_wide && call_try_take_bytes(call, window)))
        widen_window(call);
    if (nghttp2_session_consume_stream(call->conn->session, call->stream_id, call->window_debt) == NGHTTP2_ERR_NOMEM)
        call->conn->is_broken = true;
    call->window_debt = 0;
    grpc_conn_touch(call->conn);
    return true;
}

void call_retry_admission(struct rpc_call *call)
{
    if (!call->is_waiting)
        return; /* a handler that was told of another call's end has ended this one */
    if (refund_window(call) || (take_reserve(call) && refund_window(call)))
        call_leave_queue(call);
    else if (call->host->now_ns - call->waiting_since_ns >= limits_of(call)->budget_wait_ns)
        call_abort(call, RPC_RESOURCE_EXHAUSTED, NO_MEMORY_TEXT, is_early(call));
}

void call_check_reserve(struct rpc_call *call)
{
    bool is_coming = call->state == CALL_RECEIVING || (call->state == CALL_RUNNING && is_stream_in(call));

    if (is_coming && call->host->now_ns - call->received_ns >= limits_of(call)->budget_wait_ns)
        call_abort(call, RPC_RESOURCE_EXHAUSTED, NO_MEMORY_TEXT, is_early(call));
}

/* --- messages --- */

/* Looks at the prefix of a message; refuses the call when it is no good. */
static bool prefix_is_good(struct rpc_call *call, const uint8_t *prefix)
{
    size_t len = load_u32be(prefix + 1), max = limits_of(call)->message_bytes_max;
    /* A handler of streams begins before its first message: its callers see the initial metadata. */
    bool has_no_initial = call->method->kind == RPC_UNARY;

    if (prefix[0] == 1) {
        call_abort(call, RPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding", has_no_initial);
    } else if (prefix[0] != 0) {
        snprintf(call->abort_text, sizeof(call->abort_text), "grpc: received unexpected payload format %u", prefix[0]);
        call_abort(call, RPC_INTERNAL, call->abort_text, has_no_initial);
    } else if (len > max) {
        snprintf(call->abort_text, sizeof(call->abort_text), "grpc: received message larger than max (%zu vs. %zu)", len, max);
        call_abort(call, RPC_RESOURCE_EXHAUSTED, call->abort_text, has_no_initial);
    } else {
        return true;
    }
    return false;
}

/* What was let in before its handler found no memory: it is not refused for what its client could not know, unless memory is very short. */
static bool admit_in_window(struct rpc_call *call, size_t len)
{
    if (!call->is_short || len > 2 * (size_t)limits_of(call)->stream_window_bytes || !call_is_affordable(call))
        return false;
    call_take_bytes(call, len - call->in_admitted);
    call->in_admitted = len;
    return true;
}

/* Adds to call->in. False: the call was refused. */
static bool collect(struct rpc_call *call, const uint8_t *data, size_t len)
{
    size_t need = call->in_len + len, room = call->in_room * 2, whole;
    uint8_t *in;

    if (len == 0)
        return true;
    if (need > call->in_room) {
        whole = call->in_len >= GRPC_PREFIX_LEN ? front_len(call) : 0;
        if (room < IN_ROOM_MIN)
            room = IN_ROOM_MIN;
        if (whole >= need && room > whole)
            room = whole;
        if (call->in_admitted >= need && room > call->in_admitted)
            room = call->in_admitted;
        if (room < need)
            room = need;
        if (!admit(call, room)) {
            room = need;
            if (!admit(call, room) && !admit_in_window(call, room)) {
                call_abort(call, RPC_RESOURCE_EXHAUSTED, NO_MEMORY_TEXT, is_early(call));
                return false;
            }
        }
        if ((in = realloc(call->in, room)) == NULL) {
            call_abort(call, RPC_RESOURCE_EXHAUSTED, "out of memory", is_early(call));
            return false;
        }
        call->in = in;
        call->in_room = room;
    }
    memcpy(call->in + call->in_len, data, len);
    call->in_len = need;
    return true;
}

/* The one message of a unary or server-streaming call. */
static void take_request(struct rpc_call *call, const uint8_t *data, size_t len)
{
    size_t whole;

    if (call->request.data != NULL)
        return; /* more than one: ignored */
    if (call->in_len == 0 && len >= GRPC_PREFIX_LEN) {
        whole = load_u32be(data + 1);
        if (!prefix_is_good(call, data))
            return;
        if (len - GRPC_PREFIX_LEN >= whole && whole <= GRPC_SMALL_MESSAGE_BYTES) {
            call->request = arena_copy(&call->arena, bytes_of(data + GRPC_PREFIX_LEN, whole));
            if (call->request.data == NULL)
                call_abort(call, RPC_RESOURCE_EXHAUSTED, "out of memory", true);
            return;
        }
    }
    if (call->in_len < GRPC_PREFIX_LEN) { /* as much as makes the prefix readable */
        size_t part = min_size(GRPC_PREFIX_LEN - call->in_len, len);

        if (!collect(call, data, part))
            return;
        data += part;
        len -= part;
        if (call->in_len < GRPC_PREFIX_LEN || !prefix_is_good(call, call->in))
            return;
    }
    whole = front_len(call);
    if (!collect(call, data, min_size(len, whole - call->in_len)))
        return;
    if (call->in_len == whole)
        call->request = bytes_of(call->in + GRPC_PREFIX_LEN, whole - GRPC_PREFIX_LEN);
    else if (!call->is_waiting && !refund_window(call))
        enter_queue(call);
}

static bool may_deliver(const struct rpc_call *call) { return call->state == CALL_RUNNING && call->is_held && !is_held_back(call); }

/* Delivers the whole messages in data; returns the bytes taken. */
static size_t deliver_from(struct rpc_call *call, const uint8_t *data, size_t len)
{
    size_t at = 0, whole;

    while (len - at >= GRPC_PREFIX_LEN && may_deliver(call)) {
        if (!prefix_is_good(call, data + at))
            break;
        whole = GRPC_PREFIX_LEN + (size_t)load_u32be(data + at + 1);
        if (len - at < whole)
            break;
        call->is_message_kept = call->is_short = false;
        call->on_message(call, bytes_of(data + at + GRPC_PREFIX_LEN, whole - GRPC_PREFIX_LEN));
        if (call->is_message_kept)
            break;
        at += whole;
    }
    return at;
}

/* Everything before the half-close was delivered: tell the handler, or refuse what is cut short. */
static void deliver_half_close(struct rpc_call *call)
{
    if (!call->is_half_closed || call->is_half_close_told || call->state != CALL_RUNNING || !call->is_held ||
        atomic_load_explicit(&call->is_paused, memory_order_acquire))
        return;
    if (call->in_len > 0 && call->on_message != NULL) {
        call_abort(call, RPC_INTERNAL, "unexpected EOF", false);
        return;
    }
    if (call->on_half_close == NULL)
        return;
    call->is_half_close_told = true;
    call->on_half_close(call);
}

/* Takes whole messages off the front of call->in. */
static void deliver_collected(struct rpc_call *call)
{
    /* A callback may let the call go, but not take call->in away: the call is pinned. */
    size_t taken = deliver_from(call, call->in, call->in_len);

    call->in_len -= taken;
    if (call->in_len > 0 && taken > 0)
        memmove(call->in, call->in + taken, call->in_len);
    if (call->in_len == 0 && (call->in_room > IN_ROOM_KEPT || call->has_reserve || call->reserved > 0)) {
        free(call->in);
        call->in = NULL;
        call->in_room = 0;
        call_give_reserve(call);
        call->conn->bytes -= call->in_admitted;
        call->accounted -= call->in_admitted;
        grpc_host_give(call->host, call->in_admitted);
        call_upload_give(call, call->in_upload);
        call->in_admitted = call->in_upload = 0;
    }
}

static void after_delivery(struct rpc_call *call)
{
    if (call->state == CALL_RUNNING && !is_held_back(call) && !call->is_waiting && !refund_window(call))
        enter_queue(call);
}

void call_deliver(struct rpc_call *call)
{
    call_pin(call);
    if (may_deliver(call)) {
        if (call->in_len > 0)
            deliver_collected(call);
        after_delivery(call);
    }
    deliver_half_close(call);
    call_unpin(call);
}

static void take_stream(struct rpc_call *call, const uint8_t *data, size_t len)
{
    size_t taken;

    if (call->in_len == 0) {
        taken = deliver_from(call, data, len);
        data += taken;
        len -= taken;
    }
    if (call->state != CALL_RUNNING || !call->is_held || !collect(call, data, len))
        return;
    if (call->in_len > 0 && may_deliver(call))
        deliver_collected(call);
    after_delivery(call);
}

void call_data(struct rpc_call *call, const uint8_t *data, size_t len)
{
    if (call->state != CALL_RECEIVING && call->state != CALL_RUNNING)
        return;
    call->window_debt += len;
    call->received_ns = call->host->now_ns;
    atomic_store_explicit(&call->received_bytes, atomic_load_explicit(&call->received_bytes, memory_order_relaxed) + len, memory_order_relaxed);
    call_pin(call);
    if (call->state == CALL_RECEIVING)
        take_request(call, data, len);
    else if (is_stream_in(call))
        take_stream(call, data, len);
    call_unpin(call);
}

bool call_is_stalled(const struct rpc_call *call, uint64_t before_ns)
{
    if (call->received_ns >= before_ns || call->is_waiting)
        return false;
    return call->state == CALL_RECEIVING || (call->state == CALL_RUNNING && call->in_len > 0 && !is_held_back(call));
}

void call_frame_done(struct rpc_call *call)
{
    if (call->state == CALL_RECEIVING && call->request.data != NULL) {
        call_leave_queue(call);
        run_handler(call);
    }
}

void call_half_closed(struct rpc_call *call)
{
    if (call->state == CALL_RECEIVING) {
        bool has_no_initial = call->method->kind == RPC_UNARY;

        if (call->in_len == 0)
            call_abort(call, RPC_UNKNOWN, "EOF", has_no_initial);
        else
            call_abort(call, RPC_INTERNAL, "unexpected EOF", has_no_initial);
    } else if (call->state == CALL_RUNNING && is_stream_in(call)) {
        call_deliver(call);
    }
}
