/* Memory that runs out while logs, health, reflection and the list of transactions are made, at every allocation in turn: each says ST_NOMEM, gives
 * nothing back and leaks nothing (address sanitizer); a scrape whose text finds no room says so. */
#include <stdlib.h>

#include "base/alloc_failing.h"
#include "base/test.h"
#include "config/logger.h"
#include "handlers/txs.h"
#include "metrics/rpc_metrics.h"
#include "observe/access_log.h"
#include "observe/audit_log.h"
#include "observe/health.h"
#include "observe/reflection.h"

static struct logger *logger;

static enum status make_access_log(struct err *err)
{
    struct access_log *a = NULL;
    enum status st = access_log_start(logger, &a, err);

    assert_true((st == ST_OK) == (a != NULL));
    access_log_stop(a);
    return st;
}

static enum status make_audit_log(struct err *err)
{
    struct audit_log *a = NULL;
    enum status st = audit_log_create(logger, "write", &a, err);

    assert_true((st == ST_OK) == (a != NULL));
    audit_log_stop(a);
    return st;
}

static enum status make_health(struct err *err)
{
    static const char *const services[] = {"a.B"};
    struct health *h = NULL;
    enum status st = health_create(services, 1, &h, err);

    assert_true((st == ST_OK) == (h != NULL));
    health_free(h);
    return st;
}

static enum status make_txs(struct err *err)
{
    struct txs *t = NULL;
    enum status st = txs_create(env_system(), &t, err);

    assert_true((st == ST_OK) == (t != NULL));
    txs_free(t);
    return st;
}

static enum status make_answer(struct err *err)
{
    static const uint8_t services[] = {7 << 3 | 2, 0};
    uint64_t sent = 0;
    uint8_t *out;
    size_t len;
    enum status st = reflection_answer(bytes_of(services, sizeof services), &sent, &out, &len, err);

    assert_true((st == ST_OK) == (out != NULL));
    free(out);
    return st;
}

static enum status make_metrics(struct err *err)
{
    static const struct rpc_metrics_method methods[] = {{"/p.S/A", "unary"}};
    struct metrics_text t = {0};
    struct rpc_metrics *m;
    enum status st = rpc_metrics_create(methods, 1, &m, err);

    if (st == ST_OK) {
        rpc_metrics_started(m, 0, 0); /* without memory it is not counted */
        rpc_metrics_ended(m, 0, 0, 0, 1000);
        (void)rpc_metrics_client(m, bytes_str("10.0.0.1"));
        rpc_metrics_write(m, true, &t);
        if (t.failed)
            st = ST_NOMEM;
    }
    metrics_text_free(&t);
    rpc_metrics_free(m);
    return st;
}

static void test_all(void **state)
{
    static enum status (*const makers[])(struct err * err) = {make_access_log, make_audit_log, make_health, make_txs, make_answer, make_metrics};
    struct logger_options o = {.env = env_system(), .level = LOG_ERROR};
    enum status st = ST_NOMEM;
    struct err err;
    size_t i;
    long n;

    (void)state;
    assert_int_equal(logger_open(&o, &logger, &err), ST_OK);
    for (i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        bool has_failed = true;

        for (n = 1; has_failed; n++) {
            alloc_fail_arm(n, true);
            st = makers[i](&err);
            has_failed = alloc_fail_disarm();
            if (!has_failed)
                break;
            assert_true(n < 50);
            assert_int_equal(st, ST_NOMEM);
        }
        assert_true(n > 1); /* something was allocated */
        assert_int_equal(st, ST_OK);
    }
    logger_close(logger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};

    return cmocka_run_group_tests_name("observe_alloc", tests, NULL, NULL);
}
