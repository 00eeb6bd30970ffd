/* Proves that an index answers what the definition says (index_model), whatever mixture of memtables and runs holds the versions.
 *
 * Random workloads with a seed: transactions over several namespaces and key families (empty, prefixes of each other, 64 KiB),
 * reads of every kind at any tx, flushes of a part, merges step by step, compactions, reopening at any time with the rest replayed.
 * Argument 1: seed, argument 2: number of calls (default INDEX_MODEL_CALLS of the environment, or one million). */
#include "index/index_model.h"
#include "vfs/vfs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static uint64_t seed_argument = 1;
static size_t calls_argument = 1000000;

static void reopen(struct bed *b, struct model *m, struct vfs *vfs, uint64_t *rng)
{
    size_t memtable = (size_t)64 << (10 + model_below(rng, 4));
    unsigned runs = 2 + (unsigned)model_below(rng, 8);
    bool flush = model_below(rng, 2) == 0;

    if (flush)
        assert_int_equal(index_flush(b->x, model_below(rng, m->tx_last + 1), true, NULL), ST_OK);
    bed_close(b);
    bed_open(b, vfs, memtable, runs, m->tx_last);
    model_repair(m, b->x, m->tx_last);
}

static size_t one_step(struct bed *b, struct model *m, struct vfs *vfs, uint64_t *rng, uint32_t key_space)
{
    uint64_t r = model_below(rng, 1000);
    struct index_snapshot *s = NULL;
    size_t calls = 1;
    bool more;

    if (r < 300) {
        for (size_t i = 1 + model_below(rng, 4); i > 0; i--)
            model_tx_insert(m, b->x, rng, key_space, model_below(rng, 50) == 0 ? 1000 : 12);
        index_publish(b->x, m->tx_last);
    } else if (r < 310) {
        assert_int_equal(index_flush(b->x, model_below(rng, 3) == 0 ? model_below(rng, m->tx_last + 1) : m->tx_last, model_below(rng, 2) == 0, NULL),
                         ST_OK);
    } else if (r < 350) {
        assert_int_equal(index_merge(b->x, &more, NULL), ST_OK);
    } else if (r < 351) {
        assert_int_equal(index_compact(b->x, NULL), ST_OK);
    } else if (r < 353) {
        reopen(b, m, vfs, rng);
    } else {
        uint64_t tx_id = model_below(rng, 3) == 0 ? model_below(rng, m->tx_last + 1) : 0;
        assert_int_equal(index_snapshot_open(b->x, tx_id, &s, NULL), ST_OK);
        for (int i = 0; i < 10; i++)
            calls += model_check_point(m, s, rng, key_space);
        if (model_below(rng, 4) == 0)
            calls += model_check_scan(m, s, rng, key_space, 50);
        if (model_below(rng, 2000) == 0)
            model_check_all(m, s);
        index_snapshot_close(s);
    }
    return calls;
}

static void workload(uint64_t seed, size_t calls_max, uint32_t key_space)
{
    struct vfs *vfs = vfs_memory_create();
    struct index_snapshot *s = NULL;
    struct model m = {0};
    uint64_t rng = seed;
    struct bed b;

    bed_open(&b, vfs, 64 << 10, 3, 0);
    for (size_t calls = 0; calls < calls_max;)
        calls += one_step(&b, &m, vfs, &rng, key_space);
    reopen(&b, &m, vfs, &rng);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    model_check_all(&m, s);
    index_snapshot_close(s);
    bed_close(&b);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

static void test_random_small(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10; i++)
        workload(seed_argument * 1000 + i, calls_argument / 20, 40);
}

static void test_random_large(void **state)
{
    (void)state;
    workload(seed_argument * 1000 + 100, calls_argument / 2, 3000);
}

/* A key with 100,000 versions among others: counts, ordinals and times are found in memory, in runs, and after merging. */
static void test_hot_key(void **state)
{
    enum { VERSIONS = 100000 };
    struct vfs *vfs = vfs_memory_create();
    uint64_t rng = seed_argument, revision;
    struct index_snapshot *s = NULL;
    struct bed b;

    (void)state;
    bed_open(&b, vfs, 256 << 10, 4, 0);
    for (uint64_t tx = 1; tx <= VERSIONS; tx++) {
        struct index_entry e[2] = {{.key = bytes_str("hot"), .version = {.tx_id = tx, .entry_index = (uint32_t)(tx % 7), .value_len = (uint32_t)tx}},
                                   {.key = bytes_str("warm"), .version = {.tx_id = tx, .entry_index = 9}}};
        assert_int_equal(index_insert(b.x, e, tx % 1000 == 0 ? 2 : 1, NULL), ST_OK);
        index_publish(b.x, tx);
        if (tx % 30000 == 0)
            assert_int_equal(index_flush(b.x, tx, true, NULL), ST_OK);
    }
    for (int round = 0; round < 3; round++) {
        struct index_version v, page[10];
        size_t n;
        uint64_t total;

        if (round == 1)
            assert_int_equal(index_flush(b.x, VERSIONS, true, NULL), ST_OK);
        if (round == 2)
            assert_int_equal(index_compact(b.x, NULL), ST_OK);
        assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
        for (int i = 0; i < 3000; i++) {
            uint64_t tx = 1 + model_below(&rng, VERSIONS);
            assert_int_equal(index_get_at(s, 0, bytes_str("hot"), tx, false, &v, &revision, NULL), ST_OK);
            assert_true(v.tx_id == tx && revision == tx && v.entry_index == tx % 7 && v.value_len == tx);
            assert_int_equal(index_get_revision(s, 0, bytes_str("hot"), tx, &v, NULL), ST_OK);
            assert_true(v.tx_id == tx);
            assert_int_equal(index_history(s, 0, bytes_str("hot"), true, VERSIONS - tx, page, 10, &n, &total, NULL), ST_OK);
            assert_true(total == VERSIONS && n == (tx < 10 ? tx : 10) && page[0].tx_id == tx && page[n - 1].tx_id == tx - n + 1);
        }
        assert_int_equal(index_get(s, 0, bytes_str("warm"), false, &v, &revision, NULL), ST_OK);
        assert_true(v.tx_id == VERSIONS && revision == VERSIONS / 1000);
        index_snapshot_close(s);
    }
    bed_close(&b);
    vfs_memory_destroy(vfs);
}

/* What is inserted and not published is never written, whatever upto says, and is complete once it is published. */
static void test_unpublished(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct index_snapshot *s = NULL;
    struct index_range missing[2];
    struct model m = {0};
    uint64_t rng = 2;
    struct bed b;

    (void)state;
    bed_open(&b, vfs, 64 << 10, 4, 0);
    for (int i = 0; i < 40; i++) {
        model_tx_insert(&m, b.x, &rng, 200, 60);
        if (i % 10 == 4)
            index_publish(b.x, m.tx_last);
        assert_int_equal(index_flush(b.x, UINT64_MAX, true, NULL), ST_OK);
        assert_int_equal(index_flushed(b.x), index_published(b.x));
        assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
        for (int j = 0; j < 20; j++)
            (void)model_check_point(&m, s, &rng, 200);
        index_snapshot_close(s);
    }
    bed_close(&b);
    bed_open(&b, vfs, 64 << 10, 4, m.tx_last);
    assert_int_equal(index_published(b.x), 35);
    assert_int_equal(index_missing(b.x, m.tx_last, missing, 2), 1);
    assert_true(missing[0].first == 36 && missing[0].last == 40);
    model_repair(&m, b.x, m.tx_last);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    model_check_all(&m, s);
    index_snapshot_close(s);
    bed_close(&b);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

/* What the header promises about wrong calls. */
static void test_arguments(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct index_snapshot *s = NULL;
    struct index_cursor *c = NULL;
    struct index_rebuild *r = NULL;
    struct index_entry e = {.key = bytes_str("k"), .version = {.tx_id = 5}};
    struct bed b;

    (void)state;
    bed_open(&b, vfs, 64 << 10, 4, 0);
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_OK);
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_OK); /* repeated */
    e.version.value_len = 1;
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_INVALID); /* twice in one tx */
    e.version.tx_id = 4;
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_INVALID);
    index_publish(b.x, 5);
    e.key = bytes_str("other");
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_INVALID); /* published */
    e.version.tx_id = 6;
    e.ns = INDEX_NAMESPACES_MAX;
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_INVALID);
    e.ns = 0;
    e.version.entry_index = INDEX_ENTRY_INDEX_MAX + 1;
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_INVALID);
    assert_int_equal(index_snapshot_open(b.x, 6, &s, NULL), ST_INVALID);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    assert_int_equal(index_scan_open(s, &(struct index_scan_options){.ns = INDEX_NAMESPACES_MAX}, &c, NULL), ST_INVALID);
    assert_null(c);
    index_snapshot_close(s);
    assert_int_equal(index_rebuild_begin(b.x, (struct index_range){1, 5}, &r, NULL), ST_INVALID);
    assert_null(r);
    /* marks survive */
    assert_int_equal(index_mark_set(b.x, 20, 77, NULL), ST_OK);
    assert_int_equal(index_mark_set(b.x, 18, 5, NULL), ST_OK);
    assert_int_equal(index_mark_set(b.x, 20, 78, NULL), ST_OK);
    bed_close(&b);
    bed_open(&b, vfs, 64 << 10, 4, 0);
    assert_true(index_mark(b.x, 20) == 78 && index_mark(b.x, 18) == 5 && index_mark(b.x, 19) == 0);
    bed_close(&b);
    vfs_memory_destroy(vfs);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),    cmocka_unit_test(test_unpublished),  cmocka_unit_test(test_hot_key),
        cmocka_unit_test(test_random_small), cmocka_unit_test(test_random_large),
    };

    if (getenv("INDEX_MODEL_CALLS") != NULL)
        calls_argument = strtoull(getenv("INDEX_MODEL_CALLS"), NULL, 10);
    if (argc > 1)
        seed_argument = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        calls_argument = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
