/* What the files of this folder share: the structs behind struct store and struct store_draft, and who owns which field.
 *
 * Three groups of state:
 *   fixed     set by store_open(), read by everybody
 *   shared    atomics, or guarded by a named lock (docs/locks.md)
 *   committer struct committer: owned by whoever holds the committer role (role.c). The role is handed on with release and acquire, so its
 *             fields are plain.
 *
 * Life of a draft: built (draft.c) -> prepared: digests, Eh, record body (draft.c), conditions looked up (validate.c) -> inbox -> waiting
 * list -> ordered: pending ring, batch of the log (batch.c) -> written, synced -> applied: tree, index, published (apply.c) -> completed. */
#ifndef STORE_STORE_INTERNAL_H
#define STORE_STORE_INTERNAL_H

#include <pthread.h>

#include "store/recent.h"
#include "store/store.h"
#include "store/timer.h"

enum {
    PRECOMMITTED_MAX = 1000, /* txs between committed and precommitted with external commit; also how far imports may run ahead */
    DRAFT_INLINE = 1,        /* entries that need no allocation of their own */
    BOUNCES_MAX = 8,         /* re-reads on a worker before the committer reads itself */
    ROLE_BATCHES_MAX = 8,    /* batches a thread drives for others once its own draft is done */
    POOL_BATCHES_MAX = 32,   /* batches before a pool thread lets another database have its turn */
    SNAPSHOT_SHARDS = 8,
    MISSING_RANGES_MAX = 64
};
#define ROLE_NS_MAX 2000000ull             /* time likewise */
#define DEADLINE_DEFAULT_NS 10000000000ull /* of drafts that have none, where waiting is bounded */
#define RETRY_NS 20000000ull               /* next attempt after a full disk or short memory */
#define TAIL_TXS_MAX 200000ull             /* what recovery replays at most: index and tree are flushed beyond */
#define TAIL_BYTES_MAX ((uint64_t)64 << 20)
#define UNSYNCED_BYTES_DUE ((uint64_t)8 << 20)  /* asynchronous mode: a sync is started */
#define UNSYNCED_BYTES_MAX ((uint64_t)32 << 20) /* writers wait for it */
#define MAINTENANCE_STEP_BYTES ((uint64_t)1 << 20)
#define FRONTIER_STEP_BYTES 16384u
#define DAMAGE_LOOK_NS 1000000000ull
#define MAINTENANCE_RETRY_NS 500000000ull
#define CLOCK_JUMP_NS 60000000000ll
#define RECENT_IDLE_NS 30000000000ull
#define SNAPSHOT_IDLE_NS 300000000000ull

/* --- drafts --- */
enum draft_kind { DRAFT_TX = 0, DRAFT_IMPORT, DRAFT_ALLOW, DRAFT_DISCARD, DRAFT_SYNC };

/* A thread that is blocked in store_commit() or a control call. Lives on its stack; the draft stays its own and is freed by it. */
enum waiter_state { WAITER_WAITS = 0, WAITER_DRIVES /* the role was handed to it */, WAITER_DONE };
struct waiter {
    _Atomic uint32_t state;
    struct store_result *result; /* status and error; the rest is read from the draft */
};

struct draft_meta { /* beside each entry */
    uint8_t md_len;
    uint8_t md_bytes[KV_METADATA_BYTES_MAX];
};
struct draft_late {
    uint32_t entry_index;
    bool in_key;
    size_t offset;
};
struct draft_condition {
    enum precondition_kind kind;
    struct bytes key;
    uint64_t tx_id;
    /* What the index said as of checked_upto. */
    bool is_found;
    struct index_version version;
};
struct draft_read {
    bool is_range;
    struct bytes first, last;
    uint64_t read_tx_id;
};

struct store_draft {
    struct store_draft *next; /* in whichever list holds it */
    struct store *store;
    enum draft_kind kind;
    bool wait_durable;
    bool is_internal; /* made by the store: limits for users do not apply */
    bool is_submitted;
    bool is_checked; /* conditions were looked up as of checked_upto */
    uint32_t bounces;
    bool is_hasty; /* waits neither for space nor for memory */

    struct tx_entry *entries;
    struct kv_metadata *mds;
    struct draft_meta *metas;
    uint32_t entry_count, entry_cap;
    uint32_t *table; /* positions + 1 by key, once there are many entries */
    uint32_t table_cap;
    uint64_t value_bytes;
    struct draft_late *lates;
    uint32_t late_count, late_cap;
    hash_t *digests;
    hash_t eh;
    struct tx_body *body;
    struct draft_condition *conditions;
    uint32_t condition_count, condition_cap;
    struct draft_read *reads;
    uint32_t read_count, read_cap;
    uint64_t checked_upto;
    uint64_t skipped_min; /* smallest read_tx_id that was left to recent; UINT64_MAX: none */
    const char *refusal;  /* which condition did not hold; static */

    struct tx_header header; /* DRAFT_IMPORT: as received; others: metadata as asked for, the rest filled in when ordered */
    hash_t alh;              /* of the ordered tx; DRAFT_ALLOW: the expected one */
    bool has_alh;            /* DRAFT_ALLOW */
    uint64_t control_tx_id;  /* DRAFT_ALLOW, DRAFT_DISCARD */

    uint64_t deadline_ns;  /* 0 = none */
    uint64_t submitted_ns; /* taken only where a default deadline is needed */
    bool (*is_cancelled)(void *ctx);
    void *cancel_ctx;
    store_done done;
    void *done_ctx;
    struct waiter *waiter;
    size_t budget_bytes;
    size_t borrowed_bytes; /* of these: values of the caller's, which are not accounted to the queue */
    size_t queued_bytes;   /* what it counts in queue_bytes */
    struct pool_job job;   /* re-reading conditions on a worker */
    struct arena arena;    /* copies of keys and of late fields */

    struct tx_entry entries_inline[DRAFT_INLINE];
    struct kv_metadata mds_inline[DRAFT_INLINE];
    struct draft_meta metas_inline[DRAFT_INLINE];
    hash_t digests_inline[DRAFT_INLINE];
};

struct draft_list {
    struct store_draft *first, *last;
    size_t count;
};
static inline void list_push(struct draft_list *l, struct store_draft *d)
{
    d->next = NULL;
    if (l->last != NULL)
        l->last->next = d;
    else
        l->first = d;
    l->last = d;
    l->count++;
}
static inline void list_push_front(struct draft_list *l, struct store_draft *d)
{
    d->next = l->first;
    l->first = d;
    if (l->last == NULL)
        l->last = d;
    l->count++;
}
static inline struct store_draft *list_pop(struct draft_list *l)
{
    struct store_draft *d = l->first;

    if (d == NULL)
        return NULL;
    l->first = d->next;
    if (l->first == NULL)
        l->last = NULL;
    d->next = NULL;
    l->count--;
    return d;
}
static inline void list_append(struct draft_list *to, struct draft_list *from)
{
    if (from->first == NULL)
        return;
    if (to->last != NULL)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->count += from->count;
    *from = (struct draft_list){NULL, NULL, 0};
}

/* --- the committer's own --- */
/* An ordered tx that is not applied yet. */
struct pending {
    hash_t alh, leaf;
    hash_t root;               /* of the tree with this tx as its last leaf */
    struct store_draft *draft; /* NULL when it was found at open */
};

struct committer {
    struct draft_list waiting;  /* taken from the inbox, in order */
    struct draft_list imports;  /* waiting for their predecessor, by id */
    struct draft_list parked;   /* conditions that wait for the index to be rebuilt */
    struct draft_list rootless; /* imports that name an old size of a tree that is being rebuilt */
    struct draft_list finished; /* applied, to be completed once the state is published */
    struct draft_list refused;  /* conditions that a tx of the running batch broke, completed with it */
    struct draft_list durable;  /* applied, waiting for the next sync (asynchronous mode), by id */
    struct draft_list syncs;    /* DRAFT_SYNC and DRAFT_ALLOW of the running batch, done when it is through */

    uint64_t look_ns;    /* when those who wait for an allowance are looked after again */
    uint64_t ordered_tx; /* last id given out */
    hash_t ordered_alh;
    struct frontier frontier;     /* of ordered_tx leaves */
    hash_t root;                  /* its root */
    struct frontier lag_frontier; /* while the tree lags: of applied_tx leaves, in its place */
    int64_t newest_ts;

    struct pending *pending; /* ring: txs applied_tx+1 .. ordered_tx at [id & (pending_cap - 1)] */
    size_t pending_cap;
    uint64_t durable_tx; /* last tx in a frame that is synced (durable mode), or written (asynchronous mode) */
    uint64_t allowed_tx; /* commits may go up to here: external commit */
    uint64_t applied_tx; /* in tree and index, published */
    hash_t applied_alh;
    uint64_t index_tx;    /* where index_insert stands: entries of txs <= index_tx are in, */
    uint32_t index_entry; /* and that many of tx index_tx + 1 */
    bool apply_failed;    /* memory was short: to be tried again before anything else */

    uint64_t synced_tx; /* what store_state().tx_id says */
    hash_t synced_alh;
    uint64_t unsynced_since_ns; /* asynchronous mode: when the first unsynced frame was written, 0 = all synced */
    uint64_t synced_bytes;      /* log_bytes_written() at the last sync */
    bool wants_vouch;
    bool sync_is_running; /* a job syncs beside the committer: see struct store, sync */

    bool is_out_of_space;
    uint64_t space_retry_ns;
    uint64_t armed_ns;  /* the timer's */
    uint64_t behind_ns; /* pause while the index is behind, grows and shrinks */

    struct recent recent;
    uint64_t conditions_ns; /* when the last draft with conditions came */

    int64_t clock_wall_ns; /* last reading, for noticing jumps */
    uint64_t clock_mono_ns;
    uint64_t batch_ns;         /* the clock as of the running batch, 0 = not read yet */
    uint64_t noted_bytes;      /* log_bytes_written() when the log was last told the frontier */
    uint64_t maintained_bytes; /* log_bytes_written() when maintenance was last asked for */

    /* The running batch. */
    bool batch_open;
    uint64_t batch_first_tx; /* 0: it holds no tx */
    uint64_t batch_allow;    /* COMMIT mark in it, 0 = none */
    size_t batch_bytes;
};

/* --- shared --- */
enum { STATE_WORDS = 16 };
struct state_cell { /* seqlock: one writer at a time (the role's holder), readers retry */
    _Atomic uint64_t sequence;
    _Atomic uint64_t words[STATE_WORDS];
};

struct store_snapshot {
    struct store *store;
    struct index_snapshot *index;
    _Atomic uint64_t used_ns;
    struct store_snapshot *next, **at; /* in its shard */
    unsigned shard;
};
struct snapshot_shard {
    pthread_mutex_t lock; /* level 44 */
    struct store_snapshot *first;
    uint64_t count;
};

/* Txs that can no longer be read, as recovery meets them; first 0: none that was not told. */
struct lost_range {
    uint64_t first, last;
    struct err why; /* of the first one met */
};

struct store {
    /* fixed */
    struct store_options o; /* defaults filled in; dir is ours */
    struct runtime *runtime;
    const struct env *env;
    char *dir;
    struct vfs_file *lock_file;
    struct log *log;
    struct tree *tree;
    struct index *index;
    uint8_t uuid[16];
    uint64_t entry_trees_id; /* cache id of inner nodes by tx id */
    size_t queue_bytes_max;

    /* shared: queue and role */
    _Atomic(struct store_draft *) inbox; /* newest first */
    _Atomic uint32_t role;               /* 0 free, 1 held */
    _Atomic uint32_t kicked;             /* somebody without a draft wants the role's holder to look around */
    _Atomic uint32_t wake_epoch, sleepers;
    _Atomic bool has_waiting; /* the role was given back with drafts in the waiting list */
    _Atomic bool wake_wanted; /* a blocked thread's draft was completed */
    _Atomic uint64_t queue_length, queue_bytes;
    _Atomic uint64_t queue_large_bytes; /* of them in drafts above QUEUE_SMALL_BYTES */
    _Atomic bool is_closing;
    _Atomic bool is_failed;  /* read-only for good: a write or sync failed */
    struct lost_range lost;  /* of whoever recovers: the opener, then the background or the role's holder, never two at a time */
    bool end_is_lost;        /* damage where the log ends: what the newest tx was is not known. Set while opening */
    _Atomic bool is_damaged; /* read-only: damage found at open */
    _Atomic bool is_out_of_space;
    _Atomic uint64_t space_tried_ns; /* the last time that there was no room */
    struct err space_why;            /* and why; health_lock */
    _Atomic uint64_t recent_floor;   /* committer.recent.floor, UINT64_MAX when off */
    struct pool_job drive_job;
    struct {
        struct pool_job job;
        _Atomic bool is_finished; /* release by the job: then the rest is the committer's again */
        enum status status;
        struct err err;
        uint64_t tx_id, bytes, start_ns; /* what it makes durable, at least */
        hash_t alh;
    } sync;
    struct timer timer;
    struct committer c;

    /* shared: state and waiting */
    struct state_cell state;
    _Atomic uint64_t visible_tx;    /* == state, alone */
    _Atomic uint64_t durable_tx;    /* state.tx_id alone */
    _Atomic uint64_t exportable_tx; /* precommitted and durable */
    _Atomic uint64_t indexed_limit; /* UINT64_MAX, or the last tx before the first missing range while rebuilding */
    _Atomic bool index_is_stopped;  /* damage does not let it be rebuilt; store_health() says which */
    pthread_mutex_t wait_lock;      /* level 46 */
    pthread_cond_t wait_cond;
    _Atomic uint32_t waiters;
    pthread_mutex_t health_lock; /* level 47 */
    char health_text[512];

    /* shared: work in the background */
    _Atomic uint32_t users; /* calls and jobs that must end before the store may be freed */
    _Atomic bool maintenance_queued;
    struct pool_job maintenance_job;
    _Atomic bool maintenance_failing;
    struct timer maintenance_timer;
    uint64_t flushed_bytes;           /* log_bytes_written() at the last full flush; maintenance_lock */
    pthread_mutex_t maintenance_lock; /* level 20: one flush, merge, truncation or rebuild at a time */

    /* rebuild; owned by the maintenance thread after open */
    struct index_range missing[MISSING_RANGES_MAX];
    size_t missing_count;
    uint64_t rebuild_at; /* next tx to be read in missing[0] */
    struct index_rebuild *rebuild;
    _Atomic uint64_t rebuilt, to_rebuild;
    /* While the index lags behind the log it is fed in the background, lag_at being the last tx it got; once lag_is_short that is the
     * committer's to finish. */
    _Atomic bool index_lags, lag_is_short;
    uint64_t lag_at;

    /* Likewise the tree: recover_tree.c. Set while opening; once lags is false it stays so. */
    _Atomic bool tree_lags, tree_lag_is_short, tree_is_stopped, tree_is_refuted;
    uint64_t tree_lag_from, tree_lag_upto; /* its size at open, and what it was to be then */

    struct snapshot_shard snapshots[SNAPSHOT_SHARDS];
    _Atomic uint64_t damage_looked_ns;

    /* statistics */
    _Atomic uint64_t commit_count, batch_count, conflict_count, clock_jumps;
    _Atomic uint64_t sync_ns_histogram[32];
};

/* Held while the store must not be freed; giving it back is the last touch. */
static inline void store_use(struct store *s) { atomic_fetch_add(&s->users, 1); }
static inline void store_unuse(struct store *s) { atomic_fetch_sub(&s->users, 1); }

/* draft.c */
MUST_USE enum status draft_make(struct store *s, enum draft_kind kind, struct store_draft **out, struct err *err);
/* Digests, Eh and record body; everything that can be done before the id is known. */
MUST_USE enum status draft_prepare(struct store_draft *d, struct err *err);
/* The rest, once it is. */
MUST_USE enum status draft_finish_late(struct store_draft *d, uint64_t tx_id, struct err *err);
MUST_USE enum status draft_add_entry(struct store_draft *d, const struct tx_entry *e, const struct kv_metadata *md, struct err *err);
/* Grows an array of *cap elements for one more. */
MUST_USE enum status array_grow(void **items, uint32_t *cap, uint32_t count, size_t item_bytes, void *inline_items, struct err *err);

/* store_open.c */
/* s->tree with at most size_max leaves from its files. */
MUST_USE enum status tree_make(struct store *s, uint64_t size_max, struct err *err);

/* commit.c */
/* Submits a prepared kind of draft and waits for it; the draft is gone in every case. */
MUST_USE enum status draft_commit(struct store *s, struct store_draft *d, struct store_result *out, struct err *err);

/* role.c */
void draft_enqueue(struct store *s, struct store_draft *d);
void role_submit(struct store *s, struct store_draft *d, enum store_drive drive);
/* Submits and blocks until done; *out tells. */
void role_submit_wait(struct store *s, struct store_draft *d, struct store_result *out);
/* Makes somebody look after the queue soon: for timers and background work. */
void role_kick(struct store *s);
/* The same on this thread, which is one of a pool. */
void role_look_around(struct store *s);
void role_drive_job(struct pool_job *job);
/* Closing: takes the role for good once nothing is left to be driven; false: try again. */
bool role_take_dry(struct store *s, bool is_forced);
void role_wake_sleepers(struct store *s);
/* What the draft counted in the queue is given back. */
void queue_leave(struct store *s, const struct store_draft *d);
void draft_complete(struct store_draft *d, enum status st, const struct err *err);

/* The rest is for the role's holder. */
/* order.c */
struct pending *pending_at(const struct store *s, uint64_t tx_id);
MUST_USE enum status pending_reserve(struct store *s, struct err *err);
/* Takes over the next tx: alh, leaf, frontier, root. Room must have been reserved. */
void order_advance(struct store *s, const hash_t *alh, struct store_draft *d);
/* Gives the draft an id, a time and its place in the chain, and adds its record to the batch. On failure nothing has changed. */
MUST_USE enum status order_draft(struct store *s, struct store_draft *d, int64_t now_s, struct err *err);
/* Back to tx_id (applied_tx..ordered_tx). The drafts of later txs go to *out, in order. */
void order_restore(struct store *s, uint64_t tx_id, struct draft_list *out);

/* batch.c */
/* Forms and carries through one batch; false when there is nothing to be done now. */
bool batch_run(struct store *s);
/* The queue ran dry. */
void batch_dry(struct store *s);
void batch_sync_job(struct pool_job *job);
MUST_USE enum status batch_sync_log(struct store *s, struct err *err);
MUST_USE enum status batch_ensure(struct store *s, struct err *err);
void store_fail(struct store *s, const struct err *err);
/* Arms the store's timer unless it is armed early enough. */
void store_arm(struct store *s, uint64_t at_ns);
/* The monotonic clock, read at most once per batch. */
uint64_t batch_clock(struct store *s);
/* When it may no longer wait: its own deadline, or the default one from now on. */
uint64_t draft_deadline(struct store_draft *d, uint64_t now_ns);

/* space.c */
/* The last batch could not be written for want of space or memory (ST_NO_SPACE, ST_NOMEM); for the role's holder. */
void space_lost(struct store *s, enum status st, const struct err *why);
void space_found(struct store *s);
/* What is answered to drafts that may not wait any longer: ST_NO_SPACE or ST_NOMEM, and its text. */
enum status space_error(struct store *s, struct err *err);
/* When a draft that waits for room is to be answered. */
uint64_t space_deadline(struct store_draft *d, uint64_t now_ns);
/* Answers those that are too many to wait. */
void space_thin_out(struct store *s, struct draft_list *l);
/* On the submitting thread, while there is no room: not ST_OK when enough wait already. */
MUST_USE enum status space_enter(struct store *s, const struct store_draft *d, struct err *err);

/* control.c: drafts that are no transactions */
void control_allow(struct store *s, struct store_draft *d);
void control_discard(struct store *s, struct store_draft *d);

/* import.c */
/* Completes the draft, parks it, or answers true: it is the next tx and checked. */
bool import_take(struct store *s, struct store_draft *d);

/* apply.c */
/* Tree, index, publication of txs that are durable; may be called again after a failure. */
MUST_USE enum status apply_upto(struct store *s, uint64_t tx_id, struct err *err);

/* validate.c */
bool draft_has_conditions(const struct store_draft *d);
/* Looks conditions up in the index as of now, on the submitting thread. nowait: ST_AGAIN instead of the disk. */
MUST_USE enum status conditions_look_up(struct store_draft *d, bool nowait, struct err *err);
enum validation { VALIDATION_OK, VALIDATION_FAILED, VALIDATION_MOVED /* to a worker or the parked list; not ours any more */ };
enum validation conditions_validate(struct store *s, struct store_draft *d, int64_t now_s, struct err *err);
void conditions_on_worker(struct store_draft *d);

/* state.c */
void state_publish(struct store *s);
void state_wake_waiters(struct store *s);
void store_set_health_text(struct store *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
MUST_USE enum status store_writable(struct store *s, struct err *err);
enum status rebuilding_error(struct store *s, struct err *err);
/* For a tx above the last one: it does not exist, or nobody can tell any more. */
enum status beyond_error(struct store *s, struct err *err);

/* maintenance.c */
void maintenance_kick(struct store *s);
void maintenance_run(struct pool_job *job);
/* Makes tree and index durable up to what is committed and synced. */
MUST_USE enum status maintenance_flush(struct store *s, bool everything, struct err *err);

/* lost_log.c */
/* ST_OK: there is a log, or one may be made. ST_CORRUPT: it is gone from a database that had one. ST_NOT_FOUND: there is none, and none is to be made. */
MUST_USE enum status lost_log_check(struct store *s, struct err *err);

/* recover.c */
MUST_USE enum status recover(struct store *s, const struct log_report *report, struct err *err);
/* Read-only from here on; the first thing found is what store_health() tells. */
void damage_note(struct store *s, const struct err *why);
/* Writes down the range of lost txs that recover_alh() has gathered, in one line. */
void lost_tell(struct store *s);
/* alh of a tx; of one that cannot be read any more its successor's header tells. */
MUST_USE enum status recover_alh(struct store *s, uint64_t tx_id, uint64_t last, hash_t *alh, struct err *err);
/* Ends the lag of tree and index where it is short; for the role's holder. */
MUST_USE enum status catch_up_finish(struct store *s, struct err *err);
/* Takes damaged runs out of use and notes their ranges. */
MUST_USE enum status rebuild_find_gaps(struct store *s, struct err *err);
/* One bounded step of the rebuild; *more tells whether another one is needed. */
MUST_USE enum status rebuild_step(struct store *s, bool *more, struct err *err);
/* Entries of one tx from the log, as index entries, through add. */
typedef enum status (*index_add)(void *ctx, const struct index_entry *entries, size_t count, struct err *err);
MUST_USE enum status index_feed_tx(struct store *s, uint64_t tx_id, index_add add, void *ctx, struct err *err);
/* false: no index covers it. */
bool index_entry_of(uint64_t tx_id, uint32_t entry_index, const struct tx_entry *e, const struct kv_metadata *md, struct index_entry *out);

/* recover_tree.c */
/* Brings the tree to upto leaves, or notes that it lags; the committer's frontier is right in both cases. */
MUST_USE enum status recover_tree(struct store *s, uint64_t upto, struct err *err);
MUST_USE enum status tree_rebuild_step(struct store *s, bool *more, struct err *err);
/* For the role's holder. */
MUST_USE enum status tree_lag_finish(struct store *s, struct err *err);
bool tree_is_rebuilding(struct store *s);
/* Writers are faster than the rebuild; for the role's holder. */
bool tree_is_outrun(struct store *s);
/* In txs, since the open. */
void tree_progress(struct store *s, uint64_t *rebuilt, uint64_t *to_rebuild);
enum status tree_rebuilding_error(struct store *s, struct err *err);
/* ST_BUSY: not yet; ST_CORRUPT: never, because of damage. */
MUST_USE enum status tree_reaches(struct store *s, uint64_t size, struct err *err);
/* Root of size <= applied_tx leaves; for the role's holder. ST_BUSY as above. */
MUST_USE enum status tree_applied_root(struct store *s, uint64_t size, hash_t *root, struct err *err);

/* proofs.c */
MUST_USE enum status store_alh(struct store *s, uint64_t tx_id, hash_t *out, struct err *err);

#endif
