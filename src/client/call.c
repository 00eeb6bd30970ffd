/* Calls: messages there and back, and how a call ended; see client.h.
 *
 * Answers are collected in down as they arrive. Their bytes are given back to the stream's window when a message is handed out, or at once while
 * the message at the front is not whole: so a call holds at most one message and one window. A message that was handed out stays where it is
 * until the next one is asked for, even when down has to grow meanwhile (held). */
#include "client/client_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/grpc_wire.h"

enum { DOWN_FIRST_BYTES = 65536, UP_FIRST_BYTES = 256, NV_FIXED = 7, CODE_MAX = 16 };

/* --- what the peer sends: called by the connection --- */

enum status call_on_header(struct client_call *call, struct bytes name, struct bytes value)
{
    struct header *h;
    unsigned long code = 0;

    if (bytes_equal(name, bytes_str(":status"))) {
        for (size_t i = 0; i < value.len && code < 1000; i++)
            code = code * 10 + (unsigned long)(value.data[i] - '0'); /* nghttp2 has checked that they are digits */
        call->http_status = (int)code;
        return ST_OK;
    }
    if (call->header_count == HEADERS_MAX || name.len + value.len > HEADER_BYTES_MAX - call->header_bytes) {
        call->status.code = RPC_RESOURCE_EXHAUSTED;
        snprintf(call->status.message, sizeof call->status.message, "the headers of the answer are larger than %d bytes or %d lines",
                 HEADER_BYTES_MAX, HEADERS_MAX);
        call->has_status = true;
        return ST_LIMIT;
    }
    h = &call->headers[call->header_count];
    if ((h->name = malloc(name.len + value.len + 2)) == NULL)
        return ST_NOMEM;
    memcpy(h->name, name.data, name.len);
    h->name[name.len] = '\0';
    h->value = (uint8_t *)h->name + name.len + 1;
    if (value.len > 0)
        memcpy(h->value, value.data, value.len);
    h->value[value.len] = '\0';
    h->value_len = value.len;
    call->header_count++;
    call->header_bytes += name.len + value.len;
    return ST_OK;
}

/* Room for len more bytes behind what there is. The message that was handed out is not moved. */
static bool down_room(struct client_call *call, size_t len)
{
    size_t live = call->down_len - call->down_at, room;
    uint8_t *bigger;

    if (call->down_room - call->down_len >= len)
        return true;
    if (!call->is_held_inside && call->down_at >= call->down_room / 2 && call->down_room - live >= len) {
        memmove(call->down, call->down + call->down_at, live);
        call->down_at = 0;
        call->down_len = live;
        return true;
    }
    if (__builtin_add_overflow(live, len, &room) || __builtin_mul_overflow(room, 2, &room))
        return false;
    if (room < DOWN_FIRST_BYTES)
        room = DOWN_FIRST_BYTES;
    if ((bigger = malloc(room)) == NULL)
        return false;
    if (live > 0)
        memcpy(bigger, call->down + call->down_at, live);
    if (call->is_held_inside) {
        assert(call->held == NULL);
        call->held = call->down;
        call->is_held_inside = false;
    } else {
        free(call->down);
    }
    call->down = bigger;
    call->down_room = room;
    call->down_at = 0;
    call->down_len = live;
    return true;
}

enum status call_on_data(struct client_call *call, const uint8_t *data, size_t len)
{
    if (!down_room(call, len))
        return ST_NOMEM;
    memcpy(call->down + call->down_len, data, len);
    call->down_len += len;
    call->unconsumed += len;
    call->received += len;
    return ST_OK;
}

void call_on_close(struct client_call *call, uint32_t code)
{
    call->is_closed = true;
    call->reset_code = code;
    if (call->is_dropped)
        call_destroy(call);
}

/* --- to the peer --- */

static ssize_t read_up(nghttp2_session *h2, int32_t stream_id, uint8_t *out, size_t room, uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct client_call *call = source->ptr;
    size_t left = call->up_len - call->up_sent, len = left < room ? left : room;

    (void)h2;
    (void)stream_id;
    (void)user;
    if (call->is_dropped)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (len == 0 && !call->is_finished) {
        call->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (len > 0)
        memcpy(out, call->up + call->up_sent, len);
    call->up_sent += len;
    if (call->up_sent == call->up_len) {
        call->up_sent = call->up_len = 0;
        if (call->is_finished)
            *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)len;
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NONE};
}

/* What is left until the deadline, in a unit that needs at most eight digits. */
static void timeout_text(const struct client *c, uint64_t deadline_ns, char out[24])
{
    uint64_t now = env_mono_ns(c->env), us = deadline_ns > now ? (deadline_ns - now) / 1000 : 0;

    if (us < 100000000)
        snprintf(out, 24, "%lluu", (unsigned long long)(us == 0 ? 1 : us));
    else if (us / 1000 < 100000000)
        snprintf(out, 24, "%llum", (unsigned long long)(us / 1000));
    else
        snprintf(out, 24, "%lluS", (unsigned long long)(us / 1000000 < 99999999 ? us / 1000000 : 99999999));
}

static enum status call_submit(struct client_call *call, uint64_t deadline_ns, struct err *err)
{
    struct client *c = call->client;
    nghttp2_nv nv[NV_FIXED + 1 + CLIENT_METADATA_MAX];
    nghttp2_data_provider body = {.source.ptr = call, .read_callback = read_up};
    size_t count = 0;
    char timeout[24];
    int32_t id;

    nv[count++] = pair(":method", "POST");
    nv[count++] = pair(":scheme", c->is_tls ? "https" : "http");
    nv[count++] = pair(":path", call->path);
    nv[count++] = pair(":authority", c->authority);
    nv[count++] = pair("te", "trailers");
    nv[count++] = pair("content-type", "application/grpc");
    nv[count++] = pair("user-agent", "immudb-c");
    if (deadline_ns != UINT64_MAX) {
        timeout_text(c, deadline_ns, timeout);
        nv[count++] = pair("grpc-timeout", timeout);
    }
    for (size_t i = 0; i < CLIENT_METADATA_MAX; i++)
        if (c->metadata[i].name != NULL)
            nv[count++] = pair(c->metadata[i].name, c->metadata[i].value);
    if ((id = nghttp2_submit_request(c->h2, NULL, nv, count, &body, call)) < 0)
        return err_set(err, id == NGHTTP2_ERR_NOMEM ? ST_NOMEM : ST_CLOSED, 0, "calling %s: %s", call->path, nghttp2_strerror(id));
    call->stream_id = id;
    return ST_OK;
}

enum status client_call_open(struct client *c, const char *path, uint64_t deadline_ns, struct client_call **out, struct err *err)
{
    struct client_call *call = NULL;
    enum status st = ST_OK;

    *out = NULL;
    if (c->is_dead) {
        *err = c->death;
        return c->death.status;
    }
    if (nghttp2_session_check_request_allowed(c->h2) == 0)
        return err_set(err, ST_CLOSED, 0, "the peer takes no more calls on this connection");
    if (strlen(path) >= PATH_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "the name of a method is longer than %d bytes", PATH_LEN_MAX - 1);
    if ((call = calloc(1, sizeof *call)) == NULL)
        return err_set(err, ST_NOMEM, 0, "calling %s: out of memory", path);
    call->client = c;
    memcpy(call->path, path, strlen(path) + 1);
    if ((st = call_submit(call, deadline_ns, err)) != ST_OK) {
        free(call);
        return st;
    }
    call->next = c->calls;
    c->calls = call;
    *out = call;
    return ST_OK;
}

static enum status up_room(struct client_call *call, size_t len, struct err *err)
{
    size_t room;
    uint8_t *bigger;

    if (call->up_room - call->up_len >= len)
        return ST_OK;
    if (call->up_sent > 0) {
        memmove(call->up, call->up + call->up_sent, call->up_len - call->up_sent);
        call->up_len -= call->up_sent;
        call->up_sent = 0;
        if (call->up_room - call->up_len >= len)
            return ST_OK;
    }
    if (__builtin_add_overflow(call->up_len, len, &room) || __builtin_mul_overflow(room, 2, &room))
        return err_set(err, ST_LIMIT, 0, "message of %zu bytes", len);
    if (room < UP_FIRST_BYTES)
        room = UP_FIRST_BYTES;
    if ((bigger = realloc(call->up, room)) == NULL)
        return err_set(err, ST_NOMEM, 0, "sending a message of %zu bytes: out of memory", len);
    call->up = bigger;
    call->up_room = room;
    return ST_OK;
}

static enum status wake_up(struct client_call *call, struct err *err)
{
    int code;

    if (!call->is_deferred || call->is_closed)
        return ST_OK;
    call->is_deferred = false;
    code = nghttp2_session_resume_data(call->client->h2, call->stream_id);
    if (code == NGHTTP2_ERR_NOMEM)
        return err_set(err, ST_NOMEM, 0, "sending: out of memory");
    return ST_OK; /* any other code: the peer has ended the call, which the next receive tells */
}

enum status client_call_send(struct client_call *call, struct bytes message, uint64_t deadline_ns, struct err *err)
{
    enum status st;

    assert(!call->is_finished);
    if (message.len > UINT32_MAX - GRPC_PREFIX_LEN)
        return err_set(err, ST_LIMIT, 0, "message of %zu bytes", message.len);
    while (call->up_len - call->up_sent > CLIENT_SEND_BYTES_MAX && !call->is_closed)
        if ((st = client_turn(call->client, deadline_ns, err)) != ST_OK)
            return st;
    if (call->is_closed)
        return ST_OK;
    if ((st = up_room(call, message.len + GRPC_PREFIX_LEN, err)) != ST_OK)
        return st;
    grpc_prefix_write(call->up + call->up_len, (uint32_t)message.len);
    if (message.len > 0)
        memcpy(call->up + call->up_len + GRPC_PREFIX_LEN, message.data, message.len);
    call->up_len += message.len + GRPC_PREFIX_LEN;
    return wake_up(call, err);
}

enum status client_call_finish(struct client_call *call, struct err *err)
{
    call->is_finished = true;
    return wake_up(call, err);
}

/* --- how it ended --- */

static const struct header *header_find(const struct client_call *call, const char *name)
{
    for (size_t i = call->header_count; i-- > 0;) /* trailers win over headers */
        if (strcmp(call->headers[i].name, name) == 0)
            return &call->headers[i];
    return NULL;
}

struct bytes client_call_metadata(const struct client_call *call, const char *name)
{
    const struct header *h = header_find(call, name);

    return h == NULL ? bytes_of(NULL, 0) : bytes_of(h->value, h->value_len);
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* %XX escapes; what is no escape stays as it is. Control characters become '?': the text goes to a terminal. */
static void message_decode(const struct header *h, char out[CLIENT_MESSAGE_MAX])
{
    size_t at = 0;

    for (size_t i = 0; h != NULL && i < h->value_len && at < CLIENT_MESSAGE_MAX - 1; i++) {
        uint8_t c = h->value[i];

        if (c == '%' && i + 2 < h->value_len && hex_value(h->value[i + 1]) >= 0 && hex_value(h->value[i + 2]) >= 0) {
            c = (uint8_t)(hex_value(h->value[i + 1]) * 16 + hex_value(h->value[i + 2]));
            i += 2;
        }
        if (c >= 0x80 && c < 0xa0 && at > 0 && (uint8_t)out[at - 1] == 0xc2) { /* a control character in UTF-8 */
            out[at - 1] = '?';
            continue;
        }
        out[at++] = c == '\n' || c == '\t' ? ' ' : c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    out[at] = '\0';
}

static bool code_parse(const struct header *h, enum rpc_code *out)
{
    unsigned code = 0;

    if (h == NULL || h->value_len == 0 || h->value_len > 2)
        return false;
    for (size_t i = 0; i < h->value_len; i++) {
        if (h->value[i] < '0' || h->value[i] > '9')
            return false;
        code = code * 10 + (unsigned)(h->value[i] - '0');
    }
    *out = code <= CODE_MAX ? (enum rpc_code)code : RPC_UNKNOWN;
    return true;
}

static enum rpc_code code_of_reset(uint32_t reset)
{
    switch (reset) {
    case NGHTTP2_REFUSED_STREAM:
        return RPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return RPC_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return RPC_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return RPC_PERMISSION_DENIED;
    default:
        return RPC_INTERNAL;
    }
}

static enum rpc_code code_of_http(int http_status)
{
    switch (http_status) {
    case 400:
        return RPC_INTERNAL;
    case 401:
        return RPC_UNAUTHENTICATED;
    case 403:
        return RPC_PERMISSION_DENIED;
    case 404:
        return RPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return RPC_UNAVAILABLE;
    default:
        return RPC_UNKNOWN;
    }
}

/* Once, when the stream is closed and every whole message was taken. */
static void status_make(struct client_call *call)
{
    const struct header *code = header_find(call, "grpc-status");
    struct client_status *s = &call->status;

    if (call->has_status)
        return;
    call->has_status = true;
    if (call->reset_code != NGHTTP2_NO_ERROR && call->reset_code != NGHTTP2_CANCEL) {
        /* Whatever headers said before: the answer is not whole. */
        s->code = code_of_reset(call->reset_code);
        snprintf(s->message, sizeof s->message, "the call was reset: %s", nghttp2_http2_strerror(call->reset_code));
    } else if (code_parse(code, &s->code)) {
        message_decode(header_find(call, "grpc-message"), s->message);
    } else if (call->http_status != 0 && call->http_status != 200) {
        s->code = code_of_http(call->http_status);
        snprintf(s->message, sizeof s->message, "the peer answered with HTTP status %d", call->http_status);
    } else if (call->reset_code != NGHTTP2_NO_ERROR) {
        s->code = code_of_reset(call->reset_code);
        snprintf(s->message, sizeof s->message, "the call was reset: %s", nghttp2_http2_strerror(call->reset_code));
    } else {
        s->code = RPC_INTERNAL;
        snprintf(s->message, sizeof s->message, "the peer ended the call without a status");
    }
    if (s->code == RPC_OK && call->reset_code != NGHTTP2_NO_ERROR) {
        s->code = code_of_reset(call->reset_code);
        snprintf(s->message, sizeof s->message, "the call was reset: %s", nghttp2_http2_strerror(call->reset_code));
    }
    if (s->code == RPC_OK && call->down_at < call->down_len) {
        s->code = RPC_INTERNAL;
        snprintf(s->message, sizeof s->message, "the last message of the answer is cut short");
    }
}

const struct client_status *client_call_status(const struct client_call *call)
{
    assert(call->has_status);
    return &call->status;
}

uint64_t client_call_bytes(const struct client_call *call) { return call->received; }

/* --- receiving --- */

/* Gives bytes back to the window until left of them are unaccounted. */
static enum status consume_to(struct client_call *call, size_t left, struct err *err)
{
    size_t len = call->unconsumed > left ? call->unconsumed - left : 0;
    int code;

    if (len == 0)
        return ST_OK;
    call->unconsumed = left;
    /* A closed stream has no window, the connection has. */
    if (call->is_closed)
        code = nghttp2_session_consume_connection(call->client->h2, len);
    else
        code = nghttp2_session_consume(call->client->h2, call->stream_id, len);
    return code == NGHTTP2_ERR_NOMEM ? err_set(err, ST_NOMEM, 0, "receiving: out of memory") : ST_OK;
}

/* The message at the front: *is_whole, or how it is wrong. */
static enum status front(struct client_call *call, struct bytes *message, bool *is_whole, struct err *err)
{
    size_t have = call->down_len - call->down_at, len;
    const uint8_t *at;

    *is_whole = false;
    if (have < GRPC_PREFIX_LEN)
        return ST_OK;
    at = call->down + call->down_at;
    len = load_u32be(at + 1);
    if (at[0] != 0)
        return err_set(err, ST_CORRUPT, 0, "the answer of %s is compressed, which was not asked for", call->path);
    if (len > call->client->message_bytes_max)
        return err_set(err, ST_LIMIT, 0, "an answer of %s has a message of %zu bytes, at most %zu are taken", call->path, len,
                       call->client->message_bytes_max);
    if (have - GRPC_PREFIX_LEN < len)
        return ST_OK;
    *message = bytes_of(at + GRPC_PREFIX_LEN, len);
    *is_whole = true;
    return ST_OK;
}

static void release_held(struct client_call *call)
{
    free(call->held);
    call->held = NULL;
    call->is_held_inside = false;
}

enum status client_call_recv(struct client_call *call, uint64_t deadline_ns, struct bytes *message, bool *is_end, struct err *err)
{
    bool is_whole = false;
    enum status st;

    *message = bytes_of(NULL, 0);
    *is_end = false;
    release_held(call);
    for (;;) {
        if ((st = front(call, message, &is_whole, err)) != ST_OK)
            return st;
        if (is_whole) {
            call->down_at += GRPC_PREFIX_LEN + message->len;
            call->is_held_inside = true;
            return consume_to(call, call->down_len - call->down_at, err);
        }
        if (call->is_closed) {
            status_make(call);
            *is_end = true;
            return consume_to(call, 0, err);
        }
        if ((st = consume_to(call, 0, err)) != ST_OK || (st = client_turn(call->client, deadline_ns, err)) != ST_OK)
            return st;
    }
}

void call_destroy(struct client_call *call)
{
    struct client_call **at;

    for (at = &call->client->calls; *at != call; at = &(*at)->next)
        assert(*at != NULL);
    *at = call->next;
    release_held(call);
    for (size_t i = 0; i < call->header_count; i++)
        free(call->headers[i].name);
    free(call->up);
    free(call->down);
    free(call);
}

void client_call_free(struct client_call *call)
{
    struct client *c;
    struct err err;

    if (call == NULL)
        return;
    c = call->client;
    if (c->unary == call)
        c->unary = NULL;
    if (!c->is_dead)
        (void)!consume_to(call, 0, NULL);
    if (call->is_closed || c->is_dead) {
        /* nghttp2 may still know a stream of a dead connection, but is not asked to send or receive any more. */
        call_destroy(call);
        return;
    }
    call->is_dropped = true;
    if (nghttp2_submit_rst_stream(c->h2, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL) == 0)
        (void)!client_flush(c, &err); /* destroys the call when the reset goes out at once */
}

/* --- one there, one back --- */

enum status client_unary(struct client *c, const char *path, struct bytes request, uint64_t deadline_ns, struct bytes *answer,
                         struct client_status *status, struct err *err)
{
    struct client_call *call = NULL;
    bool is_whole = false;
    enum status st;

    *answer = bytes_of(NULL, 0);
    memset(status, 0, sizeof *status);
    client_call_free(c->unary);
    if ((st = client_call_open(c, path, deadline_ns, &call, err)) != ST_OK)
        return st;
    c->unary = call;
    if ((st = client_call_send(call, request, deadline_ns, err)) != ST_OK)
        return st;
    if ((st = client_call_finish(call, err)) != ST_OK)
        return st;
    for (;;) {
        if ((st = front(call, answer, &is_whole, err)) != ST_OK)
            break;
        /* A second message would be no answer to a unary call: what follows the first is bounded by the window. */
        if (call->is_closed || (st = is_whole ? ST_OK : consume_to(call, 0, err)) != ST_OK)
            break;
        if ((st = client_turn(c, deadline_ns, err)) != ST_OK)
            break;
    }
    if (st == ST_OK) {
        if (is_whole)
            call->down_at += GRPC_PREFIX_LEN + answer->len;
        status_make(call);
        *status = call->status;
        if (status->code == RPC_OK && !is_whole)
            st = err_set(err, ST_CORRUPT, 0, "%s was answered without a message", path);
    }
    if (st != ST_OK || status->code != RPC_OK)
        *answer = bytes_of(NULL, 0);
    return st == ST_OK ? ST_OK : err_while(err, st, "calling %s", path);
}
