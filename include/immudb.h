/* immudb: an immutable, verifiable key-value database inside your program.
 *
 * Include this, link with -limmudb (pkg-config immudb). First program: examples/embed.c. The rules of the interface - sizes of structs, ownership, threads,
 * errors - stand at the top of immudb_verify.h and hold here too. Only what goes beyond them is said at each function.
 *
 * Life of the handles: runtime > database > snapshot, cursor, tx. Each must be closed before the one it came from; buffers, tickets and proofs stand for
 * themselves; a signer outlives the databases that use it.
 *
 * A database directory belongs to one process at a time. A database written by this library can be served by the immudb server and the other way round:
 * keys and values are stored in the same form (a first byte 0x00 before each; IMMUDB_RAW shows the whole). */
#ifndef IMMUDB_H
#define IMMUDB_H

#include "immudb_verify.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct immudb_runtime immudb_runtime;   /* memory, threads, cache: one for many databases */
typedef struct immudb_db immudb_db;             /* an open database */
typedef struct immudb_snapshot immudb_snapshot; /* a read view as of one transaction */
typedef struct immudb_cursor immudb_cursor;     /* a list of entries, read one by one */
typedef struct immudb_tx immudb_tx;             /* a transaction in the making */
typedef struct immudb_ticket immudb_ticket;     /* a commit under way */
typedef struct immudb_signer immudb_signer;     /* signs states */

#define IMMUDB_FOREVER UINT64_MAX /* as timeout_ms */

/* ------------------------------------------------------------ runtime */

enum { IMMUDB_LOG_ERROR = 0, IMMUDB_LOG_WARN = 1, IMMUDB_LOG_INFO = 2, IMMUDB_LOG_DEBUG = 3 };
/* One line without newline, borrowed. Called from any thread, also inside other calls: must not call back into the library. */
typedef void (*immudb_log_fn)(void *ctx, int level, const char *text);

typedef struct immudb_runtime_options {
    size_t size;
    uint64_t memory_limit;   /* caches, queues and tables together; 0 = 256 MiB, or half of the control group's limit when smaller; at least 8 MiB */
    uint32_t handles_max;    /* open files kept; 0 = 256 */
    uint32_t sync_threads;   /* that carry commits submitted without blocking; 0 = 4 */
    uint32_t worker_threads; /* for long reads; 0 = twice the CPUs */
    int32_t log_level;       /* the least important level that is still reported; 0 = errors alone */
    immudb_log_fn log;       /* NULL = nothing is logged anywhere */
    void *log_ctx;
} immudb_runtime_options;
IMMUDB_SIZED_(immudb_runtime_options)

/* options: NULL = defaults. Threads are started when there is work and end when idle. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_runtime_create(const immudb_runtime_options *options, immudb_runtime **out, immudb_error *err);
/* IMMUDB_BUSY: a database of it is open; nothing was done then. NULL is allowed. */
IMMUDB_API immudb_status immudb_runtime_free(immudb_runtime *runtime, immudb_error *err);

/* ------------------------------------------------------------ database */

/* flags of immudb_options */
enum {
    IMMUDB_CREATE = 1, /* make the directory when it is missing (its parent must exist) */
    IMMUDB_OPEN_READ_ONLY = 2,
    IMMUDB_ASYNC = 4,           /* a commit answers once it is written; it survives a crash once immudb_state.tx_id has reached it */
    IMMUDB_EXTERNAL_COMMIT = 8, /* transactions wait for immudb_allow_commit(); implies durable commits */
    IMMUDB_EXCLUDE_COMMIT_TIME = 16,
    IMMUDB_HEADER_V0 = 32 /* write headers of version 0 (no metadata), for old readers */
};

typedef struct immudb_options {
    size_t size;
    immudb_runtime *runtime; /* NULL = the database makes one of its own from runtime_options */
    const immudb_runtime_options *runtime_options;
    immudb_signer *signer; /* for immudb_state_sign(); must outlive the database */
    const char *name;      /* that states are signed under; NULL = "defaultdb"; at most 256 bytes; copied */
    uint32_t flags;
    uint32_t tx_entries_max;         /* 0 = 1,024 */
    uint32_t key_len_max;            /* of the store key, first byte included; 0 = 1,024; at most 65,535 */
    uint32_t value_len_max;          /* of the store value, first byte included; 0 = 32 MiB */
    uint32_t read_set_max;           /* reads that one transaction may do; 0 = 100,000 */
    uint32_t waiters_max;            /* threads in immudb_wait_indexed(); 0 = 1,000 */
    uint32_t batch_txs_max;          /* transactions that share one write and sync; 0 = 4,096 */
    uint32_t async_sync_interval_ms; /* IMMUDB_ASYNC: synced in the background at least so often; 0 = 20 */
    uint64_t batch_bytes_max;        /* 0 = 4 MiB */
    uint64_t tx_bytes_max;           /* 0 = 1 GiB */
    uint64_t memtable_bytes_max;     /* 0 = a share of the memory limit */
} immudb_options;
IMMUDB_SIZED_(immudb_options)

/* Opens the database in directory path. options: NULL = durable, an existing directory.
 * IMMUDB_NOT_FOUND: no database there and IMMUDB_CREATE not set. IMMUDB_BUSY: in use by another process or handle. IMMUDB_UNSUPPORTED: written by a later
 * release. IMMUDB_IO, IMMUDB_NO_SPACE. Damage does not fail the open: the database is read-only then, see immudb_health_get(). */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_open(const char *path, const immudb_options *options, immudb_db **out, immudb_error *err);
/* Finishes what is submitted (callbacks are called), syncs, closes. Takes the database unless it answers IMMUDB_BUSY: transactions, snapshots or cursors are
 * still open; nothing was done then. No other call on the database may be running. NULL is allowed. */
IMMUDB_API immudb_status immudb_close(immudb_db *db, immudb_error *err);
/* 16 bytes that stay the same for the life of the database. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_uuid(immudb_db *db, uint8_t out[16], immudb_error *err);

enum {
    IMMUDB_HEALTHY = 0,
    IMMUDB_REBUILDING = 1,        /* the index is behind: key reads answer IMMUDB_BUSY */
    IMMUDB_OUT_OF_SPACE = 2,      /* writes wait for space */
    IMMUDB_READ_ONLY_DAMAGED = 3, /* damage was found in what had been acknowledged */
    IMMUDB_READ_ONLY_FAILED = 4   /* a write failed: reopen */
};
typedef struct immudb_health {
    size_t size;
    int32_t kind;
    int32_t reserved;
    uint64_t rebuilt, to_rebuild; /* transactions */
    char text[512];               /* what is wrong and where; empty when healthy */
} immudb_health;
IMMUDB_SIZED_(immudb_health)
/* Costs nothing; fails for wrong arguments alone. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_health_get(immudb_db *db, immudb_health *out, immudb_error *err);

/* ------------------------------------------------------------ entries */

/* flags of immudb_entry */
enum {
    IMMUDB_ENTRY_DELETED = 1,
    IMMUDB_ENTRY_EXPIRES = 2,       /* expires_at holds */
    IMMUDB_ENTRY_NON_INDEXABLE = 4, /* only found through its transaction */
    IMMUDB_ENTRY_VALUE_GONE = 8,    /* truncated away: only value_hash is left */
    IMMUDB_ENTRY_REFERENCE = 16,    /* its value is a reference to referenced_key */
    IMMUDB_ENTRY_EXPIRED = 32,      /* its time is over, by this machine's clock when the cursor or read began */
    IMMUDB_ENTRY_PENDING = 64       /* written by the asking transaction itself: no tx_id, revision, value_hash yet */
};
typedef struct immudb_entry {
    size_t size;
    immudb_bytes key;            /* with IMMUDB_RAW the store key */
    immudb_bytes value;          /* with IMMUDB_RAW the store value; of a reference: the value of the key it refers to */
    immudb_bytes metadata;       /* canonical bytes, as hashed */
    immudb_bytes referenced_key; /* IMMUDB_ENTRY_REFERENCE */
    uint64_t referenced_tx_id;   /* where the value of a reference was found; not followed: the transaction it is bound to, 0 = none */
    uint64_t tx_id;
    uint64_t revision;    /* 1 for the key's first version; 0 = not known (reads at a transaction) */
    int64_t expires_at;   /* unix seconds */
    uint32_t entry_index; /* in its transaction, from 0 */
    uint32_t flags;
    uint64_t value_len;     /* of the store value, also when the value itself was not asked for */
    immudb_hash value_hash; /* SHA-256 of the store value */
} immudb_entry;
IMMUDB_SIZED_(immudb_entry)

/* flags of reads and writes */
enum {
    IMMUDB_RAW = 1,            /* keys and values are store keys and store values, first byte included; references are not followed */
    IMMUDB_WITH_DELETED = 2,   /* deleted and expired entries are answered too; their flags say so */
    IMMUDB_NO_VALUE = 4,       /* value stays empty; saves reading it */
    IMMUDB_NO_FOLLOW = 8,      /* references are not followed: value stays empty */
    IMMUDB_NON_INDEXABLE = 16, /* writes: the entry is not found by key, only through its transaction */
    IMMUDB_EXPIRES = 32        /* writes: immudb_set_options.expires_at holds */
};

/* ------------------------------------------------------------ writing, one call */

typedef struct immudb_set_options {
    size_t size;
    int64_t expires_at; /* with IMMUDB_EXPIRES */
    uint32_t flags;     /* IMMUDB_RAW, IMMUDB_NON_INDEXABLE, IMMUDB_EXPIRES */
    uint32_t reserved;
} immudb_set_options;
IMMUDB_SIZED_(immudb_set_options)

/* What became of a commit. */
typedef struct immudb_committed {
    size_t size;
    uint64_t tx_id;
    int64_t ts;
    immudb_hash alh;
} immudb_committed;
IMMUDB_SIZED_(immudb_committed)

/* Never changes. */
typedef struct immudb_pair {
    immudb_bytes key, value;
} immudb_pair;

/* All writes may answer: IMMUDB_INVALID (empty key), IMMUDB_LIMIT (a length, the number of entries), IMMUDB_EXISTS (the same key twice),
 * IMMUDB_READ_ONLY, IMMUDB_NO_SPACE and IMMUDB_TIMEOUT (nothing was written), IMMUDB_IO (the database is read-only from then on; whether the transaction is
 * there shows after reopening), IMMUDB_CLOSED. committed may be NULL; a successful commit can be read at once. options may be NULL.
 * Blocking; with IMMUDB_ASYNC they return without waiting for the disk. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_set(immudb_db *db, immudb_bytes key, immudb_bytes value, const immudb_set_options *options,
                                                    immudb_committed *committed, immudb_error *err);
/* Several pairs in one transaction. flags: IMMUDB_RAW, IMMUDB_NON_INDEXABLE. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_set_many(immudb_db *db, const immudb_pair *pairs, size_t pair_count, uint32_t flags,
                                                         immudb_committed *committed, immudb_error *err);
/* Marks the key as deleted; its history stays. IMMUDB_NOT_FOUND: there is none. IMMUDB_CONFLICT: it changed meanwhile. flags: IMMUDB_RAW. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_delete(immudb_db *db, immudb_bytes key, uint32_t flags, immudb_committed *committed,
                                                       immudb_error *err);

/* ------------------------------------------------------------ transactions */

enum {
    IMMUDB_TX_READ_WRITE = 0, /* reads see the database as of the first of them, plus own writes; what was read is checked at commit */
    IMMUDB_TX_WRITE_ONLY = 1, /* no reads; a little faster. Preconditions are possible */
    IMMUDB_TX_READ_ONLY = 2   /* reads as of read_tx_id; nothing to commit */
};
typedef struct immudb_tx_options {
    size_t size;
    int32_t mode;
    uint32_t wait_durable; /* 1: with IMMUDB_ASYNC too the commit answers only once it is on disk */
    uint64_t read_tx_id;   /* read only as of this transaction, for IMMUDB_TX_READ_ONLY; 0 = the newest */
    uint64_t timeout_ms;   /* of the commit: not begun by then = IMMUDB_TIMEOUT and not written; 0 = none (10 s where it must wait) */
} immudb_tx_options;
IMMUDB_SIZED_(immudb_tx_options)

/* options: NULL = read-write. IMMUDB_NOT_FOUND: read_tx_id is not there. IMMUDB_BUSY: the index is being rebuilt. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_begin(immudb_db *db, const immudb_tx_options *options, immudb_tx **out, immudb_error *err);
/* Copies key and value. In read-write transactions a later set replaces an earlier one, in write-only ones it is IMMUDB_EXISTS. After a failure the
 * transaction is as before and may go on. IMMUDB_READ_ONLY in read-only ones. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_set(immudb_tx *tx, immudb_bytes key, immudb_bytes value, const immudb_set_options *options,
                                                       immudb_error *err);
/* Read-write: IMMUDB_NOT_FOUND when the key is not there. Write-only: that shows at commit, as IMMUDB_CONFLICT; if the call itself fails there, give the
 * transaction up. flags: IMMUDB_RAW. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_delete(immudb_tx *tx, immudb_bytes key, uint32_t flags, immudb_error *err);
enum { IMMUDB_MUST_EXIST = 0, IMMUDB_MUST_NOT_EXIST = 1, IMMUDB_NOT_MODIFIED_AFTER_TX = 2 };
/* Must hold when the transaction gets its place in the order, else the commit is IMMUDB_CONFLICT "precondition failed: ...". tx_id: for the last kind.
 * Judges the database without the transaction's own writes. flags: IMMUDB_RAW. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_precondition(immudb_tx *tx, int32_t kind, immudb_bytes key, uint64_t tx_id, uint32_t flags,
                                                                immudb_error *err);
/* Up to 256 bytes in the header, hashed along; a later call replaces them, empty takes them away. Copied. IMMUDB_LIMIT: longer. IMMUDB_READ_ONLY in read-only
 * transactions. With IMMUDB_HEADER_V0 the commit answers IMMUDB_INVALID. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_set_extra(immudb_tx *tx, immudb_bytes extra, immudb_error *err);
/* As immudb_get(); sees own writes. References are not followed (get referenced_key next, so that it is checked too). The read, also one that found nothing,
 * is checked at commit. IMMUDB_INVALID in write-only transactions; IMMUDB_LIMIT: too many reads. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_get(immudb_tx *tx, immudb_bytes key, uint32_t flags, immudb_buffer *buffer, immudb_entry *out,
                                                       immudb_error *err);
/* Gives the transaction up. NULL is allowed. */
IMMUDB_API void immudb_tx_cancel(immudb_tx *tx);

/* The three commits take tx in every case, also on failure. Open cursors of it answer IMMUDB_CLOSED from then on and are still to be closed.
 * IMMUDB_CONFLICT: "tx read conflict", something that was read has changed; or a precondition. IMMUDB_INVALID: no entries. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_commit(immudb_tx *tx, immudb_committed *committed, immudb_error *err);

/* Called exactly once; all pointers are borrowed for the call. committed is NULL unless status is IMMUDB_OK, err is NULL when it is. Runs on a thread of the
 * library, or inside immudb_tx_commit_async() itself: must be short and must not wait for the same database (a blocking commit, close); submitting is allowed. */
typedef void (*immudb_commit_fn)(void *ctx, immudb_status status, const immudb_committed *committed, const immudb_error *err);
/* Returns at once. Never fails: errors go to fn. */
IMMUDB_API void immudb_tx_commit_async(immudb_tx *tx, immudb_commit_fn fn, void *ctx);
/* Returns at once, with something to wait for. A failure means nothing was submitted; errors of the commit come from the ticket. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_commit_ticket(immudb_tx *tx, immudb_ticket **out, immudb_error *err);
/* The status of the commit, or IMMUDB_BUSY when it is not done after timeout_ms (0 = only look). May be asked again and again. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_ticket_wait(immudb_ticket *ticket, uint64_t timeout_ms, immudb_committed *committed,
                                                            immudb_error *err);
/* Also before it is done: the commit goes on. NULL is allowed. */
IMMUDB_API void immudb_ticket_free(immudb_ticket *ticket);

/* ------------------------------------------------------------ reading */

/* A view of the database as of tx_id (0 = the newest), for any number of reads. Holds memory: not for ever. IMMUDB_NOT_FOUND: no such transaction.
 * IMMUDB_BUSY: the index is being rebuilt. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_snapshot_open(immudb_db *db, uint64_t tx_id, immudb_snapshot **out, immudb_error *err);
IMMUDB_API uint64_t immudb_snapshot_tx(const immudb_snapshot *snapshot);
IMMUDB_API void immudb_snapshot_close(immudb_snapshot *snapshot);

/* Waits until everything up to tx_id (0 = all that is visible now) is found by key. Indexes are in step with commits except while one is being rebuilt.
 * IMMUDB_TIMEOUT, IMMUDB_BUSY: still rebuilding; IMMUDB_LIMIT: too many waiters. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_wait_indexed(immudb_db *db, uint64_t tx_id, uint64_t timeout_ms, immudb_error *err);

typedef struct immudb_get_options {
    size_t size;
    immudb_snapshot *snapshot; /* NULL = the newest state */
    uint64_t at_tx;            /* the version written by this very transaction; not with snapshot or at_revision */
    int64_t at_revision;       /* > 0: version number; < 0: so many before the newest; 0 = the newest */
    uint32_t flags;            /* IMMUDB_RAW, IMMUDB_WITH_DELETED, IMMUDB_NO_VALUE, IMMUDB_NO_FOLLOW */
    uint32_t reserved;
} immudb_get_options;
IMMUDB_SIZED_(immudb_get_options)

/* IMMUDB_NOT_FOUND: never written, deleted, expired; with at_tx: not written there. IMMUDB_INVALID: revision out of range, or (IMMUDB_RAW) a key that no index
 * covers. IMMUDB_CORRUPT: the disk is damaged. A value that was truncated away: IMMUDB_OK with IMMUDB_ENTRY_VALUE_GONE. options may be NULL. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_get(immudb_db *db, immudb_bytes key, const immudb_get_options *options, immudb_buffer *buffer,
                                                    immudb_entry *out, immudb_error *err);

typedef struct immudb_scan_options {
    size_t size;
    immudb_snapshot *snapshot; /* NULL = the newest state, as of the opening; must stay open as long as the cursor; not in transactions */
    immudb_bytes prefix;       /* only keys with it */
    immudb_bytes seek;         /* where to start; empty = at the edge of the prefix */
    immudb_bytes end;          /* where to stop; empty = at the other edge */
    uint64_t offset;           /* entries to skip */
    uint32_t flags;            /* as in immudb_get_options, and those below */
    uint32_t reserved;
} immudb_scan_options;
IMMUDB_SIZED_(immudb_scan_options)
enum {
    IMMUDB_DESC = 256, /* downwards: seek is the upper bound, end the lower one */
    IMMUDB_INCLUSIVE_SEEK = 512,
    IMMUDB_INCLUSIVE_END = 1024,
    IMMUDB_WITH_REVISION = 2048 /* costs a little for each entry */
};

/* The newest version of each key, in the order of keys. With IMMUDB_RAW prefix, seek and end are store keys; the first byte must be given and be the same.
 * References that lead nowhere are left out. options may be NULL: everything.
 * No entry at all is no error here: the first immudb_cursor_next() tells. IMMUDB_INVALID: the snapshot is of another database, or (IMMUDB_RAW) no index covers
 * the range. IMMUDB_BUSY: the index is being rebuilt. IMMUDB_UNSUPPORTED: a flag of a later release. IMMUDB_CORRUPT: the disk is damaged, or damage has made
 * it unknown which is the newest state. IMMUDB_IO. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_scan(immudb_db *db, const immudb_scan_options *options, immudb_cursor **out, immudb_error *err);
/* In a transaction: sees the own writes done before this call; references are not followed; the range that the cursor has passed is checked at commit.
 * As immudb_scan(), and: IMMUDB_INVALID in write-only transactions, or when options name a snapshot; IMMUDB_LIMIT: too many reads. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_scan(immudb_tx *tx, const immudb_scan_options *options, immudb_cursor **out, immudb_error *err);
/* All versions of one key, deleted and expired ones included. References are not followed. flags: IMMUDB_RAW, IMMUDB_NO_VALUE, IMMUDB_DESC.
 * snapshot: NULL = the newest state; else it must stay open as long as the cursor. IMMUDB_NOT_FOUND: the key was never written. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_history(immudb_db *db, immudb_snapshot *snapshot, immudb_bytes key, uint64_t offset, uint32_t flags,
                                                        immudb_cursor **out, immudb_error *err);
/* The entries of one transaction in order, as written. Without IMMUDB_RAW only plain keys are listed (their entry_index shows gaps).
 * flags: IMMUDB_RAW, IMMUDB_NO_VALUE. IMMUDB_NOT_FOUND: no such transaction. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_entries(immudb_db *db, uint64_t tx_id, uint32_t flags, immudb_cursor **out, immudb_error *err);
/* The next entry; its bytes hold until the next call on the cursor.
 *
 * THE END of the list, also of an empty one, is IMMUDB_NOT_FOUND (with an empty text). It is the only good end of a loop: any other status but IMMUDB_OK
 * means that entries are missing. Asking again at the end gives IMMUDB_NOT_FOUND again.
 *
 *     while ((status = immudb_cursor_next(cursor, &entry, &err)) == IMMUDB_OK)
 *         use(&entry);
 *     if (status != IMMUDB_NOT_FOUND)
 *         failed(&err);
 *
 * IMMUDB_CORRUPT, IMMUDB_IO: the disk. IMMUDB_CLOSED: its transaction has ended. After a failure the cursor may only be closed (IMMUDB_INVALID then). */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_cursor_next(immudb_cursor *cursor, immudb_entry *out, immudb_error *err);
IMMUDB_API void immudb_cursor_close(immudb_cursor *cursor);
/* Number of keys with the prefix, deleted ones included; none: IMMUDB_OK and 0. snapshot: NULL = the newest state. flags: IMMUDB_RAW. IMMUDB_INVALID: the snapshot
 * is of another database, or (IMMUDB_RAW) no index covers the prefix. IMMUDB_BUSY: the index is being rebuilt. IMMUDB_CORRUPT, IMMUDB_IO: the disk. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_count(immudb_db *db, immudb_snapshot *snapshot, immudb_bytes prefix, uint32_t flags, uint64_t *out,
                                                      immudb_error *err);

/* The header of a transaction, and (alh may be NULL) its hash. IMMUDB_NOT_FOUND: no such transaction. IMMUDB_CORRUPT, IMMUDB_IO: the disk. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_header_get(immudb_db *db, uint64_t tx_id, immudb_header *out, immudb_hash *alh, immudb_error *err);
/* The first transaction at or after a time (unix seconds). IMMUDB_NOT_FOUND: none yet. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tx_since(immudb_db *db, int64_t ts, uint64_t *tx_id, immudb_error *err);

/* ------------------------------------------------------------ states */

typedef struct immudb_state {
    size_t size;
    uint64_t tx_id;         /* committed and on disk: what may be proven and trusted; 0 = empty */
    immudb_hash alh;        /* SHA-256("") for 0 */
    uint64_t visible_tx_id; /* what reads see: larger with IMMUDB_ASYNC for a moment */
    uint64_t precommitted_tx_id;
    immudb_hash precommitted_alh;
} immudb_state;
IMMUDB_SIZED_(immudb_state)
/* Costs nothing. IMMUDB_CORRUPT: damage has made unknown what the newest transaction was. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_state_get(immudb_db *db, immudb_state *out, immudb_error *err);
/* The state and the database's signature over it. IMMUDB_CORRUPT as immudb_state_get(). IMMUDB_INVALID: it has no signer. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_state_sign(immudb_db *db, immudb_state *out, immudb_signature *signature, immudb_error *err);

/* From the content of a PEM file with an EC private key (P-256 as a rule). The memory of the key is wiped at the end. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_signer_from_pem(immudb_bytes pem, immudb_signer **out, immudb_error *err);
/* A signature made elsewhere: sign payload (SHA-256, then ECDSA, ASN.1 DER) and fill out, whose size is set. Called from any thread, several at once. What it
 * answers other than IMMUDB_OK is passed on, with the text it put into err. */
typedef immudb_status (*immudb_sign_fn)(void *ctx, immudb_bytes payload, immudb_signature *out, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_signer_from_callback(immudb_sign_fn fn, void *ctx, immudb_signer **out, immudb_error *err);
/* No database may use it any more. */
IMMUDB_API void immudb_signer_free(immudb_signer *signer);

/* ------------------------------------------------------------ proofs */
/* Only of what is on disk: transactions up to immudb_state.tx_id, IMMUDB_NOT_FOUND otherwise. They are checked with the functions of immudb_verify.h.
 * All of them may answer IMMUDB_CORRUPT and IMMUDB_IO (the disk), and those that need the main tree IMMUDB_BUSY while it is being rebuilt. */

/* The key's entry in transaction tx_id; its digest goes to *digest, which may be NULL. Values that were truncated away do not matter. flags: IMMUDB_RAW.
 * IMMUDB_NOT_FOUND: no such transaction on disk, or it does not write the key (the text tells). IMMUDB_INVALID: empty key. IMMUDB_LIMIT: its length. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_prove_inclusion(immudb_db *db, uint64_t tx_id, immudb_bytes key, uint32_t flags,
                                                                immudb_buffer *buffer, immudb_inclusion_proof *out, immudb_hash *digest,
                                                                immudb_error *err);
/* source_tx_id <= target_tx_id: IMMUDB_INVALID otherwise. IMMUDB_LIMIT: more than a million terms. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_prove_dual(immudb_db *db, uint64_t source_tx_id, uint64_t target_tx_id, immudb_buffer *buffer,
                                                           immudb_dual_proof *out, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_prove_dual_v2(immudb_db *db, uint64_t source_tx_id, uint64_t target_tx_id, immudb_buffer *buffer,
                                                              immudb_dual_proof_v2 *out, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_prove_linear(immudb_db *db, uint64_t source_tx_id, uint64_t target_tx_id, immudb_buffer *buffer,
                                                             immudb_linear_proof *out, immudb_error *err);
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_prove_linear_advance(immudb_db *db, uint64_t start_tx_id, uint64_t end_tx_id, uint64_t tree_size,
                                                                     immudb_buffer *buffer, immudb_linear_advance_proof *out, immudb_error *err);
/* Root of the main tree when it had tree_size leaves. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_tree_root(immudb_db *db, uint64_t tree_size, immudb_hash *out, immudb_error *err);
/* Everything about one entry: the newest version of key that is on disk (tx_id 0) or the one of transaction tx_id, bound to the transaction that the
 * receiver trusts (0 = none yet). Deleted entries are proven as well. flags: IMMUDB_RAW. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_prove_entry(immudb_db *db, immudb_bytes key, uint64_t tx_id, uint64_t trusted_tx_id, uint32_t flags,
                                                            immudb_buffer *buffer, immudb_entry_proof *out, immudb_error *err);

/* Reads, proves and verifies in one call. *trusted is what the caller keeps between calls (tx_id 0 at the first time); when the proof holds it moves on to the
 * newer of both transactions. IMMUDB_CORRUPT: this is not the database that was trusted; *trusted is not touched then. tx_id: 0 = the newest on disk.
 * References are answered as such, not followed. Deleted and expired entries: IMMUDB_NOT_FOUND unless flags has IMMUDB_WITH_DELETED (proven in any case).
 * flags: IMMUDB_RAW, IMMUDB_WITH_DELETED. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_verified_get(immudb_db *db, immudb_bytes key, uint64_t tx_id, uint32_t flags, immudb_state *trusted,
                                                             immudb_buffer *buffer, immudb_entry *out, immudb_error *err);

/* ------------------------------------------------------------ export, import, replication */

enum {
    IMMUDB_SKIP_INTEGRITY = 1,   /* export: leave the root over the entries out; import: do not compare it */
    IMMUDB_WITH_PRECOMMITTED = 2 /* export: transactions that wait for immudb_allow_commit() too */
};
/* One transaction as bytes, in the published format. Of one whose values were truncated away the hashes of the values: that is no error, and it can be
 * imported. IMMUDB_NOT_FOUND: not there, or not yet on disk. IMMUDB_CORRUPT: its bytes on disk are damaged (values are compared with their checksums also with
 * IMMUDB_SKIP_INTEGRITY), or the part of the log where it was is; nothing is exported then. IMMUDB_NO_MEMORY: it needs its whole size in memory.
 * IMMUDB_UNSUPPORTED: a flag of a later release. IMMUDB_IO. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_export(immudb_db *db, uint64_t tx_id, uint32_t flags, immudb_buffer *buffer, immudb_bytes *out,
                                                       immudb_error *err);
/* Adds the next transaction of another database's history to this one, exactly as it was. Waits up to timeout_ms (0 = 10 s) when its predecessor is missing.
 * IMMUDB_EXISTS: it is there already. IMMUDB_INVALID, IMMUDB_CORRUPT: it does not continue this history. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_import(immudb_db *db, immudb_bytes blob, uint32_t flags, uint64_t timeout_ms,
                                                       immudb_committed *committed, immudb_error *err);
/* IMMUDB_EXTERNAL_COMMIT: transactions up to tx_id, whose hash is alh, may commit; waits until they have. IMMUDB_OK also when they had before.
 * IMMUDB_INVALID: tx_id is not precommitted and on disk yet. IMMUDB_CORRUPT: its hash is another one here: both histories have parted. IMMUDB_READ_ONLY,
 * IMMUDB_NO_SPACE, IMMUDB_TIMEOUT, IMMUDB_IO, IMMUDB_CLOSED as for writes. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_allow_commit(immudb_db *db, uint64_t tx_id, const immudb_hash *alh, immudb_error *err);
/* Drops the precommitted transactions above tx_id for good; commits that wait for them answer IMMUDB_CANCELLED. IMMUDB_OK also when there are none.
 * IMMUDB_INVALID: some of them are committed, or allowed to. IMMUDB_READ_ONLY, IMMUDB_NO_SPACE, IMMUDB_TIMEOUT, IMMUDB_IO, IMMUDB_CLOSED as for writes. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_discard(immudb_db *db, uint64_t tx_id, immudb_error *err);

/* ------------------------------------------------------------ maintenance */

/* Makes everything visible durable. Nothing to do, and IMMUDB_OK, without IMMUDB_ASYNC or when opened to be read only. IMMUDB_READ_ONLY: a sync failed before, or
 * damage was found: what immudb_state.tx_id has not reached may be lost. IMMUDB_IO: it failed now; the database is read-only from then on. IMMUDB_NO_SPACE,
 * IMMUDB_TIMEOUT, IMMUDB_CLOSED as for writes. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_sync(immudb_db *db, immudb_error *err);
/* Writes the index tables that are in memory to disk: the next open is faster. Syncs first, and may answer what immudb_sync() does. IMMUDB_IO, IMMUDB_NO_SPACE:
 * nothing is lost, the tables stay in memory. IMMUDB_CORRUPT: what is to be written contradicts itself. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_flush_index(immudb_db *db, immudb_error *err);
/* Merges the index into one run. Long; reads and writes go on. Flushes first, and may answer what immudb_flush_index() does. IMMUDB_IO, IMMUDB_NO_SPACE (it needs
 * room for a second index), IMMUDB_CORRUPT (a run is damaged): the index stays as it was. IMMUDB_CANCELLED: the database is being closed. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_compact_index(immudb_db *db, immudb_error *err);
/* Removes the values of transactions up to tx_id for good, whole segments at a time; keys, hashes and proofs stay. freed_bytes may be NULL; 0 bytes are a success:
 * no whole segment was old enough. IMMUDB_NOT_FOUND: tx_id is 0, not there or not yet on disk. Where tables are defined a transaction that keeps them is
 * committed first: all that writes may answer, IMMUDB_BUSY while the index is being rebuilt, and IMMUDB_CONFLICT when tables kept changing meanwhile. IMMUDB_IO,
 * IMMUDB_NO_SPACE, IMMUDB_CORRUPT on the way: some values may be gone already, and the next call goes on. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_truncate(immudb_db *db, uint64_t tx_id, uint64_t *freed_bytes, immudb_error *err);
/* Called for each finding with the transaction (0 = none) and what is wrong; 0 stops. */
typedef int (*immudb_finding_fn)(void *ctx, uint64_t tx_id, const char *what);
/* Checks every byte against every hash: checksums, values, entries, chain, tree, index. Long; beside other work. Findings do not fail the call:
 * *finding_count (may be NULL) tells: only IMMUDB_OK with 0 findings means that all is well. It counts also when the call fails
 * (IMMUDB_IO, IMMUDB_NO_MEMORY: the rest was not judged; IMMUDB_BUSY: the tree is being rebuilt, nothing was). A stop by fn is IMMUDB_OK. fn may be NULL. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_store_verify(immudb_db *db, immudb_finding_fn fn, void *ctx, uint64_t *finding_count,
                                                             immudb_error *err);

typedef struct immudb_memory_use {
    uint64_t used, peak, limit; /* bytes. Never changes */
} immudb_memory_use;
typedef struct immudb_stats {
    size_t size;
    uint64_t txs, commits, batches, conflicts, syncs;
    uint64_t queue_length, queue_bytes;
    uint64_t snapshots_open, snapshots_idle; /* idle: not used for 5 minutes */
    uint64_t waiters, clock_jumps;
    uint64_t disk_bytes; /* of all files */
    uint64_t log_bytes, log_segments, log_bytes_zeroed_ahead;
    uint64_t tree_bytes, tree_pages_rebuilt;
    uint64_t index_bytes, index_runs, index_run_entries, index_memtable_entries, index_flushes, index_merges, index_damaged_runs;
    uint64_t memory_bytes; /* of this database alone */
    /* of the runtime, all databases together */
    immudb_memory_use memory_cache, memory_memtable, memory_queue, memory_request, memory_tree, memory_other;
    uint64_t memory_limit;
    uint64_t sync_ns_histogram[32]; /* [i]: syncs that took 2^i .. 2^(i+1) - 1 ns */
} immudb_stats;
IMMUDB_SIZED_(immudb_stats)
/* Figures of this moment, each by itself: they need not fit together while others write. Touches no file; fails for wrong arguments alone. */
IMMUDB_API IMMUDB_MUST_USE immudb_status immudb_stats_get(immudb_db *db, immudb_stats *out, immudb_error *err);

#ifdef __cplusplus
}
#endif
#endif
