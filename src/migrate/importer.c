/* Bounded work under way: at most WINDOW_TXS transactions and WINDOW_BYTES bytes; larger transactions go alone, without being copied. */
#include "migrate/importer.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_TXS = 512, WINDOW_BYTES = 16 << 20, ALONE_BYTES = 4 << 20 };
/* A transaction whose predecessor failed waits for it that long. */
static const uint64_t PREDECESSOR_NS = 20ull * 1000000000;

struct slot {
    struct importer *owner;
    struct slot *next; /* while free */
    uint64_t tx_id;
    size_t bytes;
};

struct importer {
    struct store *store;
    const struct env *env;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* fewer under way */
    /* under lock */
    struct slot *unused;
    size_t running, running_bytes;
    uint64_t failed_tx_id; /* 0 = none; the lowest one */
    struct err failure;
    struct slot slots[WINDOW_TXS];
};

enum status importer_create(struct store *store, const struct env *env, struct importer **out, struct err *err)
{
    struct importer *im = calloc(1, sizeof *im);

    *out = NULL;
    if (im == NULL || pthread_mutex_init(&im->lock, NULL) != 0) {
        free(im);
        return err_set(err, ST_NOMEM, 0, "importing: out of memory");
    }
    if (pthread_cond_init(&im->changed, NULL) != 0) {
        pthread_mutex_destroy(&im->lock);
        free(im);
        return err_set(err, ST_NOMEM, 0, "importing: out of memory");
    }
    im->store = store;
    im->env = env;
    for (size_t i = 0; i < WINDOW_TXS; i++) {
        im->slots[i].owner = im;
        im->slots[i].next = im->unused;
        im->unused = &im->slots[i];
    }
    *out = im;
    return ST_OK;
}

/* Under lock. Followers of a failed transaction fail as well: the lowest one is the cause. */
static void failed(struct importer *im, uint64_t tx_id, enum status st, const struct err *err)
{
    if (im->failed_tx_id != 0 && im->failed_tx_id < tx_id)
        return;
    im->failed_tx_id = tx_id;
    im->failure = *err;
    im->failure.status = st;
}

static void imported(void *ctx, const struct store_draft *d, const struct store_result *r)
{
    struct slot *slot = ctx;
    struct importer *im = slot->owner;

    (void)d;
    pthread_mutex_lock(&im->lock);
    if (r->status != ST_OK)
        failed(im, slot->tx_id, r->status, &r->err);
    im->running--;
    im->running_bytes -= slot->bytes;
    slot->next = im->unused;
    im->unused = slot;
    pthread_cond_signal(&im->changed);
    pthread_mutex_unlock(&im->lock);
}

static bool has_room(const struct importer *im, size_t bytes)
{
    if (im->running == 0)
        return true;
    return bytes < ALONE_BYTES && im->running < WINDOW_TXS && im->running_bytes + bytes <= WINDOW_BYTES;
}

/* Room for bytes more, or the failure. The slot is taken. */
static enum status slot_take(struct importer *im, uint64_t tx_id, size_t bytes, struct slot **out, struct err *err)
{
    enum status st = ST_OK;

    *out = NULL;
    pthread_mutex_lock(&im->lock);
    while (im->failed_tx_id == 0 && !has_room(im, bytes))
        pthread_cond_wait(&im->changed, &im->lock);
    if (im->failed_tx_id != 0) {
        *err = im->failure;
        st = im->failure.status;
    } else {
        *out = im->unused;
        im->unused = (*out)->next;
        (*out)->tx_id = tx_id;
        (*out)->bytes = bytes;
        im->running++;
        im->running_bytes += bytes;
    }
    pthread_mutex_unlock(&im->lock);
    return st;
}

enum status importer_feed(struct importer *im, uint64_t tx_id, struct bytes blob, struct err *err)
{
    uint64_t deadline_ns = env_mono_ns(im->env) + PREDECESSOR_NS;
    struct store_result result;
    struct slot *slot;
    enum status st;

    if ((st = slot_take(im, tx_id, blob.len, &slot, err)) != ST_OK)
        return st;
    if (blob.len < ALONE_BYTES) {
        store_import_submit(im->store, blob, false, deadline_ns, STORE_DRIVE_POOL, imported, slot);
        return ST_OK;
    }
    memset(&result, 0, sizeof result);
    st = store_import(im->store, blob, false, deadline_ns, &result, err);
    result.status = st;
    if (st != ST_OK)
        result.err = *err;
    imported(slot, NULL, &result);
    return st;
}

enum status importer_wait(struct importer *im, uint64_t *tx_id, struct err *err)
{
    enum status st = ST_OK;

    pthread_mutex_lock(&im->lock);
    while (im->running > 0)
        pthread_cond_wait(&im->changed, &im->lock);
    if (im->failed_tx_id != 0) {
        *tx_id = im->failed_tx_id;
        *err = im->failure;
        st = im->failure.status;
    }
    pthread_mutex_unlock(&im->lock);
    return st;
}

void importer_free(struct importer *im)
{
    struct err err;
    uint64_t tx_id;

    if (im == NULL)
        return;
    (void)!importer_wait(im, &tx_id, &err);
    pthread_cond_destroy(&im->changed);
    pthread_mutex_destroy(&im->lock);
    free(im);
}
