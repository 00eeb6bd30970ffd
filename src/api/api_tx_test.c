/* Proves transactions: own writes are read and replaced, reads are checked at commit (points, things not found, ranges, phantoms) and only what was read is,
 * preconditions, the ways to commit, what stays usable after failures and after the end. */
#include "api/api_fixture.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static immudb_tx *begin(struct fixture *f, int32_t mode)
{
    immudb_tx_options o;
    immudb_tx *tx;

    immudb_tx_options_init(&o);
    o.mode = mode;
    OK(immudb_tx_begin(f->db, &o, &tx, E));
    return tx;
}

static void tx_get_is(struct fixture *f, immudb_tx *tx, const char *key, const char *value, int line)
{
    immudb_entry e;
    immudb_status st;

    immudb_entry_init(&e);
    st = immudb_tx_get(tx, S(key), 0, f->buffer, &e, E);
    status_is(st, value != NULL ? IMMUDB_OK : IMMUDB_NOT_FOUND, E, key, line);
    if (value != NULL)
        bytes_are(e.value, value, line);
}
#define TX_GET(tx, key, value) tx_get_is(&f, (tx), (key), (value), __LINE__)
#define TX_SET(tx, key, value) OK(immudb_tx_set((tx), S(key), S(value), NULL, E))

static const char *tx_list(immudb_tx *tx, const char *prefix, uint32_t flags)
{
    immudb_scan_options o;
    immudb_cursor *c;

    immudb_scan_options_init(&o);
    o.prefix = S(prefix);
    o.flags = flags;
    OK(immudb_tx_scan(tx, &o, &c, E));
    return listed(c);
}

static void test_own_writes(void **state)
{
    struct fixture f;
    immudb_committed c;
    immudb_cursor *cursor;
    immudb_tx *tx;
    char key[16];

    (void)state;
    fixture_begin(&f, 0);
    immudb_committed_init(&c);
    set(&f, "a", "1");
    set(&f, "b", "2");
    set(&f, "d", "4");
    tx = begin(&f, IMMUDB_TX_READ_WRITE);
    TX_GET(tx, "a", "1");
    TX_SET(tx, "a", "one");
    TX_SET(tx, "c", "three");
    TX_SET(tx, "c", "3");
    TX_GET(tx, "a", "one");
    TX_GET(tx, "c", "3");
    OK(immudb_tx_delete(tx, S("b"), 0, E));
    TX_GET(tx, "b", NULL);
    IS(IMMUDB_NOT_FOUND, immudb_tx_delete(tx, S("b"), 0, E));
    IS(IMMUDB_NOT_FOUND, immudb_tx_delete(tx, S("x"), 0, E));
    assert_string_equal(tx_list(tx, "", 0), "a=one c=3 d=4 ");
    assert_string_equal(tx_list(tx, "", IMMUDB_DESC), "d=4 c=3 a=one ");
    assert_string_equal(tx_list(tx, "", IMMUDB_WITH_DELETED), "a=one b= c=3 d=4 ");
    GET(&f, "c", NULL); /* nobody else sees it */
    OK(immudb_tx_commit(tx, &c, E));
    assert_int_equal(c.tx_id, 4);
    OK(immudb_scan(f.db, NULL, &cursor, E));
    assert_string_equal(listed(cursor), "a=one c=3 d=4 ");
    /* In the order of first writing. */
    OK(immudb_tx_entries(f.db, 4, 0, &cursor, E));
    assert_string_equal(listed(cursor), "a=one c=3 b= ");

    /* Many: the table grows. */
    tx = begin(&f, IMMUDB_TX_READ_WRITE);
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "m%d", i % 500);
        TX_SET(tx, key, i < 500 ? "old" : key);
    }
    OK(immudb_tx_commit(tx, &c, E));
    GET(&f, "m499", "m499");
    GET(&f, "m0", "m0");
    fixture_end(&f);
}

static void test_modes(void **state)
{
    struct fixture f;
    immudb_tx_options o;
    immudb_entry e;
    immudb_cursor *cursor;
    immudb_tx *tx;

    (void)state;
    fixture_begin(&f, 0);
    immudb_entry_init(&e);
    set(&f, "a", "1");
    set(&f, "a", "2");
    tx = begin(&f, IMMUDB_TX_WRITE_ONLY);
    IS(IMMUDB_INVALID, immudb_tx_get(tx, S("a"), 0, f.buffer, &e, E));
    IS(IMMUDB_INVALID, immudb_tx_scan(tx, NULL, &cursor, E));
    TX_SET(tx, "w", "1");
    IS(IMMUDB_EXISTS, immudb_tx_set(tx, S("w"), S("2"), NULL, E));
    OK(immudb_tx_delete(tx, S("a"), 0, E));
    OK(immudb_tx_commit(tx, NULL, E));
    GET(&f, "w", "1");
    GET(&f, "a", NULL);
    tx = begin(&f, IMMUDB_TX_WRITE_ONLY);
    OK(immudb_tx_delete(tx, S("never"), 0, E));
    FAILS(IMMUDB_CONFLICT, "KeyMustExist", immudb_tx_commit(tx, NULL, E));

    immudb_tx_options_init(&o);
    o.mode = IMMUDB_TX_READ_ONLY;
    o.read_tx_id = 1;
    OK(immudb_tx_begin(f.db, &o, &tx, E));
    TX_GET(tx, "a", "1");
    assert_string_equal(tx_list(tx, "", 0), "a=1 ");
    IS(IMMUDB_READ_ONLY, immudb_tx_set(tx, S("a"), S("3"), NULL, E));
    IS(IMMUDB_READ_ONLY, immudb_tx_delete(tx, S("a"), 0, E));
    IS(IMMUDB_READ_ONLY, immudb_tx_commit(tx, NULL, E));
    o.read_tx_id = 77;
    IS(IMMUDB_NOT_FOUND, immudb_tx_begin(f.db, &o, &tx, E));
    assert_null(tx);
    o.mode = IMMUDB_TX_READ_WRITE;
    IS(IMMUDB_INVALID, immudb_tx_begin(f.db, &o, &tx, E));
    o.mode = 7;
    IS(IMMUDB_UNSUPPORTED, immudb_tx_begin(f.db, &o, &tx, E));
    tx = begin(&f, IMMUDB_TX_READ_WRITE);
    FAILS(IMMUDB_INVALID, "no entries", immudb_tx_commit(tx, NULL, E));
    fixture_end(&f);
}

/* reads: what the tx reads before somebody else writes key; conflicts: must it fail? */
enum read_kind { READ_A, READ_MISSING, SCAN_ALL, SCAN_B, SCAN_FIRST_TWO, SCAN_FIRST_TWO_DESC, SCAN_NOT_ENDED, READ_OWN };

static void read_before(struct fixture *f, immudb_tx *tx, enum read_kind kind)
{
    immudb_scan_options o;
    immudb_cursor *c = NULL;
    immudb_entry e;

    immudb_entry_init(&e);
    immudb_scan_options_init(&o);
    switch (kind) {
    case READ_A:
        tx_get_is(f, tx, "a", "1", __LINE__);
        return;
    case READ_MISSING:
        tx_get_is(f, tx, "bb", NULL, __LINE__);
        return;
    case READ_OWN:
        TX_SET(tx, "a", "own");
        tx_get_is(f, tx, "a", "own", __LINE__);
        return;
    case SCAN_ALL:
        tx_list(tx, "", 0);
        return;
    case SCAN_B:
        tx_list(tx, "b", 0);
        return;
    case SCAN_FIRST_TWO_DESC:
        o.flags = IMMUDB_DESC; /* fall through */
    case SCAN_FIRST_TWO:
    case SCAN_NOT_ENDED:
        OK(immudb_tx_scan(tx, &o, &c, E));
        for (int i = 0; i < 2; i++)
            OK(immudb_cursor_next(c, &e, E));
        if (kind != SCAN_NOT_ENDED)
            immudb_cursor_close(c);
        else { /* closed after the commit: see below */
            OK(immudb_tx_set(tx, S("zz"), S(""), NULL, E));
            IS(IMMUDB_CONFLICT, (set(f, "ab", "new"), immudb_tx_commit(tx, NULL, E)));
            IS(IMMUDB_CLOSED, immudb_cursor_next(c, &e, E));
            immudb_cursor_close(c);
        }
        return;
    }
}

static void test_conflicts(void **state)
{
    static const struct {
        enum read_kind kind;
        const char *key; /* written by somebody else */
        bool conflicts;
    } cases[] = {
        {READ_A, "a", true},
        {READ_A, "b", false},
        {READ_MISSING, "bb", true},
        {READ_MISSING, "b", false},
        {SCAN_ALL, "e", true},
        {SCAN_ALL, "a", true},
        {SCAN_B, "b5", true},
        {SCAN_B, "a5", false},
        {SCAN_B, "c5", false},
        {SCAN_FIRST_TWO, "aa", true},
        {SCAN_FIRST_TWO, "b", true},
        {SCAN_FIRST_TWO, "bb", false},
        {SCAN_FIRST_TWO, "d", false},
        {SCAN_FIRST_TWO_DESC, "d", true},
        {SCAN_FIRST_TWO_DESC, "cc", true},
        {SCAN_FIRST_TWO_DESC, "bb", false},
        {SCAN_FIRST_TWO_DESC, "z", true},
        {READ_OWN, "a", false},
    };
    struct fixture f;
    immudb_tx *tx;

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        immudb_status st;

        fixture_end(&f);
        fixture_begin(&f, IMMUDB_ASYNC);
        set(&f, "a", "1");
        set(&f, "b", "2");
        set(&f, "c", "3");
        set(&f, "d", "4");
        tx = begin(&f, IMMUDB_TX_READ_WRITE);
        read_before(&f, tx, cases[i].kind);
        TX_SET(tx, "mine", "x");
        set(&f, cases[i].key, "theirs");
        st = immudb_tx_commit(tx, NULL, E);
        if (st != (cases[i].conflicts ? IMMUDB_CONFLICT : IMMUDB_OK))
            fail_msg("case %zu: %s", i, immudb_status_name(st));
        if (cases[i].conflicts)
            assert_string_equal(E->text, "tx read conflict");
        GET(&f, "mine", cases[i].conflicts ? NULL : "x");
    }
    tx = begin(&f, IMMUDB_TX_READ_WRITE);
    read_before(&f, tx, SCAN_NOT_ENDED);
    /* The view stays as of the first read. */
    tx = begin(&f, IMMUDB_TX_READ_WRITE);
    TX_GET(tx, "b", "2");
    set(&f, "b", "later");
    TX_GET(tx, "b", "2");
    immudb_tx_cancel(tx);
    fixture_end(&f);
}

static void test_preconditions(void **state)
{
    struct fixture f;
    immudb_header h;
    immudb_committed c;
    immudb_tx *tx;
    static char extra[257];
    const struct {
        int32_t kind;
        const char *key;
        uint64_t tx_id;
        immudb_status wanted;
    } cases[] = {
        {IMMUDB_MUST_EXIST, "a", 0, IMMUDB_OK},
        {IMMUDB_MUST_EXIST, "x", 0, IMMUDB_CONFLICT},
        {IMMUDB_MUST_NOT_EXIST, "x", 0, IMMUDB_OK},
        {IMMUDB_MUST_NOT_EXIST, "a", 0, IMMUDB_CONFLICT},
        {IMMUDB_NOT_MODIFIED_AFTER_TX, "a", 1, IMMUDB_OK},
        {IMMUDB_NOT_MODIFIED_AFTER_TX, "b", 1, IMMUDB_CONFLICT},
    };

    (void)state;
    fixture_begin(&f, 0);
    immudb_header_init(&h);
    immudb_committed_init(&c);
    set(&f, "a", "1");
    set(&f, "b", "2");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tx = begin(&f, i % 2 == 0 ? IMMUDB_TX_READ_WRITE : IMMUDB_TX_WRITE_ONLY);
        TX_SET(tx, "k", "v");
        OK(immudb_tx_precondition(tx, cases[i].kind, S(cases[i].key), cases[i].tx_id, 0, E));
        IS(cases[i].wanted, immudb_tx_commit(tx, NULL, E));
    }
    tx = begin(&f, IMMUDB_TX_WRITE_ONLY);
    IS(IMMUDB_UNSUPPORTED, immudb_tx_precondition(tx, 9, S("a"), 0, 0, E));
    IS(IMMUDB_INVALID, immudb_tx_precondition(tx, IMMUDB_NOT_MODIFIED_AFTER_TX, S("a"), 0, 0, E));
    IS(IMMUDB_INVALID, immudb_tx_precondition(tx, IMMUDB_MUST_EXIST, S("xyz"), 0, IMMUDB_RAW, E));
    IS(IMMUDB_LIMIT, immudb_tx_set_extra(tx, immudb_bytes_of(extra, 257), E));
    OK(immudb_tx_set_extra(tx, S("by me"), E));
    TX_SET(tx, "a", "3");
    OK(immudb_tx_commit(tx, &c, E));
    OK(immudb_header_get(f.db, c.tx_id, &h, NULL, E));
    assert_int_equal(h.extra_len, 5);
    assert_memory_equal(h.extra, "by me", 5);
    fixture_end(&f);
}

static void test_limits(void **state)
{
    struct fixture f;
    immudb_entry e;
    immudb_tx *tx;
    char key[16];

    (void)state;
    fixture_begin(&f, 0);
    fixture_close(&f);
    f.o.tx_entries_max = 5;
    f.o.key_len_max = 10;
    f.o.value_len_max = 20;
    f.o.read_set_max = 3;
    fixture_open(&f);
    immudb_entry_init(&e);
    for (int32_t mode = IMMUDB_TX_READ_WRITE; mode <= IMMUDB_TX_WRITE_ONLY; mode++) {
        tx = begin(&f, mode);
        FAILS(IMMUDB_LIMIT, "max key length", immudb_tx_set(tx, S("0123456789"), S(""), NULL, E));
        FAILS(IMMUDB_LIMIT, "max value length", immudb_tx_set(tx, S("012345678"), S("01234567890123456789"), NULL, E));
        for (int i = 0; i < 5; i++) {
            snprintf(key, sizeof key, "k%d", i);
            TX_SET(tx, key, "v");
        }
        FAILS(IMMUDB_LIMIT, "max number of entries", immudb_tx_set(tx, S("k5"), S("v"), NULL, E));
        if (mode == IMMUDB_TX_READ_WRITE)
            TX_SET(tx, "k4", "replaced");
        OK(immudb_tx_commit(tx, NULL, E)); /* goes on as if the failed ones had not been */
    }
    tx = begin(&f, IMMUDB_TX_READ_WRITE);
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "k%d", i);
        TX_GET(tx, key, "v");
        TX_GET(tx, key, "v"); /* counts once */
    }
    FAILS(IMMUDB_LIMIT, "read set", immudb_tx_get(tx, S("k3"), 0, f.buffer, &e, E));
    immudb_tx_cancel(tx);
    immudb_tx_cancel(NULL);
    fixture_end(&f);
}

struct answer {
    _Atomic int calls;
    immudb_status status;
    uint64_t tx_id;
    immudb_error err;
};
static void answered(void *ctx, immudb_status status, const immudb_committed *c, const immudb_error *err)
{
    struct answer *a = ctx;

    a->status = status;
    if (c != NULL)
        a->tx_id = c->tx_id;
    if (err != NULL)
        a->err = *err;
    atomic_fetch_add(&a->calls, 1);
}

static void test_async(void **state)
{
    struct fixture f;
    struct answer answers[200];
    immudb_ticket *tickets[200];
    immudb_committed c;
    immudb_tx_options o;
    immudb_tx *tx;
    char key[16];

    (void)state;
    for (int round = 0; round < 2; round++) {
        memset(answers, 0, sizeof answers);
        fixture_begin(&f, round == 0 ? 0 : IMMUDB_ASYNC);
        immudb_committed_init(&c);
        for (int i = 0; i < 200; i++) {
            immudb_tx_options_init(&o);
            o.mode = i % 2;
            o.wait_durable = (uint32_t)(i / 2) % 2;
            o.timeout_ms = 60000;
            OK(immudb_tx_begin(f.db, &o, &tx, E));
            snprintf(key, sizeof key, "k%d", i);
            TX_SET(tx, key, key);
            immudb_tx_commit_async(tx, answered, &answers[i]);
            OK(immudb_tx_begin(f.db, &o, &tx, E));
            TX_SET(tx, "same", key);
            OK(immudb_tx_commit_ticket(tx, &tickets[i], E));
            if (i % 10 == 9) { /* given up before it is done */
                immudb_ticket_free(tickets[i]);
                tickets[i] = NULL;
            }
        }
        for (int i = 0; i < 200; i++) {
            if (tickets[i] == NULL)
                continue;
            OK(immudb_ticket_wait(tickets[i], IMMUDB_FOREVER, &c, E));
            OK(immudb_ticket_wait(tickets[i], 0, &c, E)); /* again */
            assert_true(c.tx_id >= 1 && c.tx_id <= 400);
            immudb_ticket_free(tickets[i]);
        }
        immudb_ticket_free(NULL);
        /* What is still under way is finished by closing. */
        fixture_close(&f);
        for (int i = 0; i < 200; i++) {
            assert_int_equal(answers[i].calls, 1);
            assert_int_equal(answers[i].status, IMMUDB_OK);
            assert_true(answers[i].tx_id >= 1);
        }
        fixture_open(&f);
        GET(&f, "k199", "k199");
        /* Failures come the same way. */
        memset(answers, 0, sizeof answers);
        immudb_tx_commit_async(begin(&f, IMMUDB_TX_READ_WRITE), answered, &answers[0]);
        immudb_tx_commit_async(begin(&f, IMMUDB_TX_READ_ONLY), answered, &answers[1]);
        immudb_tx_commit_async(NULL, answered, &answers[2]);
        assert_int_equal(answers[0].status, IMMUDB_INVALID);
        assert_string_equal(answers[0].err.text, "no entries provided");
        assert_int_equal(answers[1].status, IMMUDB_READ_ONLY);
        assert_int_equal(answers[2].status, IMMUDB_INVALID);
        assert_int_equal(answers[0].calls + answers[1].calls + answers[2].calls, 3);
        OK(immudb_tx_commit_ticket(begin(&f, IMMUDB_TX_READ_WRITE), &tickets[0], E));
        FAILS(IMMUDB_INVALID, "no entries", immudb_ticket_wait(tickets[0], IMMUDB_FOREVER, &c, E));
        immudb_ticket_free(tickets[0]);
        fixture_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_writes),    cmocka_unit_test(test_modes),  cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_preconditions), cmocka_unit_test(test_limits), cmocka_unit_test(test_async),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
