/* Proves that running out of memory anywhere is ST_NOMEM and nothing worse: for every step of an index's life and every n, the n-th
 * allocation of that step fails (alone, or with all that follow); the step is then repeated and succeeds, and every answer is right. */
#include "base/alloc_failing.h"
#include "index/index_model.h"
#include "vfs/vfs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct life {
    struct vfs *vfs;
    struct bed b;
    struct model m;
    uint64_t rng;
};

enum { KEYS = 300, STEPS = 9 };

struct batch {
    struct index_entry *entries;
    size_t len;
};

static void sink_collect(void *ctx, const struct index_entry *e, size_t count)
{
    struct batch *b = ctx;
    b->entries = realloc(b->entries, (b->len + count) * sizeof *b->entries);
    assert_non_null(b->entries);
    memcpy(b->entries + b->len, e, count * sizeof *e);
    b->len += count;
}

static struct batch batch_of(struct life *l, uint64_t first, uint64_t last)
{
    struct batch b = {NULL, 0};
    model_replay(&l->m, first, last, sink_collect, &b);
    return b;
}

static enum status reads(struct life *l)
{
    struct index_snapshot *s = NULL;
    struct index_cursor *c = NULL;
    struct index_version v;
    struct bytes key;
    uint64_t revision;
    enum status st;

    if ((st = index_snapshot_open(l->b.x, 0, &s, NULL)) != ST_OK)
        return st;
    for (size_t i = 0; i < l->m.count && st == ST_OK; i += 7)
        st = index_get(s, l->m.keys[i]->ns, bytes_of(l->m.keys[i]->key, l->m.keys[i]->key_len), false, &v, &revision, NULL);
    for (int desc = 0; desc < 2 && st == ST_OK; desc++) {
        struct index_scan_options o = {.desc = desc != 0, .want_revision = true, .prefix = bytes_of("u", (size_t)desc)};
        if ((st = index_scan_open(s, &o, &c, NULL)) == ST_OK) {
            while ((st = index_scan_next(c, &key, &v, &revision, NULL)) == ST_OK)
                ;
            st = st == ST_NOT_FOUND ? ST_OK : st;
        }
        index_scan_close(c);
        c = NULL;
    }
    index_snapshot_close(s);
    return st;
}

/* Inserts the next transactions, which freeze memtables on their way; the data is made before. */
static enum status insert(struct life *l, struct batch *batch)
{
    enum status st = index_insert(l->b.x, batch->entries, batch->len, NULL);

    if (st == ST_OK)
        index_publish(l->b.x, l->m.tx_last);
    return st;
}

static enum status rebuild(struct life *l, const struct batch *all)
{
    struct index_range missing[4];
    struct index_rebuild *r = NULL;
    size_t n = index_missing(l->b.x, index_published(l->b.x), missing, 4), from = 0, to;
    enum status st;

    if (n == 0)
        return ST_OK;
    for (; all->entries[from].version.tx_id < missing[0].first; from++)
        ;
    for (to = from; to < all->len && all->entries[to].version.tx_id <= missing[0].last; to++)
        ;
    if ((st = index_rebuild_begin(l->b.x, missing[0], &r, NULL)) != ST_OK)
        return st;
    if ((st = index_rebuild_add(r, all->entries + from, to - from, NULL)) != ST_OK) {
        index_rebuild_abort(r);
        return st;
    }
    return index_rebuild_finish(r, NULL);
}

static enum status merge_all(struct index *x)
{
    bool more = true;
    enum status st = ST_OK;

    while (more && st == ST_OK)
        st = index_merge(x, &more, NULL);
    return st;
}

/* Damages the oldest run and lets a read find it. */
static void damage(struct life *l)
{
    char path[64];
    bool found = false;

    index_close(l->b.x); /* a fresh cache, and files left by failed commits are gone */
    assert_int_equal(index_open(&l->b.options, l->m.tx_last, &l->b.x, NULL), ST_OK);
    for (unsigned id = 1; id < 100 && !found; id++) {
        (void)snprintf(path, sizeof path, "index/run-%016x.idx", id);
        found = vfs_memory_flip_bit(l->vfs, path, 8 * 140, NULL) == ST_OK;
    }
    assert_int_equal(reads(l), ST_CORRUPT);
    assert_true(index_has_damage(l->b.x));
}

static enum status step_do(struct life *l, int step, struct batch *batch)
{
    size_t dropped;

    switch (step) {
    case 0:
        return index_open(&l->b.options, 0, &l->b.x, NULL);
    case 1:
    case 3:
        return insert(l, batch);
    case 2:
        return index_flush(l->b.x, l->m.tx_last - 3, true, NULL);
    case 4:
        return reads(l);
    case 5:
        return index_flush(l->b.x, l->m.tx_last, true, NULL);
    case 6:
        return merge_all(l->b.x);
    case 7:
        return index_quarantine(l->b.x, &dropped, NULL);
    default:
        return rebuild(l, batch);
    }
}

static struct batch step_prepare(struct life *l, int step)
{
    uint64_t before = l->m.tx_last;

    if (step == 1 || step == 3) {
        for (int i = 0; i < 12; i++)
            model_tx_insert(&l->m, NULL, &l->rng, KEYS, 120);
        return batch_of(l, before + 1, l->m.tx_last);
    }
    if (step == 7)
        damage(l);
    return step == 8 ? batch_of(l, 1, l->m.tx_last) : (struct batch){NULL, 0};
}

/* A whole life in which allocation n of one step fails; false when that step has fewer. */
static bool one_life(int failing_step, long n, bool all)
{
    struct life l = {.vfs = vfs_memory_create(), .rng = 3};
    struct index_snapshot *s = NULL;
    bool failed = false;

    bed_open(&l.b, l.vfs, 64 << 10, 2, 0);
    index_close(l.b.x);
    l.b.x = NULL;
    for (int step = 0; step < STEPS; step++) {
        struct batch batch = step_prepare(&l, step);
        enum status st;

        if (step == failing_step)
            alloc_fail_arm(n, all);
        st = step_do(&l, step, &batch);
        if (step == failing_step)
            failed = alloc_fail_disarm();
        if (st != ST_OK) {
            assert_true(step == failing_step && failed);
            assert_int_equal(st, ST_NOMEM);
            assert_int_equal(step_do(&l, step, &batch), ST_OK);
        }
        free(batch.entries);
    }
    assert_int_equal(index_snapshot_open(l.b.x, 0, &s, NULL), ST_OK);
    model_check_all(&l.m, s);
    index_snapshot_close(s);
    bed_close(&l.b);
    model_free(&l.m);
    vfs_memory_destroy(l.vfs);
    return failed;
}

static void test_every_allocation(void **state)
{
    (void)state;
    for (int step = 0; step < STEPS; step++) {
        long n = 1;
        while (one_life(step, n, false) && one_life(step, n, true))
            n += n < 40 ? 1 : n / 20;
        assert_true(n > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
