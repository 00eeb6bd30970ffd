/* Proves that short memory is only an answer: for n = 1, 2, 3, ... the n-th allocation of a piece of work fails (once, or with all later ones), every call answers
 * IMMUDB_OK or IMMUDB_NO_MEMORY (or what follows from an earlier refusal), nothing leaks (address sanitizer), and afterwards the database is whole: what was
 * acknowledged is there, and it verifies. */
#include "api/api_fixture.h"
#include "base/alloc_failing.h"

#include <stdio.h>
#include <stdlib.h>

typedef immudb_status (*work)(struct fixture *f, int n);

static immudb_status work_tx(struct fixture *f, int n)
{
    immudb_buffer *buffer = NULL;
    immudb_cursor *cursor = NULL;
    immudb_error err;
    immudb_entry e;
    immudb_tx *tx = NULL;
    char key[32];
    immudb_status st;

    immudb_entry_init(&e);
    if ((st = immudb_buffer_create(&buffer, &err)) != IMMUDB_OK || (st = immudb_tx_begin(f->db, NULL, &tx, &err)) != IMMUDB_OK)
        goto done;
    for (int i = 0; i < 30 && st == IMMUDB_OK; i++) {
        snprintf(key, sizeof key, "n%d-%d", n, i);
        st = immudb_tx_set(tx, S(key), S("value that is long enough to leave the inline bytes soon"), NULL, &err);
    }
    if (st == IMMUDB_OK && (st = immudb_tx_get(tx, S("base"), 0, buffer, &e, &err)) == IMMUDB_OK)
        st = immudb_tx_scan(tx, NULL, &cursor, &err);
    while (st == IMMUDB_OK)
        st = immudb_cursor_next(cursor, &e, &err);
    if (st == IMMUDB_NOT_FOUND) {
        st = immudb_tx_commit(tx, NULL, &err);
        tx = NULL;
    }
done:
    immudb_tx_cancel(tx);
    immudb_cursor_close(cursor);
    immudb_buffer_free(buffer);
    return st;
}

static immudb_status work_calls(struct fixture *f, int n)
{
    immudb_snapshot *snapshot = NULL;
    immudb_buffer *buffer = NULL, *other = NULL;
    immudb_cursor *cursor = NULL;
    immudb_ticket *ticket = NULL;
    immudb_entry_proof proof, decoded;
    immudb_state trusted;
    immudb_bytes bytes;
    immudb_error err;
    immudb_entry e;
    immudb_tx *tx;
    char key[32];
    immudb_status st;

    immudb_entry_init(&e);
    immudb_state_init(&trusted);
    immudb_entry_proof_init(&proof);
    immudb_entry_proof_init(&decoded);
    snprintf(key, sizeof key, "c%d", n);
    if ((st = immudb_buffer_create(&buffer, &err)) != IMMUDB_OK || (st = immudb_buffer_create(&other, &err)) != IMMUDB_OK ||
        (st = immudb_set(f->db, S(key), S("v"), NULL, NULL, &err)) != IMMUDB_OK ||
        (st = immudb_snapshot_open(f->db, 0, &snapshot, &err)) != IMMUDB_OK ||
        (st = immudb_get(f->db, S("base"), NULL, buffer, &e, &err)) != IMMUDB_OK ||
        (st = immudb_history(f->db, snapshot, S("base"), 0, 0, &cursor, &err)) != IMMUDB_OK)
        goto done;
    while (st == IMMUDB_OK)
        st = immudb_cursor_next(cursor, &e, &err);
    if (st != IMMUDB_NOT_FOUND || (st = immudb_verified_get(f->db, S("base"), 0, 0, &trusted, buffer, &e, &err)) != IMMUDB_OK ||
        (st = immudb_prove_entry(f->db, S("base"), 0, 1, 0, buffer, &proof, &err)) != IMMUDB_OK ||
        (st = immudb_entry_proof_encode(&proof, other, &bytes, &err)) != IMMUDB_OK ||
        (st = immudb_entry_proof_decode(bytes, buffer, &decoded, &err)) != IMMUDB_OK ||
        (st = immudb_export(f->db, 1, 0, buffer, &bytes, &err)) != IMMUDB_OK || (st = immudb_tx_begin(f->db, NULL, &tx, &err)) != IMMUDB_OK)
        goto done;
    if ((st = immudb_tx_set(tx, S(key), S("w"), NULL, &err)) != IMMUDB_OK)
        immudb_tx_cancel(tx);
    else if ((st = immudb_tx_commit_ticket(tx, &ticket, &err)) == IMMUDB_OK)
        st = immudb_ticket_wait(ticket, IMMUDB_FOREVER, NULL, &err);
done:
    immudb_ticket_free(ticket);
    immudb_cursor_close(cursor);
    immudb_snapshot_close(snapshot);
    immudb_buffer_free(other);
    immudb_buffer_free(buffer);
    return st;
}

/* Another database, from nothing to closed. */
static immudb_status work_open(struct fixture *f, int n)
{
    char path[320];
    immudb_options o;
    immudb_error err;
    immudb_db *db;
    immudb_status st;

    snprintf(path, sizeof path, "%s/second%d", f->dir, n); /* a new one each time: the number of allocations stays the same */
    immudb_options_init(&o);
    o.flags = IMMUDB_CREATE;
    if ((st = immudb_open(path, &o, &db, &err)) != IMMUDB_OK)
        return st;
    st = immudb_set(db, S("a"), S("b"), NULL, NULL, &err);
    if (immudb_close(db, &err) != IMMUDB_OK)
        abort();
    return st;
}

static void failing(work w, int n_max, bool all)
{
    struct fixture f;
    uint64_t findings = 1;
    int n, refused = 0;

    fixture_begin(&f, 0);
    set(&f, "base", "1");
    set(&f, "base", "2");
    for (n = 1; n <= n_max; n++) {
        immudb_status st;
        bool has_failed;

        alloc_fail_arm(n, all);
        st = w(&f, n);
        has_failed = alloc_fail_disarm();
        if (st != IMMUDB_OK && st != IMMUDB_NO_MEMORY)
            fail_msg("allocation %d: %s", n, immudb_status_name(st));
        refused += st == IMMUDB_NO_MEMORY;
        if (!has_failed)
            break;
    }
    assert_true(n <= n_max);   /* all of them were tried */
    assert_true(refused >= 4); /* and they were felt */
    GET(&f, "base", "2");
    OK(immudb_sync(f.db, E));
    OK(immudb_store_verify(f.db, NULL, NULL, &findings, E));
    assert_int_equal(findings, 0);
    fixture_end(&f);
}

static void test_tx(void **state)
{
    (void)state;
    failing(work_tx, 400, false);
    failing(work_tx, 400, true);
}
static void test_calls(void **state)
{
    (void)state;
    failing(work_calls, 400, false);
    failing(work_calls, 400, true);
}
static void test_open(void **state)
{
    (void)state;
    failing(work_open, 1000, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tx), cmocka_unit_test(test_calls), cmocka_unit_test(test_open)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
