/* Counters of what each use holds, their peaks, and the bounds derived from one limit. */
#include "base/budget.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>

void budget_init(struct budget *b, size_t limit)
{
    memset(b, 0, sizeof *b);
    b->limit = limit;
    b->share[BUDGET_CACHE] = limit / 8 * 3;
    b->share[BUDGET_MEMTABLE] = limit / 4;
    b->share[BUDGET_REQUEST] = limit / 4;
    b->share[BUDGET_QUEUE] = limit / 8;
    b->share[BUDGET_TREE] = limit / 16;
    b->share[BUDGET_OTHER] = limit / 16;
}

static void peak_raise(struct budget *b, enum budget_use use, size_t now)
{
    size_t peak = atomic_load_explicit(&b->peak[use], memory_order_relaxed);

    while (now > peak && !atomic_compare_exchange_weak_explicit(&b->peak[use], &peak, now, memory_order_relaxed, memory_order_relaxed)) {}
}

/* What is left for the cache when sixteenths of the limit stay free. */
static size_t cache_rest(const struct budget *b, size_t sixteenths)
{
    size_t share = b->share[BUDGET_CACHE], others = budget_total(b) - budget_used(b, BUDGET_CACHE), rest;

    if (__builtin_sub_overflow(b->limit - b->limit / 16 * sixteenths, others, &rest))
        return share;
    return rest > share ? rest : share;
}

size_t budget_cache_goal(const struct budget *b) { return cache_rest(b, 3); }
size_t budget_cache_bound(const struct budget *b) { return cache_rest(b, 2); }

void budget_set_borrower(struct budget *b, void (*reclaim)(void *ctx), void *ctx)
{
    b->reclaim_ctx = ctx;
    b->reclaim = reclaim;
}

/* After a take for `use`: what the cache borrowed goes back first. */
static void call_in(struct budget *b, enum budget_use use)
{
    size_t cached = budget_used(b, BUDGET_CACHE);

    if (use != BUDGET_CACHE && b->reclaim != NULL && cached > b->share[BUDGET_CACHE] && cached > budget_cache_bound(b))
        b->reclaim(b->reclaim_ctx);
}

void budget_take(struct budget *b, enum budget_use use, size_t len)
{
    size_t before = atomic_fetch_add_explicit(&b->used[use], len, memory_order_relaxed);

    peak_raise(b, use, before + len);
    call_in(b, use);
}

void budget_give(struct budget *b, enum budget_use use, size_t len)
{
    size_t before = atomic_fetch_sub_explicit(&b->used[use], len, memory_order_relaxed);

    assert(before >= len);
    (void)before;
}

/* What counts against the share of use beside its own bytes: the queue lies inside the requests' share. */
static size_t used_inside(const struct budget *b, enum budget_use use) { return use == BUDGET_REQUEST ? budget_used(b, BUDGET_QUEUE) : 0; }

bool budget_try_take(struct budget *b, enum budget_use use, size_t len) { return budget_try_take_upto(b, use, len, 100); }

bool budget_try_take_upto(struct budget *b, enum budget_use use, size_t len, unsigned percent)
{
    size_t inside = used_inside(b, use), now = budget_used(b, use), wanted;
    size_t bound = percent >= 100 ? b->share[use] : b->share[use] / 100 * percent;

    do {
        if (__builtin_add_overflow(now, len, &wanted) || inside > bound || wanted > bound - inside)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&b->used[use], &now, wanted, memory_order_relaxed, memory_order_relaxed));
    peak_raise(b, use, wanted);
    call_in(b, use);
    return true;
}

size_t budget_used(const struct budget *b, enum budget_use use) { return atomic_load_explicit(&b->used[use], memory_order_relaxed); }

size_t budget_total(const struct budget *b)
{
    size_t sum = 0;

    for (unsigned use = 0; use < BUDGET_USES; use++)
        sum += budget_used(b, (enum budget_use)use);
    return sum;
}

unsigned budget_pressure(const struct budget *b, enum budget_use use)
{
    size_t used = budget_used(b, use), share = b->share[use], inside = used_inside(b, use), percent;

    if (__builtin_add_overflow(used, inside, &used))
        return UINT_MAX;
    if (share == 0)
        return used == 0 ? 0 : UINT_MAX;
    /* Large counts lose less than a percent by dividing first. */
    percent = used > SIZE_MAX / 100 ? used / (share / 100 + 1) : used * 100 / share;
    return percent > UINT_MAX ? UINT_MAX : (unsigned)percent;
}

const char *budget_use_name(enum budget_use use)
{
    static const char *const names[BUDGET_USES] = {
        [BUDGET_CACHE] = "cache",     [BUDGET_MEMTABLE] = "memtable", [BUDGET_QUEUE] = "queue",
        [BUDGET_REQUEST] = "request", [BUDGET_TREE] = "tree",         [BUDGET_OTHER] = "other",
    };

    return (unsigned)use < BUDGET_USES ? names[use] : "unknown";
}
