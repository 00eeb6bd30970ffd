/* Proves what a client sees and what a handler is told, for every kind of call: answers, refusals with their exact texts, streams
 * in both directions, draining, and that the last byte of budget comes back each time. nghttp2's client is at the other end, in
 * memory; the clock is turned by hand. Flow control, time and cancellation: grpc_flow_test.c. */
#include "rpc/rpc_rig.h"

static void unary_calls(void **state)
{
    static const size_t sizes[] = {0, 1, 12, 6143, 6144, 6145, 16379, 16384, 65531, 65536, 1 << 20, (1 << 20) + 1, 5 << 20, 32 << 20};
    struct rig *r = rig_open(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *m = rig_message_of(sizes[i], (uint8_t)i);
        struct rig_stream *s = rig_call(r, "/t.S/Echo", m, GRPC_PREFIX_LEN + sizes[i]);

        assert_status(s, "0", "");
        assert_handled(s);
        assert_int_equal(s->down_len, GRPC_PREFIX_LEN + sizes[i]);
        assert_memory_equal(s->down, m, s->down_len);
        assert_true(s->is_closed && s->error == 0 && !s->has_rst);
        assert_int_equal(r->ended, i + 1);
        assert_int_equal(r->ended_code, RPC_OK);
        free(m);
    }
    rig_close(r);
}

static void statuses(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s;

    (void)state;
    s = rig_call(r, "/t.S/Fail", "\0\0\0\0\0", 5);
    assert_status(s, "5", "tbtree: key not found%0A100%25 %C3%A4");
    assert_handled(s);
    assert_string_equal(s->details, "CAUSAXg");
    assert_int_equal(s->down_len, 0);
    assert_int_equal(r->ended_code, RPC_NOT_FOUND);
    assert_string_equal(r->ended_text, "tbtree: key not found\n100% \xc3\xa4");
    s = rig_call(r, "/t.S/Early", "\0\0\0\0\0", 5);
    assert_status(s, "13", "grpc: error unmarshalling request: x");
    assert_refused(s, "200");
    rig_close(r);
}

struct refusal {
    const char *method, *path, *content_type, *timeout, *encoding;
    const char *http, *status, *text;
};

static void refusals(void **state)
{
    static const struct refusal cases[] = {
        {"POST", "/t.S/Nope", "application/grpc", NULL, NULL, "200", "12", "unknown method Nope for service t.S"},
        {"POST", "/t.S/echo", "application/grpc", NULL, NULL, "200", "12", "unknown method echo for service t.S"},
        {"POST", "/t.X/Echo", "application/grpc", NULL, NULL, "200", "12", "unknown service t.X"},
        {"POST", "/a/b/c", "application/grpc", NULL, NULL, "200", "12", "unknown service a/b"},
        {"POST", "/Echo", "application/grpc", NULL, NULL, "200", "12", "malformed method name: \"/Echo\""},
        {"POST", "/", "application/grpc", NULL, NULL, "200", "12", "malformed method name: \"/\""},
        {"POST", "/t.S/Echo", "text/plain", NULL, NULL, "415", "3", "invalid gRPC request content-type \"text/plain\""},
        {"POST", "/t.S/Echo", NULL, NULL, NULL, "415", "3", "invalid gRPC request content-type \"\""},
        {"GET", "/t.S/Echo", "application/grpc", NULL, NULL, "405", "13", "Received a HEADERS frame with :method \"GET\" which should be POST"},
        {"GET", "/t.S/Echo", "text/html", NULL, NULL, "415", "3", "invalid gRPC request content-type \"text/html\""},
        {"POST", "/t.S/Echo", "application/grpc", "1", NULL, "400", "13", "malformed grpc-timeout: transport: timeout string is too short: \"1\""},
        {"POST", "/t.S/Echo", "application/grpc", "1x", NULL, "400", "13",
         "malformed grpc-timeout: transport: timeout unit is not recognized: \"1x\""},
        {"POST", "/t.S/Echo", "application/grpc", "123456789S", NULL, "400", "13",
         "malformed grpc-timeout: transport: timeout string is too long: \"123456789S\""},
        {"POST", "/t.S/Echo", "application/grpc", "a1S", NULL, "400", "13", "malformed grpc-timeout: transport: timeout is not a number: \"a1S\""},
        {"POST", "/t.S/Echo", "application/grpc", "0m", NULL, "200", "4", "context deadline exceeded"},
        {"POST", "/t.S/Echo", "application/grpc", NULL, "gzip", "200", "12", "grpc: Decompressor is not installed for grpc-encoding \"gzip\""},
        {"POST", "/t.S/Bidi", "application/grpc", NULL, "deflate", "200", "12", "grpc: Decompressor is not installed for grpc-encoding \"deflate\""},
    };
    struct rig *r = rig_open(NULL);

    (void)state;
    /* Once with a complete request, once with a client that is still sending, once with HEADERS that end the stream. */
    for (int form = 0; form < 3; form++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            const struct refusal *c = &cases[i];
            nghttp2_nv nv[8] = {rig_nv(":method", c->method), rig_nv(":scheme", "http"), rig_nv(":path", c->path), rig_nv(":authority", "h")};
            size_t n = 4;
            struct rig_stream *s;

            if (c->content_type != NULL)
                nv[n++] = rig_nv("content-type", c->content_type);
            if (c->timeout != NULL)
                nv[n++] = rig_nv("grpc-timeout", c->timeout);
            if (c->encoding != NULL)
                nv[n++] = rig_nv("grpc-encoding", c->encoding);
            s = rig_request(r, nv, n, form == 2 ? NULL : "\0\0\0\0\0", 5, form == 0);
            assert_true(rig_pump(r));
            assert_status(s, c->status, c->text);
            assert_refused(s, c->http);
            assert_true(s->is_closed);
            /* Told to stop, without error, when it was not done. */
            assert_true(s->has_rst == (form == 1));
            assert_int_equal(s->rst_code, NGHTTP2_NO_ERROR);
            assert_int_equal(r->handler_calls, 0);
        }
    rig_close(r);
}

static void identity_encoding_is_fine(void **state)
{
    struct rig *r = rig_open(NULL);
    nghttp2_nv nv[] = {rig_nv(":method", "POST"),
                       rig_nv(":scheme", "http"),
                       rig_nv(":path", "/t.S/Echo"),
                       rig_nv(":authority", "h"),
                       rig_nv("content-type", "application/grpc+proto"),
                       rig_nv("grpc-encoding", "identity"),
                       rig_nv("grpc-accept-encoding", "identity,deflate,gzip"),
                       rig_nv("grpc-timeout", "1H")};
    struct rig_stream *s = rig_request(r, nv, sizeof(nv) / sizeof(nv[0]), "\0\0\0\0\1x", 6, true);

    (void)state;
    rig_pump(r);
    assert_status(s, "0", "");
    rig_close(r);
}

static void bad_messages(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *status, *text;
    } cases[] = {
        {"", 0, "2", "EOF"},
        {"\0\0", 2, "13", "unexpected EOF"},
        {"\0\0\0\0\2x", 6, "13", "unexpected EOF"},
        {"\1\0\0\0\1x", 6, "13", "grpc: compressed flag set with identity or empty encoding"},
        {"\7\0\0\0\1x", 6, "13", "grpc: received unexpected payload format 7"},
        {"\0\2\0\0\x0f", 5, "8", "grpc: received message larger than max (33554447 vs. 33554432)"},
        {"\0\xff\xff\xff\xff", 5, "8", "grpc: received message larger than max (4294967295 vs. 33554432)"},
    };
    static const char *const paths[] = {"/t.S/Echo", "/t.S/Server", "/t.S/Client", "/t.S/Bidi"};
    struct rig *r = rig_open(NULL);

    (void)state;
    for (size_t p = 0; p < 4; p++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
            for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
                struct rig_stream *s;

                if (p >= 2 && cases[i].len == 0)
                    continue; /* an empty stream is a fine stream */
                r->half_closes = 0;
                if (one_by_one) {
                    s = rig_begin(r, paths[p], cases[i].bytes, cases[i].len > 0 ? 1 : 0, cases[i].len == 0, NULL);
                    rig_pump(r);
                    for (size_t at = 1; at < cases[i].len && !s->is_closed; at++)
                        rig_more(r, s, cases[i].bytes + at, 1, at + 1 == cases[i].len);
                } else {
                    s = rig_call(r, paths[p], cases[i].bytes, cases[i].len);
                }
                assert_status(s, cases[i].status, cases[i].text);
                if (p == 0)
                    assert_refused(s, "200");
                else
                    assert_handled(s);
                assert_int_equal(r->half_closes, p >= 2);
                if (p >= 2) { /* the handler was told, and still holds it */
                    assert_true(r->cancelled_at_half_close && rpc_is_cancelled(r->call));
                    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
                }
                assert_int_equal(r->ended_code, strtol(cases[i].status, NULL, 10));
            }
    rig_close(r);
}

static void extra_messages_are_ignored(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_call(r, "/t.S/Echo", "\0\0\0\0\1x\0\0\0\0\1y\0\0", 14);

    (void)state;
    assert_status(s, "0", "");
    assert_int_equal(s->down_len, 6);
    assert_memory_equal(s->down, "\0\0\0\0\1x", 6);
    /* Answered as soon as the message is there; then the client is told to stop. */
    s = rig_begin(r, "/t.S/Echo", "\0\0\0\0\1x", 6, false, NULL);
    rig_pump(r);
    assert_status(s, "0", "");
    assert_true(s->is_closed && s->has_rst && s->rst_code == NGHTTP2_NO_ERROR);
    rig_close(r);
}

static void byte_by_byte(void **state)
{
    static const uint8_t request[] = "\0\0\0\0\12abcdefghij";
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_begin(r, "/t.S/Echo", request, 1, false, NULL);

    (void)state;
    rig_pump(r);
    for (size_t i = 1; i < 15; i++) {
        assert_int_equal(r->handler_calls, 0);
        rig_more(r, s, request + i, 1, false);
    }
    assert_int_equal(r->handler_calls, 1);
    assert_status(s, "0", "");
    assert_memory_equal(s->down, request, 15);
    rig_close(r);
}

static void metadata(void **state)
{
    struct rig *r = rig_open(NULL);
    nghttp2_nv nv[] = {rig_nv(":method", "POST"),
                       rig_nv(":scheme", "http"),
                       rig_nv(":path", "/t.S/Hold"),
                       rig_nv(":authority", "h"),
                       rig_nv("content-type", "application/grpc"),
                       rig_nv("sessionid", "abc"),
                       rig_nv("sessionid", "second"),
                       rig_nv("empty", ""),
                       rig_nv("a-bin", "Zm9v"),
                       rig_nv("b-bin", "Zm8="),
                       rig_nv("c-bin", "Zg,Zm8"),
                       rig_nv("d-bin", "!!!"),
                       rig_nv("user-agent", "grpc-go/1")};
    struct bytes v;
    struct err err;

    (void)state;
    rig_request(r, nv, sizeof(nv) / sizeof(nv[0]), "\0\0\0\0\0", 5, true);
    rig_pump(r);
    assert_true(bytes_equal(rpc_metadata(r->call, "sessionid"), bytes_str("abc")));
    v = rpc_metadata(r->call, "empty");
    assert_true(v.data != NULL && v.len == 0);
    assert_null(rpc_metadata(r->call, "absent").data);
    assert_true(bytes_equal(rpc_metadata(r->call, "a-bin"), bytes_str("foo")));
    assert_true(bytes_equal(rpc_metadata(r->call, "b-bin"), bytes_str("fo")));
    assert_true(bytes_equal(rpc_metadata(r->call, "c-bin"), bytes_str("f")));
    assert_null(rpc_metadata(r->call, "d-bin").data);
    assert_true(bytes_equal(rpc_metadata(r->call, "user-agent"), bytes_str("grpc-go/1")));
    assert_string_equal(rpc_peer(r->call), "127.0.0.1:1234");
    assert_true(rpc_is_loopback(r->call));
    assert_null(rpc_tls_peer_cert(r->call));
    assert_int_equal(rpc_reactor_index(r->call), 0);
    assert_true(rpc_deadline_ns(r->call) == UINT64_MAX);
    assert_true(rpc_started_ns(r->call) == r->now_ns);
    assert_string_equal(rpc_method(r->call)->path, "/t.S/Hold");
    assert_ptr_equal(rpc_call_of_job(rpc_job(r->call)), r->call);
    rpc_set_state(r->call, r);
    assert_ptr_equal(rpc_state(r->call), r);
    *rpc_conn_slot(r->call) = r;
    assert_int_equal(rpc_trailer(r->call, "x-extra", bytes_str("value"), &err), ST_OK);
    assert_int_equal(rpc_trailer(r->call, "Upper", bytes_str("value"), &err), ST_INVALID);
    assert_int_equal(rpc_trailer(r->call, "x-line", bytes_str("a\nb"), &err), ST_INVALID);
    rpc_finish(r->call, RPC_OK, NULL, bytes_of(NULL, 0));
    rig_pump(r);
    assert_string_equal(r->streams[0].extra, "value");
    rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
    assert_ptr_equal(*rpc_conn_slot(r->call), r); /* kept between calls */
    assert_int_equal(rpc_trailer(r->call, "x-bin", bytes_str("foo"), &err), ST_OK);
    rpc_finish(r->call, RPC_OK, NULL, bytes_of(NULL, 0));
    rig_pump(r);
    assert_string_equal(r->streams[1].extra, "Zm9v");
    rig_disconnect(r);
    assert_int_equal(r->slots_freed, 1);
    rig_close(r);
}

static void server_stream(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_call(r, "/t.S/Server", "\0\0\0\0\1x", 6);
    size_t at = 0;

    (void)state;
    assert_int_equal(s->headers_frames, 0); /* the handler may still refuse */
    assert_int_equal(rpc_send(r->call, bytes_str("one")), 8);
    rig_pump(r);
    assert_int_equal(s->headers_frames, 1);
    assert_true(bytes_equal(rig_payload(s, &at), bytes_str("one")));
    assert_int_equal(rpc_send(r->call, bytes_str("two")), 8);
    assert_int_equal(rpc_send(r->call, bytes_str("")), 13);
    assert_int_equal(rpc_send_owned(r->call, (uint8_t *)strdup("three"), 5), 23);
    rig_pump(r);
    assert_true(bytes_equal(rig_payload(s, &at), bytes_str("two")));
    assert_int_equal(rig_payload(s, &at).len, 0);
    assert_true(bytes_equal(rig_payload(s, &at), bytes_str("three")));
    assert_false(s->has_end);
    rpc_finish(r->call, RPC_OK, "", bytes_of(NULL, 0));
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "0", "");
    /* An error after messages. */
    s = rig_call(r, "/t.S/Server", "\0\0\0\0\1x", 6);
    rpc_send(r->call, bytes_str("one"));
    rpc_finish_early(r->call, RPC_ABORTED, "too late to be early");
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "10", "too late to be early");
    /* Nothing but a status. */
    s = rig_call(r, "/t.S/Server", "\0\0\0\0\1x", 6);
    rpc_finish(r->call, RPC_ABORTED, "at once", bytes_of(NULL, 0));
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "10", "at once");
    rig_close(r);
}

static void client_stream(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_begin(r, "/t.S/Client", "\0\0\0\0\2ab\0\0\0\0\0\0\0\0", 15, false, NULL);

    (void)state;
    rig_pump(r);
    assert_int_equal(s->headers_frames, 1); /* a client may wait for them */
    assert_string_equal(s->uuid, RIG_UUID);
    assert_int_equal(r->messages, 2);
    rig_more(r, s, "\0\3cde", 5, false);
    assert_int_equal(r->messages, 3);
    assert_int_equal(r->half_closes, 0);
    rig_more(r, s, "\0\0\0\0\1f", 6, true);
    assert_int_equal(r->messages, 4);
    assert_memory_equal(r->got, "abcdef", 6);
    assert_int_equal(r->half_closes, 1);
    assert_false(r->cancelled_at_half_close);
    rpc_reply(r->call, bytes_str("sum"));
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "0", "");
    assert_memory_equal(s->down, "\0\0\0\0\3sum", 8);
    /* HEADERS that end the stream: an empty stream. */
    s = rig_begin(r, "/t.S/Client", NULL, 0, true, NULL);
    rig_pump(r);
    assert_int_equal(r->half_closes, 2);
    rpc_finish(r->call, RPC_INVALID_ARGUMENT, "illegal arguments", bytes_of(NULL, 0));
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "3", "illegal arguments");
    rig_close(r);
}

static void unary_headers_that_end_the_stream(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_begin(r, "/t.S/Echo", NULL, 0, true, NULL);

    (void)state;
    rig_pump(r);
    assert_status(s, "2", "EOF");
    assert_refused(s, "200");
    s = rig_begin(r, "/t.S/Server", NULL, 0, true, NULL);
    rig_pump(r);
    assert_status(s, "2", "EOF");
    assert_handled(s);
    rig_close(r);
}

static void error_while_the_client_sends(void **state)
{
    struct rig *r = rig_open(NULL);
    uint8_t *big = rig_message_of(3 << 20, 1);
    struct rig_stream *s = rig_begin(r, "/t.S/Client", "\0\0\0\0\1x", 6, false, NULL);

    (void)state;
    rig_pump(r);
    rpc_finish(r->call, RPC_FAILED_PRECONDITION, "no more", bytes_of(NULL, 0));
    rig_pump(r);
    assert_handled(s);
    assert_status(s, "9", "no more");
    assert_true(s->is_closed && s->has_rst && s->rst_code == NGHTTP2_NO_ERROR);
    /* Others go on, also those with much to send. */
    s = rig_call(r, "/t.S/Echo", big, GRPC_PREFIX_LEN + (3 << 20));
    assert_status(s, "0", "");
    free(big);
    rig_close(r);
}

static void bidi(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *s = rig_begin(r, "/t.S/Bidi", "\0\0\0\0\1a", 6, false, NULL);
    size_t at = 0;

    (void)state;
    rig_pump(r);
    for (int i = 0; i < 50; i++) {
        rpc_send_owned(r->call, (uint8_t *)strdup("answer"), 6);
        rig_pump(r);
        assert_true(bytes_equal(rig_payload(s, &at), bytes_str("answer")));
        rig_more(r, s, "\0\0\0\0\1b", 6, false);
        assert_int_equal(r->messages, i + 2);
    }
    rig_more(r, s, "", 0, true);
    assert_int_equal(r->half_closes, 1);
    rpc_send(r->call, bytes_str("last"));
    rpc_finish(r->call, RPC_UNKNOWN, "EOF", bytes_of(NULL, 0));
    rig_pump(r);
    assert_true(bytes_equal(rig_payload(s, &at), bytes_str("last")));
    assert_handled(s);
    assert_status(s, "2", "EOF");
    rig_close(r);
}

static void draining(void **state)
{
    struct rig *r = rig_open(NULL);
    struct rig_stream *held = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5), *late;
    struct rpc_call *call = r->call;

    (void)state;
    atomic_store(&r->service->is_draining, true);
    /* Between the notice and the second GOAWAY a call may still arrive: it is refused. */
    late = rig_begin(r, "/t.S/Echo", "\0\0\0\0\0", 5, true, NULL);
    {
        const uint8_t *chunk;
        ssize_t n;

        grpc_conn_drain(&r->conn);
        while ((n = nghttp2_session_mem_send(r->client, &chunk)) > 0)
            assert_true(grpc_conn_feed(&r->conn, chunk, (size_t)n));
    }
    assert_true(rig_pump(r));
    assert_status(late, "14", "the server is shutting down");
    assert_refused(late, "200");
    assert_int_equal(r->goaways, 2);
    assert_int_equal(r->goaway_last, late->id);
    assert_int_equal(r->goaway_error, NGHTTP2_NO_ERROR);
    assert_false(grpc_conn_is_over(&r->conn)); /* one call is still running */
    rpc_reply(call, bytes_str("done"));
    rig_pump(r);
    assert_status(held, "0", "");
    assert_true(grpc_conn_is_over(&r->conn));
    rig_close(r);
}

static void long_texts(void **state)
{
    struct rig *r = rig_open(NULL);
    char *text = malloc(100001);
    uint8_t *details = calloc(1, 100000);
    struct rig_stream *s;

    (void)state;
    assert_true(text != NULL && details != NULL);
    memset(text, 'a', 100000);
    text[100000] = '\0';
    s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
    rpc_finish(r->call, RPC_UNKNOWN, text, bytes_of(details, 100000));
    rig_pump(r);
    assert_string_equal(s->grpc_status, "2");
    assert_int_equal(strlen(s->message), GRPC_MESSAGE_TEXT_MAX);
    assert_string_equal(s->details, ""); /* too long to be sent: the status goes without */
    memset(text, '\n', 100000);
    s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);
    rpc_finish(r->call, RPC_UNKNOWN, text, bytes_of(NULL, 0));
    rig_pump(r);
    assert_int_equal(strlen(s->message), GRPC_MESSAGE_TEXT_MAX / 3 * 3);
    free(text);
    free(details);
    rig_close(r);
}

static void every_code(void **state)
{
    struct rig *r = rig_open(NULL);

    (void)state;
    for (int code = 0; code <= 16; code++) {
        struct rig_stream *s = rig_call(r, "/t.S/Hold", "\0\0\0\0\0", 5);

        rpc_finish(r->call, (enum rpc_code)code, code == 0 ? "" : "text", bytes_of(NULL, 0));
        rig_pump(r);
        assert_int_equal(strtol(s->grpc_status, NULL, 10), code);
        assert_int_equal(r->ended_code, code);
    }
    rig_close(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_calls),
        cmocka_unit_test(statuses),
        cmocka_unit_test(refusals),
        cmocka_unit_test(identity_encoding_is_fine),
        cmocka_unit_test(bad_messages),
        cmocka_unit_test(extra_messages_are_ignored),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(metadata),
        cmocka_unit_test(server_stream),
        cmocka_unit_test(client_stream),
        cmocka_unit_test(unary_headers_that_end_the_stream),
        cmocka_unit_test(error_while_the_client_sends),
        cmocka_unit_test(bidi),
        cmocka_unit_test(draining),
        cmocka_unit_test(long_texts),
        cmocka_unit_test(every_code),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
