/* A store on a file system in memory beside the model that tells what it must hold. */
#ifndef STORE_STORE_FIXTURE_H
#define STORE_STORE_FIXTURE_H

#include "base/test.h"
#include "store/store_internal.h"
#include "store/store_model.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct fixture {
    struct test_env env;
    struct vfs *vfs;
    struct runtime *runtime;
    struct store_options o;
    struct store *store;
    struct model model;
};

static inline void check_ok(enum status st, const struct err *err, const char *what)
{
    if (st != ST_OK)
        fail_msg("%s: %s", what, err->text);
}
#define OK(call) \
    do { \
        struct err *err_ = &err; \
        enum status st_ = (call); \
        check_ok(st_, err_, #call); \
    } while (0)

static inline void opened(struct fixture *f)
{
    struct err err;

    OK(store_open(&f->o, &f->store, &err));
}

static inline void reopened(struct fixture *f)
{
    store_close(f->store);
    opened(f);
}

static inline void begin(struct fixture *f, struct store_options o)
{
    struct runtime_options ro = {.memory_limit = 64 << 20};
    struct err err;

    memset(f, 0, sizeof *f);
    test_env_init(&f->env, 7);
    f->vfs = vfs_memory_create();
    ro.vfs = f->vfs;
    ro.env = &f->env.env;
    OK(runtime_create(&ro, &f->runtime, &err));
    model_init(&f->model);
    f->o = o;
    f->o.runtime = f->runtime;
    f->o.dir = "db";
    f->o.create = true;
    opened(f);
}

static inline struct store_options defaults(void) { return (struct store_options){.tx_version = 1}; }

static inline void end(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
    vfs_memory_destroy(f->vfs);
    model_free(&f->model);
}

static inline struct store_draft *draft(struct fixture *f)
{
    struct store_draft *d;
    struct err err;

    OK(draft_create(f->store, &d, &err));
    return d;
}

/* (clang-format takes names of one capital for macros) */
/* clang-format off */
static inline struct bytes S(const char *text) { return bytes_str(text); }

/* Store key of a plain user key; a few live at a time. */
static inline struct bytes K(const char *text)
{
    static char ring[8][128];
    static unsigned at;
    char *b = ring[at++ % 8];

    b[0] = 0;
    snprintf(b + 1, 127, "%s", text);
    return bytes_of(b, 1 + strlen(text));
}
/* clang-format on */

static inline uint64_t
put(struct fixture *f, const char *key, const char *value)
{
    struct store_draft *d = draft(f);
    struct store_result r;
    struct err err;

    OK(draft_set(d, K(key), NULL, S(value), &err));
    OK(store_commit(f->store, d, false, &r, &err));
    model_begin(&f->model);
    model_entry_add(&f->model, K(key), NULL, S(value));
    f->model.txs[f->model.count - 1].is_acked = true;
    f->model.txs[f->model.count - 1].alh = r.alh;
    assert_int_equal(r.header.id, f->model.count);
    return r.header.id;
}

static inline void compare(struct fixture *f)
{
    struct store_state state;
    char why[512];

    store_get_state(f->store, &state);
    assert_int_equal(state.visible_tx_id, f->model.count);
    if (!model_check(&f->model, f->store, state.visible_tx_id, 0, why))
        fail_msg("%s", why);
    for (size_t i = 0; i < f->model.count && i < state.tx_id; i++)
        if (f->model.txs[i].is_acked && !model_check_proof(f->store, i + 1, &f->model.txs[i].alh, why))
            fail_msg("%s", why);
}

/* Sets "other" under one condition on key; text (100 bytes) tells what refused it. */
static inline enum status conditional(struct fixture *f, enum precondition_kind kind, const char *key, uint64_t tx_id, char *text)
{
    struct store_draft *d = draft(f);
    struct store_result r;
    struct err err = {.text = ""};
    enum status st;

    OK(draft_set(d, K("other"), NULL, S("x"), &err));
    OK(draft_precondition(d, kind, K(key), tx_id, &err));
    st = store_commit(f->store, d, false, &r, &err);
    snprintf(text, 100, "%.99s", st == ST_OK ? "" : err.text);
    if (st == ST_OK) {
        model_begin(&f->model);
        model_entry_add(&f->model, K("other"), NULL, S("x"));
    }
    return st;
}

/* --- submitted, not waited for --- */
struct outcome {       /* of a submitted draft */
    _Atomic int count; /* after r: another thread may complete it */
    struct store_result r;
};
static inline void note(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct outcome *o = ctx;

    (void)d;
    o->r = *r;
    o->count++;
}

/* Completed, at once or by the thread that drives the store right now. */
static inline bool awaited(const struct outcome *o)
{
    const struct timespec pause = {0, 1000000};

    for (int i = 0; i < 10000 && o->count == 0; i++)
        nanosleep(&pause, NULL);
    return o->count == 1;
}

static inline void submit(struct fixture *f, const char *key, const char *value, struct outcome *o)
{
    struct store_draft *d = draft(f);
    struct err err;

    memset(o, 0, sizeof *o);
    OK(draft_set(d, K(key), NULL, S(value), &err));
    model_begin(&f->model);
    model_entry_add(&f->model, K(key), NULL, S(value));
    store_submit(f->store, d, false, STORE_DRIVE_INLINE, note, o);
}

#endif
