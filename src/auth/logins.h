/* Checking passwords without letting anybody flood the machine.
 *
 * A check costs about 50 ms of a core. Checks run on a small pool at low priority behind a queue of LOGIN_QUEUE_MAX, of which one address and one
 * user name get a share each; beyond it a login is refused at once. Equal checks (same user, same password) that wait at the same time cost one
 * hash. A successful check is remembered for a minute, keyed by an HMAC under a key of this process and bound to the user's epoch: a changed
 * password is forgotten at once. Names that do not exist cost as much as those that do. */
#ifndef AUTH_LOGINS_H
#define AUTH_LOGINS_H

#include "auth/users.h"
#include "base/pool.h"

#define LOGIN_QUEUE_MAX 64
#define LOGIN_SHARE_MAX 16 /* of the queue, for one address or one user name */
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
    struct login *next_running, *followers, *next_follower;
};

struct login_stats {
    uint64_t checked, remembered, shared, refused;
    size_t waiting;
};

/* threads: how many checks run at the same time. */
MUST_USE enum status logins_open(struct users *users, const struct env *env, unsigned threads, struct logins **out, struct err *err);
/* Waits for running checks. */
void logins_close(struct logins *l);
/* ST_OK: done was or will be called. ST_LIMIT: refused, done is not called. */
MUST_USE enum status logins_check(struct logins *l, struct login *login, struct err *err);
void logins_stats(struct logins *l, struct login_stats *out);

#endif
