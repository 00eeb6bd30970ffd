/* Proves that struct tree gives the nodes of the definition at any past size, whatever lies in memory, cache or files.
 *
 * How: all sizes to 600 against a naive tree (every root; inclusion and consistency for all pairs to 70, a sample beyond),
 * sizes around the band boundary at 65,536 leaves, and random sequences of append, flush, cut and reopen against a model. */
#include "merkle/tree_fixture.h"

static void small_sizes(void **state)
{
    struct fixture *f = fixture_make(600, 1);

    (void)state;
    fixture_open(f, 0);
    assert_int_equal(tree_size(f->tree), 0);
    fixture_root_check(f, 0);
    while (f->size < 600) {
        size_t before = f->size, left = 600 - before, batch = 1 + fixture_random(f, 40);

        fixture_append(f, batch < left ? batch : left);
        if (fixture_random(f, 4) == 0)
            assert_int_equal(tree_flush(f->tree, f->size, false, NULL), ST_OK);
        for (size_t n = before + 1; n <= f->size; n++) {
            fixture_root_check(f, n);
            fixture_pair_check(f, n, n);
        }
    }
    for (size_t n = 0; n <= 600; n++)
        fixture_root_check(f, n);
    for (size_t j = 1; j <= 70; j++)
        for (size_t i = 1; i <= j; i++)
            fixture_pair_check(f, i, j);
    for (unsigned k = 0; k < 1500; k++) {
        size_t j = 1 + fixture_random(f, 600);

        fixture_pair_check(f, 1 + fixture_random(f, j), j);
    }
    fixture_sample_check(f, 50);
    fixture_free(f);
}

static void out_of_range(void **state)
{
    struct fixture *f = fixture_make(10, 2);
    struct merkle_path p;
    hash_t h;

    (void)state;
    fixture_open(f, 0);
    fixture_append(f, 5);
    assert_int_equal(tree_append(f->tree, NULL, 0, NULL), ST_OK);
    assert_int_equal(tree_root_at(f->tree, 6, &h, NULL), ST_INVALID);
    assert_int_equal(tree_leaf(f->tree, 0, &h, NULL), ST_INVALID);
    assert_int_equal(tree_leaf(f->tree, 6, &h, NULL), ST_INVALID);
    assert_int_equal(tree_inclusion(f->tree, 0, 3, &p, NULL), ST_INVALID);
    assert_int_equal(tree_inclusion(f->tree, 4, 3, &p, NULL), ST_INVALID);
    assert_int_equal(tree_inclusion(f->tree, 3, 6, &p, NULL), ST_INVALID);
    assert_int_equal(tree_consistency(f->tree, 0, 3, &p, NULL), ST_INVALID);
    assert_int_equal(tree_consistency(f->tree, 3, 6, &p, NULL), ST_INVALID);
    assert_int_equal(tree_cut(f->tree, 6, NULL), ST_INVALID);
    assert_int_equal(tree_append(f->tree, NULL, SIZE_MAX, NULL), ST_LIMIT);
    assert_int_equal(tree_size(f->tree), 5);
    fixture_free(f);
}

/* Around 65,536 leaves the second band's first page completes; in memory, just written, and cold from the file. */
static void band_boundary(void **state)
{
    static const size_t near[] = {65279, 65280, 65281, 65535, 65536, 65537, 65791, 65792, 65793, 66048, 70000};
    struct fixture *f = fixture_make(70000, 3);

    (void)state;
    fixture_open(f, 0);
    fixture_append(f, 65000);
    fixture_append(f, 1000);
    fixture_append(f, 4000);
    for (unsigned phase = 0; phase < 3; phase++) {
        for (size_t a = 0; a < sizeof near / sizeof near[0]; a++) {
            fixture_root_check(f, near[a]);
            fixture_pair_check(f, 1 + fixture_random(f, near[a]), near[a]);
            for (size_t b = a < 2 ? 0 : a - 2; b <= a && phase == 0; b++)
                fixture_pair_check(f, near[b], near[a]);
        }
        fixture_sample_check(f, 200);
        if (phase == 0) {
            assert_int_equal(tree_flush(f->tree, f->size, true, NULL), ST_OK);
            assert_int_equal(tree_flushed(f->tree), 70000 / 256 * 256);
        } else if (phase == 1) {
            size_t size = f->size;

            fixture_close(f);
            fixture_cache_renew(f);
            fixture_open(f, f->size);
            f->size = tree_size(f->tree);
            assert_int_equal(f->size, 70000 / 256 * 256);
            fixture_append(f, size - f->size);
            assert_int_equal(f->alh_calls, 0); /* nothing had to be rebuilt */
        }
    }
    fixture_free(f);
}

static void stats_tell_what_is_where(void **state)
{
    struct fixture *f = fixture_make(70000, 4);
    struct tree_stats s;
    size_t memory;

    (void)state;
    fixture_open(f, 0);
    fixture_append(f, 70000);
    tree_stats(f->tree, &s);
    assert_int_equal(s.pages_on_disk, 0);
    memory = s.memory_bytes;
    assert_true(memory > 270 * sizeof(struct page));
    assert_int_equal(budget_used(&f->budget, BUDGET_TREE), memory);
    assert_int_equal(tree_flush(f->tree, 300, false, NULL), ST_OK);
    assert_int_equal(tree_flushed(f->tree), 0); /* not synced */
    tree_stats(f->tree, &s);
    assert_int_equal(s.pages_on_disk, 1);
    assert_int_equal(tree_flush(f->tree, UINT64_MAX, true, NULL), ST_OK);
    tree_stats(f->tree, &s);
    assert_int_equal(s.pages_on_disk, 70000 / 256 + 1);
    assert_int_equal(s.disk_bytes, s.pages_on_disk * 8720);
    assert_true(s.memory_bytes < memory / 20); /* only the edges are left */
    assert_int_equal(s.pages_rebuilt, 0);
    assert_int_equal(tree_cut(f->tree, 69888, NULL), ST_OK);
    assert_int_equal(tree_cut(f->tree, 69887, NULL), ST_INVALID); /* would tear a page that is on disk */
    fixture_free(f);
}

/* Append, flush, cut, reopen in random order; what is appended after a cut differs from what was there. */
static void random_lives(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct fixture *f = fixture_make(9000, 100 + seed);
        size_t kept = 0; /* leaves that may be flushed: the model's "committed and synced" */

        fixture_open(f, 0);
        for (unsigned step = 0; step < 50; step++) {
            size_t room = f->size_max - f->size, n;

            switch (fixture_random(f, 5)) {
            case 0:
            case 1:
                n = 1 + fixture_random(f, 700);
                fixture_append(f, n < room ? n : room);
                break;
            case 2:
                kept += fixture_random(f, f->size - kept + 1);
                assert_int_equal(tree_flush(f->tree, kept, fixture_random(f, 2) == 0, NULL), ST_OK);
                break;
            case 3:
                n = kept + fixture_random(f, f->size - kept + 1);
                assert_int_equal(tree_cut(f->tree, n, NULL), ST_OK);
                f->size = n;
                f->salt++;
                break;
            default:
                fixture_close(f);
                if (fixture_random(f, 2) == 0)
                    fixture_cache_renew(f);
                n = f->size;
                fixture_open(f, kept);
                f->size = tree_size(f->tree);
                assert_true(f->size % 256 == 0 && f->size <= kept);
                if (n > f->size)
                    assert_int_equal(tree_append(f->tree, f->leaves + f->size, n - f->size, NULL), ST_OK);
                f->size = n;
            }
            fixture_sample_check(f, 6);
        }
        for (unsigned k = 0; k < 40 && f->size > 0; k++) {
            size_t j = 1 + fixture_random(f, f->size);

            fixture_pair_check(f, 1 + fixture_random(f, j), j);
        }
        fixture_free(f);
    }
}

/* The log has lost its tail and goes on differently: pages of the lost life must never come back. */
static void lost_tail_leaves_nothing_behind(void **state)
{
    struct fixture *f = fixture_make(70000, 6);

    (void)state;
    fixture_open(f, 0);
    fixture_append(f, 70000);
    assert_int_equal(tree_flush(f->tree, f->size, true, NULL), ST_OK);
    fixture_close(f);
    fixture_cache_renew(f);
    fixture_open(f, 50000);
    f->size = tree_size(f->tree);
    assert_int_equal(f->size, 50000 / 256 * 256);
    f->salt++;
    fixture_append(f, 66000 - f->size);
    /* Only a little is written of the new life; the second band's page is of the old one and complete. */
    assert_int_equal(tree_flush(f->tree, 51000, true, NULL), ST_OK);
    fixture_close(f);
    fixture_cache_renew(f);
    fixture_open(f, 66000);
    f->size = tree_size(f->tree);
    assert_int_equal(f->size, 51000 / 256 * 256);
    assert_int_equal(tree_append(f->tree, f->leaves + f->size, 66000 - f->size, NULL), ST_OK);
    f->size = 66000;
    fixture_sample_check(f, 100);
    assert_int_equal(tree_flush(f->tree, f->size, true, NULL), ST_OK);
    fixture_close(f);
    fixture_cache_renew(f);
    fixture_open(f, 66000);
    f->size = tree_size(f->tree);
    fixture_sample_check(f, 300);
    assert_int_equal(f->alh_calls, 0);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_sizes),   cmocka_unit_test(out_of_range),
        cmocka_unit_test(band_boundary), cmocka_unit_test(stats_tell_what_is_where),
        cmocka_unit_test(random_lives),  cmocka_unit_test(lost_tail_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
