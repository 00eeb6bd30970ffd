/* Allowances of failed logins: what one address may try, that right ones cost nothing, that an attacker at one or many addresses locks nobody out
 * elsewhere, and that the table stays as large as it is. Time is set by hand; expectations are counted by a simple loop of attempts. */
#include <stdio.h>
#include <stdlib.h>

#include "auth/attempts.h"
#include "base/test.h"

enum { N = 30 };
static const uint64_t SECOND = 1000000000, MINUTE = UINT64_C(60) * 1000000000;

static struct attempts *attempts_new(uint32_t per_minute)
{
    struct attempts *a = malloc(sizeof *a);

    assert_non_null(a);
    attempts_init(a, env_system(), per_minute);
    return a;
}

/* How many of count wrong attempts are let through at that time. */
static int wrong(struct attempts *a, const char *address, const char *user, int count, uint64_t now_ns)
{
    int passed = 0, i;

    for (i = 0; i < count; i++) {
        if (attempts_wait_ns(a, bytes_str(address), bytes_str(user), now_ns) > 0)
            continue;
        attempts_charge(a, bytes_str(address), bytes_str(user), now_ns);
        passed++;
    }
    return passed;
}

static bool right(struct attempts *a, const char *address, const char *user, uint64_t now_ns)
{
    if (attempts_wait_ns(a, bytes_str(address), bytes_str(user), now_ns) > 0)
        return false;
    attempts_charge(a, bytes_str(address), bytes_str(user), now_ns);
    attempts_give_back(a, bytes_str(address), bytes_str(user), now_ns);
    attempts_known(a, bytes_str(address), bytes_str(user), now_ns);
    return true;
}

static void test_pair(void **state)
{
    struct attempts *a = attempts_new(N);
    uint64_t now = 5 * SECOND, wait;
    int i;

    (void)state;
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 100, now), N);
    wait = attempts_wait_ns(a, bytes_str("10.0.0.1"), bytes_str("immudb"), now);
    assert_int_equal(wait, MINUTE / N);
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 100, now + wait - 1), 0); /* being refused costs nothing */
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 100, now + wait), 1);
    assert_false(right(a, "10.0.0.1", "immudb", now + wait)); /* the right password waits as well: it must not be found by trying */
    assert_true(right(a, "10.0.0.2", "immudb", now + wait));  /* elsewhere nobody waits */
    assert_true(right(a, "10.0.0.1", "other", now + wait));
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 100, now + 10 * MINUTE), N); /* and it is forgotten */
    for (i = 0; i < 10000; i++)
        assert_true(right(a, "10.0.0.3", "busy", now)); /* right ones cost nothing */
    free(a);
}

/* One address tries many names: four times the allowance in all, except for names that have logged in from there. */
static void test_address(void **state)
{
    struct attempts *a = attempts_new(N);
    uint64_t now = 5 * SECOND;
    char user[16];
    int i, passed = 0;

    (void)state;
    assert_true(right(a, "10.0.0.1", "colleague", now));
    for (i = 0; i < 1000; i++) {
        snprintf(user, sizeof user, "u%d", i);
        passed += wrong(a, "10.0.0.1", user, 1, now);
    }
    assert_int_equal(passed, ATTEMPTS_SHARED_FACTOR * N);
    assert_false(right(a, "10.0.0.1", "stranger", now));
    assert_true(right(a, "10.0.0.1", "colleague", now));
    assert_true(right(a, "10.0.0.2", "stranger", now));
    free(a);
}

/* Many addresses try one user: beyond four times the allowance each has one attempt a minute; nobody is ever without. */
static void test_user(void **state)
{
    struct attempts *a = attempts_new(N);
    uint64_t now = 5 * SECOND;
    char address[32];
    int i, passed = 0;

    (void)state;
    assert_true(right(a, "192.168.0.1", "immudb", now));
    for (i = 0; i < 100; i++) {
        snprintf(address, sizeof address, "10.0.0.%d", i);
        passed += wrong(a, address, "immudb", N, now);
    }
    assert_int_equal(passed, ATTEMPTS_SHARED_FACTOR * N + 100 - ATTEMPTS_SHARED_FACTOR); /* four addresses to the full, the others once */
    assert_true(right(a, "192.168.0.1", "immudb", now));
    assert_int_equal(wrong(a, "192.168.0.1", "immudb", 100, now), N); /* who is known has the whole allowance */
    assert_true(right(a, "192.168.0.2", "immudb", now));              /* who is not has one attempt */
    assert_int_equal(wrong(a, "192.168.0.3", "immudb", 100, now), 1);
    for (i = 0; i < 100; i++) {
        snprintf(address, sizeof address, "10.0.0.%d", i);
        wrong(a, address, "immudb", N, now + 30 * SECOND); /* the attack goes on */
    }
    assert_int_equal(wrong(a, "192.168.0.3", "immudb", 100, now + 59 * SECOND), 0);
    assert_int_equal(wrong(a, "192.168.0.3", "immudb", 100, now + 62 * SECOND), 1);
    free(a);
}

/* A hundred thousand addresses: the table does not grow, known pairs stay in it, debts of the last moments are kept. */
static void test_flood(void **state)
{
    struct attempts *a = attempts_new(N);
    uint64_t now = 5 * SECOND;
    char address[32];
    int i;

    (void)state;
    for (i = 0; i < 200; i++) {
        snprintf(address, sizeof address, "192.168.1.%d", i);
        assert_true(right(a, address, "known", now));
    }
    for (i = 0; i < 100000; i++) {
        snprintf(address, sizeof address, "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        wrong(a, address, "known", 2, now + (uint64_t)i * 1000000);
    }
    now += 100 * SECOND;
    assert_true(attempts_wait_ns(a, bytes_str("10.1.134.159"), bytes_str("known"), now) > 0);
    for (i = 0; i < 200; i++) {
        snprintf(address, sizeof address, "192.168.1.%d", i);
        if (wrong(a, address, "known", 2, now) != 2) /* a pair that was pushed out would be held to one */
            fail_msg("%s was forgotten", address);
    }
    free(a);
}

static void test_off(void **state)
{
    struct attempts *a = attempts_new(0);

    (void)state;
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 100000, SECOND), 100000);
    free(a);
}

static void test_one_a_minute(void **state)
{
    struct attempts *a = attempts_new(1);
    uint64_t now = 5 * SECOND;

    (void)state;
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 10, now), 1);
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 10, now + MINUTE - 1), 0);
    assert_int_equal(wrong(a, "10.0.0.1", "immudb", 10, now + MINUTE), 1);
    free(a);
}

static void test_addresses(void **state)
{
    static const char *const cases[][2] = {{"10.0.0.1:7", "10.0.0.1"},
                                           {"[::1]:7", "::"},
                                           {"[2001:db8:1:2:3:4:5:6]:80", "2001:db8:1:2::"},
                                           {"[2001:db8:1:2:ffff::]:80", "2001:db8:1:2::"},
                                           {"[fe80::1%eth0]:80", "[fe80::1%eth0]"},
                                           {"[]:1", "[]"},
                                           {"", ""},
                                           {":", ""},
                                           {"no port", "no port"}};
    char text[ATTEMPTS_ADDRESS_MAX], longest[200];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes b = attempts_address(cases[i][0], text);

        assert_int_equal(b.len, strlen(cases[i][1]));
        assert_memory_equal(b.data, cases[i][1], b.len);
    }
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(attempts_address(longest, text).len, ATTEMPTS_ADDRESS_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pair),     cmocka_unit_test(test_address), cmocka_unit_test(test_user),
                                       cmocka_unit_test(test_flood),    cmocka_unit_test(test_off),     cmocka_unit_test(test_one_a_minute),
                                       cmocka_unit_test(test_addresses)};

    return cmocka_run_group_tests_name("attempts", tests, NULL, NULL);
}
