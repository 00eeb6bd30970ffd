/* The queue of password checks and the memory of good ones; see logins.h.
 *
 * A running or queued check is in the list `running`; equal ones hang behind it as followers and share its outcome. Lock: logins.lock, a leaf. */
#include "auth/logins.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"

enum { MEMORY_SLOTS = 1024, MEMORY_WAYS = 4, KEY_BYTES = 64 };
static const uint64_t MEMORY_NS = 60ull * 1000000000;

struct remembered {
    uint8_t fingerprint[32];
    struct user *who; /* NULL: free */
    uint64_t epoch, until_ns;
};

struct logins {
    struct users *users;
    const struct env *env;
    struct pool *pool;
    uint8_t key[KEY_BYTES];
    pthread_mutex_t lock; /* guards all below */
    struct login *running;
    size_t running_count, follower_count;
    struct remembered memory[MEMORY_SLOTS];
    struct attempts attempts;
    struct login_stats stats;
};

enum status logins_open(struct users *users, const struct env *env, unsigned threads, uint32_t attempts_per_minute, struct logins **out,
                        struct err *err)
{
    struct logins *l = calloc(1, sizeof *l);
    enum status st;

    *out = NULL;
    if (l == NULL)
        return err_set(err, ST_NOMEM, 0, "opening the login queue: out of memory");
    l->users = users;
    l->env = env;
    env_random(env, l->key, sizeof l->key);
    attempts_init(&l->attempts, env, attempts_per_minute);
    if (pthread_mutex_init(&l->lock, NULL) != 0) {
        st = err_set(err, ST_NOMEM, 0, "opening the login queue: no lock");
        goto failed;
    }
    if ((st = pool_create("login", threads, 5, 2000, &l->pool, err)) != ST_OK)
        goto failed_lock;
    *out = l;
    return ST_OK;
failed_lock:
    pthread_mutex_destroy(&l->lock);
failed:
    free(l);
    return st;
}

void logins_close(struct logins *l)
{
    if (l == NULL)
        return;
    pool_destroy(l->pool);
    pthread_mutex_destroy(&l->lock);
    OPENSSL_cleanse(l, sizeof *l);
    free(l);
}

/* HMAC-SHA256 of len(user) || user || password under a 64-byte key. */
static void fingerprint(const struct logins *l, const struct login *login, uint8_t out[32])
{
    uint8_t pad[KEY_BYTES], len[8];
    struct sha256 s;
    hash_t inner, outer;
    size_t i;

    for (i = 0; i < KEY_BYTES; i++)
        pad[i] = l->key[i] ^ 0x36;
    sha256_init(&s);
    sha256_update(&s, pad, sizeof pad);
    store_u64be(len, login->user.len);
    sha256_update(&s, len, sizeof len);
    if (login->user.len > 0)
        sha256_update(&s, login->user.data, login->user.len);
    if (login->password.len > 0)
        sha256_update(&s, login->password.data, login->password.len);
    sha256_final(&s, &inner);
    for (i = 0; i < KEY_BYTES; i++)
        pad[i] = l->key[i] ^ 0x5c;
    sha256_init(&s);
    sha256_update(&s, pad, sizeof pad);
    sha256_update(&s, inner.b, sizeof inner.b);
    sha256_final(&s, &outer);
    memcpy(out, outer.b, 32);
    OPENSSL_cleanse(pad, sizeof pad);
}

/* First of the slots where this fingerprint may be. */
static struct remembered *memory_set(struct logins *l, const uint8_t fp[32])
{
    return &l->memory[load_u32le(fp) % (MEMORY_SLOTS / MEMORY_WAYS) * MEMORY_WAYS];
}

/* Under the lock. */
static struct user *recall(struct logins *l, const uint8_t fp[32])
{
    struct remembered *set = memory_set(l, fp);
    uint64_t now = env_mono_ns(l->env);
    size_t i;

    for (i = 0; i < MEMORY_WAYS; i++)
        if (set[i].who != NULL && CRYPTO_memcmp(set[i].fingerprint, fp, 32) == 0)
            return now < set[i].until_ns && user_epoch(set[i].who) == set[i].epoch ? set[i].who : NULL;
    return NULL;
}

/* Under the lock. Takes the place of the same fingerprint, a free one, or the oldest. */
static void remember(struct logins *l, const uint8_t fp[32], struct user *who, uint64_t epoch)
{
    struct remembered *set = memory_set(l, fp), *at = set;
    size_t i;

    for (i = 0; i < MEMORY_WAYS; i++) {
        if (set[i].who == NULL || memcmp(set[i].fingerprint, fp, 32) == 0) {
            at = &set[i];
            break;
        }
        if (set[i].until_ns < at->until_ns)
            at = &set[i];
    }
    memcpy(at->fingerprint, fp, 32);
    at->who = who;
    at->epoch = epoch;
    at->until_ns = env_mono_ns(l->env) + MEMORY_NS;
}

/* The work itself: the record from systemdb, then bcrypt. */
static void check(struct login *login)
{
    struct user *who = NULL;
    struct user_record *record = NULL;
    enum status st;

    if (login->is_cancelled != NULL && login->is_cancelled(login)) {
        err_set(&login->err, ST_CANCELLED, 0, "context canceled");
        login->outcome = LOGIN_FAILED;
        return;
    }
    st = users_find(login->logins->users, login->user, true, &who, NULL, &login->err);
    if (st == ST_OK) {
        login->epoch = user_epoch(who);
        record = users_record(login->logins->users, who);
    }
    if (st == ST_NOT_FOUND) {
        password_waste(login->password);
        login->outcome = LOGIN_UNKNOWN_USER;
    } else if (st != ST_OK) {
        login->outcome = LOGIN_FAILED;
    } else if (!password_matches(login->password, bytes_str(record->hash))) {
        login->outcome = LOGIN_WRONG_PASSWORD;
    } else if (!record->is_active) {
        login->outcome = LOGIN_INACTIVE;
    } else {
        users_add_verifier(login->logins->users, who, record, login->password);
        login->outcome = LOGIN_RIGHT;
        login->who = who;
        login->record = record;
        record = NULL;
    }
    user_record_unref(record);
}

static void finish(struct login *login, const struct login *lead)
{
    if (login != lead) {
        login->outcome = lead->outcome;
        login->who = lead->who;
        login->record = lead->record != NULL ? user_record_ref(lead->record) : NULL;
        login->epoch = lead->epoch;
        login->err = lead->err;
    }
}

/* Under the lock. What the outcome means for the allowances. */
static void settle(struct logins *l, const struct login *login)
{
    uint64_t now_ns = env_mono_ns(l->env);
    const struct login *follower;

    if (login->outcome == LOGIN_WRONG_PASSWORD || login->outcome == LOGIN_UNKNOWN_USER)
        return;
    attempts_give_back(&l->attempts, login->from, login->user, now_ns);
    if (login->outcome != LOGIN_RIGHT)
        return;
    attempts_known(&l->attempts, login->from, login->user, now_ns);
    for (follower = login->followers; follower != NULL; follower = follower->next_follower)
        attempts_known(&l->attempts, follower->from, follower->user, now_ns);
}

static void run(struct pool_job *job)
{
    struct login *login = (struct login *)((char *)job - offsetof(struct login, job)), *follower, *next, **at;
    struct logins *l = login->logins;

    check(login);
    pthread_mutex_lock(&l->lock);
    l->stats.checked++;
    for (at = &l->running; *at != login; at = &(*at)->next_running)
        ;
    *at = login->next_running;
    l->running_count--;
    if (login->outcome == LOGIN_RIGHT)
        remember(l, login->fingerprint, login->who, login->epoch);
    settle(l, login);
    follower = login->followers;
    login->followers = NULL;
    for (next = follower; next != NULL; next = next->next_follower)
        l->follower_count--;
    pthread_mutex_unlock(&l->lock);
    for (; follower != NULL; follower = next) {
        next = follower->next_follower;
        finish(follower, login);
        follower->done(follower);
    }
    login->done(login); /* last: the login may be gone afterwards */
}

/* Under the lock. May this login have a place in the queue? */
static bool has_share(const struct logins *l, const struct login *login)
{
    size_t same_address = 0, half;
    const struct login *other;

    if (l->running_count >= LOGIN_QUEUE_MAX)
        return false;
    for (other = l->running; other != NULL; other = other->next_running)
        same_address += bytes_equal(other->from, login->from);
    half = (LOGIN_QUEUE_MAX - l->running_count) / 2;
    return same_address == 0 || (same_address < LOGIN_SHARE_MAX && same_address < half);
}

static enum status too_many_failures(uint64_t wait_ns, struct err *err)
{
    return err_set(err, ST_LIMIT, 0, "too many failed logins: try again in %llu s", (unsigned long long)((wait_ns + 999999999) / 1000000000));
}

enum status logins_check(struct logins *l, struct login *login, struct err *err)
{
    struct login *other;
    struct user *who;
    enum { KNOWN, FOLLOWS, QUEUED, REFUSED, LIMITED } what = REFUSED;
    uint64_t now_ns = env_mono_ns(l->env), wait_ns;

    login->logins = l;
    login->who = NULL;
    login->record = NULL;
    login->followers = NULL;
    fingerprint(l, login, login->fingerprint);
    login->from = attempts_address(login->address, login->address_text);
    pthread_mutex_lock(&l->lock);
    /* First of all, or the memory would tell guesses apart at no cost. */
    if ((wait_ns = attempts_wait_ns(&l->attempts, login->from, login->user, now_ns)) > 0) {
        what = LIMITED;
        l->stats.limited++;
        goto decided;
    }
    if ((who = recall(l, login->fingerprint)) != NULL) {
        what = KNOWN;
        l->stats.remembered++;
        goto decided;
    }
    for (other = l->running; other != NULL; other = other->next_running)
        if (CRYPTO_memcmp(other->fingerprint, login->fingerprint, 32) == 0)
            break;
    if (other != NULL && l->follower_count < LOGIN_FOLLOWERS_MAX) {
        what = FOLLOWS;
        l->stats.shared++;
        l->follower_count++;
        login->next_follower = other->followers;
        other->followers = login;
    } else if (other == NULL && has_share(l, login)) {
        what = QUEUED;
        login->next_running = l->running;
        l->running = login;
        l->running_count++;
        attempts_charge(&l->attempts, login->from, login->user, now_ns);
    } else {
        l->stats.refused++;
    }
decided:
    pthread_mutex_unlock(&l->lock);
    if (what == LIMITED)
        return too_many_failures(wait_ns, err);
    if (what == REFUSED)
        return err_set(err, ST_LIMIT, 0, "too many logins are waiting (at most %d, %d from one address); try again later", LOGIN_QUEUE_MAX,
                       LOGIN_SHARE_MAX);
    if (what == QUEUED) {
        login->job.run = run;
        pool_submit(l->pool, &login->job);
    } else if (what == KNOWN) {
        login->who = who;
        login->epoch = user_epoch(who);
        login->record = users_record(l->users, who);
        login->outcome = login->record->is_active ? LOGIN_RIGHT : LOGIN_INACTIVE;
        login->done(login);
    }
    return ST_OK;
}

enum status logins_attempt_begin(struct logins *l, const char *peer, struct bytes user, struct err *err)
{
    char text[ATTEMPTS_ADDRESS_MAX];
    struct bytes from = attempts_address(peer, text);
    uint64_t now_ns = env_mono_ns(l->env), wait_ns;

    pthread_mutex_lock(&l->lock);
    if ((wait_ns = attempts_wait_ns(&l->attempts, from, user, now_ns)) > 0)
        l->stats.limited++;
    else
        attempts_charge(&l->attempts, from, user, now_ns);
    pthread_mutex_unlock(&l->lock);
    return wait_ns == 0 ? ST_OK : too_many_failures(wait_ns, err);
}

void logins_attempt_end(struct logins *l, const char *peer, struct bytes user, bool is_right)
{
    char text[ATTEMPTS_ADDRESS_MAX];
    struct bytes from = attempts_address(peer, text);

    if (!is_right)
        return;
    pthread_mutex_lock(&l->lock);
    attempts_give_back(&l->attempts, from, user, env_mono_ns(l->env));
    pthread_mutex_unlock(&l->lock);
}

void logins_stats(struct logins *l, struct login_stats *out)
{
    pthread_mutex_lock(&l->lock);
    *out = l->stats;
    out->waiting = l->running_count + l->follower_count;
    pthread_mutex_unlock(&l->lock);
}
