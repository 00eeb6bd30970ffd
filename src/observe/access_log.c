/* One thread that turns events into lines; see access_log.h. */
#include "observe/access_log.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/logger.h"

enum { RING_EVENTS = 8192, BATCH_EVENTS = 512, BUFFER_BYTES = 256 * 1024, STACK_BYTES = 256 * 1024 };
static const uint64_t IDLE_NS = 3600ull * 1000000000;

struct access_log {
    struct logger *logger;
    struct call_ring *ring;
    pthread_t thread;
    /* the thread's own */
    struct call_event *events; /* BATCH_EVENTS */
    char *buffer;              /* BUFFER_BYTES */
};

static size_t line_make(const struct access_log *a, const struct call_event *e, char *out)
{
    char message[1024], duration[32];
    const bool has_error = e->code != RPC_OK, has_id = e->request_id[0] != '\0';

    duration_format((int64_t)e->duration_ns, duration);
    snprintf(message, sizeof message, "user=%s,ip=%s,method=%s,duration=%s%s%s%s%s", e->user, e->ip, e->method->path, duration,
             has_error ? ",error=" : "", e->error, has_id ? ",request=" : "", e->request_id);
    return logger_format(a->logger, e->wall_ns + (int64_t)e->duration_ns, LOG_INFO, __FILE__, __LINE__, "access_log", message, out);
}

static void lines_write(struct access_log *a, size_t count)
{
    size_t len = 0, i;

    for (i = 0; i < count; i++) {
        if (BUFFER_BYTES - len < LOGGER_LINE_MAX) {
            logger_emit(a->logger, a->buffer, len);
            len = 0;
        }
        len += line_make(a, &a->events[i], a->buffer + len);
    }
    if (len > 0)
        logger_emit(a->logger, a->buffer, len);
}

static void *run(void *arg)
{
    struct access_log *a = arg;
    size_t count;

    pthread_setname_np(pthread_self(), "access-log");
    do {
        count = call_ring_pop(a->ring, a->events, BATCH_EVENTS, IDLE_NS);
        lines_write(a, count);
    } while (count > 0 || !call_ring_is_closed(a->ring));
    return NULL;
}

static void access_log_free(struct access_log *a)
{
    call_ring_free(a->ring);
    free(a->events);
    free(a->buffer);
    free(a);
}

static int thread_start(struct access_log *a)
{
    sigset_t all, old;
    pthread_attr_t attr;
    int rc;

    if ((rc = pthread_attr_init(&attr)) != 0)
        return rc;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&a->thread, &attr, run, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

enum status access_log_start(struct logger *logger, struct access_log **out, struct err *err)
{
    struct access_log *a = calloc(1, sizeof *a);
    enum status st;
    int rc;

    *out = NULL;
    if (a == NULL)
        return err_set(err, ST_NOMEM, 0, "access log: out of memory");
    a->logger = logger;
    if ((st = call_ring_create(logger_env(logger), RING_EVENTS, &a->ring, err)) != ST_OK)
        goto failed;
    if ((a->events = calloc(BATCH_EVENTS, sizeof *a->events)) == NULL || (a->buffer = malloc(BUFFER_BYTES)) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "access log: out of memory");
        goto failed;
    }
    if ((rc = thread_start(a)) != 0) {
        st = err_set(err, ST_NOMEM, rc, "access log: no thread: %s", strerror(rc));
        goto failed;
    }
    *out = a;
    return ST_OK;
failed:
    access_log_free(a);
    return st;
}

void access_log_add(struct access_log *a, const struct call_event *e)
{
    char line[LOGGER_LINE_MAX];

    if (!call_ring_push(a->ring, e))
        logger_emit(a->logger, line, line_make(a, e, line));
}

uint64_t access_log_direct(struct access_log *a) { return call_ring_dropped(a->ring); }

void access_log_stop(struct access_log *a)
{
    if (a == NULL)
        return;
    call_ring_close(a->ring);
    pthread_join(a->thread, NULL);
    access_log_free(a);
}
