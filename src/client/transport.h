/* A socket, with or without TLS, that never blocks unless asked to wait. One thread at a time. */
#ifndef CLIENT_TRANSPORT_H
#define CLIENT_TRANSPORT_H

#include "client/client.h"

struct transport;

MUST_USE enum status transport_open(const struct client_options *o, uint64_t deadline_ns, struct transport **out, struct err *err);
void transport_close(struct transport *t);
/* ST_AGAIN: nothing there right now; ST_CLOSED: the peer has closed; ST_IO. */
MUST_USE enum status transport_read(struct transport *t, void *out, size_t room, size_t *got, struct err *err);
/* ST_AGAIN: no room right now, nothing was taken. */
MUST_USE enum status transport_write(struct transport *t, const void *data, size_t len, size_t *taken, struct err *err);
/* Until something can be read (or written, when wants_write); ST_TIMEOUT at the deadline. */
MUST_USE enum status transport_wait(struct transport *t, bool wants_write, uint64_t deadline_ns, struct err *err);

#endif
