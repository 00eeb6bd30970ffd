/* The server that data comes from, as a client sees it: log in, which databases, their states, their transactions in order.
 *
 * Works with every server that has sessions and exportTx; streamExportTx is used where it exists, on several lanes at a time. Statuses say what to
 * do next:
 *
 *   ST_CLOSED, ST_TIMEOUT, ST_BUSY   the connection or the session is gone, or the server is overloaded: connect again
 *   ST_NOT_FOUND                     no such database or transaction there
 *   ST_READ_ONLY                     permission denied, wrong user or password
 *   ST_CORRUPT                       an answer that contradicts itself, or a signature that does not hold
 *   ST_LIMIT                         a transaction larger than allowed here
 *   ST_CANCELLED                     is_stopped said so
 *
 * One thread at a time. */
#ifndef MIGRATE_SOURCE_H
#define MIGRATE_SOURCE_H

#include "base/arena.h"
#include "client/client.h"
#include "tx/tx.h"

struct source;
struct tx_stream;

struct source_options {
    const char *host;
    uint16_t port;
    const struct client_tls *tls; /* NULL: plaintext */
    const struct env *env;
    const char *username, *password;
    struct bytes public_key;    /* states must be signed with it; empty: signatures are not looked at */
    uint64_t silence_ns;        /* an answer of which nothing arrives for so long has failed */
    uint64_t tx_bytes_max;      /* of an exported tx */
    bool (*is_stopped)(void *); /* asked several times a second while waiting; may draw progress */
    void *ctx;
};

struct source_database {
    char *name;
    bool is_loaded;
    uint64_t txs, disk_bytes; /* 0 when the server does not say */
};
struct source_databases {
    struct source_database *items; /* systemdb first, then as the server lists them */
    size_t count;
};

struct source_state {
    uint64_t tx_id;
    hash_t alh;
};

MUST_USE enum status source_create(const struct source_options *o, struct source **out, struct err *err);
bool source_is_stopped(struct source *s);
void source_free(struct source *s); /* ends its session; NULL is allowed */
/* Connects and opens a session on a database; one that was open is ended. */
MUST_USE enum status source_select(struct source *s, const char *database, struct err *err);
/* After a failure: the connection is given up, source_select() makes a new one. */
void source_drop(struct source *s);
/* Version of the server, "" when it does not say. Needs a session. */
MUST_USE enum status source_version(struct source *s, char out[64], struct err *err);
/* ST_READ_ONLY unless the user may see and export everything. Needs a session. */
MUST_USE enum status source_check_sysadmin(struct source *s, struct err *err);
MUST_USE enum status source_list(struct source *s, struct source_databases *out, struct err *err);
void source_databases_free(struct source_databases *d);

/* --- of the selected database --- */
/* What it has committed; its signature is checked when a key was given. */
MUST_USE enum status source_state(struct source *s, struct source_state *out, struct err *err);
/* The accumulative hash of one tx. */
MUST_USE enum status source_alh(struct source *s, uint64_t tx_id, hash_t *alh, struct err *err);
/* The exported transactions first..last in order. All of them must be committed there. */
MUST_USE enum status tx_stream_open(struct source *s, uint64_t first, uint64_t last, struct tx_stream **out, struct err *err);
/* The next one, borrowed until the next call. *is_end after the last. */
MUST_USE enum status tx_stream_next(struct tx_stream *t, struct bytes *blob, bool *is_end, struct err *err);
void tx_stream_close(struct tx_stream *t); /* NULL is allowed */
/* The header of an exported transaction, which must be that of tx_id: ST_CORRUPT otherwise. */
MUST_USE enum status exported_header(struct bytes blob, uint64_t tx_id, struct tx_header *out, struct err *err);

#endif
