/* One database: commits transactions, recovers after a crash, answers reads and proofs.
 *
 * Knows keys and values as store keys and store values (with their prefix bytes); what they mean is the business of kv, sql, doc.
 * Life of a write and of a read: docs/architecture.md. Formats: docs/format.md.
 *
 * What an answer means: with durability STORE_DURABLE a completed commit survives any crash. With STORE_ASYNC it survives once
 * store_state().tx_id has reached it: proofs, states and exports never speak of more than that.
 *
 * Threads: every function may be called from any thread unless it says otherwise. Lock order: docs/locks.md. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "index/index.h"
#include "log/log.h"
#include "merkle/merkle_tree.h"
#include "proof/proof.h"
#include "store/runtime.h"

struct store;

enum store_durability { STORE_DURABLE = 0, STORE_ASYNC };

struct store_options {
    struct runtime *runtime;
    const char *dir; /* of this database; copied */
    bool create;     /* make it when missing: everything is synced before store_open returns */
    bool read_only;
    enum store_durability durability;
    bool external_commit;            /* synchronous replication: txs stay precommitted until store_allow_commit() */
    uint32_t tx_version;             /* header version written: 0 or 1 */
    bool exclude_commit_time;        /* ts is written as 0 */
    uint32_t tx_entries_max;         /* 0 = 1024 */
    uint32_t key_len_max;            /* store key, prefix included; 0 = 1024; at most 65535 */
    uint32_t value_len_max;          /* store value; 0 = 32 MiB */
    uint32_t read_set_max;           /* 0 = 100000 */
    uint32_t waiters_max;            /* 0 = 1000 */
    uint64_t tx_bytes_max;           /* 0 = 1 GiB */
    size_t batch_bytes_max;          /* 0 = 4 MiB */
    unsigned batch_txs_max;          /* 0 = 4096 */
    uint64_t async_sync_interval_ns; /* STORE_ASYNC: background sync at least so often; 0 = 20 ms */
    bool sync_inline;                /* STORE_ASYNC: never syncs beside the committer: for simulations, where one seed is one exact run */
    uint64_t segment_bytes_first, segment_bytes_max; /* 0 = defaults of the log */
    size_t memtable_bytes_max;                       /* 0 = a share of the budget */
};

/* ST_BUSY: another process or handle has it ("database directory is in use by process N"). ST_UNSUPPORTED: newer format. Damage to
 * acknowledged data does not fail the open: the store is read-only then and store_health() names the damage. Opening does not wait for a
 * rebuild of index or tree, which goes on in the background, except where the log refutes the tree's pages: recover_tree.c. */
MUST_USE enum status store_open(const struct store_options *o, struct store **out, struct err *err);
/* Refuses new drafts, finishes queued ones, syncs, writes the close mark, releases the lock. Snapshots must be closed. */
void store_close(struct store *s);

enum store_health_kind { STORE_HEALTHY = 0, STORE_REBUILDING, STORE_DEGRADED /* out of space */, STORE_READ_ONLY_DAMAGED, STORE_READ_ONLY_FAILED };
struct store_health {
    enum store_health_kind kind;
    uint64_t rebuilt, to_rebuild;           /* txs, while rebuilding the index */
    uint64_t tree_rebuilt, tree_to_rebuild; /* the same of the tree; 0 when it was whole */
    char text[512];                         /* what is wrong and where; empty when healthy */
};
void store_health(struct store *s, struct store_health *out);

/* --- state --- */
struct store_state {
    uint64_t tx_id; /* committed and durable: what may be proven and signed; 0 = empty */
    hash_t alh;     /* HASH_EMPTY for 0 */
    uint64_t precommitted_tx_id;
    hash_t precommitted_alh;
    uint64_t visible_tx_id; /* committed, maybe not yet synced (asynchronous mode): what reads see */
};
void store_get_state(struct store *s, struct store_state *out);
/* ST_CORRUPT, naming the damage, when it has made unknown what the newest tx was: an older state must not be told, or signed, as the current one. */
MUST_USE enum status store_end_check(struct store *s, struct err *err);
const uint8_t *store_uuid(const struct store *s);
const struct env *store_env(const struct store *s); /* its clock and log */

/* --- writing --- */
/* A draft: entries and conditions of one tx before it is committed. Built by one thread; digests and the log record are computed when it is
 * submitted, on the submitting thread. Memory counts as BUDGET_QUEUE. */
struct store_draft;

MUST_USE enum status draft_create(struct store *s, struct store_draft **out, struct err *err);
void draft_free(struct store_draft *d); /* a draft that was not submitted */
/* Adds an entry (key and value are borrowed until the draft is completed). A key already set in this draft is ST_EXISTS. Limits are checked
 * here: ST_LIMIT "max key length exceeded", "max value length exceeded", "max number of entries per tx exceeded"; empty key ST_INVALID. */
MUST_USE enum status draft_set(struct store_draft *d, struct bytes key, const struct kv_metadata *md, struct bytes value, struct err *err);
/* A late field: when the tx id is known it is stored big-endian (8 bytes) at offset of the key or the value of the entry added last. */
MUST_USE enum status draft_late_tx_id(struct store_draft *d, bool in_key, size_t offset, struct err *err);
void draft_set_extra(struct store_draft *d, struct bytes extra); /* tx metadata, at most 256 bytes, copied */
void draft_set_deadline(struct store_draft *d, uint64_t deadline_mono_ns);
/* Asked when the draft is taken from the queue: true = drop it, nothing is written (ST_CANCELLED). */
void draft_set_cancel(struct store_draft *d, bool (*is_cancelled)(void *ctx), void *ctx);

/* It does not wait for space or memory: ST_NO_SPACE or ST_NOMEM at once. For those who hold up others while they wait. */
void draft_set_hasty(struct store_draft *d);
/* ST_NO_SPACE or ST_NOMEM, with the text that drafts get: a write failed for that half a second ago at most, and none went through since. For those who
 * have work to do before they can write. */
MUST_USE enum status store_has_room(struct store *s, struct err *err);

enum precondition_kind { KEY_MUST_EXIST, KEY_MUST_NOT_EXIST, KEY_NOT_MODIFIED_AFTER_TX };
/* key: store key (with prefix). All must hold when the tx is ordered, else ST_CONFLICT with the text
 * "precondition failed: KeyMustExist" etc. Deleted and expired keys do not exist. */
MUST_USE enum status draft_precondition(struct store_draft *d, enum precondition_kind kind, struct bytes key, uint64_t tx_id, struct err *err);
/* Read set: fails with ST_CONFLICT "tx read conflict" when the key (or any key in [first, last] of the namespace prefix) got a version in a tx
 * above read_tx_id. last empty: up to the end of the namespace. Keys that no index covers may conflict without need when read_tx_id is old. */
MUST_USE enum status draft_read_point(struct store_draft *d, struct bytes key, uint64_t read_tx_id, struct err *err);
MUST_USE enum status draft_read_range(struct store_draft *d, struct bytes first, struct bytes last, uint64_t read_tx_id, struct err *err);

/* What became of a draft. */
struct store_result {
    enum status status;
    struct err err;
    struct tx_header header; /* of the committed tx */
    hash_t alh;
};
/* Called exactly once, on the thread that finished the batch (a sync pool thread, or the submitter in asynchronous embedded use); must be
 * short. The draft is still alive during the call and freed after it. */
typedef void (*store_done)(void *ctx, const struct store_draft *d, const struct store_result *r);

/* While there is no space (or no memory, or no more files can be open) a few drafts wait for it: until some time before their deadline, 10 seconds at
 * most; the others are refused at once. ST_NO_SPACE "no space left on device: database x cannot be written" or ST_NOMEM: nothing was written.
 *
 * Submits; takes the draft. Never fails: errors go to done. wait_durable: in asynchronous mode the result comes only once synced.
 * The thread that finds the database idle drives the commit: with STORE_DRIVE_POOL on the runtime's sync pool (server: never blocks the
 * caller), with STORE_DRIVE_INLINE on this thread (embedded: no hand-off). */
enum store_drive { STORE_DRIVE_POOL = 0, STORE_DRIVE_INLINE };
void store_submit(struct store *s, struct store_draft *d, bool wait_durable, enum store_drive drive, store_done done, void *ctx);
/* Blocking form: submits, drives or waits. */
MUST_USE enum status store_commit(struct store *s, struct store_draft *d, bool wait_durable, struct store_result *out, struct err *err);
/* Non-blocking form of store_import: done is called as for store_submit (d is NULL when the blob itself was refused); blob is copied. */
void store_import_submit(struct store *s, struct bytes blob, bool skip_integrity, uint64_t deadline_mono_ns, enum store_drive drive, store_done done,
                         void *ctx);
/* Entries of a committed draft as they were written (late fields filled in), for building answers inside done. */
size_t draft_entry_count(const struct store_draft *d);
void draft_entry(const struct store_draft *d, size_t entry_index, struct tx_entry *out);
const hash_t *draft_digests(const struct store_draft *d);

/* Synchronous replication: precommitted txs up to tx_id may commit (alh is checked: ST_CORRUPT when it differs); they become visible once the
 * COMMIT mark is durable. discard: drops precommitted txs after tx_id. */
MUST_USE enum status store_allow_commit(struct store *s, uint64_t tx_id, const hash_t *alh, struct err *err);
MUST_USE enum status store_discard(struct store *s, uint64_t after_tx_id, struct err *err);

/* --- waiting --- */
/* Waits (blocking: worker threads only) until tx_id is visible and indexed. ST_TIMEOUT, ST_BUSY (the index is still
 * being rebuilt), ST_CORRUPT (damage does not let it be), ST_CLOSED, ST_LIMIT "watchers: max waiting limit exceeded". */
MUST_USE enum status store_wait(struct store *s, uint64_t tx_id, uint64_t deadline_mono_ns, struct err *err);
/* Waits likewise until proofs up to tx_id can be made: at once, unless a lost tree is being rebuilt. At the deadline ST_BUSY "tree of database x is
 * being rebuilt: n of m transactions", which is also what proofs and roots answer without waiting. */
MUST_USE enum status store_wait_tree(struct store *s, uint64_t tx_id, uint64_t deadline_mono_ns, struct err *err);
/* Largest tx id covered by the key index without a gap (equal to visible_tx_id unless a rebuild is going on). */
uint64_t store_indexed(struct store *s);

/* --- reading --- */
/* A read view as of tx_id (0 = newest visible; ST_CORRUPT when damage has made it unknown which that is, or does not let the index be rebuilt up to it;
 * ST_BUSY while it is being rebuilt). Pins memory: snapshots idle for longer than 5 minutes are counted in statistics. */
struct store_snapshot;
MUST_USE enum status store_snapshot_open(struct store *s, uint64_t tx_id, struct store_snapshot **out, struct err *err);
void store_snapshot_close(struct store_snapshot *sn);
uint64_t store_snapshot_tx(const struct store_snapshot *sn);
struct index_snapshot *store_snapshot_index(struct store_snapshot *sn); /* for index_get, index_scan_open, ... */

/* Where a store key lives in the index: prefix 0x00 and 0x01 have namespaces of their own (key without prefix); "02 CTL." and "03 CTL." the
 * catalog's (whole key). false: keys that no index covers. */
bool store_index_key(struct bytes store_key, uint32_t *ns, struct bytes *index_key);

/* An entry by address; see log_entry_read. The pin is released with store_pin_release. */
MUST_USE enum status store_entry_read(struct store *s, uint64_t tx_id, uint32_t entry_index, bool nowait, bool want_value, struct arena *arena,
                                      struct log_pin *pin, struct tx_entry *out, struct err *err);
void store_pin_release(struct store *s, struct log_pin *pin);
/* A value in pieces; see log_value_*. */
MUST_USE enum status store_value_open(struct store *s, uint64_t tx_id, uint32_t entry_index, struct log_value *out, struct err *err);
MUST_USE enum status store_value_read(struct store *s, struct log_value *v, uint8_t *out, size_t len, struct err *err);
void store_value_close(struct log_value *v);
/* Reads it once from end to end, so that its checksum is verified; *first is its first byte. It has at least one. */
MUST_USE enum status store_value_check(struct store *s, uint64_t tx_id, uint32_t entry_index, uint8_t *first, struct err *err);

/* Headers and whole txs. tx_id must be <= visible_tx_id: ST_NOT_FOUND "tx not found" otherwise. */
MUST_USE enum status store_tx_header(struct store *s, uint64_t tx_id, struct tx_header *out, hash_t *alh, struct err *err);
MUST_USE enum status store_tx_open(struct store *s, uint64_t tx_id, bool nowait, struct log_tx *out, struct err *err);
MUST_USE enum status store_tx_entry(struct store *s, struct log_tx *t, uint32_t entry_index, struct tx_entry *out, struct err *err);
MUST_USE enum status store_tx_value(struct store *s, struct log_tx *t, uint32_t entry_index, struct arena *arena, struct bytes *out, struct err *err);
void store_tx_close(struct store *s, struct log_tx *t);
/* Finds the entry with this store key in an open tx; ST_NOT_FOUND. */
MUST_USE enum status store_tx_find(struct store *s, struct log_tx *t, struct bytes key, uint32_t *entry_index, struct err *err);
MUST_USE enum status store_tx_since(struct store *s, int64_t ts_s, uint64_t *tx_id, struct err *err);

/* --- proofs: only txs <= store_state().tx_id, ST_NOT_FOUND "tx not found" otherwise --- */
MUST_USE enum status store_dual_proof(struct store *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof *out,
                                      struct err *err);
MUST_USE enum status store_dual_proof_v2(struct store *s, uint64_t source, uint64_t target, struct arena *arena, struct dual_proof_v2 *out,
                                         struct err *err);
MUST_USE enum status store_linear_proof(struct store *s, uint64_t source, uint64_t target, struct arena *arena, struct linear_proof *out,
                                        struct err *err);
MUST_USE enum status store_linear_advance(struct store *s, uint64_t start, uint64_t end, uint64_t size, struct arena *arena,
                                          struct linear_advance_proof *out, struct err *err);
/* Inclusion of an entry in its tx. Inner nodes of large txs are cached. */
MUST_USE enum status store_entry_inclusion(struct store *s, struct log_tx *t, uint32_t entry_index, struct arena *arena, struct merkle_path *out,
                                           struct err *err);
MUST_USE enum status store_root_at(struct store *s, uint64_t size, hash_t *root, struct err *err);

/* --- export, import --- */
/* The export blob of one tx, in the arena. */
MUST_USE enum status store_export(struct store *s, uint64_t tx_id, bool allow_precommitted, bool skip_integrity, struct arena *arena,
                                  struct bytes *out, struct err *err);
/* The same without the values of at least far_bytes, which were read once to verify them: bytes is all the rest, and behind at of its bytes belongs the value of
 * an entry. */
struct store_export_gap {
    size_t at, len;
    uint32_t entry_index;
};
struct store_export_parts {
    struct bytes bytes;
    const struct store_export_gap *gaps; /* in order */
    size_t gap_count;
    size_t len; /* of the whole blob */
};
MUST_USE enum status store_export_parts(struct store *s, uint64_t tx_id, bool allow_precommitted, bool skip_integrity, size_t far_bytes,
                                        struct arena *arena, struct store_export_parts *out, struct err *err);
/* Imports the next tx: checks of docs/verification.md "import" in order, with the published texts. Blocking (waits for its predecessor until the
 * deadline). blob is borrowed for the call. ST_EXISTS "tx already committed"; ST_LIMIT; ST_INVALID; ST_CORRUPT. */
MUST_USE enum status store_import(struct store *s, struct bytes blob, bool skip_integrity, uint64_t deadline_mono_ns, struct store_result *out,
                                  struct err *err);

/* --- maintenance --- */
/* Truncation up to and including tx_id: commits a tx with truncatedUpto metadata that carries copies of the live catalog entries, then removes
 * values. Blocking. */
MUST_USE enum status store_truncate(struct store *s, uint64_t tx_id, uint64_t *freed_bytes, struct err *err);
/* The second half alone: for replicas, whose history is the primary's. */
MUST_USE enum status store_drop_values(struct store *s, uint64_t tx_id, uint64_t *freed_bytes, struct err *err);
struct store_truncation {
    uint64_t tx_id;
    bool with_catalog;     /* as store_truncate(), else as store_drop_values() */
    int64_t part_before_s; /* unix seconds: a file that is being written and begins before it is ended, for later truncations; 0 = no matter */
    bool (*is_cancelled)(void *ctx);
    void *ctx;
};
/* Either of them, in steps: ST_CANCELLED between two of them once is_cancelled (NULL allowed) says so; what went until then is gone and counted in
 * *freed_bytes, also when it fails. tx_id 0: nothing goes, but files are ended. */
MUST_USE enum status store_truncate_steps(struct store *s, const struct store_truncation *o, uint64_t *freed_bytes, struct err *err);
MUST_USE enum status store_flush_index(struct store *s, struct err *err);
MUST_USE enum status store_compact_index(struct store *s, struct err *err);
/* One step of the work that otherwise runs in the background, on this thread: for simulations and tests. */
MUST_USE enum status store_maintain(struct store *s, bool *more, struct err *err);
MUST_USE enum status store_sync(struct store *s, struct err *err); /* asynchronous mode: makes everything visible durable */
/* Checks every byte against every hash: log CRCs, record hashes, alh chain, tree pages, index against log. Calls bad for each finding. */
MUST_USE enum status store_verify(struct store *s, bool (*bad)(void *ctx, uint64_t tx_id, const char *what), void *ctx, struct err *err);

struct store_stats {
    struct log_stats log;
    struct tree_stats tree;
    struct index_stats index;
    uint64_t txs, commits, batches, conflicts, queue_length, queue_bytes, disk_bytes, snapshots_open, waiters, clock_jumps;
    uint64_t snapshots_idle;        /* of the open ones, not used for 5 minutes */
    uint64_t sync_ns_histogram[32]; /* power-of-two buckets of ns */
    size_t memory_bytes;
};
void store_get_stats(struct store *s, struct store_stats *out);

#endif
