/* FlushIndex, CompactIndex. */
#include "handlers/kv_common.h"
#include "handlers/kv_handlers.h"

#define COMPACTION_RUNS_MIN 2u /* below it there is nothing to be gained: the threshold of the settings counts only when it is lower */

/* FlushIndexResponse: 1 database */
static void flush_waiting(struct request *rq)
{
    const Immudb__Schema__FlushIndexRequest *m = rq->message;
    enum status st;
    struct pb w;

    if (!(m->cleanuppercentage >= 0 && m->cleanuppercentage <= 100)) {
        request_fail(rq, RPC_UNKNOWN, "tbtree: illegal arguments: invalid cleanupPercentage");
        return;
    }
    if ((st = store_flush_index(rq->store, &rq->err)) != ST_OK) {
        kv_fail(rq, st, &rq->err);
        return;
    }
    pb_init(&w, rq->arena, 256);
    pb_bytes(&w, 1, bytes_str(database_name(rq->db)));
    kv_reply(rq, &w);
}
void handle_flush_index(struct request *rq) { request_on_worker(rq, flush_waiting); }

static void compact_waiting(struct request *rq)
{
    struct database_settings settings;
    struct store_stats stats;
    enum status st;

    database_settings_get(rq->db, &settings);
    store_get_stats(rq->store, &stats);
    if (stats.index.runs < COMPACTION_RUNS_MIN && (int64_t)stats.index.runs < settings.index_compaction_threshold) {
        request_fail(rq, RPC_UNKNOWN, "tbtree: compaction threshold not yet reached");
        return;
    }
    if (!database_compact_begin(rq->db)) {
        request_fail(rq, RPC_UNKNOWN, "tbtree: compact already in progress");
        return;
    }
    st = store_compact_index(rq->store, &rq->err);
    database_compact_end(rq->db);
    if (st != ST_OK)
        kv_fail(rq, st, &rq->err);
    else
        request_reply_empty(rq);
}
void handle_compact_index(struct request *rq) { request_on_worker(rq, compact_waiting); }
