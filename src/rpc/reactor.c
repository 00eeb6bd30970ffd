/* The epoll loop of one thread; see reactor.h. */
#include "rpc/reactor.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "rpc/server.h"

#define EVENTS_MAX 256
#define READS_PER_TURN 4               /* of REACTOR_READ_BYTES from one connection */
#define WRITES_PER_TURN 16             /* of REACTOR_WRITE_BYTES to one connection */
#define LINGER_NS UINT64_C(1000000000) /* how long a peer may take to read our GOAWAY */
#define LINGER_BYTES_MAX ((size_t)1 << 20)
#define DRAIN_NOTICE_NS UINT64_C(1000000000)      /* how long the answer to the ping behind the first GOAWAY is waited for */
#define HELD_NAMED_MAX 16                         /* calls that a notice of a slow stop names */
#define HANDSHAKE_STEP_NS UINT64_C(5000000)       /* TLS handshakes begin at most 200 times a second ... */
#define HANDSHAKE_SPREAD_NS UINT64_C(200000000)   /* those who wait for their turn look again within this time */
#define HANDSHAKE_BURST 40                        /* ... beyond that many at once; */
#define HANDSHAKE_SHARE_STEP_NS UINT64_C(6666667) /* those of one address 150 times, ... */
#define HANDSHAKE_SHARE_BURST 30                  /* ... beyond that many */

static const struct rpc_limits *limits_of(const struct reactor *r) { return &r->host.service->options.limits; }
static struct reactor *reactor_of(const struct socket *s) { return (struct reactor *)(void *)s->grpc.host; }

/* --- the end of a socket --- */

static void watch_events(struct reactor *r, struct socket *s, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = s};

    if (events == s->events)
        return;
    /* Fails only without kernel memory: then the connection's timers end it. */
    (void)epoll_ctl(r->epoll_fd, s->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, s->fd, &event);
    s->events = events;
}

static void list_add(struct socket **head, struct socket *s)
{
    s->prev = NULL;
    if ((s->next = *head) != NULL)
        s->next->prev = s;
    *head = s;
}

static void list_remove(struct socket **head, struct socket *s)
{
    if (s->next != NULL)
        s->next->prev = s->prev;
    *(s->prev != NULL ? &s->prev->next : head) = s->next;
    s->next = s->prev = NULL;
}

static void free_rest(struct reactor *r, struct socket *s)
{
    grpc_host_give(&r->host, s->rest_room);
    free(s->rest);
    s->rest = NULL;
    s->rest_room = s->rest_at = s->rest_len = 0;
}

/* The last call of a closed connection is gone. */
static void on_unused(struct grpc_conn *c)
{
    struct socket *s = (struct socket *)(void *)c;
    struct reactor *r = reactor_of(s);

    if (s->phase != SOCKET_CLOSED)
        return; /* lingering: close_socket() comes later */
    list_remove(&r->closed, s);
    timers_drop_slot(&r->host.timers);
    timers_drop_slot(&r->host.timers);
    r->socket_count--;
    socket_free(s);
}

static void close_socket(struct reactor *r, struct socket *s)
{
    timer_disarm(&r->host.timers, &s->life);
    timer_disarm(&r->host.timers, &s->watch);
    free_rest(r, s);
    list_remove(&r->sockets, s);
    list_add(&r->closed, s);
    SSL_free(s->ssl);
    s->ssl = NULL;
    close(s->fd);
    s->fd = -1;
    atomic_fetch_sub(&r->dealt, 1);
    s->phase = SOCKET_CLOSED;
    if (s->grpc.session != NULL)
        grpc_conn_close(&s->grpc);
    else if (s->grpc.call_count == 0)
        on_unused(&s->grpc);
}

/* HTTP/2 is over: the peer gets the time to read our last words, or the kernel would throw them away with what it still sends. */
static void begin_linger(struct reactor *r, struct socket *s)
{
    s->phase = SOCKET_LINGER;
    if (s->ssl != NULL)
        (void)SSL_shutdown(s->ssl);
    shutdown(s->fd, SHUT_WR);
    timer_disarm(&r->host.timers, &s->watch);
    timer_arm(&r->host.timers, &s->life, r->host.now_ns + LINGER_NS);
    watch_events(r, s, EPOLLIN);
    grpc_conn_close(&s->grpc);
}

static void linger(struct reactor *r, struct socket *s)
{
    ssize_t n = recv(s->fd, r->in, REACTOR_READ_BYTES, 0);

    if (n > 0)
        s->lingered += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || s->lingered > LINGER_BYTES_MAX)
        close_socket(r, s);
}

/* --- writing --- */

/* Sends what an earlier turn left. True when nothing is left. */
static bool send_rest(struct reactor *r, struct socket *s, bool *is_dead)
{
    while (s->rest_at < s->rest_len) {
        ssize_t n = socket_write(s, s->rest + s->rest_at, s->rest_len - s->rest_at);

        if (n <= 0) {
            *is_dead = n < 0;
            return false;
        }
        s->rest_at += (size_t)n;
        s->rest_since_ns = r->host.now_ns;
    }
    if (s->rest != NULL)
        free_rest(r, s);
    return true;
}

static bool keep_rest(struct reactor *r, struct socket *s, const uint8_t *data, size_t len)
{
    assert(s->rest == NULL);
    if ((s->rest = malloc(len)) == NULL)
        return false;
    memcpy(s->rest, data, len);
    s->rest_at = 0;
    s->rest_len = s->rest_room = len;
    s->rest_since_ns = r->host.now_ns;
    grpc_host_take(&r->host, len);
    return true;
}

/* Arms the timer that looks for stalls, while there is something that can stall. */
static void arm_watch(struct reactor *r, struct socket *s)
{
    if (s->watch.position == 0 && (s->grpc.call_count > 0 || s->rest != NULL))
        timer_arm(&r->host.timers, &s->watch, r->host.now_ns + limits_of(r)->write_stall_timeout_ns / 4);
}

static void flush_socket(struct reactor *r, struct socket *s)
{
    bool is_dead = false, is_full = true;
    size_t len, writes = 0;
    ssize_t n;

    grpc_conn_untouch(&s->grpc);
    if (s->phase != SOCKET_OPEN)
        return;
    if (send_rest(r, s, &is_dead)) {
        is_full = false;
        for (; writes < WRITES_PER_TURN; writes++) {
            if ((len = grpc_conn_pull(&s->grpc, r->out, REACTOR_WRITE_BYTES)) == 0)
                break;
            n = socket_write(s, r->out, len);
            is_dead = n < 0;
            if (n >= 0 && (size_t)n < len) {
                is_full = true;
                is_dead = !keep_rest(r, s, r->out + n, len - (size_t)n);
            }
            if (is_dead || is_full)
                break;
        }
    }
    grpc_conn_untouch(&s->grpc);
    if (is_dead) {
        close_socket(r, s);
    } else if (!is_full && grpc_conn_is_over(&s->grpc)) {
        begin_linger(r, s);
    } else {
        /* Not done in this turn: the socket is writable, so epoll calls us again. */
        watch_events(r, s, is_full || writes == WRITES_PER_TURN ? EPOLLIN | EPOLLOUT : EPOLLIN);
        arm_watch(r, s);
    }
}

/* --- reading --- */

static void read_socket(struct reactor *r, struct socket *s)
{
    for (unsigned i = 0; i < READS_PER_TURN || socket_has_buffered(s); i++) {
        ssize_t n = socket_read(s, r->in, REACTOR_READ_BYTES);

        if (n < 0) {
            close_socket(r, s);
            return;
        }
        if (n == 0 || !grpc_conn_feed(&s->grpc, r->in, (size_t)n))
            break;
        /* A short read of a plain socket: no more there. */
        if (s->ssl == NULL && (size_t)n < REACTOR_READ_BYTES)
            break;
    }
    arm_watch(r, s);
}

/* --- the beginning --- */

static void open_http2(struct reactor *r, struct socket *s)
{
    struct err err;

    s->phase = SOCKET_OPEN;
    if (grpc_conn_open(&s->grpc, &r->host, &err) != ST_OK) {
        close_socket(r, s);
        return;
    }
    watch_events(r, s, EPOLLIN);
    if (socket_has_buffered(s))
        read_socket(r, s);
}

static void handshake(struct reactor *r, struct socket *s)
{
    int done = socket_handshake(s);

    if (done < 0)
        close_socket(r, s);
    else if (done > 0)
        open_http2(r, s);
    else
        watch_events(r, s, SSL_want_write(s->ssl) ? EPOLLOUT : EPOLLIN);
}

/* TLS costs a fraction of a millisecond each: handshakes begin at a bounded rate, so that calls of others go on. One address gets three quarters
 * of it: who sends a flood of them waits for himself, and beyond the time a handshake may take he is not let in at all. */
static void begin_handshake(struct reactor *r, struct socket *s)
{
    uint64_t now_ns = r->host.now_ns, ahead_ns = HANDSHAKE_BURST * HANDSHAKE_STEP_NS;

    if (r->handshake_tat_ns < now_ns)
        r->handshake_tat_ns = now_ns;
    if (r->handshake_tat_ns > now_ns + ahead_ns) { /* many addresses at once */
        /* Spread: all of a flood waking for each slot would cost more than the handshakes. */
        uint64_t later_ns = hash64(r->handshake_seed ^ now_ns, &s, sizeof s) % HANDSHAKE_SPREAD_NS;

        timer_arm(&r->host.timers, &s->watch, r->handshake_tat_ns - ahead_ns + later_ns);
        return;
    }
    r->handshake_tat_ns += HANDSHAKE_STEP_NS;
    watch_events(r, s, EPOLLIN);
}

static uint64_t *handshake_share(struct reactor *r, const struct socket *s)
{
    const char *colon = strrchr(s->grpc.peer, ':');
    size_t len = colon != NULL ? (size_t)(colon - s->grpc.peer) : strlen(s->grpc.peer);

    return &r->handshake_share_ns[hash64(r->handshake_seed, s->grpc.peer, len) % REACTOR_HANDSHAKE_SHARES];
}

static void schedule_handshake(struct reactor *r, struct socket *s)
{
    uint64_t now_ns = r->host.now_ns, ahead_ns = HANDSHAKE_SHARE_BURST * HANDSHAKE_SHARE_STEP_NS, *share = handshake_share(r, s);

    s->phase = SOCKET_HANDSHAKE;
    if (*share < now_ns)
        *share = now_ns;
    if (*share > now_ns + ahead_ns + limits_of(r)->handshake_timeout_ns) {
        close_socket(r, s);
        return;
    }
    *share += HANDSHAKE_SHARE_STEP_NS;
    if (*share <= now_ns + ahead_ns)
        begin_handshake(r, s);
    else
        timer_arm(&r->host.timers, &s->watch, *share - ahead_ns);
}

/* --- timers --- */

static struct socket *socket_of_life(struct timer *t) { return (struct socket *)(void *)((char *)t - offsetof(struct socket, life)); }
static struct socket *socket_of_watch(struct timer *t) { return (struct socket *)(void *)((char *)t - offsetof(struct socket, watch)); }

static void on_life(struct timer *timer)
{
    struct socket *s = socket_of_life(timer);
    struct reactor *r = reactor_of(s);
    const struct rpc_limits *l = limits_of(r);
    uint64_t silent_ns = r->host.now_ns - s->grpc.received_ns;

    if (s->phase != SOCKET_OPEN || !s->grpc.has_settings) {
        close_socket(r, s); /* no handshake or no preface in time; or the linger is over */
    } else if (s->grpc.is_ping_out && silent_ns >= l->keepalive_idle_ns + l->keepalive_timeout_ns) {
        close_socket(r, s);
    } else if (silent_ns >= l->keepalive_idle_ns) {
        grpc_conn_ping(&s->grpc);
        timer_arm(&r->host.timers, timer,
                  s->grpc.received_ns + l->keepalive_idle_ns + l->keepalive_timeout_ns > r->host.now_ns
                      ? s->grpc.received_ns + l->keepalive_idle_ns + l->keepalive_timeout_ns
                      : r->host.now_ns + l->keepalive_timeout_ns);
    } else {
        timer_arm(&r->host.timers, timer, s->grpc.received_ns + l->keepalive_idle_ns);
    }
}

static void on_watch(struct timer *timer)
{
    struct socket *s = socket_of_watch(timer);
    struct reactor *r = reactor_of(s);
    uint64_t stall_ns = limits_of(r)->write_stall_timeout_ns;

    if (s->phase == SOCKET_HANDSHAKE)
        begin_handshake(r, s);
    else if (s->phase == SOCKET_OPEN && ((s->rest != NULL && r->host.now_ns - s->rest_since_ns >= stall_ns) || !grpc_conn_watch(&s->grpc)))
        close_socket(r, s);
    else if (s->phase == SOCKET_OPEN)
        arm_watch(r, s);
}

struct held_notice {
    const struct reactor *reactor;
    size_t count;
};

static void name_held(void *ctx, const struct rpc_call *call)
{
    struct held_notice *notice = ctx;
    const struct grpc_host *h = &notice->reactor->host;

    if (notice->count++ < HELD_NAMED_MAX)
        env_log(h->service->options.env, LOG_WARN, "the stop waits for a call that was cancelled: %s of %s, begun %llu ms ago",
                rpc_method(call)->path, rpc_peer(call), (unsigned long long)((h->now_ns - rpc_started_ns(call)) / 1000000));
}

/* The stop takes long: whoever looks after the server is told what for. */
static void notice_held(struct reactor *r)
{
    struct held_notice notice = {r, 0};

    for (const struct socket *s = r->closed; s != NULL; s = s->next)
        grpc_conn_each_orphan(&s->grpc, name_held, &notice);
    if (notice.count > HELD_NAMED_MAX)
        env_log(r->host.service->options.env, LOG_WARN, "the stop waits for %zu more calls", notice.count - HELD_NAMED_MAX);
    timer_arm(&r->host.timers, &r->drain_timer, r->host.now_ns + limits_of(r)->held_notice_ns);
}

static void on_drain_timer(struct timer *timer)
{
    struct reactor *r = (struct reactor *)(void *)((char *)timer - offsetof(struct reactor, drain_timer));

    if (r->is_stopping) {
        notice_held(r);
        return;
    }
    for (struct socket *s = r->sockets; s != NULL; s = s->next)
        if (s->phase == SOCKET_OPEN)
            grpc_conn_drain_last(&s->grpc);
}

/* --- what other threads ask for --- */

static void wake(struct grpc_host *h)
{
    struct reactor *r = (struct reactor *)(void *)h;
    uint64_t one = 1;

    /* Fails only when the counter is full, that is when a wake-up is there already. */
    (void)!write(r->wake_fd, &one, sizeof(one));
}

static void kick(struct reactor *r)
{
    atomic_fetch_add_explicit(&r->host.posters, 1, memory_order_acquire);
    if (atomic_exchange_explicit(&r->host.is_asleep, false, memory_order_seq_cst))
        wake(&r->host);
    atomic_fetch_sub_explicit(&r->host.posters, 1, memory_order_release);
}

void reactor_deal(struct reactor *r, struct socket *s)
{
    s->next = atomic_load_explicit(&r->incoming, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&r->incoming, &s->next, s))
        ;
    kick(r);
}

void reactor_command(struct reactor *r, unsigned command)
{
    atomic_fetch_or(&r->commands, command);
    kick(r);
}

static void take_socket(struct reactor *r, struct socket *s)
{
    struct grpc_host *h = &r->host;
    enum status st;
    struct err err;

    if (!timers_take_slot(&h->timers)) {
        atomic_fetch_sub(&r->dealt, 1);
        socket_free(s);
        return;
    }
    if (!timers_take_slot(&h->timers)) {
        timers_drop_slot(&h->timers);
        atomic_fetch_sub(&r->dealt, 1);
        socket_free(s);
        return;
    }
    s->grpc.host = h;
    s->grpc.on_unused = on_unused;
    s->grpc.received_ns = h->now_ns;
    s->life.fire = on_life;
    s->watch.fire = on_watch;
    list_add(&r->sockets, s);
    r->socket_count++;
    timer_arm(&h->timers, &s->life, h->now_ns + limits_of(r)->handshake_timeout_ns);
    pthread_mutex_lock(&r->server->tls_lock);
    st = socket_secure(s, r->server->tls, &err);
    pthread_mutex_unlock(&r->server->tls_lock);
    if (st != ST_OK || r->is_stopping)
        close_socket(r, s);
    else if (s->ssl != NULL)
        schedule_handshake(r, s);
    else
        open_http2(r, s);
}

static void take_incoming(struct reactor *r)
{
    struct socket *s, *next;

    if (atomic_load_explicit(&r->incoming, memory_order_relaxed) == NULL)
        return;
    for (s = atomic_exchange(&r->incoming, NULL); s != NULL; s = next) {
        next = s->next;
        take_socket(r, s);
    }
}

static void take_commands(struct reactor *r)
{
    unsigned commands;
    struct socket *s, *next;

    if (atomic_load_explicit(&r->commands, memory_order_relaxed) == 0)
        return;
    commands = atomic_exchange(&r->commands, 0);
    if (commands & REACTOR_DRAIN) {
        for (s = r->sockets; s != NULL; s = s->next)
            if (s->phase == SOCKET_OPEN)
                grpc_conn_drain(&s->grpc);
        timer_arm(&r->host.timers, &r->drain_timer, r->host.now_ns + DRAIN_NOTICE_NS);
    }
    if (commands & REACTOR_STOP) {
        r->is_stopping = true;
        timer_arm(&r->host.timers, &r->drain_timer, r->host.now_ns + limits_of(r)->held_notice_ns);
        for (s = r->sockets; s != NULL; s = next) {
            next = s->next;
            close_socket(r, s);
        }
    }
}

/* --- the loop --- */

static void on_event(struct reactor *r, struct socket *s, uint32_t events)
{
    switch (s->phase) {
    case SOCKET_HANDSHAKE:
        handshake(r, s);
        break;
    case SOCKET_OPEN:
        /* Over TLS either direction may wait for the other. read_socket() may close it, so it comes last. */
        if ((events & EPOLLOUT) || s->ssl != NULL)
            grpc_conn_touch(&s->grpc);
        if ((events & ~(uint32_t)EPOLLOUT) != 0 || s->ssl != NULL)
            read_socket(r, s);
        break;
    case SOCKET_LINGER:
        linger(r, s);
        break;
    case SOCKET_NEW:
    case SOCKET_CLOSED:
        break;
    }
}

static int sleep_ms(struct reactor *r)
{
    uint64_t next_ns = timers_next_ns(&r->host.timers), now_ns = r->host.now_ns;

    if (r->host.dirty != NULL || !grpc_host_sleep(&r->host))
        return 0;
    if (atomic_load(&r->incoming) != NULL || atomic_load(&r->commands) != 0)
        return 0;
    if (next_ns == UINT64_MAX)
        return -1;
    if (next_ns <= now_ns)
        return 0;
    next_ns = (next_ns - now_ns + 999999) / 1000000;
    return next_ns > 3600000 ? 3600000 : (int)next_ns;
}

static bool is_done(const struct reactor *r) { return r->is_stopping && r->socket_count == 0 && atomic_load(&r->incoming) == NULL; }

/* How long everybody else had to wait for this turn. */
static void turn_count(struct reactor *r, uint64_t ns)
{
    struct grpc_counters *c = &r->host.counters;

    counter_add(&c->turns, 1);
    counter_add(&c->turn_ns_total, ns);
    if (ns > atomic_load_explicit(&c->turn_ns_max, memory_order_relaxed))
        atomic_store_explicit(&c->turn_ns_max, ns, memory_order_relaxed);
}

static void *run(void *arg)
{
    struct reactor *r = arg;
    struct epoll_event events[EVENTS_MAX];
    uint64_t count;

    r->host.thread = pthread_self();
    while (!is_done(r)) {
        int n = epoll_wait(r->epoll_fd, events, EVENTS_MAX, sleep_ms(r));

        grpc_host_woke(&r->host);
        r->host.now_ns = env_mono_ns(r->host.service->options.env);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                (void)!read(r->wake_fd, &count, sizeof(count));
            else
                on_event(r, events[i].data.ptr, events[i].events);
        }
        take_incoming(r);
        take_commands(r);
        grpc_host_run_posted(&r->host);
        timers_run(&r->host.timers, r->host.now_ns);
        while (r->host.dirty != NULL)
            flush_socket(r, (struct socket *)(void *)r->host.dirty);
        turn_count(r, env_mono_ns(r->host.service->options.env) - r->host.now_ns);
    }
    return NULL;
}

static enum status open_descriptors(struct reactor *r, struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->epoll_fd < 0 || r->wake_fd < 0 || epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, r->wake_fd, &event) != 0) {
        int e = errno;

        return err_set(err, status_from_errno(e), e, "descriptors of a reactor: %s", strerror(e));
    }
    return ST_OK;
}

enum status thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg, struct err *err)
{
    sigset_t all, before;
    int e;

    /* Signals are the main thread's. SIGPIPE most of all: a write of OpenSSL's to a socket that the peer closed raises it. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    e = pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (e != 0)
        return err_set(err, status_from_errno(e), e, "thread %s: %s", name, strerror(e));
    (void)pthread_setname_np(*thread, name);
    return ST_OK;
}

enum status reactor_start(struct reactor *r, struct rpc_server *server, struct grpc_service *service, unsigned index, struct err *err)
{
    char name[16];
    enum status st;

    r->server = server;
    r->epoll_fd = r->wake_fd = -1;
    r->drain_timer.fire = on_drain_timer;
    env_random(service->options.env, &r->handshake_seed, sizeof(r->handshake_seed));
    r->in = malloc(REACTOR_READ_BYTES);
    r->out = malloc(REACTOR_WRITE_BYTES);
    if (r->in == NULL || r->out == NULL)
        return err_set(err, ST_NOMEM, 0, "buffers of a reactor");
    if ((st = open_descriptors(r, err)) != ST_OK || (st = grpc_host_open(&r->host, service, index, wake, err)) != ST_OK)
        return st;
    if (!timers_take_slot(&r->host.timers))
        return err_set(err, ST_NOMEM, 0, "timers of a reactor");
    r->has_drain_slot = true;
    snprintf(name, sizeof(name), "rpc%u", index);
    if ((st = thread_start(&r->thread, name, run, r, err)) == ST_OK)
        r->is_started = true;
    return st;
}

void reactor_join(struct reactor *r)
{
    if (r->is_started)
        pthread_join(r->thread, NULL);
    /* A thread that handed its call back may still be on its way out of grpc_host_post(). */
    while (atomic_load_explicit(&r->host.posters, memory_order_acquire) > 0)
        sched_yield();
    if (r->has_drain_slot) {
        timer_disarm(&r->host.timers, &r->drain_timer);
        timers_drop_slot(&r->host.timers);
    }
    grpc_host_close(&r->host);
    if (r->epoll_fd >= 0)
        close(r->epoll_fd);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    free(r->in);
    free(r->out);
    r->in = r->out = NULL;
    r->epoll_fd = r->wake_fd = -1;
    r->is_started = r->has_drain_slot = false;
}
