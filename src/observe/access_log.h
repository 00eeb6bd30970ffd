/* The access log (--log-access): one line per call, "user=..,ip=..,method=..,duration=..[,error=..][,request=..]". request is there when the client
 * sent x-request-id. Lines are made and written by a thread of its own. No line is lost: when the queue is full, the call's own thread writes. */
#ifndef OBSERVE_ACCESS_LOG_H
#define OBSERVE_ACCESS_LOG_H

#include "observe/call_event.h"

struct access_log;
struct logger;

MUST_USE enum status access_log_start(struct logger *logger, struct access_log **out, struct err *err);
/* Any thread; waits for nothing but, with a full queue, the log itself. */
void access_log_add(struct access_log *a, const struct call_event *e);
/* Writes what is queued. NULL is allowed. */
void access_log_stop(struct access_log *a);
/* Lines that were not written by the thread. */
uint64_t access_log_direct(struct access_log *a);

#endif
