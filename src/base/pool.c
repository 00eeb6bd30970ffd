/* Worker threads that exist only while there is work.
 *
 * A worker that has been idle for idle_ms ends by itself. Threads are joined, never detached, so that pool_destroy()
 * leaves no thread behind that could still touch the pool: an ending worker takes over the handle of the one that ended
 * before it (`last_ended`), joins it after leaving the lock, and puts its own in its place. At most one ended thread is
 * unjoined at any time, and joining it has joined all the others.
 *
 * Lock: pool.lock, a leaf; no job runs under it. */
#include "base/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { POOL_THREADS_MAX = 256, POOL_NAME_MAX = 11, POOL_STACK_BYTES = 1 << 20 };

struct pool {
    pthread_mutex_t lock; /* guards everything below that may change */
    pthread_cond_t work;  /* a job came, or the pool is closing */
    pthread_cond_t ended; /* thread_count fell to zero */
    struct pool_job *first, *last;
    size_t waiting_count; /* jobs in the list */
    unsigned thread_count, idle_count, started_count;
    bool is_closing;
    bool has_last_ended;
    pthread_t last_ended;
    pthread_attr_t attr;
    unsigned threads_max, idle_ms;
    int nice_level;
    char name[POOL_NAME_MAX + 1];
};

static enum status pool_sync_init(struct pool *p, struct err *err)
{
    pthread_condattr_t attr;
    int rc;

    if ((rc = pthread_mutex_init(&p->lock, NULL)) != 0)
        goto failed;
    if ((rc = pthread_condattr_init(&attr)) != 0)
        goto failed_lock;
    /* Idle time must not depend on the wall clock. */
    if ((rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC)) == 0)
        rc = pthread_cond_init(&p->work, &attr);
    pthread_condattr_destroy(&attr);
    if (rc != 0)
        goto failed_lock;
    if ((rc = pthread_cond_init(&p->ended, NULL)) != 0)
        goto failed_work;
    if ((rc = pthread_attr_init(&p->attr)) != 0)
        goto failed_ended;
    if ((rc = pthread_attr_setstacksize(&p->attr, POOL_STACK_BYTES)) != 0)
        goto failed_attr;
    return ST_OK;
failed_attr:
    pthread_attr_destroy(&p->attr);
failed_ended:
    pthread_cond_destroy(&p->ended);
failed_work:
    pthread_cond_destroy(&p->work);
failed_lock:
    pthread_mutex_destroy(&p->lock);
failed:
    return err_set(err, rc == ENOMEM ? ST_NOMEM : ST_IO, rc, "thread pool: %s", strerror(rc));
}

enum status pool_create(const char *name, unsigned threads_max, int nice_level, unsigned idle_ms, struct pool **out, struct err *err)
{
    struct pool *p = NULL;
    enum status st;

    *out = NULL;
    if (strlen(name) > POOL_NAME_MAX || threads_max < 1 || threads_max > POOL_THREADS_MAX || nice_level < 0 || nice_level > 19) {
        st = err_set(err, ST_INVALID, 0, "thread pool %s: %u threads, nice %d", name, threads_max, nice_level);
        goto done;
    }
    if ((p = calloc(1, sizeof *p)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "thread pool %s: out of memory", name);
        goto done;
    }
    if ((st = pool_sync_init(p, err)) != ST_OK)
        goto done;
    memcpy(p->name, name, strlen(name));
    p->threads_max = threads_max;
    p->nice_level = nice_level;
    p->idle_ms = idle_ms;
    *out = p;
    p = NULL;
done:
    free(p);
    return st;
}

/* Under the lock. The next job, waiting for one up to idle_ms; NULL when the worker shall end. */
static struct pool_job *job_next(struct pool *p)
{
    struct pool_job *job;
    struct timespec until;
    int rc = 0;

    if (p->first == NULL && !p->is_closing) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += p->idle_ms / 1000;
        until.tv_nsec += (long)(p->idle_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        p->idle_count++;
        while (p->first == NULL && !p->is_closing && rc == 0)
            rc = pthread_cond_timedwait(&p->work, &p->lock, &until);
        p->idle_count--;
    }
    if ((job = p->first) != NULL) {
        p->first = job->next;
        if (p->first == NULL)
            p->last = NULL;
        job->next = NULL;
        p->waiting_count--;
    }
    return job;
}

static void *worker_main(void *arg)
{
    struct pool *p = arg;
    struct pool_job *job;
    char name[16];
    pthread_t before;
    bool has_before;

    if (p->nice_level > 0) /* a refusal only costs politeness */
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), p->nice_level);
    pthread_mutex_lock(&p->lock);
    snprintf(name, sizeof name, "%s-%u", p->name, p->started_count++ % 1000);
    pthread_setname_np(pthread_self(), name);
    while ((job = job_next(p)) != NULL) {
        pthread_mutex_unlock(&p->lock);
        job->run(job);
        pthread_mutex_lock(&p->lock);
    }
    has_before = p->has_last_ended;
    before = p->last_ended;
    p->last_ended = pthread_self();
    p->has_last_ended = true;
    if (--p->thread_count == 0)
        pthread_cond_broadcast(&p->ended);
    pthread_mutex_unlock(&p->lock);
    if (has_before)
        pthread_join(before, NULL);
    return NULL;
}

/* Under the lock. Starts one more worker with all signals blocked; false when the system refuses. */
static bool worker_start(struct pool *p)
{
    sigset_t all, old;
    pthread_t thread;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&thread, &p->attr, worker_main, p);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        return false;
    p->thread_count++;
    return true;
}

void pool_submit(struct pool *p, struct pool_job *job)
{
    bool is_mine = false;

    pthread_mutex_lock(&p->lock);
    assert(!p->is_closing || p->thread_count > 0); /* a running job may queue another one while the pool drains */
    job->next = NULL;
    if (p->last != NULL)
        p->last->next = job;
    else
        p->first = job;
    p->last = job;
    p->waiting_count++;
    if (p->waiting_count > p->idle_count && p->thread_count < p->threads_max && !worker_start(p) && p->thread_count == 0) {
        /* No worker existed, so the list held nothing else. */
        p->first = p->last = NULL;
        p->waiting_count = 0;
        is_mine = true;
    }
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    if (is_mine)
        job->run(job);
}

size_t pool_waiting(struct pool *p)
{
    size_t count;

    pthread_mutex_lock(&p->lock);
    count = p->waiting_count;
    pthread_mutex_unlock(&p->lock);
    return count;
}

void pool_destroy(struct pool *p)
{
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->is_closing = true;
    pthread_cond_broadcast(&p->work);
    while (p->thread_count > 0)
        pthread_cond_wait(&p->ended, &p->lock);
    pthread_mutex_unlock(&p->lock);
    if (p->has_last_ended)
        pthread_join(p->last_ended, NULL);
    assert(p->first == NULL);
    pthread_attr_destroy(&p->attr);
    pthread_cond_destroy(&p->ended);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
