/* Proves precommitting: txs are ordered and durable, but committed only when they are allowed; discarding, the bound, giving up the wait. Answers are
 * compared with the model. */
#include "store/store_fixture.h"

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
    assert_true(awaited(&done[0]));
    assert_int_equal(done[0].r.status, ST_TIMEOUT);
    assert_true(awaited(&done[1]));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(precommitted),
        cmocka_unit_test(precommit_limit),
        cmocka_unit_test(precommitted_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
