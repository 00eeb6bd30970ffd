/* Proves that an arena gives aligned memory that does not overlap, keeps its bound, survives failing allocations, refuses
 * overflowing sizes, keeps one chunk on reset, tells its meter of every byte, and lets allocations grow. */
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

/* A meter with a limit, and what it was told. */
struct told {
    struct arena_meter meter;
    size_t taken, limit;
};
static bool told_take(struct arena_meter *m, size_t len)
{
    struct told *t = (struct told *)(void *)m;

    if (len > t->limit - t->taken)
        return false;
    t->taken += len;
    return true;
}
static void told_give(struct arena_meter *m, size_t len)
{
    struct told *t = (struct told *)(void *)m;

    assert_true(len <= t->taken);
    t->taken -= len;
}
static size_t beyond(const struct arena *a, size_t free_bytes) { return a->bytes_used > free_bytes ? a->bytes_used - free_bytes : 0; }

/* The meter knows of each byte beyond the free ones at every moment, whatever is allocated, grown, reset, refused, or fails. */
static void the_meter_is_exact(void **state)
{
    uint64_t rng = 9;

    (void)state;
    for (int round = 0; round < 300; round++) {
        size_t free_bytes = test_random(&rng) % 3 * 300;
        struct told t = {{told_take, told_give}, 0, 20000};
        struct arena a;
        uint8_t *list;
        size_t list_len = 0;

        arena_init(&a, 256, 0);
        arena_set_meter(&a, &t.meter, free_bytes);
        list = arena_alloc(&a, 0);
        for (int i = 0; i < 100; i++) {
            size_t more = test_random(&rng) % 500;
            uint8_t *p;

            if (test_random(&rng) % 10 == 0)
                alloc_fail_arm(1 + (long)(test_random(&rng) % 2), false);
            switch (test_random(&rng) % 8) {
            case 0:
                arena_reset(&a);
                list = arena_alloc(&a, list_len = 0);
                break;
            case 1:
            case 2:
            case 3:
                if ((p = arena_grow(&a, list, list_len, list_len + more)) != NULL) {
                    for (size_t k = 0; k < list_len; k++)
                        assert_int_equal(p[k], k % 251);
                    for (size_t k = list_len; k < list_len + more; k++)
                        p[k] = (uint8_t)(k % 251);
                    list = p;
                    list_len += more;
                }
                break;
            default:
                if ((p = arena_alloc(&a, more)) != NULL && more > 0)
                    memset(p, 0xee, more);
            }
            (void)alloc_fail_disarm();
            assert_int_equal(t.taken, beyond(&a, free_bytes));
            for (size_t k = 0; k < list_len; k++)
                assert_int_equal(list[k], k % 251);
        }
        arena_free(&a);
        assert_int_equal(t.taken, 0);
    }
}

/* A large allocation that grows leaves nothing behind; one that can not stays as it is. */
static void growing(void **state)
{
    struct arena a;
    uint8_t *p, *q;

    (void)state;
    arena_init(&a, 256, 100000);
    p = arena_alloc(&a, 1000); /* the first chunk is its own */
    memset(p, 1, 1000);
    assert_non_null(p = arena_grow(&a, p, 1000, 50000));
    assert_true(a.bytes_used < 50100);
    assert_non_null(arena_alloc(&a, 10));
    assert_non_null(q = arena_alloc(&a, 500));
    memset(q, 2, 500);
    assert_non_null(p = arena_grow(&a, p, 50000, 90000)); /* not the first any more */
    assert_true(a.bytes_used < 92000);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(p[i], 1);
    for (int i = 0; i < 500; i++)
        assert_int_equal(q[i], 2);
    assert_null(arena_grow(&a, p, 90000, 100000)); /* the bound */
    assert_null(arena_grow(&a, p, 90000, SIZE_MAX));
    assert_null(arena_grow(&a, p, 90000, SIZE_MAX - 40));
    alloc_fail_arm(1, false);
    assert_null(arena_grow(&a, p, 90000, 92000));
    assert_true(alloc_fail_disarm());
    assert_int_equal(p[999], 1);
    assert_ptr_equal(arena_grow(&a, p, 90000, 90000), p);
    arena_free(&a);
    assert_int_equal(a.bytes_used, 0);
}

/* What was there at the mark stays, what came after it is given back to the byte, wherever it was put. */
static void coming_back(void **state)
{
    uint64_t seed = 11;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct arena a;
        struct arena_mark mark;
        uint8_t *kept[20];
        size_t count = test_random(&seed) % 20, used;

        arena_init(&a, 256, 0);
        for (size_t i = 0; i < count; i++) {
            kept[i] = arena_alloc(&a, 1 + i * 37);
            memset(kept[i], (int)i, 1 + i * 37);
        }
        mark = arena_mark(&a);
        used = a.bytes_used;
        for (int again = 0; again < 3; again++) {
            uint8_t *big = arena_alloc(&a, 700);

            for (size_t n = test_random(&seed) % 30; n > 0; n--) {
                size_t len = test_random(&seed) % 5 == 0 ? 1000 : test_random(&seed) % 200;
                uint8_t *p = arena_alloc(&a, len);

                assert_non_null(p);
                if (len > 0)
                    memset(p, 0xee, len);
            }
            assert_non_null(arena_grow(&a, big, 700, 5000));
            arena_rewind(&a, mark);
            assert_int_equal(a.bytes_used, used);
            for (size_t i = 0; i < count; i++)
                for (size_t k = 0; k < 1 + i * 37; k++)
                    assert_int_equal(kept[i][k], i);
        }
        arena_free(&a);
        assert_int_equal(a.bytes_used, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_do_not_overlap), cmocka_unit_test(bound_holds), cmocka_unit_test(copies),      cmocka_unit_test(failing_allocations),
        cmocka_unit_test(the_meter_is_exact),    cmocka_unit_test(growing),     cmocka_unit_test(coming_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
