/* The list of databases as its own files see it; see databases.h. */
#ifndef DATABASES_DATABASES_INTERNAL_H
#define DATABASES_DATABASES_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "databases/databases.h"
#include "databases/folders.h"
#include "vfs/vfs.h"

enum database_state {
    DATABASE_CLOSED = 0, /* opened at first use */
    DATABASE_OPEN,
    DATABASE_CLOSING, /* the latch is held until pins are gone */
    DATABASE_UNLOADED,
    DATABASE_DELETED
};

struct database {
    struct databases *owner;
    int64_t number;
    struct database *next; /* in its name's bucket */
    _Atomic unsigned pins;
    _Atomic unsigned writes; /* calls that write and are not answered yet */
    _Atomic bool is_compacting;
    _Atomic int state; /* enum database_state; changed under the latch */
    pthread_mutex_t latch;
    struct store *store;          /* while open */
    _Atomic uint64_t last_used_s; /* by the housekeeper's clock */
    _Atomic int64_t last_request_ms;
    uint64_t refused_ns;     /* under the latch: when the log last said that it cannot be opened */
    _Atomic bool is_refused; /* its last opening failed */
    _Atomic bool is_replica;
    pthread_mutex_t settings_lock; /* leaf; guards settings and refused_why */
    char refused_why[sizeof(((struct err *)0)->text)];
    struct database_settings settings;
    /* databases_counts.c: of a database that is not open, as it was when it was closed; disk_bytes also of open ones */
    _Atomic bool has_counts;         /* the next three are known */
    _Atomic bool counts_are_hearsay; /* they come from the file: good when the folder's stamp is still the same */
    _Atomic uint64_t txs, disk_bytes;
    _Atomic int64_t stamp_ns;
    _Atomic uint64_t bytes_counted_ns; /* of an open one: when disk_bytes was counted; 0: not yet */
    /* truncator.c */
    _Atomic bool has_retention;
    _Atomic uint64_t truncations, truncated_bytes;
    struct {
        int64_t retention_ms, frequency_ms; /* as they were when due_ns was set */
        uint64_t due_ns;
        uint64_t upto; /* what the last run reached */
    } truncation;      /* the truncator thread's alone */
    char name[DATABASE_NAME_LEN_MAX + 1];
};

enum { DATABASE_BUCKETS = 4096 };

struct databases {
    struct databases_options options;
    const char *dir;
    pthread_mutex_t change; /* one administration call at a time; before latches and lock */
    pthread_mutex_t lock;   /* guards buckets and count; leaf */
    struct database *buckets[DATABASE_BUCKETS];
    _Atomic(struct database *) *by_number; /* DATABASES_MAX; never shrinks */
    _Atomic size_t count;
    _Atomic size_t open_count; /* systemdb and defaultdb not counted */
    bool was_adopting, was_scanned;
    _Atomic bool is_multiple;
    _Atomic uint64_t now_s;
    _Atomic bool counts_changed; /* since the file was written */
    struct database *systemdb, *defaultdb;
};

/* A database that is not listed yet, closed; to be listed next. */
MUST_USE enum status database_make(struct databases *d, const struct database_settings *settings, bool is_systemdb, struct database **out,
                                   struct err *err);
/* Adds it to the list. ST_LIMIT above DATABASES_MAX: it is still the caller's. */
MUST_USE enum status database_list(struct database *db, struct err *err);
/* One that was not listed. */
void database_free(struct database *db);
/* Makes a database and lists it. */
MUST_USE enum status database_add(struct databases *d, const struct database_settings *settings, bool is_systemdb, struct database **out,
                                  struct err *err);
/* Under the latch. create: it may be made empty when it has no log; so may one that is marked as being made (folders.h), whose mark goes then. */
MUST_USE enum status database_open_store(struct database *db, bool create, struct err *err);
/* Under the latch; waits for pins. ST_BUSY when they stay. */
MUST_USE enum status database_close_store(struct database *db, enum database_state next, uint64_t patience_ns, struct err *err);
bool database_is_permanent(const struct database *db); /* systemdb, defaultdb */
MUST_USE enum status database_path(const struct databases *d, const char *prefix, const char *name, char out[PATH_BYTES_MAX], struct err *err);
/* Does the folder of that name hold a database? */
bool is_database_folder(struct databases *d, const char *name);
MUST_USE enum status settings_record_get(struct databases *d, const char *name, struct database_settings *out, struct err *err);
MUST_USE enum status settings_record_put(struct databases *d, const struct database_settings *s, struct err *err);
/* lost.c */
/* What to say of a database without a log, instead of what its opening said: what is missing, what was acknowledged. ST_CORRUPT. */
enum status lost_error(struct database *db, struct err *err);
/* systemdb and defaultdb at the start: *create tells whether they may be made now. ST_CORRUPT: systemdb is lost. */
MUST_USE enum status systemdb_may_be_made(struct databases *d, bool *create, bool *is_forced, struct err *err);
bool defaultdb_may_be_made(struct databases *d, bool systemdb_is_new, bool systemdb_is_forced);
/* Adds the databases that systemdb has a record of and that are not in the folder: closed, and saying so. */
MUST_USE enum status lost_databases_add(struct databases *d, struct err *err);
/* After an import: what systemdb has a record of and was left out is noted as absent. */
void absences_note(struct databases *d);
/* databases_counts.c */
/* Txs of a database as the file or the last closing tells; false: nobody knows. */
bool counts_last_known(struct database *db, uint64_t *txs);
/* Notes the counts of a store that is about to be closed (before) and of its folder (after), forgets them when it is opened. Under the latch. */
void counts_note_store(struct database *db);
void counts_note_folder(struct database *db);
void counts_forget(struct database *db);
/* Reads the file, once, after the scan. */
void databases_counts_load(struct databases *d);
/* is_clean: the last time before the server ends. */
void databases_counts_save(struct databases *d, bool is_clean);

#endif
