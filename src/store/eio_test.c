/* Proves what an input/output error does, at every changing operation and every read of a workload:
 *   - a failed write or sync makes the store read-only and loud; what was acknowledged is still read and proven; after reopening it is there and can be written
 *   - a failed read fails that call alone: never a wrong or shorter answer */
#include "base/test.h"
#include "store/store_model.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>

struct fixture {
    struct test_env env;
    struct vfs *disk, *vfs;
    struct runtime *runtime;
    struct store_options o;
    struct store *store;
    struct model model;
    uint64_t unsure; /* txs that failed and may or may not be there after reopening */
};

static enum status opened(struct fixture *f, size_t memory, struct err *err)
{
    struct runtime_options ro = {.vfs = f->vfs, .env = &f->env.env, .memory_limit = memory};
    enum status st = runtime_create(&ro, &f->runtime, err);

    assert_int_equal(st, ST_OK);
    f->o = (struct store_options){.runtime = f->runtime,
                                  .dir = "db",
                                  .create = true,
                                  .tx_version = 1,
                                  .segment_bytes_first = 2048,
                                  .segment_bytes_max = 8192,
                                  .memtable_bytes_max = 64 << 10};
    if ((st = store_open(&f->o, &f->store, err)) != ST_OK) {
        runtime_destroy(f->runtime);
        f->runtime = NULL;
    }
    return st;
}

static void closed(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
    f->store = NULL;
    f->runtime = NULL;
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    test_env_init(&f->env, 3);
    f->disk = vfs_memory_create();
    f->vfs = vfs_faulty_create(f->disk);
    model_init(&f->model);
}

static void end(struct fixture *f)
{
    if (f->store != NULL)
        closed(f);
    vfs_faulty_destroy(f->vfs);
    vfs_memory_destroy(f->disk);
    model_free(&f->model);
}

static enum status put(struct fixture *f, unsigned i, struct err *err)
{
    static uint8_t value[4096];
    struct store_draft *d;
    struct store_result r;
    enum status st;
    char key[16];

    key[0] = 0;
    snprintf(key + 1, sizeof key - 1, "k%u", i % 7);
    value[0] = (uint8_t)i;
    if ((st = draft_create(f->store, &d, err)) != ST_OK)
        return st;
    assert_int_equal(draft_set(d, bytes_of(key, 1 + strlen(key + 1)), NULL, bytes_of(value, i % 4 == 0 ? 1500 : 90), err), ST_OK);
    st = store_commit(f->store, d, false, &r, err);
    model_begin(&f->model);
    model_entry_add(&f->model, bytes_of(key, 1 + strlen(key + 1)), NULL, bytes_of(value, i % 4 == 0 ? 1500 : 90));
    if (st != ST_OK) {
        if (f->unsure == 0)
            f->unsure = 1; /* this one; later ones were refused before anything was written */
        else
            model_cut(&f->model, f->model.count - 1);
    } else {
        f->model.txs[f->model.count - 1].is_acked = true;
        f->model.txs[f->model.count - 1].alh = r.alh;
    }
    return st;
}

static void failing_operations(void **state)
{
    struct store_health health;
    struct store_state s;
    struct fixture f;
    struct err err;
    char why[512];
    uint64_t n, fired = 0;

    (void)state;
    for (n = 1; n < 400; n++) {
        uint64_t acked;
        bool has_failed = false, more;

        begin(&f);
        vfs_faulty_arm(f.vfs, FAULT_EIO, n, n);
        if (opened(&f, 8 << 20, &err) != ST_OK) {
            assert_true(vfs_faulty_fired(f.vfs));
            if (opened(&f, 8 << 20, &err) != ST_OK)
                fail_msg("opening again after a failure at %lu: %s", n, err.text);
        }
        for (unsigned i = 0; i < 24; i++) {
            if (put(&f, i, &err) != ST_OK && !has_failed) {
                has_failed = true;
                snprintf(why, sizeof why, "%s", err.text);
            }
            if (i % 8 == 7) {
                (void)!store_flush_index(f.store, &err);
                (void)!store_maintain(f.store, &more, &err);
            }
        }
        acked = f.model.count - f.unsure;
        store_health(f.store, &health);
        if (has_failed && health.kind != STORE_READ_ONLY_FAILED)
            fail_msg("failure at %lu (%s): health %d %s", n, why, (int)health.kind, health.text);
        store_get_state(f.store, &s);
        assert_int_equal(s.tx_id, acked);
        if (!model_check(&f.model, f.store, acked, 0, why))
            fail_msg("failure at %lu: %s", n, why);
        closed(&f);
        vfs_faulty_heal(f.vfs);
        if (opened(&f, 8 << 20, &err) != ST_OK)
            fail_msg("reopening after a failure at %lu: %s", n, err.text);
        store_health(f.store, &health);
        if (health.kind != STORE_HEALTHY)
            fail_msg("reopened after a failure at %lu: %s", n, health.text);
        store_get_state(f.store, &s);
        if (s.tx_id < acked || s.tx_id > f.model.count)
            fail_msg("failure at %lu: %lu acknowledged, %lu there", n, acked, s.tx_id);
        if (!model_check(&f.model, f.store, s.tx_id, 0, why))
            fail_msg("reopened after a failure at %lu: %s", n, why);
        model_cut(&f.model, s.tx_id);
        f.unsure = 0;
        assert_int_equal(put(&f, 5, &err), ST_OK);
        fired += vfs_faulty_fired(f.vfs);
        if (!vfs_faulty_fired(f.vfs) && n > 20) {
            end(&f);
            break;
        }
        end(&f);
    }
    assert_true(n > 60 && n < 400 && fired > 60);
}

/* Reads that fail once: the answer is an error or the right one. */
static void failing_reads(void **state)
{
    struct fixture f;
    struct err err;
    char why[512];
    uint64_t failures = 0;

    (void)state;
    begin(&f);
    assert_int_equal(opened(&f, 8 << 20, &err), ST_OK);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(put(&f, i, &err), ST_OK);
    assert_int_equal(store_compact_index(f.store, &err), ST_OK);
    closed(&f);
    for (uint64_t n = 1; n < 200; n++) {
        uint64_t before = vfs_faulty_read_count(f.vfs);
        bool ok;

        vfs_faulty_arm(f.vfs, FAULT_EIO_READ, n, n);
        if (opened(&f, 1 << 20, &err) != ST_OK) {
            failures++;
            vfs_faulty_heal(f.vfs);
            assert_int_equal(opened(&f, 1 << 20, &err), ST_OK);
        }
        ok = model_check(&f.model, f.store, f.model.count, 0, why);
        failures += !ok;
        vfs_faulty_heal(f.vfs);
        if (!ok && !model_check(&f.model, f.store, f.model.count, 0, why)) {
            bool more = true;

            /* The index may have taken a run out of use; it is rebuilt. */
            for (int i = 0; i < 50 && more; i++)
                assert_int_equal(store_maintain(f.store, &more, &err), ST_OK);
            if (!model_check(&f.model, f.store, f.model.count, 0, why))
                fail_msg("read %lu failed once, later: %s", n, why);
        }
        closed(&f);
        if (vfs_faulty_read_count(f.vfs) - before < n)
            break;
    }
    assert_true(failures > 10);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(failing_operations), cmocka_unit_test(failing_reads)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
