/* The public way in: drafts are prepared on the caller's thread and handed to the committer role. */
#include "store/store_internal.h"

#include <assert.h>

enum { QUEUE_SMALL_BYTES = 64 << 10 };

/* Large drafts and small ones fill the queue apart from each other, so that one value of 32 MiB does not turn away everybody's small writes, nor they it.
 * The draft that crosses the limit is let in: one of any size gets its turn. */
static enum status queue_enter(struct store *s, struct store_draft *d, struct err *err)
{
    uint64_t large = atomic_load_explicit(&s->queue_large_bytes, memory_order_relaxed);
    uint64_t all = atomic_load_explicit(&s->queue_bytes, memory_order_relaxed);
    bool is_large = d->budget_bytes > QUEUE_SMALL_BYTES;
    enum status st;

    if (atomic_load_explicit(&s->is_out_of_space, memory_order_relaxed) && (st = space_enter(s, d, err)) != ST_OK)
        return st;
    if (!d->is_internal && (is_large ? large : all - (large < all ? large : all)) >= s->queue_bytes_max)
        return err_set(err, ST_NOMEM, 0, "commit queue of %zu bytes is full, try again later", s->queue_bytes_max);
    d->queued_bytes = d->budget_bytes;
    atomic_fetch_add(&s->queue_length, 1); /* before is_closing is looked at */
    atomic_fetch_add_explicit(&s->queue_bytes, d->queued_bytes, memory_order_relaxed);
    if (is_large)
        atomic_fetch_add_explicit(&s->queue_large_bytes, d->queued_bytes, memory_order_relaxed);
    /* Closing sets is_closing, then takes the role for good once the queue is empty: one of the two sees the other. */
    if (atomic_load(&s->is_closing)) {
        queue_leave(s, d);
        return err_set(err, ST_CLOSED, 0, "already closed");
    }
    d->is_submitted = true;
    return ST_OK;
}

void queue_leave(struct store *s, const struct store_draft *d)
{
    atomic_fetch_sub_explicit(&s->queue_length, 1, memory_order_relaxed);
    if (d->queued_bytes > QUEUE_SMALL_BYTES)
        atomic_fetch_sub_explicit(&s->queue_large_bytes, d->queued_bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&s->queue_bytes, d->queued_bytes, memory_order_relaxed);
}

/* Everything that can be refused or computed before the order is known. The store's closing is seen here first. */
static enum status submit_prepare(struct store *s, struct store_draft *d, struct err *err)
{
    enum status st;

    if (atomic_load_explicit(&s->is_closing, memory_order_relaxed))
        return err_set(err, ST_CLOSED, 0, "already closed");
    if ((st = store_writable(s, err)) != ST_OK)
        return st;
    if (d->kind == DRAFT_TX && (st = draft_prepare(d, err)) != ST_OK)
        return st;
    return queue_enter(s, d, err);
}

void store_submit(struct store *s, struct store_draft *d, bool wait_durable, enum store_drive drive, store_done done, void *ctx)
{
    struct err err;
    enum status st;

    store_use(s);
    d->wait_durable = wait_durable;
    d->done = done;
    d->done_ctx = ctx;
    st = submit_prepare(s, d, &err);
    if (st == ST_OK && draft_has_conditions(d))
        st = conditions_look_up(d, drive == STORE_DRIVE_POOL, &err);
    if (st == ST_OK)
        role_submit(s, d, drive);
    else if (st == ST_AGAIN)
        conditions_on_worker(d);
    else
        draft_complete(d, st, &err);
    store_unuse(s);
}

enum status draft_commit(struct store *s, struct store_draft *d, struct store_result *out, struct err *err)
{
    enum status st;

    store_use(s);
    st = submit_prepare(s, d, err);
    if (st == ST_OK && draft_has_conditions(d)) {
        st = conditions_look_up(d, false, err);
        if (st != ST_OK)
            queue_leave(s, d);
    }
    if (st != ST_OK) {
        draft_free(d);
        memset(out, 0, sizeof *out);
        out->status = st;
        if (err != NULL)
            out->err = *err;
    } else {
        role_submit_wait(s, d, out);
        st = out->status;
        if (st != ST_OK && err != NULL)
            *err = out->err;
    }
    store_unuse(s);
    return st;
}

enum status store_commit(struct store *s, struct store_draft *d, bool wait_durable, struct store_result *out, struct err *err)
{
    assert(d->kind == DRAFT_TX);
    d->wait_durable = wait_durable;
    return draft_commit(s, d, out, err);
}
