/* Every allocation fails once: records, tokens, sessions and logins say so, leak nothing (run under a sanitizer) and work the next time. */
#include <string.h>

#include "auth/auth_fixture.h"
#include "base/alloc_failing.h"

static const char RECORD[] =
    "{\"username\":\"u\",\"hashedpassword\":\"JDJhJDA0JGtiRXNRejBQbERMdDIxYzNGQk9PZS52WjAvM3VzSE90WXNRZGs3ZWJuUXljSFk2dlRCYzM2\","
    "\"permissions\":[{\"permission\":1,\"database\":\"a\"},{\"permission\":2,\"database\":\"b\"}],\"sqlPrivileges\":null,\"active\":true}";

/* True when all went well. */
static bool records(void)
{
    struct user_record *r = NULL, *copy = NULL;
    struct json_text j = {0};
    struct err err;
    bool good = false;

    if (user_record_decode(bytes_str("u"), bytes_str(RECORD), &r, &err) != ST_OK || (copy = user_record_copy(r)) == NULL)
        goto done;
    if (!user_record_grant(copy, bytes_str("c"), PERMISSION_ADMIN) || !user_record_default_privileges(copy, bytes_str("c"), PERMISSION_ADMIN) ||
        !user_record_settle_privileges(copy) || !user_record_grant_privilege(copy, bytes_str("d"), "SELECT") ||
        !user_record_set_creator(copy, bytes_str("me"), 1))
        goto done;
    if (user_record_encode(copy, &j, &err) != ST_OK)
        goto done;
    assert_int_equal(copy->permission_count, 3);
    assert_int_equal(copy->privilege_count, 8);
    good = true;
done:
    user_record_unref(r);
    user_record_unref(copy);
    json_text_free(&j);
    return good;
}

static void test_records(void **state)
{
    long n;

    (void)state;
    for (n = 1;; n++) {
        bool good;

        alloc_fail_arm(n, false);
        good = records();
        if (!alloc_fail_disarm())
            break;
        assert_false(good);
    }
    assert_true(n > 5);
    assert_true(records());
}

static EVP_PKEY *key;

static bool tokens(void)
{
    struct arena arena;
    struct token t;
    struct err err;
    char *text;
    bool good;

    arena_init(&arena, 256, 0);
    good = token_issue(key, "user", 3, 5000000000, &arena, &text, &err) == ST_OK && token_parse(bytes_str(text), &arena, &t, &err) == ST_OK &&
           token_verify(&t, key, &err) == ST_OK;
    arena_free(&arena);
    return good;
}

static void test_tokens(void **state)
{
    long n;

    (void)state;
    assert_non_null(key = token_key_create());
    for (n = 1;; n++) {
        bool good;

        alloc_fail_arm(n, false);
        good = tokens();
        if (!alloc_fail_disarm())
            break;
        assert_false(good);
    }
    assert_true(n > 3);
    EVP_PKEY_free(key);
}

static void test_tables(void **state)
{
    struct fixture *f = fixture_open(100);
    struct session *session;
    struct user *user;
    long n;

    (void)state;
    fixture_add_user(f, "u", "pw", "d", PERMISSION_READ, true);
    user = fixture_user(f, "u");
    for (n = 1;; n++) {
        enum status st;

        alloc_fail_arm(n, false);
        st = session_create(f->auth->sessions, user, 0, &session, NULL);
        if (!alloc_fail_disarm())
            break;
        assert_int_equal(st, ST_NOMEM);
        assert_null(session);
        assert_int_equal(sessions_count(f->auth->sessions), 0); /* a failure takes no place */
    }
    assert_int_equal(sessions_count(f->auth->sessions), 1);
    session_unref(session);
    for (n = 1;; n++) { /* opening all of it again */
        struct sessions_options o = {.env = &f->env, .sessions_max = 5};
        struct auth *a;
        enum status st;

        alloc_fail_arm(n, false);
        st = auth_open(f->store, &o, &(struct auth_options){.login_threads = 1}, &a, NULL);
        if (!alloc_fail_disarm()) {
            assert_int_equal(st, ST_OK);
            auth_close(a);
            break;
        }
        assert_int_equal(st, ST_NOMEM);
        assert_null(a);
    }
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_records), cmocka_unit_test(test_tokens), cmocka_unit_test(test_tables)};

    return cmocka_run_group_tests_name("auth_alloc", tests, NULL, NULL);
}
