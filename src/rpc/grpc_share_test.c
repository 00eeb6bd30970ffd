/* Proves who may fill how much of the memory for requests: uploads leave room for reads of ordinary size whatever they do, one of them gets through however little
 * there is, a message for which there is no memory comes again, a client that goes to sleep over memory is cut off while others and slow small ones are not, and
 * a message that is sent in pieces arrives as one.
 *
 * One connection in memory (rpc_rig.h, whose end checks that no byte is left); the share of requests is a quarter of the budget given. */
#include "rpc/rpc_rig.h"

#define MIB ((size_t)1 << 20)
#define EMPTY "\0\0\0\0\0"

static struct rig *small_rig(size_t budget_bytes)
{
    struct rig *r = rig_open_with(NULL, budget_bytes);

    rig_connect(r, NULL, 0);
    rig_pump(r);
    return r;
}

static size_t fill(struct rpc_call *call, size_t len, size_t count_max)
{
    size_t count = 0;

    while (count < count_max && arena_alloc(rpc_arena(call), len) != NULL)
        count++;
    return count;
}

/* A stream that has sent `sent` bytes, as far as the rules of memory know. */
static struct rig_stream *upload(struct rig *r, size_t sent)
{
    struct rig_stream *s = rig_begin(r, "/t.S/Client", "\0\0\0\0\1x", 6, false, NULL);

    rig_pump(r);
    atomic_store(&s->call->received_bytes, sent);
    return s;
}

/* Headers fill memory, of methods that there are not, too. */
static void large_headers(void **state)
{
    enum { LEN = 40000 };
    struct rig *r = small_rig(64 * MIB);
    char *value = calloc(1, LEN + 1);

    (void)state;
    assert_non_null(value);
    memset(value, 'v', LEN);
    for (int is_known = 0; is_known < 2; is_known++) {
        const nghttp2_nv fields[] = {rig_nv(":method", "POST"), rig_nv(":scheme", "http"),
                                     rig_nv(":authority", "h"), rig_nv(":path", is_known ? "/t.S/Hold" : "/t.S/Nowhere"),
                                     rig_nv("x-large", value),  rig_nv("content-type", "application/grpc")};
        struct rig_stream *s = rig_request(r, fields, sizeof(fields) / sizeof(fields[0]), EMPTY, 5, true);

        rig_pump(r);
        if (is_known) {
            assert_int_equal(rpc_metadata(s->call, "x-large").len, LEN);
            rpc_finish(s->call, RPC_OK, NULL, bytes_of(NULL, 0));
            rig_pump(r);
        }
        assert_string_equal(s->grpc_status, is_known ? "0" : "12");
    }
    free(value);
    rig_close(r);
}

static void uploads_leave_room(void **state)
{
    struct rig *r = small_rig(64 * MIB);
    size_t share = r->budget.share[BUDGET_REQUEST];
    struct rig_stream *a = upload(r, 20 * MIB), *b = upload(r, 20 * MIB), *c = upload(r, 20 * MIB), *s;
    bool of_connection;

    (void)state;
    assert_int_equal(fill(a->call, MIB / 4, 20), 20);
    (void)fill(b->call, MIB / 4, 200); /* half of the share, then, with the reserve, beyond it */
    assert_true(atomic_load(&r->service->upload_bytes) <= share / 2 && atomic_load(&r->service->upload_bytes) > share / 2 - MIB / 2);
    assert_true(atomic_load(&r->service->arena_reserve_of) == b->call);
    assert_true(b->call->arena_bytes > 40 * MIB && b->call->arena_bytes <= 60 * MIB + MIB);
    assert_true(budget_used(&r->budget, BUDGET_REQUEST) < share / 100 * 55);
    assert_int_equal(fill(c->call, MIB / 4, 20), 0); /* the third has to wait */
    assert_int_equal(rpc_memory_limit_met(c->call, &of_connection), share);
    assert_true(rpc_forgive_memory(c->call)); /* and it is not in vain */
    assert_int_equal(rpc_memory_limit_met(c->call, &of_connection), 0);
    /* reads of ordinary size, many at once, and a long one */
    for (int i = 0; i < 8; i++) {
        (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
        assert_int_equal(fill(r->call, 50000, 5), 5);
    }
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    assert_int_equal(fill(r->call, MIB / 2, 2), 2);
    rpc_finish(b->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_null(atomic_load(&r->service->arena_reserve_of));
    assert_true(fill(c->call, MIB / 4, 20) == 20);
    for (size_t i = 0; i < r->stream_count; i++)
        if ((s = &r->streams[i])->call != NULL && !s->is_closed)
            rpc_finish(s->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_int_equal(atomic_load(&r->service->upload_bytes), 0);
    rig_close(r);
}

/* Long reads stop where ordinary ones still go on; what can never be given is said so. */
static void long_reads_leave_room(void **state)
{
    struct rig *r = small_rig(64 * MIB);
    size_t share = r->budget.share[BUDGET_REQUEST];
    struct rpc_call *a, *b, *c;

    (void)state;
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    a = r->call;
    assert_true(fill(a, MIB / 2, 40) >= 24); /* with the reserve */
    assert_true(budget_used(&r->budget, BUDGET_REQUEST) > share / 100 * 74);
    assert_false(rpc_forgive_memory(a)); /* it has all that one may have */
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    b = r->call;
    assert_int_equal(fill(b, 100000, 5), 5); /* of medium size */
    assert_int_equal(fill(b, MIB, 1), 0);
    assert_true(rpc_forgive_memory(b));
    (void)rig_call(r, "/t.S/Hold", EMPTY, 5);
    c = r->call;
    assert_null(arena_alloc(rpc_arena(c), 20 * MIB)); /* never */
    assert_false(rpc_forgive_memory(c));
    rpc_finish(a, RPC_OK, "", bytes_of(NULL, 0));
    rpc_finish(b, RPC_OK, "", bytes_of(NULL, 0));
    rpc_finish(c, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    rig_close(r);
}

/* A message that was held back comes again, before those behind it; the client's end too. */
static void held_back_messages(void **state)
{
    struct rig *r = small_rig(64 * MIB);
    struct rig_stream *s;

    (void)state;
    for (unsigned count = 1; count < 4; count++) {
        r->messages = r->half_closes = 0;
        r->got_len = 0;
        r->hold_back_count = count;
        s = rig_begin(r, "/t.S/Client", "\0\0\0\0\2ab\0\0\0\0\1c\0\0\0\0\0\0\0\0\0\3def", 26, true, NULL);
        rig_pump(r);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(r->messages, 0);
            assert_int_equal(r->half_closes, 0);
            rpc_resume(s->call);
            rig_pump(r);
        }
        assert_int_equal(r->messages, 4);
        assert_int_equal(r->got_len, 6);
        assert_memory_equal(r->got, "abcdef", 6);
        assert_int_equal(r->half_closes, 1);
        rpc_finish(s->call, RPC_OK, "", bytes_of(NULL, 0));
        rig_pump(r);
    }
    rig_close(r);
}

/* Time passes as on a reactor, which looks every 15 seconds. Each of the streams sends a message of len bytes then. */
static void watch(struct rig *r, unsigned looks, struct rig_stream **streams, const size_t *lens, size_t count)
{
    for (unsigned i = 0; i < looks; i++) {
        rig_advance(r, 15 * SECOND);
        for (size_t k = 0; k < count; k++)
            if (!streams[k]->is_closed && lens[k] > 0) {
                uint8_t *m = rig_message_of(lens[k], 1);

                rig_more(r, streams[k], m, 5 + lens[k], false);
                rig_pump(r);
                free(m);
            }
        assert_true(grpc_conn_watch(&r->conn));
        rig_pump(r);
    }
}

static void sleepers_are_cut_off(void **state)
{
    struct rig *r = small_rig(256 * MIB);
    struct rig_stream *s[4] = {upload(r, 9 * MIB), upload(r, 9 * MIB), upload(r, 9 * MIB), upload(r, 9 * MIB)};
    const size_t lens[4] = {1, 150000, 1,
                            1}; /* per look: a trickle, a slow line, a trickle into a small call, a trickle while the handler pauses it */
    char expected[] = "too slow for the memory it holds (";
    struct rpc_call *slow = s[0]->call;

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(fill(s[i]->call, i == 2 ? 100000 : 3 * MIB, 2), 2);
    rpc_pause(s[3]->call);
    watch(r, 2, s, lens, 4);
    for (int i = 0; i < 4; i++)
        assert_false(s[i]->is_closed);
    watch(r, 2, s, lens, 4);
    assert_string_equal(s[0]->grpc_status, "8");
    assert_memory_equal(s[0]->message, expected, sizeof expected - 1);
    assert_non_null(strstr(s[0]->message, " bytes moved in 30 s, at least 262144 are due"));
    assert_true(rpc_is_cancelled(slow));
    rpc_finish(slow, RPC_OK, "", bytes_of(NULL, 0));
    watch(r, 8, s, lens, 4);
    for (int i = 1; i < 4; i++)
        assert_false(s[i]->is_closed);
    /* when memory is short, small ones too; the one that keeps moving goes on */
    budget_take(&r->budget, BUDGET_REQUEST, 30 * MIB);
    watch(r, 4, s, lens, 3);
    assert_string_equal(s[2]->grpc_status, "8");
    assert_false(s[1]->is_closed);
    budget_give(&r->budget, BUDGET_REQUEST, 30 * MIB);
    for (int i = 1; i < 4; i++)
        rpc_finish(s[i]->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    rig_close(r);
}

/* An answer that its client does not take holds its memory no longer than that, although others on the connection go on. */
static void unread_answers_are_cut_off(void **state)
{
    const nghttp2_settings_entry takes_nothing = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0};
    struct rig *r = rig_open_with(NULL, 256 * MIB);
    struct rig_stream *s, *t;

    (void)state;
    rig_connect(r, &takes_nothing, 1);
    rig_pump(r);
    s = rig_call(r, "/t.S/Hold", EMPTY, 5);
    rpc_reply(r->call, bytes_of(memset(arena_alloc(rpc_arena(r->call), 3 * MIB), 1, 3 * MIB), 3 * MIB));
    t = rig_call(r, "/t.S/Hold", EMPTY, 5);
    rpc_reply(r->call, bytes_of(memset(arena_alloc(rpc_arena(r->call), MIB / 4), 1, MIB / 4), MIB / 4));
    rig_pump(r);
    for (int i = 0; i < 3; i++) {
        assert_false(s->is_closed);
        r->conn.unsent_since_ns = r->now_ns; /* another stream's bytes went out */
        watch(r, 1, NULL, NULL, 0);
    }
    assert_true(s->is_closed && s->has_rst);
    assert_int_equal(s->rst_code, NGHTTP2_CANCEL);
    assert_false(t->is_closed); /* it holds little */
    rig_close(r);
}

static unsigned drained;
static void on_drained(struct rpc_call *call)
{
    (void)call;
    drained++;
}

/* Pieces of all sizes, two at a time; ended well, and ended too early. */
static void messages_in_pieces(void **state)
{
    static uint8_t block[2][1000];
    struct rig *r = small_rig(64 * MIB);

    (void)state;
    for (size_t whole = 1; whole < 6000; whole += 271) {
        struct rig_stream *s = rig_call(r, "/t.S/Hold", EMPTY, 5);
        struct rpc_call *call = r->call;
        size_t sent = 0, pieces = 0, queued = 0;

        while (sent < whole) {
            size_t n = whole - sent < sizeof block[0] ? whole - sent : sizeof block[0];

            for (size_t i = 0; i < n; i++)
                block[pieces % 2][i] = (uint8_t)((sent + i) % 251);
            queued += n + (sent == 0 ? GRPC_PREFIX_LEN : 0);
            assert_int_equal(rpc_send_piece(call, bytes_of(block[pieces % 2], n), whole, sent == 0), queued);
            sent += n;
            if (++pieces % 2 == 0) {
                drained = 0;
                rpc_on_drained(call, 1, on_drained);
                rig_pump(r);
                assert_int_equal(drained, 1);
                queued = 0;
            }
        }
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
        rig_pump(r);
        assert_string_equal(s->grpc_status, "0");
        assert_int_equal(s->down_len, 5 + whole);
        assert_int_equal(load_u32be(s->down + 1), whole);
        for (size_t i = 0; i < whole; i++)
            assert_int_equal(s->down[5 + i], i % 251);
    }
    for (int way = 0; way < 2; way++) {
        struct rig_stream *s = rig_call(r, "/t.S/Hold", EMPTY, 5);
        struct rpc_call *call = r->call;

        (void)rpc_send_piece(call, bytes_of(block[0], 1000), 3000, true);
        if (way == 1)
            rig_reset(r, s);
        rig_pump(r);
        rpc_finish(call, RPC_INTERNAL, "gone", bytes_of(NULL, 0));
        rig_pump(r);
        if (way == 0)
            assert_status(s, "13", "gone");
    }
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_headers),
        cmocka_unit_test(uploads_leave_room),
        cmocka_unit_test(long_reads_leave_room),
        cmocka_unit_test(held_back_messages),
        cmocka_unit_test(sleepers_are_cut_off),
        cmocka_unit_test(messages_in_pieces),
        cmocka_unit_test(unread_answers_are_cut_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
