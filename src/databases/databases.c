/* Finding, pinning, opening and closing databases; see databases.h. Administration: database_admin.c. */
#include "databases/databases_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/config.h"
#include "config/logger.h"

static const uint64_t PATIENCE_FOREVER = UINT64_MAX, TELL_AGAIN_NS = 60ull * 1000000000;
enum { SYSTEMDB_MEMTABLE_BYTES = 1 << 20 };

struct store *database_store(struct database *db) { return db->store; }
const char *database_name(const struct database *db) { return db->name; }
bool database_is_systemdb(const struct database *db) { return db->number == DATABASE_NUMBER_SYSTEMDB; }
int64_t database_number(const struct database *db) { return db->number; }
bool database_is_permanent(const struct database *db) { return database_is_systemdb(db) || db->number == 0; }

static struct database *mutable(const struct database *db) { return (struct database *)(uintptr_t)db; }
static int state_of(const struct database *db) { return atomic_load_explicit(&mutable(db)->state, memory_order_seq_cst); }

bool database_exists(const struct database *db) { return state_of(db) != DATABASE_DELETED; }
bool database_is_loaded(const struct database *db) { return state_of(db) != DATABASE_DELETED && state_of(db) != DATABASE_UNLOADED; }
bool database_is_replica(const struct database *db) { return atomic_load_explicit(&mutable(db)->is_replica, memory_order_relaxed); }
struct store *databases_systemdb(struct databases *d) { return d->systemdb->store; }

bool databases_is_single(struct databases *d) { return !atomic_load_explicit(&d->is_multiple, memory_order_relaxed); }
void databases_set_multiple(struct databases *d) { atomic_store_explicit(&d->is_multiple, true, memory_order_relaxed); }
size_t databases_count(struct databases *d) { return atomic_load_explicit(&d->count, memory_order_acquire); }
size_t databases_open_count(struct databases *d)
{
    return atomic_load_explicit(&d->open_count, memory_order_relaxed) + 1 + (state_of(d->defaultdb) == DATABASE_OPEN ? 1 : 0);
}

int64_t database_last_request_ms(const struct database *db) { return atomic_load_explicit(&mutable(db)->last_request_ms, memory_order_relaxed); }
static void touch(struct database *db)
{
    uint64_t now = atomic_load_explicit(&db->owner->now_s, memory_order_relaxed);

    if (atomic_load_explicit(&db->last_used_s, memory_order_relaxed) != now)
        atomic_store_explicit(&db->last_used_s, now, memory_order_relaxed);
}

void database_note_request(struct database *db)
{
    atomic_store_explicit(&db->last_request_ms, env_wall_ns(db->owner->options.env) / 1000000, memory_order_relaxed);
    touch(db);
}

void database_write_begin(struct database *db) { atomic_fetch_add_explicit(&db->writes, 1, memory_order_relaxed); }
void database_write_end(struct database *db) { atomic_fetch_sub_explicit(&db->writes, 1, memory_order_relaxed); }
uint32_t database_pending(const struct database *db) { return atomic_load_explicit(&mutable(db)->writes, memory_order_relaxed); }

bool database_compact_begin(struct database *db) { return !atomic_exchange_explicit(&db->is_compacting, true, memory_order_acquire); }
void database_compact_end(struct database *db) { atomic_store_explicit(&db->is_compacting, false, memory_order_release); }

/* --- the list --- */

static size_t bucket_of(struct bytes name) { return (size_t)hash64(0, name.data, name.len) % DATABASE_BUCKETS; }

struct database *databases_find(struct databases *d, struct bytes name)
{
    struct database *db;

    if (name.len == 0 || name.len > DATABASE_NAME_LEN_MAX)
        return NULL;
    pthread_mutex_lock(&d->lock);
    for (db = d->buckets[bucket_of(name)]; db != NULL; db = db->next)
        if (bytes_equal(bytes_str(db->name), name))
            break;
    pthread_mutex_unlock(&d->lock);
    return db;
}

struct database *databases_by_number(struct databases *d, int64_t number)
{
    if (number == DATABASE_NUMBER_SYSTEMDB)
        return d->systemdb;
    if (number < 0 || (uint64_t)number >= databases_count(d))
        return NULL;
    return atomic_load_explicit(&d->by_number[number], memory_order_acquire);
}

void database_free(struct database *db)
{
    if (db == NULL)
        return;
    pthread_mutex_destroy(&db->latch);
    pthread_mutex_destroy(&db->settings_lock);
    free(db);
}

enum status database_make(struct databases *d, const struct database_settings *settings, bool is_systemdb, struct database **out, struct err *err)
{
    struct database *db = calloc(1, sizeof *db);

    *out = NULL;
    if (db == NULL || pthread_mutex_init(&db->latch, NULL) != 0 || pthread_mutex_init(&db->settings_lock, NULL) != 0) {
        free(db);
        return err_set(err, ST_NOMEM, 0, "adding database %s: out of memory", settings->database);
    }
    db->owner = d;
    db->settings = *settings;
    memcpy(db->name, settings->database, sizeof db->name);
    atomic_init(&db->is_replica, settings->replica);
    atomic_init(&db->has_retention, settings->retention_period_ms > 0);
    atomic_init(&db->state, DATABASE_CLOSED);
    atomic_init(&db->last_request_ms, RECORD_TIME_NEVER_S * INT64_C(1000));
    db->number = is_systemdb ? DATABASE_NUMBER_SYSTEMDB : (int64_t)databases_count(d);
    *out = db;
    return ST_OK;
}

enum status database_list(struct database *db, struct err *err)
{
    struct databases *d = db->owner;
    size_t bucket = bucket_of(bytes_str(db->name)), count;

    pthread_mutex_lock(&d->lock);
    if (!database_is_systemdb(db)) {
        count = databases_count(d);
        if (count >= DATABASES_MAX) {
            pthread_mutex_unlock(&d->lock);
            return err_set(err, ST_LIMIT, 0, "at most %d databases", DATABASES_MAX);
        }
        db->number = (int64_t)count;
        atomic_store_explicit(&d->by_number[count], db, memory_order_release);
        atomic_store_explicit(&d->count, count + 1, memory_order_release);
    }
    db->next = d->buckets[bucket];
    d->buckets[bucket] = db;
    pthread_mutex_unlock(&d->lock);
    return ST_OK;
}

enum status database_add(struct databases *d, const struct database_settings *settings, bool is_systemdb, struct database **out, struct err *err)
{
    enum status st = database_make(d, settings, is_systemdb, out, err);

    if (st == ST_OK && (st = database_list(*out, err)) != ST_OK) {
        database_free(*out);
        *out = NULL;
    }
    return st;
}

void databases_each(struct databases *d, bool (*visit)(void *ctx, struct database *db), void *ctx)
{
    size_t i, count = databases_count(d);

    for (i = 0; i < count; i++) {
        struct database *db = databases_by_number(d, (int64_t)i);

        if (database_exists(db) && !visit(ctx, db))
            return;
    }
    visit(ctx, d->systemdb);
}

/* --- opening and closing --- */

enum status database_path(const struct databases *d, const char *prefix, const char *name, char out[PATH_BYTES_MAX], struct err *err)
{
    return vfs_path(out, err, d->dir, "%s%s", prefix, name);
}

bool database_is_refused(struct database *db, char *text, size_t size)
{
    if (!atomic_load_explicit(&db->is_refused, memory_order_acquire))
        return false;
    pthread_mutex_lock(&db->settings_lock);
    snprintf(text, size, "%s", db->refused_why);
    pthread_mutex_unlock(&db->settings_lock);
    return true;
}

/* At each try, which may be at each call: the log gets a line now and then. */
static void refusal_tell(struct database *db, const struct err *why)
{
    struct databases *d = db->owner;
    uint64_t now_ns = env_mono_ns(d->options.env);

    pthread_mutex_lock(&db->settings_lock);
    snprintf(db->refused_why, sizeof db->refused_why, "%s", why->text);
    pthread_mutex_unlock(&db->settings_lock);
    atomic_store_explicit(&db->is_refused, true, memory_order_release);
    if (db->refused_ns != 0 && now_ns - db->refused_ns < TELL_AGAIN_NS)
        return;
    db->refused_ns = now_ns;
    LOG_ERROR_AT(d->options.logger, "database '%s' could not be opened: %s", db->name, why->text);
}

enum status database_open_store(struct database *db, bool create, struct err *err)
{
    struct databases *d = db->owner;
    struct vfs *vfs = d->options.runtime->vfs;
    bool is_marked = folder_is_marked(vfs, d->dir, db->name);
    const struct database_settings *s = &db->settings;
    struct store_options o = {.runtime = d->options.runtime, .create = create || is_marked};
    struct store_health health;
    char path[PATH_BYTES_MAX];
    enum status st;

    if ((st = database_path(d, "", db->name, path, err)) != ST_OK)
        return st;
    o.dir = path;
    o.durability = d->options.config->synced || database_is_systemdb(db) ? STORE_DURABLE : STORE_ASYNC;
    o.external_commit = s->sync_replication && !s->replica;
    o.tx_version = (uint32_t)s->write_tx_header_version;
    o.exclude_commit_time = s->exclude_commit_time;
    o.tx_entries_max = (uint32_t)s->max_tx_entries;
    o.key_len_max = (uint32_t)s->max_key_len;
    o.value_len_max = (uint32_t)s->max_value_len;
    o.read_set_max = (uint32_t)s->mvcc_read_set_limit;
    if (database_is_systemdb(db))
        o.memtable_bytes_max = SYSTEMDB_MEMTABLE_BYTES;
    if (db->refused_ns == 0)
        LOG_INFO_AT(d->options.logger, "%s database '%s' {replica = %s}...", create ? "creating" : "opening", db->name,
                    s->replica ? "true" : "false");
    if ((st = store_open(&o, &db->store, err)) == ST_OK && is_marked && (st = folder_unmark(vfs, d->dir, db->name, err)) != ST_OK) {
        store_close(db->store);
        db->store = NULL;
    }
    if ((st == ST_CORRUPT || st == ST_NOT_FOUND) && !folder_has_log(vfs, d->dir, db->name))
        st = lost_error(db, err);
    if (st != ST_OK) {
        refusal_tell(db, err);
        return st;
    }
    db->refused_ns = 0;
    atomic_store_explicit(&db->is_refused, false, memory_order_release);
    counts_forget(db);
    if (!database_is_permanent(db))
        atomic_fetch_add_explicit(&d->open_count, 1, memory_order_relaxed);
    atomic_store_explicit(&db->last_used_s, atomic_load_explicit(&d->now_s, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&db->state, DATABASE_OPEN, memory_order_seq_cst);
    LOG_INFO_AT(d->options.logger, "database '%s' {replica = %s} successfully %s", db->name, s->replica ? "true" : "false",
                create ? "created" : "opened");
    store_health(db->store, &health);
    if (health.kind != STORE_HEALTHY)
        LOG_WARN_AT(d->options.logger, "database '%s': %s", db->name, health.kind == STORE_REBUILDING ? "its index is being rebuilt" : health.text);
    return ST_OK;
}

static void nap(void)
{
    const struct timespec ms = {.tv_nsec = 1000000};

    nanosleep(&ms, NULL);
}

enum status database_close_store(struct database *db, enum database_state next, uint64_t patience_ns, struct err *err)
{
    struct databases *d = db->owner;
    uint64_t start = env_mono_ns(d->options.env);

    assert(state_of(db) == DATABASE_OPEN);
    atomic_store_explicit(&db->state, DATABASE_CLOSING, memory_order_seq_cst);
    while (atomic_load_explicit(&db->pins, memory_order_seq_cst) > 0) {
        bool may_wait = patience_ns == 0 || d->options.let_go == NULL || d->options.let_go(d->options.ctx, db);

        if (patience_ns != PATIENCE_FOREVER && (!may_wait || env_mono_ns(d->options.env) - start > patience_ns)) {
            atomic_store_explicit(&db->state, DATABASE_OPEN, memory_order_seq_cst);
            return err_set(err, ST_BUSY, 0, "database '%s' is in use by running calls", db->name);
        }
        nap();
    }
    LOG_INFO_AT(d->options.logger, "closing database '%s'...", db->name);
    counts_note_store(db);
    store_close(db->store);
    db->store = NULL;
    counts_note_folder(db);
    if (!database_is_permanent(db))
        atomic_fetch_sub_explicit(&d->open_count, 1, memory_order_relaxed);
    atomic_store_explicit(&db->state, next, memory_order_seq_cst);
    LOG_INFO_AT(d->options.logger, "database '%s' successfully closed", db->name);
    return ST_OK;
}

/* Closes unused databases, least used first, until the limit holds. Never waits for a latch. */
void databases_tidy(struct databases *d, uint64_t now_s)
{
    size_t limit = (size_t)d->options.config->max_active_databases, tries = databases_count(d);

    atomic_store_explicit(&d->now_s, now_s, memory_order_relaxed);
    while (tries-- > 0 && atomic_load_explicit(&d->open_count, memory_order_relaxed) > limit) {
        struct database *oldest = NULL, *db;
        size_t i, count = databases_count(d);

        for (i = 1; i < count; i++) {
            db = databases_by_number(d, (int64_t)i);
            if (state_of(db) == DATABASE_OPEN && atomic_load_explicit(&db->pins, memory_order_relaxed) == 0 &&
                (oldest == NULL ||
                 atomic_load_explicit(&db->last_used_s, memory_order_relaxed) < atomic_load_explicit(&oldest->last_used_s, memory_order_relaxed)))
                oldest = db;
        }
        if (oldest == NULL || pthread_mutex_trylock(&oldest->latch) != 0)
            return;
        if (state_of(oldest) == DATABASE_OPEN && database_close_store(oldest, DATABASE_CLOSED, 0, NULL) != ST_OK)
            tries = 0; /* in use again: so it is not the least used */
        pthread_mutex_unlock(&oldest->latch);
    }
}

/* --- pins --- */

static enum status pin_slowly(struct database *db, struct err *err)
{
    enum status st = ST_OK;
    bool opened = false;

    pthread_mutex_lock(&db->latch);
    switch (state_of(db)) {
    case DATABASE_DELETED:
        st = err_set(err, ST_NOT_FOUND, 0, "database does not exist");
        break;
    case DATABASE_UNLOADED:
        st = err_set(err, ST_CLOSED, 0, "already closed");
        break;
    case DATABASE_CLOSED:
        opened = (st = database_open_store(db, false, err)) == ST_OK;
        break;
    default:
        break;
    }
    if (st == ST_OK)
        atomic_fetch_add_explicit(&db->pins, 1, memory_order_seq_cst);
    pthread_mutex_unlock(&db->latch);
    if (opened)
        databases_tidy(db->owner, atomic_load_explicit(&db->owner->now_s, memory_order_relaxed));
    return st;
}

enum status database_pin(struct database *db, bool may_block, struct err *err)
{
    int state;

    /* The closer sets its state first and looks at the pins then; here it is the other way round: one of both sees the other. */
    atomic_fetch_add_explicit(&db->pins, 1, memory_order_seq_cst);
    if ((state = state_of(db)) == DATABASE_OPEN)
        return ST_OK;
    atomic_fetch_sub_explicit(&db->pins, 1, memory_order_seq_cst);
    if (state == DATABASE_DELETED)
        return err_set(err, ST_NOT_FOUND, 0, "database does not exist");
    if (state == DATABASE_UNLOADED)
        return err_set(err, ST_CLOSED, 0, "already closed");
    return may_block ? pin_slowly(db, err) : err_set(err, ST_AGAIN, 0, "database is not open right now");
}

void databases_unpin(struct database *db) { atomic_fetch_sub_explicit(&db->pins, 1, memory_order_seq_cst); }

enum status databases_pin(struct databases *d, struct bytes name, struct database **out, struct err *err)
{
    struct database *db = databases_find(d, name);
    enum status st = db == NULL ? err_set(err, ST_NOT_FOUND, 0, "database does not exist") : database_pin(db, true, err);

    *out = st == ST_OK ? db : NULL;
    return st;
}

enum status databases_pin_number(struct databases *d, int64_t number, struct database **out, struct err *err)
{
    struct database *db = databases_by_number(d, number);
    enum status st = db == NULL ? err_set(err, ST_NOT_FOUND, 0, "database does not exist") : database_pin(db, true, err);

    *out = st == ST_OK ? db : NULL;
    return st;
}

/* --- start and stop --- */

/* systemdb or defaultdb: settings from defaults and server options at every start. */
static enum status add_permanent(struct databases *d, const char *name, bool is_systemdb, struct database **out, struct err *err)
{
    const struct config *c = d->options.config;
    struct database_settings s;

    settings_defaults(&s, name);
    s.replica = c->replication_is_replica;
    memcpy(s.created_by, "systemdb", sizeof "systemdb");
    return database_add(d, &s, is_systemdb, out, err);
}

/* Without systemdb nobody can be let in. A damaged defaultdb stays closed, or open for reading, and the others go on. */
static enum status open_permanent(struct databases *d, struct err *err)
{
    bool create = false, is_forced = false;
    struct store_health health;
    struct store_state state;
    struct err why;
    enum status st;

    if ((st = add_permanent(d, "systemdb", true, &d->systemdb, err)) != ST_OK ||
        (st = add_permanent(d, "defaultdb", false, &d->defaultdb, err)) != ST_OK ||
        (st = systemdb_may_be_made(d, &create, &is_forced, err)) != ST_OK || (st = database_open_store(d->systemdb, create, err)) != ST_OK)
        return st;
    store_health(d->systemdb->store, &health);
    store_get_state(d->systemdb->store, &state);
    if (health.kind == STORE_READ_ONLY_DAMAGED && state.visible_tx_id == 0)
        return err_set(err, ST_CORRUPT, 0, "systemdb is damaged, no user can be read from it: %s", health.text);
    st = database_open_store(d->defaultdb, defaultdb_may_be_made(d, create, is_forced), &why);
    return st == ST_OK || st == ST_CORRUPT ? ST_OK : err_set(err, st, why.os_errno, "%s", why.text);
}

enum status databases_open(const struct databases_options *o, struct databases **out, struct err *err)
{
    struct databases *d = calloc(1, sizeof *d);
    enum status st;

    *out = NULL;
    if (d == NULL || (d->by_number = calloc(DATABASES_MAX, sizeof(*d->by_number))) == NULL || pthread_mutex_init(&d->lock, NULL) != 0 ||
        pthread_mutex_init(&d->change, NULL) != 0) {
        if (d != NULL)
            free((void *)d->by_number);
        free(d);
        return err_set(err, ST_NOMEM, 0, "opening the list of databases: out of memory");
    }
    d->options = *o;
    d->dir = o->config->dir;
    if ((st = open_permanent(d, err)) != ST_OK) {
        databases_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

void databases_close(struct databases *d)
{
    struct database *db, *next;
    size_t i;

    if (d == NULL)
        return;
    if (d->was_adopting && !d->was_scanned)
        absences_note(d);
    /* systemdb goes last: the others' settings live there. */
    for (i = databases_count(d) + 1; i-- > 0;) {
        db = i == 0 ? d->systemdb : databases_by_number(d, (int64_t)i - 1);
        if (db != NULL && state_of(db) == DATABASE_OPEN) {
            pthread_mutex_lock(&db->latch);
            enum status st = database_close_store(db, DATABASE_CLOSED, PATIENCE_FOREVER, NULL);
            assert(st == ST_OK);
            pthread_mutex_unlock(&db->latch);
        }
    }
    if (d->was_scanned || d->was_adopting) /* else it knows less than the file */
        databases_counts_save(d, true);
    for (i = 0; i < DATABASE_BUCKETS; i++) {
        for (db = d->buckets[i]; db != NULL; db = next) {
            next = db->next;
            database_free(db);
        }
    }
    pthread_mutex_destroy(&d->lock);
    pthread_mutex_destroy(&d->change);
    free((void *)d->by_number);
    free(d);
}
