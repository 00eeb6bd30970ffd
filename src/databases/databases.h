/* The databases of a server: which exist, which are open, their settings.
 *
 * A database has a stable number in this process and its struct lives until databases_close(): both may be remembered (sessions, tokens). It is
 * pinned while a call uses its store; sessions do not pin. States: closed (opened at first use, closed again by least use), open, unloaded by the
 * administrator, deleted. One bad database never stops another. systemdb and defaultdb always exist and stay open; a defaultdb that is damaged is
 * tried again at each use. One that lost its log is never made anew (folders.h): it stays closed and says what it lost.
 *
 * Locks: databases.lock (the list; short) and the latch of a database (opening, closing, settings; held across both). A latch is never taken under
 * the lock. Pinning an open database takes neither: one atomic addition and one load. */
#ifndef DATABASES_DATABASES_H
#define DATABASES_DATABASES_H

#include "databases/settings.h"
#include "store/store.h"

#define DATABASE_NAME_LEN_MAX 128
#define DATABASES_MAX 65536
#define DATABASE_NUMBER_SYSTEMDB 2147483647
struct config;
struct logger;
struct database;
struct databases;

/* What the databases stand on; borrowed until databases_close(). */
struct databases_options {
    const struct config *config;
    const struct env *env;
    struct logger *logger;
    struct runtime *runtime;
    /* A database waits to be closed until nobody pins it: who pins one for long lets go of it here. Under its latch, maybe again and again.
     * False: the wait is to end, unless it is databases_close()'s; at a stop the calls that hold the pins need the threads that wait. NULL: nobody
     * does. */
    bool (*let_go)(void *ctx, const struct database *db);
    void *ctx;
};
/* Opens systemdb and defaultdb; they are made at the first start of a data folder. ST_CORRUPT: systemdb is gone (and --force-admin-password not given), or
 * no user can be read from it. */
MUST_USE enum status databases_open(const struct databases_options *o, struct databases **out, struct err *err);
/* Writes the settings records that are missing and counts databases for single-database mode: after systemdb has its first record. */
MUST_USE enum status databases_scan(struct databases *d, struct err *err);
/* Every pin must be gone. */
void databases_close(struct databases *d);

/* Pins; opens when closed by least use. ST_NOT_FOUND "database does not exist"; ST_CLOSED "already closed" (unloaded). Blocking. */
MUST_USE enum status databases_pin(struct databases *d, struct bytes name, struct database **out, struct err *err);
/* may_block false: ST_AGAIN when it is not open right now. */
MUST_USE enum status database_pin(struct database *db, bool may_block, struct err *err);
void databases_unpin(struct database *db);
/* Not pinned. NULL when unknown; deleted ones are found, see database_exists(). */
struct database *databases_find(struct databases *d, struct bytes name);
struct database *databases_by_number(struct databases *d, int64_t number);
MUST_USE enum status databases_pin_number(struct databases *d, int64_t number, struct database **out, struct err *err);

struct store *database_store(struct database *db); /* while pinned */
const char *database_name(const struct database *db);
bool database_is_systemdb(const struct database *db);
/* Stable number used in tokens: 0 defaultdb, 2147483647 systemdb, others in order of creation or loading. */
int64_t database_number(const struct database *db);
bool database_exists(const struct database *db);    /* not deleted */
bool database_is_loaded(const struct database *db); /* neither deleted nor unloaded */
/* Its last opening failed: why goes to text, cut at size. */
bool database_is_refused(struct database *db, char *text, size_t size);
bool database_is_replica(const struct database *db);
struct store *databases_systemdb(struct databases *d); /* always open */

/* True until a second database is made (and, at start, when neither other databases nor other users exist). */
bool databases_is_single(struct databases *d);
void databases_set_multiple(struct databases *d);
/* Calls visit for each database in order of numbers, systemdb last, deleted ones left out. */
void databases_each(struct databases *d, bool (*visit)(void *ctx, struct database *db), void *ctx);
/* systemdb not counted, deleted ones counted until the next start. */
size_t databases_count(struct databases *d);
size_t databases_open_count(struct databases *d);

/* --- administration; blocking, workers only. user: who asks --- */
/* A copy of the settings; their time of creation is now for systemdb and defaultdb. */
void database_settings_get(struct database *db, struct database_settings *out);
/* ST_EXISTS "database already exists"; also when files are in the way. After any failure there is no such database, and the name is free. */
MUST_USE enum status databases_create(struct databases *d, const struct database_settings *settings, struct database **out, struct err *err);
/* Pins a database whose settings record came from elsewhere (systemdb was imported); its folder is made when missing, nothing is written to systemdb.
 * For importing: every transaction commits at once, synchronous replication or not. Before databases_scan(), which is not called then. */
MUST_USE enum status databases_adopt(struct databases *d, const char *name, struct database **out, struct err *err);
/* changed: a whole new set of settings; written, and kept for the next opening. */
MUST_USE enum status database_update(struct database *db, const struct database_settings *changed, struct err *err);
MUST_USE enum status database_load(struct database *db, struct err *err);
MUST_USE enum status database_unload(struct database *db, struct err *err);
MUST_USE enum status database_delete(struct database *db, struct err *err);

struct database_counts {
    uint64_t txs, disk_bytes;
    bool is_loaded;
};
/* From the open store, or as it was when it was closed. Opens a database only when nobody knows: it was open when the process was killed. */
MUST_USE enum status database_counts_get(struct database *db, struct database_counts *out, struct err *err);
/* Bytes of its files; blocking only when it is closed and they were never counted. */
uint64_t database_disk_bytes(struct database *db);
/* Uses that count for closing by least use are requests; being looked at for a list or a metric is none.
 * For DatabaseHealth: unix milliseconds of the last finished call, -62135596800000 when there was none. */
int64_t database_last_request_ms(const struct database *db);
void database_note_request(struct database *db);
/* Write calls that are not answered yet. */
void database_write_begin(struct database *db);
void database_write_end(struct database *db);
uint32_t database_pending(const struct database *db);
/* One compaction of its index at a time: false when another is at work. */
bool database_compact_begin(struct database *db);
void database_compact_end(struct database *db);

/* Writes the counts of closed databases down when they have changed, so that a start after a crash need not count anew. Blocking. */
void databases_counts_keep(struct databases *d);

/* Closes the least used databases beyond the limit. Called now and then by the housekeeper; now: its clock in seconds. */
void databases_tidy(struct databases *d, uint64_t now_s);

#endif
