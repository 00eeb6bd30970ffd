/* The log of one database: segments, frames, records; what is written here is the truth.
 *
 * Formats, commit point and the rule what recovery may cut: docs/format.md. The log knows nothing of indexes or trees.
 *
 * Threads: one writer at a time (the committer role) calls log_batch_*, log_vouch, log_note_*, log_publish, log_cut. log_sync() is called by it or, in an
 * asynchronous database, by another thread beside it. log_advance_background(), log_truncate() and log_scrub() run on background threads beside all
 * of these. Readers call log_tx_*, log_entry_read, log_walk from any thread for tx ids up to log_published(); they take no lock but the cache's. */
#ifndef LOG_LOG_H
#define LOG_LOG_H

#include "base/env.h"
#include "merkle/merkle.h"
#include "tx/tx.h"
#include "vfs/cache.h"

struct log;

struct log_options {
    struct vfs *vfs;
    struct cache *cache;
    struct budget *budget;
    const struct env *env;
    const char *dir; /* the log/ directory; made (durably) when create is set */
    bool create;
    uint64_t segment_bytes_first; /* 0 = 1 MiB; each next one doubles up to segment_bytes_max */
    uint64_t segment_bytes_max;   /* 0 = 64 MiB; tests use small ones */
    uint64_t vouched_tx_id;       /* largest tx id that index or tree on disk know as committed, 0 = none: a log that ends below it is damaged */
};

/* What was found when opening. */
struct log_report {
    uint64_t precommitted_upto;           /* last tx id in the log (0 = none) */
    uint64_t committed_upto;              /* largest durable committed_upto/COMMIT seen */
    uint64_t intact_upto;                 /* of a damaged log: the places of all txs up to here are known; otherwise precommitted_upto */
    uint64_t torn_bytes;                  /* cut from the tail */
    uint64_t torn_first_tx, torn_last_tx; /* ids seen in the cut part, 0 = none */
    bool was_clean;                       /* ended with a close mark */
    bool is_damaged;                      /* opened read-only: see damage */
    bool end_is_lost;                     /* the damage lies where the log ends: there may have been txs above precommitted_upto */
    char damage[512];                     /* file, offset, tx ids */
};

MUST_USE enum status log_open(const struct log_options *o, struct log **out, struct log_report *report, struct err *err);
/* Writes a close mark when clean is set (all work must be done), then frees. */
void log_close(struct log *l, bool clean);
const uint8_t *log_uuid(const struct log *l); /* 16 bytes */

/* --- writing --- */
/* A tx record's body (entry table, key area, values), encoded by whoever makes the draft, outside the committer role. */
struct tx_body;
/* Encodes entries (hval of each must be set). The values of entries at or above TX_BODY_BORROW_BYTES are referenced, not copied, and must
 * stay valid until the batch was written. ST_LIMIT above 4 GiB. The body belongs to the caller. */
#define TX_BODY_BORROW_BYTES 65536u
MUST_USE enum status tx_body_encode(const struct tx_entry *entries, size_t count, struct tx_body **out, struct err *err);
void tx_body_free(struct tx_body *b);
size_t tx_body_bytes(const struct tx_body *b);    /* memory and log bytes it will take */
size_t tx_body_borrowed(const struct tx_body *b); /* of these: values that are referenced, not copied */

/* Builds one frame. The batch object is owned by the log and reused; txs ids ascend by one. */
MUST_USE enum status log_batch_begin(struct log *l, struct err *err);
/* Copies head, keys and small values; the body may be freed afterwards, values from TX_BODY_BORROW_BYTES on must stay. ST_NOMEM, ST_INVALID (the id is not the
 * next one), ST_LIMIT leave the batch as it was. */
MUST_USE enum status log_batch_tx(struct log *l, const struct tx_header *h, const struct tx_body *body, struct err *err);
MUST_USE enum status log_batch_commit(struct log *l, uint64_t tx_id, const hash_t *alh, struct err *err);
/* A batch with a DISCARD holds no tx. Once it is written and synced, log_cut() follows before the next tx. */
MUST_USE enum status log_batch_discard(struct log *l, uint64_t tx_id, const hash_t *alh, struct err *err);
size_t log_batch_bytes(const struct log *l);
void log_batch_abort(struct log *l);
/* Writes the frame at the tail (opening a new segment first when it does not fit). ST_NO_SPACE, ST_NOMEM: nothing was appended, the same batch may be
 * written again later. Any other failure: the log is failed for good (ST_READ_ONLY from then on). committed_upto goes into the frame. */
MUST_USE enum status log_batch_write(struct log *l, uint64_t committed_upto, struct err *err);
/* Makes every frame written before the call durable. A failure is final: ST_READ_ONLY, now and afterwards. */
MUST_USE enum status log_sync(struct log *l, struct err *err);
/* Empty frame that vouches for those that are synced; no sync. Called when the queue runs dry. No-op when the log says so already. */
MUST_USE enum status log_vouch(struct log *l, struct err *err);
/* The owner's commit mark: goes into the frames to come and lets full segments seal once such a frame is durable. An ordinary database calls
 * it after log_sync(), with synchronous replication it follows the commit decision. */
void log_note_committed(struct log *l, uint64_t tx_id);
/* Frontier of the tree at the last tx: goes into the footer when this segment seals. */
void log_note_frontier(struct log *l, const struct frontier *f);
/* Readers may see txs up to here. */
void log_publish(struct log *l, uint64_t tx_id);
uint64_t log_published(const struct log *l);
/* Forgets the offsets of txs above tx_id after a DISCARD record for it is durable. */
void log_cut(struct log *l, uint64_t tx_id);
uint64_t log_synced_tx(const struct log *l);
uint64_t log_bytes_written(const struct log *l); /* bytes appended in the life of this handle */

/* Zeroes ahead, seals and prepares the next segment when the write rate asks for it; returns soon. Called on a background thread. */
MUST_USE enum status log_advance_background(struct log *l, struct err *err);
/* True when log_advance_background() would find something to do. */
bool log_wants_background(struct log *l);

/* --- reading --- */
/* One tx, pinned in the cache or read for this call. */
struct log_tx {
    struct tx_header header; /* eh filled in also where it is not stored */
    uint32_t entry_count;
    struct cache_block block_;
    const uint8_t *rows_, *keys_, *values_;
    uint64_t values_offset_; /* in the file, when the values are not in the block */
    uint32_t body_seed_;
    void *segment_;
};
/* Header only. tx_id 1..published (or precommitted for the owner). Verified by CRC. ST_NOT_FOUND ("tx not found") beyond. */
MUST_USE enum status log_tx_header(struct log *l, uint64_t tx_id, struct tx_header *out, struct err *err);
/* Opens the whole meta part (header, keys, metadata, hvals). nowait as in the cache. */
MUST_USE enum status log_tx_open(struct log *l, uint64_t tx_id, bool nowait, struct log_tx *out, struct err *err);
void log_tx_close(struct log *l, struct log_tx *t);
/* Entry i without its value (value.data NULL unless it is in memory); key, md borrowed until log_tx_close. hval computed when not stored. */
MUST_USE enum status log_tx_entry(struct log *l, struct log_tx *t, uint32_t entry_index, struct tx_entry *out, struct err *err);
/* The digests of all entries (count hashes into out). */
MUST_USE enum status log_tx_digests(struct log *l, struct log_tx *t, hash_t *out, struct err *err);
/* Value of entry i, into the arena unless it can be borrowed from the pinned block. ST_NOT_FOUND "value was truncated" when removed. CRC-checked. */
MUST_USE enum status log_tx_value(struct log *l, struct log_tx *t, uint32_t entry_index, struct arena *arena, struct bytes *out, struct err *err);

/* One entry with its value by (tx id, entry index), without opening the whole tx when it is large: the path of Get and Scan. Bytes are borrowed
 * from *pin (then to be unpinned) or lie in the arena (pin->owner_ NULL). The pin may be reused for following reads of the same tx: pass it back
 * in, it is kept when it fits. Start with a zeroed pin.
 * Values of at least pin->far_bytes (0 = never) that are not in memory are left where they are: value.data NULL with value_len above 0, nothing of the entry is
 * checked then but what is in memory; log_value_* reads them in pieces.
 * out->hval is filled in only where it is stored (values above 64 bytes, removed ones), else zero. want_value of a removed value: ST_NOT_FOUND "value was truncated",
 * with everything else of *out filled in. tx ids as in log_tx_header; no such entry: ST_NOT_FOUND. */
struct log_pin {
    struct cache_block block;
    uint64_t tx_id;
    size_t far_bytes;
};
MUST_USE enum status log_entry_read(struct log *l, uint64_t tx_id, uint32_t entry_index, bool nowait, bool want_value, struct arena *arena,
                                    struct log_pin *pin, struct tx_entry *out, struct err *err);
void log_pin_release(struct log *l, struct log_pin *pin);

/* The value of one entry, read from its first byte to its last in pieces of any size. The checksum of the entry is verified on the way: the last piece is not given
 * out when it is wrong. Keeps the segment's generation: a truncation does not disturb it. */
struct log_value {
    void *segment_; /* NULL: not open */
    uint64_t tx_id, offset_;
    uint32_t len, at;
    uint32_t crc_, crc_wanted_;
};
/* May wait for the disk. A removed value: ST_NOT_FOUND "value was truncated". */
MUST_USE enum status log_value_open(struct log *l, uint64_t tx_id, uint32_t entry_index, struct log_value *out, struct err *err);
/* The next len bytes, which must be there. */
MUST_USE enum status log_value_read(struct log *l, struct log_value *v, uint8_t *out, size_t len, struct err *err);
void log_value_close(struct log_value *v); /* also one that is not open */

/* Visits txs first..last in order with their values, reading ahead instead of going through the cache: for replay, rebuild, export. visit returns
 * false to stop. The tx is valid during the call and is not to be closed. ST_NOT_FOUND when the log ends before last. */
MUST_USE enum status log_walk(struct log *l, uint64_t first, uint64_t last, bool (*visit)(void *ctx, struct log_tx *t), void *ctx, struct err *err);

/* First tx whose ts >= ts_s (txs with ts 0 are skipped); published + 1 when none. */
MUST_USE enum status log_tx_since(struct log *l, int64_t ts_s, uint64_t *tx_id, struct err *err);
/* Frontier of the tree at the end of a sealed segment that ends at or below tx_id: *at tells which size. at = 0: none. */
MUST_USE enum status log_frontier_before(struct log *l, uint64_t tx_id, struct frontier *out, uint64_t *at, struct err *err);

/* --- truncation --- */
/* Ends the active segment when it lies wholly at or below tx_id, so that what is written before the truncation (a copy of the catalog) does not keep
 * the values around it; also when its oldest tx is from before part_before_s (unix seconds; 0 = no matter), so that a later truncation can take it
 * and need not wait until it is full. */
MUST_USE enum status log_truncate_begin(struct log *l, uint64_t tx_id, int64_t part_before_s, struct err *err);
/* Replaces every sealed segment that lies wholly at or below tx_id by a generation without values; *freed_bytes and *truncated_upto say what was done.
 * Readers of the old generation finish undisturbed. Seals the active segment first when it is wholly below. Crash-safe at every step. Runs on a worker. */
MUST_USE enum status log_truncate(struct log *l, uint64_t tx_id, uint64_t *freed_bytes, uint64_t *truncated_upto, struct err *err);

/* --- damage and statistics --- */
/* Reads a segment's every byte and checks all CRCs (offline verify, scrub); calls bad for each damaged place. */
MUST_USE enum status log_scrub(struct log *l, bool (*bad)(void *ctx, const char *file, uint64_t offset, uint64_t tx_id, const char *what), void *ctx,
                               struct err *err);
struct log_stats {
    uint64_t segments, bytes, bytes_zeroed_ahead, frames_written, syncs, sync_ns_total, sync_ns_max, records_read, values_removed_segments;
};
void log_stats(struct log *l, struct log_stats *out);

#endif
