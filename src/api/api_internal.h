/* Shared by the files of libimmudb: what is behind the handles.
 *
 * Owners: runtime > db > snapshot, cursor, tx. db->handles counts the last three while they are open (a tx until it is submitted), runtime->dbs the open
 * databases; both only guard against closing too early. */
#ifndef API_API_INTERNAL_H
#define API_API_INTERNAL_H

#include <stdatomic.h>

#include "api/api_struct.h"
#include "immudb.h"
#include "store/store.h"

struct immudb_runtime {
    struct runtime *runtime;
    struct env env;
    immudb_log_fn log;
    void *log_ctx;
    int log_level;
    _Atomic uint32_t dbs;
};

struct immudb_signer {
    struct signer *key; /* NULL: fn signs */
    immudb_sign_fn fn;
    void *ctx;
};

struct immudb_db {
    struct store *store;
    immudb_runtime *runtime;
    bool owns_runtime, is_async;
    uint32_t key_len_max, value_len_max, tx_entries_max, read_set_max; /* defaults filled in */
    immudb_signer *signer;
    _Atomic uint32_t handles;
    char name[STATE_DB_LEN_MAX + 1];
};

struct immudb_snapshot {
    immudb_db *db;
    struct store_snapshot *view;
};

/* --- keys --- */
/* A key in the forms that the store asks for. Bytes are borrowed from the argument or lie in small or big. */
struct key_ref {
    struct bytes store_key;
    struct bytes index_key;
    uint32_t ns;
    bool is_indexed;
    uint8_t *big;
    uint8_t small[256];
};
MUST_USE enum status key_open(immudb_bytes key, uint32_t flags, struct key_ref *out, struct err *err);
void key_close(struct key_ref *k);
MUST_USE enum status key_not_indexed(struct err *err);

/* --- reading one entry --- */
static inline int64_t db_now_s(const immudb_db *db) { return env_wall_s(&db->runtime->env); }
/* Fills out (but not its revision). Bytes are borrowed from pin, or copied into the arena when is_copy. index: for following references, NULL = do not.
 * ST_NOT_FOUND with a reference that leads nowhere. */
struct entry_want {
    immudb_db *db;
    struct index_snapshot *index;
    struct arena *arena;
    struct log_pin *pin;
    int64_t now_s;
    uint32_t flags; /* IMMUDB_RAW, IMMUDB_NO_VALUE, IMMUDB_NO_FOLLOW */
    bool is_copy;
};
MUST_USE enum status entry_at(const struct entry_want *w, uint64_t tx_id, uint32_t entry_index, immudb_entry *out, struct err *err);
/* key, metadata and what follows from it. */
MUST_USE enum status entry_describe(const struct entry_want *w, uint64_t tx_id, uint32_t entry_index, const struct tx_entry *e, immudb_entry *out,
                                    struct err *err);
MUST_USE enum status entry_copy(struct arena *arena, immudb_entry *e, struct err *err);
bool version_is_dead(const struct index_version *v, int64_t now_s);
MUST_USE enum status entry_refuse_dead(const immudb_entry *e, uint32_t flags, struct err *err);
/* One key in a snapshot. */
MUST_USE enum status get_latest(struct entry_want *w, const struct key_ref *key, immudb_entry *out, struct err *err);

/* --- transactions --- */
struct tx_item {             /* a key that a read-write transaction has touched */
    struct bytes key, value; /* store key, store value */
    struct kv_metadata md;
    bool is_written, is_read;
};
struct tx_range {
    struct bytes first, last; /* store keys; last empty: to the end of the namespace */
    struct tx_range *next;
};
enum { TX_INLINE_BYTES = 208 };
struct immudb_tx {
    immudb_db *db;
    struct store_draft *draft;   /* NULL: read only */
    struct store_snapshot *view; /* of reads; NULL until the first */
    int32_t mode;
    bool wait_durable, has_extra;
    uint64_t read_tx_id, timeout_ms;
    struct tx_item *items; /* read-write: malloc'ed */
    uint32_t item_count, item_cap, write_count, read_count;
    uint32_t *writes; /* indexes of items in the order of their first write; item_cap of them */
    uint32_t *table;  /* 1 + index of item, open addressing; 2 * item_cap of them */
    struct tx_range *ranges;
    uint32_t range_count;
    bool lost_range;        /* memory was short: the commit must fail */
    immudb_cursor *cursors; /* open ones */
    immudb_commit_fn fn;
    void *fn_ctx;
    struct arena arena;
    size_t budget_bytes;
    size_t inline_used;
    _Alignas(16) uint8_t inline_bytes[TX_INLINE_BYTES];
};
MUST_USE enum status tx_view(immudb_tx *tx, struct err *err);
/* NULL: out of memory. */
void *tx_alloc(immudb_tx *tx, size_t len);
/* Index of the item with this store key, made when missing and key is not too much for memory. */
MUST_USE enum status tx_item(immudb_tx *tx, struct bytes store_key, uint32_t *out, struct err *err);
const struct tx_item *tx_find(const immudb_tx *tx, struct bytes store_key);
void tx_free(immudb_tx *tx);
MUST_USE enum status tx_count_read(immudb_tx *tx, struct err *err);
/* From an own write. */
MUST_USE enum status entry_pending(const struct tx_item *item, int64_t now_s, uint32_t flags, struct arena *arena, immudb_entry *out,
                                   struct err *err);
MUST_USE enum status tx_put(immudb_tx *tx, immudb_bytes key, immudb_bytes value, const struct kv_metadata *md, uint32_t flags, struct err *err);
void result_out(const struct store_result *r, immudb_committed *out);

/* cursor.c: the transaction ends; notes what they have read, then they answer IMMUDB_CLOSED. */
enum status cursors_detach(immudb_tx *tx, struct err *err);

/* --- small things --- */
uint64_t deadline_after_ms(const immudb_db *db, uint64_t timeout_ms);
static inline struct arena *arena_of(immudb_buffer *b)
{
    arena_reset(&b->arena);
    return &b->arena;
}

#endif
