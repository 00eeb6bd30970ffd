/* Proves that nobody waits longer than he has to, for what may never come: space, descriptors, an index that is being rebuilt. Answers come before the
 * deadline and name the cause, few wait and the others are told at once, who gave up is let go, a stop ends all waiting, and none of those who were
 * refused was written. On the real clock, since timers are what is tested. */
#include "base/test.h"
#include "store/store_internal.h"
#include "store/store_model.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
#define OK(call) \
    do { \
        if ((call) != ST_OK) \
            fail_msg("%s: %s", #call, err.text); \
    } while (0)

struct fixture {
    struct env env;
    struct vfs *disk, *vfs; /* NULL, NULL: the real one */
    struct runtime *runtime;
    struct store *store;
};

static void log_nothing(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static void begin(struct fixture *f, const char *dir, enum store_durability durability)
{
    struct runtime_options ro = {.memory_limit = 512 << 20};
    struct store_options o = {
        .dir = dir, .create = true, .tx_version = 1, .durability = durability, .segment_bytes_first = 4096, .segment_bytes_max = 1 << 20};
    struct err err;

    memset(f, 0, sizeof *f);
    f->env = *env_system();
    f->env.log = log_nothing;
    if (dir[0] != '/') {
        f->disk = vfs_memory_create();
        f->vfs = vfs_faulty_create(f->disk);
        ro.vfs = f->vfs;
    }
    ro.env = &f->env;
    OK(runtime_create(&ro, &f->runtime, &err));
    o.runtime = f->runtime;
    OK(store_open(&o, &f->store, &err));
}

static void end(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
    if (f->vfs != NULL) {
        vfs_faulty_destroy(f->vfs);
        vfs_memory_destroy(f->disk);
    }
}

static uint64_t now(struct fixture *f) { return env_mono_ns(&f->env); }

static void sleep_ms(long ms)
{
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

/* One write of a key of its own, and what became of it. */
struct attempt {
    char key[16];
    uint8_t *value;
    _Atomic bool is_done, is_given_up;
    enum status st;
    char text[224];
    uint64_t begun_ns, done_ns;
    struct fixture *f;
};

static bool given_up(void *ctx) { return atomic_load(&((struct attempt *)ctx)->is_given_up); }

static void attempt_done(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct attempt *a = ctx;

    (void)d;
    a->st = r->status;
    snprintf(a->text, sizeof a->text, "%s", r->status == ST_OK ? "" : r->err.text);
    a->done_ns = now(a->f);
    atomic_store(&a->is_done, true);
}

enum how { PLAIN = 0, HASTY = 1, CONDITIONAL = 2, NOT_CANCELLABLE = 4 };

static void attempt_begin(struct fixture *f, struct attempt *a, int number, size_t value_len, uint64_t wait_ms, unsigned how)
{
    struct store_draft *d;
    struct err err;

    memset(a, 0, sizeof *a);
    a->f = f;
    a->value = calloc(1, value_len + 1);
    assert_non_null(a->value);
    snprintf(a->key + 1, sizeof a->key - 1, "k%05d", number);
    OK(draft_create(f->store, &d, &err));
    OK(draft_set(d, bytes_of(a->key, 7), NULL, bytes_of(a->value, value_len), &err));
    if ((how & CONDITIONAL) != 0)
        OK(draft_precondition(d, KEY_MUST_NOT_EXIST, bytes_of(a->key, 7), 0, &err));
    a->begun_ns = now(f);
    draft_set_deadline(d, wait_ms == 0 ? UINT64_MAX : a->begun_ns + wait_ms * MS); /* none: as a server's calls have it */
    if ((how & NOT_CANCELLABLE) == 0)
        draft_set_cancel(d, given_up, a);
    if ((how & HASTY) != 0)
        draft_set_hasty(d);
    store_submit(f->store, d, true, STORE_DRIVE_POOL, attempt_done, a);
}

static uint64_t attempt_end(struct attempt *a)
{
    while (!atomic_load(&a->is_done))
        sleep_ms(1);
    free(a->value);
    a->value = NULL;
    return (a->done_ns - a->begun_ns) / MS;
}

static bool is_there(struct fixture *f, const struct attempt *a)
{
    struct store_snapshot *view;
    struct index_version version;
    struct err err;
    enum status st;

    OK(store_snapshot_open(f->store, 0, &view, &err));
    st = index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_of(a->key + 1, 6), false, &version, NULL, &err);
    store_snapshot_close(view);
    assert_true(st == ST_OK || st == ST_NOT_FOUND);
    return st == ST_OK;
}

static void answered_before_the_deadline(void **state)
{
    static const char *const text = "no space left on device: database db cannot be written";
    struct attempt a;
    struct fixture f;
    uint64_t ms;

    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        begin(&f, "db", mode == 0 ? STORE_DURABLE : STORE_ASYNC);
        attempt_begin(&f, &a, 0, 100, 0, PLAIN);
        attempt_end(&a);
        assert_int_equal(a.st, ST_OK);
        vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
        for (int i = 0; i < 3; i++) {
            static const uint64_t wait_ms[] = {1000, 100, 3000};

            attempt_begin(&f, &a, 1, 100, wait_ms[i], PLAIN);
            ms = attempt_end(&a);
            assert_int_equal(a.st, ST_NO_SPACE);
            assert_string_equal(a.text, text);
            if (ms >= wait_ms[i] - wait_ms[i] / 20 || ms < wait_ms[i] / 3)
                fail_msg("of %lu ms %lu passed", wait_ms[i], ms);
        }
        attempt_begin(&f, &a, 2, 100, 0, HASTY);
        ms = attempt_end(&a);
        assert_int_equal(a.st, ST_NO_SPACE);
        assert_string_equal(a.text, text);
        assert_true(ms < 200);
        vfs_faulty_heal(f.vfs);
        attempt_begin(&f, &a, 3, 100, 0, HASTY); /* one try is enough to find that there is space again */
        attempt_end(&a);
        assert_int_equal(a.st, ST_OK);
        assert_true(is_there(&f, &a));
        for (int i = 1; i < 3; i++) {
            snprintf(a.key + 1, sizeof a.key - 1, "k%05d", i);
            assert_false(is_there(&f, &a));
        }
        end(&f);
    }
}

static void without_a_deadline(void **state)
{
    struct attempt a;
    struct fixture f;
    uint64_t ms;

    (void)state;
    begin(&f, "db", STORE_DURABLE);
    vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
    attempt_begin(&f, &a, 1, 100, 0, PLAIN);
    ms = attempt_end(&a);
    assert_int_equal(a.st, ST_NO_SPACE);
    assert_true(ms >= 9900 && ms < 11000);
    end(&f);
}

/* 200 writers of 64 KiB each: what waits is bounded, everybody else knows at once. */
static void few_wait(void **state)
{
    enum { COUNT = 200, BYTES = 64 << 10 };
    static struct attempt a[COUNT];
    struct store_stats stats;
    struct fixture f;
    struct err err;
    int written = 0, waiting = 0;

    (void)state;
    begin(&f, "db", STORE_DURABLE);
    assert_int_equal(store_has_room(f.store, &err), ST_OK);
    vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
    for (int i = 0; i < COUNT; i++)
        attempt_begin(&f, &a[i], i, BYTES, 0, PLAIN);
    sleep_ms(300);
    for (int i = 0; i < COUNT; i++)
        waiting += !atomic_load(&a[i].is_done);
    assert_in_range(waiting, 1, 16);
    store_get_stats(f.store, &stats);
    assert_true(stats.queue_bytes <= (1 << 20) + BYTES + 4096);
    assert_int_equal(store_has_room(f.store, &err), ST_NO_SPACE);
    vfs_faulty_heal(f.vfs);
    for (int i = 0; i < COUNT; i++) {
        attempt_end(&a[i]);
        written += a[i].st == ST_OK;
        if (a[i].st != ST_OK)
            assert_int_equal(a[i].st, ST_NO_SPACE);
    }
    assert_int_equal(written, waiting);
    assert_int_equal(store_has_room(f.store, &err), ST_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(is_there(&f, &a[i]), a[i].st == ST_OK);
    end(&f);
}

static void giving_up_and_stopping(void **state)
{
    struct attempt a[3];
    struct fixture f;
    uint64_t ms;

    (void)state;
    begin(&f, "db", STORE_DURABLE);
    attempt_begin(&f, &a[0], 0, 100, 0, PLAIN);
    attempt_end(&a[0]);
    vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
    for (int i = 0; i < 3; i++)
        attempt_begin(&f, &a[i], i + 1, 100, 0, PLAIN);
    sleep_ms(100);
    atomic_store(&a[1].is_given_up, true);
    ms = attempt_end(&a[1]);
    assert_int_equal(a[1].st, ST_CANCELLED);
    assert_true(ms < 1000);
    assert_false(atomic_load(&a[0].is_done) || atomic_load(&a[2].is_done));
    runtime_stop_waiting(f.runtime);
    for (int i = 0; i < 3; i += 2) {
        ms = attempt_end(&a[i]);
        assert_int_equal(a[i].st, ST_CLOSED);
        assert_string_equal(a[i].text, "the server is stopping");
        assert_true(ms < 1000);
    }
    /* What needs no waiting is done as ever. */
    vfs_faulty_heal(f.vfs);
    attempt_begin(&f, &a[0], 9, 100, 0, PLAIN);
    attempt_end(&a[0]);
    assert_int_equal(a[0].st, ST_OK);
    end(&f);
}

/* A condition waits for the whole index. Nothing else drives the store meanwhile. */
static void conditions_without_an_index(void **state)
{
    struct attempt a[2];
    struct fixture f;
    uint64_t ms;

    (void)state;
    begin(&f, "db", STORE_DURABLE);
    attempt_begin(&f, &a[0], 0, 100, 0, PLAIN);
    attempt_end(&a[0]);
    pthread_mutex_lock(&f.store->maintenance_lock); /* the rebuild makes no progress */
    atomic_store(&f.store->indexed_limit, 0);
    attempt_begin(&f, &a[0], 1, 100, 0, CONDITIONAL);
    attempt_begin(&f, &a[1], 2, 100, 600, CONDITIONAL | NOT_CANCELLABLE);
    sleep_ms(200);
    assert_false(atomic_load(&a[0].is_done) || atomic_load(&a[1].is_done));
    atomic_store(&a[0].is_given_up, true);
    ms = attempt_end(&a[0]);
    assert_int_equal(a[0].st, ST_CANCELLED);
    assert_true(ms < 400);
    ms = attempt_end(&a[1]);
    assert_int_equal(a[1].st, ST_BUSY);
    assert_in_range(ms, 590, 1500);
    attempt_begin(&f, &a[0], 3, 100, 0, CONDITIONAL);
    sleep_ms(100);
    runtime_stop_waiting(f.runtime);
    ms = attempt_end(&a[0]);
    assert_int_equal(a[0].st, ST_CLOSED);
    assert_true(ms < 400);
    atomic_store(&f.store->indexed_limit, UINT64_MAX);
    pthread_mutex_unlock(&f.store->maintenance_lock);
    end(&f);
}

/* With no descriptor left a segment cannot be made: that goes by, and is no failure of the disk. */
static void out_of_descriptors(void **state)
{
    char dir[] = "/tmp/immudb-waiting-XXXXXX", db[64];
    struct store_health health;
    struct rlimit before, low;
    struct attempt a;
    struct fixture f;
    struct err err;
    int refused = 0, fill[64], fill_count = 0, highest;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(db, sizeof db, "%s/db", dir);
    begin(&f, db, STORE_DURABLE);
    attempt_begin(&f, &a, 0, 1000, 0, PLAIN);
    attempt_end(&a);
    assert_int_equal(a.st, ST_OK);
    highest = dup(0);
    assert_true(highest >= 0);
    close(highest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){(rlim_t)highest, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (fill_count < 64 && (fill[fill_count] = dup(0)) >= 0)
        fill_count++;
    for (int i = 1; i < 40; i++) {
        attempt_begin(&f, &a, i, 1000, 100, PLAIN);
        attempt_end(&a);
        if (a.st == ST_OK)
            continue;
        refused++;
        assert_int_equal(a.st, ST_NOMEM);
        if (strstr(a.text, "Too many open files") == NULL || strstr(a.text, "database db cannot be written for now") == NULL)
            fail_msg("%s", a.text);
    }
    assert_true(refused > 30);
    store_health(f.store, &health);
    assert_int_equal(health.kind, STORE_DEGRADED);
    assert_non_null(strstr(health.text, "Too many open files"));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (fill_count > 0)
        close(fill[--fill_count]);
    for (int i = 100; i < 140; i++) {
        attempt_begin(&f, &a, i, 1000, 5000, PLAIN);
        attempt_end(&a);
        assert_int_equal(a.st, ST_OK);
        assert_true(is_there(&f, &a));
    }
    store_health(f.store, &health);
    assert_int_equal(health.kind, STORE_HEALTHY);
    end(&f);
    OK(vfs_remove_tree(vfs_posix(), dir, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answered_before_the_deadline), cmocka_unit_test(without_a_deadline),          cmocka_unit_test(few_wait),
        cmocka_unit_test(giving_up_and_stopping),       cmocka_unit_test(conditions_without_an_index), cmocka_unit_test(out_of_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
