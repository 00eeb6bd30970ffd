/* The HTTP server over real sockets: routes, unknown paths, methods, limits, a busy port, stop with open connections. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "http/http.h"

static void hello(void *ctx, struct http_reply *r) { http_addf(r, "hello %s", (const char *)ctx); }
static void busy(void *ctx, struct http_reply *r)
{
    (void)ctx;
    r->code = 503;
    r->content_type = "application/json";
    http_add(r, bytes_str("{}"));
}
static const struct http_route ROUTES[] = {{"/hello", hello}, {"/busy", busy}};

static struct http_server *start(void)
{
    struct http_server *s = NULL;
    struct err err;
    struct http_options o = {.address = "127.0.0.1", .port = 0, .routes = ROUTES, .route_count = 2, .ctx = (void *)(uintptr_t) "you"};

    assert_int_equal(http_start(&o, &s, &err), ST_OK);
    assert_true(http_port(s) != 0);
    return s;
}

static int dial(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void ask(uint16_t port, const char *request, char *answer, size_t room)
{
    int fd = dial(port);
    size_t len = 0;
    ssize_t n;

    assert_int_equal(write(fd, request, strlen(request)), (ssize_t)strlen(request));
    while (len + 1 < room && (n = read(fd, answer + len, room - 1 - len)) > 0)
        len += (size_t)n;
    answer[len] = 0;
    close(fd);
}

static void test_routes(void **state)
{
    struct http_server *s = start();
    char answer[4096];

    (void)state;
    ask(http_port(s), "GET /hello HTTP/1.0\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 200 "));
    assert_non_null(strstr(answer, "\r\n\r\nhello you"));
    ask(http_port(s), "GET /hello?x=1 HTTP/1.0\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 200 "));
    ask(http_port(s), "GET /busy HTTP/1.0\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 503 "));
    assert_non_null(strstr(answer, "application/json"));
    ask(http_port(s), "GET /hello/ HTTP/1.0\r\n\r\n", answer, sizeof answer);
    assert_non_null(strstr(answer, " 404 "));
    ask(http_port(s), "POST /hello HTTP/1.0\r\nContent-Length: 0\r\n\r\n", answer, sizeof answer);
    assert_null(strstr(answer, " 200 "));
    http_stop(s);
}

static void test_limits(void **state)
{
    struct http_server *s = start();
    char answer[4096], *request = malloc(40000);

    (void)state;
    assert_non_null(request);
    memcpy(request, "GET /hello HTTP/1.0\r\nX: ", 24);
    memset(request + 24, 'x', 30000);
    memcpy(request + 30024, "\r\n\r\n", 5);
    ask(http_port(s), request, answer, sizeof answer);
    assert_null(strstr(answer, " 200 "));
    ask(http_port(s), "\x16\x03\x01 nonsense\r\n\r\n", answer, sizeof answer);
    assert_null(strstr(answer, " 200 "));
    free(request);
    http_stop(s);
}

static void test_busy_port_and_stop(void **state)
{
    struct http_server *s = start(), *second = NULL;
    struct http_options o = {.address = "127.0.0.1", .port = http_port(s), .routes = ROUTES, .route_count = 2};
    struct err err;
    int fd = dial(http_port(s));

    (void)state;
    assert_int_equal(http_start(&o, &second, &err), ST_BUSY);
    assert_null(second);
    assert_non_null(strstr(err.text, "address already in use"));
    o.address = "localhost!";
    assert_int_equal(http_start(&o, &second, &err), ST_INVALID);
    http_stop(s); /* with a connection open */
    close(fd);
    http_stop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_routes), cmocka_unit_test(test_limits), cmocka_unit_test(test_busy_port_and_stop)};

    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
