/* The list of databases as its own files see it; see databases.h. */
#ifndef DATABASES_DATABASES_INTERNAL_H
#define DATABASES_DATABASES_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "databases/databases.h"
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
    _Atomic bool is_replica;
    pthread_mutex_t settings_lock; /* leaf; guards settings */
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
    _Atomic bool is_multiple;
    _Atomic uint64_t now_s;
    _Atomic bool counts_changed; /* since the file was written */
    struct database *systemdb, *defaultdb;
};

/* Adds a database to the list, closed. ST_LIMIT above DATABASES_MAX. */
MUST_USE enum status database_add(struct databases *d, const struct database_settings *settings, bool is_systemdb, struct database **out,
                                  struct err *err);
/* Under the latch. */
MUST_USE enum status database_open_store(struct database *db, bool create, struct err *err);
/* Under the latch; waits for pins. ST_BUSY when they stay. */
MUST_USE enum status database_close_store(struct database *db, enum database_state next, uint64_t patience_ns, struct err *err);
bool database_is_permanent(const struct database *db); /* systemdb, defaultdb */
MUST_USE enum status database_path(const struct databases *d, const char *prefix, const char *name, char out[PATH_BYTES_MAX], struct err *err);
/* Does the folder of that name hold a database? */
bool is_database_folder(struct databases *d, const char *name);
MUST_USE enum status settings_record_get(struct databases *d, const char *name, struct database_settings *out, struct err *err);
MUST_USE enum status settings_record_put(struct databases *d, const struct database_settings *s, struct err *err);
/* databases_counts.c */
/* Notes the counts of a store that is about to be closed (before) and of its folder (after), forgets them when it is opened. Under the latch. */
void counts_note_store(struct database *db);
void counts_note_folder(struct database *db);
void counts_forget(struct database *db);
/* Reads the file, once, after the scan. */
void databases_counts_load(struct databases *d);
/* is_clean: the last time before the server ends. */
void databases_counts_save(struct databases *d, bool is_clean);
#define DELETED_PREFIX ".deleted-"

#endif
