/* Base64 against the examples of RFC 4648, every length there and back, and the offsets that error texts name. */
#include <string.h>

#include "auth/base64.h"
#include "base/test.h"

static void test_examples(void **state)
{
    static const char *const rows[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    uint8_t back[16];
    char text[16];
    size_t i, len;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        text[base64_encode(BASE64_STD, bytes_str(rows[i][0]), text)] = '\0';
        assert_string_equal(text, rows[i][1]);
        assert_int_equal(base64_decode(BASE64_STD, bytes_str(text), back, &len, NULL), ST_OK);
        assert_true(bytes_equal(bytes_of(back, len), bytes_str(rows[i][0])));
    }
}

static void test_round(void **state)
{
    uint64_t seed = 1;
    uint8_t data[100], back[160];
    char text[200];
    size_t len, back_len;
    int form;

    (void)state;
    for (form = BASE64_STD; form <= BASE64_URL_RAW; form++) {
        for (len = 0; len <= sizeof data; len++) {
            size_t text_len;

            test_random_fill(&seed, data, len);
            text_len = base64_encode((enum base64_form)form, bytes_of(data, len), text);
            assert_int_equal(text_len, base64_len((enum base64_form)form, len));
            assert_true(base64_decoded_max(text_len) >= len);
            assert_int_equal(base64_decode((enum base64_form)form, bytes_of(text, text_len), back, &back_len, NULL), ST_OK);
            assert_int_equal(back_len, len);
            assert_memory_equal(back, data, len);
        }
    }
}

static void test_errors(void **state)
{
    static const struct {
        enum base64_form form;
        const char *text, *error;
    } rows[] = {
        {BASE64_STD, "###", "illegal base64 data at input byte 0"},      {BASE64_STD, "!!!!", "illegal base64 data at input byte 0"},
        {BASE64_STD, "Zg=x", "illegal base64 data at input byte 3"},     {BASE64_STD, "Zm9v=", "illegal base64 data at input byte 4"},
        {BASE64_STD, "Zg==Zg==", "illegal base64 data at input byte 4"}, {BASE64_STD, "Zm9", "illegal base64 data at input byte 0"},
        {BASE64_STD, "Zm9vZ", "illegal base64 data at input byte 4"},    {BASE64_STD, "Zg=", "illegal base64 data at input byte 3"},
        {BASE64_STD, "Zm-v", "illegal base64 data at input byte 2"},     {BASE64_URL, "Zm+v", "illegal base64 data at input byte 2"},
        {BASE64_URL_RAW, "Z", "illegal base64 data at input byte 0"},    {BASE64_URL_RAW, "Zg==", "illegal base64 data at input byte 2"},
    };
    struct err err;
    uint8_t out[16];
    size_t i, len;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(base64_decode(rows[i].form, bytes_str(rows[i].text), out, &len, &err), ST_INVALID);
        assert_string_equal(err.text, rows[i].error);
    }
    assert_int_equal(base64_decode(BASE64_STD, bytes_str("Zm\r\n9v\n"), out, &len, &err), ST_OK);
    assert_int_equal(len, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_examples), cmocka_unit_test(test_round), cmocka_unit_test(test_errors)};

    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
