/* For the tests of this folder: a store in memory, and its keys written and read in one line each. */
#ifndef KV_KV_FIXTURE_H
#define KV_KV_FIXTURE_H

#include "base/test.h"
#include "kv/kv_internal.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>

#define NOW 1000000

struct fixture {
    struct vfs *vfs;
    struct runtime *runtime;
    struct store *store;
    struct arena arena;
};
static struct fixture f;

static inline void check_ok(enum status st, const struct err *err, const char *what)
{
    if (st != ST_OK)
        fail_msg("%s: %s", what, err->text);
}
#define OK(call) \
    do { \
        struct err err; \
        err.text[0] = 0; \
        enum status st_ = (call); \
        check_ok(st_, &err, #call); \
    } while (0)
#define FAILS(call, want, wanted_text) \
    do { \
        struct err err; \
        enum status st_; \
        err.text[0] = 0; \
        st_ = (call); \
        assert_string_equal(err.text, wanted_text); \
        assert_int_equal(st_, want); \
    } while (0)

/* (clang-format takes names of one capital for macros) */
/* clang-format off */
static inline struct bytes S(const char *s) { return bytes_str(s); }
static inline bool is(struct bytes b, const char *s) { return bytes_equal(b, S(s)); }
/* clang-format on */

static inline int begin(void **state)
{
    struct runtime_options ro = {.memory_limit = 64 << 20};
    struct store_options o = {.tx_version = 1, .dir = "db", .create = true};

    (void)state;
    memset(&f, 0, sizeof f);
    f.vfs = vfs_memory_create();
    ro.vfs = f.vfs;
    ro.env = env_system();
    OK(runtime_create(&ro, &f.runtime, &err));
    o.runtime = f.runtime;
    OK(store_open(&o, &f.store, &err));
    arena_init(&f.arena, 4096, 0);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    store_close(f.store);
    runtime_destroy(f.runtime);
    vfs_memory_destroy(f.vfs);
    arena_free(&f.arena);
    return 0;
}

/* ------------------------------------------------------------ writing */

static inline struct store_draft *draft(void)
{
    struct store_draft *d = NULL;

    OK(draft_create(f.store, &d, &err));
    return d;
}
static inline uint64_t commit(struct store_draft *d)
{
    struct store_result r;

    OK(store_commit(f.store, d, false, &r, &err));
    return r.header.id;
}
static inline struct kv_reader reader(void)
{
    struct kv_reader r;

    kv_reader_init(&r, f.store, &f.arena, NOW, false);
    return r;
}
static inline struct kv_reader reader_now(void)
{
    struct kv_reader r = reader();

    OK(kv_reader_snapshot(&r, 0, 0, &err));
    return r;
}

static inline uint64_t put_md(const char *key, const char *value, struct kv_metadata md)
{
    struct store_draft *d = draft();

    OK(kv_draft_set(d, &f.arena, S(key), &md, S(value), &err));
    return commit(d);
}
static inline uint64_t put(const char *key, const char *value) { return put_md(key, value, (struct kv_metadata){0}); }
static inline uint64_t del(const char *key)
{
    struct store_draft *d = draft();
    struct kv_reader r = reader_now();

    OK(kv_draft_delete(d, &f.arena, &r, S(key), &err));
    kv_reader_close(&r);
    return commit(d);
}
static inline enum status try_ref(const char *key, const char *target, uint64_t at_tx, uint64_t *tx_id, struct err *err)
{
    struct kv_ref ref = {S(key), S(target), at_tx, at_tx > 0};
    struct store_draft *d = draft();
    struct kv_reader r = reader_now();
    enum status st = kv_draft_ref(d, &f.arena, &r, &ref, err);

    kv_reader_close(&r);
    if (st != ST_OK)
        draft_free(d);
    else
        *tx_id = commit(d);
    return st;
}
static inline uint64_t put_ref(const char *key, const char *target, uint64_t at_tx)
{
    uint64_t tx_id = 0;

    OK(try_ref(key, target, at_tx, &tx_id, &err));
    return tx_id;
}
static inline enum status try_zadd(const char *set, double score, const char *key, uint64_t at_tx, struct err *err)
{
    struct kv_zadd z = {S(set), S(key), score, at_tx, at_tx > 0};
    struct store_draft *d = draft();
    struct kv_reader r = reader_now();
    enum status st = kv_draft_zadd(d, &f.arena, &r, &z, err);

    kv_reader_close(&r);
    if (st != ST_OK)
        draft_free(d);
    else
        commit(d);
    return st;
}
static inline void zadd(const char *set, double score, const char *key, uint64_t at_tx) { OK(try_zadd(set, score, key, at_tx, &err)); }

/* ------------------------------------------------------------ Get */

static inline enum status get_at_time(struct kv_get_options o, int64_t now_s, struct kv_entry *e, struct err *err)
{
    static uint8_t copies[2][300];
    struct kv_reader r;
    enum status st;

    kv_reader_init(&r, f.store, &f.arena, now_s, false);
    o.deadline_ns = UINT64_MAX;
    if ((st = kv_get(&r, &o, e, err)) == ST_OK) { /* what is borrowed goes with the reader */
        assert_true(e->key.len < 300 && e->value.len < 300);
        memcpy(copies[0], e->key.data, e->key.len);
        if (e->value.len > 0)
            memcpy(copies[1], e->value.data, e->value.len);
        e->key.data = copies[0];
        e->value.data = copies[1];
    }
    kv_reader_close(&r);
    return st;
}
static inline enum status get(struct kv_get_options o, struct kv_entry *e, struct err *err) { return get_at_time(o, NOW, e, err); }
#define GET(...) \
    (struct kv_get_options) { __VA_ARGS__ }

/* ------------------------------------------------------------ sorted sets */

static inline const char *zscan(struct kv_zscan_options o)
{
    static char out[1024];
    struct kv_reader r = reader_now();
    struct kv_zscan s;
    struct kv_zentry z;
    struct err err;
    enum status st;
    size_t len = 0;

    if (o.limit == 0)
        o.limit = KV_RESULT_MAX;
    if (o.set.len == 0)
        o.set = S("z");
    check_ok(kv_zscan_open(&s, &r, &o, &err), &err, "kv_zscan_open");
    while ((st = kv_zscan_next(&s, &z, &err)) == ST_OK) {
        assert_true(is(z.set, "z") && bytes_equal(z.key, z.entry.key));
        len += (size_t)snprintf(out + len, sizeof out - len, "%s%.*s:%g@%llu", len > 0 ? " " : "", (int)z.key.len, (const char *)z.key.data, z.score,
                                (unsigned long long)z.at_tx);
    }
    assert_int_equal(st, ST_NOT_FOUND);
    out[len] = 0;
    kv_zscan_close(&s);
    kv_reader_close(&r);
    return out;
}
#define ZSCAN(...) zscan((struct kv_zscan_options){__VA_ARGS__})

#endif
