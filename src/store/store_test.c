/* Proves what store.h promises, call by call, on a file system in memory: commit and read, late fields, snapshots, proofs, asynchronous mode, locking,
 * reopening. Answers are compared with the model. Conditions, precommitting, transfer and rebuilding have tests of their own beside this one. */
#include "store/kv_encoding.h"
#include "store/store_fixture.h"

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
        cmocka_unit_test(commit_and_read),      cmocka_unit_test(large_values), cmocka_unit_test(late_fields),    cmocka_unit_test(asynchronous),
        cmocka_unit_test(proofs_and_inclusion), cmocka_unit_test(locking),      cmocka_unit_test(read_only_open), cmocka_unit_test(waiting),
        cmocka_unit_test(versions_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
