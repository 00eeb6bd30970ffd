/* Events and their queue; see call_event.h. */
#include "observe/call_event.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "databases/databases.h"
#include "wire/wire.h"

static const uint64_t LINGER_NS = 5000000;

/* --- events --- */

/* Copies at most max bytes, cut between characters. */
static void text_cut(char *to, const char *from, size_t max)
{
    size_t len = strlen(from);

    if (len > max) {
        len = max;
        while (len > 0 && ((unsigned char)from[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(to, from, len);
    to[len] = '\0';
}

void call_event_fill(struct call_event *e, struct request *rq, enum rpc_code code, const char *message, uint64_t duration_ns)
{
    struct bytes session = rq->session != NULL ? rpc_metadata(rq->call, "sessionid") : bytes_of(NULL, 0); /* the session itself may be gone */

    e->wall_ns = rq->now_ns;
    e->duration_ns = duration_ns;
    e->method = rq->method;
    e->user = rq->user;
    e->database = rq->db != NULL ? database_name(rq->db) : "";
    e->code = code;
    text_cut(e->ip, request_ip(rq), EVENT_IP_MAX);
    if (session.len > EVENT_SESSION_MAX)
        session.len = EVENT_SESSION_MAX;
    if (session.len > 0)
        memcpy(e->session, session.data, session.len);
    e->session[session.len] = '\0';
    if (!request_id_of(rq, e->request_id))
        e->request_id[0] = '\0';
    text_cut(e->error, code == RPC_OK ? "" : message, EVENT_ERROR_MAX);
}

/* --- the queue --- */

enum ring_reader { READER_AWAY = 0, READER_WAITING, READER_LINGERING };

struct call_ring {
    const struct env *env;
    pthread_mutex_t lock; /* leaf; guards the rest */
    pthread_cond_t wake;
    enum ring_reader reader;
    bool is_closed;
    uint64_t dropped;
    size_t capacity, first, length;
    struct call_event events[];
};

enum status call_ring_create(const struct env *env, size_t capacity, struct call_ring **out, struct err *err)
{
    struct call_ring *r = calloc(1, sizeof *r + capacity * sizeof r->events[0]);
    pthread_condattr_t attr;
    bool is_good;

    *out = NULL;
    if (r == NULL || pthread_mutex_init(&r->lock, NULL) != 0) {
        free(r);
        return err_set(err, ST_NOMEM, 0, "queue of calls: out of memory");
    }
    is_good = pthread_condattr_init(&attr) == 0;
    if (is_good) {
        is_good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 && pthread_cond_init(&r->wake, &attr) == 0;
        pthread_condattr_destroy(&attr);
    }
    if (!is_good) {
        pthread_mutex_destroy(&r->lock);
        free(r);
        return err_set(err, ST_NOMEM, 0, "queue of calls: out of memory");
    }
    r->env = env;
    r->capacity = capacity;
    *out = r;
    return ST_OK;
}

void call_ring_free(struct call_ring *r)
{
    if (r == NULL)
        return;
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

bool call_ring_push(struct call_ring *r, const struct call_event *e)
{
    bool is_taken;

    pthread_mutex_lock(&r->lock);
    if ((is_taken = !r->is_closed && r->length < r->capacity)) {
        struct call_event *to = &r->events[(r->first + r->length) % r->capacity];

        /* The error comes last and is mostly empty. */
        memcpy(to, e, offsetof(struct call_event, error) + strlen(e->error) + 1);
        r->length++;
    } else {
        r->dropped++;
    }
    if (is_taken && (r->reader == READER_WAITING || (r->reader == READER_LINGERING && r->length >= r->capacity / 2))) {
        r->reader = READER_AWAY;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    return is_taken;
}

static struct timespec moment_after(const struct env *env, uint64_t ns)
{
    uint64_t at = env_mono_ns(env) + ns;

    return (struct timespec){.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
}

/* Under the lock: waits until a pusher or the end wakes the reader, or the time is over. */
static void reader_wait(struct call_ring *r, enum ring_reader how, uint64_t ns)
{
    const struct timespec until = moment_after(r->env, ns);
    int rc = 0;

    r->reader = how;
    while (r->reader == how && !r->is_closed && rc == 0)
        rc = pthread_cond_timedwait(&r->wake, &r->lock, &until);
    r->reader = READER_AWAY;
}

size_t call_ring_pop(struct call_ring *r, struct call_event *out, size_t max, uint64_t wait_ns)
{
    size_t count, i;

    pthread_mutex_lock(&r->lock);
    if (r->length == 0 && !r->is_closed)
        reader_wait(r, READER_WAITING, wait_ns);
    if (r->length > 0 && r->length < max && !r->is_closed)
        reader_wait(r, READER_LINGERING, LINGER_NS);
    count = r->length < max ? r->length : max;
    for (i = 0; i < count; i++) {
        out[i] = r->events[r->first];
        r->first = (r->first + 1) % r->capacity;
    }
    r->length -= count;
    pthread_mutex_unlock(&r->lock);
    return count;
}

void call_ring_close(struct call_ring *r)
{
    pthread_mutex_lock(&r->lock);
    r->is_closed = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

bool call_ring_is_closed(struct call_ring *r)
{
    bool is_closed;

    pthread_mutex_lock(&r->lock);
    is_closed = r->is_closed;
    pthread_mutex_unlock(&r->lock);
    return is_closed;
}

size_t call_ring_length(struct call_ring *r)
{
    size_t length;

    pthread_mutex_lock(&r->lock);
    length = r->length;
    pthread_mutex_unlock(&r->lock);
    return length;
}

uint64_t call_ring_dropped(struct call_ring *r)
{
    uint64_t dropped;

    pthread_mutex_lock(&r->lock);
    dropped = r->dropped;
    pthread_mutex_unlock(&r->lock);
    return dropped;
}
