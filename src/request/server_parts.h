/* The parts of a running server, as calls and what tells about them reach them. server.c makes and ends them; a part is NULL until its turn comes. */
#ifndef REQUEST_SERVER_PARTS_H
#define REQUEST_SERVER_PARTS_H

#include "auth/auth.h"
#include "databases/datadir.h"
#include "proof/proof.h"
#include "rpc/rpc.h"
#include "store/runtime.h"

struct config;
struct databases;
struct logger;
struct rpc_metrics;
struct gate;
struct txs;
struct health;
struct access_log;
struct audit_log;
struct monitor;

enum readiness { SERVER_STARTING = 0, SERVER_READY = 1, SERVER_STOPPING = 2 };

struct server {
    const struct config *config;
    const struct env *env;
    struct logger *logger;
    struct runtime *runtime;
    struct datadir datadir;
    struct databases *databases;
    struct auth *auth;
    struct signer *signer; /* NULL without --signingKey */
    struct rpc_server *rpc;
    struct rpc_metrics *call_metrics; /* counts every call; the monitor's */
    struct gate *gate;                /* where calls wait during the start */
    struct txs *txs;                  /* interactive transactions of sessions */
    struct health *health;            /* grpc.health.v1 */
    struct access_log *access_log;    /* NULL unless --log-access */
    struct audit_log *audit_log;      /* NULL unless --audit-log */
    struct monitor *monitor;          /* metrics and health over HTTP; always there, listening unless switched off */
    char address[64];                 /* numeric form of --address; "" = every one */
    int64_t started_s;
    _Atomic int readiness; /* enum readiness */
};

#endif
