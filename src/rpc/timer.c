/* Timers of one reactor; see timer.h. heap[0] is the earliest; children of i are 2i + 1 and 2i + 2. */
#include "rpc/timer.h"

#include <assert.h>
#include <stdlib.h>

bool timers_take_slot(struct timers *t)
{
    if (t->slots == t->room) {
        size_t room = t->room == 0 ? 64 : t->room * 2;
        struct timer **heap;

        if (room > SIZE_MAX / sizeof(*heap) || (heap = realloc(t->heap, room * sizeof(*heap))) == NULL)
            return false;
        t->heap = heap;
        t->room = room;
    }
    t->slots++;
    return true;
}

void timers_drop_slot(struct timers *t)
{
    assert(t->slots > 0 && t->count < t->slots);
    t->slots--;
}

static void place(struct timers *t, size_t i, struct timer *timer)
{
    t->heap[i] = timer;
    timer->position = i + 1;
}

static void sift_up(struct timers *t, size_t i, struct timer *timer)
{
    while (i > 0 && t->heap[(i - 1) / 2]->at_ns > timer->at_ns) {
        place(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(t, i, timer);
}

static void sift_down(struct timers *t, size_t i, struct timer *timer)
{
    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= t->count)
            break;
        if (child + 1 < t->count && t->heap[child + 1]->at_ns < t->heap[child]->at_ns)
            child++;
        if (t->heap[child]->at_ns >= timer->at_ns)
            break;
        place(t, i, t->heap[child]);
        i = child;
    }
    place(t, i, timer);
}

void timer_disarm(struct timers *t, struct timer *timer)
{
    struct timer *last;
    size_t i;

    if (timer->position == 0)
        return;
    i = timer->position - 1;
    assert(i < t->count && t->heap[i] == timer);
    timer->position = 0;
    last = t->heap[--t->count];
    if (last == timer)
        return;
    if (i > 0 && t->heap[(i - 1) / 2]->at_ns > last->at_ns)
        sift_up(t, i, last);
    else
        sift_down(t, i, last);
}

void timer_arm(struct timers *t, struct timer *timer, uint64_t at_ns)
{
    timer_disarm(t, timer);
    assert(t->count < t->slots);
    timer->at_ns = at_ns;
    sift_up(t, t->count++, timer);
}

uint64_t timers_next_ns(const struct timers *t) { return t->count == 0 ? UINT64_MAX : t->heap[0]->at_ns; }

void timers_run(struct timers *t, uint64_t now_ns)
{
    /* The bound keeps a timer that is armed again for the past from holding the loop. */
    for (size_t left = t->count; left > 0 && t->count > 0 && t->heap[0]->at_ns <= now_ns; left--) {
        struct timer *timer = t->heap[0];

        timer_disarm(t, timer);
        timer->fire(timer);
    }
}

void timers_free(struct timers *t)
{
    assert(t->count == 0 && t->slots == 0);
    free(t->heap);
    *t = (struct timers){0};
}
