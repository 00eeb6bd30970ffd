/* The append-only tree of one database: any node of any past size, without re-hashing.
 *
 * Nodes live in pages ("tiles") of 256 leaves by 8 levels. A page of band b holds, for 256 consecutive nodes of level 8b,
 * these 256 hashes and the 16 of level 8b+4; the other levels are recomputed from at most 22 hashes. Files and byte offsets:
 * docs/format.md "Tree". The first 8,192 bytes of a page are a C2SP tile.
 * The right edge (incomplete pages of every band) is kept expanded in memory; only complete pages are on disk. They are
 * derived data: written behind the log, never beyond what is committed and synced, lost or damaged ones are rebuilt by the
 * owner from the log's alh.
 *
 * Threads: one writer calls append, truncate and flush; any number of readers call root_at, inclusion, consistency for
 * sizes up to a size they have seen published. Readers never wait for the disk writes of flush. */
#ifndef MERKLE_MERKLE_TREE_H
#define MERKLE_MERKLE_TREE_H

#include "merkle/merkle.h"
#include "vfs/cache.h"

struct tree;

struct tree_options {
    struct vfs *vfs;
    struct cache *cache;   /* cold pages come through it */
    struct budget *budget; /* BUDGET_TREE */
    const char *dir;       /* made when missing; copied */
    uint8_t uuid[16];      /* seeds the page checksums: pages of another database are not accepted */
    /* Asked for the alh (32 bytes) of leaf n when a page is missing or damaged; may be NULL (then ST_CORRUPT). */
    enum status (*alh_of)(void *ctx, uint64_t n, hash_t *out, struct err *err);
    void *ctx;
};

/* Opens with the pages that are on disk, valid and complete; *out's size is a multiple of 256 and at most size_max (pages
 * beyond size_max are not used, and overwritten later). The owner appends the rest. */
MUST_USE enum status tree_open(const struct tree_options *o, uint64_t size_max, struct tree **out, struct err *err);
void tree_close(struct tree *t);
uint64_t tree_size(const struct tree *t); /* published size: acquire load */

/* Appends leaves (leaf hashes, not alh) for positions size+1.. and publishes the new size. */
MUST_USE enum status tree_append(struct tree *t, const hash_t *leaves, size_t count, struct err *err);
/* The frontier at the published size, for computing roots while building the next batch. By the writer. */
void tree_frontier(const struct tree *t, struct frontier *out);
/* Cuts back to size (which must not be below the last flushed page's end, nor below what a flush under way was allowed to
 * write). Readers above it get ST_INVALID; those below it are not disturbed. */
MUST_USE enum status tree_cut(struct tree *t, uint64_t size, struct err *err);
/* Writes complete pages whose leaves are all <= upto; when sync is set, syncs the files. A failed write leaves the pages in
 * memory for the next attempt. Runs on any one thread at a time, beside append and readers. Pages that were rebuilt since are
 * written back too. The first write cuts off what the files hold beyond the known pages. After a failed sync ST_READ_ONLY for
 * good: nothing is written any more, the pages stay in memory. */
MUST_USE enum status tree_flush(struct tree *t, uint64_t upto, bool sync, struct err *err);
uint64_t tree_flushed(const struct tree *t); /* leaves in pages written and synced */

/* For every 0 <= n <= size: HASH_ZERO for 0. ST_INVALID beyond the size; ST_CORRUPT when a page is damaged and cannot be rebuilt. */
MUST_USE enum status tree_root_at(struct tree *t, uint64_t n, hash_t *root, struct err *err);
/* Inclusion of leaf i in the tree of size j, 1 <= i <= j <= size. For i == j this is the last-inclusion proof. */
MUST_USE enum status tree_inclusion(struct tree *t, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err);
/* Consistency between sizes i and j, 1 <= i <= j <= size; forms as in the head of merkle.h. */
MUST_USE enum status tree_consistency(struct tree *t, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err);
/* Leaf hash of position i, 1 <= i <= size. */
MUST_USE enum status tree_leaf(struct tree *t, uint64_t i, hash_t *leaf, struct err *err);

struct tree_stats {
    uint64_t pages_on_disk, pages_rebuilt;
    size_t memory_bytes;
    uint64_t disk_bytes;
};
void tree_stats(struct tree *t, struct tree_stats *out);

#endif
