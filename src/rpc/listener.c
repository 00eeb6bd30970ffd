/* One listening socket and the thread that accepts from it.
 *
 * Accepted sockets are dealt to the reactor with the fewest streams, then the fewest connections. The socket is ours alone (no
 * SO_REUSEPORT): a second server on the same port must fail to start, not take half of the clients.
 *
 * Connections cost whoever makes them nothing, and a database that cannot open a file cannot write: so the last descriptors are not for them. The
 * system gives out the lowest free one, hence a socket's number tells how many are in use, whoever opened them. When they run out all the same the
 * spare one is closed for a moment, so that waiting clients are turned away instead of hanging in the backlog. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rpc/server.h"

#define BACKLOG 4096
#define TELL_NS 60000000000ull
enum { SURE_MAX = 128 };

static enum status bind_one(struct listener *l, const struct addrinfo *a, struct err *err)
{
    int on = 1, off = 0, e;

    if ((l->fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol)) < 0) {
        e = errno;
        return err_set(err, ST_IO, e, "socket: %s", strerror(e));
    }
    (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->ai_family == AF_INET6)
        (void)setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(l->fd, a->ai_addr, a->ai_addrlen) == 0 && listen(l->fd, BACKLOG) == 0)
        return ST_OK;
    e = errno;
    close(l->fd);
    l->fd = -1;
    if (e == EADDRINUSE)
        return err_set(err, ST_BUSY, e, "the port is in use by another process");
    return err_set(err, ST_IO, e, "%s", strerror(e));
}

static uint16_t port_of(const struct sockaddr_storage *a)
{
    return ntohs(a->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)(const void *)a)->sin6_port
                                          : ((const struct sockaddr_in *)(const void *)a)->sin_port);
}

enum status listener_open(struct listener *l, const char *address, uint16_t port, struct err *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof(bound);
    char service[8];
    enum status st;
    int rv;

    snprintf(service, sizeof(service), "%u", port);
    if ((rv = getaddrinfo(address == NULL || address[0] == '\0' ? NULL : address, service, &hints, &found)) != 0)
        return err_set(err, ST_INVALID, 0, "listening on %s port %u: %s", address, port, gai_strerror(rv));
    if ((st = bind_one(l, found, err)) != ST_OK)
        goto done;
    if (getsockname(l->fd, (struct sockaddr *)&bound, &bound_len) == 0)
        l->port = port_of(&bound);
    l->stop_fd = eventfd(0, EFD_CLOEXEC);
    l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (l->stop_fd < 0 || l->spare_fd < 0)
        st = err_set(err, ST_IO, errno, "descriptors of the listener: %s", strerror(errno));
done:
    freeaddrinfo(found);
    return st == ST_OK ? ST_OK : err_while(err, st, "listening on %s port %u", address, port);
}

/* "127.0.0.1:54321", "[::1]:54321"; an IPv4 address mapped into IPv6 is shown as what it is. */
static bool describe_peer(const struct sockaddr_storage *a, char *out, size_t out_max)
{
    char text[INET6_ADDRSTRLEN] = "?";
    struct in_addr v4;

    if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)a;

        if (!IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
            snprintf(out, out_max, "[%s]:%u", text, port_of(a));
            return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
        }
        memcpy(&v4, in6->sin6_addr.s6_addr + 12, sizeof(v4));
    } else {
        v4 = ((const struct sockaddr_in *)(const void *)a)->sin_addr;
    }
    inet_ntop(AF_INET, &v4, text, sizeof(text));
    snprintf(out, out_max, "%s:%u", text, port_of(a));
    return ntohl(v4.s_addr) >> 24 == 127;
}

static uint64_t connections_open(const struct rpc_server *server)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < server->reactor_count; i++)
        count += atomic_load(&server->reactors[i].dealt);
    return count;
}

static struct reactor *least_loaded(struct rpc_server *server)
{
    struct reactor *best = &server->reactors[0];

    for (unsigned i = 1; i < server->reactor_count; i++) {
        struct reactor *r = &server->reactors[i];
        uint64_t streams = atomic_load_explicit(&r->host.counters.streams_open, memory_order_relaxed);
        uint64_t best_streams = atomic_load_explicit(&best->host.counters.streams_open, memory_order_relaxed);

        if (streams < best_streams || (streams == best_streams && atomic_load(&r->dealt) < atomic_load(&best->dealt)))
            best = r;
    }
    return best;
}

/* What connections may take of the descriptors. Where files have taken more than was kept for them, a few connections are served all the same. */
static void shares_find(struct listener *l, const struct rpc_limits *limits)
{
    struct rlimit files;
    rlim_t reserved = limits->files_reserved;

    l->fd_max = INT_MAX;
    l->connections_sure = limits->connections_max;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur > INT_MAX)
        return;
    if (reserved > files.rlim_cur / 2)
        reserved = files.rlim_cur / 2;
    l->fd_max = (int)(files.rlim_cur - reserved) - 1;
    l->connections_sure = files.rlim_cur / 8 < SURE_MAX ? files.rlim_cur / 8 : SURE_MAX;
}

/* Now and then: whoever makes connections can make many. */
static void refusal_tell(struct rpc_server *server, uint64_t open)
{
    const struct env *env = server->service->options.env;
    struct listener *l = &server->listener;
    uint64_t now_ns = env_mono_ns(env);

    if (l->told_ns != 0 && now_ns - l->told_ns < TELL_NS)
        return;
    l->told_ns = now_ns;
    env_log(env, LOG_WARN, "connections are refused: %llu are open (limit %u), and descriptors above %d are kept for files", (unsigned long long)open,
            server->service->options.limits.connections_max, l->fd_max);
}

static void deal(struct rpc_server *server, int fd, const struct sockaddr_storage *address)
{
    const struct rpc_limits *limits = &server->service->options.limits;
    unsigned user_timeout_ms = (unsigned)(limits->write_stall_timeout_ns / 1000000);
    struct reactor *r = least_loaded(server);
    struct socket *s = NULL;
    char peer[64];
    bool is_loopback = describe_peer(address, peer, sizeof(peer));
    uint64_t open = connections_open(server);
    int on = 1;

    if (open >= limits->connections_max || (fd > server->listener.fd_max && open >= server->listener.connections_sure))
        refusal_tell(server, open);
    else
        s = socket_new(fd, peer, is_loopback);
    if (s == NULL) {
        atomic_fetch_add(&server->listener.refused, 1);
        close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof(user_timeout_ms));
    atomic_fetch_add(&r->dealt, 1);
    reactor_deal(r, s);
}

/* No descriptor left: accept into the spare one and hang up. */
static void turn_away(struct listener *l)
{
    const struct timespec pause = {0, 10000000};
    int fd;

    if (l->spare_fd >= 0)
        close(l->spare_fd);
    if ((fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        atomic_fetch_add(&l->refused, 1);
        close(fd);
    } else {
        nanosleep(&pause, NULL); /* another thread took it: do not spin */
    }
    l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void *run(void *arg)
{
    struct rpc_server *server = arg;
    struct listener *l = &server->listener;
    struct pollfd fds[2] = {{.fd = l->fd, .events = POLLIN}, {.fd = l->stop_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof(address);
        int fd;

        if (fds[1].revents != 0)
            break;
        if ((fd = accept4(l->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
            deal(server, fd, &address);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            turn_away(l);
    }
    return NULL;
}

enum status listener_start(struct rpc_server *server, struct err *err)
{
    const struct grpc_service *service = server->service;
    struct listener *l = &server->listener;
    enum status st;

    shares_find(l, &service->options.limits);
    if ((uint64_t)l->fd_max < service->options.limits.connections_max)
        env_log(service->options.env, LOG_INFO, "at most %d connections: %u would need a higher limit of open files", l->fd_max,
                service->options.limits.connections_max);
    st = thread_start(&l->thread, "rpc-listen", run, server, err);
    server->listener.is_started = st == ST_OK;
    return st;
}

static void close_descriptor(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void listener_stop(struct listener *l)
{
    uint64_t one = 1;

    if (l->is_started) {
        (void)!write(l->stop_fd, &one, sizeof(one));
        pthread_join(l->thread, NULL);
        l->is_started = false;
    }
    close_descriptor(&l->fd);
    close_descriptor(&l->spare_fd);
    close_descriptor(&l->stop_fd);
}
