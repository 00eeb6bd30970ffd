/* Records of the system database: plain key-value entries, read and written through the store.
 *
 * A logical key K is the store key 0x00 || K, a logical value V the store value 0x00 || V (a deletion has no value at all). Which records exist
 * and what they look like is the business of user_record.h and of the server's database settings. Blocking: workers and start-up only. */
#ifndef AUTH_SYSTEMDB_H
#define AUTH_SYSTEMDB_H

#include "store/store.h"

#define SYSTEMDB_USER_PREFIX 0x01
#define SYSTEMDB_SETTINGS_PREFIX 0x02
#define SYSTEMDB_VERIFIER_PREFIX 0x03 /* our own: the published server passes over it */
#define SYSTEMDB_KEY_LEN_MAX 1023

struct systemdb_record {
    struct bytes key, value; /* logical */
};

/* The value is allocated in the arena. ST_NOT_FOUND "tbtree: key not found" also for deleted ones. */
MUST_USE enum status systemdb_get(struct store *s, struct bytes key, struct arena *arena, struct bytes *value, uint64_t *tx_id, struct err *err);
/* For whom something is written: nothing is once the deadline (env_mono_ns) has passed or is_cancelled says so. */
struct systemdb_caller {
    uint64_t deadline_ns;
    bool (*is_cancelled)(void *ctx);
    void *ctx;
};
/* One tx with one entry; returns once it is durable and indexed (while the index is being rebuilt, after some seconds at the latest). Any failure:
 * nothing was written; so there is no waiting for space, ST_NO_SPACE comes at once. extra: tx metadata, may be empty. */
MUST_USE enum status systemdb_put(struct store *s, struct bytes key, struct bytes value, struct bytes extra, struct err *err);
/* The same with several entries, at most SYSTEMDB_RECORDS_MAX, in one tx. caller: may be NULL. */
#define SYSTEMDB_RECORDS_MAX 2
MUST_USE enum status systemdb_put_all(struct store *s, const struct systemdb_record *records, size_t count, struct bytes extra,
                                      const struct systemdb_caller *caller, struct err *err);
/* One tx with a deletion mark. */
MUST_USE enum status systemdb_delete(struct store *s, struct bytes key, struct err *err);
/* Calls visit for each live record whose key begins with prefix, in key order; key (with its prefix) and value are borrowed for the call. visit
 * stops the scan by returning something else than ST_OK. */
MUST_USE enum status systemdb_scan(struct store *s, struct bytes prefix,
                                   enum status (*visit)(void *ctx, struct bytes key, struct bytes value, uint64_t tx_id, struct err *err), void *ctx,
                                   struct err *err);

#endif
