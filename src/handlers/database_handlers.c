/* Administration of databases: create, list, load, unload, delete, settings. All run on workers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/auth.h"
#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "databases/truncator.h"
#include "handlers/handlers.h"
#include "request/request.h"
#include "request/server_parts.h"
#include "wire/wire.h"

/* --- rights --- */

static struct user_record *record_of(struct request *rq) { return users_record(rq->server->auth->users, rq->who); }

/* 254 on the named database, or sysadmin. False: answered. */
static bool is_admin_of(struct request *rq, const char *name)
{
    struct user_record *r;
    bool is_admin = rq->is_sysadmin;

    if (!is_admin && (r = record_of(rq)) != NULL) {
        is_admin = user_permission_on(r, bytes_str(name)) == PERMISSION_ADMIN;
        user_record_unref(r);
    }
    if (!is_admin)
        request_fail(rq, RPC_UNKNOWN, "the database '%.*s' does not exist or you do not have admin permission on this database",
                     DATABASE_NAME_LEN_MAX, name);
    return is_admin;
}

static bool is_reserved(struct request *rq, const char *name)
{
    if (!database_name_is_reserved(name))
        return false;
    request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "database is reserved");
    return true;
}

/* Rights first, then existence; NULL: answered. Deleted ones are found: each call words that in its own way. */
static struct database *administered(struct request *rq, const char *name)
{
    struct database *db;

    if (is_reserved(rq, name) || !is_admin_of(rq, name))
        return NULL;
    if ((db = databases_find(rq->server->databases, bytes_str(name))) == NULL)
        request_fail(rq, RPC_UNKNOWN, "database does not exist");
    return db;
}

/* The published frame around settings that are refused. */
static void fail_settings(struct request *rq, enum status st)
{
    if (st == ST_INVALID)
        request_fail(rq, RPC_INVALID_ARGUMENT, "rpc error: code = InvalidArgument desc = %s", rq->err.text);
    else
        request_fail_err(rq, st, &rq->err);
}

/* --- create --- */

/* The folder of log files lies among those of the databases: "./logs/" is "logs". */
static bool is_log_folder(const char *name, const char *logdir)
{
    size_t len;

    while (logdir[0] == '.' && logdir[1] == '/')
        logdir += 2 + strspn(logdir + 2, "/");
    len = strcspn(logdir, "/");
    return len > 0 && strlen(name) == len && memcmp(name, logdir, len) == 0;
}

/* NULL: answered. */
static struct database *create(struct request *rq, const char *given_name, const Immudb__Schema__DatabaseNullableSettings *given, bool if_not_exists,
                               bool *existed)
{
    struct databases *d = rq->server->databases;
    struct database_settings s;
    struct database *db = NULL;
    enum status st;
    char *name;

    *existed = false;
    if (is_reserved(rq, given_name))
        return NULL;
    if (!rq->is_sysadmin) {
        request_fail(rq, RPC_UNKNOWN, "loggedin user does not have permissions for this operation");
        return NULL;
    }
    if ((st = database_name_lower(bytes_str(given_name), rq->arena, &name, &rq->err)) != ST_OK ||
        (st = database_name_check(bytes_str(name), &rq->err)) != ST_OK) {
        request_fail_err(rq, st, &rq->err);
        return NULL;
    }
    if ((db = databases_find(d, bytes_str(name))) != NULL) {
        *existed = if_not_exists && database_exists(db);
        if (!*existed)
            request_fail(rq, RPC_UNKNOWN, if_not_exists ? "tbtree: key not found: while loading database settings" : "database already exists");
        return *existed ? db : NULL;
    }
    if (is_log_folder(name, rq->server->config->logdir)) {
        request_fail_coded(rq, RPC_INTERNAL, "XX000", NULL, "database is reserved");
        return NULL;
    }
    settings_defaults(&s, name);
    if ((st = settings_apply(given, false, &s, &rq->err)) != ST_OK || (st = settings_validate(&s, &rq->err)) != ST_OK) {
        fail_settings(rq, st);
        return NULL;
    }
    snprintf(s.created_by, sizeof s.created_by, "%s", rq->user);
    s.created_at = record_time_of(rq->now_ns);
    if ((st = databases_create(d, &s, &db, &rq->err)) != ST_OK)
        request_fail_err(rq, st, &rq->err);
    return db;
}

void handle_create_database(struct request *rq)
{
    const Immudb__Schema__Database *m = rq->message;
    bool existed;

    if (create(rq, m->databasename, NULL, false, &existed) != NULL)
        request_reply_empty(rq);
}

void handle_create_database_with(struct request *rq)
{
    const Immudb__Schema__DatabaseSettings *m = rq->message;
    Immudb__Schema__DatabaseNullableSettings *given = settings_from_old(m, rq->arena);
    bool existed;

    if (given == NULL)
        request_fail_nomem(rq);
    else if (create(rq, m->databasename, given, false, &existed) != NULL)
        request_reply_empty(rq);
}

void handle_create_database_v2(struct request *rq)
{
    Immudb__Schema__CreateDatabaseResponse reply = IMMUDB__SCHEMA__CREATE_DATABASE_RESPONSE__INIT;
    const Immudb__Schema__CreateDatabaseRequest *m = rq->message;
    struct database_settings s;
    struct database *db;
    bool existed;

    if ((db = create(rq, m->name, m->settings, m->ifnotexists, &existed)) == NULL)
        return;
    database_settings_get(db, &s);
    reply.name = s.database;
    reply.alreadyexisted = existed;
    if ((reply.settings = settings_message(&s, rq->arena)) == NULL)
        request_fail_nomem(rq);
    else
        request_reply_message(rq, &reply.base);
}

/* --- lists --- */

struct listing {
    struct request *rq;
    struct user_record *record; /* NULL: the sysadmin sees all */
    struct database **items;
    size_t count, room;
};

static bool list_visit(void *ctx, struct database *db)
{
    struct listing *l = ctx;

    if (l->count < l->room &&
        (l->record == NULL ? !database_is_systemdb(db) : user_permission_on(l->record, bytes_str(database_name(db))) != PERMISSION_NONE))
        l->items[l->count++] = db;
    return true;
}

/* The databases the caller may know of, in the arena; false: answered. */
static bool list(struct request *rq, struct listing *l)
{
    *l = (struct listing){.rq = rq, .room = databases_count(rq->server->databases) + 1};
    if ((l->items = arena_array(rq->arena, l->room, sizeof(*l->items))) == NULL) {
        request_fail_nomem(rq);
        return false;
    }
    if (!rq->is_sysadmin)
        l->record = record_of(rq);
    databases_each(rq->server->databases, list_visit, l);
    user_record_unref(l->record);
    return true;
}

/* count messages of item_bytes each and an array of pointers to them, in the arena; false: answered. */
static bool items_make(struct request *rq, size_t count, size_t item_bytes, void *items, void *pointers)
{
    char *first = arena_array(rq->arena, count + 1, item_bytes);
    void **at = arena_array(rq->arena, count + 1, sizeof *at);
    size_t i;

    if (first == NULL || at == NULL) {
        request_fail_nomem(rq);
        return false;
    }
    for (i = 0; i < count; i++)
        at[i] = first + i * item_bytes;
    memcpy(items, &first, sizeof first);
    memcpy(pointers, &at, sizeof at);
    return true;
}

void handle_database_list(struct request *rq)
{
    Immudb__Schema__DatabaseListResponse reply = IMMUDB__SCHEMA__DATABASE_LIST_RESPONSE__INIT;
    Immudb__Schema__Database *items;
    struct listing l;
    size_t i;

    if (!list(rq, &l) || !items_make(rq, l.count, sizeof *items, &items, &reply.databases))
        return;
    for (i = 0; i < l.count; i++) {
        immudb__schema__database__init(&items[i]);
        items[i].databasename = (char *)(uintptr_t)database_name(l.items[i]);
    }
    reply.n_databases = l.count;
    request_reply_message(rq, &reply.base);
}

/* One database of the list; false: answered. */
static bool info_of(struct request *rq, struct database *db, Immudb__Schema__DatabaseInfo *info)
{
    struct database_settings s;
    struct database_counts counts;

    immudb__schema__database_info__init(info);
    database_settings_get(db, &s);
    if (database_counts_get(db, &counts, &rq->err) != ST_OK) /* damaged, or deleted just now: it is listed all the same */
        counts = (struct database_counts){0};
    info->name = (char *)(uintptr_t)database_name(db);
    info->settings = settings_message(&s, rq->arena);
    info->loaded = counts.is_loaded;
    info->disksize = counts.disk_bytes;
    info->numtransactions = counts.txs;
    info->created_at = s.created_at.unix_s > 0 ? (uint64_t)s.created_at.unix_s : 0;
    info->created_by = arena_str(rq->arena, bytes_str(s.created_by));
    if (info->settings != NULL && info->created_by != NULL)
        return true;
    request_fail_nomem(rq);
    return false;
}

void handle_database_list_v2(struct request *rq)
{
    Immudb__Schema__DatabaseListResponseV2 reply = IMMUDB__SCHEMA__DATABASE_LIST_RESPONSE_V2__INIT;
    Immudb__Schema__DatabaseInfo *items;
    struct listing l;
    size_t i;

    if (!list(rq, &l) || !items_make(rq, l.count, sizeof *items, &items, &reply.databases))
        return;
    for (i = 0; i < l.count; i++)
        if (!info_of(rq, l.items[i], &items[i]))
            return;
    reply.n_databases = l.count;
    request_reply_message(rq, &reply.base);
}

/* --- load, unload, delete, truncate --- */

/* LoadDatabaseResponse, UnloadDatabaseResponse, DeleteDatabaseResponse, TruncateDatabaseResponse: 1 database */
static void reply_name(struct request *rq, enum status st, const char *name)
{
    struct bytes message;
    struct pb w;

    pb_init(&w, rq->arena, DATABASE_NAME_LEN_MAX + 8);
    pb_bytes(&w, 1, bytes_str(name));
    if (st != ST_OK || (st = pb_take(&w, &message, &rq->err)) != ST_OK)
        request_fail_err(rq, st, &rq->err);
    else
        request_reply(rq, message);
}

static void administer(struct request *rq, const char *name, enum status (*action)(struct database *db, struct err *err))
{
    struct database *db = administered(rq, name);

    if (db != NULL)
        reply_name(rq, action(db, &rq->err), name);
}

void handle_load_database(struct request *rq) { administer(rq, ((const Immudb__Schema__LoadDatabaseRequest *)rq->message)->database, database_load); }

void handle_unload_database(struct request *rq)
{
    administer(rq, ((const Immudb__Schema__UnloadDatabaseRequest *)rq->message)->database, database_unload);
}

void handle_delete_database(struct request *rq)
{
    const Immudb__Schema__DeleteDatabaseRequest *m = rq->message;
    struct database *db = administered(rq, m->database);
    enum status st;

    if (db == NULL)
        return;
    if ((st = database_delete(db, &rq->err)) == ST_OK)
        LOG_INFO_AT(rq->server->logger, "database '%s' successfully deleted by %s", database_name(db), rq->user);
    reply_name(rq, st, m->database);
}

static bool is_given_up(void *ctx)
{
    const struct request *rq = ctx;

    return rpc_is_cancelled(rq->call) || atomic_load_explicit(&rq->server->readiness, memory_order_relaxed) == SERVER_STOPPING;
}

void handle_truncate_database(struct request *rq)
{
    const Immudb__Schema__TruncateDatabaseRequest *m = rq->message;
    struct database *db = administered(rq, m->database);
    struct truncation_result result;
    enum status st;

    if (db == NULL)
        return;
    if (m->retentionperiod < 0 || (m->retentionperiod > 0 && m->retentionperiod < RETENTION_LEAST_MS)) {
        request_fail(
            rq, RPC_INVALID_ARGUMENT,
            "rpc error: code = InvalidArgument desc = illegal arguments: invalid retention period for database '%s'. RetentionPeriod should at "
            "least '24h0m0s' hours",
            m->database);
        return;
    }
    if ((st = database_pin(db, true, &rq->err)) == ST_OK) {
        st = database_truncate(db, m->retentionperiod, 0, is_given_up, rq, &result, &rq->err);
        databases_unpin(db);
    }
    reply_name(rq, st, m->database);
}

/* --- settings --- */

/* False: answered. *s: the new settings. */
static bool update(struct request *rq, const char *name, const Immudb__Schema__DatabaseNullableSettings *given, struct database_settings *s)
{
    struct database *db = administered(rq, name);
    enum status st;

    if (db == NULL)
        return false;
    if (!database_exists(db)) {
        request_fail(rq, RPC_UNKNOWN, "database does not exist");
        return false;
    }
    if (given == NULL) {
        request_fail(rq, RPC_INVALID_ARGUMENT, "illegal arguments");
        return false;
    }
    database_settings_get(db, s);
    if ((st = settings_apply(given, true, s, &rq->err)) != ST_OK || (st = settings_validate(s, &rq->err)) != ST_OK) {
        fail_settings(rq, st);
        return false;
    }
    snprintf(s->updated_by, sizeof s->updated_by, "%s", rq->user);
    s->updated_at = record_time_of(rq->now_ns);
    if ((st = database_update(db, s, &rq->err)) != ST_OK)
        request_fail_err(rq, st, &rq->err);
    return st == ST_OK;
}

void handle_update_database(struct request *rq)
{
    const Immudb__Schema__DatabaseSettings *m = rq->message;
    Immudb__Schema__DatabaseNullableSettings *given = settings_from_old(m, rq->arena);
    struct database_settings s;

    if (given == NULL)
        request_fail_nomem(rq);
    else if (update(rq, m->databasename, given, &s))
        request_reply_empty(rq);
}

void handle_update_database_v2(struct request *rq)
{
    Immudb__Schema__UpdateDatabaseResponse reply = IMMUDB__SCHEMA__UPDATE_DATABASE_RESPONSE__INIT;
    const Immudb__Schema__UpdateDatabaseRequest *m = rq->message;
    struct database_settings s;

    if (!update(rq, m->database, m->settings, &s))
        return;
    reply.database = m->database;
    if ((reply.settings = settings_message(&s, rq->arena)) == NULL)
        request_fail_nomem(rq);
    else
        request_reply_message(rq, &reply.base);
}

void handle_get_database_settings(struct request *rq)
{
    Immudb__Schema__DatabaseSettings reply = IMMUDB__SCHEMA__DATABASE_SETTINGS__INIT;
    struct database_settings s;

    database_settings_get(rq->db, &s);
    reply.databasename = s.database;
    reply.replica = s.replica;
    reply.primarydatabase = s.primary_database;
    reply.primaryhost = s.primary_host;
    reply.primaryport = (uint32_t)s.primary_port;
    reply.primaryusername = s.primary_username;
    reply.primarypassword = s.primary_password;
    reply.filesize = (uint32_t)s.file_size;
    reply.maxkeylen = (uint32_t)s.max_key_len;
    reply.maxvaluelen = (uint32_t)s.max_value_len;
    reply.maxtxentries = (uint32_t)s.max_tx_entries;
    reply.excludecommittime = s.exclude_commit_time;
    request_reply_message(rq, &reply.base);
}

void handle_get_database_settings_v2(struct request *rq)
{
    Immudb__Schema__DatabaseSettingsResponse reply = IMMUDB__SCHEMA__DATABASE_SETTINGS_RESPONSE__INIT;
    struct database_settings s;

    database_settings_get(rq->db, &s);
    reply.database = s.database;
    if ((reply.settings = settings_message(&s, rq->arena)) == NULL)
        request_fail_nomem(rq);
    else
        request_reply_message(rq, &reply.base);
}
