/* What the connections of one reactor share: clock, timers, recycled calls, credit from the budget, and the queue by which other
 * threads hand calls back. Does no I/O: the reactor (or a test) turns the crank.
 *
 *   grpc_host_run_posted()   takes in what other threads sent and finished
 *   timers_run()             deadlines, keepalive, memory waits
 *   dirty list               connections that may have bytes to send
 *
 * Only the owning thread touches it, but for the atomics: posted, is_asleep, posters. */
#ifndef RPC_GRPC_HOST_H
#define RPC_GRPC_HOST_H

#include <pthread.h>
#include <stdatomic.h>

#include "rpc/frame_room.h"
#include "rpc/grpc_service.h"
#include "rpc/grpc_strings.h"
#include "rpc/timer.h"

struct grpc_conn;

/* Written by the reactor alone, read by anybody: relaxed loads and stores. */
struct grpc_counters {
    _Atomic uint64_t connections_open, connections_total, streams_open, calls_total, calls_running, goaways_sent, resets_received, bytes_in,
        bytes_out, turns, turn_ns_total, turn_ns_max;
};
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline void counter_sub(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) - n, memory_order_relaxed);
}

struct grpc_host {
    struct grpc_service *service;
    unsigned index;
    pthread_t thread; /* the owner; set before the first connection */
    uint64_t now_ns;  /* brought up to date once per turn */
    struct timers timers;
    struct frame_rooms rooms;    /* memory of HTTP/2 sessions */
    struct grpc_strings strings; /* of request headers */
    struct timer tick;           /* housekeeping; armed while there is something to keep */
    struct grpc_conn *dirty;     /* connections to be flushed, linked by dirty_next */
    struct rpc_call *pool;       /* recycled calls, last used first */
    size_t pool_count, pool_low; /* pool_low: fewest since the last tick, i.e. how many nobody needed */
    struct rpc_call *waiting;    /* calls that wait for memory, linked by host_next */
    struct rpc_call *reserve_of; /* the call with the server's reserve, when it is one of ours */
    size_t credit, credit_slab;  /* bytes taken from the budget and not yet given to a call */
    size_t overdraft;            /* bytes taken although the share was full, not yet given back */
    struct grpc_counters counters;
    _Alignas(64) _Atomic(struct rpc_call *) posted; /* newest first */
    _Atomic bool is_asleep;
    _Atomic size_t posters;            /* threads inside grpc_host_post() */
    void (*wake)(struct grpc_host *h); /* called by other threads; may be NULL */
};

MUST_USE enum status grpc_host_open(struct grpc_host *h, struct grpc_service *s, unsigned index, void (*wake)(struct grpc_host *h), struct err *err);
/* No call and no connection may be left. */
void grpc_host_close(struct grpc_host *h);
void grpc_host_run_posted(struct grpc_host *h);
/* Between these two the reactor may sleep: grpc_host_sleep() says false when something was posted meanwhile. */
bool grpc_host_sleep(struct grpc_host *h);
void grpc_host_woke(struct grpc_host *h);
/* From any thread: queues the call (its post word says what for). */
void grpc_host_post(struct grpc_host *h, struct rpc_call *call);

/* Bytes from the server's budget, through the reactor's credit. */
bool grpc_host_try_take(struct grpc_host *h, size_t len);
void grpc_host_take(struct grpc_host *h, size_t len);
void grpc_host_give(struct grpc_host *h, size_t len);
/* Arms the housekeeping tick unless it is. */
void grpc_host_need_tick(struct grpc_host *h, uint64_t after_ns);

/* A call with its arena, or NULL. */
struct rpc_call *grpc_host_new_call(struct grpc_host *h);
void grpc_host_free_call(struct grpc_host *h, struct rpc_call *call);

#endif
