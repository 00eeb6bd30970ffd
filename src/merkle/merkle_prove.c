/* Roots and proofs of any past size, node by node.
 *
 * The tree of size j has complete nodes and, at its right end, one ragged one per level at most: the fold of the complete
 * nodes that the bits of its leaf count name, the largest on the left. A proof asks for complete siblings and at most one
 * ragged one, from the leaf upwards, so it passes each band's pages once and a few views are enough. */
#include "merkle/merkle_internal.h"

#include <assert.h>

/* A cut that falls into a proof makes it start again; more often than this it gives up. */
#define ATTEMPTS_MAX 1000

/* A walk goes along two paths through the pages: up from a leaf, and up the right edge of the tree of the size asked for. */
enum side { SIDE_PATH = 0, SIDE_EDGE = 1 };

struct walk {
    struct tree *tree;
    uint64_t generation;
    struct page_view views[2][BANDS]; /* by side: the page used last in each band */
};

/* The hashes that a path through a stored page needs: 16 of its lowest level around the leaf, and all 16 of the middle one.
 * Asked for together they come in the time of one. */
static void stored_prefetch(const uint8_t *data, unsigned in_band, size_t at)
{
    size_t lowest = ((at << in_band) & ~(size_t)15) * HASH_LEN;

    for (size_t i = 0; i < 16 * HASH_LEN; i += 64) {
        __builtin_prefetch(data + lowest + i);
        __builtin_prefetch(data + PAGE_MID_OFFSET + i);
    }
}

/* The view of the page that holds node (level, index). */
static enum status view_get(struct walk *w, enum side side, unsigned level, uint64_t index, struct page_view **out, struct err *err)
{
    unsigned band = level / BAND_LEVELS, in_band = level % BAND_LEVELS;
    uint64_t no = index >> (BAND_LEVELS - in_band);
    struct page_view *view = &w->views[side][band];
    enum status st = ST_OK;

    *out = view;
    if (view->is_valid && view->no == no)
        return ST_OK;
    view_close(w->tree, view);
    if ((st = view_open(w->tree, band, no, view, err)) != ST_OK)
        return st;
    /* A page that a cut has put in the place of another is being filled anew: not to be looked at. Seen after the page was
     * found, an unchanged generation means that it was found before the cut. */
    if (atomic_load(&w->tree->generation) != w->generation)
        return err_set(err, ST_BUSY, 0, "the tree was cut");
    if (view->stored != NULL)
        stored_prefetch(view->stored, in_band, index & ((PAGE_WIDTH >> in_band) - 1));
    return ST_OK;
}

static enum status node_get(struct walk *w, enum side side, unsigned level, uint64_t index, hash_t *out, struct err *err)
{
    unsigned in_band = level % BAND_LEVELS;
    size_t at = index & ((PAGE_WIDTH >> in_band) - 1);
    struct page_view *view = NULL;
    enum status st = view_get(w, side, level, index, &view, err);

    if (st != ST_OK)
        return st;
    if (view->nodes != NULL)
        *out = view->nodes[node_at(in_band, at)];
    else
        stored_node(view->stored, in_band, at, out);
    return ST_OK;
}

/* Root over count >= 1 leaves from start on, where start is a multiple of a power of two that is at least count. */
static enum status fold(struct walk *w, uint64_t start, uint64_t count, hash_t *out, struct err *err)
{
    enum status st = ST_OK;
    bool is_begun = false;

    assert(count > 0);
    for (uint64_t left = count; left != 0 && st == ST_OK; left &= left - 1) {
        unsigned level = (unsigned)__builtin_ctzll(left);
        hash_t node;

        st = node_get(w, SIDE_EDGE, level, (start >> level) + (count >> level) - 1, &node, err);
        if (st != ST_OK)
            break;
        if (is_begun)
            sha256_node(&node, out, out);
        else
            *out = node;
        is_begun = true;
    }
    return st;
}

/* Appends the siblings of node (level, index) up to the root of the tree of size j. */
static enum status path_append(struct walk *w, unsigned level, uint64_t index, uint64_t j, struct merkle_path *out, struct err *err)
{
    enum status st = ST_OK;

    /* The ragged sibling comes late but its lowest page is known now: it travels to the CPU while the path is hashed. */
    if (j % PAGE_WIDTH != 0 && (index << level) / PAGE_WIDTH != (j - 1) / PAGE_WIDTH) {
        struct page_view *view = NULL;

        st = view_get(w, SIDE_EDGE, 0, j - 1, &view, err);
    }
    for (uint64_t last = (j - 1) >> level; last > 0 && st == ST_OK; level++, index >>= 1, last >>= 1) {
        uint64_t sibling = index ^ 1;

        if (sibling > last)
            continue;
        assert(out->term_count < MERKLE_TERMS_MAX);
        if (sibling < last)
            st = node_get(w, SIDE_PATH, level, sibling, &out->terms[out->term_count], err);
        else
            st = fold(w, sibling << level, j - (sibling << level), &out->terms[out->term_count], err);
        out->term_count++;
    }
    return st;
}

static enum status consistency_walk(struct walk *w, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    unsigned level = (unsigned)__builtin_ctzll(i);
    enum status st = ST_OK;

    if (j == 1)
        return ST_OK;
    if (i == j) { /* the two children of the root, the right one first */
        level = 63 - (unsigned)__builtin_clzll(j - 1);
        st = fold(w, (uint64_t)1 << level, j - ((uint64_t)1 << level), &out->terms[0], err);
        if (st == ST_OK)
            st = node_get(w, SIDE_PATH, level, 0, &out->terms[1], err);
        out->term_count = 2;
        return st;
    }
    /* The last complete subtree of the old tree, and its path in the new one. */
    st = node_get(w, SIDE_PATH, level, (i >> level) - 1, &out->terms[0], err);
    out->term_count = 1;
    return st == ST_OK ? path_append(w, level, (i >> level) - 1, j, out, err) : st;
}

enum question { ASK_ROOT, ASK_LEAF, ASK_INCLUSION, ASK_CONSISTENCY };
struct query {
    enum question question;
    uint64_t i, j;
    hash_t *hash;
    struct merkle_path *path;
};

static enum status query_walk(struct tree *t, uint64_t generation, const struct query *q, struct err *err)
{
    struct walk w = {.tree = t, .generation = generation};
    enum status st = ST_OK;

    switch (q->question) {
    case ASK_ROOT:
        st = fold(&w, 0, q->j, q->hash, err);
        break;
    case ASK_LEAF:
        st = node_get(&w, SIDE_PATH, 0, q->j - 1, q->hash, err);
        break;
    case ASK_INCLUSION:
        q->path->term_count = 0;
        st = path_append(&w, 0, q->i - 1, q->j, q->path, err);
        break;
    case ASK_CONSISTENCY:
        q->path->term_count = 0;
        st = consistency_walk(&w, q->i, q->j, q->path, err);
        break;
    }
    for (unsigned b = 0; b < BANDS; b++) {
        view_close(t, &w.views[SIDE_PATH][b]);
        view_close(t, &w.views[SIDE_EDGE][b]);
    }
    return st;
}

/* The generation to work in; waits for a cut that is under way (a few pointer moves). */
static uint64_t generation_now(struct tree *t)
{
    uint64_t generation = atomic_load(&t->generation);

    if (generation % 2 == 1) {
        pthread_mutex_lock(&t->lock);
        generation = atomic_load(&t->generation);
        pthread_mutex_unlock(&t->lock);
    }
    return generation;
}

static enum status query_run(struct tree *t, const struct query *q, struct err *err)
{
    for (unsigned attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        uint64_t generation = generation_now(t), size = tree_size(t);
        struct grace_ticket ticket;
        enum status st = ST_OK;

        if (q->i > q->j || q->j > size)
            return err_set(err, ST_INVALID, 0, "leaves %llu and %llu in a tree of %llu", (unsigned long long)q->i, (unsigned long long)q->j,
                           (unsigned long long)size);
        ticket = grace_enter(&t->grace);
        st = query_walk(t, generation, q, err);
        grace_leave(&t->grace, ticket);
        if (atomic_load(&t->generation) == generation)
            return st;
    }
    return err_set(err, ST_BUSY, 0, "the tree was cut again and again");
}

enum status tree_root_at(struct tree *t, uint64_t n, hash_t *root, struct err *err)
{
    *root = HASH_ZERO;
    return n == 0 ? ST_OK : query_run(t, &(struct query){ASK_ROOT, n, n, root, NULL}, err);
}

enum status tree_leaf(struct tree *t, uint64_t i, hash_t *leaf, struct err *err)
{
    *leaf = HASH_ZERO;
    if (i == 0)
        return err_set(err, ST_INVALID, 0, "leaves are counted from 1");
    return query_run(t, &(struct query){ASK_LEAF, i, i, leaf, NULL}, err);
}

enum status tree_inclusion(struct tree *t, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    out->term_count = 0;
    if (i == 0)
        return err_set(err, ST_INVALID, 0, "leaves are counted from 1");
    return query_run(t, &(struct query){ASK_INCLUSION, i, j, NULL, out}, err);
}

enum status tree_consistency(struct tree *t, uint64_t i, uint64_t j, struct merkle_path *out, struct err *err)
{
    out->term_count = 0;
    if (i == 0)
        return err_set(err, ST_INVALID, 0, "sizes are counted from 1");
    return query_run(t, &(struct query){ASK_CONSISTENCY, i, j, NULL, out}, err);
}
