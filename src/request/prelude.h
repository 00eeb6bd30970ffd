/* What is checked before a handler runs, in the published order. */
#ifndef REQUEST_PRELUDE_H
#define REQUEST_PRELUDE_H

#include "request/request.h"

struct rpc_client; /* metrics/rpc_metrics.h */

/* Checks, selects and pins the database, and runs the handler; or answers. Never blocks: what has to wait goes on on a worker. */
void prelude_run(struct request *rq);

/* --- credentials.c --- */
enum credentials { CREDENTIALS_GOOD = 0, CREDENTIALS_NONE, CREDENTIALS_BROKEN /* rq->err */, CREDENTIALS_EXPIRED, CREDENTIALS_ANSWERED };
/* The session named in the metadata, if any: fills rq->session, who, user, permission and token_database. Answers broken ones by itself. */
enum credentials credentials_session(struct request *rq);
/* The token: fills who, user and token_database. */
enum credentials credentials_token(struct request *rq);
/* Who is counted for this connection; NULL when out of memory. Reactor thread only. */
struct rpc_client *credentials_client(struct request *rq);
/* Permission of the caller on a database (rq->permission, is_sysadmin). */
void credentials_permission(struct request *rq, const struct database *db);
#define TOKEN_EXPIRED_TEXT "token has expired: token validation error"

#endif
