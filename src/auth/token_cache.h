/* Tokens whose signature was checked before: verifying one costs 60 us, looking it up below 1 us.
 *
 * An entry is good while the user's epoch is the one at the check; its expiry is the caller's matter. Sharded, bounded, any thread. */
#ifndef AUTH_TOKEN_CACHE_H
#define AUTH_TOKEN_CACHE_H

#include "auth/token.h"
#include "auth/users.h"

struct checked_token {
    struct user *user;
    uint64_t epoch;
    int64_t database, expires_s;
};
struct token_cache;

MUST_USE enum status token_cache_open(struct token_cache **out, struct err *err);
void token_cache_close(struct token_cache *c);

enum token_verdict { TOKEN_GOOD = 0, TOKEN_ABSENT /* not logged in */, TOKEN_BROKEN /* err says why */ };
/* Judges the text of a token (without "Bearer "). arena: scratch. */
enum token_verdict token_check(struct token_cache *c, struct users *users, struct bytes text, struct arena *arena, struct checked_token *out,
                               struct err *err);

#endif
