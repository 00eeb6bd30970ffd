/* What a server says about itself. */
#include "config/config.h"
#include "databases/databases.h"
#include "handlers/handlers.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "schema.pb-c.h"

void handle_health(struct request *rq)
{
    Immudb__Schema__HealthResponse reply = IMMUDB__SCHEMA__HEALTH_RESPONSE__INIT;

    reply.status = true;
    reply.version = (char *)(uintptr_t)IMMUDB_VERSION;
    request_reply_message(rq, &reply.base);
}

struct totals {
    uint64_t txs, bytes;
    enum status status;
    struct err *err;
};

static bool total_add(void *ctx, struct database *db)
{
    struct totals *t = ctx;
    struct database_counts counts;

    if (database_is_systemdb(db))
        return true;
    if (!database_is_loaded(db)) {
        t->status = err_set(t->err, ST_CLOSED, 0, "already closed");
        return false;
    }
    if ((t->status = database_counts_get(db, &counts, t->err)) != ST_OK)
        return false;
    t->txs += counts.txs;
    t->bytes += counts.disk_bytes;
    return true;
}

void handle_server_info(struct request *rq)
{
    Immudb__Schema__ServerInfoResponse reply = IMMUDB__SCHEMA__SERVER_INFO_RESPONSE__INIT;
    struct totals t = {.status = ST_OK, .err = &rq->err};

    databases_each(rq->server->databases, total_add, &t);
    if (t.status != ST_OK) {
        request_fail_err(rq, t.status, &rq->err);
        return;
    }
    reply.version = (char *)(uintptr_t)IMMUDB_VERSION;
    reply.startedat = rq->server->started_s;
    reply.numtransactions = (int64_t)t.txs;
    reply.numdatabases = (int32_t)databases_count(rq->server->databases);
    reply.databasesdisksize = (int64_t)t.bytes;
    request_reply_message(rq, &reply.base);
}

void handle_database_health(struct request *rq)
{
    Immudb__Schema__DatabaseHealthResponse reply = IMMUDB__SCHEMA__DATABASE_HEALTH_RESPONSE__INIT;

    reply.pendingrequests = database_pending(rq->db);
    reply.lastrequestcompletedat = database_last_request_ms(rq->db);
    request_reply_message(rq, &reply.base);
}

void handle_unsupported(struct request *rq) { request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "operation not supported"); }
