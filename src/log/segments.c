/* Segments in memory: the table that leads from a tx id to its segment, offset maps, references.
 *
 * Readers are many and take no lock. Table slots hold (first tx id, segment), ascending; a slot's segment is replaced by an atomic store when
 * truncation switches generations. A table that got too small is copied and kept, so are all struct segment: readers may hold a pointer to
 * either as long as they like (both are bounded: doubling, and at most one replacement per segment). Files are another matter: they are used under
 * a reference, and whoever finds the count at zero looks the segment up again.
 *
 * An offset map belongs to a segment until it seals; then the same facts stand in its footer. A reader counts itself in map_users before it
 * loads the pointer, so once the pointer is NULL and the count was seen as zero nobody can look at the map any more. Reading a map takes
 * nanoseconds and does no I/O.
 *
 * An offset that is below `published` never changes; those above belong to the writer and may be cut and written again. */
#include "log/log_internal.h"

#include <assert.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

void segment_name(char out[32], uint64_t no, uint32_t generation) { snprintf(out, 32, "seg-%08llu.%u", (unsigned long long)no, generation); }

uint64_t segment_capacity(const struct log *l, uint64_t no)
{
    uint64_t bytes = l->segment_bytes_first;

    for (uint64_t i = 1; i < no && bytes < l->segment_bytes_max; i++)
        bytes *= 2;
    return bytes < l->segment_bytes_max ? bytes : l->segment_bytes_max;
}

enum status segment_new(struct log *l, uint64_t no, uint32_t generation, const uint8_t salt[LOG_SALT_LEN], bool values_removed, struct segment **out,
                        struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct segment *s = NULL;
    enum status st;

    *out = NULL;
    if ((s = calloc(1, sizeof *s)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for a segment");
    s->log = l;
    s->no = no;
    s->generation = generation;
    s->values_removed = values_removed;
    memcpy(s->salt, salt, LOG_SALT_LEN);
    s->seed = segment_seed(l->uuid, salt, no);
    s->cache_id = cache_new_id(l->cache);
    s->capacity = segment_capacity(l, no);
    s->table_index = (size_t)no - 1;
    s->zeroed_upto = SEGMENT_HEADER_BYTES;
    s->state = SEGMENT_PREPARED;
    atomic_init(&s->refs, 1);
    atomic_init(&s->end, SEGMENT_HEADER_BYTES);
    segment_name(s->name, no, generation);
    if ((st = vfs_path(path, err, l->dir, "%s", s->name)) != ST_OK)
        goto done;
    if ((st = cache_file_open(l->cache, path, &s->file, err)) != ST_OK)
        goto done;
    *out = s;
    s = NULL;
done:
    free(s);
    return st;
}

static void map_free(struct segment *s, struct offset_map *map)
{
    struct offset_map *older;

    if (map == NULL)
        return;
    for (size_t i = 0; i < map->chunk_max; i++)
        free(atomic_load_explicit(&map->chunks[i], memory_order_relaxed));
    for (; map != NULL; map = older) {
        older = map->older;
        free(map);
    }
    budget_give(s->log->budget, BUDGET_OTHER, s->map_bytes);
    s->map_bytes = 0;
}

void segment_free(struct segment *s)
{
    if (s == NULL)
        return;
    if (s->out != NULL)
        s->out->ops->close(s->out);
    map_free(s, s->map_old);
    map_free(s, atomic_load(&s->map));
    cache_file_close(s->log->cache, s->file);
    free(s->frontier);
    free(s);
}

bool segment_ref(struct segment *s)
{
    uint32_t refs = atomic_load_explicit(&s->refs, memory_order_relaxed);

    while (refs != 0)
        if (atomic_compare_exchange_weak_explicit(&s->refs, &refs, refs + 1, memory_order_acquire, memory_order_relaxed))
            return true;
    return false;
}

void segment_unref(struct segment *s)
{
    uint32_t before = atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel);

    assert(before > 0);
    (void)before; /* the last one leaves the work to segments_reap(): a reader should not unlink files */
}

/* --- offset maps --- */

static enum status map_grow(struct segment *s, size_t chunk_max, struct err *err)
{
    struct offset_map *map = atomic_load_explicit(&s->map, memory_order_relaxed), *grown;
    size_t bytes = sizeof *grown + chunk_max * sizeof grown->chunks[0];

    if ((grown = calloc(1, bytes)) == NULL)
        return err_set(err, ST_NOMEM, 0, "no memory for %zu tx offsets", chunk_max * OFFSET_PAGE_TXS);
    grown->older = map;
    grown->chunk_max = chunk_max;
    for (size_t i = 0; map != NULL && i < map->chunk_max; i++)
        atomic_init(&grown->chunks[i], atomic_load_explicit(&map->chunks[i], memory_order_relaxed));
    s->map_bytes += bytes;
    budget_take(s->log->budget, BUDGET_OTHER, bytes);
    atomic_store_explicit(&s->map, grown, memory_order_seq_cst);
    return ST_OK;
}

enum status map_reserve(struct segment *s, uint64_t tx_count, struct err *err)
{
    uint64_t chunks = (tx_count + OFFSET_PAGE_TXS - 1) / OFFSET_PAGE_TXS;
    struct offset_map *map = atomic_load_explicit(&s->map, memory_order_relaxed);
    size_t have = map == NULL ? 0 : map->chunk_max;
    enum status st;

    if (map == NULL || chunks > have) {
        uint64_t wanted = chunks > 2 * (uint64_t)have ? chunks : 2 * (uint64_t)have;

        if ((st = map_grow(s, wanted < 4 ? 4 : (size_t)wanted, err)) != ST_OK)
            return st;
        map = atomic_load_explicit(&s->map, memory_order_relaxed);
    }
    for (uint64_t i = chunks; i-- > 0 && atomic_load_explicit(&map->chunks[i], memory_order_relaxed) == NULL;) {
        struct offset_chunk *chunk = calloc(1, sizeof *chunk);

        if (chunk == NULL)
            return err_set(err, ST_NOMEM, 0, "no memory for tx offsets");
        s->map_bytes += sizeof *chunk;
        budget_take(s->log->budget, BUDGET_OTHER, sizeof *chunk);
        atomic_store_explicit(&map->chunks[i], chunk, memory_order_release);
    }
    return ST_OK;
}

void map_set(struct segment *s, uint64_t index, uint32_t unit, int64_t ts)
{
    struct offset_map *map = atomic_load_explicit(&s->map, memory_order_relaxed);
    struct offset_chunk *chunk = atomic_load_explicit(&map->chunks[index / OFFSET_PAGE_TXS], memory_order_relaxed);

    if (ts != 0) {
        s->ts_max = s->ts_max == 0 || ts > s->ts_max ? ts : s->ts_max;
        s->ts_min = s->ts_min == 0 || ts < s->ts_min ? ts : s->ts_min;
    }
    /* After a cut ts_max may still tell of a discarded tx: log_tx_since() takes it as an upper bound only. */
    atomic_store_explicit(&chunk->ts_max, s->ts_max, memory_order_relaxed);
    atomic_store_explicit(&chunk->units[index % OFFSET_PAGE_TXS], unit, memory_order_relaxed);
}

/* The chunk under map_users, or NULL when the map is gone; map_leave() in both cases. */
static struct offset_chunk *map_enter(struct segment *s, uint64_t chunk_index, struct offset_map **map)
{
    atomic_fetch_add_explicit(&s->map_users, 1, memory_order_seq_cst);
    *map = atomic_load_explicit(&s->map, memory_order_seq_cst);
    if (*map == NULL || chunk_index >= (*map)->chunk_max)
        return NULL;
    return atomic_load_explicit(&(*map)->chunks[chunk_index], memory_order_acquire);
}

static void map_leave(struct segment *s) { atomic_fetch_sub_explicit(&s->map_users, 1, memory_order_release); }

bool map_get(struct segment *s, uint64_t index, uint64_t *offset, uint64_t *end)
{
    struct offset_map *map;
    struct offset_chunk *chunk = map_enter(s, index / OFFSET_PAGE_TXS, &map), *next;
    uint32_t unit = 0, next_unit = 0;

    if (chunk != NULL) {
        unit = atomic_load_explicit(&chunk->units[index % OFFSET_PAGE_TXS], memory_order_relaxed);
        index++;
        /* The next tx bounds this record; without one the end of the frames does. */
        if (index < atomic_load_explicit(&s->tx_count, memory_order_acquire) && index / OFFSET_PAGE_TXS < map->chunk_max &&
            (next = atomic_load_explicit(&map->chunks[index / OFFSET_PAGE_TXS], memory_order_acquire)) != NULL)
            next_unit = atomic_load_explicit(&next->units[index % OFFSET_PAGE_TXS], memory_order_relaxed);
    }
    map_leave(s);
    *offset = (uint64_t)unit * OFFSET_UNIT;
    *end = next_unit > unit ? (uint64_t)next_unit * OFFSET_UNIT : atomic_load_explicit(&s->end, memory_order_acquire);
    return map != NULL;
}

bool map_ts_max(struct segment *s, uint64_t chunk_index, int64_t *out)
{
    struct offset_map *map;
    struct offset_chunk *chunk = map_enter(s, chunk_index, &map);

    *out = chunk == NULL ? 0 : atomic_load_explicit(&chunk->ts_max, memory_order_relaxed);
    map_leave(s);
    return map != NULL;
}

void map_retire(struct segment *s)
{
    enum { TRIES = 1000 };
    struct offset_map *map = atomic_exchange_explicit(&s->map, NULL, memory_order_seq_cst);

    if (map != NULL) {
        assert(s->map_old == NULL);
        s->map_old = map;
    }
    for (int i = 0; i < TRIES && s->map_old != NULL; i++) {
        if (atomic_load_explicit(&s->map_users, memory_order_seq_cst) == 0) {
            map_free(s, s->map_old);
            s->map_old = NULL;
        } else {
            sched_yield();
        }
    }
}

/* --- table --- */

size_t table_count(const struct log *l)
{
    const struct segment_table *t = atomic_load_explicit(&l->table, memory_order_acquire);

    return t == NULL ? 0 : atomic_load_explicit(&t->count, memory_order_acquire);
}

struct segment *table_at(const struct log *l, size_t index)
{
    const struct segment_table *t = atomic_load_explicit(&l->table, memory_order_acquire);

    if (t == NULL || index >= atomic_load_explicit(&t->count, memory_order_acquire))
        return NULL;
    return atomic_load_explicit(&t->slots[index].segment, memory_order_acquire);
}

enum status table_reserve(struct log *l, struct err *err)
{
    struct segment_table *t, *grown;
    enum status st = ST_OK;
    size_t count, capacity;

    pthread_mutex_lock(&l->table_change);
    t = atomic_load(&l->table);
    count = t == NULL ? 0 : atomic_load(&t->count);
    if (t != NULL && count < t->capacity)
        goto done;
    capacity = count == 0 ? 16 : count * 2;
    if ((grown = calloc(1, sizeof *grown + capacity * sizeof grown->slots[0])) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "no memory for a table of %zu segments", capacity);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        atomic_init(&grown->slots[i].first_tx, atomic_load(&t->slots[i].first_tx));
        atomic_init(&grown->slots[i].segment, atomic_load(&t->slots[i].segment));
    }
    grown->older = t;
    grown->capacity = capacity;
    atomic_init(&grown->count, count);
    atomic_store(&l->table, grown);
done:
    pthread_mutex_unlock(&l->table_change);
    return st;
}

void table_append(struct log *l, struct segment *s)
{
    struct segment_table *t;
    size_t count;

    pthread_mutex_lock(&l->table_change);
    t = atomic_load(&l->table);
    count = atomic_load(&t->count);
    assert(count < t->capacity && s->table_index == count);
    atomic_store(&t->slots[count].first_tx, UINT64_MAX);
    atomic_store(&t->slots[count].segment, s);
    atomic_store(&t->count, count + 1);
    pthread_mutex_unlock(&l->table_change);
}

void table_set_first_tx(struct log *l, struct segment *s, uint64_t first_tx)
{
    struct segment_table *t;

    pthread_mutex_lock(&l->table_change);
    t = atomic_load(&l->table);
    atomic_store(&s->first_tx, first_tx);
    atomic_store(&t->slots[s->table_index].first_tx, first_tx);
    pthread_mutex_unlock(&l->table_change);
}

void table_replace(struct log *l, struct segment *s)
{
    struct segment_table *t;

    pthread_mutex_lock(&l->table_change);
    t = atomic_load(&l->table);
    atomic_store(&t->slots[s->table_index].segment, s);
    pthread_mutex_unlock(&l->table_change);
}

struct segment *table_find(const struct log *l, uint64_t tx_id)
{
    const struct segment_table *t = atomic_load_explicit(&l->table, memory_order_acquire);
    size_t low = 0, high;

    if (t == NULL)
        return NULL;
    high = atomic_load_explicit(&t->count, memory_order_acquire);
    while (low < high) { /* first slot that begins above tx_id */
        size_t middle = low + (high - low) / 2;

        if (atomic_load_explicit(&t->slots[middle].first_tx, memory_order_relaxed) <= tx_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? NULL : atomic_load_explicit(&t->slots[low - 1].segment, memory_order_acquire);
}

void table_cut(struct log *l, uint64_t tx_id)
{
    for (size_t i = table_count(l); i-- > 0;) {
        struct segment *s = table_at(l, i);
        uint64_t first = atomic_load(&s->first_tx), count = atomic_load(&s->tx_count);

        if (s->state == SEGMENT_PREPARED)
            continue;
        if (first <= tx_id) {
            if (first + count > tx_id + 1)
                atomic_store(&s->tx_count, tx_id + 1 - first);
            if (s->frontier != NULL && s->frontier->size > tx_id)
                s->frontier->size = 0;
            break;
        }
        atomic_store(&s->tx_count, 0);
        table_set_first_tx(l, s, tx_id + 1);
        if (s->frontier != NULL)
            s->frontier->size = 0;
    }
}
