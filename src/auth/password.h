/* Passwords as bcrypt hashes, in the published form "$2a$10$" + 53 characters.
 *
 * Hashing is libxcrypt's; it takes about 50 ms at cost 10, so these functions run on workers only (password_queue.h). They differ from the
 * library's own "$2a$" in one respect: the published server hashes bytes above 0x7f as what libxcrypt calls "$2y$", so the prefix is swapped
 * before and after the call. Any thread. */
#ifndef AUTH_PASSWORD_H
#define AUTH_PASSWORD_H

#include "base/bytes.h"
#include "base/env.h"
#include "base/err.h"

#define PASSWORD_HASH_LEN 60
#define PASSWORD_LEN_MAX 72
#define PASSWORD_COST 10

/* out: 60 characters and NUL. cost 4..31. ST_INVALID "password is empty" and "error hashing password: bcrypt: password length exceeds 72 bytes". */
MUST_USE enum status password_hash(const struct env *env, struct bytes password, unsigned cost, char out[PASSWORD_HASH_LEN + 1], struct err *err);
/* True when password is the one that was hashed. hash: any cost and any letter after "$2"; whatever is no bcrypt hash matches nothing. Compares in
 * constant time; the password's copies are cleansed. A password longer than 72 bytes or with a NUL inside matches nothing. */
bool password_matches(struct bytes password, struct bytes hash);
/* Costs as much as a check at cost 10, and fails: for users that do not exist. */
void password_waste(struct bytes password);

#endif
