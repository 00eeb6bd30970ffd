/* Get, GetAll, Scan, ZScan, History, Count. */
#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"
#include "handlers/rope.h"

/* What the reading of one entry of a list needs; gone before the next, so that a list costs its answer and one entry. */
#define SCRATCH_BYTES 16384u

static void scratch_begin(struct arena *scratch, const struct request *rq, struct kv_reader *r)
{
    arena_init(scratch, SCRATCH_BYTES, rq->arena->bytes_max);
    arena_set_meter(scratch, rq->arena->meter, 0);
    r->arena = scratch;
    kv_leave_large(rq, r);
}

static void scratch_next(struct arena *scratch, struct kv_reader *r)
{
    if (scratch->chunks == NULL) /* most entries are borrowed from the cache */
        return;
    kv_reader_unpin(r);
    arena_reset(scratch);
}

/* ------------------------------------------------------------ point reads */

static enum status get_attempt(struct request *rq, bool nowait)
{
    const Immudb__Schema__KeyRequest *m = rq->message;
    struct kv_get_options o;
    struct kv_reader r;
    struct kv_entry e;
    enum status st;
    struct pb w;

    kv_get_options_of(rq, m, nowait, &o);
    kv_reader_init(&r, rq->store, rq->arena, rq->now_s, nowait);
    kv_leave_large(rq, &r);
    if ((st = kv_get(&r, &o, &e, &rq->err)) == ST_OK) {
        pb_init(&w, rq->arena, wire_entry_size(&e) - wire_entry_far(&e));
        wire_entry(&w, &e);
    }
    kv_reader_close(&r);
    if (st != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    kv_reply(rq, &w);
    return ST_OK;
}
KV_READ_HANDLER(handle_get, get_attempt)

#define KEYS_PINNED_MIN 4u /* fewer are not worth the memory */

static enum status get_all(struct request *rq, struct kv_reader *r, struct pb_list *list)
{
    const Immudb__Schema__KeyListRequest *m = rq->message;
    struct arena scratch;
    struct kv_entry e;
    enum status st = ST_OK;

    pb_list_init(list, rq->arena, m->n_keys * 96);
    scratch_begin(&scratch, rq, r);
    for (size_t i = 0; i < m->n_keys && !list->failed; i++) {
        if (m->keys[i].len == 0)
            continue;
        if ((st = kv_get_latest(r, bytes_pb(m->keys[i]), &e, &rq->err)) == ST_OK)
            wire_list_entry(list, &e);
        else if (st != ST_NOT_FOUND)
            break;
        st = ST_OK;
        scratch_next(&scratch, r);
    }
    kv_reader_unpin(r);
    arena_free(&scratch);
    return st;
}

static void list_reply(struct request *rq, enum status st, struct pb_list *list)
{
    struct rope message;

    if (st == ST_OK)
        st = pb_list_take(list, &message, &rq->err);
    if (st == ST_OK)
        rope_reply(rq, &message);
    else
        kv_fail(rq, st, &rq->err);
}

static enum status get_all_attempt(struct request *rq, bool nowait)
{
    const Immudb__Schema__KeyListRequest *m = rq->message;
    struct pb_list list;
    struct kv_reader r;
    enum status st;

    if (nowait && m->n_keys > KV_INLINE_KEYS_MAX)
        return ST_AGAIN;
    if ((st = kv_reader_open(rq, &r, m->sincetx, nowait, &rq->err)) != ST_OK)
        return kv_fail_or_again(rq, st, &rq->err);
    if (m->n_keys >= KEYS_PINNED_MIN)
        kv_reader_many(&r);
    st = get_all(rq, &r, &list);
    kv_reader_close(&r);
    if (st != ST_AGAIN)
        list_reply(rq, st, &list);
    return st;
}
KV_READ_HANDLER(handle_get_all, get_all_attempt)

/* ------------------------------------------------------------ lists, on a worker */

#define LIST_HINT_BYTES 4096u

static void scan_waiting(struct request *rq)
{
    const Immudb__Schema__ScanRequest *m = rq->message;
    struct kv_scan_options o;
    struct kv_scan scan = {0};
    struct arena scratch;
    struct pb_list list;
    struct kv_reader r;
    struct kv_entry e;
    enum status st;

    if ((st = kv_reader_open(rq, &r, m->sincetx, false, &rq->err)) != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    pb_list_init(&list, rq->arena, LIST_HINT_BYTES);
    if ((st = kv_scan_of(m, &o, &rq->err)) == ST_OK && (st = kv_scan_open(&scan, &r, &o, &rq->err)) == ST_OK) {
        scratch_begin(&scratch, rq, &r);
        for (; !list.failed && (st = kv_scan_next(&scan, &e, &rq->err)) == ST_OK; scratch_next(&scratch, &r))
            wire_list_entry(&list, &e);
        kv_reader_unpin(&r);
        arena_free(&scratch);
        if (st == ST_NOT_FOUND)
            st = ST_OK;
    }
    kv_scan_close(&scan);
    kv_reader_close(&r);
    list_reply(rq, st, &list);
}
void handle_scan(struct request *rq) { request_on_worker(rq, scan_waiting); }

static void zscan_waiting(struct request *rq)
{
    const Immudb__Schema__ZScanRequest *m = rq->message;
    struct kv_zscan_options o;
    struct kv_zscan scan = {0};
    struct arena scratch;
    struct pb_list list;
    struct kv_reader r;
    struct kv_zentry z;
    enum status st;

    if ((st = kv_zscan_of(m, &o, &rq->err)) != ST_OK || (st = kv_reader_open(rq, &r, m->sincetx, false, &rq->err)) != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    pb_list_init(&list, rq->arena, LIST_HINT_BYTES);
    kv_reader_many(&r);
    if ((st = kv_zscan_open(&scan, &r, &o, &rq->err)) == ST_OK) {
        scratch_begin(&scratch, rq, &r);
        for (; !list.failed && (st = kv_zscan_next(&scan, &z, &rq->err)) == ST_OK; scratch_next(&scratch, &r))
            wire_list_zentry(&list, &z);
        kv_reader_unpin(&r);
        arena_free(&scratch);
        if (st == ST_NOT_FOUND)
            st = ST_OK;
    }
    kv_zscan_close(&scan);
    kv_reader_close(&r);
    list_reply(rq, st, &list);
}
void handle_zscan(struct request *rq) { request_on_worker(rq, zscan_waiting); }

static void history_waiting(struct request *rq)
{
    const Immudb__Schema__HistoryRequest *m = rq->message;
    struct kv_history h;
    struct arena scratch;
    struct pb_list list;
    struct kv_reader r;
    struct kv_entry e;
    uint64_t ignored;
    enum status st;

    if ((st = kv_reader_open(rq, &r, m->sincetx, false, &rq->err)) != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    pb_list_init(&list, rq->arena, LIST_HINT_BYTES);
    if ((st = kv_limit(m->limit > 0 ? (uint64_t)m->limit : 0, &ignored, &rq->err)) == ST_OK &&
        (st = kv_history_open(&h, &r, bytes_pb(m->key), m->offset, m->limit, m->desc, &rq->err)) == ST_OK) {
        scratch_begin(&scratch, rq, &r);
        for (; !list.failed && (st = kv_history_next(&h, &e, &rq->err)) == ST_OK; scratch_next(&scratch, &r))
            wire_list_entry(&list, &e);
        kv_reader_unpin(&r);
        arena_free(&scratch);
        if (st == ST_NOT_FOUND)
            st = ST_OK;
    }
    kv_reader_close(&r);
    list_reply(rq, st, &list);
}
void handle_history(struct request *rq) { request_on_worker(rq, history_waiting); }

/* ------------------------------------------------------------ counts */

static void count_reply(struct request *rq, struct bytes prefix)
{
    struct kv_reader r;
    uint64_t count = 0;
    enum status st;
    struct pb w;

    if ((st = kv_reader_open(rq, &r, 0, false, &rq->err)) == ST_OK) {
        st = kv_count(&r, prefix, &count, &rq->err);
        kv_reader_close(&r);
    }
    if (st != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    /* EntryCount: 1 count */
    pb_init(&w, rq->arena, 16);
    pb_u64(&w, 1, count);
    kv_reply(rq, &w);
}

static void count_waiting(struct request *rq)
{
    const Immudb__Schema__KeyPrefix *m = rq->message;

    count_reply(rq, bytes_pb(m->prefix));
}
void handle_count(struct request *rq) { request_on_worker(rq, count_waiting); }
static void count_all_waiting(struct request *rq) { count_reply(rq, bytes_of(NULL, 0)); }
void handle_count_all(struct request *rq) { request_on_worker(rq, count_all_waiting); }
