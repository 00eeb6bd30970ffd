/* From PEM files to contexts; see tls.h. */
#include "server/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <time.h>

/* TLS 1.2; those of TLS 1.3 are fine as they are. Clients of the last ten years have one of these. */
static const char CIPHERS[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

enum { PATH_SHOWN_MAX = 70 };

/* Later reasons only say who passed it on. */
const char *tls_reason(char out[160])
{
    unsigned long code = ERR_peek_error();

    if (code == 0)
        return "unknown reason";
    ERR_error_string_n(code, out, 160);
    ERR_clear_error();
    return out;
}

int tls_no_passphrase(char *buf, int size, int is_writing, void *ctx)
{
    (void)buf, (void)size, (void)is_writing, (void)ctx;
    return -1;
}

/* The last bytes of a path: a long one must not push out what is wrong with it. */
static const char *path_end(const char *path)
{
    size_t len = strlen(path);

    return len > PATH_SHOWN_MAX ? path + len - PATH_SHOWN_MAX : path;
}

/* What is wrong with a PEM file, in words where OpenSSL's say nothing to who does not know it. */
static const char *file_reason(char out[160])
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code), library = ERR_GET_LIB(code);

    if ((library == ERR_LIB_PEM && reason == PEM_R_NO_START_LINE) || (library == ERR_LIB_OSSL_DECODER && reason == ERR_R_UNSUPPORTED)) {
        ERR_clear_error();
        return "there is none in it in PEM form";
    }
    if (reason == ERR_R_INTERRUPTED_OR_CANCELLED) { /* tls_no_passphrase() */
        ERR_clear_error();
        return "it has a passphrase, and nobody is asked for one";
    }
    if (ERR_SYSTEM_ERROR(code)) {
        ERR_clear_error();
        return strerror(reason);
    }
    return tls_reason(out);
}

/* "client" is how the published text goes; both are the server's own. */
static enum status identity_failed(const char *what, const char *path, struct err *err)
{
    char text[160];

    return err_set(err, ST_INVALID, 0, "failed to read client certificate or private key: the server's %s %s: %s", what, path_end(path),
                   file_reason(text));
}

static enum status identity_load(const struct tls_options *o, SSL_CTX *ctx, struct err *err)
{
    bool is_read;

    ERR_clear_error();
    SSL_CTX_set_default_passwd_cb(ctx, tls_no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(ctx, o->certificate) != 1)
        return identity_failed("certificate (--certificate)", o->certificate, err);
    is_read = SSL_CTX_use_PrivateKey_file(ctx, o->pkey, SSL_FILETYPE_PEM) == 1;
    if (!is_read && !(ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_X509 && ERR_GET_REASON(ERR_peek_error()) == X509_R_KEY_VALUES_MISMATCH))
        return identity_failed("private key (--pkey)", o->pkey, err);
    if (is_read && SSL_CTX_check_private_key(ctx) == 1)
        return ST_OK;
    ERR_clear_error();
    return err_set(err, ST_INVALID, 0,
                   "failed to read client certificate or private key: the server's certificate and the key %s do not belong together",
                   path_end(o->pkey));
}

static enum status clients_load(const struct tls_options *o, SSL_CTX *ctx, struct err *err)
{
    int mode = SSL_VERIFY_PEER | (o->clients == TLS_CLIENTS_DEMANDED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    char text[160];

    ERR_clear_error();
    if (o->clientcas[0] == '\0') {
        if (SSL_CTX_set_default_verify_paths(ctx) != 1)
            return err_set(err, ST_INVALID, 0, "failed to read client ca cert: the system's: %s", tls_reason(text));
    } else {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->clientcas);

        if (names == NULL || SSL_CTX_load_verify_locations(ctx, o->clientcas, NULL) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return err_set(err, ST_INVALID, 0, "failed to read client ca cert: --clientcas %s: %s", path_end(o->clientcas), file_reason(text));
        }
        SSL_CTX_set_client_CA_list(ctx, names);
    }
    SSL_CTX_set_verify(ctx, mode, NULL);
    return ST_OK;
}

enum status tls_context(const struct tls_options *o, void **out, struct err *err)
{
    static const unsigned char session_id[] = "immudb";
    SSL_CTX *ctx;
    enum status st;

    *out = NULL;
    if ((ctx = SSL_CTX_new(TLS_server_method())) == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS) != 1 || SSL_CTX_set_session_id_context(ctx, session_id, sizeof session_id - 1) != 1) {
        SSL_CTX_free(ctx);
        return err_set(err, ST_NOMEM, 0, "preparing TLS: out of memory");
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_COMPRESSION);
    /* Resumed sessions come by ticket; the server keeps none. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if ((st = identity_load(o, ctx, err)) == ST_OK && o->clients != TLS_CLIENTS_UNASKED)
        st = clients_load(o, ctx, err);
    if (st != ST_OK) {
        SSL_CTX_free(ctx);
        return st;
    }
    *out = ctx;
    return ST_OK;
}

void tls_context_free(void *ctx) { SSL_CTX_free(ctx); }

int64_t tls_context_expiry_s(void *ctx)
{
    struct tm end = {0};

    if (ASN1_TIME_to_tm(X509_get0_notAfter(SSL_CTX_get0_certificate(ctx)), &end) != 1)
        return 0;
    return (int64_t)timegm(&end);
}
