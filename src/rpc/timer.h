/* Timers of one reactor: a binary heap of intrusive entries.
 *
 * Whoever owns a timer first takes a slot (may fail); arming never fails then. Objects whose time moves often (idle
 * connections) leave an early entry in place and look at their own clock when it fires, so that activity costs nothing.
 * One thread. */
#ifndef RPC_TIMER_H
#define RPC_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    uint64_t at_ns;
    size_t position; /* in the heap, counted from 1; 0 = not armed */
    void (*fire)(struct timer *timer);
};

struct timers {
    struct timer **heap;
    size_t count, room, slots;
};

bool timers_take_slot(struct timers *t);
void timers_drop_slot(struct timers *t);
/* Arms, or moves when armed already. */
void timer_arm(struct timers *t, struct timer *timer, uint64_t at_ns);
void timer_disarm(struct timers *t, struct timer *timer);
/* Time of the earliest, UINT64_MAX when none is armed. */
uint64_t timers_next_ns(const struct timers *t);
/* Fires everything due at now_ns. A timer is disarmed before its function is called, which may arm it again, for later. */
void timers_run(struct timers *t, uint64_t now_ns);
void timers_free(struct timers *t);

#endif
