/* Proves that txs get from one store into another by export and import, refused when they do not fit, and that truncation takes values and nothing else.
 * Answers are compared with the model. */
#include "store/store_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(export_import),
        cmocka_unit_test(import_of_a_truncation_without_entries),
        cmocka_unit_test(truncation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
