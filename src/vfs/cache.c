/* Blocks by (id, key): look-ups, fills and offers over the shards (cache_shard.c), and what a file of the cache is.
 *
 * The upper bits of a block's hash choose its shard. No two shards are ever locked at once, and no lock is held during I/O
 * or a check: a block that is being filled has its place already, but is not listed. */
#include "vfs/cache_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "vfs/cache_shard.h"

enum { SHARDS_MAX = 32, SHARD_CHUNKS_MIN = 8, CHUNKS_WANTED = 512, GHOSTS_MIN = 64, BYTES_PER_GHOST = 4096 };

struct cache {
    struct shard shards[SHARDS_MAX];
    unsigned shard_count;     /* power of two */
    _Atomic uint16_t *ghosts; /* of keys asked about by cache_is_warm(): a part of their hash */
    size_t ghost_count;       /* power of two */
    struct budget *budget;
    _Atomic uint64_t next_id;
    struct cache_handles handles;
};

static struct shard *shard_of(struct cache *c, uint64_t hash) { return &c->shards[hash >> 59 & (c->shard_count - 1)]; }

static_assert(SHARDS_MAX == 32, "shard_of() looks at five bits");

/* --- open and close --- */

/* Small caches have small chunks and few shards: each shard wants several chunks to choose from. */
static void shape(size_t share, size_t *chunk_bytes, unsigned *shard_count)
{
    *chunk_bytes = CACHE_CHUNK_MIN;
    while (*chunk_bytes < CACHE_CHUNK_MAX && *chunk_bytes * 2 <= share / CHUNKS_WANTED)
        *chunk_bytes *= 2;
    *shard_count = 1;
    while (*shard_count < SHARDS_MAX && share / (*shard_count * 2) >= SHARD_CHUNKS_MIN * *chunk_bytes)
        *shard_count *= 2;
}

static void shards_close(struct cache *c)
{
    while (c->shard_count > 0)
        shard_free(&c->shards[--c->shard_count]);
}

static enum status ghosts_open(struct cache *c, size_t share, struct err *err)
{
    c->ghost_count = GHOSTS_MIN;
    while (c->ghost_count * BYTES_PER_GHOST < share)
        c->ghost_count *= 2;
    if ((c->ghosts = calloc(c->ghost_count, sizeof *c->ghosts)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a cache");
    return ST_OK;
}

static enum status shards_open(struct cache *c, struct budget *budget, struct err *err)
{
    size_t share = budget->share[BUDGET_CACHE], chunk_bytes;
    unsigned count;

    shape(share, &chunk_bytes, &count);
    while (c->shard_count < count) {
        if (!shard_init(&c->shards[c->shard_count], budget, chunk_bytes, count)) {
            shards_close(c);
            return err_set(err, ST_NOMEM, 0, "no memory for a cache");
        }
        c->shard_count++;
    }
    return ST_OK;
}

/* Somebody else wants the memory that was lent. */
static void reclaim(void *ctx)
{
    struct cache *c = ctx;

    for (unsigned i = 0; i < c->shard_count; i++) {
        pthread_mutex_lock(&c->shards[i].lock);
        shard_shrink(&c->shards[i]);
        pthread_mutex_unlock(&c->shards[i].lock);
    }
}

enum status cache_create(struct vfs *v, struct budget *budget, unsigned handles_max, struct cache **out, struct err *err)
{
    struct cache *c = NULL;
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
    if ((st = ghosts_open(c, budget->share[BUDGET_CACHE], err)) != ST_OK || (st = shards_open(c, budget, err)) != ST_OK)
        goto failed_memory;
    budget_set_borrower(budget, reclaim, c);
    *out = c;
    return ST_OK;
failed_memory:
    free(c->ghosts);
    handles_destroy(&c->handles);
failed:
    free(c);
    return st;
}

void cache_destroy(struct cache *c)
{
    if (c == NULL)
        return;
    budget_set_borrower(c->budget, NULL, NULL);
    shards_close(c);
    handles_destroy(&c->handles);
    free(c->ghosts);
    free(c);
}

/* --- blocks --- */

/* A block that is not in the cache: for its pins alone. */
static struct block *private_new(struct cache *c, uint64_t id, uint64_t key, size_t len)
{
    struct block *b = len > UINT32_MAX - sizeof *b ? NULL : malloc(sizeof *b + len);

    if (b == NULL)
        return NULL;
    *b = (struct block){.id = id, .key = key, .len = (uint32_t)len};
    atomic_init(&b->refs, 1);
    budget_take(c->budget, BUDGET_CACHE, sizeof *b + len);
    return b;
}

static void block_ref(struct block *b) { atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed); }

static void block_unref(struct cache *c, struct block *b)
{
    bool is_private = b->where == 0; /* read now: without our pin the place of another may get a new owner at once */

    if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1 || !is_private)
        return;
    budget_give(c->budget, BUDGET_CACHE, sizeof *b + b->len);
    free(b);
}

static void pin_out(struct block *b, struct cache_block *out) { *out = (struct cache_block){b->data, b->len, b}; }

/* The block under (id, key), pinned, when it is there and has that length (any length: SIZE_MAX); counts the hit or miss.
 * Otherwise, and when reserved is given, *reserved is a new one for the caller to fill. */
static struct block *find_or_reserve(struct cache *c, uint64_t hash, uint64_t id, uint64_t key, size_t len, bool is_counted, struct block **reserved)
{
    struct shard *s = shard_of(c, hash);
    struct block *b;

    pthread_mutex_lock(&s->lock);
    if ((b = shard_find(s, hash, id, key)) != NULL && (len == SIZE_MAX || b->len == len)) {
        block_ref(b);
        b->is_used = true;
        s->hits += is_counted;
    } else {
        b = NULL;
        s->misses += is_counted;
        if (reserved != NULL)
            *reserved = shard_reserve(s, id, key, len);
    }
    pthread_mutex_unlock(&s->lock);
    if (b == NULL && reserved != NULL && *reserved == NULL)
        *reserved = private_new(c, id, key, len);
    return b;
}

static void cancel(struct cache *c, uint64_t hash, struct block *b)
{
    struct shard *s = shard_of(c, hash);

    if (b->where == 0) {
        block_unref(c, b);
        return;
    }
    pthread_mutex_lock(&s->lock);
    shard_cancel(s, b);
    pthread_mutex_unlock(&s->lock);
}

/* Lists a filled block. What comes back, pinned for the caller, is that block or an equal one that came first. */
static struct block *publish(struct cache *c, uint64_t hash, struct block *b)
{
    struct shard *s = shard_of(c, hash);
    struct block *other;

    if (b->where == 0)
        return b;
    pthread_mutex_lock(&s->lock);
    if ((other = shard_find(s, hash, b->id, b->key)) == NULL) {
        (void)shard_list(s, hash, b); /* else it is served and not kept */
    } else if (other->len == b->len) {
        block_ref(other);
        shard_cancel(s, b);
        b = other;
    }
    pthread_mutex_unlock(&s->lock);
    return b;
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

enum status cache_get(struct cache *c, struct cache_file *f, uint64_t offset, size_t len, bool nowait, cache_check check, void *ctx,
                      struct cache_block *out, struct err *err)
{
    uint64_t hash = block_hash(f->id, offset);
    struct block *fresh = NULL, *b = find_or_reserve(c, hash, f->id, offset, len, true, &fresh);
    enum status st = ST_OK;

    *out = (struct cache_block){0};
    if (b == NULL && fresh == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for %zu bytes of %s", len, f->path);
    if (b == NULL) {
        st = read_around(c, f, offset, fresh->data, len, nowait, err);
        if (st == ST_OK && check != NULL && (st = check(ctx, offset, fresh->data, len, err)) != ST_OK)
            st = err_while(err, st, "reading %s at %llu", f->path, (unsigned long long)offset);
        if (st == ST_OK)
            b = publish(c, hash, fresh);
        else
            cancel(c, hash, fresh);
    }
    if (st == ST_OK)
        pin_out(b, out);
    return st;
}

bool cache_lookup(struct cache *c, uint64_t id, uint64_t key, struct cache_block *out)
{
    struct block *b = find_or_reserve(c, block_hash(id, key), id, key, SIZE_MAX, true, NULL);

    *out = (struct cache_block){0};
    if (b == NULL)
        return false;
    pin_out(b, out);
    return true;
}

bool cache_put(struct cache *c, uint64_t id, uint64_t key, const void *data, size_t len, struct cache_block *out)
{
    uint64_t hash = block_hash(id, key);
    struct block *fresh = NULL, *b = find_or_reserve(c, hash, id, key, len, false, &fresh);

    if (out != NULL)
        *out = (struct cache_block){0};
    if (b == NULL && fresh == NULL)
        return false;
    if (b == NULL) {
        if (len > 0)
            memcpy(fresh->data, data, len);
        b = publish(c, hash, fresh);
    }
    if (out != NULL)
        pin_out(b, out);
    else
        block_unref(c, b);
    return true;
}

bool cache_is_warm(struct cache *c, uint64_t id, uint64_t key)
{
    uint64_t hash = block_hash(id, key);
    uint16_t mark = (uint16_t)(hash >> 40 | 1);

    return atomic_exchange_explicit(&c->ghosts[hash & (c->ghost_count - 1)], mark, memory_order_relaxed) == mark;
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
    uint64_t hash = block_hash(id, key);
    struct shard *s = shard_of(c, hash);
    struct block *b;

    pthread_mutex_lock(&s->lock);
    if ((b = shard_find(s, hash, id, key)) != NULL)
        shard_unlist(s, hash, b);
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
    for (unsigned i = 0; i < c->shard_count; i++) {
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
