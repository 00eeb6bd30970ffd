/* Retention over a file system in memory and a clock that is moved by hand: when a database is due, what goes and what stays, after a restart, on
 * replicas, with a catalog, interrupted, and while others read, write and export.
 *
 * The databases' clock (which decides what is old) is moved; the stores' clock is the machine's, so that everything written is of today. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/test.h"
#include "config/config.h"
#include "config/logger.h"
#include "databases/databases_internal.h"
#include "databases/truncator.h"
#include "vfs/vfs_memory.h"

enum { VALUE_BYTES = 20000, TXS = 200 };
static const int64_t DAY_MS = 86400000, HOUR_MS = 3600000;
static struct logger *logger;

/* --- the clock --- */

static _Atomic int64_t ahead_ms;
static int64_t wall(void *ctx)
{
    (void)ctx;
    return env_wall_ns(env_system()) + atomic_load(&ahead_ms) * 1000000;
}
static uint64_t mono(void *ctx)
{
    (void)ctx;
    return env_mono_ns(env_system()) + (uint64_t)atomic_load(&ahead_ms) * 1000000;
}
static void random_bytes(void *ctx, void *out, size_t len)
{
    (void)ctx;
    env_random(env_system(), out, len);
}
static void say(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    env_system()->log(NULL, level, text);
}
static const struct env clock_env = {NULL, wall, mono, random_bytes, say};

/* --- databases without a server --- */

struct shell {
    struct databases *databases;
    struct runtime *runtime;
    struct config config;
    struct vfs *vfs;
    struct truncator *truncator;
    struct database *db;
};

static void shell_start(struct shell *s)
{
    struct runtime_options o = {.vfs = s->vfs};
    struct databases_options d;
    struct err err;

    s->config = (struct config){
        .dir = (char *)(uintptr_t) "data", .logdir = (char *)(uintptr_t) "immulog", .synced = true, .auth = true, .max_active_databases = 100};
    assert_int_equal(runtime_create(&o, &s->runtime, NULL), ST_OK);
    d = (struct databases_options){.config = &s->config, .env = &clock_env, .logger = logger, .runtime = s->runtime};
    if (databases_open(&d, &s->databases, &err) != ST_OK || databases_scan(s->databases, &err) != ST_OK ||
        truncator_create(s->databases, &s->truncator, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static void shell_stop(struct shell *s)
{
    truncator_stop(s->truncator);
    databases_close(s->databases);
    runtime_destroy(s->runtime);
}

static void db_create(struct shell *s, const char *name, int64_t retention_ms, bool is_replica)
{
    struct database_settings settings;
    struct err err;

    settings_defaults(&settings, name);
    settings.retention_period_ms = retention_ms;
    settings.truncation_frequency_ms = 2 * HOUR_MS;
    settings.replica = is_replica;
    if (databases_create(s->databases, &settings, &s->db, &err) != ST_OK)
        fail_msg("%s", err.text);
    assert_int_equal(database_pin(s->db, true, NULL), ST_OK);
}

static struct shell *shell_open(int64_t retention_ms, bool is_replica)
{
    struct shell *s = calloc(1, sizeof *s);

    assert_non_null(s);
    atomic_store(&ahead_ms, 0);
    assert_non_null(s->vfs = vfs_memory_create());
    assert_int_equal(s->vfs->ops->mkdir(s->vfs, "data", NULL), ST_OK);
    assert_int_equal(s->vfs->ops->sync_dir(s->vfs, ".", NULL), ST_OK);
    shell_start(s);
    db_create(s, "db1", retention_ms, is_replica);
    return s;
}

static void shell_free(struct shell *s)
{
    databases_unpin(s->db);
    shell_stop(s);
    vfs_memory_destroy(s->vfs);
    free(s);
}

static void shell_restart(struct shell *s)
{
    databases_unpin(s->db);
    shell_stop(s);
    shell_start(s);
    assert_int_equal(databases_pin(s->databases, bytes_str("db1"), &s->db, NULL), ST_OK);
}

static void pass(int64_t ms) { atomic_fetch_add(&ahead_ms, ms); }

/* --- contents --- */

static enum status put(struct shell *s, const char *key, size_t key_len, struct bytes value, struct store_result *out)
{
    struct store_draft *d = NULL;
    struct err err;
    enum status st = draft_create(s->db->store, &d, &err);

    if (st == ST_OK && (st = draft_set(d, bytes_of(key, key_len), NULL, value, &err)) == ST_OK)
        return store_commit(s->db->store, d, true, out, &err);
    draft_free(d);
    return st;
}

static void write_some(struct shell *s, unsigned count)
{
    static uint8_t value[VALUE_BYTES];
    struct store_result r;
    char key[16];

    for (unsigned i = 0; i < count; i++) {
        int len = snprintf(key + 1, sizeof key - 1, "k%u", i);

        key[0] = '\0';
        memset(value, (int)i, sizeof value);
        assert_int_equal(put(s, key, (size_t)len + 1, bytes_of(value, sizeof value), &r), ST_OK);
    }
}

static uint64_t newest(struct shell *s)
{
    struct store_state state;

    store_get_state(s->db->store, &state);
    return state.tx_id;
}

static uint64_t disk_bytes(struct shell *s)
{
    struct store_stats stats;

    store_get_stats(s->db->store, &stats);
    return stats.disk_bytes - stats.log.bytes_zeroed_ahead;
}

/* How many of txs first..last still have their value; every one has its header, and its inclusion and linear proofs hold together. */
static uint64_t values_left(struct shell *s, uint64_t first, uint64_t last)
{
    struct store *store = s->db->store;
    uint64_t left = 0;
    struct arena arena;
    struct err err;

    arena_init(&arena, 4096, 0);
    for (uint64_t id = first; id <= last; id++) {
        struct dual_proof proof;
        struct tx_header h;
        struct tx_entry e;
        struct log_tx t;
        hash_t alh;

        assert_int_equal(store_tx_header(store, id, &h, &alh, &err), ST_OK);
        if (store_dual_proof(store, id, newest(s), &arena, &proof, &err) != ST_OK)
            fail_msg("tx %llu: %s", (unsigned long long)id, err.text);
        assert_int_equal(store_tx_open(store, id, false, &t, &err), ST_OK);
        assert_int_equal(store_tx_entry(store, &t, 0, &e, &err), ST_OK);
        left += !e.is_value_gone;
        store_tx_close(store, &t);
        arena_reset(&arena);
    }
    arena_free(&arena);
    return left;
}

static bool bad(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    fail_msg("tx %llu: %s", (unsigned long long)tx_id, what);
    return false;
}

static void verify(struct shell *s)
{
    struct err err;

    if (store_verify(s->db->store, bad, NULL, &err) != ST_OK)
        fail_msg("%s", err.text);
}

/* --- tests --- */

static void due_when_the_frequency_has_passed(void **state)
{
    struct shell *s = shell_open(DAY_MS, false);
    uint64_t before, after, gone;
    hash_t alh;
    struct tx_header h;

    (void)state;
    write_some(s, TXS);
    assert_int_equal(store_tx_header(s->db->store, TXS, &h, &alh, NULL), ST_OK);
    assert_int_equal(truncator_round(s->truncator), 0); /* everything is of today */
    assert_int_equal(values_left(s, 1, TXS), TXS);
    pass(3 * DAY_MS);
    before = disk_bytes(s);
    assert_int_equal(truncator_round(s->truncator), 1);
    after = disk_bytes(s);
    assert_int_equal(values_left(s, 1, TXS), 0);
    assert_true(before - after > (uint64_t)TXS * VALUE_BYTES * 9 / 10);
    gone = atomic_load(&s->db->truncated_bytes);
    assert_true(gone > (uint64_t)TXS * VALUE_BYTES * 9 / 10);
    assert_int_equal(atomic_load(&s->db->truncations), 1);
    assert_int_equal(newest(s), TXS); /* nothing to copy: no tx */
    verify(s);
    /* Later ones are of the machine's today, three days ago by the databases' clock. */
    write_some(s, TXS);
    pass(HOUR_MS);
    assert_int_equal(truncator_round(s->truncator), 0); /* not due */
    assert_int_equal(values_left(s, TXS + 1, 2 * TXS), TXS);
    pass(HOUR_MS);
    assert_int_equal(truncator_round(s->truncator), 1);
    assert_int_equal(values_left(s, 1, 2 * TXS), 0);
    pass(2 * HOUR_MS);
    assert_int_equal(truncator_round(s->truncator), 0); /* nothing new is old */
    shell_restart(s);
    assert_int_equal(values_left(s, 1, 2 * TXS), 0);
    assert_int_equal(truncator_round(s->truncator), 1); /* the first look after a start: it finds everything done */
    assert_int_equal(atomic_load(&s->db->truncated_bytes), 0);
    write_some(s, 3);
    assert_int_equal(values_left(s, 2 * TXS + 1, 2 * TXS + 3), 3);
    verify(s);
    shell_free(s);
}

static void settings_count_at_once(void **state)
{
    struct shell *s = shell_open(0, false);
    struct database_settings settings;

    (void)state;
    write_some(s, TXS);
    pass(40 * DAY_MS);
    assert_int_equal(truncator_round(s->truncator), 0); /* no retention */
    assert_int_equal(values_left(s, 1, TXS), TXS);
    database_settings_get(s->db, &settings);
    settings.retention_period_ms = 100 * DAY_MS;
    assert_int_equal(database_update(s->db, &settings, NULL), ST_OK);
    assert_int_equal(truncator_round(s->truncator), 0); /* not old enough */
    settings.retention_period_ms = DAY_MS;
    assert_int_equal(database_update(s->db, &settings, NULL), ST_OK);
    assert_int_equal(truncator_round(s->truncator), 1);
    assert_int_equal(values_left(s, 1, TXS), 0);
    settings.retention_period_ms = 0;
    assert_int_equal(database_update(s->db, &settings, NULL), ST_OK);
    write_some(s, TXS);
    pass(40 * DAY_MS);
    assert_int_equal(truncator_round(s->truncator), 0);
    assert_int_equal(values_left(s, TXS + 1, 2 * TXS), TXS);
    /* Frequencies that never pass. */
    settings.retention_period_ms = DAY_MS;
    settings.truncation_frequency_ms = INT64_MAX / 1000000;
    assert_int_equal(database_update(s->db, &settings, NULL), ST_OK);
    assert_int_equal(truncator_round(s->truncator), 1);
    pass(400 * DAY_MS);
    assert_int_equal(truncator_round(s->truncator), 0);
    shell_free(s);
}

static void unloaded_ones_are_left_alone(void **state)
{
    struct shell *s = shell_open(DAY_MS, false);

    (void)state;
    write_some(s, TXS);
    pass(3 * DAY_MS);
    databases_unpin(s->db);
    assert_int_equal(database_unload(s->db, NULL), ST_OK);
    assert_int_equal(truncator_round(s->truncator), 0);
    assert_int_equal(database_load(s->db, NULL), ST_OK);
    assert_int_equal(truncator_round(s->truncator), 1);
    assert_int_equal(database_pin(s->db, true, NULL), ST_OK);
    assert_int_equal(values_left(s, 1, TXS), 0);
    shell_free(s);
}

static void catalogs_are_copied_by_primaries(void **state)
{
    static const char catalog_key[] = "\x02"
                                      "CTL.TABLE.x";
    struct truncation_result result;
    struct store_result r;
    struct tx_header h;
    hash_t alh;

    (void)state;
    for (int is_replica = 0; is_replica < 2; is_replica++) {
        struct shell *s = shell_open(0, is_replica != 0);

        assert_int_equal(put(s, catalog_key, sizeof catalog_key - 1, bytes_str("columns"), &r), ST_OK);
        write_some(s, TXS);
        pass(2 * DAY_MS);
        assert_int_equal(database_truncate(s->db, DAY_MS, 0, NULL, NULL, &result, NULL), ST_OK);
        assert_int_equal(result.upto, TXS + 1);
        assert_true(result.freed_bytes > 0);
        assert_int_equal(values_left(s, 1, TXS + 1), 0);
        assert_int_equal(newest(s), is_replica ? TXS + 1 : TXS + 2);
        if (!is_replica) {
            assert_int_equal(store_tx_header(s->db->store, TXS + 2, &h, &alh, NULL), ST_OK);
            assert_int_equal(h.md.truncated_upto, TXS + 1);
            assert_int_equal(h.entry_count, 1);
            assert_int_equal(values_left(s, TXS + 2, TXS + 2), 1);
        }
        verify(s);
        shell_free(s);
    }
}

/* What is old goes although younger transactions follow in the same file: once the file was ended and all of it is old. */
static void a_file_ends_with_its_day(void **state)
{
    struct shell *s = shell_open(DAY_MS, false);
    struct store_stats before, after;

    (void)state;
    write_some(s, 10); /* a fraction of a file */
    store_get_stats(s->db->store, &before);
    assert_int_equal(truncator_round(s->truncator), 0); /* of today: the file goes on */
    store_get_stats(s->db->store, &after);
    assert_int_equal(after.log.segments, before.log.segments);
    pass(DAY_MS);
    assert_int_equal(truncator_round(s->truncator), 0); /* not old, but of yesterday: the file is ended */
    write_some(s, 10);
    store_get_stats(s->db->store, &after);
    assert_true(after.log.segments > before.log.segments);
    pass(2 * DAY_MS);
    assert_int_equal(truncator_round(s->truncator), 1);
    assert_int_equal(values_left(s, 1, 20), 0);
    shell_free(s);
}

/* Nobody knows how old a transaction without a time is. */
static void without_times_nothing_is_old(void **state)
{
    struct shell *s = shell_open(0, false);
    struct truncation_result result;
    struct database_settings settings;
    struct err err;

    (void)state;
    database_settings_get(s->db, &settings);
    settings.exclude_commit_time = true;
    assert_int_equal(database_update(s->db, &settings, NULL), ST_OK);
    shell_restart(s);
    write_some(s, TXS);
    pass(400 * DAY_MS);
    assert_int_equal(database_truncate(s->db, DAY_MS, 0, NULL, NULL, &result, &err), ST_NOT_FOUND);
    assert_string_equal(err.text, "retention period has not been reached");
    assert_int_equal(values_left(s, 1, TXS), TXS);
    shell_free(s);
}

static bool after_a_few(void *ctx) { return --*(int *)ctx < 0; }

static void interrupted_and_taken_up(void **state)
{
    struct shell *s = shell_open(0, false);
    struct truncation_result result;
    int patience = 0, rounds = 0;
    uint64_t left;
    struct err err;
    enum status st;

    (void)state;
    for (int i = 0; i < 4; i++)
        write_some(s, TXS);
    assert_int_equal(database_truncate(s->db, DAY_MS, 0, NULL, NULL, &result, &err), ST_NOT_FOUND);
    assert_string_equal(err.text, "retention period has not been reached");
    pass(2 * DAY_MS);
    do {
        int tries = ++patience;

        st = database_truncate(s->db, DAY_MS, 0, after_a_few, &tries, &result, &err);
        left = values_left(s, 1, 4 * TXS);
        if (st == ST_CANCELLED)
            rounds++;
    } while (st == ST_CANCELLED && rounds < 100);
    assert_int_equal(st, ST_OK);
    assert_true(rounds > 1);
    assert_int_equal(left, 0);
    verify(s);
    shell_free(s);
}

/* --- beside others --- */

static _Atomic bool is_over;

static void *read_and_export(void *arg)
{
    struct shell *s = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed, done = 0;
    struct arena arena;
    struct bytes blob;
    struct err err;

    arena_init(&arena, 4096, 0);
    while (!atomic_load(&is_over) || done < 50) {
        struct tx_header *h = arena_alloc(&arena, sizeof *h);
        struct tx_entry *entries;
        uint64_t id = 1 + test_random(&seed) % newest(s);

        /* Wholly with values or wholly without, and always the same transaction. */
        if (store_export(s->db->store, id, false, false, &arena, &blob, &err) != ST_OK ||
            tx_import(blob, &arena, 1024, 1024, 1 << 25, h, &entries, &err) != ST_OK)
            fail_msg("tx %llu: %s", (unsigned long long)id, err.text);
        assert_int_equal(h->id, id);
        arena_reset(&arena);
        done++;
    }
    arena_free(&arena);
    return NULL;
}

/* Bounded: the disk is in memory. */
static void *write_on(void *arg)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    for (int i = 0; i < 100 && !atomic_load(&is_over); i++) {
        write_some(arg, 10);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void beside_readers_and_writers(void **state)
{
    struct shell *s = shell_open(DAY_MS, false);
    pthread_t threads[3];

    (void)state;
    write_some(s, TXS);
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&threads[0], NULL, read_and_export, s), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, read_and_export, s), 0);
    assert_int_equal(pthread_create(&threads[2], NULL, write_on, s), 0);
    for (int i = 0; i < 8; i++) {
        pass(2 * DAY_MS);
        (void)truncator_round(s->truncator);
    }
    atomic_store(&is_over, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    verify(s);
    pass(2 * DAY_MS);
    (void)truncator_round(s->truncator);
    assert_true(atomic_load(&s->db->truncations) >= 1);
    assert_int_equal(values_left(s, 1, newest(s)), 0);
    verify(s);
    shell_restart(s);
    verify(s);
    shell_free(s);
}

static void thread_starts_and_stops(void **state)
{
    struct shell *s = shell_open(DAY_MS, false);
    struct truncator *t;

    (void)state;
    assert_int_equal(truncator_start(s->databases, &t, NULL), ST_OK);
    truncator_stop(t);
    truncator_stop(NULL);
    shell_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(due_when_the_frequency_has_passed),
                                       cmocka_unit_test(settings_count_at_once),
                                       cmocka_unit_test(unloaded_ones_are_left_alone),
                                       cmocka_unit_test(catalogs_are_copied_by_primaries),
                                       cmocka_unit_test(a_file_ends_with_its_day),
                                       cmocka_unit_test(without_times_nothing_is_old),
                                       cmocka_unit_test(interrupted_and_taken_up),
                                       cmocka_unit_test(beside_readers_and_writers),
                                       cmocka_unit_test(thread_starts_and_stops)};
    struct logger_options o = {.env = env_system(), .level = getenv("LOG_LEVEL") != NULL ? logger_level_parse(getenv("LOG_LEVEL")) : LOG_ERROR};
    int failed;

    if (logger_open(&o, &logger, NULL) != ST_OK)
        return 2;
    failed = cmocka_run_group_tests_name("truncator", tests, NULL, NULL);
    logger_close(logger);
    return failed;
}
