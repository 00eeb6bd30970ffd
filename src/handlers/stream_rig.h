/* For the fuzz targets of streams that come in: a call without a connection. The functions through which a handler answers, or hands
 * what it collected on, are replaced by the linker (-Wl,--wrap, see meson.build) with ones that write down what they were given. A
 * stream is run twice, in one message and cut into many: what was written down must be the same. */
#ifndef HANDLERS_STREAM_RIG_H
#define HANDLERS_STREAM_RIG_H

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"

#define RIG_ARENA_BYTES (8u << 20)
#define RIG_MESSAGES_MAX 4096u

/* What became of a stream. */
struct outcome {
    unsigned answers; /* exactly one in the end */
    char text[300];   /* the status, or what was to be done */
    uint64_t hash;    /* over what was collected */
};

struct rig {
    struct arena arena;
    struct request rq;
    struct server server;
    struct runtime runtime;
    void (*on_message)(struct rpc_call *, struct bytes);
    void (*on_half_close)(struct rpc_call *);
    struct pool_job *job; /* handed to the worker pool */
    struct outcome outcome;
};
static struct rig *rig; /* one at a time */

static inline void rig_answer(const char *what, int code, const char *text)
{
    rig->outcome.answers++;
    snprintf(rig->outcome.text, sizeof rig->outcome.text, "%s %d %s", what, code, text);
}
static inline void rig_note(const ProtobufCMessage *m)
{
    size_t len = protobuf_c_message_get_packed_size(m);
    uint8_t *packed = malloc(len + 1);

    assert(packed != NULL && protobuf_c_message_pack(m, packed) == len);
    rig->outcome.hash = hash64(rig->outcome.hash, packed, len);
    free(packed);
}

/* --- replaced functions that both targets need --- */
struct request *__wrap_request_of(const struct rpc_call *call);
void __wrap_request_fail(struct request *rq, enum rpc_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
void __wrap_request_fail_coded(struct request *rq, enum rpc_code code, const char *info_code, const char *text, const char *cause);
void __wrap_request_fail_nomem(struct request *rq);
void __wrap_kv_fail(struct request *rq, enum status st, const struct err *err);
bool __wrap_kv_stream_wait(struct request *rq);
void __wrap_rpc_on_stream(struct rpc_call *call, void (*on_message)(struct rpc_call *, struct bytes), void (*on_half_close)(struct rpc_call *));
bool __wrap_rpc_is_cancelled(const struct rpc_call *call);

struct request *__wrap_request_of(const struct rpc_call *call)
{
    assert(call == rig->rq.call);
    return &rig->rq;
}
void __wrap_request_fail(struct request *rq, enum rpc_code code, const char *fmt, ...)
{
    char text[200];
    va_list args;

    assert(rq == &rig->rq);
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    rig_answer("fail", (int)code, text);
}
void __wrap_request_fail_coded(struct request *rq, enum rpc_code code, const char *info_code, const char *text, const char *cause)
{
    assert(rq == &rig->rq && info_code != NULL && (text != NULL || cause != NULL));
    rig_answer("coded", (int)code, cause);
}
void __wrap_request_fail_nomem(struct request *rq)
{
    assert(rq == &rig->rq);
    rig_answer("nomem", 0, "");
}
void __wrap_kv_fail(struct request *rq, enum status st, const struct err *err)
{
    assert(rq == &rig->rq && st != ST_OK);
    rig_answer("kv_fail", (int)st, err->text);
}
/* The arena's bound is no shortage that would pass. */
bool __wrap_kv_stream_wait(struct request *rq)
{
    (void)rq;
    return false;
}

void __wrap_rpc_on_stream(struct rpc_call *call, void (*on_message)(struct rpc_call *, struct bytes), void (*on_half_close)(struct rpc_call *))
{
    assert(call == rig->rq.call);
    rig->on_message = on_message;
    rig->on_half_close = on_half_close;
}
bool __wrap_rpc_is_cancelled(const struct rpc_call *call)
{
    assert(call == rig->rq.call);
    return false;
}

/* --- running a stream --- */
static inline void rig_open(struct rig *r, void (*handler)(struct request *rq))
{
    static char call; /* only its address matters */

    memset(r, 0, sizeof *r);
    rig = r;
    arena_init(&r->arena, 4096, RIG_ARENA_BYTES);
    r->server.runtime = &r->runtime;
    r->rq.call = (struct rpc_call *)(void *)&call;
    r->rq.server = &r->server;
    r->rq.arena = &r->arena;
    handler(&r->rq);
}

static inline void rig_message(struct rig *r, struct bytes message)
{
    if (r->outcome.answers == 0 && r->job == NULL && r->on_message != NULL)
        r->on_message(r->rq.call, message);
}

/* A message that holds content, after metadata when with_metadata is set. */
static inline void rig_chunk(struct rig *r, struct bytes content, bool with_metadata)
{
    struct wire_chunk_metadata md = {"committed-txid-bin", bytes_of("\0\0\0\0\0\0\0\7", 8)};
    struct arena arena;
    struct bytes message = bytes_of(NULL, 0);
    struct pb w;

    arena_init(&arena, 4096, 0);
    pb_init(&w, &arena, content.len + 64);
    wire_chunk(&w, content, &md, with_metadata ? 1 : 0);
    assert(pb_take(&w, &message, NULL) == ST_OK);
    rig_message(r, message);
    arena_free(&arena);
}

/* The content in pieces; cut 0 = in one. The first one holds at least first_min bytes, if there are as many. */
static inline void rig_content(struct rig *r, struct bytes in, unsigned cut, size_t first_min)
{
    unsigned state = cut, messages = 0;

    while (in.len > 0) {
        size_t n;

        state = state * 1103515245u + 12345u;
        n = cut == 0 || messages == RIG_MESSAGES_MAX ? in.len : (state >> 16) % ((cut & 3) == 0 ? 5000 : 21);
        if (messages == 0 && n < first_min)
            n = first_min;
        if (n > in.len)
            n = in.len;
        rig_chunk(r, bytes_of(in.data, n), cut != 0 && (state & 0x700) == 0);
        in = bytes_of(in.data + n, in.len - n);
        messages++;
    }
}

static inline void rig_end(struct rig *r)
{
    if (r->outcome.answers == 0 && r->job == NULL && r->on_half_close != NULL)
        r->on_half_close(r->rq.call);
    if (r->job != NULL)
        r->job->run(r->job);
    assert(r->outcome.answers == 1);
    arena_free(&r->arena);
}

/* Messages as they are: each two bytes of length and its bytes. */
static inline void rig_messages(struct rig *r, struct bytes in)
{
    while (in.len >= 2) {
        size_t n = (size_t)in.data[0] << 8 | in.data[1];

        if (n > in.len - 2)
            n = in.len - 2;
        rig_message(r, bytes_of(n > 0 ? in.data + 2 : NULL, n));
        in = bytes_of(in.data + 2 + n, in.len - 2 - n);
    }
}

/* The whole of a target: byte 0 says what, byte 1 how it is cut, the rest is the content of chunks or (bit 7 of byte 0) messages. */
static inline void rig_run(const uint8_t *data, size_t len, void (*handler)(struct request *rq), size_t first_min)
{
    struct bytes in = bytes_of(data + 2, len - 2);
    struct rig whole, pieces;

    rig_open(&whole, handler);
    if ((data[0] & 0x80) != 0) {
        rig_messages(&whole, in);
        rig_end(&whole);
        return;
    }
    rig_content(&whole, in, 0, first_min);
    rig_end(&whole);
    rig_open(&pieces, handler);
    rig_content(&pieces, in, data[1] | 0x100u, first_min);
    rig_end(&pieces);
    if (strcmp(whole.outcome.text, pieces.outcome.text) != 0 || whole.outcome.hash != pieces.outcome.hash) {
        fprintf(stderr, "in one: %s\nin pieces: %s\n", whole.outcome.text, pieces.outcome.text);
        abort();
    }
}

#endif
