/* Users over a system database in memory: what is written survives reopening, changes move the epoch at once, logins are counted and keys die with the
 * last, lists come in order, a broken record fails the list, concurrent look-ups during changes see one record or the other. Nothing is written for who
 * has given up, nor on a full disk, which is told at once. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "auth/auth_fixture.h"

static void test_find(void **state)
{
    struct fixture *f = fixture_open(4);
    struct user_record *r;
    struct user *user, *again;
    struct err err;
    uint64_t epoch;

    (void)state;
    assert_int_equal(users_find(f->auth->users, bytes_str("alice"), true, &user, &r, &err), ST_NOT_FOUND);
    assert_string_equal(err.text, "tbtree: key not found");
    assert_null(user);
    assert_int_equal(users_find(f->auth->users, bytes_of(NULL, 0), true, &user, &r, &err), ST_NOT_FOUND);
    assert_int_equal(users_find(f->auth->users, bytes_str("alice"), false, &user, &r, &err), ST_AGAIN);
    fixture_add_user(f, "alice", "pw", "db1", PERMISSION_READ, true);
    assert_int_equal(users_find(f->auth->users, bytes_str("alice"), false, &user, &r, &err), ST_OK); /* cached by the write */
    assert_string_equal(user_name(user), "alice");
    assert_int_equal(user_permission_on(r, bytes_str("db1")), PERMISSION_READ);
    user_record_unref(r);
    epoch = user_epoch(user);
    fixture_add_user(f, "alice", "pw", "db1", PERMISSION_ADMIN, true);
    assert_true(user_epoch(user) > epoch);
    r = users_record(f->auth->users, user);
    assert_int_equal(user_permission_on(r, bytes_str("db1")), PERMISSION_ADMIN);
    user_record_unref(r);
    again = fixture_user(f, "alice");
    assert_ptr_equal(again, user);
    fixture_close(f);
}

static void test_reopen(void **state)
{
    struct fixture *f = fixture_open(4);
    struct sessions_options s = {.env = &f->env, .sessions_max = 1};
    struct user_record *r;
    struct user *user;
    char name[32];
    int i;

    (void)state;
    for (i = 0; i < 200; i++) { /* more than the first table holds */
        snprintf(name, sizeof name, "user%d", i);
        fixture_add_user(f, name, "pw", "db", i % 2 == 0 ? PERMISSION_READ : PERMISSION_ADMIN, true);
    }
    auth_close(f->auth);
    store_close(f->store);
    fixture_open_store(f);
    assert_int_equal(auth_open(f->store, &s, &(struct auth_options){.login_threads = 1}, &f->auth, NULL), ST_OK);
    for (i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "user%d", i);
        assert_int_equal(users_find(f->auth->users, bytes_str(name), true, &user, &r, NULL), ST_OK);
        assert_int_equal(user_permission_on(r, bytes_str("db")), i % 2 == 0 ? PERMISSION_READ : PERMISSION_ADMIN);
        assert_true(password_matches(bytes_str("pw"), bytes_str(r->hash)) || i > 2);
        user_record_unref(r);
    }
    fixture_close(f);
}

struct names {
    char text[256];
};

static enum status collect(void *ctx, const struct user_record *r, struct err *err)
{
    struct names *n = ctx;

    (void)err;
    snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%s ", r->name);
    return ST_OK;
}

static bool yes(void *ctx)
{
    (void)ctx;
    return true;
}

static struct user_record *record_named(struct fixture *f, const char *name)
{
    struct user_record *r = user_record_create(bytes_str(name));

    assert_non_null(r);
    assert_int_equal(password_hash(&f->env, bytes_str("pw"), 4, r->hash, NULL), ST_OK);
    return r;
}

static void test_written_or_not(void **state)
{
    const struct systemdb_caller late = {.deadline_ns = 1}, gone = {.deadline_ns = UINT64_MAX, .is_cancelled = yes},
                                 patient = {.deadline_ns = UINT64_MAX};
    static const char *const names[] = {"first", "second", "late", "gone", "refused"};
    struct fixture *f = fixture_open(4);
    struct sessions_options s = {.env = &f->env, .sessions_max = 1};
    struct users *users = f->auth->users;
    struct user *user;
    struct err err;
    uint64_t begun_ns;

    (void)state;
    assert_int_equal(users_put_for(users, record_named(f, "late"), bytes_of(NULL, 0), &late, &err), ST_TIMEOUT);
    assert_int_equal(users_put_for(users, record_named(f, "gone"), bytes_of(NULL, 0), &gone, &err), ST_CANCELLED);
    assert_int_equal(users_put_for(users, record_named(f, "first"), bytes_of(NULL, 0), &patient, &err), ST_OK);
    assert_int_equal(users_writable(users, &err), ST_OK);
    vfs_memory_set_capacity(f->vfs, 1);
    begun_ns = env_mono_ns(env_system());
    for (int i = 0; i < 20; i++) {
        assert_int_equal(users_put_for(users, record_named(f, "refused"), bytes_of(NULL, 0), &patient, &err), ST_NO_SPACE);
        assert_string_equal(err.text, "no space left on device: database systemdb cannot be written");
        assert_int_equal(users_writable(users, &err), ST_NO_SPACE);
    }
    assert_true(env_mono_ns(env_system()) - begun_ns < UINT64_C(5000000000));
    vfs_memory_set_capacity(f->vfs, 0);
    assert_int_equal(users_put_for(users, record_named(f, "second"), bytes_of(NULL, 0), &patient, &err), ST_OK);
    assert_int_equal(users_writable(users, &err), ST_OK);
    auth_close(f->auth);
    store_close(f->store);
    fixture_open_store(f);
    assert_int_equal(auth_open(f->store, &s, &(struct auth_options){.login_threads = 1}, &f->auth, NULL), ST_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(users_find(f->auth->users, bytes_str(names[i]), true, &user, NULL, NULL), i < 2 ? ST_OK : ST_NOT_FOUND);
    fixture_close(f);
}

static void test_list(void **state)
{
    static const char key[] = "\x01"
                              "broken";
    struct fixture *f = fixture_open(4);
    struct names n = {""};
    bool other;

    (void)state;
    fixture_add_user(f, "immudb", "pw", "*", PERMISSION_SYSADMIN, true);
    assert_int_equal(users_any_other(f->auth->users, &other, NULL), ST_OK);
    assert_false(other);
    fixture_add_user(f, "zoe", "pw", "d", PERMISSION_READ, true);
    fixture_add_user(f, "a", "pw", "d", PERMISSION_READ, true); /* one letter counts as well */
    assert_int_equal(users_any_other(f->auth->users, &other, NULL), ST_OK);
    assert_true(other);
    assert_int_equal(users_each(f->auth->users, collect, &n, NULL), ST_OK);
    assert_string_equal(n.text, "a immudb zoe ");
    assert_int_equal(systemdb_put(f->store, bytes_str(key), bytes_str("nonsense"), bytes_of(NULL, 0), NULL), ST_OK);
    assert_int_equal(users_each(f->auth->users, collect, &n, NULL), ST_INVALID);
    assert_int_equal(systemdb_delete(f->store, bytes_str(key), NULL), ST_OK);
    n.text[0] = '\0';
    assert_int_equal(users_each(f->auth->users, collect, &n, NULL), ST_OK);
    assert_string_equal(n.text, "a immudb zoe ");
    fixture_close(f);
}

static void test_logins(void **state)
{
    struct fixture *f = fixture_open(4);
    struct users *u = f->auth->users;
    EVP_PKEY *first, *second, *key;
    struct user *user;
    uint64_t epoch, now;

    (void)state;
    fixture_add_user(f, "bob", "pw", "d", PERMISSION_READ, true);
    user = fixture_user(f, "bob");
    assert_null(users_key(u, user, &epoch));
    assert_false(users_logout(u, user));
    assert_int_equal(users_login(u, user, &first, NULL), ST_OK);
    assert_int_equal(users_login(u, user, &second, NULL), ST_OK);
    assert_ptr_equal(first, second); /* one pair for all logins */
    EVP_PKEY_free(second);
    key = users_key(u, user, &epoch);
    assert_ptr_equal(key, first);
    EVP_PKEY_free(key);
    assert_true(users_logout(u, user));
    assert_int_equal(user_epoch(user), epoch);
    assert_true(users_logout(u, user)); /* the last one */
    assert_true(user_epoch(user) > epoch);
    assert_null(users_key(u, user, &now));
    assert_false(users_logout(u, user));
    assert_int_equal(users_login(u, user, &second, NULL), ST_OK);
    assert_int_equal(EVP_PKEY_eq(first, second), 0); /* a new pair */
    users_forget_logins(u, user);
    assert_null(users_key(u, user, &now));
    EVP_PKEY_free(first);
    EVP_PKEY_free(second);
    assert_ptr_equal(users_known(u, ""), users_nameless(u));
    assert_null(users_known(u, "nobody"));
    fixture_close(f);
}

static void test_token_cache(void **state)
{
    struct fixture *f = fixture_open(4);
    struct checked_token t;
    struct arena arena;
    struct user *user;
    EVP_PKEY *key;
    char *text;
    struct err err;
    int i;

    (void)state;
    arena_init(&arena, 4096, 0);
    fixture_add_user(f, "bob", "pw", "d", PERMISSION_READ, true);
    user = fixture_user(f, "bob");
    assert_int_equal(users_login(f->auth->users, user, &key, NULL), ST_OK);
    assert_int_equal(token_issue(key, "bob", 5, 4102444800, &arena, &text, NULL), ST_OK);
    for (i = 0; i < 3; i++) { /* checked, then remembered */
        assert_int_equal(token_check(f->auth->tokens, f->auth->users, bytes_str(text), &arena, &t, &err), TOKEN_GOOD);
        assert_ptr_equal(t.user, user);
        assert_int_equal(t.database, 5);
        assert_int_equal(t.expires_s, 4102444800);
    }
    assert_int_equal(token_check(f->auth->tokens, f->auth->users, bytes_of(NULL, 0), &arena, &t, &err), TOKEN_ABSENT);
    assert_int_equal(token_check(f->auth->tokens, f->auth->users, bytes_str("garbage"), &arena, &t, &err), TOKEN_BROKEN);
    users_forget_logins(f->auth->users, user); /* what was remembered dies with the keys */
    assert_int_equal(token_check(f->auth->tokens, f->auth->users, bytes_str(text), &arena, &t, &err), TOKEN_ABSENT);
    EVP_PKEY_free(key);
    assert_int_equal(users_login(f->auth->users, user, &key, NULL), ST_OK);
    assert_int_equal(token_check(f->auth->tokens, f->auth->users, bytes_str(text), &arena, &t, &err), TOKEN_BROKEN);
    assert_string_equal(err.text, "invalid signature");
    EVP_PKEY_free(key);
    arena_free(&arena);
    fixture_close(f);
}

static _Atomic bool stop;

static void *look_up(void *arg)
{
    struct fixture *f = arg;
    struct user_record *r;
    struct user *user;

    while (!atomic_load(&stop)) {
        uint32_t p;

        assert_int_equal(users_find(f->auth->users, bytes_str("carl"), true, &user, &r, NULL), ST_OK);
        p = user_permission_on(r, bytes_str("d"));
        assert_true(p == PERMISSION_READ || p == PERMISSION_ADMIN);
        assert_int_equal(r->privilege_count, p == PERMISSION_READ ? 1 : SQL_PRIVILEGES); /* one or the other, never half */
        user_record_unref(r);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = fixture_open(4);
    pthread_t threads[3];
    int i;

    (void)state;
    fixture_add_user(f, "carl", "pw", "d", PERMISSION_READ, true);
    for (i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up, f), 0);
    for (i = 0; i < 40; i++)
        fixture_add_user(f, "carl", "pw", "d", i % 2 == 0 ? PERMISSION_ADMIN : PERMISSION_READ, true);
    atomic_store(&stop, true);
    for (i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_find),   cmocka_unit_test(test_written_or_not), cmocka_unit_test(test_reopen),
                                       cmocka_unit_test(test_list),   cmocka_unit_test(test_logins),         cmocka_unit_test(test_token_cache),
                                       cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests_name("users", tests, NULL, NULL);
}
