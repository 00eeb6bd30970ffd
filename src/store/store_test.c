/* Proves what store.h promises, call by call, on a file system in memory: commit and read, limits, conditions, late fields, snapshots, proofs, export and import,
 * precommit with allowance and discarding, asynchronous mode, truncation, locking, reopening. Answers are compared with the model. */
#include "base/test.h"
#include "store/kv_encoding.h"
#include "store/store_internal.h"
#include "store/store_model.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>

struct fixture {
    struct test_env env;
    struct vfs *vfs;
    struct runtime *runtime;
    struct store_options o;
    struct store *store;
    struct model model;
};

static void check_ok(enum status st, const struct err *err, const char *what)
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

static void opened(struct fixture *f)
{
    struct err err;

    OK(store_open(&f->o, &f->store, &err));
}

static void reopened(struct fixture *f)
{
    store_close(f->store);
    opened(f);
}

static void begin(struct fixture *f, struct store_options o)
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

static struct store_options defaults(void) { return (struct store_options){.tx_version = 1}; }

static void end(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
    vfs_memory_destroy(f->vfs);
    model_free(&f->model);
}

static struct store_draft *draft(struct fixture *f)
{
    struct store_draft *d;
    struct err err;

    OK(draft_create(f->store, &d, &err));
    return d;
}

/* (clang-format takes names of one capital for macros) */
/* clang-format off */
static struct bytes S(const char *text) { return bytes_str(text); }

/* Store key of a plain user key; a few live at a time. */
static struct bytes K(const char *text)
{
    static char ring[8][64];
    static unsigned at;
    char *b = ring[at++ % 8];

    b[0] = 0;
    snprintf(b + 1, 63, "%s", text);
    return bytes_of(b, 1 + strlen(text));
}
/* clang-format on */

static uint64_t
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

static void compare(struct fixture *f)
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

/* --- tests --- */
static void commit_and_read(void **state)
{
    struct kv_metadata md = {.has_expiry = true, .expires_at = 99};
    struct fixture f;
    struct store_draft *d;
    struct store_result r;
    struct err err;
    char key[16];

    (void)state;
    begin(&f, defaults());
    compare(&f);
    put(&f, "a", "1");
    put(&f, "a", "2");
    put(&f, "b", "");
    d = draft(&f);
    model_begin(&f.model);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "k%d", i);
        OK(draft_set(d, S(key + 0), &md, S(key), &err)); /* no indexed prefix */
        model_entry_add(&f.model, S(key), &md, S(key));
        /* the draft borrows: give it bytes that stay */
        d->entries[i].key = bytes_of(f.model.txs[3].entries[i].key, f.model.txs[3].entries[i].key_len);
        d->entries[i].value = bytes_of(f.model.txs[3].entries[i].value, f.model.txs[3].entries[i].value_len);
    }
    draft_set_extra(d, S("immudb"));
    OK(store_commit(f.store, d, true, &r, &err));
    assert_int_equal(r.header.md.extra_len, 6);
    compare(&f);
    reopened(&f);
    compare(&f);
    put(&f, "c", "3");
    compare(&f);
    OK(store_flush_index(f.store, &err));
    put(&f, "a", "4");
    compare(&f);
    reopened(&f);
    compare(&f);
    end(&f);
}

/* A batch that fills its bound must not keep the next one from being formed. */
static void large_values(void **state)
{
    struct fixture f;
    struct store_draft *d;
    struct store_result r;
    struct err err;
    size_t len = (size_t)5 << 20;
    uint8_t *value = calloc(1, len);

    (void)state;
    assert_non_null(value);
    begin(&f, defaults());
    for (int i = 0; i < 3; i++) {
        d = draft(&f);
        OK(draft_set(d, K("large"), NULL, bytes_of(value, len), &err));
        OK(store_commit(f.store, d, false, &r, &err));
        assert_int_equal(r.header.id, i + 1);
    }
    end(&f);
    free(value);
}

static void limits(void **state)
{
    struct store_options o = defaults();
    struct fixture f;
    struct store_draft *d;
    struct store_result r;
    struct err err;

    (void)state;
    o.key_len_max = 8;
    o.value_len_max = 10;
    o.tx_entries_max = 3;
    begin(&f, o);
    d = draft(&f);
    assert_int_equal(draft_set(d, S(""), NULL, S(""), &err), ST_INVALID);
    assert_int_equal(draft_set(d, S("123456789"), NULL, S(""), &err), ST_LIMIT);
    assert_string_equal(err.text, "max key length exceeded");
    assert_int_equal(draft_set(d, S("1"), NULL, S("12345678901"), &err), ST_LIMIT);
    assert_string_equal(err.text, "max value length exceeded");
    OK(draft_set(d, S("1"), NULL, S(""), &err));
    assert_int_equal(draft_set(d, S("1"), NULL, S(""), &err), ST_EXISTS);
    OK(draft_set(d, S("2"), NULL, S(""), &err));
    OK(draft_set(d, S("3"), NULL, S(""), &err));
    assert_int_equal(draft_set(d, S("4"), NULL, S(""), &err), ST_LIMIT);
    assert_string_equal(err.text, "max number of entries per tx exceeded");
    draft_free(d);
    assert_int_equal(store_commit(f.store, draft(&f), false, &r, &err), ST_INVALID);
    assert_string_equal(err.text, "no entries provided");
    d = draft(&f);
    OK(draft_set(d, S("1"), NULL, S(""), &err));
    draft_set_deadline(d, 1);
    assert_int_equal(store_commit(f.store, d, false, &r, &err), ST_TIMEOUT);
    end(&f);
}

static enum status conditional(struct fixture *f, enum precondition_kind kind, const char *key, uint64_t tx_id, char *text)
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

static void put_md(struct fixture *f, const char *key, struct kv_metadata md)
{
    struct store_draft *d = draft(f);
    struct store_result r;
    struct err err;

    OK(draft_set(d, K(key), &md, S(""), &err));
    OK(store_commit(f->store, d, false, &r, &err));
    model_begin(&f->model);
    model_entry_add(&f->model, K(key), &md, S(""));
}

static void preconditions(void **state)
{
    struct fixture f;
    char text[100];
    struct err err;

    (void)state;
    begin(&f, defaults());
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "a", 0, text), ST_CONFLICT);
    assert_string_equal(text, "precondition failed: KeyMustExist");
    assert_int_equal(conditional(&f, KEY_MUST_NOT_EXIST, "a", 0, text), ST_OK);
    assert_int_equal(conditional(&f, KEY_NOT_MODIFIED_AFTER_TX, "a", 1, text), ST_OK);
    put(&f, "a", "1"); /* tx 3 */
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "a", 0, text), ST_OK);
    assert_int_equal(conditional(&f, KEY_MUST_NOT_EXIST, "a", 0, text), ST_CONFLICT);
    assert_string_equal(text, "precondition failed: KeyMustNotExist");
    assert_int_equal(conditional(&f, KEY_NOT_MODIFIED_AFTER_TX, "a", 3, text), ST_OK);
    assert_int_equal(conditional(&f, KEY_NOT_MODIFIED_AFTER_TX, "a", 2, text), ST_CONFLICT);
    assert_string_equal(text, "precondition failed: KeyNotModifiedAfterTxID");
    reopened(&f);
    assert_int_equal(conditional(&f, KEY_NOT_MODIFIED_AFTER_TX, "a", 2, text), ST_CONFLICT);
    put_md(&f, "a", (struct kv_metadata){.is_deleted = true});
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "a", 0, text), ST_CONFLICT);
    assert_int_equal(conditional(&f, KEY_MUST_NOT_EXIST, "a", 0, text), ST_OK);
    put_md(&f, "a", (struct kv_metadata){.has_expiry = true, .expires_at = 5});
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "a", 0, text), ST_CONFLICT);
    put_md(&f, "a", (struct kv_metadata){.has_expiry = true, .expires_at = INT64_MAX});
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "a", 0, text), ST_OK);
    OK(store_flush_index(f.store, &err));
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "a", 0, text), ST_OK);
    put_md(&f, "z", (struct kv_metadata){.is_non_indexable = true});
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "z", 0, text), ST_CONFLICT);
    compare(&f);
    end(&f);
}

static enum status with_read(struct fixture *f, const char *first, const char *last, uint64_t read_tx)
{
    struct store_draft *d = draft(f);
    struct store_result r;
    struct err err;
    enum status st;

    OK(draft_set(d, K("w"), NULL, S("w"), &err));
    if (last == NULL)
        OK(draft_read_point(d, K(first), read_tx, &err));
    else
        OK(draft_read_range(d, K(first), K(last), read_tx, &err));
    st = store_commit(f->store, d, false, &r, &err);
    if (st == ST_OK) {
        model_begin(&f->model);
        model_entry_add(&f->model, K("w"), NULL, S("w"));
    } else {
        assert_int_equal(st, ST_CONFLICT);
        assert_string_equal(err.text, "tx read conflict");
    }
    return st;
}

static void read_sets(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, defaults());
    put(&f, "a", "1");
    put(&f, "b", "1");
    assert_int_equal(with_read(&f, "a", NULL, 1), ST_OK); /* 3 */
    assert_int_equal(with_read(&f, "a", NULL, 0), ST_CONFLICT);
    assert_int_equal(with_read(&f, "none", NULL, 0), ST_OK); /* 4 */
    put(&f, "a", "2");                                       /* 5 */
    assert_int_equal(with_read(&f, "a", NULL, 4), ST_CONFLICT);
    assert_int_equal(with_read(&f, "a", NULL, 5), ST_OK); /* 6 */
    assert_int_equal(with_read(&f, "a", "c", 4), ST_CONFLICT);
    assert_int_equal(with_read(&f, "a", "c", 5), ST_OK);       /* 7 */
    assert_int_equal(with_read(&f, "c", "d", 0), ST_OK);       /* 8 */
    assert_int_equal(with_read(&f, "b", "b", 1), ST_CONFLICT); /* older than what is remembered: looked up */
    assert_int_equal(with_read(&f, "b", "b", 2), ST_OK);
    reopened(&f);
    assert_int_equal(with_read(&f, "a", "c", 4), ST_CONFLICT);
    assert_int_equal(with_read(&f, "a", "c", 5), ST_OK);
    assert_int_equal(with_read(&f, "a", "", 5), ST_CONFLICT); /* up to the namespace's end: w */
    compare(&f);
    end(&f);
}

static void late_fields(void **state)
{
    uint8_t value[32], key[64];
    struct writer w = writer_of(value, sizeof value), kw = writer_of(key, sizeof key);
    struct zset_member member = {.set = S("s"), .score = 1.5, .key = S("a")};
    struct fixture f;
    struct store_draft *d;
    struct store_result r;
    struct log_tx t;
    struct tx_entry e;
    struct zset_member got;
    struct kv_value v;
    struct err err;

    (void)state;
    begin(&f, defaults());
    put(&f, "a", "1");
    kv_reference_write(&w, 0, S("a"));
    zset_key_write(&kw, &member);
    d = draft(&f);
    OK(draft_set(d, K("ref"), NULL, bytes_of(value, writer_len(&w)), &err));
    assert_int_equal(draft_late_tx_id(d, false, writer_len(&w) - 7, &err), ST_INVALID);
    OK(draft_late_tx_id(d, false, KV_REFERENCE_AT_TX_OFFSET, &err));
    OK(draft_set(d, bytes_of(key, writer_len(&kw)), NULL, S(""), &err));
    OK(draft_late_tx_id(d, true, zset_key_at_tx_offset(1, 1), &err));
    OK(store_commit(f.store, d, false, &r, &err));
    OK(store_tx_open(f.store, 2, false, &t, &err));
    OK(store_tx_entry(f.store, &t, 0, &e, &err));
    OK(store_tx_value(f.store, &t, 0, NULL, &e.value, &err));
    assert_true(kv_value_decode(e.value, &v));
    assert_int_equal(v.at_tx, 2);
    OK(store_tx_entry(f.store, &t, 1, &e, &err));
    assert_true(zset_key_decode(e.key, &got));
    assert_int_equal(got.at_tx, 2);
    assert_true(got.score == 1.5);
    model_begin(&f.model);
    store_u64be(value + 1, 2);
    store_u64be(key + writer_len(&kw) - 8, 2);
    model_entry_add(&f.model, K("ref"), NULL, bytes_of(value, writer_len(&w)));
    model_entry_add(&f.model, bytes_of(key, writer_len(&kw)), NULL, S(""));
    store_tx_close(f.store, &t);
    compare(&f);
    end(&f);
}

struct outcome { /* of a submitted draft */
    int count;
    struct store_result r;
};
static void note(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct outcome *o = ctx;

    (void)d;
    o->count++;
    o->r = *r;
}

static void submit(struct fixture *f, const char *key, const char *value, struct outcome *o)
{
    struct store_draft *d = draft(f);
    struct err err;

    memset(o, 0, sizeof *o);
    OK(draft_set(d, K(key), NULL, S(value), &err));
    model_begin(&f->model);
    model_entry_add(&f->model, K(key), NULL, S(value));
    store_submit(f->store, d, false, STORE_DRIVE_INLINE, note, o);
}

static void precommitted(void **state)
{
    struct store_options o = defaults();
    struct fixture f;
    struct outcome done[6];
    struct store_state s;
    struct bytes blob;
    struct arena arena;
    hash_t alh;
    char text[100];
    struct err err;

    (void)state;
    o.external_commit = true;
    begin(&f, o);
    arena_init(&arena, 4096, 0);
    for (int i = 0; i < 5; i++)
        submit(&f, i % 2 ? "a" : "b", "v", &done[i]);
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 0);
    assert_int_equal(s.precommitted_tx_id, 5);
    assert_int_equal(done[0].count, 0);
    assert_int_equal(store_export(f.store, 1, false, false, &arena, &blob, &err), ST_NOT_FOUND);
    OK(store_export(f.store, 5, true, false, &arena, &blob, &err));
    assert_int_equal(store_export(f.store, 6, true, false, &arena, &blob, &err), ST_NOT_FOUND);
    assert_int_equal(store_allow_commit(f.store, 6, NULL, &err), ST_INVALID);
    alh = s.precommitted_alh;
    assert_int_equal(store_allow_commit(f.store, 4, &alh, &err), ST_CORRUPT);
    OK(store_allow_commit(f.store, 2, NULL, &err));
    assert_int_equal(done[1].count, 1);
    assert_int_equal(done[1].r.status, ST_OK);
    assert_int_equal(done[2].count, 0);
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 2);
    assert_int_equal(store_discard(f.store, 1, &err), ST_INVALID);
    OK(store_discard(f.store, 3, &err));
    assert_int_equal(done[3].count, 1);
    assert_int_equal(done[3].r.status, ST_CANCELLED);
    assert_int_equal(done[2].count, 0);
    model_cut(&f.model, 3);
    submit(&f, "c", "new", &done[5]);
    store_get_state(f.store, &s);
    assert_int_equal(s.precommitted_tx_id, 4);
    /* What is precommitted and not allowed comes back as such, and conditions see it. */
    reopened(&f);
    assert_int_equal(done[5].r.status, ST_CLOSED);
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 2);
    assert_int_equal(s.precommitted_tx_id, 4);
    {
        struct store_draft *d = draft(&f);
        struct outcome cond = {.count = 0};

        OK(draft_set(d, K("x"), NULL, S("x"), &err));
        OK(draft_precondition(d, KEY_MUST_NOT_EXIST, K("c"), 0, &err));
        store_submit(f.store, d, false, STORE_DRIVE_INLINE, note, &cond);
        assert_int_equal(cond.count, 1);
        assert_int_equal(cond.r.status, ST_CONFLICT);
    }
    OK(store_allow_commit(f.store, 4, &s.precommitted_alh, &err));
    compare(&f);
    (void)text;
    submit(&f, "d", "left over", &done[0]);
    store_close(f.store);
    f.o.external_commit = false;
    opened(&f);
    compare(&f); /* left over, now committed */
    put(&f, "e", "1");
    reopened(&f);
    f.o.external_commit = true;
    reopened(&f);
    compare(&f);
    arena_free(&arena);
    end(&f);
}

static void precommit_limit(void **state)
{
    struct store_options o = defaults();
    struct fixture f;
    static struct outcome done[1002];
    struct err err;
    int refused = 0;

    (void)state;
    o.external_commit = true;
    begin(&f, o);
    for (int i = 0; i < 1002; i++) {
        submit(&f, "k", "v", &done[i]);
        if (done[i].count == 1) {
            assert_int_equal(done[i].r.status, ST_LIMIT);
            assert_string_equal(done[i].r.err.text, "max active transactions limit exceeded");
            model_cut(&f.model, f.model.count - 1);
            refused++;
        }
    }
    assert_int_equal(refused, 2);
    OK(store_allow_commit(f.store, 1000, NULL, &err));
    assert_int_equal(done[999].r.status, ST_OK);
    end(&f);
}

/* Who gives up waiting for an allowance is told so; what he wrote stays and may still be allowed. */
static bool is_given_up(void *ctx) { return *(bool *)ctx; }

static void precommitted_given_up(void **state)
{
    struct store_options o = defaults();
    struct outcome done[3] = {{.count = 0}};
    bool given_up = false;
    struct fixture f;
    struct store_draft *d;
    struct store_state s;
    struct err err;

    (void)state;
    o.external_commit = true;
    begin(&f, o);
    for (int i = 0; i < 2; i++) {
        d = draft(&f);
        OK(draft_set(d, K("a"), NULL, S(i == 0 ? "0" : "1"), &err));
        model_begin(&f.model);
        model_entry_add(&f.model, K("a"), NULL, S(i == 0 ? "0" : "1"));
        if (i == 0)
            draft_set_deadline(d, env_mono_ns(&f.env.env) + 1000000000);
        else
            draft_set_cancel(d, is_given_up, &given_up);
        store_submit(f.store, d, false, STORE_DRIVE_INLINE, note, &done[i]);
    }
    assert_int_equal(done[0].count + done[1].count, 0);
    f.env.mono_ns += 2000000000;
    given_up = true;
    submit(&f, "b", "2", &done[2]);
    assert_int_equal(done[0].count, 1);
    assert_int_equal(done[0].r.status, ST_TIMEOUT);
    assert_int_equal(done[1].count, 1);
    assert_int_equal(done[1].r.status, ST_CANCELLED);
    assert_int_equal(done[2].count, 0);
    OK(store_allow_commit(f.store, 3, NULL, &err));
    assert_int_equal(done[2].r.status, ST_OK);
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 3);
    compare(&f);
    reopened(&f);
    compare(&f);
    end(&f);
}

/* A condition that a tx of the same batch broke is told after that tx: before, nobody can see what broke it, and it may still be lost. */
struct two_in_a_batch {
    struct fixture *f;
    struct store_draft *writes, *asks;
    int writes_at, asks_at, calls; /* in which order they were told */
    enum status writes_status, asks_status;
};

static void told_write(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct two_in_a_batch *t = ctx;

    (void)d;
    t->writes_at = ++t->calls;
    t->writes_status = r->status;
}
static void told_ask(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct two_in_a_batch *t = ctx;

    (void)d;
    t->asks_at = ++t->calls;
    t->asks_status = r->status;
}
/* Called while its thread still drives the store: both wait for the next batch. */
static void submit_two(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct two_in_a_batch *t = ctx;

    (void)d;
    (void)r;
    store_submit(t->f->store, t->writes, false, STORE_DRIVE_INLINE, told_write, t);
    store_submit(t->f->store, t->asks, false, STORE_DRIVE_INLINE, told_ask, t);
}

static void refusal_waits_for_its_reason(void **state)
{
    struct fixture f;
    struct two_in_a_batch t = {.f = &f};
    struct store_draft *d;
    struct err err;

    (void)state;
    begin(&f, defaults());
    put(&f, "before", "0");
    t.writes = draft(&f);
    OK(draft_set(t.writes, K("k"), NULL, S("first"), &err));
    t.asks = draft(&f);
    OK(draft_set(t.asks, K("k"), NULL, S("second"), &err));
    OK(draft_precondition(t.asks, KEY_MUST_NOT_EXIST, K("k"), 0, &err));
    d = draft(&f);
    OK(draft_set(d, K("starts"), NULL, S("1"), &err));
    store_submit(f.store, d, false, STORE_DRIVE_INLINE, submit_two, &t);
    assert_int_equal(t.calls, 2);
    assert_int_equal(t.writes_status, ST_OK);
    assert_int_equal(t.asks_status, ST_CONFLICT);
    assert_true(t.writes_at < t.asks_at);
    end(&f);
}

static void asynchronous(void **state)
{
    struct store_options o = defaults();
    struct fixture f;
    struct store_state s;
    struct store_draft *d;
    struct store_result r;
    struct dual_proof proof;
    struct arena arena;
    struct bytes blob;
    struct err err;

    (void)state;
    o.durability = STORE_ASYNC;
    o.async_sync_interval_ns = UINT64_MAX / 4;
    begin(&f, o);
    arena_init(&arena, 4096, 0);
    put(&f, "a", "1");
    put(&f, "b", "1");
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 0);
    assert_int_equal(s.visible_tx_id, 2);
    /* Seen, but neither proven nor exported. */
    assert_int_equal(store_dual_proof(f.store, 1, 1, &arena, &proof, &err), ST_NOT_FOUND);
    assert_int_equal(store_export(f.store, 1, true, false, &arena, &blob, &err), ST_NOT_FOUND);
    d = draft(&f);
    OK(draft_set(d, K("c"), NULL, S("durable"), &err));
    OK(store_commit(f.store, d, true, &r, &err));
    model_begin(&f.model);
    model_entry_add(&f.model, K("c"), NULL, S("durable"));
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 3);
    compare(&f);
    put(&f, "d", "1");
    OK(store_sync(f.store, &err));
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 4);
    put(&f, "e", "1");
    reopened(&f); /* closing syncs */
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 5);
    compare(&f);
    put(&f, "f", "1");
    arena_free(&arena);
    end(&f);
}

static void proofs_and_inclusion(void **state)
{
    struct fixture f;
    struct log_tx t;
    struct merkle_path path;
    struct arena arena;
    hash_t digests[300];
    struct err err;

    (void)state;
    begin(&f, defaults());
    arena_init(&arena, 4096, 0);
    for (int n = 1; n < 300; n = n * 2 + 1) {
        struct store_draft *d = draft(&f);
        struct store_result r;
        char keys[300][8];

        for (int i = 0; i < n; i++) {
            snprintf(keys[i], sizeof keys[i], "k%d", i);
            OK(draft_set(d, S(keys[i]), NULL, S("v"), &err));
        }
        OK(store_commit(f.store, d, false, &r, &err));
        OK(store_tx_open(f.store, r.header.id, false, &t, &err));
        OK(log_tx_digests(f.store->log, &t, digests, &err));
        for (int round = 0; round < 2; round++) { /* computed, then cached */
            for (int i = 0; i < n; i++) {
                OK(store_entry_inclusion(f.store, &t, (uint32_t)i, &arena, &path, &err));
                assert_true(htree_verify(path.terms, path.term_count, (uint64_t)i, (uint64_t)n, &digests[i], &t.header.eh));
            }
        }
        assert_int_equal(store_entry_inclusion(f.store, &t, (uint32_t)n, &arena, &path, &err), ST_INVALID);
        store_tx_close(f.store, &t);
        arena_reset(&arena);
    }
    arena_free(&arena);
    end(&f);
}

static void export_import(void **state)
{
    struct fixture f, g;
    struct store_result r;
    struct store_state a, b;
    struct bytes blobs[20];
    struct outcome done[20];
    struct arena arena;
    struct err err;

    (void)state;
    arena_init(&arena, 4096, 0);
    begin(&f, defaults());
    for (int i = 0; i < 20; i++)
        put(&f, i % 3 ? "a" : "b", "value");
    begin(&g, defaults());
    for (uint64_t i = 0; i < 20; i++)
        OK(store_export(f.store, i + 1, false, false, &arena, &blobs[i], &err));
    OK(store_import(g.store, blobs[0], false, 0, &r, &err));
    assert_int_equal(store_import(g.store, blobs[0], false, 0, &r, &err), ST_EXISTS);
    assert_string_equal(err.text, "tx already committed");
    /* In any order of arrival. */
    memset(done, 0, sizeof done);
    for (int i = 19; i > 0; i--)
        store_import_submit(g.store, blobs[i], false, UINT64_MAX, STORE_DRIVE_INLINE, note, &done[i]);
    for (int i = 19; i > 0; i--) {
        assert_int_equal(done[i].count, 1);
        assert_int_equal(done[i].r.status, ST_OK);
        assert_int_equal(done[i].r.header.id, i + 1);
    }
    store_get_state(f.store, &a);
    store_get_state(g.store, &b);
    assert_memory_equal(&a, &b, sizeof a);
    model_free(&g.model);
    g.model = f.model;
    compare(&g);
    model_init(&g.model);
    end(&g);
    end(&f);
    arena_free(&arena);
}

/* immudb 1.11 writes such a record when it truncates a database without tables, and cannot import it itself. */
static void import_of_a_truncation_without_entries(void **state)
{
    struct tx_header h = {.id = 2, .ts = 1, .version = 1, .eh = HASH_EMPTY, .bl_tx_id = 1, .md = {.truncated_upto = 1}};
    uint8_t blob[300];
    struct writer w = writer_of(blob, sizeof blob);
    struct store_result r;
    struct store_draft *d;
    struct bytes again;
    struct fixture f;
    struct arena arena;
    struct err err;

    (void)state;
    arena_init(&arena, 4096, 0);
    begin(&f, defaults());
    put(&f, "a", "value");
    OK(store_tx_header(f.store, 1, &r.header, &h.prev_alh, &err));
    sha256_leaf(&h.prev_alh, &h.bl_root);
    OK(tx_export(&h, NULL, 0, false, &w, &err));
    OK(store_import(f.store, bytes_of(blob, writer_len(&w)), false, 0, &r, &err));
    assert_int_equal(r.header.id, 2);
    OK(store_export(f.store, 2, false, false, &arena, &again, &err));
    assert_true(bytes_equal(again, bytes_of(blob, writer_len(&w))));
    d = draft(&f);
    OK(draft_set(d, K("a"), NULL, S("more"), &err));
    OK(store_commit(f.store, d, false, &r, &err));
    assert_int_equal(r.header.id, 3);
    reopened(&f);
    OK(store_export(f.store, 2, false, false, &arena, &again, &err));
    assert_true(bytes_equal(again, bytes_of(blob, writer_len(&w))));
    arena_free(&arena);
    model_free(&f.model); /* the model knows nothing of imports */
    model_init(&f.model);
    end(&f);
}

static void truncation(void **state)
{
    struct store_options o = defaults();
    struct fixture f;
    uint64_t freed = 0;
    struct store_draft *d;
    struct store_result r;
    struct store_state s;
    char why[512], value[600];
    struct err err;

    (void)state;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    o.segment_bytes_first = o.segment_bytes_max = 4096;
    begin(&f, o);
    d = draft(&f);
    OK(draft_set(d,
                 S("\x02"
                   "CTL.TABLE.1"),
                 NULL, S("name"), &err));
    OK(store_commit(f.store, d, false, &r, &err));
    model_begin(&f.model);
    model_entry_add(&f.model,
                    S("\x02"
                      "CTL.TABLE.1"),
                    NULL, S("name"));
    for (int i = 0; i < 60; i++)
        put(&f, "a", value);
    OK(store_truncate(f.store, 40, &freed, &err));
    assert_true(freed > 5000);
    model_begin(&f.model);
    model_entry_add(&f.model,
                    S("\x02"
                      "CTL.TABLE.1"),
                    NULL, S("name"));
    store_get_state(f.store, &s);
    assert_int_equal(s.tx_id, 62);
    for (int i = 0; i < 2; i++) {
        struct tx_header h;

        if (!model_check(&f.model, f.store, s.tx_id, 40, why))
            fail_msg("%s", why);
        OK(store_tx_header(f.store, 62, &h, NULL, &err));
        assert_int_equal(h.md.truncated_upto, 40);
        reopened(&f);
    }
    end(&f);
}

static bool no_findings(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    fail_msg("tx %lu: %s", tx_id, what);
    return false;
}

static void verify_and_rebuild(void **state)
{
    struct fixture f;
    struct err err;
    bool more = true;
    char key[8];

    (void)state;
    begin(&f, defaults());
    for (int i = 0; i < 600; i++) {
        snprintf(key, sizeof key, "%d", i % 37);
        put(&f, key, "value");
        if (i == 300)
            OK(store_flush_index(f.store, &err));
    }
    OK(store_verify(f.store, no_findings, NULL, &err));
    OK(store_compact_index(f.store, &err));
    compare(&f);
    store_close(f.store);
    OK(vfs_remove_tree(f.vfs, "db/index", &err));
    OK(vfs_remove_tree(f.vfs, "db/tree", &err));
    opened(&f);
    while (more)
        OK(store_maintain(f.store, &more, &err));
    OK(store_wait(f.store, 600, 0, &err));
    compare(&f);
    OK(store_verify(f.store, no_findings, NULL, &err));
    end(&f);
}

/* A lost index that takes long to replay: the store opens at once, goes on committing, and catches up in the background. */
static void index_lags_behind(void **state)
{
    struct store_health health;
    struct fixture f;
    char text[100], key[8];
    struct err err;

    (void)state;
    begin(&f, defaults());
    for (int i = 0; i < 1500; i++) {
        snprintf(key, sizeof key, "%d", i % 50);
        put(&f, key, "value");
    }
    store_close(f.store);
    OK(vfs_remove_tree(f.vfs, "db/index", &err));
    atomic_store(&f.env.mono_step_ns, 1000000000); /* every look at the clock: the time for replaying is over soon */
    opened(&f);
    atomic_store(&f.env.mono_step_ns, 1000);
    store_health(f.store, &health);
    assert_true(health.to_rebuild > 500 && health.to_rebuild < 1500);
    put(&f, "new", "1"); /* needs no index */
    /* Needs all of it, so it waits. */
    assert_int_equal(conditional(&f, KEY_MUST_EXIST, "7", 0, text), ST_OK);
    assert_int_equal(conditional(&f, KEY_MUST_NOT_EXIST, "new", 0, text), ST_CONFLICT);
    OK(store_wait(f.store, f.model.count, 0, &err));
    store_health(f.store, &health);
    assert_int_equal(health.kind, STORE_HEALTHY);
    assert_true(health.rebuilt >= health.to_rebuild);
    compare(&f);
    OK(store_verify(f.store, no_findings, NULL, &err));
    reopened(&f);
    compare(&f);
    end(&f);
}

static void locking(void **state)
{
    struct fixture f;
    struct store *other;
    struct store_options o;
    struct err err;

    (void)state;
    begin(&f, defaults());
    assert_int_equal(store_open(&f.o, &other, &err), ST_BUSY);
    assert_non_null(strstr(err.text, "database directory is in use by process"));
    o = f.o;
    o.dir = "none";
    o.create = false;
    assert_int_not_equal(store_open(&o, &other, &err), ST_OK);
    assert_null(other);
    end(&f);
}

static void read_only_open(void **state)
{
    struct fixture f;
    struct store_draft *d;
    struct store_result r;
    struct err err;

    (void)state;
    begin(&f, defaults());
    put(&f, "a", "1");
    f.o.read_only = true;
    reopened(&f);
    compare(&f);
    d = draft(&f);
    OK(draft_set(d, K("a"), NULL, S(""), &err));
    assert_int_equal(store_commit(f.store, d, false, &r, &err), ST_READ_ONLY);
    end(&f);
}

static void waiting(void **state)
{
    struct fixture f;
    struct err err;

    (void)state;
    begin(&f, defaults());
    put(&f, "a", "1");
    OK(store_wait(f.store, 1, 1, &err));
    assert_int_equal(store_wait(f.store, 2, 1, &err), ST_TIMEOUT);
    assert_int_equal(store_indexed(f.store), 1);
    end(&f);
}

static void versions_zero(void **state)
{
    struct store_options o = {.tx_version = 0};
    struct kv_metadata md = {.is_deleted = true};
    struct fixture f;
    struct store_draft *d;
    struct store_result r;
    struct err err;

    (void)state;
    begin(&f, o);
    d = draft(&f);
    OK(draft_set(d, K("a"), &md, S(""), &err));
    assert_int_equal(store_commit(f.store, d, false, &r, &err), ST_INVALID);
    d = draft(&f);
    OK(draft_set(d, K("a"), NULL, S(""), &err));
    OK(store_commit(f.store, d, false, &r, &err));
    assert_int_equal(r.header.version, 0);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commit_and_read),
        cmocka_unit_test(large_values),
        cmocka_unit_test(limits),
        cmocka_unit_test(preconditions),
        cmocka_unit_test(read_sets),
        cmocka_unit_test(late_fields),
        cmocka_unit_test(precommitted),
        cmocka_unit_test(precommit_limit),
        cmocka_unit_test(asynchronous),
        cmocka_unit_test(precommitted_given_up),
        cmocka_unit_test(refusal_waits_for_its_reason),
        cmocka_unit_test(proofs_and_inclusion),
        cmocka_unit_test(export_import),
        cmocka_unit_test(import_of_a_truncation_without_entries),
        cmocka_unit_test(truncation),
        cmocka_unit_test(verify_and_rebuild),
        cmocka_unit_test(index_lags_behind),
        cmocka_unit_test(locking),
        cmocka_unit_test(read_only_open),
        cmocka_unit_test(waiting),
        cmocka_unit_test(versions_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
