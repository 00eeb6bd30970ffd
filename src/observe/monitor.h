/* Health and metrics over HTTP, and what they count. */
#ifndef OBSERVE_MONITOR_H
#define OBSERVE_MONITOR_H

#include "request/server_parts.h"

MUST_USE enum status monitor_create(struct server *s, struct monitor **out, struct err *err);
/* What counts the calls; by position in METHODS, those of reflection after them. */
struct rpc_metrics *monitor_call_metrics(struct monitor *m);
/* Listens, unless the metrics server is switched off. ssl_ctx: as below; NULL = plain HTTP. */
MUST_USE enum status monitor_listen(struct monitor *m, void *ssl_ctx, struct err *err);
/* New HTTP connections get this SSL_CTX (a reference is taken). */
void monitor_set_tls(struct monitor *m, void *ssl_ctx);
uint16_t monitor_port(const struct monitor *m); /* 0 when it does not listen */
/* No probe is answered any more; what is counted stays. */
void monitor_stop_listening(struct monitor *m);
void monitor_free(struct monitor *m); /* NULL is allowed */

/* rpc_options.on_end, ctx the monitor: counts the call and hands it to the access log, the audit log and the log of slow calls. */
void monitor_call_ended(void *monitor, struct rpc_call *call, enum rpc_code code, const char *message);

#endif
