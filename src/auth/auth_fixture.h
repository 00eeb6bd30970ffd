/* For tests alone: a system database in memory, a clock that is set by hand, and what is above it. */
#ifndef AUTH_AUTH_FIXTURE_H
#define AUTH_AUTH_FIXTURE_H

#include <stdatomic.h>
#include <stdlib.h>

#include "auth/auth.h"
#include "auth/systemdb.h"
#include "base/test.h"
#include "vfs/vfs_memory.h"

struct fixture {
    struct env env;
    _Atomic uint64_t mono_ns;
    _Atomic int64_t wall_ns;
    struct vfs *vfs;
    struct runtime *runtime;
    struct store *store;
    struct auth *auth;
};

static inline uint64_t fixture_mono(void *ctx) { return atomic_load(&((struct fixture *)ctx)->mono_ns); }
static inline int64_t fixture_wall(void *ctx) { return atomic_load(&((struct fixture *)ctx)->wall_ns); }
static inline void fixture_random(void *ctx, void *out, size_t len)
{
    (void)ctx;
    env_system()->random(NULL, out, len);
}
static inline void fixture_log(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    (void)level;
    (void)text;
}

static inline void fixture_open_store(struct fixture *f)
{
    struct store_options o = {.runtime = f->runtime, .dir = "systemdb", .create = true, .tx_version = 1};
    struct err err;

    if (store_open(&o, &f->store, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static inline struct fixture *fixture_open(uint32_t sessions_max)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct runtime_options o = {0};
    struct sessions_options s = {.sessions_max = sessions_max, .idle_max_ns = 120, .age_max_ns = 1000, .inactivity_ns = 60};

    assert_non_null(f);
    f->env = (struct env){.ctx = f, .wall_ns = fixture_wall, .mono_ns = fixture_mono, .random = fixture_random, .log = fixture_log};
    f->wall_ns = INT64_C(1795234979051735434);
    f->mono_ns = 1000000;
    assert_non_null(f->vfs = vfs_memory_create());
    o.vfs = f->vfs; /* the store below has the system's clock: it waits with it */
    assert_int_equal(runtime_create(&o, &f->runtime, NULL), ST_OK);
    fixture_open_store(f);
    s.env = &f->env;
    assert_int_equal(auth_open(f->store, &s, &(struct auth_options){.login_threads = 2, .login_attempts_per_minute = 30}, &f->auth, NULL), ST_OK);
    return f;
}

static inline void fixture_close(struct fixture *f)
{
    auth_close(f->auth);
    store_close(f->store);
    runtime_destroy(f->runtime);
    vfs_memory_destroy(f->vfs);
    free(f);
}

/* A user with a cheap hash and a permission. */
static inline void fixture_add_user(struct fixture *f, const char *name, const char *password, const char *database, uint32_t permission,
                                    bool is_active)
{
    struct user_record *r = user_record_create(bytes_str(name));
    struct err err;

    assert_non_null(r);
    assert_int_equal(password_hash(&f->env, bytes_str(password), 4, r->hash, NULL), ST_OK);
    assert_true(user_record_grant(r, bytes_str(database), permission));
    assert_true(user_record_default_privileges(r, bytes_str(database), permission));
    assert_true(user_record_set_creator(r, bytes_str("immudb"), f->wall_ns));
    r->is_active = is_active;
    if (users_put(f->auth->users, r, bytes_of(NULL, 0), &err) != ST_OK)
        fail_msg("%s", err.text);
}

static inline struct user *fixture_user(struct fixture *f, const char *name)
{
    struct user *user;

    assert_int_equal(users_find(f->auth->users, bytes_str(name), true, &user, NULL, NULL), ST_OK);
    return user;
}

#endif
