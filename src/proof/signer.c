/* Signs states: ECDSA over SHA-256 of the payload, ASN.1 DER.
 *
 * A signing context of the library takes longer to make than a signature; it is not safe for two threads at once, but can be
 * used over and over. So idle ones are kept in a small stack: a thread takes one (or makes one when there is none) and
 * puts it back. The lock is held for a pointer move only. Lock level 60, a leaf: nothing is called while it is held. */
#include "proof/proof_internal.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdlib.h>

#define IDLE_CONTEXTS_MAX 64

struct signer {
    EVP_PKEY *key;
    size_t public_key_len;
    uint8_t public_key[PUBLIC_KEY_BYTES_MAX];
    pthread_mutex_t lock; /* guards the two below */
    size_t idle_count;
    EVP_PKEY_CTX *idle[IDLE_CONTEXTS_MAX];
};

static enum status library_failed(struct err *err, const char *what)
{
    char text[120];
    unsigned long code = ERR_get_error();

    ERR_error_string_n(code, text, sizeof text);
    ERR_clear_error();
    return err_set(err, ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? ST_NOMEM : ST_INVALID, 0, "%s: %s", what, code == 0 ? "failed" : text);
}

/* The point of scalar * generator, uncompressed. */
static enum status point_compute(const struct ec_curve *curve, const BIGNUM *scalar, uint8_t *out, struct err *err)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(EC_curve_nist2nid(curve->group));
    EC_POINT *point = NULL;
    enum status st = ST_OK;
    size_t len = 0;

    point = group == NULL ? NULL : EC_POINT_new(group);
    if (point == NULL) {
        st = library_failed(err, "elliptic curve");
        goto done;
    }
    if (BN_is_zero(scalar) || BN_cmp(scalar, EC_GROUP_get0_order(group)) >= 0) {
        st = err_set(err, ST_INVALID, 0, "x509: invalid elliptic curve private key value");
        goto done;
    }
    if (EC_POINT_mul(group, point, scalar, NULL, NULL, NULL) == 1)
        len = EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, out, PUBLIC_KEY_BYTES_MAX, NULL);
    if (len != curve->point_len)
        st = library_failed(err, "public key");
done:
    EC_POINT_free(point);
    EC_GROUP_free(group);
    return st;
}

/* A key from its parts; scalar NULL makes a public key. */
static enum status key_make(const struct ec_curve *curve, const BIGNUM *scalar, const uint8_t *point, EVP_PKEY **out, struct err *err)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM *params = NULL;
    enum status st = ST_OK;

    *out = NULL;
    if (builder == NULL || ctx == NULL || OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve->group, 0) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, curve->point_len) != 1 ||
        (scalar != NULL && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, scalar) != 1) ||
        (params = OSSL_PARAM_BLD_to_param(builder)) == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, out, scalar != NULL ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, params) != 1)
        st = library_failed(err, "elliptic curve key");
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(ctx);
    return st;
}

static enum status key_from_der(struct bytes der, struct signer *s, struct err *err)
{
    const struct ec_curve *curve = NULL;
    struct bytes raw;
    BIGNUM *scalar = NULL;
    enum status st = sec1_parse(der, &curve, &raw, err);

    if (st != ST_OK)
        return st;
    scalar = BN_secure_new();
    if (scalar == NULL || BN_bin2bn(raw.data, (int)raw.len, scalar) == NULL) {
        st = err_set(err, ST_NOMEM, 0, "reading the signing key");
        goto done;
    }
    BN_set_flags(scalar, BN_FLG_CONSTTIME);
    if ((st = point_compute(curve, scalar, s->public_key, err)) != ST_OK)
        goto done;
    s->public_key_len = curve->point_len;
    st = key_make(curve, scalar, s->public_key, &s->key, err);
done:
    BN_clear_free(scalar);
    return st;
}

/* The content of the first PEM block; its label is not looked at. */
static enum status pem_first_block(struct bytes pem, uint8_t **der, size_t *der_len, struct err *err)
{
    BIO *bio = pem.len > 0 && pem.len <= INT32_MAX ? BIO_new_mem_buf(pem.data, (int)pem.len) : NULL;
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long len = 0;
    enum status st = ST_OK;

    *der = NULL;
    *der_len = 0;
    if (bio == NULL || PEM_read_bio(bio, &name, &header, &data, &len) != 1 || len < 0) {
        ERR_clear_error();
        st = err_set(err, ST_INVALID, 0, "no ecdsa key found in provided signing key file");
    } else {
        *der = data;
        *der_len = (size_t)len;
    }
    OPENSSL_free(name);
    OPENSSL_free(header);
    BIO_free(bio);
    return st;
}

static EVP_PKEY_CTX *context_make(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

    if (ctx != NULL && EVP_PKEY_sign_init(ctx) != 1) {
        EVP_PKEY_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

enum status signer_open(struct bytes pem, struct signer **out, struct err *err)
{
    struct signer *s = calloc(1, sizeof *s);
    uint8_t *der = NULL;
    size_t der_len = 0;
    enum status st = ST_OK;

    *out = NULL;
    if (s == NULL)
        return err_set(err, ST_NOMEM, 0, "opening the signer");
    pthread_mutex_init(&s->lock, NULL);
    if ((st = pem_first_block(pem, &der, &der_len, err)) != ST_OK)
        goto done;
    if ((st = key_from_der(bytes_of(der, der_len), s, err)) != ST_OK)
        goto done;
    s->idle[0] = context_make(s->key);
    if (s->idle[0] == NULL) {
        st = library_failed(err, "signing");
        goto done;
    }
    s->idle_count = 1;
    *out = s;
    s = NULL;
done:
    OPENSSL_clear_free(der, der_len);
    signer_close(s);
    return st;
}

void signer_close(struct signer *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->idle_count; i++)
        EVP_PKEY_CTX_free(s->idle[i]);
    EVP_PKEY_free(s->key); /* cleanses the scalar */
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static EVP_PKEY_CTX *context_take(struct signer *s)
{
    EVP_PKEY_CTX *ctx = NULL;

    pthread_mutex_lock(&s->lock);
    if (s->idle_count > 0)
        ctx = s->idle[--s->idle_count];
    pthread_mutex_unlock(&s->lock);
    return ctx != NULL ? ctx : context_make(s->key);
}

static void context_give(struct signer *s, EVP_PKEY_CTX *ctx)
{
    pthread_mutex_lock(&s->lock);
    if (s->idle_count < IDLE_CONTEXTS_MAX) {
        s->idle[s->idle_count++] = ctx;
        ctx = NULL;
    }
    pthread_mutex_unlock(&s->lock);
    EVP_PKEY_CTX_free(ctx);
}

enum status signer_sign(struct signer *s, struct bytes db, uint64_t tx_id, const hash_t *alh, struct state_signature *out, struct err *err)
{
    uint8_t payload[STATE_DB_LEN_MAX + 64];
    EVP_PKEY_CTX *ctx = NULL;
    enum status st = ST_OK;
    hash_t digest;

    out->signature_len = 0;
    out->public_key_len = 0;
    if (db.len > STATE_DB_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "database name of %zu bytes", db.len);
    sha256(payload, state_payload(db, tx_id, alh, payload), &digest);
    ctx = context_take(s);
    if (ctx == NULL)
        return library_failed(err, "signing");
    out->signature_len = sizeof out->signature;
    if (EVP_PKEY_sign(ctx, out->signature, &out->signature_len, digest.b, HASH_LEN) != 1) {
        out->signature_len = 0;
        st = library_failed(err, "signing");
        EVP_PKEY_CTX_free(ctx);
        return st;
    }
    context_give(s, ctx);
    out->public_key_len = s->public_key_len;
    memcpy(out->public_key, s->public_key, s->public_key_len);
    return ST_OK;
}

/* A key file under a passphrase is not for us: without this the library would ask the terminal. */
static int no_passphrase(char *buf, int len, int is_writing, void *ctx)
{
    (void)buf, (void)len, (void)is_writing, (void)ctx;
    return -1;
}

static EVP_PKEY *public_key_read(struct bytes in)
{
    const struct ec_curve *curve = NULL;
    EVP_PKEY *key = NULL;
    BIO *bio = NULL;

    if (in.len > 0 && in.data[0] == 0x04 && (curve = ec_curve_by_point_len(in.len)) != NULL)
        return key_make(curve, NULL, in.data, &key, NULL) == ST_OK ? key : NULL;
    bio = in.len > 0 && in.len <= INT32_MAX ? BIO_new_mem_buf(in.data, (int)in.len) : NULL;
    if (bio != NULL)
        key = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    if (key != NULL && !EVP_PKEY_is_a(key, "EC")) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

bool state_signature_verify(struct bytes public_key, struct bytes signature, struct bytes db, uint64_t tx_id, const hash_t *alh)
{
    uint8_t payload[STATE_DB_LEN_MAX + 64];
    EVP_PKEY_CTX *ctx = NULL;
    EVP_PKEY *key = NULL;
    bool is_valid = false;
    hash_t digest;

    if (db.len > STATE_DB_LEN_MAX || signature.len == 0 || signature.len > SIGNATURE_BYTES_MAX)
        return false;
    sha256(payload, state_payload(db, tx_id, alh, payload), &digest);
    key = public_key_read(public_key);
    ctx = key == NULL ? NULL : EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    is_valid = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 && EVP_PKEY_verify(ctx, signature.data, signature.len, digest.b, HASH_LEN) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return is_valid;
}
