/* The keys written by the newest transactions, ordered but maybe not yet committed: what conditions are checked against beside the index.
 *
 * Serves as the overlay of precommitted txs (they are not in the index) and as the window for read sets: every version written by a tx
 * above `floor` is known here, with the newest one per key. So a condition that was checked against the index as of tx V needs no index
 * read inside the committer role as long as V >= floor. Switched on by the first draft with conditions; a database that never has one
 * pays nothing.
 *
 * Items are kept in the order they were written; the oldest tx is dropped when there are more than RECENT_ITEMS_MAX, but never one that is
 * not committed. Owned by the holder of the committer role: no locks. */
#ifndef STORE_RECENT_H
#define STORE_RECENT_H

#include "tx/tx.h"

#define RECENT_ITEMS_MAX 65536u

struct recent_item {
    uint64_t tx_id;
    uint64_t hash;
    const uint8_t *key;
    uint32_t key_len;
    uint32_t next; /* in its bucket: item number + 1, 0 = end */
    int64_t expires_at;
    bool is_deleted, has_expiry;
    bool is_newest; /* of its key; older ones are out of the buckets */
};
struct recent_tx {
    uint64_t tx_id;
    uint32_t item_count;
    uint8_t *keys; /* the key bytes of its items */
    size_t bytes;
};
struct recent {
    bool is_on;
    uint64_t floor;
    uint64_t seed;
    struct recent_item *items; /* ring of item_cap (a power of two), numbers item_first..item_end modulo the cap */
    uint64_t item_first, item_end;
    size_t item_cap;
    struct recent_tx *txs; /* ring likewise */
    uint64_t tx_first, tx_end;
    size_t tx_cap;
    uint32_t *buckets; /* item_cap of them: position in the ring + 1 */
    size_t key_bytes;
};

void recent_init(struct recent *r, uint64_t seed);
/* Starts with nothing known up to floor. */
void recent_start(struct recent *r, uint64_t floor);
/* Forgets everything and gives the memory back. */
void recent_stop(struct recent *r);
/* Adds the indexable entries of the next tx; mds are the decoded metadata of entries. committed_tx: txs up to it may be dropped.
 * ST_NOMEM: nothing was added; the owner must stop and start again above this tx. */
MUST_USE enum status recent_add(struct recent *r, uint64_t tx_id, const struct tx_entry *entries, const struct kv_metadata *mds, size_t count,
                                uint64_t committed_tx, struct err *err);
/* Newest version of a store key written above floor, or NULL. */
const struct recent_item *recent_find(const struct recent *r, struct bytes key);
/* True when a key in [first, last] was written by a tx above after_tx. last empty: up to the end of first's prefix byte. */
bool recent_in_range(const struct recent *r, struct bytes first, struct bytes last, uint64_t after_tx);
size_t recent_bytes(const struct recent *r);

#endif
