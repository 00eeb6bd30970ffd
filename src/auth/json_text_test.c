/* The JSON writer's escapes and numbers, and times in both of their forms, against what the published server writes. */
#include <stdlib.h>
#include <string.h>

#include "auth/json_text.h"
#include "base/test.h"

static void expect_text(struct json_text *j, const char *text)
{
    assert_false(j->failed);
    assert_int_equal(j->len, strlen(text));
    assert_memory_equal(j->text, text, j->len);
    json_text_free(j);
}

static void test_writer(void **state)
{
    struct json_text j = {0};

    (void)state;
    json_put_open(&j, '{');
    json_put_name(&j, "s");
    json_put_str(&j, bytes_str("p<&>w \"\\ \n\r\t\b\f\x01\x7f \xe2\x80\xa8\xe2\x80\xa9 \xc3\xa9"));
    json_put_name(&j, "a");
    json_put_open(&j, '[');
    json_put_int(&j, -5);
    json_put_bool(&j, true);
    json_put_null(&j);
    json_put_open(&j, '{');
    json_put_close(&j, '}');
    json_put_close(&j, ']');
    json_put_name(&j, "e");
    json_put_open(&j, '[');
    json_put_close(&j, ']');
    json_put_close(&j, '}');
    expect_text(&j,
                "{\"s\":\"p\\u003c\\u0026\\u003ew \\\"\\\\ \\n\\r\\t\\b\\f\\u0001\x7f \\u2028\\u2029 \xc3\xa9\",\"a\":[-5,true,null,{}],\"e\":[]}");
}

static void test_floats(void **state)
{
    static const struct {
        float v;
        const char *text;
    } rows[] = {{0, "0"}, {12.5f, "12.5"}, {0.1f, "0.1"}, {100, "100"}, {99.99f, "99.99"}, {16777216, "16777216"}, {33.333332f, "33.333332"}};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json_text j = {0};

        json_put_float(&j, rows[i].v);
        expect_text(&j, rows[i].text);
    }
}

static void test_times(void **state)
{
    static const struct {
        const char *text, *shown;
        int64_t unix_s;
        int32_t nanosecond;
    } rows[] = {
        {"2026-11-21T02:52:26.931226829Z", "2026-11-21 02:52:26.931226829 +0000 UTC", 1795229546, 931226829},
        {"2020-01-02T03:04:05.5+02:00", "2020-01-02 03:04:05.5 +0200 +0200", 1577927045, 500000000},
        {"2026-11-21T04:23:04.61786978Z", "2026-11-21 04:23:04.61786978 +0000 UTC", 1795234984, 617869780},
        {"0001-01-01T00:00:00Z", "0001-01-01 00:00:00 +0000 UTC", RECORD_TIME_NEVER_S, 0},
        {"1969-12-31T23:59:59-05:30", "1969-12-31 23:59:59 -0530 -0530", 19799, 0},
        {"2024-02-29T00:00:00Z", "2024-02-29 00:00:00 +0000 UTC", 1709164800, 0},
    };
    static const char *const wrong[] = {"",
                                        "2026-11-21",
                                        "2026-11-21T02:52:26",
                                        "2026-13-21T02:52:26Z",
                                        "2026-11-21T24:52:26Z",
                                        "2026-11-21T02:52:26.Z",
                                        "2026-11-21T02:52:26Zx",
                                        "2026-11-21T02:52:26+2:00",
                                        "x026-11-21T02:52:26Z"};
    char text[RECORD_TIME_TEXT_MAX];
    struct record_time t;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(record_time_parse(bytes_str(rows[i].text), &t, NULL), ST_OK);
        assert_int_equal(t.unix_s, rows[i].unix_s);
        assert_int_equal(t.nanosecond, rows[i].nanosecond);
        text[record_time_format(&t, text)] = '\0';
        assert_string_equal(text, rows[i].text);
        text[record_time_display(&t, text)] = '\0';
        assert_string_equal(text, rows[i].shown);
    }
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(record_time_parse(bytes_str(wrong[i]), &t, NULL), ST_INVALID);
}

/* Every day over some centuries: civil date and its way back agree with counting. */
static void test_calendar(void **state)
{
    static const unsigned lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned month = 1, day = 1;
    int64_t year = 1600, days;

    (void)state;
    for (days = -135140; days < 200000; days++) { /* from 1600-01-01 */
        struct civil_time c = civil_of(days * 86400 + 86399);
        bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

        assert_true(c.year == year && c.month == month && c.day == day && c.hour == 23 && c.second == 59);
        if (day++ == lengths[month - 1] + (month == 2 && is_leap)) {
            day = 1;
            if (month++ == 12) {
                month = 1;
                year++;
            }
        }
    }
}

static void test_reading(void **state)
{
    json_t *object;
    struct err err;

    (void)state;
    assert_int_equal(json_read(bytes_str("{\"A\":1,\"a\":2,\"b\":null,\"C\":3}"), &object, &err), ST_OK);
    assert_int_equal(json_integer_value(json_member(object, "a")), 2);
    assert_int_equal(json_integer_value(json_member(object, "A")), 1);
    assert_int_equal(json_integer_value(json_member(object, "c")), 3);
    assert_null(json_member(object, "b"));
    assert_null(json_member(object, "d"));
    json_decref(object);
    assert_int_equal(json_read(bytes_str("notjson"), &object, &err), ST_INVALID);
    assert_null(object);
    assert_int_equal(json_read(bytes_of(NULL, 0), &object, &err), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_writer), cmocka_unit_test(test_floats), cmocka_unit_test(test_times),
                                       cmocka_unit_test(test_calendar), cmocka_unit_test(test_reading)};

    return cmocka_run_group_tests_name("json_text", tests, NULL, NULL);
}
