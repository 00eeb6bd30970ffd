/* Every allocation of reading the options and of the texts about them fails once: ST_NOMEM, no leak (run under a sanitizer), no half configuration. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc_failing.h"
#include "base/test.h"
#include "config/config.h"
#include "config/logger.h"
#include "config/toml.h"

static char *const ARGS[] = {(char *)(uintptr_t) "immudb", (char *)(uintptr_t) "--dir", (char *)(uintptr_t) "/nowhere",
                             (char *)(uintptr_t) "--s3-storage", (char *)(uintptr_t) "--admin-password=enc:cHc="};
static char *const ENV[] = {(char *)(uintptr_t) "IMMUDB_PORT=tcp://1.2.3.4:5", (char *)(uintptr_t) "IMMUDB_SIGNING_KEY=k", NULL};

static void test_load(void **state)
{
    struct config_input in = {.argc = 5, .argv = ARGS, .envp = ENV};
    long n;

    (void)state;
    for (n = 1;; n++) {
        struct config *c;
        enum status st;
        bool failed;

        alloc_fail_arm(n, false);
        st = config_load(&in, &c, NULL);
        failed = alloc_fail_disarm();
        if (st == ST_OK) {
            assert_string_equal(c->dir, "/nowhere");
            assert_string_equal(c->admin_password, "pw");
        } else {
            assert_int_equal(st, ST_NOMEM);
            assert_null(c);
        }
        config_free(c);
        if (!failed)
            break;
    }
    assert_true(n > 20);
}

static enum status visit(void *ctx, const char *key, enum toml_kind kind, const char *text, struct err *err)
{
    (void)ctx;
    (void)key;
    (void)kind;
    (void)text;
    (void)err;
    return ST_OK;
}

static void test_texts(void **state)
{
    struct config_input in = {.argc = 1, .argv = ARGS};
    char *(*const texts[])(void) = {config_help, config_version};
    struct config *c;
    char *text;
    size_t i;
    long n;

    (void)state;
    for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        alloc_fail_arm(1, false);
        text = texts[i]();
        assert_true(alloc_fail_disarm());
        assert_null(text);
    }
    assert_int_equal(config_load(&in, &c, NULL), ST_OK);
    for (n = 1;; n++) {
        alloc_fail_arm(n, false);
        text = config_block(c, true);
        if (!alloc_fail_disarm())
            break;
        assert_null(text);
    }
    assert_non_null(text);
    free(text);
    config_free(c);
    alloc_fail_arm(1, false);
    assert_int_equal(toml_read(bytes_str("a = 1"), visit, NULL, NULL), ST_NOMEM);
    alloc_fail_disarm();
}

static void test_logger(void **state)
{
    struct logger_options o = {.env = env_system()};
    struct logger *l;

    (void)state;
    alloc_fail_arm(1, false);
    assert_int_equal(logger_open(&o, &l, NULL), ST_NOMEM);
    alloc_fail_disarm();
    assert_null(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_load), cmocka_unit_test(test_texts), cmocka_unit_test(test_logger)};

    return cmocka_run_group_tests_name("config_alloc", tests, NULL, NULL);
}
