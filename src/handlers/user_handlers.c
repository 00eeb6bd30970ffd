/* Administration of users. All run on workers; checks stand in the published order. A change reads the record, writes a new one and closes the
 * sessions of the user, all under users_change_begin(), so that two changes cannot undo each other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "auth/systemdb.h"
#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "handlers/handlers.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "schema.pb-c.h"

static struct users *users_of(const struct request *rq) { return rq->server->auth->users; }
static struct bytes bytes_of_pb(const ProtobufCBinaryData *b) { return bytes_of(b->data, b->len); }

/* The caller's record; NULL for the nameless user. With a reference. */
static struct user_record *caller_record(struct request *rq) { return rq->who != NULL ? users_record(users_of(rq), rq->who) : NULL; }

static bool caller_is_admin_of(struct request *rq, const char *database)
{
    struct user_record *r = caller_record(rq);
    bool is_admin = rq->is_sysadmin || (r != NULL && user_permission_on(r, bytes_str(database)) == PERMISSION_ADMIN);

    user_record_unref(r);
    return is_admin;
}

static bool caller_is_admin_anywhere(struct request *rq)
{
    struct user_record *r = caller_record(rq);
    bool is_admin = rq->is_sysadmin || (r != NULL && user_is_admin_anywhere(r));

    user_record_unref(r);
    return is_admin;
}

static bool is_given_up(void *ctx) { return rpc_is_cancelled(ctx); }

/* Nothing is written for a call that is over. */
static struct systemdb_caller caller_of(const struct request *rq)
{
    return (struct systemdb_caller){rpc_deadline_ns(rq->call), is_given_up, rq->call};
}

/* Names in texts: bounded, and cut where the name ends for a C string. */
static const char *name_text(struct request *rq, struct bytes name)
{
    char *text = arena_str(rq->arena, bytes_of(name.data, name.len < 256 ? name.len : 256));

    return text != NULL ? text : "";
}

static bool systemdb_is_replica(struct request *rq)
{
    if (!database_is_replica(databases_by_number(rq->server->databases, DATABASE_NUMBER_SYSTEMDB)))
        return false;
    request_fail(rq, RPC_UNKNOWN, "database is read-only because it's a replica");
    return true;
}

/* --- list --- */

struct user_list {
    struct request *rq;
    const char *database; /* only users with a permission on it; NULL: all */
    const char *only;     /* only this user; NULL: all */
    Immudb__Schema__User **items;
    size_t count, room;
    bool failed;
};

struct privilege_list {
    struct arena *arena;
    Immudb__Schema__SQLPrivilege **items;
    size_t count, room;
};

static void privilege_visit(void *ctx, const char *privilege, const char *database)
{
    struct privilege_list *l = ctx;
    Immudb__Schema__SQLPrivilege *p;

    if (l->items == NULL) {
        l->count++; /* counting */
        return;
    }
    if (l->count >= l->room || (p = arena_alloc(l->arena, sizeof *p)) == NULL)
        return;
    immudb__schema__sqlprivilege__init(p);
    p->privilege = arena_str(l->arena, bytes_str(privilege));
    p->database = arena_str(l->arena, bytes_str(database));
    if (p->privilege != NULL && p->database != NULL)
        l->items[l->count++] = p;
}

static bool privileges_list(const struct user_record *r, struct arena *arena, Immudb__Schema__User *out)
{
    struct privilege_list l = {.arena = arena};

    user_privileges_each(r, privilege_visit, &l);
    l.room = l.count;
    l.count = 0;
    if ((l.items = arena_array(arena, l.room + 1, sizeof(*l.items))) == NULL)
        return false;
    user_privileges_each(r, privilege_visit, &l);
    out->sqlprivileges = l.items;
    out->n_sqlprivileges = l.count;
    return l.count == l.room;
}

static bool permissions_list(const struct user_record *r, struct arena *arena, Immudb__Schema__User *out)
{
    Immudb__Schema__Permission *items = arena_array(arena, r->permission_count + 1, sizeof *items);
    size_t i;

    out->permissions = arena_array(arena, r->permission_count + 1, sizeof *out->permissions);
    if (items == NULL || out->permissions == NULL)
        return false;
    for (i = 0; i < r->permission_count; i++) {
        immudb__schema__permission__init(&items[i]);
        items[i].permission = r->permissions[i].permission;
        if ((items[i].database = arena_str(arena, bytes_str(r->permissions[i].database))) == NULL)
            return false;
        out->permissions[i] = &items[i];
    }
    out->n_permissions = r->permission_count;
    return true;
}

static Immudb__Schema__User *user_message(const struct user_record *r, struct arena *arena)
{
    Immudb__Schema__User *m = arena_alloc(arena, sizeof *m);
    struct bytes name;
    char *when = arena_alloc(arena, RECORD_TIME_TEXT_MAX);

    if (m == NULL || when == NULL)
        return NULL;
    immudb__schema__user__init(m);
    name = arena_copy(arena, bytes_str(r->name));
    m->user.data = (uint8_t *)(uintptr_t)name.data;
    m->user.len = name.len;
    m->createdby = arena_str(arena, bytes_str(r->created_by));
    record_time_display(&r->created_at, when);
    m->createdat = when;
    m->active = r->is_active;
    if (name.data == NULL || m->createdby == NULL || !permissions_list(r, arena, m) || !privileges_list(r, arena, m))
        return NULL;
    return m;
}

static enum status list_visit(void *ctx, const struct user_record *r, struct err *err)
{
    struct user_list *l = ctx;
    Immudb__Schema__User **bigger;
    size_t i;

    if (l->only != NULL && strcmp(l->only, r->name) != 0)
        return ST_OK;
    for (i = 0; l->database != NULL && i < r->permission_count; i++)
        if (strcmp(r->permissions[i].database, l->database) == 0)
            break;
    if (l->database != NULL && i == r->permission_count)
        return ST_OK;
    if (l->count == l->room) {
        if ((bigger = arena_array(l->rq->arena, l->room * 2, sizeof(*bigger))) == NULL)
            return err_set(err, ST_NOMEM, 0, "listing users: out of memory");
        memcpy(bigger, l->items, l->count * sizeof(*bigger));
        l->items = bigger;
        l->room *= 2;
    }
    if ((l->items[l->count] = user_message(r, l->rq->arena)) == NULL)
        return err_set(err, ST_NOMEM, 0, "listing users: out of memory");
    l->count++;
    return ST_OK;
}

/* The sysadmin sees all, an admin of the selected database those with a permission on it, others themselves. */
static void list_scope(struct request *rq, struct user_list *l)
{
    struct database *db = databases_by_number(rq->server->databases, rq->token_database);

    if (rq->is_sysadmin || rq->server->config->maintenance)
        return;
    if (db != NULL && caller_is_admin_of(rq, database_name(db)))
        l->database = database_name(db);
    else
        l->only = rq->user;
}

void handle_list_users(struct request *rq)
{
    Immudb__Schema__UserList reply = IMMUDB__SCHEMA__USER_LIST__INIT;
    struct user_list l = {.rq = rq, .room = 16};
    enum status st;

    if (!rq->server->config->auth && !rq->server->config->maintenance) {
        request_fail(rq, RPC_UNKNOWN, "this command is available only with authentication on");
        return;
    }
    list_scope(rq, &l);
    if ((l.items = arena_array(rq->arena, l.room, sizeof(*l.items))) == NULL) {
        request_fail_nomem(rq);
        return;
    }
    if ((st = users_each(users_of(rq), list_visit, &l, &rq->err)) != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        return;
    }
    reply.users = l.items;
    reply.n_users = l.count;
    request_reply_message(rq, &reply.base);
}

/* --- create --- */

static bool is_permission(uint32_t p) { return p == PERMISSION_READ || p == PERMISSION_READ_WRITE || p >= PERMISSION_ADMIN; }

/* The database the new user may use; NULL: answered. */
static const char *new_user_database(struct request *rq, const Immudb__Schema__CreateUserRequest *m)
{
    struct database *db;

    if (m->database[0] == '\0') {
        if (databases_is_single(rq->server->databases))
            return "defaultdb";
        request_fail(rq, RPC_UNKNOWN, "database name can not be empty when there are multiple databases");
        return NULL;
    }
    db = databases_find(rq->server->databases, bytes_str(m->database));
    if (db == NULL || !database_exists(db) || database_is_systemdb(db)) {
        request_fail(rq, RPC_UNKNOWN, "database %.*s does not exist", DATABASE_NAME_LEN_MAX, m->database);
        return NULL;
    }
    return database_name(db);
}

/* NULL and *st on failure. */
static struct user_record *new_user_record(struct request *rq, const Immudb__Schema__CreateUserRequest *m, const char *database, enum status *st)
{
    struct user_record *r = user_record_create(bytes_of_pb(&m->user));

    if (r == NULL || !user_record_grant(r, bytes_str(database), m->permission) ||
        !user_record_default_privileges(r, bytes_str(database), m->permission) || !user_record_set_creator(r, bytes_str(rq->user), rq->now_ns)) {
        *st = err_set(&rq->err, ST_NOMEM, 0, "creating a user: out of memory");
        goto failed;
    }
    r->is_active = true;
    if ((*st = user_record_set_password(r, rq->server->env, bytes_of_pb(&m->password), PASSWORD_COST, &rq->err)) == ST_OK)
        return r;
failed:
    user_record_unref(r);
    return NULL;
}

void handle_create_user(struct request *rq)
{
    const Immudb__Schema__CreateUserRequest *m = rq->message;
    struct bytes name = bytes_of_pb(&m->user);
    struct user_record *r = NULL;
    const char *database;
    struct user *existing;
    enum status st;

    if (name.len == 0) {
        request_fail(rq, RPC_UNKNOWN, "username can not be empty");
        return;
    }
    if ((database = new_user_database(rq, m)) == NULL)
        return;
    if (!is_permission(m->permission)) {
        request_fail(rq, RPC_UNKNOWN, "unrecognized permission");
    } else if (!caller_is_admin_of(rq, database)) {
        request_fail(rq, RPC_UNKNOWN, "you do not have permission on this database");
    } else if (m->permission == PERMISSION_SYSADMIN) {
        request_fail(rq, RPC_UNKNOWN, "can not create another system admin");
    } else if ((st = users_find(users_of(rq), name, true, &existing, NULL, &rq->err)) != ST_NOT_FOUND) {
        if (st == ST_OK)
            request_fail(rq, RPC_UNKNOWN, "user already exists");
        else
            request_fail_err(rq, st, &rq->err);
    } else if (!user_name_is_valid(name)) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "username can only contain letters, digits and underscores");
    } else if ((st = users_writable(users_of(rq), &rq->err)) != ST_OK) { /* before the password is hashed */
        request_fail_err(rq, st, &rq->err);
    } else if ((r = new_user_record(rq, m, database, &st)) == NULL) {
        request_fail_err(rq, st, &rq->err);
    } else if (!systemdb_is_replica(rq)) {
        users_change_begin(users_of(rq));
        if (users_find(users_of(rq), name, true, &existing, NULL, &rq->err) == ST_OK) { /* somebody was faster */
            st = err_set(&rq->err, ST_EXISTS, 0, "user already exists");
        } else {
            struct systemdb_caller caller = caller_of(rq);

            st = users_put_for(users_of(rq), r, request_extra(rq), &caller, &rq->err);
            r = NULL;
        }
        users_change_end(users_of(rq));
        if (st != ST_OK)
            request_fail_err(rq, st, &rq->err);
        else
            request_reply_empty(rq);
    }
    user_record_unref(r);
}

/* --- changes --- */

enum login_effect { LOGINS_MINUS_ONE, LOGINS_FORGOTTEN };

/* Writes the changed record and makes its user log in again. Under change; takes the record. Answers. */
static void put_and_reply(struct request *rq, struct user *user, struct user_record *changed, enum login_effect effect)
{
    struct systemdb_caller caller = caller_of(rq);
    enum status st;

    if (changed == NULL || !user_record_set_creator(changed, bytes_str(rq->user), rq->now_ns)) {
        user_record_unref(changed);
        users_change_end(users_of(rq));
        request_fail_nomem(rq);
        return;
    }
    st = users_put_for(users_of(rq), changed, request_extra(rq), &caller, &rq->err);
    if (st == ST_OK) {
        sessions_end_user(rq->server->auth->sessions, user);
        if (effect == LOGINS_FORGOTTEN)
            users_forget_logins(users_of(rq), user);
        else
            users_logout(users_of(rq), user);
    }
    users_change_end(users_of(rq));
    if (st != ST_OK)
        request_fail_err(rq, st, &rq->err);
    else
        request_reply_empty(rq);
}

/* The caller's own password; guesses are limited as those of logins. False: answered. */
static bool old_password_check(struct request *rq, const struct user_record *caller, struct bytes password)
{
    struct logins *logins = rq->server->auth->logins;
    const char *peer = rpc_peer(rq->call);
    struct bytes name = bytes_str(rq->user);
    bool is_right;

    if (logins_attempt_begin(logins, peer, name, &rq->err) != ST_OK) {
        request_fail(rq, RPC_RESOURCE_EXHAUSTED, "%s", rq->err.text);
        return false;
    }
    is_right = caller != NULL && password_matches(password, bytes_str(caller->hash));
    logins_attempt_end(logins, peer, name, is_right);
    if (!is_right)
        request_fail(rq, RPC_PERMISSION_DENIED, "old password is incorrect");
    return is_right;
}

void handle_change_password(struct request *rq)
{
    const Immudb__Schema__ChangePasswordRequest *m = rq->message;
    struct bytes name = bytes_of_pb(&m->user);
    struct user_record *caller = caller_record(rq), *record = NULL, *fresh = NULL, *changed;
    struct user *user;
    enum status st;

    if (bytes_equal(name, bytes_str(USER_SYSADMIN)) && !old_password_check(rq, caller, bytes_of_pb(&m->oldpassword)))
        goto done;
    if (!caller_is_admin_anywhere(rq)) {
        request_fail(rq, RPC_UNKNOWN, "user is not system admin nor admin in any of the databases");
        goto done;
    }
    if (name.len == 0) {
        request_fail(rq, RPC_UNKNOWN, "username can not be empty");
        goto done;
    }
    st = users_find(users_of(rq), name, true, &user, &record, &rq->err);
    if (st == ST_NOT_FOUND || (st == ST_OK && !rq->is_sysadmin && strcmp(record->created_by, rq->user) != 0)) {
        request_fail(rq, RPC_UNKNOWN, "user %s was not found or it was not created by you", name_text(rq, name));
        goto done;
    }
    if (st == ST_OK)
        st = users_writable(users_of(rq), &rq->err);
    if (st == ST_OK && (fresh = user_record_copy(record)) == NULL)
        st = err_set(&rq->err, ST_NOMEM, 0, "changing a password: out of memory");
    if (st != ST_OK || (st = user_record_set_password(fresh, rq->server->env, bytes_of_pb(&m->newpassword), PASSWORD_COST, &rq->err)) != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        goto done;
    }
    if (systemdb_is_replica(rq))
        goto done;
    users_change_begin(users_of(rq));
    user_record_unref(record);
    record = users_record(users_of(rq), user); /* as it is now that nobody else changes it */
    if ((changed = user_record_copy(record)) != NULL)
        user_record_take_password(changed, fresh);
    put_and_reply(rq, user, changed, LOGINS_FORGOTTEN);
done:
    user_record_unref(fresh);
    user_record_unref(record);
    user_record_unref(caller);
}

/* What ChangePermission and ChangeSQLPrivileges check about the target. what: "permissions" or "privileges". False: answered. */
static bool target_check(struct request *rq, const char *name, const char *database, const char *what, struct user **user)
{
    struct user_record *record = NULL;
    bool is_good = false;
    enum status st;

    if (strcmp(name, rq->user) == 0) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "changing your own %s is not allowed", what);
        return false;
    }
    if (strcmp(name, USER_SYSADMIN) == 0) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "changing sysadmin %s is not allowed", what);
        return false;
    }
    st = users_find(users_of(rq), bytes_str(name), true, user, &record, &rq->err);
    if (st == ST_NOT_FOUND)
        request_fail(rq, RPC_NOT_FOUND, "user %.*s not found", USER_NAME_LEN_MAX, name);
    else if (st != ST_OK)
        request_fail_err(rq, st, &rq->err);
    else if (!record->is_active)
        request_fail(rq, RPC_FAILED_PRECONDITION, "user %s is not active", record->name);
    else if (!caller_is_admin_of(rq, database))
        request_fail(rq, RPC_PERMISSION_DENIED, "you do not have permission on this database");
    else
        is_good = true;
    user_record_unref(record);
    return is_good;
}

/* Name and database of a change; false: answered. */
static bool change_check(struct request *rq, const char *name, const char *database)
{
    struct database *db = databases_find(rq->server->databases, bytes_str(database));

    if (name[0] == '\0')
        request_fail(rq, RPC_INVALID_ARGUMENT, "username can not be empty");
    else if (database[0] == '\0')
        request_fail(rq, RPC_INVALID_ARGUMENT, "database can not be empty");
    else if (db == NULL || !database_exists(db))
        request_fail(rq, RPC_INVALID_ARGUMENT, "database does not exist");
    else
        return true;
    return false;
}

static bool is_action(int action)
{
    return action == IMMUDB__SCHEMA__PERMISSION_ACTION__GRANT || action == IMMUDB__SCHEMA__PERMISSION_ACTION__REVOKE;
}

void handle_change_permission(struct request *rq)
{
    const Immudb__Schema__ChangePermissionRequest *m = rq->message;
    struct bytes database = bytes_str(m->database);
    struct user_record *record, *changed;
    struct user *user;

    if (!change_check(rq, m->username, m->database))
        return;
    if (!is_action((int)m->action)) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "action not recognized");
        return;
    }
    if (!is_permission(m->permission)) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "unrecognized permission");
        return;
    }
    if (strcmp(m->database, "systemdb") == 0 && m->permission == PERMISSION_READ_WRITE) {
        request_deny(rq);
        return;
    }
    if (!target_check(rq, m->username, m->database, "permissions", &user) || systemdb_is_replica(rq))
        return;
    users_change_begin(users_of(rq));
    record = users_record(users_of(rq), user);
    changed = user_record_copy(record);
    user_record_unref(record);
    if (changed != NULL) {
        bool is_good = true;

        if (m->action == IMMUDB__SCHEMA__PERMISSION_ACTION__GRANT)
            is_good = user_record_grant(changed, database, m->permission);
        else
            user_record_revoke(changed, database);
        if (!is_good || !user_record_default_privileges(changed, database, m->permission)) {
            user_record_unref(changed);
            changed = NULL;
        }
    }
    put_and_reply(rq, user, changed, LOGINS_MINUS_ONE);
}

/* The published spelling of a privilege, or NULL. */
static const char *privilege_known(const char *text)
{
    int p;

    for (p = 0; p < SQL_PRIVILEGES; p++)
        if (strcmp(sql_privilege_name((enum sql_privilege)p), text) == 0)
            return sql_privilege_name((enum sql_privilege)p);
    return NULL;
}

/* A permission on the database must be there first; false: answered. */
static bool has_permission(struct request *rq, struct user *user, const char *database)
{
    struct user_record *record = users_record(users_of(rq), user);
    bool has = user_permission_on(record, bytes_str(database)) != PERMISSION_NONE;

    if (!has)
        request_fail(rq, RPC_FAILED_PRECONDITION, "user %s doesn't have permission on database %s", record->name, database);
    user_record_unref(record);
    return has;
}

void handle_change_sql_privileges(struct request *rq)
{
    const Immudb__Schema__ChangeSQLPrivilegesRequest *m = rq->message;
    struct bytes database = bytes_str(m->database);
    struct user_record *record, *changed;
    struct user *user;
    bool is_good;
    size_t i;

    if (!change_check(rq, m->username, m->database))
        return;
    if (!is_action((int)m->action)) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "action not recognized");
        return;
    }
    for (i = 0; i < m->n_privileges; i++) {
        if (privilege_known(m->privileges[i]) == NULL) {
            request_fail(rq, RPC_INVALID_ARGUMENT, "SQL privilege not recognized");
            return;
        }
    }
    if (!target_check(rq, m->username, m->database, "privileges", &user) || !has_permission(rq, user, m->database) || systemdb_is_replica(rq))
        return;
    users_change_begin(users_of(rq));
    record = users_record(users_of(rq), user);
    changed = user_record_copy(record);
    user_record_unref(record);
    is_good = changed != NULL && user_record_settle_privileges(changed);
    for (i = 0; is_good && i < m->n_privileges; i++) {
        if (m->action == IMMUDB__SCHEMA__PERMISSION_ACTION__GRANT)
            is_good = user_record_grant_privilege(changed, database, privilege_known(m->privileges[i]));
        else
            user_record_revoke_privilege(changed, database, m->privileges[i]);
    }
    if (!is_good) {
        user_record_unref(changed);
        changed = NULL;
    }
    put_and_reply(rq, user, changed, LOGINS_MINUS_ONE);
}

void handle_set_active_user(struct request *rq)
{
    const Immudb__Schema__SetActiveUserRequest *m = rq->message;
    struct user_record *record = NULL, *changed;
    struct user *user;
    enum status st;

    if (m->username[0] == '\0') {
        request_fail(rq, RPC_UNKNOWN, "username can not be empty");
        return;
    }
    if (!caller_is_admin_anywhere(rq)) {
        request_fail(rq, RPC_UNKNOWN, "user is not system admin nor admin in any of the databases");
        return;
    }
    if (strcmp(m->username, rq->user) == 0) {
        request_fail(rq, RPC_UNKNOWN, "changing your own status is not allowed");
        return;
    }
    st = users_find(users_of(rq), bytes_str(m->username), true, &user, &record, &rq->err);
    if (st == ST_NOT_FOUND) {
        request_fail(rq, RPC_UNKNOWN, "user %.*s not found", USER_NAME_LEN_MAX, m->username);
    } else if (st != ST_OK) {
        request_fail_err(rq, st, &rq->err);
    } else if (!rq->is_sysadmin && strcmp(record->created_by, rq->user) != 0) {
        request_fail(rq, RPC_UNKNOWN, "%s was not created by you", record->name);
    } else if (!systemdb_is_replica(rq)) {
        users_change_begin(users_of(rq));
        user_record_unref(record);
        record = users_record(users_of(rq), user);
        if ((changed = user_record_copy(record)) != NULL)
            changed->is_active = m->active;
        put_and_reply(rq, user, changed, LOGINS_MINUS_ONE);
    }
    user_record_unref(record);
}
