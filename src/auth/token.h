/* Login tokens: PASETO v2.public (Ed25519), as the published clients carry them.
 *
 * "v2.public." + base64url(payload || signature) + "." + base64url("immudb"); the payload is {"database":"<number>","exp":"<RFC 3339>",
 * "sub":"<user>"} (sub is left out when empty). The signature covers the pre-authentication encoding of header, payload and footer. Keys belong to
 * users (users.h). Any thread. */
#ifndef AUTH_TOKEN_H
#define AUTH_TOKEN_H

#include <openssl/evp.h>

#include "base/arena.h"
#include "base/env.h"

#define TOKEN_LEN_MAX 4096
#define TOKEN_NO_DATABASE (-1)

struct token {
    char user[64];    /* as claimed: not to be believed before token_verify() */
    int64_t database; /* number of the selected database, TOKEN_NO_DATABASE */
    int64_t expires_s;
    struct bytes payload; /* in the arena */
    uint8_t signature[64];
    struct bytes footer; /* in the arena */
};

/* A fresh key pair; NULL when OpenSSL fails. */
EVP_PKEY *token_key_create(void);
/* NUL-terminated, in the arena. */
MUST_USE enum status token_issue(EVP_PKEY *key, const char *user, int64_t database, int64_t expires_s, struct arena *arena, char **out,
                                 struct err *err);
/* Splits text, without judging the signature. ST_INVALID with the published causes ("malformed token: expected at least 3 pieces", "malformed token:
 * incorrect token size", "error decoding token payload: illegal base64 data at input byte 0", ...). */
MUST_USE enum status token_parse(struct bytes text, struct arena *arena, struct token *out, struct err *err);
/* ST_INVALID "invalid signature". */
MUST_USE enum status token_verify(const struct token *t, EVP_PKEY *key, struct err *err);

#endif
