/* Health by name; see health.h. The messages have one field each and are written as bytes.
 *
 * A watcher is a call in the list. Who takes it out of the list, under the lock, ends it: its reactor when it is cancelled, or whoever stops the
 * server. Messages are sent under the lock, so that they come in order. */
#include "observe/health.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "wire/pb.h"
#include "wire/wire.h"

enum serving { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };
enum { NAME_BYTES_MAX = 256 };

struct watcher { /* in the call's arena */
    struct health *health;
    struct rpc_call *call;
    struct watcher *next, **at;
    bool is_known;
};

struct health {
    const char *const *services;
    size_t service_count;
    pthread_mutex_t lock; /* level 70: messages are sent under it; guards the rest */
    enum readiness readiness;
    struct watcher *watchers;
    size_t watcher_count;
};

enum status health_create(const char *const *services, size_t service_count, struct health **out, struct err *err)
{
    struct health *h = calloc(1, sizeof *h);

    *out = NULL;
    if (h == NULL || pthread_mutex_init(&h->lock, NULL) != 0) {
        free(h);
        return err_set(err, ST_NOMEM, 0, "health service: out of memory");
    }
    h->services = services;
    h->service_count = service_count;
    h->readiness = SERVER_STARTING;
    *out = h;
    return ST_OK;
}

void health_free(struct health *h)
{
    if (h == NULL)
        return;
    assert(h->watchers == NULL);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* --- messages --- */

/* HealthCheckResponse{status = 1}. */
static struct bytes answer_of(enum serving serving)
{
    static const uint8_t answers[][2] = {{0x08, SERVING}, {0x08, NOT_SERVING}, {0x08, SERVICE_UNKNOWN}};

    return bytes_of(answers[serving - SERVING], 2);
}

static enum serving serving_of(enum readiness readiness) { return readiness == SERVER_READY ? SERVING : NOT_SERVING; }

/* HealthCheckRequest{service = 1}; other fields are passed over. */
static bool name_decode(struct bytes request, struct bytes *name)
{
    struct reader r = reader_of(request);

    *name = bytes_of("", 0);
    while (!r.failed && reader_left(&r) > 0) {
        uint64_t tag = reader_varint(&r);

        if (tag == (1 << 3 | PB_BYTES))
            *name = reader_bytes(&r, (size_t)reader_varint(&r));
        else if (tag >> 3 == 0)
            return false;
        else if ((tag & 7) == PB_VARINT)
            (void)reader_varint(&r);
        else if ((tag & 7) == PB_BYTES)
            (void)reader_bytes(&r, (size_t)reader_varint(&r));
        else if ((tag & 7) == PB_FIXED64 || (tag & 7) == PB_FIXED32)
            (void)reader_take(&r, (tag & 7) == PB_FIXED64 ? 8 : 4);
        else
            return false;
    }
    return reader_done(&r) && name->len <= NAME_BYTES_MAX && utf8_is_valid(*name);
}

static bool is_known(const struct health *h, struct bytes name)
{
    size_t i;

    if (name.len == 0)
        return true;
    for (i = 0; i < h->service_count; i++)
        if (bytes_equal(bytes_str(h->services[i]), name))
            return true;
    return false;
}

static bool name_of(const struct health *h, struct rpc_call *call, bool *known)
{
    struct bytes name;

    if (!name_decode(rpc_request(call), &name)) {
        rpc_finish_early(call, RPC_INTERNAL, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data");
        return false;
    }
    *known = is_known(h, name);
    return true;
}

static enum readiness readiness_of(struct health *h)
{
    enum readiness readiness;

    pthread_mutex_lock(&h->lock);
    readiness = h->readiness;
    pthread_mutex_unlock(&h->lock);
    return readiness;
}

/* --- calls --- */

void health_check(struct health *h, struct rpc_call *call)
{
    bool known;

    if (!name_of(h, call, &known))
        return;
    if (known)
        rpc_reply(call, answer_of(serving_of(readiness_of(h))));
    else
        rpc_finish(call, RPC_NOT_FOUND, "unknown service", bytes_of(NULL, 0));
}

static void put_listed(struct pb *w, const char *name, struct bytes answer)
{
    size_t mark = pb_len(w);

    pb_bytes_item(w, 2, answer);
    pb_bytes(w, 1, bytes_str(name));
    pb_message(w, 1, mark);
}

/* HealthListResponse{map statuses = 1}. */
void health_list(struct health *h, struct rpc_call *call)
{
    struct bytes answer = answer_of(serving_of(readiness_of(h))), message;
    struct pb w;
    size_t i;

    pb_init(&w, rpc_arena(call), 256);
    for (i = h->service_count; i-- > 0;)
        put_listed(&w, h->services[i], answer);
    put_listed(&w, "", answer);
    if (pb_take(&w, &message, NULL) == ST_OK)
        rpc_reply(call, message);
    else
        rpc_finish(call, RPC_RESOURCE_EXHAUSTED, "the server is short of memory for this request", bytes_of(NULL, 0));
}

/* --- watchers --- */

/* Under the lock. */
static void watcher_add(struct watcher *w)
{
    struct health *h = w->health;

    w->at = &h->watchers;
    if ((w->next = h->watchers) != NULL)
        w->next->at = &w->next;
    h->watchers = w;
    h->watcher_count++;
}

/* Under the lock. */
static void watcher_remove(struct watcher *w)
{
    *w->at = w->next;
    if (w->next != NULL)
        w->next->at = w->at;
    w->at = NULL;
    w->health->watcher_count--;
}

static void finish(struct rpc_call *call, enum rpc_code code, const char *text) { rpc_finish(call, code, text, bytes_of(NULL, 0)); }

static void on_cancel(struct rpc_call *call)
{
    struct watcher *w = rpc_state(call);
    bool was_there;

    pthread_mutex_lock(&w->health->lock);
    if ((was_there = w->at != NULL))
        watcher_remove(w);
    pthread_mutex_unlock(&w->health->lock);
    if (was_there)
        finish(call, RPC_CANCELLED, "context canceled");
}

void health_watch(struct health *h, struct rpc_call *call)
{
    struct watcher *w = arena_zalloc(rpc_arena(call), sizeof *w);
    enum serving serving;
    bool known, is_full, is_over;

    if (w == NULL) {
        finish(call, RPC_RESOURCE_EXHAUSTED, "the server is short of memory for this request");
        return;
    }
    if (!name_of(h, call, &known))
        return;
    *w = (struct watcher){.health = h, .call = call, .is_known = known};
    rpc_set_state(call, w);
    rpc_on_cancel(call, on_cancel);
    pthread_mutex_lock(&h->lock);
    serving = known ? serving_of(h->readiness) : SERVICE_UNKNOWN;
    is_over = h->readiness == SERVER_STOPPING;
    is_full = h->watcher_count >= HEALTH_WATCHERS_MAX;
    if (!is_full)
        (void)rpc_send(call, answer_of(serving));
    if (!is_full && !is_over)
        watcher_add(w);
    pthread_mutex_unlock(&h->lock);
    if (is_full)
        finish(call, RPC_RESOURCE_EXHAUSTED, "too many health watchers");
    else if (is_over)
        finish(call, RPC_UNAVAILABLE, "the server is shutting down");
}

void health_set(struct health *h, enum readiness readiness)
{
    struct watcher *w, *next, *ended = NULL;

    pthread_mutex_lock(&h->lock);
    for (w = h->watchers; w != NULL && readiness != h->readiness; w = next) {
        next = w->next;
        if (w->is_known && serving_of(readiness) != serving_of(h->readiness))
            (void)rpc_send(w->call, answer_of(serving_of(readiness)));
        if (readiness == SERVER_STOPPING) {
            watcher_remove(w);
            w->next = ended;
            ended = w;
        }
    }
    h->readiness = readiness;
    pthread_mutex_unlock(&h->lock);
    for (w = ended; w != NULL; w = next) {
        next = w->next; /* with the call the watcher goes */
        finish(w->call, RPC_UNAVAILABLE, "the server is shutting down");
    }
}

size_t health_watchers(struct health *h)
{
    size_t count;

    pthread_mutex_lock(&h->lock);
    count = h->watcher_count;
    pthread_mutex_unlock(&h->lock);
    return count;
}
