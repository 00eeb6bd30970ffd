/* Proves that starting a server survives every failing allocation: it reports ST_NOMEM, keeps nothing, and works once memory is
 * back; and that a connection which finds no memory is dropped without harm to the others. */
#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc_failing.h"
#include "base/test.h"
#include "rpc/rpc.h"

static void on_echo(struct rpc_call *call) { rpc_reply(call, rpc_request(call)); }

static const struct rpc_method methods[] = {{"/t.S/Echo", RPC_UNARY, on_echo, NULL}};

static struct rpc_options options(struct budget *budget)
{
    return (struct rpc_options){.address = "127.0.0.1", .reactors = 2, .env = env_system(), .budget = budget, .methods = methods, .method_count = 1};
}

static void failing_start(void **state)
{
    struct budget budget;
    struct rpc_options o = options(&budget);
    struct rpc_server *server;
    struct err err;
    bool is_through = false;
    unsigned failures = 0;

    (void)state;
    budget_init(&budget, (size_t)1 << 28);
    for (long n = 1; !is_through; n++) {
        enum status st;

        alloc_fail_arm(n, false);
        st = rpc_server_start(&o, &server, &err);
        is_through = !alloc_fail_disarm();
        if (st == ST_OK) {
            rpc_server_stop(server);
        } else {
            assert_int_equal(st, ST_NOMEM);
            assert_null(server);
            failures++;
        }
        assert_int_equal(budget_total(&budget), 0);
    }
    assert_true(failures > 8);
}

static void bad_options(void **state)
{
    static const struct rpc_method twice[] = {{"/t.S/Echo", RPC_UNARY, on_echo, NULL}, {"/t.S/Echo", RPC_UNARY, on_echo, NULL}};
    static const struct rpc_method no_handler[] = {{"/t.S/Echo", RPC_UNARY, NULL, NULL}};
    struct budget budget;
    struct rpc_options o = options(&budget);
    struct rpc_server *server;
    struct err err;

    (void)state;
    budget_init(&budget, (size_t)1 << 28);
    o.methods = twice;
    o.method_count = 2;
    assert_int_equal(rpc_server_start(&o, &server, &err), ST_INVALID);
    o.methods = no_handler;
    o.method_count = 1;
    assert_int_equal(rpc_server_start(&o, &server, &err), ST_INVALID);
    o = options(&budget);
    o.budget = NULL;
    assert_int_equal(rpc_server_start(&o, &server, &err), ST_INVALID);
    o = options(&budget);
    o.limits.message_bytes_max = SIZE_MAX;
    assert_int_equal(rpc_server_start(&o, &server, &err), ST_INVALID);
    o = options(&budget);
    o.limits.stream_window_bytes = 100;
    assert_int_equal(rpc_server_start(&o, &server, &err), ST_INVALID);
}

static void connections_without_memory(void **state)
{
    struct budget budget;
    struct rpc_options o = options(&budget);
    struct rpc_server *server;
    struct rpc_stats stats;
    struct err err;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {1, 0};
    char byte;

    (void)state;
    budget_init(&budget, (size_t)1 << 28);
    assert_int_equal(rpc_server_start(&o, &server, &err), ST_OK);
    a.sin_port = htons(rpc_server_port(server));
    for (long n = 1; n <= 12; n++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        alloc_fail_arm(n, true);
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        (void)recv(fd, &byte, 1, 0); /* closed, or the server's settings */
        alloc_fail_disarm();
        close(fd);
    }
    for (int turn = 0; turn < 500; turn++) {
        struct timespec pause = {0, 10000000};

        rpc_server_stats(server, &stats);
        if (stats.connections_open == 0)
            break;
        nanosleep(&pause, NULL);
    }
    assert_int_equal(stats.connections_open, 0);
    {
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(recv(fd, &byte, 1, 0), 1); /* served again */
        close(fd);
    }
    rpc_server_stop(server);
    assert_int_equal(budget_total(&budget), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(failing_start), cmocka_unit_test(bad_options), cmocka_unit_test(connections_without_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
