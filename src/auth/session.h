/* Sessions: who called OpenSession, on which database, and when they were last heard of.
 *
 * The table is cut into shards with a lock each; a session is reference-counted, so that a connection may remember it (one atomic load tells
 * whether it is still open). Below 256 bytes each. Times are of the monotonic clock. Any thread. */
#ifndef AUTH_SESSION_H
#define AUTH_SESSION_H

#include <stdatomic.h>

#include "auth/users.h"

#define SESSION_ID_LEN 44

struct sessions;

struct session {
    _Atomic unsigned references;
    _Atomic bool is_open;
    _Atomic int64_t database; /* number of the selected database */
    _Atomic uint64_t last_used_ns;
    uint64_t opened_ns;
    struct user *user;
    struct session *next; /* in its bucket */
    char id[SESSION_ID_LEN + 1];
};

struct sessions_options {
    const struct env *env;
    uint32_t sessions_max;  /* at least 1 */
    uint64_t idle_max_ns;   /* session timeout; 0 = unlimited */
    uint64_t age_max_ns;    /* 0 = unlimited */
    uint64_t inactivity_ns; /* only reported */
};
MUST_USE enum status sessions_open(const struct sessions_options *o, struct sessions **out, struct err *err);
void sessions_close(struct sessions *s);

/* *out with a reference. ST_LIMIT "max sessions number reached". */
MUST_USE enum status session_create(struct sessions *s, struct user *user, int64_t database, struct session **out, struct err *err);
/* With a reference, or NULL when unknown or closed. */
struct session *session_find(struct sessions *s, struct bytes id);
void session_unref(struct session *session);
static inline struct session *session_ref(struct session *session)
{
    atomic_fetch_add_explicit(&session->references, 1, memory_order_relaxed);
    return session;
}
static inline bool session_is_open(const struct session *session)
{
    return atomic_load_explicit(&((struct session *)(uintptr_t)session)->is_open, memory_order_acquire);
}
static inline void session_touch(struct session *session, uint64_t now_ns)
{
    atomic_store_explicit(&session->last_used_ns, now_ns, memory_order_relaxed);
}
/* Forgets it; false when somebody else was first. */
bool session_end(struct sessions *s, struct session *session);
/* Forgets all sessions of a user. */
void sessions_end_user(struct sessions *s, const struct user *user);
/* The guard: forgets what is idle or old beyond the limits; returns how many. */
size_t sessions_expire(struct sessions *s, uint64_t now_ns);
size_t sessions_count(struct sessions *s);
/* Sessions idle for longer than inactivity_ns. */
size_t sessions_inactive(struct sessions *s, uint64_t now_ns);

#endif
