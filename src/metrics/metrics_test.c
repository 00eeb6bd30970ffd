/* The text form to the byte, and counters: what is counted in any shard and bucket comes out in sums; clients beyond the bound share one. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "metrics/rpc_metrics.h"

static void test_text(void **state)
{
    static const double bounds[] = {.0001, .5, 10};
    static const uint64_t counts[] = {1, 0, 2, 3};
    struct metric_label labels[] = {{"db", "a\"b\\c\nd"}, {"x", ""}};
    static const char expected[] =
        "# HELP one a gauge\n# TYPE one gauge\none 2.5\n# HELP two counts\n# TYPE two counter\n"
        "two{db=\"a\\\"b\\\\c\\nd\",x=\"\"} 18446744073709551615\ntwo 1e+18\n"
        "h_bucket{x=\"\",le=\"0.0001\"} 1\nh_bucket{x=\"\",le=\"0.5\"} 1\nh_bucket{x=\"\",le=\"10\"} 3\nh_bucket{x=\"\",le=\"+Inf\"} 6\n"
        "h_sum{x=\"\"} 7.25\nh_count{x=\"\"} 6\n";
    struct metrics_text t = {0};

    (void)state;
    metrics_single(&t, "one", "gauge", "a gauge", 2.5);
    metrics_family(&t, "two", "counter", "counts");
    metrics_sample_u64(&t, "two", labels, 2, UINT64_MAX);
    metrics_sample(&t, "two", NULL, 0, 1e18);
    metrics_histogram(&t, "h", labels + 1, 1, bounds, 3, counts, 7.25);
    assert_false(t.failed);
    assert_int_equal(t.len, strlen(expected));
    assert_memory_equal(t.text, expected, t.len);
    metrics_text_free(&t);
}

static const struct rpc_metrics_method METHODS_[] = {{"/p.S/A", "unary"}, {"/p.S/b", "server_stream"}};

static char *written(struct rpc_metrics *m, bool histograms)
{
    struct metrics_text t = {0};
    char *text;

    rpc_metrics_write(m, histograms, &t);
    assert_false(t.failed);
    assert_non_null(text = malloc(t.len + 1));
    memcpy(text, t.text, t.len);
    text[t.len] = '\0';
    metrics_text_free(&t);
    return text;
}

static void expect_line(const char *text, const char *line)
{
    char framed[256];

    snprintf(framed, sizeof framed, "\n%s\n", line);
    if (strstr(text, framed) == NULL)
        fail_msg("no line \"%s\"", line);
}

static void test_counts(void **state)
{
    struct rpc_metrics *m;
    char *text;
    unsigned shard;

    (void)state;
    assert_int_equal(rpc_metrics_create(METHODS_, 2, &m, NULL), ST_OK);
    text = written(m, true); /* at zero for every method and code */
    expect_line(text, "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\",grpc_code=\"Unauthenticated\"} 0");
    expect_line(text, "grpc_server_handling_seconds_count{grpc_type=\"server_stream\",grpc_service=\"p.S\",grpc_method=\"b\"} 0");
    free(text);
    for (shard = 0; shard < 40; shard++) { /* more threads than shards */
        rpc_metrics_started(m, shard, 0);
        rpc_metrics_ended(m, shard, 0, shard % 2 == 0 ? 0 : 7, shard < 20 ? 50000 : 20000000);
    }
    rpc_metrics_started(m, 3, 1);
    text = written(m, true);
    expect_line(text, "grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\"} 40");
    expect_line(text, "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\",grpc_code=\"OK\"} 20");
    expect_line(text, "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\",grpc_code=\"PermissionDenied\"} 20");
    expect_line(text, "grpc_server_started_total{grpc_type=\"server_stream\",grpc_service=\"p.S\",grpc_method=\"b\"} 1");
    expect_line(text, "grpc_server_handling_seconds_bucket{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\",le=\"0.005\"} 20");
    expect_line(text, "grpc_server_handling_seconds_bucket{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\",le=\"0.025\"} 40");
    expect_line(text, "grpc_server_handling_seconds_sum{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\"} 0.401");
    expect_line(text, "immudb_query_latency_seconds_bucket{op=\"/p.S/A\",le=\"0.0001\"} 20");
    expect_line(text, "immudb_query_latency_seconds_count{op=\"/p.S/A\"} 40");
    free(text);
    text = written(m, false);
    assert_null(strstr(text, "handling_seconds"));
    free(text);
    rpc_metrics_free(m);
}

static void test_clients(void **state)
{
    struct rpc_client *first, *c;
    struct rpc_metrics *m;
    char ip[32], *text;
    int i;

    (void)state;
    assert_int_equal(rpc_metrics_create(METHODS_, 2, &m, NULL), ST_OK);
    first = rpc_metrics_client(m, bytes_str("10.0.0.1"));
    assert_ptr_equal(rpc_metrics_client(m, bytes_str("10.0.0.1")), first);
    rpc_client_count(first, 1795229007);
    rpc_client_count(first, 1795229008);
    text = written(m, false);
    expect_line(text, "immudb_number_of_rpcs_per_client{ip=\"10.0.0.1\"} 2");
    expect_line(text, "immudb_clients_last_message_at_unix_seconds{ip=\"10.0.0.1\"} 1795229008");
    assert_null(strstr(text, "overflow"));
    free(text);
    for (i = 0; i < RPC_CLIENTS_MAX + 5; i++) {
        snprintf(ip, sizeof ip, "fd00::%x", i);
        c = rpc_metrics_client(m, bytes_str(ip));
        assert_non_null(c);
        rpc_client_count(c, 1);
    }
    text = written(m, false);
    expect_line(text, "immudb_number_of_rpcs_per_client{ip=\"overflow\"} 6");
    free(text);
    assert_ptr_equal(rpc_metrics_client(m, bytes_str("10.0.0.1")), first);
    rpc_metrics_free(m);
}

static void *count_many(void *arg)
{
    struct rpc_metrics *m = arg;
    int i;

    for (i = 0; i < 10000; i++) {
        rpc_metrics_started(m, 5, 0);
        rpc_metrics_ended(m, 5, 0, 0, 1000);
        rpc_client_count(rpc_metrics_client(m, bytes_str("10.0.0.1")), i);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct rpc_metrics *m;
    pthread_t threads[4];
    char *text;
    int i;

    (void)state;
    assert_int_equal(rpc_metrics_create(METHODS_, 2, &m, NULL), ST_OK);
    for (i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_many, m), 0);
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    text = written(m, false);
    expect_line(text, "grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"p.S\",grpc_method=\"A\"} 40000");
    expect_line(text, "immudb_number_of_rpcs_per_client{ip=\"10.0.0.1\"} 40000");
    free(text);
    rpc_metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text), cmocka_unit_test(test_counts), cmocka_unit_test(test_clients),
                                       cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
