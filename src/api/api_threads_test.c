/* Proves use by many threads at once: counters that are read, increased and committed lose nothing (conflicts are tried again), tickets and callbacks are answered
 * once each, readers beside them always see a whole transaction, and the history afterwards verifies. Meant for the thread sanitizer too. */
#include "api/api_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { WRITERS = 4, READERS = 2, INCREMENTS = 150, TICKETS = 300 };

static struct fixture f;
static _Atomic int done_count, stop, failed;

static int number(immudb_bytes b)
{
    char text[16] = "";

    memcpy(text, b.data, b.len < 15 ? b.len : 15);
    return atoi(text);
}

/* One attempt; both counters move together. */
static immudb_status increase(immudb_buffer *buffer)
{
    immudb_error err;
    immudb_entry e;
    immudb_tx *tx;
    char text[16];
    immudb_status st;
    int n = 0;

    immudb_entry_init(&e);
    if ((st = immudb_tx_begin(f.db, NULL, &tx, &err)) != IMMUDB_OK)
        return st;
    st = immudb_tx_get(tx, S("a"), 0, buffer, &e, &err);
    if (st == IMMUDB_OK)
        n = number(e.value);
    else if (st != IMMUDB_NOT_FOUND) {
        immudb_tx_cancel(tx);
        return st;
    }
    snprintf(text, sizeof text, "%d", n + 1);
    if ((st = immudb_tx_set(tx, S("a"), S(text), NULL, &err)) != IMMUDB_OK || (st = immudb_tx_set(tx, S("b"), S(text), NULL, &err)) != IMMUDB_OK) {
        immudb_tx_cancel(tx);
        return st;
    }
    return immudb_tx_commit(tx, NULL, &err);
}

static void count_done(void *ctx, immudb_status status, const immudb_committed *c, const immudb_error *err)
{
    (void)ctx;
    (void)err;
    if (status != IMMUDB_OK || c->tx_id == 0)
        atomic_fetch_add(&failed, 1);
    atomic_fetch_add(&done_count, 1);
}

static void submit(int i)
{
    immudb_tx_options o;
    immudb_ticket *ticket;
    immudb_error err;
    immudb_tx *tx;
    char key[24];

    immudb_tx_options_init(&o);
    o.mode = IMMUDB_TX_WRITE_ONLY;
    snprintf(key, sizeof key, "t%d", i);
    if (immudb_tx_begin(f.db, &o, &tx, &err) != IMMUDB_OK || immudb_tx_set(tx, S(key), S(key), NULL, &err) != IMMUDB_OK)
        atomic_fetch_add(&failed, 1);
    else if (i % 2 == 0)
        immudb_tx_commit_async(tx, count_done, NULL);
    else if (immudb_tx_commit_ticket(tx, &ticket, &err) != IMMUDB_OK ||
             (i % 3 == 0 && immudb_ticket_wait(ticket, IMMUDB_FOREVER, NULL, &err) != IMMUDB_OK))
        atomic_fetch_add(&failed, 1);
    else
        immudb_ticket_free(ticket);
}

static void *writer(void *arg)
{
    immudb_buffer *buffer;
    immudb_error err;
    int id = (int)(intptr_t)arg, made = 0;

    if (immudb_buffer_create(&buffer, &err) != IMMUDB_OK)
        abort();
    while (made < INCREMENTS) {
        immudb_status st = increase(buffer);

        if (st == IMMUDB_OK)
            made++;
        else if (st != IMMUDB_CONFLICT) {
            atomic_fetch_add(&failed, 1);
            break;
        }
        if (made * 2 < TICKETS)
            submit(id * TICKETS + made * 2);
        if (made * 2 + 1 < TICKETS)
            submit(id * TICKETS + made * 2 + 1);
    }
    immudb_buffer_free(buffer);
    return NULL;
}

static void *reader(void *arg)
{
    immudb_buffer *buffer;
    immudb_snapshot *s;
    immudb_get_options o;
    immudb_state trusted;
    immudb_error err;
    immudb_entry e;

    (void)arg;
    if (immudb_buffer_create(&buffer, &err) != IMMUDB_OK)
        abort();
    immudb_get_options_init(&o);
    immudb_entry_init(&e);
    immudb_state_init(&trusted);
    while (atomic_load(&stop) == 0) {
        int a, b;
        immudb_status st;

        if (immudb_snapshot_open(f.db, 0, &s, &err) != IMMUDB_OK)
            continue;
        o.snapshot = s;
        a = immudb_get(f.db, S("a"), &o, buffer, &e, &err) == IMMUDB_OK ? number(e.value) : 0;
        b = immudb_get(f.db, S("b"), &o, buffer, &e, &err) == IMMUDB_OK ? number(e.value) : 0;
        immudb_snapshot_close(s);
        st = immudb_verified_get(f.db, S("a"), 0, 0, &trusted, buffer, &e, &err);
        if (a != b || (st != IMMUDB_OK && st != IMMUDB_NOT_FOUND))
            atomic_fetch_add(&failed, 1);
    }
    immudb_buffer_free(buffer);
    return NULL;
}

static void run(uint32_t flags)
{
    pthread_t writers[WRITERS], readers[READERS];
    uint64_t findings = 1;
    char expected[16];

    done_count = stop = failed = 0;
    fixture_begin(&f, flags);
    for (intptr_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, writer, (void *)i), 0);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader, NULL), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&stop, 1);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    snprintf(expected, sizeof expected, "%d", WRITERS * INCREMENTS);
    GET(&f, "a", expected);
    OK(immudb_sync(f.db, E));
    OK(immudb_store_verify(f.db, NULL, NULL, &findings, E));
    assert_int_equal(findings, 0);
    assert_int_equal(failed, 0);
    fixture_end(&f);
    assert_true(done_count > 0);
}

static void test_durable(void **state)
{
    (void)state;
    run(0);
}
static void test_async(void **state)
{
    (void)state;
    run(IMMUDB_ASYNC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_durable), cmocka_unit_test(test_async)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
