/* Proves that timers fire in the order of their times and never early, against a sorted list, under random arming, moving and
 * disarming; and that a timer which arms itself for the past does not hold the loop. */
#include "base/test.h"
#include "rpc/timer.h"

#include <stdlib.h>

enum { TIMERS = 300 };

static struct timer all[TIMERS];
static unsigned fired[TIMERS];
static uint64_t last_ns, now_ns;
static struct timers heap;

static void on_fire(struct timer *timer)
{
    assert_true(timer->at_ns >= last_ns && timer->at_ns <= now_ns);
    assert_int_equal(timer->position, 0);
    last_ns = timer->at_ns;
    fired[timer - all]++;
}

static void random_arming(void **state)
{
    uint64_t seed = 3;
    uint64_t want_ns[TIMERS];
    bool is_armed[TIMERS] = {false};

    (void)state;
    for (size_t i = 0; i < TIMERS; i++) {
        all[i] = (struct timer){.fire = on_fire};
        assert_true(timers_take_slot(&heap));
    }
    for (int round = 0; round < 2000; round++) {
        uint64_t next_ns = UINT64_MAX;

        for (int step = 0; step < 20; step++) {
            size_t i = test_random(&seed) % TIMERS;

            if (test_random(&seed) % 3 == 0) {
                timer_disarm(&heap, &all[i]);
                is_armed[i] = false;
            } else {
                want_ns[i] = now_ns + test_random(&seed) % 1000;
                timer_arm(&heap, &all[i], want_ns[i]);
                is_armed[i] = true;
            }
        }
        for (size_t i = 0; i < TIMERS; i++)
            if (is_armed[i] && want_ns[i] < next_ns)
                next_ns = want_ns[i];
        assert_true(timers_next_ns(&heap) == next_ns);
        now_ns += test_random(&seed) % 200;
        last_ns = 0;
        for (size_t i = 0; i < TIMERS; i++)
            fired[i] = 0;
        timers_run(&heap, now_ns);
        for (size_t i = 0; i < TIMERS; i++) {
            assert_int_equal(fired[i], is_armed[i] && want_ns[i] <= now_ns);
            is_armed[i] = is_armed[i] && want_ns[i] > now_ns;
        }
    }
    for (size_t i = 0; i < TIMERS; i++) {
        timer_disarm(&heap, &all[i]);
        timer_disarm(&heap, &all[i]);
        timers_drop_slot(&heap);
    }
    assert_true(timers_next_ns(&heap) == UINT64_MAX);
    timers_free(&heap);
}

static unsigned again_count;
static void on_again(struct timer *timer)
{
    again_count++;
    timer_arm(&heap, timer, 0);
}

static void arming_for_the_past(void **state)
{
    struct timer timer = {.fire = on_again};

    (void)state;
    assert_true(timers_take_slot(&heap));
    timer_arm(&heap, &timer, 1);
    timers_run(&heap, 100);
    assert_int_equal(again_count, 1);
    timer_disarm(&heap, &timer);
    timers_drop_slot(&heap);
    timers_free(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_arming), cmocka_unit_test(arming_for_the_past)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
