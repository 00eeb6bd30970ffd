/* Proves that readers see exactly their snapshot while one thread writes and another flushes, merges and compacts.
 *
 * Tx t writes "hot", a new key "seq:t" and the key "slot:(t mod 64)". So as of tx T every answer is known: hot's version is T with revision T,
 * the seq keys are 1..T without a hole in either direction, slot s has as many versions as there are t <= T with t mod 64 = s.
 * Run under the thread sanitizer it also proves that there are no data races. Argument: number of transactions. */
#include "index/index_model.h"
#include "vfs/vfs_memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <cmocka.h>

#define READERS 3
#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort(); \
        } \
    } while (0)

static uint64_t tx_total = 20000;

struct stage {
    struct bed b;
    _Atomic bool done;
    _Atomic uint64_t reads;
    struct index_snapshot *kept; /* opened early, read at the end */
};

static void *write_all(void *ctx)
{
    struct stage *g = ctx;

    for (uint64_t t = 1; t <= tx_total; t++) {
        char seq[32], slot[32];
        struct index_entry e[3];

        (void)snprintf(seq, sizeof seq, "seq:%012llu", (unsigned long long)t);
        (void)snprintf(slot, sizeof slot, "slot:%02llu", (unsigned long long)(t % 64));
        e[0] = (struct index_entry){0, bytes_str("hot"), {t, 0, (uint32_t)t, 0, false, false}};
        e[1] = (struct index_entry){0, bytes_str(seq), {t, 1, (uint32_t)t, 0, false, false}};
        e[2] = (struct index_entry){0, bytes_str(slot), {t, 2, (uint32_t)t, (int64_t)t, false, true}};
        while (index_is_behind(g->b.x))
            sched_yield();
        CHECK(index_insert(g->b.x, e, 3, NULL) == ST_OK);
        index_publish(g->b.x, t);
    }
    atomic_store(&g->done, true);
    return NULL;
}

static void *work_behind(void *ctx)
{
    struct stage *g = ctx;
    uint64_t rng = 4, round = 0;
    bool more;

    while (!atomic_load(&g->done)) {
        uint64_t published = index_published(g->b.x);
        bool everything = model_below(&rng, 20) == 0;

        CHECK(index_flush(g->b.x, model_below(&rng, 4) == 0 ? published / 2 : published, everything, NULL) == ST_OK);
        CHECK(index_merge(g->b.x, &more, NULL) == ST_OK);
        if (++round % 200 == 0)
            CHECK(index_compact(g->b.x, NULL) == ST_OK);
        sched_yield();
    }
    return NULL;
}

static void check_scan(struct index_snapshot *s, uint64_t tx_id, uint64_t *rng)
{
    struct index_scan_options o = {.prefix = bytes_str("seq:"), .desc = model_below(rng, 2) == 0, .inclusive_seek = true, .want_revision = true};
    uint64_t at = 1 + model_below(rng, tx_id), revision;
    struct index_cursor *c = NULL;
    struct index_version v;
    struct bytes key;
    char seek[32], want[32];

    (void)snprintf(seek, sizeof seek, "seq:%012llu", (unsigned long long)at);
    o.seek = bytes_str(seek);
    CHECK(index_scan_open(s, &o, &c, NULL) == ST_OK);
    for (int i = 0; i < 100; i++, at += o.desc ? UINT64_MAX : 1) {
        enum status st = index_scan_next(c, &key, &v, &revision, NULL);

        if (at == 0 || at > tx_id) {
            CHECK(st == ST_NOT_FOUND);
            break;
        }
        (void)snprintf(want, sizeof want, "seq:%012llu", (unsigned long long)at);
        CHECK(st == ST_OK && bytes_equal(key, bytes_str(want)) && v.tx_id == at && revision == 1);
    }
    index_scan_close(c);
}

static void check_snapshot(struct index_snapshot *s, uint64_t *rng)
{
    uint64_t tx_id = index_snapshot_tx(s), revision = 0, slot = model_below(rng, 64), count = tx_id / 64 + (slot > 0 && slot <= tx_id % 64), at;
    struct index_version v;
    char key[32];

    CHECK(index_get(s, 0, bytes_str("hot"), false, &v, &revision, NULL) == ST_OK);
    CHECK(v.tx_id == tx_id && revision == tx_id && v.value_len == (uint32_t)tx_id);
    at = 1 + model_below(rng, tx_id);
    CHECK(index_get_revision(s, 0, bytes_str("hot"), at, &v, NULL) == ST_OK && v.tx_id == at);
    CHECK(index_get_at(s, 0, bytes_str("hot"), at, false, &v, &revision, NULL) == ST_OK && v.tx_id == at && revision == at);
    for (int i = -1; i <= 1; i++) {
        (void)snprintf(key, sizeof key, "seq:%012llu", (unsigned long long)tx_id + (unsigned long long)i);
        CHECK(index_get(s, 0, bytes_str(key), false, &v, &revision, NULL) == (i > 0 || (i < 0 && tx_id == 1) ? ST_NOT_FOUND : ST_OK));
    }
    (void)snprintf(key, sizeof key, "slot:%02llu", (unsigned long long)slot);
    CHECK(index_version_count(s, 0, bytes_str(key), &at, NULL) == ST_OK);
    CHECK(at == count);
    check_scan(s, tx_id, rng);
}

static void *read_all(void *ctx)
{
    struct stage *g = ctx;
    uint64_t rng = (uint64_t)(uintptr_t)&rng;

    while (!atomic_load(&g->done)) {
        struct index_snapshot *s = NULL;
        uint64_t published = index_published(g->b.x), tx_id = model_below(&rng, 3) == 0 ? model_below(&rng, published + 1) : 0;

        if (published == 0) {
            sched_yield();
            continue;
        }
        CHECK(index_snapshot_open(g->b.x, tx_id, &s, NULL) == ST_OK);
        for (int i = 0; i < 5; i++)
            check_snapshot(s, &rng);
        index_snapshot_close(s);
        atomic_fetch_add(&g->reads, 5);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct stage g = {.done = false};
    pthread_t threads[READERS + 2];
    struct index_snapshot *s = NULL;
    struct index_stats stats;
    uint64_t rng = 1;

    (void)state;
    bed_open(&g.b, vfs, 64 << 10, 3, 0);
    assert_int_equal(pthread_create(&threads[0], NULL, write_all, &g), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, work_behind, &g), 0);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[2 + i], NULL, read_all, &g), 0);
    while (index_published(g.b.x) < tx_total / 10)
        sched_yield();
    assert_int_equal(index_snapshot_open(g.b.x, 0, &g.kept, NULL), ST_OK);
    for (int i = 0; i < READERS + 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 100; i++)
        check_snapshot(g.kept, &rng);
    index_snapshot_close(g.kept);
    assert_int_equal(index_compact(g.b.x, NULL), ST_OK);
    assert_int_equal(index_snapshot_open(g.b.x, 0, &s, NULL), ST_OK);
    for (int i = 0; i < 100; i++)
        check_snapshot(s, &rng);
    index_snapshot_close(s);
    index_stats(g.b.x, &stats);
    assert_true(stats.flushes > 3 && stats.merges > 0 && atomic_load(&g.reads) > 0);
    bed_close(&g.b);
    vfs_memory_destroy(vfs);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};

    if (argc > 1)
        tx_total = strtoull(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
