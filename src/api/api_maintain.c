/* Maintenance and figures. */
#include "api/api_internal.h"

immudb_status immudb_sync(immudb_db *db, immudb_error *error)
{
    struct err err;

    return api_result(db == NULL ? api_null(&err, "db") : store_sync(db->store, &err), &err, error);
}

immudb_status immudb_flush_index(immudb_db *db, immudb_error *error)
{
    struct err err;

    return api_result(db == NULL ? api_null(&err, "db") : store_flush_index(db->store, &err), &err, error);
}

immudb_status immudb_compact_index(immudb_db *db, immudb_error *error)
{
    struct err err;

    return api_result(db == NULL ? api_null(&err, "db") : store_compact_index(db->store, &err), &err, error);
}

immudb_status immudb_truncate(immudb_db *db, uint64_t tx_id, uint64_t *freed_bytes, immudb_error *error)
{
    struct err err;
    uint64_t freed = 0;
    enum status st = db == NULL ? api_null(&err, "db") : store_truncate(db->store, tx_id, &freed, &err);

    if (freed_bytes != NULL)
        *freed_bytes = st == ST_OK ? freed : 0;
    return api_result(st, &err, error);
}

struct findings {
    immudb_finding_fn fn;
    void *ctx;
    uint64_t count;
};

static bool finding(void *ctx, uint64_t tx_id, const char *what)
{
    struct findings *f = ctx;

    f->count++;
    return f->fn == NULL || f->fn(f->ctx, tx_id, what) != 0;
}

immudb_status immudb_store_verify(immudb_db *db, immudb_finding_fn fn, void *ctx, uint64_t *finding_count, immudb_error *error)
{
    struct findings f = {fn, ctx, 0};
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : store_verify(db->store, finding, &f, &err);

    if (finding_count != NULL)
        *finding_count = f.count;
    return api_result(st, &err, error);
}

static immudb_memory_use memory_use(const struct budget *b, enum budget_use use)
{
    return (immudb_memory_use){budget_used(b, use), atomic_load(&b->peak[use]), b->share[use]};
}

static void stats_fill(const struct store_stats *s, const struct budget *b, immudb_stats *out)
{
    immudb_stats_init(out);
    out->txs = s->txs;
    out->commits = s->commits;
    out->batches = s->batches;
    out->conflicts = s->conflicts;
    out->syncs = s->log.syncs;
    out->queue_length = s->queue_length;
    out->queue_bytes = s->queue_bytes;
    out->snapshots_open = s->snapshots_open;
    out->snapshots_idle = s->snapshots_idle;
    out->waiters = s->waiters;
    out->clock_jumps = s->clock_jumps;
    out->disk_bytes = s->disk_bytes;
    out->log_bytes = s->log.bytes;
    out->log_segments = s->log.segments;
    out->log_bytes_zeroed_ahead = s->log.bytes_zeroed_ahead;
    out->tree_bytes = s->tree.disk_bytes;
    out->tree_pages_rebuilt = s->tree.pages_rebuilt;
    out->index_bytes = s->index.run_bytes;
    out->index_runs = s->index.runs;
    out->index_run_entries = s->index.run_entries;
    out->index_memtable_entries = s->index.memtable_entries;
    out->index_flushes = s->index.flushes;
    out->index_merges = s->index.merges;
    out->index_damaged_runs = s->index.damaged_runs;
    out->memory_bytes = s->memory_bytes;
    out->memory_cache = memory_use(b, BUDGET_CACHE);
    out->memory_memtable = memory_use(b, BUDGET_MEMTABLE);
    out->memory_queue = memory_use(b, BUDGET_QUEUE);
    out->memory_request = memory_use(b, BUDGET_REQUEST);
    out->memory_tree = memory_use(b, BUDGET_TREE);
    out->memory_other = memory_use(b, BUDGET_OTHER);
    out->memory_limit = b->limit;
    memcpy(out->sync_ns_histogram, s->sync_ns_histogram, sizeof out->sync_ns_histogram);
}

immudb_status immudb_stats_get(immudb_db *db, immudb_stats *out, immudb_error *error)
{
    struct store_stats stats;
    immudb_stats s;
    struct err err;
    enum status st = db == NULL ? api_null(&err, "db") : sized_out_begin(out, false, "immudb_stats", &err);

    static_assert(sizeof s.sync_ns_histogram == sizeof stats.sync_ns_histogram, "as many buckets");
    if (st == ST_OK) {
        store_get_stats(db->store, &stats);
        stats_fill(&stats, &db->runtime->runtime->budget, &s);
        sized_out(out, &s, sizeof s);
    }
    return api_result(st, &err, error);
}
