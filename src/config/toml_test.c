/* The TOML subset: what is read, what is read over, what is refused and with which line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "config/toml.h"

static char seen[4096];

static enum status note(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err)
{
    size_t len = strlen(seen);

    (void)err;
    snprintf(seen + len, sizeof seen - len, "%s:%d=%s;", key, (int)kind, text);
    return ctx != NULL && strcmp(key, ctx) == 0 ? err_set(err, ST_LIMIT, 0, "stop") : ST_OK;
}

static enum status read_text(const char *text, struct err *err)
{
    seen[0] = '\0';
    return toml_read(bytes_str(text), note, NULL, err);
}

static void test_good(void **state)
{
    static const struct {
        const char *text, *seen;
    } rows[] = {
        {"", ""},
        {"a=1", "a:1=1;"},
        {"  a  =  1  # c", "a:1=1;"},
        {"a = 'x'\r\nb = \"y\"\r\n", "a:0=x;b:0=y;"},
        {"\xef\xbb\xbf"
         "a = true",
         "a:2=true;"},
        {"a = \"q\\\"\\\\\\n\\t\\u00e9\\U0001F600\"", "a:0=q\"\\\n\t\xc3\xa9\xf0\x9f\x98\x80;"},
        {"a = 'C:\\no\\escape'", "a:0=C:\\no\\escape;"},
        {"\"quoted key\" = 1\n'other' = 2", "quoted key:1=1;other:1=2;"},
        {"admin-password = \"enc:abc\"", "admin-password:0=enc:abc;"},
        {"n = 1_000\nf = -1.5e3\nh = 0xff\nd = 1979-05-27T07:32:00Z", "n:1=1000;f:1=-1.5e3;h:1=0xff;d:1=1979-05-27T07:32:00Z;"},
        {"l = [1, [2, 'a]'], # c\n \"x\",\n]\nb = 2", "l:3=;b:1=2;"},
        {"t = { a = 1, b = { c = [] } }\nb = 2", "t:3=;b:1=2;"},
        {"a = 1\n[table]\nb = 2\n[[list]]\nc = 3", "a:1=1;"},
        {"# only\n\n\t# comments", ""},
    };
    struct err err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (read_text(rows[i].text, &err) != ST_OK)
            fail_msg("%s: %s", rows[i].text, err.text);
        assert_string_equal(seen, rows[i].seen);
    }
}

static void test_bad(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"a", "line 1: '=' was expected"},
        {"a =", "line 1: a value was expected"},
        {"= 1", "line 1: a name was expected"},
        {"a = x", "line 1: texts need quotes"},
        {"a = \"x", "line 1: unfinished string"},
        {"\n\na = \"x\n\"", "line 3: unfinished string"},
        {"a = \"\\q\"", "unknown escape"},
        {"a = \"\\u12\"", "hexadecimal"},
        {"a = \"\\ud800\"", "no character"},
        {"a = \"\\u0000\"", "zero byte"},
        {"a = \"\"\"x\"\"\"", "several lines"},
        {"a = 1 b = 2", "end of the line"},
        {"a = [1", "closing bracket"},
        {"a = [1 2]", "closing bracket"},
        {"a = {b 1}", "'=' was expected"},
        {"[table", "closing bracket"},
        {"a = [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", "nested too deeply"},
    };
    struct err err;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(read_text(rows[i].text, &err), ST_INVALID);
        if (strstr(err.text, rows[i].error) == NULL)
            fail_msg("%s: expected \"%s\" in \"%s\"", rows[i].text, rows[i].error, err.text);
    }
}

static void test_bounds(void **state)
{
    char *text = malloc(TOML_VALUE_LEN_MAX + 100);
    struct err err;

    (void)state;
    assert_non_null(text);
    memcpy(text, "a = '", 5);
    memset(text + 5, 'x', TOML_VALUE_LEN_MAX);
    memcpy(text + 5 + TOML_VALUE_LEN_MAX, "'", 2);
    assert_int_equal(toml_read(bytes_str(text), note, (void *)(uintptr_t) "a", &err), ST_LIMIT); /* fits; the visitor's stop comes back */
    memcpy(text + 5 + TOML_VALUE_LEN_MAX, "y'", 3);
    assert_int_equal(read_text(text, &err), ST_INVALID);
    assert_non_null(strstr(err.text, "too long"));
    free(text);
}

/* Every prefix of a file ends in a verdict, never beyond the buffer (run under a sanitizer). */
static void test_prefixes(void **state)
{
    static const char text[] = "a = \"q\\u00e9\" # c\nb = [1, {c = 'x'}]\n'k' = 1_0\n[t]\nz = true\n";
    size_t len;

    (void)state;
    for (len = 0; len < sizeof text; len++) {
        char *copy = malloc(len + 1);

        assert_non_null(copy);
        memcpy(copy, text, len);
        seen[0] = '\0';
        (void)!toml_read(bytes_of(copy, len), note, NULL, NULL);
        (void)!config_json_read(bytes_of(copy, len), note, NULL, NULL);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_bounds),
                                       cmocka_unit_test(test_prefixes)};

    return cmocka_run_group_tests_name("toml", tests, NULL, NULL);
}
