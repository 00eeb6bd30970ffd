/* The session table; see session.h. A session in the table holds one reference. */
#include "auth/session.h"

#include <pthread.h>
#include <stdlib.h>

#include "auth/base64.h"

enum { SHARDS = 16, BUCKETS_FIRST = 16, ID_BYTES = 32 };

struct shard {
    pthread_mutex_t lock; /* leaf; guards the rest */
    struct session **buckets;
    size_t bucket_count, session_count;
};

struct sessions {
    struct sessions_options options;
    uint64_t seed;
    _Atomic size_t count;
    struct shard shards[SHARDS];
};

static uint64_t id_hash(const struct sessions *s, struct bytes id) { return hash64(s->seed, id.data, id.len); }

enum status sessions_open(const struct sessions_options *o, struct sessions **out, struct err *err)
{
    struct sessions *s = calloc(1, sizeof *s);
    size_t i;

    *out = NULL;
    if (s == NULL)
        return err_set(err, ST_NOMEM, 0, "opening the session table: out of memory");
    s->options = *o;
    env_random(o->env, &s->seed, sizeof s->seed);
    for (i = 0; i < SHARDS; i++) {
        struct shard *shard = &s->shards[i];

        shard->bucket_count = BUCKETS_FIRST;
        if ((shard->buckets = calloc(BUCKETS_FIRST, sizeof(*shard->buckets))) == NULL)
            goto failed;
        if (pthread_mutex_init(&shard->lock, NULL) != 0) {
            free(shard->buckets);
            goto failed;
        }
    }
    *out = s;
    return ST_OK;
failed:
    while (i-- > 0) {
        pthread_mutex_destroy(&s->shards[i].lock);
        free(s->shards[i].buckets);
    }
    free(s);
    return err_set(err, ST_NOMEM, 0, "opening the session table: out of memory");
}

void session_unref(struct session *session)
{
    if (session != NULL && atomic_fetch_sub_explicit(&session->references, 1, memory_order_acq_rel) == 1)
        free(session);
}

/* Takes all sessions for which match says so out of the table. */
static size_t end_matching(struct sessions *s, bool (*match)(const struct session *session, const void *ctx), const void *ctx)
{
    struct session *ended = NULL, *session, **at;
    size_t i, b, count = 0;

    for (i = 0; i < SHARDS; i++) {
        struct shard *shard = &s->shards[i];

        pthread_mutex_lock(&shard->lock);
        for (b = 0; b < shard->bucket_count; b++) {
            for (at = &shard->buckets[b]; (session = *at) != NULL;) {
                if (!match(session, ctx)) {
                    at = &session->next;
                    continue;
                }
                *at = session->next;
                atomic_store_explicit(&session->is_open, false, memory_order_release);
                session->next = ended;
                ended = session;
                shard->session_count--;
                count++;
            }
        }
        pthread_mutex_unlock(&shard->lock);
    }
    atomic_fetch_sub_explicit(&s->count, count, memory_order_relaxed);
    while ((session = ended) != NULL) {
        ended = session->next;
        session_unref(session);
    }
    return count;
}

static bool match_all(const struct session *session, const void *ctx)
{
    (void)session;
    (void)ctx;
    return true;
}

void sessions_close(struct sessions *s)
{
    size_t i;

    if (s == NULL)
        return;
    end_matching(s, match_all, NULL);
    for (i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&s->shards[i].lock);
        free(s->shards[i].buckets);
    }
    free(s);
}

/* Under the shard's lock. Failing to grow only makes the lists longer. */
static void grow(struct sessions *s, struct shard *shard)
{
    size_t count = shard->bucket_count * 2, b;
    struct session **buckets, *session, *next;

    if (shard->session_count < shard->bucket_count || (buckets = calloc(count, sizeof(*buckets))) == NULL)
        return;
    for (b = 0; b < shard->bucket_count; b++) {
        for (session = shard->buckets[b]; session != NULL; session = next) {
            size_t to = (size_t)(id_hash(s, bytes_of(session->id, SESSION_ID_LEN)) / SHARDS) & (count - 1);

            next = session->next;
            session->next = buckets[to];
            buckets[to] = session;
        }
    }
    free(shard->buckets);
    shard->buckets = buckets;
    shard->bucket_count = count;
}

enum status session_create(struct sessions *s, struct user *user, int64_t database, struct session **out, struct err *err)
{
    uint8_t id[ID_BYTES];
    struct session *session;
    struct shard *shard;
    uint64_t hash;
    size_t b;

    *out = NULL;
    if (atomic_fetch_add_explicit(&s->count, 1, memory_order_relaxed) >= s->options.sessions_max) {
        atomic_fetch_sub_explicit(&s->count, 1, memory_order_relaxed);
        return err_set(err, ST_LIMIT, 0, "max sessions number reached");
    }
    if ((session = calloc(1, sizeof *session)) == NULL) {
        atomic_fetch_sub_explicit(&s->count, 1, memory_order_relaxed);
        return err_set(err, ST_NOMEM, 0, "opening a session: out of memory");
    }
    env_random(s->options.env, id, sizeof id);
    base64_encode(BASE64_URL, bytes_of(id, sizeof id), session->id);
    atomic_init(&session->references, 2); /* the table's and the caller's */
    atomic_init(&session->is_open, true);
    atomic_init(&session->database, database);
    session->opened_ns = env_mono_ns(s->options.env);
    atomic_init(&session->last_used_ns, session->opened_ns);
    session->user = user;
    hash = id_hash(s, bytes_of(session->id, SESSION_ID_LEN));
    shard = &s->shards[hash % SHARDS];
    pthread_mutex_lock(&shard->lock);
    grow(s, shard);
    b = (size_t)(hash / SHARDS) & (shard->bucket_count - 1);
    session->next = shard->buckets[b];
    shard->buckets[b] = session;
    shard->session_count++;
    pthread_mutex_unlock(&shard->lock);
    *out = session;
    return ST_OK;
}

struct session *session_find(struct sessions *s, struct bytes id)
{
    struct session *session = NULL;
    struct shard *shard;
    uint64_t hash;

    if (id.len != SESSION_ID_LEN)
        return NULL;
    hash = id_hash(s, id);
    shard = &s->shards[hash % SHARDS];
    pthread_mutex_lock(&shard->lock);
    for (session = shard->buckets[(size_t)(hash / SHARDS) & (shard->bucket_count - 1)]; session != NULL; session = session->next)
        if (memcmp(session->id, id.data, SESSION_ID_LEN) == 0)
            break;
    if (session != NULL)
        session_ref(session);
    pthread_mutex_unlock(&shard->lock);
    return session;
}

bool session_end(struct sessions *s, struct session *session)
{
    uint64_t hash = id_hash(s, bytes_of(session->id, SESSION_ID_LEN));
    struct shard *shard = &s->shards[hash % SHARDS];
    struct session **at;
    bool was_open;

    pthread_mutex_lock(&shard->lock);
    for (at = &shard->buckets[(size_t)(hash / SHARDS) & (shard->bucket_count - 1)]; *at != NULL && *at != session; at = &(*at)->next)
        ;
    if ((was_open = *at != NULL)) {
        *at = session->next;
        shard->session_count--;
        atomic_store_explicit(&session->is_open, false, memory_order_release);
    }
    pthread_mutex_unlock(&shard->lock);
    if (was_open) {
        atomic_fetch_sub_explicit(&s->count, 1, memory_order_relaxed);
        session_unref(session);
    }
    return was_open;
}

static bool match_user(const struct session *session, const void *ctx) { return session->user == ctx; }

void sessions_end_user(struct sessions *s, const struct user *user) { end_matching(s, match_user, user); }

struct expiry {
    uint64_t now_ns;
    const struct sessions_options *options;
};

static uint64_t idle_ns(const struct session *session, uint64_t now_ns)
{
    uint64_t last = atomic_load_explicit(&((struct session *)(uintptr_t)session)->last_used_ns, memory_order_relaxed);

    return now_ns > last ? now_ns - last : 0;
}

/* A session may be opened after the clock was read. */
static uint64_t age_ns(const struct session *session, uint64_t now_ns) { return now_ns > session->opened_ns ? now_ns - session->opened_ns : 0; }

static bool match_expired(const struct session *session, const void *ctx)
{
    const struct expiry *e = ctx;

    return (e->options->idle_max_ns > 0 && idle_ns(session, e->now_ns) > e->options->idle_max_ns) ||
           (e->options->age_max_ns > 0 && age_ns(session, e->now_ns) > e->options->age_max_ns);
}

size_t sessions_expire(struct sessions *s, uint64_t now_ns)
{
    struct expiry e = {now_ns, &s->options};

    return end_matching(s, match_expired, &e);
}

size_t sessions_count(struct sessions *s) { return atomic_load_explicit(&s->count, memory_order_relaxed); }

size_t sessions_inactive(struct sessions *s, uint64_t now_ns)
{
    size_t i, b, count = 0;

    for (i = 0; s->options.inactivity_ns > 0 && i < SHARDS; i++) {
        struct shard *shard = &s->shards[i];

        pthread_mutex_lock(&shard->lock);
        for (b = 0; b < shard->bucket_count; b++)
            for (struct session *session = shard->buckets[b]; session != NULL; session = session->next)
                count += idle_ns(session, now_ns) > s->options.inactivity_ns;
        pthread_mutex_unlock(&shard->lock);
    }
    return count;
}
