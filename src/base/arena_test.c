/* Proves that an arena gives aligned memory that does not overlap, keeps its bound, survives failing allocations, refuses
 * overflowing sizes and keeps one chunk on reset. */
#include "base/alloc_failing.h"
#include "base/arena.h"
#include "base/test.h"

/* Random sizes, each filled with its own byte: all still hold theirs at the end. */
static void pieces_do_not_overlap(void **state)
{
    enum { COUNT = 500 };
    struct arena a;
    uint8_t *p[COUNT];
    size_t len[COUNT];
    uint64_t rng = 1;

    (void)state;
    arena_init(&a, 256, 0);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            len[i] = (size_t)(test_random(&rng) % (i % 7 == 0 ? 2000 : 60));
            assert_non_null(p[i] = arena_alloc(&a, len[i]));
            assert_int_equal(len[i] == 0 ? 0 : (uintptr_t)p[i] % _Alignof(max_align_t), 0);
            if (len[i] > 0)
                memset(p[i], (int)(i % 251), len[i]);
        }
        for (size_t i = 0; i < COUNT; i++)
            for (size_t k = 0; k < len[i]; k++)
                assert_int_equal(p[i][k], i % 251);
        arena_reset(&a);
        assert_int_equal(a.bytes_used, 256);
    }
    arena_free(&a);
    assert_int_equal(a.bytes_used, 0);
    assert_non_null(arena_alloc(&a, 10));
    arena_free(&a);
}

static void bound_holds(void **state)
{
    struct arena a;
    size_t total = 0;

    (void)state;
    arena_init(&a, 1024, 10000);
    assert_null(arena_alloc(&a, 10001));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX - 20));
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_null(arena_array(&a, (size_t)1 << 32, (size_t)1 << 32));
    while (arena_alloc(&a, 48) != NULL) {
        total += 48;
        assert_true(a.bytes_used <= 10000);
    }
    assert_true(total > 9000); /* the last chunk is cut to what is left, not refused */
    arena_reset(&a);
    assert_int_equal(a.bytes_used, 1024);
    assert_non_null(arena_alloc(&a, 8000)); /* a chunk of its own */
    assert_non_null(arena_alloc(&a, 500));  /* and the first goes on */
    assert_null(arena_alloc(&a, 2000));
    arena_free(&a);
}

static void copies(void **state)
{
    struct arena a;
    struct bytes copy;
    uint8_t *zeros;

    (void)state;
    arena_init(&a, 256, 0);
    copy = arena_copy(&a, bytes_str("hello"));
    assert_true(bytes_equal(copy, bytes_str("hello")));
    copy = arena_copy(&a, bytes_of(NULL, 0));
    assert_int_equal(copy.len, 0);
    assert_non_null(arena_alloc(&a, 0));
    assert_string_equal(arena_str(&a, bytes_of("abcdef", 3)), "abc");
    assert_string_equal(arena_str(&a, bytes_of(NULL, 0)), "");
    memset(arena_alloc(&a, 100), 0xff, 100);
    arena_reset(&a);
    zeros = arena_zalloc(&a, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(zeros[i], 0);
    arena_free(&a);
}

/* Each allocation of a workload fails once: NULL comes back, what was given before stays, the next try succeeds. */
static void failing_allocations(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        struct arena a;
        bool has_failed;

        arena_init(&a, 256, 0);
        alloc_fail_arm(n, false);
        for (size_t i = 0; i < 20; i++) {
            size_t len = i % 5 == 4 ? 1000 : 100;
            uint8_t *p = arena_alloc(&a, len);

            if (p == NULL) {
                assert_true(alloc_has_failed);
                p = arena_alloc(&a, len);
            }
            assert_non_null(p);
            memset(p, 1, len);
        }
        has_failed = alloc_fail_disarm();
        arena_free(&a);
        if (!has_failed) {
            assert_true(n > 5);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_do_not_overlap),
        cmocka_unit_test(bound_holds),
        cmocka_unit_test(copies),
        cmocka_unit_test(failing_allocations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
