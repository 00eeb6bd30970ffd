/* The order of checks: local callers only, session, maintenance mode, authentication off, credentials, selected database, systemdb rule, existence,
 * permission. Each method's row says which answers apply. */
#include "request/prelude.h"

#include <stdatomic.h>
#include <string.h>

#include "auth/users.h"
#include "config/config.h"
#include "databases/databases.h"
#include "request/gate.h"
#include "request/server_parts.h"

static bool needs_database(const struct method *m)
{
    return (m->flags & METHOD_NO_DATABASE) == 0 && (m->who == CLASS_READ || m->who == CLASS_WRITE || m->who == CLASS_ADMIN);
}

/* --- dispatch --- */

static void dispatch(struct request *rq)
{
    const struct method *m = rq->method;

    if ((m->flags & METHOD_LATER) != 0)
        request_fail(rq, RPC_UNIMPLEMENTED, "method %s is not available in this version yet", strrchr(m->path, '/') + 1);
    else if ((m->flags & METHOD_ON_WORKER) != 0)
        request_on_worker(rq, request_handle);
    else
        request_handle(rq);
}

/* --- the selected database --- */

static bool is_permitted(const struct request *rq)
{
    uint32_t p = rq->permission;

    switch (rq->method->who) {
    case CLASS_READ:
        return rq->is_sysadmin || p == PERMISSION_READ || p == PERMISSION_READ_WRITE || p == PERMISSION_ADMIN;
    case CLASS_WRITE:
        return rq->is_sysadmin || p == PERMISSION_READ_WRITE || p == PERMISSION_ADMIN;
    case CLASS_ADMIN:
        return rq->is_sysadmin || p == PERMISSION_ADMIN;
    default:
        return true;
    }
}

/* The database is there and, where needed, pinned. */
static void go_on(struct request *rq, bool check_permission)
{
    if (check_permission) {
        credentials_permission(rq, rq->db);
        if (!is_permitted(rq)) {
            request_deny(rq);
            return;
        }
    }
    dispatch(rq);
}

static bool checks_permission(const struct request *rq) { return rq->server->config->auth; }

static void pin_and_go_on(struct request *rq, bool may_block);
static void pin_on_worker(struct request *rq) { pin_and_go_on(rq, true); }

static void pin_and_go_on(struct request *rq, bool may_block)
{
    enum status st;

    if ((rq->method->flags & METHOD_DB_MAY_BE_CLOSED) != 0) {
        if (!database_exists(rq->db))
            request_fail(rq, RPC_UNKNOWN, "database does not exist");
        else
            go_on(rq, checks_permission(rq));
        return;
    }
    st = database_pin(rq->db, may_block, &rq->err);
    if (st == ST_AGAIN) {
        request_on_worker(rq, pin_on_worker);
        return;
    }
    if (st != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        return;
    }
    rq->is_pinned = true;
    if (rq->method->who == CLASS_WRITE) {
        rq->is_write = true;
        database_write_begin(rq->db);
    }
    rq->store = database_store(rq->db);
    go_on(rq, checks_permission(rq));
}

static void select_database(struct request *rq)
{
    struct databases *d = rq->server->databases;

    if (rq->token_database < 0) {
        request_fail(rq, RPC_UNKNOWN, rq->server->config->maintenance ? "please select database first" : "please select a database first");
        return;
    }
    if (rq->token_database == DATABASE_NUMBER_SYSTEMDB && (rq->method->flags & METHOD_MAINTENANCE) == 0) {
        request_deny(rq); /* systemdb is read-only from outside */
        return;
    }
    if ((rq->db = databases_by_number(d, rq->token_database)) == NULL) {
        request_fail(rq, RPC_UNKNOWN, "database does not exist");
        return;
    }
    pin_and_go_on(rq, false);
}

/* --- credentials --- */

static void fail_expired(struct request *rq)
{
    if (rq->method->on_no_login == LOGIN_FAILURE_USERDATA)
        request_fail(rq, RPC_UNKNOWN, "could not get loggedin user data");
    else if (rq->method->on_no_login == LOGIN_FAILURE_PLEASE)
        request_fail(rq, RPC_UNKNOWN, "please login");
    else if (rq->method->on_no_login == LOGIN_FAILURE_USE || needs_database(rq->method))
        request_fail(rq, RPC_PERMISSION_DENIED, TOKEN_EXPIRED_TEXT);
    else
        request_fail(rq, RPC_UNKNOWN, TOKEN_EXPIRED_TEXT);
}

static void fail_credentials(struct request *rq, enum credentials c)
{
    if (c == CREDENTIALS_EXPIRED) {
        fail_expired(rq);
        return;
    }
    switch (rq->method->on_no_login) {
    case LOGIN_FAILURE_USERDATA:
        request_fail(rq, RPC_UNKNOWN, "could not get loggedin user data");
        break;
    case LOGIN_FAILURE_PLEASE:
        request_fail(rq, RPC_UNKNOWN, "please login");
        break;
    case LOGIN_FAILURE_USE:
        request_fail(rq, RPC_UNAUTHENTICATED, "Please login");
        break;
    case LOGIN_FAILURE_CODED:
        if (c == CREDENTIALS_NONE)
            request_fail_coded(rq, RPC_UNKNOWN, "28000", NULL, "not logged in");
        else
            request_fail_coded(rq, RPC_INTERNAL, "XX000", "invalid token", rq->err.text);
        break;
    }
}

/* True when the caller is known; otherwise the call is answered. */
static bool credentials_demand(struct request *rq)
{
    enum credentials c;

    if (rq->session != NULL)
        return true;
    if ((c = credentials_token(rq)) == CREDENTIALS_GOOD)
        return true;
    if (c == CREDENTIALS_NONE && rq->server->config->maintenance && needs_database(rq->method))
        request_fail(rq, RPC_UNKNOWN, "please select database first");
    else if (c != CREDENTIALS_ANSWERED)
        fail_credentials(rq, c);
    return false;
}

/* --- modes --- */

static void fail_auth_off(struct request *rq)
{
    switch (rq->method->auth_off) {
    case AUTH_OFF_MUST_BE_ON:
        request_fail(rq, RPC_INVALID_ARGUMENT, "authentication must be on");
        break;
    case AUTH_OFF_LOGIN:
        request_fail_coded(rq, RPC_UNKNOWN, "08P01", NULL, "server is running with authentication disabled, please enable authentication to login");
        break;
    default:
        request_fail(rq, RPC_UNKNOWN, "this command is available only with authentication on");
        break;
    }
}

/* Authentication is off. True: go on as usual. */
static bool auth_off(struct request *rq)
{
    const struct method *m = rq->method;

    switch (m->auth_off) {
    case AUTH_OFF_MUST_BE_ON:
    case AUTH_OFF_COMMAND:
    case AUTH_OFF_LOGIN:
        fail_auth_off(rq);
        return false;
    case AUTH_OFF_HANDLER:
        if (credentials_token(rq) != CREDENTIALS_ANSWERED)
            dispatch(rq);
        return false;
    case AUTH_OFF_IGNORE:
        return true;
    case AUTH_OFF_DEFAULTDB:
        break;
    }
    rq->is_sysadmin = true;
    rq->permission = PERMISSION_SYSADMIN;
    if (!needs_database(m) || rq->server->config->maintenance)
        return true;
    rq->token_database = 0;
    select_database(rq);
    return false;
}

static bool is_open_session(const struct method *m) { return strcmp(m->path, "/immudb.schema.ImmuService/OpenSession") == 0; }

/* There are no users and databases yet: Health answers, the others wait. True: there are, by now. */
static bool may_pass_early(struct request *rq)
{
    if (strcmp(rq->method->path, "/immudb.schema.ImmuService/Health") == 0) {
        dispatch(rq);
        return false;
    }
    switch (gate_enter(rq->server->gate, rq, prelude_run)) {
    case GATE_OPEN:
        return true;
    case GATE_PARKED:
        return false;
    case GATE_FULL:
        break;
    }
    request_fail(rq, RPC_UNAVAILABLE, "the server is starting: its databases are being opened");
    return false;
}

void prelude_run(struct request *rq)
{
    const struct config *c = rq->server->config;
    const struct method *m = rq->method;

    if (atomic_load_explicit(&rq->server->readiness, memory_order_acquire) == SERVER_STARTING && !may_pass_early(rq))
        return;
    if (!c->auth && !c->devmode && !rpc_is_loopback(rq->call)) {
        request_fail(rq, RPC_PERMISSION_DENIED, "server has authentication disabled: only local connections are accepted");
        return;
    }
    if (!is_open_session(m) && credentials_session(rq) == CREDENTIALS_ANSWERED)
        return;
    if (c->maintenance && (m->flags & METHOD_MAINTENANCE) == 0) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "operation not allowed in maintenance mode");
        return;
    }
    if (!c->auth && m->who != CLASS_ANYBODY && !auth_off(rq))
        return;
    switch (m->who) {
    case CLASS_ANYBODY:
        if (!c->auth && m->auth_off == AUTH_OFF_LOGIN)
            fail_auth_off(rq);
        else
            dispatch(rq);
        return;
    case CLASS_SESSION:
        if (rq->session == NULL)
            request_fail_coded(rq, RPC_UNKNOWN, "28000", NULL, "no session auth data provided");
        else
            dispatch(rq);
        return;
    default:
        break;
    }
    if (!credentials_demand(rq))
        return;
    if (needs_database(m))
        select_database(rq);
    else
        dispatch(rq);
}
