/* Checking passwords without letting anybody flood the machine.
 *
 * A check costs about 50 ms of a core. Checks run on a small pool at low priority behind a queue of LOGIN_QUEUE_MAX, of which one address gets a
 * share: never more than half of what is free, so that there is always a place for an address that has none; beyond it a login is refused at once.
 * Failed attempts are limited (auth/attempts.h). Equal checks (same user, same password) that wait at the same time cost one
 * hash. A successful check is remembered for a minute, keyed by an HMAC under a key of this process and bound to the user's epoch: a changed
 * password is forgotten at once. Names that do not exist cost as much as those that do. */
#ifndef AUTH_LOGINS_H
#define AUTH_LOGINS_H

#include "auth/attempts.h"
#include "auth/users.h"
#include "base/pool.h"

#define LOGIN_QUEUE_MAX 64
#define LOGIN_SHARE_MAX 16 /* of the queue, for one address */
#define LOGIN_FOLLOWERS_MAX 1024

struct logins;

enum login_outcome { LOGIN_RIGHT = 0, LOGIN_WRONG_PASSWORD, LOGIN_UNKNOWN_USER, LOGIN_INACTIVE, LOGIN_FAILED /* err tells */ };

/* One login, embedded in the caller's object; everything is borrowed until done is called. */
struct login {
    struct bytes user, password;
    const char *address;                   /* of the peer, "host:port"; the port does not count */
    void (*done)(struct login *l);         /* once; on a worker, or inside logins_check() when the answer is known at once */
    bool (*is_cancelled)(struct login *l); /* asked before the work begins; may be NULL */
    /* --- answer --- */
    enum login_outcome outcome;
    struct user *who;           /* LOGIN_RIGHT */
    struct user_record *record; /* LOGIN_RIGHT: with a reference, the caller's */
    uint64_t epoch;             /* LOGIN_RIGHT: of the user when the record was read; another one by now: the answer is out of date */
    struct err err;
    /* --- owned by logins.c --- */
    struct pool_job job;
    struct logins *logins;
    uint8_t fingerprint[32];
    char address_text[ATTEMPTS_ADDRESS_MAX];
    struct bytes from; /* in address_text */
    struct login *next_running, *followers, *next_follower;
};

struct login_stats {
    uint64_t checked, remembered, shared, refused, limited;
    size_t waiting;
};

/* threads: how many checks run at the same time. attempts_per_minute: failures that one address may make for one user; 0 = no limits. */
MUST_USE enum status logins_open(struct users *users, const struct env *env, unsigned threads, uint32_t attempts_per_minute, struct logins **out,
                                 struct err *err);
/* Waits for running checks. */
void logins_close(struct logins *l);
/* ST_OK: done was or will be called. ST_LIMIT: refused, with a text for the client; done is not called. */
MUST_USE enum status logins_check(struct logins *l, struct login *login, struct err *err);
/* For passwords that somebody else checks, under the same limits: begin before the check (ST_LIMIT: do not), end after it. */
MUST_USE enum status logins_attempt_begin(struct logins *l, const char *peer, struct bytes user, struct err *err);
void logins_attempt_end(struct logins *l, const char *peer, struct bytes user, bool is_right);
void logins_stats(struct logins *l, struct login_stats *out);

#endif
