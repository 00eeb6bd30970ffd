/* Retention: values of old transactions are removed, by TruncateDatabase and by a thread of its own for databases that have a retention period.
 *
 * What is old: everything before the start of the (UTC) day that lies the retention period back. Headers, hashes and proofs stay. A replica only
 * drops values; a primary first writes a transaction with copies of its catalog (store.h).
 *
 * Values go file by file, when all of a file is old. A file that holds an earlier day than today is ended at each look at a database, so values stay
 * for a day longer than their retention period at most, not until a file is full. Where commit times are left out nothing is ever old. */
#ifndef DATABASES_TRUNCATOR_H
#define DATABASES_TRUNCATOR_H

#include "databases/databases.h"

#define RETENTION_LEAST_MS 86400000
#define TRUNCATION_FREQUENCY_DEFAULT_MS 86400000

struct truncation_result {
    uint64_t upto; /* last tx that is old */
    uint64_t freed_bytes;
};
/* The database is pinned. ST_NOT_FOUND "retention period has not been reached": nothing is old enough. skip_upto: nothing is done when the last old
 * tx is this one. Blocking, maybe for minutes: ST_CANCELLED soon after is_cancelled (NULL allowed) says so. */
MUST_USE enum status database_truncate(struct database *db, int64_t retention_ms, uint64_t skip_upto, bool (*is_cancelled)(void *ctx), void *ctx,
                                       struct truncation_result *out, struct err *err);

/* Truncations of it since the process began, and what they freed. */
struct truncation_counts {
    uint64_t truncations, bytes;
};
struct truncation_counts database_truncations(const struct database *db);

struct truncator;
/* A thread that looks at all databases every few seconds. A database is truncated when it is first seen with a retention period, when its settings
 * change, and then whenever its truncation frequency has passed. */
MUST_USE enum status truncator_start(struct databases *d, struct truncator **out, struct err *err);
/* Interrupts a truncation that is going on. NULL is allowed. */
void truncator_stop(struct truncator *t);
/* One round, on this thread: what the thread does each time. For tests. Returns how many databases were truncated. */
size_t truncator_round(struct truncator *t);
/* The same without a thread, for tests. */
MUST_USE enum status truncator_create(struct databases *d, struct truncator **out, struct err *err);

#endif
