/* Families and where their values come from; see exposition.h.
 *
 * Names with "btree_" are those of the published dashboards, filled from what is nearest to them here: runs of the key index and the block cache that
 * all databases share. Each comes under two ids: the folder name of today and the one that older dashboards look for. */
#include "observe/exposition.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "config/config.h"
#include "databases/databases.h"
#include "databases/truncator.h"
#include "handlers/txs.h"
#include "observe/access_log.h"
#include "observe/audit_log.h"
#include "observe/health.h"
#include "vfs/cache.h"

enum { ID_BYTES_MAX = 4096 + DATABASE_NAME_LEN_MAX + 16, SYNC_BOUNDS = 10, SYNC_FIRST_POWER = 15, BLOCK_BYTES = 4096 };

/* --- the server as a whole --- */

struct scene {
    struct server *server;
    const struct monitor_counters *counters;
    struct rpc_stats rpc;
    struct login_stats logins;
    struct cache_stats cache;
    struct audit_stats audit;
    uint64_t access_direct;
};

#define SINGLE(fn, expression) \
    static double fn(const struct scene *x) { return (double)(expression); }
SINGLE(open_databases, databases_open_count(x->server->databases))
SINGLE(all_databases, databases_count(x->server->databases))
SINGLE(active_sessions, sessions_count(x->server->auth->sessions))
SINGLE(inactive_sessions, sessions_inactive(x->server->auth->sessions, env_mono_ns(x->server->env)))
SINGLE(transactions, txs_count(x->server->txs))
SINGLE(memory_limit, x->server->runtime->budget.limit)
SINGLE(connections, x->rpc.connections_open)
SINGLE(connections_total, x->rpc.connections_total)
SINGLE(connections_refused, x->rpc.connections_refused)
SINGLE(streams, x->rpc.streams_open)
SINGLE(running, x->rpc.calls_running)
SINGLE(goaways, x->rpc.goaways_sent)
SINGLE(resets, x->rpc.resets_received)
SINGLE(bytes_in, x->rpc.bytes_in)
SINGLE(bytes_out, x->rpc.bytes_out)
SINGLE(budget_waiting, x->rpc.waiting_for_budget)
SINGLE(turns, x->rpc.turns)
SINGLE(turn_seconds, (double)x->rpc.turn_ns_total / 1e9)
SINGLE(turn_longest, (double)x->rpc.turn_ns_max / 1e9)
SINGLE(logins_waiting, x->logins.waiting)
SINGLE(cache_bytes, x->cache.bytes)
SINGLE(cache_handles, x->cache.handles_open)
SINGLE(cache_handle_opens, x->cache.handle_opens)
SINGLE(block_reads, (double)x->cache.misses *BLOCK_BYTES)
SINGLE(slow_calls, atomic_load(&((struct monitor_counters *)(uintptr_t)x->counters)->slow_calls))
SINGLE(watchers, health_watchers(x->server->health))
SINGLE(access_direct, x->access_direct)
SINGLE(audit_recorded, x->audit.recorded)
SINGLE(audit_dropped, x->audit.dropped)
SINGLE(audit_failures, x->audit.failures)
SINGLE(audit_queued, x->audit.queued)

static const struct single {
    const char *name, *type, *help;
    double (*value)(const struct scene *x);
} SINGLES[] = {
    {"immudb_loaded_databases", "gauge", "databases that are open now", open_databases},
    {"immudb_active_sessions", "gauge", "sessions that are open now", active_sessions},
    {"immudb_multiapp_read_bytes", "counter", "bytes read from files into the block cache", block_reads},
    {"immudb_databases", "gauge", "databases there are, open or not, systemdb not counted", all_databases},
    {"immudb_inactive_sessions", "gauge", "sessions idle for longer than --max-session-inactivity-time", inactive_sessions},
    {"immudb_session_transactions", "gauge", "interactive transactions that sessions have begun", transactions},
    {"immudb_memory_limit_bytes", "gauge", "memory that caches, queues and requests may use together", memory_limit},
    {"immudb_rpc_connections", "gauge", "open connections", connections},
    {"immudb_rpc_connections_total", "counter", "accepted connections", connections_total},
    {"immudb_rpc_connections_refused_total", "counter", "connections beyond the limit", connections_refused},
    {"immudb_rpc_streams", "gauge", "open streams", streams},
    {"immudb_rpc_calls_running", "gauge", "calls that are being worked on", running},
    {"immudb_rpc_goaways_sent_total", "counter", "connections that were told to go away", goaways},
    {"immudb_rpc_resets_received_total", "counter", "streams that were reset", resets},
    {"immudb_rpc_received_bytes_total", "counter", "bytes received", bytes_in},
    {"immudb_rpc_sent_bytes_total", "counter", "bytes sent", bytes_out},
    {"immudb_rpc_waiting_for_memory", "gauge", "calls that wait for memory to receive their request", budget_waiting},
    {"immudb_reactor_turns_total", "counter", "turns of the network threads", turns},
    {"immudb_reactor_busy_seconds_total", "counter", "time the network threads worked, i.e. did not wait for events", turn_seconds},
    {"immudb_reactor_turn_seconds_max", "gauge", "longest turn of a network thread since the last scrape: nothing else is answered meanwhile",
     turn_longest},
    {"immudb_logins_waiting", "gauge", "password checks that wait or run", logins_waiting},
    {"immudb_cache_bytes", "gauge", "bytes of the block cache that all databases share", cache_bytes},
    {"immudb_file_handles_open", "gauge", "files that are open for reading", cache_handles},
    {"immudb_file_handle_opens_total", "counter", "files that were opened for reading", cache_handle_opens},
    {"immudb_slow_calls_total", "counter", "unary calls that took longer than --slow-call-ms", slow_calls},
    {"immudb_health_watchers", "gauge", "streams of grpc.health.v1.Health/Watch", watchers},
    {"immudb_access_log_direct_total", "counter", "lines of the access log that network threads wrote themselves because its queue was full",
     access_direct},
    {"immudb_audit_recorded_total", "counter", "calls recorded in systemdb", audit_recorded},
    {"immudb_audit_dropped_total", "counter", "calls that could not be recorded", audit_dropped},
    {"immudb_audit_failures_total", "counter", "transactions of the audit log that failed, each attempt", audit_failures},
    {"immudb_audit_queue_length", "gauge", "calls that wait to be recorded", audit_queued},
};

static void sample(struct metrics_text *t, const char *family, const char *label, const char *value, double number)
{
    struct metric_label l = {label, value};

    metrics_sample(t, family, &l, 1, number);
}

static void logins_write(const struct scene *x, struct metrics_text *t)
{
    static const char *const reasons[] = {"credentials", "inactive", "refused"};
    size_t i;

    metrics_family(t, "immudb_logins_total", "counter",
                   "password checks: hashed, remembered, shared with an equal one, refused for the queue was full, refused after too many failures");
    sample(t, "immudb_logins_total", "outcome", "checked", (double)x->logins.checked);
    sample(t, "immudb_logins_total", "outcome", "remembered", (double)x->logins.remembered);
    sample(t, "immudb_logins_total", "outcome", "shared", (double)x->logins.shared);
    sample(t, "immudb_logins_total", "outcome", "refused", (double)x->logins.refused);
    sample(t, "immudb_logins_total", "outcome", "limited", (double)x->logins.limited);
    metrics_family(t, "immudb_login_failures_total", "counter", "Login and OpenSession calls that failed");
    for (i = 0; i < 3; i++)
        sample(t, "immudb_login_failures_total", "reason", reasons[i],
               (double)atomic_load(&((struct monitor_counters *)(uintptr_t)x->counters)->login_failures[i]));
}

static void memory_write(const struct scene *x, struct metrics_text *t)
{
    const struct budget *b = &x->server->runtime->budget;
    int use;

    metrics_family(t, "immudb_memory_bytes", "gauge", "memory by what it is used for");
    for (use = 0; use < BUDGET_USES; use++)
        sample(t, "immudb_memory_bytes", "consumer", budget_use_name((enum budget_use)use), (double)budget_used(b, (enum budget_use)use));
    metrics_family(t, "immudb_memory_peak_bytes", "gauge", "the most there was of it");
    for (use = 0; use < BUDGET_USES; use++)
        sample(t, "immudb_memory_peak_bytes", "consumer", budget_use_name((enum budget_use)use),
               (double)atomic_load_explicit(&((struct budget *)(uintptr_t)b)->peak[use], memory_order_relaxed));
}

static void threads_write(const struct scene *x, struct metrics_text *t)
{
    struct runtime *r = x->server->runtime;

    metrics_family(t, "immudb_pool_waiting", "gauge", "jobs that wait for a thread: commits, long reads, flushes and merges");
    sample(t, "immudb_pool_waiting", "pool", "sync", (double)pool_waiting(r->sync_pool));
    sample(t, "immudb_pool_waiting", "pool", "worker", (double)pool_waiting(r->worker_pool));
    sample(t, "immudb_pool_waiting", "pool", "maintenance", (double)pool_waiting(r->maintenance_pool));
}

static void cache_write(const struct scene *x, struct metrics_text *t)
{
    metrics_family(t, "immudb_multiapp_cache_events", "counter", "block cache of log and index files");
    sample(t, "immudb_multiapp_cache_events", "event", "evicted", (double)x->cache.evictions);
    sample(t, "immudb_multiapp_cache_events", "event", "hit", (double)x->cache.hits);
    sample(t, "immudb_multiapp_cache_events", "event", "miss", (double)x->cache.misses);
    metrics_family(t, "immudb_multiapp_read_events", "counter", "reads of files into the block cache");
    sample(t, "immudb_multiapp_read_events", "event", "total_reads", (double)x->cache.misses);
}

/* --- by database --- */

struct row {
    const char *name;
    char ids[2][ID_BYTES_MAX]; /* <dir>/<name>/index_00, <dir>/<name>/index */
    uint64_t disk_bytes, visible, indexed;
    struct truncation_counts truncation;
    enum store_health_kind health;
    struct store_stats stats;
    const struct scene *scene;
};

enum labels { LABEL_DB, LABEL_DB_INDEX, LABEL_DB_KIND, LABEL_ID, LABEL_ID_LEAF };

#define COLUMN(fn, expression) \
    static double fn(const struct row *r) { return (double)(expression); }
COLUMN(db_size, r->disk_bytes)
COLUMN(db_last_tx, r->visible)
COLUMN(db_indexed, r->indexed)
COLUMN(db_one, 1 + 0 * r->visible)
COLUMN(id_depth, r->stats.index.runs)
COLUMN(id_begin, 0 * r->visible)
COLUMN(id_end, r->stats.index.run_bytes)
COLUMN(id_flushed, (uint64_t)(r->stats.index.flush_bytes / BLOCK_BYTES))
COLUMN(id_compacted, (uint64_t)(r->stats.index.merge_bytes / BLOCK_BYTES))
COLUMN(id_cache_size, r->scene->cache.blocks)
COLUMN(id_cache_hit, r->scene->cache.hits)
COLUMN(id_cache_miss, r->scene->cache.misses)
COLUMN(id_cache_evict, r->scene->cache.evictions)
COLUMN(db_truncations, r->truncation.truncations)
COLUMN(db_truncated, r->truncation.bytes)
COLUMN(db_commits, r->stats.commits)
COLUMN(db_batches, r->stats.batches)
COLUMN(db_conflicts, r->stats.conflicts)
COLUMN(db_queue, r->stats.queue_length)
COLUMN(db_queue_bytes, r->stats.queue_bytes)
COLUMN(db_waiters, r->stats.waiters)
COLUMN(db_snapshots, r->stats.snapshots_open)
COLUMN(db_snapshots_idle, r->stats.snapshots_idle)
COLUMN(db_memory, r->stats.memory_bytes)
COLUMN(db_segments, r->stats.log.segments)
COLUMN(db_log_bytes, r->stats.log.bytes)
COLUMN(db_runs, r->stats.index.runs)
COLUMN(db_run_entries, r->stats.index.run_entries)
COLUMN(db_memtable, r->stats.index.memtable_entries)
COLUMN(db_flushes, r->stats.index.flushes)
COLUMN(db_flush_bytes, r->stats.index.flush_bytes)
COLUMN(db_merges, r->stats.index.merges)
COLUMN(db_merge_bytes, r->stats.index.merge_bytes)
COLUMN(db_damaged, r->stats.index.damaged_runs)

static const struct column {
    const char *name, *type, *help;
    enum labels labels;
    double (*value)(const struct row *r);
} COLUMNS[] = {
    {"immudb_db_size_bytes", "gauge", "bytes of all files of a database", LABEL_DB, db_size},
    {"immudb_number_of_stored_entries", "gauge", "last transaction of a database", LABEL_DB, db_last_tx},
    {"immudb_last_committed_trx_id", "gauge", "last committed transaction", LABEL_DB_INDEX, db_last_tx},
    {"immudb_last_indexed_trx_id", "gauge", "last indexed transaction", LABEL_DB_INDEX, db_indexed},
    {"immudb_remote_storage_kind", "gauge", "where sealed files are kept", LABEL_DB_KIND, db_one},
    {"immudb_btree_depth", "gauge", "runs that a lookup may have to ask", LABEL_ID, id_depth},
    {"immudb_btree_nodes_data_begin", "gauge", "begin of the index on disk, always 0", LABEL_ID, id_begin},
    {"immudb_btree_nodes_data_end", "gauge", "bytes of the index on disk", LABEL_ID, id_end},
    {"immudb_btree_flushed_nodes_total", "counter", "blocks of 4 KiB written by flushes", LABEL_ID_LEAF, id_flushed},
    {"immudb_btree_compacted_nodes_total", "counter", "blocks of 4 KiB written by merges", LABEL_ID_LEAF, id_compacted},
    {"immudb_btree_cache_size", "gauge", "blocks in the cache that all databases share", LABEL_ID, id_cache_size},
    {"immudb_btree_cache_hit", "counter", "hits of the cache that all databases share", LABEL_ID, id_cache_hit},
    {"immudb_btree_cache_miss", "counter", "misses of the cache that all databases share", LABEL_ID, id_cache_miss},
    {"immudb_btree_cache_evict", "counter", "evictions from the cache that all databases share", LABEL_ID, id_cache_evict},
    {"immudb_truncation_total", "counter", "truncations since the start", LABEL_DB, db_truncations},
    {"immudb_truncation_freed_bytes_total", "counter", "bytes given back to the disk by truncations", LABEL_DB, db_truncated},
    {"immudb_commits_total", "counter", "transactions committed", LABEL_DB, db_commits},
    {"immudb_commit_batches_total", "counter", "groups of transactions that shared one sync; commits per batch is the size of a group", LABEL_DB,
     db_batches},
    {"immudb_commit_conflicts_total", "counter", "transactions refused by preconditions or changed reads", LABEL_DB, db_conflicts},
    {"immudb_commit_queue_length", "gauge", "transactions that wait to be committed", LABEL_DB, db_queue},
    {"immudb_commit_queue_bytes", "gauge", "bytes of transactions that wait to be committed", LABEL_DB, db_queue_bytes},
    {"immudb_waiters", "gauge", "calls that wait for a transaction", LABEL_DB, db_waiters},
    {"immudb_snapshots_open", "gauge", "read views in use", LABEL_DB, db_snapshots},
    {"immudb_snapshots_idle", "gauge", "read views in use for longer than five minutes", LABEL_DB, db_snapshots_idle},
    {"immudb_db_memory_bytes", "gauge", "memory of one database, the shared cache not counted", LABEL_DB, db_memory},
    {"immudb_log_segments", "gauge", "files of the log", LABEL_DB, db_segments},
    {"immudb_log_bytes", "gauge", "bytes of the log", LABEL_DB, db_log_bytes},
    {"immudb_index_runs", "gauge", "sorted files of the index; many of them: merges do not keep up", LABEL_DB, db_runs},
    {"immudb_index_run_entries", "gauge", "entries in the sorted files", LABEL_DB, db_run_entries},
    {"immudb_index_memtable_entries", "gauge", "entries that are not in a file yet", LABEL_DB, db_memtable},
    {"immudb_index_flushes_total", "counter", "flushes of the index", LABEL_DB, db_flushes},
    {"immudb_index_flush_bytes_total", "counter", "bytes written by flushes", LABEL_DB, db_flush_bytes},
    {"immudb_index_merges_total", "counter", "merges of the index", LABEL_DB, db_merges},
    {"immudb_index_merge_bytes_total", "counter", "bytes written by merges", LABEL_DB, db_merge_bytes},
    {"immudb_index_damaged_runs", "gauge", "sorted files that are damaged and left out", LABEL_DB, db_damaged},
};

static void cell_write(const struct column *c, const struct row *r, struct metrics_text *t)
{
    struct metric_label labels[2] = {{"db", r->name}, {"kind", "none"}};
    size_t i;

    switch (c->labels) {
    case LABEL_DB:
        metrics_sample(t, c->name, labels, 1, c->value(r));
        return;
    case LABEL_DB_INDEX:
        labels[1] = (struct metric_label){"index", "index_00"};
        metrics_sample(t, c->name, labels, 2, c->value(r));
        return;
    case LABEL_DB_KIND:
        metrics_sample(t, c->name, labels, 2, c->value(r));
        return;
    case LABEL_ID:
    case LABEL_ID_LEAF:
        labels[1] = (struct metric_label){"kind", "leaf"};
        for (i = 0; i < 2; i++) {
            labels[0] = (struct metric_label){"id", r->ids[i]};
            metrics_sample(t, c->name, labels, c->labels == LABEL_ID ? 1 : 2, c->value(r));
        }
        return;
    }
}

const char *exposition_health_name(enum store_health_kind kind)
{
    static const char *const names[] = {[STORE_HEALTHY] = "ok",
                                        [STORE_REBUILDING] = "rebuilding",
                                        [STORE_DEGRADED] = "no_space",
                                        [STORE_READ_ONLY_DAMAGED] = "damaged",
                                        [STORE_READ_ONLY_FAILED] = "read_only"};

    return names[kind];
}

enum { UNAVAILABLE = STORE_READ_ONLY_FAILED + 1 }; /* it cannot be opened: no store that could tell */

/* One series for each state, 1 for the one it is in: a state that begins or ends is a change of a value, not a series that comes or goes. */
static void health_row(struct metrics_text *t, const char *database, int state)
{
    for (int kind = STORE_HEALTHY; kind <= UNAVAILABLE; kind++) {
        struct metric_label labels[2] = {
            {"db", database}, {"state", kind == UNAVAILABLE ? EXPOSITION_UNAVAILABLE : exposition_health_name((enum store_health_kind)kind)}};

        metrics_sample(t, "immudb_db_health", labels, 2, state == kind);
    }
}

struct refused_rows {
    struct metrics_text *t;
    size_t left;
};

static bool refused_row(void *ctx, struct database *db)
{
    struct refused_rows *r = ctx;
    char why[1];

    if (r->left > 0 && database_is_loaded(db) && database_is_refused(db, why, sizeof why)) {
        health_row(r->t, database_name(db), UNAVAILABLE);
        r->left--;
    }
    return true;
}

static void health_write(const struct scene *x, const struct row *rows, size_t count, struct metrics_text *t)
{
    struct refused_rows refused = {t, EXPOSITION_DATABASES_MAX};

    metrics_family(t, "immudb_db_health", "gauge", "1 for the state that a database is in; all but ok and rebuilding need somebody's attention");
    for (size_t i = 0; i < count; i++)
        health_row(t, rows[i].name, (int)rows[i].health);
    databases_each(x->server->databases, refused_row, &refused);
}

/* How long syncs took. The store counts in powers of two of a nanosecond: every second one from 32 us to 8.6 s is shown. */
static void syncs_write(const struct row *rows, size_t count, struct metrics_text *t)
{
    static const char name[] = "immudb_sync_seconds";
    uint64_t counts[SYNC_BOUNDS + 1];
    double bounds[SYNC_BOUNDS];
    size_t i, b;
    unsigned power;

    for (b = 0; b < SYNC_BOUNDS; b++)
        bounds[b] = (double)((uint64_t)1 << (SYNC_FIRST_POWER + 2 * b)) / 1e9;
    metrics_family(t, name, "histogram", "how long syncs of the log took");
    for (i = 0; i < count; i++) {
        struct metric_label db = {"db", rows[i].name};

        memset(counts, 0, sizeof counts);
        for (power = 0; power < 32; power++) { /* bucket p holds what took less than 2^(p + 1) ns */
            for (b = 0; b < SYNC_BOUNDS && SYNC_FIRST_POWER + 2 * b < power + 1; b++)
                ;
            counts[b] += rows[i].stats.sync_ns_histogram[power];
        }
        metrics_histogram(t, name, &db, 1, bounds, SYNC_BOUNDS, counts, (double)rows[i].stats.log.sync_ns_total / 1e9);
    }
}

struct collection {
    const struct scene *scene;
    struct row *rows;
    size_t count, capacity, left_out;
};

static void row_fill(struct row *r, struct database *db, const struct scene *x)
{
    struct store *store = database_store(db);
    const char *dir = x->server->config->dir;
    struct store_health health;
    struct store_state state;

    r->name = database_name(db);
    r->scene = x;
    snprintf(r->ids[0], sizeof r->ids[0], "%.4096s/%s/index_00", dir, r->name);
    snprintf(r->ids[1], sizeof r->ids[1], "%.4096s/%s/index", dir, r->name);
    store_get_state(store, &state);
    store_get_stats(store, &r->stats);
    store_health(store, &health);
    r->health = health.kind;
    r->visible = state.visible_tx_id;
    r->indexed = store_indexed(store);
    r->disk_bytes = database_disk_bytes(db);
    r->truncation = database_truncations(db);
}

/* Open ones only: being asked must not open the others. */
static bool row_add(void *ctx, struct database *db)
{
    struct collection *c = ctx;

    if (database_pin(db, false, NULL) != ST_OK)
        return true;
    if (c->count < c->capacity)
        row_fill(&c->rows[c->count++], db, c->scene);
    else
        c->left_out++;
    databases_unpin(db);
    return true;
}

static void databases_write(const struct scene *x, struct metrics_text *t)
{
    struct collection c = {.scene = x, .capacity = databases_open_count(x->server->databases) + 8}; /* some may be opened meanwhile */
    size_t i, r;

    if (c.capacity > EXPOSITION_DATABASES_MAX)
        c.capacity = EXPOSITION_DATABASES_MAX;
    if ((c.rows = calloc(c.capacity, sizeof *c.rows)) == NULL) {
        t->failed = true;
        return;
    }
    databases_each(x->server->databases, row_add, &c);
    for (i = 0; i < sizeof COLUMNS / sizeof COLUMNS[0]; i++) {
        metrics_family(t, COLUMNS[i].name, COLUMNS[i].type, COLUMNS[i].help);
        for (r = 0; r < c.count; r++)
            cell_write(&COLUMNS[i], &c.rows[r], t);
    }
    health_write(x, c.rows, c.count, t);
    syncs_write(c.rows, c.count, t);
    metrics_single(t, "immudb_databases_not_shown", "gauge", "open databases beyond the number that gets series of its own", (double)c.left_out);
    free(c.rows);
}

void exposition_server(struct server *s, const struct monitor_counters *counters, struct metrics_text *t)
{
    struct scene x = {.server = s, .counters = counters};
    size_t i;

    rpc_server_stats(s->rpc, &x.rpc);
    logins_stats(s->auth->logins, &x.logins);
    cache_stats(s->runtime->cache, &x.cache);
    if (s->audit_log != NULL)
        audit_log_stats(s->audit_log, &x.audit);
    if (s->access_log != NULL)
        x.access_direct = access_log_direct(s->access_log);
    for (i = 0; i < sizeof SINGLES / sizeof SINGLES[0]; i++)
        metrics_single(t, SINGLES[i].name, SINGLES[i].type, SINGLES[i].help, SINGLES[i].value(&x));
    memory_write(&x, t);
    logins_write(&x, t);
    threads_write(&x, t);
    cache_write(&x, t);
    databases_write(&x, t);
}

/* --- the process --- */

/* "VmRSS:  123 kB" of /proc/self/status, in bytes. */
static double status_bytes(const char *status, const char *name)
{
    const char *at = strstr(status, name);

    return at != NULL ? strtod(at + strlen(name), NULL) * 1024 : 0;
}

static double open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *e;
    double count = 0;

    while (dir != NULL && (e = readdir(dir)) != NULL)
        count += e->d_name[0] != '.';
    if (dir != NULL)
        closedir(dir);
    return count > 0 ? count - 1 : 0; /* the folder itself */
}

static void system_write(struct server *s, struct metrics_text *t)
{
    char status[4096] = "";
    const char *threads;
    struct rusage usage;
    struct rlimit limit;
    FILE *f = fopen("/proc/self/status", "re");

    if (f != NULL) {
        status[fread(status, 1, sizeof status - 1, f)] = '\0';
        fclose(f);
    }
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        metrics_single(t, "process_cpu_seconds_total", "counter", "processor time used",
                       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        metrics_single(t, "process_max_fds", "gauge", "largest number of open files", (double)limit.rlim_cur);
    metrics_single(t, "process_open_fds", "gauge", "open files", open_files());
    metrics_single(t, "process_resident_memory_bytes", "gauge", "resident memory", status_bytes(status, "VmRSS:"));
    metrics_single(t, "process_start_time_seconds", "gauge", "when the server started", (double)s->started_s);
    metrics_single(t, "process_virtual_memory_bytes", "gauge", "virtual memory", status_bytes(status, "VmSize:"));
    if (getrlimit(RLIMIT_AS, &limit) == 0)
        metrics_single(t, "process_virtual_memory_max_bytes", "gauge", "most virtual memory there may be",
                       limit.rlim_cur == RLIM_INFINITY ? -1 : (double)limit.rlim_cur);
    if ((threads = strstr(status, "Threads:")) != NULL)
        metrics_single(t, "go_threads", "gauge", "threads of the process", strtod(threads + 8, NULL));
}

/* Names that older tools read, filled from our allocator. */
static void heap_write(struct metrics_text *t)
{
    struct mallinfo2 heap = mallinfo2();

    metrics_single(t, "go_memstats_heap_alloc_bytes", "gauge", "heap bytes in use", (double)(heap.uordblks + heap.hblkhd));
    metrics_single(t, "go_memstats_heap_idle_bytes", "gauge", "heap bytes that are free", (double)heap.fordblks);
    metrics_single(t, "go_memstats_heap_inuse_bytes", "gauge", "heap bytes in use", (double)(heap.uordblks + heap.hblkhd));
    metrics_single(t, "go_memstats_stack_inuse_bytes", "gauge", "not measured", 0);
    metrics_single(t, "go_memstats_sys_bytes", "gauge", "bytes obtained from the system", (double)(heap.arena + heap.hblkhd));
}

void exposition_process(struct server *s, const struct monitor_counters *counters, struct metrics_text *t)
{
    struct monitor_counters *c = (struct monitor_counters *)(uintptr_t)counters;

    metrics_single(t, "immudb_uptime_hours", "counter", "hours since the start", (double)(env_wall_s(s->env) - s->started_s) / 3600);
    system_write(s, t);
    heap_write(t);
    metrics_single(t, "promhttp_metric_handler_requests_in_flight", "gauge", "scrapes going on", (double)atomic_load(&c->scraping));
    metrics_family(t, "promhttp_metric_handler_requests_total", "counter", "scrapes by outcome");
    sample(t, "promhttp_metric_handler_requests_total", "code", "200", (double)atomic_load(&c->scrapes));
    sample(t, "promhttp_metric_handler_requests_total", "code", "500", 0);
    sample(t, "promhttp_metric_handler_requests_total", "code", "503", (double)atomic_load(&c->scrape_errors));
}
