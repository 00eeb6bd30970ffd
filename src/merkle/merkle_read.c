/* How a reader comes to a page: memory, cache, file, or rebuilding it. */
#include "merkle/merkle_internal.h"

#include <stdlib.h>

static uint64_t expanded_key(unsigned band, uint64_t no) { return (uint64_t)band << 56 | no; }

static void view_of_block(struct page_view *view, uint64_t no, const struct cache_block *block, bool is_expanded)
{
    *view = (struct page_view){.is_valid = true, .is_pinned = true, .no = no, .block = *block};
    if (is_expanded)
        view->nodes = (const hash_t *)(const void *)block->data;
    else
        view->stored = block->data;
}

void view_close(struct tree *t, struct page_view *view)
{
    if (view->is_valid && view->is_pinned)
        cache_unpin(t->cache, &view->block);
    view->is_valid = false;
}

void view_root(const struct page_view *view, hash_t *root)
{
    if (view->nodes != NULL)
        page_root(view->nodes, root);
    else
        stored_root(view->stored, root);
}

void repair_keep(struct tree *t, unsigned band, uint64_t no, const uint8_t data[PAGE_BYTES])
{
    struct repair *fresh = malloc(sizeof *fresh);
    bool is_wanted = fresh != NULL;

    if (fresh == NULL)
        return;
    *fresh = (struct repair){.band = band, .no = no};
    memcpy(fresh->data, data, PAGE_BYTES);
    pthread_mutex_lock(&t->lock);
    for (const struct repair *r = t->repairs; r != NULL && is_wanted; r = r->next)
        is_wanted = r->band != band || r->no != no;
    if (is_wanted && t->repair_count < REPAIRS_MAX) {
        fresh->next = t->repairs;
        t->repairs = fresh;
        t->repair_count++;
        tree_account(t, sizeof *fresh);
        fresh = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    free(fresh);
}

/* The leaf hashes of a band 0 page, from the log. */
static enum status leaves_ask(struct tree *t, uint64_t no, hash_t leaves[PAGE_WIDTH], const struct err *cause, struct err *err)
{
    enum status st = ST_OK;

    if (t->alh_of == NULL)
        return err_set(err, ST_CORRUPT, 0, "%s", cause->text);
    for (size_t i = 0; i < PAGE_WIDTH && st == ST_OK; i++) {
        st = t->alh_of(t->ctx, no * PAGE_WIDTH + i + 1, &leaves[i], err);
        if (st == ST_OK)
            sha256_leaf(&leaves[i], &leaves[i]);
    }
    return st;
}

/* The lowest nodes of a page of a higher band: the roots of 256 pages of the band below. */
static enum status roots_ask(struct tree *t, unsigned band, uint64_t no, hash_t roots[PAGE_WIDTH], struct err *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < PAGE_WIDTH && st == ST_OK; i++) {
        struct page_view view = {0};

        st = view_open(t, band - 1, no * PAGE_WIDTH + i, &view, err);
        if (st == ST_OK)
            view_root(&view, &roots[i]);
        view_close(t, &view);
    }
    return st;
}

/* A page that the file cannot give. cause says why. Recursion through roots_ask: one band down, BANDS at most. */
static enum status page_rebuild(struct tree *t, unsigned band, uint64_t no, const struct err *cause, struct page_view *view, struct err *err)
{
    struct work {
        hash_t lowest[PAGE_WIDTH];
        hash_t nodes[PAGE_NODES];
        uint8_t stored[PAGE_BYTES];
    } *work = malloc(sizeof *work);
    struct cache_block block;
    enum status st = ST_OK;

    if (work == NULL)
        return err_set(err, ST_NOMEM, 0, "rebuilding a tree page");
    st = band == 0 ? leaves_ask(t, no, work->lowest, cause, err) : roots_ask(t, band, no, work->lowest, err);
    if (st != ST_OK) {
        st = err_while(err, st, "rebuilding page %llu of band %u", (unsigned long long)no, band);
        goto done;
    }
    page_fill(work->nodes, 0, PAGE_WIDTH, work->lowest);
    page_encode(work->nodes, t->seed, band, no, work->stored);
    repair_keep(t, band, no, work->stored);
    atomic_fetch_add(&t->pages_rebuilt, 1);
    if (cache_put(t->cache, cache_file_id(atomic_load(&t->bands[band].file)), no * PAGE_BYTES, work->stored, PAGE_BYTES, &block))
        view_of_block(view, no, &block, false);
    else
        st = err_set(err, ST_NOMEM, 0, "keeping a rebuilt tree page");
done:
    free(work);
    return st;
}

static enum status block_check(void *ctx, uint64_t offset, const uint8_t *data, size_t len, struct err *err)
{
    const struct band *band = ctx;

    return page_check(data, len, band->tree->seed, band->no, offset / PAGE_BYTES, err);
}

/* Pages above band 0 are few and every proof passes through them: they are kept with all their nodes. */
static void view_expand(struct tree *t, unsigned band, struct page_view *view)
{
    hash_t nodes[PAGE_NODES];
    struct cache_block block;

    stored_expand(view->stored, nodes);
    if (!cache_put(t->cache, t->expanded_id, expanded_key(band, view->no), nodes, sizeof nodes, &block))
        return; /* the stored form serves as well */
    cache_unpin(t->cache, &view->block);
    view_of_block(view, view->no, &block, true);
}

static enum status view_from_disk(struct tree *t, unsigned band, uint64_t no, struct page_view *view, struct err *err)
{
    struct cache_block block;
    struct err cause = {0};
    struct band *b = &t->bands[band];
    enum status st = ST_OK;

    if (band > 0 && cache_lookup(t->cache, t->expanded_id, expanded_key(band, no), &block)) {
        view_of_block(view, no, &block, true);
        return ST_OK;
    }
    st = cache_get(t->cache, atomic_load_explicit(&b->file, memory_order_acquire), no * PAGE_BYTES, PAGE_BYTES, false, block_check, b, &block,
                   &cause);
    if (st == ST_OK)
        view_of_block(view, no, &block, false);
    else if (st == ST_CORRUPT || st == ST_NOT_FOUND || st == ST_IO)
        st = page_rebuild(t, band, no, &cause, view, err);
    else
        return err_set(err, st, cause.os_errno, "%s", cause.text);
    if (st == ST_OK && band > 0)
        view_expand(t, band, view);
    return st;
}

enum status view_open(struct tree *t, unsigned band, uint64_t no, struct page_view *view, struct err *err)
{
    const struct page *page = ring_find(&t->bands[band], no);

    if (page != NULL) {
        *view = (struct page_view){.is_valid = true, .no = no, .nodes = page->nodes};
        return ST_OK;
    }
    *view = (struct page_view){0};
    /* Looked at after the ring: flush raises it before it takes a page out. */
    if (no >= atomic_load_explicit(&t->bands[band].disk_pages, memory_order_acquire))
        return err_set(err, ST_INVALID, 0, "page %llu of band %u was cut away", (unsigned long long)no, band);
    return view_from_disk(t, band, no, view, err);
}
