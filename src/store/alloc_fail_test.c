/* Proves that no failing allocation does harm: for n = 1, 2, 3, ... the n-th allocation of a workload fails. Every call answers
 * ST_OK or ST_NOMEM; what was acknowledged is there, what was refused is not, and the store goes on afterwards; nothing leaks (run with the address
 * sanitizer). The workload opens, commits (plain, large, conditional, late fields, with external commit), reads, proves, exports, imports, flushes, merges,
 * truncates, reopens with a lost index. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "store/store_model.h"
#include "vfs/vfs.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    struct env env;
    char dir[64]; /* on the operating system's files: those of the memory disk allocate when they are synced */
    struct runtime *runtime;
    struct store_options o;
    struct store *store;
    struct model model;
    uint64_t gone_upto;
    bool external;
};

static void log_nothing(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static void fine(enum status st, const struct err *err, int line)
{
    if (st != ST_OK && st != ST_NOMEM && st != ST_BUSY) {
        alloc_fail_disarm();
        fail_msg("line %d: %s: %s", line, status_name(st), err->text);
    }
}
#define FINE(st) fine((st), &err, __LINE__)

static enum status opened(struct fixture *f)
{
    struct runtime_options ro = {.env = &f->env, .memory_limit = 8 << 20};
    struct err err;
    enum status st = runtime_create(&ro, &f->runtime, &err);

    FINE(st);
    if (st != ST_OK)
        return st;
    f->o = (struct store_options){.runtime = f->runtime,
                                  .dir = f->dir,
                                  .create = true,
                                  .tx_version = 1,
                                  .segment_bytes_first = 4096,
                                  .segment_bytes_max = 8192,
                                  .memtable_bytes_max = 64 << 10,
                                  .external_commit = f->external};
    st = store_open(&f->o, &f->store, &err);
    FINE(st);
    if (st != ST_OK) {
        runtime_destroy(f->runtime);
        f->runtime = NULL;
        f->store = NULL;
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

struct outcome {
    _Atomic int count;
    struct store_result r;
};
static void note(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct outcome *o = ctx;

    (void)d;
    o->r = *r;
    atomic_store(&o->count, 1);
}

/* The model is filled with allocation failures held back: it is no part of what is tested. */
static void model_put(struct fixture *f, unsigned i, unsigned entries, size_t value_len)
{
    long left = atomic_exchange(&alloc_fail_at, 0);
    static uint8_t value[70000];
    char key[24];

    model_begin(&f->model);
    for (unsigned e = 0; e < entries; e++) {
        key[0] = i % 11 == 5 ? 2 : 0;
        snprintf(key + 1, sizeof key - 1, i % 11 == 5 ? "CTL.X%u" : "key%u", (i + e) % 40);
        model_entry_add(&f->model, bytes_of(key, 1 + strlen(key + 1)), NULL, bytes_of(value, value_len));
    }
    atomic_store(&alloc_fail_at, left);
}

static void model_take_back(struct fixture *f)
{
    long left = atomic_exchange(&alloc_fail_at, 0);

    model_cut(&f->model, f->model.count - 1);
    atomic_store(&alloc_fail_at, left);
}

static void put(struct fixture *f, unsigned i)
{
    unsigned entries = i % 6 == 2 ? 30 : 1 + i % 3;
    struct outcome o = {.count = 0};
    const struct model_tx *tx;
    struct store_draft *d;
    struct err err;
    enum status st;

    model_put(f, i, entries, i % 10 == 7 ? 66000 : 60);
    tx = &f->model.txs[f->model.count - 1];
    st = draft_create(f->store, &d, &err);
    FINE(st);
    for (unsigned e = 0; e < entries && st == ST_OK; e++) {
        const struct model_entry *m = &tx->entries[e];

        st = draft_set(d, bytes_of(m->key, m->key_len), NULL, bytes_of(m->value, m->value_len), &err);
        FINE(st);
    }
    if (st == ST_OK && i % 4 == 1) {
        st = draft_precondition(d, KEY_MUST_NOT_EXIST, bytes_str("\x01never"), 0, &err);
        FINE(st);
        if (st == ST_OK)
            st = draft_read_range(d,
                                  bytes_str("\x01"
                                            "a"),
                                  bytes_str("\x01"
                                            "zz"),
                                  0, &err);
        FINE(st);
    }
    if (st != ST_OK) {
        if (d != NULL)
            draft_free(d);
        model_take_back(f);
        return;
    }
    store_submit(f->store, d, false, STORE_DRIVE_INLINE, note, &o);
    while (atomic_load(&o.count) == 0) { /* it may have to wait for memory */
        struct store_state s;

        store_get_state(f->store, &s);
        if (f->external && s.precommitted_tx_id > s.tx_id)
            FINE(store_allow_commit(f->store, s.precommitted_tx_id, NULL, &err));
        sched_yield();
    }
    FINE(o.r.status);
    if (o.r.status != ST_OK)
        model_take_back(f);
    else if (o.r.header.id != f->model.count)
        fail_msg("tx %lu instead of %zu", o.r.header.id, f->model.count);
}

static void read_some(struct fixture *f, uint64_t rng)
{
    struct store_snapshot *view;
    struct store_state s;
    struct dual_proof p;
    struct index_version v;
    struct arena arena;
    struct bytes blob;
    struct err err;
    uint64_t revision;
    enum status st;

    store_get_state(f->store, &s);
    if (s.tx_id == 0)
        return;
    arena_init(&arena, 1024, 0);
    st = store_dual_proof(f->store, 1 + rng % s.tx_id, s.tx_id, &arena, &p, &err);
    FINE(st);
    st = store_export(f->store, s.tx_id, false, false, &arena, &blob, &err);
    FINE(st);
    st = store_snapshot_open(f->store, 0, &view, &err);
    FINE(st);
    if (st == ST_OK) {
        st = index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_str("key3"), false, &v, &revision, &err);
        if (st != ST_NOT_FOUND)
            FINE(st);
        store_snapshot_close(view);
    }
    arena_free(&arena);
}

static void workload(struct fixture *f)
{
    uint64_t freed;
    struct err err;
    bool more;
    enum status st;

    if (opened(f) != ST_OK)
        return;
    for (unsigned i = 0; i < 30; i++) {
        put(f, i);
        if (i % 5 == 4)
            read_some(f, i);
        if (i == 10 || i == 20)
            FINE(store_flush_index(f->store, &err));
        if (i % 8 == 3)
            FINE(store_maintain(f->store, &more, &err));
        if (i == 16) {
            closed(f);
            if (opened(f) != ST_OK)
                return;
        }
    }
    FINE(store_compact_index(f->store, &err));
    if (!f->external && f->model.count > 12) {
        f->gone_upto = 12;
        st = store_drop_values(f->store, 12, &freed, &err);
        FINE(st);
    }
}

static void points(bool external)
{
    char why[512];
    struct err err;
    long n;

    for (n = 1; n < 20000; n++) {
        struct fixture f;
        bool has_failed;
        struct store_state s;
        struct store_health health;

        memset(&f, 0, sizeof f);
        f.env = *env_system();
        f.env.log = log_nothing;
        f.external = external;
        snprintf(f.dir, sizeof f.dir, "%s/immudb-alloc-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        assert_non_null(mkdtemp(f.dir));
        model_init(&f.model);
        alloc_fail_arm(n, false);
        workload(&f);
        has_failed = alloc_fail_disarm();
        if (f.store != NULL) {
            store_health(f.store, &health);
            if (health.kind == STORE_READ_ONLY_FAILED || health.kind == STORE_READ_ONLY_DAMAGED)
                fail_msg("allocation %ld failed: %s", n, health.text);
            store_get_state(f.store, &s);
            if (s.visible_tx_id != f.model.count)
                fail_msg("allocation %ld failed: %zu acknowledged, %lu visible", n, f.model.count, s.visible_tx_id);
            closed(&f);
        }
        assert_int_equal(opened(&f), ST_OK);
        put(&f, 1000);
        for (bool more = true; more;)
            assert_int_equal(store_maintain(f.store, &more, &err), ST_OK);
        if (!model_check(&f.model, f.store, f.model.count, f.gone_upto, why))
            fail_msg("allocation %ld failed: %s", n, why);
        closed(&f);
        assert_int_equal(vfs_remove_tree(vfs_posix(), f.dir, &err), ST_OK);
        model_free(&f.model);
        if (!has_failed)
            break;
    }
    printf("%ld allocations\n", n);
    assert_true(n > 500);
}

static void each_one(void **state)
{
    (void)state;
    points(false);
}

static void each_one_external(void **state)
{
    (void)state;
    points(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_one), cmocka_unit_test(each_one_external)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
