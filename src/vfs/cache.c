/* Blocks by (id, key), in shards.
 *
 * A block has one reference of the table while it is in it, and one for each pin. The table's references are only found
 * under the shard's lock; so a block with a single reference, seen under the lock, is unpinned and stays so. The last
 * reference frees the block and gives its bytes back to the budget.
 *
 * In a shard a block is on three lists: its hash bucket, the clock (a ring, the hand moves on it), and the group of its id,
 * which makes closing a file cost what the file has, not what the cache has.
 *
 * Room is made before a block enters: its bytes are taken from the budget first, then shards are swept one after the
 * other, beginning with its own, until the budget's share holds again or all shards had two rounds. No two shards are ever
 * locked at once, and no lock is held during I/O or a check. */
#include "vfs/cache_internal.h"

#include <assert.h>
#include <stdlib.h>

enum { SHARDS = 16, BUCKETS_MIN = 64, BLOCK_FRACTION = 4 /* a block above this part of the share is not kept */ };

struct group;
struct block {
    struct block *next_in_bucket;
    struct block *clock_next, *clock_prev;
    struct block *group_next, **group_link; /* group_link: what points to this block */
    struct group *group;
    uint64_t id, key;
    size_t len;
    _Atomic uint32_t refs;
    bool is_used; /* since the hand passed; under the shard's lock */
    _Alignas(max_align_t) uint8_t data[];
};

struct group { /* blocks of one id in a shard; exists while it has any */
    struct group *next_in_bucket;
    struct block *blocks;
    uint64_t id;
};

struct shard {
    pthread_mutex_t lock; /* level 50; guards all of this */
    struct block **buckets;
    struct group **group_buckets; /* as many as buckets */
    size_t bucket_count;          /* power of two */
    size_t block_count, bytes;    /* in the table */
    struct block *hand;           /* the next one to look at, NULL when the ring is empty */
    uint64_t hits, misses, evictions;
    uint8_t apart[64]; /* two shards share no cache line */
};

struct cache {
    struct shard shards[SHARDS];
    struct budget *budget;
    _Atomic uint64_t next_id;
    struct cache_handles handles;
};

static uint64_t hash_of(uint64_t id, uint64_t key)
{
    unsigned __int128 product = (unsigned __int128)(id * 0x9e3779b97f4a7c15u ^ key) * 0xd6e8feb86659fd93u;
    uint64_t h = (uint64_t)product ^ (uint64_t)(product >> 64);

    return h ^ (h >> 29);
}

static struct shard *shard_of(struct cache *c, uint64_t hash) { return &c->shards[hash >> 60]; }
static size_t block_bytes(size_t len) { return sizeof(struct block) + len; } /* what the budget counts */

static_assert(SHARDS == 16, "shard_of() takes four bits");

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

enum status cache_create(struct vfs *v, struct budget *budget, unsigned handles_max, struct cache **out, struct err *err)
{
    struct cache *c = NULL;
    unsigned locked = 0, i;
    enum status st;

    *out = NULL;
    if (handles_max == 0)
        return err_set(err, ST_INVALID, 0, "a cache needs at least one file handle");
    if ((c = calloc(1, sizeof *c)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a cache");
    c->budget = budget;
    atomic_init(&c->next_id, 1);
    if ((st = handles_init(&c->handles, v, handles_max, err)) != ST_OK)
        goto failed;
    for (i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];
        int rc = lock_init(&s->lock);

        locked += rc == 0;
        s->buckets = rc != 0 ? NULL : calloc(BUCKETS_MIN, sizeof(struct block *));
        s->group_buckets = rc != 0 ? NULL : calloc(BUCKETS_MIN, sizeof(struct group *));
        s->bucket_count = BUCKETS_MIN;
        if (s->buckets == NULL || s->group_buckets == NULL) {
            st = err_set(err, ST_NOMEM, rc, "no memory for a cache");
            goto failed_shards;
        }
    }
    *out = c;
    return ST_OK;
failed_shards:
    for (i = 0; i < SHARDS; i++) {
        free(c->shards[i].buckets);
        free(c->shards[i].group_buckets);
        if (i < locked)
            pthread_mutex_destroy(&c->shards[i].lock);
    }
    handles_destroy(&c->handles);
failed:
    free(c);
    return st;
}

/* --- one shard, under its lock --- */

static struct block *find(const struct shard *s, uint64_t hash, uint64_t id, uint64_t key)
{
    struct block *b = s->buckets[hash & (s->bucket_count - 1)];

    while (b != NULL && (b->key != key || b->id != id))
        b = b->next_in_bucket;
    return b;
}

static struct group **group_bucket(const struct shard *s, uint64_t id) { return &s->group_buckets[hash_of(id, 0) & (s->bucket_count - 1)]; }

static struct group *group_find(const struct shard *s, uint64_t id)
{
    struct group *g = *group_bucket(s, id);

    while (g != NULL && g->id != id)
        g = g->next_in_bucket;
    return g;
}

/* Doubles the buckets when they are as many as the blocks; without memory the chains get longer instead. */
static void grow(struct shard *s)
{
    size_t count = s->bucket_count * 2, old_count = s->bucket_count;
    struct block **buckets, **old = s->buckets, *b;
    struct group **group_buckets, **old_groups = s->group_buckets, *g;

    if (s->block_count < s->bucket_count)
        return;
    buckets = calloc(count, sizeof(struct block *));
    group_buckets = calloc(count, sizeof(struct group *));
    if (buckets == NULL || group_buckets == NULL) {
        free(buckets);
        free(group_buckets);
        return;
    }
    s->buckets = buckets;
    s->group_buckets = group_buckets;
    s->bucket_count = count;
    for (size_t i = 0; i < old_count; i++) {
        while ((b = old[i]) != NULL) {
            struct block **bucket = &buckets[hash_of(b->id, b->key) & (count - 1)];

            old[i] = b->next_in_bucket;
            b->next_in_bucket = *bucket;
            *bucket = b;
        }
        while ((g = old_groups[i]) != NULL) {
            struct group **bucket = group_bucket(s, g->id);

            old_groups[i] = g->next_in_bucket;
            g->next_in_bucket = *bucket;
            *bucket = g;
        }
    }
    free(old);
    free(old_groups);
}

/* False when there is no memory for a new group; nothing has changed then. */
static bool group_enter(struct shard *s, struct block *b)
{
    struct group *g = group_find(s, b->id), **bucket;

    if (g == NULL) {
        if ((g = malloc(sizeof *g)) == NULL)
            return false;
        bucket = group_bucket(s, b->id);
        *g = (struct group){.next_in_bucket = *bucket, .id = b->id};
        *bucket = g;
    }
    b->group = g;
    b->group_next = g->blocks;
    b->group_link = &g->blocks;
    if (g->blocks != NULL)
        g->blocks->group_link = &b->group_next;
    g->blocks = b;
    return true;
}

static void group_leave(struct shard *s, struct block *b)
{
    struct group *g = b->group, **link;

    *b->group_link = b->group_next;
    if (b->group_next != NULL)
        b->group_next->group_link = b->group_link;
    if (g->blocks != NULL)
        return;
    for (link = group_bucket(s, g->id); *link != g; link = &(*link)->next_in_bucket) {}
    *link = g->next_in_bucket;
    free(g);
}

/* Puts the block into the table, which takes over one reference; false without memory. */
static bool enter(struct shard *s, uint64_t hash, struct block *b)
{
    struct block **bucket;

    grow(s);
    if (!group_enter(s, b))
        return false;
    bucket = &s->buckets[hash & (s->bucket_count - 1)];
    b->next_in_bucket = *bucket;
    *bucket = b;
    if (s->hand == NULL) {
        b->clock_next = b->clock_prev = b;
        s->hand = b;
    } else { /* just behind the hand: looked at last */
        b->clock_next = s->hand;
        b->clock_prev = s->hand->clock_prev;
        b->clock_prev->clock_next = b;
        s->hand->clock_prev = b;
    }
    s->block_count++;
    s->bytes += block_bytes(b->len);
    return true;
}

/* Takes the block out of the table; its reference is now the caller's. */
static void leave(struct shard *s, struct block *b)
{
    struct block **link = &s->buckets[hash_of(b->id, b->key) & (s->bucket_count - 1)];

    while (*link != b)
        link = &(*link)->next_in_bucket;
    *link = b->next_in_bucket;
    if (b->clock_next == b) {
        s->hand = NULL;
    } else {
        if (s->hand == b)
            s->hand = b->clock_next;
        b->clock_next->clock_prev = b->clock_prev;
        b->clock_prev->clock_next = b->clock_next;
    }
    group_leave(s, b);
    s->block_count--;
    s->bytes -= block_bytes(b->len);
}

/* --- references --- */

static struct block *block_new(struct cache *c, uint64_t id, uint64_t key, size_t len)
{
    struct block *b;
    size_t bytes;

    if (__builtin_add_overflow(sizeof *b, len, &bytes) || (b = malloc(bytes)) == NULL)
        return NULL;
    b->id = id;
    b->key = key;
    b->len = len;
    b->is_used = false;
    atomic_init(&b->refs, 1);
    budget_take(c->budget, BUDGET_CACHE, block_bytes(len));
    return b;
}

static void block_ref(struct block *b) { atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed); }

static void block_unref(struct cache *c, struct block *b)
{
    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        budget_give(c->budget, BUDGET_CACHE, block_bytes(b->len));
        free(b);
    }
}

static void pin_out(struct block *b, struct cache_block *out) { *out = (struct cache_block){b->data, b->len, b}; }

static bool is_over(const struct cache *c) { return budget_used(c->budget, BUDGET_CACHE) > c->budget->share[BUDGET_CACHE]; }

/* Moves the hand over the shard, at most twice round, freeing unpinned blocks that nobody used since it passed. */
static void sweep(struct cache *c, struct shard *s)
{
    pthread_mutex_lock(&s->lock);
    for (size_t left = 2 * s->block_count; left > 0 && s->hand != NULL && is_over(c); left--) {
        struct block *b = s->hand;

        s->hand = b->clock_next;
        if (atomic_load_explicit(&b->refs, memory_order_acquire) > 1)
            continue;
        if (b->is_used) {
            b->is_used = false;
            continue;
        }
        leave(s, b);
        s->evictions++;
        block_unref(c, b);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Brings the cache under its share, beginning with the shard that grows. False when pins do not let it. */
static bool make_room(struct cache *c, struct shard *first)
{
    size_t start = (size_t)(first - c->shards);

    for (size_t i = 0; i < SHARDS && is_over(c); i++)
        sweep(c, &c->shards[(start + i) % SHARDS]);
    return !is_over(c);
}

/* Looks a block up and pins it; counts the hit or miss. */
static struct block *lookup(struct shard *s, uint64_t hash, uint64_t id, uint64_t key)
{
    struct block *b;

    pthread_mutex_lock(&s->lock);
    if ((b = find(s, hash, id, key)) != NULL) {
        block_ref(b);
        b->is_used = true;
        s->hits++;
    } else {
        s->misses++;
    }
    pthread_mutex_unlock(&s->lock);
    return b;
}

/* Offers a filled block (one reference, the caller's). What comes back, pinned for the caller, is that block or the one
 * that came first, in whose favour the offered one was freed. is_must: enters even where pins leave no room. */
static struct block *offer(struct cache *c, struct block *b, uint64_t hash, bool is_must)
{
    struct shard *s = shard_of(c, hash);
    struct block *other;
    bool is_kept = block_bytes(b->len) <= c->budget->share[BUDGET_CACHE] / BLOCK_FRACTION;

    if (is_over(c) && !make_room(c, s) && !is_must)
        is_kept = false;
    pthread_mutex_lock(&s->lock);
    if ((other = find(s, hash, b->id, b->key)) != NULL && other->len == b->len) {
        block_ref(other);
    } else {
        other = NULL;
        if (is_kept && find(s, hash, b->id, b->key) == NULL) {
            block_ref(b);
            if (!enter(s, hash, b))
                atomic_fetch_sub_explicit(&b->refs, 1, memory_order_relaxed); /* the caller's is left */
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (other == NULL)
        return b;
    block_unref(c, b);
    return other;
}

static enum status read_around(struct cache *c, struct cache_file *f, uint64_t offset, void *out, size_t len, bool nowait, struct err *err)
{
    struct vfs_file *handle;
    enum status st;

    if ((st = handle_acquire(&c->handles, f, nowait, &handle, err)) != ST_OK)
        return st;
    st = nowait ? handle->ops->read_nowait(handle, offset, out, len, err) : handle->ops->read(handle, offset, out, len, err);
    handle_release(&c->handles, f);
    return st;
}

/* Reads and checks a block on a miss. */
static enum status fill(struct cache *c, struct cache_file *f, uint64_t offset, size_t len, bool nowait, cache_check check, void *ctx,
                        struct block **out, struct err *err)
{
    struct block *b = NULL;
    enum status st;

    *out = NULL;
    if ((b = block_new(c, f->id, offset, len)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for %zu bytes of %s", len, f->path);
        goto done;
    }
    if ((st = read_around(c, f, offset, b->data, len, nowait, err)) != ST_OK)
        goto done;
    if (check != NULL && (st = check(ctx, offset, b->data, len, err)) != ST_OK) {
        st = err_while(err, st, "reading %s at %llu", f->path, (unsigned long long)offset);
        goto done;
    }
    *out = b;
    b = NULL;
done:
    if (b != NULL)
        block_unref(c, b);
    return st;
}

enum status cache_get(struct cache *c, struct cache_file *f, uint64_t offset, size_t len, bool nowait, cache_check check, void *ctx,
                      struct cache_block *out, struct err *err)
{
    uint64_t hash = hash_of(f->id, offset);
    struct block *b = lookup(shard_of(c, hash), hash, f->id, offset);
    enum status st;

    *out = (struct cache_block){0};
    if (b != NULL && b->len != len) { /* another view of the same place: served, not kept */
        block_unref(c, b);
        b = NULL;
    }
    if (b == NULL) {
        if ((st = fill(c, f, offset, len, nowait, check, ctx, &b, err)) != ST_OK)
            return st;
        b = offer(c, b, hash, true);
    }
    pin_out(b, out);
    return ST_OK;
}

bool cache_lookup(struct cache *c, uint64_t id, uint64_t key, struct cache_block *out)
{
    uint64_t hash = hash_of(id, key);
    struct block *b = lookup(shard_of(c, hash), hash, id, key);

    *out = (struct cache_block){0};
    if (b == NULL)
        return false;
    pin_out(b, out);
    return true;
}

bool cache_put(struct cache *c, uint64_t id, uint64_t key, const void *data, size_t len, struct cache_block *out)
{
    struct block *b = block_new(c, id, key, len);

    if (out != NULL)
        *out = (struct cache_block){0};
    if (b == NULL)
        return false;
    if (len > 0)
        memcpy(b->data, data, len);
    b = offer(c, b, hash_of(id, key), false);
    if (out != NULL)
        pin_out(b, out);
    else
        block_unref(c, b);
    return true;
}

void cache_unpin(struct cache *c, struct cache_block *b)
{
    struct block *block = b->owner_;

    *b = (struct cache_block){0};
    if (block != NULL)
        block_unref(c, block);
}

void cache_drop(struct cache *c, uint64_t id, uint64_t key)
{
    uint64_t hash = hash_of(id, key);
    struct shard *s = shard_of(c, hash);
    struct block *b;

    pthread_mutex_lock(&s->lock);
    if ((b = find(s, hash, id, key)) != NULL)
        leave(s, b);
    pthread_mutex_unlock(&s->lock);
    if (b != NULL)
        block_unref(c, b);
}

/* Takes all blocks of an id out of a shard. */
static void shard_drop_id(struct cache *c, struct shard *s, uint64_t id)
{
    struct group *g;

    pthread_mutex_lock(&s->lock);
    while ((g = group_find(s, id)) != NULL) { /* the group goes with its last block */
        struct block *b = g->blocks;

        leave(s, b);
        block_unref(c, b);
    }
    pthread_mutex_unlock(&s->lock);
}

uint64_t cache_new_id(struct cache *c) { return atomic_fetch_add_explicit(&c->next_id, 1, memory_order_relaxed); }

enum status cache_file_open(struct cache *c, const char *path, struct cache_file **out, struct err *err)
{
    size_t path_len = strlen(path) + 1;
    struct cache_file *f = malloc(sizeof *f + path_len);

    *out = NULL;
    if (f == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory to register %s", path);
    *f = (struct cache_file){.id = cache_new_id(c)};
    memcpy(f->path, path, path_len);
    pthread_mutex_lock(&c->handles.lock);
    c->handles.file_count++;
    pthread_mutex_unlock(&c->handles.lock);
    *out = f;
    return ST_OK;
}

void cache_file_close(struct cache *c, struct cache_file *f)
{
    if (f == NULL)
        return;
    for (unsigned i = 0; i < SHARDS; i++)
        shard_drop_id(c, &c->shards[i], f->id);
    handle_drop(&c->handles, f);
    free(f);
}

enum status cache_file_read(struct cache *c, struct cache_file *f, uint64_t offset, void *out, size_t len, struct err *err)
{
    return read_around(c, f, offset, out, len, false, err);
}

enum status cache_file_read_nowait(struct cache *c, struct cache_file *f, uint64_t offset, void *out, size_t len, struct err *err)
{
    return read_around(c, f, offset, out, len, true, err);
}

enum status cache_file_length(struct cache *c, struct cache_file *f, uint64_t *out, struct err *err)
{
    struct vfs_file *handle;
    enum status st;

    *out = 0;
    if ((st = handle_acquire(&c->handles, f, false, &handle, err)) != ST_OK)
        return st;
    st = handle->ops->length(handle, out, err);
    handle_release(&c->handles, f);
    return st;
}

uint64_t cache_file_id(const struct cache_file *f) { return f->id; }
const char *cache_file_path(const struct cache_file *f) { return f->path; }

void cache_stats(struct cache *c, struct cache_stats *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];

        pthread_mutex_lock(&s->lock);
        out->hits += s->hits;
        out->misses += s->misses;
        out->evictions += s->evictions;
        out->blocks += s->block_count;
        out->bytes += s->bytes;
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_lock(&c->handles.lock);
    out->handles_open = c->handles.slot_count;
    out->handle_opens = c->handles.open_count;
    pthread_mutex_unlock(&c->handles.lock);
}

void cache_destroy(struct cache *c)
{
    if (c == NULL)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *s = &c->shards[i];

        while (s->hand != NULL) {
            struct block *b = s->hand;

            assert(atomic_load(&b->refs) == 1);
            leave(s, b);
            block_unref(c, b);
        }
        free(s->buckets);
        free(s->group_buckets);
        pthread_mutex_destroy(&s->lock);
    }
    handles_destroy(&c->handles);
    free(c);
}
