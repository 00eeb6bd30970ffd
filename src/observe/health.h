/* The health service of gRPC (grpc.health.v1.Health): Check, List and Watch of "" and of each service by name. Needs no login.
 *
 * SERVING while the server is ready; NOT_SERVING while it opens its databases and once it stops. Watchers are told of each change; at the stop they
 * get NOT_SERVING and the end of the stream (UNAVAILABLE). At most HEALTH_WATCHERS_MAX of them. */
#ifndef OBSERVE_HEALTH_H
#define OBSERVE_HEALTH_H

#include "request/server_parts.h"
#include "rpc/rpc.h"

#define HEALTH_WATCHERS_MAX 1000

/* services: names, borrowed. Not serving. */
MUST_USE enum status health_create(const char *const *services, size_t service_count, struct health **out, struct err *err);
/* No watcher may be left: after health_set(SERVER_STOPPING). NULL is allowed. */
void health_free(struct health *h);
/* Any thread. */
void health_set(struct health *h, enum readiness readiness);
size_t health_watchers(struct health *h);

/* Handlers. */
void health_check(struct health *h, struct rpc_call *call);
void health_list(struct health *h, struct rpc_call *call);
void health_watch(struct health *h, struct rpc_call *call);

#endif
