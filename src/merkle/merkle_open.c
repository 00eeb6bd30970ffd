/* What a tree finds on disk: how many leaves its files hold, and the incomplete pages above them.
 *
 * Band 0's file tells the size, a multiple of 256. The incomplete page of each higher band is made again from the roots of
 * the complete pages below it (at most 255 page reads for a band). A page that does not read well there: from the pages one band
 * below; at band 0 the tree ends before it, and the owner appends from the log again. All other pages are checked when they
 * are first used. Nothing is written here: a database that opens read-only leaves its files untouched. */
#include "merkle/merkle_internal.h"

#include <stdlib.h>

struct load {
    struct tree *tree;
    uint64_t size;
    uint64_t bad_leaf; /* set with ST_CORRUPT: first leaf (from 0) of the damaged page */
    uint8_t data[PAGE_BYTES];
};

/* Around the cache: pages that turn out not to be used must not be found there later. */
static enum status page_read(struct load *l, unsigned band, uint64_t no, struct err *err)
{
    struct tree *t = l->tree;
    enum status st = cache_file_read(t->cache, atomic_load(&t->bands[band].file), no * PAGE_BYTES, l->data, PAGE_BYTES, err);

    return st == ST_OK ? page_check(l->data, PAGE_BYTES, t->seed, band, no, err) : st;
}

static bool is_damage(enum status st) { return st == ST_CORRUPT || st == ST_NOT_FOUND || st == ST_IO; }

static enum status root_load(struct load *l, unsigned band, uint64_t no, hash_t *root, struct err *err);

/* Recursion: one band down, BANDS at most. */
static enum status root_rebuild(struct load *l, unsigned band, uint64_t no, hash_t *root, struct err *err)
{
    struct work {
        hash_t lowest[PAGE_WIDTH];
        hash_t nodes[PAGE_NODES];
        uint8_t stored[PAGE_BYTES];
    } *work = malloc(sizeof *work);
    enum status st = ST_OK;

    if (work == NULL)
        return err_set(err, ST_NOMEM, 0, "rebuilding a tree page");
    for (size_t i = 0; i < PAGE_WIDTH && st == ST_OK; i++)
        st = root_load(l, band - 1, no * PAGE_WIDTH + i, &work->lowest[i], err);
    if (st == ST_OK) {
        page_fill(work->nodes, 0, PAGE_WIDTH, work->lowest);
        page_root(work->nodes, root);
        page_encode(work->nodes, l->tree->seed, band, no, work->stored);
        repair_keep(l->tree, band, no, work->stored);
        atomic_fetch_add(&l->tree->pages_rebuilt, 1);
    }
    free(work);
    return st;
}

static enum status root_load(struct load *l, unsigned band, uint64_t no, hash_t *root, struct err *err)
{
    enum status st = page_read(l, band, no, err);

    if (st == ST_OK) {
        stored_root(l->data, root);
        return ST_OK;
    }
    if (!is_damage(st))
        return st;
    if (band > 0)
        return root_rebuild(l, band, no, root, err);
    l->bad_leaf = no * PAGE_WIDTH;
    return ST_CORRUPT;
}

/* The incomplete page of a band, for l->size leaves. */
static enum status edge_load(struct load *l, unsigned band, struct err *err)
{
    struct band *b = &l->tree->bands[band];
    uint64_t nodes = band_nodes(l->size, band), no = nodes / PAGE_WIDTH;
    struct page *page = NULL;
    enum status st = ST_OK;

    if (nodes % PAGE_WIDTH == 0)
        return ST_OK;
    if ((st = ring_make_room(b, no + 1, err)) != ST_OK)
        return st;
    page = page_new(l->tree, no);
    if (page == NULL)
        return err_set(err, ST_NOMEM, 0, "loading tree pages");
    for (size_t i = 0; i < nodes % PAGE_WIDTH && st == ST_OK; i++) {
        hash_t root;

        st = root_load(l, band - 1, no * PAGE_WIDTH + i, &root, err);
        if (st == ST_OK)
            page_fill(page->nodes, i, 1, &root);
    }
    if (st == ST_OK)
        ring_put(b, page);
    else
        retired_free(l->tree, &page->retired);
    return st;
}

static void edges_drop(struct tree *t)
{
    for (unsigned b = 0; b < BANDS; b++) {
        struct ring *ring = atomic_load(&t->bands[b].ring);

        for (uint64_t i = 0; ring != NULL && i <= ring->mask; i++) {
            struct page *page = atomic_exchange(&ring->slots[i], NULL);

            if (page != NULL)
                retired_free(t, &page->retired);
        }
    }
}

/* From the top band down, which is from the oldest leaves to the newest: before the first damaged page all is well. */
static enum status edges_load(struct load *l, struct err *err)
{
    struct tree *t = l->tree;
    enum status st = ST_OK;

    for (unsigned b = 0; b < BANDS && st == ST_OK; b++) {
        atomic_store(&t->bands[b].disk_pages, pages_complete(l->size, b));
        if (pages_complete(l->size, b) > 0)
            st = band_file_register(&t->bands[b], err);
    }
    for (unsigned b = BANDS - 1; b > 0 && st == ST_OK; b--)
        st = edge_load(l, b, err);
    return st;
}

static enum status size_on_disk(struct tree *t, uint64_t size_max, uint64_t *out, struct err *err)
{
    uint64_t len = 0;
    enum status st = band_file_register(&t->bands[0], err);

    *out = 0;
    if (st != ST_OK)
        return st;
    st = cache_file_length(t->cache, atomic_load(&t->bands[0].file), &len, err);
    if (st == ST_NOT_FOUND)
        return ST_OK;
    *out = len / PAGE_BYTES < size_max / PAGE_WIDTH ? len / PAGE_BYTES * PAGE_WIDTH : size_max / PAGE_WIDTH * PAGE_WIDTH;
    return st;
}

enum status tree_load(struct tree *t, uint64_t size_max, struct err *err)
{
    struct load *l = calloc(1, sizeof *l);
    enum status st = ST_OK;

    if (l == NULL)
        return err_set(err, ST_NOMEM, 0, "loading tree pages");
    l->tree = t;
    if ((st = size_on_disk(t, size_max, &l->size, err)) != ST_OK)
        goto done;
    /* Each round ends before a page that is damaged, so the rounds come to an end. */
    while ((st = edges_load(l, err)) == ST_CORRUPT) {
        edges_drop(t);
        l->size = l->bad_leaf;
    }
    if (st != ST_OK)
        goto done;
    for (unsigned b = 0; b < BANDS; b++)
        t->bands[b].is_dirty = t->bands[b].is_name_dirty = atomic_load(&t->bands[b].disk_pages) > 0;
    atomic_store(&t->flushed, l->size);
    atomic_store(&t->size, l->size);
done:
    free(l);
    return st;
}
