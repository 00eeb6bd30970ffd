/* For tests: databases over a file system in memory, or whatever vfs they are given. Around them is no server: configuration, log and runtime alone. */
#ifndef DATABASES_DATABASES_FIXTURE_H
#define DATABASES_DATABASES_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/systemdb.h"
#include "base/test.h"
#include "config/config.h"
#include "config/logger.h"
#include "databases/databases_internal.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

static struct logger *logger;

struct shell {
    struct databases *databases;
    struct runtime *runtime;
    struct config config;
    struct vfs *vfs;
};

/* Failure leaves nothing open. */
static inline enum status shell_try(struct shell *s, struct err *err)
{
    struct runtime_options o = {.vfs = s->vfs};
    struct databases_options d;
    enum status st;

    s->config.dir = (char *)(uintptr_t) "data";
    s->config.logdir = (char *)(uintptr_t) "immulog";
    s->config.synced = true;
    s->config.auth = true;
    if (s->config.max_active_databases == 0)
        s->config.max_active_databases = 100;
    assert_int_equal(runtime_create(&o, &s->runtime, NULL), ST_OK);
    d = (struct databases_options){.config = &s->config, .env = env_system(), .logger = logger, .runtime = s->runtime};
    if ((st = databases_open(&d, &s->databases, err)) == ST_OK && (st = databases_scan(s->databases, err)) != ST_OK)
        databases_close(s->databases);
    if (st != ST_OK) {
        runtime_destroy(s->runtime);
        s->databases = NULL;
        s->runtime = NULL;
    }
    return st;
}

static inline void shell_start(struct shell *s)
{
    struct err err;

    if (shell_try(s, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static inline void shell_stop(struct shell *s)
{
    databases_close(s->databases);
    runtime_destroy(s->runtime);
}

static inline struct shell *shell_open(int64_t max_active)
{
    struct shell *s = calloc(1, sizeof *s);

    assert_non_null(s);
    assert_non_null(s->vfs = vfs_memory_create());
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data", NULL), ST_OK);
    assert_int_equal(s->vfs->ops->sync_dir(s->vfs, ".", NULL), ST_OK);
    s->config.max_active_databases = max_active;
    shell_start(s);
    return s;
}

static inline void shell_free(struct shell *s)
{
    shell_stop(s);
    vfs_memory_destroy(s->vfs);
    free(s);
}

static inline struct database *create(struct shell *s, const char *name)
{
    struct database_settings settings;
    struct database *db;
    struct err err;

    settings_defaults(&settings, name);
    if (databases_create(s->databases, &settings, &db, &err) != ST_OK)
        fail_msg("%s: %s", name, err.text);
    return db;
}

static inline void write_key(struct database *db, const char *key)
{
    assert_int_equal(database_pin(db, true, NULL), ST_OK);
    assert_int_equal(systemdb_put(database_store(db), bytes_str(key), bytes_str("v"), bytes_of(NULL, 0), NULL), ST_OK);
    databases_unpin(db);
}

static inline uint64_t txs_of(struct database *db)
{
    struct database_counts counts;
    struct err err;

    if (database_counts_get(db, &counts, &err) != ST_OK)
        fail_msg("%s", err.text);
    return counts.txs;
}

#endif
