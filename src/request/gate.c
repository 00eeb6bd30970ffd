/* A list behind a lock; see gate.h. */
#include "request/gate.h"

#include <pthread.h>
#include <stdlib.h>

struct gate {
    pthread_mutex_t lock; /* leaf; guards the rest */
    struct request *first, **last;
    size_t count;
    bool is_open, is_shut;
};

enum status gate_create(struct gate **out, struct err *err)
{
    struct gate *g = calloc(1, sizeof *g);

    *out = NULL;
    if (g == NULL || pthread_mutex_init(&g->lock, NULL) != 0) {
        free(g);
        return err_set(err, ST_NOMEM, 0, "starting the server: out of memory");
    }
    g->last = &g->first;
    *out = g;
    return ST_OK;
}

void gate_free(struct gate *g)
{
    if (g == NULL)
        return;
    pthread_mutex_destroy(&g->lock);
    free(g);
}

enum gate_answer gate_enter(struct gate *g, struct request *rq, void (*go_on)(struct request *rq))
{
    enum gate_answer answer = GATE_FULL;

    pthread_mutex_lock(&g->lock);
    if (g->is_open) {
        answer = GATE_OPEN;
    } else if (!g->is_shut && g->count < GATE_WAITING_MAX) {
        answer = GATE_PARKED;
        rq->on_worker = go_on;
        rq->next_waiting = NULL;
        *g->last = rq;
        g->last = &rq->next_waiting;
        g->count++;
    }
    pthread_mutex_unlock(&g->lock);
    return answer;
}

/* Everybody who waits, first come first; nobody can enter the list any more. */
static struct request *empty(struct gate *g, bool open)
{
    struct request *waiting;

    pthread_mutex_lock(&g->lock);
    waiting = g->first;
    g->first = NULL;
    g->last = &g->first;
    g->count = 0;
    g->is_open = open;
    g->is_shut = !open;
    pthread_mutex_unlock(&g->lock);
    return waiting;
}

void gate_open(struct gate *g)
{
    struct request *rq = empty(g, true), *next;

    for (; rq != NULL; rq = next) {
        next = rq->next_waiting;
        request_on_worker(rq, rq->on_worker);
    }
}

void gate_shut(struct gate *g)
{
    struct request *rq = empty(g, false), *next;

    for (; rq != NULL; rq = next) {
        next = rq->next_waiting;
        request_fail(rq, RPC_UNAVAILABLE, "the server could not be started");
    }
}
