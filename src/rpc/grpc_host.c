/* What the connections of one reactor share; see grpc_host.h. */
#include "rpc/grpc_host.h"

#include <assert.h>
#include <stdlib.h>

#include "rpc/grpc_call.h"

#define TICK_NS UINT64_C(1000000000)   /* recycled calls and spare credit nobody needed for so long are given back */
#define WAIT_TICK_NS UINT64_C(5000000) /* how often waiting calls look for memory */
#define CREDIT_SLAB_MAX ((size_t)256 << 10)
#define POOL_MAX 4096 /* recycled calls kept at most */

#define CALL_BASE_BYTES (sizeof(struct rpc_call) + GRPC_CALL_ROOM_BYTES)

static void pool_trim(struct grpc_host *h, size_t count)
{
    for (; count > 0 && h->pool != NULL; count--) {
        struct rpc_call *call = h->pool;

        h->pool = call->next;
        h->pool_count--;
        arena_free(&call->arena);
        timers_drop_slot(&h->timers);
        free(call);
    }
}

static void on_tick(struct timer *timer)
{
    struct grpc_host *h = (struct grpc_host *)(void *)((char *)timer - offsetof(struct grpc_host, tick));

    for (struct rpc_call *call = h->waiting, *next; call != NULL; call = next) {
        next = call->host_next;
        call_retry_admission(call);
    }
    if (h->reserve_of != NULL)
        call_check_reserve(h->reserve_of);
    if (h->waiting != NULL || h->reserve_of != NULL) {
        grpc_host_need_tick(h, WAIT_TICK_NS);
        return;
    }
    pool_trim(h, h->pool_low);
    h->pool_low = h->pool_count;
    if (h->pool_count > 0) {
        grpc_host_need_tick(h, TICK_NS);
    } else if (h->credit > 0) {
        budget_give(h->service->options.budget, BUDGET_REQUEST, h->credit);
        h->credit = 0;
    }
}

enum status grpc_host_open(struct grpc_host *h, struct grpc_service *s, unsigned index, void (*wake)(struct grpc_host *h), struct err *err)
{
    size_t slab = s->options.budget->share[BUDGET_REQUEST] / 256;

    *h = (struct grpc_host){.service = s, .index = index, .thread = pthread_self(), .wake = wake, .tick.fire = on_tick};
    h->credit_slab = slab < CREDIT_SLAB_MAX ? slab : CREDIT_SLAB_MAX;
    h->now_ns = env_mono_ns(s->options.env);
    if (!timers_take_slot(&h->timers)) {
        h->service = NULL; /* nothing to close */
        return err_set(err, ST_NOMEM, 0, "timers of a reactor");
    }
    return ST_OK;
}

void grpc_host_close(struct grpc_host *h)
{
    if (h->service == NULL)
        return;
    assert(h->waiting == NULL && h->dirty == NULL && atomic_load(&h->posted) == NULL);
    pool_trim(h, h->pool_count);
    budget_give(h->service->options.budget, BUDGET_REQUEST, h->credit);
    timer_disarm(&h->timers, &h->tick);
    timers_drop_slot(&h->timers);
    timers_free(&h->timers);
    frame_rooms_free(&h->rooms);
    grpc_strings_free(&h->strings);
    h->service = NULL;
}

void grpc_host_need_tick(struct grpc_host *h, uint64_t after_ns)
{
    if (h->tick.position == 0 || h->tick.at_ns > h->now_ns + after_ns)
        timer_arm(&h->timers, &h->tick, h->now_ns + after_ns);
}

/* --- the queue from other threads --- */

void grpc_host_post(struct grpc_host *h, struct rpc_call *call)
{
    struct rpc_call *head;

    /* As soon as the call is in the queue the reactor may free it, and end: posters keeps the host until we are out. */
    atomic_fetch_add_explicit(&h->posters, 1, memory_order_acquire);
    head = atomic_load_explicit(&h->posted, memory_order_relaxed);
    do
        call->posted_next = head;
    while (!atomic_compare_exchange_weak_explicit(&h->posted, &head, call, memory_order_seq_cst, memory_order_relaxed));
    /* Only the first of many wakes it; it looks at the queue once more before it sleeps. */
    if (head == NULL && atomic_load_explicit(&h->is_asleep, memory_order_seq_cst) &&
        atomic_exchange_explicit(&h->is_asleep, false, memory_order_seq_cst) && h->wake != NULL)
        h->wake(h);
    atomic_fetch_sub_explicit(&h->posters, 1, memory_order_release);
}

bool grpc_host_sleep(struct grpc_host *h)
{
    atomic_store_explicit(&h->is_asleep, true, memory_order_seq_cst);
    if (atomic_load_explicit(&h->posted, memory_order_seq_cst) == NULL)
        return true;
    grpc_host_woke(h);
    return false;
}

void grpc_host_woke(struct grpc_host *h) { atomic_store_explicit(&h->is_asleep, false, memory_order_seq_cst); }

void grpc_host_run_posted(struct grpc_host *h)
{
    struct rpc_call *newest, *oldest = NULL, *next;

    if (atomic_load_explicit(&h->posted, memory_order_relaxed) == NULL)
        return;
    newest = atomic_exchange_explicit(&h->posted, NULL, memory_order_acquire);
    for (; newest != NULL; newest = next) {
        next = newest->posted_next;
        newest->posted_next = oldest;
        oldest = newest;
    }
    for (; oldest != NULL; oldest = next) {
        /* Once the post word is taken the holder may queue the call again, which writes posted_next. */
        next = oldest->posted_next;
        call_run_post(oldest, atomic_exchange_explicit(&oldest->post, 0, memory_order_acq_rel));
    }
}

/* --- memory --- */

bool grpc_host_try_take(struct grpc_host *h, size_t len)
{
    struct budget *budget = h->service->options.budget;

    if (len <= h->credit) {
        h->credit -= len;
        return true;
    }
    if (len <= h->credit_slab && budget_try_take(budget, BUDGET_REQUEST, h->credit_slab)) {
        h->credit += h->credit_slab - len;
        return true;
    }
    return budget_try_take(budget, BUDGET_REQUEST, len);
}

void grpc_host_take(struct grpc_host *h, size_t len)
{
    if (grpc_host_try_take(h, len))
        return;
    budget_take(h->service->options.budget, BUDGET_REQUEST, len);
    h->overdraft += len;
}

void grpc_host_give(struct grpc_host *h, size_t len)
{
    size_t owed = len < h->overdraft ? len : h->overdraft;

    if (owed > 0) { /* what went beyond the share is no credit for the next */
        budget_give(h->service->options.budget, BUDGET_REQUEST, owed);
        h->overdraft -= owed;
    }
    h->credit += len - owed;
    if (h->credit > 2 * h->credit_slab) {
        budget_give(h->service->options.budget, BUDGET_REQUEST, h->credit - h->credit_slab);
        h->credit = h->credit_slab;
    }
}

/* --- calls --- */

struct rpc_call *grpc_host_new_call(struct grpc_host *h)
{
    struct rpc_call *call = h->pool;
    struct arena arena;

    if (call != NULL) {
        h->pool = call->next;
        if (--h->pool_count < h->pool_low)
            h->pool_low = h->pool_count;
        arena = call->arena;
    } else {
        if (!timers_take_slot(&h->timers))
            return NULL;
        if ((call = malloc(sizeof(*call))) == NULL) {
            timers_drop_slot(&h->timers);
            return NULL;
        }
        arena_init(&arena, GRPC_CALL_ROOM_BYTES, h->service->options.limits.arena_bytes_max);
    }
    memset(call, 0, offsetof(struct rpc_call, abort_text));
    memset((char *)call + offsetof(struct rpc_call, user_state), 0, sizeof(*call) - offsetof(struct rpc_call, user_state));
    call->abort_text[0] = '\0';
    call->arena = arena;
    call->host = h;
    call_meter_arena(call);
    call->headers_end = &call->headers;
    call->out_end = &call->out;
    call->deadline_ns = UINT64_MAX;
    call->started_ns = call->received_ns = call->progress_ns = h->now_ns;
    call->accounted = CALL_BASE_BYTES;
    if (!grpc_host_try_take(h, CALL_BASE_BYTES)) {
        /* It costs memory until it is refused: accounted all the same. */
        call->is_over_budget = true;
        grpc_host_take(h, CALL_BASE_BYTES);
    }
    return call;
}

void grpc_host_free_call(struct grpc_host *h, struct rpc_call *call)
{
    timer_disarm(&h->timers, &call->deadline);
    free(call->in);
    grpc_host_give(h, call->accounted);
    call_upload_give(call, call->in_upload);
    arena_reset(&call->arena);
    assert(call->arena_bytes == 0 && call->arena_reserved == 0);
    call_leave_reserve(call, true);
    call->next = h->pool;
    h->pool = call;
    h->pool_count++;
    if (h->pool_count > POOL_MAX) {
        pool_trim(h, 1);
        if (h->pool_low > h->pool_count)
            h->pool_low = h->pool_count;
    }
    grpc_host_need_tick(h, TICK_NS);
}
