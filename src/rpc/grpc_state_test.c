/* Proves the table in grpc_conn.h: every frame type in every state of a call, as a client could send it, and what becomes of the
 * call, of the stream and of the connection. One row per state, one column per frame; the connection must serve another call
 * afterwards wherever it survived, and nothing may leak. */
#include "rpc/rpc_raw.h"

enum state { RECEIVING, PARTLY, UNARY_RUNNING, UNARY_HALF, STREAM_RUNNING, STREAM_HALF, SENDING, SENDING_HALF, ANSWERED, RESET, STATES };
static const char *const state_names[] = {"receiving",          "partly",  "unary running",       "unary half-closed", "stream running",
                                          "stream half-closed", "sending", "sending half-closed", "answered",          "reset"};

enum frame { DATA, DATA_END, EMPTY_END, TRAILERS, HEADERS_AGAIN, RST, UPDATE, UPDATE_ZERO, PRIORITY, UNKNOWN, CONTINUATION, PUSH, GOAWAY, FRAMES };
static const char *const frame_names[] = {"DATA",         "DATA+END",      "empty DATA+END",  "trailers", "HEADERS without END",
                                          "RST_STREAM",   "WINDOW_UPDATE", "WINDOW_UPDATE 0", "PRIORITY", "unknown type",
                                          "CONTINUATION", "PUSH_PROMISE",  "GOAWAY"};

/* What becomes of it:
 *   .  nothing: the call is as it was
 *   m  a message (or the request) was completed: the handler was called or got it
 *   h  the end of the client's stream was noted or delivered
 *   e  refused or ended with a status; the call is over
 *   x  the call is gone, without answer (a handler that holds it is told)
 *   !  connection error: GOAWAY */
/* clang-format off */
static const char *const table[STATES] = {
    /*                       DATA D+END E+END TRAIL HEADR RST  UPD  UPD0 PRIO UNKN CONT PUSH GOAWAY */
    [RECEIVING]      = "m" "m" "e" "e" "x" "x" "." "!" "." "." "!" "!" ".",
    [PARTLY]         = "m" "m" "e" "e" "x" "x" "." "!" "." "." "!" "!" ".",
    [UNARY_RUNNING]  = "." "h" "h" "h" "x" "x" "." "!" "." "." "!" "!" ".",
    [UNARY_HALF]     = "!" "!" "!" "!" "!" "x" "." "!" "." "." "!" "!" ".",
    [STREAM_RUNNING] = "m" "m" "h" "h" "x" "x" "." "!" "." "." "!" "!" ".",
    [STREAM_HALF]    = "!" "!" "!" "!" "!" "x" "." "!" "." "." "!" "!" ".",
    [SENDING]        = "." "h" "h" "h" "x" "x" "." "!" "." "." "!" "!" ".",
    [SENDING_HALF]   = "!" "!" "!" "!" "!" "x" "." "!" "." "." "!" "!" ".",
    [ANSWERED]       = "." "." "." "." "." "." "." "." "." "." "!" "!" ".",
    [RESET]          = "." "." "." "." "." "." "." "." "." "." "!" "!" ".",
};
/* clang-format on */

static const uint8_t message[] = {0, 0, 0, 0, 1, 'x'};

static struct rpc_call *only_call(struct raw *w) { return w->rig->conn.calls; }

static void settings_without_window(struct raw *w)
{
    raw_frame(w, NGHTTP2_SETTINGS, 0, 0, "\0\4\0\0\0\0", 6); /* INITIAL_WINDOW_SIZE = 0: answers stay with us */
    assert_true(raw_flush(w, true));
}

/* Brings stream 1 into the state. */
static void enter(struct raw *w, enum state state)
{
    bool is_stream = state == STREAM_RUNNING || state == STREAM_HALF, half = state == UNARY_HALF || state == STREAM_HALF || state == SENDING_HALF;

    if (state == SENDING || state == SENDING_HALF)
        settings_without_window(w);
    raw_call(w, 1, is_stream ? "/t.S/Bidi" : state == SENDING || state == SENDING_HALF || state == ANSWERED ? "/t.S/Echo" : "/t.S/Hold");
    if (state == PARTLY)
        raw_frame(w, NGHTTP2_DATA, 0, 1, "\0\0\0\0\7x", 6);
    else if (state != RECEIVING && !is_stream)
        raw_frame(w, NGHTTP2_DATA, half ? NGHTTP2_FLAG_END_STREAM : 0, 1, message, 6);
    else if (half)
        raw_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "", 0);
    if (state == RESET)
        raw_reset(w, 1);
    assert_true(raw_flush(w, true));
    switch (state) {
    case RECEIVING:
    case PARTLY:
        assert_int_equal(only_call(w)->state, CALL_RECEIVING);
        break;
    case UNARY_RUNNING:
    case UNARY_HALF:
    case STREAM_RUNNING:
    case STREAM_HALF:
        assert_int_equal(only_call(w)->state, CALL_RUNNING);
        break;
    case SENDING:
    case SENDING_HALF:
        assert_int_equal(only_call(w)->state, CALL_SENDING);
        break;
    default:
        assert_null(only_call(w));
        break;
    }
}

static void send_frame(struct raw *w, enum frame frame, enum state state)
{
    uint8_t block[512];

    switch (frame) {
    case DATA:
    case DATA_END:
        if (state == PARTLY)
            raw_frame(w, NGHTTP2_DATA, frame == DATA ? 0 : NGHTTP2_FLAG_END_STREAM, 1, "abcdef", 6);
        else
            raw_frame(w, NGHTTP2_DATA, frame == DATA ? 0 : NGHTTP2_FLAG_END_STREAM, 1, message, 6);
        break;
    case EMPTY_END:
        raw_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "", 0);
        break;
    case TRAILERS:
        raw_frame(w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM, 1, block, put_header(block, "x-trailer", "1"));
        break;
    case HEADERS_AGAIN:
        raw_frame(w, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, block, put_header(block, "x-trailer", "1"));
        break;
    case RST:
        raw_reset(w, 1);
        break;
    case UPDATE:
        raw_frame(w, NGHTTP2_WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4);
        break;
    case UPDATE_ZERO:
        raw_frame(w, NGHTTP2_WINDOW_UPDATE, 0, 1, "\0\0\0\0", 4);
        break;
    case PRIORITY:
        raw_frame(w, NGHTTP2_PRIORITY, 0, 1, "\0\0\0\0\1", 5);
        break;
    case UNKNOWN:
        raw_frame(w, 0xfa, 0xff, 1, "anything", 8);
        break;
    case CONTINUATION:
        raw_frame(w, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, block, put_header(block, "a", "b"));
        break;
    case PUSH:
        raw_frame(w, NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1, "\0\0\0\2", 4);
        break;
    case GOAWAY:
        raw_frame(w, NGHTTP2_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
        break;
    case FRAMES:
        break;
    }
}

struct seen {
    unsigned handler_calls, messages, half_closes, ended, cancels;
    bool is_half_closed;
};

static struct seen look(struct raw *w)
{
    struct rig *r = w->rig;

    return (struct seen){r->handler_calls, r->messages, r->half_closes, r->ended, r->cancels, only_call(w) != NULL && only_call(w)->is_half_closed};
}

/* One letter for what happened. */
static char outcome(struct raw *w, struct seen before, bool had_call)
{
    struct seen after = look(w);
    bool has_call = only_call(w) != NULL;

    if (w->has_goaway)
        return '!';
    if (after.handler_calls > before.handler_calls || after.messages > before.messages)
        return 'm';
    if (had_call && !has_call)
        return w->frames[NGHTTP2_HEADERS] > 0 ? 'e' : 'x';
    if (after.half_closes > before.half_closes || after.is_half_closed != before.is_half_closed)
        return 'h';
    return '.';
}

static void let_go(struct raw *w)
{
    struct rpc_call *call = w->rig->call;

    if (w->rig->host.counters.calls_running > 0) {
        assert_true(call->is_held);
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
    }
}

static void every_frame_in_every_state(void **unused)
{
    (void)unused;
    for (enum state state = 0; state < STATES; state++)
        for (enum frame frame = 0; frame < FRAMES; frame++) {
            struct raw *w = raw_open();
            struct seen before;
            bool had_call, was_held;
            char got;

            enter(w, state);
            before = look(w);
            had_call = only_call(w) != NULL;
            was_held = w->rig->host.counters.calls_running > 0;
            memset(w->frames, 0, sizeof(w->frames));
            send_frame(w, frame, state);
            (void)raw_flush(w, true);
            got = outcome(w, before, had_call);
            if (got != table[state][frame]) {
                print_error("%s, %s: %c instead of %c\n", state_names[state], frame_names[frame], got, table[state][frame]);
                fail();
            }
            if (got == 'x' && was_held) /* the handler knows */
                assert_true(rpc_is_cancelled(w->rig->call));
            if (got != '!' && frame != GOAWAY) { /* the connection goes on */
                unsigned calls = w->rig->handler_calls;

                raw_call(w, 3, "/t.S/Early");
                raw_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 3, "\0\0\0\0\0", 5);
                if (was_held || got == 'm')
                    let_go(w);
                assert_true(raw_flush(w, true));
                assert_int_equal(w->rig->handler_calls, calls + 1);
            }
            let_go(w);
            raw_close(w);
        }
}

/* Between HEADERS and the end of its block only CONTINUATION may come. */
static void nothing_between_headers(void **unused)
{
    uint8_t block[512];

    (void)unused;
    for (enum frame frame = 0; frame < FRAMES; frame++) {
        struct raw *w = raw_open();
        size_t n = put_call(block, "/t.S/Early");

        raw_frame(w, NGHTTP2_HEADERS, 0, 1, block, n / 2);
        if (frame == CONTINUATION)
            raw_frame(w, NGHTTP2_CONTINUATION, NGHTTP2_FLAG_END_HEADERS, 1, block + n / 2, n - n / 2);
        else
            send_frame(w, frame, RECEIVING);
        (void)raw_flush(w, true);
        assert_true(w->has_goaway == (frame != CONTINUATION));
        raw_close(w);
    }
}

/* The same bytes in pieces of every size have the same effect. */
static void pieces(void **unused)
{
    (void)unused;
    for (size_t size = 1; size < 80; size++) {
        struct raw *w = raw_open();
        uint8_t all[1024];
        size_t len;

        raw_call(w, 1, "/t.S/Bidi");
        raw_frame(w, NGHTTP2_DATA, 0, 1, message, 6);
        raw_frame(w, NGHTTP2_DATA, 0, 1, "\0\0\0", 3);
        raw_frame(w, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, "\0\2yz\0\0\0\0\0", 9);
        len = w->len;
        memcpy(all, w->bytes, len);
        for (size_t at = 0; at < len; at += size) {
            size_t n = len - at < size ? len - at : size;

            memcpy(w->bytes, all + at, n);
            w->len = n;
            assert_true(raw_flush(w, true));
        }
        assert_int_equal(w->rig->messages, 3);
        assert_int_equal(w->rig->got_len, 3);
        assert_memory_equal(w->rig->got, "xyz", 3);
        assert_int_equal(w->rig->half_closes, 1);
        let_go(w);
        raw_close(w);
    }
}

/* A stream window that is overrun, and one that is opened too far. */
static void windows_are_kept(void **unused)
{
    uint8_t block[16384] = {0};
    struct raw *w = raw_open();

    (void)unused;
    raw_call(w, 1, "/t.S/Hold");
    for (int i = 0; i < 5; i++) /* an empty message; what follows is ignored, and its window not refunded */
        raw_frame(w, NGHTTP2_DATA, 0, 1, block, sizeof(block));
    (void)raw_flush(w, true);
    assert_int_equal(w->rst_code, NGHTTP2_FLOW_CONTROL_ERROR);
    assert_null(only_call(w));
    assert_true(rpc_is_cancelled(w->rig->call));
    let_go(w);
    raw_close(w);
    w = raw_open();
    raw_call(w, 1, "/t.S/Hold");
    raw_frame(w, NGHTTP2_WINDOW_UPDATE, 0, 1, "\x7f\xff\xff\xff", 4);
    (void)raw_flush(w, true);
    assert_int_equal(w->rst_code, NGHTTP2_FLOW_CONTROL_ERROR);
    assert_null(only_call(w));
    raw_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_in_every_state),
        cmocka_unit_test(nothing_between_headers),
        cmocka_unit_test(pieces),
        cmocka_unit_test(windows_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
