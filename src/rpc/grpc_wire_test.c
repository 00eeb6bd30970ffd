/* Proves the small encodings against examples from the gRPC and RFC 4648 texts, and each pair of encode and decode against each
 * other over random input. */
#include "base/test.h"
#include "rpc/grpc_wire.h"

#include <stdio.h>

static uint64_t timeout_ns(const char *text, enum grpc_timeout_result want)
{
    uint64_t ns = 1;

    assert_int_equal(grpc_timeout_parse(bytes_str(text), &ns), want);
    return ns;
}

static void timeouts(void **state)
{
    (void)state;
    assert_int_equal(timeout_ns("1H", GRPC_TIMEOUT_OK), UINT64_C(3600000000000));
    assert_int_equal(timeout_ns("2M", GRPC_TIMEOUT_OK), UINT64_C(120000000000));
    assert_int_equal(timeout_ns("3S", GRPC_TIMEOUT_OK), UINT64_C(3000000000));
    assert_int_equal(timeout_ns("4m", GRPC_TIMEOUT_OK), 4000000);
    assert_int_equal(timeout_ns("5u", GRPC_TIMEOUT_OK), 5000);
    assert_int_equal(timeout_ns("6n", GRPC_TIMEOUT_OK), 6);
    assert_int_equal(timeout_ns("0S", GRPC_TIMEOUT_OK), 0);
    assert_int_equal(timeout_ns("99999999n", GRPC_TIMEOUT_OK), 99999999);
    /* 99,999,999 hours do not fit 64 bits of nanoseconds: never. */
    assert_int_equal(timeout_ns("99999999H", GRPC_TIMEOUT_OK), UINT64_MAX);
    assert_int_equal(timeout_ns("", GRPC_TIMEOUT_SHORT), 0);
    assert_int_equal(timeout_ns("S", GRPC_TIMEOUT_SHORT), 0);
    assert_int_equal(timeout_ns("999999999S", GRPC_TIMEOUT_LONG), 0);
    assert_int_equal(timeout_ns("1s", GRPC_TIMEOUT_UNIT), 0);
    assert_int_equal(timeout_ns("11", GRPC_TIMEOUT_UNIT), 0);
    assert_int_equal(timeout_ns("-1S", GRPC_TIMEOUT_DIGITS), 0);
    assert_int_equal(timeout_ns("1 S", GRPC_TIMEOUT_DIGITS), 0);
}

static void assert_encoded(const char *text, size_t max, const char *want)
{
    uint8_t out[256];
    size_t len = grpc_message_encode(bytes_str(text), out, max);

    assert_int_equal(len, strlen(want));
    assert_memory_equal(out, want, len);
}

static void messages(void **state)
{
    (void)state;
    assert_encoded("", 256, "");
    assert_encoded("plain ~ text", 256, "plain ~ text");
    assert_encoded("50%\n\x7f", 256, "50%25%0A%7F");
    assert_encoded("\xc3\xa4", 256, "%C3%A4");
    assert_encoded("\xff\x80", 256, "%FF%80");
    assert_int_equal(grpc_message_encoded_len(bytes_str("50%\n\xc3\xa4")), 2 + 3 + 3 + 6);
    /* Cut: no half escape, no half character. */
    assert_encoded("ab%", 4, "ab");
    assert_encoded("ab%", 5, "ab%25");
    assert_encoded("a\xe2\x82\xac", 9, "a");
    assert_encoded("a\xe2\x82\xac", 10, "a%E2%82%AC");
    assert_encoded("a\xe2\x82", 6, "a");
    assert_encoded("a\xe2\x82", 7, "a%E2%82");
    assert_encoded("abc", 0, "");
}

/* What a client does with grpc-message. */
static size_t percent_decode(const uint8_t *in, size_t len, uint8_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned v = in[i];

        if (in[i] == '%') {
            assert_true(i + 2 < len);
            assert_int_equal(sscanf((const char *)in + i + 1, "%2X", &v), 1);
            i += 2;
        }
        out[n++] = (uint8_t)v;
    }
    return n;
}

static void messages_come_back(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint8_t text[64], out[192], back[192];
        size_t len = test_random(&seed) % 64, n;

        test_random_fill(&seed, text, len);
        n = grpc_message_encode(bytes_of(text, len), out, sizeof(out));
        assert_int_equal(n, grpc_message_encoded_len(bytes_of(text, len)));
        for (size_t i = 0; i < n; i++)
            assert_true(out[i] >= 0x20 && out[i] <= 0x7e);
        assert_int_equal(percent_decode(out, n, back), len);
        assert_memory_equal(back, text, len);
        /* Cut anywhere it is a prefix. */
        {
            uint8_t cut[192];
            size_t room = test_random(&seed) % (n + 1), m = grpc_message_encode(bytes_of(text, len), cut, room);

            assert_true(m <= room);
            assert_memory_equal(cut, out, m);
        }
    }
}

static void assert_base64(const char *data, const char *want)
{
    uint8_t out[64], back[64];
    char padded[64];
    size_t len = grpc_base64_encode(bytes_str(data), out), back_len;

    assert_int_equal(len, strlen(want));
    assert_memory_equal(out, want, len);
    assert_true(grpc_base64_decode(bytes_of(out, len), back, &back_len));
    assert_int_equal(back_len, strlen(data));
    assert_memory_equal(back, data, back_len);
    snprintf(padded, sizeof(padded), "%s%s", want, len % 4 == 0 ? "" : len % 4 == 2 ? "==" : "=");
    assert_true(grpc_base64_decode(bytes_str(padded), back, &back_len));
    assert_int_equal(back_len, strlen(data));
    assert_memory_equal(back, data, back_len);
}

static void base64(void **state)
{
    static const char *const bad[] = {"A", "AAAAA", "A=", "=", "==", "A===", "AA=A", "A A=", "AA-_", "AA==AA==", "====", "AA="};
    uint8_t out[64];
    size_t len;

    (void)state;
    assert_base64("", "");
    assert_base64("f", "Zg");
    assert_base64("fo", "Zm8");
    assert_base64("foo", "Zm9v");
    assert_base64("foob", "Zm9vYg");
    assert_base64("fooba", "Zm9vYmE");
    assert_base64("foobar", "Zm9vYmFy");
    assert_base64("\xff\xef\xbe", "/+++");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(grpc_base64_decode(bytes_str(bad[i]), out, &len));
}

static void base64_comes_back(void **state)
{
    uint64_t seed = 8;

    (void)state;
    for (size_t len = 0; len < 200; len++) {
        uint8_t data[200], text[300], back[300];
        size_t n, back_len;

        test_random_fill(&seed, data, len);
        n = grpc_base64_encode(bytes_of(data, len), text);
        assert_int_equal(n, grpc_base64_len(len));
        assert_true(grpc_base64_decode(bytes_of(text, n), back, &back_len));
        assert_int_equal(back_len, len);
        assert_memory_equal(back, data, len);
    }
}

static void content_types(void **state)
{
    static const char *const good[] = {"application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "Application/GRPC"};
    static const char *const bad[] = {"", "application/grp", "application/grpcx", "application/json", "text/plain", "application/grpc-web"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(grpc_content_type_is_grpc(bytes_str(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(grpc_content_type_is_grpc(bytes_str(bad[i])));
}

static void quotes(void **state)
{
    char out[16];

    (void)state;
    grpc_quote(bytes_str("abc"), out, sizeof(out));
    assert_string_equal(out, "\"abc\"");
    grpc_quote(bytes_str("a\"\\\n"), out, sizeof(out));
    assert_string_equal(out, "\"a\\\"\\\\\\x0a\"");
    grpc_quote(bytes_str("0123456789012345678901234567890"), out, sizeof(out));
    assert_string_equal(out, "\"012345678\"");
    for (size_t max = 8; max < 40; max++) { /* never over the edge */
        char room[48];

        memset(room, 'z', sizeof(room));
        grpc_quote(bytes_str("\n\"\n\"\n\"\n\"\n\"\n\"\n\"\n\"\n\""), room, max);
        assert_true(strlen(room) < max);
        assert_int_equal(room[max], 'z');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeouts), cmocka_unit_test(messages),          cmocka_unit_test(messages_come_back),
        cmocka_unit_test(base64),   cmocka_unit_test(base64_comes_back), cmocka_unit_test(content_types),
        cmocka_unit_test(quotes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
