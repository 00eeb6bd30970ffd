/* SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677): what the PostgreSQL protocol checks passwords with, since it never sends them.
 *
 * A verifier cannot be made from a bcrypt hash, hence one is made whenever a password is seen: when it is set, and at a successful login of a user
 * that has none. SASLprep leaves printable ASCII as it is; other passwords get no verifier and need a method that sends them. Any thread. */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include "base/bytes.h"
#include "base/env.h"
#include "base/err.h"

#define SCRAM_SALT_BYTES 16
#define SCRAM_KEY_BYTES 32
#define SCRAM_ITERATIONS 32768 /* of new verifiers: about 10 ms; clients do the same work once per connection */
#define SCRAM_ITERATIONS_MAX 10000000
#define SCRAM_TEXT_MAX 160

struct scram_verifier {
    uint32_t iterations;
    uint8_t salt[SCRAM_SALT_BYTES];
    uint8_t stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
};

/* Is there a verifier for such a password? */
bool scram_takes(struct bytes password);
/* With the salt and the number of iterations already in v. ST_NOMEM when OpenSSL fails. */
MUST_USE enum status scram_derive(struct bytes password, struct scram_verifier *v, struct err *err);
/* With a fresh salt and SCRAM_ITERATIONS. */
MUST_USE enum status scram_create(const struct env *env, struct bytes password, struct scram_verifier *out, struct err *err);
/* "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", NUL-terminated. Returns out. */
const char *scram_encode(const struct scram_verifier *v, char out[SCRAM_TEXT_MAX]);
/* False when text is none. */
bool scram_decode(struct bytes text, struct scram_verifier *out);

#endif
