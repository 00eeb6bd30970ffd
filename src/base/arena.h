/* A bump allocator for one request or one batch: many small allocations, freed together.
 *
 * Memory comes in chunks (the first may be the caller's own buffer); arena_reset() keeps the first chunk for reuse.
 * One thread at a time. The arena's total is bounded by bytes_max: beyond it arena_alloc() returns NULL. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/bytes.h"

struct arena_chunk;
/* Who has a say when an arena gets memory: take() before each chunk, give() after it is freed, on the arena's thread. */
struct arena_meter {
    bool (*take)(struct arena_meter *m, size_t len); /* false: the arena must not grow */
    void (*give)(struct arena_meter *m, size_t len);
};
struct arena {
    struct arena_chunk *chunks; /* newest first */
    uint8_t *at, *end;          /* free room in the newest chunk */
    size_t bytes_used;          /* sum of chunk sizes obtained from malloc */
    size_t bytes_max;
    size_t chunk_bytes;
    struct arena_meter *meter; /* NULL: nobody is asked */
    size_t bytes_unmetered;    /* of bytes_used */
};

/* chunk_bytes: size of an ordinary chunk (at least 256); bytes_max: bound of the whole, 0 = SIZE_MAX. Allocates nothing. */
void arena_init(struct arena *a, size_t chunk_bytes, size_t bytes_max);
/* From now on m is asked for every byte of chunks beyond bytes_unmetered; what the arena has so far must be within these. NULL: no meter. */
void arena_set_meter(struct arena *a, struct arena_meter *m, size_t bytes_unmetered);
/* len bytes aligned for any type, uninitialised; NULL when out of memory or beyond bytes_max. len 0 gives a valid pointer. */
void *arena_alloc(struct arena *a, size_t len);
/* Makes the allocation p of old_len bytes new_len (more) bytes long, moving it perhaps; NULL without memory, p stays as it was. A large one, with a chunk
 * of its own, leaves nothing behind; a small one leaves its old place unused. */
void *arena_grow(struct arena *a, void *p, size_t old_len, size_t new_len);
/* As arena_alloc(), zeroed. */
void *arena_zalloc(struct arena *a, size_t len);
/* count * size with overflow check. */
void *arena_array(struct arena *a, size_t count, size_t size);
/* A copy of b owned by the arena; data is NULL when out of memory and b.len > 0. */
struct bytes arena_copy(struct arena *a, struct bytes b);
/* NUL-terminated copy. */
char *arena_str(struct arena *a, struct bytes b);
/* Where the arena stands, to come back to: what was allocated afterwards becomes invalid then, what before must not have grown meanwhile. */
struct arena_mark {
    struct arena_chunk *chunks, *behind;
    uint8_t *at;
};
struct arena_mark arena_mark(const struct arena *a);
void arena_rewind(struct arena *a, struct arena_mark mark);
/* Everything allocated so far becomes invalid; one ordinary chunk is kept. */
void arena_reset(struct arena *a);
/* Gives all memory back; the arena may be used again. */
void arena_free(struct arena *a);

#endif
