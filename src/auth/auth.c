/* Opening and closing the parts in order. */
#include "auth/auth.h"

#include <stdlib.h>

enum status auth_open(struct store *systemdb, const struct sessions_options *sessions, const struct auth_options *o, struct auth **out,
                      struct err *err)
{
    struct auth *a = calloc(1, sizeof *a);
    enum status st;

    *out = NULL;
    if (a == NULL)
        return err_set(err, ST_NOMEM, 0, "opening users: out of memory");
    if ((st = users_open(systemdb, sessions->env, &a->users, err)) == ST_OK && (st = sessions_open(sessions, &a->sessions, err)) == ST_OK &&
        (st = token_cache_open(&a->tokens, err)) == ST_OK &&
        (st = logins_open(a->users, sessions->env, o->login_threads, o->login_attempts_per_minute, &a->logins, err)) == ST_OK) {
        users_set_replica(a->users, o->is_replica);
        *out = a;
        return ST_OK;
    }
    auth_close(a);
    return st;
}

void auth_close(struct auth *a)
{
    if (a == NULL)
        return;
    logins_close(a->logins);
    token_cache_close(a->tokens);
    sessions_close(a->sessions);
    users_close(a->users);
    free(a);
}
