/* What is kept of a finished call for the access log and the audit log, and the bounded queue on which it leaves the network threads.
 *
 * Many threads push, one pops. Pushing never waits for the reader: a full queue drops the event and counts it. The reader is woken once for many
 * events: when the first comes it lets a few milliseconds pass, unless the queue is half full. */
#ifndef OBSERVE_CALL_EVENT_H
#define OBSERVE_CALL_EVENT_H

#include "request/request.h"

enum { EVENT_IP_MAX = 64, EVENT_SESSION_MAX = 44, EVENT_ERROR_MAX = 200 };

struct call_event {
    int64_t wall_ns; /* when it began */
    uint64_t duration_ns;
    const struct method *method;
    const char *user;     /* "" when nobody was logged in; lives as long as the server */
    const char *database; /* selected one, or "" */
    enum rpc_code code;
    char ip[EVENT_IP_MAX + 1];
    char session[EVENT_SESSION_MAX + 1]; /* id, secret; "" without one */
    char request_id[REQUEST_ID_MAX + 1]; /* given by the client (x-request-id), or "" */
    char error[EVENT_ERROR_MAX + 1];     /* text of the status, cut; "" when OK */
};
/* From a call that has ended; on its reactor. */
void call_event_fill(struct call_event *e, struct request *rq, enum rpc_code code, const char *message, uint64_t duration_ns);

struct call_ring;
MUST_USE enum status call_ring_create(const struct env *env, size_t capacity, struct call_ring **out, struct err *err);
void call_ring_free(struct call_ring *r);
/* False: full or closed; counted as dropped. */
bool call_ring_push(struct call_ring *r, const struct call_event *e);
/* Takes up to max events, oldest first; waits at most wait_ns for one. 0: none came, or the queue is closed and empty. */
size_t call_ring_pop(struct call_ring *r, struct call_event *out, size_t max, uint64_t wait_ns);
/* No more events; wakes the reader. */
void call_ring_close(struct call_ring *r);
bool call_ring_is_closed(struct call_ring *r);
size_t call_ring_length(struct call_ring *r);
uint64_t call_ring_dropped(struct call_ring *r);

#endif
