/* User records: every record that the published server wrote is read and written back byte by byte; the recorded operations, done to the record before
 * them, give the record after them; old and odd records are read as it reads them; recorded passwords match.
 *
 * argv[1]: folder with the recordings (golden/systemdb). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/user_record.h"
#include "base/test.h"

static const char *golden;

static json_t *recording(const char *name)
{
    char path[1024];
    json_error_t e;
    json_t *r;

    snprintf(path, sizeof path, "%s/%s", golden, name);
    r = json_load_file(path, 0, &e);
    if (r == NULL)
        fail_msg("%s: %s", path, e.text);
    return r;
}

/* Name of the user an entry is about, or NULL. */
static const char *user_of(const json_t *entry, char out[64])
{
    const char *hex = json_string_value(json_object_get(entry, "key_hex"));
    size_t i, len = strlen(hex) / 2;
    unsigned c;

    if (strncmp(hex, "0001", 4) != 0)
        return NULL;
    for (i = 2; i < len; i++) {
        sscanf(hex + 2 * i, "%2x", &c);
        out[i - 2] = (char)c;
    }
    out[len - 2] = '\0';
    return out;
}

static struct user_record *decode(const char *name, const char *text)
{
    struct user_record *r;
    struct err err;

    if (user_record_decode(bytes_str(name), bytes_str(text), &r, &err) != ST_OK)
        fail_msg("%s: %s", text, err.text);
    return r;
}

static void expect_encoded(const struct user_record *r, const char *text)
{
    struct json_text j = {0};

    assert_int_equal(user_record_encode(r, &j, NULL), ST_OK);
    if (j.len != strlen(text) || memcmp(j.text, text, j.len) != 0)
        fail_msg("expected %s\ngot      %.*s", text, (int)j.len, j.text);
    json_text_free(&j);
}

/* Calls visit for each user record of a recording, in order. */
static size_t each_record(const char *file, void (*visit)(const char *step, const char *name, const char *text))
{
    json_t *r = recording(file), *step, *tx, *entry;
    size_t i, k, n, count = 0;
    char name[64];

    json_array_foreach(json_object_get(r, "steps"), i, step) json_array_foreach(json_object_get(step, "systemdb_txs"), k, tx)
        json_array_foreach(json_object_get(tx, "entries"), n, entry) if (user_of(entry, name) != NULL)
    {
        visit(json_string_value(json_object_get(step, "after")), name, json_string_value(json_object_get(entry, "value_text")));
        count++;
    }
    json_decref(r);
    return count;
}

static void round_trip(const char *step, const char *name, const char *text)
{
    struct user_record *r = decode(name, text), *copy = user_record_copy(r);

    (void)step;
    expect_encoded(r, text);
    assert_non_null(copy);
    expect_encoded(copy, text);
    user_record_unref(copy);
    user_record_unref(r);
}

static void test_round_trip(void **state)
{
    (void)state;
    assert_true(each_record("01_operations.json", round_trip) >= 20);
    assert_true(each_record("02_request_metadata.json", round_trip) >= 2);
    assert_true(each_record("06_forced_admin_password.json", round_trip) >= 1);
}

/* The last record of each user, as the recording goes on. */
static struct last {
    char name[64];
    char *text;
} lasts[16];
static size_t changes_checked;

static struct last *last_of(const char *name)
{
    size_t i;

    for (i = 0; lasts[i].text != NULL && strcmp(lasts[i].name, name) != 0; i++)
        ;
    snprintf(lasts[i].name, sizeof lasts[i].name, "%s", name);
    return &lasts[i];
}

/* "GRANT bob db1 2" behind the name of the call. */
static bool change_permission(struct user_record *r, const char *rest)
{
    char action[16], user[32], database[32];
    unsigned permission;

    if (sscanf(rest, "%15s %31s %31s %u", action, user, database, &permission) != 4)
        return false;
    if (strcmp(action, "GRANT") == 0)
        assert_true(user_record_grant(r, bytes_str(database), permission));
    else
        user_record_revoke(r, bytes_str(database));
    assert_true(user_record_default_privileges(r, bytes_str(database), permission));
    return true;
}

/* "REVOKE bob defaultdb SELECT INSERT". */
static bool change_privileges(struct user_record *r, const char *rest)
{
    char action[16], user[32], database[32], privileges[96], *word, *save;
    int at = 0;

    if (sscanf(rest, "%15s %31s %31s %n", action, user, database, &at) < 3 || at == 0)
        return false;
    snprintf(privileges, sizeof privileges, "%s", rest + at);
    for (word = strtok_r(privileges, ", ", &save); word != NULL && word[0] != '('; word = strtok_r(NULL, ", ", &save)) {
        if (strcmp(action, "GRANT") == 0)
            assert_true(user_record_grant_privilege(r, bytes_str(database), word));
        else
            user_record_revoke_privilege(r, bytes_str(database), word);
    }
    return true;
}

static void apply(const char *step, const char *name, const char *text)
{
    static const char permission[] = "ChangePermission ", privileges[] = "ChangeSQLPrivileges ";
    struct last *last = last_of(name);
    struct user_record *after = decode(name, text), *r;
    bool applies = false;

    if (last->text != NULL) {
        r = decode(name, last->text);
        if (strncmp(step, permission, strlen(permission)) == 0)
            applies = change_permission(r, step + strlen(permission));
        else if (strncmp(step, privileges, strlen(privileges)) == 0)
            applies = change_privileges(r, step + strlen(privileges));
        else if (strncmp(step, "SetActiveUser", 13) == 0)
            applies = (r->is_active = strstr(step, "true") != NULL) || strstr(step, "false") != NULL;
        if (applies) {
            r->created_at = after->created_at; /* the moment differs, and nothing else */
            r->created_by = after->created_by;
            expect_encoded(r, text);
            changes_checked++;
        }
        user_record_unref(r);
    }
    free(last->text);
    assert_non_null(last->text = strdup(text));
    user_record_unref(after);
}

static void test_operations(void **state)
{
    size_t i;

    (void)state;
    each_record("01_operations.json", apply);
    assert_int_equal(changes_checked, 14); /* 8 permissions, 4 privileges, 2 times active */
    for (i = 0; i < sizeof lasts / sizeof lasts[0]; i++)
        free(lasts[i].text);
}

/* The very first record, made as the server makes it. */
static void test_sysadmin(void **state)
{
    struct user_record *r = user_record_create(bytes_str("immudb"));

    (void)state;
    assert_non_null(r);
    assert_true(user_record_grant(r, bytes_str("*"), PERMISSION_SYSADMIN));
    assert_true(user_record_default_privileges(r, bytes_str("*"), PERMISSION_SYSADMIN));
    r->is_active = true;
    memcpy(r->hash, "$2a$10$.t060i/7yWPnyWAhMXWr/eKo1WR6/Vmu2BQm.3ly5gaHZRg2O235i", PASSWORD_HASH_LEN);
    assert_int_equal(record_time_parse(bytes_str("2026-11-21T04:22:59.051735434Z"), &r->created_at, NULL), ST_OK);
    expect_encoded(
        r,
        "{\"username\":\"immudb\",\"hashedpassword\":\"JDJhJDEwJC50MDYwaS83eVdQbnlXQWhNWFdyL2VLbzFXUjYvVm11MkJRbS4zbHk1Z2FIWlJnMk8yMzVp\","
        "\"permissions\":[{\"permission\":255,\"database\":\"*\"}],\"sqlPrivileges\":[{\"privilege\":\"SELECT\",\"database\":\"*\"},"
        "{\"privilege\":\"CREATE\",\"database\":\"*\"},{\"privilege\":\"INSERT\",\"database\":\"*\"},{\"privilege\":\"UPDATE\",\"database\":\"*\"},"
        "{\"privilege\":\"DELETE\",\"database\":\"*\"},{\"privilege\":\"DROP\",\"database\":\"*\"},{\"privilege\":\"ALTER\",\"database\":\"*\"}],"
        "\"hasPrivileges\":true,\"active\":true,\"createdBy\":\"\",\"createdat\":\"2026-11-21T04:22:59.051735434Z\"}");
    assert_true(user_is_sysadmin(r));
    assert_int_equal(user_permission_on(r, bytes_str("anything")), PERMISSION_SYSADMIN);
    user_record_unref(r);
}

static void count_privilege(void *ctx, const char *privilege, const char *database)
{
    (void)privilege;
    (void)database;
    ++*(size_t *)ctx;
}

static size_t privileges_now(const struct user_record *r)
{
    size_t count = 0;

    user_privileges_each(r, count_privilege, &count);
    return count;
}

/* Records of older releases (recording 04). */
static void old_record(const char *step, const char *name, const char *text)
{
    struct user_record *r = decode(name, text);

    (void)step;
    assert_string_equal(r->name, name);
    if (strcmp(name, "old1") == 0) {
        assert_int_equal(privileges_now(r), 1);
        assert_true(r->is_active && !r->has_privileges);
        assert_true(password_matches(bytes_str("Pass@123"), bytes_str(r->hash)));
    } else if (strcmp(name, "old2") == 0) {
        char when[RECORD_TIME_TEXT_MAX];

        assert_int_equal(privileges_now(r), 7);
        assert_int_equal(user_permission_on(r, bytes_str("defaultdb")), PERMISSION_READ_WRITE);
        when[record_time_display(&r->created_at, when)] = '\0';
        assert_string_equal(when, "2020-01-02 03:04:05.5 +0200 +0200");
        assert_true(user_record_settle_privileges(r));
        assert_int_equal(r->privilege_count, 7);
        assert_int_equal(privileges_now(r), 7);
    } else if (strcmp(name, "old3") == 0) {
        assert_false(r->is_active);
        assert_int_equal(r->permission_count, 0);
        assert_true(r->permissions_null);
    }
    user_record_unref(r);
}

static void test_old_records(void **state)
{
    (void)state;
    assert_int_equal(each_record("04_hand_written_records.json", old_record), 4);
}

static void test_bad_records(void **state)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "[]",
                                      "{\"active\":1}",
                                      "{\"permissions\":{}}",
                                      "{\"permissions\":[1]}",
                                      "{\"permissions\":[{\"permission\":-1}]}",
                                      "{\"permissions\":[{\"permission\":4294967296}]}",
                                      "{\"createdat\":\"yesterday\"}",
                                      "{\"sqlPrivileges\":[{\"privilege\":1}]}",
                                      "{\"createdBy\":[]}",
                                      "{\"hashedpassword\":7}"};
    static const char *const harmless[] = {"{}", "{\"hashedpassword\":\"short\"}", "{\"unknown\":[{}]}", "{\"ACTIVE\":true,\"Permissions\":[{}]}"};
    struct user_record *r;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(user_record_decode(bytes_str("u"), bytes_str(bad[i]), &r, NULL), ST_INVALID);
        assert_null(r);
    }
    for (i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        r = decode("u", harmless[i]);
        assert_string_equal(r->hash, "");
        assert_false(password_matches(bytes_of(NULL, 0), bytes_str(r->hash)));
        user_record_unref(r);
    }
}

/* Many changes in random order against plain arrays of flags. */
static void test_random_changes(void **state)
{
    static const char *const databases[] = {"a", "bb", "ccc", "dddd", "eeeee"};
    struct user_record *r = user_record_create(bytes_str("u"));
    uint32_t held[5] = {0};
    bool has[5][SQL_PRIVILEGES] = {{false}};
    uint64_t seed = 7;
    size_t i, d, count;
    int round;

    (void)state;
    assert_non_null(r);
    for (round = 0; round < 3000; round++) {
        struct bytes database = bytes_str(databases[d = test_random(&seed) % 5]);
        enum sql_privilege p = (enum sql_privilege)(test_random(&seed) % SQL_PRIVILEGES);

        switch (test_random(&seed) % 4) {
        case 0:
            held[d] = 1 + (uint32_t)(test_random(&seed) % 2);
            assert_true(user_record_grant(r, database, held[d]));
            assert_string_equal(r->permissions[r->permission_count - 1].database, databases[d]); /* at the end */
            break;
        case 1:
            held[d] = 0;
            user_record_revoke(r, database);
            break;
        case 2:
            has[d][p] = true;
            assert_true(user_record_grant_privilege(r, database, sql_privilege_name(p)));
            break;
        default:
            has[d][p] = false;
            user_record_revoke_privilege(r, database, sql_privilege_name(p));
            break;
        }
        for (d = 0, count = 0; d < 5; d++) {
            assert_int_equal(user_permission_on(r, bytes_str(databases[d])), held[d]);
            count += held[d] != 0;
        }
        assert_int_equal(r->permission_count, count);
        for (d = 0, count = 0; d < 5; d++)
            for (i = 0; i < SQL_PRIVILEGES; i++)
                count += has[d][i];
        assert_int_equal(r->privilege_count, count);
        for (i = 0; i < r->privilege_count; i++) {
            for (d = 0; strcmp(databases[d], r->privileges[i].database) != 0; d++)
                ;
            for (count = 0; strcmp(sql_privilege_name((enum sql_privilege)count), r->privileges[i].privilege) != 0; count++)
                ;
            assert_true(has[d][count]);
        }
    }
    user_record_unref(r);
}

static void test_names(void **state)
{
    char longest[65];

    (void)state;
    memset(longest, 'u', 64);
    assert_true(user_name_is_valid(bytes_str("a_Z9")));
    assert_true(user_name_is_valid(bytes_of(longest, 63)));
    assert_false(user_name_is_valid(bytes_of(longest, 64)));
    assert_false(user_name_is_valid(bytes_of(NULL, 0)));
    assert_false(user_name_is_valid(bytes_str("a-b")));
    assert_false(user_name_is_valid(bytes_str("a b")));
    assert_false(user_name_is_valid(bytes_str("\xc3\xa9")));
    assert_false(user_name_is_valid(bytes_of("a\0b", 3)));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_operations),  cmocka_unit_test(test_sysadmin),
                                       cmocka_unit_test(test_old_records), cmocka_unit_test(test_bad_records), cmocka_unit_test(test_random_changes),
                                       cmocka_unit_test(test_names)};

    if (argc != 2) {
        fprintf(stderr, "usage: %s GOLDEN_SYSTEMDB\n", argv[0]);
        return 2;
    }
    golden = argv[1];
    return cmocka_run_group_tests_name("user_record", tests, NULL, NULL);
}
