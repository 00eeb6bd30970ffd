/* One HTTP/2 connection that carries gRPC calls, as a state machine without I/O: bytes are fed in, bytes are pulled out, handlers
 * are called in between. The owner (the reactor, a test, a fuzzer) moves the bytes and tells the time through its grpc_host.
 *
 * A call is a stream and a handler; each lets go of the call on its own:
 *
 *   state          the stream                                   leaves it by
 *   CALL_HEADERS   request headers are coming                   end of headers: refused -> SENDING, unary and server stream ->
 *                                                               RECEIVING, client stream and bidi -> RUNNING
 *   CALL_RECEIVING the request message is coming, no handler    message complete -> RUNNING (handler called); half-closed without
 *                                                               one, too large, out of memory, deadline -> SENDING
 *   CALL_RUNNING   the handler has begun (is_held)              rpc_finish -> SENDING; deadline or broken request -> SENDING with
 *                                                               the handler still holding (is_cancelled)
 *   CALL_SENDING   the status is settled; answer on its way     trailers sent -> CLOSED
 *   CALL_CLOSED    no stream any more                           the handler's rpc_finish -> the call is recycled
 *
 * and each frame in each state:
 *
 *               HEADERS        DATA                 END_STREAM            RST_STREAM, connection lost      WINDOW_UPDATE
 *   HEADERS     -              -                    noted               -> CLOSED                          -
 *   RECEIVING   end: as right  collected            no message: EOF     -> CLOSED                          -
 *   RUNNING     end: as right  unary: ignored,      unary: noted        -> CLOSED, is_cancelled,           sends on
 *                              stream: delivered    stream: delivered      handler told
 *   SENDING     ignored        ignored, connection  noted               -> CLOSED                          sends on
 *                              window refunded
 *   CLOSED      nghttp2 answers or ignores; no call is involved
 *
 * When trailers are out while the client still sends, RST_STREAM(NO_ERROR) follows. A call lives until its stream is CLOSED and no
 * handler holds it; the connection's memory until its last call. Queued writes: see grpc_send.c; memory for requests: grpc_recv.c.
 *
 * One thread. */
#ifndef RPC_GRPC_CONN_H
#define RPC_GRPC_CONN_H

#include "rpc/grpc_host.h"

/* grpc_conn_pull() wants at least this much room: a whole frame of 16 KiB. */
#define GRPC_PULL_ROOM_MIN ((size_t)16384 + 64)

struct grpc_conn {
    struct grpc_host *host;
    nghttp2_session *session;   /* NULL once closed */
    struct rpc_call *calls;     /* with a stream, linked by next and prev */
    struct rpc_call *orphans;   /* closed, but still held by a handler */
    uint32_t call_count;        /* both */
    uint32_t held_count;        /* calls with a handler */
    size_t bytes;               /* accounted to its calls, but for their arenas */
    _Atomic size_t arena_bytes; /* taken by its calls' arenas, on whatever thread */
    size_t unsent_bytes;        /* message bytes queued for sending */
    uint64_t unsent_since_ns;   /* last time a queued byte went out, or the queue began to fill */
    struct grpc_conn *dirty_next, *dirty_prev;
    bool is_dirty, is_going; /* is_going: GOAWAY with the last id is queued */
    bool is_drain_pinged;
    bool has_settings;      /* the client's preface is complete */
    bool is_ping_out;       /* own keepalive ping without answer */
    bool is_broken;         /* nothing more can be fed or pulled */
    int32_t memo_stream_id; /* the stream of the last lookup */
    struct rpc_call *memo_call;
    uint64_t received_ns; /* last bytes from the peer */
    size_t window_debt;   /* received bytes the connection window was not refunded for yet */
    struct grpc_frame_walk walk;
    uint64_t ping_since_ns;
    uint32_t ping_count;
    uint64_t reset_tat_ns, control_tat_ns; /* rate limits; see rate_allow() */
    uint8_t *out;                          /* during grpc_conn_pull() */
    size_t out_len, out_room;
    bool is_out_full;
    void *slot;      /* the server's memo */
    void *peer_cert; /* X509 or NULL; the owner frees it */
    bool is_loopback;
    char peer[64];
    void (*on_unused)(struct grpc_conn *c); /* closed and the last call gone: the owner frees the memory */
};

/* Begins a connection: settings are queued. The owner has zeroed *c and set peer, is_loopback, peer_cert, on_unused. */
MUST_USE enum status grpc_conn_open(struct grpc_conn *c, struct grpc_host *h, struct err *err);
/* Bytes from the peer. False: the connection is broken; pull what is left (a GOAWAY perhaps), then close. */
bool grpc_conn_feed(struct grpc_conn *c, const uint8_t *data, size_t len);
/* Writes what there is to send into out; room at least GRPC_PULL_ROOM_MIN. 0: nothing now. */
size_t grpc_conn_pull(struct grpc_conn *c, uint8_t *out, size_t room);
/* True when HTTP/2 is done: both sides said goodbye, or an error was answered. */
bool grpc_conn_is_over(const struct grpc_conn *c);
/* The socket is gone: all calls without answer are cancelled. Calls on_unused at once or when the last call is let go. */
void grpc_conn_close(struct grpc_conn *c);
/* Graceful end, step 1: GOAWAY(2^31-1) and a PING; its answer, or grpc_conn_drain_last(), brings GOAWAY(last id). */
void grpc_conn_drain(struct grpc_conn *c);
void grpc_conn_drain_last(struct grpc_conn *c);
/* Sends a ping; is_ping_out falls when anything arrives. */
void grpc_conn_ping(struct grpc_conn *c);
/* Ends the connection with GOAWAY(error_code) as soon as that is pulled. */
void grpc_conn_terminate(struct grpc_conn *c, uint32_t error_code);
/* To be called now and then while there are calls: refuses requests that came to a stop, resets finished calls whose answer makes
 * no progress. False: a peer that takes nothing at all; cut it off. */
bool grpc_conn_watch(struct grpc_conn *c);
/* Visits the calls without a stream whose handlers have not ended them yet. */
void grpc_conn_each_orphan(const struct grpc_conn *c, void (*visit)(void *ctx, const struct rpc_call *call), void *ctx);
/* Puts it on its host's dirty list; takes it off. */
void grpc_conn_touch(struct grpc_conn *c);
void grpc_conn_untouch(struct grpc_conn *c);

#endif
