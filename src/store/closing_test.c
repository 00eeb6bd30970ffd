/* Proves that closing and submitting run against each other without losing anybody: a draft that is still being prepared when the store is closed is answered
 * - committed and there after reopening, or ST_CLOSED - and closing comes to an end. Preparing takes long here, so that closing falls into it. */
#include "base/test.h"
#include "store/store_internal.h"
#include "vfs/vfs_memory.h"

#include <stdlib.h>
#include <time.h>

enum { VALUE_BYTES = 24 << 20, ROUNDS = 6 };

struct call {
    struct store *store;
    struct store_draft *draft;
    _Atomic bool is_begun;
    _Atomic int answers;
    enum status status;
};

static void note(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct call *c = ctx;

    (void)d;
    c->status = r->status;
    atomic_fetch_add(&c->answers, 1);
}

static void *submit(void *ctx)
{
    struct call *c = ctx;

    atomic_store(&c->is_begun, true);
    store_submit(c->store, c->draft, true, STORE_DRIVE_POOL, note, c);
    store_unuse(c->store);
    return NULL;
}

static void closing_while_a_draft_is_prepared(void **state)
{
    struct vfs *disk = vfs_memory_create();
    struct runtime_options ro = {.memory_limit = 512 << 20, .env = env_system(), .vfs = disk};
    struct store_options o = {.dir = "db", .create = true, .tx_version = 1};
    uint8_t *value = calloc(1, VALUE_BYTES);
    struct runtime *runtime;
    struct store_state s;
    struct err err;
    uint64_t committed = 0;

    (void)state;
    assert_non_null(value);
    assert_int_equal(runtime_create(&ro, &runtime, &err), ST_OK);
    o.runtime = runtime;
    for (long i = 0; i < ROUNDS; i++) {
        const struct timespec pause = {0, i * 3000000};
        struct call c = {.status = ST_INVALID};
        pthread_t thread;

        if (store_open(&o, &c.store, &err) != ST_OK)
            fail_msg("%s", err.text);
        store_get_state(c.store, &s);
        assert_int_equal(s.tx_id, committed);
        assert_int_equal(draft_create(c.store, &c.draft, &err), ST_OK);
        assert_int_equal(draft_set(c.draft, bytes_of("\0k", 2), NULL, bytes_of(value, VALUE_BYTES), &err), ST_OK);
        store_use(c.store); /* until the call is over: it may begin late */
        assert_int_equal(pthread_create(&thread, NULL, submit, &c), 0);
        while (!atomic_load(&c.is_begun))
            ;
        nanosleep(&pause, NULL);
        store_close(c.store);
        pthread_join(thread, NULL);
        assert_int_equal(c.answers, 1);
        assert_true(c.status == ST_OK || c.status == ST_CLOSED);
        committed += c.status == ST_OK;
    }
    free(value);
    runtime_destroy(runtime);
    vfs_memory_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(closing_while_a_draft_is_prepared)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
