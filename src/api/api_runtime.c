/* The runtime: one struct runtime and an environment that hands log lines to the caller. */
#include "api/api_internal.h"

#include <stdlib.h>

enum { MEMORY_LIMIT_MIN = 8 << 20 };

static int64_t wall_ns(void *ctx)
{
    (void)ctx;
    return env_wall_ns(env_system());
}
static uint64_t mono_ns(void *ctx)
{
    (void)ctx;
    return env_mono_ns(env_system());
}
static void random_bytes(void *ctx, void *out, size_t len)
{
    (void)ctx;
    env_random(env_system(), out, len);
}
static void log_line(void *ctx, enum log_level level, const char *text)
{
    const immudb_runtime *r = ctx;

    if (r->log != NULL && (int)level <= r->log_level)
        r->log(r->log_ctx, (int)level, text);
}

static enum status options_check(const immudb_runtime_options *o, struct err *err)
{
    if (o->memory_limit != 0 && o->memory_limit < MEMORY_LIMIT_MIN)
        return err_set(err, ST_INVALID, 0, "a memory limit of %llu bytes is below %d", (unsigned long long)o->memory_limit, MEMORY_LIMIT_MIN);
    if (o->memory_limit > SIZE_MAX || o->sync_threads > 256 || o->worker_threads > 256)
        return err_set(err, ST_INVALID, 0, "at most 256 threads of a kind");
    return ST_OK;
}

immudb_status immudb_runtime_create(const immudb_runtime_options *options, immudb_runtime **out, immudb_error *error)
{
    immudb_runtime_options o;
    struct runtime_options ro;
    immudb_runtime *r = NULL;
    struct err err;
    enum status st;

    if (out == NULL)
        return api_result(api_null(&err, "out"), &err, error);
    *out = NULL;
    if ((st = sized_in(&o, sizeof o, options, true, "immudb_runtime_options", &err)) != ST_OK || (st = options_check(&o, &err)) != ST_OK)
        return api_result(st, &err, error);
    if ((r = calloc(1, sizeof *r)) == NULL)
        return api_result(err_set(&err, ST_NOMEM, 0, "creating the runtime"), &err, error);
    r->env = (struct env){r, wall_ns, mono_ns, random_bytes, log_line};
    r->log = o.log;
    r->log_ctx = o.log_ctx;
    r->log_level = o.log_level;
    ro = (struct runtime_options){.env = &r->env,
                                  .memory_limit = (size_t)o.memory_limit,
                                  .handles_max = o.handles_max,
                                  .sync_threads = o.sync_threads,
                                  .worker_threads = o.worker_threads};
    if ((st = runtime_create(&ro, &r->runtime, &err)) == ST_OK)
        *out = r;
    else
        free(r);
    return api_result(st, &err, error);
}

immudb_status immudb_runtime_free(immudb_runtime *r, immudb_error *error)
{
    struct err err;

    if (r == NULL)
        return api_result(ST_OK, NULL, error);
    if (atomic_load(&r->dbs) > 0)
        return api_result(err_set(&err, ST_BUSY, 0, "%u databases are still open", atomic_load(&r->dbs)), &err, error);
    runtime_destroy(r->runtime);
    free(r);
    return api_result(ST_OK, NULL, error);
}
