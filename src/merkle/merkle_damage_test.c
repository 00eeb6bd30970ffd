/* Proves that no damage to the files, no failed write and no lack of memory gives a wrong node.
 *
 * How: every page in turn gets a flipped bit; files are cut at any length, exchanged with another database's, holed by a
 * random power cut; writes and syncs fail at every position; every allocation fails once. Afterwards all proofs must be
 * those of the model, or a status says why there are none. */
#include "base/alloc_failing.h"
#include "merkle/tree_fixture.h"
#include "vfs/vfs_faulty.h"

#define LEAVES 70000
#define PAGES (LEAVES / 256)

static void rewrite(struct vfs *v, const char *path, uint64_t offset, const void *data, size_t len)
{
    struct vfs_file *file = NULL;

    assert_int_equal(v->ops->open(v, path, VFS_WRITE, &file, NULL), ST_OK);
    assert_int_equal(vfs_write_at(file, offset, data, len, NULL), ST_OK);
    assert_int_equal(file->ops->sync(file, NULL), ST_OK);
    file->ops->close(file);
}

static void cut_file(struct vfs *v, const char *path, uint64_t len)
{
    struct vfs_file *file = NULL;

    assert_int_equal(v->ops->open(v, path, VFS_WRITE, &file, NULL), ST_OK);
    assert_int_equal(file->ops->truncate(file, len, NULL), ST_OK);
    file->ops->close(file);
}

/* A tree of LEAVES on disk, closed. */
static struct fixture *on_disk(uint64_t seed)
{
    struct fixture *f = fixture_make(LEAVES, seed);

    fixture_open(f, 0);
    fixture_append(f, LEAVES);
    assert_int_equal(tree_flush(f->tree, LEAVES, true, NULL), ST_OK);
    fixture_close(f);
    fixture_cache_renew(f);
    return f;
}

/* Opens again and appends what the files do not give. */
static void reopen(struct fixture *f)
{
    fixture_open(f, LEAVES);
    f->size = tree_size(f->tree);
    assert_true(f->size <= LEAVES && f->size % 256 == 0);
    assert_int_equal(tree_append(f->tree, f->leaves + f->size, LEAVES - f->size, NULL), ST_OK);
    f->size = LEAVES;
}

static void reclose(struct fixture *f)
{
    fixture_close(f);
    fixture_cache_renew(f);
}

/* A leaf of this page, proven in the whole tree and from the page's own sizes. */
static void page_is_right(struct fixture *f, size_t no, const hash_t *root)
{
    size_t i = no * 256 + 1 + fixture_random(f, 256);
    struct merkle_path p;
    hash_t old;

    assert_int_equal(tree_inclusion(f->tree, i, LEAVES, &p, NULL), ST_OK);
    assert_true(inclusion_verify(p.terms, p.term_count, i, LEAVES, &f->alhs[i - 1], root));
    assert_int_equal(tree_root_at(f->tree, i, &old, NULL), ST_OK);
    assert_int_equal(tree_consistency(f->tree, i, LEAVES, &p, NULL), ST_OK);
    assert_true(consistency_verify(p.terms, p.term_count, i, LEAVES, &old, root));
}

static void every_page_damaged_in_turn(void **state)
{
    struct fixture *f = on_disk(11);
    struct tree_stats s;
    hash_t root;

    (void)state;
    naive_root(f->leaves, LEAVES, &root);
    for (size_t no = 0; no <= PAGES; no++) {
        const char *path = no < PAGES ? "tree/band-0" : "tree/band-1";
        size_t at = no < PAGES ? no : 0;

        assert_int_equal(vfs_memory_flip_bit(f->vfs, path, at * PAGE_BYTES * 8 + fixture_random(f, PAGE_BYTES * 8), NULL), ST_OK);
        reopen(f);
        page_is_right(f, no < PAGES ? no : 3, &root);
        tree_stats(f->tree, &s);
        assert_true(s.pages_rebuilt == 1 || no >= 256); /* above 256: noticed when opening, the tree ended before it */
        assert_int_equal(tree_flush(f->tree, LEAVES, true, NULL), ST_OK);
        reclose(f);
        /* Written back: without the log nothing is missing. */
        f->options.alh_of = NULL;
        reopen(f);
        page_is_right(f, no < PAGES ? no : 3, &root);
        tree_stats(f->tree, &s);
        assert_int_equal(s.pages_rebuilt, 0);
        f->options.alh_of = fixture_alh_of;
        reclose(f);
    }
    fixture_free(f);
}

static void damage_without_a_log_is_said(void **state)
{
    struct fixture *f = on_disk(12);
    struct merkle_path p;
    struct err err = {0};

    (void)state;
    assert_int_equal(vfs_memory_flip_bit(f->vfs, "tree/band-0", 5 * PAGE_BYTES * 8 + 77, NULL), ST_OK);
    f->options.alh_of = NULL;
    reopen(f);
    assert_int_equal(tree_inclusion(f->tree, 5 * 256 + 3, LEAVES, &p, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "page 5 of band 0"));
    assert_int_equal(tree_inclusion(f->tree, 6 * 256 + 3, LEAVES, &p, &err), ST_OK);
    reclose(f);
    fixture_free(f);
}

static void files_cut_at_any_length(void **state)
{
    struct fixture *f = on_disk(13);
    hash_t root;

    (void)state;
    naive_root(f->leaves, LEAVES, &root);
    for (unsigned k = 0; k < 24; k++) {
        uint64_t whole = PAGES * PAGE_BYTES;
        uint64_t len = k == 0 ? 0 : k == 1 ? 1 : k == 2 ? 256 * PAGE_BYTES : k == 3 ? whole - 1 : fixture_random(f, whole);

        cut_file(f->vfs, "tree/band-0", len);
        if (k % 3 == 0)
            cut_file(f->vfs, "tree/band-1", fixture_random(f, PAGE_BYTES));
        reopen(f);
        page_is_right(f, fixture_random(f, PAGES), &root);
        page_is_right(f, 0, &root);
        assert_int_equal(tree_flush(f->tree, LEAVES, true, NULL), ST_OK);
        reclose(f);
    }
    assert_int_equal(f->vfs->ops->unlink(f->vfs, "tree/band-1", NULL), ST_OK);
    reopen(f);
    page_is_right(f, 100, &root);
    assert_int_equal(tree_flush(f->tree, LEAVES, true, NULL), ST_OK);
    reclose(f);
    fixture_free(f);
}

/* Pages in the place of others, and all pages of another database. */
static void foreign_pages_are_not_accepted(void **state)
{
    struct fixture *f = on_disk(14);
    uint8_t *file = NULL;
    size_t len = 0;
    hash_t root;

    (void)state;
    naive_root(f->leaves, LEAVES, &root);
    assert_int_equal(vfs_read_all(f->vfs, "tree/band-0", SIZE_MAX, &file, &len, NULL), ST_OK);
    assert_int_equal(len, PAGES * PAGE_BYTES);
    rewrite(f->vfs, "tree/band-0", 7 * PAGE_BYTES, file + 8 * PAGE_BYTES, PAGE_BYTES);
    rewrite(f->vfs, "tree/band-1", 0, file, PAGE_BYTES);
    reopen(f);
    page_is_right(f, 7, &root);
    page_is_right(f, 8, &root);
    reclose(f);
    rewrite(f->vfs, "tree/band-0", 0, file, len);
    memcpy(f->options.uuid, "another one", 12);
    fixture_open(f, LEAVES);
    assert_int_equal(tree_size(f->tree), 0);
    reclose(f);
    free(file);
    fixture_free(f);
}

/* A failed write or sync at each position: readers are served throughout, the next flush or open mends it. */
static void failing_writes(void **state)
{
    hash_t root;
    bool is_done = false;

    (void)state;
    for (uint64_t n = 1; !is_done; n++) {
        struct fixture *f = fixture_make(LEAVES, 15);
        struct vfs *faulty = vfs_faulty_create(f->vfs);
        enum status st;

        assert_true(n < 100);
        assert_non_null(faulty);
        f->options.vfs = faulty;
        fixture_open(f, 0);
        fixture_append(f, LEAVES);
        naive_root(f->leaves, LEAVES, &root);
        vfs_faulty_arm(faulty, n % 2 == 0 ? FAULT_EIO : FAULT_NO_SPACE, (n + 1) / 2, n);
        st = tree_flush(f->tree, LEAVES, true, NULL);
        is_done = !vfs_faulty_fired(faulty);
        assert_true(st == ST_OK || !is_done);
        assert_true(st != ST_OK || is_done || n % 2 == 1); /* a full disk does not fail a sync */
        page_is_right(f, fixture_random(f, PAGES), &root);
        vfs_faulty_heal(faulty);
        st = tree_flush(f->tree, LEAVES, true, NULL);
        assert_true(st == ST_OK || st == ST_READ_ONLY); /* the latter after a failed sync, for good */
        assert_true(st != ST_OK || tree_flushed(f->tree) == PAGES * 256);
        page_is_right(f, fixture_random(f, PAGES), &root);
        fixture_close(f);
        fixture_cache_renew(f);
        f->options.vfs = f->vfs;
        reopen(f);
        page_is_right(f, fixture_random(f, PAGES), &root);
        reclose(f);
        vfs_faulty_destroy(faulty);
        fixture_free(f);
    }
}

static void power_cuts(void **state)
{
    hash_t root;

    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct fixture *f = fixture_make(LEAVES, 16);
        uint64_t synced;

        fixture_open(f, 0);
        fixture_append(f, LEAVES);
        naive_root(f->leaves, LEAVES, &root);
        assert_int_equal(f->vfs->ops->sync_dir(f->vfs, ".", NULL), ST_OK);
        f->random += seed * 0x9e3779b97f4a7c15u;
        assert_int_equal(tree_flush(f->tree, fixture_random(f, LEAVES), true, NULL), ST_OK);
        synced = tree_flushed(f->tree);
        assert_int_equal(tree_flush(f->tree, LEAVES, false, NULL), ST_OK);
        fixture_close(f);
        vfs_memory_power_cut(f->vfs, POWER_CUT_RANDOM, seed);
        fixture_cache_renew(f);
        fixture_open(f, LEAVES);
        assert_true(tree_size(f->tree) >= synced);
        reclose(f);
        reopen(f);
        for (unsigned k = 0; k < 10; k++)
            page_is_right(f, fixture_random(f, PAGES), &root);
        assert_int_equal(tree_flush(f->tree, LEAVES, true, NULL), ST_OK);
        reclose(f);
        fixture_free(f);
    }
}

/* One round of everything; what fails must say ST_NOMEM and leave the tree as it was. */
static bool life_with_failures(struct fixture *f, const hash_t *root)
{
    struct merkle_path p;
    struct err err = {0};
    enum status st = tree_open(&f->options, 0, &f->tree, &err);
    size_t size = 0;
    hash_t got;

    if (st != ST_OK)
        goto failed;
    for (; size < 1000 && st == ST_OK; size += st == ST_OK ? 250 : 0) {
        st = tree_append(f->tree, f->leaves + size, 250, &err);
        f->size = tree_size(f->tree);
        assert_int_equal(f->size, st == ST_OK ? size + 250 : size);
    }
    if (st == ST_OK)
        st = tree_flush(f->tree, 600, true, &err);
    if (st == ST_OK)
        st = tree_cut(f->tree, 700, &err);
    if (st == ST_OK)
        st = tree_append(f->tree, f->leaves + 700, 300, &err);
    if (st == ST_OK)
        st = tree_inclusion(f->tree, 77, 1000, &p, &err);
    if (st != ST_OK)
        goto failed;
    assert_true(inclusion_verify(p.terms, p.term_count, 77, 1000, &f->alhs[76], root));
    fixture_close(f);
    cache_drop(f->cache, 0, 0);
    st = tree_open(&f->options, 512, &f->tree, &err);
    if (st == ST_OK && (st = tree_root_at(f->tree, tree_size(f->tree), &got, &err)) == ST_OK)
        assert_int_equal(tree_size(f->tree), 512);
    if (st == ST_OK)
        return true;
failed:
    if (st != ST_NOMEM)
        fail_msg("status %d: %s", (int)st, err.text);
    return false;
}

static void every_allocation_fails_once(void **state)
{
    bool is_done = false;
    hash_t root;

    (void)state;
    for (long n = 1; !is_done; n++) {
        struct fixture *f = fixture_make(1000, 17);

        assert_true(n < 2000);
        fixture_leaves(f, 0, 1000);
        naive_root(f->leaves, 1000, &root);
        alloc_fail_arm(n, false);
        is_done = life_with_failures(f, &root);
        is_done = !alloc_fail_disarm() && is_done;
        fixture_free(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_damaged_in_turn),
        cmocka_unit_test(damage_without_a_log_is_said),
        cmocka_unit_test(files_cut_at_any_length),
        cmocka_unit_test(foreign_pages_are_not_accepted),
        cmocka_unit_test(failing_writes),
        cmocka_unit_test(power_cuts),
        cmocka_unit_test(every_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
