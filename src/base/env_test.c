/* Proves that the system's clocks move forward, that random bytes differ, that seconds round down before 1970, and that a
 * log line reaches its function formatted and cut. */
#include "base/env.h"
#include "base/test.h"

#include <string.h>

struct captured {
    enum log_level level;
    char text[2048];
};

static void capture(void *ctx, enum log_level level, const char *text)
{
    struct captured *c = ctx;

    c->level = level;
    strncpy(c->text, text, sizeof c->text - 1);
}

static int64_t wall_fixed(void *ctx) { return *(int64_t *)ctx; }

static void clocks(void **state)
{
    const struct env *e = env_system();
    uint64_t before = env_mono_ns(e);

    (void)state;
    assert_true(env_wall_s(e) > 1700000000);
    assert_true(env_mono_ns(e) >= before);
    for (int i = 0; i < 3; i++) {
        static const int64_t ns[] = {-1, -1000000000, 1999999999}, s[] = {-1, -1, 1};
        struct env fixed = {.ctx = (void *)(uintptr_t)&ns[i], .wall_ns = wall_fixed};

        assert_true(env_wall_s(&fixed) == s[i]);
    }
}

static void random_bytes(void **state)
{
    uint8_t a[1000], b[1000];
    unsigned seen[256] = {0}, distinct = 0;

    (void)state;
    env_random(env_system(), a, sizeof a);
    env_random(env_system(), b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a + 500, a, 500);
    for (size_t i = 0; i < sizeof a; i++)
        distinct += seen[a[i]]++ == 0;
    assert_true(distinct > 200);
}

static void log_lines(void **state)
{
    struct captured c = {0};
    struct env e = {.ctx = &c, .log = capture};
    char big[5000];

    (void)state;
    env_log(&e, LOG_WARN, "x %d %s", 5, "y");
    assert_int_equal(c.level, LOG_WARN);
    assert_string_equal(c.text, "x 5 y");
    memset(big, 'a', sizeof big);
    big[sizeof big - 1] = '\0';
    env_log(&e, LOG_ERROR, "%s", big);
    assert_int_equal(strlen(c.text), 1023);
    env_log(env_system(), LOG_INFO, "line\nthat must stay one line %s", big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks),
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(log_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
