/* The connection: HTTP/2 by nghttp2, turns of sending and receiving; see client.h.
 *
 * Bytes from the peer go to nghttp2, whose callbacks hand headers, data and ends to the calls (call.c). Bytes for the peer are collected in out
 * and written as the socket takes them. After the first failure the connection is dead: every later use says why. */
#include "client/client_internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t CONNECT_TIMEOUT_NS = 10ull * 1000000000;
static const size_t MESSAGE_BYTES_MAX = (32u << 20) + 65536;
static const uint32_t STREAM_WINDOW_BYTES = 1u << 20;
enum { CONN_WINDOW_BYTES = 1 << 30, READS_PER_TURN = 4, FRAME_BYTES = 16384 + 9, STREAMS_OF_PEER = 0 };

/* --- memory of nghttp2, so that it can be made to fail --- */

static void *memory_malloc(size_t len, void *ctx)
{
    (void)ctx;
    return malloc(len);
}
static void memory_free(void *p, void *ctx)
{
    (void)ctx;
    free(p);
}
static void *memory_calloc(size_t count, size_t size, void *ctx)
{
    (void)ctx;
    return calloc(count, size);
}
static void *memory_realloc(void *p, size_t len, void *ctx)
{
    (void)ctx;
    return realloc(p, len);
}

/* --- callbacks --- */

static struct client_call *call_of(nghttp2_session *h2, int32_t stream_id) { return nghttp2_session_get_stream_user_data(h2, stream_id); }

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len,
                     uint8_t flags, void *user)
{
    struct client *c = user;
    struct client_call *call = frame->hd.type == NGHTTP2_HEADERS ? call_of(h2, frame->hd.stream_id) : NULL;
    enum status st;

    (void)flags;
    if (call == NULL)
        return 0;
    if ((st = call_on_header(call, bytes_of(name, name_len), bytes_of(value, value_len))) == ST_OK)
        return 0;
    if (st == ST_LIMIT)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* resets this stream alone */
    c->callback_status = st;
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len, void *user)
{
    struct client *c = user;
    struct client_call *call = call_of(h2, stream_id);

    (void)flags;
    /* Nobody will take it; or it is the page of some proxy. */
    if (call == NULL || call->is_dropped || call->http_status != 200)
        return nghttp2_session_consume(h2, stream_id, len) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    if ((c->callback_status = call_on_data(call, data, len)) != ST_OK)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t stream_id, uint32_t code, void *user)
{
    struct client_call *call = call_of(h2, stream_id);

    (void)user;
    if (call != NULL)
        call_on_close(call, code);
    return 0;
}

/* nghttp2 answers most violations of the protocol with a GOAWAY and then wants nothing any more. */
static int on_frame_send(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    struct client *c = user;

    (void)h2;
    if (frame->hd.type == NGHTTP2_GOAWAY)
        c->complaint = frame->goaway.error_code;
    return 0;
}

static int session_create(struct client *c, uint32_t window)
{
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_OF_PEER},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window},
                                               {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_BYTES_MAX}};
    nghttp2_mem memory = {NULL, memory_malloc, memory_free, memory_calloc, memory_realloc};
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int code = NGHTTP2_ERR_NOMEM;

    if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&option) != 0)
        goto done;
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
    nghttp2_option_set_no_auto_window_update(option, 1);
    if ((code = nghttp2_session_client_new3(&c->h2, callbacks, c, option, &memory)) != 0 ||
        (code = nghttp2_submit_settings(c->h2, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof settings[0])) != 0)
        goto done;
    code = nghttp2_session_set_local_window_size(c->h2, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW_BYTES);
done:
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return code;
}

/* --- death --- */

static enum status die(struct client *c, enum status st, const struct err *why)
{
    if (!c->is_dead) {
        c->is_dead = true;
        c->death = *why;
        c->death.status = st;
    }
    return st;
}

static enum status die_of_http2(struct client *c, int code, struct err *err)
{
    enum status st = c->callback_status != ST_OK ? c->callback_status : code == NGHTTP2_ERR_NOMEM ? ST_NOMEM : ST_CORRUPT;
    struct err why;

    if (st == ST_NOMEM)
        err_set(&why, st, 0, "answers of the peer do not fit into memory");
    else
        err_set(&why, st, 0, "the peer does not speak HTTP/2 properly: %s", nghttp2_strerror(code));
    if (err != NULL)
        *err = why;
    return die(c, st, &why);
}

static enum status dead(const struct client *c, struct err *err)
{
    if (err != NULL)
        *err = c->death;
    return c->death.status;
}

/* --- turns --- */

/* Moves frames into out while a whole one fits. */
static enum status collect(struct client *c, struct err *err)
{
    const uint8_t *piece;
    ssize_t n;

    if (c->out_sent == c->out_len)
        c->out_sent = c->out_len = 0;
    while (sizeof c->out - c->out_len >= 2 * FRAME_BYTES) {
        if ((n = nghttp2_session_mem_send(c->h2, &piece)) < 0)
            return die_of_http2(c, (int)n, err);
        if (n == 0)
            break;
        if ((size_t)n > sizeof c->out - c->out_len)
            return die_of_http2(c, NGHTTP2_ERR_FRAME_SIZE_ERROR, err);
        memcpy(c->out + c->out_len, piece, (size_t)n);
        c->out_len += (size_t)n;
    }
    return ST_OK;
}

static bool has_output(const struct client *c) { return c->out_sent < c->out_len || nghttp2_session_want_write(c->h2) != 0; }

enum status client_flush(struct client *c, struct err *err)
{
    struct err why;
    enum status st;
    size_t taken;

    if (c->is_dead)
        return dead(c, err);
    for (;;) {
        if ((st = collect(c, err)) != ST_OK)
            return st;
        if (c->out_sent == c->out_len)
            return ST_OK;
        st = transport_write(c->transport, c->out + c->out_sent, c->out_len - c->out_sent, &taken, &why);
        if (st == ST_AGAIN)
            return ST_OK;
        if (st != ST_OK) {
            if (err != NULL)
                *err = why;
            return die(c, st, &why);
        }
        c->out_sent += taken;
    }
}

static enum status take_input(struct client *c, struct err *err)
{
    struct err why;
    enum status st;
    ssize_t fed;
    size_t got;

    for (int i = 0; i < READS_PER_TURN; i++) {
        st = transport_read(c->transport, c->in, sizeof c->in, &got, &why);
        if (st == ST_AGAIN)
            return ST_OK;
        if (st != ST_OK) {
            if (err != NULL)
                *err = why;
            return die(c, st, &why);
        }
        if ((fed = nghttp2_session_mem_recv(c->h2, c->in, got)) < 0)
            return die_of_http2(c, (int)fed, err);
        assert((size_t)fed == got);
        if (got < sizeof c->in)
            return ST_OK;
    }
    return ST_OK;
}

enum status client_turn(struct client *c, uint64_t deadline_ns, struct err *err)
{
    struct err why;
    enum status st;

    if ((st = client_flush(c, err)) != ST_OK)
        return st;
    if (nghttp2_session_want_read(c->h2) == 0 && !has_output(c)) {
        if (c->complaint == NGHTTP2_NO_ERROR)
            st = err_set(&why, ST_CLOSED, 0, "the peer ended the connection");
        else if (c->complaint == NGHTTP2_INTERNAL_ERROR) /* trouble on this side */
            st = err_set(&why, ST_NOMEM, 0, "answers of the peer do not fit into memory");
        else
            st = err_set(&why, ST_CORRUPT, 0, "the peer does not speak HTTP/2 properly: %s", nghttp2_http2_strerror(c->complaint));
        if (err != NULL)
            *err = why;
        return die(c, st, &why);
    }
    if ((st = transport_wait(c->transport, has_output(c), deadline_ns, err)) != ST_OK)
        return st == ST_TIMEOUT || err == NULL ? st : die(c, st, err);
    if ((st = take_input(c, err)) != ST_OK)
        return st;
    return client_flush(c, err);
}

/* --- life --- */

static enum status authority_make(struct client *c, const struct client_options *o, struct err *err)
{
    bool has_colon = strchr(o->host, ':') != NULL; /* a numeric IPv6 address stands in brackets */
    size_t room = strlen(o->host) + 16;

    if ((c->authority = malloc(room)) == NULL)
        return err_set(err, ST_NOMEM, 0, "connecting: out of memory");
    snprintf(c->authority, room, has_colon ? "[%s]:%u" : "%s:%u", o->host, o->port);
    return ST_OK;
}

enum status client_open(const struct client_options *o, struct client **out, struct err *err)
{
    uint64_t deadline_ns = env_mono_ns(o->env) + (o->connect_timeout_ns != 0 ? o->connect_timeout_ns : CONNECT_TIMEOUT_NS);
    struct client *c = calloc(1, sizeof *c);
    enum status st;

    *out = NULL;
    if (c == NULL)
        return err_set(err, ST_NOMEM, 0, "connecting: out of memory");
    c->env = o->env;
    c->is_tls = o->tls != NULL;
    c->message_bytes_max = o->message_bytes_max != 0 ? o->message_bytes_max : MESSAGE_BYTES_MAX;
    if ((st = authority_make(c, o, err)) != ST_OK)
        goto done;
    if (session_create(c, o->stream_window_bytes != 0 ? o->stream_window_bytes : STREAM_WINDOW_BYTES) != 0) {
        st = err_set(err, ST_NOMEM, 0, "connecting: out of memory");
        goto done;
    }
    if ((st = transport_open(o, deadline_ns, &c->transport, err)) != ST_OK || (st = client_flush(c, err)) != ST_OK)
        goto done;
    *out = c;
    c = NULL;
done:
    client_close(c);
    return st == ST_OK ? ST_OK : err_while(err, st, "connecting to %s port %u", o->host, o->port);
}

void client_close(struct client *c)
{
    struct client_call *call;

    if (c == NULL)
        return;
    client_call_free(c->unary);
    for (call = c->calls; call != NULL; call = call->next)
        assert(call->is_dropped);
    if (c->h2 != NULL && c->transport != NULL && !c->is_dead && nghttp2_session_terminate_session(c->h2, NGHTTP2_NO_ERROR) == 0)
        (void)!client_flush(c, NULL); /* a farewell: nobody waits for it */
    nghttp2_session_del(c->h2);
    while (c->calls != NULL)
        call_destroy(c->calls);
    transport_close(c->transport);
    for (size_t i = 0; i < CLIENT_METADATA_MAX; i++) {
        free(c->metadata[i].name);
        free(c->metadata[i].value);
    }
    free(c->authority);
    free(c);
}

enum status client_metadata_set(struct client *c, const char *name, const char *value, struct err *err)
{
    struct metadata *free_one = NULL, *m = NULL;
    char *copy = NULL;
    size_t i;

    for (i = 0; i < CLIENT_METADATA_MAX; i++) {
        if (c->metadata[i].name == NULL)
            free_one = free_one == NULL ? &c->metadata[i] : free_one;
        else if (strcmp(c->metadata[i].name, name) == 0)
            m = &c->metadata[i];
    }
    if (value == NULL) {
        if (m != NULL) {
            free(m->name);
            free(m->value);
            *m = (struct metadata){NULL, NULL};
        }
        return ST_OK;
    }
    if (m == NULL && free_one == NULL)
        return err_set(err, ST_LIMIT, 0, "at most %d headers are sent with calls", CLIENT_METADATA_MAX);
    if ((copy = strdup(value)) == NULL || (m == NULL && (free_one->name = strdup(name)) == NULL)) {
        free(copy);
        return err_set(err, ST_NOMEM, 0, "header %s: out of memory", name);
    }
    if (m == NULL)
        m = free_one;
    free(m->value);
    m->value = copy;
    return ST_OK;
}
