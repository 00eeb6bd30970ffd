/* No room: what becomes of writes while the disk is full, memory short, or no more files can be open.
 *
 *     room --a batch cannot be written--> none --a batch is written--> room
 *
 * Nothing of such a batch was written; its drafts are tried again every RETRY_NS, one at a time, the oldest first. Those that wait hold memory that
 * reads want too, so only a few do (SPACE_DRAFTS_MAX, SPACE_BYTES_MAX, but always one): the others are refused at once, and who came when it was full
 * is refused on the submitting thread. Nobody waits to the end of his deadline, where the peer would only see that the time is over: a draft is
 * answered some time before, and after DEADLINE_DEFAULT_NS at the latest. Hasty drafts have one try, theirs or that of somebody before them. Once the
 * server stops nobody waits.
 *
 * The reason is kept under store.health (level 47); is_out_of_space is read without it. */
#include "store/store_internal.h"

#include <stdio.h>
#include <string.h>

enum { SPACE_DRAFTS_MAX = 16, SPACE_BYTES_MAX = 1 << 20 };
#define MARGIN_NS_MIN 200000000ull
#define ROOM_LOOK_NS 500000000ull

/* Clients know databases by name, not by folder. */
static const char *name_of(const struct store *s)
{
    const char *slash = strrchr(s->dir, '/');

    return slash != NULL ? slash + 1 : s->dir;
}

enum status space_error(struct store *s, struct err *err)
{
    enum status st;

    pthread_mutex_lock(&s->health_lock);
    st = s->space_why.status;
    if (st == ST_NO_SPACE)
        (void)err_set(err, st, s->space_why.os_errno, "no space left on device: database %s cannot be written", name_of(s));
    else
        st = err_set(err, ST_NOMEM, s->space_why.os_errno, "database %s cannot be written for now: %s", name_of(s), s->space_why.text);
    pthread_mutex_unlock(&s->health_lock);
    return st;
}

void space_lost(struct store *s, enum status st, const struct err *why)
{
    uint64_t now_ns = env_mono_ns(s->env);

    pthread_mutex_lock(&s->health_lock);
    s->space_why = *why;
    s->space_why.status = st;
    pthread_mutex_unlock(&s->health_lock);
    atomic_store_explicit(&s->space_tried_ns, now_ns, memory_order_relaxed);
    if (!s->c.is_out_of_space)
        env_log(s->env, LOG_WARN, "database %s: %s; writes wait or are refused", s->dir, why->text);
    s->c.is_out_of_space = true;
    atomic_store(&s->is_out_of_space, true);
    s->c.space_retry_ns = now_ns + RETRY_NS;
    store_arm(s, s->c.space_retry_ns);
}

void space_found(struct store *s)
{
    if (!s->c.is_out_of_space)
        return;
    s->c.is_out_of_space = false;
    atomic_store(&s->is_out_of_space, false);
    env_log(s->env, LOG_INFO, "database %s: writes go on", s->dir);
}

uint64_t space_deadline(struct store_draft *d, uint64_t now_ns)
{
    uint64_t latest, left, margin;

    if (d->submitted_ns == 0)
        d->submitted_ns = now_ns;
    latest = d->submitted_ns + DEADLINE_DEFAULT_NS;
    if (d->deadline_ns == 0)
        return latest;
    left = d->deadline_ns > d->submitted_ns ? d->deadline_ns - d->submitted_ns : 0;
    margin = left / 10 > MARGIN_NS_MIN ? left / 10 : MARGIN_NS_MIN;
    if (margin > left / 2)
        margin = left / 2;
    return d->deadline_ns - margin < latest ? d->deadline_ns - margin : latest;
}

static bool is_write(const struct store_draft *d) { return d->kind == DRAFT_TX || d->kind == DRAFT_IMPORT; }

void space_thin_out(struct store *s, struct draft_list *l)
{
    bool is_stopping = atomic_load_explicit(&s->runtime->is_stopping, memory_order_relaxed);
    struct draft_list keep = {NULL, NULL, 0};
    struct store_draft *d;
    size_t count = 0, bytes = 0;
    struct err err;

    while ((d = list_pop(l)) != NULL) {
        bool has_room = count == 0 || (count < SPACE_DRAFTS_MAX && bytes + d->budget_bytes <= SPACE_BYTES_MAX);
        bool may_wait = !is_write(d) || d->is_internal || (has_room && !d->is_hasty);

        if (is_stopping || !may_wait) {
            if (may_wait)
                (void)err_set(&err, ST_CLOSED, 0, "the server is stopping");
            else
                (void)space_error(s, &err);
            draft_complete(d, err.status, &err);
            continue;
        }
        if (is_write(d)) {
            count++;
            bytes += d->budget_bytes;
        }
        list_push(&keep, d);
    }
    *l = keep;
}

enum status space_enter(struct store *s, const struct store_draft *d, struct err *err)
{
    uint64_t count = atomic_load_explicit(&s->queue_length, memory_order_relaxed);

    if (d->is_internal || !is_write(d) || count == 0)
        return ST_OK;
    if (count < SPACE_DRAFTS_MAX && atomic_load_explicit(&s->queue_bytes, memory_order_relaxed) + d->budget_bytes <= SPACE_BYTES_MAX)
        return ST_OK;
    return space_error(s, err);
}

enum status store_has_room(struct store *s, struct err *err)
{
    if (!atomic_load(&s->is_out_of_space) || env_mono_ns(s->env) - atomic_load_explicit(&s->space_tried_ns, memory_order_relaxed) > ROOM_LOOK_NS)
        return ST_OK;
    return space_error(s, err);
}
