/* Calls that arrive while the databases are being opened wait here instead of being refused. */
#ifndef REQUEST_GATE_H
#define REQUEST_GATE_H

#include "request/request.h"

#define GATE_WAITING_MAX 1000

struct gate;
MUST_USE enum status gate_create(struct gate **out, struct err *err);
void gate_free(struct gate *g); /* nobody waits any more; NULL is allowed */
/* GATE_OPEN: go on. GATE_PARKED: go_on(rq) is called on a worker once the gate opens, or the call is answered when it never does.
 * GATE_FULL: too many wait. */
enum gate_answer { GATE_OPEN, GATE_PARKED, GATE_FULL };
enum gate_answer gate_enter(struct gate *g, struct request *rq, void (*go_on)(struct request *rq));
void gate_open(struct gate *g);
/* The start failed: everybody waiting is answered UNAVAILABLE. */
void gate_shut(struct gate *g);

#endif
