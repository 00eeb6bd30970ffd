/* A blocking gRPC client: one connection, plain or TLS, any number of calls at a time on it.
 *
 * The functions that wait drive the whole connection meanwhile: answers of other calls are collected, window updates and pings answered. A call
 * holds at most stream_window_bytes of answers that nobody has taken yet; the peer waits then, the other calls go on.
 *
 * Two kinds of failure are kept apart. What the peer answered is in struct client_status (a gRPC code and its text). When there is no such answer
 * the function itself fails: ST_CLOSED and ST_IO the connection is gone (a new client is needed), ST_TIMEOUT nothing arrived before the deadline,
 * ST_LIMIT a message or the headers of an answer are larger than allowed, ST_CORRUPT the peer does not speak the protocol, ST_NOMEM.
 *
 * Everything a peer sends is judged and bounded; nothing it sends is trusted. One thread at a time per client. The process must ignore SIGPIPE
 * when TLS is used. Wire format: docs/grpc.md. */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "base/bytes.h"
#include "base/env.h"
#include "rpc/rpc.h"

struct client;
struct client_call;

struct client_tls {
    const char *server_name; /* which the certificate must be for; NULL: the host */
    const char *ca_file;     /* PEM; NULL: the certificates the system trusts */
    const char *certificate; /* of this client, PEM; NULL: none */
    const char *key;         /* its private key, PEM */
};

struct client_options {
    const char *host; /* name or address */
    uint16_t port;
    const struct client_tls *tls; /* NULL: plaintext */
    const struct env *env;
    uint64_t connect_timeout_ns;  /* name, connection and handshake; 0 = 10 s */
    size_t message_bytes_max;     /* of an answer; 0 = 32 MiB + 64 KiB */
    uint32_t stream_window_bytes; /* 0 = 1 MiB */
};

#define CLIENT_MESSAGE_MAX 512
struct client_status {
    enum rpc_code code;
    char message[CLIENT_MESSAGE_MAX]; /* control characters are replaced; cut when longer */
};

/* Connects. ST_TIMEOUT, ST_IO (refused, unreachable, unknown host), ST_INVALID (files of TLS), ST_CORRUPT (handshake: the text says which). */
MUST_USE enum status client_open(const struct client_options *o, struct client **out, struct err *err);
/* Every call is freed before. */
void client_close(struct client *c);

/* A header sent with every call from now on, e.g. {"sessionid", "..."}; copied. value NULL takes it away again. At most CLIENT_METADATA_MAX
 * (ST_LIMIT). */
#define CLIENT_METADATA_MAX 8
MUST_USE enum status client_metadata_set(struct client *c, const char *name, const char *value, struct err *err);

/* A call with one message there and one back. *answer is borrowed until the next call on this client; it is empty unless status->code is RPC_OK.
 * The deadline (monotonic; UINT64_MAX: none) travels to the peer as well. ST_CORRUPT when an answer of RPC_OK has no message. */
MUST_USE enum status client_unary(struct client *c, const char *path, struct bytes request, uint64_t deadline_ns, struct bytes *answer,
                                  struct client_status *status, struct err *err);

/* --- streams, of any kind --- */
/* ST_CLOSED when the peer takes no new calls. path is copied. */
MUST_USE enum status client_call_open(struct client *c, const char *path, uint64_t deadline_ns, struct client_call **out, struct err *err);
/* Queues a message (copied). Waits only while more than CLIENT_SEND_BYTES_MAX wait to be sent; ST_TIMEOUT at the deadline. When the peer has
 * ended the call already the message is dropped: ST_OK, the next client_call_recv() tells. */
#define CLIENT_SEND_BYTES_MAX (1u << 20)
MUST_USE enum status client_call_send(struct client_call *call, struct bytes message, uint64_t deadline_ns, struct err *err);
/* No further messages. */
MUST_USE enum status client_call_finish(struct client_call *call, struct err *err);
/* The next message, borrowed until the next client_call_recv() or client_call_free() of this call; or *is_end, and then client_call_status(). */
MUST_USE enum status client_call_recv(struct client_call *call, uint64_t deadline_ns, struct bytes *message, bool *is_end, struct err *err);
/* After the end. */
const struct client_status *client_call_status(const struct client_call *call);
/* Bytes of answers received so far, whole messages or not: whether anything moves. */
uint64_t client_call_bytes(const struct client_call *call);
/* A header or trailer of the answer (lower-case name) as it came; data NULL when absent. Borrowed until client_call_free(). */
struct bytes client_call_metadata(const struct client_call *call, const char *name);
/* Cancels it when it has not ended. NULL is allowed. */
void client_call_free(struct client_call *call);

#endif
