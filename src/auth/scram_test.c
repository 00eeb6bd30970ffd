/* SCRAM verifiers: the example of RFC 7677 (its client proof and server signature follow from our keys), the text form both ways, every damaged
 * text, and which passwords have one. Then users: where verifiers are kept, that they belong to one password, and that nothing of them is in the
 * record that is shared with the published server. */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "auth/auth_fixture.h"
#include "auth/base64.h"
#include "auth/scram.h"

static void hmac(const uint8_t *key, const char *text, uint8_t out[32])
{
    unsigned len = 32;

    assert_non_null(HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), out, &len));
}

/* RFC 7677, section 3: user "user", password "pencil". */
static void test_example(void **state)
{
    static const char auth_message[] = "n=user,r=rOprNGfwEbeRWgbNEkqO,"
                                       "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
                                       "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    struct scram_verifier v = {.iterations = 4096};
    uint8_t proof[35], signature[32], room[35];
    hash_t stored;
    char text[48];
    size_t len, i;

    (void)state;
    assert_int_equal(base64_decode(BASE64_STD, bytes_str("W22ZaJ0SNY7soEsUEjb6gQ=="), room, &len, NULL), ST_OK);
    memcpy(v.salt, room, SCRAM_SALT_BYTES);
    assert_int_equal(scram_derive(bytes_str("pencil"), &v, NULL), ST_OK);
    hmac(v.server_key, auth_message, signature);
    text[base64_encode(BASE64_STD, bytes_of(signature, 32), text)] = '\0';
    assert_string_equal(text, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    /* The client's proof: its key XOR the signature under StoredKey. Undoing it gives a key whose hash is StoredKey. */
    assert_int_equal(base64_decode(BASE64_STD, bytes_str("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), proof, &len, NULL), ST_OK);
    hmac(v.stored_key, auth_message, signature);
    for (i = 0; i < 32; i++)
        proof[i] ^= signature[i];
    sha256(proof, 32, &stored);
    assert_memory_equal(stored.b, v.stored_key, 32);
}

static void test_text(void **state)
{
    struct scram_verifier v, again;
    char text[SCRAM_TEXT_MAX], bad[2 * SCRAM_TEXT_MAX];
    size_t i, len;

    (void)state;
    assert_int_equal(scram_create(env_system(), bytes_str("MyPass#1"), &v, NULL), ST_OK);
    scram_encode(&v, text);
    len = strlen(text);
    assert_true(scram_decode(bytes_str(text), &again));
    assert_memory_equal(&again, &v, sizeof v);
    for (i = 0; i < len; i++) /* cut anywhere */
        assert_false(scram_decode(bytes_of(text, i), &again));
    for (i = 0; i < len; i++) { /* a byte that belongs nowhere */
        memcpy(bad, text, len + 1);
        bad[i] = '!';
        assert_false(scram_decode(bytes_of(bad, len), &again));
    }
    snprintf(bad, sizeof bad, "%sx", text);
    assert_false(scram_decode(bytes_str(bad), &again));
    snprintf(bad, sizeof bad, "SCRAM-SHA-256$99999999999999999999:%s", text + 20);
    assert_false(scram_decode(bytes_str(bad), &again));
    snprintf(bad, sizeof bad, "SCRAM-SHA-256$0%s", text + 19);
    assert_false(scram_decode(bytes_str(bad), &again));
}

static void test_takes(void **state)
{
    (void)state;
    assert_true(scram_takes(bytes_str("MyPass #1~")));
    assert_false(scram_takes(bytes_str("")));
    assert_false(scram_takes(bytes_str("p\xc3\xa4ss")));
    assert_false(scram_takes(bytes_str("tab\there")));
    assert_false(scram_takes(bytes_str("del\x7f")));
}

/* --- users --- */

static struct bytes stored(struct fixture *f, uint8_t prefix, const char *name, struct arena *arena)
{
    uint8_t key[64];
    struct bytes value;
    uint64_t tx_id;

    key[0] = prefix;
    memcpy(key + 1, name, strlen(name));
    return systemdb_get(f->store, bytes_of(key, 1 + strlen(name)), arena, &value, &tx_id, NULL) == ST_OK ? value : bytes_of(NULL, 0);
}

static uint64_t txs(struct fixture *f)
{
    struct store_state state;

    store_get_state(f->store, &state);
    return state.visible_tx_id;
}

static void put_password(struct fixture *f, const char *name, const char *password)
{
    struct user_record *r = user_record_create(bytes_str(name));

    assert_non_null(r);
    assert_true(user_record_grant(r, bytes_str("d"), PERMISSION_READ));
    r->is_active = true;
    assert_int_equal(user_record_set_password(r, &f->env, bytes_str(password), 4, NULL), ST_OK);
    assert_int_equal(users_put(f->auth->users, r, bytes_of(NULL, 0), NULL), ST_OK);
}

/* As the server would find it after a restart. */
static void reopen(struct fixture *f)
{
    struct sessions_options s = {.env = &f->env, .sessions_max = 4};

    auth_close(f->auth);
    assert_int_equal(auth_open(f->store, &s, &(struct auth_options){.login_threads = 1}, &f->auth, NULL), ST_OK);
}

static bool matches(struct fixture *f, const char *name, const char *password)
{
    struct user_record *r = users_record(f->auth->users, fixture_user(f, name));
    struct scram_verifier v;
    bool is_same = false;

    if (r->has_scram) {
        v = r->scram;
        assert_int_equal(scram_derive(bytes_str(password), &v, NULL), ST_OK);
        is_same = memcmp(&v, &r->scram, sizeof v) == 0;
    }
    user_record_unref(r);
    return is_same;
}

static void test_users(void **state)
{
    struct fixture *f = fixture_open(4);
    struct arena arena;
    struct bytes json;
    uint64_t before;

    (void)state;
    arena_init(&arena, 1024, 0);
    before = txs(f);
    put_password(f, "one", "first");
    assert_int_equal(txs(f), before + 1); /* one tx, as many as the published server makes */
    assert_true(matches(f, "one", "first"));
    reopen(f);
    assert_true(matches(f, "one", "first"));
    assert_false(matches(f, "one", "second"));
    json = stored(f, SYSTEMDB_USER_PREFIX, "one", &arena);
    assert_null(memmem(json.data, json.len, "SCRAM", 5));
    json = stored(f, SYSTEMDB_VERIFIER_PREFIX, "one", &arena);
    assert_non_null(memmem(json.data, json.len, "SCRAM-SHA-256$32768:", 20));
    put_password(f, "one", "second");
    reopen(f);
    assert_true(matches(f, "one", "second"));
    put_password(f, "one", "p\xc3\xa4ss"); /* none for this one, and the old one must not be taken for it */
    assert_false(matches(f, "one", "second"));
    reopen(f);
    assert_false(matches(f, "one", "second"));
    assert_false(matches(f, "one", "p\xc3\xa4ss"));
    arena_free(&arena);
    fixture_close(f);
}

/* A record of the published server has no verifier; its user gets one at the first login, once, and nobody has to log in again for it. */
static void test_first_login(void **state)
{
    struct fixture *f = fixture_open(4);
    struct user_record *r;
    struct user *user;
    uint64_t before, epoch;

    (void)state;
    fixture_add_user(f, "old", "secret", "d", PERMISSION_READ, true);
    user = fixture_user(f, "old");
    r = users_record(f->auth->users, user);
    assert_false(r->has_scram);
    before = txs(f);
    epoch = user_epoch(user);
    users_set_replica(f->auth->users, true); /* a replica's systemdb is its primary's */
    users_add_verifier(f->auth->users, user, r, bytes_str("secret"));
    assert_int_equal(txs(f), before);
    users_set_replica(f->auth->users, false);
    users_add_verifier(f->auth->users, user, r, bytes_str("secret"));
    assert_int_equal(txs(f), before + 1);
    assert_int_equal(user_epoch(user), epoch);
    assert_true(matches(f, "old", "secret"));
    users_add_verifier(f->auth->users, user, r, bytes_str("secret"));
    assert_int_equal(txs(f), before + 1);
    user_record_unref(r);
    reopen(f);
    assert_true(matches(f, "old", "secret"));
    /* The password was changed meanwhile: the one that is known is not written. */
    user = fixture_user(f, "old");
    r = users_record(f->auth->users, user);
    fixture_add_user(f, "old", "newer", "d", PERMISSION_READ, true);
    before = txs(f);
    users_add_verifier(f->auth->users, user, r, bytes_str("secret"));
    assert_int_equal(txs(f), before);
    user_record_unref(r);
    fixture_close(f);
}

/* Anything under our own byte that is no verifier is as good as nothing. */
static void test_damaged(void **state)
{
    static const char *const bad[] = {"",        "{}", "[]", "null", "{\"scram\":1,\"of\":\"x\"}", "{\"scram\":\"SCRAM-SHA-256$1:x\",\"of\":\"\"}",
                                      "\xff\xfe"};
    struct fixture *f = fixture_open(4);
    uint8_t key[4] = {SYSTEMDB_VERIFIER_PREFIX, 'o', 'n', 'e'};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct user_record *r;

        put_password(f, "one", "first");
        assert_int_equal(systemdb_put(f->store, bytes_of(key, sizeof key), bytes_str(bad[i]), bytes_of(NULL, 0), NULL), ST_OK);
        reopen(f);
        r = users_record(f->auth->users, fixture_user(f, "one"));
        assert_false(r->has_scram);
        assert_true(password_matches(bytes_str("first"), bytes_str(r->hash)));
        user_record_unref(r);
    }
    fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_example), cmocka_unit_test(test_text),        cmocka_unit_test(test_takes),
                                       cmocka_unit_test(test_users),   cmocka_unit_test(test_first_login), cmocka_unit_test(test_damaged)};

    return cmocka_run_group_tests_name("scram", tests, NULL, NULL);
}
