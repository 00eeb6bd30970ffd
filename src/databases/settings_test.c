/* Settings: every recorded record comes out of defaults and the recorded requests' values byte by byte, partial and odd records are read as the published
 * server reads them, every range is refused below and above, permanent ones on update, roles; names of databases.
 *
 * argv[1]: folder with the recordings (golden/systemdb). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/test.h"
#include "databases/settings.h"

static const char *golden;
static struct arena arena;

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

static void expect_encoded(const struct database_settings *s, const char *text)
{
    struct json_text j = {0};

    assert_int_equal(settings_encode(s, &j, NULL), ST_OK);
    if (j.len != strlen(text) || memcmp(j.text, text, j.len) != 0)
        fail_msg("expected %s\ngot      %.*s", text, (int)j.len, j.text);
    json_text_free(&j);
}

static struct database_settings decode(const char *name, const char *text)
{
    struct database_settings s;
    struct err err;

    settings_defaults(&s, name);
    if (settings_decode(bytes_str(text), &s, &err) != ST_OK)
        fail_msg("%s: %s", text, err.text);
    return s;
}

/* The record of a step, or NULL. */
static const char *record_of(json_t *r, const char *step, char name[132])
{
    json_t *s, *tx, *entry;
    size_t i, k, n, c;

    json_array_foreach(json_object_get(r, "steps"), i, s) if (strncmp(json_string_value(json_object_get(s, "after")), step, strlen(step)) == 0)
        json_array_foreach(json_object_get(s, "systemdb_txs"), k, tx) json_array_foreach(json_object_get(tx, "entries"), n, entry)
    {
        const char *hex = json_string_value(json_object_get(entry, "key_hex"));
        unsigned byte;

        for (c = 2; c < strlen(hex) / 2; c++) {
            sscanf(hex + 2 * c, "%2x", &byte);
            name[c - 2] = (char)byte;
        }
        name[c - 2] = '\0';
        return json_string_value(json_object_get(entry, "value_text"));
    }
    return NULL;
}

static void test_round_trip(void **state)
{
    json_t *r = recording("01_operations.json"), *step, *tx, *entry;
    size_t i, k, n, count = 0;

    (void)state;
    json_array_foreach(json_object_get(r, "steps"), i, step) json_array_foreach(json_object_get(step, "systemdb_txs"), k, tx)
        json_array_foreach(json_object_get(tx, "entries"), n, entry)
    {
        const char *text = json_string_value(json_object_get(entry, "value_text"));
        struct database_settings s;
        char name[132];
        json_t *parsed;

        if (strncmp(json_string_value(json_object_get(entry, "key_hex")), "0002", 4) != 0 || text == NULL || text[0] == '\0')
            continue;
        parsed = json_loads(text, 0, NULL);
        snprintf(name, sizeof name, "%s", json_string_value(json_object_get(parsed, "database")));
        json_decref(parsed);
        s = decode(name, text);
        expect_encoded(&s, text);
        count++;
    }
    assert_true(count >= 14);
    json_decref(r);
}

#define U32(v) (&(Immudb__Schema__NullableUint32){.base = PROTOBUF_C_MESSAGE_INIT(&immudb__schema__nullable_uint32__descriptor), .value = (v)})
#define U64(v) (&(Immudb__Schema__NullableUint64){.base = PROTOBUF_C_MESSAGE_INIT(&immudb__schema__nullable_uint64__descriptor), .value = (v)})
#define MS(v) \
    (&(Immudb__Schema__NullableMilliseconds){.base = PROTOBUF_C_MESSAGE_INIT(&immudb__schema__nullable_milliseconds__descriptor), .value = (v)})
#define FLOAT(v) (&(Immudb__Schema__NullableFloat){.base = PROTOBUF_C_MESSAGE_INIT(&immudb__schema__nullable_float__descriptor), .value = (v)})
#define YES(v) (&(Immudb__Schema__NullableBool){.base = PROTOBUF_C_MESSAGE_INIT(&immudb__schema__nullable_bool__descriptor), .value = (v)})
#define TEXT(v) \
    (&(Immudb__Schema__NullableString){.base = PROTOBUF_C_MESSAGE_INIT(&immudb__schema__nullable_string__descriptor), \
                                       .value = (char *)(uintptr_t)(v)})

struct given {
    Immudb__Schema__DatabaseNullableSettings top;
    Immudb__Schema__ReplicationNullableSettings replication;
    Immudb__Schema__IndexNullableSettings index;
    Immudb__Schema__AHTNullableSettings aht;
    Immudb__Schema__TruncationNullableSettings truncation;
};

static void given_init(struct given *g)
{
    immudb__schema__database_nullable_settings__init(&g->top);
    immudb__schema__replication_nullable_settings__init(&g->replication);
    immudb__schema__index_nullable_settings__init(&g->index);
    immudb__schema__ahtnullable_settings__init(&g->aht);
    immudb__schema__truncation_nullable_settings__init(&g->truncation);
}

/* Who and when of a record, and whether it comes out of what was asked for. */
static void expect_created(const char *step, struct given *g)
{
    json_t *r = recording("01_operations.json");
    struct database_settings s, recorded;
    char name[132];
    const char *text = record_of(r, step, name);
    struct err err;

    assert_non_null(text);
    recorded = decode(name, text);
    settings_defaults(&s, name);
    if (settings_apply(&g->top, false, &s, &err) != ST_OK || settings_validate(&s, &err) != ST_OK)
        fail_msg("%s: %s", step, err.text);
    memcpy(s.created_by, recorded.created_by, sizeof s.created_by);
    s.created_at = recorded.created_at;
    expect_encoded(&s, text);
    json_decref(r);
}

static void test_created(void **state)
{
    struct given g;

    (void)state;
    given_init(&g);
    expect_created("CreateDatabaseV2 db1 without settings", &g);
    expect_created("CreateDatabase (V1) DBUPPER", &g);
    g.top.truncationsettings = &g.truncation;
    g.top.indexsettings = &g.index;
    g.top.ahtsettings = &g.aht;
    expect_created("CreateDatabaseV2 db1 without settings", &g); /* empty groups give nothing */
    g.top.syncfrequency = MS(21);
    g.top.preallocfiles = YES(true);
    g.top.filesize = U32(1048576);
    g.top.maxkeylen = U32(100);
    g.top.maxvaluelen = U32(4096);
    g.top.maxtxentries = U32(200);
    g.top.excludecommittime = YES(true);
    g.top.maxactivetransactions = U32(50);
    g.top.mvccreadsetlimit = U32(500);
    g.top.maxconcurrency = U32(11);
    g.top.maxioconcurrency = U32(2);
    g.top.writebuffersize = U32(65536);
    g.top.txlogcachesize = U32(901);
    g.top.vlogcachesize = U32(10);
    g.top.vlogmaxopenedfiles = U32(12);
    g.top.txlogmaxopenedfiles = U32(13);
    g.top.commitlogmaxopenedfiles = U32(14);
    g.top.writetxheaderversion = U32(0);
    g.top.readtxpoolsize = U32(17);
    g.top.autoload = YES(true);
    g.index.flushthreshold = U32(1001);
    g.index.syncthreshold = U32(2002);
    g.index.cleanuppercentage = FLOAT(12.5f);
    g.index.cachesize = U32(3003);
    g.index.maxnodesize = U32(8192);
    g.index.maxactivesnapshots = U32(9);
    g.index.renewsnaprootafter = U64(1500);
    g.index.compactionthld = U32(4);
    g.index.delayduringcompaction = U32(5);
    g.index.nodeslogmaxopenedfiles = U32(6);
    g.index.historylogmaxopenedfiles = U32(7);
    g.index.commitlogmaxopenedfiles = U32(8);
    g.index.maxbulksize = U32(10);
    g.index.bulkpreparationtimeout = MS(33);
    g.aht.syncthreshold = U32(10000);
    g.aht.writebuffersize = U32(32768);
    g.truncation.retentionperiod = MS(86400000);
    g.truncation.truncationfrequency = MS(3600000);
    expect_created("CreateDatabaseV2 dball", &g);
}

static void test_replica(void **state)
{
    struct given g;
    struct database_settings s;
    json_t *r = recording("01_operations.json");
    char name[132];

    (void)state;
    given_init(&g);
    g.top.replicationsettings = &g.replication;
    g.replication.replica = YES(true);
    g.replication.primarydatabase = TEXT("db1");
    g.replication.primaryhost = TEXT("127.0.0.1");
    g.replication.primaryport = U32(20199);
    g.replication.primaryusername = TEXT("immudb");
    g.replication.primarypassword = TEXT("p<&>w");
    g.replication.allowtxdiscarding = YES(true);
    g.replication.skipintegritycheck = YES(true);
    g.replication.waitforindexing = YES(true);
    expect_created("CreateDatabaseV2 dbreplica", &g);
    given_init(&g);
    g.top.replicationsettings = &g.replication;
    g.replication.syncreplication = YES(true);
    g.replication.syncacks = U32(1);
    expect_created("CreateDatabaseV2 dbsync", &g);
    /* The replica becomes a primary: what it had as a replica is cleared. */
    s = decode("dbreplica", record_of(r, "CreateDatabaseV2 dbreplica", name));
    given_init(&g);
    g.top.replicationsettings = &g.replication;
    g.replication.replica = YES(false);
    assert_int_equal(settings_apply(&g.top, true, &s, NULL), ST_OK);
    assert_int_equal(settings_validate(&s, NULL), ST_INVALID); /* unless the three switches are off in the same request */
    g.replication.allowtxdiscarding = g.replication.skipintegritycheck = g.replication.waitforindexing = YES(false);
    assert_int_equal(settings_apply(&g.top, true, &s, NULL), ST_OK);
    assert_int_equal(settings_validate(&s, NULL), ST_OK);
    {
        const char *text = record_of(r, "UpdateDatabaseV2 dbreplica to primary", name);
        struct database_settings recorded = decode(name, text);

        memcpy(s.updated_by, recorded.updated_by, sizeof s.updated_by);
        s.updated_at = recorded.updated_at;
        expect_encoded(&s, text);
    }
    json_decref(r);
}

static void test_odd_records(void **state)
{
    static const char *const bad[] = {
        "", "notjson", "[]", "{\"maxKeyLen\":\"12\"}", "{\"indexOptions\":7}", "{\"replica\":1}", "{\"createdAt\":\"x\"}", "{\"maxKeyLen\":1.5}"};
    struct database_settings s, fresh;
    size_t i;

    (void)state;
    settings_defaults(&fresh, "min1");
    s = decode("min1", "{}");
    assert_memory_equal(&s, &fresh, sizeof s);
    s = decode("min2", "{\"database\":\"min2\",\"synced\":true,\"fileSize\":1048576,\"unknown\":[1,2],\"autoload\":0,\"maxActiveTransactions\":7,"
                       "\"indexOptions\":{\"cacheSize\":5000}}");
    assert_int_equal(s.file_size, 1048576);
    assert_int_equal(s.max_active_transactions, 7);
    assert_int_equal(s.index_cache_size, 5000);
    assert_int_equal(s.index_flush_threshold, 100000);
    s = decode("min3", "{\"autoload\":2}");
    assert_false(settings_autoload(&s));
    assert_true(settings_autoload(&fresh));
    s = decode("bad1", "{\"database\":\"other\",\"MAXKEYLEN\":512,\"ahtOptions\":null,\"indexOptions\":null,\"fileSize\":null}");
    assert_string_equal(s.database, "bad1"); /* the key's name wins */
    assert_int_equal(s.max_key_len, 512);
    assert_int_equal(s.file_size, 536870912);
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        settings_defaults(&s, "x");
        assert_int_equal(settings_decode(bytes_str(bad[i]), &s, NULL), ST_INVALID);
    }
}

static void expect_refused(struct given *g, const char *text)
{
    struct database_settings s;
    struct err err = {0};

    settings_defaults(&s, "x");
    if (settings_apply(&g->top, false, &s, &err) == ST_OK && settings_validate(&s, &err) == ST_OK)
        fail_msg("accepted, but should be: %s", text);
    if (strstr(err.text, text) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", text, err.text);
}

static void test_ranges(void **state)
{
    struct given g;

    (void)state;
#define REFUSED(assignment, text) \
    do { \
        given_init(&g); \
        g.top.replicationsettings = &g.replication; \
        g.top.indexsettings = &g.index; \
        g.top.ahtsettings = &g.aht; \
        g.top.truncationsettings = &g.truncation; \
        assignment; \
        expect_refused(&g, text); \
    } while (0)
    REFUSED(g.top.maxkeylen = U32(0), "illegal arguments: illegal arguments: invalid options: invalid MaxKeyLen");
    REFUSED(g.top.maxkeylen = U32(1025), "invalid MaxKeyLen");
    REFUSED(g.top.maxvaluelen = U32(0), "invalid MaxValueLen");
    REFUSED(g.top.maxtxentries = U32(0), "invalid MaxTxEntries");
    REFUSED(g.top.maxtxentries = U32(UINT32_MAX), "invalid MaxTxEntries");
    REFUSED(g.top.maxactivetransactions = U32(UINT32_MAX), "invalid MaxActiveTransactions");
    REFUSED(g.top.maxconcurrency = U32(0), "invalid MaxConcurrency");
    REFUSED(g.top.maxconcurrency = U32(1u << 31), "invalid MaxConcurrency");
    REFUSED(g.top.filesize = U32(0), "invalid FileSize");
    REFUSED(g.top.writetxheaderversion = U32(2), "invalid WriteTxHeaderVersion");
    REFUSED(g.top.mvccreadsetlimit = U32(UINT32_MAX), "invalid MVCCReadSetLimit");
    REFUSED(g.index.flushthreshold = U32(0), "invalid index option FlushThld");
    REFUSED(g.index.cleanuppercentage = FLOAT(101), "invalid index option CleanupPercentage");
    REFUSED(g.index.cleanuppercentage = FLOAT(-1), "invalid index option CleanupPercentage");
    REFUSED(g.index.cleanuppercentage = FLOAT(__builtin_nanf("")), "invalid index option CleanupPercentage");
    REFUSED(g.index.renewsnaprootafter = U64(UINT64_MAX), "invalid index option RenewSnapRootAfter");
    REFUSED(g.aht.syncthreshold = U32(0), "invalid AHT option SyncThld");
    REFUSED(g.top.readtxpoolsize = U32(0), "invalid read tx pool size (0) for database 'x'");
    REFUSED(g.truncation.retentionperiod = MS(1000), "RetentionPeriod should at least '24' hours");
    REFUSED(g.truncation.retentionperiod = MS(-1), "RetentionPeriod should at least '24' hours");
    REFUSED(g.truncation.truncationfrequency = MS(1000), "TruncationFrequency should at least '1' hour");
    REFUSED(g.replication.primaryhost = TEXT("h"), "invalid value for replication option PrimaryHost on primary database 'x'");
    REFUSED(g.replication.syncreplication = YES(true), "at least one sync replica");
    REFUSED(g.replication.syncacks = U32(1), "SyncAcks should be set to 0");
    REFUSED(g.replication.waitforindexing = YES(true), "invalid value for replication option WaitForIndexing on primary database 'x'");
    REFUSED((g.replication.replica = YES(true), g.replication.syncacks = U32(1)), "option SyncAcks ReplicationCommitConcurrency on database 'x'");
#undef REFUSED
}

static void test_permanent(void **state)
{
    struct database_settings s;
    struct given g;
    struct err err;

    (void)state;
    settings_defaults(&s, "set1");
    given_init(&g);
    g.top.maxtxentries = U32(1024); /* also when it is the same */
    assert_int_equal(settings_apply(&g.top, true, &s, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments: max number of entries per transaction can not be changed after database creation ('set1')");
    given_init(&g);
    g.top.indexsettings = &g.index;
    g.index.maxnodesize = U32(8192);
    assert_int_equal(settings_apply(&g.top, true, &s, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments: max node size can not be changed after database creation ('set1')");
    given_init(&g);
    g.top.autoload = YES(false);
    assert_int_equal(settings_apply(&g.top, true, &s, &err), ST_OK);
    assert_int_equal(s.autoload, AUTOLOAD_OFF);
    assert_int_equal(settings_apply(NULL, true, &s, &err), ST_OK);
}

/* The message has every field and says what the settings say: applied to defaults it gives them back. */
static void test_message(void **state)
{
    Immudb__Schema__DatabaseNullableSettings *m;
    struct database_settings
        s = decode("x", "{\"replica\":true,\"masterAddress\":\"h\",\"maxKeyLen\":77,\"prefetchTxBufferSize\":3,\"replicationCommitConcurrency\":4,"
                        "\"indexOptions\":{\"cleanupPercentage\":1.5,\"renewSnapRootAfter\":9},\"retentionPeriod\":86400000,\"autoload\":1}"),
        back;

    (void)state;
    arena_init(&arena, 4096, 0);
    assert_non_null(m = settings_message(&s, &arena));
    settings_defaults(&back, "x");
    assert_int_equal(settings_apply(m, false, &back, NULL), ST_OK);
    assert_memory_equal(&s, &back, sizeof s);
    arena_free(&arena);
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *error; /* NULL: good */
    } rows[] = {
        {"db1", NULL},
        {"a_b", NULL},
        {"_", NULL},
        {"1", NULL},
        {"\xc3\xa9", NULL},
        {"\xd9\xa0", NULL} /* a digit of another script */,
        {"", "database name length outside of limits"},
        {"a-b", "punctuation marks and symbols are not allowed in database name"},
        {"a.b", "punctuation marks and symbols are not allowed in database name"},
        {"a$b", "punctuation marks and symbols are not allowed in database name"},
        {"a/b", "punctuation marks and symbols are not allowed in database name"},
        {"..", "punctuation marks and symbols are not allowed in database name"},
        {"a b", "unrecognized character in database name"},
        {"a\tb", "unrecognized character in database name"},
        {"A", "unrecognized character in database name"},
        {"\xe6\xbc\xa2", "unrecognized character in database name"},
        {"\xff", "unrecognized character in database name"},
        {"\xc3", "unrecognized character in database name"},
        {"\xed\xa0\x80", "unrecognized character in database name"},
    };
    char longest[130], *lowered;
    struct err err;
    size_t i;

    (void)state;
    arena_init(&arena, 4096, 0);
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum status st = database_name_check(bytes_str(rows[i].name), &err);

        assert_int_equal(st, rows[i].error == NULL ? ST_OK : ST_INVALID);
        if (rows[i].error != NULL)
            assert_string_equal(err.text, rows[i].error);
    }
    memset(longest, 'x', sizeof longest);
    assert_int_equal(database_name_check(bytes_of(longest, 128), NULL), ST_OK);
    assert_int_equal(database_name_check(bytes_of(longest, 129), NULL), ST_INVALID);
    assert_int_equal(database_name_lower(bytes_str("DefaultDB_\xc3\x89\xff"), &arena, &lowered, NULL), ST_OK);
    assert_string_equal(lowered, "defaultdb_\xc3\xa9\xff");
    assert_true(database_name_is_reserved("systemdb"));
    assert_false(database_name_is_reserved("SystemDB"));
    arena_free(&arena);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_created), cmocka_unit_test(test_replica),
                                       cmocka_unit_test(test_odd_records), cmocka_unit_test(test_ranges),  cmocka_unit_test(test_permanent),
                                       cmocka_unit_test(test_message),     cmocka_unit_test(test_names)};

    if (argc != 2) {
        fprintf(stderr, "usage: %s GOLDEN_SYSTEMDB\n", argv[0]);
        return 2;
    }
    golden = argv[1];
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
