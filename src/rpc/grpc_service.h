/* What all connections of a server share: methods by path, limits, nghttp2 set-up, the queue for memory.
 *
 * Read-only once opened, except for the flags and the waiting queue, which may be used from any thread. */
#ifndef RPC_GRPC_SERVICE_H
#define RPC_GRPC_SERVICE_H

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/err.h"
#include "rpc/rpc.h"

#define GRPC_RESET_BURST 10000u  /* streams a peer may reset in one go ... */
#define GRPC_RESETS_PER_S 1000u  /* ... and per second in the long run: cancelling clients are legal */
#define GRPC_CONTROL_BURST 1000u /* SETTINGS, PRIORITY and empty DATA frames in one go ... */
#define GRPC_CONTROLS_PER_S 100u
#define GRPC_CONTINUATIONS_MAX 8      /* CONTINUATION frames behind one HEADERS frame */
#define GRPC_OUTBOUND_ACK_MAX 1000    /* unsent answers to PING and SETTINGS */
#define GRPC_MESSAGE_TEXT_MAX 8192    /* encoded bytes of grpc-message; longer texts are cut */
#define GRPC_DETAILS_MAX 24576        /* bytes of grpc-status-details-bin before base64; longer ones are left out */
#define GRPC_TRAILERS_MAX 16          /* trailers a call may add */
#define GRPC_CALL_ROOM_BYTES 8192     /* ordinary chunk of a call's arena */
#define GRPC_SMALL_MESSAGE_BYTES 6144 /* requests up to this length are kept in the arena */

#define GRPC_FIRST_WINDOW_BYTES 65535u /* of a stream, before memory for more is accounted */

struct rpc_call;

/* Calls that wait for memory to receive more, oldest first, over all reactors. One reserve of the greatest message goes to the
 * oldest, so that progress is certain however short the budget is. */
struct grpc_admission {
    pthread_mutex_t lock; /* level 80, taken last; guards the three below and the links in the calls */
    struct rpc_call *oldest, *newest;
    struct rpc_call *reserve_of; /* NULL = the reserve is free */
    size_t waiting;
};

struct grpc_service {
    struct rpc_options options;      /* limits with defaults filled in */
    const struct rpc_method **table; /* open addressing; table_mask + 1 slots, at most half of them used */
    size_t table_mask;
    uint64_t table_seed;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *h2_option;
    nghttp2_nv initial[3];
    size_t initial_len;
    size_t conn_bytes_max;       /* of unanswered requests and unsent owned messages on one connection */
    size_t conn_arena_bytes_max; /* of the arenas of its calls */
    size_t conn_large_bytes_max; /* the same, as far as requests of more than a first window may fill it */
    _Atomic bool is_draining;
    struct grpc_admission admission;
    _Atomic size_t upload_bytes;                 /* held by calls that send much: see grpc_memory.c */
    _Atomic(struct rpc_call *) arena_reserve_of; /* the handler that may fill more than others; see grpc_memory.c */
};

/* Copies options (what they point to stays borrowed). ST_INVALID: a method twice, no budget, ... */
MUST_USE enum status grpc_service_open(const struct rpc_options *options, struct grpc_service **out, struct err *err);
void grpc_service_close(struct grpc_service *s);
/* NULL when there is no such method. */
const struct rpc_method *grpc_service_method(const struct grpc_service *s, struct bytes path);
bool grpc_service_has(const struct grpc_service *s, struct bytes name);

#endif
