/* The routes of the metrics port, and one line per call in the access log; see monitor.h. */
#include "server/monitor.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "config/config.h"
#include "config/logger.h"
#include "http/http.h"
#include "server/databases.h"
#include "server/request.h"

struct monitor {
    struct server *server;
    struct rpc_metrics *rpc;
    struct rpc_metrics_method *methods; /* METHOD_COUNT */
    struct http_server *http;
};

/* --- counting --- */

static size_t index_of(const struct method *m) { return (size_t)(m - METHODS); }

static size_t host_len(const char *peer)
{
    const char *colon = strrchr(peer, ':');

    return colon != NULL ? (size_t)(colon - peer) : strlen(peer);
}

struct rpc_client *monitor_client(struct monitor *m, const char *peer)
{
    size_t len = host_len(peer);

    if (len >= 2 && peer[0] == '[') { /* [::1]:1234 */
        peer++;
        len -= 2;
    }
    return rpc_metrics_client(m->rpc, bytes_of(peer, len));
}

void monitor_call_started(struct monitor *m, const struct request *rq, struct rpc_client *client)
{
    rpc_metrics_started(m->rpc, rpc_reactor_index(rq->call), index_of(rq->method));
    if (client != NULL)
        rpc_client_count(client, rq->now_s);
}

static void access_log(struct server *s, struct request *rq, enum rpc_code code, const char *message, uint64_t ns)
{
    char duration[32];

    duration_format((int64_t)ns, duration);
    if (code == RPC_OK)
        LOG_INFO_AT(s->logger, "user=%s,ip=%s,method=%s,duration=%s", rq->user, request_ip(rq), rq->method->path, duration);
    else
        LOG_INFO_AT(s->logger, "user=%s,ip=%s,method=%s,duration=%s,error=%s", rq->user, request_ip(rq), rq->method->path, duration, message);
}

void monitor_call_ended(void *server, struct rpc_call *call, enum rpc_code code, const char *message)
{
    const struct bound_method *bound = rpc_method(call)->user;
    struct request *rq = request_of(call);
    struct server *s = server;
    uint64_t now = env_mono_ns(s->env), start = rpc_started_ns(call), ns = now > start ? now - start : 0;

    rpc_metrics_ended(s->monitor->rpc, rpc_reactor_index(call), index_of(bound->method), (unsigned)code, ns);
    if (s->config->log_access && rq != NULL)
        access_log(s, rq, code, message, ns);
}

/* --- probes --- */

static int readiness_of(const struct monitor *m) { return atomic_load_explicit(&m->server->readiness, memory_order_acquire); }

static void on_ready(void *ctx, struct http_reply *r)
{
    int readiness = readiness_of(ctx);

    if (readiness == SERVER_READY)
        return;
    r->code = 503;
    http_add(r, bytes_str(readiness == SERVER_STARTING ? "starting: databases are being opened\n" : "stopping\n"));
}

/* The process answers: it lives. */
static void on_live(void *ctx, struct http_reply *r)
{
    (void)ctx;
    (void)r;
}

static void on_version(void *ctx, struct http_reply *r)
{
    (void)ctx;
    r->content_type = "application/json";
    http_addf(r, "{\"component\":\"immudb\",\"version\":\"%s-%s\",\"buildtime\":\"\",\"static\":false,\"fips\":false}\n", IMMUDB_VERSION,
              config_commit());
}

/* --- metrics --- */

enum database_family { WRITE_SIZE, WRITE_ENTRIES, WRITE_COMMITTED, WRITE_INDEXED, WRITE_STORAGE };
struct database_sums {
    struct metrics_text *t;
    enum database_family what;
};

static void database_sample(struct database *db, struct database_sums *d)
{
    const struct metric_label labels[2] = {{"db", database_name(db)},
                                           {d->what == WRITE_STORAGE ? "kind" : "index", d->what == WRITE_STORAGE ? "none" : "index_00"}};
    struct store_state state;

    store_get_state(database_store(db), &state);
    switch (d->what) {
    case WRITE_SIZE:
        metrics_sample_u64(d->t, "immudb_db_size_bytes", labels, 1, database_disk_bytes(db));
        break;
    case WRITE_ENTRIES:
        metrics_sample_u64(d->t, "immudb_number_of_stored_entries", labels, 1, state.visible_tx_id);
        break;
    case WRITE_COMMITTED:
        metrics_sample_u64(d->t, "immudb_last_committed_trx_id", labels, 2, state.visible_tx_id);
        break;
    case WRITE_INDEXED:
        metrics_sample_u64(d->t, "immudb_last_indexed_trx_id", labels, 2, store_indexed(database_store(db)));
        break;
    case WRITE_STORAGE:
        metrics_sample_u64(d->t, "immudb_remote_storage_kind", labels, 2, 1);
        break;
    }
}

/* Open ones only: being asked must not open the others. */
static bool database_visit(void *ctx, struct database *db)
{
    if (database_pin(db, false, NULL) == ST_OK) {
        database_sample(db, ctx);
        databases_unpin(db);
    }
    return true;
}

static void databases_write(struct server *s, struct metrics_text *t)
{
    static const struct {
        const char *name, *help;
    } families[] = {{"immudb_db_size_bytes", "bytes of all files of a database"},
                    {"immudb_number_of_stored_entries", "last transaction of a database"},
                    {"immudb_last_committed_trx_id", "last committed transaction"},
                    {"immudb_last_indexed_trx_id", "last indexed transaction"},
                    {"immudb_remote_storage_kind", "where sealed files are kept"}};
    struct database_sums d = {.t = t};
    size_t i;

    for (i = 0; i < sizeof families / sizeof families[0]; i++) {
        metrics_family(t, families[i].name, "gauge", families[i].help);
        d.what = (enum database_family)i;
        databases_each(s->databases, database_visit, &d);
    }
    metrics_single(t, "immudb_loaded_databases", "gauge", "databases that are open now", (double)databases_open_count(s->databases));
    metrics_single(t, "immudb_active_sessions", "gauge", "sessions that are open now", (double)sessions_count(s->auth->sessions));
}

static void logins_write(struct server *s, struct metrics_text *t)
{
    static const char *const outcomes[] = {"checked", "remembered", "shared", "refused"};
    struct login_stats l;
    uint64_t values[4];
    size_t i;

    logins_stats(s->auth->logins, &l);
    values[0] = l.checked;
    values[1] = l.remembered;
    values[2] = l.shared;
    values[3] = l.refused;
    metrics_family(t, "immudb_logins_total", "counter",
                   "password checks: hashed, remembered, shared with an equal one, refused for the queue was full");
    for (i = 0; i < 4; i++) {
        struct metric_label outcome = {"outcome", outcomes[i]};

        metrics_sample_u64(t, "immudb_logins_total", &outcome, 1, values[i]);
    }
    metrics_single(t, "immudb_logins_waiting", "gauge", "password checks that wait or run", (double)l.waiting);
}

static void memory_write(struct server *s, struct metrics_text *t)
{
    const struct budget *b = &s->runtime->budget;
    struct mallinfo2 heap = mallinfo2();
    int use;

    metrics_family(t, "immudb_memory_bytes", "gauge", "memory by what it is used for");
    for (use = 0; use < BUDGET_USES; use++) {
        struct metric_label consumer = {"consumer", budget_use_name((enum budget_use)use)};

        metrics_sample_u64(t, "immudb_memory_bytes", &consumer, 1, budget_used(b, (enum budget_use)use));
    }
    metrics_single(t, "immudb_memory_limit_bytes", "gauge", "memory that caches, queues and requests may use together", (double)b->limit);
    /* Names that older tools read, filled from our allocator. */
    metrics_single(t, "go_memstats_heap_alloc_bytes", "gauge", "heap bytes in use", (double)(heap.uordblks + heap.hblkhd));
    metrics_single(t, "go_memstats_heap_idle_bytes", "gauge", "heap bytes that are free", (double)heap.fordblks);
    metrics_single(t, "go_memstats_heap_inuse_bytes", "gauge", "heap bytes in use", (double)(heap.uordblks + heap.hblkhd));
    metrics_single(t, "go_memstats_stack_inuse_bytes", "gauge", "not measured", 0);
    metrics_single(t, "go_memstats_sys_bytes", "gauge", "bytes obtained from the system", (double)(heap.arena + heap.hblkhd));
}

static void rpc_write(struct server *s, struct metrics_text *t)
{
    struct rpc_stats r;

    rpc_server_stats(s->rpc, &r);
    metrics_single(t, "immudb_rpc_connections", "gauge", "open connections", (double)r.connections_open);
    metrics_single(t, "immudb_rpc_connections_total", "counter", "accepted connections", (double)r.connections_total);
    metrics_single(t, "immudb_rpc_connections_refused_total", "counter", "connections beyond the limit", (double)r.connections_refused);
    metrics_single(t, "immudb_rpc_streams", "gauge", "open streams", (double)r.streams_open);
    metrics_single(t, "immudb_rpc_goaways_sent_total", "counter", "connections that were told to go away", (double)r.goaways_sent);
    metrics_single(t, "immudb_rpc_received_bytes_total", "counter", "bytes received", (double)r.bytes_in);
    metrics_single(t, "immudb_rpc_sent_bytes_total", "counter", "bytes sent", (double)r.bytes_out);
}

/* "VmRSS:  123 kB" of /proc/self/status, in bytes. */
static double status_bytes(const char *status, const char *name)
{
    const char *at = strstr(status, name);

    return at != NULL ? strtod(at + strlen(name), NULL) * 1024 : 0;
}

static void process_write(struct server *s, struct metrics_text *t)
{
    char status[4096] = "";
    struct rusage usage;
    struct rlimit files;
    FILE *f = fopen("/proc/self/status", "re");

    if (f != NULL) {
        status[fread(status, 1, sizeof status - 1, f)] = '\0';
        fclose(f);
    }
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        metrics_single(t, "process_cpu_seconds_total", "counter", "processor time used",
                       (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        metrics_single(t, "process_max_fds", "gauge", "largest number of open files", (double)files.rlim_cur);
    metrics_single(t, "process_resident_memory_bytes", "gauge", "resident memory", status_bytes(status, "VmRSS:"));
    metrics_single(t, "process_start_time_seconds", "gauge", "when the server started", (double)s->started_s);
    metrics_single(t, "process_virtual_memory_bytes", "gauge", "virtual memory", status_bytes(status, "VmSize:"));
}

static void on_metrics(void *ctx, struct http_reply *r)
{
    struct monitor *m = ctx;
    struct server *s = m->server;
    struct metrics_text t = {0};

    metrics_single(&t, "immudb_uptime_hours", "counter", "hours since the start", (double)(env_wall_s(s->env) - s->started_s) / 3600);
    rpc_metrics_write(m->rpc, !s->config->no_histograms, &t);
    process_write(s, &t);
    if (readiness_of(m) == SERVER_READY) { /* else the parts are being made or taken apart */
        rpc_write(s, &t);
        memory_write(s, &t);
        logins_write(s, &t);
        databases_write(s, &t);
    }
    r->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (t.failed)
        r->code = 503;
    else
        http_add(r, bytes_of(t.text, t.len));
    metrics_text_free(&t);
}

static const struct http_route ROUTES[] = {
    {"/readyz", on_ready}, {"/initz", on_ready}, {"/livez", on_live}, {"/version", on_version}, {"/metrics", on_metrics},
};

/* --- life --- */

static const char *kind_name(enum rpc_kind kind)
{
    static const char *const names[] = {"unary", "server_stream", "client_stream", "bidi_stream"};

    return names[kind];
}

enum status monitor_create(struct server *s, struct monitor **out, struct err *err)
{
    struct monitor *m = calloc(1, sizeof *m);
    enum status st;
    size_t i;

    *out = NULL;
    if (m == NULL || (m->methods = calloc(METHOD_COUNT, sizeof *m->methods)) == NULL) {
        free(m);
        return err_set(err, ST_NOMEM, 0, "metrics: out of memory");
    }
    m->server = s;
    for (i = 0; i < METHOD_COUNT; i++)
        m->methods[i] = (struct rpc_metrics_method){METHODS[i].path, kind_name(METHODS[i].kind)};
    if ((st = rpc_metrics_create(m->methods, METHOD_COUNT, &m->rpc, err)) != ST_OK) {
        monitor_free(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

enum status monitor_listen(struct monitor *m, struct err *err)
{
    const struct config *c = m->server->config;
    struct http_options o = {.address = m->server->address,
                             .port = (uint16_t)c->metrics_server_port,
                             .routes = ROUTES,
                             .route_count = sizeof ROUTES / sizeof ROUTES[0],
                             .ctx = m,
                             .tls = m->server->tls_http};
    enum status st;

    if (!c->metrics_server)
        return ST_OK;
    if ((st = http_start(&o, &m->http, err)) != ST_OK)
        return err_while(err, st, "starting the metrics server (--metrics-server-port)");
    return ST_OK;
}

uint16_t monitor_port(const struct monitor *m) { return m->http != NULL ? http_port(m->http) : 0; }

void monitor_stop_listening(struct monitor *m)
{
    http_stop(m->http);
    m->http = NULL;
}

void monitor_free(struct monitor *m)
{
    if (m == NULL)
        return;
    http_stop(m->http);
    rpc_metrics_free(m->rpc);
    free(m->methods);
    free(m);
}
