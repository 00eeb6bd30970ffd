/* Password checks: outcomes, shares and bounds of the queue, equal checks that share one hash, the memory of good ones and what makes it forget. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "auth/auth_fixture.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int done_count;
static bool is_held; /* checks wait in is_cancelled while it is set */

static void on_done(struct login *l)
{
    (void)l;
    pthread_mutex_lock(&lock);
    done_count++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static bool hold(struct login *l)
{
    (void)l;
    pthread_mutex_lock(&lock);
    while (is_held)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return false;
}

static bool give_up(struct login *l)
{
    (void)l;
    return true;
}

static void set_held(bool held)
{
    pthread_mutex_lock(&lock);
    is_held = held;
    done_count = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void wait_done(int count)
{
    pthread_mutex_lock(&lock);
    while (done_count < count)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static struct login login_of(const char *user, const char *password, const char *address)
{
    return (struct login){.user = bytes_str(user), .password = bytes_str(password), .address = address, .done = on_done, .is_cancelled = hold};
}

/* One check from beginning to end. */
static struct login check(struct fixture *f, const char *user, const char *password)
{
    struct login l = login_of(user, password, "10.0.0.1:5");

    set_held(false);
    assert_int_equal(logins_check(f->auth->logins, &l, NULL), ST_OK);
    wait_done(1);
    return l;
}

static struct login_stats stats_of(struct fixture *f)
{
    struct login_stats s;

    logins_stats(f->auth->logins, &s);
    return s;
}

static void test_outcomes(void **state)
{
    struct fixture *f = fixture_open(4);
    struct login l;

    (void)state;
    fixture_add_user(f, "good", "pw", "d", PERMISSION_READ, true);
    fixture_add_user(f, "asleep", "pw", "d", PERMISSION_READ, false);
    l = check(f, "good", "pw");
    assert_int_equal(l.outcome, LOGIN_RIGHT);
    assert_ptr_equal(l.who, fixture_user(f, "good"));
    assert_int_equal(l.epoch, user_epoch(l.who));
    assert_string_equal(l.record->name, "good");
    user_record_unref(l.record);
    assert_int_equal(check(f, "good", "pW").outcome, LOGIN_WRONG_PASSWORD);
    assert_int_equal(check(f, "good", "").outcome, LOGIN_WRONG_PASSWORD);
    assert_int_equal(check(f, "nobody", "pw").outcome, LOGIN_UNKNOWN_USER);
    assert_int_equal(check(f, "", "").outcome, LOGIN_UNKNOWN_USER);
    assert_int_equal(check(f, "asleep", "pw").outcome, LOGIN_INACTIVE);
    l = login_of("good", "other", "10.0.0.1:5");
    l.is_cancelled = give_up;
    set_held(false);
    assert_int_equal(logins_check(f->auth->logins, &l, NULL), ST_OK);
    wait_done(1);
    assert_int_equal(l.outcome, LOGIN_FAILED);
    assert_int_equal(l.err.status, ST_CANCELLED);
    fixture_close(f);
}

static void test_memory(void **state)
{
    struct fixture *f = fixture_open(4);
    struct login l;
    int i;

    (void)state;
    fixture_add_user(f, "good", "pw", "d", PERMISSION_READ, true);
    for (i = 0; i < 5; i++) {
        l = check(f, "good", "pw");
        assert_int_equal(l.outcome, LOGIN_RIGHT);
        user_record_unref(l.record);
    }
    assert_int_equal(stats_of(f).checked, 1);
    assert_int_equal(stats_of(f).remembered, 4);
    assert_int_equal(check(f, "good", "wrong").outcome, LOGIN_WRONG_PASSWORD); /* bad ones are not remembered */
    assert_int_equal(check(f, "good", "wrong").outcome, LOGIN_WRONG_PASSWORD);
    assert_int_equal(stats_of(f).checked, 3);
    fixture_add_user(f, "good", "new", "d", PERMISSION_READ, true); /* a change is noticed at once */
    assert_int_equal(check(f, "good", "pw").outcome, LOGIN_WRONG_PASSWORD);
    l = check(f, "good", "new");
    assert_int_equal(l.outcome, LOGIN_RIGHT);
    user_record_unref(l.record);
    assert_int_equal(stats_of(f).checked, 5);
    f->mono_ns += UINT64_C(60000000000); /* a minute later */
    l = check(f, "good", "new");
    user_record_unref(l.record);
    assert_int_equal(stats_of(f).checked, 6);
    fixture_close(f);
}

static void test_shares(void **state)
{
    struct fixture *f = fixture_open(4);
    static struct login queue[2 * LOGIN_QUEUE_MAX], last;
    static char users[2 * LOGIN_QUEUE_MAX][16], addresses[2 * LOGIN_QUEUE_MAX][32];
    struct err err;
    size_t i, accepted = 0;

    (void)state;
    /* One address, many users: its share. */
    set_held(true);
    for (i = 0; i < 2 * LOGIN_QUEUE_MAX; i++) {
        snprintf(users[i], sizeof users[i], "u%zu", i);
        queue[i] = login_of(users[i], "pw", "10.0.0.1:7");
        accepted += logins_check(f->auth->logins, &queue[i], &err) == ST_OK;
    }
    assert_int_equal(accepted, LOGIN_SHARE_MAX);
    assert_non_null(strstr(err.text, "too many logins"));
    /* A second one, ports do not count, gets less the fuller the queue is: there is a place left for every other address. */
    for (i = 0; i < LOGIN_QUEUE_MAX; i++) {
        snprintf(addresses[i], sizeof addresses[i], "10.0.1.%zu:%zu", i % 2, i);
        queue[LOGIN_QUEUE_MAX + i] = login_of(users[i], "other", addresses[i]);
        accepted += logins_check(f->auth->logins, &queue[LOGIN_QUEUE_MAX + i], &err) == ST_OK;
    }
    assert_in_range(accepted, LOGIN_SHARE_MAX + 20, LOGIN_QUEUE_MAX - 10);
    snprintf(addresses[0], sizeof addresses[0], "10.0.2.1:9");
    last = login_of("u0", "mine", addresses[0]);
    assert_int_equal(logins_check(f->auth->logins, &last, &err), ST_OK);
    accepted++;
    set_held(false);
    wait_done((int)accepted);
    assert_true(stats_of(f).refused > 0);
    fixture_close(f);
}

static void test_queue_bound(void **state)
{
    struct fixture *f = fixture_open(4);
    static struct login queue[2 * LOGIN_QUEUE_MAX];
    static char users[2 * LOGIN_QUEUE_MAX][16], addresses[2 * LOGIN_QUEUE_MAX][32];
    size_t i, accepted = 0;

    (void)state;
    set_held(true);
    for (i = 0; i < 2 * LOGIN_QUEUE_MAX; i++) {
        snprintf(users[i], sizeof users[i], "u%zu", i);
        snprintf(addresses[i], sizeof addresses[i], "10.0.%zu.1:7", i);
        queue[i] = login_of(users[i], "pw", addresses[i]);
        accepted += logins_check(f->auth->logins, &queue[i], NULL) == ST_OK;
    }
    assert_int_equal(accepted, LOGIN_QUEUE_MAX);
    assert_int_equal(stats_of(f).waiting, LOGIN_QUEUE_MAX);
    set_held(false);
    wait_done((int)accepted);
    fixture_close(f);
}

/* A hundred clients that start together with the same credentials cost one hash. */
static void test_followers(void **state)
{
    struct fixture *f = fixture_open(4);
    static struct login all[100];
    size_t i;

    (void)state;
    fixture_add_user(f, "good", "pw", "d", PERMISSION_READ, true);
    set_held(true);
    for (i = 0; i < 100; i++) {
        all[i] = login_of("good", "pw", "10.0.0.1:7");
        assert_int_equal(logins_check(f->auth->logins, &all[i], NULL), ST_OK);
    }
    set_held(false);
    wait_done(100);
    for (i = 0; i < 100; i++) {
        assert_int_equal(all[i].outcome, LOGIN_RIGHT);
        assert_string_equal(all[i].record->name, "good");
        user_record_unref(all[i].record);
    }
    assert_int_equal(stats_of(f).checked, 1);
    assert_int_equal(stats_of(f).shared, 99);
    fixture_close(f);
}

/* Wrong passwords are used up, the right one waits then, too, also when it was right a moment ago; other addresses and other names do not. */
static void test_attempts(void **state)
{
    struct fixture *f = fixture_open(4);
    struct login l;
    struct err err;
    int i;

    (void)state;
    fixture_add_user(f, "good", "pw", "d", PERMISSION_READ, true);
    fixture_add_user(f, "asleep", "pw", "d", PERMISSION_READ, false);
    l = check(f, "good", "pw");
    user_record_unref(l.record);
    for (i = 0; i < 30; i++)
        assert_int_equal(check(f, "good", i % 2 == 0 ? "wrong" : "bad").outcome, LOGIN_WRONG_PASSWORD);
    l = login_of("good", "pw", "10.0.0.1:9");
    assert_int_equal(logins_check(f->auth->logins, &l, &err), ST_LIMIT);
    assert_string_equal(err.text, "too many failed logins: try again in 2 s");
    assert_int_equal(logins_attempt_begin(f->auth->logins, "10.0.0.1:10", bytes_str("good"), &err), ST_LIMIT);
    assert_int_equal(stats_of(f).limited, 2);
    for (i = 0; i < 30; i++) /* no failures: the password is right */
        assert_int_equal(check(f, "asleep", "pw").outcome, LOGIN_INACTIVE);
    assert_int_equal(logins_attempt_begin(f->auth->logins, "10.0.0.1:10", bytes_str("asleep"), &err), ST_OK);
    logins_attempt_end(f->auth->logins, "10.0.0.1:10", bytes_str("asleep"), true);
    set_held(false);
    l = login_of("good", "pw", "10.0.0.2:9");
    assert_int_equal(logins_check(f->auth->logins, &l, &err), ST_OK);
    wait_done(1);
    assert_int_equal(l.outcome, LOGIN_RIGHT);
    user_record_unref(l.record);
    f->mono_ns += UINT64_C(2000000000);
    l = check(f, "good", "pw");
    assert_int_equal(l.outcome, LOGIN_RIGHT);
    user_record_unref(l.record);
    for (i = 0; i < 30; i++)
        assert_int_equal(logins_attempt_begin(f->auth->logins, "10.0.0.9:10", bytes_str("x"), &err), ST_OK);
    assert_int_equal(logins_attempt_begin(f->auth->logins, "10.0.0.9:10", bytes_str("x"), &err), ST_LIMIT);
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outcomes),    cmocka_unit_test(test_memory),    cmocka_unit_test(test_shares),
                                       cmocka_unit_test(test_queue_bound), cmocka_unit_test(test_followers), cmocka_unit_test(test_attempts)};

    return cmocka_run_group_tests_name("logins", tests, NULL, NULL);
}
