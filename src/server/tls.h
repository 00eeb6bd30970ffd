/* TLS contexts of the listeners. Thread-safe as OpenSSL's contexts are: made, then only read. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "base/err.h"

enum tls_clients {
    TLS_CLIENTS_UNASKED,  /* no client certificate is asked for */
    TLS_CLIENTS_IF_GIVEN, /* asked for, and checked when the client sends one */
    TLS_CLIENTS_DEMANDED  /* nobody gets in without one */
};
struct tls_options {
    const char *certificate, *pkey; /* PEM files */
    const char *clientcas;          /* PEM file; "" = the system's certificates */
    enum tls_clients clients;
};

/* *out: an SSL_CTX with one reference: TLS 1.2 and later, forward-secret AEAD ciphers only, no renegotiation, no compression. ST_INVALID with the
 * published texts. */
MUST_USE enum status tls_context(const struct tls_options *o, void **out, struct err *err);
void tls_context_free(void *ctx); /* NULL is allowed */
/* For OpenSSL where it would ask the terminal: keys with a passphrase are refused. */
int tls_no_passphrase(char *buf, int size, int is_writing, void *ctx);
/* Seconds since 1970 at which the context's certificate ends. */
int64_t tls_context_expiry_s(void *ctx);
/* The first reason OpenSSL gives for the failure of this thread; clears them all. Returns out. */
const char *tls_reason(char out[160]);

#endif
