/* A hash table of names; see users.h. Nothing is ever removed from it: users are never deleted, so it is bounded by systemdb. */
#include "auth/users.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "auth/systemdb.h"
#include "auth/token.h"

enum { BUCKETS_FIRST = 64 };

struct user {
    struct user *next; /* in its bucket; fixed, but for growing */
    const char *name;
    uint64_t hash;
    _Atomic uint64_t epoch;
    _Atomic bool has_tried_verifier;
    /* under users.lock */
    struct user_record *record; /* NULL for the nameless one */
    unsigned logins;
    EVP_PKEY *key;
};

struct users {
    struct store *systemdb;
    const struct env *env;
    bool is_replica;
    pthread_mutex_t change;
    pthread_mutex_t lock; /* guards all below */
    struct user **buckets;
    size_t bucket_count, user_count;
    struct user *nameless;
};

const char *user_name(const struct user *user) { return user->name; }

uint64_t user_epoch(const struct user *user) { return atomic_load_explicit(&((struct user *)(uintptr_t)user)->epoch, memory_order_acquire); }

static void epoch_bump(struct user *user) { atomic_fetch_add_explicit(&user->epoch, 1, memory_order_acq_rel); }

static struct user *user_create(struct bytes name)
{
    struct user *user = calloc(1, sizeof *user + name.len + 1);
    char *copy;

    if (user == NULL)
        return NULL;
    copy = (char *)(user + 1);
    if (name.len > 0)
        memcpy(copy, name.data, name.len);
    user->name = copy;
    user->hash = hash64(0, name.data, name.len);
    atomic_init(&user->epoch, 1);
    return user;
}

static void user_free(struct user *user)
{
    if (user == NULL)
        return;
    user_record_unref(user->record);
    EVP_PKEY_free(user->key);
    free(user);
}

/* Recursive: who holds it for a change looks users up, and a look-up that misses the cache takes it, too. */
static bool change_lock_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attr;
    bool is_good;

    if (pthread_mutexattr_init(&attr) != 0)
        return false;
    is_good = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0 && pthread_mutex_init(lock, &attr) == 0;
    pthread_mutexattr_destroy(&attr);
    return is_good;
}

enum status users_open(struct store *systemdb, const struct env *env, struct users **out, struct err *err)
{
    struct users *u = calloc(1, sizeof *u);

    *out = NULL;
    if (u == NULL)
        goto no_memory;
    u->systemdb = systemdb;
    u->env = env;
    u->bucket_count = BUCKETS_FIRST;
    if ((u->buckets = calloc(u->bucket_count, sizeof(*u->buckets))) == NULL || (u->nameless = user_create(bytes_of("", 0))) == NULL)
        goto no_memory;
    if (!change_lock_init(&u->change))
        goto no_memory;
    if (pthread_mutex_init(&u->lock, NULL) != 0) {
        pthread_mutex_destroy(&u->change);
        goto no_memory;
    }
    *out = u;
    return ST_OK;
no_memory:
    if (u != NULL) {
        free(u->buckets);
        user_free(u->nameless);
    }
    free(u);
    return err_set(err, ST_NOMEM, 0, "opening the list of users: out of memory");
}

void users_close(struct users *u)
{
    struct user *user, *next;
    size_t i;

    if (u == NULL)
        return;
    for (i = 0; i < u->bucket_count; i++) {
        for (user = u->buckets[i]; user != NULL; user = next) {
            next = user->next;
            user_free(user);
        }
    }
    user_free(u->nameless);
    free(u->buckets);
    pthread_mutex_destroy(&u->lock);
    pthread_mutex_destroy(&u->change);
    free(u);
}

/* Under the lock. */
static struct user *lookup(struct users *u, struct bytes name)
{
    uint64_t hash = hash64(0, name.data, name.len);
    struct user *user;

    for (user = u->buckets[hash & (u->bucket_count - 1)]; user != NULL; user = user->next)
        if (user->hash == hash && bytes_equal(bytes_str(user->name), name))
            break;
    return user;
}

/* Under the lock. Failing to grow only makes the lists longer. */
static void grow(struct users *u)
{
    size_t count = u->bucket_count * 2, i;
    struct user **buckets, *user, *next;

    if (u->user_count < u->bucket_count || (buckets = calloc(count, sizeof(*buckets))) == NULL)
        return;
    for (i = 0; i < u->bucket_count; i++) {
        for (user = u->buckets[i]; user != NULL; user = next) {
            next = user->next;
            user->next = buckets[user->hash & (count - 1)];
            buckets[user->hash & (count - 1)] = user;
        }
    }
    free(u->buckets);
    u->buckets = buckets;
    u->bucket_count = count;
}

/* Makes record (a reference is taken) the current one of its name. */
static enum status install(struct users *u, struct user_record *record, struct user **out, struct err *err)
{
    struct bytes name = bytes_str(record->name);
    struct user_record *old = NULL;
    struct user *user;

    pthread_mutex_lock(&u->lock);
    if ((user = lookup(u, name)) == NULL && (user = user_create(name)) != NULL) {
        grow(u);
        user->next = u->buckets[user->hash & (u->bucket_count - 1)];
        u->buckets[user->hash & (u->bucket_count - 1)] = user;
        u->user_count++;
    }
    if (user != NULL) {
        old = user->record;
        user->record = user_record_ref(record);
        if (old != NULL)
            epoch_bump(user);
    }
    pthread_mutex_unlock(&u->lock);
    user_record_unref(old);
    *out = user;
    return user != NULL ? ST_OK : err_set(err, ST_NOMEM, 0, "caching user %s: out of memory", record->name);
}

static size_t key_of(uint8_t prefix, struct bytes name, uint8_t out[1 + USER_NAME_LEN_MAX])
{
    assert(name.len <= USER_NAME_LEN_MAX);
    out[0] = prefix;
    if (name.len > 0)
        memcpy(out + 1, name.data, name.len);
    return 1 + name.len;
}

/* Without a verifier the user is whole, too: only running out of memory is a failure. */
static enum status verifier_load(struct users *u, struct arena *arena, struct user_record *r, struct err *err)
{
    uint8_t key[1 + USER_NAME_LEN_MAX];
    struct bytes json;
    uint64_t tx_id;
    enum status st;

    st = systemdb_get(u->systemdb, bytes_of(key, key_of(SYSTEMDB_VERIFIER_PREFIX, bytes_str(r->name), key)), arena, &json, &tx_id, err);
    if (st == ST_OK)
        st = user_verifier_decode(json, r, err);
    return st == ST_NOMEM ? st : ST_OK;
}

static enum status load(struct users *u, struct bytes name, struct user_record **out, struct err *err)
{
    uint8_t key[1 + USER_NAME_LEN_MAX];
    struct arena arena;
    struct bytes json;
    uint64_t tx_id;
    enum status st;

    *out = NULL;
    if (name.len > USER_NAME_LEN_MAX)
        return err_set(err, ST_NOT_FOUND, 0, "tbtree: key not found");
    arena_init(&arena, 1024, 0);
    if ((st = systemdb_get(u->systemdb, bytes_of(key, key_of(SYSTEMDB_USER_PREFIX, name, key)), &arena, &json, &tx_id, err)) == ST_OK)
        st = user_record_decode(name, json, out, err);
    if (st == ST_OK && (st = verifier_load(u, &arena, *out, err)) != ST_OK) {
        user_record_unref(*out);
        *out = NULL;
    }
    arena_free(&arena);
    return st;
}

enum status users_find(struct users *u, struct bytes name, bool may_block, struct user **out, struct user_record **record, struct err *err)
{
    struct user_record *loaded = NULL;
    struct user *user;
    enum status st = ST_OK;

    *out = NULL;
    if (record != NULL)
        *record = NULL;
    pthread_mutex_lock(&u->lock);
    if ((user = lookup(u, name)) != NULL && record != NULL)
        *record = user_record_ref(user->record);
    pthread_mutex_unlock(&u->lock);
    if (user == NULL) {
        if (!may_block)
            return err_set(err, ST_AGAIN, 0, "user is not cached");
        /* Not while somebody changes it: an old record must not be cached over a new one. */
        pthread_mutex_lock(&u->change);
        if ((st = load(u, name, &loaded, err)) == ST_OK && (st = install(u, loaded, &user, err)) == ST_OK && record != NULL)
            *record = user_record_ref(loaded);
        pthread_mutex_unlock(&u->change);
        user_record_unref(loaded);
    }
    *out = st == ST_OK ? user : NULL;
    return st;
}

struct user_record *users_record(struct users *u, struct user *user)
{
    struct user_record *r;

    pthread_mutex_lock(&u->lock);
    r = user->record != NULL ? user_record_ref(user->record) : NULL;
    pthread_mutex_unlock(&u->lock);
    return r;
}

struct each {
    enum status (*visit)(void *ctx, const struct user_record *r, struct err *err);
    void *ctx;
};

static enum status each_visit(void *ctx, struct bytes key, struct bytes value, uint64_t tx_id, struct err *err)
{
    struct each *e = ctx;
    struct user_record *r;
    enum status st;

    (void)tx_id;
    if ((st = user_record_decode(bytes_of(key.data + 1, key.len - 1), value, &r, err)) != ST_OK)
        return st;
    st = e->visit(e->ctx, r, err);
    user_record_unref(r);
    return st;
}

enum status users_each(struct users *u, enum status (*visit)(void *ctx, const struct user_record *r, struct err *err), void *ctx, struct err *err)
{
    const uint8_t prefix = SYSTEMDB_USER_PREFIX;
    struct each e = {visit, ctx};

    return systemdb_scan(u->systemdb, bytes_of(&prefix, 1), each_visit, &e, err);
}

static enum status other_visit(void *ctx, struct bytes key, struct bytes value, uint64_t tx_id, struct err *err)
{
    (void)value;
    (void)tx_id;
    (void)err;
    *(bool *)ctx |= !bytes_equal(bytes_of(key.data + 1, key.len - 1), bytes_str(USER_SYSADMIN));
    return ST_OK;
}

enum status users_any_other(struct users *u, bool *out, struct err *err)
{
    const uint8_t prefix = SYSTEMDB_USER_PREFIX;

    *out = false;
    return systemdb_scan(u->systemdb, bytes_of(&prefix, 1), other_visit, out, err);
}

void users_change_begin(struct users *u) { pthread_mutex_lock(&u->change); }
void users_change_end(struct users *u) { pthread_mutex_unlock(&u->change); }

enum status users_writable(struct users *u, struct err *err) { return store_has_room(u->systemdb, err); }

enum status users_put(struct users *u, struct user_record *record, struct bytes extra, struct err *err)
{
    return users_put_for(u, record, extra, NULL, err);
}

enum status users_put_for(struct users *u, struct user_record *record, struct bytes extra, const struct systemdb_caller *caller, struct err *err)
{
    uint8_t user_key[1 + USER_NAME_LEN_MAX], verifier_key[1 + USER_NAME_LEN_MAX];
    struct json_text json = {0}, verifier = {0};
    struct systemdb_record entries[2];
    struct bytes name = bytes_str(record->name);
    struct user *user;
    enum status st;

    if ((st = user_record_encode(record, &json, err)) != ST_OK ||
        (record->scram_is_new && (st = user_verifier_encode(record, &verifier, err)) != ST_OK))
        goto done;
    entries[0] = (struct systemdb_record){bytes_of(user_key, key_of(SYSTEMDB_USER_PREFIX, name, user_key)), bytes_of(json.text, json.len)};
    entries[1] = (struct systemdb_record){bytes_of(verifier_key, key_of(SYSTEMDB_VERIFIER_PREFIX, name, verifier_key)),
                                          bytes_of(verifier.text, verifier.len)};
    if ((st = systemdb_put_all(u->systemdb, entries, record->scram_is_new ? 2 : 1, extra, caller, err)) != ST_OK)
        goto done;
    /* One that was known has its room; of a new one the record is read when it is wanted. What is written stays so. */
    (void)install(u, record, &user, NULL);
done:
    json_text_free(&verifier);
    json_text_free(&json);
    user_record_unref(record);
    return st;
}

/* Writes the verifier of a copy of the current record, and puts the copy in its place: what anybody remembers of the user stays true. */
static void verifier_put(struct users *u, struct user *user, struct user_record *changed)
{
    uint8_t key[1 + USER_NAME_LEN_MAX];
    struct json_text json = {0};
    struct user_record *old = NULL;
    size_t key_len = key_of(SYSTEMDB_VERIFIER_PREFIX, bytes_str(changed->name), key);

    if (user_verifier_encode(changed, &json, NULL) == ST_OK &&
        systemdb_put(u->systemdb, bytes_of(key, key_len), bytes_of(json.text, json.len), bytes_of(NULL, 0), NULL) == ST_OK) {
        pthread_mutex_lock(&u->lock);
        old = user->record;
        user->record = user_record_ref(changed);
        pthread_mutex_unlock(&u->lock);
    }
    user_record_unref(old);
    json_text_free(&json);
}

void users_set_replica(struct users *u, bool is_replica) { u->is_replica = is_replica; }

void users_add_verifier(struct users *u, struct user *user, const struct user_record *record, struct bytes password)
{
    struct user_record *now, *changed = NULL;

    if (u->is_replica || record->has_scram || !scram_takes(password) ||
        atomic_exchange_explicit(&user->has_tried_verifier, true, memory_order_relaxed))
        return;
    users_change_begin(u);
    now = users_record(u, user);
    if (now != NULL && !now->has_scram && strcmp(now->hash, record->hash) == 0 && (changed = user_record_copy(now)) != NULL &&
        user_record_add_verifier(changed, u->env, password, NULL) == ST_OK)
        verifier_put(u, user, changed);
    users_change_end(u);
    user_record_unref(changed);
    user_record_unref(now);
}

/* --- tokens --- */

struct user *users_nameless(struct users *u) { return u->nameless; }

struct user *users_known(struct users *u, const char *name)
{
    struct user *user;

    if (name[0] == '\0')
        return u->nameless;
    pthread_mutex_lock(&u->lock);
    user = lookup(u, bytes_str(name));
    pthread_mutex_unlock(&u->lock);
    return user;
}

enum status users_login(struct users *u, struct user *user, EVP_PKEY **key, struct err *err)
{
    pthread_mutex_lock(&u->lock);
    if (user->key == NULL)
        user->key = token_key_create();
    if ((*key = user->key) != NULL) {
        EVP_PKEY_up_ref(*key);
        user->logins++;
    }
    pthread_mutex_unlock(&u->lock);
    return *key != NULL ? ST_OK : err_set(err, ST_NOMEM, 0, "making a key pair: out of memory");
}

EVP_PKEY *users_token_key(struct users *u, struct user *user)
{
    EVP_PKEY *key;

    pthread_mutex_lock(&u->lock);
    if (user->key == NULL)
        user->key = token_key_create();
    if ((key = user->key) != NULL)
        EVP_PKEY_up_ref(key);
    pthread_mutex_unlock(&u->lock);
    return key;
}

EVP_PKEY *users_key(struct users *u, struct user *user, uint64_t *epoch)
{
    EVP_PKEY *key;

    pthread_mutex_lock(&u->lock);
    if ((key = user->key) != NULL)
        EVP_PKEY_up_ref(key);
    *epoch = user_epoch(user);
    pthread_mutex_unlock(&u->lock);
    return key;
}

/* Under the lock. */
static void key_drop(struct user *user)
{
    user->logins = 0;
    EVP_PKEY_free(user->key);
    user->key = NULL;
    epoch_bump(user);
}

bool users_logout(struct users *u, struct user *user)
{
    bool was_in;

    pthread_mutex_lock(&u->lock);
    was_in = user->logins > 0;
    if (was_in && --user->logins == 0)
        key_drop(user);
    pthread_mutex_unlock(&u->lock);
    return was_in;
}

void users_forget_logins(struct users *u, struct user *user)
{
    pthread_mutex_lock(&u->lock);
    key_drop(user);
    pthread_mutex_unlock(&u->lock);
}
