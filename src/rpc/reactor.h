/* The sockets: one reactor is one thread with an epoll loop, the connections dealt to it and a grpc_host. For src/rpc alone.
 *
 * A turn: wait; read what came (handlers run in between); take over new sockets and commands; run what other threads finished;
 * run timers; write once per connection that has something to say. */
#ifndef RPC_REACTOR_H
#define RPC_REACTOR_H

#include <openssl/ssl.h>

#include "rpc/grpc_conn.h"

#define REACTOR_READ_BYTES ((size_t)65536)
#define REACTOR_WRITE_BYTES ((size_t)65536 + GRPC_PULL_ROOM_MIN)

enum { REACTOR_DRAIN = 1, REACTOR_STOP = 2 };

/* An accepted socket on its way to a reactor, later with everything that belongs to it. */
enum socket_phase { SOCKET_NEW = 0, SOCKET_HANDSHAKE, SOCKET_OPEN, SOCKET_LINGER, SOCKET_CLOSED };
struct socket {
    struct grpc_conn grpc; /* first: a socket is found from its connection */
    int fd;
    enum socket_phase phase;
    SSL *ssl;        /* NULL = plaintext */
    uint32_t events; /* what epoll watches */
    uint8_t *rest;   /* pulled, but not taken by the kernel yet; malloc */
    size_t rest_at, rest_len, rest_room;
    uint64_t rest_since_ns; /* last progress */
    size_t lingered;        /* bytes thrown away in SOCKET_LINGER */
    struct timer life;      /* handshake, keepalive, linger */
    struct timer watch;     /* stalls; while there are calls */
    struct socket *next, *prev;
};

#define REACTOR_HANDSHAKE_SHARES 256

struct reactor {
    struct grpc_host host; /* first */
    struct rpc_server *server;
    int epoll_fd, wake_fd;
    pthread_t thread;
    bool is_started;
    struct socket *sockets;
    struct socket *closed; /* wait for calls that are still held */
    size_t socket_count;   /* both */
    uint8_t *in, *out;
    uint64_t handshake_tat_ns;                                             /* up to when TLS handshakes have been begun in advance */
    uint64_t handshake_share_ns[REACTOR_HANDSHAKE_SHARES], handshake_seed; /* the same of the addresses that fall together under the hash */
    struct timer drain_timer; /* the end of the first step of a drain; once it stops: when it names the calls it waits for */
    bool is_stopping, has_drain_slot;
    _Atomic(struct socket *) incoming;
    _Atomic uint64_t dealt; /* sockets of this reactor, with those on their way */
    _Atomic unsigned commands;
};

/* The thread starts at once. */
MUST_USE enum status reactor_start(struct reactor *r, struct rpc_server *server, struct grpc_service *service, unsigned index, struct err *err);
/* Any thread. Takes the socket. */
void reactor_deal(struct reactor *r, struct socket *s);
void reactor_command(struct reactor *r, unsigned command);
/* After REACTOR_STOP: waits for the thread and frees everything. Also for a reactor that never started. */
void reactor_join(struct reactor *r);
/* A thread that takes no signals. name: at most 15 characters. */
MUST_USE enum status thread_start(pthread_t *thread, const char *name, void *(*fn)(void *), void *arg, struct err *err);

/* --- socket.c --- */
struct socket *socket_new(int fd, const char *peer, bool is_loopback);
void socket_free(struct socket *s);
/* Bytes moved; 0: not now; -1: the connection is dead. */
ssize_t socket_read(struct socket *s, uint8_t *to, size_t len);
ssize_t socket_write(struct socket *s, const uint8_t *from, size_t len);
/* 1 done, 0 not yet, -1 failed. */
int socket_handshake(struct socket *s);
bool socket_has_buffered(const struct socket *s);
/* Sets up TLS for a socket when ctx is not NULL. */
MUST_USE enum status socket_secure(struct socket *s, SSL_CTX *ctx, struct err *err);
/* Prepares a context for HTTP/2: ALPN and the options of every connection. */
void tls_prepare(SSL_CTX *ctx);

#endif
