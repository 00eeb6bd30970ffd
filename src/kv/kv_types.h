/* What the key-value layer reads: entries as users see them, prefixes stripped, references followed.
 *
 * Byte strings are borrowed; who produces a value says until when it holds. */
#ifndef KV_KV_TYPES_H
#define KV_KV_TYPES_H

#include "tx/tx.h"

/* A large value that was left where it lies, verified: bytes from skip on of the value of an entry. */
struct kv_far {
    uint64_t tx_id; /* 0 = the value is in memory */
    uint32_t entry_index;
    uint8_t skip;
    uint8_t prefix; /* its first byte */
};

/* The reference through which an entry was reached. */
struct kv_reference {
    uint64_t tx_id;    /* of the reference entry */
    struct bytes key;  /* the reference's own key */
    uint64_t at_tx;    /* 0 = follows the key, else bound to that tx */
    uint64_t revision; /* 0 = not known */
    struct kv_metadata md;
};

struct kv_entry {
    uint64_t tx_id;
    struct bytes key;
    struct bytes value;
    struct kv_far far; /* far.tx_id != 0: where the value lies; value.data is NULL then */
    uint64_t revision; /* 0 = not known: read by tx */
    struct kv_metadata md;
    bool is_expired; /* History only: listed without value */
    bool has_reference;
    struct kv_reference reference;
};

/* A member of a sorted set. */
struct kv_zentry {
    struct bytes set, key;
    double score;
    uint64_t at_tx; /* 0 = the newest version of key */
    bool has_entry; /* false: references are kept unresolved */
    struct kv_entry entry;
};

/* One entry of a tx in the shape that was asked for. */
struct kv_tx {
    const struct tx_header *header;
    const struct tx_entry *entries; /* raw; value empty unless it was asked for */
    size_t entry_count;
    const struct kv_entry *kv_entries;
    size_t kv_entry_count;
    const struct kv_zentry *z_entries;
    size_t z_entry_count;
    const struct kv_far *entry_fars; /* where the values of entries lie; NULL: all in memory */
};

#endif
