/* The importer between two stores in memory: what is exported by one is fed to the other, small and large, and both stand at the same hash; a
 * transaction that does not fit ends it with its own number, however many are under way behind it, and what lay before it is there; when memory runs
 * out at any allocation the import fails cleanly and goes on afterwards. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "migrate/importer.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TX_COUNT = 1500, BIG_TX = 700, BIG_BYTES = 6 << 20 };

struct fixture {
    struct vfs *vfs;
    struct runtime *runtime;
    struct store *from, *to;
};

static void opened(struct fixture *f, const char *dir, struct store **out)
{
    struct store_options o = {.runtime = f->runtime, .dir = dir, .create = true, .tx_version = 1};
    struct err err;

    if (store_open(&o, out, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static void begin(struct fixture *f)
{
    struct runtime_options o = {.memory_limit = 256 << 20};
    struct err err;

    assert_non_null(f->vfs = vfs_memory_create());
    o.vfs = f->vfs;
    assert_int_equal(runtime_create(&o, &f->runtime, &err), ST_OK);
    opened(f, "from", &f->from);
    opened(f, "to", &f->to);
}

static void end(struct fixture *f)
{
    store_close(f->from);
    store_close(f->to);
    runtime_destroy(f->runtime);
    vfs_memory_destroy(f->vfs);
}

static void fill(struct store *s, unsigned first, unsigned count, size_t big_bytes)
{
    uint8_t *big = calloc(1, big_bytes + 1);
    struct store_result result;
    struct store_draft *d;
    struct err err;
    char key[32];

    assert_non_null(big);
    for (unsigned i = first; i < first + count; i++) {
        snprintf(key, sizeof key, "%ckey%u", 0, i);
        assert_int_equal(draft_create(s, &d, &err), ST_OK);
        assert_int_equal(
            draft_set(d, bytes_of(key, 1 + strlen(key + 1)), NULL, i == BIG_TX ? bytes_of(big, big_bytes) : bytes_of("\0value", 6), &err), ST_OK);
        assert_int_equal(store_commit(s, d, false, &result, &err), ST_OK);
    }
    free(big);
}

/* Feeds first..last; the blob of transaction bad is changed at its end (the value: the entries' hash differs then). */
static enum status feed(struct fixture *f, uint64_t first, uint64_t last, uint64_t bad, uint64_t *failed, struct err *err)
{
    struct importer *im = NULL;
    struct arena arena;
    struct bytes blob;
    enum status st;

    *failed = 0;
    arena_init(&arena, 65536, 0);
    if ((st = importer_create(f->to, env_system(), &im, err)) != ST_OK)
        goto done;
    for (uint64_t tx_id = first; tx_id <= last && st == ST_OK; tx_id++) {
        arena_reset(&arena);
        if ((st = store_export(f->from, tx_id, false, false, &arena, &blob, err)) != ST_OK)
            break;
        if (tx_id == bad)
            ((uint8_t *)(uintptr_t)blob.data)[blob.len - 4] ^= 1;
        st = importer_feed(im, tx_id, blob, err);
    }
    if (importer_wait(im, failed, err) != ST_OK)
        st = err->status;
done:
    importer_free(im);
    arena_free(&arena);
    return st;
}

static void expect_same(struct fixture *f)
{
    struct store_state a, b;

    store_get_state(f->from, &a);
    store_get_state(f->to, &b);
    assert_int_equal(a.tx_id, b.tx_id);
    assert_memory_equal(&a.alh, &b.alh, sizeof a.alh);
}

static void everything(void **state)
{
    struct fixture f;
    struct err err;
    uint64_t failed;

    (void)state;
    begin(&f);
    fill(f.from, 1, TX_COUNT, BIG_BYTES);
    assert_int_equal(feed(&f, 1, TX_COUNT, 0, &failed, &err), ST_OK);
    assert_int_equal(failed, 0);
    expect_same(&f);
    assert_int_equal(feed(&f, TX_COUNT, TX_COUNT, 0, &failed, &err), ST_EXISTS); /* it is there already */
    assert_int_equal(failed, TX_COUNT);
    expect_same(&f);
    end(&f);
}

static void wrong_ones(void **state)
{
    static const uint64_t bad[] = {1, 2, 300, BIG_TX, 701};
    struct store_state here;
    struct fixture f;
    struct err err;
    uint64_t failed;

    (void)state;
    begin(&f);
    fill(f.from, 1, TX_COUNT, BIG_BYTES);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        store_get_state(f.to, &here);
        assert_int_equal(feed(&f, here.tx_id + 1, TX_COUNT, bad[i], &failed, &err), ST_INVALID);
        assert_int_equal(failed, bad[i]);
        if (strstr(err.text, "Eh") == NULL)
            fail_msg("tx %llu: %s", (unsigned long long)bad[i], err.text);
        store_get_state(f.to, &here);
        assert_int_equal(here.tx_id, bad[i] - 1);
    }
    assert_int_equal(feed(&f, here.tx_id + 1, TX_COUNT, 0, &failed, &err), ST_OK);
    expect_same(&f);
    end(&f);
}

/* A history that differs from the start: the second transaction does not carry on from the first one here. */
static void another_history(void **state)
{
    struct store_state here;
    struct fixture f;
    struct err err;
    uint64_t failed;

    (void)state;
    begin(&f);
    fill(f.from, 1, 3, 0);
    fill(f.to, 9, 1, 0);
    assert_int_equal(feed(&f, 2, 2, 0, &failed, &err), ST_INVALID);
    assert_int_equal(failed, 2);
    assert_non_null(strstr(err.text, "blRoot"));
    store_get_state(f.to, &here);
    assert_int_equal(here.tx_id, 1);
    end(&f);
}

static void no_memory(void **state)
{
    struct store_state here;
    struct fixture f;
    struct err err;
    uint64_t failed;
    bool is_whole = false;

    (void)state;
    begin(&f);
    fill(f.from, 1, 40, 0);
    for (long n = 1; n < 400 && !is_whole; n++) {
        store_get_state(f.to, &here);
        alloc_fail_arm(n, false);
        is_whole = feed(&f, here.tx_id + 1, 40, 0, &failed, &err) == ST_OK;
        (void)alloc_fail_disarm();
        if (!is_whole && err.status != ST_NOMEM && err.status != ST_TIMEOUT)
            fail_msg("%s", err.text);
    }
    store_get_state(f.to, &here);
    assert_int_equal(feed(&f, here.tx_id + 1, 40, 0, &failed, &err), ST_OK);
    expect_same(&f);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(wrong_ones),
        cmocka_unit_test(another_history),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
