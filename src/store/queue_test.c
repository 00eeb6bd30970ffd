/* Proves where the commit queue is full: large drafts and small ones fill it apart from each other, the one that crosses the limit is let in, the next one
 * is refused with the limit's name, and what is committed makes room again. With external commit drafts stay in the queue until they are allowed. */
#include "base/test.h"
#include "store/store.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <string.h>

enum { LIMIT = 1 << 20 /* an eighth of the memory limit */, LARGE = 400000, SMALL = 30000 };

static uint8_t value[LARGE];

struct outcome {
    int count;
    enum status st;
    char text[sizeof((struct err *)0)->text];
};

static void note(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct outcome *o = ctx;

    (void)d;
    o->count++;
    o->st = r->status;
    snprintf(o->text, sizeof o->text, "%s", r->status == ST_OK ? "" : r->err.text);
}

static struct outcome *submit(struct store *s, struct outcome *o, size_t len)
{
    struct store_draft *d;
    struct err err;

    memset(o, 0, sizeof *o);
    assert_int_equal(draft_create(s, &d, &err), ST_OK);
    assert_int_equal(draft_set(d, bytes_of("\0k", 2), NULL, bytes_of(value, len), &err), ST_OK);
    store_submit(s, d, false, STORE_DRIVE_INLINE, note, o);
    return o;
}

static uint64_t queued(struct store *s)
{
    struct store_stats stats;

    store_get_stats(s, &stats);
    return stats.queue_bytes;
}

static void full_apart(void **state)
{
    struct vfs *disk = vfs_memory_create();
    struct runtime_options ro = {.memory_limit = 8 * LIMIT, .env = env_system(), .vfs = disk};
    struct store_options o = {.dir = "db", .create = true, .tx_version = 1, .external_commit = true};
    static struct outcome large[3], small[64], more;
    struct runtime *runtime;
    uint64_t by_large, last;
    struct store_state st;
    struct store *s;
    struct err err;
    int i;

    (void)state;
    assert_int_equal(runtime_create(&ro, &runtime, &err), ST_OK);
    o.runtime = runtime;
    assert_int_equal(store_open(&o, &s, &err), ST_OK);
    for (i = 0; i < 3; i++) /* 0.4, 0.8 and, across the limit, 1.2 MB */
        assert_int_equal(submit(s, &large[i], LARGE)->count, 0);
    assert_true(queued(s) >= LIMIT);
    assert_int_equal(submit(s, &more, LARGE)->count, 1);
    assert_int_equal(more.st, ST_NOMEM);
    assert_string_equal(more.text, "commit queue of 1048576 bytes is full, try again later");
    for (i = 0, by_large = last = queued(s); i < 64 && submit(s, &small[i], SMALL)->count == 0; i++) {
        assert_true(last - by_large < LIMIT);
        last = queued(s);
    }
    assert_true(last - by_large >= LIMIT);
    assert_int_equal(small[i].st, ST_NOMEM);
    store_get_state(s, &st);
    assert_int_equal(st.precommitted_tx_id, 3 + i);
    assert_int_equal(store_allow_commit(s, st.precommitted_tx_id, NULL, &err), ST_OK);
    assert_int_equal(queued(s), 0);
    assert_int_equal(large[2].st, ST_OK);
    assert_int_equal(large[2].count + small[i - 1].count, 2);
    assert_int_equal(submit(s, &more, LARGE)->count, 0);
    store_get_state(s, &st);
    assert_int_equal(store_allow_commit(s, st.precommitted_tx_id, NULL, &err), ST_OK);
    assert_int_equal(more.st, ST_OK);
    store_close(s);
    runtime_destroy(runtime);
    vfs_memory_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_apart)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
