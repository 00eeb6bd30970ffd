/* A peer that does wrong, from a script: whatever it sends, the client says what is wrong and stays usable or dead, within its bounds; and the same
 * when memory runs out at any allocation, its own and nghttp2's. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "client/client_internal.h"
#include "client/client_script.h"

#include <stdio.h>

static struct client *open_client(size_t message_bytes_max)
{
    struct client_options o = {.host = "h", .port = 1, .env = env_system(), .message_bytes_max = message_bytes_max, .stream_window_bytes = 1 << 17};
    struct client *c = NULL;
    struct err err;

    if (client_open(&o, &c, &err) != ST_OK)
        fail_msg("%s", err.text);
    return c;
}

static void settings(void)
{
    script_begin();
    script_frame(FRAME_SETTINGS, 0, 0, NULL, 0);
    script_frame(FRAME_SETTINGS, 1, 0, NULL, 0); /* acknowledges the client's */
}

/* One unary call against the script. */
static enum status call(struct client *c, struct bytes *answer, struct client_status *status, struct err *err)
{
    return client_unary(c, "/t.S/M", bytes_str("request"), UINT64_MAX, answer, status, err);
}

static void expect_code(enum rpc_code code, const char *text)
{
    struct client *c = open_client(0);
    struct client_status status;
    struct bytes answer;
    struct err err;

    if (call(c, &answer, &status, &err) != ST_OK)
        fail_msg("%s", err.text);
    assert_int_equal(status.code, code);
    if (strstr(status.message, text) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", text, status.message);
    client_close(c);
}

static void expect_status(enum status st, const char *text)
{
    struct client *c = open_client(1 << 20);
    struct client_status status;
    struct bytes answer;
    struct err err;
    enum status got = call(c, &answer, &status, &err);

    if (got != st || strstr(err.text, text) == NULL)
        fail_msg("%s: \"%s\", expected %s: \"%s\"", status_name(got), got != ST_OK ? err.text : "", status_name(st), text);
    assert_int_equal(answer.len, 0);
    client_close(c);
}

static void good_answers(void **state)
{
    struct client *c;
    struct client_status status;
    struct bytes answer;
    struct err err;

    (void)state;
    for (size_t piece = 1; piece < 100; piece++) { /* cut anywhere */
        settings();
        script.piece = piece;
        script_answer(1, "200");
        script_frame(FRAME_DATA, 0, 1, "\0\0\0\0\3ab", 7);
        script_frame(FRAME_PING, 0, 0, "12345678", 8);
        script_frame(FRAME_DATA, 0, 1, "c", 1);
        script_trailers(1, "0", "");
        script_gate();
        script_answer(3, "200");
        script_frame(FRAME_DATA, 0, 3, "\0\0\0\0\0", 5);
        script_trailers(3, "0", "");
        c = open_client(0);
        assert_int_equal(call(c, &answer, &status, &err), ST_OK);
        assert_int_equal(status.code, RPC_OK);
        assert_true(bytes_equal(answer, bytes_str("abc")));
        assert_int_equal(call(c, &answer, &status, &err), ST_OK);
        assert_int_equal(status.code, RPC_OK);
        assert_int_equal(answer.len, 0);
        assert_int_equal(call(c, &answer, &status, &err), ST_CLOSED); /* the script is over */
        assert_int_equal(call(c, &answer, &status, &err), ST_CLOSED); /* and stays so */
        client_close(c);
    }
}

static void statuses(void **state)
{
    char long_text[900];

    (void)state;
    settings();
    script_answer(1, "200");
    script_trailers(1, "5", "a%20b%0Ac%zz%4");
    expect_code(RPC_NOT_FOUND, "a b c%zz%4");
    settings();
    script_answer(1, "200");
    script_trailers(1, "7", "%1b[31mred%7f%00end");
    expect_code(RPC_PERMISSION_DENIED, "?[31mred??end"); /* nothing for the terminal to obey */
    settings();
    script_answer(1, "200");
    script_trailers(1, "7", "%c3%a4%c2%9b31m");
    expect_code(RPC_PERMISSION_DENIED, "\xc3\xa4?31m");
    settings();
    script_trailers(1, "99", "x");
    expect_code(RPC_INTERNAL, "PROTOCOL_ERROR"); /* no :status at all: nghttp2 resets it */
    settings();
    script_answer(1, "200");
    script_trailers(1, "99", "x");
    expect_code(RPC_UNKNOWN, "x");
    settings();
    script_answer(1, "200");
    script_trailers(1, "-1", "x");
    expect_code(RPC_INTERNAL, "without a status");
    settings();
    script_answer(1, "200");
    script_trailers(1, "000", "x");
    expect_code(RPC_INTERNAL, "without a status");
    memset(long_text, 'y', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    settings();
    script_answer(1, "200");
    script_trailers(1, "2", long_text);
    expect_code(RPC_UNKNOWN, "yyyy");
    settings();
    script_answer(1, "404");
    script_frame(FRAME_DATA, END_STREAM, 1, "not found", 9);
    expect_code(RPC_UNIMPLEMENTED, "404");
    settings();
    script_answer(1, "503");
    script_frame(FRAME_RST_STREAM, 0, 1, "\0\0\0\0", 4);
    expect_code(RPC_UNAVAILABLE, "503");
    settings();
    script_frame(FRAME_RST_STREAM, 0, 1, "\0\0\0\7", 4);
    expect_code(RPC_UNAVAILABLE, "REFUSED_STREAM");
    settings();
    script_answer(1, "200");
    script_frame(FRAME_RST_STREAM, 0, 1, "\0\0\0\10", 4);
    expect_code(RPC_CANCELLED, "CANCEL");
}

static void wrong_messages(void **state)
{
    uint8_t big[16000];

    (void)state;
    settings();
    script_answer(1, "200");
    script_frame(FRAME_DATA, END_STREAM, 1, "\0\0\0\0\5abc", 8);
    expect_code(RPC_INTERNAL, "without a status");
    settings();
    script_answer(1, "200");
    script_frame(FRAME_DATA, 0, 1, "\0\0\0\0\5abc", 8);
    script_trailers(1, "0", "");
    expect_code(RPC_INTERNAL, "cut short");
    settings();
    script_answer(1, "200");
    script_trailers(1, "0", "");
    expect_status(ST_CORRUPT, "without a message");
    settings();
    script_answer(1, "200");
    script_frame(FRAME_DATA, 0, 1, "\1\0\0\0\3abc", 8);
    script_trailers(1, "0", "");
    expect_status(ST_CORRUPT, "compressed");
    settings();
    script_answer(1, "200");
    script_frame(FRAME_DATA, 0, 1, "\0\377\377\377\377abc", 8);
    expect_status(ST_LIMIT, "4294967295 bytes");
    settings();
    script_answer(1, "200");
    memset(big, 0, sizeof big);
    for (int i = 0; i < 20; i++) /* more than the window, and nobody takes it */
        script_frame(FRAME_DATA, 0, 1, big, sizeof big);
    script_trailers(1, "0", "");
    expect_code(RPC_INTERNAL, "FLOW_CONTROL_ERROR");
}

static void wrong_headers(void **state)
{
    uint8_t block[16000], value[15000];
    size_t len;

    (void)state;
    memset(value, 'v', sizeof value);
    settings(); /* 100 lines */
    script_answer(1, "200");
    len = script_header(block, "grpc-status", "0", 1);
    for (int i = 0; i < 100; i++)
        len += script_header(block + len, "x", "y", 1);
    script_frame(FRAME_HEADERS, END_HEADERS | END_STREAM, 1, block, len);
    expect_code(RPC_RESOURCE_EXHAUSTED, "headers of the answer");
    settings(); /* 75,000 bytes in interim answers and the answer */
    for (int i = 0; i < 5; i++) {
        len = script_header(block, ":status", i < 4 ? "103" : "200", 3);
        len += script_header(block + len, "x", value, sizeof value);
        script_frame(FRAME_HEADERS, END_HEADERS, 1, block, len);
    }
    expect_code(RPC_RESOURCE_EXHAUSTED, "headers of the answer");
}

static void wrong_frames(void **state)
{
    (void)state;
    script_begin();
    script_raw("HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    expect_status(ST_CORRUPT, "HTTP/2");
    settings();
    script_answer(3, "200"); /* nobody called */
    expect_status(ST_CORRUPT, "HTTP/2");
    settings();
    script_frame(FRAME_HEADERS, END_HEADERS, 1, "\377\377\377\377\377\377\377", 7);
    expect_status(ST_CORRUPT, "HTTP/2");
    settings();
    script_frame(FRAME_WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4);
    expect_status(ST_CORRUPT, "HTTP/2");
    settings();
    script_frame(FRAME_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
    expect_code(RPC_UNAVAILABLE, "REFUSED_STREAM");
    settings();
    expect_status(ST_CLOSED, "script is over");
    settings();
    for (int i = 0; i < 3000; i++) /* faster than anybody can answer them */
        script_frame(FRAME_PING, 0, 0, "12345678", 8);
    expect_status(ST_CORRUPT, "HTTP/2");
}

/* A stream whose messages are taken one by one; a message stays while others arrive, and its size is the bound of what is held. */
static void streams(void **state)
{
    struct client *c;
    struct client_call *call_;
    struct client_status status;
    struct bytes message, answer;
    struct err err;
    uint8_t chunk[5 + 3000] = {0, 0, 0, 3000 >> 8, 3000 & 255};
    bool is_end;

    (void)state;
    settings();
    script.piece = 7000;
    script_answer(1, "200");
    for (int i = 0; i < 40; i++) {
        memset(chunk + 5, 'a' + i % 26, 3000);
        script_frame(FRAME_DATA, 0, 1, chunk, sizeof chunk);
    }
    script_gate();
    script_answer(3, "200");
    script_frame(FRAME_DATA, 0, 3, "\0\0\0\0\2ok", 7);
    script_trailers(3, "0", "");
    script_trailers(1, "0", "");
    c = open_client(4000);
    assert_int_equal(client_call_open(c, "/t.S/Stream", UINT64_MAX, &call_, &err), ST_OK);
    assert_int_equal(client_call_send(call_, bytes_str("go"), UINT64_MAX, &err), ST_OK);
    assert_int_equal(client_call_finish(call_, &err), ST_OK);
    assert_int_equal(client_call_recv(call_, UINT64_MAX, &message, &is_end, &err), ST_OK);
    assert_false(is_end);
    assert_int_equal(message.len, 3000);
    /* Another call brings the whole rest of the first one's messages in; the one that was handed out does not move. */
    assert_int_equal(call(c, &answer, &status, &err), ST_OK);
    assert_true(bytes_equal(answer, bytes_str("ok")));
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(message.data[i], 'a');
    for (int i = 1; i < 40; i++) {
        assert_int_equal(client_call_recv(call_, UINT64_MAX, &message, &is_end, &err), ST_OK);
        assert_false(is_end);
        assert_int_equal(message.len, 3000);
        assert_int_equal(message.data[2999], 'a' + i % 26);
    }
    assert_int_equal(client_call_recv(call_, UINT64_MAX, &message, &is_end, &err), ST_OK);
    assert_true(is_end);
    assert_int_equal(client_call_status(call_)->code, RPC_OK);
    assert_int_equal(client_call_bytes(call_), 40 * 3005);
    client_call_free(call_);
    client_close(c);
}

/* Calls that are given up: their streams are reset, what still comes for them is dropped, the connection goes on. */
static void given_up(void **state)
{
    struct client *c;
    struct client_call *first;
    struct client_status status;
    struct bytes answer;
    struct err err;

    (void)state;
    settings();
    script_answer(1, "200");
    script_frame(FRAME_DATA, 0, 1, "\0\0\0\0\1x", 6);
    script_gate();
    script_answer(3, "200");
    script_frame(FRAME_DATA, 0, 3, "\0\0\0\0\2ok", 7);
    script_trailers(3, "0", "");
    c = open_client(0);
    assert_int_equal(client_call_open(c, "/t.S/Stream", UINT64_MAX, &first, &err), ST_OK);
    assert_int_equal(client_call_send(first, bytes_str("go"), UINT64_MAX, &err), ST_OK);
    assert_int_equal(client_flush(c, &err), ST_OK);
    client_call_free(first);
    assert_null(c->calls);
    assert_int_equal(call(c, &answer, &status, &err), ST_OK);
    assert_true(bytes_equal(answer, bytes_str("ok")));
    client_close(c);
    settings(); /* given up before it was sent; and never taken back by the peer */
    c = open_client(0);
    assert_int_equal(client_call_open(c, "/t.S/Stream", UINT64_MAX, &first, &err), ST_OK);
    client_call_free(first);
    client_close(c);
    settings(); /* silence */
    script.is_silent_at_end = true;
    c = open_client(0);
    assert_int_equal(call(c, &answer, &status, &err), ST_TIMEOUT);
    assert_int_equal(call(c, &answer, &status, &err), ST_TIMEOUT);
    client_close(c);
}

static void metadata_bounds(void **state)
{
    struct client *c;
    struct err err;
    char name[8];

    (void)state;
    settings();
    c = open_client(0);
    for (int i = 0; i < CLIENT_METADATA_MAX; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(client_metadata_set(c, name, "value", &err), ST_OK);
        assert_int_equal(client_metadata_set(c, name, "other", &err), ST_OK);
    }
    assert_int_equal(client_metadata_set(c, "more", "value", &err), ST_LIMIT);
    assert_int_equal(client_metadata_set(c, "n3", NULL, &err), ST_OK);
    assert_int_equal(client_metadata_set(c, "never", NULL, &err), ST_OK);
    assert_int_equal(client_metadata_set(c, "more", "value", &err), ST_OK);
    client_close(c);
}

/* A call, a stream and a refused call with the n-th allocation failing, for every n: ST_NOMEM or success, nothing lost, nothing twice. */
static bool workload(void)
{
    struct client_options o = {.host = "host", .port = 1, .env = env_system(), .stream_window_bytes = 1 << 17};
    struct client *c = NULL;
    struct client_call *call_ = NULL;
    struct client_status status;
    struct bytes answer, message;
    struct err err;
    bool is_end = false;
    enum status st;

    if ((st = client_open(&o, &c, &err)) != ST_OK || (st = client_metadata_set(c, "sessionid", "abc", &err)) != ST_OK)
        goto done;
    if ((st = call(c, &answer, &status, &err)) != ST_OK)
        goto done;
    assert_true(status.code == RPC_OK && bytes_equal(answer, bytes_str("abc")));
    if ((st = client_call_open(c, "/t.S/Stream", UINT64_MAX, &call_, &err)) != ST_OK ||
        (st = client_call_send(call_, bytes_str("go"), UINT64_MAX, &err)) != ST_OK || (st = client_call_finish(call_, &err)) != ST_OK)
        goto done;
    for (size_t count = 0; st == ST_OK && !is_end; count++)
        if ((st = client_call_recv(call_, UINT64_MAX, &message, &is_end, &err)) == ST_OK)
            assert_true(is_end ? count == 20 : message.len == 6000);
done:
    if (st != ST_OK && st != ST_NOMEM)
        fail_msg("%s: %s", status_name(st), err.text);
    client_call_free(call_);
    client_close(c);
    return st == ST_OK;
}

static void no_memory(void **state)
{
    uint8_t chunk[6005] = {0, 0, 0, 6000 >> 8, 6000 & 255};
    bool done = false;

    (void)state;
    for (long n = 1; !done; n++) {
        settings();
        script.piece = 3001;
        script_answer(1, "200");
        script_frame(FRAME_DATA, 0, 1, "\0\0\0\0\3abc", 8);
        script_trailers(1, "0", "fine");
        script_gate();
        script_answer(3, "200");
        for (int i = 0; i < 20; i++)
            script_frame(FRAME_DATA, 0, 3, chunk, sizeof chunk);
        script_trailers(3, "0", "");
        alloc_fail_arm(n, n % 2 == 0);
        done = workload();
        done = !alloc_fail_disarm() && done;
        assert_true(n < 2000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_answers),  cmocka_unit_test(statuses),        cmocka_unit_test(wrong_messages),
        cmocka_unit_test(wrong_headers), cmocka_unit_test(wrong_frames),    cmocka_unit_test(streams),
        cmocka_unit_test(given_up),      cmocka_unit_test(metadata_bounds), cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
