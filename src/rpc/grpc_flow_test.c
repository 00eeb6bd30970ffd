/* Proves what flow control, time, resets and other threads do to calls: pauses withhold the window of their stream alone, producers
 * are told when to go on, deadlines and stalls end calls at the right moment, a reset or a lost connection at every point of a
 * call's life is told to its handler once, answers from other threads arrive in order, and memory comes back. nghttp2's client is at
 * the other end, in memory; the clock is turned by hand. */
#include "rpc/rpc_rig.h"

/* After rpc_pause() the window stays closed: the client can send one window and no more. */
static void pause_and_resume(void **state)
{
    enum { COUNT = 300, LEN = 10000 };
    struct rig *r = rig_open(NULL);
    uint8_t *all = malloc(COUNT * (GRPC_PREFIX_LEN + LEN));
    struct rig_stream *s;

    (void)state;
    assert_non_null(all);
    for (size_t i = 0; i < COUNT; i++) {
        uint8_t *m = rig_message_of(LEN, (uint8_t)i);

        memcpy(all + i * (GRPC_PREFIX_LEN + LEN), m, GRPC_PREFIX_LEN + LEN);
        free(m);
    }
    r->pause_at_message = true;
    s = rig_begin(r, "/t.S/Client", all, COUNT * (GRPC_PREFIX_LEN + LEN), true, NULL);
    rig_pump(r);
    assert_int_equal(r->messages, 1);
    assert_true(s->up_at <= GRPC_FIRST_WINDOW_BYTES && s->up_at > GRPC_FIRST_WINDOW_BYTES - 20000);
    rig_pump(r);
    assert_int_equal(r->messages, 1);
    rpc_resume(r->call);
    assert_int_equal(r->messages, 1); /* not from inside */
    rig_pump(r);
    assert_int_equal(r->messages, 2);
    for (int i = 3; i <= COUNT; i++) {
        rpc_resume(r->call);
        rig_pump(r);
        assert_int_equal(r->messages, i);
    }
    assert_int_equal(r->half_closes, 0); /* the last message paused, too */
    rpc_resume(r->call);
    rig_pump(r);
    assert_int_equal(r->half_closes, 1);
    assert_false(r->cancelled_at_half_close);
    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_status(s, "0", "");
    free(all);
    rig_close(r);
}

/* A paused stream must not hold up the others of its connection, however much they send. */
static void a_paused_stream_blocks_nobody(void **state)
{
    struct rig *r = rig_open(NULL);
    uint8_t *big = rig_message_of(2 << 20, 3);
    struct rpc_call *paused[20];

    (void)state;
    r->pause_at_message = true;
    for (size_t i = 0; i < 20; i++) { /* 20 MiB of windows are more than the connection's 16 */
        struct rig_stream *s = rig_begin(r, "/t.S/Bidi", big, GRPC_PREFIX_LEN + (2 << 20), true, NULL);

        (void)s;
        rig_pump(r);
        paused[i] = r->call;
        rpc_pause(r->call);
    }
    for (size_t i = 0; i < 40; i++)
        assert_status(rig_call(r, "/t.S/Echo", big, GRPC_PREFIX_LEN + (2 << 20)), "0", "");
    for (size_t i = 0; i < 20; i++)
        rpc_finish(paused[i], RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    free(big);
    rig_close(r);
}

static void on_drained(struct rpc_call *call)
{
    (void)call;
    rig_now->drained++;
}

static void back_pressure(void **state)
{
    const nghttp2_settings_entry small[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1000}};
    struct rig *r = rig_open_with(NULL, (size_t)1 << 30);
    struct rig_stream *s;
    size_t queued = 0;

    (void)state;
    rig_connect(r, small, 1);
    nghttp2_session_set_local_window_size(r->client, NGHTTP2_FLAG_NONE, 0, 1 << 24);
    rig_pump(r);
    s = rig_call(r, "/t.S/Server", "\0\0\0\0\0", 5);
    for (int i = 0; i < 100; i++) {
        uint8_t *m = calloc(1, 995);

        assert_non_null(m);
        queued = rpc_send_owned(r->call, m, 995);
    }
    assert_int_equal(queued, 100 * 1000);
    rpc_on_drained(r->call, 50000, on_drained);
    rig_pump(r);
    assert_int_equal(s->down_len, 100 * 1000); /* nghttp2's client opens its window as it reads */
    assert_int_equal(r->drained, 1);
    /* Asked for when nothing is queued: called soon. */
    rpc_on_drained(r->call, 0, on_drained);
    assert_int_equal(r->drained, 1);
    rig_pump(r);
    assert_int_equal(r->drained, 2);
    rig_pump(r);
    assert_int_equal(r->drained, 2); /* once per request */
    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_handled(s);
    rig_close(r);
}

static void deadlines(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s;
    uint64_t begin_ns = r->now_ns;

    (void)state;
    /* While the handler runs. */
    s = rig_begin(r, "/t.S/HoldCancel", "\0\0\0\0\1x", 6, true, "50m");
    rig_pump(r);
    assert_true(rpc_deadline_ns(r->call) == begin_ns + 50 * MS);
    rig_advance(r, 49 * MS);
    assert_false(rpc_is_cancelled(r->call));
    rig_advance(r, 1 * MS);
    assert_true(rpc_is_cancelled(r->call));
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "4", "context deadline exceeded");
    assert_true(s->is_closed);
    assert_int_equal(r->cancels, 1);
    assert_int_equal(r->ended, 0); /* the handler still holds it: the request is there */
    assert_true(bytes_equal(rpc_request(r->call), bytes_str("x")));
    rpc_reply(r->call, bytes_str("too late"));
    assert_int_equal(r->ended, 1);
    assert_int_equal(r->ended_code, RPC_DEADLINE_EXCEEDED);
    /* While the request comes in. */
    s = rig_begin(r, "/t.S/Echo", "\0\0\0\0\2x", 6, false, "5m");
    rig_pump(r);
    rig_advance(r, 5 * MS);
    rig_pump(r);
    assert_refused(s, "200");
    assert_status(s, "4", "context deadline exceeded");
    assert_true(s->has_rst);
    /* In the middle of a stream of answers. */
    s = rig_begin(r, "/t.S/Server", "\0\0\0\0\0", 5, true, "5m");
    rig_pump(r);
    rpc_send(r->call, bytes_str("one"));
    rig_pump(r);
    rig_advance(r, 5 * MS);
    rig_pump(r);
    assert_handled(s);
    assert_int_equal(s->down_len, 8);
    assert_status(s, "4", "context deadline exceeded");
    rpc_send(r->call, bytes_str("two"));
    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
    /* Answered in time: nothing happens later. */
    s = rig_begin(r, "/t.S/Echo", "\0\0\0\0\0", 5, true, "5m");
    rig_pump(r);
    assert_status(s, "0", "");
    rig_advance(r, 10 * MS);
    rig_pump(r);
    assert_false(s->has_rst);
    rig_close(r);
}

/* The answer does not fit the client's window and the deadline passes: the stream is reset. */
static void deadline_while_sending(void **state)
{
    const nghttp2_settings_entry none[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0}};
    struct rig *r = rig_open_with(NULL, (size_t)1 << 30);
    struct rig_stream *s;

    (void)state;
    rig_connect(r, none, 1);
    rig_pump(r);
    s = rig_begin(r, "/t.S/Echo", "\0\0\0\0\1x", 6, true, "5m");
    rig_pump(r);
    assert_int_equal(s->headers_frames, 1);
    assert_int_equal(s->down_len, 0);
    rig_advance(r, 5 * MS);
    rig_pump(r);
    assert_true(s->is_closed && s->rst_code == NGHTTP2_CANCEL);
    assert_int_equal(r->conn.call_count, 0);
    rig_close(r);
}

/* A peer whose window never opens: its finished calls are reset after the stall timeout, and all is given back. */
static void zero_windows(void **state)
{
    const nghttp2_settings_entry none[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0}};
    struct rig *r = rig_open_with(NULL, (size_t)1 << 30);

    (void)state;
    rig_connect(r, none, 1);
    rig_pump(r);
    for (int i = 0; i < 100; i++)
        rig_call(r, "/t.S/Echo", "\0\0\0\0\1x", 6);
    assert_int_equal(r->conn.call_count, 100);
    rig_advance(r, 59 * SECOND);
    assert_true(grpc_conn_watch(&r->conn));
    rig_pump(r);
    assert_int_equal(r->conn.call_count, 100);
    rig_advance(r, 2 * SECOND);
    /* Nothing moved on the whole connection: it is to be cut. */
    assert_false(grpc_conn_watch(&r->conn));
    /* Were something moving, only the streams that do not would go. */
    r->conn.unsent_since_ns = r->now_ns;
    assert_true(grpc_conn_watch(&r->conn));
    rig_pump(r);
    assert_int_equal(r->conn.call_count, 0);
    assert_true(r->streams[0].is_closed && r->streams[0].rst_code == NGHTTP2_CANCEL);
    rig_close(r);
}

static void stalled_requests(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_begin(r, "/t.S/Echo", "\0\0\0\0\2x", 6, false, NULL), *none, *stream;

    (void)state;
    none = rig_begin(r, "/t.S/Echo", "", 0, false, NULL);
    stream = rig_begin(r, "/t.S/Bidi", "\0\0\0\0\1x", 6, false, NULL);
    rig_pump(r);
    rig_advance(r, 61 * SECOND);
    assert_true(grpc_conn_watch(&r->conn));
    rig_pump(r);
    assert_status(s, "4", "the request message was not completed in time");
    assert_status(none, "4", "the request message was not completed in time");
    assert_refused(s, "200");
    assert_false(stream->is_closed); /* a stream may rest between messages, but not within one */
    rig_more(r, stream, "\0", 1, false);
    rig_advance(r, 61 * SECOND);
    assert_true(grpc_conn_watch(&r->conn));
    rig_pump(r);
    assert_status(stream, "4", "the request message was not completed in time");
    assert_int_equal(r->half_closes, 1);
    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_close(r);
}

/* Each kind of call, reset by the client or cut with the connection after every step of its life. */
static void resets_at_every_point(void **state)
{
    static const char *const paths[] = {"/t.S/Hold", "/t.S/HoldCancel", "/t.S/Server", "/t.S/Client", "/t.S/Bidi", "/t.S/BidiCancel"};
    enum { STEPS = 9 };

    (void)state;
    for (int cut = 0; cut < 2; cut++)
        for (size_t p = 0; p < 6; p++)
            for (int step = 0; step < STEPS; step++) {
                struct rig *r = rig_open(NULL);
                bool is_stream = p >= 3, may_send = p >= 2, was_held;
                struct rig_stream *s = rig_begin(r, paths[p], "\0\0", 2, false, NULL);
                unsigned told;

                if (step >= 1)
                    rig_pump(r);
                if (step >= 2)
                    rig_more(r, s, "\0\0\3x", 4, false);
                if (step >= 3)
                    rig_more(r, s, "yz", 2, false);
                if (step >= 4)
                    rig_more(r, s, "", 0, true);
                if (step >= 5 && may_send)
                    rpc_send(r->call, bytes_str("one")); /* queued, not pumped */
                if (step >= 6)
                    rig_pump(r);
                if (step >= 7)
                    rpc_reply(r->call, bytes_str("two")); /* settled, not pumped */
                if (step >= 8)
                    rig_pump(r);
                was_held = r->handler_calls > 0 && step < 7;
                told = r->half_closes;
                if (cut)
                    rig_disconnect(r);
                else
                    rig_reset(r, s);
                /* The reset of a request that was never sent does not reach the server. */
                if (step == 0) {
                    rig_close(r);
                    continue;
                }
                if (was_held) {
                    assert_true(rpc_is_cancelled(r->call));
                    assert_int_equal(r->cancels, p == 1 || p == 5);
                    assert_int_equal(r->half_closes, is_stream && step >= 4 ? told : told + (p == 3 || p == 4));
                    assert_int_equal(r->ended, 0);
                    rpc_send(r->call, bytes_str("nobody"));
                    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
                    assert_int_equal(r->ended_code, RPC_CANCELLED);
                }
                assert_int_equal(r->ended, 1);
                rig_pump(r);
                rig_close(r);
            }
}

/* Answers from other threads go through the queue: the order is kept, one wake-up is enough, nothing is lost at a cancel. */
struct other {
    struct rpc_call *call;
    int count;
    bool is_reply;
};

static void *send_from_afar(void *arg)
{
    struct other *o = arg;
    uint8_t *m;

    if (o->is_reply) {
        rpc_reply(o->call, bytes_str("from afar"));
        return NULL;
    }
    for (int i = 0; i < o->count; i++) {
        m = malloc(4);
        if (m == NULL)
            abort();
        store_u32be(m, (uint32_t)i);
        rpc_send_owned(o->call, m, 4);
    }
    rpc_finish(o->call, RPC_OK, "", bytes_of(NULL, 0));
    return NULL;
}

static void other_threads(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s;
    struct other o = {.count = 1000};
    pthread_t thread;
    size_t at = 0;

    (void)state;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        s = rig_call(r, "/t.S/Server", "\0\0\0\0\0", 5);
        o.call = r->call;
        if (cancelled)
            rig_reset(r, s);
        assert_true(grpc_host_sleep(&r->host));
        r->wakes = 0;
        assert_int_equal(pthread_create(&thread, NULL, send_from_afar, &o), 0);
        pthread_join(thread, NULL);
        assert_int_equal(r->wakes, 1);
        assert_false(grpc_host_sleep(&r->host));
        rig_pump(r);
        if (cancelled)
            continue;
        for (int i = 0; i < 1000; i++)
            assert_int_equal(load_u32be(rig_payload(s, &at).data), i);
        assert_handled(s);
    }
    o.is_reply = true;
    s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
    o.call = r->call;
    assert_int_equal(pthread_create(&thread, NULL, send_from_afar, &o), 0);
    pthread_join(thread, NULL);
    assert_int_equal(s->headers_frames, 0);
    rig_pump(r);
    assert_status(s, "0", "");
    assert_memory_equal(s->down, "\0\0\0\0\11from afar", 14);
    rig_close(r);
}

/* A call outlives its connection as long as somebody holds it. */
static void held_beyond_the_connection(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rpc_call *call;

    (void)state;
    rig_call(r, "/t.S/Hold", "\0\0\0\0\3abc", 8);
    call = r->call;
    rig_disconnect(r);
    assert_false(r->is_unused);
    assert_true(rpc_is_cancelled(call));
    assert_true(bytes_equal(rpc_request(call), bytes_str("abc")));
    assert_string_equal(rpc_peer(call), "127.0.0.1:1234");
    assert_non_null(arena_alloc(rpc_arena(call), 100000));
    *rpc_conn_slot(call) = r;
    rpc_reply(call, bytes_str("nobody"));
    assert_true(r->is_unused);
    assert_int_equal(r->slots_freed, 1);
    rig_close(r);
}

/* Calls are recycled with their arenas; what nobody used for a second is given back, and with it the spare credit. */
static void idle_gives_memory_back(void **state)
{
    struct rig *r = rig_open(NULL);

    (void)state;
    for (int i = 0; i < 100; i++)
        rig_begin(r, "/t.S/Echo", "\0\0\0\0\0", 5, true, NULL);
    rig_pump(r);
    assert_true(r->host.pool_count > 50);
    for (int i = 0; i < 3; i++)
        rig_advance(r, SECOND);
    assert_int_equal(r->host.pool_count, 0);
    assert_int_equal(budget_used(&r->budget, BUDGET_REQUEST), 0);
    assert_true(timers_next_ns(&r->host.timers) == UINT64_MAX); /* and nothing wakes an idle reactor */
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pause_and_resume),       cmocka_unit_test(a_paused_stream_blocks_nobody),
        cmocka_unit_test(back_pressure),          cmocka_unit_test(deadlines),
        cmocka_unit_test(deadline_while_sending), cmocka_unit_test(zero_windows),
        cmocka_unit_test(stalled_requests),       cmocka_unit_test(resets_at_every_point),
        cmocka_unit_test(other_threads),          cmocka_unit_test(held_beyond_the_connection),
        cmocka_unit_test(idle_gives_memory_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
