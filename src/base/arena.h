/* A bump allocator for one request or one batch: many small allocations, freed together.
 *
 * Memory comes in chunks (the first may be the caller's own buffer); arena_reset() keeps the first chunk for reuse.
 * One thread at a time. The arena's total is bounded by bytes_max: beyond it arena_alloc() returns NULL. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/bytes.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *chunks; /* newest first */
    uint8_t *at, *end;          /* free room in the newest chunk */
    size_t bytes_used;          /* sum of chunk sizes obtained from malloc */
    size_t bytes_max;
    size_t chunk_bytes;
};

/* chunk_bytes: size of an ordinary chunk (at least 256); bytes_max: bound of the whole, 0 = SIZE_MAX. Allocates nothing. */
void arena_init(struct arena *a, size_t chunk_bytes, size_t bytes_max);
/* len bytes aligned for any type, uninitialised; NULL when out of memory or beyond bytes_max. len 0 gives a valid pointer. */
void *arena_alloc(struct arena *a, size_t len);
/* The same, zeroed. */
void *arena_zalloc(struct arena *a, size_t len);
/* count * size with overflow check. */
void *arena_array(struct arena *a, size_t count, size_t size);
/* A copy of b owned by the arena; data is NULL when out of memory and b.len > 0. */
struct bytes arena_copy(struct arena *a, struct bytes b);
/* NUL-terminated copy. */
char *arena_str(struct arena *a, struct bytes b);
/* Everything allocated so far becomes invalid; one ordinary chunk is kept. */
void arena_reset(struct arena *a);
/* Gives all memory back; the arena may be used again. */
void arena_free(struct arena *a);

#endif
