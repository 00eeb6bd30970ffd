/* Who calls: session id or token in the metadata, and what each connection remembers of them.
 *
 * A connection usually sends the same bytes with every call. Its slot remembers them with what they meant: then a comparison of at most a few hundred
 * bytes and two atomic loads decide (session still open, user's epoch unchanged). Reactor thread only, as the slot. */
#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "databases/databases.h"
#include "metrics/rpc_metrics.h"
#include "request/prelude.h"
#include "request/server_parts.h"

enum { MEMO_TEXT_MAX = 512 };

struct memo {
    size_t len; /* of the session id or the token; 0 = nothing remembered */
    char text[MEMO_TEXT_MAX];
    struct session *session; /* with a reference; NULL: a token */
    struct checked_token token;
    /* the last answer of credentials_permission() */
    const struct database *db;
    const struct user *user;
    uint64_t epoch;
    uint32_t permission;
    struct rpc_client *client; /* counts the calls of this address */
};

void credentials_slot_free(void *slot)
{
    struct memo *memo = slot;

    if (memo != NULL)
        session_unref(memo->session);
    free(memo);
}

/* The connection's memo; made at the first use. NULL on workers and when out of memory: everything works without. */
static struct memo *memo_of(struct request *rq)
{
    void **slot;

    if (rq->is_off_reactor)
        return NULL;
    slot = rpc_conn_slot(rq->call);
    if (*slot == NULL)
        *slot = calloc(1, sizeof(struct memo));
    return *slot;
}

struct rpc_client *credentials_client(struct request *rq)
{
    struct memo *memo = memo_of(rq);

    if (memo == NULL)
        return NULL;
    if (memo->client == NULL)
        memo->client = rpc_metrics_client(rq->server->call_metrics, request_peer(rq));
    return memo->client;
}

static bool memo_is(const struct memo *memo, struct bytes text)
{
    return memo != NULL && memo->len == text.len && memcmp(memo->text, text.data, text.len) == 0;
}

static void memo_set(struct memo *memo, struct bytes text, struct session *session, const struct checked_token *token)
{
    if (memo == NULL || text.len > MEMO_TEXT_MAX)
        return;
    session_unref(memo->session);
    memo->len = text.len;
    memcpy(memo->text, text.data, text.len);
    memo->session = session != NULL ? session_ref(session) : NULL;
    memo->token = token != NULL ? *token : (struct checked_token){0};
}

static void fail_session(struct request *rq)
{
    if (rq->method->kind == RPC_UNARY)
        request_fail_coded(rq, RPC_PERMISSION_DENIED, "08001", NULL, "session not found");
    else
        request_fail_coded(rq, RPC_INVALID_ARGUMENT, "22023", NULL, "no session found");
}

enum credentials credentials_session(struct request *rq)
{
    struct bytes id = rpc_metadata(rq->call, "sessionid");
    struct session *session;
    struct memo *memo;

    if (id.data == NULL)
        return CREDENTIALS_NONE;
    if (id.len == 0) {
        request_fail_coded(rq, RPC_UNKNOWN, "28000", NULL, "no sessionID provided");
        return CREDENTIALS_ANSWERED;
    }
    memo = memo_of(rq);
    if (memo_is(memo, id) && memo->session != NULL && session_is_open(memo->session)) {
        session = session_ref(memo->session);
    } else {
        if ((session = session_find(rq->server->auth->sessions, id)) == NULL) {
            fail_session(rq);
            return CREDENTIALS_ANSWERED;
        }
        memo_set(memo, id, session, NULL);
    }
    session_touch(session, rpc_started_ns(rq->call));
    rq->session = session;
    rq->who = session->user;
    rq->user = user_name(session->user);
    rq->is_sysadmin = user_name_is_sysadmin(rq->user);
    rq->token_database = atomic_load_explicit(&session->database, memory_order_relaxed);
    return CREDENTIALS_GOOD;
}

/* "Bearer " may be missing. */
static struct bytes token_text(struct request *rq)
{
    static const char prefix[] = "Bearer ";
    struct bytes text = rpc_metadata(rq->call, "authorization");

    if (bytes_has_prefix(text, bytes_of(prefix, sizeof prefix - 1)))
        text = bytes_of(text.data + sizeof prefix - 1, text.len - (sizeof prefix - 1));
    else if (bytes_equal(text, bytes_of("Bearer", 6))) /* trailing blanks of a header do not arrive */
        text.len = 0;
    return text;
}

enum credentials credentials_token(struct request *rq)
{
    struct bytes text = token_text(rq);
    struct checked_token token;
    struct memo *memo;

    if (text.len == 0)
        return CREDENTIALS_NONE;
    memo = memo_of(rq);
    if (memo_is(memo, text) && memo->token.user != NULL && user_epoch(memo->token.user) == memo->token.epoch) {
        token = memo->token;
    } else {
        switch (token_check(rq->server->auth->tokens, rq->server->auth->users, text, rq->arena, &token, &rq->err)) {
        case TOKEN_ABSENT:
            return CREDENTIALS_NONE;
        case TOKEN_BROKEN:
            return CREDENTIALS_BROKEN;
        case TOKEN_GOOD:
            memo_set(memo, text, NULL, &token);
            break;
        }
    }
    if (rq->now_s >= token.expires_s)
        return CREDENTIALS_EXPIRED;
    rq->who = token.user;
    rq->user = user_name(token.user);
    rq->is_sysadmin = user_name_is_sysadmin(rq->user);
    rq->token_database = token.database;
    return CREDENTIALS_GOOD;
}

void credentials_permission(struct request *rq, const struct database *db)
{
    struct memo *memo = memo_of(rq);
    struct user_record *record;
    uint64_t epoch;

    if (rq->is_sysadmin || rq->who == NULL) {
        rq->permission = rq->is_sysadmin ? PERMISSION_SYSADMIN : PERMISSION_NONE;
        return;
    }
    epoch = user_epoch(rq->who);
    if (memo != NULL && memo->user == rq->who && memo->db == db && memo->epoch == epoch) {
        rq->permission = memo->permission;
        return;
    }
    rq->permission = PERMISSION_NONE;
    if ((record = users_record(rq->server->auth->users, rq->who)) != NULL) {
        rq->permission = user_permission_on(record, bytes_str(database_name(db)));
        user_record_unref(record);
    }
    if (memo != NULL) {
        memo->user = rq->who;
        memo->db = db;
        memo->epoch = epoch;
        memo->permission = rq->permission;
    }
}
