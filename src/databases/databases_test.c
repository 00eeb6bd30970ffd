/* Databases over a file system in memory: made, found, pinned, loaded, unloaded, deleted, closed by least use; what there is after a restart and after a
 * power cut at every disk operation of a deletion; threads that pin while others close.
 *
 * Around them is no server: configuration, log and runtime alone. */
#include <pthread.h>
#include <stdatomic.h>

#include "databases/databases_fixture.h"

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

static void test_life(void **state)
{
    struct shell *s = shell_open(100);
    struct databases *d = s->databases;
    struct database_settings again;
    struct database *db, *other;
    struct err err;

    (void)state;
    assert_string_equal(list(s), "defaultdb systemdb ");
    assert_true(databases_is_single(d));
    db = create(s, "db1");
    assert_false(databases_is_single(d));
    assert_int_equal(database_number(db), 1);
    assert_ptr_equal(databases_by_number(d, 1), db);
    assert_ptr_equal(databases_find(d, bytes_str("db1")), db);
    assert_null(databases_by_number(d, 2));
    assert_null(databases_by_number(d, -1));
    assert_true(database_is_systemdb(databases_by_number(d, DATABASE_NUMBER_SYSTEMDB)));
    settings_defaults(&again, "db1");
    assert_int_equal(databases_create(d, &again, &other, &err), ST_EXISTS);
    write_key(db, "k");
    assert_int_equal(txs_of(db), 1);
    /* unload and load */
    assert_int_equal(database_load(db, &err), ST_EXISTS);
    assert_int_equal(database_delete(db, &err), ST_BUSY);
    assert_string_equal(err.text, "cannot delete an open database");
    assert_int_equal(database_unload(db, &err), ST_OK);
    assert_int_equal(database_unload(db, &err), ST_CLOSED);
    assert_int_equal(databases_pin(d, bytes_str("db1"), &other, &err), ST_CLOSED);
    assert_string_equal(err.text, "already closed");
    assert_int_equal(txs_of(db), 0);
    assert_int_equal(database_load(db, &err), ST_OK);
    assert_int_equal(txs_of(db), 1);
    /* delete */
    assert_int_equal(database_unload(db, &err), ST_OK);
    assert_int_equal(database_delete(db, &err), ST_OK);
    assert_int_equal(database_delete(db, &err), ST_NOT_FOUND);
    assert_string_equal(err.text, "tbtree: key not found");
    assert_int_equal(databases_pin(d, bytes_str("db1"), &other, &err), ST_NOT_FOUND);
    assert_string_equal(list(s), "defaultdb systemdb ");
    assert_int_equal(databases_create(d, &again, &other, &err), ST_EXISTS); /* the name stays taken until the next start */
    shell_stop(s);
    shell_start(s);
    assert_string_equal(list(s), "defaultdb systemdb ");
    db = create(s, "db1");
    assert_int_equal(txs_of(db), 0);
    shell_free(s);
}

static void test_restart(void **state)
{
    struct shell *s = shell_open(100);
    struct database_settings settings;
    struct database *db;
    struct err err;

    (void)state;
    write_key(create(s, "zz"), "k");
    create(s, "aa");
    settings_defaults(&settings, "off");
    settings.autoload = AUTOLOAD_OFF;
    settings.max_key_len = 100;
    assert_int_equal(databases_create(s->databases, &settings, &db, &err), ST_OK);
    db = databases_find(s->databases, bytes_str("aa"));
    database_settings_get(db, &settings);
    settings.sync_frequency_ms = 77;
    assert_int_equal(database_update(db, &settings, &err), ST_OK);
    shell_stop(s);
    /* Folders that are none of ours are left alone. */
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data/lost+found", NULL), ST_OK);
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data/empty", NULL), ST_OK);
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data/immulog", NULL), ST_OK);
    shell_start(s);
    assert_string_equal(list(s), "defaultdb aa off zz systemdb "); /* in order of names */
    assert_false(databases_is_single(s->databases));
    assert_int_equal(databases_open_count(s->databases), 2); /* the others are opened at their first use */
    assert_int_equal(txs_of(databases_find(s->databases, bytes_str("zz"))), 1);
    assert_int_equal(databases_open_count(s->databases), 2); /* known from the clean stop */
    db = databases_find(s->databases, bytes_str("aa"));
    database_settings_get(db, &settings);
    assert_int_equal(settings.sync_frequency_ms, 77);
    assert_int_equal(database_pin(db, false, &err), ST_AGAIN);
    assert_int_equal(database_pin(db, true, &err), ST_OK);
    assert_int_equal(database_pin(db, false, &err), ST_OK);
    databases_unpin(db);
    databases_unpin(db);
    db = databases_find(s->databases, bytes_str("off"));
    assert_int_equal(database_pin(db, true, &err), ST_CLOSED);
    assert_int_equal(database_load(db, &err), ST_OK);
    database_settings_get(db, &settings);
    assert_int_equal(settings.max_key_len, 100);
    shell_free(s);
}

static void counts_file_write(struct shell *s, const char *text)
{
    assert_int_equal(vfs_replace(s->vfs, "data", "data/databases.counts", text, strlen(text), NULL), ST_OK);
}

/* The file of counts is believed only after a clean stop, line by line when the stamp is that of the folder; anything else is counted anew. */
static void test_counts_file(void **state)
{
    static const char *const unbelievable[] = {
        "",
        "nonsense",
        "immudb databases.counts 1 clean\nzz 77 5 0\n",
        "immudb databases.counts 2 some-other-boot\nzz 77 5 0\n",
        "immudb databases.counts 2 clean\nzz 77 5 123\n",                      /* opened since */
        "immudb databases.counts 2 clean\nzz 77\nzz x y z\nyy 77 5 0\n\n\nzz", /* broken lines, another name, no end */
        "zz 77\n",
    };
    struct shell *s = shell_open(100);
    uint8_t *text = NULL;
    size_t i, len = 0;

    (void)state;
    write_key(create(s, "zz"), "k");
    for (i = 0; i < sizeof unbelievable / sizeof unbelievable[0]; i++) {
        shell_stop(s);
        counts_file_write(s, unbelievable[i]);
        shell_start(s);
        assert_int_equal(txs_of(databases_find(s->databases, bytes_str("zz"))), 1);
        assert_int_equal(databases_open_count(s->databases), 3); /* it had to be opened */
    }
    shell_stop(s);
    counts_file_write(s, "immudb databases.counts 2 clean\nzz 77 5 0\n");
    shell_start(s);
    assert_int_equal(txs_of(databases_find(s->databases, bytes_str("zz"))), 77);
    assert_int_equal(databases_open_count(s->databases), 2);
    /* Once the server runs it is no clean stop's any more. */
    assert_int_equal(vfs_read_all(s->vfs, "data/databases.counts", 4096, &text, &len, NULL), ST_OK);
    assert_true(len > 32 && memcmp(text, "immudb databases.counts 2 ", 26) == 0 && memcmp(text + 26, "clean", 5) != 0);
    free(text);
    shell_free(s);
}

/* A folder without a record gets one; a broken record leaves its database out and the others in. */
static void test_odd_records(void **state)
{
    struct shell *s = shell_open(100);
    struct store *systemdb = databases_systemdb(s->databases);
    struct database *db;

    (void)state;
    create(s, "orphan");
    create(s, "broken");
    write_key(create(s, "fine"), "k");
    assert_int_equal(systemdb_delete(systemdb, bytes_str("\x02orphan"), NULL), ST_OK);
    assert_int_equal(systemdb_put(systemdb,
                                  bytes_str("\x02"
                                            "broken"),
                                  bytes_str("notjson"), bytes_of(NULL, 0), NULL),
                     ST_OK);
    assert_int_equal(systemdb_put(systemdb, bytes_str("\x02nodir"), bytes_str("{}"), bytes_of(NULL, 0), NULL), ST_OK);
    shell_stop(s);
    shell_start(s);
    assert_string_equal(list(s), "defaultdb broken fine orphan nodir systemdb "); /* nodir: in lost_test.c */
    assert_int_equal(txs_of(databases_find(s->databases, bytes_str("fine"))), 1);
    db = databases_find(s->databases, bytes_str("broken"));
    assert_false(database_is_loaded(db));
    shell_free(s);
}

static void test_least_use(void **state)
{
    struct shell *s = shell_open(2);
    struct databases *d = s->databases;
    struct database *dbs[5];
    char name[8];
    int i;

    (void)state;
    for (i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "db%d", i);
        databases_tidy(d, 100 + (uint64_t)i);
        write_key(dbs[i] = create(s, name), "k");
    }
    databases_tidy(d, 200);
    assert_int_equal(databases_open_count(d), 4);               /* two and the permanent ones */
    assert_int_equal(database_pin(dbs[4], false, NULL), ST_OK); /* the newest are open */
    assert_int_equal(database_pin(dbs[3], false, NULL), ST_OK);
    assert_int_equal(database_pin(dbs[0], false, NULL), ST_AGAIN);
    assert_int_equal(database_pin(dbs[0], true, NULL), ST_OK); /* opened again, beyond the limit while the others are pinned */
    databases_tidy(d, 300);
    assert_int_equal(databases_open_count(d), 5);
    databases_unpin(dbs[3]);
    databases_tidy(d, 301);
    assert_int_equal(databases_open_count(d), 4);
    assert_int_equal(database_pin(dbs[3], false, NULL), ST_AGAIN);
    databases_unpin(dbs[0]);
    databases_unpin(dbs[4]);
    for (i = 0; i < 5; i++) {
        assert_int_equal(txs_of(dbs[i]), 1);
        write_key(dbs[i], "again");
    }
    for (i = 0; i < 5; i++)
        assert_int_equal(txs_of(dbs[i]), 2);
    shell_free(s);
}

/* A deletion cut short after the folder got its other name. */
static void test_interrupted_deletion(void **state)
{
    struct shell *s = shell_open(100);
    struct vfs *v = s->vfs;
    bool any;

    (void)state;
    write_key(create(s, "kept"), "k");
    write_key(create(s, "gone"), "k");
    assert_int_equal(systemdb_delete(databases_systemdb(s->databases), bytes_str("\x02gone"), NULL), ST_OK);
    shell_stop(s);
    assert_int_equal(v->ops->rename(v, "data/kept", "data/.deleted-kept", NULL), ST_OK); /* its record lives: nothing was acknowledged */
    assert_int_equal(v->ops->rename(v, "data/gone", "data/.deleted-gone", NULL), ST_OK);
    shell_start(s);
    assert_string_equal(list(s), "defaultdb kept systemdb ");
    assert_int_equal(txs_of(databases_find(s->databases, bytes_str("kept"))), 1);
    any = is_database_folder(s->databases, ".deleted-gone");
    assert_false(any);
    shell_free(s);
}

/* The machine dies at every single disk operation of a deletion, in turn, and the power with it: at the next start the database is wholly there, or
 * wholly gone; and gone when that was said. */
static void test_power_cut_in_deletion(void **state)
{
    struct shell *before = calloc(1, sizeof *before), *after = calloc(1, sizeof *after);
    struct vfs *disk, *faulty;
    unsigned kept = 0, gone = 0;
    uint64_t n;
    bool fired = true;

    (void)state;
    assert_non_null(before);
    assert_non_null(after);
    for (n = 1; fired; n++) {
        struct database *db;
        bool was_said;

        disk = vfs_memory_create();
        faulty = vfs_faulty_create(disk);
        assert_int_equal(disk->ops->mkdir(disk, "data", NULL), ST_OK);
        assert_int_equal(disk->ops->sync_dir(disk, ".", NULL), ST_OK);
        *before = (struct shell){.vfs = faulty};
        shell_start(before);
        write_key(db = create(before, "db1"), "k");
        assert_int_equal(database_unload(db, NULL), ST_OK);
        vfs_faulty_arm(faulty, FAULT_STOP_TORN, n, n);
        was_said = database_delete(db, NULL) == ST_OK;
        fired = vfs_faulty_fired(faulty);
        assert_true(fired || was_said);
        shell_stop(before);
        vfs_memory_power_cut(disk, POWER_CUT_RANDOM, n);
        *after = (struct shell){.vfs = disk};
        shell_start(after);
        db = databases_find(after->databases, bytes_str("db1"));
        assert_false(was_said && db != NULL);
        if (db != NULL)
            assert_int_equal(txs_of(db), 1);
        kept += db != NULL;
        gone += db == NULL;
        shell_stop(after);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(disk);
    }
    assert_true(kept > 0 && gone > 0);
    free(before);
    free(after);
}

static _Atomic bool stop;

static void *pin_some(void *arg)
{
    struct shell *s = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    char name[8];

    while (!atomic_load(&stop)) {
        struct database *db;
        struct store_state state;

        snprintf(name, sizeof name, "db%d", (int)(test_random(&seed) % 6));
        if (databases_pin(s->databases, bytes_str(name), &db, NULL) != ST_OK)
            continue;
        store_get_state(database_store(db), &state); /* a closed store would show here */
        assert_true(state.tx_id >= 1);
        databases_unpin(db);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct shell *s = shell_open(2);
    pthread_t threads[3];
    char name[8];
    int i;

    (void)state;
    for (i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "db%d", i);
        write_key(create(s, name), "k");
    }
    for (i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pin_some, s), 0);
    for (i = 0; i < 60; i++) {
        struct database *db;

        snprintf(name, sizeof name, "db%d", i % 6);
        db = databases_find(s->databases, bytes_str(name));
        if (database_unload(db, NULL) == ST_OK)
            assert_int_equal(database_load(db, NULL), ST_OK);
        databases_tidy(s->databases, (uint64_t)i);
    }
    atomic_store(&stop, true);
    for (i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    shell_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_life),
                                       cmocka_unit_test(test_restart),
                                       cmocka_unit_test(test_counts_file),
                                       cmocka_unit_test(test_odd_records),
                                       cmocka_unit_test(test_least_use),
                                       cmocka_unit_test(test_interrupted_deletion),
                                       cmocka_unit_test(test_power_cut_in_deletion),
                                       cmocka_unit_test(test_threads)};
    struct logger_options o = {.env = env_system(), .level = getenv("LOG_LEVEL") != NULL ? logger_level_parse(getenv("LOG_LEVEL")) : LOG_ERROR};
    int failed;

    if (logger_open(&o, &logger, NULL) != ST_OK)
        return 2;
    failed = cmocka_run_group_tests_name("databases", tests, NULL, NULL);
    logger_close(logger);
    return failed;
}
