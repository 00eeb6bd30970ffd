/* Proves what writes check, say and conflict with, how transactions are shown, and that too little memory is an answer.
 *
 * How: drafts of every kind on a real store in memory; a key is changed between check and commit; every arena size from nothing
 * upwards must give an answer or ST_NOMEM. */
#include "kv/kv_fixture.h"

/* ------------------------------------------------------------ writes */

static void sets_and_their_limits(void **state)
{
    static uint8_t key[1025];
    struct store_draft *d = draft();
    struct store_result r;

    (void)state;
    FAILS(kv_draft_set(d, &f.arena, S(""), NULL, S("v"), &err), ST_INVALID, "illegal arguments");
    OK(kv_draft_set(d, &f.arena, bytes_of(key, 1023), NULL, S(""), &err));
    FAILS(kv_draft_set(d, &f.arena, bytes_of(key, 1024), NULL, S(""), &err), ST_LIMIT, "max key length exceeded");
    FAILS(kv_draft_set(d, &f.arena, bytes_of(key, 1023), NULL, S(""), &err), ST_EXISTS,
          "duplicated keys are not supported in single batch transaction");
    commit(d);
    d = draft();
    FAILS(store_commit(f.store, d, false, &r, &err), ST_INVALID, "no entries provided");
}

static void deletions(void **state)
{
    struct store_draft *d;
    struct kv_reader r;

    (void)state;
    put("a", "1");
    put("b", "1");
    put_md("e", "1", (struct kv_metadata){.has_expiry = true, .expires_at = 1});
    r = reader_now();
    d = draft();
    FAILS(kv_draft_delete(d, &f.arena, &r, S("none"), &err), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(kv_draft_delete(d, &f.arena, &r, S("e"), &err), ST_NOT_FOUND, "tbtree: key not found: expired entry");
    FAILS(kv_draft_delete(d, &f.arena, &r, S(""), &err), ST_INVALID, "illegal arguments");
    OK(kv_draft_delete(d, &f.arena, &r, S("a"), &err));
    FAILS(kv_draft_delete(d, &f.arena, &r, S("a"), &err), ST_NOT_FOUND, "tbtree: key not found");
    kv_reader_close(&r);
    commit(d);
}

/* Each check that looked at a value must not survive a change of that key. */
static void checks_are_protected_until_the_commit(void **state)
{
    struct kv_ref ref = {S("new"), S("k"), 0, false}, bound = {S("bound"), S("k"), 1, true};
    struct kv_zadd z = {S("s"), S("k"), 1, 0, false};

    (void)state;
    put("k", "v");
    for (unsigned i = 0; i < 5; i++) {
        struct store_draft *d = draft();
        struct kv_reader r = reader_now();
        struct store_result result;
        struct err err;

        switch (i) {
        case 0:
            check_ok(kv_draft_delete(d, &f.arena, &r, S("k"), &err), &err, "delete");
            break;
        case 1:
            check_ok(kv_draft_ref(d, &f.arena, &r, &ref, &err), &err, "ref");
            break;
        case 2:
            check_ok(kv_draft_zadd(d, &f.arena, &r, &z, &err), &err, "zadd");
            break;
        case 3:
            check_ok(kv_draft_ref(d, &f.arena, &r, &ref, &err), &err, "ref");
            break;
        default:
            check_ok(kv_draft_ref(d, &f.arena, &r, &bound, &err), &err, "bound");
            break;
        }
        kv_reader_close(&r);
        put(i == 3 ? "new" : "k", "changed"); /* the target, or the key that is to become a reference */
        if (i < 4) {
            assert_int_equal(store_commit(f.store, d, false, &result, &err), ST_CONFLICT);
            assert_string_equal(err.text, "tx read conflict");
        } else { /* what tx 1 holds does not change */
            check_ok(store_commit(f.store, d, false, &result, &err), &err, "commit");
        }
    }
}

static void preconditions(void **state)
{
    static uint8_t key[1025];
    static const struct {
        struct kv_precondition p;
        bool is_nested;
        const char *text;
    } wrong[] = {
        {{.is_given = false}, true, "invalid precondition: null"},
        {{true, KEY_MUST_EXIST, {NULL, 0}, 0}, true, "invalid precondition: null key"},
        {{true, KEY_MUST_EXIST, {key, 1024}, 0}, true, "invalid precondition: invalid precondition: max key length exceeded"},
        {{true, KEY_MUST_EXIST, {key, 1024}, 0}, false, "invalid precondition: max key length exceeded"},
        {{true, KEY_NOT_MODIFIED_AFTER_TX, {key, 1}, 0}, true, "invalid precondition: invalid precondition: invalid transaction ID"},
        {{true, KEY_NOT_MODIFIED_AFTER_TX, {key, 1}, 0}, false, "invalid precondition: invalid transaction ID"},
    };
    struct kv_precondition p = {true, KEY_MUST_EXIST, S("k"), 0};
    struct store_result r;
    struct store_draft *d;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        d = draft();
        FAILS(kv_draft_preconditions(d, &f.arena, &wrong[i].p, 1, wrong[i].is_nested, &err), ST_INVALID, wrong[i].text);
        draft_free(d);
    }
    d = draft();
    for (unsigned i = 0; i < 1024; i++)
        OK(kv_draft_preconditions(d, &f.arena, &p, 1, true, &err));
    FAILS(kv_draft_preconditions(d, &f.arena, &p, 1, true, &err), ST_INVALID, "invalid precondition: too many preconditions");
    draft_free(d);
    d = draft();
    OK(kv_draft_set(d, &f.arena, S("k"), NULL, S("v"), &err));
    OK(kv_draft_preconditions(d, &f.arena, &p, 1, true, &err));
    FAILS(store_commit(f.store, d, false, &r, &err), ST_CONFLICT, "precondition failed: KeyMustExist");
}

/* ------------------------------------------------------------ ExecAll */

static struct kv_op op_set(const char *key, const char *value) { return (struct kv_op){.kind = KV_OP_SET, .key = S(key), .value = S(value)}; }
static struct kv_op op_ref(const char *key, const char *target, uint64_t at_tx, bool is_bound)
{
    return (struct kv_op){.kind = KV_OP_REF, .ref = {S(key), S(target), at_tx, is_bound}};
}
static struct kv_op op_zadd(const char *set, double score, const char *key, uint64_t at_tx, bool is_bound)
{
    return (struct kv_op){.kind = KV_OP_ZADD, .zadd = {S(set), S(key), score, at_tx, is_bound}};
}

static enum status exec_in(struct arena *arena, const struct kv_op *ops, size_t count, bool no_wait, struct err *err)
{
    struct store_draft *d = draft();
    struct kv_reader r = reader_now();
    enum status st = kv_ops_check(ops, count, arena, err);

    r.arena = arena;
    if (st == ST_OK)
        st = kv_draft_ops(d, arena, &r, ops, count, no_wait, err);
    kv_reader_close(&r);
    if (st == ST_OK)
        commit(d);
    else
        draft_free(d);
    return st;
}
#define EXEC(no_wait, ...) \
    exec_in(&f.arena, (const struct kv_op[]){__VA_ARGS__}, sizeof((const struct kv_op[]){__VA_ARGS__}) / sizeof(struct kv_op), no_wait, &err)

static void exec_all_checks_the_request(void **state)
{
    (void)state;
    put("a", "1");
    put("b", "1");
    put_ref("ra", "a", 0);
    FAILS(exec_in(&f.arena, NULL, 0, false, &err), ST_INVALID, "empty set");
    FAILS(EXEC(false, {.kind = KV_OP_NONE}), ST_INVALID, "operation is not set");
    FAILS(EXEC(false, op_set("k", "1"), op_set("k", "2")), ST_EXISTS,
          "rpc error: code = InvalidArgument desc = duplicated keys are not supported in single batch transaction: key/reference "
          "'k'");
    FAILS(EXEC(false, op_set("n", "1"), op_ref("n", "a", 0, false)), ST_EXISTS,
          "rpc error: code = InvalidArgument desc = duplicated keys are not supported in single batch transaction: key/reference "
          "'n'");
    FAILS(EXEC(false, op_zadd("z", 1, "a", 0, false), op_zadd("z", 2, "a", 0, false)), ST_EXISTS,
          "duplicated index inside zAdd insertions are not supported in single batch transaction");
    OK(EXEC(false, op_zadd("z", 1, "a", 0, false), op_zadd("z", 2, "a", 1, true)));
    FAILS(EXEC(false, op_set("", "1")), ST_INVALID, "illegal arguments");
    FAILS(EXEC(false, op_ref("x", "a", 1, false)), ST_INVALID, "illegal arguments");
    FAILS(EXEC(false, op_ref("", "a", 0, false)), ST_INVALID, "illegal arguments");
    FAILS(EXEC(false, op_zadd("", 1, "a", 0, false)), ST_INVALID, "illegal arguments");
    FAILS(EXEC(false, op_ref("rd", "d", 0, false), op_set("d", "4")), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(EXEC(false, op_zadd("z", 3, "none", 0, false)), ST_NOT_FOUND, "tbtree: key not found");
    FAILS(EXEC(false, op_ref("rr", "ra", 0, false)), ST_INVALID, "referenced key cannot be a reference");
    FAILS(EXEC(false, op_ref("b", "a", 0, false)), ST_INVALID, "final key cannot be converted into a reference");
}

static void exec_all_sees_its_own_pairs(void **state)
{
    struct kv_entry e;

    (void)state;
    OK(EXEC(false, op_set("c", "3"), op_ref("rc", "c", 0, false), op_zadd("z", 1.5, "c", 0, false)));
    OK(get(GET(.key = S("rc")), &e, &err));
    assert_true(is(e.value, "3") && e.revision == 1 && e.reference.tx_id == 1);
    OK(EXEC(false, op_set("c", "3b"), op_ref("rcb", "c", 0, true), op_zadd("z", 2, "c", 0, true)));
    OK(get(GET(.key = S("rcb")), &e, &err));
    assert_true(e.reference.at_tx == 2 && e.tx_id == 2 && e.revision == 0); /* bound to the tx itself */
    assert_string_equal(ZSCAN(.limit = 0), "c:1.5@0 c:2@2");
}

static void exec_all_without_waiting(void **state)
{
    static const char bound_text[] = "no wait operation must be self-contained: illegal arguments: can only set references to keys added within same "
                                     "transaction, please use bound references with AtTx set to 0";

    (void)state;
    put("a", "1");
    OK(EXEC(true, op_set("n", "1"), op_ref("rn", "n", 0, true), op_zadd("z", 1, "n", 0, true)));
    FAILS(EXEC(true, op_ref("r3", "a", 0, true)), ST_INVALID,
          "no wait operation must be self-contained: illegal arguments: can not create a reference to a key that was not set in "
          "the same transaction");
    FAILS(EXEC(true, op_zadd("z", 1, "a", 0, true)), ST_INVALID,
          "no wait operation must be self-contained: illegal arguments: can not create a reference into a set for a key that was "
          "not set in the same "
          "transaction");
    FAILS(EXEC(true, op_set("n4", "1"), op_ref("r4", "n4", 0, false)), ST_INVALID, bound_text);
    FAILS(EXEC(true, op_set("n4", "1"), op_zadd("z", 1, "n4", 0, false)), ST_INVALID, bound_text);
}

/* ------------------------------------------------------------ transactions */

static void tx_shapes(void **state)
{
    struct kv_tx_spec spec = {.is_given = false};
    struct kv_tx_read t;
    struct kv_reader r;

    (void)state;
    put("a", "1");
    OK(EXEC(false, op_set("c", "3"), op_ref("rc", "c", 0, false), op_zadd("z", 1.5, "c", 0, false),
            {.kind = KV_OP_SET, .key = S("old"), .value = S("x"), .md = {.has_expiry = true, .expires_at = 1}}));
    r = reader_now();
    OK(kv_tx_open(&t, &r, 2, &spec, &err));
    assert_int_equal(t.tx.entry_count, 4);
    assert_int_equal(t.tx.entries[0].value.len, 0);
    assert_int_equal(t.tx.entries[0].value_len, 2);
    kv_tx_close(&t);
    spec = (struct kv_tx_spec){.is_given = true};
    OK(kv_tx_open(&t, &r, 2, &spec, &err));
    assert_true(t.tx.entry_count == 0 && t.tx.kv_entry_count == 0 && t.tx.z_entry_count == 0 && t.tx.header->id == 2);
    kv_tx_close(&t);
    spec.kv = KV_RAW;
    OK(kv_tx_open(&t, &r, 2, &spec, &err));
    assert_int_equal(t.tx.entry_count, 2); /* the expired one is left out */
    assert_true(bytes_equal(t.tx.entries[0].value, bytes_of("\0003", 2)));
    kv_tx_close(&t);
    spec = (struct kv_tx_spec){true, KV_RESOLVE, KV_RESOLVE, KV_EXCLUDE, false};
    OK(kv_tx_open(&t, &r, 2, &spec, &err));
    assert_true(t.tx.kv_entry_count == 2 && t.tx.z_entry_count == 1);
    assert_true(t.tx.kv_entries[0].revision == 0 && is(t.tx.kv_entries[0].value, "3"));
    assert_true(t.tx.kv_entries[1].revision == 1 && t.tx.kv_entries[1].reference.revision == 0 && is(t.tx.kv_entries[1].reference.key, "rc"));
    assert_true(is(t.tx.z_entries[0].entry.value, "3") && t.tx.z_entries[0].score == 1.5);
    kv_tx_close(&t);
    spec.keep_references = true;
    OK(kv_tx_open(&t, &r, 2, &spec, &err));
    assert_true(t.tx.kv_entries[1].tx_id == 0 && is(t.tx.kv_entries[1].key, "c") && t.tx.kv_entries[1].value.len == 0);
    assert_false(t.tx.z_entries[0].has_entry);
    kv_tx_close(&t);
    FAILS(kv_tx_open(&t, &r, 0, &spec, &err), ST_INVALID, "illegal arguments");
    FAILS(kv_tx_open(&t, &r, 3, &spec, &err), ST_NOT_FOUND, "tx not found");
    kv_reader_close(&r);
    del("c");
    spec.keep_references = false;
    r = reader_now();
    OK(kv_tx_open(&t, &r, 2, &spec, &err)); /* the reference and the member lead nowhere now */
    assert_true(t.tx.kv_entry_count == 1 && t.tx.z_entry_count == 0);
    kv_tx_close(&t);
    kv_reader_close(&r);
}

/* Rows of SQL and documents are shown raw or not at all; those of documents never. */
static void tx_shapes_of_other_layers(void **state)
{
    static const struct {
        struct kv_tx_spec spec;
        size_t count;
        const char *value; /* of the first */
    } cases[] = {
        {{.is_given = false}, 3, ""},
        {{true, KV_EXCLUDE, KV_EXCLUDE, KV_DIGEST, false}, 1, ""},
        {{true, KV_EXCLUDE, KV_EXCLUDE, KV_RAW, false}, 1, "row"},
        {{true, KV_DIGEST, KV_DIGEST, KV_EXCLUDE, false}, 1, ""},
    };
    const struct kv_tx_spec resolved = {true, KV_EXCLUDE, KV_EXCLUDE, KV_RESOLVE, false};
    struct store_draft *d = draft();
    struct kv_tx_read t;
    struct kv_reader r;

    (void)state;
    OK(draft_set(d, S("\002R.key"), NULL, S("row"), &err));
    OK(draft_set(d, S("\003doc"), NULL, S("document"), &err));
    OK(kv_draft_set(d, &f.arena, S("k"), NULL, S("v"), &err));
    commit(d);
    r = reader_now();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        OK(kv_tx_open(&t, &r, 1, &cases[i].spec, &err));
        assert_int_equal(t.tx.entry_count, cases[i].count);
        assert_true(is(t.tx.entries[0].value, cases[i].value));
        kv_tx_close(&t);
    }
    FAILS(kv_tx_open(&t, &r, 1, &resolved, &err), ST_INVALID, "illegal arguments: sql entry resolution is not supported");
    kv_reader_close(&r);
}

/* ------------------------------------------------------------ not waiting, and too little memory */

static void nowait_never_waits(void **state)
{
    struct kv_scan_options o = {.limit = 1};
    struct kv_reader r;
    struct kv_history h;
    struct kv_scan s;
    uint64_t count;

    (void)state;
    put("a", "1");
    kv_reader_init(&r, f.store, &f.arena, NOW, true);
    OK(kv_reader_snapshot(&r, 0, 0, &err));
    FAILS(kv_scan_open(&s, &r, &o, &err), ST_AGAIN, "");
    FAILS(kv_history_open(&h, &r, S("a"), 0, 0, false, &err), ST_AGAIN, "");
    FAILS(kv_count(&r, S(""), &count, &err), ST_AGAIN, "");
    kv_reader_close(&r);
    r = reader();
    FAILS(kv_reader_snapshot(&r, 2, 0, &err), ST_INVALID, "illegal arguments");
    kv_reader_close(&r);
    r = reader_now();
    OK(kv_count(&r, S(""), &count, &err));
    assert_int_equal(count, 1);
    kv_reader_close(&r);
}

static void too_little_memory_is_said(void **state)
{
    static const struct kv_tx_spec spec = {true, KV_RESOLVE, KV_RESOLVE, KV_EXCLUDE, false};
    const struct kv_op ops[] = {op_set("c", "3"), op_ref("rc", "c", 0, false), op_zadd("z", 1.5, "c", 0, false), op_ref("ra", "a", 0, false)};
    unsigned failures = 0;

    (void)state;
    put("a", "1");
    for (size_t bytes = 256;; bytes += 64) {
        struct arena small;
        struct err err;
        enum status st;

        arena_init(&small, 256, bytes);
        st = exec_in(&small, ops, 4, false, &err);
        arena_free(&small);
        if (st == ST_OK)
            break;
        assert_int_equal(st, ST_NOMEM);
        failures++;
    }
    assert_true(failures > 0);
    failures = 0;
    for (size_t bytes = 256;; bytes += 64) {
        struct kv_reader r = reader_now();
        struct kv_tx_read t;
        struct arena small;
        struct err err;
        enum status st;

        arena_init(&small, 256, bytes);
        r.arena = &small;
        st = kv_tx_open(&t, &r, 2, &spec, &err);
        kv_tx_close(&t);
        kv_reader_close(&r);
        arena_free(&small);
        if (st == ST_OK)
            break;
        assert_int_equal(st, ST_NOMEM);
        failures++;
    }
    assert_true(failures > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sets_and_their_limits, begin, end),
        cmocka_unit_test_setup_teardown(deletions, begin, end),
        cmocka_unit_test_setup_teardown(checks_are_protected_until_the_commit, begin, end),
        cmocka_unit_test_setup_teardown(preconditions, begin, end),
        cmocka_unit_test_setup_teardown(exec_all_checks_the_request, begin, end),
        cmocka_unit_test_setup_teardown(exec_all_sees_its_own_pairs, begin, end),
        cmocka_unit_test_setup_teardown(exec_all_without_waiting, begin, end),
        cmocka_unit_test_setup_teardown(tx_shapes, begin, end),
        cmocka_unit_test_setup_teardown(tx_shapes_of_other_layers, begin, end),
        cmocka_unit_test_setup_teardown(nowait_never_waits, begin, end),
        cmocka_unit_test_setup_teardown(too_little_memory_is_said, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
