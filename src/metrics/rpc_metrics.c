/* Counters in shards; see rpc_metrics.h. */
#include "metrics/rpc_metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

/* Buckets of immudb_query_latency_seconds; those of grpc_server_handling_seconds are among them, from the fourth on. */
static const double BOUNDS[] = {.0001, .0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10};
enum { BOUND_COUNT = sizeof BOUNDS / sizeof BOUNDS[0], HANDLING_FIRST = 3, CLIENT_BUCKETS = 4096, IP_MAX = 64 };

static const char *const CODE_NAMES[RPC_METRICS_CODES] = {"OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
                                                          "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
                                                          "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
                                                          "DataLoss", "Unauthenticated"};

struct counters {
    _Atomic uint64_t started, sum_ns, handled[RPC_METRICS_CODES], buckets[BOUND_COUNT + 1];
};

struct rpc_client {
    struct rpc_client *next;
    _Atomic uint64_t calls;
    _Atomic int64_t last_s;
    char ip[IP_MAX];
};

struct rpc_metrics {
    const struct rpc_metrics_method *methods;
    size_t method_count;
    struct counters *shards[RPC_METRICS_SHARDS]; /* made when a shard first counts */
    pthread_mutex_t lock;                        /* guards making shards and the clients; leaf */
    struct rpc_client *clients[CLIENT_BUCKETS];
    size_t client_count;
    struct rpc_client overflow;
};

enum status rpc_metrics_create(const struct rpc_metrics_method *methods, size_t method_count, struct rpc_metrics **out, struct err *err)
{
    struct rpc_metrics *m = calloc(1, sizeof *m);

    *out = NULL;
    if (m == NULL || pthread_mutex_init(&m->lock, NULL) != 0) {
        free(m);
        return err_set(err, ST_NOMEM, 0, "metrics: out of memory");
    }
    m->methods = methods;
    m->method_count = method_count;
    snprintf(m->overflow.ip, sizeof m->overflow.ip, "overflow");
    *out = m;
    return ST_OK;
}

void rpc_metrics_free(struct rpc_metrics *m)
{
    struct rpc_client *c, *next;
    size_t i;

    if (m == NULL)
        return;
    for (i = 0; i < CLIENT_BUCKETS; i++) {
        for (c = m->clients[i]; c != NULL; c = next) {
            next = c->next;
            free(c);
        }
    }
    for (i = 0; i < RPC_METRICS_SHARDS; i++)
        free(m->shards[i]);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* NULL when out of memory: then it is not counted. */
static struct counters *shard_of(struct rpc_metrics *m, unsigned shard)
{
    struct counters **at = &m->shards[shard % RPC_METRICS_SHARDS], *c = __atomic_load_n(at, __ATOMIC_ACQUIRE);

    if (c != NULL)
        return c;
    pthread_mutex_lock(&m->lock);
    if ((c = *at) == NULL && (c = calloc(m->method_count, sizeof *c)) != NULL)
        __atomic_store_n(at, c, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&m->lock);
    return c;
}

static void add(_Atomic uint64_t *to, uint64_t n) { atomic_fetch_add_explicit(to, n, memory_order_relaxed); }

void rpc_metrics_started(struct rpc_metrics *m, unsigned shard, size_t method_index)
{
    struct counters *c = shard_of(m, shard);

    if (c != NULL)
        add(&c[method_index].started, 1);
}

void rpc_metrics_ended(struct rpc_metrics *m, unsigned shard, size_t method_index, unsigned code, uint64_t duration_ns)
{
    struct counters *c = shard_of(m, shard);
    double seconds = (double)duration_ns / 1e9;
    size_t bucket = 0;

    if (c == NULL)
        return;
    c += method_index;
    while (bucket < BOUND_COUNT && seconds > BOUNDS[bucket])
        bucket++;
    add(&c->handled[code < RPC_METRICS_CODES ? code : 2], 1);
    add(&c->buckets[bucket], 1);
    add(&c->sum_ns, duration_ns);
}

/* --- clients --- */

struct rpc_client *rpc_metrics_client(struct rpc_metrics *m, struct bytes ip)
{
    struct rpc_client **bucket, *c;

    if (ip.len >= IP_MAX)
        ip.len = IP_MAX - 1;
    bucket = &m->clients[hash64(0, ip.data, ip.len) % CLIENT_BUCKETS];
    pthread_mutex_lock(&m->lock);
    for (c = *bucket; c != NULL; c = c->next)
        if (bytes_equal(bytes_str(c->ip), ip))
            break;
    if (c == NULL && m->client_count >= RPC_CLIENTS_MAX) {
        c = &m->overflow;
    } else if (c == NULL && (c = calloc(1, sizeof *c)) != NULL) {
        memcpy(c->ip, ip.data, ip.len);
        c->next = *bucket;
        *bucket = c;
        m->client_count++;
    }
    pthread_mutex_unlock(&m->lock);
    return c;
}

void rpc_client_count(struct rpc_client *c, int64_t now_s)
{
    add(&c->calls, 1);
    if (atomic_load_explicit(&c->last_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&c->last_s, now_s, memory_order_relaxed);
}

/* --- text --- */

struct sums {
    uint64_t started, sum_ns, handled[RPC_METRICS_CODES], buckets[BOUND_COUNT + 1];
};

static void sum_up(struct rpc_metrics *m, size_t method, struct sums *out)
{
    size_t s, i;

    *out = (struct sums){0};
    for (s = 0; s < RPC_METRICS_SHARDS; s++) {
        struct counters *c = __atomic_load_n(&m->shards[s], __ATOMIC_ACQUIRE);

        if (c == NULL)
            continue;
        c += method;
        out->started += atomic_load_explicit(&c->started, memory_order_relaxed);
        out->sum_ns += atomic_load_explicit(&c->sum_ns, memory_order_relaxed);
        for (i = 0; i < RPC_METRICS_CODES; i++)
            out->handled[i] += atomic_load_explicit(&c->handled[i], memory_order_relaxed);
        for (i = 0; i <= BOUND_COUNT; i++)
            out->buckets[i] += atomic_load_explicit(&c->buckets[i], memory_order_relaxed);
    }
}

/* grpc_type, grpc_service, grpc_method of a method; service: room for the name. */
static void method_labels(const struct rpc_metrics_method *m, char service[96], struct metric_label out[3])
{
    const char *slash = strrchr(m->path, '/');

    snprintf(service, 96, "%.*s", (int)(slash - m->path - 1), m->path + 1);
    out[0] = (struct metric_label){"grpc_type", m->type};
    out[1] = (struct metric_label){"grpc_service", service};
    out[2] = (struct metric_label){"grpc_method", slash + 1};
}

enum family { STARTED, HANDLED, RECEIVED, SENT };

static void family_write(struct rpc_metrics *m, const struct sums *sums, enum family f, struct metrics_text *t)
{
    static const char *const names[] = {"grpc_server_started_total", "grpc_server_handled_total", "grpc_server_msg_received_total",
                                        "grpc_server_msg_sent_total"};
    static const char *const helps[] = {"calls begun", "calls ended, by status", "calls that brought a message",
                                        "calls that were answered with a message"};
    struct metric_label labels[4];
    char service[96];
    size_t i, code;

    metrics_family(t, names[f], "counter", helps[f]);
    for (i = 0; i < m->method_count; i++) {
        method_labels(&m->methods[i], service, labels);
        if (f == STARTED || f == RECEIVED)
            metrics_sample_u64(t, names[f], labels, 3, sums[i].started);
        else if (f == SENT)
            metrics_sample_u64(t, names[f], labels, 3, sums[i].handled[0]);
        for (code = 0; f == HANDLED && code < RPC_METRICS_CODES; code++) {
            labels[3] = (struct metric_label){"grpc_code", CODE_NAMES[code]};
            metrics_sample_u64(t, names[f], labels, 4, sums[i].handled[code]);
        }
    }
}

static void handling_write(struct rpc_metrics *m, const struct sums *sums, struct metrics_text *t)
{
    struct metric_label labels[3];
    uint64_t buckets[BOUND_COUNT + 1];
    char service[96];
    size_t i, b;

    metrics_family(t, "grpc_server_handling_seconds", "histogram", "how long calls took");
    for (i = 0; i < m->method_count; i++) {
        memcpy(buckets, sums[i].buckets, sizeof buckets);
        for (b = 0; b < HANDLING_FIRST; b++)
            buckets[HANDLING_FIRST] += buckets[b];
        method_labels(&m->methods[i], service, labels);
        metrics_histogram(t, "grpc_server_handling_seconds", labels, 3, BOUNDS + HANDLING_FIRST, BOUND_COUNT - HANDLING_FIRST,
                          buckets + HANDLING_FIRST, (double)sums[i].sum_ns / 1e9);
    }
}

static void latency_write(struct rpc_metrics *m, const struct sums *sums, struct metrics_text *t)
{
    size_t i;

    metrics_family(t, "immudb_query_latency_seconds", "histogram", "how long unary calls took");
    for (i = 0; i < m->method_count; i++) {
        struct metric_label op = {"op", m->methods[i].path};

        if (strcmp(m->methods[i].type, "unary") == 0 && sums[i].started > 0)
            metrics_histogram(t, "immudb_query_latency_seconds", &op, 1, BOUNDS, BOUND_COUNT, sums[i].buckets, (double)sums[i].sum_ns / 1e9);
    }
}

static void client_write(const struct rpc_client *c, bool is_count, struct metrics_text *t)
{
    struct metric_label ip = {"ip", c->ip};
    struct rpc_client *m = (struct rpc_client *)(uintptr_t)c;

    if (is_count)
        metrics_sample_u64(t, "immudb_number_of_rpcs_per_client", &ip, 1, atomic_load_explicit(&m->calls, memory_order_relaxed));
    else
        metrics_sample(t, "immudb_clients_last_message_at_unix_seconds", &ip, 1, (double)atomic_load_explicit(&m->last_s, memory_order_relaxed));
}

static void clients_write(struct rpc_metrics *m, bool is_count, struct metrics_text *t)
{
    const struct rpc_client *c;
    size_t i;

    if (is_count)
        metrics_family(t, "immudb_number_of_rpcs_per_client", "counter", "calls by address of the client");
    else
        metrics_family(t, "immudb_clients_last_message_at_unix_seconds", "gauge", "when a client was last heard of");
    pthread_mutex_lock(&m->lock);
    for (i = 0; i < CLIENT_BUCKETS; i++)
        for (c = m->clients[i]; c != NULL; c = c->next)
            client_write(c, is_count, t);
    if (m->client_count >= RPC_CLIENTS_MAX)
        client_write(&m->overflow, is_count, t);
    pthread_mutex_unlock(&m->lock);
}

void rpc_metrics_write(struct rpc_metrics *m, bool with_histograms, struct metrics_text *t)
{
    struct sums *sums = calloc(m->method_count, sizeof *sums);
    size_t i;

    if (sums == NULL) {
        t->failed = true;
        return;
    }
    for (i = 0; i < m->method_count; i++)
        sum_up(m, i, &sums[i]);
    family_write(m, sums, HANDLED, t);
    if (with_histograms)
        handling_write(m, sums, t);
    family_write(m, sums, RECEIVED, t);
    family_write(m, sums, SENT, t);
    family_write(m, sums, STARTED, t);
    clients_write(m, false, t);
    clients_write(m, true, t);
    latency_write(m, sums, t);
    free(sums);
}
