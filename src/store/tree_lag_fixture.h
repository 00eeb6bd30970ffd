/* A database whose tree is lost and comes back while the test looks on: the background thread is held by a job of the test's, so that "while it is
 * being rebuilt" is no matter of luck, and opening is put under time pressure by a clock that runs fast. */
#ifndef STORE_TREE_LAG_FIXTURE_H
#define STORE_TREE_LAG_FIXTURE_H

#include "base/test.h"
#include "store/store_internal.h"
#include "store/store_model.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct world {
    struct test_env env;
    struct vfs *disk;
    struct runtime *runtime;
    struct store *store;
    struct pool_job holder;
    _Atomic bool is_held, is_released;
};

#define OK(call) \
    do { \
        struct err *err_ = &err; \
        if ((call) != ST_OK) \
            fail_msg("%s: %s", #call, err_->text); \
    } while (0)

static inline void nap(void) { nanosleep(&(struct timespec){0, 200000}, NULL); }

/* --- the background thread --- */
static inline void hold(struct pool_job *job)
{
    struct world *w = (struct world *)((char *)job - offsetof(struct world, holder));

    atomic_store(&w->is_held, true);
    while (!atomic_load(&w->is_released))
        nap();
    atomic_store(&w->is_held, false);
}

static inline void background_stop(struct world *w)
{
    atomic_store(&w->is_released, false);
    w->holder.run = hold;
    pool_submit(w->runtime->maintenance_pool, &w->holder);
    while (!atomic_load(&w->is_held))
        nap();
}

static inline void background_go(struct world *w)
{
    atomic_store(&w->is_released, true);
    while (atomic_load(&w->is_held))
        nap();
}

/* --- life --- */
static inline void runtime_begin(struct world *w)
{
    struct runtime_options ro = {.vfs = w->disk, .env = &w->env.env, .memory_limit = 64 << 20};
    struct err err;

    OK(runtime_create(&ro, &w->runtime, &err));
}

static inline void opened(struct world *w)
{
    struct store_options o = {.runtime = w->runtime,
                              .dir = "db",
                              .create = true,
                              .durability = STORE_ASYNC,
                              .tx_version = 1,
                              .segment_bytes_first = 64 << 10,
                              .segment_bytes_max = 1 << 20};
    struct err err;

    OK(store_open(&o, &w->store, &err));
}

/* Each look at the clock is a second: the time for bringing the tree up while opening is over at once. */
static inline void opened_in_haste(struct world *w)
{
    atomic_store(&w->env.mono_step_ns, 1000000000);
    opened(w);
    atomic_store(&w->env.mono_step_ns, 1000);
}

static inline void world_begin(struct world *w)
{
    memset(w, 0, sizeof *w);
    test_env_init(&w->env, 11);
    w->disk = vfs_memory_create();
    runtime_begin(w);
}

static inline void world_end(struct world *w)
{
    if (w->store != NULL)
        store_close(w->store);
    runtime_destroy(w->runtime);
    vfs_memory_destroy(w->disk);
}

static inline uint64_t put(struct world *w, uint64_t n, const enum precondition_kind *kind)
{
    struct store_draft *d = NULL;
    struct store_result r;
    struct err err;
    char key[24];

    key[0] = 0;
    snprintf(key + 1, sizeof key - 1, "k%lu", n % 500);
    OK(draft_create(w->store, &d, &err));
    OK(draft_set(d, bytes_of(key, 1 + strlen(key + 1)), NULL, bytes_of(&n, sizeof n), &err));
    if (kind != NULL)
        OK(draft_precondition(d, *kind, bytes_of(key, 1 + strlen(key + 1)), 0, &err));
    OK(store_commit(w->store, d, false, &r, &err));
    return r.header.id;
}

/* Full segments are sealed: the frontier that an opening starts from stands in a footer. */
static inline void fill(struct world *w, uint64_t txs)
{
    struct err err;

    for (uint64_t i = 0; i < txs; i++)
        put(w, i, NULL);
    OK(store_sync(w->store, &err));
    OK(log_advance_background(w->store->log, &err));
}

static inline bool no_findings(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    fail_msg("tx %lu: %s", tx_id, what);
    return false;
}

static inline void check_whole(struct world *w)
{
    struct store_health health;
    struct err err;

    OK(store_wait_tree(w->store, UINT64_MAX, 0, &err));
    OK(store_sync(w->store, &err));
    OK(store_verify(w->store, no_findings, NULL, &err));
    store_health(w->store, &health);
    assert_int_equal(health.kind, STORE_HEALTHY);
}

static inline void check_proof(struct world *w, uint64_t source)
{
    struct store_state state;
    struct dual_proof p;
    struct arena arena;
    struct err err;
    hash_t alh;

    arena_init(&arena, 4096, 0);
    store_get_state(w->store, &state);
    OK(store_alh(w->store, source, &alh, &err));
    OK(store_dual_proof(w->store, source, state.tx_id, &arena, &p, &err));
    assert_true(dual_proof_verify(&p, source, state.tx_id, &alh, &state.alh));
    arena_free(&arena);
}

#endif
