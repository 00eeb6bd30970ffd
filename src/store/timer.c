/* A list of armed timers, short enough (a few per busy database) to be searched for the earliest.
 *
 * If no thread can be started, timers fire when the next one is armed: nothing that correctness needs hangs on them alone, since
 * every submission drives its database too. */
#include "store/timer.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { IDLE_MS = 1000 };

struct timers {
    const struct env *env;
    pthread_mutex_t lock;   /* guards all below */
    pthread_cond_t changed; /* an earlier deadline, or closing */
    pthread_cond_t fired;   /* a callback ended, or the thread did */
    struct timer *armed;
    struct timer *running;
    bool has_thread, must_join, is_closing;
    pthread_t thread;
};

enum status timers_create(const struct env *env, struct timers **out, struct err *err)
{
    struct timers *ts = calloc(1, sizeof *ts);
    pthread_condattr_t attr;

    *out = NULL;
    if (ts == NULL)
        return err_set(err, ST_NOMEM, 0, "creating timers");
    ts->env = env;
    pthread_mutex_init(&ts->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ts->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&ts->fired, NULL);
    *out = ts;
    return ST_OK;
}

static void unlink_timer(struct timers *ts, struct timer *t)
{
    struct timer **at = &ts->armed;

    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    t->next = NULL;
    t->is_armed = false;
}

static struct timer *earliest(const struct timers *ts)
{
    struct timer *best = ts->armed;

    for (struct timer *t = ts->armed; t != NULL; t = t->next)
        if (t->at_ns < best->at_ns)
            best = t;
    return best;
}

/* Waits on changed for at most wait_ns of real time; the deadline itself is asked of the environment's clock again afterwards. */
static bool wait_ns(struct timers *ts, uint64_t ns)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec += (long)(ns % 1000000000);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return pthread_cond_timedwait(&ts->changed, &ts->lock, &until) == 0;
}

static void fire(struct timers *ts, struct timer *t)
{
    unlink_timer(ts, t);
    ts->running = t;
    pthread_mutex_unlock(&ts->lock);
    t->fire(t);
    pthread_mutex_lock(&ts->lock);
    ts->running = NULL;
    pthread_cond_broadcast(&ts->fired);
}

static void *timers_run(void *ctx)
{
    struct timers *ts = ctx;
    bool was_idle = false;

    pthread_mutex_lock(&ts->lock);
    while (!ts->is_closing) {
        struct timer *t = earliest(ts);
        uint64_t now = env_mono_ns(ts->env);

        if (t != NULL && t->at_ns <= now) {
            was_idle = false;
            fire(ts, t);
        } else if (t != NULL) {
            uint64_t left = t->at_ns - now;

            was_idle = false;
            wait_ns(ts, left < 1000000000 ? left : 1000000000);
        } else if (was_idle) {
            break;
        } else {
            was_idle = !wait_ns(ts, (uint64_t)IDLE_MS * 1000000);
        }
    }
    ts->has_thread = false;
    pthread_cond_broadcast(&ts->fired);
    pthread_mutex_unlock(&ts->lock);
    return NULL;
}

/* Under the lock. An ended thread is joined before the next one starts, so that at most one is ever unjoined. */
static void thread_ensure(struct timers *ts)
{
    if (ts->has_thread || ts->is_closing)
        return;
    if (ts->must_join)
        pthread_join(ts->thread, NULL); /* it has left the lock for good */
    ts->must_join = false;
    if (pthread_create(&ts->thread, NULL, timers_run, ts) != 0)
        return;
    ts->has_thread = true;
    ts->must_join = true;
}

uint64_t alarm_arm(struct timers *ts, struct timer *t, uint64_t at_ns)
{
    pthread_mutex_lock(&ts->lock);
    if (t->is_armed && t->at_ns <= at_ns) {
        at_ns = t->at_ns;
        goto done;
    }
    t->at_ns = at_ns;
    if (!t->is_armed) {
        t->is_armed = true;
        t->next = ts->armed;
        ts->armed = t;
    }
    thread_ensure(ts);
    pthread_cond_signal(&ts->changed);
done:
    pthread_mutex_unlock(&ts->lock);
    return at_ns;
}

void alarm_cancel(struct timers *ts, struct timer *t)
{
    pthread_mutex_lock(&ts->lock);
    for (;;) {
        if (t->is_armed)
            unlink_timer(ts, t);
        if (ts->running != t)
            break;
        pthread_cond_wait(&ts->fired, &ts->lock);
    }
    pthread_mutex_unlock(&ts->lock);
}

void timers_destroy(struct timers *ts)
{
    if (ts == NULL)
        return;
    pthread_mutex_lock(&ts->lock);
    assert(ts->armed == NULL);
    ts->is_closing = true;
    pthread_cond_broadcast(&ts->changed);
    pthread_mutex_unlock(&ts->lock);
    if (ts->must_join)
        pthread_join(ts->thread, NULL);
    pthread_cond_destroy(&ts->fired);
    pthread_cond_destroy(&ts->changed);
    pthread_mutex_destroy(&ts->lock);
    free(ts);
}
