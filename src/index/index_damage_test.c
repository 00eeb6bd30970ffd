/* Proves that a flipped bit is found, named, and never gives a wrong answer.
 *
 * A run with every kind of block (data, version pages and their list, fences, Bloom filter, root) and the manifest: bits are flipped one at
 * a time all over the files (a bit of every header and footer byte and of every seventh byte between). After each: opening succeeds;
 * every answer is right or ST_CORRUPT with file and offset; somebody meets the damage; index_quarantine() drops the run, index_missing()
 * names its range, and after the rebuild everything is right. Also: files that are missing, cut, exchanged, or of another database. */
#include "base/hash.h"
#include "index/index_model.h"
#include "vfs/vfs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { TXS = 2300 };

static void build(struct vfs *vfs, struct model *m, uint64_t txs)
{
    uint64_t rng = 17;
    struct bed b;

    bed_open(&b, vfs, 1 << 20, 8, 0);
    for (uint64_t tx = 1; tx <= txs; tx++) {
        struct index_entry e[3];
        size_t n = 0;

        e[n++] = (struct index_entry){0, bytes_str("hot"), {tx, 0, (uint32_t)tx, 0, false, false}};
        if (tx % 20 == 0)
            e[n++] = (struct index_entry){0, bytes_str("warm"), {tx, 1, 7, (int64_t)tx, tx % 40 == 0, tx % 60 == 0}};
        if (e[n - 1].version.has_expiry == false)
            e[n - 1].version.expires_at = 0;
        for (size_t i = 0; i < n; i++)
            model_add(m, &e[i]);
        assert_int_equal(index_insert(b.x, e, n, NULL), ST_OK);
        if (tx % 25 == 0) { /* and many keys with few versions */
            uint8_t key[40];
            struct index_entry one = {2, bytes_of(key, 30), {tx, 5, 100, 0, false, false}};
            for (size_t i = 0; i < sizeof key; i++)
                key[i] = (uint8_t)model_random(&rng);
            model_add(m, &one);
            assert_int_equal(index_insert(b.x, &one, 1, NULL), ST_OK);
        }
        index_publish(b.x, tx);
    }
    m->tx_last = txs;
    assert_int_equal(index_flush(b.x, txs / 2, true, NULL), ST_OK);
    assert_int_equal(index_flush(b.x, txs, true, NULL), ST_OK);
    bed_close(&b);
}

static bool same(const struct index_version *a, const struct index_version *b)
{
    return a->tx_id == b->tx_id && a->entry_index == b->entry_index && a->value_len == b->value_len && a->is_deleted == b->is_deleted &&
           a->has_expiry == b->has_expiry && a->expires_at == b->expires_at;
}

static void named(enum status st, const struct err *err)
{
    assert_int_equal(st, ST_CORRUPT);
    assert_non_null(strstr(err->text, "run-"));
}

/* Reads all there is in every way; right or named damage. The number of damaged reads. */
static size_t read_all(const struct model *m, struct index_snapshot *s)
{
    struct index_version *versions = calloc(m->tx_last + 1, sizeof *versions), v;
    struct index_scan_options o = {.want_revision = true};
    struct index_cursor *c = NULL;
    size_t damaged = 0;
    struct err err = {0};

    for (size_t i = 0; i < m->count; i++) {
        const struct model_key *k = m->keys[i];
        struct bytes key = bytes_of(k->key, k->key_len);
        uint64_t revision, total;
        size_t n;
        enum status st = index_get(s, k->ns, key, false, &v, &revision, &err);

        if (st == ST_OK) {
            assert_true(same(&v, &k->versions[k->count - 1]) && revision == k->count);
        } else {
            named(st, &err);
            damaged++;
        }
        st = index_history(s, k->ns, key, false, 0, versions, m->tx_last, &n, &total, &err);
        if (st == ST_OK) {
            assert_true(n == k->count && total == k->count);
            for (size_t j = 0; j < n; j++)
                assert_true(same(&versions[j], &k->versions[j]));
        } else {
            named(st, &err);
            damaged++;
        }
        st = index_get_at(s, k->ns, key, k->versions[0].tx_id, false, &v, &revision, &err);
        if (st == ST_OK) {
            assert_true(same(&v, &k->versions[0]) && revision == 1);
        } else {
            named(st, &err);
            damaged++;
        }
    }
    for (o.ns = 0; o.ns < 3; o.ns++) {
        enum status st = index_scan_open(s, &o, &c, &err);
        struct bytes key;
        uint64_t revision;

        while (st == ST_OK && (st = index_scan_next(c, &key, &v, &revision, &err)) == ST_OK) {
            const struct model_key *k = model_find(m, o.ns, key);
            assert_true(k != NULL && same(&v, &k->versions[k->count - 1]) && revision == k->count);
        }
        if (st != ST_NOT_FOUND) {
            named(st, &err);
            damaged++;
        }
        index_scan_close(c);
        c = NULL;
    }
    free(versions);
    return damaged;
}

/* With a hole, what is there is read in a consistent way: versions ascend, the total is their number, the last has it as revision. */
static void read_incomplete(const struct model *m, struct bed *b)
{
    struct index_version *versions = calloc(m->tx_last + 1, sizeof *versions), v;
    struct index_snapshot *s = NULL;

    assert_non_null(versions);
    assert_int_equal(index_snapshot_open(b->x, 0, &s, NULL), ST_OK);
    for (size_t i = 0; i < m->count; i++) {
        struct bytes key = bytes_of(m->keys[i]->key, m->keys[i]->key_len);
        uint64_t total, revision;
        size_t n;

        assert_int_equal(index_history(s, m->keys[i]->ns, key, false, 0, versions, m->tx_last, &n, &total, NULL), ST_OK);
        assert_true(total == n && n <= m->keys[i]->count);
        for (size_t j = 1; j < n; j++)
            assert_true(versions[j - 1].tx_id < versions[j].tx_id);
        assert_int_equal(index_get(s, m->keys[i]->ns, key, false, &v, &revision, NULL), n == 0 ? ST_NOT_FOUND : ST_OK);
        assert_true(n == 0 || (revision == n && same(&v, &versions[n - 1])));
    }
    index_snapshot_close(s);
    free(versions);
}

static uint64_t file_len(struct vfs *vfs, const char *path)
{
    struct vfs_file *f = NULL;
    uint64_t len = 0;

    if (vfs->ops->open(vfs, path, VFS_READ, &f, NULL) != ST_OK)
        return 0;
    assert_int_equal(f->ops->length(f, &len, NULL), ST_OK);
    f->ops->close(f);
    return len;
}

/* Opens, reads, repairs, reads. */
static void survive(struct vfs *vfs, const struct model *m)
{
    struct index_range missing[4];
    struct index_snapshot *s = NULL;
    struct index_stats stats;
    size_t at_open, at_read = 0, dropped = 0;
    struct bed b;

    bed_open(&b, vfs, 1 << 20, 8, m->tx_last);
    index_stats(b.x, &stats);
    at_open = stats.damaged_runs;
    if (at_open == 0) {
        assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
        at_read = read_all(m, s);
        index_snapshot_close(s);
        assert_true(at_read > 0);
        assert_true(index_has_damage(b.x));
        assert_int_equal(index_quarantine(b.x, &dropped, NULL), ST_OK);
        assert_int_equal(dropped, 1);
        assert_false(index_has_damage(b.x));
    }
    assert_int_equal(index_missing(b.x, m->tx_last, missing, 4), 1);
    read_incomplete(m, &b);
    model_repair(m, b.x, m->tx_last);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    assert_int_equal(read_all(m, s), 0);
    index_snapshot_close(s);
    bed_close(&b);
}

static void flip_all(uint64_t txs, size_t stride)
{
    struct vfs *vfs = vfs_memory_create();
    struct model m = {0};
    char path[64];

    build(vfs, &m, txs);
    for (unsigned id = 0; id <= 2; id++) {
        uint64_t len;

        (void)snprintf(path, sizeof path, id == 0 ? "index/MANIFEST" : "index/run-%016x.idx", id);
        len = file_len(vfs, path);
        assert_true(len > 64);
        for (uint64_t at = 0; at < len; at += id == 0 || at < 128 || at >= len - 400 ? 1 : stride) {
            struct vfs *copy = vfs_memory_clone(vfs);
            assert_int_equal(vfs_memory_flip_bit(copy, path, at * 8 + at % 8, NULL), ST_OK);
            survive(copy, &m);
            vfs_memory_destroy(copy);
        }
    }
    model_free(&m);
    vfs_memory_destroy(vfs);
}

static void test_flipped_bits(void **state)
{
    (void)state;
    flip_all(TXS * 2, 7);
}

static void truncate_file(struct vfs *vfs, const char *path, uint64_t len)
{
    struct vfs_file *f = NULL;
    assert_int_equal(vfs->ops->open(vfs, path, VFS_WRITE, &f, NULL), ST_OK);
    assert_int_equal(f->ops->truncate(f, len, NULL), ST_OK);
    f->ops->close(f);
}

static void test_files(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct model m = {0};
    const char *one = "index/run-0000000000000001.idx", *two = "index/run-0000000000000002.idx";
    struct index_range missing[4];
    struct bed b;
    uint64_t total;

    (void)state;
    build(vfs, &m, TXS);
    total = file_len(vfs, one);
    for (int i = 0; i < 40; i++) { /* cut */
        struct vfs *copy = vfs_memory_clone(vfs);
        truncate_file(copy, one, total * (uint64_t)i / 40);
        survive(copy, &m);
        vfs_memory_destroy(copy);
    }
    for (int i = 0; i < 3; i++) {
        struct vfs *copy = vfs_memory_clone(vfs);
        if (i == 0) { /* gone */
            assert_int_equal(copy->ops->unlink(copy, one, NULL), ST_OK);
        } else if (i == 1) { /* exchanged: both are wrong, so one range for both */
            assert_int_equal(copy->ops->rename(copy, one, "index/x", NULL), ST_OK);
            assert_int_equal(copy->ops->rename(copy, two, one, NULL), ST_OK);
            assert_int_equal(copy->ops->rename(copy, "index/x", two, NULL), ST_OK);
        } else {
            assert_int_equal(copy->ops->unlink(copy, "index/MANIFEST", NULL), ST_OK);
            bed_open(&b, copy, 1 << 20, 8, m.tx_last); /* orphans go */
            assert_int_equal(index_missing(b.x, m.tx_last, missing, 4), 1);
            assert_true(missing[0].first == 1 && missing[0].last == m.tx_last);
            bed_close(&b);
            assert_int_equal(file_len(copy, one), 0);
            vfs_memory_destroy(copy);
            continue;
        }
        survive(copy, &m);
        vfs_memory_destroy(copy);
    }
    /* the files of another database count as damage */
    bed_open(&b, vfs, 1 << 20, 8, m.tx_last);
    index_close(b.x);
    b.options.uuid[0] ^= 1;
    assert_int_equal(index_open(&b.options, m.tx_last, &b.x, NULL), ST_OK);
    assert_int_equal(index_published(b.x), 0);
    bed_close(&b);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

/* An incompatible manifest is refused; what it names stays. */
static void test_newer_format(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct model m = {0};
    uint8_t *image = NULL;
    size_t len = 0;
    struct index *x = NULL;
    struct err err = {0};
    struct bed b;

    (void)state;
    build(vfs, &m, 100);
    assert_int_equal(vfs_read_all(vfs, "index/MANIFEST", 1 << 20, &image, &len, NULL), ST_OK);
    for (int field = 8; field <= 12; field += 4) {
        uint8_t *copy = malloc(len);
        assert_non_null(copy);
        memcpy(copy, image, len);
        copy[field] ^= 2; /* version 3, or an unknown flag */
        store_u32le(copy + 60, crc32c(0, copy, 60));
        assert_int_equal(vfs_replace(vfs, "index", "index/MANIFEST", copy, len, NULL), ST_OK);
        bed_open(&b, vfs_memory_create(), 1 << 20, 8, 0); /* for its options */
        b.options.vfs = vfs;
        assert_int_equal(index_open(&b.options, m.tx_last, &x, &err), ST_UNSUPPORTED);
        assert_null(x);
        assert_true(file_len(vfs, "index/run-0000000000000001.idx") > 0);
        bed_close(&b);
        vfs_memory_destroy(b.vfs);
        free(copy);
    }
    assert_int_equal(vfs_replace(vfs, "index", "index/MANIFEST", image, len, NULL), ST_OK);
    bed_open(&b, vfs, 1 << 20, 8, m.tx_last);
    assert_int_equal(index_published(b.x), 100);
    bed_close(&b);
    free(image);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

/* Sums of older versions are kept in the memtable; with a hole they must not be mixed with what is left. */
static void test_hole_between(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct index_version *versions = calloc(TXS + 2, sizeof *versions), v;
    struct index_entry e = {0, bytes_str("hot"), {TXS + 1, 0, 1, 0, false, false}};
    struct index_snapshot *s = NULL;
    struct model m = {0};
    uint64_t revision, total;
    size_t n, dropped;
    struct bed b;

    (void)state;
    assert_non_null(versions);
    build(vfs, &m, TXS);
    /* the second run begins with the version pages of "hot" */
    assert_int_equal(vfs_memory_flip_bit(vfs, "index/run-0000000000000002.idx", 8 * 200, NULL), ST_OK);
    bed_open(&b, vfs, 1 << 20, 8, TXS);
    assert_int_equal(index_insert(b.x, &e, 1, NULL), ST_OK);
    index_publish(b.x, TXS + 1);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    assert_int_equal(index_get(s, 0, e.key, false, &v, &revision, NULL), ST_OK);
    assert_int_equal(revision, TXS + 1); /* counts are intact, and now known */
    assert_int_equal(index_history(s, 0, e.key, false, 0, versions, TXS + 2, &n, &total, NULL), ST_CORRUPT);
    index_snapshot_close(s);
    assert_int_equal(index_quarantine(b.x, &dropped, NULL), ST_OK);
    assert_int_equal(dropped, 1);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    assert_int_equal(index_history(s, 0, e.key, false, 0, versions, TXS + 2, &n, &total, NULL), ST_OK);
    assert_true(n == total && n == TXS / 2 + 1 && versions[n - 1].tx_id == TXS + 1 && versions[n - 2].tx_id == TXS / 2);
    assert_int_equal(index_get_revision(s, 0, e.key, n, &v, NULL), ST_OK);
    assert_int_equal(v.tx_id, TXS + 1);
    index_snapshot_close(s);
    model_repair(&m, b.x, TXS);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    assert_int_equal(index_get(s, 0, e.key, false, &v, &revision, NULL), ST_OK);
    assert_int_equal(revision, TXS + 1);
    index_snapshot_close(s);
    bed_close(&b);
    free(versions);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

/* Merging and compacting never cover a hole. */
static void test_merge_keeps_holes(void **state)
{
    struct vfs *vfs = vfs_memory_create();
    struct index_range missing[4];
    struct index_snapshot *s = NULL;
    struct model m = {0};
    uint64_t rng = 8;
    bool more = true;
    struct bed b;

    (void)state;
    bed_open(&b, vfs, 1 << 20, 12, 0);
    for (int i = 0; i < 9; i++) {
        for (int t = 0; t < 10; t++)
            model_tx_insert(&m, b.x, &rng, 30, 8);
        index_publish(b.x, m.tx_last);
        assert_int_equal(index_flush(b.x, m.tx_last, true, NULL), ST_OK);
    }
    bed_close(&b);
    assert_int_equal(vfs->ops->unlink(vfs, "index/run-0000000000000003.idx", NULL), ST_OK);
    assert_int_equal(vfs->ops->unlink(vfs, "index/run-0000000000000007.idx", NULL), ST_OK);
    bed_open(&b, vfs, 1 << 20, 2, m.tx_last);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(index_missing(b.x, m.tx_last, missing, 4), 2);
        assert_true(missing[0].first == 21 && missing[0].last == 30 && missing[1].first == 61 && missing[1].last == 70);
        while (more)
            assert_int_equal(index_merge(b.x, &more, NULL), ST_OK);
        assert_int_equal(index_compact(b.x, NULL), ST_OK);
    }
    assert_int_equal(index_flushed(b.x), 20);
    model_repair(&m, b.x, m.tx_last);
    assert_int_equal(index_flushed(b.x), m.tx_last);
    assert_int_equal(index_compact(b.x, NULL), ST_OK);
    assert_int_equal(index_snapshot_open(b.x, 0, &s, NULL), ST_OK);
    model_check_all(&m, s);
    index_snapshot_close(s);
    bed_close(&b);
    model_free(&m);
    vfs_memory_destroy(vfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newer_format),      cmocka_unit_test(test_files),        cmocka_unit_test(test_hole_between),
        cmocka_unit_test(test_merge_keeps_holes), cmocka_unit_test(test_flipped_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
