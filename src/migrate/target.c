/* The server's own pieces over a folder: lock, identity, runtime, databases; see target.h. */
#include "migrate/target.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/logger.h"
#include "server/databases.h"
#include "server/datadir.h"
#include "vfs/vfs.h"

enum { ACTIVE_DATABASES_MAX = 8 };

struct target {
    struct config config;
    struct server server; /* no listeners, no users */
    char *dir;
};

/* What the server's pieces ask their options for. */
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
    struct target *t = calloc(1, sizeof *t);
    enum status st = ST_OK;

    *out = NULL;
    if (t == NULL || (t->dir = strdup(dir)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "opening %s: out of memory", dir);
        goto done;
    }
    config_make(t);
    t->server.config = &t->config;
    if ((st = logger_open(&log, &t->server.logger, err)) != ST_OK)
        goto done;
    t->server.env = logger_env(t->server.logger);
    o.env = t->server.env;
    if ((st = runtime_create(&o, &t->server.runtime, err)) != ST_OK || (st = datadir_open(&t->server, err)) != ST_OK ||
        (st = datadir_identify(&t->server, err)) != ST_OK || (st = databases_open(&t->server, &t->server.databases, err)) != ST_OK)
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
    databases_close(t->server.databases);
    if (t->server.lock != NULL)
        t->server.lock->ops->close(t->server.lock);
    if (t->server.runtime != NULL)
        runtime_destroy(t->server.runtime);
    logger_close(t->server.logger);
    free(t->dir);
    free(t);
}

enum status target_pin(struct target *t, const char *name, struct database **out, struct store **store, struct err *err)
{
    enum status st;

    *store = NULL;
    if ((st = databases_adopt(t->server.databases, name, out, err)) != ST_OK)
        return st;
    *store = database_store(*out);
    return ST_OK;
}

void target_unpin(struct database *db) { databases_unpin(db); }
