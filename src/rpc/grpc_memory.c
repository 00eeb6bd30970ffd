/* Memory that handlers take: the arena of a call counts against the budget chunk by chunk, on whatever thread it grows.
 *
 * Of the requests' share (its queue included) an arena may help to fill
 *
 *   up to SHORT_BYTES and four times what was received   SHORT_PERCENT; RECEIVED_PERCENT when much was received: a request that was taken in is also
 *                                                        understood
 *   more                                                 LONG_PERCENT; the one call that has the reserve: RESERVE_PERCENT
 *
 * and its connection's part, which is apart from what the connection may receive: one greatest arena, or a quarter of the share.
 *
 * The first call that finds no memory gets the reserve, and on a worker waits a little for what others give back: they are refused meanwhile, so that
 * of many long calls one always comes through. It gives the reserve up with its answer. If its client has sent much, so that a greatest message can be
 * written however small the limit is, it goes beyond the share, up to RECEIVED_TIMES of what it received: that counts as BUDGET_OTHER, and the reserve
 * then stays with the call to its end. A client that goes to sleep over it is cut off.
 *
 * The first chunk of a call is counted by grpc_host_new_call(), before anything is known of it. Calls beyond the share are refused, but not those of a
 * connection that holds next to nothing: others may have filled the share with answers, or refusals, that they do not read. */
#include <time.h>

#include "rpc/grpc_call.h"

#define SHORT_BYTES ((size_t)64 << 10)
#define RECEIVED_PERCENT 94u /* above LARGE_PERCENT_MAX of grpc_recv.c */
#define SHORT_PERCENT 88u
#define RESERVE_PERCENT 80u
#define LONG_PERCENT 70u
#define OVER_PERCENT_MAX 125u   /* of the share: where calls of any connection are refused */
#define MODEST_FRACTION 256u    /* of the share: what a modest connection holds at most */
#define RECEIVED_SHORT_TIMES 4u /* decoded, a request takes more than on the wire */
#define RECEIVED_TIMES 3u
#define RESERVE_POLLS 1000 /* of POLL_NS */
#define POLL_NS 2000000

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
    bool is_taken = try_take(call, len, RESERVE_PERCENT);

    if (!is_taken && received > SHORT_BYTES && call->arena_bytes + len <= RECEIVED_TIMES * received) {
        budget_take(call->host->service->options.budget, BUDGET_OTHER, len);
        call->arena_reserved += len;
        return true;
    }
    for (; !is_taken && polls > 0 && !rpc_is_cancelled(call); polls--) {
        nanosleep(&pause, NULL);
        is_taken = try_take(call, len, RESERVE_PERCENT);
    }
    return is_taken;
}

static bool may_take(struct rpc_call *call, size_t len)
{
    const struct grpc_service *s = call->host->service;
    size_t all = call->arena_bytes + len, received = atomic_load_explicit(&call->received_bytes, memory_order_relaxed);
    bool is_taken;

    if (all > SHORT_BYTES && atomic_load_explicit(&call->conn->arena_bytes, memory_order_relaxed) + len > s->conn_arena_bytes_max) {
        call->limit_met = s->conn_arena_bytes_max;
        call->is_conn_limit = true;
        return false;
    }
    if (all <= SHORT_BYTES + RECEIVED_SHORT_TIMES * received)
        is_taken = try_take(call, len, received > SHORT_BYTES ? RECEIVED_PERCENT : SHORT_PERCENT);
    else
        is_taken = try_take(call, len, LONG_PERCENT);
    /* The reserve is not for those who need little. */
    if (!is_taken && all > SHORT_BYTES)
        is_taken = take_reserve(call) && take_with_reserve(call, len, received);
    if (!is_taken) {
        call->limit_met = s->options.budget->share[BUDGET_REQUEST];
        call->is_conn_limit = false;
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

    call->arena_bytes -= len;
    call->arena_reserved -= reserved;
    atomic_fetch_sub_explicit(&call->conn->arena_bytes, len, memory_order_relaxed);
    budget_give(budget, BUDGET_OTHER, reserved);
    budget_give(budget, BUDGET_REQUEST, len - reserved);
}

void call_meter_arena(struct rpc_call *call)
{
    call->meter = (struct arena_meter){on_take, on_give};
    arena_set_meter(&call->arena, &call->meter, GRPC_CALL_ROOM_BYTES);
}

bool call_is_modest(const struct rpc_call *call)
{
    const struct grpc_service *s = call->host->service;
    size_t held = call->conn->bytes + atomic_load_explicit(&call->conn->arena_bytes, memory_order_relaxed);

    return held <= s->options.budget->share[BUDGET_REQUEST] / MODEST_FRACTION &&
           budget_pressure(s->options.budget, BUDGET_REQUEST) < OVER_PERCENT_MAX;
}
