/* Connecting, TLS, reading and writing without blocking; see transport.h.
 *
 * TLS may have to write in order to read, and the other way round: what the last operation missed is remembered and waited for. */
#include "client/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct transport {
    const struct env *env;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl; /* NULL: plaintext */
    short missed_by_read, missed_by_write;
};

enum { POLL_MS_MAX = 3600000 };

static const char *tls_reason(char out[160])
{
    unsigned long code = ERR_peek_error();

    if (code == 0)
        return "the connection broke off";
    ERR_error_string_n(code, out, 160);
    ERR_clear_error();
    return out;
}

/* --- waiting --- */

static enum status poll_until(struct transport *t, short events, uint64_t deadline_ns, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = t->fd, .events = events};
        uint64_t now = env_mono_ns(t->env), left_ms;
        int n, code;

        if (now >= deadline_ns)
            return err_set(err, ST_TIMEOUT, 0, "no answer in time");
        left_ms = (deadline_ns - now) / 1000000 + 1;
        n = poll(&p, 1, left_ms > POLL_MS_MAX ? POLL_MS_MAX : (int)left_ms);
        code = errno;
        if (n > 0)
            return ST_OK;
        if (n < 0 && code != EINTR)
            return err_set(err, ST_IO, code, "waiting for the peer: %s", strerror(code));
        if (n < 0)
            return ST_OK; /* a signal: the caller looks around and comes back */
    }
}

enum status transport_wait(struct transport *t, bool wants_write, uint64_t deadline_ns, struct err *err)
{
    short events = POLLIN;

    if (t->ssl != NULL && SSL_pending(t->ssl) > 0)
        return ST_OK;
    if (wants_write)
        events = (short)(events | (t->missed_by_write != 0 ? t->missed_by_write : POLLOUT));
    if (t->missed_by_read != 0)
        events = (short)(events | t->missed_by_read);
    return poll_until(t, events, deadline_ns, err);
}

/* --- connecting --- */

static enum status connect_one(struct transport *t, const struct addrinfo *a, uint64_t deadline_ns, struct err *err)
{
    unsigned patience_ms = 60000;
    socklen_t len = sizeof(int);
    int on = 1, code = 0;
    enum status st;

    t->fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (t->fd < 0) {
        code = errno;
        return err_set(err, ST_IO, code, "socket: %s", strerror(code));
    }
    setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(t->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(t->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof patience_ms);
    if (connect(t->fd, a->ai_addr, a->ai_addrlen) == 0)
        return ST_OK;
    code = errno;
    if (code != EINPROGRESS && code != EINTR)
        return err_set(err, ST_IO, code, "%s", strerror(code));
    do {
        if ((st = poll_until(t, POLLOUT, deadline_ns, err)) != ST_OK)
            return st;
        code = 0;
        if (getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &code, &len) != 0)
            code = errno;
        if (code == 0) { /* a signal may have ended the wait early */
            struct sockaddr_storage peer;
            socklen_t peer_len = sizeof peer;

            if (getpeername(t->fd, (struct sockaddr *)&peer, &peer_len) == 0)
                return ST_OK;
            code = errno;
        }
    } while (code == ENOTCONN);
    return err_set(err, ST_IO, code, "%s", strerror(code));
}

/* Every address of the name in turn. */
static enum status connect_any(struct transport *t, const struct client_options *o, uint64_t deadline_ns, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL, *a;
    enum status st = ST_IO;
    char port[8];
    int code;

    snprintf(port, sizeof port, "%u", o->port);
    if ((code = getaddrinfo(o->host, port, &hints, &found)) != 0)
        return err_set(err, ST_IO, 0, "%s", gai_strerror(code));
    err_set(err, ST_IO, 0, "the name has no address");
    for (a = found; a != NULL; a = a->ai_next) {
        if ((st = connect_one(t, a, deadline_ns, err)) == ST_OK)
            break;
        if (t->fd >= 0)
            close(t->fd);
        t->fd = -1;
    }
    freeaddrinfo(found);
    return st;
}

/* --- TLS --- */

static enum status tls_context(struct transport *t, const struct client_tls *tls, struct err *err)
{
    char text[160];

    ERR_clear_error();
    if ((t->ctx = SSL_CTX_new(TLS_client_method())) == NULL || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
        return err_set(err, ST_NOMEM, 0, "preparing TLS: out of memory");
    SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(t->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_verify(t->ctx, SSL_VERIFY_PEER, NULL);
    if (tls->ca_file == NULL ? SSL_CTX_set_default_verify_paths(t->ctx) != 1 : SSL_CTX_load_verify_locations(t->ctx, tls->ca_file, NULL) != 1)
        return err_set(err, ST_INVALID, 0, "certificates to trust%s%s: %s", tls->ca_file != NULL ? ", " : "",
                       tls->ca_file != NULL ? tls->ca_file : "", tls_reason(text));
    if (tls->certificate == NULL)
        return ST_OK;
    if (SSL_CTX_use_certificate_chain_file(t->ctx, tls->certificate) != 1)
        return err_set(err, ST_INVALID, 0, "certificate %s: %s", tls->certificate, tls_reason(text));
    if (tls->key == NULL || SSL_CTX_use_PrivateKey_file(t->ctx, tls->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(t->ctx) != 1)
        return err_set(err, ST_INVALID, 0, "private key %s: %s", tls->key != NULL ? tls->key : "(none)", tls_reason(text));
    return ST_OK;
}

static bool is_address(const char *host)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found = NULL;

    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    freeaddrinfo(found);
    return true;
}

/* The name (or address) that the peer's certificate must carry. */
static bool tls_expect(struct transport *t, const char *name)
{
    if (is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), name) == 1;
    return SSL_set1_host(t->ssl, name) == 1 && SSL_set_tlsext_host_name(t->ssl, name) == 1;
}

static enum status tls_failed(struct transport *t, const char *name, struct err *err)
{
    long code = SSL_get_verify_result(t->ssl);
    char text[160];

    if (code != X509_V_OK)
        return err_set(err, ST_CORRUPT, 0, "TLS: the certificate of the peer is not accepted for %s: %s", name, X509_verify_cert_error_string(code));
    return err_set(err, ST_CORRUPT, 0, "TLS handshake: %s", tls_reason(text));
}

static enum status tls_handshake(struct transport *t, const char *name, uint64_t deadline_ns, struct err *err)
{
    const unsigned char *chosen;
    unsigned chosen_len;
    enum status st;
    int got;

    ERR_clear_error();
    while ((got = SSL_connect(t->ssl)) != 1) {
        switch (SSL_get_error(t->ssl, got)) {
        case SSL_ERROR_WANT_READ:
            st = poll_until(t, POLLIN, deadline_ns, err);
            break;
        case SSL_ERROR_WANT_WRITE:
            st = poll_until(t, POLLOUT, deadline_ns, err);
            break;
        default:
            return tls_failed(t, name, err);
        }
        if (st != ST_OK)
            return err_while(err, st, "the TLS handshake");
    }
    SSL_get0_alpn_selected(t->ssl, &chosen, &chosen_len);
    if (chosen_len != 0 && (chosen_len != 2 || memcmp(chosen, "h2", 2) != 0))
        return err_set(err, ST_CORRUPT, 0, "TLS: the peer does not speak HTTP/2");
    return ST_OK;
}

static enum status tls_open(struct transport *t, const struct client_options *o, uint64_t deadline_ns, struct err *err)
{
    const char *name = o->tls->server_name != NULL ? o->tls->server_name : o->host;
    enum status st;

    if ((st = tls_context(t, o->tls, err)) != ST_OK)
        return st;
    if ((t->ssl = SSL_new(t->ctx)) == NULL || SSL_set_fd(t->ssl, t->fd) != 1 || SSL_set_alpn_protos(t->ssl, (const unsigned char *)"\2h2", 3) != 0 ||
        !tls_expect(t, name))
        return err_set(err, ST_NOMEM, 0, "preparing TLS: out of memory");
    return tls_handshake(t, name, deadline_ns, err);
}

enum status transport_open(const struct client_options *o, uint64_t deadline_ns, struct transport **out, struct err *err)
{
    struct transport *t = calloc(1, sizeof *t);
    enum status st;

    *out = NULL;
    if (t == NULL)
        return err_set(err, ST_NOMEM, 0, "connecting: out of memory");
    t->env = o->env;
    t->fd = -1;
    if ((st = connect_any(t, o, deadline_ns, err)) == ST_OK && o->tls != NULL)
        st = tls_open(t, o, deadline_ns, err);
    if (st == ST_OK) {
        *out = t;
        return ST_OK;
    }
    transport_close(t);
    return st;
}

void transport_close(struct transport *t)
{
    if (t == NULL)
        return;
    if (t->ssl != NULL && SSL_is_init_finished(t->ssl))
        (void)SSL_shutdown(t->ssl); /* says good-bye, waits for nothing */
    SSL_free(t->ssl);
    SSL_CTX_free(t->ctx);
    ERR_clear_error();
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}

/* --- bytes --- */

static enum status tls_status(struct transport *t, int got, short *missed, const char *doing, struct err *err)
{
    int os_errno = errno;
    char text[160];

    switch (SSL_get_error(t->ssl, got)) {
    case SSL_ERROR_WANT_READ:
        *missed = POLLIN;
        return ST_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        *missed = POLLOUT;
        return ST_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return err_set(err, ST_CLOSED, 0, "the peer closed the connection");
    case SSL_ERROR_SYSCALL:
        if (os_errno != 0)
            return err_set(err, ST_IO, os_errno, "%s: %s", doing, strerror(os_errno));
        return err_set(err, ST_CLOSED, 0, "the peer closed the connection");
    default:
        return err_set(err, ST_IO, 0, "%s: %s", doing, tls_reason(text));
    }
}

static enum status socket_status(int code, const char *doing, struct err *err)
{
    if (code == EAGAIN || code == EWOULDBLOCK || code == EINTR)
        return ST_AGAIN;
    return err_set(err, ST_IO, code, "%s: %s", doing, strerror(code));
}

enum status transport_read(struct transport *t, void *out, size_t room, size_t *got, struct err *err)
{
    ssize_t n;
    int tls_got;

    *got = 0;
    t->missed_by_read = 0;
    if (room > INT_MAX)
        room = INT_MAX;
    if (t->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        if ((tls_got = SSL_read(t->ssl, out, (int)room)) <= 0)
            return tls_status(t, tls_got, &t->missed_by_read, "reading from the peer", err);
        *got = (size_t)tls_got;
        return ST_OK;
    }
    if ((n = recv(t->fd, out, room, 0)) < 0)
        return socket_status(errno, "reading from the peer", err);
    if (n == 0)
        return err_set(err, ST_CLOSED, 0, "the peer closed the connection");
    *got = (size_t)n;
    return ST_OK;
}

enum status transport_write(struct transport *t, const void *data, size_t len, size_t *taken, struct err *err)
{
    ssize_t n;
    int tls_taken;

    *taken = 0;
    t->missed_by_write = 0;
    if (len > INT_MAX)
        len = INT_MAX;
    if (t->ssl != NULL) {
        ERR_clear_error();
        errno = 0;
        if ((tls_taken = SSL_write(t->ssl, data, (int)len)) <= 0)
            return tls_status(t, tls_taken, &t->missed_by_write, "writing to the peer", err);
        *taken = (size_t)tls_taken;
        return ST_OK;
    }
    if ((n = send(t->fd, data, len, MSG_NOSIGNAL)) < 0)
        return socket_status(errno, "writing to the peer", err);
    *taken = (size_t)n;
    return ST_OK;
}
