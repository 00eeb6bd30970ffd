/* One thread with a timer; see housekeeper.h. */
#include "server/housekeeper.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/config.h"
#include "config/logger.h"
#include "databases/databases.h"
#include "databases/truncator.h"
#include "handlers/txs.h"
#include "server/reload.h"

static const uint64_t TICK_NS = 1000000000, COUNTS_NS = 10ull * 1000000000;
enum { STACK_BYTES = 256 * 1024 };

struct housekeeper {
    struct server *server;
    struct reload *reload;
    struct truncator *truncator; /* a thread of its own: its work may take minutes */
    pthread_t thread;
    pthread_mutex_t lock; /* guards is_stopping */
    pthread_cond_t wake;
    bool is_stopping;
};

/* Waits for the moment, or until it is told to stop: then false. */
static bool wait_until(struct housekeeper *h, uint64_t at_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(at_ns / 1000000000), .tv_nsec = (long)(at_ns % 1000000000)};
    bool goes_on;
    int rc = 0;

    pthread_mutex_lock(&h->lock);
    while (!h->is_stopping && rc == 0)
        rc = pthread_cond_timedwait(&h->wake, &h->lock, &until);
    goes_on = !h->is_stopping;
    pthread_mutex_unlock(&h->lock);
    return goes_on;
}

static void *run(void *arg)
{
    struct housekeeper *h = arg;
    struct server *s = h->server;
    uint64_t interval = (uint64_t)s->config->sessions_guard_check_interval, tick = interval < TICK_NS ? interval : TICK_NS;
    uint64_t now = env_mono_ns(s->env), next_guard = now + interval, next_counts = now + COUNTS_NS;
    size_t ended;

    pthread_setname_np(pthread_self(), "housekeeper");
    while (wait_until(h, now + tick)) {
        now = env_mono_ns(s->env);
        databases_tidy(s->databases, now / 1000000000);
        reload_tick(h->reload, env_wall_s(s->env));
        txs_tidy(s->txs);
        if (now >= next_counts) {
            databases_counts_keep(s->databases);
            next_counts = now + COUNTS_NS;
        }
        if (now < next_guard)
            continue;
        if ((ended = sessions_expire(s->auth->sessions, now)) > 0)
            LOG_INFO_AT(s->logger, "%zu session(s) timed out", ended);
        next_guard = now + interval;
    }
    return NULL;
}

static bool sync_init(struct housekeeper *h)
{
    pthread_condattr_t attr;
    bool is_good;

    if (pthread_mutex_init(&h->lock, NULL) != 0)
        return false;
    if (pthread_condattr_init(&attr) != 0) {
        pthread_mutex_destroy(&h->lock);
        return false;
    }
    is_good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&h->wake, &attr) == 0;
    pthread_condattr_destroy(&attr);
    if (!is_good)
        pthread_mutex_destroy(&h->lock);
    return is_good;
}

static int thread_start(struct housekeeper *h)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int rc;

    if ((rc = pthread_attr_init(&attr)) != 0)
        return rc;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&h->thread, &attr, run, h);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

static void housekeeper_free(struct housekeeper *h)
{
    truncator_stop(h->truncator);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

enum status housekeeper_start(struct server *s, struct reload *reload, struct housekeeper **out, struct err *err)
{
    struct housekeeper *h = calloc(1, sizeof *h);
    enum status st;
    int rc;

    *out = NULL;
    if (h == NULL || !sync_init(h)) {
        free(h);
        return err_set(err, ST_NOMEM, 0, "starting the housekeeper: out of memory");
    }
    h->server = s;
    h->reload = reload;
    if ((st = truncator_start(s->databases, &h->truncator, err)) == ST_OK && (rc = thread_start(h)) != 0)
        st = err_set(err, ST_NOMEM, rc, "starting the housekeeper: %s", strerror(rc));
    if (st == ST_OK)
        *out = h;
    else
        housekeeper_free(h);
    return st;
}

void housekeeper_stop(struct housekeeper *h)
{
    if (h == NULL)
        return;
    pthread_mutex_lock(&h->lock);
    h->is_stopping = true;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    housekeeper_free(h);
}
