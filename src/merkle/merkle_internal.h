/* Shared by merkle/ alone: pages, the struct tree, and how readers and the writer meet.
 *
 * Levels count from 0 at the leaves; node (level, index) covers the leaves [index << level, (index + 1) << level), counted
 * from 0 here. Band b holds the levels 8b .. 8b+7 in pages of 256 nodes of level 8b.
 *
 * Where a page is, in the order a reader looks:
 *
 *   band.ring    in memory: the page being filled (the edge) and complete ones that flush has not written yet
 *   cache        from the band's file; pages of band 1 and above in expanded form, under an id of their own
 *   rebuilt      from the pages one band below, at band 0 from the log's alh
 *
 * Publication: the writer fills nodes beyond the published size, then stores the size (release). A reader loads the size
 * (acquire) and reads only nodes that are complete below it, which are never written again. Pages and rings taken out of
 * use are freed after a grace period (merkle_grace.c). A cut replaces the pages it shortens instead of changing them, and
 * raises the generation; a reader that began in another generation starts again. */
#ifndef MERKLE_MERKLE_INTERNAL_H
#define MERKLE_MERKLE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/budget.h"
#include "merkle/merkle_tree.h"

#define BANDS 8
#define BAND_LEVELS 8
#define PAGE_WIDTH ((size_t)256)
#define PAGE_NODES 510   /* 256 + 128 + .. + 2: the root belongs to the band above */
#define PAGE_MID_LEVEL 4 /* the second level that is stored */
#define PAGE_MID_OFFSET (PAGE_WIDTH * HASH_LEN)
#define PAGE_BODY_BYTES (PAGE_MID_OFFSET + 16 * HASH_LEN)
#define PAGE_BYTES (PAGE_BODY_BYTES + 16) /* trailer: crc:u32le band:u32le page_no:u64le */
#define LEAVES_MAX (UINT64_MAX >> 2)

/* Something waiting for its grace period; the first member of what can wait. */
struct retired {
    struct retired *next;
    size_t bytes; /* accounted memory */
};

/* All nodes of a page; level l (0..7 within the band) begins at node_at(l, 0). */
struct page {
    struct retired retired;
    uint64_t no;
    hash_t nodes[PAGE_NODES];
};

static inline size_t node_at(unsigned level, size_t index) { return PAGE_NODES + 2 - ((size_t)(PAGE_NODES + 2) >> level) + index; }

/* --- merkle_page.c --- */
/* Puts count leaves of the page at positions from.., and every node above that they complete. */
void page_fill(hash_t nodes[PAGE_NODES], size_t from, size_t count, const hash_t *leaves);
/* Root of a complete page. */
void page_root(const hash_t nodes[PAGE_NODES], hash_t *root);
void page_encode(const hash_t nodes[PAGE_NODES], uint32_t seed, unsigned band, uint64_t no, uint8_t out[PAGE_BYTES]);
MUST_USE enum status page_check(const uint8_t *data, size_t len, uint32_t seed, unsigned band, uint64_t no, struct err *err);
/* From the stored form: one node (level 0..7), the root, or everything. */
void stored_node(const uint8_t *data, unsigned level, size_t index, hash_t *out);
void stored_root(const uint8_t *data, hash_t *root);
void stored_expand(const uint8_t *data, hash_t nodes[PAGE_NODES]);

/* --- merkle_grace.c --- */
#define GRACE_SHARDS 8
struct grace {
    _Atomic unsigned phase; /* 0 or 1: where readers that begin now are counted */
    struct {
        _Atomic uint64_t active[2];
        uint8_t pad[112]; /* shards do not share a cache line */
    } shards[GRACE_SHARDS];
    struct retired *waiting; /* guarded by the tree's lock: retired before the last turn of phase */
    struct retired *fresh;   /* the same: retired since */
};
struct grace_ticket {
    unsigned shard, phase;
};
struct grace_ticket grace_enter(struct grace *g);
void grace_leave(struct grace *g, struct grace_ticket ticket);
/* With the tree's lock held. collect returns what may be freed now. */
void grace_retire(struct grace *g, struct retired *r);
struct retired *grace_collect(struct grace *g);

/* --- the tree --- */
struct ring {
    struct retired retired;
    uint64_t mask;
    _Atomic(struct page *) slots[]; /* page no at slot no & mask, or NULL */
};

struct band {
    struct tree *tree;
    unsigned no;
    _Atomic(struct ring *) ring;       /* NULL before the first page; replaced by the writer under the lock */
    _Atomic uint64_t disk_pages;       /* pages below this are to be found in the file; grows by flush */
    _Atomic(struct cache_file *) file; /* set by open or flush */
    bool is_dirty, is_name_dirty;      /* owned by flush: content, directory entry not yet synced */
};

/* A page that was rebuilt and is to be written back. */
struct repair {
    struct repair *next;
    unsigned band;
    uint64_t no;
    uint8_t data[PAGE_BYTES];
};
#define REPAIRS_MAX 64

struct tree {
    struct vfs *vfs;
    struct cache *cache;
    struct budget *budget;
    enum status (*alh_of)(void *ctx, uint64_t n, hash_t *out, struct err *err);
    void *ctx;
    char *dir;
    uint32_t seed;        /* CRC-32C of the uuid */
    uint64_t expanded_id; /* cache id of expanded pages; key: band << 56 | page no */
    struct band bands[BANDS];
    _Atomic uint64_t size;       /* published; stored by the writer */
    _Atomic uint64_t generation; /* odd while a cut is under way */
    _Atomic uint64_t flushed;
    _Atomic uint64_t pages_rebuilt;
    _Atomic size_t memory_bytes;
    bool sync_failed; /* owned by flush */
    bool is_trimmed;  /* owned by flush: the files end with their known pages */
    struct grace grace;
    pthread_mutex_t lock; /* level 45; guards ring slots' changes, grace lists, repairs. Held for pointer moves only */
    struct repair *repairs;
    size_t repair_count;
};

static inline unsigned page_shift(unsigned band) { return BAND_LEVELS * (band + 1); }
/* Complete pages of a band in a tree of size leaves; band 7 would need 2^64. */
static inline uint64_t pages_complete(uint64_t size, unsigned band) { return band + 1 >= BANDS ? 0 : size >> page_shift(band); }
/* Nodes of the band's lowest level in a tree of size leaves. */
static inline uint64_t band_nodes(uint64_t size, unsigned band) { return size >> (BAND_LEVELS * band); }

void tree_account(struct tree *t, size_t len);
void tree_unaccount(struct tree *t, size_t len);
struct page *page_new(struct tree *t, uint64_t no);
void retired_free(struct tree *t, struct retired *list);
/* The page in memory, or NULL. By the writer, with the lock, or inside a grace ticket. */
struct page *ring_find(const struct band *band, uint64_t no);
/* Puts a page into the band's ring, which must have room. With the lock held. */
void ring_put(struct band *band, struct page *page);
/* Makes the ring long enough for pages below page_end. By the writer, without the lock. */
MUST_USE enum status ring_make_room(struct band *band, uint64_t page_end, struct err *err);
MUST_USE enum status band_path(const struct tree *t, unsigned band, char *out, struct err *err);
MUST_USE enum status band_file_register(struct band *band, struct err *err);

/* --- merkle_read.c: pages for readers --- */
struct page_view {
    bool is_valid, is_pinned;
    uint64_t no;
    const hash_t *nodes;   /* expanded, or NULL */
    const uint8_t *stored; /* stored form, when nodes is NULL */
    struct cache_block block;
};
MUST_USE enum status view_open(struct tree *t, unsigned band, uint64_t no, struct page_view *view, struct err *err);
void view_close(struct tree *t, struct page_view *view);
void view_root(const struct page_view *view, hash_t *root);
/* Keeps a copy of a rebuilt page for the next flush; silently not when there are too many or memory is short. */
void repair_keep(struct tree *t, unsigned band, uint64_t no, const uint8_t data[PAGE_BYTES]);

/* --- merkle_open.c --- */
/* Finds how many leaves the files hold (a multiple of 256, at most size_max) and fills the edges. */
MUST_USE enum status tree_load(struct tree *t, uint64_t size_max, struct err *err);

#endif
