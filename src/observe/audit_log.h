/* The audit log (--audit-log): each call becomes an entry of systemdb, part of its hash chain like everything there.
 *
 *   key    "audit:" ‖ unix nanoseconds, 20 digits ‖ "_" ‖ number of the event in this process, 16 digits
 *   value  {"ts":ns,"user":"","ip":"","db":"" (omitted when empty),"method":"/immudb.schema.ImmuService/Set",
 *           "type":"AUTH|ADMIN|WRITE|READ|SYSTEM","ok":true,"err":"" (omitted),"dur_ms":0,"sid":"" (omitted)}
 *
 * 1 to 64 entries per transaction. Neither requests nor answers go in: method, who, from where, on which database, how it ended. sid is the SHA-256
 * of the session id (base64url): calls of a session can be told together, and nobody who reads the log can use the session.
 *
 * Calls never wait for it: events go through a bounded queue to a thread, which keeps at most AUDIT_BATCHES transactions under way. A transaction
 * that fails is tried AUDIT_ATTEMPTS times; events that cannot be kept (queue full, disk full, damage) are counted and reported in the log. */
#ifndef OBSERVE_AUDIT_LOG_H
#define OBSERVE_AUDIT_LOG_H

#include "observe/call_event.h"

#define AUDIT_QUEUE 16384
#define AUDIT_BATCHES 64
#define AUDIT_BATCH_EVENTS 64
#define AUDIT_ATTEMPTS 3

enum audit_type { AUDIT_READ = 0, AUDIT_WRITE, AUDIT_ADMIN, AUDIT_AUTH, AUDIT_SYSTEM };
enum audit_type audit_type_of(const char *path);

struct audit_log;
struct logger;

/* Takes events from now on. events: which ones ("all", "write" or "admin", as the options allow). */
MUST_USE enum status audit_log_create(struct logger *logger, const char *events, struct audit_log **out, struct err *err);
/* Begins to write. systemdb: open until audit_log_stop(); NULL: a replica's, which takes no entries: all is dropped. */
MUST_USE enum status audit_log_start(struct audit_log *a, struct store *systemdb, struct err *err);
/* Any thread; never waits. */
void audit_log_add(struct audit_log *a, const struct call_event *e);
/* Is this method recorded? method_index: position in METHODS. */
bool audit_log_wants(const struct audit_log *a, size_t method_index);
/* Writes what is queued, as far as the disk takes it. NULL is allowed. */
void audit_log_stop(struct audit_log *a);

struct audit_stats {
    uint64_t recorded, dropped, failures; /* failures: of transactions, each attempt */
    size_t queued;
};
void audit_log_stats(struct audit_log *a, struct audit_stats *out);

/* An event as JSON, for the value; the length, or 0 when it does not fit. */
size_t audit_value(const struct call_event *e, char *out, size_t room);

#endif
