/* Proves that what is derived from the log can be lost: index and tree come back, at once or in the background, and store_verify() finds nothing. Answers
 * are compared with the model. */
#include "log/log_internal.h"
#include "store/store_fixture.h"

static bool no_findings(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    fail_msg("tx %lu: %s", tx_id, what);
    return false;
}

static void verify_and_rebuild(void **state)
{
    struct fixture f;
    struct err err;
    bool more = true;
    char key[8];

    (void)state;
    begin(&f, defaults());
    for (int i = 0; i < 600; i++) {
        snprintf(key, sizeof key, "%d", i % 37);
        put(&f, key, "value");
        if (i == 300)
            OK(store_flush_index(f.store, &err));
    }
    OK(store_verify(f.store, no_findings, NULL, &err));
    OK(store_compact_index(f.store, &err));
    compare(&f);
    store_close(f.store);
    OK(vfs_remove_tree(f.vfs, "db/index", &err));
    OK(vfs_remove_tree(f.vfs, "db/tree", &err));
    opened(&f);
    while (more)
        OK(store_maintain(f.store, &more, &err));
    OK(store_wait(f.store, 600, 0, &err));
    compare(&f);
    OK(store_verify(f.store, no_findings, NULL, &err));
    end(&f);
}

/* A lost index that takes long to replay: the store opens at once, goes on committing, and catches up in the background. */
static void index_lags_behind(void **state)
{
    struct store_snapshot *view;
    struct store_health health;
    struct fixture f;
    char text[100], key[8];
    struct err err;

    (void)state;
    begin(&f, defaults());
    for (int i = 0; i < 1500; i++) {
        snprintf(key, sizeof key, "%d", i % 50);
        put(&f, key, "value");
    }
    store_close(f.store);
    OK(vfs_remove_tree(f.vfs, "db/index", &err));
    atomic_store(&f.env.mono_step_ns, 1000000000); /* every look at the clock: the time for replaying is over soon */
    opened(&f);
    atomic_store(&f.env.mono_step_ns, 1000);
    store_health(f.store, &health);
    assert_true(health.to_rebuild > 500 && health.to_rebuild < 1500);
    /* The newest view is the whole or none; an older one there may be. */
    assert_int_equal(store_snapshot_open(f.store, 0, &view, &err), ST_BUSY);
    assert_null(view);
    assert_non_null(strstr(err.text, "is being rebuilt"));
    OK(store_snapshot_open(f.store, store_indexed(f.store), &view, &err));
    assert_true(store_snapshot_tx(view) > 0 && store_snapshot_tx(view) < 1500);
    store_snapshot_close(view);
    put(&f, "new", "1"); /* needs no index */
    /* Needs all of it, so it waits. */
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "7", 0, text), ST_OK);
    assert_int_equal(conditional(&f, KEY_MUST_NOT_EXIST, "new", 0, text), ST_CONFLICT);
    OK(store_wait(f.store, f.model.count, 0, &err));
    store_health(f.store, &health);
    assert_int_equal(health.kind, STORE_HEALTHY);
    assert_true(health.rebuilt >= health.to_rebuild);
    compare(&f);
    OK(store_verify(f.store, no_findings, NULL, &err));
    reopened(&f);
    compare(&f);
    end(&f);
}

/* Where damage does not let a lost index be rebuilt, reads of keys are told which, at once: nobody waits for what does not come. */
static void rebuild_meets_damage(void **state)
{
    struct store_snapshot *view;
    uint64_t offset = 0, end_at;
    struct segment *s;
    struct fixture f;
    char key[8];
    struct err err;

    (void)state;
    begin(&f, defaults());
    for (int i = 0; i < 12000; i++) {
        snprintf(key, sizeof key, "%d", i % 50);
        put(&f, key, "value");
    }
    OK(log_locate(f.store->log, 6000, false, &s, &offset, &end_at, &err));
    OK(vfs_memory_flip_bit(f.vfs, cache_file_path(s->file), (offset + 60) * 8, &err));
    segment_unref(s);
    store_close(f.store);
    OK(vfs_remove_tree(f.vfs, "db/index", &err));
    opened(&f);
    assert_int_equal(store_wait(f.store, f.model.count, 0, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "cannot be rebuilt"));
    assert_non_null(strstr(err.text, "tx 6000"));
    assert_int_equal(store_snapshot_open(f.store, 0, &view, &err), ST_CORRUPT);
    assert_non_null(strstr(err.text, "tx 6000"));
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verify_and_rebuild),
        cmocka_unit_test(index_lags_behind),
        cmocka_unit_test(rebuild_meets_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
