/* Proves that error texts chain, are cut at UTF-8 boundaries and never overflow, and that every status has a name. */
#include "base/err.h"
#include "base/test.h"

#include <errno.h>
#include <string.h>

static void set_and_chain(void **state)
{
    struct err err = {0};

    (void)state;
    assert_int_equal(err_set(&err, ST_IO, EIO, "reading %s", "x"), ST_IO);
    assert_int_equal(err.os_errno, EIO);
    assert_int_equal(err_while(&err, ST_IO, "opening %d", 7), ST_IO);
    assert_string_equal(err.text, "reading x; while opening 7");
    assert_int_equal(err_set(NULL, ST_CORRUPT, 0, "x"), ST_CORRUPT);
    assert_int_equal(err_while(NULL, ST_LIMIT, "x"), ST_LIMIT);
    /* Nothing was set: the status given counts, and the text says at least its name. */
    err = (struct err){0};
    assert_int_equal(err_while(&err, ST_BUSY, "waiting"), ST_BUSY);
    assert_string_equal(err.text, "busy; while waiting");
    /* Set already: its own status wins. */
    assert_int_equal(err_while(&err, ST_IO, "more"), ST_BUSY);
}

/* A two, three or four byte character at every position around the end of the field is there whole or not at all. */
static void cuts_at_characters(void **state)
{
    static const char *const characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    struct err err;

    (void)state;
    for (unsigned c = 0; c < 3; c++) {
        for (int before = 210; before < 230; before++) {
            char text[300];
            size_t len = strlen(characters[c]), expected = (size_t)before + len <= sizeof err.text - 1 ? (size_t)before + len : (size_t)before;

            memset(text, 'a', sizeof text);
            strcpy(text + before, characters[c]);
            if (expected > sizeof err.text - 1)
                expected = sizeof err.text - 1;
            assert_int_equal(err_set(&err, ST_IO, 0, "%s", text), ST_IO);
            assert_int_equal(strlen(err.text), expected);
        }
    }
}

static void chain_never_overflows(void **state)
{
    struct err err = {0};

    (void)state;
    (void)err_set(&err, ST_IO, 0, "start");
    for (int i = 0; i < 100; i++) {
        (void)err_while(&err, ST_IO, "step %d", i);
        assert_non_null(memchr(err.text, '\0', sizeof err.text));
    }
    assert_memory_equal(err.text, "start; while step 0; while step 1", 33);
}

static void names_and_errno(void **state)
{
    (void)state;
    for (int st = 0; st < ST_COUNT_; st++) {
        assert_non_null(status_name((enum status)st));
        for (int other = 0; other < st; other++)
            assert_string_not_equal(status_name((enum status)st), status_name((enum status)other));
    }
    assert_string_equal(status_name((enum status)999), "unknown status");
    assert_int_equal(status_from_errno(ENOSPC), ST_NO_SPACE);
    assert_int_equal(status_from_errno(EDQUOT), ST_NO_SPACE);
    assert_int_equal(status_from_errno(ENOMEM), ST_NOMEM);
    assert_int_equal(status_from_errno(ENOENT), ST_NOT_FOUND);
    assert_int_equal(status_from_errno(EEXIST), ST_EXISTS);
    assert_int_equal(status_from_errno(EACCES), ST_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_and_chain),
        cmocka_unit_test(cuts_at_characters),
        cmocka_unit_test(chain_never_overflows),
        cmocka_unit_test(names_and_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
