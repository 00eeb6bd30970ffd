/* bcrypt: vectors of others, the letters and costs that must be accepted, limits, and what matches nothing. */
#include <stdio.h>
#include <string.h>

#include "auth/password.h"
#include "base/test.h"

static void test_vectors(void **state)
{
    /* Widely published vectors (some with bytes above 0x7f), then hashes that the published server stored. */
    static const char *const rows[][2] = {
        {"", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"},
        {"a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"},
        {"abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"},
        {"abcdefghijklmnopqrstuvwxyz", "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC"},
        {"U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"},
        {"\xa3", "$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq"},
        {"\xff\xa3"
         "345",
         "$2a$05$/OK.fbVrR/bpIqNJ5ianF.nRht2l/HRhr6zmCp9vYUvvsqynflf9e"},
        {"immudb", "$2a$10$.t060i/7yWPnyWAhMXWr/eKo1WR6/Vmu2BQm.3ly5gaHZRg2O235i"},
        {"Alice@123", "$2a$10$1jNEz5NB7Gd8a0QyHwx8w.XdCDz1n.3Pmi86J4s2ebKOg0bb8MmBG"},
        {"New@1234", "$2a$10$xS5LjOy/kYqJtlXscNsmU.pFexgfXq.BdsT6MQcPy7t86xoJsV79C"},
        {"Admin@123", "$2a$10$YW0oncZWiWheCuFneaKn2uzECFFXvgdVJXePRl.eAjNPJhBMAxpS6"},
        {"Forced@123", "$2a$10$/Py6nnpgTsUxsS4GFItC.uiQalyGXzA0PbtSYINdOzYeq2jgeqrBy"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(password_matches(bytes_str(rows[i][0]), bytes_str(rows[i][1])));
        assert_false(password_matches(bytes_str("other"), bytes_str(rows[i][1])));
    }
}

static void test_own(void **state)
{
    char hash[PASSWORD_HASH_LEN + 1], second[PASSWORD_HASH_LEN + 1];
    int letter;
    const struct env *env = env_system();

    (void)state;
    assert_int_equal(password_hash(env, bytes_str("Pass@123"), 4, hash, NULL), ST_OK);
    assert_int_equal(strlen(hash), PASSWORD_HASH_LEN);
    assert_memory_equal(hash, "$2a$04$", 7);
    assert_int_equal(password_hash(env, bytes_str("Pass@123"), 4, second, NULL), ST_OK);
    assert_string_not_equal(hash, second); /* salted */
    for (letter = 'a'; letter <= 'z'; letter++) {
        hash[2] = (char)letter;
        assert_true(password_matches(bytes_str("Pass@123"), bytes_str(hash)));
        assert_false(password_matches(bytes_str("Pass@124"), bytes_str(hash)));
    }
}

static void test_limits(void **state)
{
    char hash[PASSWORD_HASH_LEN + 1], password[74];
    const struct env *env = env_system();
    struct err err;

    (void)state;
    memset(password, 'y', sizeof password);
    assert_int_equal(password_hash(env, bytes_of(NULL, 0), 4, hash, &err), ST_INVALID);
    assert_string_equal(err.text, "password is empty");
    assert_int_equal(password_hash(env, bytes_of(password, 73), 4, hash, &err), ST_INVALID);
    assert_string_equal(err.text, "error hashing password: bcrypt: password length exceeds 72 bytes");
    assert_int_equal(password_hash(env, bytes_of("a\0b", 3), 4, hash, &err), ST_INVALID);
    assert_int_equal(password_hash(env, bytes_str("a"), 3, hash, &err), ST_INVALID);
    assert_int_equal(password_hash(env, bytes_str("a"), 32, hash, &err), ST_INVALID);
    assert_int_equal(password_hash(env, bytes_of(password, 72), 4, hash, &err), ST_OK);
    assert_true(password_matches(bytes_of(password, 72), bytes_str(hash)));
    assert_false(password_matches(bytes_of(password, 71), bytes_str(hash)));
    assert_false(password_matches(bytes_of(password, 73), bytes_str(hash)));
    assert_false(password_matches(bytes_of("a\0b", 3), bytes_str(hash)));
}

static void test_no_hashes(void **state)
{
    static const char *const rows[] = {"",
                                       "x",
                                       "$1$abcdefgh$abcdefghijklmnopqrstuv",
                                       "$2a$10$short",
                                       "$2a$99$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
                                       "$2a$xx$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
                                       "$2!$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
                                       "$2a$06$!!!!!!!!!!!!!!!!!!!!!!3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_false(password_matches(bytes_str("a"), bytes_str(rows[i])));
}

/* A name that does not exist costs what one does that exists, within a wide margin for busy machines. */
static void test_waste(void **state)
{
    const struct env *env = env_system();
    char hash[PASSWORD_HASH_LEN + 1];
    uint64_t t0, t1, t2;

    (void)state;
    assert_int_equal(password_hash(env, bytes_str("Pass@123"), PASSWORD_COST, hash, NULL), ST_OK);
    t0 = env_mono_ns(env);
    assert_false(password_matches(bytes_str("x"), bytes_str(hash)));
    t1 = env_mono_ns(env);
    password_waste(bytes_str("x"));
    t2 = env_mono_ns(env);
    assert_true(t2 - t1 > (t1 - t0) / 5);
    password_waste(bytes_of(hash, 60));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_own), cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_no_hashes), cmocka_unit_test(test_waste)};

    return cmocka_run_group_tests_name("password", tests, NULL, NULL);
}
