/* The writer's side of the tree: opening, closing, appending, cutting back.
 *
 * An append first obtains all pages it will need, so that nothing can fail once nodes are being written; then it fills
 * band after band (a completed page hands its root to the band above) and publishes the size. */
#include "merkle/merkle_internal.h"

#include <assert.h>
#include <stdlib.h>

void tree_account(struct tree *t, size_t len)
{
    atomic_fetch_add_explicit(&t->memory_bytes, len, memory_order_relaxed);
    if (t->budget != NULL)
        budget_take(t->budget, BUDGET_TREE, len);
}

void tree_unaccount(struct tree *t, size_t len)
{
    atomic_fetch_sub_explicit(&t->memory_bytes, len, memory_order_relaxed);
    if (t->budget != NULL)
        budget_give(t->budget, BUDGET_TREE, len);
}

struct page *page_new(struct tree *t, uint64_t no)
{
    struct page *page = malloc(sizeof *page);

    if (page == NULL)
        return NULL;
    page->retired = (struct retired){NULL, sizeof *page};
    page->no = no;
    tree_account(t, sizeof *page);
    return page;
}

void retired_free(struct tree *t, struct retired *list)
{
    while (list != NULL) {
        struct retired *next = list->next;

        tree_unaccount(t, list->bytes);
        free(list);
        list = next;
    }
}

struct page *ring_find(const struct band *band, uint64_t no)
{
    const struct ring *ring = atomic_load_explicit(&band->ring, memory_order_acquire);
    struct page *page = ring == NULL ? NULL : atomic_load_explicit(&ring->slots[no & ring->mask], memory_order_acquire);

    return page != NULL && page->no == no ? page : NULL;
}

void ring_put(struct band *band, struct page *page)
{
    struct ring *ring = atomic_load_explicit(&band->ring, memory_order_relaxed);

    assert(atomic_load_explicit(&ring->slots[page->no & ring->mask], memory_order_relaxed) == NULL);
    atomic_store_explicit(&ring->slots[page->no & ring->mask], page, memory_order_release);
}

static struct ring *ring_new(struct tree *t, uint64_t slot_count)
{
    size_t bytes = 0;
    struct ring *ring = NULL;

    if (__builtin_mul_overflow(slot_count, sizeof ring->slots[0], &bytes) || __builtin_add_overflow(bytes, sizeof *ring, &bytes))
        return NULL;
    ring = calloc(1, bytes);
    if (ring == NULL)
        return NULL;
    ring->retired.bytes = bytes;
    ring->mask = slot_count - 1;
    tree_account(t, bytes);
    return ring;
}

/* Pages in memory are the contiguous range [disk_pages, page_end): a ring at least that long has no collisions. */
enum status ring_make_room(struct band *band, uint64_t page_end, struct err *err)
{
    struct tree *t = band->tree;
    struct ring *old = atomic_load_explicit(&band->ring, memory_order_relaxed), *grown = NULL;
    uint64_t need = page_end - atomic_load(&band->disk_pages), slot_count = old == NULL ? 2 : old->mask + 1;
    struct retired *garbage = NULL;

    if (old != NULL && need <= slot_count)
        return ST_OK;
    while (slot_count < need)
        slot_count *= 2;
    grown = ring_new(t, slot_count);
    if (grown == NULL)
        return err_set(err, ST_NOMEM, 0, "%llu tree pages wait for being written", (unsigned long long)need);
    pthread_mutex_lock(&t->lock);
    for (uint64_t i = 0; old != NULL && i <= old->mask; i++) {
        struct page *page = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

        if (page != NULL)
            atomic_store_explicit(&grown->slots[page->no & grown->mask], page, memory_order_relaxed);
    }
    atomic_store_explicit(&band->ring, grown, memory_order_release);
    if (old != NULL)
        grace_retire(&t->grace, &old->retired);
    garbage = grace_collect(&t->grace);
    pthread_mutex_unlock(&t->lock);
    retired_free(t, garbage);
    return ST_OK;
}

enum status band_path(const struct tree *t, unsigned band, char *out, struct err *err) { return vfs_path(out, err, t->dir, "band-%u", band); }

enum status band_file_register(struct band *band, struct err *err)
{
    struct cache_file *file = NULL;
    char path[PATH_BYTES_MAX];
    enum status st = ST_OK;

    if (atomic_load(&band->file) != NULL)
        return ST_OK;
    if ((st = band_path(band->tree, band->no, path, err)) != ST_OK)
        return st;
    if ((st = cache_file_open(band->tree->cache, path, &file, err)) != ST_OK)
        return st;
    atomic_store_explicit(&band->file, file, memory_order_release);
    return ST_OK;
}

static enum status dir_make(const struct tree_options *o, struct err *err)
{
    enum status st = o->vfs->ops->mkdir(o->vfs, o->dir, err);

    return st == ST_EXISTS ? ST_OK : st;
}

enum status tree_open(const struct tree_options *o, uint64_t size_max, struct tree **out, struct err *err)
{
    struct tree *t = calloc(1, sizeof *t);
    enum status st = ST_OK;

    *out = NULL;
    if (t == NULL)
        return err_set(err, ST_NOMEM, 0, "opening the tree in %s", o->dir);
    pthread_mutex_init(&t->lock, NULL);
    t->vfs = o->vfs;
    t->cache = o->cache;
    t->budget = o->budget;
    t->alh_of = o->alh_of;
    t->ctx = o->ctx;
    t->seed = crc32c(0, o->uuid, sizeof o->uuid);
    t->expanded_id = cache_new_id(o->cache);
    for (unsigned b = 0; b < BANDS; b++) {
        t->bands[b].tree = t;
        t->bands[b].no = b;
    }
    tree_account(t, sizeof *t);
    t->dir = strdup(o->dir);
    if (t->dir == NULL) {
        st = err_set(err, ST_NOMEM, 0, "opening a tree");
        goto done;
    }
    if ((st = dir_make(o, err)) != ST_OK)
        goto done;
    st = tree_load(t, size_max < LEAVES_MAX ? size_max : LEAVES_MAX, err);
done:
    if (st != ST_OK) {
        tree_close(t);
        return err_while(err, st, "opening the tree in %s", o->dir);
    }
    *out = t;
    return ST_OK;
}

static void band_close(struct band *band)
{
    struct tree *t = band->tree;
    struct ring *ring = atomic_load(&band->ring);

    for (uint64_t i = 0; ring != NULL && i <= ring->mask; i++) {
        struct page *page = atomic_load(&ring->slots[i]);

        if (page != NULL) {
            page->retired.next = NULL;
            retired_free(t, &page->retired);
        }
    }
    if (ring != NULL)
        retired_free(t, &ring->retired);
    cache_file_close(t->cache, atomic_load(&band->file));
}

void tree_close(struct tree *t)
{
    if (t == NULL)
        return;
    for (unsigned b = 0; b < BANDS; b++)
        band_close(&t->bands[b]);
    retired_free(t, t->grace.waiting);
    retired_free(t, t->grace.fresh);
    while (t->repairs != NULL) {
        struct repair *next = t->repairs->next;

        tree_unaccount(t, sizeof *next);
        free(t->repairs);
        t->repairs = next;
    }
    tree_unaccount(t, sizeof *t);
    pthread_mutex_destroy(&t->lock);
    free(t->dir);
    free(t);
}

uint64_t tree_size(const struct tree *t) { return atomic_load_explicit(&t->size, memory_order_acquire); }
uint64_t tree_flushed(const struct tree *t) { return atomic_load_explicit(&t->flushed, memory_order_acquire); }

void tree_stats(struct tree *t, struct tree_stats *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned b = 0; b < BANDS; b++)
        out->pages_on_disk += atomic_load(&t->bands[b].disk_pages);
    out->pages_rebuilt = atomic_load(&t->pages_rebuilt);
    out->memory_bytes = atomic_load(&t->memory_bytes);
    out->disk_bytes = out->pages_on_disk * PAGE_BYTES;
}

/* Pages begun in a tree of size leaves, complete or not. */
static uint64_t pages_begun(uint64_t size, unsigned band) { return (band_nodes(size, band) + PAGE_WIDTH - 1) / PAGE_WIDTH; }

/* Pages that going from size to grown begins in one band, linked by retired.next, the first one first. */
static enum status pages_make(struct band *band, uint64_t size, uint64_t grown, struct retired **out, struct err *err)
{
    struct retired *first = NULL, **end = &first;

    *out = NULL;
    for (uint64_t no = pages_begun(size, band->no); no < pages_begun(grown, band->no); no++) {
        struct page *page = page_new(band->tree, no);

        if (page == NULL) {
            retired_free(band->tree, first);
            return err_set(err, ST_NOMEM, 0, "growing the tree to %llu leaves", (unsigned long long)grown);
        }
        *end = &page->retired;
        end = &page->retired.next;
    }
    *out = first;
    return ST_OK;
}

static enum status pages_prepare(struct tree *t, uint64_t size, uint64_t grown, struct err *err)
{
    struct retired *made[BANDS] = {NULL}, *garbage = NULL;
    enum status st = ST_OK;
    bool is_any = false;

    for (unsigned b = 0; b < BANDS && st == ST_OK && band_nodes(grown, b) > band_nodes(size, b); b++) {
        if (pages_begun(grown, b) == pages_begun(size, b))
            continue;
        is_any = true;
        if ((st = ring_make_room(&t->bands[b], pages_begun(grown, b), err)) == ST_OK)
            st = pages_make(&t->bands[b], size, grown, &made[b], err);
    }
    if (st != ST_OK) {
        for (unsigned b = 0; b < BANDS; b++)
            retired_free(t, made[b]);
        return st;
    }
    if (!is_any)
        return ST_OK;
    pthread_mutex_lock(&t->lock);
    for (unsigned b = 0; b < BANDS; b++) {
        for (struct retired *r = made[b], *next = NULL; r != NULL; r = next) {
            next = r->next;
            ring_put(&t->bands[b], (struct page *)(void *)r);
        }
    }
    garbage = grace_collect(&t->grace);
    pthread_mutex_unlock(&t->lock);
    retired_free(t, garbage);
    return ST_OK;
}

/* Appends nodes to a band whose pages are there; at is the count of its nodes before. Recursion: one band up, BANDS at most. */
static void band_append(struct band *band, uint64_t at, const hash_t *nodes, size_t count)
{
    while (count > 0) {
        size_t from = at % PAGE_WIDTH, part = PAGE_WIDTH - from < count ? PAGE_WIDTH - from : count;
        struct page *page = ring_find(band, at / PAGE_WIDTH);
        hash_t root;

        assert(page != NULL);
        page_fill(page->nodes, from, part, nodes);
        if (from + part == PAGE_WIDTH) {
            assert(band->no + 1 < BANDS);
            page_root(page->nodes, &root);
            band_append(band + 1, at / PAGE_WIDTH, &root, 1);
        }
        at += part;
        nodes += part;
        count -= part;
    }
}

enum status tree_append(struct tree *t, const hash_t *leaves, size_t count, struct err *err)
{
    uint64_t size = atomic_load_explicit(&t->size, memory_order_relaxed);
    enum status st = ST_OK;

    if (count > LEAVES_MAX - size)
        return err_set(err, ST_LIMIT, 0, "a tree of more than %llu leaves", (unsigned long long)LEAVES_MAX);
    if (count == 0)
        return ST_OK;
    if ((st = pages_prepare(t, size, size + count, err)) != ST_OK)
        return st;
    band_append(&t->bands[0], size, leaves, count);
    atomic_store_explicit(&t->size, size + count, memory_order_release);
    return ST_OK;
}

void tree_frontier(const struct tree *t, struct frontier *out)
{
    uint64_t size = atomic_load_explicit(&t->size, memory_order_relaxed);

    out->size = size;
    for (uint64_t left = size; left != 0; left &= left - 1) {
        unsigned level = (unsigned)__builtin_ctzll(left), in_band = level % BAND_LEVELS;
        uint64_t index = (size >> level) - 1;
        /* A set bit is a subtree in an incomplete page, and those are never written out. */
        const struct page *page = ring_find(&t->bands[level / BAND_LEVELS], index >> (BAND_LEVELS - in_band));

        assert(page != NULL);
        out->nodes[level] = page->nodes[node_at(in_band, index & ((PAGE_WIDTH >> in_band) - 1))];
    }
}

/* Copies of the incomplete pages that a tree of size leaves has; their nodes beyond it are left out. */
static enum status edges_copy(struct tree *t, uint64_t size, struct page *copies[BANDS], struct err *err)
{
    for (unsigned b = 0; b < BANDS; b++) {
        uint64_t nodes = band_nodes(size, b);
        size_t width = nodes % PAGE_WIDTH;
        const struct page *page = NULL;

        if (width == 0)
            continue;
        page = ring_find(&t->bands[b], nodes / PAGE_WIDTH);
        assert(page != NULL);
        copies[b] = page_new(t, page->no);
        if (copies[b] == NULL)
            return err_set(err, ST_NOMEM, 0, "cutting the tree to %llu leaves", (unsigned long long)size);
        for (unsigned level = 0; level < BAND_LEVELS; level++)
            memcpy(&copies[b]->nodes[node_at(level, 0)], &page->nodes[node_at(level, 0)], (width >> level) * sizeof(hash_t));
    }
    return ST_OK;
}

/* Takes the pages from no first on out of the ring. With the lock held. */
static void ring_cut(struct band *band, uint64_t first, uint64_t end)
{
    struct ring *ring = atomic_load_explicit(&band->ring, memory_order_relaxed);

    for (uint64_t no = first; no < end; no++) {
        struct page *page = ring_find(band, no);

        if (page == NULL)
            continue;
        atomic_store_explicit(&ring->slots[no & ring->mask], NULL, memory_order_release);
        grace_retire(&band->tree->grace, &page->retired);
    }
}

enum status tree_cut(struct tree *t, uint64_t size, struct err *err)
{
    uint64_t before = atomic_load_explicit(&t->size, memory_order_relaxed);
    struct page *copies[BANDS] = {NULL};
    struct retired *garbage = NULL;
    enum status st = ST_OK;

    if (size > before || size < atomic_load(&t->bands[0].disk_pages) * PAGE_WIDTH)
        return err_set(err, ST_INVALID, 0, "a tree of %llu leaves cannot be cut to %llu", (unsigned long long)before, (unsigned long long)size);
    if (size == before)
        return ST_OK;
    if ((st = edges_copy(t, size, copies, err)) != ST_OK)
        goto done;
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->generation, 1);
    atomic_store(&t->size, size);
    for (unsigned b = 0; b < BANDS; b++) {
        ring_cut(&t->bands[b], band_nodes(size, b) / PAGE_WIDTH, pages_begun(before, b));
        if (copies[b] != NULL)
            ring_put(&t->bands[b], copies[b]);
        copies[b] = NULL;
    }
    atomic_fetch_add(&t->generation, 1);
    garbage = grace_collect(&t->grace);
    pthread_mutex_unlock(&t->lock);
    retired_free(t, garbage);
done:
    for (unsigned b = 0; b < BANDS; b++)
        if (copies[b] != NULL)
            retired_free(t, &copies[b]->retired);
    return st;
}
