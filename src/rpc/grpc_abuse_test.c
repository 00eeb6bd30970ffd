/* Proves that a hostile or greedy peer is bounded: rapid reset, floods of every frame type, endless headers, calls that outlive
 * their streams, requests beyond the memory budget (waiting, reserve, refusal), failing allocations. What must go on meanwhile is
 * tried as well. Frames that nghttp2's client would not send are written by hand. */
#include "base/alloc_failing.h"
#include "rpc/rpc_raw.h"

/* --- floods --- */

/* CVE-2023-44487: streams opened and reset at once. 10,000 in one go and 1,000 a second are legal, more is not. */
static void rapid_reset(void **state)
{
    struct raw *w = raw_open();
    uint32_t stream = 1, cut;

    (void)state;
    for (int i = 0; i < 9990; i++, stream += 2) {
        raw_call(w, stream, "/t.S/Echo");
        raw_reset(w, stream);
        assert_true(raw_flush(w, true));
    }
    assert_false(w->has_goaway);
    for (int second = 0; second < 5; second++) { /* cancelling on and on at the legal rate */
        rig_advance(w->rig, SECOND);
        for (int i = 0; i < 990; i++, stream += 2) {
            raw_call(w, stream, "/t.S/Echo");
            raw_reset(w, stream);
            assert_true(raw_flush(w, true));
        }
    }
    assert_false(w->has_goaway);
    for (cut = 0; cut < 200 && !w->has_goaway; cut++, stream += 2) {
        raw_call(w, stream, "/t.S/Echo");
        raw_reset(w, stream);
        (void)raw_flush(w, true);
    }
    assert_true(w->has_goaway && cut < 200);
    assert_int_equal(w->goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_true(grpc_conn_is_over(&w->rig->conn));
    assert_int_equal(w->rig->conn.call_count, 0);
    raw_close(w);
}

/* The same with streams that we reset because the peer broke a rule on them: headers in the middle. */
static void made_us_reset(void **state)
{
    struct raw *w = raw_open();
    uint32_t stream = 1;
    uint8_t block[64];
    size_t n = put_header(block, "a", "b");
    int i;

    (void)state;
    for (i = 0; i < 12000 && !w->has_goaway; i++, stream += 2) {
        raw_call(w, stream, "/t.S/Echo");
        raw_frame(w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, block, n);
        (void)raw_flush(w, true);
    }
    assert_true(w->has_goaway);
    assert_int_equal(w->goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_true(i > 9000 && i < 10100);
    raw_close(w);
}

/* Reset calls whose handlers are still at work are not streams any more, but they are held: their number is bounded. */
static void held_after_reset(void **state)
{
    const struct rpc_limits limits = {.streams_per_conn_max = 10};
    struct rig *r = rig_open(&limits);
    struct rpc_call *held[20];
    struct rig_stream *s;

    (void)state;
    for (int i = 0; i < 20; i++) {
        s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
        assert_int_equal(r->handler_calls, i + 1);
        held[i] = r->call;
        rig_reset(r, s);
    }
    s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
    assert_int_equal(r->handler_calls, 20);
    assert_refused(s, "200");
    assert_status(s, "8", "too many calls of this connection are still running");
    rpc_finish(held[0], RPC_OK, "", bytes_of(NULL, 0));
    s = rig_call(r, "/t.S/Echo", "\0\0\0\0\0", 5);
    assert_status(s, "0", "");
    for (int i = 1; i < 20; i++)
        rpc_finish(held[i], RPC_OK, "", bytes_of(NULL, 0));
    rig_close(r);
}

/* A client that has not read our settings yet is refused kindly; one that has acknowledged them breaks the protocol. */
static void too_many_streams(void **state)
{
    const struct rpc_limits limits = {.streams_per_conn_max = 10};
    struct raw *w = raw_open_unsettled(&limits);

    (void)state;
    for (uint32_t i = 0; i < 15; i++)
        raw_call(w, 1 + 2 * i, "/t.S/Echo");
    assert_true(raw_flush(w, true));
    assert_int_equal(w->rst_refused, 5);
    assert_int_equal(w->rig->conn.call_count, 10);
    assert_false(w->has_goaway);
    raw_close(w);
    w = raw_open_with(&limits);
    for (uint32_t i = 0; i < 15; i++)
        raw_call(w, 1 + 2 * i, "/t.S/Echo");
    (void)raw_flush(w, true);
    assert_true(w->has_goaway);
    assert_int_equal(w->goaway_error, NGHTTP2_PROTOCOL_ERROR);
    raw_close(w);
}

static void ping_flood(void **state)
{
    const struct rpc_limits limits = {.pings_per_10s_max = 100};
    struct raw *w = raw_open_with(&limits);

    (void)state;
    for (int round = 0; round < 10; round++) { /* 100 in 10 s are answered, always */
        for (int i = 0; i < 100; i++)
            raw_frame(w, NGHTTP2_PING, 0, 0, "12345678", 8);
        assert_true(raw_flush(w, true));
        rig_advance(w->rig, 11 * SECOND);
    }
    assert_int_equal(w->frames[NGHTTP2_PING], 1000);
    for (int i = 0; i < 500; i++) { /* pings between data measure the bandwidth: any number */
        raw_call(w, (uint32_t)(1 + 2 * i), "/t.S/Echo");
        raw_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, (uint32_t)(1 + 2 * i), "\0\0\0\0\0", 5);
        raw_frame(w, NGHTTP2_PING, 0, 0, "12345678", 8);
        assert_true(raw_flush(w, true));
    }
    assert_false(w->has_goaway);
    for (int i = 0; i < 102; i++)
        raw_frame(w, NGHTTP2_PING, 0, 0, "12345678", 8);
    (void)raw_flush(w, true);
    assert_true(w->has_goaway);
    assert_int_equal(w->goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
    raw_close(w);
}

static void control_floods(void **state)
{
    static const struct {
        uint8_t type;
        uint32_t stream;
        const char *payload;
        size_t len;
    } kinds[] = {{NGHTTP2_SETTINGS, 0, "", 0}, {NGHTTP2_DATA, 1, "", 0}};

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        struct raw *w = raw_open();
        int sent;

        raw_call(w, 1, "/t.S/Echo");
        assert_true(raw_flush(w, true));
        for (sent = 0; sent < 3000 && !w->has_goaway; sent++) {
            raw_frame(w, kinds[k].type, 0, kinds[k].stream, kinds[k].payload, kinds[k].len);
            (void)raw_flush(w, true);
        }
        assert_true(w->has_goaway);
        assert_true(sent >= 900 && sent < 1200);
        raw_close(w);
    }
}

/* Answers to a peer that makes us answer but reads nothing are bounded, whatever kind they are. */
static void never_reading(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        const struct rpc_limits limits = {.pings_per_10s_max = 1000000, .streams_per_conn_max = 10};
        struct raw *w = raw_open_unsettled(&limits);
        uint32_t stream = 1;
        int rounds = 0;

        do {
            for (int i = 0; i < 500; i++, stream += 2) {
                if (kind == 0)
                    raw_frame(w, NGHTTP2_PING, 0, 0, "12345678", 8);
                else
                    raw_call(w, stream, "/t.S/Echo"); /* each beyond the tenth is refused with a frame */
            }
        } while (raw_flush(w, false) && ++rounds < 100);
        assert_true(rounds < 40);
        raw_close(w);
    }
}

static void continuation_flood(void **state)
{
    struct raw *w = raw_open();
    uint8_t block[512];
    int i = 0;

    (void)state;
    raw_frame(w, NGHTTP2_HEADERS, 0, 1, block, put_call(block, "/t.S/Echo"));
    assert_true(raw_flush(w, true));
    for (; i < 1000; i++) {
        raw_frame(w, NGHTTP2_CONTINUATION, 0, 1, block, put_header(block, "a", "b"));
        if (!raw_flush(w, true) || w->has_goaway)
            break;
    }
    assert_true(i <= GRPC_CONTINUATIONS_MAX);
    raw_close(w);
}

/* Up to the limit headers are taken; beyond it the call is refused with a status, far beyond it the connection ends. */
static void long_headers(void **state)
{
    struct rig *r = rig_open(NULL);
    char *value = malloc(9001);
    nghttp2_nv nv[20] = {rig_nv(":method", "POST"), rig_nv(":scheme", "http"), rig_nv(":path", "/t.S/Echo"), rig_nv(":authority", "h"),
                         rig_nv("content-type", "application/grpc")};
    struct rig_stream *s;

    (void)state;
    assert_non_null(value);
    memset(value, 'v', 9000);
    value[9000] = '\0';
    for (size_t i = 5; i < 13; i++)
        nv[i] = rig_nv("x", value);
    s = rig_request(r, nv, 12, "\0\0\0\0\0", 5, true);
    rig_pump(r);
    assert_status(s, "0", "");
    s = rig_request(r, nv, 13, "\0\0\0\0\0", 5, true);
    rig_pump(r);
    assert_refused(s, "200");
    assert_string_equal(s->grpc_status, "8");
    assert_memory_equal(s->message, "received headers larger than max (72", 36);
    assert_true(!r->has_goaway);
    free(value);
    rig_close(r);
}

/* A few bytes that stand for many: an indexed header of 4 KiB, a thousand times. */
static void header_bomb(void **state)
{
    struct raw *w = raw_open();
    uint8_t *block = malloc(16384);
    size_t n;

    (void)state;
    assert_non_null(block);
    n = put_call(block, "/t.S/Echo");
    block[n++] = 0x40; /* literal with indexing, name "n", value of 3,900 bytes */
    block[n++] = 1;
    block[n++] = 'n';
    block[n++] = 0x7f;
    block[n++] = (uint8_t)(((3900 - 127) & 0x7f) | 0x80);
    block[n++] = (uint8_t)((3900 - 127) >> 7);
    memset(block + n, 'v', 3900);
    n += 3900;
    memset(block + n, 0x80 | 62, 16384 - n); /* "that one", 12,000 times: 48 MiB */
    raw_frame(w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block, 16384);
    (void)raw_flush(w, true);
    assert_true(w->has_goaway);
    assert_int_equal(w->goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
    free(block);
    raw_close(w);
}

static void bad_preface(void **state)
{
    static const char openings[3][32] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\x0b\0\0\0\4", "\x16\x03\x01\2\0\1\0"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct rig *r = rig_open_with(NULL, (size_t)1 << 30);

        rig_connect(r, NULL, 0);
        assert_false(grpc_conn_feed(&r->conn, (const uint8_t *)openings[i], 24));
        assert_false(grpc_conn_feed(&r->conn, (const uint8_t *)"more", 4));
        assert_true(grpc_conn_is_over(&r->conn));
        assert_false(r->conn.has_settings);
        rig_close(r);
    }
}

/* --- memory --- */

/* Six uploads of 3 MiB against a budget of 8: all succeed, one after the other if need be, and never more than the budget and one
 * message (the reserve) is accounted. */
static void uploads_beyond_the_budget(void **state)
{
    enum { COUNT = 6, LEN = 3 << 20 };
    const struct rpc_limits limits = {.message_bytes_max = 4 << 20};
    struct rig *r = rig_open_with(&limits, (size_t)32 << 20);
    uint8_t *m = rig_message_of(LEN, 9);
    struct rig_stream *s[COUNT];
    size_t most = 0;
    unsigned seen = 0;
    bool has_waited = false;

    (void)state;
    assert_int_equal(r->budget.share[BUDGET_REQUEST], 8 << 20);
    rig_connect(r, NULL, 0);
    rig_pump(r);
    for (int i = 0; i < COUNT; i++)
        s[i] = rig_begin(r, "/t.S/Hold", m, GRPC_PREFIX_LEN + LEN, true, NULL);
    for (int turn = 0; turn < 200 && seen < COUNT; turn++) {
        rig_pump(r);
        rig_advance(r, 6 * MS);
        if (budget_used(&r->budget, BUDGET_REQUEST) + budget_used(&r->budget, BUDGET_OTHER) > most)
            most = budget_used(&r->budget, BUDGET_REQUEST) + budget_used(&r->budget, BUDGET_OTHER);
        assert_true(budget_used(&r->budget, BUDGET_REQUEST) <= r->budget.share[BUDGET_REQUEST]);
        has_waited = has_waited || r->service->admission.waiting > 0;
        if (r->handler_calls > seen) {
            seen = r->handler_calls;
            for (size_t i = 0; i < r->stream_count; i++)
                if (r->streams[i].call != NULL) {
                    rpc_reply(r->streams[i].call, bytes_str("ok"));
                    r->streams[i].call = NULL;
                }
        }
    }
    rig_pump(r);
    for (int i = 0; i < COUNT; i++)
        assert_status(s[i], "0", "");
    assert_true(has_waited);
    assert_true(most > (4 << 20) && most <= (8 << 20) + (4 << 20));
    assert_int_equal(budget_used(&r->budget, BUDGET_OTHER), 0);
    assert_null(r->service->admission.oldest);
    assert_null(r->service->admission.reserve_of);
    free(m);
    rig_close(r);
}

/* Nobody gives memory back: the oldest gets the reserve, the others wait until their deadline or for budget_wait_ns; meanwhile a
 * small call of the same connection is answered. */
static void waiting_ends(void **state)
{
    enum { LEN = 3 << 20 };
    const struct rpc_limits limits = {.message_bytes_max = 4 << 20, .budget_wait_ns = 20 * SECOND};
    struct rig *r = rig_open_with(&limits, (size_t)32 << 20);
    uint8_t *m = rig_message_of(LEN, 9);
    struct rig_stream *s[6], *small;
    unsigned held = 0;

    (void)state;
    rig_connect(r, NULL, 0);
    rig_pump(r);
    for (int i = 0; i < 6; i++) {
        s[i] = rig_begin(r, "/t.S/Hold", m, GRPC_PREFIX_LEN + LEN, true, i == 4 ? "5S" : NULL);
        rig_pump(r);
        rig_advance(r, 6 * MS);
        rig_pump(r);
    }
    assert_true(r->service->admission.waiting > 0);
    assert_non_null(r->service->admission.reserve_of);
    small = rig_call(r, "/t.S/Echo", "\0\0\0\0\0", 5);
    assert_status(small, "0", "");
    rig_advance(r, 5 * SECOND);
    rig_pump(r);
    assert_status(s[4], "8", "server is short of memory for requests");
    assert_refused(s[4], "200");
    rig_advance(r, 15 * SECOND);
    rig_pump(r);
    rig_advance(r, 6 * MS);
    rig_pump(r);
    assert_int_equal(r->service->admission.waiting, 0);
    for (int i = 0; i < 6; i++) {
        if (s[i]->call != NULL) {
            held++;
            rpc_reply(s[i]->call, bytes_str("ok"));
            rig_pump(r);
            assert_status(s[i], "0", "");
        } else {
            assert_string_equal(s[i]->grpc_status, "8");
        }
    }
    assert_true(held >= 2);
    free(m);
    rig_close(r);
}

/* The holder of the reserve goes to sleep: it loses it to the next. */
static void reserve_of_a_sleeper(void **state)
{
    enum { LEN = 3 << 20 };
    const struct rpc_limits limits = {.message_bytes_max = 4 << 20, .budget_wait_ns = 20 * SECOND};
    struct rig *r = rig_open_with(&limits, (size_t)8 << 20);
    uint8_t *m = rig_message_of(LEN, 9);
    struct rig_stream *sleeper, *other;

    (void)state;
    rig_connect(r, NULL, 0);
    rig_pump(r);
    sleeper = rig_begin(r, "/t.S/Hold", m, 2 << 20, false, NULL);
    rig_pump(r);
    rig_advance(r, 6 * MS);
    rig_pump(r);
    assert_non_null(r->service->admission.reserve_of);
    other = rig_begin(r, "/t.S/Echo", "\0\0\0\0\0", 5, true, NULL);
    rig_pump(r);
    rig_advance(r, 21 * SECOND);
    rig_pump(r);
    rig_advance(r, 6 * MS);
    rig_pump(r);
    assert_string_equal(sleeper->grpc_status, "8");
    assert_null(r->service->admission.reserve_of);
    assert_status(other, "0", "");
    free(m);
    rig_close(r);
}

/* No memory for anything: small calls are refused with a status, and served again as soon as there is some. */
static void exhausted_budget(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s;
    size_t taken;

    (void)state;
    s = rig_call(r, "/t.S/Echo", "\0\0\0\0\0", 5);
    assert_status(s, "0", "");
    rig_advance(r, SECOND);
    rig_advance(r, SECOND);
    rig_advance(r, SECOND);                              /* credit given back */
    taken = r->budget.share[BUDGET_REQUEST] / 4 * 5 + 1; /* as far as modest connections are served */
    budget_take(&r->budget, BUDGET_REQUEST, taken);
    s = rig_call(r, "/t.S/Echo", "\0\0\0\0\0", 5);
    assert_refused(s, "200");
    assert_status(s, "8", "server is short of memory for requests");
    budget_give(&r->budget, BUDGET_REQUEST, taken);
    s = rig_call(r, "/t.S/Echo", "\0\0\0\0\0", 5);
    assert_status(s, "0", "");
    rig_close(r);
}

/* Answers that are not taken count: on a connection that lets them pile up no more are made, on another one they are. */
static void unsent_answers_count(void **state)
{
    enum { LEN = 1 << 20 };
    const nghttp2_settings_entry none[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0}};
    const struct rpc_limits limits = {.message_bytes_max = 4 << 20};
    struct rig *r = rig_open_with(&limits, (size_t)1 << 30);
    struct rig_stream *s;
    bool of_connection;
    uint8_t *m;
    int i;

    (void)state;
    rig_connect(r, none, 1);
    rig_pump(r);
    for (i = 0; i < 200; i++) {
        s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
        if (s->grpc_status[0] != '\0')
            break;
        if ((m = rpc_message_alloc(r->call, LEN)) == NULL) {
            assert_int_equal(rpc_memory_limit_met(r->call, &of_connection), r->budget.share[BUDGET_REQUEST] / 4);
            assert_true(of_connection);
            rpc_finish(r->call, RPC_RESOURCE_EXHAUSTED, "limit", bytes_of(NULL, 0));
            rig_pump(r);
            break;
        }
        memset(m, 1, LEN);
        rpc_reply(r->call, bytes_of(m, LEN));
        assert_true(budget_used(&r->budget, BUDGET_REQUEST) >= (size_t)(i + 1) * LEN);
    }
    assert_status(s, "8", "limit");
    assert_true(i >= 60 && i < 70); /* a quarter of the requests' share, here 64 MiB */
    rig_close(r);
}

/* --- failing allocations --- */

/* The n-th allocation fails, for n = 1, 2, 3, ...: nothing leaks, nothing crashes, and a call either succeeds, is refused with a
 * status, or its connection breaks. */
static void failing_allocations(void **state)
{
    static const char *const paths[] = {"/t.S/Echo", "/t.S/Fail", "/t.S/Nope", "/t.S/Server", "/t.S/Client"};
    static uint8_t buf[1 << 17];
    uint8_t *m = rig_message_of(100000, 5);
    bool is_through = false;

    (void)state;
    for (long n = 1; !is_through; n++) {
        struct rig *r = rig_open(NULL);
        bool is_good = true;

        is_through = true;
        for (size_t p = 0; p < 5 && is_good; p++) {
            struct rig_stream *s = rig_begin(r, paths[p], m, GRPC_PREFIX_LEN + (p == 0 ? 100000 : 10), true, NULL);
            const uint8_t *chunk;
            ssize_t got;
            size_t len;

            if (p != 0) {
                grpc_prefix_write(m, 10);
            }
            r->call = NULL;
            /* Only the server's side may fail. */
            while (is_good && (got = nghttp2_session_mem_send(r->client, &chunk)) > 0) {
                alloc_fail_arm(n, false);
                is_good = grpc_conn_feed(&r->conn, chunk, (size_t)got);
                if (p >= 3 && r->call != NULL && r->call->is_held) {
                    (void)rpc_send(r->call, bytes_str("a"));
                    (void)rpc_send(r->call, bytes_str("b"));
                    rpc_finish(r->call, RPC_ABORTED, "text\n", bytes_str("details"));
                }
                is_through = !alloc_fail_disarm() && is_through;
            }
            for (;;) {
                alloc_fail_arm(n, false);
                len = grpc_conn_pull(&r->conn, buf, sizeof(buf));
                is_through = !alloc_fail_disarm() && is_through;
                if (len == 0)
                    break;
                assert_true(nghttp2_session_mem_recv(r->client, buf, len) >= 0);
            }
            is_good = is_good && !r->conn.is_broken;
            rig_pump(r);
            if (is_good && r->conn.call_count == 0)
                assert_true(s->is_closed && (s->grpc_status[0] != '\0' || s->has_rst));
        }
        grpc_prefix_write(m, 100000);
        if (r->call != NULL && r->call->is_held)
            rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
        rig_close(r);
    }
    free(m);
}

static void failing_set_up(void **state)
{
    bool is_through = false;
    struct rig *shell = calloc(1, sizeof(*shell));
    struct err err;

    (void)state;
    assert_non_null(shell);
    shell->env = (struct env){shell, rig_wall, rig_mono, rig_random, rig_log};
    budget_init(&shell->budget, 1 << 30);
    for (long n = 1; !is_through; n++) {
        struct rpc_options o = {.env = &shell->env,
                                .budget = &shell->budget,
                                .methods = rig_methods,
                                .method_count = 9,
                                .header_name = "immudb-uuid",
                                .header_value = RIG_UUID};
        struct grpc_service *service = NULL;
        enum status st;

        alloc_fail_arm(n, false);
        st = grpc_service_open(&o, &service, &err);
        if (st == ST_OK && (st = grpc_host_open(&shell->host, service, 0, NULL, &err)) == ST_OK) {
            memset(&shell->conn, 0, sizeof(shell->conn));
            shell->conn.on_unused = rig_unused;
            rig_now = shell;
            if ((st = grpc_conn_open(&shell->conn, &shell->host, &err)) == ST_OK)
                grpc_conn_close(&shell->conn);
        }
        is_through = !alloc_fail_disarm();
        assert_true(is_through ? st == ST_OK : st == ST_NOMEM || st == ST_OK);
        if (shell->host.service != NULL)
            grpc_host_close(&shell->host);
        grpc_service_close(service);
    }
    free(shell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rapid_reset),          cmocka_unit_test(made_us_reset),        cmocka_unit_test(held_after_reset),
        cmocka_unit_test(too_many_streams),     cmocka_unit_test(ping_flood),           cmocka_unit_test(control_floods),
        cmocka_unit_test(never_reading),        cmocka_unit_test(continuation_flood),   cmocka_unit_test(long_headers),
        cmocka_unit_test(header_bomb),          cmocka_unit_test(bad_preface),          cmocka_unit_test(uploads_beyond_the_budget),
        cmocka_unit_test(waiting_ends),         cmocka_unit_test(reserve_of_a_sleeper), cmocka_unit_test(exhausted_budget),
        cmocka_unit_test(unsent_answers_count), cmocka_unit_test(failing_allocations),  cmocka_unit_test(failing_set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
