/* NewTx, Commit, Rollback, and what they answer for ids that are not there. Statements inside a transaction are SQL's, which does not exist yet: so
 * nothing is ever written by one, and Commit answers without a header. */
#include <string.h>

#include "databases/databases.h"
#include "handlers/handlers.h"
#include "handlers/txs.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "schema.pb-c.h"

void handle_new_tx(struct request *rq)
{
    const Immudb__Schema__NewTxRequest *m = rq->message;
    Immudb__Schema__NewTxResponse reply = IMMUDB__SCHEMA__NEW_TX_RESPONSE__INIT;
    struct database *db = databases_by_number(rq->server->databases, rq->token_database);
    uint64_t must_include = m->snapshotmustincludetxid != NULL ? m->snapshotmustincludetxid->value : 0;
    char id[TX_ID_LEN + 1];
    enum status st;

    if (m->mode == IMMUDB__SCHEMA__TX_MODE__WriteOnly) {
        request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "write only transaction not allowed");
        return;
    }
    if (db == NULL) {
        request_fail(rq, RPC_UNKNOWN, "database does not exist");
        return;
    }
    st = tx_begin(rq->server->txs, rq->session, db, m->mode == IMMUDB__SCHEMA__TX_MODE__ReadOnly, must_include, id, &rq->err);
    if (st != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        return;
    }
    reply.transactionid = id;
    request_reply_message(rq, &reply.base);
}

/* The id in the metadata. False: answered. */
static bool tx_id_of(struct request *rq, struct bytes *id)
{
    *id = rpc_metadata(rq->call, "transactionid");
    if (id->data == NULL)
        request_fail_coded(rq, RPC_UNKNOWN, "28000", NULL, "no transaction auth data provided");
    else if (id->len == 0)
        request_fail_coded(rq, RPC_UNKNOWN, "28000", NULL, "no transactionID provided");
    return id->data != NULL && id->len > 0;
}

static void fail_unknown(struct request *rq) { request_fail_coded(rq, RPC_INVALID_ARGUMENT, "22023", NULL, "no transaction found"); }

void handle_commit(struct request *rq)
{
    Immudb__Schema__CommittedSQLTx reply = IMMUDB__SCHEMA__COMMITTED_SQLTX__INIT;
    bool is_cut, is_read_only;
    struct bytes id;
    struct tx *tx;

    if (!tx_id_of(rq, &id))
        return;
    if ((tx = tx_take(rq->server->txs, rq->session, id)) == NULL) {
        fail_unknown(rq);
        return;
    }
    is_cut = tx->is_cut;
    is_read_only = tx->is_read_only;
    tx_end(tx);
    if (is_cut)
        request_fail(rq, RPC_UNKNOWN, "already closed");
    else if (is_read_only)
        request_fail(rq, RPC_UNKNOWN, "read-only transaction");
    else
        request_reply_message(rq, &reply.base);
}

void handle_rollback(struct request *rq)
{
    struct bytes id;
    struct tx *tx;

    if (!tx_id_of(rq, &id))
        return;
    if ((tx = tx_take(rq->server->txs, rq->session, id)) == NULL) {
        fail_unknown(rq);
        return;
    }
    tx_end(tx);
    request_reply_empty(rq);
}

/* TxSQLExec and TxSQLQuery: the transaction is looked for, then there is nothing to run the statement. */
void handle_tx_sql(struct request *rq)
{
    struct bytes id;

    if (!tx_id_of(rq, &id))
        return;
    if (!tx_exists(rq->server->txs, rq->session, id))
        fail_unknown(rq);
    else
        request_fail(rq, RPC_UNIMPLEMENTED, "method %s is not available in this version yet", strrchr(rq->method->path, '/') + 1);
}
