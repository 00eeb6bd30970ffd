/* For tests alone: a server on a port of the loopback with a few methods, and blocking clients for it. */
#ifndef RPC_RPC_SERVER_RIG_H
#define RPC_RPC_SERVER_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rpc/rpc_rig.h"

struct place { /* what handlers and test share */
    struct pool *pool;
    pthread_mutex_t lock;
    struct rpc_call *held[256];
    size_t held_count;
    _Atomic unsigned ended, cancelled_seen;
    const struct env *env; /* NULL: the system's */
};
static struct place place = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void run_echo(struct pool_job *job)
{
    struct rpc_call *call = rpc_call_of_job(job);

    if (rpc_is_cancelled(call))
        atomic_fetch_add(&place.cancelled_seen, 1);
    rpc_reply(call, rpc_request(call));
}
static inline void on_pool(struct rpc_call *call)
{
    rpc_job(call)->run = run_echo;
    pool_submit(place.pool, rpc_job(call));
}
static inline void on_echo(struct rpc_call *call) { rpc_reply(call, rpc_request(call)); }
static inline void on_hold(struct rpc_call *call)
{
    pthread_mutex_lock(&place.lock);
    assert(place.held_count < 256);
    place.held[place.held_count++] = call;
    pthread_mutex_unlock(&place.lock);
}
static inline void on_peer(struct rpc_call *call)
{
    char *text = arena_alloc(rpc_arena(call), 200);

    assert(text != NULL);
    snprintf(text, 200, "%s %d %s", rpc_peer(call), rpc_is_loopback(call), rpc_tls_peer_cert(call) != NULL ? "cert" : "none");
    rpc_reply(call, bytes_str(text));
}
static inline void on_big(struct rpc_call *call)
{
    size_t len = (size_t)8 << 20;
    uint8_t *m = rpc_message_alloc(call, len);

    if (m == NULL) {
        rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "", bytes_of(NULL, 0));
        return;
    }
    memset(m, 7, len);
    rpc_reply(call, bytes_of(m, len));
}

/* A stream of 1,000 messages of 10 KB, made by a worker that stops above 100 KB and goes on when drained. */
struct stream {
    int left;
};
static inline void make_some(struct pool_job *job);
static inline void make_more(struct rpc_call *call)
{
    rpc_job(call)->run = make_some;
    pool_submit(place.pool, rpc_job(call));
}
static inline void make_some(struct pool_job *job)
{
    struct rpc_call *call = rpc_call_of_job(job);
    struct stream *s = rpc_state(call);
    size_t queued = 0;

    while (s->left > 0 && queued < 100000 && !rpc_is_cancelled(call)) {
        uint8_t *m = calloc(1, 10000);

        assert(m != NULL);
        store_u32be(m, (uint32_t)s->left--);
        queued = rpc_send_owned(call, m, 10000);
        assert(queued < 200000);
    }
    if (s->left == 0 || rpc_is_cancelled(call))
        rpc_finish(call, RPC_OK, "", bytes_of(NULL, 0));
    else
        rpc_on_drained(call, 50000, make_more);
}
static inline void on_stream(struct rpc_call *call)
{
    struct stream *s = arena_zalloc(rpc_arena(call), sizeof(*s));

    assert(s != NULL);
    s->left = 1000;
    rpc_set_state(call, s);
    make_more(call);
}

/* Takes a stream with a pause after each message, which a worker ends; answers with the sum of the lengths. */
struct sink {
    uint32_t byte_count;
};
static inline void resume_later(struct pool_job *job) { rpc_resume(rpc_call_of_job(job)); }
static inline void sink_message(struct rpc_call *call, struct bytes message)
{
    ((struct sink *)rpc_state(call))->byte_count += (uint32_t)message.len;
    rpc_pause(call);
    rpc_job(call)->run = resume_later;
    pool_submit(place.pool, rpc_job(call));
}
static inline void sink_end(struct rpc_call *call)
{
    uint8_t *m = rpc_message_alloc(call, 4);

    assert(m != NULL);
    store_u32be(m, ((struct sink *)rpc_state(call))->byte_count);
    rpc_reply(call, bytes_of(m, 4));
}
static inline void on_sink(struct rpc_call *call)
{
    struct sink *s = arena_zalloc(rpc_arena(call), sizeof(*s));

    assert(s != NULL);
    rpc_set_state(call, s);
    rpc_on_stream(call, sink_message, sink_end);
}

/* For a stream that its holder takes up late, on a thread of his own. */
static inline void late_end(struct rpc_call *call)
{
    if (rpc_is_cancelled(call))
        atomic_fetch_add(&place.cancelled_seen, 1);
    sink_end(call);
}
static inline void take_up_late(struct rpc_call *call)
{
    struct sink *s = arena_zalloc(rpc_arena(call), sizeof(*s));

    assert(s != NULL);
    rpc_set_state(call, s);
    rpc_on_stream(call, sink_message, late_end);
}

static const struct rpc_method methods[] = {
    {"/t.S/HoldSink", RPC_CLIENT_STREAM, on_hold, NULL},
    {"/t.S/Sink", RPC_CLIENT_STREAM, on_sink, NULL},
    {"/t.S/Echo", RPC_UNARY, on_echo, NULL},
    {"/t.S/Pool", RPC_UNARY, on_pool, NULL},
    {"/t.S/Hold", RPC_UNARY, on_hold, NULL},
    {"/t.S/Peer", RPC_UNARY, on_peer, NULL},
    {"/t.S/Big", RPC_UNARY, on_big, NULL},
    {"/t.S/Stream", RPC_SERVER_STREAM, on_stream, NULL},
};

static inline void count_end(void *ctx, struct rpc_call *call, enum rpc_code code, const char *text)
{
    (void)call;
    (void)code;
    (void)text;
    atomic_fetch_add(&((struct place *)ctx)->ended, 1);
}

struct fixture {
    struct budget budget;
    struct rpc_options o;
    struct rpc_server *server;
    bool is_tls;
    X509 *client_cert; /* borrowed; NULL: the client shows none */
    EVP_PKEY *client_key;
    const char *alpn;
};

static inline struct fixture *start(const struct rpc_limits *limits, unsigned reactors, SSL_CTX *tls)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    assert_non_null(f);
    budget_init(&f->budget, (size_t)1 << 30);
    f->o = (struct rpc_options){
        .address = "127.0.0.1",
        .reactors = reactors,
        .env = place.env != NULL ? place.env : env_system(),
        .budget = &f->budget,
        .methods = methods,
        .method_count = sizeof(methods) / sizeof(methods[0]),
        .services = rig_services,
        .service_count = 1,
        .header_name = "immudb-uuid",
        .header_value = RIG_UUID,
        .tls = tls,
        .on_end = count_end,
        .ctx = &place,
    };
    if (limits != NULL)
        f->o.limits = *limits;
    f->is_tls = tls != NULL;
    f->alpn = "\2h2";
    place.held_count = 0;
    assert_int_equal(pool_create("test", 2, 0, 1000, &place.pool, &err), ST_OK);
    assert_int_equal(rpc_server_start(&f->o, &f->server, &err), ST_OK);
    assert_int_not_equal(rpc_server_port(f->server), 0);
    return f;
}

static inline void stop(struct fixture *f)
{
    rpc_server_stop(f->server);
    pool_destroy(place.pool);
    assert_int_equal(budget_used(&f->budget, BUDGET_REQUEST), 0);
    assert_int_equal(budget_used(&f->budget, BUDGET_OTHER), 0);
    free(f);
}

static inline struct rpc_stats stats_of(struct fixture *f)
{
    struct rpc_stats stats;

    rpc_server_stats(f->server, &stats);
    return stats;
}

static inline void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

/* Waits up to ten seconds. */
#define eventually(condition) \
    do { \
        int turns_ = 0; \
        while (!(condition) && turns_++ < 2000) \
            sleep_ms(5); \
        assert_true(condition); \
    } while (0)

static inline struct rpc_call *take_held(size_t i)
{
    struct rpc_call *call;

    pthread_mutex_lock(&place.lock);
    call = i < place.held_count ? place.held[i] : NULL;
    pthread_mutex_unlock(&place.lock);
    return call;
}

/* --- a blocking client: the streams and callbacks of the rig over a socket --- */

struct client {
    struct rig *rig;
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    bool is_dead;
};

static inline int dial(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {20, 0};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static inline struct client *client_open_with(struct fixture *f, const nghttp2_settings_entry *settings, size_t count)
{
    struct client *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->fd = dial(rpc_server_port(f->server));
    assert_true(c->fd >= 0);
    if (f->is_tls) {
        c->ctx = SSL_CTX_new(TLS_client_method());
        if (f->client_cert != NULL) {
            SSL_CTX_use_certificate(c->ctx, f->client_cert);
            SSL_CTX_use_PrivateKey(c->ctx, f->client_key);
        }
        c->ssl = SSL_new(c->ctx);
        SSL_set_fd(c->ssl, c->fd);
        if (f->alpn != NULL)
            SSL_set_alpn_protos(c->ssl, (const uint8_t *)f->alpn, (unsigned)strlen(f->alpn));
        c->is_dead = SSL_connect(c->ssl) != 1;
    }
    c->rig = calloc(1, sizeof(*c->rig));
    assert_non_null(c->rig);
    c->rig->client = rig_client(c->rig);
    assert_int_equal(nghttp2_submit_settings(c->rig->client, NGHTTP2_FLAG_NONE, settings, count), 0);
    return c;
}
static inline struct client *client_open(struct fixture *f) { return client_open_with(f, NULL, 0); }

static inline void client_close(struct client *c)
{
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    if (c->fd >= 0)
        close(c->fd);
    nghttp2_session_del(c->rig->client);
    for (size_t i = 0; i < c->rig->stream_count; i++)
        free(c->rig->streams[i].down);
    free(c->rig);
    free(c);
}

static inline void client_send(struct client *c)
{
    const uint8_t *chunk;
    ssize_t n;

    while (!c->is_dead && (n = nghttp2_session_mem_send(c->rig->client, &chunk)) > 0)
        for (ssize_t at = 0, sent; at < n; at += sent) {
            sent = c->ssl != NULL ? SSL_write(c->ssl, chunk + at, (int)(n - at)) : send(c->fd, chunk + at, (size_t)(n - at), MSG_NOSIGNAL);
            if (sent <= 0) {
                c->is_dead = true;
                break;
            }
        }
}

/* One read, at most. */
static inline void client_receive(struct client *c)
{
    uint8_t buf[65536];
    ssize_t n;

    if (c->is_dead)
        return;
    n = c->ssl != NULL ? SSL_read(c->ssl, buf, sizeof(buf)) : recv(c->fd, buf, sizeof(buf), 0);
    if (n <= 0 || nghttp2_session_mem_recv(c->rig->client, buf, (size_t)n) < 0)
        c->is_dead = true;
}

static inline struct rig_stream *client_begin(struct client *c, const char *path, const void *up, size_t len, const char *timeout)
{
    struct rig_stream *s = rig_begin(c->rig, path, up, len, true, timeout);

    client_send(c);
    return s;
}

static inline void client_finish(struct client *c, struct rig_stream *s)
{
    while (!s->is_closed && !c->is_dead) {
        client_receive(c);
        client_send(c);
    }
}

static inline struct rig_stream *client_call(struct client *c, const char *path, const void *up, size_t len)
{
    struct rig_stream *s = client_begin(c, path, up, len, NULL);

    client_finish(c, s);
    return s;
}

/* Reads until the server hangs up; false when it does not. */
static inline bool client_is_hung_up(struct client *c)
{
    uint8_t buf[4096];
    ssize_t n;

    do
        n = recv(c->fd, buf, sizeof(buf), 0);
    while (n > 0);
    return n == 0 || errno == ECONNRESET;
}

struct load {
    struct fixture *f;
    const char *path;
    unsigned calls, good;
};

static inline void *run_load(void *arg)
{
    struct load *l = arg;
    struct client *c = client_open(l->f);
    uint8_t *m = rig_message_of(300, 3);

    for (unsigned i = 0; i < l->calls;) {
        struct rig_stream *s[16];
        unsigned n = 0;

        for (; n < 16 && i < l->calls; n++, i++)
            s[n] = client_begin(c, l->path, m, GRPC_PREFIX_LEN + 300, n % 4 == 0 ? "20S" : NULL);
        while (n-- > 0) {
            client_finish(c, s[n]);
            l->good += strcmp(s[n]->grpc_status, "0") == 0 && s[n]->down_len == 305;
        }
    }
    free(m);
    client_close(c);
    return NULL;
}

#endif
