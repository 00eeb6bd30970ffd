/* Health and metrics over HTTP, and what they count. */
#ifndef SERVER_MONITOR_H
#define SERVER_MONITOR_H

#include "metrics/rpc_metrics.h"
#include "server/server.h"

struct request;

MUST_USE enum status monitor_create(struct server *s, struct monitor **out, struct err *err);
/* Listens, unless the metrics server is switched off. */
MUST_USE enum status monitor_listen(struct monitor *m, struct err *err);
/* New HTTP connections get this SSL_CTX (a reference is taken). */
void monitor_set_tls(struct monitor *m, void *ssl_ctx);
uint16_t monitor_port(const struct monitor *m); /* 0 when it does not listen */
/* No probe is answered any more; what is counted stays. */
void monitor_stop_listening(struct monitor *m);
void monitor_free(struct monitor *m); /* NULL is allowed */

/* A call begins; on its reactor thread. client: what monitor_client() gave for its connection, or NULL. */
void monitor_call_started(struct monitor *m, const struct request *rq, struct rpc_client *client);
struct rpc_client *monitor_client(struct monitor *m, const char *peer);
/* rpc_options.on_end: counts the call and hands it to the access log, the audit log and the log of slow calls. */
void monitor_call_ended(void *server, struct rpc_call *call, enum rpc_code code, const char *message);

#endif
