/* The source as its own files see it; see source.h. */
#ifndef MIGRATE_SOURCE_INTERNAL_H
#define MIGRATE_SOURCE_INTERNAL_H

#include "migrate/source.h"

#define SERVICE "/immudb.schema.ImmuService/"

struct source {
    struct source_options o;
    struct client *client;
    char *database; /* selected; NULL: no session */
    bool has_no_stream;
    struct arena arena; /* of one request and its answer */
};

/* A gRPC status as one of source.h's statuses. */
MUST_USE enum status source_failed(const struct source *s, const char *method, const struct client_status *status, struct err *err);
/* Failures of the client as source.h has them: a lost connection is ST_CLOSED, a peer of another kind ST_INVALID. */
enum status source_lost(enum status st);
/* Receives on a call until a message or the end, as long as bytes keep coming and nobody stops it. */
MUST_USE enum status source_recv(struct source *s, struct client_call *call, struct bytes *message, bool *is_end, struct err *err);

#endif
