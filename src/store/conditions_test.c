/* Proves what keeps a draft from being committed: limits, preconditions, read sets, and when a refusal is told. Answers are compared with the model. */
#include "store/store_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits),
        cmocka_unit_test(preconditions),
        cmocka_unit_test(read_sets),
        cmocka_unit_test(refusal_waits_for_its_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
