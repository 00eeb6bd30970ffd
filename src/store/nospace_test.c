/* Proves what a full disk does: writes wait, reads and proofs go on, space that returns is enough to go on, deadlines end the waiting with ST_NO_SPACE, closing does not hang,
 * and nothing that was acknowledged is lost whatever the moment at which the disk was full - also in the background and while opening. */
#include "base/test.h"
#include "store/store_internal.h"
#include "store/store_model.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct fixture {
    struct env env;
    struct vfs *disk, *vfs;
    struct runtime *runtime;
    struct store_options o;
    struct store *store;
    struct model model;
};

static void log_nothing(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static void begin(struct fixture *f, enum store_durability durability)
{
    struct runtime_options ro = {.memory_limit = 32 << 20};
    struct err err;

    memset(f, 0, sizeof *f);
    f->env = *env_system();
    f->env.log = log_nothing;
    f->disk = vfs_memory_create();
    f->vfs = vfs_faulty_create(f->disk);
    ro.vfs = f->vfs;
    ro.env = &f->env;
    model_init(&f->model);
    assert_int_equal(runtime_create(&ro, &f->runtime, &err), ST_OK);
    f->o = (struct store_options){.runtime = f->runtime,
                                  .dir = "db",
                                  .create = true,
                                  .tx_version = 1,
                                  .durability = durability,
                                  .segment_bytes_first = 4096,
                                  .segment_bytes_max = 16384,
                                  .memtable_bytes_max = 64 << 10};
    assert_int_equal(store_open(&f->o, &f->store, &err), ST_OK);
}

static void end(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
    vfs_faulty_destroy(f->vfs);
    vfs_memory_destroy(f->disk);
    model_free(&f->model);
}

static enum status put(struct fixture *f, size_t value_len, uint64_t wait_ms, struct err *err)
{
    static uint8_t value[8192];
    struct store_draft *d;
    struct store_result r;
    enum status st;
    char key[16];

    key[0] = 0;
    snprintf(key + 1, sizeof key - 1, "k%zu", f->model.count % 10);
    model_begin(&f->model);
    model_entry_add(&f->model, bytes_of(key, 1 + strlen(key + 1)), NULL, bytes_of(value, value_len));
    st = draft_create(f->store, &d, err);
    assert_int_equal(st, ST_OK);
    assert_int_equal(draft_set(d, bytes_of(key, 1 + strlen(key + 1)), NULL, bytes_of(value, value_len), err), ST_OK);
    if (wait_ms > 0)
        draft_set_deadline(d, env_mono_ns(&f->env) + wait_ms * 1000000);
    st = store_commit(f->store, d, true, &r, err);
    if (st != ST_OK)
        model_cut(&f->model, f->model.count - 1);
    return st;
}

static void compare(struct fixture *f)
{
    struct store_state s;
    char why[512];

    store_get_state(f->store, &s);
    assert_int_equal(s.visible_tx_id, f->model.count);
    if (!model_check(&f->model, f->store, s.visible_tx_id, 0, why))
        fail_msg("%s", why);
}

static void *heal_later(void *ctx)
{
    struct fixture *f = ctx;
    struct timespec pause = {0, 100000000};

    nanosleep(&pause, NULL);
    vfs_faulty_heal(f->vfs);
    return NULL;
}

static void writes_wait(void **state)
{
    struct store_health health;
    struct fixture f;
    struct err err;
    pthread_t thread;

    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        begin(&f, mode == 0 ? STORE_DURABLE : STORE_ASYNC);
        for (int i = 0; i < 10; i++)
            assert_int_equal(put(&f, 100, 0, &err), ST_OK);
        vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
        assert_int_equal(put(&f, 100, 50, &err), ST_NO_SPACE);
        assert_string_equal(err.text, "no space left on device: database db cannot be written");
        store_health(f.store, &health);
        assert_int_equal(health.kind, STORE_DEGRADED);
        compare(&f); /* reads and proofs */
        pthread_create(&thread, NULL, heal_later, &f);
        assert_int_equal(put(&f, 100, 0, &err), ST_OK); /* waits, then goes through */
        pthread_join(thread, NULL);
        store_health(f.store, &health);
        assert_int_equal(health.kind, STORE_HEALTHY);
        compare(&f);
        for (int i = 0; i < 30; i++)
            assert_int_equal(put(&f, 3000, 0, &err), ST_OK);
        compare(&f);
        end(&f);
    }
}

static void closing_does_not_hang(void **state)
{
    struct fixture f;
    struct err err;

    (void)state;
    begin(&f, STORE_DURABLE);
    assert_int_equal(put(&f, 100, 0, &err), ST_OK);
    vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
    assert_int_equal(put(&f, 100, 30, &err), ST_NO_SPACE);
    store_close(f.store);
    vfs_faulty_heal(f.vfs);
    /* A full disk does not keep a database from being opened and read. */
    vfs_memory_set_capacity(f.disk, 1);
    if (store_open(&f.o, &f.store, &err) != ST_OK)
        fail_msg("opening on a full disk: %s", err.text);
    compare(&f);
    vfs_memory_set_capacity(f.disk, 0);
    assert_int_equal(put(&f, 100, 0, &err), ST_OK);
    compare(&f);
    end(&f);
}

/* The disk is full from the n-th operation on, through a workload that flushes and switches segments; then it heals. */
static void every_moment(void **state)
{
    struct fixture f;
    struct err err;
    bool more;
    enum status st;

    (void)state;
    for (uint64_t n = 1; n < 120; n += 3) {
        begin(&f, n % 2 == 0 ? STORE_DURABLE : STORE_ASYNC);
        vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, n, 0);
        for (int i = 0; i < 24; i++) {
            st = put(&f, i % 5 == 0 ? 3000 : 100, 1, &err);
            if (st != ST_OK && st != ST_NO_SPACE && st != ST_TIMEOUT)
                fail_msg("full at %lu: %s", n, err.text);
            if (i % 6 == 5) {
                st = store_flush_index(f.store, &err);
                if (st != ST_OK && st != ST_NO_SPACE)
                    fail_msg("flush, full at %lu: %s", n, err.text);
                st = store_maintain(f.store, &more, &err);
                if (st != ST_OK && st != ST_NO_SPACE)
                    fail_msg("background, full at %lu: %s", n, err.text);
            }
        }
        compare(&f);
        vfs_faulty_heal(f.vfs);
        assert_int_equal(put(&f, 100, 0, &err), ST_OK);
        if (store_flush_index(f.store, &err) != ST_OK)
            fail_msg("flush after healing, full at %lu: %s", n, err.text);
        compare(&f);
        store_close(f.store);
        assert_int_equal(store_open(&f.o, &f.store, &err), ST_OK);
        compare(&f);
        end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_wait), cmocka_unit_test(closing_does_not_hang), cmocka_unit_test(every_moment)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
