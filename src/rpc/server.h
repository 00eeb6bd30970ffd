/* The server as a whole: listener, reactors, TLS context. For src/rpc alone. */
#ifndef RPC_SERVER_H
#define RPC_SERVER_H

#include "rpc/reactor.h"

/* One listening socket, one thread that accepts and deals. */
struct listener {
    int fd, spare_fd, stop_fd; /* spare_fd: given up for a moment when descriptors run out, so that the peer can be turned away */
    pthread_t thread;
    bool is_started;
    uint16_t port;
    int fd_max;                /* of a connection: descriptors above it are kept for files */
    uint64_t connections_sure; /* so many there may be even so */
    _Atomic uint64_t refused;
    uint64_t told_ns; /* when the log last heard that connections are refused; the thread's */
};

struct rpc_server {
    struct grpc_service *service;
    struct reactor *reactors;
    unsigned reactor_count;
    struct listener listener;
    pthread_mutex_t tls_lock; /* level 81; guards tls */
    SSL_CTX *tls;
};

MUST_USE enum status listener_open(struct listener *l, const char *address, uint16_t port, struct err *err);
/* Above connections_max nothing is dealt, nor, but for a few, above what the process may open less what is kept for files. Says so in the log. */
MUST_USE enum status listener_start(struct rpc_server *server, struct err *err);
/* Stops accepting and closes the socket. More than once is fine. */
void listener_stop(struct listener *l);

/* CPUs this process may use: affinity and the cgroup's quota; 1 to 64. */
unsigned cpu_count(void);

#endif
