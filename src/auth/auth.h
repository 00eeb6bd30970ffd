/* Everything about who may do what: users, their sessions, tokens and pending logins. */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include "auth/logins.h"
#include "auth/session.h"
#include "auth/token_cache.h"

struct auth {
    struct users *users;
    struct sessions *sessions;
    struct logins *logins;
    struct token_cache *tokens;
};

struct auth_options {
    unsigned login_threads;
    uint32_t login_attempts_per_minute; /* logins.h */
    bool is_replica;                    /* systemdb is written by its primary alone: logins add no verifiers to it */
};
/* Everything but the session limits comes with its defaults. */
MUST_USE enum status auth_open(struct store *systemdb, const struct sessions_options *sessions, const struct auth_options *o, struct auth **out,
                               struct err *err);
/* Waits for running password checks. NULL is allowed. */
void auth_close(struct auth *a);

#endif
