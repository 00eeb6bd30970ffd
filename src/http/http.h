/* HTTP/1.1 for health and metrics: a table of exact paths, served by one thread (docs/design/003-http-library.md).
 *
 * Handlers run on that thread, only read, and are short. GET, HEAD and OPTIONS; 8 KiB of headers, 64 KiB of body, 30 s for a request. Every
 * path of the table may be read from any web page (Access-Control-Allow-Origin: *). */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include "base/bytes.h"
#include "base/err.h"

struct evbuffer;

/* What a handler fills. */
struct http_reply {
    int code;                 /* 200 */
    const char *content_type; /* "text/plain; charset=utf-8" */
    struct evbuffer *body;
};
void http_add(struct http_reply *r, struct bytes text);
void http_addf(struct http_reply *r, const char *fmt, ...) PRINTF_LIKE(2, 3);

struct http_route {
    const char *path;
    void (*handler)(void *ctx, struct http_reply *r);
};

struct http_options {
    const char *address;             /* numeric; "" = every one */
    uint16_t port;                   /* 0 = any free one; see http_port() */
    const struct http_route *routes; /* borrowed for the server's life */
    size_t route_count;
    void *ctx; /* of the handlers */
    void *tls; /* SSL_CTX, NULL without; a reference is taken */
};

struct http_server;
/* Binds and serves. ST_BUSY "listen tcp A:P: bind: address already in use"; ST_INVALID when the address is not numeric. */
MUST_USE enum status http_start(const struct http_options *o, struct http_server **out, struct err *err);
uint16_t http_port(const struct http_server *s);
/* New connections get this context (a reference is taken). Only for a server that was started with one; from any thread. */
void http_set_tls(struct http_server *s, void *ssl_ctx);
/* Ends the thread; open connections are cut. NULL is allowed. */
void http_stop(struct http_server *s);

#endif
