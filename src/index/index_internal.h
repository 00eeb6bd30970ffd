/* The state of an index, for the files of this folder alone.
 *
 * What readers see is a *set*: the memtables and runs of one moment, immutable and counted. A snapshot holds one; freezing,
 * flushing, merging and quarantine put a new one in place. Sets, memtables and runs nobody holds any more go to a graveyard, which
 * the background work empties: a reader never frees megabytes or unlinks a file.
 *
 * Locks, in rising order; none is held across I/O:
 *   40 write    one index_insert() at a time, and freezing
 *   41 role     guards role_taken: who changes runs and manifest (flush, merge, rebuild, quarantine; across I/O by the flag)
 *   42 sets     current set, all reference counts, graveyard, tx_end and flushed_upto of memtables, is_merging of runs */
#ifndef INDEX_INTERNAL_H
#define INDEX_INTERNAL_H

#include "index/manifest.h"
#include "index/source.h"

#include <pthread.h>

struct set_run {
    struct run *run; /* NULL: no version in the range */
    struct manifest_run info;
};

struct index_set {
    uint32_t refs;
    bool has_gap; /* tx ids below the oldest memtable are not all covered */
    size_t mem_count, run_count, source_count;
    struct memtable **mems; /* newest first; [0] is the live one */
    struct set_run *runs;   /* ascending */
    struct run **sources;   /* runs to read: newest first, without those that repeat a memtable still here */
    struct index_set *next_dead;
};

struct merge_job;
struct index {
    struct vfs *vfs;
    struct cache *cache;
    struct budget *budget;
    const struct env *env;
    char *dir;
    uint8_t uuid[16];
    size_t memtable_bytes_max;
    unsigned runs_max;

    pthread_mutex_t write;
    struct memtable *live; /* mems[0] of the current set */

    pthread_mutex_t role;
    pthread_cond_t role_free;
    bool role_taken;
    /* the role's */
    uint64_t generation;
    struct manifest_mark *marks;
    size_t mark_count;
    struct merge_job *merges_open; /* newest first; the background thread's */
    uint64_t merge_owed;           /* bytes the next merge step writes at least, for what was flushed since the last one; likewise */

    pthread_mutex_t sets;
    struct index_set *current;
    struct index_set *dead_sets;
    struct memtable *dead_mems;
    struct run *dead_runs;

    _Atomic uint64_t published;
    _Atomic uint64_t next_run_id;
    _Atomic bool is_cancelled, is_merging;
    _Atomic size_t frozen_bytes; /* of memtables waiting for flush */
    _Atomic uint64_t run_count;  /* of the current set */
    _Atomic uint64_t flushes, merge_count, merge_bytes, flush_bytes, damaged_runs, snapshots_open;
    _Atomic bool has_dead;
    struct run_stats run_stats;
};

struct index_snapshot {
    struct index *x;
    struct index_set *set;
    uint64_t tx_id;
};

/* --- set.c --- */

/* What changes from one set to the next. */
struct set_edit {
    struct memtable *add_mem; /* becomes the live one; the one before ends at add_mem->tx_base - 1 */
    struct memtable *remove_mem;
    struct memtable *flushed_mem; /* its flushed_upto becomes flushed_upto */
    uint64_t flushed_upto;
    struct set_run *const *remove_runs; /* entries of the current set, found by first tx id and file */
    size_t remove_count;
    const struct set_run *add_run; /* NULL: none. The set takes a reference of its own; may be one of remove_runs with a wider range */
};
/* Holds the current set. */
struct index_set *index_set_hold(struct index *x);
void index_set_release(struct index *x, struct index_set *s);
void run_release(struct index *x, struct run *r); /* NULL allowed */
/* Puts the changed set in place, in memory only. */
MUST_USE enum status index_set_change(struct index *x, const struct set_edit *e, struct err *err);
/* The same for runs, on disk first: writes the manifest, then changes the set, then marks removed files obsolete. The caller has
 * the role. When it fails the manifest on disk may name either state: files of neither may be removed. */
MUST_USE enum status index_set_commit(struct index *x, const struct set_edit *e, struct err *err);
MUST_USE enum status index_manifest_write(struct index *x, const struct set_run *runs, size_t run_count, struct err *err);
void index_role_take(struct index *x);
void index_role_release(struct index *x);
/* Frees what nobody holds. Does I/O (unlink). */
void index_graveyard_reap(struct index *x);
MUST_USE enum status index_set_create(struct index *x, struct set_run *runs, size_t run_count, struct memtable *live, struct err *err);

/* --- flush.c --- */

/* Where versions of a memtable go when they are written as a run. is_whole: it has none outside first .. last and gets none any more. */
MUST_USE enum status memtable_write_run(struct index *x, const struct memtable *m, uint64_t first, uint64_t last, bool is_whole, struct set_run *out,
                                        struct err *err);
MUST_USE enum status run_path(const struct index *x, uint64_t run_id, char *path, struct err *err);
MUST_USE enum status index_writer_open(struct index *x, uint64_t first, uint64_t last, struct run_writer **out, uint64_t *run_id, struct err *err);
/* Finishes the file, syncs the folder, opens the run for reading; w is closed in every case. */
MUST_USE enum status index_writer_complete(struct index *x, struct run_writer *w, uint64_t first, uint64_t last, uint8_t depth, struct set_run *out,
                                           struct err *err);
#define INDEX_DEPTH_COMPACT 16u
/* Bytes that merging writes for each byte flushed, in the long run: see merge.c. */
#define MERGE_PER_FLUSH 2u
uint8_t index_depth_of(const struct index *x, uint64_t bytes);
/* Freezes the live memtable at tx id `end`; the caller holds x->write. */
MUST_USE enum status memtable_freeze(struct index *x, uint64_t end, struct err *err);

/* How many entries go into a memtable in one piece: up to 256, ending where a tx ends if one does. */
size_t index_slice_len(const struct index_entry *entries, size_t count);

/* --- merge.c --- */
void index_merge_abandon(struct index *x);

#endif
