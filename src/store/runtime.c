/* What all databases of a process share. Threads start with the first job and end when idle. */
#include "store/runtime.h"

#include <stdlib.h>
#include <unistd.h>

#include "store/timer.h"
#include "vfs/vfs.h"

enum { POOL_IDLE_MS = 2000, MAINTENANCE_NICE = 10 };
static const size_t MEMORY_DEFAULT = (size_t)256 << 20;

/* A number from a small file of the system, 0 when there is none ("max" included). */
static uint64_t number_file(const char *path)
{
    uint8_t *data = NULL;
    size_t len = 0;
    uint64_t out = 0;

    if (vfs_read_all(vfs_posix(), path, 64, &data, &len, NULL) != ST_OK)
        return 0;
    for (size_t i = 0; i < len && data[i] >= '0' && data[i] <= '9' && out < UINT64_MAX / 16; i++)
        out = out * 10 + (uint64_t)(data[i] - '0');
    free(data);
    return out;
}

static size_t memory_default(void)
{
    uint64_t half = number_file("/sys/fs/cgroup/memory.max") / 2;

    return half != 0 && half < MEMORY_DEFAULT ? (size_t)half : MEMORY_DEFAULT;
}

static unsigned workers_default(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    return cpus < 2 ? 4 : cpus > 64 ? 128 : (unsigned)cpus * 2;
}

enum status runtime_create(const struct runtime_options *o, struct runtime **out, struct err *err)
{
    struct runtime *r = calloc(1, sizeof *r);
    enum status st = ST_OK;

    *out = NULL;
    if (r == NULL)
        return err_set(err, ST_NOMEM, 0, "creating the runtime");
    r->vfs = o->vfs != NULL ? o->vfs : vfs_posix();
    r->env = o->env != NULL ? o->env : env_system();
    budget_init(&r->budget, o->memory_limit != 0 ? o->memory_limit : memory_default());
    if ((st = cache_create(r->vfs, &r->budget, o->handles_max != 0 ? o->handles_max : 256, &r->cache, err)) != ST_OK)
        goto done;
    if ((st = pool_create("sync", o->sync_threads != 0 ? o->sync_threads : 4, 0, POOL_IDLE_MS, &r->sync_pool, err)) != ST_OK)
        goto done;
    if ((st = pool_create("worker", o->worker_threads != 0 ? o->worker_threads : workers_default(), 0, POOL_IDLE_MS, &r->worker_pool, err)) != ST_OK)
        goto done;
    if ((st = pool_create("maintain", 1, MAINTENANCE_NICE, POOL_IDLE_MS, &r->maintenance_pool, err)) != ST_OK)
        goto done;
    st = timers_create(r->env, &r->timers, err);
done:
    if (st != ST_OK) {
        runtime_destroy(r);
        return st;
    }
    *out = r;
    return ST_OK;
}

void runtime_stop_waiting(struct runtime *r) { atomic_store_explicit(&r->is_stopping, true, memory_order_relaxed); }

void runtime_destroy(struct runtime *r)
{
    if (r == NULL)
        return;
    timers_destroy(r->timers);
    pool_destroy(r->maintenance_pool);
    pool_destroy(r->worker_pool);
    pool_destroy(r->sync_pool);
    if (r->cache != NULL)
        cache_destroy(r->cache);
    free(r);
}
