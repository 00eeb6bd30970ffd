/* Tokens: shape and claims as published, every flipped bit is noticed, the published causes of failure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/base64.h"
#include "auth/token.h"
#include "base/test.h"

static struct arena arena;

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, 4096, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

static void test_shape(void **state)
{
    EVP_PKEY *key = token_key_create();
    struct token t;
    char *text;

    (void)state;
    assert_non_null(key);
    assert_int_equal(token_issue(key, "immudb", 0, 1795315330, &arena, &text, NULL), ST_OK);
    /* Header, payload and footer of a recorded token; the signature is of another key. */
    assert_memory_equal(text, "v2.public.eyJkYXRhYmFzZSI6IjAiLCJleHAiOiIyMDI2LTExLTIyVDAyOjQyOjEwWiIsInN1YiI6ImltbXVkYiJ9", 90);
    assert_string_equal(strrchr(text, '.'), ".aW1tdWRi");
    assert_int_equal(strlen(text), strlen("v2.public.") + base64_len(BASE64_URL_RAW, 60 + 64) + strlen(".aW1tdWRi"));
    assert_int_equal(token_parse(bytes_str(text), &arena, &t, NULL), ST_OK);
    assert_string_equal(t.user, "immudb");
    assert_int_equal(t.database, 0);
    assert_int_equal(t.expires_s, 1795315330);
    assert_int_equal(token_verify(&t, key, NULL), ST_OK);
    /* Without a user (maintenance mode) there is no "sub". */
    assert_int_equal(token_issue(key, "", -1, 1, &arena, &text, NULL), ST_OK);
    assert_int_equal(token_parse(bytes_str(text), &arena, &t, NULL), ST_OK);
    assert_string_equal(t.user, "");
    assert_int_equal(t.database, TOKEN_NO_DATABASE);
    assert_true(bytes_equal(t.payload, bytes_str("{\"database\":\"-1\",\"exp\":\"1970-01-01T00:00:01Z\"}")));
    assert_int_equal(token_verify(&t, key, NULL), ST_OK);
    EVP_PKEY_free(key);
}

/* The signature algorithm against a vector of the published specification (v2.public, example with a footer). */
static void test_published_vector(void **state)
{
    static const char text[] =
        "v2.public.eyJkYXRhIjoidGhpcyBpcyBhIHNpZ25lZCBtZXNzYWdlIiwiZXhwIjoiMjAxOS0wMS0wMVQwMDowMDowMCswMDowMCJ9flsZsx_gYCR0N_Ec2QxJFFpvQAs7h9HtKwbVK2"
        "n1MJ3Rz-hwe8KUqjnd8FAnIJZ601tp7lGkguU63oGbomhoBw.eyJraWQiOiJ6VmhNaVBCUDlmUmYyc25FY1Q3Z0ZUaW9lQTlDT2NOeTlEZmdMMVc2MGhhTiJ9";
    static const uint8_t public_key[32] = {0x1e, 0xb9, 0xdb, 0xbb, 0xbc, 0x04, 0x7c, 0x03, 0xfd, 0x70, 0x60, 0x4e, 0x00, 0x71, 0xf0, 0x98,
                                           0x7e, 0x16, 0xb2, 0x8b, 0x75, 0x72, 0x25, 0xc1, 0x1f, 0x00, 0x41, 0x5d, 0x0e, 0x20, 0xb1, 0xa2};
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, sizeof public_key);
    struct token t = {0};
    uint8_t body[512], footer[256];
    const char *payload = text + strlen("v2.public."), *dot = strchr(payload, '.');
    size_t len, footer_len;

    (void)state;
    assert_non_null(key);
    assert_int_equal(base64_decode(BASE64_URL_RAW, bytes_of(payload, (size_t)(dot - payload)), body, &len, NULL), ST_OK);
    assert_int_equal(base64_decode(BASE64_URL_RAW, bytes_str(dot + 1), footer, &footer_len, NULL), ST_OK);
    t.payload = bytes_of(body, len - 64);
    memcpy(t.signature, body + len - 64, 64);
    t.footer = bytes_of(footer, footer_len);
    assert_int_equal(token_verify(&t, key, NULL), ST_OK);
    footer[3] ^= 1;
    assert_int_equal(token_verify(&t, key, NULL), ST_INVALID);
    EVP_PKEY_free(key);
}

static void test_tampering(void **state)
{
    EVP_PKEY *key = token_key_create(), *other = token_key_create();
    struct token t;
    char *text;
    size_t i, len;
    struct err err;

    (void)state;
    assert_int_equal(token_issue(key, "alice", 3, 4102444800, &arena, &text, NULL), ST_OK);
    assert_int_equal(token_parse(bytes_str(text), &arena, &t, NULL), ST_OK);
    assert_int_equal(token_verify(&t, other, &err), ST_INVALID);
    assert_string_equal(err.text, "invalid signature");
    len = strlen(text);
    for (i = 0; i < len * 8; i++) {
        text[i / 8] = (char)(text[i / 8] ^ (1 << i % 8));
        /* A flip may leave the decoded bytes alone in the unused bits of a last character only. */
        if (token_parse(bytes_of(text, len), &arena, &t, NULL) == ST_OK && token_verify(&t, key, NULL) == ST_OK)
            assert_true(text[i / 8 + 1] == '.' || i / 8 + 1 == len);
        text[i / 8] = (char)(text[i / 8] ^ (1 << i % 8));
        arena_reset(&arena);
        assert_int_equal(token_issue(key, "alice", 3, 4102444800, &arena, &text, NULL), ST_OK);
    }
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

static void test_causes(void **state)
{
    static const char *const rows[][2] = {
        {"garbage", "malformed token: expected at least 3 pieces"},
        {"", "malformed token: expected at least 3 pieces"},
        {"a.b", "malformed token: expected at least 3 pieces"},
        {"v2.public.AAAA", "malformed token: incorrect token size"},
        {"v2.public.!!!!", "error decoding token payload: illegal base64 data at input byte 0"},
        {"v2.public.AAAA.!!!!", "error decoding token footer: illegal base64 data at input byte 0"},
        {"v2.local.AAAA", "malformed token: incorrect token header"},
        {"bearer v2.public.AAAA", "malformed token: incorrect token header"},
    };
    struct token t;
    struct err err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(token_parse(bytes_str(rows[i][0]), &arena, &t, &err), ST_INVALID);
        assert_string_equal(err.text, rows[i][1]);
    }
}

static void test_claims(void **state)
{
    static const char *const bad[] = {
        "x",
        "[]",
        "{}",
        "{\"database\":0,\"exp\":\"2099-01-01T00:00:00Z\"}",
        "{\"database\":\"x\",\"exp\":\"2099-01-01T00:00:00Z\"}",
        "{\"database\":\"0\",\"exp\":\"x\"}",
        "{\"database\":\"0\",\"exp\":\"2099-01-01T00:00:00Z\",\"sub\":7}",
        "{\"database\":\"0\",\"exp\":\"2099-01-01T00:00:00Z\",\"sub\":\"uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu\"}"};
    char body[512], text[1024];
    struct token t;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t len = strlen(bad[i]);

        memcpy(body, bad[i], len);
        memset(body + len, 0, 64);
        memcpy(text, "v2.public.", 10);
        text[10 + base64_encode(BASE64_URL_RAW, bytes_of(body, len + 64), text + 10)] = '\0';
        assert_int_equal(token_parse(bytes_str(text), &arena, &t, NULL), ST_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shape), cmocka_unit_test(test_published_vector), cmocka_unit_test(test_tampering),
                                       cmocka_unit_test(test_causes), cmocka_unit_test(test_claims)};

    return cmocka_run_group_tests_name("token", tests, setup, teardown);
}
