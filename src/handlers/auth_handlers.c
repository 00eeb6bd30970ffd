/* Logging in and out: tokens, sessions, and the selected database. Password checks run on their own workers (auth/logins.h). */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "auth/auth.h"
#include "authorization.pb-c.h"
#include "config/config.h"
#include "databases/databases.h"
#include "handlers/handlers.h"
#include "handlers/txs.h"
#include "request/prelude.h"
#include "request/server_parts.h"
#include "schema.pb-c.h"

static const char NO_PERMISSION[] = "Logged in user does not have permission on this database";
static const char DEFAULT_PASSWORD_WARNING[] = "immudb user has the default password: please change it to ensure proper security";

/* One login call while its password is checked. In the call's arena. */
struct login_call {
    struct login login;
    struct request *rq;
    struct bytes database; /* of OpenSession */
    void (*go_on)(struct login_call *c);
};

static struct bytes bytes_of_pb(const ProtobufCBinaryData *b) { return bytes_of(b->data, b->len); }

static struct login_call *call_of(struct login *l) { return (struct login_call *)(void *)((char *)l - offsetof(struct login_call, login)); }

static bool login_is_cancelled(struct login *l) { return rpc_is_cancelled(call_of(l)->rq->call); }

static void login_done(struct login *l)
{
    static const char text[] = "invalid user name or password";
    struct login_call *c = call_of(l);

    switch (l->outcome) {
    case LOGIN_WRONG_PASSWORD:
        request_fail_coded(c->rq, RPC_UNKNOWN, "08004", text, "crypto/bcrypt: hashedPassword is not the hash of the given password");
        break;
    case LOGIN_UNKNOWN_USER:
        request_fail_coded(c->rq, RPC_UNKNOWN, "08004", text, "tbtree: key not found");
        break;
    case LOGIN_INACTIVE:
        request_fail_coded(c->rq, RPC_UNKNOWN, "08004", NULL, "user is not active");
        break;
    case LOGIN_FAILED:
        request_fail_err(c->rq, l->err.status, &l->err);
        break;
    case LOGIN_RIGHT:
        c->go_on(c);
        break;
    }
}

static void login_begin(struct request *rq, struct bytes user, struct bytes password, struct bytes database, void (*go_on)(struct login_call *c))
{
    struct login_call *c = arena_zalloc(rq->arena, sizeof *c);

    if (c == NULL) {
        request_fail_nomem(rq);
        return;
    }
    c->rq = rq;
    c->database = database;
    c->go_on = go_on;
    c->login.user = user;
    c->login.password = password;
    c->login.address = rpc_peer(rq->call);
    c->login.done = login_done;
    c->login.is_cancelled = login_is_cancelled;
    if (logins_check(rq->server->auth->logins, &c->login, &rq->err) != ST_OK)
        request_fail(rq, RPC_RESOURCE_EXHAUSTED, "%s", rq->err.text);
}

/* --- tokens --- */

static int64_t token_expiry(const struct request *rq) { return rq->now_s + rq->server->config->token_expiry_time * 60; }

static void login_go_on(struct login_call *c)
{
    Immudb__Schema__LoginResponse reply = IMMUDB__SCHEMA__LOGIN_RESPONSE__INIT;
    struct request *rq = c->rq;
    int64_t database = databases_is_single(rq->server->databases) ? 0 : TOKEN_NO_DATABASE;
    EVP_PKEY *key = NULL;
    enum status st;

    user_record_unref(c->login.record);
    if ((st = users_login(rq->server->auth->users, c->login.who, &key, &rq->err)) == ST_OK)
        st = token_issue(key, user_name(c->login.who), database, token_expiry(rq), rq->arena, &reply.token, &rq->err);
    EVP_PKEY_free(key);
    if (st != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        return;
    }
    if (bytes_equal(c->login.user, bytes_str(USER_SYSADMIN)) && bytes_equal(c->login.password, bytes_str("immudb"))) {
        reply.warning.data = (uint8_t *)(uintptr_t)DEFAULT_PASSWORD_WARNING;
        reply.warning.len = sizeof DEFAULT_PASSWORD_WARNING - 1;
    }
    request_reply_message(rq, &reply.base);
}

void handle_login(struct request *rq)
{
    const Immudb__Schema__LoginRequest *m = rq->message;

    login_begin(rq, bytes_of_pb(&m->user), bytes_of_pb(&m->password), bytes_of(NULL, 0), login_go_on);
}

void handle_logout(struct request *rq)
{
    /* One login with a token less, also when a session is what the caller is known by. */
    if (!users_logout(rq->server->auth->users, rq->who))
        request_fail_coded(rq, RPC_UNKNOWN, "28000", NULL, "not logged in");
    else
        request_reply_empty(rq);
}

/* --- sessions --- */

/* The session of a checked login; NULL when answered. Once the request is answered, it and c are gone: nothing of them is touched afterwards. */
static struct session *session_make(struct login_call *c)
{
    struct request *rq = c->rq;
    struct auth *auth = rq->server->auth;
    struct user_record *record = c->login.record;
    struct user *who = c->login.who;
    uint64_t epoch = c->login.epoch;
    struct session *session = NULL;
    struct database *db;
    char *name;
    enum status st;

    if ((st = database_name_lower(c->database, rq->arena, &name, &rq->err)) != ST_OK) {
        request_fail(rq, st == ST_NOMEM ? RPC_RESOURCE_EXHAUSTED : RPC_UNKNOWN, st == ST_NOMEM ? "out of memory" : "database does not exist");
    } else if ((db = databases_find(rq->server->databases, bytes_str(name))) == NULL || !database_exists(db)) {
        request_fail(rq, RPC_UNKNOWN, "database does not exist");
    } else if (!user_may_use(record, bytes_str(name))) {
        request_fail(rq, RPC_PERMISSION_DENIED, "%s", NO_PERMISSION);
    } else if ((st = session_create(auth->sessions, who, database_number(db), &session, &rq->err)) == ST_LIMIT) {
        request_fail_coded(rq, RPC_INTERNAL, "XX000", "can not create new session: max sessions number reached", "can not create new session");
    } else if (st != ST_OK) {
        request_fail_err(rq, st, &rq->err);
    } else if (user_epoch(who) != epoch) {
        /* The user was changed after the password had been read: whoever changed it has closed the sessions there were, not this one. */
        session_end(auth->sessions, session);
        session_unref(session);
        session = NULL;
        request_fail(rq, RPC_ABORTED, "the user was changed while logging in; please log in again");
    }
    user_record_unref(record);
    return session;
}

static void open_session_go_on(struct login_call *c)
{
    Immudb__Schema__OpenSessionResponse reply = IMMUDB__SCHEMA__OPEN_SESSION_RESPONSE__INIT;
    struct request *rq = c->rq;
    struct session *session = session_make(c);

    if (session == NULL)
        return;
    reply.sessionid = session->id;
    reply.serveruuid = rq->server->datadir.uuid;
    request_reply_message(rq, &reply.base);
    session_unref(session);
}

void handle_open_session(struct request *rq)
{
    const Immudb__Schema__OpenSessionRequest *m = rq->message;

    login_begin(rq, bytes_of_pb(&m->username), bytes_of_pb(&m->password), bytes_str(m->databasename), open_session_go_on);
}

/* Seconds since 1970 after so many nanoseconds from now; 0 = never. */
static int32_t moment_after(const struct request *rq, int64_t ns)
{
    int64_t s = rq->now_s + ns / 1000000000;

    return ns <= 0 ? 0 : s > INT32_MAX ? INT32_MAX : (int32_t)s;
}

static void open_session_v2_go_on(struct login_call *c)
{
    Immudb__Model__OpenSessionResponse reply = IMMUDB__MODEL__OPEN_SESSION_RESPONSE__INIT;
    struct request *rq = c->rq;
    struct session *session = session_make(c);

    if (session == NULL)
        return;
    reply.sessionid = session->id;
    reply.serveruuid = rq->server->datadir.uuid;
    reply.expirationtimestamp = moment_after(rq, rq->server->config->max_session_age_time);
    reply.inactivitytimestamp = moment_after(rq, rq->server->config->max_session_inactivity_time);
    request_reply_message(rq, &reply.base);
    session_unref(session);
}

void handle_open_session_v2(struct request *rq)
{
    const Immudb__Model__OpenSessionRequest *m = rq->message;

    login_begin(rq, bytes_str(m->username), bytes_str(m->password), bytes_str(m->database), open_session_v2_go_on);
}

void handle_close_session(struct request *rq)
{
    session_end(rq->server->auth->sessions, rq->session);
    txs_end_session(rq->server->txs, rq->session); /* before the answer: what they held is free for others then */
    request_reply_empty(rq);
}

/* The prelude has set the session's clock. */
void handle_keep_alive(struct request *rq) { request_reply_empty(rq); }

/* --- the selected database --- */

static void reply_token(struct request *rq, struct user *who, int64_t database)
{
    Immudb__Schema__UseDatabaseReply reply = IMMUDB__SCHEMA__USE_DATABASE_REPLY__INIT;
    EVP_PKEY *key = users_token_key(rq->server->auth->users, who);
    enum status st = key == NULL ? err_set(&rq->err, ST_NOMEM, 0, "making a key pair: out of memory")
                                 : token_issue(key, user_name(who), database, token_expiry(rq), rq->arena, &reply.token, &rq->err);

    EVP_PKEY_free(key);
    if (st != ST_OK)
        request_fail_err(rq, st, &rq->err);
    else
        request_reply_message(rq, &reply.base);
}

static bool may_use(struct request *rq, const struct database *db)
{
    if (rq->server->config->maintenance)
        return true;
    credentials_permission(rq, db);
    return rq->is_sysadmin || rq->permission == PERMISSION_READ || rq->permission == PERMISSION_READ_WRITE || rq->permission == PERMISSION_ADMIN;
}

void handle_use_database(struct request *rq)
{
    const Immudb__Schema__Database *m = rq->message;
    struct database *db;
    char text[DATABASE_NAME_LEN_MAX + 32];

    if (!rq->server->config->auth && !rq->server->config->maintenance) {
        request_fail(rq, RPC_UNKNOWN, "this command is available only with authentication on");
        return;
    }
    if ((db = databases_find(rq->server->databases, bytes_str(m->databasename))) == NULL) {
        snprintf(text, sizeof text, "'%.*s' does not exist", DATABASE_NAME_LEN_MAX, m->databasename);
        request_fail_coded(rq, RPC_NOT_FOUND, "3F000", NULL, text);
    } else if (!may_use(rq, db)) {
        request_fail(rq, RPC_PERMISSION_DENIED, "%s", NO_PERMISSION);
    } else if (!database_exists(db)) {
        request_fail(rq, RPC_UNKNOWN, "database does not exist");
    } else if (!database_is_loaded(db)) {
        request_fail(rq, RPC_UNKNOWN, "already closed");
    } else {
        if (rq->session != NULL)
            atomic_store_explicit(&rq->session->database, database_number(db), memory_order_relaxed);
        reply_token(rq, rq->who != NULL ? rq->who : users_nameless(rq->server->auth->users), database_number(db));
    }
}
