/* Interactive transactions of sessions: which there are, and what each has pinned.
 *
 * A transaction belongs to the session that began it and ends with it: Commit and Rollback take it out; CloseSession ends all of its session's, the
 * housekeeper those whose session is over for another reason. It keeps its database open and a snapshot of it. A database that is unloaded cuts its transactions: they stay known and answer
 * "already closed". Any thread; beginning may block (a closed database is opened). */
#ifndef HANDLERS_TXS_H
#define HANDLERS_TXS_H

#include "auth/session.h"
#include "store/store.h"

#define TX_ID_LEN 20
#define TXS_MAX 10000 /* of the whole server */

struct database;
struct txs;

struct tx {
    char id[TX_ID_LEN + 1];
    bool is_read_only;
    bool is_cut;                     /* its database was unloaded: nothing is pinned any more */
    struct session *session;         /* with a reference */
    struct database *db;             /* pinned unless is_cut */
    struct store_snapshot *snapshot; /* NULL: it is to include a transaction that is yet to come, and is opened at the first use */
    struct tx *next;                 /* in its bucket */
};

MUST_USE enum status txs_create(const struct env *env, struct txs **out, struct err *err);
/* Rolls all back. NULL is allowed. */
void txs_free(struct txs *t);
/* id: room for TX_ID_LEN + 1. must_include: 0 or a transaction the snapshot has to show. ST_LIMIT, ST_CLOSED "already closed", ... */
MUST_USE enum status tx_begin(struct txs *t, struct session *session, struct database *db, bool is_read_only, uint64_t must_include, char *id,
                              struct err *err);
/* Takes it out, for its end; NULL when the session has no such transaction. The caller calls tx_end(). */
struct tx *tx_take(struct txs *t, const struct session *session, struct bytes id);
bool tx_exists(struct txs *t, const struct session *session, struct bytes id);
/* Lets go of what it pins and frees it. NULL is allowed. */
void tx_end(struct tx *tx);
/* Ends those whose session is over. */
void txs_tidy(struct txs *t);
/* Ends those of a session that has just ended. */
void txs_end_session(struct txs *t, const struct session *session);
/* Cuts those of a database that is being closed. t NULL is allowed. */
void txs_cut(struct txs *t, const struct database *db);
size_t txs_count(struct txs *t);

#endif
