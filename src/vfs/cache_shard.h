/* One shard of the block cache: blocks in chunks of memory, found through a table.
 *
 *   table  ---> slots of 8 bytes (tag, where), open addressing, linear probing; at most 3/4 full
 *   chunk       [ chunk header | block | block | ... | free ]    blocks one after the other, each at a multiple of 16
 *   block       [ header 32 bytes | its bytes ]
 *
 * Blocks are laid into the newest chunk. When the shard's bound allows no further chunk, the oldest one without pins is
 * renewed: blocks nobody looked up since they came (or since the last time) leave the table, the others move together at
 * its beginning, at most 7/8 of it, and the chunk is the newest again. So the memory of the shard is exactly its chunks and
 * its table, whatever sizes of blocks come and go, and making room costs no allocation.
 *
 * A block has one reference for each pin. References are added under the lock of the shard only; so a block without, seen
 * under the lock, may be moved or overwritten. A chunk with a pinned block is passed over. A large block has a chunk of
 * its own. All functions want the lock held, but for those that say otherwise. */
#ifndef VFS_CACHE_SHARD_H
#define VFS_CACHE_SHARD_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/budget.h"
#include "base/bytes.h"

struct block {
    uint64_t id, key;
    uint32_t len;
    uint32_t where; /* its place, as in its slot; 0: in memory of its own beside the shard, freed with its last pin */
    _Atomic uint32_t refs;
    bool is_listed; /* the table leads here */
    bool is_used;   /* looked up since it came or was passed */
    uint8_t reserved[2];
    uint8_t data[];
};

struct chunk;
struct slot {
    uint32_t tag;   /* low half of the block's hash */
    uint32_t where; /* number of its chunk and place in it; 0: empty */
};

struct shard {
    pthread_mutex_t lock; /* level 90, a leaf; guards all of this */
    struct slot *slots;
    size_t slot_count;             /* power of two */
    size_t block_count;            /* listed */
    struct chunk **chunks;         /* by number; NULL: the number is free */
    size_t chunk_room;             /* length of that array */
    struct chunk *newest, *oldest; /* in the order they are renewed */
    struct chunk *filling;         /* NULL, or an ordinary chunk that may have room */
    size_t bytes;                  /* of chunks and table */
    unsigned shard_count;          /* in the cache, whose bound they part */
    size_t chunk_bytes;            /* of an ordinary chunk */
    struct budget *budget;         /* knows `bytes` as BUDGET_CACHE */
    uint64_t hits, misses, evictions;
    uint8_t apart[64]; /* two shards share no cache line */
};

enum { CACHE_CHUNK_MIN = 32 << 10, CACHE_CHUNK_MAX = 256 << 10 };

/* Not under the lock. False without memory; nothing is left then. */
bool shard_init(struct shard *s, struct budget *budget, size_t chunk_bytes, unsigned shard_count);
void shard_free(struct shard *s); /* no pin may be left */

struct block *shard_find(const struct shard *s, uint64_t hash, uint64_t id, uint64_t key);
/* Room for a block, pinned once, not listed: the caller fills it without the lock and lists or releases it. NULL: pins or
 * the block's size leave no room, or no memory. */
struct block *shard_reserve(struct shard *s, uint64_t id, uint64_t key, size_t len);
/* Undoes the reservation when nothing was laid behind it; otherwise the place is lost until the chunk is renewed. */
void shard_cancel(struct shard *s, struct block *b);
/* From now on found under its id and key, which nothing else may be. False when the table is full and cannot grow. */
bool shard_list(struct shard *s, uint64_t hash, struct block *b);
void shard_unlist(struct shard *s, uint64_t hash, struct block *b);
/* Frees oldest chunks until the shard is within its bound, as far as pins let it. */
void shard_shrink(struct shard *s);

uint64_t block_hash(uint64_t id, uint64_t key);

#endif
