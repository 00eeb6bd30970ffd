/* Proves that faults fire at the operation they were armed for and nowhere else, that each kind does what it says to the
 * disk below, that counts are exact and the same in every run, and that FAULT_STOP at n = 1, 2, 3, ... walks through a
 * workload operation by operation. */
#include "base/test.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <stdlib.h>

struct disk {
    struct vfs *inner, *v;
};

static int setup(void **state)
{
    struct disk *d = calloc(1, sizeof *d);

    assert_non_null(d);
    d->inner = vfs_memory_create();
    d->v = vfs_faulty_create(d->inner);
    assert_non_null(d->v);
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct disk *d = *state;

    vfs_faulty_destroy(d->v);
    vfs_memory_destroy(d->inner);
    vfs_faulty_destroy(NULL);
    free(d);
    return 0;
}

static bool never(void *ctx, const char *name, bool is_dir)
{
    (void)ctx;
    (void)name;
    (void)is_dir;
    return true;
}

/* Every mutating operation once; the number done. Stops at the first failure. */
enum { WORKLOAD_OPS = 12 };
static unsigned workload(struct vfs *v)
{
    struct vfs_file *f;
    unsigned done = 0;

    if (v->ops->mkdir(v, "d", NULL) != ST_OK)
        return done;
    done++;
    if (v->ops->open(v, "d/a", VFS_WRITE | VFS_CREATE, &f, NULL) != ST_OK)
        return done;
    done++;
    if (vfs_write_at(f, 0, "hello", 5, NULL) == ST_OK && ++done && f->ops->zero(f, 5, 100, NULL) == ST_OK && ++done &&
        f->ops->truncate(f, 50, NULL) == ST_OK && ++done && f->ops->sync(f, NULL) == ST_OK && ++done &&
        v->ops->rename(v, "d/a", "d/b", NULL) == ST_OK && ++done && v->ops->sync_dir(v, "d", NULL) == ST_OK && ++done &&
        v->ops->mkdir(v, "d/e", NULL) == ST_OK && ++done && v->ops->rmdir(v, "d/e", NULL) == ST_OK && ++done &&
        v->ops->unlink(v, "d/b", NULL) == ST_OK && ++done && v->ops->rmdir(v, "d", NULL) == ST_OK)
        ++done;
    f->ops->close(f);
    return done;
}

static void counts(void **state)
{
    struct disk *d = *state;
    struct vfs *v = d->v;
    struct vfs_file *f;
    uint64_t n;
    char buf[5];

    assert_int_equal(workload(v), WORKLOAD_OPS);
    assert_int_equal(vfs_faulty_op_count(v), WORKLOAD_OPS);
    assert_int_equal(vfs_faulty_read_count(v), 0);
    assert_int_equal(v->ops->open(v, "a", VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
    assert_int_equal(vfs_write_at(f, 0, "hello", 5, NULL), ST_OK);
    n = vfs_faulty_op_count(v);
    assert_int_equal(f->ops->read(f, 0, buf, 5, NULL), ST_OK);
    assert_int_equal(f->ops->read_nowait(f, 0, buf, 5, NULL), ST_OK);
    assert_int_equal(f->ops->length(f, &n, NULL), ST_OK);
    assert_int_equal(f->ops->lock(f, NULL), ST_OK);
    assert_int_equal(v->ops->space(v, "/", &n, NULL), ST_OK);
    assert_int_equal(v->ops->list(v, "/", never, NULL, NULL), ST_OK);
    f->ops->close(f);
    assert_int_equal(v->ops->open(v, "a", VFS_READ, &f, NULL), ST_OK);
    f->ops->close(f);
    assert_int_equal(vfs_faulty_op_count(v), WORKLOAD_OPS + 2);
    assert_int_equal(vfs_faulty_read_count(v), 2);
    assert_false(vfs_faulty_fired(v));
}

static void stop_walks_through(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= WORKLOAD_OPS + 1; n++) {
        struct disk d;
        struct vfs_file *f;
        uint64_t bytes_free;

        d.inner = vfs_memory_create();
        d.v = vfs_faulty_create(d.inner);
        assert_int_equal(d.inner->ops->open(d.inner, "old", VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
        f->ops->close(f);
        vfs_faulty_arm(d.v, FAULT_STOP, n, 0);
        assert_int_equal(workload(d.v), n - 1);
        assert_int_equal(vfs_faulty_fired(d.v), n <= WORKLOAD_OPS);
        if (n <= WORKLOAD_OPS) { /* dead for everything, until healed */
            struct err err;

            assert_int_equal(d.v->ops->open(d.v, "old", VFS_READ, &f, &err), ST_IO);
            assert_int_equal(err.status, ST_IO);
            assert_int_equal(d.v->ops->list(d.v, "/", never, NULL, NULL), ST_IO);
            assert_int_equal(d.v->ops->space(d.v, "/", &bytes_free, NULL), ST_IO);
            assert_int_equal(d.v->ops->mkdir(d.v, "x", NULL), ST_IO);
            assert_int_equal(d.inner->ops->mkdir(d.inner, "x", NULL), ST_OK); /* nothing was done below */
        }
        vfs_faulty_heal(d.v);
        assert_int_equal(d.v->ops->open(d.v, "old", VFS_READ, &f, NULL), ST_OK);
        assert_int_equal(vfs_faulty_fired(d.v), n <= WORKLOAD_OPS);
        f->ops->close(f);
        vfs_faulty_destroy(d.v);
        vfs_memory_destroy(d.inner);
    }
}

/* An open handle is dead too: read, length, lock. */
static void stop_kills_handles(void **state)
{
    struct disk *d = *state;
    struct vfs_file *f;
    uint64_t length;
    char c;

    assert_int_equal(d->v->ops->open(d->v, "a", VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
    assert_int_equal(vfs_write_at(f, 0, "x", 1, NULL), ST_OK);
    vfs_faulty_arm(d->v, FAULT_STOP, 1, 0);
    assert_int_equal(f->ops->read(f, 0, &c, 1, NULL), ST_OK); /* not yet */
    assert_int_equal(f->ops->sync(f, NULL), ST_IO);
    assert_int_equal(f->ops->read(f, 0, &c, 1, NULL), ST_IO);
    assert_int_equal(f->ops->read_nowait(f, 0, &c, 1, NULL), ST_IO);
    assert_int_equal(f->ops->length(f, &length, NULL), ST_IO);
    assert_int_equal(f->ops->lock(f, NULL), ST_IO);
    f->ops->close(f);
}

/* How much of a torn write of two parts arrived; the content must be a prefix. */
static size_t torn_len(enum fault_kind kind, uint64_t seed)
{
    struct vfs *inner = vfs_memory_create(), *v = vfs_faulty_create(inner);
    static uint8_t data[3000], got[3000];
    struct vfs_iovec parts[2] = {{data, 1000}, {data + 1000, 2000}};
    struct vfs_file *f;
    uint64_t length, rng = 1;

    test_random_fill(&rng, data, sizeof data);
    assert_int_equal(v->ops->open(v, "a", VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
    vfs_faulty_arm(v, kind, 1, seed);
    assert_int_equal(f->ops->write(f, 0, parts, 2, NULL), ST_IO);
    assert_int_equal(f->ops->write(f, 5000, parts, 0, NULL), kind == FAULT_EIO ? ST_OK : ST_IO);
    vfs_faulty_heal(v);
    assert_int_equal(f->ops->length(f, &length, NULL), ST_OK);
    assert_in_range(length, 0, 3000);
    assert_int_equal(f->ops->read(f, 0, got, (size_t)length, NULL), ST_OK);
    assert_memory_equal(got, data, (size_t)length);
    f->ops->close(f);
    vfs_faulty_destroy(v);
    vfs_memory_destroy(inner);
    return (size_t)length;
}

static void torn_writes(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        enum fault_kind kind = k == 0 ? FAULT_STOP_TORN : FAULT_EIO;
        unsigned at_sector = 0, within = 0, in_second = 0;

        for (uint64_t seed = 0; seed < 200; seed++) {
            size_t len = torn_len(kind, seed);

            assert_int_equal(len, torn_len(kind, seed));
            at_sector += len % 512 == 0;
            within += len % 512 != 0;
            in_second += len > 1000;
        }
        assert_true(at_sector > 40 && within > 40 && in_second > 40);
    }
    assert_int_equal(torn_len(FAULT_STOP, 0), 0);
}

static void one_failure(void **state)
{
    struct disk *d = *state;
    struct vfs_file *f;
    char c;

    assert_int_equal(d->v->ops->open(d->v, "a", VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
    assert_int_equal(vfs_write_at(f, 0, "x", 1, NULL), ST_OK);
    vfs_faulty_arm(d->v, FAULT_EIO, 2, 0);
    assert_int_equal(vfs_write_at(f, 0, "y", 1, NULL), ST_OK);
    assert_false(vfs_faulty_fired(d->v));
    assert_int_equal(f->ops->sync(f, NULL), ST_IO);
    assert_true(vfs_faulty_fired(d->v));
    assert_int_equal(f->ops->sync(f, NULL), ST_OK); /* the trap: a later sync says all is well */
    vfs_faulty_arm(d->v, FAULT_EIO_READ, 2, 0);
    assert_int_equal(vfs_write_at(f, 0, "z", 1, NULL), ST_OK); /* counts no read */
    assert_int_equal(f->ops->sync(f, NULL), ST_OK);
    assert_int_equal(f->ops->read(f, 0, &c, 1, NULL), ST_OK);
    assert_int_equal(f->ops->read_nowait(f, 0, &c, 1, NULL), ST_IO);
    assert_int_equal(f->ops->read(f, 0, &c, 1, NULL), ST_OK);
    assert_true(vfs_faulty_fired(d->v));
    f->ops->close(f);
}

static void full_disk(void **state)
{
    struct disk *d = *state;
    struct vfs *v = d->v;
    struct vfs_file *f, *g;

    assert_int_equal(v->ops->open(v, "a", VFS_WRITE | VFS_CREATE, &f, NULL), ST_OK);
    assert_int_equal(vfs_write_at(f, 0, "0123456789", 10, NULL), ST_OK);
    vfs_faulty_arm(v, FAULT_NO_SPACE, 2, 0);
    assert_int_equal(vfs_write_at(f, 10, "x", 1, NULL), ST_OK);
    assert_int_equal(vfs_write_at(f, 11, "x", 1, NULL), ST_NO_SPACE);
    assert_int_equal(vfs_write_at(f, 11, "x", 1, NULL), ST_NO_SPACE);
    assert_int_equal(vfs_write_at(f, 0, "y", 1, NULL), ST_OK); /* in place */
    assert_int_equal(f->ops->zero(f, 5, 6, NULL), ST_OK);
    assert_int_equal(f->ops->zero(f, 5, 7, NULL), ST_NO_SPACE);
    assert_int_equal(f->ops->sync(f, NULL), ST_OK);
    assert_int_equal(f->ops->truncate(f, 4, NULL), ST_OK);
    assert_int_equal(v->ops->open(v, "b", VFS_WRITE | VFS_CREATE, &g, NULL), ST_NO_SPACE);
    assert_null(g);
    assert_int_equal(v->ops->open(v, "b", VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE, &g, NULL), ST_NO_SPACE);
    assert_int_equal(v->ops->open(v, "a", VFS_WRITE | VFS_CREATE, &g, NULL), ST_OK);
    g->ops->close(g);
    assert_int_equal(v->ops->open(v, "a", VFS_READ, &g, NULL), ST_OK);
    g->ops->close(g);
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_NO_SPACE);
    assert_int_equal(v->ops->rename(v, "a", "c", NULL), ST_OK);
    assert_int_equal(v->ops->sync_dir(v, "/", NULL), ST_OK);
    vfs_faulty_heal(v);
    assert_int_equal(vfs_write_at(f, 11, "x", 1, NULL), ST_OK);
    assert_int_equal(v->ops->mkdir(v, "d", NULL), ST_OK);
    f->ops->close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counts, setup, teardown),
        cmocka_unit_test(stop_walks_through),
        cmocka_unit_test_setup_teardown(stop_kills_handles, setup, teardown),
        cmocka_unit_test(torn_writes),
        cmocka_unit_test_setup_teardown(one_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
