/* Committing: blocking, with a callback, with a ticket.
 *
 * The tx, whose memory the draft borrows, lives until the commit is done: in the blocking form until the call ends, otherwise until the callback returned.
 * A durable database is driven by the runtime's threads, so that submitting never waits for the disk; an asynchronous one by the submitter.
 *
 * A ticket has two owners, the caller and the commit; the last one frees it. Its state: pending -> done, or pending -> awaited -> done, where somebody sleeps. */
#include "api/api_internal.h"

#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void result_out(const struct store_result *r, immudb_committed *out)
{
    immudb_committed_init(out);
    out->tx_id = r->header.id;
    out->ts = r->header.ts;
    out->alh = hash_out(&r->alh);
}

/* --- the draft gets what the tx has gathered --- */
static enum status fill_reads(immudb_tx *tx, struct err *err)
{
    uint64_t read_tx_id;
    enum status st = ST_OK;

    if (tx->view == NULL)
        return ST_OK;
    read_tx_id = store_snapshot_tx(tx->view);
    for (uint32_t i = 0; i < tx->item_count && st == ST_OK; i++)
        if (tx->items[i].is_read)
            st = draft_read_point(tx->draft, tx->items[i].key, read_tx_id, err);
    for (const struct tx_range *r = tx->ranges; r != NULL && st == ST_OK; r = r->next)
        st = draft_read_range(tx->draft, r->first, r->last, read_tx_id, err);
    return st;
}

static enum status fill_draft(immudb_tx *tx, struct err *err)
{
    enum status st;

    if (tx->draft == NULL)
        return err_set(err, ST_READ_ONLY, 0, "a read-only transaction has nothing to commit");
    if ((st = cursors_detach(tx, err)) != ST_OK)
        return st;
    for (uint32_t i = 0; i < tx->write_count && st == ST_OK; i++) {
        const struct tx_item *item = &tx->items[tx->writes[i]];

        st = draft_set(tx->draft, item->key, &item->md, item->value, err);
    }
    if (st == ST_OK)
        st = fill_reads(tx, err);
    if (st == ST_OK && tx->timeout_ms != 0)
        draft_set_deadline(tx->draft, deadline_after_ms(tx->db, tx->timeout_ms));
    return st;
}

/* The draft is filled and the view not needed any more; what follows is the store's. */
static struct store_draft *tx_hand_over(immudb_tx *tx)
{
    struct store_draft *d = tx->draft;

    store_snapshot_close(tx->view);
    tx->view = NULL;
    tx->draft = NULL;
    return d;
}

immudb_status immudb_tx_commit(immudb_tx *tx, immudb_committed *committed, immudb_error *error)
{
    struct store_result r;
    immudb_committed c;
    struct err err;
    enum status st;

    if (tx == NULL)
        return api_result(api_null(&err, "tx"), &err, error);
    if ((st = sized_out_begin(committed, true, "immudb_committed", &err)) == ST_OK && (st = fill_draft(tx, &err)) == ST_OK)
        st = store_commit(tx->db->store, tx_hand_over(tx), tx->wait_durable, &r, &err);
    immudb_tx_cancel(tx);
    if (st == ST_OK && committed != NULL) {
        result_out(&r, &c);
        sized_out(committed, &c, sizeof c);
    }
    return api_result(st, &err, error);
}

/* --- without blocking --- */
static void tx_report(immudb_tx *tx, enum status st, const struct err *why, const struct store_result *r)
{
    immudb_commit_fn fn = tx->fn;
    void *ctx = tx->fn_ctx;
    immudb_committed c;
    immudb_error e;

    tx_free(tx);
    if (st == ST_OK) {
        result_out(r, &c);
        fn(ctx, IMMUDB_OK, &c, NULL);
    } else {
        api_error_fill(st, why, &e);
        fn(ctx, e.status, NULL, &e);
    }
}

static void commit_done(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    (void)d;
    tx_report(ctx, r->status, &r->err, r);
}

/* From here on the tx is no handle any more. */
static void tx_submit(immudb_tx *tx, immudb_commit_fn fn, void *ctx)
{
    immudb_db *db = tx->db;
    enum store_drive drive = db->is_async && !tx->wait_durable ? STORE_DRIVE_INLINE : STORE_DRIVE_POOL;
    struct err err;
    enum status st = fill_draft(tx, &err);

    tx->fn = fn;
    tx->fn_ctx = ctx;
    if (st != ST_OK) {
        (void)cursors_detach(tx, NULL);
        tx_report(tx, st, &err, NULL);
        atomic_fetch_sub(&db->handles, 1);
        return;
    }
    atomic_fetch_sub(&db->handles, 1);
    store_submit(db->store, tx_hand_over(tx), tx->wait_durable, drive, commit_done, tx);
}

void immudb_tx_commit_async(immudb_tx *tx, immudb_commit_fn fn, void *ctx)
{
    struct err err;
    immudb_error e;

    if (tx != NULL && fn != NULL) {
        tx_submit(tx, fn, ctx);
        return;
    }
    immudb_tx_cancel(tx);
    if (fn != NULL) {
        api_error_fill(api_null(&err, "tx"), &err, &e);
        fn(ctx, e.status, NULL, &e);
    }
}

/* --- tickets --- */
enum { TICKET_PENDING = 0, TICKET_AWAITED, TICKET_DONE };
struct immudb_ticket {
    _Atomic uint32_t state, refs;
    immudb_status status; /* below: valid once done */
    immudb_committed committed;
    immudb_error err;
};

static void ticket_unref(immudb_ticket *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        free(t);
}

static void ticket_done(void *ctx, immudb_status status, const immudb_committed *c, const immudb_error *e)
{
    immudb_ticket *t = ctx;

    t->status = status;
    if (status == IMMUDB_OK)
        t->committed = *c;
    else
        t->err = *e;
    if (atomic_exchange(&t->state, TICKET_DONE) == TICKET_AWAITED)
        syscall(SYS_futex, &t->state, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
    ticket_unref(t);
}

immudb_status immudb_tx_commit_ticket(immudb_tx *tx, immudb_ticket **out, immudb_error *error)
{
    struct err err;
    immudb_ticket *t;

    if (out != NULL)
        *out = NULL;
    if (tx == NULL || out == NULL) {
        immudb_tx_cancel(tx);
        return api_result(api_null(&err, tx == NULL ? "tx" : "out"), &err, error);
    }
    if ((t = malloc(sizeof *t)) == NULL) {
        immudb_tx_cancel(tx);
        return api_result(err_set(&err, ST_NOMEM, 0, "a ticket"), &err, error);
    }
    atomic_init(&t->state, TICKET_PENDING);
    atomic_init(&t->refs, 2);
    *out = t;
    tx_submit(tx, ticket_done, t);
    return api_result(ST_OK, NULL, error);
}

/* false: the time is over. */
static bool ticket_sleep(immudb_ticket *t, uint64_t deadline_ns)
{
    uint64_t now_ns = env_mono_ns(env_system()), left_ns = 1000000000;
    uint32_t pending = TICKET_PENDING;
    struct timespec left;

    if (deadline_ns != 0 && deadline_ns <= now_ns)
        return false;
    if (deadline_ns != 0 && deadline_ns - now_ns < left_ns)
        left_ns = deadline_ns - now_ns;
    left = (struct timespec){(time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000)};
    atomic_compare_exchange_strong(&t->state, &pending, TICKET_AWAITED);
    syscall(SYS_futex, &t->state, FUTEX_WAIT_PRIVATE, TICKET_AWAITED, &left, NULL, 0);
    return true;
}

immudb_status immudb_ticket_wait(immudb_ticket *t, uint64_t timeout_ms, immudb_committed *committed, immudb_error *error)
{
    struct err err;
    immudb_committed c;
    uint64_t ns, deadline_ns = 0;
    enum status st = t == NULL ? api_null(&err, "ticket") : sized_out_begin(committed, true, "immudb_committed", &err);

    if (st != ST_OK)
        return api_result(st, &err, error);
    if (timeout_ms != IMMUDB_FOREVER && atomic_load_explicit(&t->state, memory_order_acquire) != TICKET_DONE &&
        (__builtin_mul_overflow(timeout_ms, 1000000u, &ns) || __builtin_add_overflow(env_mono_ns(env_system()), ns, &deadline_ns)))
        deadline_ns = 0;
    while (atomic_load_explicit(&t->state, memory_order_acquire) != TICKET_DONE)
        if (timeout_ms == 0 || !ticket_sleep(t, deadline_ns))
            return api_result(err_set(&err, ST_BUSY, 0, "the commit is under way"), &err, error);
    if (t->status != IMMUDB_OK) {
        if (error != NULL)
            *error = t->err;
        return t->status;
    }
    c = t->committed;
    sized_out(committed, &c, sizeof c);
    return api_result(ST_OK, NULL, error);
}

void immudb_ticket_free(immudb_ticket *t)
{
    if (t != NULL)
        ticket_unref(t);
}
