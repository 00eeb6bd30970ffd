/* Databases that lost their data, and the question whether one may be made: see folders.h for what tells the two apart. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "auth/systemdb.h"
#include "config/config.h"
#include "config/logger.h"
#include "databases/databases_internal.h"

static struct vfs *vfs_of(const struct databases *d) { return d->options.runtime->vfs; }

/* --- texts --- */

enum status lost_error(struct database *db, struct err *err)
{
    struct databases *d = db->owner;
    const struct err found = *err;
    bool is_known, is_folder = folder_exists(vfs_of(d), d->dir, db->name);
    char counted[96] = "";
    uint64_t txs = 0;

    if ((is_known = counts_last_known(db, &txs)) && txs > 0)
        snprintf(counted, sizeof counted, "txs 1..%" PRIu64 " at least were acknowledged (known from databases.counts); ", txs);
    if (found.status == ST_CORRUPT)
        return err_set(err, ST_CORRUPT, 0, "database is damaged: %s%s", counted, found.text);
    return err_set(err, ST_CORRUPT, 0, "database is damaged: %s%s%s %s/%s%s", counted,
                   is_known ? "" : "how many txs were acknowledged is not known; ", is_folder ? "folder" : "there is no folder", d->dir, db->name,
                   is_folder ? " holds no log" : "");
}

/* --- systemdb and defaultdb --- */

/* What is left of it makes room for a new one, but is kept. */
static enum status systemdb_put_aside(struct databases *d, struct err *err)
{
    char path[PATH_BYTES_MAX], aside[PATH_BYTES_MAX];
    struct vfs *vfs = vfs_of(d);
    enum status st;

    if (folder_is_free(vfs, d->dir, "systemdb"))
        return ST_OK;
    if (folder_exists(vfs, d->dir, LOST_SYSTEMDB))
        return err_set(err, ST_EXISTS, 0, "what is left of systemdb cannot be put aside: %s/" LOST_SYSTEMDB " exists", d->dir);
    if ((st = database_path(d, "", "systemdb", path, err)) != ST_OK || (st = database_path(d, "", LOST_SYSTEMDB, aside, err)) != ST_OK ||
        (st = vfs->ops->rename(vfs, path, aside, err)) != ST_OK)
        return st;
    return vfs->ops->sync_dir(vfs, d->dir, err);
}

enum status systemdb_may_be_made(struct databases *d, bool *create, bool *is_forced, struct err *err)
{
    const struct config *c = d->options.config;
    struct vfs *vfs = vfs_of(d);
    enum status st;

    *create = *is_forced = false;
    if (folder_has_log(vfs, d->dir, "systemdb"))
        return ST_OK;
    *create = folder_is_marked(vfs, d->dir, "systemdb");
    if (*create || (st = data_folder_is_new(vfs, d->dir, create, err)) != ST_OK || *create)
        return *create ? ST_OK : st;
    if (!c->force_admin_password || c->replication_is_replica)
        return err_set(err, ST_CORRUPT, 0,
                       "systemdb is lost: %s is no new data folder, but systemdb/log is missing or empty. Put it back, or start once with "
                       "--force-admin-password and a new --admin-password: other users are lost then",
                       d->dir);
    LOG_WARN_AT(d->options.logger,
                "systemdb is lost and made anew because of --force-admin-password: users, permissions and settings of databases are gone");
    if ((st = systemdb_put_aside(d, err)) != ST_OK || (st = folder_mark(vfs, d->dir, "systemdb", err)) != ST_OK)
        return st;
    *create = *is_forced = true;
    return ST_OK;
}

/* At the first start: nobody was let in before systemdb had its first transaction. Later only when it is known that nothing was in it. (As with any
 * database a mark allows it as well.) */
bool defaultdb_may_be_made(struct databases *d, bool systemdb_is_new, bool systemdb_is_forced)
{
    struct store_health health;
    struct store_state state;
    uint64_t txs = 0;

    if (folder_has_log(vfs_of(d), d->dir, "defaultdb"))
        return false;
    if (counts_last_known(d->defaultdb, &txs) && txs == 0 && !folder_exists(vfs_of(d), d->dir, "defaultdb")) {
        LOG_WARN_AT(d->options.logger, "the folder of defaultdb is missing: it was empty and is made again");
        return true;
    }
    if (systemdb_is_forced)
        return false;
    store_health(d->systemdb->store, &health);
    store_get_state(d->systemdb->store, &state);
    return systemdb_is_new || (state.visible_tx_id == 0 && health.kind != STORE_READ_ONLY_DAMAGED && !d->options.config->replication_is_replica);
}

/* --- the others --- */

struct records {
    struct databases *d;
    void (*visit)(struct databases *d, const char *name);
};

/* Names of live records that may be databases' names and are not the permanent ones'. */
static enum status record_visit(void *ctx, struct bytes key, struct bytes value, uint64_t tx_id, struct err *err)
{
    struct records *r = ctx;
    char name[DATABASE_NAME_LEN_MAX + 1];

    (void)value;
    (void)tx_id;
    (void)err;
    if (key.len < 2 || key.len > sizeof name || memchr(key.data, '\0', key.len) != NULL)
        return ST_OK;
    memcpy(name, key.data + 1, key.len - 1);
    name[key.len - 1] = '\0';
    if (!database_name_is_reserved(name) && database_name_check(bytes_str(name), NULL) == ST_OK)
        r->visit(r->d, name);
    return ST_OK;
}

static enum status records_each(struct databases *d, void (*visit)(struct databases *d, const char *name), struct err *err)
{
    static const uint8_t prefix = SETTINGS_PREFIX;
    struct records r = {d, visit};

    return systemdb_scan(d->systemdb->store, bytes_of(&prefix, 1), record_visit, &r, err);
}

static void lost_add(struct databases *d, const char *name)
{
    struct database_settings s;
    struct database *db;
    struct err err;
    enum status st;

    if (databases_find(d, bytes_str(name)) != NULL || absence_is_noted(vfs_of(d), d->dir, name))
        return;
    if ((st = settings_record_get(d, name, &s, &err)) != ST_OK)
        settings_defaults(&s, name);
    if ((st = database_add(d, &s, false, &db, &err)) != ST_OK) {
        LOG_ERROR_AT(d->options.logger, "database '%s' is lost, and not listed: %s", name, err.text);
        return;
    }
    if (!settings_autoload(&s))
        atomic_store_explicit(&db->state, DATABASE_UNLOADED, memory_order_seq_cst);
}

enum status lost_databases_add(struct databases *d, struct err *err)
{
    return database_is_replica(d->systemdb) ? ST_OK : records_each(d, lost_add, err);
}

static void absence_check(struct databases *d, const char *name)
{
    bool is_here = !folder_is_free(vfs_of(d), d->dir, name) || folder_is_marked(vfs_of(d), d->dir, name);
    struct err err;

    if (is_here != absence_is_noted(vfs_of(d), d->dir, name))
        return;
    if ((is_here ? absence_forget(vfs_of(d), d->dir, name, &err) : absence_note(vfs_of(d), d->dir, name, &err)) != ST_OK)
        LOG_WARN_AT(d->options.logger, "database '%s' will show as lost: %s", name, err.text);
}

void absences_note(struct databases *d)
{
    struct err err;

    if (d->systemdb == NULL || d->systemdb->store == NULL)
        return;
    if (records_each(d, absence_check, &err) != ST_OK)
        LOG_WARN_AT(d->options.logger, "databases that were not imported will show as lost: %s", err.text);
}
