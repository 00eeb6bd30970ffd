/* The inside of a call, for src/rpc alone.
 *
 * Fields belong to the reactor, but for those marked "holder": written by the thread that holds the call, read by the reactor
 * after the post word handed them over; and the atomics. */
#ifndef RPC_GRPC_CALL_H
#define RPC_GRPC_CALL_H

#include "rpc/grpc_conn.h"
#include "rpc/grpc_wire.h"

enum call_state { CALL_HEADERS = 0, CALL_RECEIVING, CALL_RUNNING, CALL_SENDING, CALL_CLOSED };

/* Bits of rpc_call.post. A call is in its host's queue exactly while POST_QUEUED is set. */
enum { POST_QUEUED = 1, POST_FINISH = 2, POST_RESUME = 4, POST_DRAIN = 8, POST_STREAM = 16 };

/* A message waiting to be sent: prefix, then bytes. */
struct rpc_out {
    struct rpc_out *next;
    const uint8_t *data;
    size_t len;
    size_t sent;       /* of prefix and data */
    uint8_t *owned;    /* freed once sent */
    bool is_allocated; /* the node itself is from malloc */
    uint8_t prefix[GRPC_PREFIX_LEN];
};

struct rpc_header {
    struct rpc_header *next;
    const uint8_t *name;
    uint32_t name_len, value_len; /* the value follows the name */
};

struct rpc_trailer {
    struct rpc_trailer *next;
    const uint8_t *name, *value;
    size_t name_len, value_len;
};

/* A status as it goes on the wire; all pointers live as long as the call. */
struct rpc_status {
    enum rpc_code code;
    const char *text;       /* as given, NUL-terminated */
    const uint8_t *message; /* percent-encoded */
    size_t message_len;
    const uint8_t *details; /* base64 */
    size_t details_len;
    uint16_t http_status; /* 0 = 200 */
    bool is_early;        /* one HEADERS frame, no initial metadata */
};

struct rpc_call {
    struct grpc_conn *conn;
    struct grpc_host *host;
    struct rpc_call *next, *prev;           /* in the connection's list, or next in the pool */
    struct rpc_call *host_next, *host_prev; /* among the host's waiting calls */
    struct rpc_call *older, *newer;         /* in the service's queue for memory, under its lock */
    struct rpc_call *posted_next;
    int32_t stream_id;
    uint8_t state;
    uint16_t pins; /* callbacks under way: not recycled meanwhile */
    bool is_held;
    bool is_ended;       /* on_end was called, or there is nothing to report */
    bool is_half_closed; /* by the client */
    bool is_half_close_told;
    bool is_initial_sent; /* HEADERS submitted */
    bool is_deferred;     /* nghttp2 waits for more data */
    bool is_waiting;      /* for memory */
    bool is_wide;         /* the stream's window was raised to stream_window_bytes */
    bool has_reserve;
    bool is_over_budget;  /* no memory even for its headers: to be refused */
    bool is_unqueued;     /* a message could not be queued for want of memory */
    bool is_message_kept; /* rpc_hold_back(): the message that is being delivered was not taken */
    bool is_short;        /* rpc_hold_back() was called, and nothing was delivered since */
    const struct rpc_method *method;
    uint64_t started_ns, deadline_ns;
    struct timer deadline;

    /* request */
    struct rpc_header *headers, **headers_end;
    size_t header_bytes;
    struct bytes path; /* only when the method is unknown */
    struct bytes bad_method, encoding, content_type, bad_timeout;
    bool has_content_type, is_grpc, is_post, has_deadline;
    uint8_t bad_timeout_result; /* enum grpc_timeout_result */
    struct bytes request;
    uint8_t *in; /* received and not yet taken; malloc */
    size_t in_len, in_room, in_admitted;
    size_t reserved;    /* of in_admitted: paid by the reserve */
    size_t in_upload;   /* of in_admitted: counted as upload */
    size_t window_debt; /* received bytes the stream window was not refunded for */
    uint64_t received_ns, waiting_since_ns;
    size_t accounted; /* bytes of the budget, but for the arena's beyond its first chunk: grpc_memory.c */

    /* answer */
    struct rpc_out *out, **out_end;
    size_t out_bytes; /* queued with prefixes, unsent */
    uint64_t progress_ns;
    uint64_t sent_bytes; /* of messages */
    struct call_pace {
        uint64_t at_ns, moved;
    } pace[2];                /* older, newer: what had been moved when grpc_conn_watch() looked */
    struct rpc_status status; /* settled in SENDING */
    char abort_text[128];     /* up to here zeroed but for this one; see grpc_host_new_call() */

    /* holder */
    void *user_state;
    struct pool_job job;
    /* The next two are the reactor's: a worker leaves what it wants in late_*, and POST_STREAM. */
    void (*on_message)(struct rpc_call *, struct bytes);
    void (*on_half_close)(struct rpc_call *);
    void (*late_on_message)(struct rpc_call *, struct bytes);
    void (*late_on_half_close)(struct rpc_call *);
    void (*on_cancel)(struct rpc_call *);
    void (*on_drained)(struct rpc_call *);
    size_t drained_low;
    struct rpc_status finish;
    struct rpc_trailer *trailers;
    size_t trailer_count;
    struct rpc_out first_out;
    bool is_first_out_used;
    uint8_t piece_turn; /* which of these is the next */
    struct rpc_out piece_outs[2];
    bool is_replying;           /* rpc_reply(): the status follows at once */
    struct arena arena;         /* the reactor's before and after the handler */
    struct arena_meter meter;   /* of the arena */
    size_t arena_reserved;      /* of arena_bytes: beyond the share, as BUDGET_OTHER */
    size_t arena_upload;        /* of arena_bytes: counted as upload */
    _Atomic size_t arena_bytes; /* taken from the budget for it; the reactor reads it */
    size_t limit_met;           /* which refused it memory; 0 = none */
    bool is_hopeless;           /* it wanted more than that limit ever gives */
    bool is_conn_limit;         /* that was the connection's part */
    bool is_finishing;          /* rpc_must_answer(), or in rpc_finish(): memory is not refused any more */

    /* between threads */
    _Atomic(struct rpc_out *) outbox; /* newest first; pushed by the holder, emptied by the reactor */
    _Atomic size_t queued_bytes;      /* as rpc_send() reports it */
    _Atomic size_t received_bytes;    /* of messages, by the reactor */
    _Atomic unsigned post;
    _Atomic bool is_cancelled, is_paused, is_drained_armed;
};

/* --- grpc_recv.c: requests --- */
/* Copies a header of the request. False: out of memory. */
bool call_header(struct rpc_call *call, struct bytes name, struct bytes value);
/* All headers are there. */
void call_headers_done(struct rpc_call *call);
void call_data(struct rpc_call *call, const uint8_t *data, size_t len);
/* A DATA frame is complete: a request that is there is handled now. */
void call_frame_done(struct rpc_call *call);
void call_half_closed(struct rpc_call *call);
/* Delivers what was held back by a pause. */
void call_deliver(struct rpc_call *call);
/* Another attempt for a call that waits for memory; gives up when its time is over. */
void call_retry_admission(struct rpc_call *call);
void call_leave_queue(struct rpc_call *call);
void call_give_reserve(struct rpc_call *call);
/* Takes the reserve from a call whose peer went to sleep over it. */
void call_check_reserve(struct rpc_call *call);
/* A message is to come, or has begun, and no byte of it came since before_ns. */
bool call_is_stalled(const struct rpc_call *call, uint64_t before_ns);

/* --- grpc_send.c: answers --- */
/* Settles the status and sends it; later rpc_finish() only lets go. text is static, or in call->abort_text. */
void call_abort(struct rpc_call *call, enum rpc_code code, const char *text, bool is_early);
void call_abort_http(struct rpc_call *call, uint16_t http_status, enum rpc_code code, const char *text);
/* Submits what is queued. */
void call_advance(struct rpc_call *call);
/* Sends the initial metadata now. */
void call_send_initial(struct rpc_call *call);
/* Drops queued messages. */
void call_drop_out(struct rpc_call *call);
/* Takes over what the holder queued and finished. */
void call_run_post(struct rpc_call *call, unsigned bits);
/* The holder's side: queues a message (takes the node; returns the bytes queued), asks for a look, ends. */
size_t call_send(struct rpc_call *call, struct rpc_out *out);
void call_post(struct rpc_call *call, unsigned bits);
void call_finish(struct rpc_call *call);
bool call_is_on_reactor(const struct rpc_call *call);
/* Tells a handler that nobody waits for it any more. */
void call_cancel(struct rpc_call *call);
ssize_t call_data_read(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t length, uint32_t *flags, nghttp2_data_source *source,
                       void *user);
int call_data_send(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t length, nghttp2_data_source *source, void *user);

/* --- grpc_memory.c --- */
/* Puts the arena of a new call under the budget. */
void call_meter_arena(struct rpc_call *call);
/* Lets go of the arenas' reserve: when the handler needs no more memory, unless it went beyond the share, and when the call is over. */
void call_leave_reserve(struct rpc_call *call, bool is_over);
/* Its connection holds next to nothing: a new call is not to be refused because others have filled the share. */
bool call_is_modest(const struct rpc_call *call);
/* The share is not overdrawn so far that nobody may take more. */
bool call_is_affordable(const struct rpc_call *call);
/* May a call that receives much hold len bytes more? Counts them as such; gives them back. */
bool call_upload_allows(const struct rpc_call *call, size_t len);
void call_upload_take(struct rpc_call *call, size_t len);
void call_upload_give(struct rpc_call *call, size_t len);
/* It holds much memory, and its client has moved next to nothing for budget_wait_ns. To be asked every now and then; what it says goes to call->abort_text. */
bool call_is_too_slow(struct rpc_call *call);
/* Does it keep the reserve while its client sends nothing since before_ns? */
bool call_sits_on_reserve(const struct rpc_call *call, uint64_t before_ns);

/* --- grpc_conn.c --- */
void call_pin(struct rpc_call *call);
void call_unpin(struct rpc_call *call);
/* Accounts len bytes of the budget to the call, whatever the limit says, or only when allowed. */
void call_take_bytes(struct rpc_call *call, size_t len);
bool call_try_take_bytes(struct rpc_call *call, size_t len);
/* Recycles it when neither stream nor handler hold it. */
void call_release(struct rpc_call *call);
/* Reports the outcome once. */
void call_report(struct rpc_call *call, enum rpc_code code, const char *text);

#endif
