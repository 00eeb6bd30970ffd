/* Certificates that change while the server runs: SIGHUP reads the files again, --auto-cert renews its own in time.
 *
 * New connections are served with the new context, existing ones go on with the one they began with. Files that cannot be used change nothing.
 * Tickets of earlier TLS sessions belong to the old context: what was revoked by the new one cannot be resumed. */
#ifndef SERVER_RELOAD_H
#define SERVER_RELOAD_H

#include "request/server_parts.h"

struct reload;
/* The contexts in force: NULL without TLS. Once the data folder is there (--auto-cert keeps its files in it). */
MUST_USE enum status reload_open(struct server *s, struct reload **out, struct err *err);
void reload_free(struct reload *r); /* NULL is allowed */
void *reload_tls_rpc(const struct reload *r);
/* The same for HTTP: another one, because the gRPC layer agrees on HTTP/2 in its handshakes, and probes have no certificates. */
void *reload_tls_http(const struct reload *r);
/* Reads the files again; what happened goes to the log. From any thread, once the listeners are there. */
void reload_now(struct reload *r);
/* From the housekeeper, as often as it likes: renews --auto-cert, and warns of the end of other certificates once a day. */
void reload_tick(struct reload *r, int64_t now_s);

#endif
