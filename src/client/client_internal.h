/* Connection and calls as the client's own files see them; see client.h. */
#ifndef CLIENT_CLIENT_INTERNAL_H
#define CLIENT_CLIENT_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "client/client.h"
#include "client/transport.h"

enum { READ_BYTES = 65536, WRITE_BYTES = 131072, HEADERS_MAX = 64, HEADER_BYTES_MAX = 65536, PATH_LEN_MAX = 200 };

struct header { /* name and value in one allocation */
    char *name;
    uint8_t *value;
    size_t value_len;
};

struct metadata {
    char *name, *value;
};

struct client {
    const struct env *env;
    struct transport *transport;
    nghttp2_session *h2;
    size_t message_bytes_max;
    char *authority;
    bool is_tls;
    struct metadata metadata[CLIENT_METADATA_MAX];
    struct client_call *calls;   /* all, dropped ones until their streams are gone */
    struct client_call *unary;   /* its answer is still borrowed */
    enum status callback_status; /* why a callback gave up */
    uint32_t complaint;          /* the error code of the GOAWAY that nghttp2 has sent; 0 = none */
    bool is_dead;
    struct err death; /* why, once is_dead */
    uint8_t in[READ_BYTES];
    size_t out_len, out_sent;
    uint8_t out[WRITE_BYTES];
};

struct client_call {
    struct client *client;
    struct client_call *next;
    int32_t stream_id;
    char path[PATH_LEN_MAX];
    /* to the peer: framed messages */
    uint8_t *up;
    size_t up_len, up_sent, up_room;
    bool is_finished; /* no more messages */
    bool is_deferred; /* nghttp2 waits for nghttp2_session_resume_data */
    /* from the peer: framed messages, [down_at, down_len) of down; the message handed out ends at down_at */
    uint8_t *down;
    size_t down_at, down_len, down_room;
    uint8_t *held;       /* a former down: the message handed out lies in it */
    bool is_held_inside; /* it lies in down */
    size_t unconsumed;   /* of them, not yet given back to the window */
    uint64_t received;
    /* the end */
    bool is_closed;  /* the stream is gone */
    bool is_dropped; /* freed by its owner, waits for the stream to go */
    bool has_status;
    int http_status; /* 0 = not seen */
    uint32_t reset_code;
    struct client_status status;
    struct header headers[HEADERS_MAX];
    size_t header_count, header_bytes;
};

/* One turn: sends what is to be sent, waits for the peer until the deadline, takes what came. ST_TIMEOUT; otherwise failures are for good. */
MUST_USE enum status client_turn(struct client *c, uint64_t deadline_ns, struct err *err);
/* Sends without waiting for answers; at most as much as the socket takes. */
MUST_USE enum status client_flush(struct client *c, struct err *err);
/* --- called by the connection's callbacks --- */
MUST_USE enum status call_on_header(struct client_call *call, struct bytes name, struct bytes value);
MUST_USE enum status call_on_data(struct client_call *call, const uint8_t *data, size_t len);
void call_on_close(struct client_call *call, uint32_t code);
void call_destroy(struct client_call *call);

#endif
