/* A direct-mapped table by the SHA-256 of the token's text. */
#include "auth/token_cache.h"

#include <pthread.h>
#include <stdlib.h>

enum { SHARDS = 16, SLOTS = 128 };

struct slot {
    hash_t digest;
    struct checked_token token; /* user NULL: free */
};

struct token_cache {
    struct shard {
        pthread_mutex_t lock; /* leaf */
        struct slot slots[SLOTS];
    } shards[SHARDS];
};

enum status token_cache_open(struct token_cache **out, struct err *err)
{
    struct token_cache *c = calloc(1, sizeof *c);
    size_t i;

    *out = NULL;
    if (c == NULL)
        return err_set(err, ST_NOMEM, 0, "opening the token cache: out of memory");
    for (i = 0; i < SHARDS; i++) {
        if (pthread_mutex_init(&c->shards[i].lock, NULL) != 0) {
            while (i-- > 0)
                pthread_mutex_destroy(&c->shards[i].lock);
            free(c);
            return err_set(err, ST_NOMEM, 0, "opening the token cache: no lock");
        }
    }
    *out = c;
    return ST_OK;
}

void token_cache_close(struct token_cache *c)
{
    size_t i;

    if (c == NULL)
        return;
    for (i = 0; i < SHARDS; i++)
        pthread_mutex_destroy(&c->shards[i].lock);
    free(c);
}

static enum token_verdict check_slowly(struct users *users, struct bytes text, struct arena *arena, struct checked_token *out, struct err *err)
{
    struct token t;
    EVP_PKEY *key;
    enum status st;

    if (token_parse(text, arena, &t, err) != ST_OK)
        return TOKEN_BROKEN;
    if ((out->user = users_known(users, t.user)) == NULL || (key = users_key(users, out->user, &out->epoch)) == NULL)
        return TOKEN_ABSENT;
    st = token_verify(&t, key, err);
    EVP_PKEY_free(key);
    out->database = t.database;
    out->expires_s = t.expires_s;
    return st == ST_OK ? TOKEN_GOOD : TOKEN_BROKEN;
}

enum token_verdict token_check(struct token_cache *c, struct users *users, struct bytes text, struct arena *arena, struct checked_token *out,
                               struct err *err)
{
    enum token_verdict verdict;
    struct shard *shard;
    struct slot *slot;
    hash_t digest;
    bool is_known;

    *out = (struct checked_token){0};
    if (text.len == 0)
        return TOKEN_ABSENT;
    sha256(text.data, text.len, &digest);
    shard = &c->shards[digest.b[0] % SHARDS];
    slot = &shard->slots[digest.b[1] % SLOTS];
    pthread_mutex_lock(&shard->lock);
    is_known = slot->token.user != NULL && hash_equal(&slot->digest, &digest) && user_epoch(slot->token.user) == slot->token.epoch;
    if (is_known)
        *out = slot->token;
    pthread_mutex_unlock(&shard->lock);
    if (is_known)
        return TOKEN_GOOD;
    if ((verdict = check_slowly(users, text, arena, out, err)) == TOKEN_GOOD) {
        pthread_mutex_lock(&shard->lock);
        slot->digest = digest;
        slot->token = *out;
        pthread_mutex_unlock(&shard->lock);
    }
    return verdict;
}
