/* Deadlines of all databases of a process on one thread, which exists only while something is armed.
 *
 * Used for what nobody's thread is waiting for: the background sync of an asynchronous database, the next attempt after a full disk,
 * drafts that wait for a predecessor. Callbacks run on the timer thread and must only hand work on.
 *
 * Lock: 60 runtime.timers, a leaf; not held while a callback runs. */
#ifndef STORE_TIMER_H
#define STORE_TIMER_H

#include <pthread.h>

#include "base/env.h"

struct timer {
    void (*fire)(struct timer *t); /* set once by the owner */
    struct timer *next;            /* the rest belongs to the timers */
    uint64_t at_ns;
    bool is_armed;
};

struct timers;
MUST_USE enum status timers_create(const struct env *env, struct timers **out, struct err *err);
void timers_destroy(struct timers *ts); /* nothing may be armed; NULL allowed */
/* Arms t for at_ns (env_mono_ns); an earlier time than the one it is armed for wins, a later one is ignored. Returns the time it is armed for then:
 * one that is over already may be about to fire, and is not armed again by itself. */
uint64_t alarm_arm(struct timers *ts, struct timer *t, uint64_t at_ns);
/* Disarms, and waits for a callback of t that is running. Not from a callback. */
void alarm_cancel(struct timers *ts, struct timer *t);

#endif
