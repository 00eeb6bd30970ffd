/* The text of /metrics: two tables of families, one of the server as a whole, one by database. docs/observability.md lists and explains them. */
#ifndef OBSERVE_EXPOSITION_H
#define OBSERVE_EXPOSITION_H

#include <stdatomic.h>

#include "metrics/metrics_text.h"
#include "request/server_parts.h"
#include "store/store.h"

/* Open databases beyond this number get no series of their own: what a scrape costs is bounded. */
#define EXPOSITION_DATABASES_MAX 1000

/* What the monitor itself counts. Any thread. */
struct monitor_counters {
    _Atomic uint64_t slow_calls, login_failures[3]; /* wrong name or password, inactive, refused otherwise */
    _Atomic uint64_t scrapes, scrape_errors;
    _Atomic unsigned scraping;
};

/* The state of a database that cannot be opened. */
#define EXPOSITION_UNAVAILABLE "unavailable"

/* What probes and metrics call the health of a database: "ok", "rebuilding", "no_space", "damaged", "read_only". */
const char *exposition_health_name(enum store_health_kind kind);

/* The process alone: what can be told before the databases are open and while they are closed. */
void exposition_process(struct server *s, const struct monitor_counters *c, struct metrics_text *t);
/* Everything else, once the server is ready. HTTP thread. */
void exposition_server(struct server *s, const struct monitor_counters *c, struct metrics_text *t);

#endif
