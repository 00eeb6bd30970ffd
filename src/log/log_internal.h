/* Inside of the log: its state, the segments in memory, and what the files of this folder offer each other.
 *
 * Lock order (docs/locks.md): 32 log.maintain < 33 log.sync < 34 log.write < 35 log.prepare < 36 log.manifest < 37 log.table_change.
 *   maintain  one seal, truncation or background step at a time; held across its file work, never taken by readers or the writer
 *   sync      one sync of the tail at a time, so that a failure cannot be seen by one caller and missed by another; also log/END
 *   write     the tail: batch numbers, active segment; held for the write of a frame
 *   prepare   making the next segment
 *   manifest  struct manifest and its file
 *   table_change  stores to the table of segments; never held during I/O
 *
 * Readers take none of them. What they read is: the table of segments (slots are replaced by atomic stores; tables and struct segment live
 * until log_close, so a pointer once loaded stays valid), the offset maps (see segments.c), and files under a segment's reference. */
#ifndef LOG_LOG_INTERNAL_H
#define LOG_LOG_INTERNAL_H

#include "log/end_mark.h"
#include "log/frame.h"
#include "log/manifest.h"
#include "log/record.h"
#include "log/segment.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define SEGMENT_BYTES_FIRST_DEFAULT ((uint64_t)1 << 20)
#define SEGMENT_BYTES_MAX_DEFAULT ((uint64_t)64 << 20)
#define SEGMENT_BYTES_MIN 1024u
#define BATCH_BUFFER_KEEP ((size_t)8 << 20) /* a bigger buffer is given back after its batch */
#define BATCH_BUFFER_IDLE ((size_t)1 << 20) /* so is one above this when the queue runs dry */
#define RECORD_WHOLE_MAX 16384u             /* records up to this length are cached as a whole */
#define RECORD_WARM_MAX (1u << 20)          /* so are longer ones up to this length, when they are read again */
#define META_CACHE_MAX 65536u
#define REPROVE_BYTES_MAX 512u

/* --- segments in memory (segments.c) --- */

/* In memory what an offset page is on disk. */
struct offset_chunk {
    _Atomic int64_t ts_max;
    _Atomic uint32_t units[OFFSET_PAGE_TXS]; /* 0: damaged, nothing known */
};
struct offset_map {
    struct offset_map *older; /* smaller predecessor, kept because a reader may still look at it */
    size_t chunk_max;
    _Atomic(struct offset_chunk *) chunks[];
};

enum segment_state {
    SEGMENT_PREPARED, /* header only */
    SEGMENT_ACTIVE,   /* frames are appended here */
    SEGMENT_FULL,     /* complete and synced, waits for its txs to be committed */
    SEGMENT_SEALED,
    SEGMENT_LOST /* file missing or its salt unknown: its txs cannot be read */
};

struct segment {
    /* fixed after the segment is in the table */
    struct log *log;
    uint64_t no;
    uint32_t generation;
    bool values_removed;
    bool is_lost;
    uint8_t salt[LOG_SALT_LEN];
    uint32_t seed;
    struct cache_file *file; /* for reading; closed when the last reference is gone */
    uint64_t cache_id;       /* blocks are (cache_id, tx id [| kind]) */
    size_t table_index;
    char name[32]; /* seg-NNNNNNNN.G */

    _Atomic uint32_t refs; /* the table's and those of readers at work; 0 = retired for good */
    struct segment *retired_next;

    /* offsets: the map while it is not NULL, else, when is_sealed, the pages described by trailer */
    _Atomic(struct offset_map *) map;
    _Atomic uint32_t map_users;
    struct offset_map *map_old; /* taken out, to be freed once map_users was 0; maintain lock */
    _Atomic uint64_t first_tx;
    _Atomic uint64_t tx_count;
    _Atomic uint64_t end;   /* file offset behind the last frame */
    _Atomic bool is_sealed; /* trailer is filled in and does not change any more */
    struct segment_trailer trailer;
    bool footer_is_damaged; /* sealed, but offsets come from a scan */

    /* writer's; log.write lock */
    enum segment_state state;
    struct vfs_file *out;
    unsigned out_users;               /* syncs at work on out */
    uint64_t capacity;                /* frames beyond it go to the next segment */
    uint64_t zeroed_upto;             /* bytes up to here are allocated and zero */
    uint64_t first_batch, last_batch; /* last = first - 1: none */
    uint32_t chain_begin, chain_end;
    uint64_t end_tx; /* of a full one: see segment.h, end tx id */
    int64_t ts_min, ts_max;
    size_t map_bytes;          /* accounted in the budget */
    struct frontier *frontier; /* of a full one, at its last tx; NULL = not known. Freed when it seals */
};

struct table_slot {
    _Atomic uint64_t first_tx; /* UINT64_MAX while the segment holds no frame */
    _Atomic(struct segment *) segment;
};
struct segment_table {
    struct segment_table *older;
    size_t capacity;
    _Atomic size_t count;
    struct table_slot slots[]; /* segment number n at n - 1 */
};

/* --- the batch being built (batch.c) --- */
struct batch_tx {
    uint64_t at; /* of the record in the frame */
    int64_t ts;
};
struct batch_ref { /* borrowed bytes that come after the first buf_at bytes of the buffer */
    size_t buf_at;
    const uint8_t *data;
    size_t len;
};
struct batch {
    bool is_open;
    uint8_t *buf; /* frame header and all that is not borrowed */
    size_t len, capacity;
    struct batch_ref *refs;
    size_t ref_count, ref_capacity;
    struct batch_tx *txs;
    size_t tx_count, tx_capacity;
    uint64_t frame_len; /* buffer and borrowed bytes */
    uint32_t body_crc;
    uint32_t record_count;
    uint64_t first_tx_id, last_tx_id;
    uint64_t committed; /* largest COMMIT */
    bool has_discard;
    uint64_t discard_after;
    struct vfs_iovec *parts; /* scratch for the write */
    size_t part_capacity;
};

/* What the tail of the log looks like; log.write lock. */
struct tail {
    struct segment *active; /* NULL: the next frame opens a segment */
    uint64_t last_batch;
    uint32_t chain;         /* header CRC of last_batch */
    uint64_t last_tx;       /* also l->last_tx, for readers */
    uint64_t vouched_batch; /* synced_batch inside the last frame */
    uint64_t synced_batch, synced_tx, synced_committed;
    uint64_t committed;         /* largest known committed; goes into frames */
    uint64_t committed_written; /* largest one inside a frame */
    bool last_is_close;
    bool is_discarding; /* a DISCARD was written, log_cut has not been called yet */
    uint64_t discard_after, discard_batch;
    uint64_t data_batch;                /* last one that holds records */
    uint8_t reprove[REPROVE_BYTES_MAX]; /* the last frames found at a clean open, all empty ones: nobody knows whether they were ever */
    size_t reprove_len;                 /* synced, so they are written again together with the next frame */
    uint64_t zero_from, zero_to;        /* being zeroed now; the writer stays out */
    struct frontier frontier;
};

struct log {
    struct vfs *vfs;
    struct cache *cache;
    struct budget *budget;
    const struct env *env;
    char *dir;
    uint64_t segment_bytes_first, segment_bytes_max;
    uint8_t uuid[LOG_UUID_LEN];
    uint32_t record_seed;

    _Atomic(struct segment_table *) table;
    _Atomic uint64_t published;
    _Atomic uint64_t last_tx; /* written, maybe neither synced nor published */
    _Atomic bool is_failed;   /* a write or sync failed: refuses writes for good */
    bool is_damaged;          /* opened read-only */
    char failure[160];        /* why; written once before is_failed */

    pthread_mutex_t maintain, sync, write, prepare, manifest_lock, table_change;
    pthread_cond_t zero_done; /* with write */
    struct manifest manifest;
    struct batch batch;    /* the writer's */
    struct end_writer end; /* sync: log/END */
    struct tail tail;
    struct segment *retired; /* maintain: replaced generations with readers left */
    struct segment *reaped;  /* maintain: their files are gone */

    /* rate of the last seconds; maintain */
    uint64_t rate_at_ns, rate_per_s, rate_syncs;
    _Atomic uint64_t rate_bytes;
    _Atomic uint64_t ahead_bytes; /* how far ahead zeros are wanted at the present rate; 0 = idle, or not worth it */
    uint64_t zero_step;
    uint64_t zero_retry_at_ns; /* after running out of space */

    _Atomic uint64_t bytes_written, frames_written, syncs, sync_ns_total, sync_ns_max, records_read;
};

/* Formats the name of a segment file. */
void segment_name(char out[32], uint64_t no, uint32_t generation);
/* A segment object with its cache file; no map, refs 1. */
MUST_USE enum status segment_new(struct log *l, uint64_t no, uint32_t generation, const uint8_t salt[LOG_SALT_LEN], bool values_removed,
                                 struct segment **out, struct err *err);
/* Closes everything and frees; only for objects nobody else can see, or at log_close. NULL allowed. */
void segment_free(struct segment *s);
uint64_t segment_capacity(const struct log *l, uint64_t no);
/* Takes a reference; false when the segment is retired for good: look it up again. */
bool segment_ref(struct segment *s);
void segment_unref(struct segment *s);

/* Room for tx_count offsets in all. Writer only. ST_NOMEM leaves everything as it was. */
MUST_USE enum status map_reserve(struct segment *s, uint64_t tx_count, struct err *err);
/* Stores the offset of tx number index (reserved before). Writer only. */
void map_set(struct segment *s, uint64_t index, uint32_t unit, int64_t ts);
/* False: offsets are in the footer now. *unit 0 = damaged. *end: bound of the record's end. */
bool map_get(struct segment *s, uint64_t index, uint64_t *offset, uint64_t *end);
/* ts_max of the chunk; false as above. */
bool map_ts_max(struct segment *s, uint64_t chunk, int64_t *out);
/* Takes the map out of use and frees it as soon as no reader can look at it; called again later when not at once. maintain lock. */
void map_retire(struct segment *s);

/* Makes room for one more segment, which table_append() then uses. One thread at a time (prepare lock). */
MUST_USE enum status table_reserve(struct log *l, struct err *err);
void table_append(struct log *l, struct segment *s);
/* Makes the txs of a segment findable. Also after its first tx id changed. */
void table_set_first_tx(struct log *l, struct segment *s, uint64_t first_tx);
/* Puts another generation of a segment into its slot. */
void table_replace(struct log *l, struct segment *s);
/* The segment that holds tx_id, if any does; not referenced. */
struct segment *table_find(const struct log *l, uint64_t tx_id);
struct segment *table_at(const struct log *l, size_t index); /* NULL beyond the end */
size_t table_count(const struct log *l);
/* Forgets txs above tx_id in all segments. */
void table_cut(struct log *l, uint64_t tx_id);

/* --- batch.c --- */
void batch_free(struct log *l);
/* The queue ran dry: gives a large buffer back. */
void batch_trim(struct log *l);
/* Fills l->batch.parts with the frame (buffer and borrowed parts, zeros up to a multiple of 64). */
MUST_USE enum status batch_parts(struct batch *b, size_t *part_count, struct err *err);

/* --- log_write.c --- */
/* Marks the log as failed for good and returns ST_READ_ONLY's cause unchanged. */
enum status log_fail(struct log *l, enum status st, const struct err *err);
MUST_USE enum status log_check_writable(struct log *l, struct err *err);
/* Creates the segment file with its header, durable, and appends it to manifest and table. prepare lock. */
MUST_USE enum status segment_prepare(struct log *l, struct err *err);
/* Ends the active segment: syncs it, activates the next one. Neither sync nor write lock held by the caller. */
MUST_USE enum status log_roll(struct log *l, uint64_t frame_len, bool is_forced, struct err *err);
/* Ends the active segment when it holds frames and all its txs are at or below tx_id and committed. */
MUST_USE enum status log_end_active(struct log *l, uint64_t tx_id, struct err *err);
MUST_USE enum status log_write_close_mark(struct log *l, struct err *err);
/* Notes in log/END what is durable. Without space or memory it is left out; any other failure is that of a disk which is to be written no more.
 * sync lock held, or nobody else knows the log. */
MUST_USE enum status log_note_end(struct log *l, const struct end_mark *m, struct err *err);
/* What log/END should say when everything written so far is durable. write lock held, or nobody else knows the log. */
struct end_mark log_end_mark(const struct log *l);
/* Writes one encoded frame at the tail: its bytes are parts[1..part_count); parts[0] is filled in here. write lock, the frame fits. */
MUST_USE enum status log_write_frame(struct log *l, const struct frame_header *h, struct vfs_iovec *parts, size_t part_count, struct err *err);

/* --- log_seal.c --- */
/* Appends footer and trailer behind body_end, syncs. body_sha256 and layout are filled in here. */
struct seal_source {
    struct vfs_file *file;     /* open for writing */
    struct cache_file *reader; /* the same file */
    const struct offset_map *map;
    const struct frontier *frontier; /* NULL or size 0: none */
};
MUST_USE enum status segment_write_footer(struct log *l, uint32_t seed, const struct seal_source *src, struct segment_trailer *t, struct err *err);
/* Seals s if it is full and committed durably; *done tells. maintain lock. */
MUST_USE enum status segment_seal(struct log *l, struct segment *s, bool *done, struct err *err);
MUST_USE enum status segment_read_trailer(struct log *l, struct segment *s, bool check_pages, bool *is_valid, struct segment_trailer *out,
                                          struct err *err);
MUST_USE enum status manifest_note_sealed(struct log *l, const struct segment *s, const struct segment_trailer *t, struct err *err);
/* Seals full segments in order as far as they are committed. maintain lock. */
MUST_USE enum status log_seal_full(struct log *l, struct err *err);
/* Frees and unlinks replaced generations whose readers are gone. maintain lock. */
void segments_reap(struct log *l);

/* --- recovery.c --- */
MUST_USE enum status log_recover(struct log *l, const struct log_options *o, struct log_report *report, struct err *err);

/* --- log_read.c --- */
/* Where a tx is; *s is referenced. ST_NOT_FOUND, ST_CORRUPT (lost), ST_AGAIN. */
MUST_USE enum status log_locate(struct log *l, uint64_t tx_id, bool nowait, struct segment **s, uint64_t *offset, uint64_t *end, struct err *err);

#endif
