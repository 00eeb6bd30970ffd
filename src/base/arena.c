/* Bump allocation in chunks.
 *
 * Chunks form a list. Ordinary chunks have chunk_bytes (less when bytes_max leaves no more); an allocation that does not
 * fit an ordinary chunk gets one of its own, linked behind the first so that the free room in the first is not lost.
 * Invariant: at..end lies in the first chunk, or both are NULL, or both are the end of a chunk with no room. */
#include "base/arena.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#define ARENA_ALIGN _Alignof(max_align_t)

struct arena_chunk {
    struct arena_chunk *next;
    size_t bytes; /* of this chunk with its header, as obtained from malloc */
    bool is_oversized;
    _Alignas(max_align_t) uint8_t room[];
};

static_assert(sizeof(struct arena_chunk) <= 128, "the header must fit the smallest chunk");

void arena_init(struct arena *a, size_t chunk_bytes, size_t bytes_max)
{
    assert(chunk_bytes >= 256);
    *a = (struct arena){.bytes_max = bytes_max == 0 ? SIZE_MAX : bytes_max, .chunk_bytes = chunk_bytes};
}

void arena_set_meter(struct arena *a, struct arena_meter *m, size_t bytes_unmetered)
{
    assert(m == NULL || a->bytes_used <= bytes_unmetered);
    a->meter = m;
    a->bytes_unmetered = bytes_unmetered;
}

/* Of `used` bytes: what the meter knows of. */
static size_t metered(const struct arena *a, size_t used) { return used > a->bytes_unmetered ? used - a->bytes_unmetered : 0; }

/* bytes more, or not. */
static bool used_add(struct arena *a, size_t bytes)
{
    size_t more = metered(a, a->bytes_used + bytes) - metered(a, a->bytes_used);

    if (a->meter != NULL && more > 0 && !a->meter->take(a->meter, more))
        return false;
    a->bytes_used += bytes;
    return true;
}

static void used_sub(struct arena *a, size_t bytes)
{
    size_t less = metered(a, a->bytes_used) - metered(a, a->bytes_used - bytes);

    a->bytes_used -= bytes;
    if (a->meter != NULL && less > 0)
        a->meter->give(a->meter, less);
}

static struct arena_chunk *chunk_new(struct arena *a, size_t bytes, bool is_oversized)
{
    struct arena_chunk *chunk;

    if (!used_add(a, bytes))
        return NULL;
    if ((chunk = malloc(bytes)) == NULL) {
        used_sub(a, bytes);
        return NULL;
    }
    chunk->next = NULL;
    chunk->bytes = bytes;
    chunk->is_oversized = is_oversized;
    return chunk;
}

static void chunk_use(struct arena *a, struct arena_chunk *chunk)
{
    a->chunks = chunk;
    a->at = chunk->room;
    a->end = (uint8_t *)chunk + chunk->bytes;
}

/* len is a multiple of ARENA_ALIGN and does not fit the free room. */
static void *alloc_slow(struct arena *a, size_t len)
{
    struct arena_chunk *chunk;
    size_t need, left = a->bytes_max - a->bytes_used;
    void *p;

    if (__builtin_add_overflow(len, sizeof(struct arena_chunk), &need) || need > left)
        return NULL;
    if (need > a->chunk_bytes) {
        if ((chunk = chunk_new(a, need, true)) == NULL)
            return NULL;
        if (a->chunks == NULL) {
            chunk_use(a, chunk);
            a->at = a->end;
        } else {
            chunk->next = a->chunks->next;
            a->chunks->next = chunk;
        }
        return chunk->room;
    }
    if ((chunk = chunk_new(a, a->chunk_bytes < left ? a->chunk_bytes : left, false)) == NULL)
        return NULL;
    chunk->next = a->chunks;
    chunk_use(a, chunk);
    p = a->at;
    a->at += len;
    return p;
}

void *arena_alloc(struct arena *a, size_t len)
{
    static _Alignas(max_align_t) uint8_t nothing[1]; /* what zero bytes point to; never written */
    size_t rounded;
    void *p;

    if (len == 0)
        return nothing;
    if (__builtin_add_overflow(len, ARENA_ALIGN - 1, &rounded))
        return NULL;
    rounded &= ~(ARENA_ALIGN - 1);
    if (a->at == NULL || rounded > (size_t)(a->end - a->at))
        return alloc_slow(a, rounded);
    p = a->at;
    a->at += rounded;
    return p;
}

/* The link to the chunk that belongs to p alone. */
static struct arena_chunk **chunk_link(struct arena *a, const void *p)
{
    struct arena_chunk **link = &a->chunks;

    while ((*link)->room != p)
        link = &(*link)->next;
    return link;
}

/* p has a chunk of its own. */
static void *grow_oversized(struct arena *a, void *p, size_t new_rounded)
{
    struct arena_chunk **link = chunk_link(a, p), *chunk = *link;
    size_t old_bytes = chunk->bytes, bytes;
    bool is_first = chunk == a->chunks; /* then at..end is its end, without room */

    if (__builtin_add_overflow(new_rounded, sizeof *chunk, &bytes) || bytes - old_bytes > a->bytes_max - a->bytes_used ||
        !used_add(a, bytes - old_bytes))
        return NULL;
    if ((chunk = realloc(chunk, bytes)) == NULL) {
        used_sub(a, bytes - old_bytes);
        return NULL;
    }
    chunk->bytes = bytes;
    *link = chunk;
    if (is_first)
        a->at = a->end = (uint8_t *)chunk + bytes;
    return chunk->room;
}

void *arena_grow(struct arena *a, void *p, size_t old_len, size_t new_len)
{
    size_t old_rounded, new_rounded;
    void *q;

    assert(new_len >= old_len);
    if (__builtin_add_overflow(new_len, ARENA_ALIGN - 1, &new_rounded))
        return NULL;
    new_rounded &= ~(ARENA_ALIGN - 1);
    old_rounded = (old_len + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
    if (new_rounded == old_rounded)
        return p;
    if (old_len > 0 && old_rounded + sizeof(struct arena_chunk) > a->chunk_bytes)
        return grow_oversized(a, p, new_rounded);
    if ((q = arena_alloc(a, new_len)) != NULL && old_len > 0)
        memcpy(q, p, old_len);
    return q;
}

void *arena_zalloc(struct arena *a, size_t len)
{
    void *p = arena_alloc(a, len);

    if (p != NULL && len > 0)
        memset(p, 0, len);
    return p;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t len;

    return __builtin_mul_overflow(count, size, &len) ? NULL : arena_alloc(a, len);
}

struct bytes arena_copy(struct arena *a, struct bytes b)
{
    uint8_t *p = arena_alloc(a, b.len);

    if (p == NULL)
        return bytes_of(NULL, 0);
    if (b.len > 0)
        memcpy(p, b.data, b.len);
    return bytes_of(p, b.len);
}

char *arena_str(struct arena *a, struct bytes b)
{
    size_t len;
    char *p;

    if (__builtin_add_overflow(b.len, (size_t)1, &len) || (p = arena_alloc(a, len)) == NULL)
        return NULL;
    if (b.len > 0)
        memcpy(p, b.data, b.len);
    p[b.len] = '\0';
    return p;
}

/* Frees all chunks but `keep` (may be NULL). */
static void chunks_free(struct arena *a, struct arena_chunk *keep)
{
    struct arena_chunk *chunk, *next;

    for (chunk = a->chunks; chunk != NULL; chunk = next) {
        next = chunk->next;
        if (chunk != keep) {
            used_sub(a, chunk->bytes);
            free(chunk);
        }
    }
    a->chunks = NULL;
    a->at = a->end = NULL;
}

/* From chunk on, up to but without `upto`. */
static void chunks_free_upto(struct arena *a, struct arena_chunk *chunk, const struct arena_chunk *upto)
{
    struct arena_chunk *next;

    for (; chunk != upto; chunk = next) {
        next = chunk->next;
        used_sub(a, chunk->bytes);
        free(chunk);
    }
}

struct arena_mark arena_mark(const struct arena *a) { return (struct arena_mark){a->chunks, a->chunks == NULL ? NULL : a->chunks->next, a->at}; }

void arena_rewind(struct arena *a, struct arena_mark mark)
{
    /* Newer chunks lie in front of the marked one, and, those with one allocation each, right behind it. */
    chunks_free_upto(a, a->chunks, mark.chunks);
    a->chunks = mark.chunks;
    a->at = a->end = NULL;
    if (mark.chunks == NULL)
        return;
    chunks_free_upto(a, mark.chunks->next, mark.behind);
    mark.chunks->next = mark.behind;
    a->at = mark.at;
    a->end = (uint8_t *)mark.chunks + mark.chunks->bytes;
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = NULL;

    for (struct arena_chunk *chunk = a->chunks; chunk != NULL; chunk = chunk->next)
        if (!chunk->is_oversized && (keep == NULL || chunk->bytes > keep->bytes))
            keep = chunk;
    if (keep != NULL && a->chunks == keep && keep->next == NULL) { /* the usual case: one chunk */
        a->at = keep->room;
        return;
    }
    chunks_free(a, keep);
    if (keep != NULL) {
        keep->next = NULL;
        chunk_use(a, keep);
    }
}

void arena_free(struct arena *a) { chunks_free(a, NULL); }
