/* The TLS context of the listeners, from --certificate, --pkey, --clientcas, --mtls. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include "base/err.h"

struct config;

/* *out: an SSL_CTX with one reference, or NULL when no certificate is configured. ST_INVALID with the published texts. */
MUST_USE enum status tls_context(const struct config *c, void **out, struct err *err);
void tls_context_free(void *ctx);

#endif
