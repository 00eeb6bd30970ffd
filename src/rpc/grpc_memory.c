/* Memory that handlers take: the arena of a call counts against the budget chunk by chunk, on whatever thread it grows; and who may fill how much of it.
 *
 * Of the requests' share (its queue included) these may help to fill
 *
 *   a call that needs up to SHORT_BYTES                        SHORT_PERCENT
 *   one of medium size: up to MEDIUM_FRACTION of the share,
 *   or what it takes to understand what was received           MEDIUM_PERCENT
 *   uploads: what large messages and streams collect           UPLOAD_PERCENT, and all of them together UPLOADS_PERCENT
 *   long calls                                                 LONG_PERCENT
 *
 * so that whatever slow clients send or leave unread, there is room for calls of ordinary size. Each call's arena also counts for its connection's part, which is
 * apart from what the connection may receive: one greatest arena, or a quarter of the share.
 *
 * A call that finds no memory is tried again later (request.c), or what it was sent is held back. The first of them gets the reserve, up to RESERVE_PERCENT, and on a
 * worker waits a little for what others give back: they are refused meanwhile, so that of many long calls one always comes through. It gives the reserve up with
 * its answer. If its client has sent much, so that a greatest message can be written however small the limit is, it goes beyond the share, up to RECEIVED_TIMES
 * of what it received: that counts as BUDGET_OTHER, and the reserve then stays with the call to its end.
 *
 * Clients that go to sleep over memory are cut off: call_is_too_slow().
 *
 * The first chunk of a call is counted by grpc_host_new_call(), before anything is known of it. Calls beyond the share are refused, but not those of a
 * connection that holds next to nothing: others may have filled the share with answers, or refusals, that they do not read. */
#include <stdio.h>
#include <time.h>

#include "rpc/grpc_call.h"

#define SHORT_BYTES ((size_t)64 << 10)
#define SHORT_PERCENT 94u
#define MEDIUM_PERCENT 85u
#define RESERVE_PERCENT 80u
#define MEDIUM_FRACTION 32u
#define MEDIUM_BYTES ((size_t)512 << 10) /* also when that is more, up to an eighth of the share */
#define UPLOAD_PERCENT 75u               /* LARGE_PERCENT_MAX of grpc_recv.c is the same */
#define UPLOADS_PERCENT 50u
#define LONG_PERCENT 70u
#define OVER_PERCENT_MAX 125u   /* of the share: where calls of any connection are refused */
#define MODEST_FRACTION 256u    /* of the share: what a modest connection holds at most */
#define RECEIVED_SHORT_TIMES 4u /* decoded, a request takes more than on the wire */
#define RECEIVED_TIMES 3u
#define RESERVE_POLLS 50 /* of POLL_NS */
#define POLL_NS 2000000
#define PACE_BYTES 262144u            /* to be moved in budget_wait_ns ... */
#define PACED_BYTES ((size_t)1 << 20) /* ... by a call that holds more than this */
#define PACED_TIGHT_PERCENT 50u       /* and from here on, by one that holds more than SHORT_BYTES */

static struct rpc_call *call_of(struct arena_meter *m) { return (struct rpc_call *)(void *)((char *)m - offsetof(struct rpc_call, meter)); }

static bool try_take(const struct rpc_call *call, size_t len, unsigned percent)
{
    return budget_try_take_upto(call->host->service->options.budget, BUDGET_REQUEST, len, percent);
}

static bool take_reserve(struct rpc_call *call)
{
    struct rpc_call *nobody = NULL;

    /* Only who will come to rpc_finish() may have it. */
    return call->is_held && (atomic_compare_exchange_strong(&call->host->service->arena_reserve_of, &nobody, call) || nobody == call);
}

void call_leave_reserve(struct rpc_call *call, bool is_over)
{
    struct rpc_call *me = call;

    if ((is_over || call->arena_reserved == 0) && atomic_load_explicit(&call->host->service->arena_reserve_of, memory_order_relaxed) == call)
        atomic_compare_exchange_strong(&call->host->service->arena_reserve_of, &me, NULL);
}

bool call_sits_on_reserve(const struct rpc_call *call, uint64_t before_ns)
{
    bool is_silent = call->received_ns < before_ns && !call->is_half_closed && call->state == CALL_RUNNING;
    bool is_unread = call->out_bytes > 0 && call->progress_ns < before_ns;

    return (is_silent || is_unread) && atomic_load_explicit(&call->host->service->arena_reserve_of, memory_order_relaxed) == call;
}

/* With the reserve: a call that received much goes beyond the share; else a reactor does not wait, a worker does. */
static bool take_with_reserve(struct rpc_call *call, size_t len, size_t received)
{
    const struct timespec pause = {0, POLL_NS};
    unsigned polls = call_is_on_reactor(call) ? 0 : RESERVE_POLLS;
    bool is_taken;

    if (received > SHORT_BYTES && call->arena_bytes + len <= RECEIVED_TIMES * received) {
        budget_take(call->host->service->options.budget, BUDGET_OTHER, len);
        call->arena_reserved += len;
        return true;
    }
    for (is_taken = try_take(call, len, RESERVE_PERCENT); !is_taken && polls > 0 && !rpc_is_cancelled(call); polls--) {
        nanosleep(&pause, NULL);
        is_taken = try_take(call, len, RESERVE_PERCENT);
    }
    return is_taken;
}

bool call_upload_allows(const struct rpc_call *call, size_t len)
{
    const struct grpc_service *s = call->host->service;

    return atomic_load_explicit(&s->upload_bytes, memory_order_relaxed) + len <= s->options.budget->share[BUDGET_REQUEST] / 100 * UPLOADS_PERCENT;
}

void call_upload_take(struct rpc_call *call, size_t len) { atomic_fetch_add_explicit(&call->host->service->upload_bytes, len, memory_order_relaxed); }

void call_upload_give(struct rpc_call *call, size_t len)
{
    if (len > 0)
        atomic_fetch_sub_explicit(&call->host->service->upload_bytes, len, memory_order_relaxed);
}

/* What a client sends piece by piece, and may never end. */
static bool try_take_upload(struct rpc_call *call, size_t len)
{
    if (!call_upload_allows(call, len) || !try_take(call, len, UPLOAD_PERCENT))
        return false;
    call_upload_take(call, len);
    call->arena_upload += len;
    return true;
}

static bool try_take_by_size(struct rpc_call *call, size_t len, size_t all, size_t received)
{
    size_t share = call->host->service->options.budget->share[BUDGET_REQUEST];
    const struct rpc_method *m = call->method; /* NULL: its headers are still coming */
    bool is_stream_in = m != NULL && (m->kind == RPC_CLIENT_STREAM || m->kind == RPC_BIDI);

    if (all <= SHORT_BYTES)
        return try_take(call, len, SHORT_PERCENT);
    if (is_stream_in && received > SHORT_BYTES)
        return try_take_upload(call, len);
    if (all <= SHORT_BYTES + RECEIVED_SHORT_TIMES * received || all <= share / MEDIUM_FRACTION || (all <= MEDIUM_BYTES && all <= share / 8))
        return try_take(call, len, MEDIUM_PERCENT);
    return try_take(call, len, LONG_PERCENT);
}

static bool may_take(struct rpc_call *call, size_t len)
{
    const struct grpc_service *s = call->host->service;
    size_t all = call->arena_bytes + len, received = atomic_load_explicit(&call->received_bytes, memory_order_relaxed);
    size_t share = s->options.budget->share[BUDGET_REQUEST];
    bool is_taken;

    if (all > SHORT_BYTES && atomic_load_explicit(&call->conn->arena_bytes, memory_order_relaxed) + len > s->conn_arena_bytes_max) {
        call->limit_met = s->conn_arena_bytes_max;
        call->is_conn_limit = true;
        call->is_hopeless = all > s->conn_arena_bytes_max;
        return false;
    }
    is_taken = try_take_by_size(call, len, all, received);
    /* The reserve is not for those who need little. */
    if (!is_taken && all > SHORT_BYTES)
        is_taken = take_reserve(call) && take_with_reserve(call, len, received);
    if (!is_taken) {
        call->limit_met = share;
        call->is_conn_limit = false;
        call->is_hopeless = all > share / 100 * RESERVE_PERCENT && (received <= SHORT_BYTES || all > RECEIVED_TIMES * received);
    }
    return is_taken;
}

static bool on_take(struct arena_meter *m, size_t len)
{
    struct rpc_call *call = call_of(m);

    if (call->is_finishing)
        budget_take(call->host->service->options.budget, BUDGET_REQUEST, len);
    else if (!may_take(call, len))
        return false;
    call->arena_bytes += len;
    atomic_fetch_add_explicit(&call->conn->arena_bytes, len, memory_order_relaxed);
    return true;
}

static void on_give(struct arena_meter *m, size_t len)
{
    struct rpc_call *call = call_of(m);
    struct budget *budget = call->host->service->options.budget;
    size_t reserved = len < call->arena_reserved ? len : call->arena_reserved;

    size_t upload = len - reserved < call->arena_upload ? len - reserved : call->arena_upload;

    call->arena_bytes -= len;
    call->arena_reserved -= reserved;
    call->arena_upload -= upload;
    call_upload_give(call, upload);
    atomic_fetch_sub_explicit(&call->conn->arena_bytes, len, memory_order_relaxed);
    budget_give(budget, BUDGET_OTHER, reserved);
    budget_give(budget, BUDGET_REQUEST, len - reserved);
}

void call_meter_arena(struct rpc_call *call)
{
    call->meter = (struct arena_meter){on_take, on_give};
    arena_set_meter(&call->arena, &call->meter, GRPC_CALL_ROOM_BYTES);
}

/* --- pace --- */

bool call_is_affordable(const struct rpc_call *call)
{
    return budget_pressure(call->host->service->options.budget, BUDGET_REQUEST) < OVER_PERCENT_MAX;
}

/* It is the client's turn to send or to take something. */
static bool waits_for_client(const struct rpc_call *call)
{
    bool is_stream_in = call->method != NULL && (call->method->kind == RPC_CLIENT_STREAM || call->method->kind == RPC_BIDI);
    bool is_receiving = call->state == CALL_RECEIVING || (call->state == CALL_RUNNING && is_stream_in && !call->is_half_closed &&
                                                          !atomic_load_explicit(&call->is_paused, memory_order_acquire));

    return call->out_bytes > 0 || (is_receiving && !call->is_waiting);
}

bool call_is_too_slow(struct rpc_call *call)
{
    const struct grpc_service *s = call->host->service;
    uint64_t now_ns = call->host->now_ns, window_ns = s->options.limits.budget_wait_ns;
    uint64_t moved = call->sent_bytes + atomic_load_explicit(&call->received_bytes, memory_order_relaxed), from;
    size_t held = call->accounted + call->reserved + atomic_load_explicit(&call->arena_bytes, memory_order_relaxed);
    bool is_tight = budget_pressure(s->options.budget, BUDGET_REQUEST) >= PACED_TIGHT_PERCENT;

    if (!waits_for_client(call) || call->pace[0].at_ns == 0) {
        call->pace[0] = call->pace[1] = (struct call_pace){now_ns, moved};
        return false;
    }
    if (now_ns - call->pace[0].at_ns >= window_ns && moved - call->pace[0].moved < PACE_BYTES && held > (is_tight ? SHORT_BYTES : PACED_BYTES)) {
        snprintf(call->abort_text, sizeof(call->abort_text),
                 "too slow for the memory it holds (%zu KiB): %llu bytes moved in %llu s, at least %u are due", held >> 10,
                 (unsigned long long)(moved - call->pace[0].moved), (unsigned long long)((now_ns - call->pace[0].at_ns) / 1000000000), PACE_BYTES);
        return true;
    }
    from = call->pace[1].at_ns;
    if (now_ns - from >= window_ns / 2) {
        call->pace[0] = call->pace[1];
        call->pace[1] = (struct call_pace){now_ns, moved};
    }
    return false;
}

bool call_is_modest(const struct rpc_call *call)
{
    const struct grpc_service *s = call->host->service;
    size_t held = call->conn->bytes + atomic_load_explicit(&call->conn->arena_bytes, memory_order_relaxed);

    return held <= s->options.budget->share[BUDGET_REQUEST] / MODEST_FRACTION &&
           budget_pressure(s->options.budget, BUDGET_REQUEST) < OVER_PERCENT_MAX;
}
