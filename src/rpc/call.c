/* What handlers may do with a call: the functions of rpc.h that take one. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "rpc/grpc_call.h"

const struct rpc_method *rpc_method(const struct rpc_call *call) { return call->method; }
struct arena *rpc_arena(struct rpc_call *call) { return &call->arena; }
struct bytes rpc_request(const struct rpc_call *call) { return call->request; }
uint64_t rpc_deadline_ns(const struct rpc_call *call) { return call->deadline_ns; }
uint64_t rpc_started_ns(const struct rpc_call *call) { return call->started_ns; }
const char *rpc_peer(const struct rpc_call *call) { return call->conn->peer; }
bool rpc_is_loopback(const struct rpc_call *call) { return call->conn->is_loopback; }
void *rpc_tls_peer_cert(const struct rpc_call *call) { return call->conn->peer_cert; }
void **rpc_conn_slot(struct rpc_call *call) { return &call->conn->slot; }
struct pool_job *rpc_job(struct rpc_call *call) { return &call->job; }
struct rpc_call *rpc_call_of_job(struct pool_job *job) { return (struct rpc_call *)(void *)((char *)job - offsetof(struct rpc_call, job)); }
void rpc_set_state(struct rpc_call *call, void *state) { call->user_state = state; }
void *rpc_state(const struct rpc_call *call) { return call->user_state; }
unsigned rpc_reactor_index(const struct rpc_call *call) { return call->host->index; }

bool rpc_is_cancelled(const struct rpc_call *call)
{
    return atomic_load_explicit(&call->is_cancelled, memory_order_acquire) ||
           (call->deadline_ns != UINT64_MAX && env_mono_ns(call->host->service->options.env) >= call->deadline_ns);
}

/* The first of comma-joined values, decoded into the arena. */
static struct bytes decode_bin(struct rpc_call *call, struct bytes value)
{
    const uint8_t *comma = value.len == 0 ? NULL : memchr(value.data, ',', value.len);
    size_t len = 0;
    uint8_t *room;

    if (comma != NULL)
        value.len = (size_t)(comma - value.data);
    while (value.len > 0 && value.data[value.len - 1] == ' ')
        value.len--;
    room = arena_alloc(&call->arena, value.len / 4 * 3 + 3);
    if (room == NULL || !grpc_base64_decode(value, room, &len))
        return bytes_of(NULL, 0);
    return bytes_of(room, len);
}

struct bytes rpc_metadata(const struct rpc_call *call, const char *name)
{
    struct bytes want = bytes_str(name);

    for (const struct rpc_header *h = call->headers; h != NULL; h = h->next)
        if (bytes_equal(bytes_of(h->name, h->name_len), want)) {
            struct bytes value = bytes_of(h->name + h->name_len, h->value_len);

            if (want.len >= 4 && memcmp(want.data + want.len - 4, "-bin", 4) == 0)
                return decode_bin((struct rpc_call *)(uintptr_t)call, value);
            return value;
        }
    return bytes_of(NULL, 0);
}

void rpc_must_answer(struct rpc_call *call) { call->is_finishing = true; }

bool rpc_forgive_memory(struct rpc_call *call)
{
    if (call->is_finishing || call->is_hopeless)
        return false;
    call->limit_met = 0;
    call->is_conn_limit = false;
    return true;
}

size_t rpc_memory_limit_met(const struct rpc_call *call, bool *of_connection)
{
    *of_connection = call->is_conn_limit;
    return call->limit_met;
}

/* --- streams in --- */

void rpc_on_stream(struct rpc_call *call, void (*on_message)(struct rpc_call *, struct bytes), void (*on_half_close)(struct rpc_call *))
{
    if (call_is_on_reactor(call)) {
        call->on_message = on_message;
        call->on_half_close = on_half_close;
        return;
    }
    /* The reactor takes them over, and delivers what came meanwhile: messages, the client's end, or that nobody waits any more. */
    call->late_on_message = on_message;
    call->late_on_half_close = on_half_close;
    call_post(call, POST_STREAM);
}

void rpc_on_cancel(struct rpc_call *call, void (*fn)(struct rpc_call *)) { call->on_cancel = fn; }

void rpc_pause(struct rpc_call *call) { atomic_store_explicit(&call->is_paused, true, memory_order_release); }

void rpc_hold_back(struct rpc_call *call)
{
    assert(call_is_on_reactor(call));
    call->is_message_kept = call->is_short = true;
    rpc_pause(call);
}

void rpc_resume(struct rpc_call *call)
{
    /* The reactor ends the pause: once it does, it may finish and reuse the call. */
    call_post(call, POST_RESUME);
}

/* --- answers --- */

uint8_t *rpc_message_alloc(struct rpc_call *call, size_t len) { return arena_alloc(&call->arena, len); }

static size_t queued_bytes(const struct rpc_call *call) { return atomic_load_explicit(&call->queued_bytes, memory_order_relaxed); }

size_t rpc_send(struct rpc_call *call, struct bytes message)
{
    struct rpc_out *out = &call->first_out;

    if (call->is_first_out_used)
        out = arena_alloc(&call->arena, sizeof(*out));
    if (out == NULL || message.len > UINT32_MAX - GRPC_PREFIX_LEN) {
        call->is_unqueued = true;
        return queued_bytes(call);
    }
    call->is_first_out_used = true;
    *out = (struct rpc_out){.data = message.data, .len = message.len};
    grpc_prefix_write(out->prefix, (uint32_t)out->len);
    return call_send(call, out);
}

size_t rpc_send_piece(struct rpc_call *call, struct bytes piece, size_t message_len, bool is_first)
{
    struct rpc_out *out = &call->piece_outs[call->piece_turn];

    assert(message_len <= UINT32_MAX - GRPC_PREFIX_LEN && piece.len <= message_len);
    call->piece_turn ^= 1;
    *out = (struct rpc_out){.data = piece.data, .len = piece.len, .sent = is_first ? 0 : GRPC_PREFIX_LEN};
    grpc_prefix_write(out->prefix, (uint32_t)message_len);
    return call_send(call, out);
}

size_t rpc_send_owned(struct rpc_call *call, uint8_t *message, size_t len)
{
    struct rpc_out *out = len > UINT32_MAX - GRPC_PREFIX_LEN ? NULL : malloc(sizeof(*out));

    if (out == NULL) {
        call->is_unqueued = true;
        free(message);
        return queued_bytes(call);
    }
    *out = (struct rpc_out){.data = message, .len = len, .owned = message, .is_allocated = true};
    grpc_prefix_write(out->prefix, (uint32_t)len);
    return call_send(call, out);
}

void rpc_on_drained(struct rpc_call *call, size_t low_bytes, void (*on_drained)(struct rpc_call *))
{
    call->drained_low = low_bytes == 0 ? 1 : low_bytes;
    call->on_drained = on_drained;
    call_post(call, POST_DRAIN); /* armed by the reactor: its callback may finish the call */
}

/* What may stand in a header without breaking it. */
static bool trailer_is_good(const char *name, struct bytes value, bool is_bin)
{
    for (; *name != '\0'; name++)
        if (!((*name >= 'a' && *name <= 'z') || (*name >= '0' && *name <= '9') || *name == '-' || *name == '_' || *name == '.'))
            return false;
    for (size_t i = 0; i < value.len && !is_bin; i++)
        if (value.data[i] < 0x20 || value.data[i] > 0x7e)
            return false;
    return true;
}

enum status rpc_trailer(struct rpc_call *call, const char *name, struct bytes value, struct err *err)
{
    size_t name_len = strlen(name);
    bool is_bin = name_len >= 4 && strcmp(name + name_len - 4, "-bin") == 0;
    size_t value_len = is_bin ? grpc_base64_len(value.len) : value.len;
    struct rpc_trailer *t;
    uint8_t *room;

    if (name_len == 0 || !trailer_is_good(name, value, is_bin))
        return err_set(err, ST_INVALID, 0, "trailer \"%s\": not a header", name);
    if (call->trailer_count == GRPC_TRAILERS_MAX || value.len > GRPC_DETAILS_MAX)
        return err_set(err, ST_LIMIT, 0, "trailer %s of %zu bytes: at most %d trailers of %d bytes", name, value.len, GRPC_TRAILERS_MAX,
                       GRPC_DETAILS_MAX);
    if ((t = arena_alloc(&call->arena, sizeof(*t) + name_len + value_len)) == NULL)
        return err_set(err, ST_NOMEM, 0, "trailer %s", name);
    room = (uint8_t *)(t + 1);
    memcpy(room, name, name_len);
    if (is_bin)
        grpc_base64_encode(value, room + name_len);
    else if (value.len > 0)
        memcpy(room + name_len, value.data, value.len);
    *t = (struct rpc_trailer){call->trailers, room, room + name_len, name_len, value_len};
    call->trailers = t;
    call->trailer_count++;
    return ST_OK;
}

/* Copies the text twice: as it is for the log, and as it goes on the wire. Without memory the code goes out alone. */
static void finish_text(struct rpc_call *call, const char *message)
{
    size_t len = message == NULL ? 0 : strlen(message), room_len;
    uint8_t *room;

    call->finish.text = "";
    if (len == 0)
        return;
    if ((call->finish.text = arena_str(&call->arena, bytes_of(message, len))) == NULL) {
        call->finish.text = "";
        return;
    }
    room_len = grpc_message_encoded_len(bytes_of(message, len));
    if (room_len == len && len <= GRPC_MESSAGE_TEXT_MAX) {
        call->finish.message = (const uint8_t *)call->finish.text;
        call->finish.message_len = len;
        return;
    }
    if (room_len > GRPC_MESSAGE_TEXT_MAX)
        room_len = GRPC_MESSAGE_TEXT_MAX;
    if ((room = arena_alloc(&call->arena, room_len)) != NULL) {
        call->finish.message = room;
        call->finish.message_len = grpc_message_encode(bytes_of(message, len), room, room_len);
    }
}

void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *message, struct bytes details)
{
    call->is_finishing = true;
    call->finish.code = code;
    finish_text(call, message);
    if (details.len > 0 && details.len <= GRPC_DETAILS_MAX) {
        uint8_t *room = arena_alloc(&call->arena, grpc_base64_len(details.len));

        if (room != NULL) {
            call->finish.details = room;
            call->finish.details_len = grpc_base64_encode(details, room);
        }
    }
    call_finish(call);
}

void rpc_finish_early(struct rpc_call *call, enum rpc_code code, const char *message)
{
    call->is_finishing = true;
    call->finish.code = code;
    call->finish.is_early = true;
    finish_text(call, message);
    call_finish(call);
}

void rpc_reply(struct rpc_call *call, struct bytes message)
{
    call->is_replying = true;
    rpc_send(call, message);
    call->finish = (struct rpc_status){.code = RPC_OK, .text = ""};
    call_finish(call);
}
