/* Proves that look-ups through pins answer what look-ups without them answer, ask the cache less often, and let go of everything.
 *
 * Random indexes of memtables and runs (index_model); keys are asked in order and at random, under a cache so small that blocks come and go, with
 * failing allocations, and over files with flipped bits, where either way must give the truth or name the damage. */
#include "base/alloc_failing.h"
#include "index/index_model.h"
#include "vfs/vfs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TXS = 400, KEY_SPACE = 400 };

/* Several runs and something in memory. */
static void build(struct bed *b, struct vfs *vfs, struct model *m, uint64_t seed)
{
    uint64_t rng = seed;
    bool more;

    bed_open(b, vfs, 64 << 10, 8, 0);
    for (int i = 0; i < TXS; i++) {
        model_tx_insert(m, b->x, &rng, KEY_SPACE, 20);
        index_publish(b->x, m->tx_last);
        if (i % 70 == 69)
            assert_int_equal(index_flush(b->x, m->tx_last, true, NULL), ST_OK);
        if (i % 200 == 199)
            assert_int_equal(index_merge(b->x, &more, NULL), ST_OK);
    }
}

static bool same(const struct index_version *a, const struct index_version *b)
{
    return a->tx_id == b->tx_id && a->entry_index == b->entry_index && a->is_deleted == b->is_deleted && a->value_len == b->value_len &&
           a->has_expiry == b->has_expiry && a->expires_at == b->expires_at;
}

/* One key both ways. */
static void compare(struct index_snapshot *s, struct index_pins *pins, uint32_t ns, struct bytes key)
{
    struct index_version v, w;
    uint64_t revision = 0, pinned_revision = 0;
    enum status st = index_get(s, ns, key, false, &v, &revision, NULL),
                pinned_st = index_get_pinned(s, pins, ns, key, false, &w, &pinned_revision, NULL);

    assert_int_equal(st, pinned_st);
    if (st == ST_OK)
        assert_true(same(&v, &w) && revision == pinned_revision);
}

static void compare_all(const struct model *m, struct bed *b, uint64_t tx_id, uint64_t seed)
{
    static uint8_t buf[INDEX_KEY_LEN_MAX + 1];
    struct index_snapshot *s = NULL;
    struct index_pins *pins;
    uint64_t rng = seed;

    assert_int_equal(index_snapshot_open(b->x, tx_id, &s, NULL), ST_OK);
    assert_non_null(pins = index_pins_create(s));
    for (size_t i = 0; i < m->count; i++) /* neighbours */
        compare(s, pins, m->keys[i]->ns, bytes_of(m->keys[i]->key, m->keys[i]->key_len));
    for (size_t i = 0; i < 2000; i++) { /* anything, also what is not there */
        uint32_t ns = model_ns_make(&rng);

        compare(s, pins, ns, model_key_make(&rng, 2 * KEY_SPACE, buf));
    }
    index_pins_free(pins);
    index_snapshot_close(s);
}

static void answers_are_the_same(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct vfs *vfs = vfs_memory_create();
        struct model m = {0};
        struct bed b;

        build(&b, vfs, &m, seed);
        compare_all(&m, &b, 0, seed);
        compare_all(&m, &b, m.tx_last / 2, seed);
        b.budget.share[BUDGET_CACHE] = 100000; /* a few blocks */
        compare_all(&m, &b, 0, seed);
        bed_close(&b);
        model_free(&m);
        vfs_memory_destroy(vfs);
    }
}

/* Look-ups in the cache by one pass over all keys. */
static uint64_t pass(const struct model *m, struct bed *b, struct index_snapshot *s, struct index_pins *pins)
{
    struct cache_stats before, after;
    struct index_version v;

    cache_stats(b->cache, &before);
    for (size_t i = 0; i < m->count; i++)
        assert_int_equal(index_get_pinned(s, pins, m->keys[i]->ns, bytes_of(m->keys[i]->key, m->keys[i]->key_len), false, &v, &(uint64_t){0}, NULL),
                         ST_OK);
    cache_stats(b->cache, &after);
    return after.hits + after.misses - before.hits - before.misses;
}

static void the_cache_is_asked_less(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct index_snapshot *s = NULL;
    struct index_pins *pins;
    struct model m = {0};
    uint64_t without, with;
    struct bed b;

    (void)state;
    build(&b, vfs, &m, 7);
    assert_int_equal(index_flush(b.x, m.tx_last, true, NULL), ST_OK);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    assert_non_null(pins = index_pins_create(s));
    without = pass(&m, &b, s, NULL);
    with = pass(&m, &b, s, pins);
    assert_true(with * 4 < without);
    index_pins_free(pins);
    index_snapshot_close(s);
    bed_close(&b);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

/* Each allocation of a pass over a cold cache fails once: the key is found or memory is short, never anything else. */
static void failing_allocations(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct model m = {0};
    bool has_failed = true;
    struct bed b;

    (void)state;
    build(&b, vfs, &m, 9);
    bed_close(&b);
    for (long n = 1; has_failed && n < 400; n++) {
        struct index_snapshot *s = NULL;
        struct index_pins *pins;

        bed_open(&b, vfs, 64 << 10, 8, m.tx_last);
        model_repair(&m, b.x, m.tx_last);
        assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
        alloc_fail_arm(n, false);
        pins = index_pins_create(s); /* none: works without */
        for (size_t i = 0; i < m.count; i += 7) {
            const struct model_key *k = m.keys[i];
            struct index_version v;
            uint64_t revision;
            enum status st = index_get_pinned(s, pins, k->ns, bytes_of(k->key, k->key_len), false, &v, &revision, NULL);

            assert_true(st == ST_NOMEM || (st == ST_OK && same(&v, &k->versions[k->count - 1]) && revision == k->count));
        }
        has_failed = alloc_fail_disarm();
        index_pins_free(pins);
        index_snapshot_close(s);
        bed_close(&b);
    }
    model_free(&m);
    vfs_memory_destroy(vfs);
}

static void flip(struct vfs *vfs, const char *path, uint64_t *rng)
{
    struct vfs_file *f = NULL;
    uint64_t len = 0, at;
    uint8_t byte;

    assert_int_equal(vfs->ops->open(vfs, path, VFS_WRITE, &f, NULL), ST_OK);
    assert_int_equal(f->ops->length(f, &len, NULL), ST_OK);
    at = 128 + model_below(rng, len / 2);
    assert_int_equal(f->ops->read(f, at, &byte, 1, NULL), ST_OK);
    byte ^= (uint8_t)(1u << model_below(rng, 8));
    assert_int_equal(f->ops->write(f, at, &(struct vfs_iovec){&byte, 1}, 1, NULL), ST_OK);
    f->ops->close(f);
}

struct flips {
    struct vfs *vfs;
    const char *dir;
    uint64_t *rng;
};

static bool flip_one(void *ctx, const char *name, bool is_dir)
{
    struct flips *c = ctx;
    char path[600];

    (void)is_dir;
    if (strncmp(name, "run-", 4) != 0)
        return true;
    snprintf(path, sizeof path, "%s/%s", c->dir, name);
    flip(c->vfs, path, c->rng);
    return true;
}

/* Damage is found through pins as well: the truth or ST_CORRUPT. */
static void damage_is_named(void **state)
{
    size_t damaged = 0;

    (void)state;
    for (uint64_t round = 1; round <= 60; round++) {
        struct vfs *vfs = vfs_memory_create();
        struct index_snapshot *s = NULL;
        struct index_pins *pins;
        struct model m = {0};
        uint64_t rng = round;
        struct bed b;
        struct flips ctx = {vfs, NULL, &rng};

        build(&b, vfs, &m, 11);
        bed_close(&b);
        bed_open(&b, vfs, 64 << 10, 8, m.tx_last); /* checked at open, damaged afterwards */
        model_repair(&m, b.x, m.tx_last);
        ctx.dir = b.options.dir;
        assert_int_equal(vfs->ops->list(vfs, ctx.dir, flip_one, &ctx, NULL), ST_OK);
        assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
        assert_non_null(pins = index_pins_create(s));
        for (size_t i = 0; i < m.count; i++) {
            const struct model_key *k = m.keys[i];
            struct index_version v;
            struct err err = {0};
            uint64_t revision;
            enum status st = index_get_pinned(s, pins, k->ns, bytes_of(k->key, k->key_len), false, &v, &revision, &err);

            damaged += st == ST_CORRUPT;
            assert_true(st == ST_CORRUPT ? strstr(err.text, "run-") != NULL
                                         : st == ST_OK && same(&v, &k->versions[k->count - 1]) && revision == k->count);
        }
        index_pins_free(pins);
        index_snapshot_close(s);
        bed_close(&b);
        model_free(&m);
        vfs_memory_destroy(vfs);
    }
    assert_true(damaged > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same),
        cmocka_unit_test(the_cache_is_asked_less),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(damage_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
