/* Sessions with a clock set by hand: limit, expiry by idleness and age, ending one and all of a user, many at once, several threads. */
#include <pthread.h>
#include <string.h>

#include "auth/auth_fixture.h"
#include "auth/base64.h"

static void test_life(void **state)
{
    struct fixture *f = fixture_open(2);
    struct sessions *s = f->auth->sessions;
    struct session *one, *two, *three, *found;
    struct user *user;
    uint8_t raw[48];
    struct err err;
    size_t len;

    (void)state;
    fixture_add_user(f, "u", "pw", "d", PERMISSION_READ, true);
    user = fixture_user(f, "u");
    assert_int_equal(session_create(s, user, 3, &one, &err), ST_OK);
    assert_int_equal(strlen(one->id), 44);
    assert_int_equal(base64_decode(BASE64_URL, bytes_str(one->id), raw, &len, NULL), ST_OK);
    assert_int_equal(len, 32);
    assert_int_equal(session_create(s, user, 4, &two, &err), ST_OK);
    assert_string_not_equal(one->id, two->id);
    assert_int_equal(session_create(s, user, 4, &three, &err), ST_LIMIT);
    assert_string_equal(err.text, "max sessions number reached");
    assert_null(three);
    assert_ptr_equal(found = session_find(s, bytes_str(one->id)), one);
    assert_int_equal(found->database, 3);
    session_unref(found);
    assert_null(session_find(s, bytes_str("bogus")));
    assert_null(session_find(s, bytes_of(NULL, 0)));
    assert_true(session_end(s, one));
    assert_false(session_end(s, one));
    assert_false(session_is_open(one));
    assert_null(session_find(s, bytes_str(one->id))); /* our reference keeps the text alive */
    session_unref(one);
    assert_int_equal(session_create(s, user, 4, &three, &err), ST_OK); /* the place is free again */
    assert_int_equal(sessions_count(s), 2);
    sessions_end_user(s, user);
    assert_int_equal(sessions_count(s), 0);
    assert_false(session_is_open(two) || session_is_open(three));
    session_unref(two);
    session_unref(three);
    fixture_close(f);
}

/* Limits of the fixture: idle 120, age 1000, inactive 60 ns. */
static void test_expiry(void **state)
{
    struct fixture *f = fixture_open(10);
    struct sessions *s = f->auth->sessions;
    struct session *idle, *busy;
    struct user *user;
    uint64_t start = f->mono_ns, t;

    (void)state;
    fixture_add_user(f, "u", "pw", "d", PERMISSION_READ, true);
    user = fixture_user(f, "u");
    assert_int_equal(session_create(s, user, 0, &idle, NULL), ST_OK);
    assert_int_equal(session_create(s, user, 0, &busy, NULL), ST_OK);
    assert_int_equal(sessions_expire(s, start - 1), 0); /* the clock was read before they were opened */
    session_touch(busy, start + 100);
    assert_int_equal(sessions_inactive(s, start + 61), 1);
    assert_int_equal(sessions_expire(s, start + 120), 0); /* not longer than the limit */
    assert_int_equal(sessions_expire(s, start + 121), 1);
    assert_false(session_is_open(idle));
    assert_true(session_is_open(busy));
    for (t = 200; t <= 1000; t += 100) { /* in use, but old in the end */
        session_touch(busy, start + t);
        assert_int_equal(sessions_expire(s, start + t), 0);
    }
    assert_int_equal(sessions_expire(s, start + 1001), 1);
    assert_false(session_is_open(busy));
    session_unref(idle);
    session_unref(busy);
    fixture_close(f);
}

enum { MANY = 5000 };

static void test_many(void **state)
{
    struct fixture *f = fixture_open(MANY);
    struct sessions *s = f->auth->sessions;
    static struct session *all[MANY];
    struct user *user;
    size_t i;

    (void)state;
    fixture_add_user(f, "u", "pw", "d", PERMISSION_READ, true);
    user = fixture_user(f, "u");
    assert_true(sizeof(struct session) < 256);
    for (i = 0; i < MANY; i++)
        assert_int_equal(session_create(s, user, (int64_t)i, &all[i], NULL), ST_OK);
    for (i = 0; i < MANY; i++) {
        struct session *found = session_find(s, bytes_str(all[i]->id));

        assert_ptr_equal(found, all[i]);
        session_unref(found);
    }
    for (i = 0; i < MANY; i += 2)
        assert_true(session_end(s, all[i]));
    assert_int_equal(sessions_count(s), MANY / 2);
    for (i = 0; i < MANY; i++) {
        struct session *found = session_find(s, bytes_str(all[i]->id));

        assert_true((found != NULL) == (i % 2 == 1));
        session_unref(found);
        session_unref(all[i]);
    }
    fixture_close(f);
}

static void *churn(void *arg)
{
    struct fixture *f = arg;
    struct user *user = fixture_user(f, "u");
    struct session *session, *found;
    int i;

    for (i = 0; i < 500; i++) {
        if (session_create(f->auth->sessions, user, i, &session, NULL) != ST_OK)
            continue;
        found = session_find(f->auth->sessions, bytes_str(session->id));
        if (i % 3 == 0)
            sessions_end_user(f->auth->sessions, user);
        else
            session_end(f->auth->sessions, session);
        session_unref(found);
        session_unref(session);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = fixture_open(64);
    pthread_t threads[4];
    int i;

    (void)state;
    fixture_add_user(f, "u", "pw", "d", PERMISSION_READ, true);
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, f), 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(sessions_count(f->auth->sessions), 0);
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life), cmocka_unit_test(test_expiry), cmocka_unit_test(test_many),
                                       cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
