/* Commit is a role, not a thread: whoever finds the database idle takes it and drives the queue.
 *
 *   submit: push the draft on the inbox (a lock-free stack), then try to take the role; whoever fails leaves the draft to its holder
 *   holder: empties the inbox into the waiting list, runs batches (batch.c), and lets go only when the inbox is seen empty afterwards
 *
 *      free --take (CAS)--> held --give back--> free, then look at the inbox again: a draft pushed in between is ours or its pusher's
 *      held --pass--> held: handed to a blocked thread whose draft waits (WAITER_DRIVES), or to a pool thread; no gap
 *
 * A blocked thread spins for less than an asynchronous commit takes, so that more drafts join the next batch, lets others run (the role's holder may
 * have lost its CPU), then sleeps on one futex of the store; one wake per batch wakes all that sleep. A thread drives at most ROLE_BATCHES_MAX batches or
 * ROLE_NS_MAX for others once its own draft is done. A blocked thread's draft is freed by itself: docs/design/005-commit-and-merge-speed.md. */
#include "store/store_internal.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS_ASYNC = 20, YIELDS_ASYNC = 3, PASS_SEARCH_MAX = 64, WAKE_BYTES = 64 << 10 };

static void futex_wait(_Atomic uint32_t *word, uint32_t seen) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0); }
static void futex_wake_all(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Whoever was marked done or driving before this call is awake after it. */
void role_wake_sleepers(struct store *s)
{
    atomic_fetch_add(&s->wake_epoch, 1);
    if (atomic_load(&s->sleepers) > 0)
        futex_wake_all(&s->wake_epoch);
}

static bool role_take(struct store *s)
{
    uint32_t is_free = 0;

    return atomic_compare_exchange_strong(&s->role, &is_free, 1);
}

static void inbox_empty(struct store *s)
{
    struct store_draft *newest = atomic_exchange(&s->inbox, NULL), *oldest = NULL;

    while (newest != NULL) {
        struct store_draft *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct store_draft *next = oldest->next;

        list_push(&s->c.waiting, oldest);
        oldest = next;
    }
}

/* True when the role was given back; false: there is something to do, and it is still ours. */
static bool role_give_back(struct store *s)
{
    atomic_store(&s->role, 0);
    if (atomic_load(&s->inbox) == NULL && atomic_load(&s->kicked) == 0)
        return true;
    return !role_take(s);
}

static void drive_on_pool(struct store *s)
{
    store_use(s); /* until drive_run() ends */
    pool_submit(s->runtime->sync_pool, &s->drive_job);
}

/* Wakes those whose drafts were completed since the last time. */
static void wake_completed(struct store *s)
{
    if (atomic_load_explicit(&s->wake_wanted, memory_order_relaxed) && atomic_exchange(&s->wake_wanted, false))
        role_wake_sleepers(s);
}

static struct waiter *waiter_find(struct store *s)
{
    int searched = 0;

    for (struct store_draft *d = s->c.waiting.first; d != NULL && searched < PASS_SEARCH_MAX; d = d->next, searched++)
        if (d->waiter != NULL)
            return d->waiter;
    return NULL;
}

/* Hands the role to somebody whose draft waits, else to the pool. An asynchronous store gives it back instead: among many threads whoever
 * runs just now takes it, while a sleeper would need to be scheduled first and everybody would pile up behind him. */
static void role_pass(struct store *s)
{
    struct waiter *w = waiter_find(s);

    if (w == NULL) {
        drive_on_pool(s);
    } else if (s->o.durability == STORE_ASYNC) {
        atomic_store(&s->has_waiting, true);
        atomic_store(&s->role, 0);
        role_wake_sleepers(s); /* one of them takes it if nobody else does */
    } else {
        atomic_store_explicit(&w->state, WAITER_DRIVES, memory_order_release);
        role_wake_sleepers(s);
    }
}

static bool self_is_done(const struct waiter *self)
{
    return self != NULL && atomic_load_explicit(&self->state, memory_order_acquire) == WAITER_DONE;
}

/* The role is ours: batches until the queue is dry or it was handed on. Sleepers are woken at once where the next batch takes long, so that they
 * prepare what comes after it (a sync follows, or transactions are large), else after the role was let go: a woken thread may push this one off the
 * CPU, and nobody gets on while the role's holder does not run. */
static void role_drive(struct store *s, struct waiter *self, bool is_pool)
{
    unsigned batches = 0;
    uint64_t others_since_ns = 0;

    atomic_store(&s->has_waiting, false);
    for (;;) {
        bool is_dry;

        atomic_store(&s->kicked, 0);
        inbox_empty(s);
        is_dry = !batch_run(s);
        if (s->o.durability != STORE_ASYNC || s->c.batch_bytes >= WAKE_BYTES)
            wake_completed(s);
        if (is_dry) {
            batch_dry(s);
            if (role_give_back(s))
                break;
            continue;
        }
        batches++;
        if (is_pool && batches >= POOL_BATCHES_MAX) {
            drive_on_pool(s);
            break;
        }
        if (is_pool || (self != NULL && !self_is_done(self)))
            continue;
        /* From here on the work is for others. */
        if (others_since_ns == 0) {
            others_since_ns = batch_clock(s);
            batches = 0;
        }
        inbox_empty(s);
        if (s->c.waiting.first != NULL && (batches >= ROLE_BATCHES_MAX || batch_clock(s) - others_since_ns > ROLE_NS_MAX)) {
            role_pass(s);
            break;
        }
    }
    wake_completed(s);
}

void role_drive_job(struct pool_job *job)
{
    struct store *s = (struct store *)((char *)job - offsetof(struct store, drive_job));

    role_drive(s, NULL, true);
    store_unuse(s);
}

void draft_enqueue(struct store *s, struct store_draft *d)
{
    struct store_draft *head = atomic_load_explicit(&s->inbox, memory_order_relaxed);

    do
        d->next = head;
    while (!atomic_compare_exchange_weak(&s->inbox, &head, d));
}

void role_submit(struct store *s, struct store_draft *d, enum store_drive drive)
{
    store_use(s);
    draft_enqueue(s, d);
    if (role_take(s)) {
        if (drive == STORE_DRIVE_POOL)
            drive_on_pool(s);
        else
            role_drive(s, NULL, false);
    }
    store_unuse(s);
}

void role_kick(struct store *s)
{
    store_use(s);
    atomic_store(&s->kicked, 1);
    if (role_take(s))
        drive_on_pool(s);
    store_unuse(s);
}

void role_look_around(struct store *s)
{
    atomic_store(&s->kicked, 1);
    if (role_take(s))
        role_drive(s, NULL, true);
}

static void result_finish(const struct store_draft *d, enum status st, struct store_result *r)
{
    r->status = st;
    r->err.status = st;
    if (st == ST_OK) {
        r->header = d->header;
        r->alh = d->alh;
    } else {
        memset(&r->header, 0, sizeof r->header);
        memset(&r->alh, 0, sizeof r->alh);
    }
}

/* The blocked thread reads the rest from its draft and frees it: less for the role's holder to do, and memory goes back where it came from. */
static void waiter_done(struct waiter *w, enum status st, const struct err *err)
{
    w->result->status = st;
    if (st != ST_OK && err != NULL)
        w->result->err = *err;
    /* The last touch: thread, waiter and draft may be gone right after it. */
    atomic_store_explicit(&w->state, WAITER_DONE, memory_order_release);
}

void role_submit_wait(struct store *s, struct store_draft *d, struct store_result *out)
{
    struct waiter self = {WAITER_WAITS, out};
    int spins = s->o.durability == STORE_ASYNC && !d->wait_durable ? SPINS_ASYNC + YIELDS_ASYNC : 0;

    out->err.text[0] = '\0';
    out->err.os_errno = 0;
    d->waiter = &self;
    draft_enqueue(s, d);
    if (role_take(s))
        role_drive(s, &self, false);
    for (;;) {
        uint32_t epoch = atomic_load(&s->wake_epoch), state = atomic_load_explicit(&self.state, memory_order_acquire);

        if (state == WAITER_DONE)
            break;
        if (state == WAITER_DRIVES) {
            atomic_store_explicit(&self.state, WAITER_WAITS, memory_order_relaxed);
            role_drive(s, &self, false);
        } else if (atomic_load(&s->has_waiting) && role_take(s)) {
            role_drive(s, &self, false);
        } else if (spins > YIELDS_ASYNC) {
            spins--;
            cpu_relax();
        } else if (spins > 0) {
            spins--;
            sched_yield();
        } else {
            atomic_fetch_add(&s->sleepers, 1);
            futex_wait(&s->wake_epoch, epoch);
            atomic_fetch_sub(&s->sleepers, 1);
        }
    }
    result_finish(d, out->status, out);
    draft_free(d);
}

/* Gives the result to whoever waits for it; the draft is freed here or by the thread that is blocked in it. Sleepers are woken once per batch,
 * by the caller. */
void draft_complete(struct store_draft *d, enum status st, const struct err *err)
{
    struct store *s = d->store;
    struct store_result r;

    if (d->is_submitted)
        queue_leave(s, d);
    if (d->waiter != NULL) {
        /* In this order: whoever takes wake_wanted back, be it without the role, wakes a thread that finds its draft done. The store outlives this: its
         * driver uses it. */
        waiter_done(d->waiter, st, err);
        atomic_store(&s->wake_wanted, true);
        return;
    }
    r.err.os_errno = 0;
    r.err.text[0] = '\0';
    if (st != ST_OK && err != NULL)
        r.err = *err;
    result_finish(d, st, &r);
    d->done(d->done_ctx, d, &r);
    draft_free(d);
}

/* Drafts that nobody can finish any more: of txs that wait for an allowance. */
static uint64_t pending_drafts(const struct store *s)
{
    uint64_t count = 0;

    for (uint64_t id = s->c.applied_tx + 1; id <= s->c.ordered_tx; id++)
        count += pending_at(s, id)->draft != NULL;
    return count;
}

bool role_take_dry(struct store *s, bool is_forced)
{
    const struct committer *c = &s->c;

    if (!role_take(s))
        return false;
    if (is_forced)
        return true;
    if (atomic_load(&s->queue_length) == pending_drafts(s) && !c->apply_failed && (c->unsynced_since_ns == 0 || atomic_load(&s->is_failed)))
        return true;
    atomic_store(&s->role, 0);
    return false;
}
