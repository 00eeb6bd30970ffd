/* The cursor's struct: shared by api_cursor.c (all lists) and api_scan.c (keys of a view or a transaction). */
#ifndef API_API_CURSOR_H
#define API_API_CURSOR_H

#include "api/api_internal.h"

enum cursor_kind { CURSOR_SCAN, CURSOR_HISTORY, CURSOR_TX };
enum { VERSIONS_MAX = 64 };

struct immudb_cursor {
    immudb_db *db;
    enum cursor_kind kind;
    uint32_t flags;
    int64_t now_s;
    struct store_snapshot *own; /* NULL: the view is somebody else's */
    struct index_snapshot *index;
    struct log_pin pin;
    struct arena arena; /* of the entry that was answered last */
    struct arena keys;  /* for the life of the cursor */
    bool is_ended, is_failed;

    /* CURSOR_SCAN */
    struct index_cursor *scan;
    struct index_scan_options range;
    uint64_t skip;
    bool has_version; /* version and key are the index's next, not yet answered */
    struct bytes key;
    struct index_version version;
    uint64_t revision;

    /* in a transaction */
    immudb_tx *tx; /* NULL: none, or it has ended */
    bool was_in_tx;
    immudb_cursor *next, **at;  /* in tx->cursors */
    struct tx_item *own_writes; /* copies, sorted; malloc'ed */
    size_t own_count, own_at;
    uint8_t *passed; /* store key that was passed last; malloc'ed */
    size_t passed_len, passed_cap;
    bool has_passed;
    uint8_t prefix_byte; /* of store keys in this namespace, before index keys; meaningless for the catalog */

    /* CURSOR_HISTORY */
    struct bytes history_key;
    uint32_t history_ns;
    uint64_t offset, total;
    size_t version_count, version_at;
    struct index_version versions[VERSIONS_MAX];

    /* CURSOR_TX */
    struct log_tx log_tx;
    uint32_t entry_at;
};

MUST_USE enum status cursor_make(immudb_db *db, enum cursor_kind kind, uint32_t flags, immudb_cursor **out, struct err *err);
/* The view of a snapshot, or a new one of its own. */
MUST_USE enum status cursor_view(immudb_cursor *c, immudb_snapshot *snapshot, struct err *err);
/* A copy of *b for the life of the cursor. */
MUST_USE enum status cursor_keep(immudb_cursor *c, struct bytes *b, struct err *err);
void cursor_unlink(immudb_cursor *c);
struct entry_want cursor_want(immudb_cursor *c);

/* api_scan.c */
MUST_USE enum status scan_next(immudb_cursor *c, immudb_entry *out, struct err *err);
void scan_end(immudb_cursor *c);
/* Notes in the tx what a cursor has read. */
enum status range_note(immudb_cursor *c, struct err *err);

#endif
