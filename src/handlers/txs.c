/* A table of transactions by id; see txs.h. What is pinned is let go outside the lock. */
#include "handlers/txs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "databases/databases.h"
#include "databases/datadir.h"

enum { BUCKETS = 1024, ID_BYTES = 12 };

struct txs {
    const struct env *env;
    pthread_mutex_t lock; /* level 14: within the latch of a database, before the locks of its store; guards the rest */
    struct tx *buckets[BUCKETS];
    size_t count;
};

static struct tx **bucket_of(struct txs *t, const char *id) { return &t->buckets[hash64(0, id, TX_ID_LEN) % BUCKETS]; }

static void id_make(const struct env *env, char out[TX_ID_LEN + 1])
{
    uint8_t raw[ID_BYTES];

    env_random(env, raw, sizeof raw);
    identifier_text(raw, out);
}

enum status txs_create(const struct env *env, struct txs **out, struct err *err)
{
    struct txs *t = calloc(1, sizeof *t);

    *out = NULL;
    if (t == NULL || pthread_mutex_init(&t->lock, NULL) != 0) {
        free(t);
        return err_set(err, ST_NOMEM, 0, "transactions of sessions: out of memory");
    }
    t->env = env;
    *out = t;
    return ST_OK;
}

/* What the transaction pins, given back; the database cannot be used any more. */
static void unpin(struct tx *tx)
{
    if (tx->snapshot != NULL)
        store_snapshot_close(tx->snapshot);
    tx->snapshot = NULL;
    databases_unpin(tx->db);
}

void tx_end(struct tx *tx)
{
    if (tx == NULL)
        return;
    if (!tx->is_cut)
        unpin(tx);
    session_unref(tx->session);
    free(tx);
}

static void list_end(struct tx *tx)
{
    struct tx *next;

    for (; tx != NULL; tx = next) {
        next = tx->next;
        tx_end(tx);
    }
}

/* Takes out those that match says so of. */
static struct tx *take_matching(struct txs *t, bool (*match)(const struct tx *tx, const struct session *session), const struct session *session)
{
    struct tx *taken = NULL, **at, *tx;
    size_t i;

    pthread_mutex_lock(&t->lock);
    for (i = 0; i < BUCKETS && t->count > 0; i++) {
        for (at = &t->buckets[i]; (tx = *at) != NULL;) {
            if (!match(tx, session)) {
                at = &tx->next;
                continue;
            }
            *at = tx->next;
            tx->next = taken;
            taken = tx;
            t->count--;
        }
    }
    pthread_mutex_unlock(&t->lock);
    return taken;
}

static bool match_all(const struct tx *tx, const struct session *session)
{
    (void)tx;
    (void)session;
    return true;
}
static bool match_over(const struct tx *tx, const struct session *session)
{
    (void)session;
    return !session_is_open(tx->session);
}
static bool match_session(const struct tx *tx, const struct session *session) { return tx->session == session; }

void txs_tidy(struct txs *t) { list_end(take_matching(t, match_over, NULL)); }

void txs_end_session(struct txs *t, const struct session *session) { list_end(take_matching(t, match_session, session)); }

void txs_free(struct txs *t)
{
    if (t == NULL)
        return;
    list_end(take_matching(t, match_all, NULL));
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void txs_cut(struct txs *t, const struct database *db)
{
    struct tx *tx;
    size_t i;

    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    for (i = 0; i < BUCKETS && t->count > 0; i++) {
        for (tx = t->buckets[i]; tx != NULL; tx = tx->next) {
            if (tx->db != db || tx->is_cut)
                continue;
            unpin(tx); /* short: it only lets go */
            tx->is_cut = true;
        }
    }
    pthread_mutex_unlock(&t->lock);
}

/* Under the lock. */
static size_t count_of(const struct txs *t, const struct database *db)
{
    const struct tx *tx;
    size_t i, count = 0;

    for (i = 0; i < BUCKETS && t->count > 0; i++)
        for (tx = t->buckets[i]; tx != NULL; tx = tx->next)
            count += tx->db == db && !tx->is_cut;
    return count;
}

/* Puts it into the table, when the limits allow; from then on it may be ended by others. */
static enum status tx_add(struct txs *t, struct tx *tx, char *id, struct err *err)
{
    struct database_settings settings;
    enum status st = ST_OK;
    struct tx **bucket;
    size_t count;

    database_settings_get(tx->db, &settings);
    id_make(t->env, tx->id);
    bucket = bucket_of(t, tx->id);
    pthread_mutex_lock(&t->lock);
    count = count_of(t, tx->db);
    if (count >= (size_t)settings.index_max_active_snapshots) {
        st = err_set(err, ST_LIMIT, 0, "tbtree: max active snapshots limit reached");
    } else if (t->count >= TXS_MAX || count >= (size_t)settings.max_active_transactions) {
        st = err_set(err, ST_LIMIT, 0, "max active transactions limit exceeded");
    } else {
        tx->next = *bucket;
        *bucket = tx;
        t->count++;
        memcpy(id, tx->id, TX_ID_LEN + 1);
    }
    pthread_mutex_unlock(&t->lock);
    return st;
}

enum status tx_begin(struct txs *t, struct session *session, struct database *db, bool is_read_only, uint64_t must_include, char *id, struct err *err)
{
    struct store_state state;
    struct tx *tx = NULL;
    enum status st;

    if ((st = database_pin(db, true, err)) != ST_OK)
        return st;
    if ((tx = calloc(1, sizeof *tx)) == NULL) {
        databases_unpin(db);
        return err_set(err, ST_NOMEM, 0, "beginning a transaction: out of memory");
    }
    tx->db = db;
    tx->session = session_ref(session);
    tx->is_read_only = is_read_only;
    store_get_state(database_store(db), &state);
    if (must_include <= state.visible_tx_id && (st = store_snapshot_open(database_store(db), 0, &tx->snapshot, err)) != ST_OK)
        goto done;
    if ((st = tx_add(t, tx, id, err)) != ST_OK)
        goto done;
    tx = NULL;
done:
    tx_end(tx);
    return st;
}

/* Under the lock: the link that leads to it, or NULL. */
static struct tx **find(struct txs *t, const struct session *session, struct bytes id)
{
    struct tx **at;

    if (id.len != TX_ID_LEN)
        return NULL;
    for (at = bucket_of(t, (const char *)id.data); *at != NULL; at = &(*at)->next)
        if (memcmp((*at)->id, id.data, TX_ID_LEN) == 0 && (*at)->session == session)
            return at;
    return NULL;
}

struct tx *tx_take(struct txs *t, const struct session *session, struct bytes id)
{
    struct tx **at, *tx = NULL;

    pthread_mutex_lock(&t->lock);
    if ((at = find(t, session, id)) != NULL) {
        tx = *at;
        *at = tx->next;
        t->count--;
    }
    pthread_mutex_unlock(&t->lock);
    return tx;
}

bool tx_exists(struct txs *t, const struct session *session, struct bytes id)
{
    bool exists;

    pthread_mutex_lock(&t->lock);
    exists = find(t, session, id) != NULL;
    pthread_mutex_unlock(&t->lock);
    return exists;
}

size_t txs_count(struct txs *t)
{
    size_t count;

    pthread_mutex_lock(&t->lock);
    count = t->count;
    pthread_mutex_unlock(&t->lock);
    return count;
}
