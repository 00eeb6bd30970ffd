/* Grace periods: when may memory be freed that readers could still look at without holding a lock?
 *
 * Readers are counted in one of two phases. What is taken out of use goes to the list `fresh`; a turn of the phase moves
 * it to `waiting`. Readers that began before the turn are counted in the old phase: once it is empty nobody can know of
 * anything in `waiting`, and the next turn is possible. A reader counts itself, then looks whether the phase is still the
 * one it used: if so, every turn later in the total order of these operations sees the count.
 *
 * Counters are spread over shards by thread, so that readers do not pass one cache line around. */
#include "merkle/merkle_internal.h"

#include <assert.h>

static unsigned shard_of_thread(void)
{
    uint64_t x = (uint64_t)(uintptr_t)pthread_self();

    return (unsigned)((x >> 12) * 0x9e3779b97f4a7c15u >> 61);
}

static_assert(GRACE_SHARDS == 1 << 3, "three bits of the thread's hash");

struct grace_ticket grace_enter(struct grace *g)
{
    struct grace_ticket ticket = {shard_of_thread(), 0};

    /* Turns are rare (one for a page of 256 leaves at most), so a second round is an exception. */
    for (;;) {
        ticket.phase = atomic_load(&g->phase);
        atomic_fetch_add(&g->shards[ticket.shard].active[ticket.phase], 1);
        if (atomic_load(&g->phase) == ticket.phase)
            return ticket;
        atomic_fetch_sub(&g->shards[ticket.shard].active[ticket.phase], 1);
    }
}

void grace_leave(struct grace *g, struct grace_ticket ticket) { atomic_fetch_sub(&g->shards[ticket.shard].active[ticket.phase], 1); }

void grace_retire(struct grace *g, struct retired *r)
{
    r->next = g->fresh;
    g->fresh = r;
}

static bool phase_is_empty(struct grace *g, unsigned phase)
{
    for (unsigned i = 0; i < GRACE_SHARDS; i++)
        if (atomic_load(&g->shards[i].active[phase]) != 0)
            return false;
    return true;
}

struct retired *grace_collect(struct grace *g)
{
    struct retired *done = NULL, **end = &done;

    /* Twice: without readers, what was retired just now goes at once. */
    for (unsigned round = 0; round < 2; round++) {
        unsigned phase = atomic_load(&g->phase);

        if (!phase_is_empty(g, 1 - phase))
            break;
        *end = g->waiting;
        while (*end != NULL)
            end = &(*end)->next;
        g->waiting = g->fresh;
        g->fresh = NULL;
        if (g->waiting == NULL)
            break;
        atomic_store(&g->phase, 1 - phase);
    }
    return done;
}
