/* Proves the default shares, exact accounting and peaks, that try_take never exceeds a share even with many threads, and
 * that the queue fills the requests' share. */
#include "base/budget.h"
#include "base/test.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

static void shares(void **state)
{
    struct budget b;

    (void)state;
    budget_init(&b, 1600);
    assert_int_equal(b.share[BUDGET_CACHE], 600);
    assert_int_equal(b.share[BUDGET_MEMTABLE], 400);
    assert_int_equal(b.share[BUDGET_REQUEST], 400);
    assert_int_equal(b.share[BUDGET_QUEUE], 200);
    assert_int_equal(b.share[BUDGET_TREE], 100);
    assert_int_equal(b.share[BUDGET_OTHER], 100);
    for (unsigned use = 0; use < BUDGET_USES; use++)
        assert_true(strlen(budget_use_name((enum budget_use)use)) > 0);
}

static void take_and_give(void **state)
{
    struct budget b;

    (void)state;
    budget_init(&b, 1600);
    budget_take(&b, BUDGET_CACHE, 900); /* take may exceed */
    assert_int_equal(budget_used(&b, BUDGET_CACHE), 900);
    assert_int_equal(budget_pressure(&b, BUDGET_CACHE), 150);
    assert_false(budget_try_take(&b, BUDGET_CACHE, 1));
    budget_give(&b, BUDGET_CACHE, 800);
    assert_true(budget_try_take(&b, BUDGET_CACHE, 500));
    assert_false(budget_try_take(&b, BUDGET_CACHE, 1));
    assert_false(budget_try_take(&b, BUDGET_CACHE, SIZE_MAX));
    assert_int_equal(b.peak[BUDGET_CACHE], 900);
    budget_take(&b, BUDGET_OTHER, 7);
    assert_int_equal(budget_total(&b), 607);
    /* The queue lies inside the requests' share, not the other way round. */
    assert_true(budget_try_take(&b, BUDGET_QUEUE, 150));
    assert_true(budget_try_take(&b, BUDGET_REQUEST, 250));
    assert_false(budget_try_take(&b, BUDGET_REQUEST, 1));
    assert_int_equal(budget_pressure(&b, BUDGET_REQUEST), 100);
    assert_int_equal(budget_pressure(&b, BUDGET_QUEUE), 75);
    assert_true(budget_try_take(&b, BUDGET_QUEUE, 50));
    assert_false(budget_try_take(&b, BUDGET_REQUEST, 0));
    budget_init(&b, 1600); /* a part of a share; the queue counts as well */
    assert_true(budget_try_take_upto(&b, BUDGET_REQUEST, 200, 75));
    assert_true(budget_try_take(&b, BUDGET_QUEUE, 50));
    assert_false(budget_try_take_upto(&b, BUDGET_REQUEST, 51, 75));
    assert_true(budget_try_take_upto(&b, BUDGET_REQUEST, 50, 75));
    assert_false(budget_try_take_upto(&b, BUDGET_REQUEST, 1, 75));
    assert_true(budget_try_take_upto(&b, BUDGET_REQUEST, 100, 100));
    assert_false(budget_try_take(&b, BUDGET_REQUEST, 1));
    budget_init(&b, 0);
    assert_int_equal(budget_pressure(&b, BUDGET_CACHE), 0);
    budget_take(&b, BUDGET_CACHE, 1);
    assert_int_equal(budget_pressure(&b, BUDGET_CACHE), UINT_MAX);
}

static void *taker(void *arg)
{
    struct budget *b = arg;

    for (int i = 0; i < 20000; i++) {
        if (budget_try_take(b, BUDGET_MEMTABLE, 30)) {
            if (budget_used(b, BUDGET_MEMTABLE) > b->share[BUDGET_MEMTABLE])
                return b;
            budget_give(b, BUDGET_MEMTABLE, 30);
        }
    }
    return NULL;
}

static void many_threads(void **state)
{
    struct budget b;
    pthread_t threads[4];

    (void)state;
    budget_init(&b, 400); /* share 100: three takers fit */
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, taker, &b), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(budget_used(&b, BUDGET_MEMTABLE), 0);
    assert_true(b.peak[BUDGET_MEMTABLE] >= 30 && b.peak[BUDGET_MEMTABLE] <= 90);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares),
        cmocka_unit_test(take_and_give),
        cmocka_unit_test(many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
