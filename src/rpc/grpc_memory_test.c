/* Proves that what handlers allocate counts against the budget while it grows, is given back to the byte however a call ends, that refusals leave the
 * rest working, and that of many long calls under a small limit some are served all the time.
 *
 * One connection in memory (rpc_rig.h, whose end checks that no byte is left); the share of requests is a quarter of the budget given. */
#include "base/alloc_failing.h"
#include "rpc/rpc_rig.h"

#include <time.h>

#define MIB ((size_t)1 << 20)
#define EMPTY "\0\0\0\0\0"

static struct rig *small_rig(size_t budget_bytes, const struct rpc_limits *limits)
{
    struct rig *r = rig_open_with(limits, budget_bytes);

    rig_connect(r, NULL, 0);
    rig_pump(r);
    return r;
}

static size_t used(const struct rig *r) { return budget_used(&r->budget, BUDGET_REQUEST) - r->host.credit; }

/* Steps of len bytes until the arena refuses; how many there were. */
static size_t fill(struct rpc_call *call, size_t len, size_t count_max)
{
    size_t count = 0;

    while (count < count_max && arena_alloc(rpc_arena(call), len) != NULL)
        count++;
    return count;
}

static void growth_is_counted(void **state)
{
    struct rig *r = small_rig(64 * MIB, NULL);
    size_t before;
    struct rpc_call *call;
    bool of_connection;

    (void)state;
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    call = r->call;
    before = used(r);
    for (int i = 0; i < 20; i++) {
        size_t had = call->arena.bytes_used;

        assert_non_null(arena_alloc(rpc_arena(call), 100000));
        assert_int_equal(call->arena.bytes_used - had, 100000 + 32);
        assert_int_equal(used(r) - before, call->arena.bytes_used - GRPC_CALL_ROOM_BYTES);
        assert_int_equal(r->conn.arena_bytes, used(r) - before);
    }
    assert_int_equal(rpc_memory_limit_met(call, &of_connection), 0);
    /* malloc fails: nothing is counted */
    alloc_fail_arm(1, false);
    assert_null(arena_alloc(rpc_arena(call), 100000));
    assert_true(alloc_fail_disarm());
    assert_int_equal(used(r) - before, call->arena.bytes_used - GRPC_CALL_ROOM_BYTES);
    assert_int_equal(rpc_memory_limit_met(call, &of_connection), 0);
    rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_int_equal(r->conn.arena_bytes, 0);
    assert_int_equal(used(r), 0);
    rig_close(r);
}

/* Each way a call can end: nothing is left. */
static void all_is_given_back(void **state)
{
    (void)state;
    for (int way = 0; way < 7; way++) {
        const nghttp2_settings_entry takes_nothing = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
        struct rig *r = rig_open_with(NULL, 64 * MIB);
        struct rig_stream *s;
        struct rpc_call *call;

        rig_connect(r, &takes_nothing, way == 3);
        rig_pump(r);
        s = rig_begin(r, "/t.S/Hold", EMPTY, 5, true, way == 4 ? "1000m" : NULL);
        rig_pump(r);
        call = r->call;
        assert_true(fill(call, 50000, 40) == 40);
        switch (way) {
        case 0: /* answered, the answer in the arena */
            rpc_reply(call, bytes_of(memset(arena_alloc(rpc_arena(call), 3 * MIB), 1, 3 * MIB), 3 * MIB));
            assert_true(r->conn.arena_bytes > 3 * MIB);
            rig_pump(r);
            assert_int_equal(s->down_len, 3 * MIB + 5);
            break;
        case 1: /* failed */
            rpc_finish(call, RPC_INTERNAL, "x", bytes_of(NULL, 0));
            break;
        case 2: /* reset by the client, noticed later */
            rig_reset(r, s);
            assert_true(r->conn.arena_bytes > 0);
            assert_int_equal(fill(call, 50000, 1), 1);
            rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
            break;
        case 3: /* an answer nobody takes, then a reset */
            rpc_reply(call, bytes_of(memset(arena_alloc(rpc_arena(call), 3 * MIB), 1, 3 * MIB), 3 * MIB));
            rig_pump(r);
            assert_true(r->conn.arena_bytes > 3 * MIB);
            rig_reset(r, s);
            break;
        case 4: /* out of time */
            rig_advance(r, 2 * SECOND);
            rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
            break;
        case 5: /* the connection is lost while the handler works */
            rig_disconnect(r);
            assert_true(r->conn.arena_bytes > 0);
            assert_int_equal(fill(call, 50000, 1), 1);
            rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
            break;
        default: /* lost with an unsent answer */
            rpc_reply(call, bytes_of(memset(arena_alloc(rpc_arena(call), 3 * MIB), 1, 3 * MIB), 3 * MIB));
            rig_disconnect(r);
        }
        rig_pump(r);
        assert_int_equal(r->conn.arena_bytes, 0);
        assert_int_equal(used(r), 0);
        rig_close(r);
    }
}

/* Two long calls: the first gets as far as the reserve goes, the second is told no; short ones do not notice. */
static void long_calls_leave_room(void **state)
{
    struct rig *r = small_rig(64 * MIB, NULL);
    size_t share = r->budget.share[BUDGET_REQUEST];
    struct rpc_call *a, *b;
    struct rig_stream *s, *t;
    bool of_connection;

    (void)state;
    s = rig_call(r, "/t.S/Hold", EMPTY, 5);
    a = r->call;
    t = rig_call(r, "/t.S/Hold", EMPTY, 5);
    b = r->call;
    (void)fill(a, MIB / 4, SIZE_MAX);
    assert_true(used(r) <= share / 100 * 80 && used(r) > share / 100 * 76); /* RESERVE_PERCENT */
    assert_int_equal(rpc_memory_limit_met(a, &of_connection), share);
    assert_false(of_connection);
    assert_true(r->service->arena_reserve_of == a);
    /* b: a little, some more, then no */
    assert_int_equal(fill(b, 10000, 5), 5);
    assert_int_equal(rpc_memory_limit_met(b, &of_connection), 0);
    assert_true(fill(b, 100000, 100) <= 9);
    assert_int_equal(rpc_memory_limit_met(b, &of_connection), share);
    for (int i = 0; i < 50; i++) { /* calls that need little */
        struct rig_stream *e = rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6);

        assert_string_equal(e->grpc_status, "0");
    }
    rpc_finish(b, RPC_RESOURCE_EXHAUSTED, "no", bytes_of(NULL, 0));
    rpc_finish(a, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_string_equal(s->grpc_status, "0");
    assert_status(t, "8", "no");
    assert_null(r->service->arena_reserve_of);
    assert_int_equal(used(r), 0);
    /* there is room again */
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    assert_int_equal(fill(r->call, MIB, 11), 11);
    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    rig_close(r);
}

/* What a connection's calls allocate is bounded too, so that one client does not fill it all. */
static void connections_have_a_part(void **state)
{
    const struct rpc_limits limits = {.arena_bytes_max = 2 * MIB};
    struct rig *r = small_rig(64 * MIB, &limits);
    size_t part = r->service->conn_arena_bytes_max;
    struct rpc_call *calls[4];
    bool of_connection;

    (void)state;
    assert_int_equal(part, r->budget.share[BUDGET_REQUEST] / 4);
    for (int i = 0; i < 4; i++) {
        (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
        calls[i] = r->call;
        (void)fill(calls[i], MIB / 4, SIZE_MAX);
        assert_true(r->conn.arena_bytes <= part);
    }
    assert_true(r->conn.arena_bytes > part - MIB / 2);
    assert_int_equal(rpc_memory_limit_met(calls[0], &of_connection), 0); /* that was the arena's own bound */
    assert_int_equal(rpc_memory_limit_met(calls[3], &of_connection), part);
    assert_true(of_connection);
    for (int i = 0; i < 50; i++) { /* calls that need little go on, on this connection too */
        struct rig_stream *e = rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6);

        assert_string_equal(e->grpc_status, "0");
    }
    for (int i = 0; i < 4; i++)
        rpc_finish(calls[i], RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    rig_close(r);
}

/* Others fill the share, and more, with what they do not read. A connection that holds nothing is served still, one that has many calls is not. */
static void modest_connections_are_served(void **state)
{
    struct rig *r = small_rig(64 * MIB, NULL);
    size_t share = r->budget.share[BUDGET_REQUEST], other;
    unsigned held;

    (void)state;
    rig_pump(r);
    other = share - budget_used(&r->budget, BUDGET_REQUEST);
    budget_take(&r->budget, BUDGET_REQUEST, other);
    for (int i = 0; i < 100; i++) {
        struct rig_stream *e = rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6);

        assert_string_equal(e->grpc_status, "0");
    }
    r->handler_calls = 0;
    for (int i = 0; i < 100; i++)
        (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    held = r->handler_calls;
    assert_true(held >= 3 && held <= 12);
    assert_status(&r->streams[r->stream_count - 1], "8", "server is short of memory for requests");
    for (size_t i = 0; i < r->stream_count; i++)
        if (r->streams[i].call != NULL && !r->streams[i].is_closed)
            rpc_finish(r->streams[i].call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    /* far beyond the share nobody is served */
    budget_take(&r->budget, BUDGET_REQUEST, share / 3);
    assert_status(rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6), "8", "server is short of memory for requests");
    budget_give(&r->budget, BUDGET_REQUEST, share / 3 + other);
    rig_close(r);
}

/* A refusal is heard although there is no byte left for it. */
/* Of what has happened a client must hear: who says so is not refused memory, nor made to wait for it. */
static void what_happened_is_told(void **state)
{
    struct rig *r = small_rig(16 * MIB, NULL);
    struct rpc_call *call;
    size_t before;

    (void)state;
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    call = r->call;
    assert_true(fill(call, 100000, 1000) < 1000);
    assert_null(arena_alloc(rpc_arena(call), 100000));
    before = used(r);
    rpc_must_answer(call);
    assert_int_equal(fill(call, 100000, 10), 10);
    assert_true(used(r) >= before + 10 * 100000); /* and still counted */
    rpc_reply(call, bytes_of("", 0));
    rig_pump(r);
    assert_int_equal(r->conn.arena_bytes, 0);
    assert_int_equal(used(r), 0);
    rig_close(r);
}

static void last_words(void **state)
{
    struct rig *r = small_rig(64 * MIB, NULL);
    char text[6000];
    struct rig_stream *s;
    size_t other;

    (void)state;
    memset(text, 'n', sizeof text);
    text[sizeof text - 1] = '\0';
    s = rig_call(r, "/t.S/Hold", EMPTY, 5);
    assert_int_equal(fill(r->call, 1000, 6), 6);
    other = r->budget.share[BUDGET_REQUEST] - budget_used(&r->budget, BUDGET_REQUEST);
    budget_take(&r->budget, BUDGET_REQUEST, other);
    assert_null(arena_alloc(rpc_arena(r->call), 6000));
    rpc_finish(r->call, RPC_RESOURCE_EXHAUSTED, text, bytes_of(NULL, 0));
    rig_pump(r);
    budget_give(&r->budget, BUDGET_REQUEST, other);
    assert_status(s, "8", text);
    rig_close(r);
}

/* A client that has sent a greatest message has it processed although the share is smaller than that takes; one at a time. A stream that then goes to
 * sleep is cut off. */
static void what_was_received_is_processed(void **state)
{
    struct rig *r = small_rig(32 * MIB, NULL);
    size_t share = r->budget.share[BUDGET_REQUEST], len = 10 * MIB;
    uint8_t *m = rig_message_of(len, 1);
    struct rig_stream *s, *t;
    struct rpc_call *a, *b;

    (void)state;
    m[5] = 1;
    s = rig_begin(r, "/t.S/Client", m, 5 + len, false, NULL);
    rig_pump(r);
    a = s->call;
    t = rig_call(r, "/t.S/Client", "\0\0\0\0\1x", 6);
    b = t->call;
    for (int i = 0; i < 1000 && r->messages < 2; i++) /* it waits for memory, then gets the reserve of messages */
        rig_advance(r, 5 * MS), rig_pump(r);
    assert_int_equal(r->messages, 2);
    assert_non_null(arena_alloc(rpc_arena(a), len)); /* more than the share */
    assert_non_null(arena_alloc(rpc_arena(a), len));
    assert_true(used(r) <= share && budget_used(&r->budget, BUDGET_OTHER) > 0);
    assert_null(arena_alloc(rpc_arena(a), 2 * len)); /* not without end */
    assert_true(fill(b, MIB, 20) <= 8);              /* the other one sent a byte */
    for (int i = 0; i < 20; i++) {
        struct rig_stream *e = rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6);

        assert_string_equal(e->grpc_status, "0");
    }
    rpc_finish(b, RPC_OK, "", bytes_of(NULL, 0));
    rig_advance(r, 61 * SECOND);
    assert_true(grpc_conn_watch(&r->conn));
    rig_pump(r);
    assert_status(s, "8", "memory for requests is short, and this one makes no progress");
    assert_true(rpc_is_cancelled(a));
    rpc_finish(a, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_null(r->service->arena_reserve_of);
    assert_int_equal(budget_used(&r->budget, BUDGET_OTHER), 0);
    free(m);
    rig_close(r);
}

/* --- threads --- */

enum { WORKERS = 6 };

struct worker {
    pthread_t thread;
    struct rpc_call *call;
    size_t wanted;
    bool is_whole;
};

/* A long call: its answer in pieces, or a refusal. Ends the call from here. */
static void *work(void *arg)
{
    struct worker *w = arg;

    w->is_whole = fill(w->call, 64 << 10, w->wanted) == w->wanted;
    rpc_finish(w->call, w->is_whole ? RPC_OK : RPC_RESOURCE_EXHAUSTED, "", bytes_of(NULL, 0));
    return NULL;
}

static void tick(void)
{
    const struct timespec pause = {0, 2000000};

    nanosleep(&pause, NULL);
}

/* The call with the reserve waits until another gives up what it has. */
static void the_reserve_waits(void **state)
{
    struct rig *r = small_rig(64 * MIB, NULL);
    struct worker w = {.wanted = 160}; /* ten of sixteen MiB */
    struct rpc_call *other;

    (void)state;
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    other = r->call;
    assert_int_equal(fill(other, MIB, 11), 11);
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    w.call = r->call;
    assert_int_equal(pthread_create(&w.thread, NULL, work, &w), 0);
    for (int i = 0; i < 20; i++)
        tick();
    assert_true(atomic_load(&r->service->arena_reserve_of) == w.call); /* it did not give up */
    rpc_finish(other, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    pthread_join(w.thread, NULL);
    assert_true(w.is_whole);
    rig_pump(r);
    assert_int_equal(used(r), 0);
    rig_close(r);
}

/* Rounds of six long calls that together want more than twice the share: each round serves at least one, the share is never exceeded, and short calls
 * are served all the while. */
static void some_are_served_always(void **state)
{
    struct rig *r = small_rig(64 * MIB, NULL);
    size_t share = r->budget.share[BUDGET_REQUEST];

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct worker w[WORKERS] = {0};
        struct rig_stream *s[WORKERS];
        unsigned served = 0, closed = 0;

        for (int i = 0; i < WORKERS; i++) {
            s[i] = rig_call(r, "/t.S/Hold", EMPTY, 5);
            w[i].call = r->call;
            w[i].wanted = 100 + 10 * (size_t)i; /* 6.25 to 9.4 MiB */
        }
        for (int i = 0; i < WORKERS; i++)
            assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
        for (int turn = 0; closed < WORKERS && turn < 5000; turn++) {
            struct rig_stream *e;

            rig_pump(r);
            e = rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6);
            assert_string_equal(e->grpc_status, "0");
            r->stream_count--; /* its place is free again */
            free(e->down);
            closed = 0;
            for (int i = 0; i < WORKERS; i++)
                closed += s[i]->is_closed;
            tick();
        }
        assert_int_equal(closed, WORKERS);
        for (int i = 0; i < WORKERS; i++) {
            pthread_join(w[i].thread, NULL);
            served += w[i].is_whole;
            assert_string_equal(s[i]->grpc_status, w[i].is_whole ? "0" : "8");
        }
        assert_true(served >= 1);
        rig_pump(r);
        assert_int_equal(used(r), 0);
        assert_null(atomic_load(&r->service->arena_reserve_of));
    }
    assert_true(atomic_load(&r->budget.peak[BUDGET_REQUEST]) <= share);
    assert_true(atomic_load(&r->budget.peak[BUDGET_REQUEST]) > share / 2); /* it was tight */
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth_is_counted),
        cmocka_unit_test(all_is_given_back),
        cmocka_unit_test(long_calls_leave_room),
        cmocka_unit_test(connections_have_a_part),
        cmocka_unit_test(modest_connections_are_served),
        cmocka_unit_test(what_happened_is_told),
        cmocka_unit_test(last_words),
        cmocka_unit_test(what_was_received_is_processed),
        cmocka_unit_test(the_reserve_waits),
        cmocka_unit_test(some_are_served_always),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
