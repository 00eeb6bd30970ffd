/* Proves the crash rules of docs/format-index.md par. 4.
 *
 * A fixed workload of inserts, partial flushes, merges, a compaction, a quarantined run rebuilt and a reopening runs on a faulty disk that
 * dies at its n-th changing operation, for every n, with and without a torn write; then the power is cut in three ways. After each:
 * opening succeeds; nothing above the highest `upto` ever given is on disk; what an acknowledged flush covered is still covered; what is
 * missing is one range at the end (one hole more while a rebuild was under way); and once that is replayed every answer is right.
 * Also: a log that ends below a run, disks that are full or fail for one operation, and failing opens. */
#include "index/index_model.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { FLUSHES = 9, TXS_PER_FLUSH = 6, KEYS = 25 };

struct run_state {
    struct model model;
    uint64_t upto_given; /* highest upto handed to a flush */
    uint64_t flushed;    /* covered when last acknowledged */
    bool had_hole;       /* a run was dropped to be rebuilt */
};

static bool damage_one(struct vfs *memory, struct bed *b)
{
    struct index_snapshot *s = NULL;
    struct index_version v;
    bool found = false;
    char path[64];

    for (unsigned id = 1; id < 64 && !found; id++) {
        (void)snprintf(path, sizeof path, "index/run-%016x.idx", id);
        found = vfs_memory_flip_bit(memory, path, 8 * 140, NULL) == ST_OK; /* in its first block */
    }
    if (index_snapshot_open(b->x, 0, &s, NULL) != ST_OK)
        return false;
    for (unsigned i = 0; i < 200; i++) { /* reads until somebody meets it */
        uint8_t buf[INDEX_KEY_LEN_MAX + 1];
        uint64_t rng = i;
        if (index_get(s, 0, model_key_make(&rng, KEYS, buf), false, &v, NULL, NULL) == ST_CORRUPT)
            break;
    }
    index_snapshot_close(s);
    return found && index_has_damage(b->x);
}

static void sink_rebuild(void *ctx, const struct index_entry *e, size_t count)
{
    struct {
        struct index_rebuild *r;
        enum status st;
    } *to = ctx;
    if (to->st == ST_OK)
        to->st = index_rebuild_add(to->r, e, count, NULL);
}

static enum status rebuild(struct run_state *state, struct index *x)
{
    struct {
        struct index_rebuild *r;
        enum status st;
    } to = {NULL, ST_OK};
    struct index_range missing[4];

    if (index_missing(x, index_published(x), missing, 4) == 0)
        return ST_OK;
    if ((to.st = index_rebuild_begin(x, missing[0], &to.r, NULL)) != ST_OK)
        return to.st;
    model_replay(&state->model, missing[0].first, missing[0].last, sink_rebuild, &to);
    if (to.st != ST_OK) {
        index_rebuild_abort(to.r);
        return to.st;
    }
    return index_rebuild_finish(to.r, NULL);
}

static enum status flush(struct run_state *state, struct index *x, uint64_t upto)
{
    enum status st;

    if (upto > state->upto_given)
        state->upto_given = upto;
    st = index_flush(x, upto, true, NULL);
    if (st == ST_OK && index_flushed(x) > state->flushed)
        state->flushed = index_flushed(x);
    return st;
}

/* Until the first failure. */
static enum status workload(struct run_state *state, struct vfs *memory, struct bed *b)
{
    uint64_t rng = 99;
    bool more = false;
    size_t dropped;
    enum status st = ST_OK;

    if ((st = index_open(&b->options, 0, &b->x, NULL)) != ST_OK)
        return st;
    for (int i = 0; i < FLUSHES && st == ST_OK; i++) {
        for (int t = 0; t < TXS_PER_FLUSH; t++)
            model_tx_insert(&state->model, b->x, &rng, KEYS, i == 4 && t == 0 ? 400 : 8);
        index_publish(b->x, state->model.tx_last);
        st = flush(state, b->x, state->model.tx_last - model_below(&rng, 4)); /* some stay behind */
        while (st == ST_OK && (st = index_merge(b->x, &more, NULL)) == ST_OK && more)
            ;
        if (i == 5 && st == ST_OK)
            st = index_compact(b->x, NULL);
        if (i == 6 && st == ST_OK && damage_one(memory, b)) {
            state->had_hole = true;
            state->flushed = 0;
            if ((st = index_quarantine(b->x, &dropped, NULL)) == ST_OK && (st = rebuild(state, b->x)) == ST_OK)
                state->had_hole = false;
            if (st == ST_OK)
                state->flushed = index_flushed(b->x);
        }
    }
    if (st == ST_OK)
        st = flush(state, b->x, state->model.tx_last);
    return st;
}

static void bed_prepare(struct bed *b, struct vfs *vfs)
{
    struct vfs *any = vfs;

    *b = (struct bed){.vfs = any};
    budget_init(&b->budget, (size_t)64 << 20);
    assert_int_equal(cache_create(vfs, &b->budget, 16, &b->cache, NULL), ST_OK);
    b->options = (struct index_options){.vfs = vfs,
                                        .cache = b->cache,
                                        .budget = &b->budget,
                                        .env = bed_env(),
                                        .dir = "index",
                                        .uuid = "0123456789abcde",
                                        .memtable_bytes_max = 64 << 10,
                                        .runs_max = 2};
}

/* A bit was flipped and may still be there: finds it by merging everything and drops the run. */
static void damage_clear(struct bed *b)
{
    size_t dropped = 1;

    while (dropped > 0) {
        if (index_compact(b->x, NULL) == ST_OK)
            break;
        assert_int_equal(index_quarantine(b->x, &dropped, NULL), ST_OK);
        assert_int_equal(dropped, 1);
    }
}

/* Opens what the power cut left, with all checks. */
static void aftermath(struct run_state *state, struct vfs *memory)
{
    struct index_range missing[8];
    struct index_snapshot *s = NULL;
    struct bed b;
    size_t n;

    bed_open(&b, memory, 64 << 10, 2, UINT64_MAX);
    assert_true(index_published(b.x) <= state->upto_given);
    if (state->had_hole)
        damage_clear(&b);
    assert_true(index_flushed(b.x) >= state->flushed);
    n = index_missing(b.x, state->model.tx_last, missing, 8);
    assert_true(n <= (state->had_hole ? 2u : 1u));
    if (n == 1 && !state->had_hole)
        assert_true(missing[0].first == index_flushed(b.x) + 1 && missing[0].last == state->model.tx_last);
    if (n == 0)
        assert_true(index_flushed(b.x) == state->model.tx_last);
    model_repair(&state->model, b.x, state->model.tx_last);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    model_check_all(&state->model, s);
    index_snapshot_close(s);
    assert_int_equal(index_flush(b.x, state->model.tx_last, true, NULL), ST_OK);
    assert_int_equal(index_compact(b.x, NULL), ST_OK);
    bed_close(&b);
    bed_open(&b, memory, 64 << 10, 2, state->model.tx_last);
    assert_int_equal(index_missing(b.x, state->model.tx_last, missing, 8), 0);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    model_check_all(&state->model, s);
    index_snapshot_close(s);
    bed_close(&b);
}

/* One life: the fault at operation n, then the cut. between: the process was only killed, and the index opened and closed once more before
 * the power went. False when the workload went through without the fault. */
static bool one_life(enum fault_kind kind, uint64_t n, enum power_cut_mode mode, bool between)
{
    struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
    struct run_state state = {0};
    struct bed b;
    bool fired;
    enum status st;

    bed_prepare(&b, faulty);
    vfs_faulty_arm(faulty, kind, n, n);
    st = workload(&state, memory, &b);
    fired = vfs_faulty_fired(faulty);
    assert_true(fired || st == ST_OK);
    if (!fired) /* otherwise the test tests less than it says */
        assert_true(state.model.tx_last == FLUSHES * TXS_PER_FLUSH && state.flushed == state.model.tx_last);
    if (!between)
        vfs_memory_power_cut(memory, mode, n * 3 + (uint64_t)mode);
    vfs_faulty_heal(faulty);
    index_close(b.x);
    cache_destroy(b.cache);
    if (between) {
        uint64_t flushed;
        bed_open(&b, memory, 64 << 10, 2, state.model.tx_last);
        flushed = index_flushed(b.x);
        bed_close(&b);
        vfs_memory_power_cut(memory, mode, n * 5 + (uint64_t)mode);
        /* what the killed process had made durable has its files still */
        assert_true(flushed >= state.flushed);
    }
    aftermath(&state, memory);
    model_free(&state.model);
    vfs_faulty_destroy(faulty);
    vfs_memory_destroy(memory);
    return fired;
}

static void test_power_cut_everywhere(void **unused)
{
    (void)unused;
    for (int kind = FAULT_STOP; kind <= FAULT_STOP_TORN; kind++) {
        for (int mode = POWER_CUT_LOSE_UNSYNCED; mode <= POWER_CUT_RANDOM; mode++) {
            uint64_t n = 0;
            bool goes_on, goes_on_killed;

            do { /* both ways of dying, until neither gets as far as operation n */
                n++;
                goes_on = one_life((enum fault_kind)kind, n, (enum power_cut_mode)mode, false);
                goes_on_killed = one_life((enum fault_kind)kind, n, (enum power_cut_mode)mode, true);
            } while (goes_on || goes_on_killed);
            assert_true(n > 150);
        }
    }
}

/* One operation fails, the process lives on: the call says so, nothing is lost or wrong, and a repetition succeeds. */
static void test_single_failures(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 3; kind++) {
        static const enum fault_kind kinds[] = {FAULT_EIO, FAULT_EIO_READ, FAULT_NO_SPACE};
        bool fired = true;

        for (uint64_t n = 1; fired; n++) {
            struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
            struct run_state state = {0};
            struct index_snapshot *s = NULL;
            struct bed b;
            enum status st;

            bed_prepare(&b, faulty);
            vfs_faulty_arm(faulty, kinds[kind], n, n);
            st = workload(&state, memory, &b);
            fired = vfs_faulty_fired(faulty);
            vfs_faulty_heal(faulty);
            if (b.x != NULL) {
                if (st != ST_OK && index_published(b.x) == state.model.tx_last) { /* go on in the same process */
                    size_t dropped;
                    assert_int_equal(index_quarantine(b.x, &dropped, NULL), ST_OK);
                    assert_int_equal(rebuild(&state, b.x), ST_OK);
                    assert_int_equal(index_flush(b.x, state.model.tx_last, true, NULL), ST_OK);
                    assert_int_equal(index_compact(b.x, NULL), ST_OK);
                    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
                    model_check_all(&state.model, s);
                    index_snapshot_close(s);
                    state.had_hole = false;
                }
                state.upto_given = state.model.tx_last;
                index_close(b.x);
            }
            cache_destroy(b.cache);
            aftermath(&state, memory);
            model_free(&state.model);
            vfs_faulty_destroy(faulty);
            vfs_memory_destroy(memory);
        }
    }
}

/* The log lost its tail: what is above its end is not used, and does not come back when other transactions have its ids. */
static void test_log_shorter_than_runs(void **unused)
{
    struct vfs *memory = vfs_memory_create();
    struct model old = {0}, new = {0};
    struct index_snapshot *s = NULL;
    uint64_t rng = 5;
    struct bed b;

    (void)unused;
    bed_open(&b, memory, 64 << 10, 8, 0);
    for (int i = 0; i < 4; i++) {
        for (int t = 0; t < 10; t++) {
            uint64_t before = rng;
            model_tx_insert(&old, b.x, &rng, KEYS, 8);
            if (i < 2)
                model_tx_insert(&new, NULL, &before, KEYS, 8);
        }
        index_publish(b.x, old.tx_last);
        assert_int_equal(index_flush(b.x, old.tx_last, true, NULL), ST_OK);
    }
    bed_close(&b);
    bed_open(&b, memory, 64 << 10, 8, 25); /* runs end at 10, 20, 30, 40 */
    assert_int_equal(index_published(b.x), 20);
    for (int t = 0; t < 5; t++)
        model_tx_insert(&new, NULL, &rng, KEYS, 8);
    bed_close(&b); /* and nothing was flushed */
    for (int t = 0; t < 15; t++)
        model_tx_insert(&new, NULL, &rng, KEYS, 8); /* other transactions 21 .. 40 */
    bed_open(&b, memory, 64 << 10, 8, 40);
    assert_int_equal(index_published(b.x), 20);
    model_repair(&new, b.x, 40);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    model_check_all(&new, s);
    index_snapshot_close(s);
    bed_close(&b);
    model_free(&old);
    model_free(&new);
    vfs_memory_destroy(memory);
}

/* Opening below a run's end must leave a manifest without it or fail: at every operation of that open. */
static void test_log_shorter_crash(void **unused)
{
    bool fired = true;

    (void)unused;
    for (uint64_t n = 1; fired; n++) {
        for (int mode = POWER_CUT_LOSE_UNSYNCED; mode <= POWER_CUT_RANDOM; mode++) {
            struct vfs *memory = vfs_memory_create(), *faulty = vfs_faulty_create(memory);
            struct model m = {0};
            struct index *x = NULL;
            uint64_t rng = 5;
            struct bed b;
            enum status st;

            bed_open(&b, memory, 64 << 10, 8, 0);
            for (int t = 0; t < 20; t++) {
                model_tx_insert(&m, b.x, &rng, KEYS, 8);
                if (t % 10 == 9) {
                    index_publish(b.x, m.tx_last);
                    assert_int_equal(index_flush(b.x, m.tx_last, true, NULL), ST_OK);
                }
            }
            bed_close(&b);
            bed_prepare(&b, faulty);
            vfs_faulty_arm(faulty, FAULT_STOP, n, n);
            st = index_open(&b.options, 15, &x, NULL);
            fired = vfs_faulty_fired(faulty);
            vfs_memory_power_cut(memory, (enum power_cut_mode)mode, n);
            vfs_faulty_heal(faulty);
            index_close(x);
            cache_destroy(b.cache);
            bed_open(&b, memory, 64 << 10, 8, UINT64_MAX);
            if (st == ST_OK) /* it was told that 15 is the end and agreed */
                assert_int_equal(index_published(b.x), 10);
            else
                assert_true(index_published(b.x) == 10 || index_published(b.x) == 20);
            bed_close(&b);
            model_free(&m);
            vfs_faulty_destroy(faulty);
            vfs_memory_destroy(memory);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_shorter_than_runs),
        cmocka_unit_test(test_log_shorter_crash),
        cmocka_unit_test(test_power_cut_everywhere),
        cmocka_unit_test(test_single_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
