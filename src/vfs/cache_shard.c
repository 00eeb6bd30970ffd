/* Table and chunks of one shard. */
#include "vfs/cache_shard.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"

#if defined(__SANITIZE_ADDRESS__)
#define CACHE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CACHE_ASAN 1
#endif
#endif
#ifdef CACHE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, len) ASAN_POISON_MEMORY_REGION(p, len)
#define UNPOISON(p, len) ASAN_UNPOISON_MEMORY_REGION(p, len)
#else
#define POISON(p, len) ((void)(p), (void)(len))
#define UNPOISON(p, len) ((void)(p), (void)(len))
#endif

enum { UNIT = 16, PLACE_BITS = 14, SLOTS_MIN = 64, SOLO_FRACTION = 4, FREED_FRACTION = 8, BLOCK_FRACTION = 4 };

struct chunk {
    struct chunk *newer, *older;
    size_t len;      /* with this header */
    size_t fill;     /* offset of the free room */
    uint32_t number; /* place in shard.chunks */
    bool is_solo;    /* made for one large block */
    uint8_t reserved[27];
    uint8_t data[];
};

static_assert(sizeof(struct chunk) % 64 == 0, "blocks are aligned for any type");
static_assert(sizeof(struct block) % UNIT == 0 && offsetof(struct block, data) == sizeof(struct block), "so are their bytes");
static_assert(CACHE_CHUNK_MAX / UNIT == 1 << PLACE_BITS, "a place in a chunk fits PLACE_BITS");

uint64_t block_hash(uint64_t id, uint64_t key)
{
    unsigned __int128 product = (unsigned __int128)(id * 0x9e3779b97f4a7c15u ^ key) * 0xd6e8feb86659fd93u;
    uint64_t h = (uint64_t)product ^ (uint64_t)(product >> 64);

    return h ^ (h >> 29);
}

/* What a block takes in a chunk; SIZE_MAX when that overflows. */
static size_t room_of(size_t len)
{
    size_t room;

    return __builtin_add_overflow(len, sizeof(struct block) + UNIT - 1, &room) ? SIZE_MAX : room & ~(size_t)(UNIT - 1);
}

static struct block *block_at(struct chunk *c, size_t at) { return (struct block *)(void *)((uint8_t *)c + at); }
static uint32_t where_of(const struct chunk *c, size_t at) { return c->number << PLACE_BITS | (uint32_t)(at / UNIT); }

static struct block *block_of(const struct shard *s, uint32_t where)
{
    return block_at(s->chunks[where >> PLACE_BITS], (size_t)(where & ((1u << PLACE_BITS) - 1)) * UNIT);
}

static void hold(struct shard *s, size_t len)
{
    s->bytes += len;
    budget_take(s->budget, BUDGET_CACHE, len);
}

static void give(struct shard *s, size_t len)
{
    s->bytes -= len;
    budget_give(s->budget, BUDGET_CACHE, len);
}

static size_t bytes_max(const struct shard *s) { return budget_cache_goal(s->budget) / s->shard_count; }

/* --- the table --- */

static size_t home_of(const struct shard *s, uint32_t tag) { return tag & (s->slot_count - 1); }
static size_t slot_next(const struct shard *s, size_t i) { return (i + 1) & (s->slot_count - 1); }

struct block *shard_find(const struct shard *s, uint64_t hash, uint64_t id, uint64_t key)
{
    uint32_t tag = (uint32_t)hash;

    for (size_t i = home_of(s, tag); s->slots[i].where != 0; i = slot_next(s, i)) {
        struct block *b;

        if (s->slots[i].tag != tag)
            continue;
        b = block_of(s, s->slots[i].where);
        if (b->key == key && b->id == id)
            return b;
    }
    return NULL;
}

static void slot_put(struct shard *s, struct slot slot)
{
    size_t i = home_of(s, slot.tag);

    while (s->slots[i].where != 0)
        i = slot_next(s, i);
    s->slots[i] = slot;
}

/* The slot that leads to a place, which there is. */
static size_t slot_find(const struct shard *s, uint32_t tag, uint32_t where)
{
    size_t i = home_of(s, tag);

    while (s->slots[i].where != where) {
        assert(s->slots[i].where != 0);
        i = slot_next(s, i);
    }
    return i;
}

/* Empties slot i and moves up what was pushed behind it, so that no look-up ends too early. */
static void slot_clear(struct shard *s, size_t i)
{
    size_t mask = s->slot_count - 1;

    for (size_t k = slot_next(s, i); s->slots[k].where != 0; k = slot_next(s, k)) {
        if (((k - home_of(s, s->slots[k].tag)) & mask) >= ((k - i) & mask)) { /* its home is at or before the hole */
            s->slots[i] = s->slots[k];
            i = k;
        }
    }
    s->slots[i] = (struct slot){0};
}

/* Doubles the table at 3/4; without memory it goes on filling up to 7/8. */
static bool table_has_room(struct shard *s)
{
    size_t old_count = s->slot_count;
    struct slot *old = s->slots, *slots;

    if (s->block_count < old_count / 4 * 3)
        return true;
    if ((slots = calloc(old_count * 2, sizeof *slots)) == NULL)
        return s->block_count < old_count / 8 * 7;
    s->slots = slots;
    s->slot_count = old_count * 2;
    hold(s, old_count * sizeof *slots);
    for (size_t i = 0; i < old_count; i++)
        if (old[i].where != 0)
            slot_put(s, old[i]);
    free(old);
    return true;
}

bool shard_list(struct shard *s, uint64_t hash, struct block *b)
{
    if (!table_has_room(s))
        return false;
    slot_put(s, (struct slot){(uint32_t)hash, b->where});
    b->is_listed = true;
    s->block_count++;
    return true;
}

void shard_unlist(struct shard *s, uint64_t hash, struct block *b)
{
    slot_clear(s, slot_find(s, (uint32_t)hash, b->where));
    b->is_listed = false;
    s->block_count--;
}

/* --- chunks --- */

static void chunk_leave(struct shard *s, struct chunk *c)
{
    *(c->newer != NULL ? &c->newer->older : &s->newest) = c->older;
    *(c->older != NULL ? &c->older->newer : &s->oldest) = c->newer;
}

static void chunk_enter(struct shard *s, struct chunk *c) /* as the newest */
{
    c->newer = NULL;
    c->older = s->newest;
    *(s->newest != NULL ? &s->newest->newer : &s->oldest) = c;
    s->newest = c;
}

/* A free number, making room for more of them; false without memory. */
static bool number_find(struct shard *s, uint32_t *out)
{
    size_t i = 0, room = s->chunk_room == 0 ? 8 : s->chunk_room * 2;
    struct chunk **chunks;

    while (i < s->chunk_room && s->chunks[i] != NULL)
        i++;
    if (i == s->chunk_room) {
        if (room > (size_t)1 << (32 - PLACE_BITS) || (chunks = realloc(s->chunks, room * sizeof *chunks)) == NULL)
            return false;
        memset(chunks + s->chunk_room, 0, (room - s->chunk_room) * sizeof *chunks);
        s->chunks = chunks;
        s->chunk_room = room;
    }
    *out = (uint32_t)i;
    return true;
}

static struct chunk *chunk_new(struct shard *s, size_t len, bool is_solo)
{
    struct chunk *c;
    uint32_t number;

    if (!number_find(s, &number) || (c = pages_alloc(len)) == NULL)
        return NULL;
    *c = (struct chunk){.len = len, .fill = sizeof *c, .number = number, .is_solo = is_solo};
    POISON(c->data, len - sizeof *c);
    s->chunks[number] = c;
    chunk_enter(s, c);
    hold(s, len);
    return c;
}

static void chunk_drop(struct shard *s, struct chunk *c)
{
    chunk_leave(s, c);
    s->chunks[c->number] = NULL;
    if (s->filling == c)
        s->filling = NULL;
    give(s, c->len);
    UNPOISON(c->data, c->len - sizeof *c);
    pages_free(c, c->len);
}

/* Asks for the slots of the chunk's blocks early, so that the misses overlap. False when a block is pinned. */
static bool chunk_is_free(const struct shard *s, struct chunk *c)
{
    for (size_t at = sizeof *c; at < c->fill; at += room_of(block_at(c, at)->len)) {
        const struct block *b = block_at(c, at);

        /* Whoever dropped the last pin has read all it wanted. */
        if (atomic_load_explicit(&b->refs, memory_order_acquire) > 0)
            return false;
        __builtin_prefetch(&s->slots[home_of(s, (uint32_t)block_hash(b->id, b->key))], 1);
    }
    return true;
}

/* Empties a chunk without pins but for blocks that were used, which take at most keep_max bytes of it and count as unused from now on. */
static void chunk_renew(struct shard *s, struct chunk *c, size_t keep_max)
{
    size_t to = sizeof *c, room;

    for (size_t at = sizeof *c; at < c->fill; at += room) {
        struct block *b = block_at(c, at);
        uint64_t hash = block_hash(b->id, b->key);
        size_t slot;

        room = room_of(b->len);
        if (!b->is_listed)
            continue;
        if (!b->is_used || to + room > keep_max) {
            shard_unlist(s, hash, b);
            s->evictions++;
            continue;
        }
        b->is_used = false;
        if (to != at) {
            slot = slot_find(s, (uint32_t)hash, b->where);
            b->where = s->slots[slot].where = where_of(c, to);
            UNPOISON(block_at(c, to), sizeof *b + b->len);
            memmove(block_at(c, to), b, sizeof *b + b->len);
        }
        to += room;
    }
    POISON((uint8_t *)c + to, c->fill - to);
    c->fill = to;
}

/* The oldest chunk that may be emptied: it has no pins and is not a large block in use. Those it passes become the newest. */
static struct chunk *chunk_oldest_free(struct shard *s)
{
    struct chunk *last = s->newest, *c;
    bool is_last;

    for (unsigned round = 0; round < 2; round++) { /* the second one for large blocks that were used */
        for (is_last = s->oldest == NULL; !is_last;) {
            c = s->oldest;
            is_last = c == last;
            if (chunk_is_free(s, c)) {
                struct block *b = block_at(c, sizeof *c);

                if (!c->is_solo || !b->is_listed || !b->is_used)
                    return c;
                b->is_used = false;
            }
            chunk_leave(s, c);
            chunk_enter(s, c);
        }
        last = s->newest;
    }
    return NULL;
}

/* Frees one chunk; false when pins do not let it. */
static bool chunk_evict(struct shard *s)
{
    struct chunk *c = chunk_oldest_free(s);

    if (c == NULL)
        return false;
    chunk_renew(s, c, 0);
    chunk_drop(s, c);
    return true;
}

void shard_shrink(struct shard *s)
{
    size_t most = budget_cache_bound(s->budget) / s->shard_count;

    while (s->bytes > most && chunk_evict(s)) {}
}

/* An ordinary chunk with so much room: a new one within the bound, else the oldest renewed. */
static struct chunk *chunk_next(struct shard *s, size_t room)
{
    struct chunk *c = NULL;
    size_t free_part;

    shard_shrink(s);
    if (s->bytes + s->chunk_bytes <= bytes_max(s) && (c = chunk_new(s, s->chunk_bytes, false)) != NULL)
        return c;
    while ((c = chunk_oldest_free(s)) != NULL && c->is_solo) {
        chunk_renew(s, c, 0);
        chunk_drop(s, c);
        if (s->bytes + s->chunk_bytes <= bytes_max(s) && (c = chunk_new(s, s->chunk_bytes, false)) != NULL)
            return c;
    }
    if (c != NULL) {
        free_part = c->len / FREED_FRACTION;
        chunk_renew(s, c, c->len - (room > free_part ? room : free_part));
        chunk_leave(s, c);
        chunk_enter(s, c);
    }
    return c;
}

/* --- places --- */

static struct block *block_lay(struct chunk *c, uint64_t id, uint64_t key, size_t len)
{
    struct block *b = block_at(c, c->fill);

    UNPOISON(b, sizeof *b + len);
    *b = (struct block){.id = id, .key = key, .len = (uint32_t)len, .where = where_of(c, c->fill)};
    atomic_init(&b->refs, 1);
    c->fill += room_of(len);
    return b;
}

static struct block *reserve_solo(struct shard *s, uint64_t id, uint64_t key, size_t len, size_t room)
{
    struct chunk *c;

    if (room > bytes_max(s) / BLOCK_FRACTION)
        return NULL;
    while (s->bytes + room + sizeof *c > bytes_max(s))
        if (!chunk_evict(s))
            return NULL;
    return (c = chunk_new(s, room + sizeof *c, true)) == NULL ? NULL : block_lay(c, id, key, len);
}

struct block *shard_reserve(struct shard *s, uint64_t id, uint64_t key, size_t len)
{
    size_t room = room_of(len);
    struct chunk *c = s->filling;

    if (room > UINT32_MAX || room > s->chunk_bytes / SOLO_FRACTION)
        return room > UINT32_MAX ? NULL : reserve_solo(s, id, key, len, room);
    if ((c == NULL || room > c->len - c->fill) && (c = s->filling = chunk_next(s, room)) == NULL)
        return NULL;
    return block_lay(c, id, key, len);
}

void shard_cancel(struct shard *s, struct block *b)
{
    struct chunk *c = s->chunks[b->where >> PLACE_BITS];
    size_t at = (size_t)((uint8_t *)b - (uint8_t *)c), room = room_of(b->len);

    assert(!b->is_listed);
    if (c->is_solo) {
        chunk_drop(s, c);
        return;
    }
    atomic_store_explicit(&b->refs, 0, memory_order_relaxed);
    if (at + room == c->fill) {
        c->fill = at;
        POISON(b, room);
    }
}

/* --- the whole --- */

/* Held for some dozen instructions each time: a thread that finds it taken does better to try again at once than to sleep. */
static int lock_init(pthread_mutex_t *lock)
{
#ifdef __GLIBC__
    pthread_mutexattr_t attr;
    int rc = pthread_mutexattr_init(&attr);

    if (rc != 0)
        return rc;
    (void)pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    rc = pthread_mutex_init(lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return rc;
#else
    return pthread_mutex_init(lock, NULL);
#endif
}

bool shard_init(struct shard *s, struct budget *budget, size_t chunk_bytes, unsigned shard_count)
{
    assert(chunk_bytes >= CACHE_CHUNK_MIN && chunk_bytes <= CACHE_CHUNK_MAX);
    if ((s->slots = calloc(SLOTS_MIN, sizeof *s->slots)) == NULL)
        return false;
    if (lock_init(&s->lock) != 0) {
        free(s->slots);
        return false;
    }
    s->slot_count = SLOTS_MIN;
    s->chunk_bytes = chunk_bytes;
    s->shard_count = shard_count;
    s->budget = budget;
    hold(s, SLOTS_MIN * sizeof *s->slots);
    return true;
}

void shard_free(struct shard *s)
{
    while (s->oldest != NULL) {
        assert(chunk_is_free(s, s->oldest));
        chunk_drop(s, s->oldest);
    }
    give(s, s->bytes);
    free(s->slots);
    free(s->chunks);
    pthread_mutex_destroy(&s->lock);
}
