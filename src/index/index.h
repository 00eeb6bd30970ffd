/* The key index of one database: every version of every key, readable as of any past tx.
 *
 * Order: (namespace, user key by memcmp then length, tx id descending). Nothing is overwritten or deleted; a deletion is a
 * version with is_deleted. Addresses are (tx id, entry index), never file offsets. The index is derived from the log and may
 * be lost at any time: index_open() says how far each namespace is covered, the owner replays the rest.
 *
 * Shape: a memtable (B+tree, one writer) over immutable sorted runs of disjoint, ascending tx ranges, newest first; a run
 * keeps each key once per block with its versions and their count, fences, a Bloom filter over (namespace, key), CRC per
 * block. Files and offsets: docs/format-index.md.
 *
 * Revisions: the ordinal of a version among all versions of its key, from 1; found by counts, never by walking versions.
 *
 * Threads: one writer (index_insert, index_publish); index_flush/index_merge on one background thread at a time, beside the
 * writer; any number of readers through snapshots. Readers never wait for the disk writes of flush or merge. */
#ifndef INDEX_INDEX_H
#define INDEX_INDEX_H

#include "base/arena.h"
#include "base/env.h"
#include "vfs/cache.h"

#define INDEX_KEY_LEN_MAX 65535u
#define INDEX_NAMESPACES_MAX 65536u
#define INDEX_ENTRY_INDEX_MAX ((1u << 30) - 1)

/* Namespaces of the key-value layer; SQL and document indexes get larger ids. */
enum index_namespace { INDEX_NS_KV = 0, INDEX_NS_ZSET = 1, INDEX_NS_CATALOG = 2, INDEX_NS_FIRST_FREE = 16 };

struct index_version {
    uint64_t tx_id;
    uint32_t entry_index; /* at most INDEX_ENTRY_INDEX_MAX */
    uint32_t value_len;
    int64_t expires_at; /* unix seconds; meaningful when has_expiry */
    bool is_deleted;
    bool has_expiry;
};

struct index_entry {
    uint32_t ns;
    struct bytes key; /* borrowed for the call; 0..INDEX_KEY_LEN_MAX bytes (namespace byte not included) */
    struct index_version version;
};

struct index;
struct index_options {
    struct vfs *vfs;
    struct cache *cache;
    struct budget *budget; /* BUDGET_MEMTABLE */
    const struct env *env;
    const char *dir;           /* made when missing; copied */
    uint8_t uuid[16];          /* of the database: seeds all checksums */
    size_t memtable_bytes_max; /* a memtable is frozen for flush beyond this; 64 KiB .. 1 GiB */
    unsigned runs_max;         /* merge keeps the number of runs at or below this; 2..64, default 12 */
};

/* Opens what is on disk. Damaged or missing runs are dropped from use (and named in the log and in stats): the covered
 * ranges shrink accordingly. ST_CORRUPT is never returned for damage: the index then is empty. A manifest of a newer format
 * is ST_UNSUPPORTED. tx_id_max: anything on disk above it is not used. */
MUST_USE enum status index_open(const struct index_options *o, uint64_t tx_id_max, struct index **out, struct err *err);
void index_close(struct index *x); /* all snapshots must be closed */

/* The tx ids covered by runs form ranges; everything in (upto of the first range .. end) that is not covered must be replayed
 * by the owner, ascending. Fills at most ranges_max ranges of MISSING tx ids up to tx_id_max, ascending, and returns their
 * number; 0 = nothing missing. A missing range between runs (a damaged run) is rebuilt with index_rebuild_*, the one at the
 * end through the ordinary writer. */
struct index_range {
    uint64_t first, last;
};
size_t index_missing(struct index *x, uint64_t tx_id_max, struct index_range *out, size_t ranges_max);

/* --- writer --- */
/* Adds versions of one or more txs, ids ascending across calls, in entry order within a tx (one key at most once per tx and
 * namespace). Invisible until published. ST_NOMEM leaves the index unchanged apart from entries never to be published: the owner
 * may retry the same call. Never blocks on disk. */
MUST_USE enum status index_insert(struct index *x, const struct index_entry *entries, size_t count, struct err *err);
/* Makes everything up to tx_id visible to new snapshots (release). All entries of these txs must have been inserted. */
void index_publish(struct index *x, uint64_t tx_id);
uint64_t index_published(const struct index *x); /* acquire */
/* True when the writer should pause: flush and merge are too far behind (more than runs_max + 4 runs, or frozen memtables over
 * budget). */
bool index_is_behind(const struct index *x);

/* --- background --- */
/* Writes frozen memtables (all of them when everything is set, the live one included) as runs, but only versions with
 * tx id <= upto (what is committed and synced); then the manifest. On failure the memtables stay. */
MUST_USE enum status index_flush(struct index *x, uint64_t upto, bool everything, struct err *err);
/* One merge step (some 4 MiB of output) when there are too many runs, paced by the owner; *more = another step would help.
 * ST_CORRUPT: a run is damaged; index_quarantine() then lets merging go on. */
MUST_USE enum status index_merge(struct index *x, bool *more, struct err *err);
bool index_wants_flush(const struct index *x);
bool index_wants_merge(const struct index *x);
/* Merges everything into one run (CompactIndex). index_compact_begin() only starts that and index_merge() does it step by step;
 * index_compact() does it all. */
MUST_USE enum status index_compact_begin(struct index *x, struct err *err);
MUST_USE enum status index_compact(struct index *x, struct err *err);
/* Makes an index_compact() under way return ST_CANCELLED soon, and later merges refuse; for closing. Any thread. */
void index_cancel(struct index *x);
/* Highest tx id such that all of 1..id is in runs on disk, synced. Recovery replays from id + 1. */
uint64_t index_flushed(const struct index *x);

/* Rebuilds one missing range between runs while the index serves: the owner feeds the entries of the txs first..last (any
 * order of calls ascending by tx), then finishes; memory bounded by memtable_bytes_max (spills into several runs). */
struct index_rebuild;
MUST_USE enum status index_rebuild_begin(struct index *x, struct index_range range, struct index_rebuild **out, struct err *err);
MUST_USE enum status index_rebuild_add(struct index_rebuild *r, const struct index_entry *entries, size_t count, struct err *err);
MUST_USE enum status index_rebuild_finish(struct index_rebuild *r, struct err *err); /* frees r in every case */
void index_rebuild_abort(struct index_rebuild *r);

/* --- damage found at run time --- */
/* A read that meets a damaged block returns ST_CORRUPT with file and offset and notes the run. index_has_damage(): one is noted. */
bool index_has_damage(struct index *x);
/* Drops the noted runs (manifest first) and says how many; index_missing() lists their ranges from then on, index_rebuild_* brings
 * them back. Readers holding older snapshots keep seeing ST_CORRUPT. Any thread. */
MUST_USE enum status index_quarantine(struct index *x, size_t *dropped, struct err *err);

/* --- namespace marks, kept in the manifest --- */
/* A tx id that the owner keeps per namespace (complete up to here); 0 when never set. Setting is durable on ST_OK. Any thread. */
uint64_t index_mark(struct index *x, uint32_t ns);
MUST_USE enum status index_mark_set(struct index *x, uint32_t ns, uint64_t tx_id, struct err *err);

/* --- snapshots --- */
/* A read view as of tx_id (<= published; 0 = the published one). Holds memtables and runs; cheap (no copying, no I/O). */
struct index_snapshot;
MUST_USE enum status index_snapshot_open(struct index *x, uint64_t tx_id, struct index_snapshot **out, struct err *err);
void index_snapshot_close(struct index_snapshot *s);
uint64_t index_snapshot_tx(const struct index_snapshot *s);

/* Point reads. nowait: ST_AGAIN instead of waiting for the disk.
 * ST_NOT_FOUND when the key has no version <= the snapshot's tx. revision (may be NULL: then not computed) counts all versions
 * up to and including the found one. */
MUST_USE enum status index_get(struct index_snapshot *s, uint32_t ns, struct bytes key, bool nowait, struct index_version *out, uint64_t *revision,
                               struct err *err);
/* Latest version with tx id <= upto (below the snapshot's). */
MUST_USE enum status index_get_at(struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t upto, bool nowait, struct index_version *out,
                                  uint64_t *revision, struct err *err);
/* index_get() for many keys in a row: blocks of the index stay pinned in pins from one to the next, at most 36 of them. Made for one snapshot, freed
 * before it is closed; one thread. NULL, also from want of memory: every look-up for itself. */
struct index_pins;
struct index_pins *index_pins_create(struct index_snapshot *s);
void index_pins_free(struct index_pins *pins);
MUST_USE enum status index_get_pinned(struct index_snapshot *s, struct index_pins *pins, uint32_t ns, struct bytes key, bool nowait,
                                      struct index_version *out, uint64_t *revision, struct err *err);
/* Number of versions of key in the snapshot; 0 when never written. */
MUST_USE enum status index_version_count(struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t *count, struct err *err);
/* Version number revision (1 = first). ST_NOT_FOUND out of range. */
MUST_USE enum status index_get_revision(struct index_snapshot *s, uint32_t ns, struct bytes key, uint64_t revision, struct index_version *out,
                                        struct err *err);
/* Versions of one key, oldest first or newest first: fills up to out_max versions after skipping offset ones; *out_count and
 * *total tell. Costs O(runs + log versions + out_max). */
MUST_USE enum status index_history(struct index_snapshot *s, uint32_t ns, struct bytes key, bool desc, uint64_t offset, struct index_version *out,
                                   size_t out_max, size_t *out_count, uint64_t *total, struct err *err);

/* Scans: keys of one namespace in order, for each its latest version in the snapshot (deleted and expired ones included: the
 * caller filters by version), its revision when wanted. */
struct index_scan_options {
    uint32_t ns;
    struct bytes prefix; /* only keys with it */
    struct bytes seek;   /* start; empty = the matching edge of the prefix */
    struct bytes end;    /* stop; empty = the other edge */
    bool inclusive_seek, inclusive_end;
    bool desc; /* seek is the upper, end the lower bound then */
    bool want_revision;
    uint64_t upto; /* versions with tx id <= upto; 0 = the snapshot's tx */
};
struct index_cursor;
MUST_USE enum status index_scan_open(struct index_snapshot *s, const struct index_scan_options *o, struct index_cursor **out, struct err *err);
/* ST_NOT_FOUND at the end. *key stays valid until the next call on the cursor or its close. */
MUST_USE enum status index_scan_next(struct index_cursor *c, struct bytes *key, struct index_version *version, uint64_t *revision, struct err *err);
void index_scan_close(struct index_cursor *c);
/* Number of distinct keys with the prefix (deleted ones included) in the snapshot. Uses block counts where a block is wholly inside
 * and no other source overlaps it. */
MUST_USE enum status index_count(struct index_snapshot *s, uint32_t ns, struct bytes prefix, uint64_t *count, struct err *err);

struct index_stats {
    uint64_t runs, run_bytes, run_entries, memtable_entries, flushes, flush_bytes, merges, merge_bytes, damaged_runs, bloom_skips, block_reads;
    size_t memtable_bytes;
    uint64_t snapshots_open;
};
void index_stats(struct index *x, struct index_stats *out);

#endif
