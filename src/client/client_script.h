/* For tests alone: a transport without a socket. What the peer sends is a script, what is sent to it is counted and forgotten.
 *
 * Link with client.c and call.c instead of transport.c. Frames of HTTP/2 are put together by the functions below. */
#ifndef CLIENT_CLIENT_SCRIPT_H
#define CLIENT_CLIENT_SCRIPT_H

#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "client/transport.h"

enum { SCRIPT_BYTES = 1 << 20 };
enum { FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_RST_STREAM = 3, FRAME_SETTINGS = 4, FRAME_PING = 6, FRAME_GOAWAY = 7, FRAME_WINDOW_UPDATE = 8 };
enum { END_STREAM = 1, END_HEADERS = 4 };

static struct script {
    uint8_t bytes[SCRIPT_BYTES];
    size_t len, at;
    size_t piece; /* most that one read gives */
    bool is_silent_at_end;
    size_t sent;
    unsigned calls;  /* that were begun */
    size_t gates[8]; /* what is behind gate n is not said before n + 2 calls were begun */
    size_t gate_count;
} script;

struct transport {
    const struct env *env;
};

enum status transport_open(const struct client_options *o, uint64_t deadline_ns, struct transport **out, struct err *err)
{
    (void)deadline_ns;
    if ((*out = calloc(1, sizeof **out)) == NULL)
        return err_set(err, ST_NOMEM, 0, "connecting: out of memory");
    (*out)->env = o->env;
    return ST_OK;
}
void transport_close(struct transport *t) { free(t); }
/* How far the script may be read. */
static inline size_t script_ready(void)
{
    for (size_t i = 0; i < script.gate_count; i++)
        if (script.calls < i + 2)
            return script.gates[i];
    return script.len;
}
enum status transport_read(struct transport *t, void *out, size_t room, size_t *got, struct err *err)
{
    size_t len = script_ready() - script.at;

    (void)t;
    *got = 0;
    if (len == 0 && script.at < script.len)
        return ST_AGAIN;
    if (len == 0)
        return script.is_silent_at_end ? ST_AGAIN : err_set(err, ST_CLOSED, 0, "the script is over");
    len = len < room ? len : room;
    len = len < script.piece ? len : script.piece;
    memcpy(out, script.bytes + script.at, len);
    script.at += len;
    *got = len;
    return ST_OK;
}
enum status transport_write(struct transport *t, const void *data, size_t len, size_t *taken, struct err *err)
{
    const uint8_t *at = data;
    size_t left = len;

    (void)t;
    (void)err;
    if (script.sent == 0 && left >= 24) { /* the connection's preface */
        at += 24;
        left -= 24;
    }
    while (left >= 9) { /* what is written are whole frames, for everything is taken */
        size_t frame = 9 + ((size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2]);

        script.calls += at[3] == FRAME_HEADERS;
        frame = frame < left ? frame : left;
        at += frame;
        left -= frame;
    }
    *taken = len;
    script.sent += len;
    return ST_OK;
}
enum status transport_wait(struct transport *t, bool wants_write, uint64_t deadline_ns, struct err *err)
{
    (void)t;
    (void)wants_write;
    (void)deadline_ns;
    if (script.at == script_ready() && (script.at < script.len || script.is_silent_at_end))
        return err_set(err, ST_TIMEOUT, 0, "no answer in time");
    return ST_OK;
}

/* --- writing the script --- */
static inline void script_begin(void)
{
    script.len = script.at = script.sent = 0;
    script.calls = 0;
    script.gate_count = 0;
    script.piece = SCRIPT_BYTES;
    script.is_silent_at_end = false;
}
static inline void script_raw(const void *data, size_t len)
{
    if (len > SCRIPT_BYTES - script.len)
        len = SCRIPT_BYTES - script.len;
    if (len > 0)
        memcpy(script.bytes + script.len, data, len);
    script.len += len;
}
/* What follows answers the next call. */
static inline void script_gate(void) { script.gates[script.gate_count++] = script.len; }
static inline void script_frame(unsigned type, unsigned flags, uint32_t stream_id, const void *payload, size_t len)
{
    uint8_t head[9] = {(uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)type, (uint8_t)flags};

    store_u32be(head + 5, stream_id);
    script_raw(head, sizeof head);
    script_raw(payload, len);
}
/* A header line as HPACK's literal without indexing; names and values below 127 bytes, value_len up to 16,000. */
static inline size_t script_header(uint8_t *out, const char *name, const void *value, size_t value_len)
{
    size_t at = 0, len = strlen(name), left = value_len;

    out[at++] = 0;
    out[at++] = (uint8_t)len;
    memcpy(out + at, name, len);
    at += len;
    if (value_len < 127) {
        out[at++] = (uint8_t)value_len;
    } else {
        out[at++] = 127;
        for (left -= 127; left >= 128; left >>= 7)
            out[at++] = (uint8_t)(left | 0x80);
        out[at++] = (uint8_t)left;
    }
    if (value_len > 0)
        memcpy(out + at, value, value_len);
    return at + value_len;
}
static inline void script_answer(uint32_t stream_id, const char *http_status)
{
    uint8_t block[256];
    size_t len = script_header(block, ":status", http_status, strlen(http_status));

    len += script_header(block + len, "content-type", "application/grpc", 16);
    script_frame(FRAME_HEADERS, END_HEADERS, stream_id, block, len);
}
static inline void script_trailers(uint32_t stream_id, const char *code, const char *message)
{
    uint8_t block[2048];
    size_t len = script_header(block, "grpc-status", code, strlen(code));

    len += script_header(block + len, "grpc-message", message, strlen(message));
    script_frame(FRAME_HEADERS, END_HEADERS | END_STREAM, stream_id, block, len);
}

#endif
