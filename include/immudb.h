/* libimmudb: an immutable, verifiable key-value database inside the program that links it.
 *
 * Nothing is ever overwritten: a set adds a version, a delete adds a version that says so, every past state can be read. Each transaction is
 * part of a hash chain and a Merkle tree, so that what was read can be proven to anybody who holds an earlier state (immuverify.h).
 *
 * General rules
 *   - A function that can fail returns an immudb_status and, if error is not NULL, says there why. Out-parameters are NULL (or zero) after a failure.
 *   - Objects are opaque; what a function hands out is freed by the function named *_free or *_close of its kind. Arguments are borrowed for the call
 *     unless said otherwise.
 *   - Option and result structs begin with their size: set it with the *_init function (or = sizeof). So programs built against an older header go on
 *     working. Fields left zero mean the default.
 *   - A database handle may be used from any number of threads. A transaction, an iterator, an entry belongs to one thread at a time. Close everything
 *     that came from a database before the database.
 *   - A directory is used by one process at a time (IMMUDB_BUSY otherwise).
 *
 * What a successful commit means: with IMMUDB_DURABLE (the default) it survives any crash. With IMMUDB_ASYNC it is visible at once and survives a crash
 * once immudb_get_state() has reached it; wait for that with IMMUDB_COMMIT_DURABLE or immudb_sync(). Proofs and exports never speak of less than durable
 * transactions.
 *
 * Usable from C99 and C++. */
#ifndef IMMUDB_H
#define IMMUDB_H

#include "immuverify.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum immudb_status {
    IMMUDB_OK = 0,
    IMMUDB_NOMEM = 1,
    IMMUDB_IO = 2,
    IMMUDB_NO_SPACE = 3,     /* heals by itself when space returns */
    IMMUDB_CORRUPT = 4,      /* stored or given bytes contradict themselves */
    IMMUDB_INVALID = 5,      /* arguments */
    IMMUDB_NOT_FOUND = 6,
    IMMUDB_EXISTS = 7,
    IMMUDB_CONFLICT = 8,     /* a precondition does not hold, or something read was changed meanwhile: try again */
    IMMUDB_LIMIT = 9,        /* a named limit is exceeded */
    IMMUDB_READ_ONLY = 10,   /* opened so, or a write failed, or damage was found: immudb_health() */
    IMMUDB_BUSY = 11,        /* in use by another process, or the index is being rebuilt */
    IMMUDB_TIMEOUT = 12,
    IMMUDB_CANCELLED = 13,
    IMMUDB_CLOSED = 14,
    IMMUDB_UNSUPPORTED = 15, /* written by a newer release */
    IMMUDB_AGAIN = 16
} immudb_status;

typedef struct immudb_error {
    immudb_status status;
    int os_errno;   /* 0 when no system call was involved */
    char text[256]; /* innermost cause first */
} immudb_error;

typedef struct immudb immudb;                 /* an open database */
typedef struct immudb_process immudb_process; /* memory, cache and threads shared by several databases */
typedef struct immudb_tx immudb_tx;
typedef struct immudb_entry immudb_entry;
typedef struct immudb_iter immudb_iter;
typedef struct immudb_ticket immudb_ticket;
typedef struct immudb_proof immudb_proof;
typedef struct immudb_buffer immudb_buffer;

IMMUDB_EXPORT const char *immudb_version(void);
IMMUDB_EXPORT const char *immudb_status_name(immudb_status status);

/* --- process and database --- */
typedef struct immudb_process_options {
    size_t size;
    size_t memory_bytes_max; /* budget of all databases together; 0 = 256 MiB or half of the container's limit */
    unsigned file_handles_max;
    unsigned worker_threads;
    /* Lines of the log; NULL = standard error. level 0 error .. 3 debug. Called from any thread. */
    void (*log)(void *ctx, int level, const char *line);
    void *log_ctx;
} immudb_process_options;
IMMUDB_EXPORT void immudb_process_options_init(immudb_process_options *o);
/* options NULL = defaults. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_process_create(const immudb_process_options *options, immudb_process **out, immudb_error *error);
/* All its databases are closed. NULL allowed. */
IMMUDB_EXPORT void immudb_process_free(immudb_process *process);

typedef enum immudb_durability { IMMUDB_DURABLE = 0, IMMUDB_ASYNC = 1 } immudb_durability;

/* Signs the state's payload (immudb_state_payload): writes at most signature_bytes_max bytes (at least 160) and returns how many, 0 on failure. */
typedef size_t (*immudb_sign)(void *ctx, const uint8_t *payload, size_t payload_len, uint8_t *signature, size_t signature_bytes_max);

typedef struct immudb_options {
    size_t size;
    const char *directory;      /* copied */
    immudb_process *process;    /* NULL: one of its own */
    uint8_t create;             /* make it when it is missing */
    uint8_t read_only;
    uint8_t exclude_commit_time;
    immudb_durability durability;
    uint32_t key_bytes_max;     /* 0 = 1023 */
    uint32_t value_bytes_max;   /* 0 = 32 MiB - 1 */
    uint32_t tx_entries_max;    /* 0 = 1024 */
    uint32_t sync_interval_ms;  /* IMMUDB_ASYNC; 0 = 20 */
    const char *name;           /* goes into signed states; NULL = "defaultdb" */
    immudb_bytes signing_key;   /* PEM with a SEC1 EC private key; len 0 = none */
    immudb_sign sign;           /* or a function of yours */
    void *sign_ctx;
} immudb_options;
IMMUDB_EXPORT void immudb_options_init(immudb_options *o);
/* IMMUDB_NOT_FOUND (without create), IMMUDB_BUSY, IMMUDB_UNSUPPORTED, IMMUDB_IO. Damage to acknowledged data does not fail the open: the database is
 * read-only then and immudb_health() says what is wrong. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_open(const immudb_options *options, immudb **out, immudb_error *error);
/* Finishes what was submitted, makes everything durable. NULL allowed. */
IMMUDB_EXPORT void immudb_close(immudb *db);

/* 0 healthy, 1 index being rebuilt, 2 out of space, 3 read-only because of damage, 4 read-only since a write failed. text (may be NULL): what and where. */
IMMUDB_EXPORT int immudb_health(immudb *db, char *text, size_t text_bytes_max);

/* --- transactions --- */
typedef struct immudb_tx_options {
    size_t size;
    uint8_t read_only;
    uint64_t at_tx; /* view as of this transaction; 0 = the newest. Read-write transactions read the newest. */
} immudb_tx_options;
/* A view of the database that does not change, and, unless read_only, a set of writes that is applied by immudb_commit() as a whole or not at all. What is
 * read through a read-write transaction must be unchanged at commit, else IMMUDB_CONFLICT. options NULL = read-write. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_begin(immudb *db, const immudb_tx_options *options, immudb_tx **out, immudb_error *error);
/* Id of the newest transaction that this view shows. */
IMMUDB_EXPORT uint64_t immudb_tx_view(const immudb_tx *tx);
/* Key and value are copied. Setting a key again replaces the value. metadata may be NULL. IMMUDB_LIMIT, IMMUDB_INVALID (empty key). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_tx_set(immudb_tx *tx, immudb_bytes key, immudb_bytes value, const immudb_metadata *metadata, immudb_error *error);
/* IMMUDB_NOT_FOUND when the key does not exist in the view (this counts as a read). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_tx_delete(immudb_tx *tx, immudb_bytes key, immudb_error *error);
/* Sees the transaction's own writes (their tx is 0). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_tx_get(immudb_tx *tx, immudb_bytes key, immudb_entry **out, immudb_error *error);

typedef enum immudb_condition { IMMUDB_KEY_MUST_EXIST = 0, IMMUDB_KEY_MUST_NOT_EXIST = 1, IMMUDB_KEY_NOT_MODIFIED_AFTER_TX = 2 } immudb_condition;
/* All must hold at commit, else IMMUDB_CONFLICT. Deleted and expired keys do not exist. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_tx_require(immudb_tx *tx, immudb_condition condition, immudb_bytes key, uint64_t tx_id, immudb_error *error);
/* Bytes that go into the header's metadata, at most 256. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_tx_set_extra(immudb_tx *tx, immudb_bytes extra, immudb_error *error);

/* Commit flags. */
#define IMMUDB_COMMIT_DURABLE 1u /* with IMMUDB_ASYNC: answer only once it is durable */

typedef struct immudb_commit_result {
    immudb_header header;
    immudb_hash alh;
} immudb_commit_result;
/* Ends the transaction in every case. result may be NULL. A transaction without writes is IMMUDB_INVALID ("no entries provided"). Iterators are closed before. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_commit(immudb_tx *tx, unsigned flags, immudb_commit_result *result, immudb_error *error);
/* Ends it without writing. NULL allowed. */
IMMUDB_EXPORT void immudb_rollback(immudb_tx *tx);

/* The same without waiting: done (if not NULL) is called once from some thread, maybe before the call returns, and must be short; or take a ticket (if ticket is
 * not NULL) and ask it. Ends the transaction. A failure to begin with is reported the same way. */
typedef void (*immudb_done)(void *ctx, immudb_status status, const immudb_commit_result *result, const immudb_error *error);
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_commit_start(immudb_tx *tx, unsigned flags, immudb_done done, void *ctx, immudb_ticket **ticket, immudb_error *error);
/* What became of it; IMMUDB_TIMEOUT while it is not decided (timeout_ms 0: only looks; negative: no limit). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_ticket_wait(immudb_ticket *ticket, int64_t timeout_ms, immudb_commit_result *result, immudb_error *error);
IMMUDB_EXPORT void immudb_ticket_free(immudb_ticket *ticket); /* may be freed before it is decided; NULL allowed */

/* One key in one transaction. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_set(immudb *db, immudb_bytes key, immudb_bytes value, immudb_commit_result *result, immudb_error *error);

/* --- reading --- */
/* Newest version. IMMUDB_NOT_FOUND: never set, deleted ("key not found") or expired ("key not found: expired entry"). References are followed. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_get(immudb *db, immudb_bytes key, immudb_entry **out, immudb_error *error);
/* The version written by that very transaction. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_get_at(immudb *db, immudb_bytes key, uint64_t tx_id, immudb_entry **out, immudb_error *error);
/* revision > 0: the n-th version; < 0: -1 is the one before the newest, and so on. IMMUDB_INVALID "invalid key revision number". */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_get_revision(immudb *db, immudb_bytes key, int64_t revision, immudb_entry **out, immudb_error *error);

IMMUDB_EXPORT immudb_bytes immudb_entry_key(const immudb_entry *e);
IMMUDB_EXPORT immudb_bytes immudb_entry_value(const immudb_entry *e);
IMMUDB_EXPORT uint64_t immudb_entry_tx(const immudb_entry *e);        /* 0: written by this transaction, not yet committed */
IMMUDB_EXPORT uint32_t immudb_entry_index(const immudb_entry *e);     /* its place in that transaction, from 0 */
IMMUDB_EXPORT uint64_t immudb_entry_revision(const immudb_entry *e);  /* 0: not known */
IMMUDB_EXPORT immudb_metadata immudb_entry_metadata(const immudb_entry *e);
IMMUDB_EXPORT int immudb_entry_is_expired(const immudb_entry *e);     /* history shows such versions, without value */
IMMUDB_EXPORT void immudb_entry_free(immudb_entry *e);

typedef struct immudb_scan_options {
    size_t size;
    immudb_bytes prefix;
    immudb_bytes seek, end;   /* start and stop; len 0 = the edges of the prefix */
    uint8_t include_seek, include_end;
    uint8_t descending;       /* seek is the upper end then */
} immudb_scan_options;
/* Live keys in order. options NULL = all. The view is the database's newest, or the transaction's (with its own writes). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_scan(immudb *db, const immudb_scan_options *options, immudb_iter **out, immudb_error *error);
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_tx_scan(immudb_tx *tx, const immudb_scan_options *options, immudb_iter **out, immudb_error *error);
/* All versions of a key, deletions and expired ones included; skips offset of them. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_history(immudb *db, immudb_bytes key, int descending, uint64_t offset, immudb_iter **out, immudb_error *error);
/* IMMUDB_NOT_FOUND at the end. The entry is the caller's. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_iter_next(immudb_iter *it, immudb_entry **out, immudb_error *error);
IMMUDB_EXPORT void immudb_iter_close(immudb_iter *it); /* NULL allowed */

/* Waits until transaction tx_id can be found by key (at once, unless an index is being rebuilt). timeout_ms negative: no limit. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_wait_indexed(immudb *db, uint64_t tx_id, int64_t timeout_ms, immudb_error *error);

/* --- transactions by id, state, proofs --- */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_get_header(immudb *db, uint64_t tx_id, immudb_header *out, immudb_error *error);
/* The newest committed and durable transaction: what may be proven. */
IMMUDB_EXPORT void immudb_get_state(immudb *db, immudb_state *out);
/* The same with a signature (IMMUDB_INVALID when no key was given). *signature is freed with immudb_buffer_free(). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_get_signed_state(immudb *db, immudb_state *out, immudb_buffer **signature, immudb_error *error);
/* Only durable transactions, source <= target; IMMUDB_NOT_FOUND "tx not found". */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_prove(immudb *db, uint64_t source, uint64_t target, immudb_proof **out, immudb_error *error);
/* That an entry read before is part of its transaction: the header and the inclusion proof for immudb_verify_entry(). */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_prove_entry(immudb *db, const immudb_entry *entry, immudb_proof **out, immudb_error *error);
IMMUDB_EXPORT const immudb_dual_proof *immudb_proof_dual(const immudb_proof *p);  /* of immudb_prove */
IMMUDB_EXPORT const immudb_header *immudb_proof_header(const immudb_proof *p);    /* of immudb_prove_entry */
IMMUDB_EXPORT immudb_hashes immudb_proof_inclusion(const immudb_proof *p);        /* of immudb_prove_entry */
IMMUDB_EXPORT void immudb_proof_free(immudb_proof *p); /* NULL allowed */

/* Reads the newest version and checks all of it against a state that the caller trusts: entry in transaction, transaction in history, history extends the trusted
 * one. On success *trusted moves on to the newest state. IMMUDB_CORRUPT when anything does not hold,
 * IMMUDB_UNSUPPORTED for a key that refers to another one. trusted->tx_id 0 = nothing is trusted yet. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_verified_get(immudb *db, immudb_bytes key, immudb_state *trusted, immudb_entry **out, immudb_error *error);

/* --- export and import --- */
IMMUDB_EXPORT immudb_bytes immudb_buffer_bytes(const immudb_buffer *b);
IMMUDB_EXPORT void immudb_buffer_free(immudb_buffer *b); /* NULL allowed */
/* A durable transaction in the published replication format. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_export(immudb *db, uint64_t tx_id, immudb_buffer **out, immudb_error *error);
/* The next transaction; waits for its predecessor. IMMUDB_EXISTS "tx already committed". */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_import(immudb *db, immudb_bytes exported, int64_t timeout_ms, immudb_commit_result *result, immudb_error *error);

/* --- maintenance and figures --- */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_sync(immudb *db, immudb_error *error);
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_compact(immudb *db, immudb_error *error);
/* Removes the values (not the hashes) of transactions up to tx_id, as far as whole segments allow. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_truncate(immudb *db, uint64_t tx_id, uint64_t *freed_bytes, immudb_error *error);
/* Checks every byte against every hash. finding is called for each thing that is wrong and returns 0 to stop; *findings counts them. */
IMMUDB_EXPORT IMMUDB_MUST_USE immudb_status immudb_check(immudb *db, int (*finding)(void *ctx, uint64_t tx_id, const char *what), void *ctx, uint64_t *findings,
                                                         immudb_error *error);

typedef struct immudb_statistics {
    size_t size;
    uint64_t transactions, conflicts, batches, syncs;
    uint64_t log_bytes, tree_bytes, index_bytes;                           /* on disk */
    uint64_t index_runs, index_entries_in_memory;
    uint64_t queue_length, queue_bytes, snapshots_open, snapshots_idle;
    /* memory of the whole process' budget, by consumer */
    uint64_t memory_cache_bytes, memory_memtable_bytes, memory_queue_bytes, memory_tree_bytes, memory_other_bytes, memory_bytes_max;
} immudb_statistics;
IMMUDB_EXPORT void immudb_get_statistics(immudb *db, immudb_statistics *out); /* out->size is set by the caller */

#ifdef __cplusplus
}
#endif

#endif
