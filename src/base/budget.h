/* One memory budget shared by all databases and connections of a process.
 *
 * Consumers account what they hold; nothing is allocated here. Soft consumers (memtables) look at budget_pressure() and
 * shrink; hard ones (requests, queues) call budget_try_take() and wait or refuse. The cache borrows what the others leave
 * unused (budget_cache_bound()), and gives it back when one of them takes it: at that moment, on that thread. */
#ifndef BASE_BUDGET_H
#define BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum budget_use {
    BUDGET_CACHE = 0, /* page and tx cache */
    BUDGET_MEMTABLE,  /* index entries not yet in a run */
    BUDGET_QUEUE,     /* drafts waiting for commit, batch buffers, overlay */
    BUDGET_REQUEST,   /* request bytes, arenas and unsent answers */
    BUDGET_TREE,      /* right edges and top pages of Merkle trees */
    BUDGET_OTHER,
    BUDGET_USES
};

struct budget {
    size_t limit;              /* bytes; fixed after init */
    size_t share[BUDGET_USES]; /* bound of each use; fixed after init */
    _Atomic size_t used[BUDGET_USES];
    _Atomic size_t peak[BUDGET_USES];
    void (*reclaim)(void *ctx); /* brings the cache within its bound; NULL: nobody borrows */
    void *reclaim_ctx;
};

/* Default shares: cache 3/8, memtable 1/4, requests 1/4 (queue inside it half of that), tree and other the rest. Bytes of
 * the queue also fill the requests' share: try_take and pressure of BUDGET_REQUEST count both. */
void budget_init(struct budget *b, size_t limit);
void budget_take(struct budget *b, enum budget_use use, size_t len);
void budget_give(struct budget *b, enum budget_use use, size_t len);
/* Takes len only when the share of use allows it. */
bool budget_try_take(struct budget *b, enum budget_use use, size_t len);
/* Takes len only when the use then fills at most `percent` (up to 100) of its share. */
bool budget_try_take_upto(struct budget *b, enum budget_use use, size_t len, unsigned percent);
/* What the cache may grow to now: its share, or more while the others use less of theirs than they may; 3/16 of the limit
 * are never lent. And what it may hold when the others grow afterwards, which is a little more, so that small ups and downs
 * of theirs move nothing. */
size_t budget_cache_goal(const struct budget *b);
size_t budget_cache_bound(const struct budget *b);
/* The cache that borrows; before other threads use b. reclaim is called on any thread that takes for another use, under any
 * lock but its own; NULL ends it. */
void budget_set_borrower(struct budget *b, void (*reclaim)(void *ctx), void *ctx);
size_t budget_used(const struct budget *b, enum budget_use use);
size_t budget_total(const struct budget *b);
/* used/share in percent, may exceed 100. */
unsigned budget_pressure(const struct budget *b, enum budget_use use);
const char *budget_use_name(enum budget_use use);

#endif
