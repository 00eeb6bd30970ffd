/* The server as a whole, for the program: start, stop, reload. Its parts: request/server_parts.h. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/err.h"

struct config;
struct logger;
struct server; /* request/server_parts.h */

/* Opens data directory, listeners first (health answers at once), then databases. Texts of errors as users know them. config and logger must
 * outlive the server. */
MUST_USE enum status server_start(const struct config *config, struct logger *logger, struct server **out, struct err *err);
/* The same, for a program that is told to stop meanwhile and has an exit code for everything. */
enum start_stage { START_FOLDER, START_KEYS, START_LISTENERS, START_DATABASES };
struct server_start {
    /* Asked when everything is open, before the first call is let in: false ends the start with ST_CANCELLED. NULL = yes. */
    bool (*may_open)(void *ctx);
    void *ctx;
    enum start_stage stage; /* where it is, or has failed */
};
MUST_USE enum status server_start_with(const struct config *config, struct logger *logger, struct server_start *how, struct server **out,
                                       struct err *err);
/* Readiness off, GOAWAY, no new calls; returns when the running ones are done, after 10 s, or when server_hurry() is called. Once. */
void server_drain(struct server *s);
/* Ends a server_drain() that is going on; from any thread. */
void server_hurry(struct server *s);
/* Drains (unless hurry is set or it was done before), cuts what is left, closes everything: queues are drained and synced. NULL is allowed. */
void server_stop(struct server *s, bool hurry);
/* SIGHUP: certificates are read again; what happened goes to the log. From any thread between start and stop. */
void server_reload(struct server *s);
uint16_t server_port(const struct server *s);
uint16_t server_metrics_port(const struct server *s); /* 0 when switched off */

#endif
