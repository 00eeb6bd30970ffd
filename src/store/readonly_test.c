/* Proves that a database which is read-only is left alone on the disk: opened so, found damaged, or after a failed write, the work in the background flushes
 * and merges nothing, whatever there was to do. What reads need comes back all the same: an index that is lost. */
#include "store/store_fixture.h"
#include "vfs/vfs_faulty.h"

/* Enough for several memtables. */
static void fill(struct fixture *f, int count)
{
    char key[64];

    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof key, "key %d of a database that is full of keys", i);
        put(f, key, "value");
    }
}

/* The store below the fixture's runtime, on a disk that counts. */
static struct vfs *begin_counting(struct fixture *f, struct store_options o)
{
    struct runtime_options ro = {.memory_limit = 64 << 20};
    struct vfs *counting;
    struct err err;

    begin(f, o);
    store_close(f->store);
    runtime_destroy(f->runtime);
    counting = vfs_faulty_create(f->vfs);
    ro.vfs = counting;
    ro.env = &f->env.env;
    OK(runtime_create(&ro, &f->runtime, &err));
    f->o.runtime = f->runtime;
    opened(f);
    return counting;
}

static void end_counting(struct fixture *f, struct vfs *counting)
{
    end(f);
    vfs_faulty_destroy(counting);
}

static void maintained(struct fixture *f)
{
    bool more = true;
    struct err err;

    for (int i = 0; i < 1000 && more; i++)
        OK(store_maintain(f->store, &more, &err));
    assert_false(more);
}

static void nothing_is_written(void **state)
{
    enum { WRITABLE, OPENED_SO, DAMAGED, FAILED };
    struct store_options o = defaults();
    struct fixture f;

    (void)state;
    o.memtable_bytes_max = 64 << 10;
    for (int how = WRITABLE; how <= FAILED; how++) {
        struct vfs *counting = begin_counting(&f, o);
        uint64_t before;
        struct err err;

        pthread_mutex_lock(&f.store->maintenance_lock); /* all of it is left to be done */
        fill(&f, 900);
        assert_true(index_wants_flush(f.store->index));
        (void)err_set(&err, ST_IO, 0, "for this test");
        if (how == DAMAGED)
            atomic_store(&f.store->is_damaged, true);
        else if (how != WRITABLE)
            store_fail(f.store, &err);
        before = vfs_faulty_op_count(counting);
        pthread_mutex_unlock(&f.store->maintenance_lock);
        if (how == OPENED_SO) { /* what closing would have written, if it could, is replayed */
            f.o.read_only = true;
            reopened(&f);
            assert_true(index_wants_flush(f.store->index));
            before = vfs_faulty_op_count(counting);
        }
        maintained(&f);
        while (atomic_load(&f.store->maintenance_queued) || atomic_load(&f.store->users) > 0)
            ;
        if (how == WRITABLE) {
            assert_true(vfs_faulty_op_count(counting) > before);
        } else {
            assert_int_equal(vfs_faulty_op_count(counting), before);
            assert_int_equal(store_flush_index(f.store, &err), ST_READ_ONLY);
        }
        compare(&f);
        end_counting(&f, counting);
    }
}

static void a_lost_index_comes_back(void **state)
{
    struct store_options o = defaults();
    struct fixture f;
    struct err err;

    (void)state;
    o.memtable_bytes_max = 64 << 10;
    begin(&f, o);
    fill(&f, 1500);
    store_close(f.store);
    OK(vfs_remove_tree(f.vfs, "db/index", &err));
    f.o.read_only = true;
    atomic_store(&f.env.mono_step_ns, 1000000000); /* every look at the clock: the time for replaying is over soon */
    opened(&f);
    atomic_store(&f.env.mono_step_ns, 1000);
    maintained(&f);
    OK(store_wait(f.store, 1500, 0, &err));
    compare(&f);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_is_written), cmocka_unit_test(a_lost_index_comes_back)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
