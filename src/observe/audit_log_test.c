/* The audit log: its entries to the byte, which calls are of which type, that all events arrive in order in a real store, that neither a full queue nor
 * a full disk makes a caller wait, and that what was lost is counted; and the queue with many writers (thread sanitizer). */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/systemdb.h"
#include "base/test.h"
#include "config/logger.h"
#include "handlers/methods.h"
#include "observe/audit_log.h"
#include "vfs/vfs_faulty.h"
#include "vfs/vfs_memory.h"

static const struct method *method_of(const char *name)
{
    size_t i;

    for (i = 0; i < METHOD_COUNT; i++)
        if (strcmp(strrchr(METHODS[i].path, '/') + 1, name) == 0)
            return &METHODS[i];
    fail_msg("no method %s", name);
    return NULL;
}

static struct call_event event_of(const char *name, const char *error)
{
    struct call_event e = {.wall_ns = 1795235182230991731, .duration_ns = 6900000, .method = method_of(name), .user = "immudb", .database = ""};

    snprintf(e.ip, sizeof e.ip, "127.0.0.1");
    snprintf(e.error, sizeof e.error, "%s", error);
    e.code = error[0] != '\0' ? RPC_UNKNOWN : RPC_OK;
    return e;
}

/* --- the form --- */

static void check_value(const struct call_event *e, const char *expected)
{
    char out[2400];
    size_t len = audit_value(e, out, sizeof out), room;

    assert_int_equal(len, strlen(expected));
    assert_memory_equal(out, expected, len);
    for (room = 0; room < len; room += 7) /* a buffer that is too short is told, not overrun */
        assert_int_equal(audit_value(e, out, room), 0);
}

static void test_values(void **state)
{
    struct call_event e = event_of("CurrentState", "");

    (void)state;
    check_value(&e, "{\"ts\":1795235182230991731,\"user\":\"immudb\",\"ip\":\"127.0.0.1\",\"method\":\"/immudb.schema.ImmuService/CurrentState\","
                    "\"type\":\"READ\",\"ok\":true,\"dur_ms\":6}");
    e = event_of("Get", "key \"a\nb\" <not> \xff found\x1b");
    e.database = "db1";
    snprintf(e.session, sizeof e.session, "abc");
    check_value(&e,
                "{\"ts\":1795235182230991731,\"user\":\"immudb\",\"ip\":\"127.0.0.1\",\"db\":\"db1\",\"method\":\"/immudb.schema.ImmuService/Get\","
                "\"type\":\"READ\",\"ok\":false,\"err\":\"key \\\"a\\u000ab\\\" \\u003cnot\\u003e ? found\\u001b\",\"dur_ms\":6,"
                "\"sid\":\"ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=\"}"); /* SHA-256 of "abc" */
}

/* The longest of everything still fits. */
static void test_longest(void **state)
{
    struct call_event e = event_of("streamVerifiableSet", "");
    char user[64], database[129], out[2400];

    (void)state;
    memset(user, 'u', 63);
    user[63] = '\0';
    memset(database, 'd', 128);
    database[128] = '\0';
    memset(e.ip, '<', EVENT_IP_MAX);
    memset(e.error, '\x01', EVENT_ERROR_MAX);
    memset(e.session, 's', EVENT_SESSION_MAX);
    e.ip[EVENT_IP_MAX] = e.error[EVENT_ERROR_MAX] = e.session[EVENT_SESSION_MAX] = '\0';
    e.user = user;
    e.database = database;
    e.code = RPC_INTERNAL;
    e.wall_ns = INT64_MIN;
    e.duration_ns = UINT64_MAX;
    assert_true(audit_value(&e, out, sizeof out) > 0);
}

static void test_types(void **state)
{
    static const struct {
        const char *name;
        enum audit_type type;
    } some[] = {{"Login", AUDIT_AUTH},       {"streamSet", AUDIT_WRITE},      {"exportTx", AUDIT_SYSTEM}, {"ListUsers", AUDIT_ADMIN},
                {"SQLExec", AUDIT_WRITE},    {"UnarySQLQuery", AUDIT_READ},   {"Get", AUDIT_READ},        {"SetActiveUser", AUDIT_ADMIN},
                {"OpenSession", AUDIT_AUTH}, {"InsertDocuments", AUDIT_WRITE}};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof some / sizeof some[0]; i++)
        assert_int_equal(audit_type_of(method_of(some[i].name)->path), some[i].type);
    for (i = 0; i < METHOD_COUNT; i++) /* nothing that writes to a database passes for a read */
        if (METHODS[i].who == CLASS_WRITE && strstr(METHODS[i].path, "GetAll") == NULL)
            assert_int_not_equal(audit_type_of(METHODS[i].path), AUDIT_READ);
}

/* --- with a store --- */

struct fixture {
    struct logger *logger;
    struct vfs *disk, *vfs;
    struct runtime *runtime;
    struct store *store;
    struct audit_log *log;
};

static void begin(struct fixture *f, const char *events)
{
    struct logger_options lo = {.env = env_system(), .level = LOG_ERROR};
    struct runtime_options ro = {.memory_limit = 64 << 20};
    struct store_options so = {.dir = "systemdb", .create = true, .tx_version = 1};
    struct err err;

    assert_int_equal(logger_open(&lo, &f->logger, &err), ST_OK);
    f->disk = vfs_memory_create();
    f->vfs = vfs_faulty_create(f->disk);
    ro.vfs = f->vfs;
    ro.env = logger_env(f->logger);
    assert_int_equal(runtime_create(&ro, &f->runtime, &err), ST_OK);
    so.runtime = f->runtime;
    assert_int_equal(store_open(&so, &f->store, &err), ST_OK);
    assert_int_equal(audit_log_create(f->logger, events, &f->log, &err), ST_OK);
}

static void end(struct fixture *f)
{
    store_close(f->store);
    runtime_destroy(f->runtime);
    vfs_faulty_destroy(f->vfs);
    vfs_memory_destroy(f->disk);
    logger_close(f->logger);
}

struct seen {
    uint64_t count, last_number;
};

static enum status see(void *ctx, struct bytes key, struct bytes value, uint64_t tx_id, struct err *err)
{
    struct seen *s = ctx;
    char number[17];

    (void)tx_id;
    (void)err;
    assert_int_equal(key.len, 6 + 20 + 1 + 16);
    assert_memory_equal(key.data, "audit:01795", 11);
    memcpy(number, key.data + 27, 16);
    number[16] = '\0';
    assert_true(value.len > 2 && value.data[0] == '{' && value.data[value.len - 1] == '}');
    s->last_number = strtoull(number, NULL, 10);
    s->count++;
    return ST_OK;
}

static struct seen entries(struct fixture *f)
{
    struct seen s = {0};
    struct err err;

    assert_int_equal(systemdb_scan(f->store, bytes_str("audit:"), see, &s, &err), ST_OK);
    return s;
}

static void test_recording(void **state)
{
    struct call_event e = event_of("Set", "");
    struct fixture f = {0};
    struct seen seen;
    struct err err;
    int i;

    (void)state;
    begin(&f, "write");
    assert_true(audit_log_wants(f.log, (size_t)(method_of("Set") - METHODS)));
    assert_true(audit_log_wants(f.log, (size_t)(method_of("Login") - METHODS)));
    assert_false(audit_log_wants(f.log, (size_t)(method_of("Get") - METHODS)));
    audit_log_add(f.log, &e); /* before it writes: kept */
    assert_int_equal(audit_log_start(f.log, f.store, &err), ST_OK);
    for (i = 1; i < 2000; i++) {
        e.wall_ns++;
        audit_log_add(f.log, &e);
    }
    audit_log_stop(f.log); /* writes what is queued */
    seen = entries(&f);
    assert_int_equal(seen.count, 2000);
    assert_int_equal(seen.last_number, 2000);
    end(&f);
}

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* No reader yet: the queue takes what it holds and drops the rest, at once. */
static void test_full_queue(void **state)
{
    struct call_event e = event_of("Set", "");
    struct audit_stats stats;
    struct fixture f = {0};
    struct err err;
    int i;

    (void)state;
    begin(&f, "all");
    for (i = 0; i < AUDIT_QUEUE + 100; i++)
        audit_log_add(f.log, &e);
    audit_log_stats(f.log, &stats);
    assert_int_equal(stats.queued, AUDIT_QUEUE);
    assert_int_equal(stats.dropped, 100);
    assert_int_equal(audit_log_start(f.log, f.store, &err), ST_OK);
    audit_log_stop(f.log);
    assert_int_equal(entries(&f).count, AUDIT_QUEUE);
    end(&f);
}

static void wait_for(struct fixture *f, bool (*is_reached)(const struct audit_stats *s))
{
    struct audit_stats stats;
    int i;

    for (i = 0; i < 600; i++) {
        audit_log_stats(f->log, &stats);
        if (is_reached(&stats))
            return;
        sleep_ms(50);
    }
    fail_msg("recorded %llu, dropped %llu, failures %llu", (unsigned long long)stats.recorded, (unsigned long long)stats.dropped,
             (unsigned long long)stats.failures);
}

static bool has_dropped(const struct audit_stats *s) { return s->dropped >= 10 && s->failures >= AUDIT_ATTEMPTS; }
static bool has_recorded(const struct audit_stats *s) { return s->recorded >= 20; }

static void test_full_disk(void **state)
{
    struct call_event e = event_of("Set", "");
    struct fixture f = {0};
    struct err err;
    int i;

    (void)state;
    begin(&f, "all");
    assert_int_equal(audit_log_start(f.log, f.store, &err), ST_OK);
    for (i = 0; i < 10; i++)
        audit_log_add(f.log, &e);
    while (entries(&f).count < 10)
        sleep_ms(20);
    vfs_faulty_arm(f.vfs, FAULT_NO_SPACE, 1, 0);
    e.database = "filler"; /* beyond what is zeroed ahead */
    for (i = 0; i < 10; i++)
        audit_log_add(f.log, &e);
    wait_for(&f, has_dropped);
    vfs_faulty_heal(f.vfs);
    sleep_ms(300);
    for (i = 0; i < 10; i++)
        audit_log_add(f.log, &e);
    wait_for(&f, has_recorded); /* all heals when space returns */
    audit_log_stop(f.log);
    end(&f);
}

static void test_replica(void **state)
{
    struct call_event e = event_of("Set", "");
    struct audit_stats stats;
    struct fixture f = {0};
    struct err err;

    (void)state;
    begin(&f, "all");
    assert_int_equal(audit_log_start(f.log, NULL, &err), ST_OK);
    audit_log_add(f.log, &e);
    do {
        sleep_ms(5);
        audit_log_stats(f.log, &stats);
    } while (stats.dropped == 0);
    audit_log_stop(f.log);
    assert_int_equal(entries(&f).count, 0);
    end(&f);
}

/* --- the queue with many writers --- */

enum { WRITERS = 4, EVENTS_EACH = 20000 };

static void *push_many(void *arg)
{
    struct call_event e = event_of("Set", "some error");
    struct call_ring *ring = arg;
    uintptr_t taken = 0;
    int i;

    for (i = 0; i < EVENTS_EACH; i++)
        taken += call_ring_push(ring, &e);
    return (void *)taken;
}

static void *pop_all(void *arg)
{
    static struct call_event events[100];
    struct call_ring *ring = arg;
    uintptr_t count = 0;
    size_t n;

    while ((n = call_ring_pop(ring, events, 100, 1000000000)) > 0 || !call_ring_is_closed(ring)) {
        count += n;
        if (n > 0)
            assert_string_equal(events[n - 1].error, "some error");
    }
    return (void *)count;
}

static void test_threads(void **state)
{
    struct call_ring *ring;
    pthread_t writers[WRITERS], reader;
    uintptr_t pushed = 0;
    void *result;
    struct err err;
    int i;

    (void)state;
    assert_int_equal(call_ring_create(env_system(), 256, &ring, &err), ST_OK);
    assert_int_equal(pthread_create(&reader, NULL, pop_all, ring), 0);
    for (i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, push_many, ring), 0);
    for (i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], &result);
        pushed += (uintptr_t)result;
    }
    call_ring_close(ring);
    pthread_join(reader, &result);
    assert_int_equal((uintptr_t)result, pushed);
    assert_int_equal(pushed + call_ring_dropped(ring), WRITERS * EVENTS_EACH);
    call_ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_values),    cmocka_unit_test(test_longest),    cmocka_unit_test(test_types),
                                       cmocka_unit_test(test_recording), cmocka_unit_test(test_full_queue), cmocka_unit_test(test_full_disk),
                                       cmocka_unit_test(test_replica),   cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests_name("audit_log", tests, NULL, NULL);
}
