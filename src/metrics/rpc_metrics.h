/* What calls there were: counts by method and status, and how long they took. One shard per network thread, so that counting costs a few additions in
 * memory nobody else writes; summed up when somebody asks. */
#ifndef METRICS_RPC_METRICS_H
#define METRICS_RPC_METRICS_H

#include "metrics/metrics_text.h"

#define RPC_METRICS_SHARDS 16
#define RPC_METRICS_CODES 17

struct rpc_metrics;

struct rpc_metrics_method {
    const char *path; /* "/package.Service/Method" */
    const char *type; /* "unary", "client_stream", "server_stream", "bidi_stream" */
};

/* methods: borrowed for the life of the object. */
MUST_USE enum status rpc_metrics_create(const struct rpc_metrics_method *methods, size_t method_count, struct rpc_metrics **out, struct err *err);
void rpc_metrics_free(struct rpc_metrics *m);

void rpc_metrics_started(struct rpc_metrics *m, unsigned shard, size_t method_index);
/* code: 0..16. */
void rpc_metrics_ended(struct rpc_metrics *m, unsigned shard, size_t method_index, unsigned code, uint64_t duration_ns);

/* --- clients --- */
#define RPC_CLIENTS_MAX 10000
struct rpc_client;
/* The counter of an address; later addresses than the first RPC_CLIENTS_MAX share one. Never freed before the whole. NULL when out of memory. */
struct rpc_client *rpc_metrics_client(struct rpc_metrics *m, struct bytes ip);
void rpc_client_count(struct rpc_client *c, int64_t now_s);

/* Writes the grpc_* families, the latency of unary calls, and the counts by client. */
void rpc_metrics_write(struct rpc_metrics *m, bool with_histograms, struct metrics_text *t);

#endif
