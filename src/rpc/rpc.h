/* A gRPC server over HTTP/2: sockets, TLS, flow control, deadlines, statuses. Knows nothing of databases.
 *
 * Inside: grpc_conn.h is the protocol of one connection as a state machine without I/O (bytes in, events and bytes out, on
 * nghttp2); reactor.c owns the sockets, one epoll loop per thread; one listener deals accepted sockets to the reactor with
 * the fewest streams. What is on the wire is described in docs/grpc.md.
 *
 * A call: its method is looked up in the table given at start; for unary and server-streaming methods the handler runs on the
 * reactor thread once the whole request message is there; for client and bidirectional streams it runs when the headers are
 * there, and messages are delivered to on_message. A handler must not block: it either answers at once, or hands the call to
 * another thread (call->job with a pool, or a completion callback) and returns. Exactly one rpc_finish() ends each call; until
 * then the call and its arena stay alive, even if the peer resets the stream or the connection dies (rpc_is_cancelled() tells).
 *
 * Threads: functions taking a struct rpc_call may be called from the thread that currently holds the call (the reactor in the
 * handler, later whoever was handed it), one at a time. rpc_send and rpc_finish from other threads are queued to the reactor:
 * one wake-up per reactor for any number of calls finished meanwhile. */
#ifndef RPC_RPC_H
#define RPC_RPC_H

#include "base/arena.h"
#include "base/budget.h"
#include "base/env.h"
#include "base/pool.h"

/* gRPC status codes. */
enum rpc_code {
    RPC_OK = 0,
    RPC_CANCELLED = 1,
    RPC_UNKNOWN = 2,
    RPC_INVALID_ARGUMENT = 3,
    RPC_DEADLINE_EXCEEDED = 4,
    RPC_NOT_FOUND = 5,
    RPC_ALREADY_EXISTS = 6,
    RPC_PERMISSION_DENIED = 7,
    RPC_RESOURCE_EXHAUSTED = 8,
    RPC_FAILED_PRECONDITION = 9,
    RPC_ABORTED = 10,
    RPC_OUT_OF_RANGE = 11,
    RPC_UNIMPLEMENTED = 12,
    RPC_INTERNAL = 13,
    RPC_UNAVAILABLE = 14,
    RPC_DATA_LOSS = 15,
    RPC_UNAUTHENTICATED = 16
};

enum rpc_kind { RPC_UNARY, RPC_SERVER_STREAM, RPC_CLIENT_STREAM, RPC_BIDI };

struct rpc_call;
struct rpc_server;

struct rpc_method {
    const char *path; /* "/package.Service/Method", case-sensitive */
    enum rpc_kind kind;
    void (*handler)(struct rpc_call *call);
    const void *user; /* the server's own row for this method; see rpc_method_user() */
};

struct rpc_limits {                  /* 0 = the default in brackets */
    size_t message_bytes_max;        /* received message [33554432] */
    uint32_t streams_per_conn_max;   /* [250] */
    uint32_t header_list_bytes_max;  /* [65536] */
    uint32_t stream_window_bytes;    /* [1 MiB, less when the budget is small] once memory for it is accounted; a stream begins with 64 KiB */
    uint32_t conn_window_bytes;      /* [16 MiB] */
    uint32_t connections_max;        /* [10000] */
    uint32_t files_reserved;         /* [512] descriptors kept for files, at most half of all */
    uint32_t pings_per_10s_max;      /* [100] pings without data between them, then GOAWAY ENHANCE_YOUR_CALM */
    uint64_t keepalive_idle_ns;      /* [2 h] own ping after that much silence */
    uint64_t keepalive_timeout_ns;   /* [20 s] */
    uint64_t handshake_timeout_ns;   /* [10 s] TLS handshake and HTTP/2 preface */
    uint64_t write_stall_timeout_ns; /* [60 s] a peer that takes no bytes for so long, with answers pending, is cut off */
    uint64_t budget_wait_ns;         /* [30 s] a request that finds no memory for so long is refused (its own deadline may be earlier) */
    size_t arena_bytes_max;          /* bound of one call's arena [4 * message_bytes_max] */
    uint64_t held_notice_ns;         /* [5 s] a stop that waits for so long for calls still held names them in the log, again and again */
};

struct rpc_options {
    const char *address; /* "0.0.0.0", "::", "127.0.0.1" */
    uint16_t port;       /* 0 = any free one; see rpc_server_port() */
    unsigned reactors;   /* 0 = number of CPUs this process may use (affinity and cgroup quota), at most 64 */
    const struct env *env;
    struct budget *budget; /* BUDGET_REQUEST: every byte of an unanswered request, and of unsent answers */
    struct rpc_limits limits;
    const struct rpc_method *methods; /* borrowed for the server's life */
    size_t method_count;
    const char *const *services; /* full names of registered services, for "unknown service" against "unknown method" */
    size_t service_count;
    /* Sent as initial metadata of every handled call, e.g. {"immudb-uuid", "c..."}; borrowed. */
    const char *header_name, *header_value;
    /* NULL = plaintext. An SSL_CTX* (OpenSSL) the server takes a reference of; replaced by rpc_server_set_tls(). */
    void *tls;
    /* Called once for a per-connection slot that becomes garbage; may be NULL. */
    void (*slot_free)(void *slot);
    /* Called once for each call of a known method, on the reactor thread, when its outcome is known and no handler holds it any
     * more: for access log and metrics; may be NULL. Calls that a peer gave up or that ran out of time end with RPC_CANCELLED and
     * RPC_DEADLINE_EXCEEDED, whatever rpc_finish() said. */
    void (*on_end)(void *ctx, struct rpc_call *call, enum rpc_code code, const char *message);
    void *ctx;
};

/* Binds and listens; serves from now on. ST_BUSY with a clear text when the port is taken. */
MUST_USE enum status rpc_server_start(const struct rpc_options *o, struct rpc_server **out, struct err *err);
uint16_t rpc_server_port(const struct rpc_server *s);
void rpc_server_set_tls(struct rpc_server *s, void *ssl_ctx);
/* Graceful stop: GOAWAY(2^31-1), after a round trip GOAWAY(last id); new calls are refused (UNAVAILABLE), running ones finish
 * within drain_ns. May be called once, from any thread; returns when no call is left or the time is over. */
void rpc_server_drain(struct rpc_server *s, uint64_t drain_ns);
/* Cuts what is left, joins the reactors, frees everything. Calls still held by other threads are waited for, however long that takes: warnings
 * in the log of env name them. */
void rpc_server_stop(struct rpc_server *s);

/* --- inside a call --- */
const struct rpc_method *rpc_method(const struct rpc_call *call);
/* Lives until the call's answer is sent. Bounded by arena_bytes_max; counts as BUDGET_REQUEST chunk by chunk as it grows, and gives NULL when the budget
 * is short: then rpc_memory_limit_met() says so. A worker's growth may wait for memory, up to two seconds. */
struct arena *rpc_arena(struct rpc_call *call);
/* The limit in bytes because of which the arena was refused memory, of all requests and unread answers or of those of the call's connection; 0 when it
 * was not. By the holder of the call. */
size_t rpc_memory_limit_met(const struct rpc_call *call, bool *of_connection);
/* Takes a refusal back: memory was found all the same, or the work will be tried again. False: that would be in vain, it wants more than there ever is, or
 * rpc_must_answer() was said before. By the holder. */
bool rpc_forgive_memory(struct rpc_call *call);
/* From here on the arena is not refused memory: what the answer tells has happened, and a refusal would read as if it had not. By the holder. */
void rpc_must_answer(struct rpc_call *call);
struct bytes rpc_request(const struct rpc_call *call); /* the message of a unary or server-streaming call */
/* Value of a request metadata header (lower-case name); data == NULL when absent. Repeated headers: the first one. -bin values
 * are decoded (of comma-joined ones the first). te, content-type and the pseudo headers are not kept. */
struct bytes rpc_metadata(const struct rpc_call *call, const char *name);
/* Absolute deadline on the monotonic clock of env, UINT64_MAX when none. */
uint64_t rpc_deadline_ns(const struct rpc_call *call);
uint64_t rpc_started_ns(const struct rpc_call *call);
/* Deadline passed, stream reset or connection gone: the work need not be begun. */
bool rpc_is_cancelled(const struct rpc_call *call);
const char *rpc_peer(const struct rpc_call *call); /* "127.0.0.1:54321" */
bool rpc_is_loopback(const struct rpc_call *call);
void *rpc_tls_peer_cert(const struct rpc_call *call); /* X509*, NULL without; borrowed */
/* One pointer per connection, kept between its calls (reactor thread only): the server's credential memo. */
void **rpc_conn_slot(struct rpc_call *call);
/* Room in the call for handing it to a pool, and a pointer for the handler's state. */
struct pool_job *rpc_job(struct rpc_call *call);
struct rpc_call *rpc_call_of_job(struct pool_job *job);
void rpc_set_state(struct rpc_call *call, void *state);
void *rpc_state(const struct rpc_call *call);
unsigned rpc_reactor_index(const struct rpc_call *call);

/* Streams in (client stream, bidi): the handler sets the callbacks before it returns, or, when it hands the call to another thread first,
 * that thread does: until then what comes is kept, and the window withheld. On another thread rpc_on_stream() is the last thing it
 * does with the call, since the callbacks may run at once. on_message gets each message on the reactor thread, borrowed for the call;
 * on_half_close when the client is done. After rpc_pause() no message is delivered (and the window is withheld) until rpc_resume(),
 * which may come from any thread.
 *
 * A stream may break before the client is done: reset, connection lost, deadline, a message that is too large or cut short. The
 * client has its status then; the handler is told through on_cancel when it has set one, otherwise through on_half_close with
 * rpc_is_cancelled() true: it must look, and must not take what came so far for a whole. It ends with rpc_finish() as always. */
void rpc_on_stream(struct rpc_call *call, void (*on_message)(struct rpc_call *, struct bytes), void (*on_half_close)(struct rpc_call *));
/* fn is called on the reactor thread, at most once, when the call was cancelled before rpc_finish(): also while another thread
 * holds the call, hence it may only touch what is safe for that. For any kind of call; set before the handler returns. */
void rpc_on_cancel(struct rpc_call *call, void (*fn)(struct rpc_call *));
void rpc_pause(struct rpc_call *call);
/* In on_message: there is no memory for the message. Pauses; after rpc_resume() it is delivered once more. */
void rpc_hold_back(struct rpc_call *call);
void rpc_resume(struct rpc_call *call);

/* Answers. The message's bytes must live in the call's arena (or be static): they are not copied. A server stream may be sent many
 * messages; rpc_send returns the bytes queued and unsent, so that a producer can stop above a bound and go on in on_drained (called
 * on the reactor thread once less than low_bytes are queued; also when the call is cancelled, since nothing is queued then).
 * on_drained is called once per rpc_on_drained(). */
size_t rpc_send(struct rpc_call *call, struct bytes message);
/* The next piece of a message of message_len bytes, at most UINT32_MAX - 5, that need not be in memory as a whole. Pieces of one message follow each other, at most two
 * of them unsent; each must stay until less is queued than was sent after it (rpc_on_drained). An rpc_finish() before the last one must be a failure: the client drops what it has. */
size_t rpc_send_piece(struct rpc_call *call, struct bytes piece, size_t message_len, bool is_first);
void rpc_on_drained(struct rpc_call *call, size_t low_bytes, void (*on_drained)(struct rpc_call *));
/* For long streams: sends a malloc'ed message that is freed once sent. Takes ownership. */
size_t rpc_send_owned(struct rpc_call *call, uint8_t *message, size_t len);
/* Room for a message of at most len bytes in the arena, with space for the frame in front. NULL when out of memory. */
uint8_t *rpc_message_alloc(struct rpc_call *call, size_t len);
/* Trailing metadata, before rpc_finish. name lower-case; "-bin" values are encoded here. */
MUST_USE enum status rpc_trailer(struct rpc_call *call, const char *name, struct bytes value, struct err *err);
/* Ends the call. details: serialized google.rpc.Status for grpc-status-details-bin, or empty. message is copied. */
void rpc_finish(struct rpc_call *call, enum rpc_code code, const char *message, struct bytes details);
/* For requests refused before they were understood (INTERNAL, "grpc: error unmarshalling request: ..."): the status alone, as one
 * HEADERS frame without the initial metadata. The same as rpc_finish() when a message was sent already. */
void rpc_finish_early(struct rpc_call *call, enum rpc_code code, const char *message);
/* rpc_send + rpc_finish(OK), the common case: one pass, no extra wake-up. */
void rpc_reply(struct rpc_call *call, struct bytes message);

struct rpc_stats {
    uint64_t connections_open, connections_total, connections_refused, streams_open, calls_total, calls_running;
    uint64_t goaways_sent, resets_received, bytes_in, bytes_out, waiting_for_budget;
    uint64_t turns, turn_ns_total, turn_ns_max; /* of the reactors' loops; max: since the last time somebody asked */
};
void rpc_server_stats(struct rpc_server *s, struct rpc_stats *out);

#endif
