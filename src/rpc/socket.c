/* Bytes in and out of one socket, plain or through TLS. */
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rpc/reactor.h"

struct socket *socket_new(int fd, const char *peer, bool is_loopback)
{
    struct socket *s = calloc(1, sizeof(*s));

    if (s == NULL)
        return NULL;
    s->fd = fd;
    s->grpc.is_loopback = is_loopback;
    strncpy(s->grpc.peer, peer, sizeof(s->grpc.peer) - 1);
    return s;
}

void socket_free(struct socket *s)
{
    if (s == NULL)
        return;
    X509_free(s->grpc.peer_cert);
    SSL_free(s->ssl);
    free(s->rest);
    if (s->fd >= 0)
        close(s->fd);
    free(s);
}

static ssize_t tls_result(struct socket *s, int n)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(s->ssl, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return 0;
    default:
        ERR_clear_error();
        return -1;
    }
}

ssize_t socket_read(struct socket *s, uint8_t *to, size_t len)
{
    ssize_t n;

    if (s->ssl != NULL) {
        ERR_clear_error();
        return tls_result(s, SSL_read(s->ssl, to, len > INT_MAX ? INT_MAX : (int)len));
    }
    do
        n = recv(s->fd, to, len, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        return n;
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
}

ssize_t socket_write(struct socket *s, const uint8_t *from, size_t len)
{
    ssize_t n;

    if (s->ssl != NULL) {
        size_t sent = 0;

        /* A call writes one record. */
        while (sent < len) {
            ERR_clear_error();
            n = tls_result(s, SSL_write(s->ssl, from + sent, len - sent > INT_MAX ? INT_MAX : (int)(len - sent)));
            if (n <= 0)
                return n < 0 ? -1 : (ssize_t)sent;
            sent += (size_t)n;
        }
        return (ssize_t)sent;
    }
    do
        n = send(s->fd, from, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
}

bool socket_has_buffered(const struct socket *s) { return s->ssl != NULL && SSL_has_pending(s->ssl); }

int socket_handshake(struct socket *s)
{
    ssize_t n;

    ERR_clear_error();
    n = tls_result(s, SSL_do_handshake(s->ssl));
    if (n <= 0)
        return (int)n;
    s->grpc.peer_cert = SSL_get1_peer_certificate(s->ssl);
    return 1;
}

enum status socket_secure(struct socket *s, SSL_CTX *ctx, struct err *err)
{
    if (ctx == NULL)
        return ST_OK;
    if ((s->ssl = SSL_new(ctx)) == NULL || SSL_set_fd(s->ssl, s->fd) != 1) {
        ERR_clear_error();
        return err_set(err, ST_NOMEM, 0, "TLS for a connection");
    }
    SSL_set_accept_state(s->ssl);
    SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_set_options(s->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* One recv(2) may bring several records. */
    SSL_set_read_ahead(s->ssl, 1);
    if (SSL_get_min_proto_version(s->ssl) < TLS1_2_VERSION)
        SSL_set_min_proto_version(s->ssl, TLS1_2_VERSION);
    return ST_OK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *ctx)
{
    (void)ssl;
    (void)ctx;
    for (unsigned i = 0; i < in_len && in[i] < in_len - i; i += 1u + in[i])
        if (in[i] == 2 && in[i + 1] == 'h' && in[i + 2] == '2') {
            *out = in + i + 1;
            *out_len = 2;
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A client without ALPN is not asked: it gets HTTP/2 as well (old gRPC clients). */
void tls_prepare(SSL_CTX *ctx) { SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL); }
