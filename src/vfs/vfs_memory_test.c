/* Proves what a power cut keeps in the memory file system: content only with sync, names only with sync_dir, renames whole.
 *
 * A random history is compared with a naive model (flat arrays, copied at each sync) for all three kinds of cut; after a
 * random cut every sector must hold what it held at the last sync or after one of the writes since, and over many seeds
 * all those outcomes must come up. Clones, capacity, damage and failing allocations are tested beside it. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "vfs/vfs_memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static struct vfs_file *open_ok(struct vfs *v, const char *path, unsigned flags)
{
    struct vfs_file *f;
    struct err err;

    if (v->ops->open(v, path, flags, &f, &err) != ST_OK)
        fail_msg("%s", err.text);
    return f;
}

static void put(struct vfs *v, const char *path, const char *content, bool do_sync)
{
    struct vfs_file *f = open_ok(v, path, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE);

    assert_int_equal(vfs_write_at(f, 0, content, strlen(content), NULL), ST_OK);
    if (do_sync)
        assert_int_equal(f->ops->sync(f, NULL), ST_OK);
    f->ops->close(f);
}

/* The content as a string, "-" when there is no such file. Static buffer. */
static const char *get(struct vfs *v, const char *path)
{
    static char text[1000];
    uint8_t *data;
    size_t len;

    if (vfs_read_all(v, path, sizeof text - 1, &data, &len, NULL) != ST_OK)
        return "-";
    memcpy(text, data, len);
    text[len] = '\0';
    free(data);
    return text;
}

static void sync_dir(struct vfs *v, const char *path) { assert_int_equal(v->ops->sync_dir(v, path, NULL), ST_OK); }

static void content_and_names(void **state)
{
    struct vfs *v = vfs_memory_create();

    (void)state;
    put(v, "a", "one", true); /* content but no name */
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "-");

    put(v, "a", "one", false); /* name but no content */
    sync_dir(v, "/");
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "");

    put(v, "a", "one", true); /* both; then unsynced changes of each kind */
    put(v, "a", "two", false);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "one");
    assert_int_equal(v->ops->unlink(v, "a", NULL), ST_OK);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "one");
    assert_int_equal(v->ops->rename(v, "a", "b", NULL), ST_OK);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "one");
    assert_string_equal(get(v, "b"), "-");
    assert_int_equal(v->ops->rename(v, "a", "b", NULL), ST_OK);
    sync_dir(v, "/");
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "-");
    assert_string_equal(get(v, "b"), "one");
    assert_int_equal(v->ops->unlink(v, "b", NULL), ST_OK);
    sync_dir(v, "/");
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "b"), "-");

    put(v, "c", "kept", false); /* kill -9 */
    vfs_memory_power_cut(v, POWER_CUT_KEEP_ALL, 0);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0); /* and now it is on the disk */
    assert_string_equal(get(v, "c"), "kept");
    vfs_memory_destroy(v);
}

static void directories(void **state)
{
    struct vfs *v = vfs_memory_create();

    (void)state;
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
    put(v, "d/f", "one", true);
    sync_dir(v, "d"); /* the file's name is durable, its directory's is not */
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
    assert_string_equal(get(v, "d/f"), "-");
    put(v, "d/f", "one", true);
    sync_dir(v, "/");
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0); /* now the other way round */
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_EXISTS);
    assert_string_equal(get(v, "d/f"), "-");
    put(v, "d/f", "one", true);
    sync_dir(v, "d");
    /* Across directories: one change. */
    assert_int_equal(v->ops->mkdir(v, "e", NULL), ST_OK);
    sync_dir(v, "/");
    assert_int_equal(v->ops->rename(v, "d/f", "e/g", NULL), ST_OK);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "d/f"), "one");
    assert_int_equal(v->ops->rename(v, "d/f", "e/g", NULL), ST_OK);
    sync_dir(v, "e");
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "d/f"), "-");
    assert_string_equal(get(v, "e/g"), "one");
    /* A whole tree removed, its parent not synced: all is back. */
    assert_int_equal(vfs_remove_tree(v, "e", NULL), ST_OK);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "e/g"), "one");
    assert_int_equal(vfs_remove_tree(v, "e", NULL), ST_OK);
    sync_dir(v, ".");
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "e/g"), "-");
    assert_int_equal(v->ops->mkdir(v, "../x", NULL), ST_IO);
    vfs_memory_destroy(v);
}

/* tmp is written and renamed over the file, again and again; whatever is cut, the file is one of its versions, whole. */
static void replace_is_atomic(void **state)
{
    unsigned seen[3] = {0};

    (void)state;
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct vfs *v = vfs_memory_create();
        const char *found;

        assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
        sync_dir(v, "/");
        assert_int_equal(vfs_replace(v, "d", "d/file", "version 0", 9, NULL), ST_OK);
        put(v, "d/file.tmp", "version 1", true);
        assert_int_equal(v->ops->rename(v, "d/file.tmp", "d/file", NULL), ST_OK);
        put(v, "d/file.tmp", "version 2", true);
        assert_int_equal(v->ops->rename(v, "d/file.tmp", "d/file", NULL), ST_OK);
        vfs_memory_power_cut(v, POWER_CUT_RANDOM, seed);
        found = get(v, "d/file");
        assert_memory_equal(found, "version ", 8);
        assert_in_range(found[8], '0', '2');
        seen[found[8] - '0']++;
        vfs_memory_destroy(v);
    }
    for (int i = 0; i < 3; i++)
        assert_true(seen[i] > 20);
}

static void chain_of_renames_keeps_one_name(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct vfs *v = vfs_memory_create();
        unsigned count = 0;
        static const char *const names[] = {"a", "b", "c", "d/a"};

        assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
        put(v, "a", "x", true);
        sync_dir(v, "/");
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(v->ops->rename(v, names[i], names[i + 1], NULL), ST_OK);
        assert_int_equal(v->ops->rename(v, "d/a", "b", NULL), ST_OK);
        vfs_memory_power_cut(v, POWER_CUT_RANDOM, seed);
        for (unsigned i = 0; i < 4; i++)
            count += strcmp(get(v, names[i]), "x") == 0;
        assert_int_equal(count, 1);
        vfs_memory_destroy(v);
    }
}

static void handles_and_locks_die(void **state)
{
    struct vfs *v = vfs_memory_create();
    struct vfs_file *f = open_ok(v, "a", VFS_WRITE | VFS_CREATE), *g;
    uint64_t length;
    char c;

    (void)state;
    sync_dir(v, "/");
    assert_int_equal(vfs_write_at(f, 0, "x", 1, NULL), ST_OK);
    assert_int_equal(f->ops->lock(f, NULL), ST_OK);
    vfs_memory_power_cut(v, POWER_CUT_KEEP_ALL, 0);
    assert_int_equal(f->ops->read(f, 0, &c, 1, NULL), ST_IO);
    assert_int_equal(vfs_write_at(f, 0, "y", 1, NULL), ST_IO);
    assert_int_equal(f->ops->sync(f, NULL), ST_IO);
    assert_int_equal(f->ops->length(f, &length, NULL), ST_IO);
    assert_int_equal(f->ops->truncate(f, 0, NULL), ST_IO);
    assert_int_equal(f->ops->zero(f, 0, 1, NULL), ST_IO);
    assert_int_equal(f->ops->lock(f, NULL), ST_IO);
    g = open_ok(v, "a", VFS_WRITE);
    assert_int_equal(g->ops->lock(g, NULL), ST_OK);
    f->ops->close(f); /* gives up nothing that is g's */
    f = open_ok(v, "a", VFS_WRITE);
    assert_int_equal(f->ops->lock(f, NULL), ST_BUSY);
    f->ops->close(f);
    g->ops->close(g);
    assert_string_equal(get(v, "a"), "x");
    vfs_memory_destroy(v);
}

/* --- against a model --- */

enum { MODEL_MAX = 40000 };
struct model {
    uint8_t now[MODEL_MAX], durable[MODEL_MAX];
    size_t now_len, durable_len;
};

static void model_write(struct model *m, size_t offset, const uint8_t *data, size_t len)
{
    if (data != NULL)
        memcpy(m->now + offset, data, len);
    else
        memset(m->now + offset, 0, len);
    if (offset + len > m->now_len)
        m->now_len = offset + len;
}

static void model_truncate(struct model *m, size_t len)
{
    if (len < m->now_len)
        memset(m->now + len, 0, m->now_len - len);
    m->now_len = len;
}

static void model_equal(struct vfs_file *f, const uint8_t *data, size_t len)
{
    static uint8_t got[MODEL_MAX];
    uint64_t length;

    assert_int_equal(f->ops->length(f, &length, NULL), ST_OK);
    assert_int_equal(length, len);
    assert_int_equal(f->ops->read(f, 0, got, len, NULL), ST_OK);
    assert_memory_equal(got, data, len);
}

static void model_step(struct model *m, struct vfs_file *f, uint64_t *rng)
{
    static uint8_t data[9000];
    size_t offset = (size_t)(test_random(rng) % 30000), len = 1 + (size_t)(test_random(rng) % (test_random(rng) % 2 == 0 ? 100 : 9000));

    switch (test_random(rng) % 10) {
    case 0:
        assert_int_equal(f->ops->zero(f, offset, len, NULL), ST_OK);
        model_write(m, offset, NULL, len);
        break;
    case 1:
        assert_int_equal(f->ops->truncate(f, offset, NULL), ST_OK);
        model_truncate(m, offset);
        break;
    case 2:
    case 3:
        assert_int_equal(f->ops->sync(f, NULL), ST_OK);
        memcpy(m->durable, m->now, sizeof m->now);
        m->durable_len = m->now_len;
        break;
    default:
        test_random_fill(rng, data, len);
        assert_int_equal(vfs_write_at(f, offset, data, len, NULL), ST_OK);
        model_write(m, offset, data, len);
        break;
    }
}

static void follows_the_model(void **state)
{
    static struct model m;
    uint64_t rng = 11;

    (void)state;
    for (int history = 0; history < 60; history++) {
        struct vfs *v = vfs_memory_create(), *copy;
        struct vfs_file *f = open_ok(v, "f", VFS_WRITE | VFS_CREATE), *g;

        memset(&m, 0, sizeof m);
        sync_dir(v, "/");
        for (int step = 0; step < 40; step++) {
            model_step(&m, f, &rng);
            model_equal(f, m.now, m.now_len);
            if (step % 8 != 7)
                continue;
            /* Clones are cut, the original goes on. */
            for (int mode = 0; mode < 2; mode++) {
                copy = vfs_memory_clone(v);
                assert_non_null(copy);
                vfs_memory_power_cut(copy, mode == 0 ? POWER_CUT_LOSE_UNSYNCED : POWER_CUT_KEEP_ALL, 0);
                g = open_ok(copy, "f", VFS_WRITE);
                model_equal(g, mode == 0 ? m.durable : m.now, mode == 0 ? m.durable_len : m.now_len);
                assert_int_equal(vfs_write_at(g, 0, "damage the clone", 16, NULL), ST_OK);
                assert_int_equal(g->ops->zero(g, 5000, 9000, NULL), ST_OK);
                assert_int_equal(g->ops->sync(g, NULL), ST_OK);
                g->ops->close(g);
                vfs_memory_destroy(copy);
                model_equal(f, m.now, m.now_len);
            }
        }
        vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
        f->ops->close(f);
        f = open_ok(v, "f", VFS_READ);
        model_equal(f, m.durable, m.durable_len);
        f->ops->close(f);
        vfs_memory_destroy(v);
    }
}

/* Three writes over the same 8 sectors and beyond, each of one byte value; a synced state below them. */
static void random_cut_outcomes(void **state)
{
    enum { SECTORS = 8, LEN = SECTORS * 512 };
    unsigned seen[SECTORS][4] = {{0}}, longer = 0, same_as_before = 0;
    struct vfs *v = vfs_memory_create();
    struct vfs_file *f = open_ok(v, "f", VFS_WRITE | VFS_CREATE), *g;
    static uint8_t data[LEN + 512], previous[LEN + 512];

    (void)state;
    memset(data, 0, sizeof data);
    assert_int_equal(vfs_write_at(f, 0, data, LEN, NULL), ST_OK);
    assert_int_equal(f->ops->sync(f, NULL), ST_OK);
    sync_dir(v, "/");
    for (int k = 1; k <= 3; k++) {
        memset(data, k, sizeof data);
        assert_int_equal(vfs_write_at(f, 0, data, k == 3 ? LEN + 512 : LEN, NULL), ST_OK);
    }
    for (uint64_t seed = 0; seed < 3000; seed++) {
        uint64_t length = 0;

        for (int again = 0; again < 2; again++) { /* the same seed gives the same disk */
            struct vfs *copy = vfs_memory_clone(v);

            vfs_memory_power_cut(copy, POWER_CUT_RANDOM, seed);
            g = open_ok(copy, "f", VFS_READ);
            assert_int_equal(g->ops->length(g, &length, NULL), ST_OK);
            assert_in_range(length, LEN, LEN + 512);
            assert_int_equal(g->ops->read(g, 0, data, (size_t)length, NULL), ST_OK);
            g->ops->close(g);
            vfs_memory_destroy(copy);
            if (again == 1)
                assert_memory_equal(data, previous, (size_t)length);
            memcpy(previous, data, (size_t)length);
        }
        longer += length > LEN;
        for (size_t s = 0; s < SECTORS; s++) {
            assert_in_range(data[s * 512], 0, 3);
            seen[s][data[s * 512]]++;
            for (size_t i = 1; i < 512; i++) /* a sector is never mixed */
                assert_int_equal(data[s * 512 + i], data[s * 512]);
        }
        same_as_before += length == LEN && data[0] == 0 && data[LEN - 1] == 0;
    }
    for (size_t s = 0; s < SECTORS; s++)
        for (int k = 0; k < 4; k++)
            assert_true(seen[s][k] > 30);
    assert_in_range(longer, 300, 2900);
    assert_true(same_as_before > 30);
    vfs_memory_power_cut(v, POWER_CUT_KEEP_ALL, 0);
    f->ops->close(f);
    vfs_memory_destroy(v);
}

/* Synced data is never touched by a random cut, whatever else is going on. */
static void synced_data_survives(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct vfs *v = vfs_memory_create();
        char path[20];

        assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
        sync_dir(v, "/");
        for (int i = 0; i < 10; i++) {
            snprintf(path, sizeof path, "d/%d", i);
            put(v, path, path, true);
        }
        sync_dir(v, "d");
        for (int i = 0; i < 10; i++) {
            snprintf(path, sizeof path, "d/new%d", i);
            put(v, path, path, i % 2 == 0);
        }
        vfs_memory_power_cut(v, POWER_CUT_RANDOM, seed);
        for (int i = 0; i < 10; i++) {
            snprintf(path, sizeof path, "d/%d", i);
            assert_string_equal(get(v, path), path);
        }
        for (int i = 0; i < 10; i += 2) { /* synced content without a durable name: all or nothing */
            const char *found;

            snprintf(path, sizeof path, "d/new%d", i);
            found = get(v, path);
            assert_true(strcmp(found, "-") == 0 || strcmp(found, path) == 0);
        }
        vfs_memory_destroy(v);
    }
}

static void capacity(void **state)
{
    struct vfs *v = vfs_memory_create();
    struct vfs_file *f = open_ok(v, "a", VFS_WRITE | VFS_CREATE);
    static uint8_t data[10000];
    uint64_t bytes_free;

    (void)state;
    vfs_memory_set_capacity(v, 10000);
    assert_int_equal(vfs_write_at(f, 0, data, 6000, NULL), ST_OK);
    assert_int_equal(vfs_write_at(f, 6000, data, 4001, NULL), ST_NO_SPACE);
    assert_int_equal(f->ops->zero(f, 6000, 4001, NULL), ST_NO_SPACE);
    assert_int_equal(f->ops->truncate(f, 10001, NULL), ST_NO_SPACE);
    assert_int_equal(vfs_write_at(f, 0, data, 6000, NULL), ST_OK); /* in place */
    assert_int_equal(v->ops->space(v, "/", &bytes_free, NULL), ST_OK);
    assert_int_equal(bytes_free, 4000);
    put(v, "b", "1234567890", false);
    assert_int_equal(v->ops->space(v, "/", &bytes_free, NULL), ST_OK);
    assert_int_equal(bytes_free, 3990);
    assert_int_equal(v->ops->rename(v, "b", "a", NULL), ST_OK); /* the old a is still open */
    assert_int_equal(v->ops->space(v, "/", &bytes_free, NULL), ST_OK);
    assert_int_equal(bytes_free, 3990);
    f->ops->close(f);
    assert_int_equal(v->ops->space(v, "/", &bytes_free, NULL), ST_OK);
    assert_int_equal(bytes_free, 9990);
    assert_int_equal(v->ops->unlink(v, "a", NULL), ST_OK);
    assert_int_equal(v->ops->space(v, "/", &bytes_free, NULL), ST_OK);
    assert_int_equal(bytes_free, 10000);
    put(v, "c", "12345", true);
    sync_dir(v, "/");
    put(v, "d", "12345", true);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_int_equal(v->ops->space(v, "/", &bytes_free, NULL), ST_OK);
    assert_int_equal(bytes_free, 9995);
    vfs_memory_set_capacity(v, 0);
    put(v, "e", "more", false);
    vfs_memory_destroy(v);
}

static void flipped_bits(void **state)
{
    struct vfs *v = vfs_memory_create(), *copy;

    (void)state;
    put(v, "a", "abc", true);
    sync_dir(v, "/");
    copy = vfs_memory_clone(v);
    assert_int_equal(vfs_memory_flip_bit(v, "a", 9, NULL), ST_OK);
    assert_string_equal(get(v, "a"), "a`c");
    assert_int_equal(vfs_memory_flip_bit(v, "a", 24, NULL), ST_INVALID);
    assert_int_equal(vfs_memory_flip_bit(v, "b", 0, NULL), ST_NOT_FOUND);
    vfs_memory_power_cut(v, POWER_CUT_LOSE_UNSYNCED, 0);
    assert_string_equal(get(v, "a"), "a`c");
    assert_string_equal(get(copy, "a"), "abc");
    vfs_memory_destroy(copy);
    vfs_memory_destroy(v);
}

/* Every allocation fails once, in a history with syncs, renames, clones and cuts. An operation may fail with ST_NOMEM; what
 * was synced stays, and the history can always be done again. */
static bool history(struct vfs *v)
{
    struct vfs_file *f;
    static uint8_t data[20000];
    bool is_done;

    if (v->ops->open(v, "d/a", VFS_WRITE | VFS_CREATE, &f, NULL) != ST_OK)
        return false;
    is_done = vfs_write_at(f, 100, data, sizeof data, NULL) == ST_OK && f->ops->sync(f, NULL) == ST_OK &&
              vfs_write_at(f, 5000, data, 10, NULL) == ST_OK && f->ops->zero(f, 6000, 30000, NULL) == ST_OK &&
              f->ops->truncate(f, 7001, NULL) == ST_OK && f->ops->sync(f, NULL) == ST_OK && v->ops->rename(v, "d/a", "d/b", NULL) == ST_OK &&
              v->ops->mkdir(v, "d/e", NULL) == ST_OK && v->ops->rename(v, "d/b", "d/e/c", NULL) == ST_OK && v->ops->sync_dir(v, "d", NULL) == ST_OK &&
              v->ops->unlink(v, "d/e/c", NULL) == ST_OK && v->ops->rmdir(v, "d/e", NULL) == ST_OK;
    f->ops->close(f);
    return is_done;
}

static void failing_allocations(void **state)
{
    bool has_failed = true;

    (void)state;
    for (long n = 1; has_failed; n++) {
        struct vfs *v, *copy = NULL;
        bool is_done;

        alloc_fail_arm(n, false);
        if ((v = vfs_memory_create()) == NULL) {
            assert_true(alloc_fail_disarm());
            continue;
        }
        alloc_fail_disarm();
        assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
        put(v, "d/kept", "kept", true);
        sync_dir(v, "d");
        sync_dir(v, "/");
        alloc_fail_arm(n, false);
        is_done = history(v);
        if (is_done)
            copy = vfs_memory_clone(v);
        has_failed = alloc_fail_disarm();
        assert_true(has_failed || (is_done && copy != NULL));
        if (copy != NULL)
            vfs_memory_destroy(copy);
        for (uint64_t seed = 0; seed < 5; seed++) {
            copy = vfs_memory_clone(v);
            assert_non_null(copy);
            alloc_fail_arm(1 + (long)seed, seed % 2 == 0); /* a cut never fails, it only loses */
            vfs_memory_power_cut(copy, (enum power_cut_mode)(seed % 3), seed);
            alloc_fail_disarm();
            assert_string_equal(get(copy, "d/kept"), "kept");
            vfs_memory_power_cut(copy, POWER_CUT_RANDOM, seed);
            assert_string_equal(get(copy, "d/kept"), "kept");
            vfs_memory_destroy(copy);
        }
        assert_int_equal(vfs_remove_tree(v, "d", NULL), ST_OK);
        assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
        assert_true(history(v));
        vfs_memory_destroy(v);
        assert_true(n < 1000);
    }
}

/* Clones share pages with each other and live on different threads. */
static void *clone_user(void *arg)
{
    struct vfs *v = arg;

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct vfs *copy = vfs_memory_clone(v);

        if (copy == NULL || !history(copy))
            return v;
        vfs_memory_power_cut(copy, POWER_CUT_RANDOM, seed);
        vfs_memory_destroy(copy);
        if (seed % 10 == 0) { /* the original changes meanwhile */
            struct vfs_file *f;

            if (v->ops->open(v, "d/shared", VFS_WRITE, &f, NULL) != ST_OK || vfs_write_at(f, seed * 50, "x", 1, NULL) != ST_OK ||
                f->ops->sync(f, NULL) != ST_OK)
                return v;
            f->ops->close(f);
        }
    }
    return NULL;
}

static void clones_on_threads(void **state)
{
    struct vfs *v = vfs_memory_create();
    pthread_t threads[3];

    (void)state;
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
    put(v, "d/shared", "some content", true);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, clone_user, v), 0);
    for (int i = 0; i < 3; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    vfs_memory_destroy(v);
}

/* What a crash test costs here: clone, cut and reopen a store-like tree of 16 MiB. Prints, asserts only a wide bound. */
static void cut_is_cheap(void **state)
{
    struct vfs *v = vfs_memory_create();
    struct timespec start, end;
    char path[20];
    double us;

    (void)state;
    for (int i = 0; i < 16; i++) {
        struct vfs_file *f;

        snprintf(path, sizeof path, "f%d", i);
        f = open_ok(v, path, VFS_WRITE | VFS_CREATE);
        assert_int_equal(f->ops->zero(f, 0, 1 << 20, NULL), ST_OK);
        for (unsigned k = 0; k < 200; k++)
            assert_int_equal(vfs_write_at(f, k * 4096, "some bytes in a page", 20, NULL), ST_OK);
        assert_int_equal(f->ops->sync(f, NULL), ST_OK);
        assert_int_equal(vfs_write_at(f, 7, "unsynced", 8, NULL), ST_OK);
        f->ops->close(f);
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct vfs *copy = vfs_memory_clone(v);

        vfs_memory_power_cut(copy, POWER_CUT_RANDOM, seed);
        vfs_memory_destroy(copy);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    us = ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / 500 / 1000;
    print_message("clone, cut and destroy of 16 files of 1 MiB: %.1f us\n", us);
    assert_true(us < 20000);
    vfs_memory_destroy(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_and_names),
        cmocka_unit_test(directories),
        cmocka_unit_test(replace_is_atomic),
        cmocka_unit_test(chain_of_renames_keeps_one_name),
        cmocka_unit_test(handles_and_locks_die),
        cmocka_unit_test(follows_the_model),
        cmocka_unit_test(random_cut_outcomes),
        cmocka_unit_test(synced_data_survives),
        cmocka_unit_test(capacity),
        cmocka_unit_test(flipped_bits),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(clones_on_threads),
        cmocka_unit_test(cut_is_cheap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
