/* The routes of the metrics port, and what happens at the end of each call; see monitor.h. */
#include "observe/monitor.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "handlers/methods.h"
#include "http/http.h"
#include "metrics/rpc_metrics.h"
#include "observe/access_log.h"
#include "observe/audit_log.h"
#include "observe/exposition.h"
#include "observe/plain_methods.h"
#include "request/request.h"

enum { SLOW_LINES_PER_S = 10, DEGRADED_SHOWN_MAX = 100 };

struct monitor {
    struct server *server;
    struct rpc_metrics *rpc;
    struct rpc_metrics_method *methods; /* as METHODS, then reflection */
    size_t method_count;
    struct http_server *http;
    struct monitor_counters counters;
    _Atomic uint64_t slow_window, slow_reported; /* second of the last slow call, and how many were logged in it */
};

/* --- counting --- */

static bool is_login(const struct method *m) { return m->who == CLASS_ANYBODY && m->auth_off == AUTH_OFF_LOGIN; /* Login and both OpenSession */ }

static void login_failed(struct monitor *m, const char *message)
{
    size_t reason = strcmp(message, "invalid user name or password") == 0 ? 0 : strcmp(message, "user is not active") == 0 ? 1 : 2;

    atomic_fetch_add_explicit(&m->counters.login_failures[reason], 1, memory_order_relaxed);
}

/* A line, unless there were SLOW_LINES_PER_S in this second: a server in trouble must not write logs instead of working. */
static void slow_call(struct monitor *m, struct request *rq, enum rpc_code code, uint64_t ns)
{
    char id[REQUEST_ID_MAX + 1], duration[32];
    uint64_t now_s = env_mono_ns(m->server->env) / 1000000000;

    atomic_fetch_add_explicit(&m->counters.slow_calls, 1, memory_order_relaxed);
    if (atomic_exchange(&m->slow_window, now_s) != now_s)
        atomic_store(&m->slow_reported, 0);
    if (atomic_fetch_add(&m->slow_reported, 1) >= SLOW_LINES_PER_S)
        return;
    (void)request_id_of(rq, id);
    duration_format((int64_t)ns, duration);
    LOG_WARN_AT(m->server->logger, "slow call: user=%s,ip=%s,method=%s,duration=%s,code=%d,request=%s", rq->user, request_ip(rq), rq->method->path,
                duration, (int)code, id);
}

/* What is kept of the call in logs. */
static void call_log(struct monitor *m, struct request *rq, size_t method_index, enum rpc_code code, const char *message, uint64_t ns)
{
    struct server *s = m->server;
    bool is_audited = s->audit_log != NULL && audit_log_wants(s->audit_log, method_index);
    struct call_event event;

    if (s->config->slow_call_ms > 0 && ns / 1000000 >= (uint64_t)s->config->slow_call_ms && rq->method->kind == RPC_UNARY)
        slow_call(m, rq, code, ns);
    if (!is_audited && s->access_log == NULL)
        return;
    call_event_fill(&event, rq, code, message, ns);
    if (s->access_log != NULL)
        access_log_add(s->access_log, &event);
    if (is_audited)
        audit_log_add(s->audit_log, &event);
}

/* Reflection is counted; health is not, and neither is logged: probes must not bury the calls that matter. */
static void plain_call_ended(struct monitor *m, const struct rpc_call *call, enum rpc_code code, uint64_t ns)
{
    size_t i;

    for (i = METHOD_COUNT; i < m->method_count; i++) {
        if (strcmp(m->methods[i].path, rpc_method(call)->path) == 0) {
            rpc_metrics_started(m->rpc, rpc_reactor_index(call), i);
            rpc_metrics_ended(m->rpc, rpc_reactor_index(call), i, (unsigned)code, ns);
        }
    }
}

void monitor_call_ended(void *monitor, struct rpc_call *call, enum rpc_code code, const char *message)
{
    const struct bound_method *bound = rpc_method(call)->user;
    struct monitor *m = monitor;
    uint64_t now, start, ns;
    struct request *rq;

    now = env_mono_ns(m->server->env);
    start = rpc_started_ns(call);
    ns = now > start ? now - start : 0;
    if (bound->method == NULL) {
        plain_call_ended(m, call, code, ns);
        return;
    }
    rpc_metrics_ended(m->rpc, rpc_reactor_index(call), bound->method_index, (unsigned)code, ns);
    if (code != RPC_OK && is_login(bound->method))
        login_failed(m, message);
    if ((rq = request_of(call)) != NULL)
        call_log(m, rq, bound->method_index, code, message, ns);
}

/* --- probes --- */

static int readiness_of(const struct monitor *m) { return atomic_load_explicit(&m->server->readiness, memory_order_acquire); }

struct degraded {
    struct http_reply *reply;
    size_t count;
};

/* Open ones only: a probe must not open the others. */
static bool degraded_add(void *ctx, struct database *db)
{
    struct degraded *d = ctx;
    struct store_health health;
    char why[sizeof(((struct err *)0)->text)];

    if (database_pin(db, false, NULL) != ST_OK) {
        if (database_is_loaded(db) && database_is_refused(db, why, sizeof why) && d->count++ < DEGRADED_SHOWN_MAX)
            http_addf(d->reply, "database '%s': " EXPOSITION_UNAVAILABLE ": %s\n", database_name(db), why);
        return true;
    }
    store_health(database_store(db), &health);
    if (health.kind != STORE_HEALTHY && d->count++ < DEGRADED_SHOWN_MAX)
        http_addf(d->reply, "database '%s': %s: %s\n", database_name(db), exposition_health_name(health.kind), health.text);
    databases_unpin(db);
    return true;
}

/* A database that cannot be written still answers reads, states and proofs, and the others everything: so the code stays 200. The published chart takes
 * this for a liveness probe too, and a restart would neither repair damage nor make room, but end the reads. */
static void on_ready(void *ctx, struct http_reply *r)
{
    struct degraded d = {.reply = r};
    struct monitor *m = ctx;
    int readiness = readiness_of(m);

    if (readiness == SERVER_READY) {
        databases_each(m->server->databases, degraded_add, &d);
        if (d.count > DEGRADED_SHOWN_MAX)
            http_addf(r, "and %zu more\n", d.count - DEGRADED_SHOWN_MAX);
        return;
    }
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

static void on_metrics(void *ctx, struct http_reply *r)
{
    struct monitor *m = ctx;
    struct server *s = m->server;
    struct metrics_text t = {0};

    atomic_fetch_add(&m->counters.scraping, 1);
    exposition_process(s, &m->counters, &t);
    rpc_metrics_write(m->rpc, !s->config->no_histograms, &t);
    if (readiness_of(m) == SERVER_READY) /* else the parts are being made or taken apart */
        exposition_server(s, &m->counters, &t);
    r->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (t.failed)
        r->code = 503;
    else
        http_add(r, bytes_of(t.text, t.len));
    atomic_fetch_add(t.failed ? &m->counters.scrape_errors : &m->counters.scrapes, 1);
    atomic_fetch_sub(&m->counters.scraping, 1);
    metrics_text_free(&t);
}

/* Arguments are left out: they may be passwords. */
static void on_vars(void *ctx, struct http_reply *r)
{
    struct mallinfo2 heap = mallinfo2();

    (void)ctx;
    r->content_type = "application/json; charset=utf-8";
    http_addf(r, "{\n\"cmdline\": [\"immudb\"],\n\"memstats\": {\"Alloc\":%zu,\"Sys\":%zu,\"HeapAlloc\":%zu,\"HeapIdle\":%zu,\"HeapInuse\":%zu}\n}\n",
              heap.uordblks + heap.hblkhd, heap.arena + heap.hblkhd, heap.uordblks + heap.hblkhd, heap.fordblks, heap.uordblks + heap.hblkhd);
}

static const struct http_route ROUTES[] = {
    {"/readyz", on_ready}, {"/initz", on_ready}, {"/livez", on_live}, {"/version", on_version}, {"/metrics", on_metrics}, {"/debug/vars", on_vars},
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
    if (m == NULL || (m->methods = calloc(METHOD_COUNT + PLAIN_METHOD_COUNT, sizeof *m->methods)) == NULL) {
        free(m);
        return err_set(err, ST_NOMEM, 0, "metrics: out of memory");
    }
    m->server = s;
    for (i = 0; i < METHOD_COUNT; i++)
        m->methods[m->method_count++] = (struct rpc_metrics_method){METHODS[i].path, kind_name(METHODS[i].kind)};
    for (i = 0; i < PLAIN_METHOD_COUNT && s->config->grpc_reflection; i++)
        if (PLAIN_METHODS[i].is_reflection)
            m->methods[m->method_count++] = (struct rpc_metrics_method){PLAIN_METHODS[i].path, kind_name(PLAIN_METHODS[i].kind)};
    if ((st = rpc_metrics_create(m->methods, m->method_count, &m->rpc, err)) != ST_OK) {
        monitor_free(m);
        return st;
    }
    *out = m;
    return ST_OK;
}

struct rpc_metrics *monitor_call_metrics(struct monitor *m) { return m->rpc; }

enum status monitor_listen(struct monitor *m, void *ssl_ctx, struct err *err)
{
    const struct config *c = m->server->config;
    struct http_options o = {.address = m->server->address,
                             .port = (uint16_t)c->metrics_server_port,
                             .routes = ROUTES,
                             .route_count = sizeof ROUTES / sizeof ROUTES[0],
                             .ctx = m,
                             .tls = ssl_ctx};
    enum status st;

    if (!c->metrics_server)
        return ST_OK;
    if ((st = http_start(&o, &m->http, err)) != ST_OK)
        return err_while(err, st, "starting the metrics server (--metrics-server-port)");
    return ST_OK;
}

void monitor_set_tls(struct monitor *m, void *ssl_ctx)
{
    if (m->http != NULL)
        http_set_tls(m->http, ssl_ctx);
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
