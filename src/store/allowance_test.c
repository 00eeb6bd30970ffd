/* Proves that nobody is told of a commit whose mark did not reach the disk, when the disk fails while precommitted txs are being allowed:
 *   - out of space: the allowance waits; once it is answered the txs are committed on the disk, whatever a power cut takes
 *   - the write of the mark fails: neither the allowance nor the txs are answered with success, those who wait are told at once, and nothing
 *     becomes visible - also when others were in the queue behind it */
#include "base/test.h"
#include "store/store_internal.h"
#include "store/store_model.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <time.h>

struct fixture {
    struct env env;
    struct vfs *disk, *vfs;
    struct runtime *runtime;
    struct store_options o;
    struct store *store;
};

#define OK(call) \
    do { \
        if ((call) != ST_OK) \
            fail_msg("%s: %s", #call, err.text); \
    } while (0)

static void log_nothing(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static void running(struct fixture *f)
{
    struct runtime_options ro = {.memory_limit = 32 << 20, .vfs = f->vfs, .env = &f->env};
    struct err err;

    OK(runtime_create(&ro, &f->runtime, &err));
    f->o.runtime = f->runtime;
    OK(store_open(&f->o, &f->store, &err));
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->env = *env_system();
    f->env.log = log_nothing;
    f->disk = vfs_memory_create();
    f->vfs = vfs_faulty_create(f->disk);
    f->o = (struct store_options){.dir = "db", .create = true, .tx_version = 1, .external_commit = true, .segment_bytes_first = 4096};
    running(f);
}

static void stopped(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
}

static void end(struct fixture *f)
{
    stopped(f);
    vfs_faulty_destroy(f->vfs);
    vfs_memory_destroy(f->disk);
}

struct outcome {
    _Atomic int count;
    enum status status;
    char text[224];
};

static void note(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct outcome *o = ctx;

    (void)d;
    o->status = r->status;
    snprintf(o->text, sizeof o->text, "%s", r->status == ST_OK ? "" : r->err.text);
    atomic_fetch_add(&o->count, 1);
}

static struct store_draft *draft(struct fixture *f, size_t len)
{
    static const uint8_t value[4096];
    struct store_draft *d = NULL;
    struct err err;

    OK(draft_create(f->store, &d, &err));
    OK(draft_set(d, bytes_of("\0key", 4), NULL, bytes_of(value, len), &err));
    return d;
}

/* --- out of space --- */
struct allowance {
    struct fixture *f;
    enum status status;
    struct err err;
    _Atomic bool is_answered;
};

static void *allow(void *ctx)
{
    struct allowance *a = ctx;

    a->status = store_allow_commit(a->f->store, 1, NULL, &a->err);
    atomic_store(&a->is_answered, true);
    return NULL;
}

/* The disk is full until the store has said so. */
static bool allowed_on_a_full_disk(struct fixture *f)
{
    const struct timespec pause = {0, 1000000};
    struct allowance a = {.f = f};
    struct store_health health;
    bool was_full = false;
    pthread_t thread;

    vfs_faulty_arm(f->vfs, FAULT_NO_SPACE, 1, 0);
    assert_int_equal(pthread_create(&thread, NULL, allow, &a), 0);
    while (!was_full && !atomic_load(&a.is_answered)) {
        store_health(f->store, &health);
        was_full = health.kind == STORE_DEGRADED;
        nanosleep(&pause, NULL);
    }
    vfs_faulty_heal(f->vfs);
    pthread_join(thread, NULL);
    if (a.status != ST_OK)
        fail_msg("%s", a.err.text);
    return was_full;
}

static void the_mark_waits_for_space(void **state)
{
    unsigned full = 0;

    (void)state;
    for (size_t len = 0; len <= 3600; len += 400) { /* somewhere the mark needs more room than the file has */
        struct store_state before, after;
        struct store_health health;
        struct outcome done = {0};
        struct vfs *cut;
        struct fixture f;

        begin(&f);
        store_submit(f.store, draft(&f, len), false, STORE_DRIVE_INLINE, note, &done);
        assert_int_equal(done.count, 0);
        full += allowed_on_a_full_disk(&f);
        assert_int_equal(done.count, 1);
        assert_int_equal(done.status, ST_OK);
        store_get_state(f.store, &before);
        assert_int_equal(before.tx_id, 1);
        store_health(f.store, &health);
        cut = vfs_memory_clone(f.disk);
        end(&f);
        vfs_memory_power_cut(cut, POWER_CUT_LOSE_UNSYNCED, 0);
        f.disk = cut;
        f.vfs = vfs_faulty_create(cut);
        running(&f);
        store_get_state(f.store, &after);
        assert_int_equal(after.tx_id, 1);
        assert_true(hash_equal(&after.alh, &before.alh));
        assert_int_equal(health.kind, STORE_HEALTHY);
        end(&f);
    }
    assert_true(full > 0);
}

/* --- a failing write --- */
struct queue {
    struct fixture *f;
    struct store_draft *allows, *writes;
    struct outcome allowed, written;
};

static bool yes(void *ctx)
{
    (void)ctx;
    return true;
}

/* Called while its thread drives the store: what is submitted here waits for the next batch, and of one tx each. */
static void submit_both(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct queue *q = ctx;

    (void)d;
    assert_int_equal(r->status, ST_CANCELLED);
    vfs_faulty_arm(q->f->vfs, FAULT_EIO, 1, 0);
    store_submit(q->f->store, q->allows, false, STORE_DRIVE_INLINE, note, &q->allowed);
    store_submit(q->f->store, q->writes, false, STORE_DRIVE_INLINE, note, &q->written);
}

static void the_mark_is_lost(void **state)
{
    struct outcome done = {0};
    struct store_state s;
    struct store_draft *d;
    struct fixture f;
    struct queue q = {.f = &f};
    struct err err;

    (void)state;
    begin(&f);
    stopped(&f);
    f.o.batch_txs_max = 1;
    running(&f);
    store_submit(f.store, draft(&f, 10), false, STORE_DRIVE_INLINE, note, &done);
    OK(draft_make(f.store, DRAFT_ALLOW, &q.allows, &err));
    q.allows->is_internal = true;
    q.allows->control_tx_id = 1;
    q.writes = draft(&f, 10);
    d = draft(&f, 10);
    draft_set_cancel(d, yes, NULL);
    store_submit(f.store, d, false, STORE_DRIVE_INLINE, submit_both, &q);
    assert_true(vfs_faulty_fired(f.vfs));
    assert_int_equal(q.allowed.count, 1);
    assert_int_equal(q.allowed.status, ST_IO);
    assert_int_equal(q.written.count, 1);
    assert_int_equal(q.written.status, ST_READ_ONLY);
    store_get_state(f.store, &s);
    assert_int_equal(s.visible_tx_id, 0);
    /* No allowance can come any more: whoever waits for one is told now, not when the store is closed. */
    assert_int_equal(done.count, 1);
    assert_int_equal(done.status, ST_READ_ONLY);
    vfs_faulty_heal(f.vfs);
    /* It may still be committed, by an allowance after a restart. */
    stopped(&f);
    running(&f);
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 0);
    assert_int_equal(s.precommitted_tx_id, 1);
    OK(store_allow_commit(f.store, 1, NULL, &err));
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 1);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mark_waits_for_space),
        cmocka_unit_test(the_mark_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
