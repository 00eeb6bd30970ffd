/* One bounded cache of immutable byte blocks, shared by all databases, and lazily opened file handles.
 *
 * A block is identified by (file id, key): for file pages the key is the file offset, for log records the tx id. Blocks
 * never change once filled. A block is pinned while somebody holds it; only unpinned ones make room for others, those that
 * nobody looked up of late first. All memory of the cache stays under its bound in the budget (budget_cache_bound()), whatever is
 * pinned; blocks that find no room are served in memory of their own, until their last pin. Ids are never given out twice: blocks of a
 * file that was closed are never found again, and make room in their turn.
 * Checks (CRC) run once, when a block is filled from disk.
 *
 * Handles: a cache_file names a file that is opened on its first read and closed by least use, so that the number of
 * descriptors stays under handles_max whatever the number of databases, runs and segments.
 *
 * All functions may be called from any thread. Locks: level 51 (cache.handles), 90 (cache.shard, a leaf); never held during I/O. */
#ifndef VFS_CACHE_H
#define VFS_CACHE_H

#include "base/budget.h"
#include "vfs/vfs.h"

struct cache;
struct cache_file;

struct cache_block { /* pinned, read-only */
    const uint8_t *data;
    size_t len;
    void *owner_; /* the cache's own */
};

/* Becomes the borrower of the budget: one cache per budget. */
MUST_USE enum status cache_create(struct vfs *v, struct budget *budget, unsigned handles_max, struct cache **out, struct err *err);
void cache_destroy(struct cache *c); /* no file, no pin may be left */

/* Registers a file; nothing is opened. The path is copied. */
MUST_USE enum status cache_file_open(struct cache *c, const char *path, struct cache_file **out, struct err *err);
/* Closes the file's handle; nobody may look for its blocks any longer, pinned ones live on until they are unpinned. NULL allowed. */
void cache_file_close(struct cache *c, struct cache_file *f);
/* Reads around the cache (headers, footers, one-off scans). nowait: ST_AGAIN instead of waiting for the disk. */
MUST_USE enum status cache_file_read(struct cache *c, struct cache_file *f, uint64_t offset, void *out, size_t len, struct err *err);
MUST_USE enum status cache_file_read_nowait(struct cache *c, struct cache_file *f, uint64_t offset, void *out, size_t len, struct err *err);
MUST_USE enum status cache_file_length(struct cache *c, struct cache_file *f, uint64_t *out, struct err *err);
uint64_t cache_file_id(const struct cache_file *f);
const char *cache_file_path(const struct cache_file *f);

/* Checks a freshly read block; ST_CORRUPT with a text naming what is wrong. ctx as given to cache_get. */
typedef enum status (*cache_check)(void *ctx, uint64_t offset, const uint8_t *data, size_t len, struct err *err);

/* Pins the block of len bytes at offset of f, reading and checking it on a miss. nowait: ST_AGAIN instead of a read that
 * would have to wait for the disk. */
MUST_USE enum status cache_get(struct cache *c, struct cache_file *f, uint64_t offset, size_t len, bool nowait, cache_check check, void *ctx,
                               struct cache_block *out, struct err *err);
/* Pins the block (id, key) if it is there. */
bool cache_lookup(struct cache *c, uint64_t id, uint64_t key, struct cache_block *out);
/* Offers a copy of data as block (id, key); silently not kept when memory is short. Then, if out is not NULL, pins it
 * (also when not kept in the table); false when even that failed for lack of memory. */
bool cache_put(struct cache *c, uint64_t id, uint64_t key, const void *data, size_t len, struct cache_block *out);
/* Whether the same was asked about (id, key) not long ago: for blocks that are worth their room only when they are wanted
 * again. Some ten thousand questions are remembered, and few are taken for another. */
bool cache_is_warm(struct cache *c, uint64_t id, uint64_t key);
void cache_unpin(struct cache *c, struct cache_block *b);
/* From now on the block is not found; who has it pinned keeps it. */
void cache_drop(struct cache *c, uint64_t id, uint64_t key);
/* A fresh id for blocks that belong to no file. */
uint64_t cache_new_id(struct cache *c);

struct cache_stats {
    uint64_t hits, misses, evictions, blocks, handles_open, handle_opens;
    size_t bytes;
};
void cache_stats(struct cache *c, struct cache_stats *out);

#endif
