/* Making, changing, loading, unloading and deleting databases, and reading which ones there are at start.
 *
 * Making: the folder is made with a mark in it, then the record in systemdb, then the database, then the mark goes (folders.h). What fails is undone in
 * the way of a deletion; where not even that succeeds, for lack of space maybe, the mark stays: the name is free until the next start, which finishes the
 * creation.
 * Deleting: the folder is renamed to .deleted-NAME, the deletion mark is committed in systemdb, then the folder goes. After a crash in between the
 * scan finds .deleted-NAME: with a live record the folder gets its name back (nothing was acknowledged), without one it is removed. */
#include "databases/databases_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "auth/systemdb.h"
#include "config/config.h"
#include "config/logger.h"

static const uint64_t UNLOAD_PATIENCE_NS = 10ull * 1000000000;

static struct vfs *vfs_of(const struct databases *d) { return d->options.runtime->vfs; }

/* --- settings --- */

static enum status replica_error(struct err *err) { return err_set(err, ST_READ_ONLY, 0, "database is read-only because it's a replica"); }

static size_t record_key(const char *name, uint8_t out[DATABASE_NAME_LEN_MAX + 1])
{
    size_t len = strlen(name);

    assert(len <= DATABASE_NAME_LEN_MAX);
    out[0] = SETTINGS_PREFIX;
    memcpy(out + 1, name, len);
    return len + 1;
}

/* The settings of a name: defaults with its record over them. ST_NOT_FOUND without a record. */
enum status settings_record_get(struct databases *d, const char *name, struct database_settings *out, struct err *err)
{
    uint8_t key[DATABASE_NAME_LEN_MAX + 1];
    struct arena arena;
    struct bytes json;
    uint64_t tx_id;
    enum status st;

    settings_defaults(out, name);
    arena_init(&arena, 4096, 0);
    if ((st = systemdb_get(d->systemdb->store, bytes_of(key, record_key(name, key)), &arena, &json, &tx_id, err)) == ST_OK)
        st = settings_decode(json, out, err);
    arena_free(&arena);
    return st;
}

enum status settings_record_put(struct databases *d, const struct database_settings *s, struct err *err)
{
    uint8_t key[DATABASE_NAME_LEN_MAX + 1];
    struct json_text json = {0};
    enum status st;

    if (database_is_replica(d->systemdb))
        return replica_error(err);
    if ((st = settings_encode(s, &json, err)) == ST_OK)
        st = systemdb_put(d->systemdb->store, bytes_of(key, record_key(s->database, key)), bytes_of(json.text, json.len), bytes_of(NULL, 0), err);
    json_text_free(&json);
    return st;
}

void database_settings_get(struct database *db, struct database_settings *out)
{
    pthread_mutex_lock(&db->settings_lock);
    *out = db->settings;
    pthread_mutex_unlock(&db->settings_lock);
    if (database_is_permanent(db) || record_time_is_never(&out->created_at)) /* older records do not know */
        out->created_at = record_time_of(env_wall_ns(db->owner->options.env));
}

static void settings_install(struct database *db, const struct database_settings *s)
{
    pthread_mutex_lock(&db->settings_lock);
    db->settings = *s;
    pthread_mutex_unlock(&db->settings_lock);
    atomic_store_explicit(&db->is_replica, s->replica, memory_order_relaxed);
    atomic_store_explicit(&db->has_retention, s->retention_period_ms > 0, memory_order_relaxed);
}

/* --- administration --- */

/* The folder of a creation that failed; it is marked, or empty. has_record: its record may be in systemdb. */
static void creation_undo(struct databases *d, const char *name, bool has_record)
{
    uint8_t key[DATABASE_NAME_LEN_MAX + 1];
    char path[PATH_BYTES_MAX], grave[PATH_BYTES_MAX];
    struct vfs *vfs = vfs_of(d);
    struct err err;
    enum status st;

    if ((st = database_path(d, "", name, path, &err)) != ST_OK || (st = database_path(d, DELETED_PREFIX, name, grave, &err)) != ST_OK ||
        ((st = vfs_remove_tree(vfs, grave, &err)) != ST_OK && st != ST_NOT_FOUND) || /* of an earlier one */
        (st = vfs->ops->rename(vfs, path, grave, &err)) != ST_OK || (st = vfs->ops->sync_dir(vfs, d->dir, &err)) != ST_OK)
        goto done;
    if (has_record && (st = systemdb_delete(d->systemdb->store, bytes_of(key, record_key(name, key)), &err)) != ST_OK) {
        (void)vfs->ops->rename(vfs, grave, path, NULL); /* else the next start does it */
        goto done;
    }
    if ((st = vfs_remove_tree(vfs, grave, &err)) == ST_OK)
        st = vfs->ops->sync_dir(vfs, d->dir, &err);
done:
    if (st != ST_OK && st != ST_NOT_FOUND)
        LOG_WARN_AT(d->options.logger, "database '%s': what is left of its creation, which failed, stays until the next one or the next start: %s",
                    name, err.text);
}

/* Under change, the folder marked. It is listed last: nobody sees what may have to be undone. */
static enum status create_marked(struct databases *d, const struct database_settings *settings, struct database **out, struct err *err)
{
    bool has_record = false;
    struct database *db = NULL;
    enum status st;

    if (databases_count(d) >= DATABASES_MAX) {
        st = err_set(err, ST_LIMIT, 0, "at most %d databases", DATABASES_MAX);
        goto done;
    }
    if ((st = database_make(d, settings, false, &db, err)) != ST_OK)
        goto done;
    has_record = true; /* or not: a write that failed may have got there */
    if ((st = settings_record_put(d, settings, err)) != ST_OK)
        goto done;
    pthread_mutex_lock(&db->latch);
    if ((st = absence_forget(vfs_of(d), d->dir, db->name, err)) == ST_OK && (st = database_open_store(db, true, err)) == ST_OK &&
        (st = database_list(db, err)) != ST_OK) {
        enum status closed = database_close_store(db, DATABASE_CLOSED, UINT64_MAX, NULL);

        assert(closed == ST_OK);
    }
    pthread_mutex_unlock(&db->latch);
    if (st != ST_OK)
        goto done;
    *out = db;
    db = NULL;
done:
    database_free(db);
    if (st != ST_OK)
        creation_undo(d, settings->database, has_record);
    return st;
}

enum status databases_create(struct databases *d, const struct database_settings *settings, struct database **out, struct err *err)
{
    const char *name = settings->database;
    enum status st;

    *out = NULL;
    pthread_mutex_lock(&d->change);
    if (databases_find(d, bytes_str(name)) != NULL)
        st = err_set(err, ST_EXISTS, 0, "database already exists");
    else if (database_is_replica(d->systemdb))
        st = replica_error(err);
    else if (!folder_is_marked(vfs_of(d), d->dir, name) && !folder_is_free(vfs_of(d), d->dir, name))
        st = err_set(err, ST_EXISTS, 0, "database already exists: the folder '%s' in the data folder holds files", name);
    else if ((st = folder_mark(vfs_of(d), d->dir, name, err)) != ST_OK)
        creation_undo(d, name, false);
    else
        st = create_marked(d, settings, out, err);
    if (st == ST_OK)
        databases_set_multiple(d);
    pthread_mutex_unlock(&d->change);
    if (st == ST_OK)
        databases_tidy(d, atomic_load_explicit(&d->now_s, memory_order_relaxed));
    return st;
}

enum status databases_adopt(struct databases *d, const char *name, struct database **out, struct err *err)
{
    struct database *db = databases_find(d, bytes_str(name));
    struct database_settings settings;
    enum status st = ST_OK;

    *out = NULL;
    if (db == NULL) {
        if ((st = database_name_check(bytes_str(name), err)) != ST_OK)
            return st;
        if ((st = settings_record_get(d, name, &settings, err)) != ST_OK && st != ST_NOT_FOUND)
            return st;
        settings.sync_replication = false;
        if ((st = database_add(d, &settings, false, &db, err)) != ST_OK)
            return st;
    }
    d->was_adopting = true;
    pthread_mutex_lock(&db->latch);
    if (atomic_load_explicit(&db->state, memory_order_seq_cst) == DATABASE_CLOSED) {
        bool is_new = !database_is_permanent(db) && folder_is_free(vfs_of(d), d->dir, name);

        if (!is_new || (st = folder_mark(vfs_of(d), d->dir, name, err)) == ST_OK)
            st = database_open_store(db, false, err);
    }
    if (st == ST_OK)
        st = database_pin(db, false, err);
    pthread_mutex_unlock(&db->latch);
    if (st != ST_OK)
        return st;
    databases_tidy(d, atomic_load_explicit(&d->now_s, memory_order_relaxed));
    *out = db;
    return ST_OK;
}

enum status database_update(struct database *db, const struct database_settings *changed, struct err *err)
{
    struct databases *d = db->owner;
    enum status st;

    pthread_mutex_lock(&d->change);
    if (!database_exists(db))
        st = err_set(err, ST_NOT_FOUND, 0, "database does not exist");
    else if ((st = settings_record_put(d, changed, err)) == ST_OK)
        settings_install(db, changed);
    pthread_mutex_unlock(&d->change);
    return st;
}

enum status database_load(struct database *db, struct err *err)
{
    enum status st = ST_OK;

    pthread_mutex_lock(&db->latch);
    if (!database_exists(db)) {
        st = err_set(err, ST_NOT_FOUND, 0, "database does not exist: while opening database '%s'", db->name);
    } else if (database_is_loaded(db)) {
        st = err_set(err, ST_EXISTS, 0, "database already loaded");
    } else if ((st = database_open_store(db, false, err)) != ST_OK) {
        err_while(err, st, "opening database '%s'", db->name);
    }
    pthread_mutex_unlock(&db->latch);
    if (st == ST_OK)
        databases_tidy(db->owner, atomic_load_explicit(&db->owner->now_s, memory_order_relaxed));
    return st;
}

enum status database_unload(struct database *db, struct err *err)
{
    enum status st = ST_OK;

    pthread_mutex_lock(&db->latch);
    switch (atomic_load_explicit(&db->state, memory_order_seq_cst)) {
    case DATABASE_DELETED:
        st = err_set(err, ST_NOT_FOUND, 0, "database does not exist");
        break;
    case DATABASE_UNLOADED:
        st = err_set(err, ST_CLOSED, 0, "already closed");
        break;
    case DATABASE_OPEN:
        st = database_close_store(db, DATABASE_UNLOADED, UNLOAD_PATIENCE_NS, err);
        break;
    default:
        atomic_store_explicit(&db->state, DATABASE_UNLOADED, memory_order_seq_cst);
        break;
    }
    pthread_mutex_unlock(&db->latch);
    return st;
}

/* Under change and latch, unloaded. */
static enum status delete_unloaded(struct databases *d, struct database *db, struct err *err)
{
    uint8_t key[DATABASE_NAME_LEN_MAX + 1];
    char path[PATH_BYTES_MAX], grave[PATH_BYTES_MAX];
    struct vfs *vfs = vfs_of(d);
    struct err cleanup;
    enum status st, back;

    if (database_is_replica(d->systemdb))
        return replica_error(err);
    if ((st = database_path(d, "", db->name, path, err)) != ST_OK || (st = database_path(d, DELETED_PREFIX, db->name, grave, err)) != ST_OK)
        return st;
    if ((st = vfs_remove_tree(vfs, grave, err)) != ST_OK && st != ST_NOT_FOUND) /* of a creation that failed */
        return st;
    /* One that lost its folder can be deleted all the same. */
    if (((st = vfs->ops->rename(vfs, path, grave, err)) != ST_OK && st != ST_NOT_FOUND) || (st = vfs->ops->sync_dir(vfs, d->dir, err)) != ST_OK)
        return st;
    if ((st = systemdb_delete(d->systemdb->store, bytes_of(key, record_key(db->name, key)), err)) != ST_OK) {
        if ((back = vfs->ops->rename(vfs, grave, path, &cleanup)) != ST_OK && back != ST_NOT_FOUND)
            LOG_ERROR_AT(d->options.logger, "database '%s': its folder stays %s until the next start: %s", db->name, grave, cleanup.text);
        return st;
    }
    atomic_store_explicit(&db->state, DATABASE_DELETED, memory_order_seq_cst);
    if (((back = vfs_remove_tree(vfs, grave, &cleanup)) != ST_OK && back != ST_NOT_FOUND) || vfs->ops->sync_dir(vfs, d->dir, &cleanup) != ST_OK)
        LOG_WARN_AT(d->options.logger, "database '%s' is deleted, its folder is removed at the next start: %s", db->name, cleanup.text);
    return ST_OK;
}

enum status database_delete(struct database *db, struct err *err)
{
    struct databases *d = db->owner;
    enum status st;

    pthread_mutex_lock(&d->change);
    pthread_mutex_lock(&db->latch);
    if (!database_exists(db))
        st = err_set(err, ST_NOT_FOUND, 0, "tbtree: key not found");
    else if (database_is_loaded(db))
        st = err_set(err, ST_BUSY, 0, "cannot delete an open database");
    else
        st = delete_unloaded(d, db, err);
    pthread_mutex_unlock(&db->latch);
    pthread_mutex_unlock(&d->change);
    return st;
}

/* --- which databases there are --- */

static int name_order(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* A deletion that a crash interrupted. */
static enum status finish_deletion(struct databases *d, const char *name, struct err *err)
{
    char path[PATH_BYTES_MAX], grave[PATH_BYTES_MAX];
    struct database_settings s;
    enum status st;

    if (strlen(name) > DATABASE_NAME_LEN_MAX || database_name_check(bytes_str(name), err) != ST_OK)
        return ST_OK;
    if ((st = database_path(d, "", name, path, err)) != ST_OK || (st = database_path(d, DELETED_PREFIX, name, grave, err)) != ST_OK)
        return st;
    st = settings_record_get(d, name, &s, err);
    if (st == ST_NOT_FOUND || folder_exists(vfs_of(d), d->dir, name)) {
        LOG_INFO_AT(d->options.logger, "database '%s' was deleted, removing its folder", name);
        st = vfs_remove_tree(vfs_of(d), grave, err);
    } else {
        LOG_WARN_AT(d->options.logger, "database '%s': a deletion was not finished, the database is kept", name);
        st = vfs_of(d)->ops->rename(vfs_of(d), grave, path, err);
    }
    return st == ST_OK ? vfs_of(d)->ops->sync_dir(vfs_of(d), d->dir, err) : st;
}

/* Does the folder hold a database? */
bool is_database_folder(struct databases *d, const char *name) { return folder_has_log(vfs_of(d), d->dir, name); }

/* A folder without a log. */
static enum status folder_without_log(struct databases *d, const char *name, struct err *err)
{
    bool is_marked = folder_is_marked(vfs_of(d), d->dir, name);
    struct database_settings s;
    char path[PATH_BYTES_MAX];
    enum status st;

    if (strlen(name) <= DATABASE_NAME_LEN_MAX && database_name_check(bytes_str(name), NULL) == ST_OK) {
        if ((st = settings_record_get(d, name, &s, err)) != ST_NOT_FOUND)
            return st == ST_INVALID || st == ST_CORRUPT ? ST_OK : st; /* lost_databases_add() takes it */
        if (is_marked && folder_is_free(vfs_of(d), d->dir, name)) {
            LOG_INFO_AT(d->options.logger, "database '%s': its creation was cut off before it was acknowledged, its folder is removed", name);
            if ((st = database_path(d, "", name, path, err)) == ST_OK && (st = vfs_remove_tree(vfs_of(d), path, err)) == ST_OK)
                st = vfs_of(d)->ops->sync_dir(vfs_of(d), d->dir, err);
            return st;
        }
    }
    if (folder_has_trace(vfs_of(d), d->dir, name))
        LOG_ERROR_AT(d->options.logger, "folder '%s' in the data folder is that of a database, but holds no log: it is left alone", name);
    else
        LOG_WARN_AT(d->options.logger, "folder '%s' in the data folder holds no database: it is left alone", name);
    return ST_OK;
}

static enum status folder_add(struct databases *d, const char *name, struct err *err)
{
    struct database_settings s;
    struct database *db;
    enum status st;

    if (database_name_is_reserved(name) || name[0] == '.' || databases_find(d, bytes_str(name)) != NULL ||
        (strcmp(name, d->options.config->logdir) == 0 && !is_database_folder(d, name)))
        return ST_OK;
    if (strlen(name) > DATABASE_NAME_LEN_MAX || database_name_check(bytes_str(name), NULL) != ST_OK || !is_database_folder(d, name))
        return folder_without_log(d, name, err);
    if (database_is_replica(d->systemdb))
        return ST_OK; /* systemdb follows a primary: only the two permanent databases are loaded */
    if ((st = settings_record_get(d, name, &s, err)) == ST_NOT_FOUND) {
        s.created_at = record_time_of(env_wall_ns(d->options.env));
        if ((st = settings_record_put(d, &s, err)) != ST_OK)
            return st;
    } else if (st == ST_INVALID || st == ST_CORRUPT) {
        /* One bad record must not stop the others. */
        LOG_ERROR_AT(d->options.logger, "database '%s' is not loaded: %s", name, err->text);
        settings_defaults(&s, name);
        s.autoload = AUTOLOAD_OFF;
    } else if (st != ST_OK) {
        return st;
    }
    if ((st = database_add(d, &s, false, &db, err)) != ST_OK)
        return st;
    if (!settings_autoload(&s))
        atomic_store_explicit(&db->state, DATABASE_UNLOADED, memory_order_seq_cst);
    return ST_OK;
}

/* Those without a log are named at the start, not only when somebody asks for them. */
static void lost_tell_all(struct databases *d)
{
    size_t count = databases_count(d);
    struct err err;

    for (size_t i = 1; i < count; i++) {
        struct database *db = databases_by_number(d, (int64_t)i);

        if (folder_has_log(vfs_of(d), d->dir, db->name) || folder_is_marked(vfs_of(d), d->dir, db->name))
            continue;
        pthread_mutex_lock(&db->latch);
        if (atomic_load(&db->state) == DATABASE_CLOSED) {
            (void)!database_open_store(db, false, &err); /* says why it cannot */
        } else {
            (void)err_set(&err, ST_NOT_FOUND, 0, "there is no log");
            (void)lost_error(db, &err);
            LOG_ERROR_AT(d->options.logger, "%s", err.text);
        }
        pthread_mutex_unlock(&db->latch);
    }
}

enum status databases_scan(struct databases *d, struct err *err)
{
    struct folders f;
    enum status st;
    size_t i;

    if ((st = folders_list(vfs_of(d), d->dir, &f, err)) != ST_OK)
        return st;
    for (i = 0; i < f.count && st == ST_OK; i++) {
        if (strncmp(f.names[i], DELETED_PREFIX, strlen(DELETED_PREFIX)) == 0) {
            st = finish_deletion(d, f.names[i] + strlen(DELETED_PREFIX), err);
            if (st == ST_OK && folder_exists(vfs_of(d), d->dir, f.names[i] + strlen(DELETED_PREFIX))) /* it got its name back */
                memmove(f.names[i], f.names[i] + strlen(DELETED_PREFIX), strlen(f.names[i]) - strlen(DELETED_PREFIX) + 1);
        }
    }
    if (f.count > 0)
        qsort(f.names, f.count, sizeof *f.names, name_order);
    for (i = 0; i < f.count && st == ST_OK; i++)
        st = folder_add(d, f.names[i], err);
    if (st == ST_OK && (st = lost_databases_add(d, err)) == ST_OK) {
        if (databases_count(d) > 1)
            databases_set_multiple(d);
        databases_counts_load(d);
        d->was_scanned = true;
        lost_tell_all(d);
    }
    folders_free(&f);
    return st;
}
