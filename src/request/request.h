/* One gRPC call inside the server: what every handler gets, and how it answers.
 *
 * The method table (handlers/methods.c) has a row per method: path, kind, request message, permission class, flags, handler. Before a handler
 * runs, the message is decoded (request.c), and the prelude (prelude.c) has checked maintenance mode, credentials, the selected database and the
 * permission, in the published order, and answered every failure by itself. Adding a method is a row and a handler.
 *
 * A request lives in the call's arena until the call ends. The database stays pinned (open) until then. */
#ifndef REQUEST_REQUEST_H
#define REQUEST_REQUEST_H

#include <protobuf-c/protobuf-c.h>

#include "rpc/rpc.h"
#include "store/store.h"
#include "store/timer.h"

struct server;
struct database; /* databases/databases.h */
struct request;
struct session; /* auth/session.h */
struct user;    /* auth/users.h */

/* Who may call (docs/permissions.md): on the selected database unless said otherwise. */
enum method_class {
    CLASS_ANYBODY, /* no credentials */
    CLASS_LOGGED_IN,
    CLASS_READ,  /* 1, 2, 254, sysadmin */
    CLASS_WRITE, /* 2, 254, sysadmin */
    CLASS_ADMIN, /* 254, sysadmin */
    CLASS_SYSADMIN,
    CLASS_SESSION /* a valid session; finer checks are the handler's */
};
enum method_flags {
    METHOD_MAINTENANCE = 1,      /* allowed in maintenance mode and on systemdb */
    METHOD_NO_DATABASE = 2,      /* needs no selected database */
    METHOD_ON_WORKER = 4,        /* runs on the worker pool instead of the reactor */
    METHOD_LATER = 8,            /* known, answers UNIMPLEMENTED with a clear text until its part exists */
    METHOD_DB_MAY_BE_CLOSED = 16 /* the selected database need not be open: rq->db is set, rq->store NULL, nothing is pinned */
};
/* What a method answers when authentication is off (--auth=false). */
enum auth_off_answer {
    AUTH_OFF_DEFAULTDB = 0, /* works on defaultdb, no further check */
    AUTH_OFF_IGNORE,        /* goes on as usual: credentials are asked for */
    AUTH_OFF_HANDLER,       /* the handler decides: rq->who may be NULL */
    AUTH_OFF_MUST_BE_ON,    /* INVALID_ARGUMENT "authentication must be on" */
    AUTH_OFF_COMMAND,       /* UNKNOWN "this command is available only with authentication on" */
    AUTH_OFF_LOGIN          /* UNKNOWN 08P01 "server is running with authentication disabled, ..." */
};
/* How missing, broken or expired credentials are reported. */
enum login_failure {
    LOGIN_FAILURE_CODED = 0, /* "not logged in" (28000), "invalid token" (XX000); expired: PERMISSION_DENIED for calls on a database */
    LOGIN_FAILURE_USERDATA,  /* UNKNOWN "could not get loggedin user data" */
    LOGIN_FAILURE_PLEASE,    /* UNKNOWN "please login" */
    LOGIN_FAILURE_USE        /* UNAUTHENTICATED "Please login" */
};
struct method {
    const char *path;
    enum rpc_kind kind;
    enum method_class who;
    unsigned flags;
    const ProtobufCMessageDescriptor *message; /* NULL: raw bytes (streams) */
    void (*handler)(struct request *rq);
    enum auth_off_answer auth_off;
    enum login_failure on_no_login;
};

struct request {
    struct rpc_call *call;
    struct server *server;
    const struct method *method;
    struct arena *arena; /* the call's */
    void *message;       /* decoded request, in the arena; NULL for stream methods */
    struct database *db; /* selected and pinned, or NULL */
    struct store *store; /* of db, or NULL */
    uint32_t permission; /* of the caller on db */
    bool is_sysadmin;
    const char *user;        /* "" when nobody is logged in; lives as long as the server */
    struct user *who;        /* NULL when nobody is logged in */
    struct session *session; /* NULL without one */
    int64_t now_s;           /* one clock reading decides all expiry */
    int64_t now_ns;          /* the same, unix nanoseconds */
    struct err err;          /* room for handlers */
    int64_t token_database;  /* number selected by a token or session, -1 = none */
    bool is_pinned;          /* db is to be released */
    bool is_write;           /* counted as a waiting write of db */
    bool is_off_reactor;     /* the connection's memory may not be touched */
    void (*on_worker)(struct request *rq);
    struct request *next_waiting; /* in the gate */
    /* waiting for memory */
    bool is_repeatable;                /* nothing was done yet that would be done twice */
    void (*again)(struct request *rq); /* the handler, or decoding */
    struct arena_mark before;          /* the arena when it was called first ... */
    void *decoded;                     /* ... and the message */
    struct timer wait;
    struct pool_job *wait_job; /* what goes on then */
    uint64_t wait_since_ns, wait_ns;
};

/* --- answers; exactly one per request. Afterwards the request, its arena and everything in it are gone --- */
void request_reply(struct request *rq, struct bytes message);                    /* bytes in the arena */
void request_reply_message(struct request *rq, const ProtobufCMessage *message); /* packed into the arena */
void request_reply_empty(struct request *rq);
/* Ends a server stream (its messages went through rpc_send) or any call with OK and no further message. */
void request_end(struct request *rq);
/* Plain status, no details. */
void request_fail(struct request *rq, enum rpc_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Coded error: ErrorInfo{code, cause} and RetryInfo in the details; text NULL = cause. */
void request_fail_coded(struct request *rq, enum rpc_code code, const char *info_code, const char *text, const char *cause);
/* From a status and text of the layers below, by the table in errors.c: the published texts ("tbtree: key not found", ...) reach the client with
 * the published code; anything unforeseen is INTERNAL with the text. */
void request_fail_err(struct request *rq, enum status st, const struct err *err);
/* INTERNAL "permission denied" (XX000). */
void request_deny(struct request *rq);
/* Room in the arena ran out, or the memory budget. When it was the budget, a call that is still repeatable does not fail: its handler is called again, on a worker,
 * when others may have given memory back, until its deadline, or for a minute; every other failure is reported as that, with the limit. */
void request_fail_nomem(struct request *rq);
/* The caller's address without its port, as the connection gives it; borrowed from it. */
struct bytes request_peer(const struct request *rq);
/* The caller's address as logs and request metadata show it: x-forwarded-for, x-real-ip, else the peer, without its port. In the arena. */
const char *request_ip(struct request *rq);
enum { REQUEST_ID_MAX = 64 };
/* The id by which log lines about a call can be matched: the client's x-request-id when it is a good one, else 16 hex digits. True: it is the
 * client's. */
bool request_id_of(const struct request *rq, char out[REQUEST_ID_MAX + 1]);
/* Tx metadata "usr" and "ip" when --log-request-metadata is on, else empty. In the arena. */
struct bytes request_extra(struct request *rq);
/* Something is short that others will give back: job runs on the worker pool a little later. False: the call has waited for too long, or nobody waits for it. No
 * thread waits meanwhile. */
#define REQUEST_WAIT_NS UINT64_C(60000000000)      /* of a call without deadline */
#define REQUEST_WAIT_MAX_NS UINT64_C(600000000000) /* whatever its deadline */
MUST_USE bool request_wait(struct request *rq, struct pool_job *job);
/* Calls the method's handler, for the first time. */
void request_handle(struct request *rq);
/* Runs fn(rq) on the worker pool; fn answers. */
void request_on_worker(struct request *rq, void (*fn)(struct request *rq));

/* --- for the server's own files --- */
/* A row of the method table bound to a server: what rpc_method.user points to. */
struct bound_method {
    const struct method *method; /* NULL: a method outside the table, with a handler of its own */
    struct server *server;
    size_t method_index; /* in the table, and so in server.call_metrics */
};
/* The handler of every rpc_method. */
void request_entry(struct rpc_call *call);
/* The request of a call, for on_end; NULL when there was no memory for it. */
struct request *request_of(const struct rpc_call *call);
/* Frees what a connection remembered of its caller. */
void credentials_slot_free(void *slot);

#endif
