/* Making and judging the pair of files; see auto_cert.h. */
#include "server/auto_cert.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "server/tls.h"

enum { PEM_BYTES_MAX = 65536, SERIAL_BYTES = 16, NAMES_MAX = 1024, DAY_S = 86400, EARLIER_S = 3600 /* for clocks that are behind */ };

/* --- what is there --- */

struct pem {
    uint8_t *data;
    size_t len;
    BIO *bio; /* NULL when the file cannot be read */
};

static struct pem pem_open(struct vfs *vfs, const char *path)
{
    struct pem p = {0};

    if (vfs_read_all(vfs, path, PEM_BYTES_MAX, &p.data, &p.len, NULL) == ST_OK)
        p.bio = BIO_new_mem_buf(p.data, (int)p.len);
    return p;
}

static void pem_close(struct pem *p)
{
    BIO_free(p->bio);
    if (p->data != NULL)
        explicit_bzero(p->data, p->len);
    free(p->data);
}

/* Both files can be read, belong together, and last for a while. */
static bool is_usable(struct vfs *vfs, const struct env *env, const struct auto_cert *a)
{
    struct pem cert_pem = pem_open(vfs, a->certificate), key_pem = pem_open(vfs, a->pkey);
    X509 *cert = cert_pem.bio != NULL ? PEM_read_bio_X509(cert_pem.bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = key_pem.bio != NULL ? PEM_read_bio_PrivateKey(key_pem.bio, NULL, tls_no_passphrase, NULL) : NULL;
    time_t needed = (time_t)(env_wall_s(env) + (int64_t)AUTO_CERT_RENEW_DAYS * DAY_S), now = (time_t)env_wall_s(env);
    bool is_good = cert != NULL && key != NULL && X509_check_private_key(cert, key) == 1 && X509_cmp_time(X509_get0_notAfter(cert), &needed) > 0 &&
                   X509_cmp_time(X509_get0_notBefore(cert), &now) < 0;

    ERR_clear_error();
    EVP_PKEY_free(key);
    X509_free(cert);
    pem_close(&key_pem);
    pem_close(&cert_pem);
    return is_good;
}

/* --- a new one --- */

static bool extension_add(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    bool is_good;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    is_good = e != NULL && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return is_good;
}

/* A name that may stand in a certificate: what DNS allows, nothing that the list's notation would read as more than a name. */
static bool is_host_name(const char *name)
{
    return name[0] != '\0' && strlen(name) <= 253 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == strlen(name);
}

static void names_list(const char *address, char out[NAMES_MAX])
{
    char host[256] = "";
    int len = snprintf(out, NAMES_MAX, "DNS:localhost,IP:127.0.0.1,IP:::1");

    if (gethostname(host, sizeof host - 1) == 0 && is_host_name(host) && strcmp(host, "localhost") != 0)
        len += snprintf(out + len, NAMES_MAX - (size_t)len, ",DNS:%s", host);
    if (address[0] != '\0' && strcmp(address, "127.0.0.1") != 0 && strcmp(address, "0.0.0.0") != 0 && strcmp(address, "::") != 0 &&
        strcmp(address, "::1") != 0 && strspn(address, "0123456789abcdefABCDEF.:") == strlen(address))
        snprintf(out + len, NAMES_MAX - (size_t)len, ",IP:%s", address);
}

static bool serial_set(const struct env *env, X509 *cert)
{
    uint8_t serial[SERIAL_BYTES];
    BIGNUM *n;
    bool is_good;

    env_random(env, serial, sizeof serial);
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, and of full length */
    n = BN_bin2bn(serial, sizeof serial, NULL);
    is_good = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
    BN_free(n);
    return is_good;
}

static X509 *certificate_make(const struct env *env, EVP_PKEY *key, const char *address)
{
    X509 *cert = X509_new();
    X509_NAME *name;
    char names[NAMES_MAX];
    time_t now = (time_t)env_wall_s(env);

    names_list(address, names);
    if (cert == NULL || X509_set_version(cert, X509_VERSION_3) != 1 || !serial_set(env, cert) ||
        X509_time_adj_ex(X509_getm_notBefore(cert), 0, -EARLIER_S, &now) == NULL ||
        X509_time_adj_ex(X509_getm_notAfter(cert), AUTO_CERT_DAYS, 0, &now) == NULL || X509_set_pubkey(cert, key) != 1)
        goto failed;
    name = X509_get_subject_name(cert);
    if (X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"immudb", -1, -1, 0) != 1 || X509_set_issuer_name(cert, name) != 1)
        goto failed;
    if (!extension_add(cert, NID_basic_constraints, "critical,CA:FALSE") || !extension_add(cert, NID_key_usage, "critical,digitalSignature") ||
        !extension_add(cert, NID_ext_key_usage, "serverAuth") || !extension_add(cert, NID_subject_key_identifier, "hash") ||
        !extension_add(cert, NID_subject_alt_name, names) || X509_sign(cert, key, EVP_sha256()) <= 0)
        goto failed;
    return cert;
failed:
    X509_free(cert);
    return NULL;
}

static enum status file_write(struct vfs *vfs, const char *dir, const char *path, BIO *pem, struct err *err)
{
    char *data;
    long len = BIO_get_mem_data(pem, &data);

    return vfs_replace(vfs, dir, path, data, (size_t)len, err);
}

/* The key first: a certificate without its key is noticed and made again. */
static enum status pair_make(struct vfs *vfs, const struct env *env, const char *dir, const char *address, const struct auto_cert *a, struct err *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = key != NULL ? certificate_make(env, key, address) : NULL;
    BIO *key_pem = BIO_new(BIO_s_secmem()), *cert_pem = BIO_new(BIO_s_mem());
    char text[160];
    enum status st;

    if (cert == NULL || key_pem == NULL || cert_pem == NULL || PEM_write_bio_PKCS8PrivateKey(key_pem, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        PEM_write_bio_X509(cert_pem, cert) != 1)
        st = err_set(err, ST_NOMEM, 0, "%s", tls_reason(text));
    else if ((st = file_write(vfs, dir, a->pkey, key_pem, err)) == ST_OK)
        st = file_write(vfs, dir, a->certificate, cert_pem, err);
    BIO_free(cert_pem);
    BIO_free(key_pem);
    X509_free(cert);
    EVP_PKEY_free(key);
    return st == ST_OK ? ST_OK : err_while(err, st, "making a self-signed certificate (--auto-cert)");
}

enum status auto_cert_ensure(struct vfs *vfs, const struct env *env, const char *dir, const char *address, struct auto_cert *out, bool *was_made,
                             struct err *err)
{
    enum status st;

    *was_made = false;
    if ((st = vfs_path(out->certificate, err, dir, "immudb-cert.pem")) != ST_OK || (st = vfs_path(out->pkey, err, dir, "immudb-key.pem")) != ST_OK ||
        is_usable(vfs, env, out))
        return st;
    *was_made = true;
    return pair_make(vfs, env, dir, address, out, err);
}
