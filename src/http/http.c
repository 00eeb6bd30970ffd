/* evhttp on a thread of its own; see http.h. An eventfd tells the loop to end: libevent itself is used by that thread only. */
#include "http/http.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADERS_BYTES_MAX = 8192, BODY_BYTES_MAX = 65536, TIMEOUT_S = 30, BACKLOG = 64, TEXT_MAX = 1024 };

struct http_server {
    struct http_options options;
    struct event_base *base;
    struct evhttp *http;
    struct event *wake;
    pthread_mutex_t tls_lock; /* leaf; guards tls */
    SSL_CTX *tls;
    int wake_fd;
    uint16_t port;
    pthread_t thread;
    bool has_thread;
};

/* --- requests --- */

void http_add(struct http_reply *r, struct bytes text)
{
    if (text.len > 0 && evbuffer_add(r->body, text.data, text.len) != 0)
        r->code = HTTP_SERVUNAVAIL; /* short of memory: half an answer must not pass for a whole one */
}

void http_addf(struct http_reply *r, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list args;
    int len;

    va_start(args, fmt);
    len = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (len > 0)
        http_add(r, bytes_of(text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1));
}

static void add_header(struct evhttp_request *inner, const char *name, const char *value)
{
    (void)evhttp_add_header(evhttp_request_get_output_headers(inner), name, value); /* short of memory: the header is missing */
}

static void reply(struct evhttp_request *inner, const struct http_reply *r)
{
    add_header(inner, "Content-Type", r->content_type);
    evhttp_send_reply(inner, r->code, NULL, r->body);
}

static const struct http_route *find_route(const struct http_server *s, const char *path)
{
    size_t i;

    for (i = 0; path != NULL && i < s->options.route_count; i++)
        if (strcmp(s->options.routes[i].path, path) == 0)
            return &s->options.routes[i];
    return NULL;
}

/* What a web page of another origin may do. */
static void reply_options(struct evhttp_request *inner)
{
    add_header(inner, "Access-Control-Allow-Methods", "GET");
    add_header(inner, "Access-Control-Allow-Headers",
               "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Access-Control-Allow-Origin, Access-Control-Allow-Methods, "
               "Access-Control-Allow-Credentials");
    evhttp_send_reply(inner, HTTP_NOCONTENT, NULL, NULL);
}

static void on_request(struct evhttp_request *inner, void *ctx)
{
    struct http_server *s = ctx;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(inner);
    const struct http_route *route = find_route(s, uri != NULL ? evhttp_uri_get_path(uri) : NULL);
    struct http_reply r = {.code = HTTP_OK, .content_type = "text/plain; charset=utf-8", .body = evbuffer_new()};

    if (r.body == NULL) {
        evhttp_send_error(inner, HTTP_SERVUNAVAIL, NULL);
        return;
    }
    if (route == NULL) {
        r.code = HTTP_NOTFOUND;
        http_add(&r, bytes_str("404 page not found\n"));
        reply(inner, &r);
    } else {
        add_header(inner, "Access-Control-Allow-Origin", "*");
        if (evhttp_request_get_command(inner) == EVHTTP_REQ_OPTIONS) {
            reply_options(inner);
        } else {
            route->handler(s->options.ctx, &r);
            reply(inner, &r);
        }
    }
    evbuffer_free(r.body);
}

static struct bufferevent *on_connection(struct event_base *base, void *ctx)
{
    struct http_server *s = ctx;
    SSL *ssl;

    pthread_mutex_lock(&s->tls_lock);
    ssl = SSL_new(s->tls);
    pthread_mutex_unlock(&s->tls_lock);
    if (ssl == NULL)
        return NULL;
    return bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
}

/* --- the thread --- */

static void on_wake(evutil_socket_t fd, short what, void *ctx)
{
    struct http_server *s = ctx;

    (void)fd;
    (void)what;
    event_base_loopbreak(s->base);
}

static void *run(void *arg)
{
    struct http_server *s = arg;

    pthread_setname_np(pthread_self(), "http");
    event_base_dispatch(s->base);
    return NULL;
}

static enum status thread_start(struct http_server *s, struct err *err)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int rc;

    if (pthread_attr_init(&attr) != 0)
        return err_set(err, ST_NOMEM, 0, "http server: no thread");
    pthread_attr_setstacksize(&attr, 256 * 1024);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&s->thread, &attr, run, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    if (rc != 0)
        return err_set(err, ST_NOMEM, rc, "cannot start the http thread: %s", strerror(rc));
    s->has_thread = true;
    return ST_OK;
}

/* --- the socket --- */

static enum status listen_at(const struct http_options *o, int *out, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE},
                    *found = NULL;
    int fd = -1, yes = 1, code = 0;
    char port[8];

    *out = -1;
    snprintf(port, sizeof port, "%u", o->port);
    if (getaddrinfo(o->address[0] != '\0' ? o->address : NULL, port, &hints, &found) != 0)
        return err_set(err, ST_INVALID, 0, "listen tcp: address %s is not numeric", o->address);
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
        listen(fd, BACKLOG) != 0) {
        code = errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    *out = fd;
    if (code == 0)
        return ST_OK;
    return err_set(err, code == EADDRINUSE ? ST_BUSY : ST_IO, code, "listen tcp %s:%u: bind: %s", o->address, o->port,
                   code == EADDRINUSE ? "address already in use" : strerror(code));
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;

    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
        return 0;
    return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)(void *)&a)->sin6_port) : ntohs(((struct sockaddr_in *)(void *)&a)->sin_port);
}

static bool http_prepare(struct http_server *s)
{
    if ((s->base = event_base_new()) == NULL || (s->http = evhttp_new(s->base)) == NULL ||
        (s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0 || (s->wake = event_new(s->base, s->wake_fd, EV_READ, on_wake, s)) == NULL ||
        event_add(s->wake, NULL) != 0)
        return false;
    evhttp_set_max_headers_size(s->http, HEADERS_BYTES_MAX);
    evhttp_set_max_body_size(s->http, BODY_BYTES_MAX);
    evhttp_set_timeout(s->http, TIMEOUT_S);
    evhttp_set_allowed_methods(s->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_OPTIONS);
    evhttp_set_gencb(s->http, on_request, s);
    if (s->tls != NULL)
        evhttp_set_bevcb(s->http, on_connection, s);
    return true;
}

enum status http_start(const struct http_options *o, struct http_server **out, struct err *err)
{
    struct http_server *s = calloc(1, sizeof *s);
    enum status st;
    int fd = -1;

    *out = NULL;
    if (s == NULL)
        return err_set(err, ST_NOMEM, 0, "http server: out of memory");
    s->options = *o;
    s->wake_fd = -1;
    if (o->tls != NULL && SSL_CTX_up_ref(o->tls))
        s->tls = o->tls;
    if (pthread_mutex_init(&s->tls_lock, NULL) != 0) {
        SSL_CTX_free(s->tls);
        free(s);
        return err_set(err, ST_NOMEM, 0, "http server: no lock");
    }
    if ((st = listen_at(o, &fd, err)) != ST_OK)
        goto done;
    s->port = port_of(fd);
    if (!http_prepare(s) || evhttp_accept_socket(s->http, fd) != 0) {
        st = err_set(err, ST_NOMEM, 0, "http server: out of memory");
        goto done;
    }
    fd = -1; /* evhttp's now */
    if ((st = thread_start(s, err)) != ST_OK)
        goto done;
    *out = s;
    s = NULL;
done:
    if (fd >= 0)
        close(fd);
    http_stop(s);
    return st;
}

uint16_t http_port(const struct http_server *s) { return s->port; }

void http_set_tls(struct http_server *s, void *ssl_ctx)
{
    SSL_CTX *old;

    assert(s->tls != NULL && ssl_ctx != NULL);
    SSL_CTX_up_ref(ssl_ctx);
    pthread_mutex_lock(&s->tls_lock);
    old = s->tls;
    s->tls = ssl_ctx;
    pthread_mutex_unlock(&s->tls_lock);
    SSL_CTX_free(old);
}

void http_stop(struct http_server *s)
{
    const uint64_t one = 1;

    if (s == NULL)
        return;
    if (s->has_thread) {
        if (write(s->wake_fd, &one, sizeof one) != (ssize_t)sizeof one)
            event_base_loopbreak(s->base); /* cannot happen with an eventfd at 0; the loop ends at its next event */
        pthread_join(s->thread, NULL);
    }
    if (s->wake != NULL)
        event_free(s->wake);
    if (s->http != NULL)
        evhttp_free(s->http);
    if (s->base != NULL)
        event_base_free(s->base);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    SSL_CTX_free(s->tls);
    pthread_mutex_destroy(&s->tls_lock);
    free(s);
}
