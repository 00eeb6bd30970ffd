/* Proves that buffers of a frame's size get pages of their own, intact and distinct, that they can grow, shrink and be freed in any
 * order, that regions go away when empty, that other sizes come from malloc, and that failing allocations are passed on. */
#include "base/alloc_failing.h"
#include "base/test.h"
#include "rpc/frame_room.h"

#include <string.h>

enum { COUNT = 300 };

static void rooms_in_any_order(void **state)
{
    struct frame_rooms rooms = {NULL};
    nghttp2_mem m = frame_rooms_allocator(&rooms);
    uint8_t *p[COUNT] = {NULL};
    uint64_t seed = 5;

    (void)state;
    for (int step = 0; step < 20000; step++) {
        size_t i = test_random(&seed) % COUNT;

        if (p[i] == NULL) {
            p[i] = i % 2 == 0 ? m.malloc(16394, m.mem_user_data) : m.realloc(NULL, 16394, m.mem_user_data);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 4096, 0);
            memset(p[i], (int)i, 16394);
        } else {
            for (size_t at = 0; at < 16394; at += 1021)
                assert_int_equal(p[i][at], (uint8_t)i);
            m.free(p[i], m.mem_user_data);
            p[i] = NULL;
        }
    }
    for (size_t i = 0; i < COUNT; i++)
        m.free(p[i], m.mem_user_data);
    assert_null(rooms.regions);
    frame_rooms_free(&rooms);
}

static void growing(void **state)
{
    struct frame_rooms rooms = {NULL};
    nghttp2_mem m = frame_rooms_allocator(&rooms);
    uint8_t *p = m.malloc(16394, m.mem_user_data), *q = m.malloc(100, m.mem_user_data), *z = m.calloc(10, 10, m.mem_user_data);

    (void)state;
    assert_true(p != NULL && q != NULL && z != NULL);
    memset(p, 7, 16394);
    memset(q, 8, 100);
    assert_ptr_equal(m.realloc(p, 20000, m.mem_user_data), p);
    assert_ptr_equal(m.realloc(p, 10, m.mem_user_data), p);
    p = m.realloc(p, 100000, m.mem_user_data);
    assert_non_null(p);
    for (size_t i = 0; i < 16394; i++)
        assert_int_equal(p[i], 7);
    assert_null(rooms.regions);
    p = m.realloc(p, 200000, m.mem_user_data);
    q = m.realloc(q, 5000, m.mem_user_data);
    assert_true(p != NULL && q != NULL);
    assert_int_equal(q[99], 8);
    m.free(p, m.mem_user_data);
    m.free(q, m.mem_user_data);
    m.free(z, m.mem_user_data);
    m.free(NULL, m.mem_user_data);
    frame_rooms_free(&rooms);
}

static void without_memory(void **state)
{
    struct frame_rooms rooms = {NULL};
    nghttp2_mem m = frame_rooms_allocator(&rooms);
    uint8_t *p;

    (void)state;
    alloc_fail_arm(1, true);
    assert_null(m.malloc(16394, m.mem_user_data));
    assert_null(m.malloc(100, m.mem_user_data));
    assert_null(m.realloc(NULL, 16394, m.mem_user_data));
    assert_true(alloc_fail_disarm());
    p = m.malloc(16394, m.mem_user_data);
    assert_non_null(p);
    p[5] = 1;
    alloc_fail_arm(1, true);
    assert_null(m.realloc(p, 100000, m.mem_user_data));
    assert_true(alloc_fail_disarm());
    assert_int_equal(p[5], 1);
    m.free(p, m.mem_user_data);
    frame_rooms_free(&rooms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rooms_in_any_order), cmocka_unit_test(growing), cmocka_unit_test(without_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
