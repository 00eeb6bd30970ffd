/* SHA-256 by OpenSSL's providers (option sha=openssl-evp), for installations that must use a validated module: which provider answers is
 * decided by openssl.cnf, and sha256_backend() names it. About half as fast as the built-in code.
 *
 * A thread keeps its contexts: one for whole messages and a ring of STREAMS for struct sha256, which holds the number of its use of the ring instead
 * of a state of its own. A stream that is given up needs no release; STREAMS of one thread may be open at a time. There is no way to go on without
 * a hash: a missing provider, or no memory for a thread's contexts, ends the process. */
#include "base/hash.h"

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { STREAMS = 4 };

struct contexts {
    EVP_MD_CTX *message;
    EVP_MD_CTX *stream[STREAMS];
    uint64_t serial[STREAMS]; /* which use of the ring has it */
    uint64_t used;
};

static EVP_MD *algorithm;
static char backend[96] = "openssl-evp";
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct contexts *mine;

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "SHA-256 by OpenSSL: %s\n", what);
        abort();
    }
}

static void contexts_free(void *p)
{
    struct contexts *c = p;

    for (unsigned i = 0; i < STREAMS; i++)
        EVP_MD_CTX_free(c->stream[i]);
    EVP_MD_CTX_free(c->message);
    free(c);
}

static void fetch(void)
{
    const OSSL_PROVIDER *provider;

    algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    must(algorithm != NULL, "no provider has it");
    provider = EVP_MD_get0_provider(algorithm);
    snprintf(backend, sizeof backend, "openssl-evp (provider %s)", provider == NULL ? "unknown" : OSSL_PROVIDER_get0_name(provider));
    must(pthread_key_create(&key, contexts_free) == 0, "no thread key");
}

static struct contexts *contexts(void)
{
    struct contexts *c = mine;

    if (c != NULL)
        return c;
    must(pthread_once(&once, fetch) == 0, "no start");
    c = calloc(1, sizeof *c);
    must(c != NULL, "no memory for a thread");
    c->message = EVP_MD_CTX_new();
    must(c->message != NULL, "no memory for a thread");
    for (unsigned i = 0; i < STREAMS; i++) {
        c->stream[i] = EVP_MD_CTX_new();
        must(c->stream[i] != NULL, "no memory for a thread");
    }
    must(pthread_setspecific(key, c) == 0, "no memory for a thread");
    mine = c;
    return c;
}

const char *sha256_backend(void)
{
    contexts();
    return backend;
}

static void digest(const void *data, size_t len, uint8_t *out)
{
    EVP_MD_CTX *c = contexts()->message;

    must(EVP_DigestInit_ex2(c, algorithm, NULL) == 1 && EVP_DigestUpdate(c, data, len) == 1 && EVP_DigestFinal_ex(c, out, NULL) == 1,
         "the provider failed");
}

void sha256_init(struct sha256 *s)
{
    struct contexts *c = contexts();
    unsigned at = (unsigned)(c->used % STREAMS);

    s->total = ++c->used;
    c->serial[at] = s->total;
    must(EVP_DigestInit_ex2(c->stream[at], algorithm, NULL) == 1, "the provider failed");
}

static EVP_MD_CTX *stream_of(const struct sha256 *s)
{
    struct contexts *c = contexts();
    unsigned at = (unsigned)((s->total - 1) % STREAMS);

    must(c->serial[at] == s->total, "too many streams at a time");
    return c->stream[at];
}

void sha256_update(struct sha256 *s, const void *data, size_t len)
{
    if (len > 0)
        must(EVP_DigestUpdate(stream_of(s), data, len) == 1, "the provider failed");
}

void sha256_final(struct sha256 *s, hash_t *out) { must(EVP_DigestFinal_ex(stream_of(s), out->b, NULL) == 1, "the provider failed"); }

void sha256(const void *data, size_t len, hash_t *out) { digest(len == 0 ? "" : data, len, out->b); }

void sha256_node(const hash_t *left, const hash_t *right, hash_t *out)
{
    uint8_t message[1 + 2 * HASH_LEN] = {0x01};

    memcpy(message + 1, left->b, HASH_LEN);
    memcpy(message + 1 + HASH_LEN, right->b, HASH_LEN);
    digest(message, sizeof message, out->b);
}

void sha256_leaf(const hash_t *data, hash_t *out)
{
    uint8_t message[1 + HASH_LEN] = {0x00};

    memcpy(message + 1, data->b, HASH_LEN);
    digest(message, sizeof message, out->b);
}

void sha256_nodes(const hash_t *in, size_t pair_count, hash_t *out)
{
    for (size_t i = 0; i < pair_count; i++)
        sha256_node(&in[2 * i], &in[2 * i + 1], &out[i]);
}
