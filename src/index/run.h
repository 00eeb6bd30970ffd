/* A run file: written once by a run_writer, then read by any number of threads through the block cache.
 *
 * A run is shared (run_ref, run_unref by the index under its set lock); a reader that finds damage marks it, so that the
 * owner can drop it and rebuild its range. All reads return ST_CORRUPT for damage, never ST_NOT_FOUND. */
#ifndef INDEX_RUN_H
#define INDEX_RUN_H

#include "index/run_format.h"

#define RUN_WRITE_BYTES ((size_t)256 << 10)
#define RUN_SYNC_BYTES ((size_t)16 << 20)

struct run_stats {
    _Atomic uint64_t bloom_skips, block_reads;
};

struct run {
    struct run_identity id;
    uint64_t keys, versions;
    uint32_t footer_crc;
    uint8_t *root; /* the checked root block */
    /* A bit per KNOWN_UNIT bytes of the file: a block of at least that length that starts there passed its whole check once. Later reads of it are
     * checked by checksum, length and kind. NULL without memory for it. */
    _Atomic uint64_t *known;
    struct vfs *vfs;
    struct cache *cache;
    struct cache_file *file;
    struct run_stats *stats;
    char *path;
    _Atomic bool is_damaged;
    _Atomic bool is_obsolete; /* no manifest names it any more: unlink at the end */
    bool is_merging;          /* input of the merge under way; under the set lock */
    uint32_t refs;            /* under the set lock */
    struct run *next_dead;
};

/* What the manifest says of a file; zero values are not compared (expect NULL: nothing is). */
struct run_expect {
    uint64_t run_id, salt, file_len, keys, versions;
    uint32_t footer_crc;
};
MUST_USE enum status run_open(struct vfs *vfs, struct cache *cache, struct run_stats *stats, const char *path, const uint8_t uuid[16],
                              const struct run_expect *expect, struct run **out, struct err *err);
/* Frees it; unlinks the file when it is obsolete. NULL allowed. */
void run_close(struct run *r);

/* --- blocks --- */

/* A block in hand: pinned in the cache, or borrowed from a run_stream. */
struct run_block {
    const uint8_t *data;
    struct cache_block pin;
    bool is_pinned;
};
/* Sequential reading around the cache for merges: one window of the file. */
struct run_stream {
    uint8_t *data;
    size_t cap, len;
    uint64_t offset;
};
/* Reads a block through the cache, or through the stream when it is not NULL (then valid until its next use). */
MUST_USE enum status run_block_get(struct run *r, struct run_stream *stream, enum block_kind kind, uint64_t offset, size_t len, bool nowait,
                                   struct run_block *out, struct err *err);
void run_block_put(struct run *r, struct run_block *b);
void run_stream_free(struct run_stream *s);

/* --- versions of one key --- */

struct run_versions {
    struct run *run;
    struct run_stream *stream; /* NULL: through the cache */
    struct payload payload;    /* borrowed from a data block that its holder keeps */
};
/* Number of versions with tx id <= upto, and the newest of them into *out. */
MUST_USE enum status run_versions_upto(const struct run_versions *v, uint64_t upto, bool nowait, uint64_t *count, struct index_version *out,
                                       struct err *err);
/* Versions from .. from + count - 1, counted from 0, oldest first; they exist. */
MUST_USE enum status run_versions_copy(const struct run_versions *v, uint64_t from, size_t count, struct index_version *out, struct err *err);

/* --- point reads --- */

/* Blocks that one look-up leaves pinned for the next: of many keys read in a row most ask the same pages of filters and fences, and neighbours the
 * same data block. Not for blocks of versions. One thread; the runs outlive it. All zero at first. */
#define RUN_PIN_PAGES 32u /* filter and fence pages */
#define RUN_PIN_DATA 4u   /* data blocks */
struct run_pin {
    struct run *run; /* NULL: empty */
    uint64_t offset;
    struct run_block block;
};
struct run_pins {
    struct run_pin pages[RUN_PIN_PAGES], data[RUN_PIN_DATA];
};
void run_pins_release(struct run_pins *pins);

/* The versions of key: *found tells; then *block holds what versions->payload borrows until run_block_put(). With pins (may be NULL) the block may be
 * theirs: it holds until the next look-up through them. */
MUST_USE enum status run_find(struct run *r, struct index_key key, uint64_t hash, bool nowait, struct run_pins *pins, bool *found,
                              struct run_versions *versions, struct run_block *block, struct err *err);

/* --- walking --- */

struct run_iter {
    struct run *run;
    bool desc, is_direct;
    bool is_done;
    uint32_t part;  /* in the root */
    uint32_t at;    /* of the next data block in the fence page; desc: one above */
    uint32_t entry; /* of the next key in the block; desc: one above */
    struct run_block fence, block;
    struct run_stream data_stream, version_stream;
    struct grow key_buffer;
    uint32_t key_shared;  /* bytes at the front of key_buffer that are the group head's */
    uint32_t key_group;   /* that head's entry; UINT32_MAX = none */
    struct index_key key; /* the current key, after next */
    struct run_versions versions;
};
/* direct: reads around the cache (merges). */
void run_iter_init(struct run_iter *it, struct run *r, bool desc, bool direct);
/* As mem_iter_seek(). */
MUST_USE enum status run_iter_seek(struct run_iter *it, struct index_key key, bool inclusive, bool last, struct err *err);
/* ST_NOT_FOUND at the end; else it->key and it->versions until the next call. */
MUST_USE enum status run_iter_next(struct run_iter *it, struct err *err);
void run_iter_close(struct run_iter *it);

/* --- writing --- */

struct run_writer;
/* tx_first <= every version <= tx_last. The file is made (an existing one of that name is replaced). */
MUST_USE enum status run_writer_open(struct vfs *vfs, const struct env *env, const char *path, const uint8_t uuid[16], uint64_t run_id,
                                     uint64_t tx_first, uint64_t tx_last, struct run_writer **out, struct err *err);
/* The next key, ascending, with version_count >= 1 versions to follow, oldest first, by run_writer_versions(). */
MUST_USE enum status run_writer_key(struct run_writer *w, struct index_key key, uint64_t version_count, struct err *err);
MUST_USE enum status run_writer_versions(struct run_writer *w, const struct index_version *v, size_t count, struct err *err);
/* Writes the rest and syncs the file; *expect tells what to put in the manifest. The writer stays to be closed. */
MUST_USE enum status run_writer_finish(struct run_writer *w, struct run_expect *expect, struct err *err);
uint64_t run_writer_bytes(const struct run_writer *w);
uint64_t run_writer_keys(const struct run_writer *w);
/* Closes; removes the file unless it was finished. NULL allowed. */
void run_writer_close(struct run_writer *w);

#endif
