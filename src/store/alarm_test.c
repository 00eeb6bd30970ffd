/* Proves that nothing waits for a timer that is not armed: when the store asks for a later time while an earlier one is over but has not fired yet, and when
 * the timer fires for something that meanwhile needs nothing. The clock is the test's; the timer thread sleeps real milliseconds. */
#include "base/test.h"
#include "store/store.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { MS = 1000000, TRIES = 100 };

static _Atomic uint64_t now_ns;
static struct env env;
static struct vfs *disk, *faulty;
static struct runtime *runtime;
static struct store *store;

static uint64_t test_mono(void *ctx)
{
    (void)ctx;
    return atomic_load(&now_ns);
}

static void no_log(void *ctx, enum log_level level, const char *text) { (void)ctx, (void)level, (void)text; }

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * MS};

    nanosleep(&t, NULL);
}

static int begin(void **state)
{
    struct store_options o = {.dir = "db", .create = true, .tx_version = 1, .durability = STORE_ASYNC};
    struct runtime_options ro = {.memory_limit = 32 << 20, .env = &env};
    struct err err;

    (void)state;
    atomic_store(&now_ns, (uint64_t)1000 * MS);
    env = *env_system();
    env.mono_ns = test_mono;
    env.log = no_log;
    disk = vfs_memory_create();
    ro.vfs = faulty = vfs_faulty_create(disk);
    assert_int_equal(runtime_create(&ro, &runtime, &err), ST_OK);
    o.runtime = runtime;
    assert_int_equal(store_open(&o, &store, &err), ST_OK);
    return 0;
}

static int end(void **state)
{
    (void)state;
    store_close(store);
    runtime_destroy(runtime);
    vfs_faulty_destroy(faulty);
    vfs_memory_destroy(disk);
    return 0;
}

static enum status put(uint64_t deadline_ns)
{
    struct store_draft *d;
    struct store_result r;
    struct err err;

    assert_int_equal(draft_create(store, &d, &err), ST_OK);
    assert_int_equal(draft_set(d, bytes_of("\0k", 2), NULL, bytes_str("v"), &err), ST_OK);
    draft_set_deadline(d, deadline_ns);
    return store_commit(store, d, false, &r, &err);
}

struct late {
    pthread_t thread;
    enum status st;
    _Atomic bool is_done;
};

static void *put_late(void *arg)
{
    struct late *l = arg;

    l->st = put(atomic_load(&now_ns) + 50 * MS);
    atomic_store(&l->is_done, true);
    return NULL;
}

static void deadline_behind_an_expired_alarm(void **state)
{
    uint64_t start = atomic_load(&now_ns);
    struct late l = {0};

    (void)state;
    assert_int_equal(put(UINT64_MAX), ST_OK); /* the sync interval is armed: start + 20 ms */
    atomic_store(&now_ns, start + 20 * MS + 1000);
    vfs_faulty_arm(faulty, FAULT_NO_SPACE, 1, 0);
    assert_int_equal(pthread_create(&l.thread, NULL, put_late, &l), 0);
    pause_ms(200);
    atomic_store(&now_ns, start + (uint64_t)1000 * MS);
    for (int i = 0; i < TRIES && !atomic_load(&l.is_done); i++)
        pause_ms(50);
    assert_true(atomic_load(&l.is_done));
    vfs_faulty_heal(faulty);
    pthread_join(l.thread, NULL);
    assert_int_equal(l.st, ST_NO_SPACE);
}

static void interval_after_an_alarm_for_nothing(void **state)
{
    uint64_t start = atomic_load(&now_ns);
    struct store_state s = {0};
    struct err err;

    (void)state;
    assert_int_equal(put(UINT64_MAX), ST_OK);
    atomic_store(&now_ns, start + 1 * MS);
    assert_int_equal(store_sync(store, &err), ST_OK);
    atomic_store(&now_ns, start + 2 * MS);
    assert_int_equal(put(UINT64_MAX), ST_OK); /* due at start + 22 ms */
    atomic_store(&now_ns, start + 20 * MS + MS / 2);
    pause_ms(200); /* the alarm of the first one fires, and finds nothing due */
    atomic_store(&now_ns, start + (uint64_t)60000 * MS);
    for (int i = 0; i < TRIES && s.tx_id < 2; i++) {
        pause_ms(50);
        store_get_state(store, &s);
    }
    assert_int_equal(s.tx_id, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(deadline_behind_an_expired_alarm, begin, end),
        cmocka_unit_test_setup_teardown(interval_after_an_alarm_for_nothing, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
