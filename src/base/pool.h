/* A small pool of worker threads with a bounded number of threads and intrusive jobs.
 *
 * A job is embedded in the caller's object and may be queued once at a time; running it never allocates. Threads start
 * on the first job and end after idle_ms without one, so an idle process owns none. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/err.h"

struct pool_job {
    void (*run)(struct pool_job *job); /* called on a worker thread; the job may be freed or queued again by it */
    struct pool_job *next;             /* owned by the pool while queued */
};
struct pool;

/* name: at most 11 characters, shown as thread name. nice_level 0..19. threads_max 1..256. */
MUST_USE enum status pool_create(const char *name, unsigned threads_max, int nice_level, unsigned idle_ms, struct pool **out, struct err *err);
/* Queues job behind the others. If no thread can be started and none is running, the job runs on the calling thread. */
void pool_submit(struct pool *p, struct pool_job *job);
/* Jobs waiting, not running. */
size_t pool_waiting(struct pool *p);
/* Waits until queue and workers are empty, then ends the threads. No submit may follow. NULL is allowed. */
void pool_destroy(struct pool *p);

#endif
