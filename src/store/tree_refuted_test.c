/* Proves that a rebuilt tree which contradicts the log never counts as good.
 *
 * A log that contradicts itself: from some tx on its headers name roots of a tree with one other leaf. The tree is lost, the rebuild is refuted: the
 * database is read-only by a named error and gives no proof. So it is at each further opening, in haste or not, with the pages that the rebuild had
 * written before and without. Pages that are wrong while the log is right are replaced, before a writer is let in. */
#include "store/tree_lag_fixture.h"

#define REFUTED "another root than the log went on with"

/* Txs behind the first `right` name roots of a tree that has one leaf changed: no tree that is made from the log can have them. */
static void fill_contradicting(struct world *w, uint64_t right, uint64_t txs)
{
    struct err err;

    fill(w, right);
    w->store->c.frontier.nodes[__builtin_ctzll(w->store->c.frontier.size)].b[0] ^= 1;
    frontier_root(&w->store->c.frontier, &w->store->c.root);
    fill(w, txs - right);
    OK(store_flush_index(w->store, &err));
}

static void check_refuted(struct world *w, uint64_t last)
{
    struct store_draft *d = NULL;
    struct store_health health;
    struct store_state state;
    struct store_result r;
    struct dual_proof p;
    struct arena arena;
    struct err err;

    OK(store_wait_tree(w->store, UINT64_MAX, 0, &err));
    store_health(w->store, &health);
    assert_int_equal(health.kind, STORE_READ_ONLY_DAMAGED);
    if (strstr(health.text, REFUTED) == NULL)
        fail_msg("%s", health.text);
    store_get_state(w->store, &state);
    assert_int_equal(state.tx_id, last);
    arena_init(&arena, 4096, 0);
    assert_int_equal(store_dual_proof(w->store, 1, last, &arena, &p, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, REFUTED));
    arena_free(&arena);
    OK(draft_create(w->store, &d, &err));
    OK(draft_set(d, bytes_of("\0k", 2), NULL, bytes_str("v"), &err));
    assert_int_equal(store_commit(w->store, d, false, &r, &err), ST_READ_ONLY);
    assert_non_null(strstr(err.text, REFUTED));
}

static uint64_t pages_on_disk(struct world *w)
{
    struct vfs_file *f = NULL;
    uint64_t len = 0;
    struct err err;

    if (w->disk->ops->open(w->disk, "db/tree/band-0", VFS_READ, &f, &err) != ST_OK)
        return 0;
    OK(f->ops->length(f, &len, &err));
    f->ops->close(f);
    return len / 8720;
}

/* Opened three times: with what the disk has, in haste, and with time. */
static void check_refuted_ever_after(struct world *w, uint64_t last)
{
    for (int i = 0; i < 3; i++) {
        i == 1 ? opened_in_haste(w) : opened(w);
        check_refuted(w, last);
        store_close(w->store);
        w->store = NULL;
    }
}

/* The pages that the rebuild writes before it is refuted (FLUSH_TXS) reach beyond what contradicts. */
static void refuted_after_pages_were_written(void **state)
{
    enum { TXS = 80000, RIGHT = 20000 };
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill_contradicting(&w, RIGHT, TXS);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    opened_in_haste(&w);
    check_refuted(&w, TXS);
    store_close(w.store);
    assert_true(pages_on_disk(&w) * 256 > RIGHT);
    check_refuted_ever_after(&w, TXS);
    /* Without those pages it is no different. */
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    check_refuted_ever_after(&w, TXS);
    world_end(&w);
}

/* Pages that end before the first root that contradicts are confirmed; the rest is refuted while opening, or in the background. */
static void refuted_behind_the_pages(void **state)
{
    enum { TXS = 20000, RIGHT = 12000, WRITTEN = 10240 };
    struct vfs_file *f = NULL;
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill_contradicting(&w, RIGHT, TXS);
    store_close(w.store);
    OK(w.disk->ops->open(w.disk, "db/tree/band-0", VFS_WRITE, &f, &err));
    OK(f->ops->truncate(f, WRITTEN / 256 * 8720, &err));
    f->ops->close(f);
    background_stop(&w);
    opened_in_haste(&w);
    assert_true(tree_is_rebuilding(w.store));
    background_go(&w);
    check_refuted(&w, TXS);
    store_close(w.store);
    assert_int_equal(pages_on_disk(&w), WRITTEN / 256);
    check_refuted_ever_after(&w, TXS);
    world_end(&w);
}

/* The pages are well-formed, but of other leaves: the log is right, so they go. */
static void pages_of_other_leaves(void **state)
{
    enum { TXS = 20000, WRITTEN = 10240 };
    struct tree_options o = {.dir = "db/tree"};
    struct tree *wrong = NULL;
    hash_t leaf = {{0}};
    struct world w;
    struct err err;

    (void)state;
    world_begin(&w);
    opened(&w);
    fill(&w, TXS);
    OK(store_flush_index(w.store, &err));
    memcpy(o.uuid, store_uuid(w.store), sizeof o.uuid);
    store_close(w.store);
    OK(vfs_remove_tree(w.disk, "db/tree", &err));
    o.vfs = w.disk;
    o.cache = w.runtime->cache;
    OK(tree_open(&o, 0, &wrong, &err));
    for (unsigned i = 0; i < WRITTEN; i++) {
        store_u64be(leaf.b, i);
        OK(tree_append(wrong, &leaf, 1, &err));
    }
    OK(tree_flush(wrong, WRITTEN, true, &err));
    tree_close(wrong);
    /* Nobody can tell yet which of the two is wrong: no writer is let in before that is known. */
    opened_in_haste(&w);
    assert_false(tree_is_rebuilding(w.store));
    assert_int_equal(tree_size(w.store->tree), TXS);
    check_whole(&w);
    check_proof(&w, 1);
    OK(store_flush_index(w.store, &err));
    store_close(w.store);
    opened(&w);
    assert_int_equal(tree_flushed(w.store->tree), TXS / 256 * 256);
    check_whole(&w);
    check_proof(&w, 1);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuted_after_pages_were_written),
        cmocka_unit_test(refuted_behind_the_pages),
        cmocka_unit_test(pages_of_other_leaves),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
