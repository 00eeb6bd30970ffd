/* Proves the server over real sockets on the loopback: echo from several threads and connections, answers from a worker pool,
 * timeouts of handshake, keepalive and stalled writers, graceful drain, stop with calls still held, streams that a worker takes up when all is said,
 * or when nobody waits any more, peers that vanish, running out of descriptors and of connections; and after each that the last byte of budget came back. */
#include <errno.h>
#include <sys/resource.h>

#include "rpc/rpc_server_rig.h"

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

/* A worker ends each pause; the callback that follows may end the call before the worker is out of rpc_resume(). */
static void pauses_ended_by_workers(void **state)
{
    enum { MESSAGES = 30, LEN = 100 };
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f);
    uint8_t all[MESSAGES * (GRPC_PREFIX_LEN + LEN)];
    struct linger hard = {1, 0};

    (void)state;
    memset(all, 1, sizeof(all));
    for (size_t i = 0; i < MESSAGES; i++)
        grpc_prefix_write(all + i * (GRPC_PREFIX_LEN + LEN), LEN);
    for (int round = 0; round < 100; round++) {
        struct rig_stream *s[4];

        for (int i = 0; i < 4; i++)
            s[i] = client_begin(c, "/t.S/Sink", all, sizeof(all), NULL);
        for (int i = 0; i < 4; i++) {
            client_finish(c, s[i]);
            assert_status(s[i], "0", "");
            assert_int_equal(load_u32be(s[i]->down + 5), MESSAGES * LEN);
        }
    }
    client_close(c);
    for (int round = 0; round < 30; round++) { /* and with the connection cut in between */
        c = client_open(f);
        for (int i = 0; i < 4; i++)
            client_begin(c, "/t.S/Sink", all, sizeof(all), NULL);
        client_receive(c);
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        client_close(c);
    }
    eventually(stats_of(f).connections_open == 0 && stats_of(f).calls_running == 0);
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

static void *let_go_of_many(void *arg)
{
    (void)arg;
    sleep_ms(400);
    for (size_t i = 0; i < 17; i++)
        rpc_reply(take_held(i), bytes_str("nobody"));
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

static _Atomic unsigned notices, notices_good;
static void count_notice(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    if (strstr(text, "the stop waits for") == NULL)
        return;
    atomic_fetch_add(&notices, 1);
    if (level == LOG_WARN && strstr(text, "/t.S/Hold of 127.0.0.1:") != NULL)
        atomic_fetch_add(&notices_good, 1);
}

/* Whoever wonders why a server does not end finds the calls in its log: 16 of them by name, and how many more. */
static void a_slow_stop_names_its_calls(void **state)
{
    const struct rpc_limits limits = {.held_notice_ns = 60 * MS};
    struct env env = *env_system();
    struct fixture *f;
    struct client *c;
    pthread_t thread;

    (void)state;
    env.log = count_notice;
    place.env = &env;
    for (size_t held = 0; held <= 17; held += 17) {
        atomic_store(&notices, 0);
        atomic_store(&notices_good, 0);
        f = start(&limits, 1, NULL);
        c = client_open(f);
        for (size_t i = 0; i < held; i++)
            client_begin(c, "/t.S/Hold", "\0\0\0\0\1x", 6, NULL);
        client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5);
        if (held > 0) {
            eventually(take_held(held - 1) != NULL);
            assert_int_equal(pthread_create(&thread, NULL, let_go_of_many, NULL), 0);
        }
        stop(f);
        if (held > 0)
            pthread_join(thread, NULL);
        assert_int_equal(atomic_load(&notices) % 17, 0);
        assert_int_equal(atomic_load(&notices_good), atomic_load(&notices) / 17 * 16);
        assert_true(held == 0 ? atomic_load(&notices) == 0 : atomic_load(&notices) >= 2 * 17);
        client_close(c);
    }
    place.env = NULL;
}

/* --- streams that are taken up late --- */

static void streams_taken_up_late(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 65000, 65536, 3 << 20};
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f);
    struct rig_stream *s;
    size_t held = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *m = rig_message_of(sizes[i], 5), *three = malloc(3 * (GRPC_PREFIX_LEN + sizes[i]));
        size_t len = GRPC_PREFIX_LEN + sizes[i];

        assert_non_null(three);
        for (size_t j = 0; j < 3; j++)
            memcpy(three + j * len, m, len);
        s = client_begin(c, "/t.S/HoldSink", three, 3 * len, NULL);
        eventually(take_held(held) != NULL);
        sleep_ms(20); /* what fits the window is there, for the small ones also the end */
        take_up_late(take_held(held++));
        client_finish(c, s);
        assert_status(s, "0", "");
        assert_int_equal(s->down_len, GRPC_PREFIX_LEN + 4);
        assert_int_equal(load_u32be(s->down + GRPC_PREFIX_LEN), 3 * sizes[i]);
        free(m);
        free(three);
    }
    client_close(c);
    stop(f);
}

/* Before the worker comes to it the client is gone, its time is over, or the server stops: the handler hears of it all the same. */
static void streams_given_up_before_they_are_taken_up(void **state)
{
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f), *other = client_open(f);
    struct rig_stream *s;

    (void)state;
    atomic_store(&place.cancelled_seen, 0);
    client_begin(c, "/t.S/HoldSink", "\0\0\0\0\1x", 6, NULL);
    eventually(take_held(0) != NULL);
    client_close(c);
    eventually(rpc_is_cancelled(take_held(0)));
    take_up_late(take_held(0));
    eventually(stats_of(f).calls_running == 0);
    s = client_begin(other, "/t.S/HoldSink", "\0\0\0\0\1x", 6, "200m");
    client_finish(other, s);
    assert_status(s, "4", "context deadline exceeded");
    take_up_late(take_held(1));
    eventually(stats_of(f).calls_running == 0);
    assert_int_equal(atomic_load(&place.cancelled_seen), 2);
    client_close(other);
    stop(f);
}

static void *take_up_during_the_stop(void *arg)
{
    struct rpc_call *call = arg;

    while (!rpc_is_cancelled(call))
        sleep_ms(1);
    sleep_ms(20);
    take_up_late(call);
    return NULL;
}

static void stop_ends_streams_not_yet_taken_up(void **state)
{
    struct fixture *f = start(NULL, 2, NULL);
    struct client *c = client_open(f);
    pthread_t thread;

    (void)state;
    client_begin(c, "/t.S/HoldSink", "\0\0\0\0\1x", 6, NULL);
    eventually(take_held(0) != NULL);
    assert_int_equal(pthread_create(&thread, NULL, take_up_during_the_stop, take_held(0)), 0);
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

/* Clients and server share one table here: of its 200 free places connections may take the first 100. */
static void files_have_descriptors_left(void **state)
{
    const struct rpc_limits limits = {.files_reserved = 100};
    struct rlimit before, low;
    struct fixture *f;
    struct client *c;
    int fds[80], fill[40], next = dup(0);
    struct rpc_stats stats;

    (void)state;
    close(next);
    getrlimit(RLIMIT_NOFILE, &before);
    low = (struct rlimit){(rlim_t)next + 200, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    f = start(&limits, 2, NULL);
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    for (int i = 0; i < 80; i++) {
        fds[i] = dial(rpc_server_port(f->server));
        assert_true(fds[i] >= 0);
    }
    eventually(stats_of(f).connections_open + stats_of(f).connections_refused == 81);
    stats = stats_of(f);
    assert_true(stats.connections_open >= 20 && stats.connections_open < 60);
    for (int i = 0; i < 40; i++) {
        fill[i] = dup(0);
        assert_true(fill[i] >= 0);
    }
    for (int i = 0; i < 40; i++)
        close(fill[i]);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    client_close(c);
    for (int i = 0; i < 80; i++)
        close(fds[i]);
    eventually(stats_of(f).connections_open == 0);
    c = client_open(f);
    assert_status(client_call(c, "/t.S/Echo", "\0\0\0\0\0", 5), "0", "");
    client_close(c);
    stop(f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_all_sizes),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(pauses_ended_by_workers),
        cmocka_unit_test(ports),
        cmocka_unit_test(graceful_drain),
        cmocka_unit_test(drain_is_bounded),
        cmocka_unit_test(stop_waits_for_held_calls),
        cmocka_unit_test(a_slow_stop_names_its_calls),
        cmocka_unit_test(streams_taken_up_late),
        cmocka_unit_test(streams_given_up_before_they_are_taken_up),
        cmocka_unit_test(stop_ends_streams_not_yet_taken_up),
        cmocka_unit_test(handshake_timeout),
        cmocka_unit_test(keepalive),
        cmocka_unit_test(deadline_while_held),
        cmocka_unit_test(slow_readers),
        cmocka_unit_test(vanishing_peers),
        cmocka_unit_test(bad_preface),
        cmocka_unit_test(flood_gets_its_goaway),
        cmocka_unit_test(connections_are_dealt_and_bounded),
        cmocka_unit_test(files_have_descriptors_left),
        cmocka_unit_test(out_of_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
