/* Proves that a database is made only when one is to be made, wholly or not at all, and that one which lost its files is never taken for a new one.
 *
 *   - creation with every single disk operation failing in turn (no space; an error; the power cut): after a failure the name is free at once or after a
 *     restart, never half taken; what was acknowledged is there
 *   - folders of databases, of defaultdb, of systemdb that are gone or emptied: refused and named, at each start; what is known to be empty, marked, or
 *     was left out by an import is no loss
 *   - a first start that ends anywhere between its marks and its databases goes on at the next one */
#include "databases/databases_fixture.h"

#include "databases/datadir.h"

struct names {
    char text[512];
};

static bool collect(void *ctx, struct database *db)
{
    struct names *n = ctx;

    snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%s ", database_name(db));
    return true;
}

static const char *list(struct shell *s)
{
    static struct names n;

    n.text[0] = '\0';
    databases_each(s->databases, collect, &n);
    return n.text;
}

static enum status try_create(struct shell *s, const char *name, struct err *err)
{
    struct database_settings settings;
    struct database *db;

    settings_defaults(&settings, name);
    return databases_create(s->databases, &settings, &db, err);
}

static bool leftover_visit(void *ctx, const char *name, bool is_dir)
{
    (void)is_dir;
    if (strncmp(name, DELETED_PREFIX, strlen(DELETED_PREFIX)) == 0)
        *(bool *)ctx = true;
    return true;
}

static bool has_leftovers(struct vfs *v, const char *name)
{
    bool any = folder_is_marked(v, "data", name);

    assert_int_equal(v->ops->list(v, "data", leftover_visit, &any, NULL), ST_OK);
    return any;
}

static struct shell *shell_over(struct vfs *disk, struct vfs *vfs)
{
    struct shell *s = calloc(1, sizeof *s);

    assert_non_null(s);
    assert_int_equal(disk->ops->mkdir(disk, "data", NULL), ST_OK);
    assert_int_equal(disk->ops->sync_dir(disk, ".", NULL), ST_OK);
    s->vfs = vfs;
    shell_start(s);
    return s;
}

/* Made, if need be; written; deleted; made again. */
static void goes_on(struct shell *s, const char *name)
{
    struct database *db = databases_find(s->databases, bytes_str(name));

    if (db == NULL)
        db = create(s, name);
    write_key(db, "k");
    assert_int_equal(txs_of(db), 1);
    assert_int_equal(database_unload(db, NULL), ST_OK);
    assert_int_equal(database_delete(db, NULL), ST_OK);
    shell_stop(s);
    shell_start(s);
    assert_null(databases_find(s->databases, bytes_str(name)));
    assert_int_equal(txs_of(create(s, name)), 0);
    assert_false(has_leftovers(s->vfs, name));
}

static void test_failed_creation(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_NO_SPACE, FAULT_EIO, FAULT_STOP_TORN};

    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        unsigned failures = 0, successes = 0;
        bool fired = true;

        for (uint64_t n = 1; fired; n++) {
            struct vfs *disk = vfs_memory_create(), *faulty = vfs_faulty_create(disk);
            struct shell *s = shell_over(disk, faulty);
            struct err err;
            bool is_made;

            vfs_faulty_arm(faulty, kinds[k], n, n);
            is_made = try_create(s, "db1", &err) == ST_OK;
            fired = vfs_faulty_fired(faulty);
            failures += !is_made;
            successes += is_made;
            assert_true(fired || is_made);
            if (kinds[k] != FAULT_STOP_TORN)
                vfs_faulty_heal(faulty);
            assert_string_equal(list(s), is_made ? "defaultdb db1 systemdb " : "defaultdb systemdb ");
            if (kinds[k] != FAULT_NO_SPACE) { /* systemdb may take no more writes: it is the next start that counts */
                shell_stop(s);
                if (kinds[k] == FAULT_STOP_TORN)
                    vfs_memory_power_cut(disk, POWER_CUT_RANDOM, n);
                s->vfs = disk;
                shell_start(s);
                if (is_made)
                    assert_non_null(databases_find(s->databases, bytes_str("db1")));
            }
            goes_on(s, "db1");
            shell_stop(s);
            free(s);
            vfs_faulty_destroy(faulty);
            vfs_memory_destroy(disk);
        }
        assert_true(failures >= 10 && successes >= 1);
    }
}

static void gone(struct shell *s, const char *path, bool is_emptied)
{
    assert_int_equal(vfs_remove_tree(s->vfs, path, NULL), ST_OK);
    if (is_emptied)
        assert_int_equal(s->vfs->ops->mkdir(s->vfs, path, NULL), ST_OK);
}

static void is_lost(struct shell *s, const char *name, const char *known)
{
    struct database *db;
    struct err err;

    for (int i = 0; i < 2; i++) {
        assert_int_equal(databases_pin(s->databases, bytes_str(name), &db, &err), ST_CORRUPT);
        if (strstr(err.text, "damaged") == NULL || strstr(err.text, known) == NULL)
            fail_msg("%s", err.text);
    }
    assert_int_equal(try_create(s, name, &err), ST_EXISTS);
}

static void test_lost_folders(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        struct shell *s = shell_open(100);
        const char *path = what < 2 ? "data/db1" : "data/db1/log";
        struct database *db;

        write_key(create(s, "db1"), "k");
        write_key(create(s, "db2"), "k");
        shell_stop(s);
        gone(s, path, what % 2 == 1);
        for (int start = 0; start < 3; start++) { /* the knowledge outlives starts */
            shell_start(s);
            assert_string_equal(list(s), "defaultdb db2 db1 systemdb ");
            is_lost(s, "db1", "txs 1..1 at least were acknowledged (known from databases.counts)");
            write_key(databases_find(s->databases, bytes_str("db2")), "k");
            if (start < 2)
                shell_stop(s);
        }
        /* who accepts the loss */
        db = databases_find(s->databases, bytes_str("db1"));
        assert_int_equal(database_unload(db, NULL), ST_OK);
        assert_int_equal(database_delete(db, NULL), ST_OK);
        shell_stop(s);
        shell_start(s);
        assert_string_equal(list(s), "defaultdb db2 systemdb ");
        goes_on(s, "db1");
        shell_free(s);
    }
}

/* Files in the way of a creation are no creation's to remove. */
static void test_foreign_files(void **state)
{
    struct shell *s = shell_open(100);
    struct err err;

    (void)state;
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data/db1", NULL), ST_OK);
    assert_int_equal(vfs_replace(s->vfs, "data/db1", "data/db1/notes", "x", 1, NULL), ST_OK);
    assert_int_equal(try_create(s, "db1", &err), ST_EXISTS);
    assert_non_null(strstr(err.text, "holds files"));
    shell_stop(s);
    shell_start(s);
    assert_string_equal(list(s), "defaultdb systemdb ");
    assert_int_equal(s->vfs->ops->unlink(s->vfs, "data/db1/notes", NULL), ST_OK);
    create(s, "db1"); /* an empty folder is none in the way */
    shell_free(s);
}

static void test_lost_defaultdb(void **state)
{
    (void)state;
    for (int what = 0; what < 3; what++) {
        struct shell *s = shell_open(100);
        struct database *db;

        assert_int_equal(systemdb_put(databases_systemdb(s->databases), bytes_str("\x01user"), bytes_str("{}"), bytes_of(NULL, 0), NULL), ST_OK);
        write_key(databases_by_number(s->databases, 0), "k");
        write_key(create(s, "db1"), "k");
        shell_stop(s);
        gone(s, what == 2 ? "data/defaultdb/log" : "data/defaultdb", what == 1);
        for (int start = 0; start < 2; start++) {
            shell_start(s);
            is_lost(s, "defaultdb", "txs 1..1 at least were acknowledged (known from databases.counts)");
            assert_int_equal(databases_open_count(s->databases), 1);
            write_key(databases_find(s->databases, bytes_str("db1")), "k");
            shell_stop(s);
        }
        if (what > 0)
            gone(s, "data/defaultdb", false);
        assert_int_equal(folder_mark(s->vfs, "data", "defaultdb", NULL), ST_OK);
        shell_start(s);
        db = databases_by_number(s->databases, 0);
        assert_int_equal(txs_of(db), 0);
        assert_false(folder_is_marked(s->vfs, "data", "defaultdb"));
        /* nothing was in it */
        shell_stop(s);
        gone(s, "data/defaultdb", false);
        shell_start(s);
        write_key(databases_by_number(s->databases, 0), "k");
        shell_free(s);
    }
}

static void test_lost_systemdb(void **state)
{
    (void)state;
    for (int what = 0; what < 4; what++) {
        struct shell *s = shell_open(100);
        struct err err;

        assert_int_equal(systemdb_put(databases_systemdb(s->databases), bytes_str("\x01user"), bytes_str("{}"), bytes_of(NULL, 0), NULL), ST_OK);
        write_key(create(s, "db1"), "k");
        shell_stop(s);
        gone(s, what < 2 ? "data/systemdb" : "data/systemdb/log", what % 2 == 1);
        for (int start = 0; start < 2; start++) {
            assert_int_equal(shell_try(s, &err), ST_CORRUPT);
            if (strstr(err.text, "systemdb is lost") == NULL || strstr(err.text, "--force-admin-password") == NULL)
                fail_msg("%s", err.text);
        }
        s->config.force_admin_password = true;
        shell_start(s);
        assert_string_equal(list(s), "defaultdb db1 systemdb ");
        assert_int_equal(txs_of(databases_find(s->databases, bytes_str("db1"))), 1);
        assert_int_equal(what >= 2, folder_exists(s->vfs, "data", LOST_SYSTEMDB));
        shell_stop(s);
        s->config.force_admin_password = false;
        shell_start(s);
        assert_int_equal(txs_of(databases_find(s->databases, bytes_str("db1"))), 1);
        shell_free(s);
    }
}

/* An import brings systemdb with the records of all databases, and maybe not all of these. */
static void test_left_out_by_an_import(void **state)
{
    struct shell *s = calloc(1, sizeof *s);
    struct database *db;

    (void)state;
    assert_non_null(s);
    assert_non_null(s->vfs = vfs_memory_create());
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data", NULL), ST_OK);
    for (int run = 0; run < 2; run++) {
        struct runtime_options o = {.vfs = s->vfs};
        struct databases_options d;

        s->config = (struct config){
            .dir = (char *)(uintptr_t) "data", .logdir = (char *)(uintptr_t) "immulog", .synced = true, .max_active_databases = 8};
        assert_int_equal(runtime_create(&o, &s->runtime, NULL), ST_OK);
        d = (struct databases_options){.config = &s->config, .env = env_system(), .logger = logger, .runtime = s->runtime};
        assert_int_equal(databases_open(&d, &s->databases, NULL), ST_OK);
        for (int i = 0; i < 3 && run == 0; i++) {
            char key[4] = {SETTINGS_PREFIX, "abc"[i], '\0'};

            assert_int_equal(systemdb_put(databases_systemdb(s->databases), bytes_str(key), bytes_str("{}"), bytes_of(NULL, 0), NULL), ST_OK);
        }
        assert_int_equal(databases_adopt(s->databases, run == 0 ? "a" : "b", &db, NULL), ST_OK);
        assert_int_equal(systemdb_put(database_store(db), bytes_str("k"), bytes_str("v"), bytes_of(NULL, 0), NULL), ST_OK);
        databases_unpin(db);
        shell_stop(s);
        assert_int_equal(absence_is_noted(s->vfs, "data", "b"), run == 0);
        assert_true(absence_is_noted(s->vfs, "data", "c"));
    }
    shell_start(s);
    assert_string_equal(list(s), "defaultdb a b systemdb ");
    create(s, "c"); /* a record without a folder does not take the name */
    shell_stop(s);
    gone(s, "data/c", false);
    gone(s, "data/a", false);
    shell_start(s);
    assert_string_equal(list(s), "defaultdb b a c systemdb ");
    is_lost(s, "c", "");
    is_lost(s, "a", "there is no folder data/a");
    shell_free(s);
}

static void test_first_start(void **state)
{
    struct vfs *disk = vfs_memory_create();
    struct datadir dir = {.path = "data", .vfs = disk};
    struct shell *s = calloc(1, sizeof *s);
    char first[21];
    struct err err;

    (void)state;
    assert_non_null(s);
    s->vfs = disk;
    assert_int_equal(disk->ops->mkdir(disk, "data", NULL), ST_OK);
    assert_int_equal(datadir_identify(&dir, env_system(), NULL), ST_OK);
    memcpy(first, dir.uuid, sizeof first);
    /* it dies here, and starts again */
    assert_int_equal(datadir_identify(&dir, env_system(), NULL), ST_OK);
    assert_string_equal(dir.uuid, first);
    shell_start(s);
    assert_false(folder_is_marked(disk, "data", "systemdb") || folder_is_marked(disk, "data", "defaultdb"));
    shell_stop(s);
    /* the identifier alone is enough to know that there was something */
    gone(s, "data/systemdb", false);
    gone(s, "data/defaultdb", false);
    assert_int_equal(disk->ops->unlink(disk, "data/databases.counts", NULL), ST_OK);
    assert_int_equal(datadir_identify(&dir, env_system(), NULL), ST_OK);
    assert_int_equal(shell_try(s, &err), ST_CORRUPT);
    /* without it nobody can know */
    assert_int_equal(disk->ops->unlink(disk, "data/immudb.identifier", NULL), ST_OK);
    assert_int_equal(datadir_identify(&dir, env_system(), NULL), ST_OK);
    shell_start(s);
    write_key(create(s, "db1"), "k");
    shell_stop(s);
    /* an identifier that is gone from a folder with databases opens no way for a new systemdb */
    assert_int_equal(disk->ops->unlink(disk, "data/immudb.identifier", NULL), ST_OK);
    gone(s, "data/systemdb", false);
    assert_int_equal(datadir_identify(&dir, env_system(), NULL), ST_OK);
    assert_int_equal(shell_try(s, &err), ST_CORRUPT);
    free(s);
    vfs_memory_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_failed_creation), cmocka_unit_test(test_lost_folders),
                                       cmocka_unit_test(test_foreign_files),   cmocka_unit_test(test_lost_defaultdb),
                                       cmocka_unit_test(test_lost_systemdb),   cmocka_unit_test(test_left_out_by_an_import),
                                       cmocka_unit_test(test_first_start)};
    struct logger_options o = {.env = env_system(), .level = getenv("LOG_LEVEL") != NULL ? logger_level_parse(getenv("LOG_LEVEL")) : LOG_ERROR};
    int failed;

    if (logger_open(&o, &logger, NULL) != ST_OK)
        return 2;
    failed = cmocka_run_group_tests_name("lost", tests, NULL, NULL);
    logger_close(logger);
    return failed;
}
