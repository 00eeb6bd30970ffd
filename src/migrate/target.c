/* The server's own registry of databases over a folder: lock, identity, runtime, databases; see target.h. */
#include "migrate/target.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "databases/datadir.h"
#include "vfs/vfs.h"

enum { ACTIVE_DATABASES_MAX = 8 };

struct target {
    struct config config;
    struct logger *logger;
    struct runtime *runtime;
    struct datadir datadir;
    struct databases *databases;
    char *dir;
};

/* What the databases ask their options for. */
static void config_make(struct target *t)
{
    for (size_t i = 0; i < FLAG_COUNT; i++)
        if (FLAGS[i].type == FLAG_STRING)
            *(char **)(void *)((uint8_t *)&t->config + FLAGS[i].offset) = (char *)(uintptr_t) "";
    t->config.dir = t->dir;
    t->config.logdir = (char *)(uintptr_t) "immulog";
    t->config.synced = true;
    t->config.auth = true;
    t->config.max_active_databases = ACTIVE_DATABASES_MAX;
}

enum status target_open(const char *dir, const struct env *env, struct target **out, struct err *err)
{
    struct logger_options log = {.env = env, .level = LOG_WARN};
    struct runtime_options o = {.env = env};
    struct databases_options d = {0};
    struct target *t = calloc(1, sizeof *t);
    enum status st = ST_OK;

    *out = NULL;
    if (t == NULL || (t->dir = strdup(dir)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "opening %s: out of memory", dir);
        goto done;
    }
    config_make(t);
    d.config = &t->config;
    if ((st = logger_open(&log, &t->logger, err)) != ST_OK)
        goto done;
    d.logger = t->logger;
    d.env = o.env = logger_env(t->logger);
    if ((st = runtime_create(&o, &t->runtime, err)) != ST_OK)
        goto done;
    d.runtime = t->runtime;
    if ((st = datadir_open(t->runtime->vfs, t->dir, &t->datadir, err)) != ST_OK || (st = datadir_identify(&t->datadir, d.env, err)) != ST_OK ||
        (st = databases_open(&d, &t->databases, err)) != ST_OK)
        goto done;
    *out = t;
    t = NULL;
done:
    target_close(t);
    return st;
}

void target_close(struct target *t)
{
    if (t == NULL)
        return;
    databases_close(t->databases);
    datadir_close(&t->datadir);
    if (t->runtime != NULL)
        runtime_destroy(t->runtime);
    logger_close(t->logger);
    free(t->dir);
    free(t);
}

enum status target_pin(struct target *t, const char *name, struct database **out, struct store **store, struct err *err)
{
    enum status st;

    *store = NULL;
    if ((st = databases_adopt(t->databases, name, out, err)) != ST_OK)
        return st;
    *store = database_store(*out);
    return ST_OK;
}

void target_unpin(struct database *db) { databases_unpin(db); }
