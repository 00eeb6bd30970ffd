/* Proves the server over real sockets on the loopback: echo from several threads and connections, answers from a worker pool, TLS
 * with and without ALPN, timeouts of handshake, keepalive and stalled writers, graceful drain, stop with calls still held, peers
 * that vanish, running out of descriptors and of connections; and after each that the last byte of budget came back. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rpc/rpc_rig.h"

/* --- the server under test --- */

struct place { /* what handlers and test share */
    struct pool *pool;
    pthread_mutex_t lock;
    struct rpc_call *held[256];
    size_t held_count;
    _Atomic unsigned ended, cancelled_seen;
};
static struct place place = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void run_echo(struct pool_job *job)
{
    struct rpc_call *call = rpc_call_of_job(job);

    if (rpc_is_cancelled(call))
        atomic_fetch_add(&place.cancelled_seen, 1);
    rpc_reply(call, rpc_request(call));
}
static void on_pool(struct rpc_call *call)
{
    rpc_job(call)->run = run_echo;
    pool_submit(place.pool, rpc_job(call));
}
static void on_echo(struct rpc_call *call) { rpc_reply(call, rpc_request(call)); }
static void on_hold(struct rpc_call *call)
{
    pthread_mutex_lock(&place.lock);
    assert(place.held_count < 256);
    place.held[place.held_count++] = call;
    pthread_mutex_unlock(&place.lock);
}
static void on_peer(struct rpc_call *call)
{
    char *text = arena_alloc(rpc_arena(call), 200);

    assert(text != NULL);
    snprintf(text, 200, "%s %d %s", rpc_peer(call), rpc_is_loopback(call), rpc_tls_peer_cert(call) != NULL ? "cert" : "none");
    rpc_reply(call, bytes_str(text));
}
static void on_big(struct rpc_call *call)
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
static void make_some(struct pool_job *job);
static void make_more(struct rpc_call *call)
{
    rpc_job(call)->run = make_some;
    pool_submit(place.pool, rpc_job(call));
}
static void make_some(struct pool_job *job)
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
static void on_stream(struct rpc_call *call)
{
    struct stream *s = arena_zalloc(rpc_arena(call), sizeof(*s));

    assert(s != NULL);
    s->left = 1000;
    rpc_set_state(call, s);
    make_more(call);
}

static const struct rpc_method methods[] = {
    {"/t.S/Echo", RPC_UNARY, on_echo, NULL}, {"/t.S/Pool", RPC_UNARY, on_pool, NULL}, {"/t.S/Hold", RPC_UNARY, on_hold, NULL},
    {"/t.S/Peer", RPC_UNARY, on_peer, NULL}, {"/t.S/Big", RPC_UNARY, on_big, NULL}, {"/t.S/Stream", RPC_SERVER_STREAM, on_stream, NULL},
};

static void count_end(void *ctx, struct rpc_call *call, enum rpc_code code, const char *text)
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
    bool is_tls, offers_alpn;
    const char *alpn;
};

static struct fixture *start(const struct rpc_limits *limits, unsigned reactors, SSL_CTX *tls)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct err err;

    assert_non_null(f);
    budget_init(&f->budget, (size_t)1 << 30);
    f->o = (struct rpc_options){
        .address = "127.0.0.1", .reactors = reactors, .env = env_system(), .budget = &f->budget, .methods = methods,
        .method_count = sizeof(methods) / sizeof(methods[0]), .services = rig_services, .service_count = 1,
        .header_name = "immudb-uuid", .header_value = RIG_UUID, .tls = tls, .on_end = count_end, .ctx = &place,
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

static void stop(struct fixture *f)
{
    rpc_server_stop(f->server);
    pool_destroy(place.pool);
    assert_int_equal(budget_used(&f->budget, BUDGET_REQUEST), 0);
    assert_int_equal(budget_used(&f->budget, BUDGET_OTHER), 0);
    free(f);
}

static struct rpc_stats stats_of(struct fixture *f)
{
    struct rpc_stats stats;

    rpc_server_stats(f->server, &stats);
    return stats;
}

static void sleep_ms(long ms)
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

static struct rpc_call *take_held(size_t i)
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

static int dial(uint16_t port)
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

static struct client *client_open_with(struct fixture *f, const nghttp2_settings_entry *settings, size_t count)
{
    struct client *c = calloc(1, sizeof(*c));

    assert_non_null(c);
    c->fd = dial(rpc_server_port(f->server));
    assert_true(c->fd >= 0);
    if (f->is_tls) {
        c->ctx = SSL_CTX_new(TLS_client_method());
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
static struct client *client_open(struct fixture *f) { return client_open_with(f, NULL, 0); }

static void client_close(struct client *c)
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

static void client_send(struct client *c)
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
static void client_receive(struct client *c)
{
    uint8_t buf[65536];
    ssize_t n;

    if (c->is_dead)
        return;
    n = c->ssl != NULL ? SSL_read(c->ssl, buf, sizeof(buf)) : recv(c->fd, buf, sizeof(buf), 0);
    if (n <= 0 || nghttp2_session_mem_recv(c->rig->client, buf, (size_t)n) < 0)
        c->is_dead = true;
}

static struct rig_stream *client_begin(struct client *c, const char *path, const void *up, size_t len, const char *timeout)
{
    struct rig_stream *s = rig_begin(c->rig, path, up, len, true, timeout);

    client_send(c);
    return s;
}

static void client_finish(struct client *c, struct rig_stream *s)
{
    while (!s->is_closed && !c->is_dead) {
        client_receive(c);
        client_send(c);
    }
}

static struct rig_stream *client_call(struct client *c, const char *path, const void *up, size_t len)
{
    struct rig_stream *s = client_begin(c, path, up, len, NULL);

    client_finish(c, s);
    return s;
}

/* Reads until the server hangs up; false when it does not. */
static bool client_is_hung_up(struct client *c)
{
    uint8_t buf[4096];
    ssize_t n;

    do
        n = recv(c->fd, buf, sizeof(buf), 0);
    while (n > 0);
    return n == 0 || errno == ECONNRESET;
}

/* --- plain calls --- */

static void calls_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 6144, 6145, 70000, 1 << 20, 32 << 20};
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f);
    struct rig_stream *s;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int pool = 0; pool < 2; pool++) {
            uint8_t *m = rig_message_of(sizes[i], (uint8_t)(i + 1));

            s = client_call(c, pool ? "/t.S/Pool" : "/t.S/Echo", m, GRPC_PREFIX_LEN + sizes[i]);
            assert_status(s, "0", "");
            assert_handled(s);
            assert_int_equal(s->down_len, GRPC_PREFIX_LEN + sizes[i]);
            assert_memory_equal(s->down, m, s->down_len);
            free(m);
        }
    s = client_call(c, "/t.S/Peer", "\0\0\0\0\0", 5);
    assert_memory_equal(s->down + 5, "127.0.0.1:", 10);
    assert_non_null(memmem(s->down, s->down_len, " 1 none", 7));
    s = client_call(c, "/t.S/None", "\0\0\0\0\0", 5);
    assert_status(s, "12", "unknown method None for service t.S");
    s = client_call(c, "/t.S/Stream", "\0\0\0\0\0", 5);
    assert_status(s, "0", "");
    assert_int_equal(s->down_len, 1000 * 10005);
    for (uint32_t i = 0; i < 1000; i++)
        assert_int_equal(load_u32be(s->down + i * 10005 + 5), 1000 - i);
    client_close(c);
    stop(f);
}

struct load {
    struct fixture *f;
    const char *path;
    unsigned calls, good;
};

static void *run_load(void *arg)
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

static void many_threads(void **state)
{
    struct fixture *f = start(NULL, 2, NULL);
    struct load loads[6];
    pthread_t threads[6];

    (void)state;
    atomic_store(&place.ended, 0);
    for (size_t i = 0; i < 6; i++) {
        loads[i] = (struct load){f, i % 2 == 0 ? "/t.S/Pool" : "/t.S/Echo", 1000, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, run_load, &loads[i]), 0);
    }
    for (size_t i = 0; i < 6; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(loads[i].good, 1000);
    }
    eventually(stats_of(f).connections_open == 0);
    assert_int_equal(stats_of(f).calls_total, 6000);
    assert_int_equal(stats_of(f).connections_total, 6);
    assert_int_equal(atomic_load(&place.ended), 6000);
    stop(f);
}

/* --- beginning and end --- */

static void ports(void **state)
{
    struct fixture *f = start(NULL, 1, NULL);
    struct rpc_options o = f->o;
    struct rpc_server *second;
    struct err err;

    (void)state;
    o.port = rpc_server_port(f->server);
    assert_int_equal(rpc_server_start(&o, &second, &err), ST_BUSY);
    assert_null(second);
    assert_non_null(strstr(err.text, "the port is in use by another process"));
    o.address = "no.such.host.invalid";
    assert_int_equal(rpc_server_start(&o, &second, &err), ST_INVALID);
    o.address = "::1";
    o.port = 0;
    if (rpc_server_start(&o, &second, &err) == ST_OK) /* no IPv6 in some containers */
        rpc_server_stop(second);
    o.address = "127.0.0.1";
    o.reactors = 65;
    assert_int_equal(rpc_server_start(&o, &second, &err), ST_INVALID);
    o.reactors = 0;
    assert_int_equal(rpc_server_start(&o, &second, &err), ST_OK);
    rpc_server_stop(second);
    rpc_server_stop(NULL);
    stop(f);
}

struct drain {
    struct fixture *f;
    uint64_t drain_ns;
    _Atomic bool is_done;
};
static void *run_drain(void *arg)
{
    struct drain *d = arg;

    rpc_server_drain(d->f->server, d->drain_ns);
    atomic_store(&d->is_done, true);
    return NULL;
}

static void graceful_drain(void **state)
{
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f), *idle = client_open(f), *early = client_open(f);
    struct rig_stream *held = client_begin(c, "/t.S/Hold", "\0\0\0\0\1x", 6, NULL), *late;
    struct drain d = {.f = f, .drain_ns = 20 * SECOND};
    pthread_t thread;

    (void)state;
    client_call(idle, "/t.S/Echo", "\0\0\0\0\0", 5);
    eventually(take_held(0) != NULL);
    assert_int_equal(pthread_create(&thread, NULL, run_drain, &d), 0);
    while (!c->rig->has_goaway)
        client_receive(c);
    assert_int_equal(c->rig->goaway_last, INT32_MAX);
    /* This one is sent before the answer to the ping: it arrives between the two GOAWAYs. */
    late = client_begin(early, "/t.S/Echo", "\0\0\0\0\0", 5, NULL);
    client_finish(early, late);
    assert_status(late, "14", "the server is shutting down");
    client_send(c);
    while (c->rig->goaways < 2)
        client_receive(c);
    assert_int_equal(c->rig->goaway_last, held->id);
    assert_true(dial(rpc_server_port(f->server)) == -1); /* nobody listens any more */
    assert_false(atomic_load(&d.is_done));
    assert_false(rpc_is_cancelled(take_held(0)));
    rpc_reply(take_held(0), bytes_str("done"));
    client_finish(c, held);
    assert_status(held, "0", "");
    pthread_join(thread, NULL);
    assert_true(atomic_load(&d.is_done));
    client_close(c);
    client_close(idle);
    client_close(early);
    stop(f);
}

static void drain_is_bounded(void **state)
{
    struct fixture *f = start(NULL, 1, NULL);
    struct client *c = client_open(f);

    (void)state;
    client_begin(c, "/t.S/Hold", "\0\0\0\0\1x", 6, NULL);
    eventually(take_held(0) != NULL);
    rpc_server_drain(f->server, 50 * MS);
    assert_int_equal(stats_of(f).calls_running, 1);
    rpc_reply(take_held(0), bytes_str("late"));
    client_close(c);
    stop(f);
}

static void *let_go_later(void *arg)
{
    struct rpc_call *call = arg;

    sleep_ms(200);
    assert(rpc_is_cancelled(call));
    assert(rpc_request(call).len == 1);
    rpc_reply(call, bytes_str("nobody"));
    return NULL;
}

static void stop_waits_for_held_calls(void **state)
{
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f);
    pthread_t thread;

    (void)state;
    client_begin(c, "/t.S/Hold", "\0\0\0\0\1x", 6, NULL);
    eventually(take_held(0) != NULL);
    assert_int_equal(pthread_create(&thread, NULL, let_go_later, take_held(0)), 0);
    stop(f);
    pthread_join(thread, NULL);
    client_close(c);
}

/* --- timeouts --- */

static void handshake_timeout(void **state)
{
    const struct rpc_limits limits = {.handshake_timeout_ns = 100 * MS};
    struct fixture *f = start(&limits, 1, NULL);
    struct client *silent = client_open(f), *half = client_open(f), *good = client_open(f);

    (void)state;
    assert_int_equal(send(half->fd, NGHTTP2_CLIENT_MAGIC, 10, MSG_NOSIGNAL), 10);
    client_call(good, "/t.S/Echo", "\0\0\0\0\0", 5);
    assert_true(client_is_hung_up(silent));
    assert_true(client_is_hung_up(half));
    sleep_ms(100);
    assert_status(client_call(good, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    client_close(silent);
    client_close(half);
    client_close(good);
    stop(f);
}

static void keepalive(void **state)
{
    const struct rpc_limits limits = {.keepalive_idle_ns = 100 * MS, .keepalive_timeout_ns = 100 * MS, .handshake_timeout_ns = 100 * MS};
    struct fixture *f = start(&limits, 1, NULL);
    struct client *deaf = client_open(f), *good = client_open(f);

    (void)state;
    client_call(deaf, "/t.S/Echo", "\0\0\0\0\0", 5);
    client_call(good, "/t.S/Echo", "\0\0\0\0\0", 5);
    while (good->rig->pings_seen < 3) { /* answers: stays */
        client_receive(good);
        client_send(good);
        assert_false(good->is_dead);
    }
    assert_true(client_is_hung_up(deaf));
    assert_status(client_call(good, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    client_close(deaf);
    client_close(good);
    stop(f);
}

static void deadline_while_held(void **state)
{
    struct fixture *f = start(NULL, 1, NULL);
    struct client *c = client_open(f);
    struct rig_stream *s = client_begin(c, "/t.S/Hold", "\0\0\0\0\1x", 6, "500m");

    (void)state;
    client_finish(c, s);
    assert_status(s, "4", "context deadline exceeded");
    assert_handled(s);
    assert_true(rpc_is_cancelled(take_held(0)));
    assert_int_equal(stats_of(f).calls_running, 1);
    rpc_reply(take_held(0), bytes_str("too late"));
    eventually(stats_of(f).calls_running == 0);
    client_close(c);
    stop(f);
}

/* A peer that asks for much and reads nothing is cut off, and what it asked for is given back. One that only closes its windows
 * but reads is cut off as well. */
static void slow_readers(void **state)
{
    const nghttp2_settings_entry wide[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 28}};
    const nghttp2_settings_entry closed[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0}};
    const struct rpc_limits limits = {.write_stall_timeout_ns = 300 * MS};

    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct fixture *f = start(&limits, 1, NULL);
        struct client *c = client_open_with(f, kind == 0 ? wide : closed, 1), *other = client_open(f);

        nghttp2_session_set_local_window_size(c->rig->client, NGHTTP2_FLAG_NONE, 0, 1 << 28);
        for (int i = 0; i < 4; i++)
            client_begin(c, "/t.S/Big", "\0\0\0\0\0", 5, NULL);
        eventually(stats_of(f).calls_total == 4);
        eventually(budget_used(&f->budget, BUDGET_REQUEST) >= (size_t)2 * (8 << 20)); /* the kernel took some of the four */
        assert_status(client_call(other, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
        eventually(stats_of(f).connections_open == 1);
        eventually(budget_used(&f->budget, BUDGET_REQUEST) < (1 << 20));
        assert_status(client_call(other, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
        client_close(c);
        client_close(other);
        stop(f);
    }
}

/* Connections cut at once and hard, some before their call is read, some while it is held or streaming. */
static void vanishing_peers(void **state)
{
    struct fixture *f = start(NULL, 2, NULL);
    struct linger hard = {1, 0};
    struct client *c;

    (void)state;
    for (uint64_t i = 0; i < 60; i++) {
        uint64_t calls = stats_of(f).calls_total;

        c = client_open(f);
        client_begin(c, i % 2 == 0 ? "/t.S/Hold" : "/t.S/Stream", "\0\0\0\0\1x", 6, NULL);
        if (i % 4 < 2)
            eventually(stats_of(f).calls_total > calls);
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        client_close(c);
    }
    eventually(stats_of(f).connections_open == 0);
    for (size_t i = 0; take_held(i) != NULL; i++) {
        eventually(rpc_is_cancelled(take_held(i)));
        rpc_reply(take_held(i), bytes_str("nobody"));
    }
    eventually(stats_of(f).calls_running == 0 && stats_of(f).streams_open == 0);
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    client_close(c);
    stop(f);
}

static void bad_preface(void **state)
{
    struct fixture *f = start(NULL, 1, NULL);
    struct client *c = client_open(f);

    (void)state;
    assert_int_equal(send(c->fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35, MSG_NOSIGNAL), 35);
    assert_true(client_is_hung_up(c));
    client_close(c);
    stop(f);
}

/* The peer reads our GOAWAY although it still sends. */
static void flood_gets_its_goaway(void **state)
{
    const struct rpc_limits limits = {.pings_per_10s_max = 10};
    struct fixture *f = start(&limits, 1, NULL);
    struct client *c = client_open(f);

    (void)state;
    for (int i = 0; i < 100; i++)
        nghttp2_submit_ping(c->rig->client, NGHTTP2_FLAG_NONE, NULL);
    client_send(c);
    while (!c->is_dead && !c->rig->has_goaway)
        client_receive(c);
    assert_true(c->rig->has_goaway);
    assert_int_equal(c->rig->goaway_error, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_true(client_is_hung_up(c));
    client_close(c);
    stop(f);
}

/* --- many connections --- */

static void connections_are_dealt_and_bounded(void **state)
{
    const struct rpc_limits limits = {.connections_max = 40};
    struct fixture *f = start(&limits, 4, NULL);
    struct client *c[40];
    int fd;
    char byte;

    (void)state;
    for (int i = 0; i < 40; i++) {
        c[i] = client_open(f);
        assert_status(client_call(c[i], "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    }
    assert_int_equal(stats_of(f).connections_open, 40);
    fd = dial(rpc_server_port(f->server));
    assert_true(fd >= 0);
    assert_true(recv(fd, &byte, 1, 0) <= 0); /* turned away */
    close(fd);
    assert_int_equal(stats_of(f).connections_refused, 1);
    client_close(c[0]);
    eventually(stats_of(f).connections_open == 39);
    c[0] = client_open(f);
    assert_status(client_call(c[0], "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    for (int i = 0; i < 40; i++)
        client_close(c[i]);
    stop(f);
}

static void out_of_descriptors(void **state)
{
    struct fixture *f = start(NULL, 1, NULL);
    struct client *c = client_open(f);
    struct rlimit before, low;
    int fds[64], fill[256], count = 0, fill_count = 0, highest;
    char byte;

    (void)state;
    client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5);
    highest = dup(c->fd);
    close(highest);
    for (; count < 20; count++) { /* sockets made beforehand: only the server needs new descriptors */
        fds[count] = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fds[count] >= 0);
        highest = fds[count] > highest ? fds[count] : highest;
    }
    getrlimit(RLIMIT_NOFILE, &before);
    low = (struct rlimit){(rlim_t)highest + 1, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (fill_count < 256 && (fill[fill_count] = dup(c->fd)) >= 0)
        fill_count++;
    for (int i = 0; i < 20; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(rpc_server_port(f->server)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

        assert_int_equal(connect(fds[i], (struct sockaddr *)&a, sizeof(a)), 0);
        assert_true(recv(fds[i], &byte, 1, 0) <= 0);
    }
    assert_int_equal(stats_of(f).connections_refused, 20);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    while (fill_count > 0)
        close(fill[--fill_count]);
    for (int i = 0; i < 20; i++)
        close(fds[i]);
    client_close(c);
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    client_close(c);
    stop(f);
}

/* --- TLS --- */

static SSL_CTX *make_context(const char *name)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject;

    assert_true(ctx != NULL && key != NULL && cert != NULL);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

static void tls_calls(void **state)
{
    SSL_CTX *ctx = make_context("one"), *other = make_context("two");
    struct fixture *f = start(NULL, 2, ctx);
    struct client *c = client_open(f);
    uint8_t *m = rig_message_of(5 << 20, 6);
    struct rig_stream *s;
    const unsigned char *chosen;
    unsigned chosen_len;
    X509 *peer;
    char name[64];

    (void)state;
    SSL_CTX_free(ctx); /* the server has its own reference */
    assert_false(c->is_dead);
    SSL_get0_alpn_selected(c->ssl, &chosen, &chosen_len);
    assert_true(chosen_len == 2 && memcmp(chosen, "h2", 2) == 0);
    for (int i = 0; i < 20; i++)
        assert_status(client_call(c, i % 2 == 0 ? "/t.S/Echo" : "/t.S/Pool", "\0\0\0\0\1x", 6), "0", "");
    s = client_call(c, "/t.S/Echo", m, GRPC_PREFIX_LEN + (5 << 20));
    assert_status(s, "0", "");
    assert_int_equal(s->down_len, GRPC_PREFIX_LEN + (5 << 20));
    assert_memory_equal(s->down, m, s->down_len);
    assert_int_equal(client_call(c, "/t.S/Stream", "\0\0\0\0\0", 5)->down_len, 1000 * 10005);
    client_close(c);
    f->alpn = NULL; /* an old client that does not know ALPN */
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\1x", 6), "0", "");
    client_close(c);
    f->alpn = "\10http/1.1\2h2";
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\1x", 6), "0", "");
    client_close(c);
    f->alpn = "\10http/1.1"; /* one that can not speak HTTP/2 */
    c = client_open(f);
    assert_true(c->is_dead);
    client_close(c);
    /* A new certificate serves new connections. */
    f->alpn = "\2h2";
    c = client_open(f);
    rpc_server_set_tls(f->server, other);
    SSL_CTX_free(other);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\1x", 6), "0", "");
    client_close(c);
    c = client_open(f);
    peer = SSL_get1_peer_certificate(c->ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(peer), NID_commonName, name, sizeof(name));
    assert_string_equal(name, "two");
    X509_free(peer);
    client_close(c);
    free(m);
    stop(f);
}

static void tls_misuse(void **state)
{
    const struct rpc_limits limits = {.handshake_timeout_ns = 300 * MS};
    SSL_CTX *ctx = make_context("one"), *old;
    struct fixture *f = start(&limits, 1, ctx);
    int plain, silent;
    SSL *ssl;
    char byte;

    (void)state;
    SSL_CTX_free(ctx);
    plain = dial(rpc_server_port(f->server)); /* HTTP/2 without TLS */
    silent = dial(rpc_server_port(f->server));
    assert_true(send(plain, NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN, MSG_NOSIGNAL) > 0);
    while (recv(plain, &byte, 1, 0) > 0)
        ;
    close(plain);
    old = SSL_CTX_new(TLS_client_method()); /* TLS 1.1 */
    SSL_CTX_set_security_level(old, 0);
    SSL_CTX_set_min_proto_version(old, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
    ssl = SSL_new(old);
    plain = dial(rpc_server_port(f->server));
    SSL_set_fd(ssl, plain);
    assert_int_not_equal(SSL_connect(ssl), 1);
    SSL_free(ssl);
    SSL_CTX_free(old);
    close(plain);
    assert_true(recv(silent, &byte, 1, 0) <= 0); /* the handshake timeout */
    close(silent);
    eventually(stats_of(f).connections_open == 0);
    stop(f);
}

/* More handshakes at once than begin in one go: they wait their turn, none is lost. */
static void tls_storm(void **state)
{
    SSL_CTX *ctx = make_context("one");
    struct fixture *f = start(NULL, 1, ctx);
    struct load loads[4];
    pthread_t threads[4];

    (void)state;
    SSL_CTX_free(ctx);
    for (int round = 0; round < 15; round++) {
        for (size_t i = 0; i < 4; i++) {
            loads[i] = (struct load){f, "/t.S/Echo", 3, 0};
            assert_int_equal(pthread_create(&threads[i], NULL, run_load, &loads[i]), 0);
        }
        for (size_t i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(loads[i].good, 3);
        }
    }
    stop(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_all_sizes),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(ports),
        cmocka_unit_test(graceful_drain),
        cmocka_unit_test(drain_is_bounded),
        cmocka_unit_test(stop_waits_for_held_calls),
        cmocka_unit_test(handshake_timeout),
        cmocka_unit_test(keepalive),
        cmocka_unit_test(deadline_while_held),
        cmocka_unit_test(slow_readers),
        cmocka_unit_test(vanishing_peers),
        cmocka_unit_test(bad_preface),
        cmocka_unit_test(flood_gets_its_goaway),
        cmocka_unit_test(connections_are_dealt_and_bounded),
        cmocka_unit_test(out_of_descriptors),
        cmocka_unit_test(tls_calls),
        cmocka_unit_test(tls_misuse),
        cmocka_unit_test(tls_storm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
