/* What all databases of a process share: memory budget, cache, threads, clock, disk. Made once, passed down. */
#ifndef STORE_RUNTIME_H
#define STORE_RUNTIME_H

#include <stdatomic.h>

#include "base/budget.h"
#include "base/env.h"
#include "base/pool.h"
#include "vfs/cache.h"

struct runtime_options {
    struct vfs *vfs;         /* NULL = vfs_posix() */
    const struct env *env;   /* NULL = env_system() */
    size_t memory_limit;     /* bytes; 0 = 256 MiB, or half of the cgroup's limit when that is smaller */
    unsigned handles_max;    /* cached read handles; 0 = 256 */
    unsigned sync_threads;   /* pool that drives commits in asynchronous-completion mode; 0 = 4 */
    unsigned worker_threads; /* long reads, hashing of big values; 0 = 2 * CPUs, at least 4 */
};

struct runtime {
    struct vfs *vfs;
    const struct env *env;
    struct budget budget;
    struct cache *cache;
    struct pool *sync_pool;        /* commit batches: write, sync, completion */
    struct pool *worker_pool;      /* anything above ~50 us */
    struct pool *maintenance_pool; /* one thread at nice 10: flush, merge, zero ahead, rebuild, truncation */
    struct timers *timers;         /* store/timer.h */
    _Atomic bool is_stopping;      /* drafts that would wait for space or memory, or for an index or tree, are answered ST_CLOSED */
};

MUST_USE enum status runtime_create(const struct runtime_options *o, struct runtime **out, struct err *err);
/* The server stops: nobody waits any more for what may never come. What needs no waiting goes on as before. */
void runtime_stop_waiting(struct runtime *r);
void runtime_destroy(struct runtime *r); /* all stores closed */

#endif
