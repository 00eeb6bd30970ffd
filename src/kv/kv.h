/* Keys and values over one store: what Get, Scan, Set, references and sorted sets mean.
 *
 * Reads go through a kv_reader, writes fill a store_draft. Statuses come with the published texts; in which protocol code they
 * end is the edges' business. Keys and sets are the users', without prefixes; how they lie in the store: store/kv_encoding.h.
 * "Current" is what reads see (store_state.visible_tx_id). */
#ifndef KV_KV_H
#define KV_KV_H

#include "kv/kv_types.h"
#include "store/store.h"

#define KV_RESULT_MAX 2500u /* entries of one answer */

#define KV_TEXT_NOT_FOUND "tbtree: key not found"
#define KV_TEXT_EXPIRED "tbtree: key not found: expired entry"
#define KV_TEXT_ILLEGAL_ARGUMENTS "illegal arguments"
#define KV_TEXT_ILLEGAL_STATE "illegal state"
#define KV_TEXT_READ_CONFLICT "tx read conflict"

/* ------------------------------------------------------------ reading */

/* One request's view: a snapshot, one reading of the clock, and the blocks its answers are borrowed from. One thread at a time.
 *
 * Byte strings of an entry hold until the next read through the same reader or its close. The arena may be exchanged and reset
 * between two entries of a list (kv_reader_unpin() first). With nowait every read gives ST_AGAIN
 * instead of waiting for the disk or the index; the caller then starts over elsewhere with a reader that waits. */
struct kv_reader {
    struct store *store;
    struct store_snapshot *snapshot; /* NULL until kv_reader_snapshot() */
    struct index_snapshot *index;    /* of the snapshot */
    struct index_pins *pinned;       /* of the index, between look-ups; NULL unless kv_reader_many() */
    struct arena *arena;             /* for values that can not be borrowed */
    int64_t now_s;                   /* decides all expiry */
    bool nowait;
    size_t far_bytes;            /* values of at least so many bytes are left where they are; 0: none */
    size_t keep_max, kept_bytes; /* once more than keep_max bytes of values were read: KV_FAR_BYTES_MIN instead */
    struct log_pin pins[2];      /* of the entry, and of the target of a reference */
};
void kv_reader_init(struct kv_reader *r, struct store *s, struct arena *arena, int64_t now_s, bool nowait);
void kv_reader_close(struct kv_reader *r);
/* Large values stay in the log: entries come with kv_entry.far. Such a value was read once, to verify it. */
#define KV_FAR_BYTES ((size_t)256 << 10)
#define KV_FAR_BYTES_MIN ((size_t)2 << 10)
void kv_reader_far(struct kv_reader *r, size_t far_bytes, size_t keep_max);
/* Many keys will be looked up in the snapshot, which is open: what one look-up read of the index is kept for the next, until the reader is closed. */
void kv_reader_many(struct kv_reader *r);
/* Lets go of what the last entry was borrowed from: before the reader's arena is reset between entries. */
void kv_reader_unpin(struct kv_reader *r);

/* Opens the reader's snapshot once the index covers since_tx (0 = the current tx). ST_INVALID "illegal arguments" for a future
 * since_tx. ST_AGAIN with nowait; else waits to the deadline. */
MUST_USE enum status kv_reader_snapshot(struct kv_reader *r, uint64_t since_tx, uint64_t deadline_ns, struct err *err);

struct kv_get_options {
    struct bytes key;
    uint64_t at_tx, since_tx; /* 0 = not given */
    int64_t at_revision;      /* > 0 counted from the first, < 0 backwards from the newest, 0 = not given */
    bool no_wait;             /* take whatever is indexed */
    uint64_t deadline_ns;     /* of waiting for the index */
};
/* Get with all its rules and texts: checks, waiting, reference resolution. Opens the reader's snapshot when needed. */
MUST_USE enum status kv_get(struct kv_reader *r, const struct kv_get_options *o, struct kv_entry *out, struct err *err);

/* The newest version in the reader's snapshot, references followed. ST_NOT_FOUND for missing, deleted and expired keys. */
MUST_USE enum status kv_get_latest(struct kv_reader *r, struct bytes key, struct kv_entry *out, struct err *err);
/* The entry of key in tx at_tx; a reference is followed in the reader's snapshot. Its revision is not known: 0. */
MUST_USE enum status kv_get_at(struct kv_reader *r, struct bytes key, uint64_t at_tx, struct kv_entry *out, struct err *err);

/* How a current value looks to the write checks. */
enum kv_presence { KV_ABSENT = 0, KV_PLAIN, KV_REFERENCE };
/* key as of at_tx (0 = in the snapshot). Deleted and expired: ST_NOT_FOUND with the text that a reader sees. */
MUST_USE enum status kv_presence(struct kv_reader *r, struct bytes key, uint64_t at_tx, enum kv_presence *out, struct err *err);

/* A limit as asked for: 0 means KV_RESULT_MAX, above it is ST_LIMIT with the published text. */
MUST_USE enum status kv_limit(uint64_t asked, uint64_t *limit, struct err *err);

/* Live keys in order. Deleted and expired keys are not counted; a reference that leads nowhere uses up the limit. */
struct kv_scan_options {
    struct bytes prefix, seek, end;
    bool inclusive_seek, inclusive_end, desc;
    uint64_t offset, limit; /* limit: 1..KV_RESULT_MAX */
};
struct kv_scan {
    struct kv_reader *reader;
    struct index_cursor *cursor; /* NULL: nothing to be found */
    uint64_t skip, left;
};
/* The reader has its snapshot. */
MUST_USE enum status kv_scan_open(struct kv_scan *s, struct kv_reader *r, const struct kv_scan_options *o, struct err *err);
/* ST_NOT_FOUND with an empty text at the end. */
MUST_USE enum status kv_scan_next(struct kv_scan *s, struct kv_entry *out, struct err *err);
void kv_scan_close(struct kv_scan *s);

/* Members of a sorted set, ordered by the raw bits of their scores. Members that are filtered by score, or whose key is gone,
 * use up the limit. */
struct kv_zscan_options {
    struct bytes set, seek_key; /* seek_key empty: from the edge */
    double seek_score;
    uint64_t seek_at_tx;
    bool inclusive_seek, desc;
    bool has_min, has_max;
    double min, max;
    uint64_t offset, limit;
};
struct kv_zscan {
    struct kv_reader *reader;
    struct index_cursor *cursor;
    uint64_t skip, left;
    struct bytes set;
    bool has_min, has_max;
    double min, max;
    struct arena *arena; /* the reader's, as it was when the scan was opened */
    uint8_t *member_key; /* copy of the member that is being resolved */
    size_t member_key_cap;
};
MUST_USE enum status kv_zscan_open(struct kv_zscan *s, struct kv_reader *r, const struct kv_zscan_options *o, struct err *err);
MUST_USE enum status kv_zscan_next(struct kv_zscan *s, struct kv_zentry *out, struct err *err);
void kv_zscan_close(struct kv_zscan *s);

/* Versions of one key, deletions and expired ones included, references unresolved. */
struct kv_history {
    struct kv_reader *reader;
    struct bytes key;
    struct index_version *versions;
    size_t count, at;
    uint64_t first_revision; /* of versions[0] */
    bool desc;
};
/* limit: as in the request, negative refused. The array comes from the reader's arena. */
MUST_USE enum status kv_history_open(struct kv_history *h, struct kv_reader *r, struct bytes key, uint64_t offset, int32_t limit, bool desc,
                                     struct err *err);
MUST_USE enum status kv_history_next(struct kv_history *h, struct kv_entry *out, struct err *err);

MUST_USE enum status kv_count(struct kv_reader *r, struct bytes prefix, uint64_t *count, struct err *err);

/* ------------------------------------------------------------ transactions */

enum kv_shape { KV_EXCLUDE = 0, KV_DIGEST, KV_RAW, KV_RESOLVE };
struct kv_tx_spec {
    bool is_given;               /* false: all entries as digests */
    enum kv_shape kv, zset, sql; /* of each kind of entries; those of documents are left out */
    bool keep_references;        /* leave references and members unresolved */
};
/* A tx read for an answer; everything in it holds until kv_tx_close(). */
struct kv_tx_read {
    struct kv_reader *reader;
    struct log_tx log_tx;
    bool is_open;
    struct kv_tx tx;
};
/* tx_id 0: ST_INVALID "illegal arguments"; missing: ST_NOT_FOUND "tx not found". Arrays come from the reader's arena. The reader
 * needs a snapshot when spec asks for resolution. */
MUST_USE enum status kv_tx_open(struct kv_tx_read *t, struct kv_reader *r, uint64_t tx_id, const struct kv_tx_spec *spec, struct err *err);
void kv_tx_close(struct kv_tx_read *t);

/* ------------------------------------------------------------ writing */

/* Encoded keys and values are allocated in arena, which must live until the draft is completed. */

/* The store key of a user's key. */
MUST_USE enum status kv_store_key(struct arena *arena, struct bytes key, struct bytes *out, struct err *err);
/* One pair. "illegal arguments" for an empty key, ST_EXISTS "duplicated keys are not supported in single batch transaction",
 * limits as the store says. */
MUST_USE enum status kv_draft_set(struct store_draft *d, struct arena *arena, struct bytes key, const struct kv_metadata *md, struct bytes value,
                                  struct err *err);
/* The same without a copy of a long value: the byte in front of it is the caller's too, is not used by anybody else, and gets the value's prefix. Value and prefix
 * must stay until the draft is completed. (In an encoded message that byte is the end of the value's length.) */
MUST_USE enum status kv_draft_set_in_place(struct store_draft *d, struct arena *arena, struct bytes key, const struct kv_metadata *md,
                                           struct bytes value, struct err *err);

struct kv_precondition {
    bool is_given; /* false: none of the kinds was set */
    enum precondition_kind kind;
    struct bytes key;
    uint64_t tx_id;
};
/* All of a request's. is_nested: the doubled prefix that Set and SetReference put before what the store finds wrong. */
MUST_USE enum status kv_draft_preconditions(struct store_draft *d, struct arena *arena, const struct kv_precondition *p, size_t count, bool is_nested,
                                            struct err *err);

/* Logical deletion of one more key; the reader has its snapshot. The draft conflicts when the key changes meanwhile. */
MUST_USE enum status kv_draft_delete(struct store_draft *d, struct arena *arena, struct kv_reader *r, struct bytes key, struct err *err);

struct kv_ref {
    struct bytes key, referenced_key;
    uint64_t at_tx;
    bool is_bound;
};
struct kv_zadd {
    struct bytes set, key;
    double score;
    uint64_t at_tx;
    bool is_bound;
};
/* The request alone: "illegal arguments". */
MUST_USE enum status kv_ref_check(const struct kv_ref *ref, struct err *err);
MUST_USE enum status kv_zadd_check(const struct kv_zadd *z, struct err *err);
MUST_USE enum status kv_draft_ref(struct store_draft *d, struct arena *arena, struct kv_reader *r, const struct kv_ref *ref, struct err *err);
MUST_USE enum status kv_draft_zadd(struct store_draft *d, struct arena *arena, struct kv_reader *r, const struct kv_zadd *z, struct err *err);

enum kv_op_kind { KV_OP_NONE = 0, KV_OP_SET, KV_OP_REF, KV_OP_ZADD };
struct kv_op {
    enum kv_op_kind kind;
    struct bytes key;   /* KV_OP_SET */
    struct bytes value; /* as for kv_draft_set_in_place() */
    struct kv_metadata md;
    struct kv_ref ref;   /* KV_OP_REF */
    struct kv_zadd zadd; /* KV_OP_ZADD */
};
/* Checks of the request alone: "empty set", "operation is not set", duplicates. */
MUST_USE enum status kv_ops_check(const struct kv_op *ops, size_t count, struct arena *arena, struct err *err);
/* Applies all operations in order. The reader has its snapshot unless no_wait, which allows only self-contained operations. */
MUST_USE enum status kv_draft_ops(struct store_draft *d, struct arena *arena, struct kv_reader *r, const struct kv_op *ops, size_t count,
                                  bool no_wait, struct err *err);

#endif
