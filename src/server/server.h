/* The server: configuration, databases, users and sessions, the edges. Made by cmd/immudb.c. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "auth/auth.h"
#include "proof/proof.h"
#include "rpc/rpc.h"
#include "store/runtime.h"

struct config;
struct databases;
struct logger;
struct monitor;
struct housekeeper;
struct gate;

enum readiness { SERVER_STARTING = 0, SERVER_READY = 1, SERVER_STOPPING = 2 };

struct server {
    const struct config *config;
    const struct env *env;
    struct logger *logger;
    struct runtime *runtime;
    struct databases *databases;
    struct auth *auth;
    struct signer *signer; /* NULL without --signingKey */
    struct rpc_server *rpc;
    struct monitor *monitor; /* metrics and health over HTTP; always there, listening unless switched off */
    struct housekeeper *housekeeper;
    struct gate *gate;     /* where calls wait during the start */
    struct vfs_file *lock; /* of the data directory */
    void *tls;             /* SSL_CTX of gRPC, NULL without TLS */
    void *tls_http;        /* the same for HTTP: another one, because the gRPC layer agrees on HTTP/2 in its handshakes */
    char address[64];      /* numeric form of --address; "" = every one */
    char uuid[21];         /* 20 characters and NUL */
    uint8_t identifier[12];
    int64_t started_s;
    _Atomic int readiness; /* enum readiness */
};

/* Opens data directory, listeners first (health answers at once), then databases. Texts of errors as users know them. config and logger must
 * outlive the server. */
MUST_USE enum status server_start(const struct config *config, struct logger *logger, struct server **out, struct err *err);
/* Readiness off, GOAWAY, no new calls; returns when the running ones are done, after 10 s, or when server_hurry() is called. Once. */
void server_drain(struct server *s);
/* Ends a server_drain() that is going on; from any thread. */
void server_hurry(struct server *s);
/* Drains (unless hurry is set or it was done before), cuts what is left, closes everything: queues are drained and synced. NULL is allowed. */
void server_stop(struct server *s, bool hurry);
uint16_t server_port(const struct server *s);
uint16_t server_metrics_port(const struct server *s); /* 0 when switched off */

#endif
