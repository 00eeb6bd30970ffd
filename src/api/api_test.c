/* Proves what immudb.h promises outside transactions and proofs, call by call: opening and its refusals, writes with metadata, every way to read, lists in all
 * directions and bounds (against a model), snapshots, references, states and signatures, export and import, commits on allowance, maintenance, figures. */
#include "api/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

/* --- open and close --- */
static void test_open(void **state)
{
    struct fixture f;
    immudb_runtime_options ro;
    immudb_runtime *runtime = NULL;
    immudb_db *db = (immudb_db *)&f;
    immudb_snapshot *snapshot;
    immudb_tx *tx;
    immudb_health h;
    uint8_t uuid[16], again[16];
    immudb_options o;

    (void)state;
    fixture_begin(&f, 0);
    OK(immudb_uuid(f.db, uuid, E));
    immudb_health_init(&h);
    OK(immudb_health_get(f.db, &h, E));
    assert_int_equal(h.kind, IMMUDB_HEALTHY);
    /* A second handle of the same directory. */
    FAILS(IMMUDB_BUSY, "in use by process", immudb_open(f.path, &f.o, &db, E));
    assert_null(db);
    /* Closing with something open does nothing. */
    OK(immudb_snapshot_open(f.db, 0, &snapshot, E));
    FAILS(IMMUDB_BUSY, "still open", immudb_close(f.db, E));
    immudb_snapshot_close(snapshot);
    OK(immudb_tx_begin(f.db, NULL, &tx, E));
    IS(IMMUDB_BUSY, immudb_close(f.db, E));
    immudb_tx_cancel(tx);
    assert_int_equal(set(&f, "a", "1"), 1);
    fixture_close(&f);

    /* One runtime for several databases. */
    immudb_runtime_options_init(&ro);
    ro.memory_limit = 32 << 20;
    OK(immudb_runtime_create(&ro, &runtime, E));
    f.o.runtime = runtime;
    f.o.flags = 0;
    fixture_open(&f);
    OK(immudb_uuid(f.db, again, E));
    assert_memory_equal(uuid, again, 16);
    GET(&f, "a", "1");
    IS(IMMUDB_BUSY, immudb_runtime_free(runtime, E));
    fixture_close(&f);

    o = f.o;
    o.runtime_options = &ro;
    IS(IMMUDB_INVALID, immudb_open(f.path, &o, &db, E));
    o = f.o;
    o.flags = 1u << 30;
    IS(IMMUDB_UNSUPPORTED, immudb_open(f.path, &o, &db, E));
    o = f.o;
    o.name = "";
    IS(IMMUDB_INVALID, immudb_open(f.path, &o, &db, E));
    o = f.o;
    IS(IMMUDB_NOT_FOUND, immudb_open("/nonexistent/place", &o, &db, E));
    o.flags = IMMUDB_CREATE;
    IS(IMMUDB_NOT_FOUND, immudb_open("/nonexistent/place", &o, &db, E));
    ro.memory_limit = 1;
    IS(IMMUDB_INVALID, immudb_runtime_create(&ro, &f.o.runtime, E));

    /* Read-only. */
    f.o.runtime = runtime;
    f.o.flags = IMMUDB_OPEN_READ_ONLY;
    fixture_open(&f);
    GET(&f, "a", "1");
    IS(IMMUDB_READ_ONLY, immudb_set(f.db, S("b"), S("2"), NULL, NULL, E));
    fixture_close(&f);
    OK(immudb_runtime_free(runtime, E));
    OK(immudb_runtime_free(NULL, E));
    OK(immudb_close(NULL, E));
    f.o.runtime = NULL;
    fixture_open(&f);
    fixture_end(&f);
}

struct lines {
    int count, level;
    char last[300];
};
static void log_note(void *ctx, int level, const char *text)
{
    struct lines *l = ctx;

    l->count++;
    l->level = level;
    snprintf(l->last, sizeof l->last, "%s", text);
}

/* A torn tail is cut when opening, and said in the log. */
static void test_log(void **state)
{
    struct fixture f;
    struct lines lines = {0, 0, ""};
    immudb_runtime_options ro;
    char name[400];
    FILE *file;

    (void)state;
    fixture_begin(&f, 0);
    set(&f, "a", "1");
    immudb_runtime_options_init(&ro);
    ro.log = log_note;
    ro.log_ctx = &lines;
    ro.log_level = IMMUDB_LOG_DEBUG;
    f.o.runtime_options = &ro;
    fixture_close(&f);
    snprintf(name, sizeof name, "%s/log", f.path);
    /* Garbage right behind the last frame: where, only the log knows; so a byte of the index's manifest instead. */
    snprintf(name, sizeof name, "%s/index/MANIFEST", f.path);
    file = fopen(name, "r+b");
    if (file != NULL) {
        fputc('?', file);
        fclose(file);
    }
    fixture_open(&f);
    GET(&f, "a", "1");
    assert_true(file == NULL || lines.count > 0);
    fixture_end(&f);
}

/* Where the end of the log is gone, no older state or value passes for the newest; what is whole stays readable by its number. */
static void test_lost_end(void **state)
{
    struct fixture f;
    immudb_state s;
    immudb_signature sig;
    immudb_entry_proof p;
    char name[400];
    FILE *file;

    (void)state;
    fixture_begin(&f, 0);
    set(&f, "a", "1");
    set(&f, "a", "2");
    immudb_state_init(&s);
    immudb_signature_init(&sig);
    immudb_entry_proof_init(&p);
    fixture_close(&f);
    snprintf(name, sizeof name, "%s/log/seg-00000001.0", f.path);
    file = fopen(name, "wb"); /* emptied */
    assert_non_null(file);
    fclose(file);
    fixture_open(&f);
    FAILS(IMMUDB_CORRUPT, "the end of the log is damaged", immudb_state_get(f.db, &s, E));
    FAILS(IMMUDB_CORRUPT, "the end of the log is damaged", immudb_state_sign(f.db, &s, &sig, E));
    FAILS(IMMUDB_CORRUPT, "the end of the log is damaged", immudb_prove_entry(f.db, S("a"), 0, 0, 0, f.buffer, &p, E));
    IS(IMMUDB_READ_ONLY, immudb_set(f.db, S("b"), S("2"), NULL, NULL, E));
    fixture_end(&f);
}

/* --- writing and point reads --- */
static void test_get(void **state)
{
    struct fixture f;
    immudb_get_options o;
    immudb_snapshot *old;
    immudb_entry e;
    uint64_t first, second, deleted;
    immudb_committed c;
    immudb_hash h;

    (void)state;
    fixture_begin(&f, 0);
    immudb_entry_init(&e);
    immudb_committed_init(&c);
    GET(&f, "k", NULL);
    first = set(&f, "k", "one");
    OK(immudb_snapshot_open(f.db, 0, &old, E));
    assert_int_equal(immudb_snapshot_tx(old), first);
    second = set(&f, "k", "two");
    OK(immudb_delete(f.db, S("k"), 0, &c, E));
    deleted = c.tx_id;
    assert_int_equal(deleted, second + 1);
    GET(&f, "k", NULL);
    FAILS(IMMUDB_NOT_FOUND, "key not found", immudb_delete(f.db, S("k"), 0, NULL, E));
    IS(IMMUDB_NOT_FOUND, immudb_delete(f.db, S("never"), 0, NULL, E));

    immudb_get_options_init(&o);
    o.flags = IMMUDB_WITH_DELETED;
    OK(immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    assert_int_equal(e.flags, IMMUDB_ENTRY_DELETED);
    assert_int_equal(e.tx_id, deleted);
    assert_int_equal(e.revision, 3);
    assert_int_equal(e.value.len, 0);
    o.flags = 0;
    o.snapshot = old;
    OK(immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    BYTES(e.value, "one");
    assert_int_equal(e.revision, 1);
    o.snapshot = NULL;
    o.at_tx = second;
    OK(immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    BYTES(e.value, "two");
    assert_int_equal(e.tx_id, second);
    assert_int_equal(e.value_len, 4);
    immudb_sha256(immudb_bytes_of("\0two", 4), &h);
    assert_memory_equal(&h, &e.value_hash, sizeof h);
    o.at_revision = 1;
    IS(IMMUDB_INVALID, immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    o.at_tx = 0;
    OK(immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    BYTES(e.value, "one");
    o.at_revision = -1;
    OK(immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    BYTES(e.value, "two");
    assert_int_equal(e.revision, 2);
    o.at_revision = INT64_MIN;
    FAILS(IMMUDB_INVALID, "revision", immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    o.at_revision = 4;
    IS(IMMUDB_INVALID, immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    assert_int_equal(e.tx_id, 0); /* emptied */
    o.at_revision = 0;
    o.at_tx = 77;
    FAILS(IMMUDB_NOT_FOUND, "tx not found", immudb_get(f.db, S("k"), &o, f.buffer, &e, E));
    o.at_tx = second;
    IS(IMMUDB_NOT_FOUND, immudb_get(f.db, S("other"), &o, f.buffer, &e, E));
    immudb_snapshot_close(old);
    FAILS(IMMUDB_INVALID, "empty key", immudb_get(f.db, S(""), NULL, f.buffer, &e, E));
    FAILS(IMMUDB_NOT_FOUND, "tx not found", immudb_snapshot_open(f.db, 99, &old, E));
    assert_null(old);
    fixture_end(&f);
}

static void test_metadata(void **state)
{
    struct fixture f;
    immudb_set_options so;
    immudb_get_options go;
    immudb_entry e;
    immudb_committed c;
    immudb_hash h;
    char big[3000];

    (void)state;
    fixture_begin(&f, 0);
    immudb_entry_init(&e);
    immudb_set_options_init(&so);
    immudb_committed_init(&c);
    so.flags = IMMUDB_EXPIRES;
    so.expires_at = 1000;
    OK(immudb_set(f.db, S("old"), S("gone"), &so, NULL, E));
    so.expires_at = (int64_t)4000000000;
    OK(immudb_set(f.db, S("young"), S("here"), &so, NULL, E));
    OK(immudb_get(f.db, S("young"), NULL, f.buffer, &e, E));
    assert_int_equal(e.flags, IMMUDB_ENTRY_EXPIRES);
    assert_int_equal(e.expires_at, 4000000000);
    assert_int_equal(e.metadata.len, 9);
    FAILS(IMMUDB_NOT_FOUND, "expired", immudb_get(f.db, S("old"), NULL, f.buffer, &e, E));
    immudb_get_options_init(&go);
    go.flags = IMMUDB_WITH_DELETED;
    OK(immudb_get(f.db, S("old"), &go, f.buffer, &e, E));
    assert_int_equal(e.flags, IMMUDB_ENTRY_EXPIRES | IMMUDB_ENTRY_EXPIRED);
    BYTES(e.value, "gone");

    so.flags = IMMUDB_NON_INDEXABLE;
    OK(immudb_set(f.db, S("hidden"), S("x"), &so, &c, E));
    GET(&f, "hidden", NULL);
    go.flags = 0;
    go.at_tx = c.tx_id;
    OK(immudb_get(f.db, S("hidden"), &go, f.buffer, &e, E));
    BYTES(e.value, "x");
    assert_int_equal(e.flags, IMMUDB_ENTRY_NON_INDEXABLE);
    so.flags = 1u << 20;
    IS(IMMUDB_UNSUPPORTED, immudb_set(f.db, S("a"), S("b"), &so, NULL, E));

    memset(big, 'x', sizeof big);
    FAILS(IMMUDB_LIMIT, "max key length", immudb_set(f.db, immudb_bytes_of(big, 1024), S(""), NULL, NULL, E));
    OK(immudb_set(f.db, immudb_bytes_of(big, 1023), immudb_bytes_of(big, sizeof big), NULL, NULL, E));
    OK(immudb_get(f.db, immudb_bytes_of(big, 1023), NULL, f.buffer, &e, E));
    assert_int_equal(e.value.len, sizeof big);
    assert_memory_equal(e.value.data, big, sizeof big);
    go.at_tx = 0;
    go.flags = IMMUDB_NO_VALUE;
    OK(immudb_get(f.db, immudb_bytes_of(big, 1023), &go, f.buffer, &e, E));
    assert_int_equal(e.value.len, 0);
    assert_int_equal(e.value_len, sizeof big + 1);
    OK(immudb_set(f.db, S("small"), S("two"), NULL, NULL, E));
    OK(immudb_get(f.db, S("small"), &go, f.buffer, &e, E));
    immudb_sha256(immudb_bytes_of("\0two", 4), &h);
    assert_int_equal(e.value.len, 0);
    assert_memory_equal(&h, &e.value_hash, sizeof h);
    IS(IMMUDB_INVALID, immudb_set(f.db, S(""), S("v"), NULL, NULL, E));
    IS(IMMUDB_INVALID, immudb_set(f.db, immudb_bytes_of(NULL, 3), S("v"), NULL, NULL, E));
    OK(immudb_set(f.db, S("empty"), S(""), NULL, NULL, E));
    GET(&f, "empty", "");
    fixture_end(&f);
}

static void test_many(void **state)
{
    struct fixture f;
    immudb_pair pairs[300];
    char keys[300][8];
    immudb_header h;
    immudb_committed c;
    immudb_cursor *cursor;
    immudb_entry e;
    immudb_hash alh;

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    immudb_committed_init(&c);
    immudb_header_init(&h);
    immudb_entry_init(&e);
    for (int i = 0; i < 300; i++) {
        snprintf(keys[i], sizeof keys[i], "k%03d", i);
        pairs[i] = (immudb_pair){S(keys[i]), S(keys[299 - i < i ? i : 299 - i])};
    }
    OK(immudb_set_many(f.db, pairs, 300, 0, &c, E));
    OK(immudb_header_get(f.db, c.tx_id, &h, &alh, E));
    assert_int_equal(h.entry_count, 300);
    assert_int_equal(h.tx_id, c.tx_id);
    assert_int_equal(h.ts, c.ts);
    assert_memory_equal(&alh, &c.alh, sizeof alh);
    OK(immudb_tx_entries(f.db, c.tx_id, 0, &cursor, E));
    for (uint32_t i = 0; i < 300; i++) {
        OK(immudb_cursor_next(cursor, &e, E));
        BYTES(e.key, keys[i]);
        assert_int_equal(e.entry_index, i);
    }
    IS(IMMUDB_NOT_FOUND, immudb_cursor_next(cursor, &e, E));
    immudb_cursor_close(cursor);
    pairs[7].key = pairs[200].key;
    FAILS(IMMUDB_EXISTS, "duplicated", immudb_set_many(f.db, pairs, 300, 0, NULL, E));
    FAILS(IMMUDB_INVALID, "no entries", immudb_set_many(f.db, pairs, 0, 0, NULL, E));
    FAILS(IMMUDB_LIMIT, "max number of entries", immudb_set_many(f.db, pairs, 1025, 0, NULL, E));
    IS(IMMUDB_UNSUPPORTED, immudb_set_many(f.db, pairs, 1, IMMUDB_EXPIRES, NULL, E));
    IS(IMMUDB_NOT_FOUND, immudb_header_get(f.db, c.tx_id + 1, &h, NULL, E));
    IS(IMMUDB_NOT_FOUND, immudb_tx_entries(f.db, 0, 0, &cursor, E));
    fixture_end(&f);
}

/* --- lists --- */
enum { MODEL_KEYS = 40 };
struct model {
    char key[8];
    int revision; /* 0: never */
    bool is_deleted;
};

static bool in_bounds(const char *key, const immudb_scan_options *o)
{
    bool desc = (o->flags & IMMUDB_DESC) != 0;
    int by_seek = o->seek.len == 0 ? 0 : strcmp(key, o->seek.data), by_end = o->end.len == 0 ? 0 : strcmp(key, o->end.data);

    if (strncmp(key, o->prefix.len > 0 ? o->prefix.data : "", o->prefix.len) != 0)
        return false;
    if (o->seek.len > 0 && (by_seek == 0 ? (o->flags & IMMUDB_INCLUSIVE_SEEK) == 0 : (by_seek > 0) == desc))
        return false;
    return o->end.len == 0 || (by_end == 0 ? (o->flags & IMMUDB_INCLUSIVE_END) != 0 : (by_end < 0) != desc);
}

/* What the definition says, over the sorted model. */
static void scan_expected(const struct model *m, const immudb_scan_options *o, char *text)
{
    uint64_t skip = o->offset;
    bool desc = (o->flags & IMMUDB_DESC) != 0;

    text[0] = '\0';
    for (int i = 0; i < MODEL_KEYS; i++) {
        const struct model *k = &m[desc ? MODEL_KEYS - 1 - i : i];

        if (k->revision == 0 || (k->is_deleted && (o->flags & IMMUDB_WITH_DELETED) == 0) || !in_bounds(k->key, o))
            continue;
        if (skip > 0) {
            skip--;
            continue;
        }
        if (k->is_deleted)
            sprintf(text + strlen(text), "%s= ", k->key);
        else
            sprintf(text + strlen(text), "%s=%d ", k->key, k->revision);
    }
}

static immudb_scan_options random_options(uint64_t *random)
{
    static const char *const bounds[] = {"", "a", "a3", "b", "b5", "c", "d", "zz"};
    immudb_scan_options o;

    immudb_scan_options_init(&o);
    o.prefix = S(bounds[test_random(random) % 4 == 0 ? test_random(random) % 8 : 0]);
    o.seek = S(bounds[test_random(random) % 8]);
    o.end = S(bounds[test_random(random) % 8]);
    o.offset = test_random(random) % 3 == 0 ? test_random(random) % 10 : 0;
    o.flags = (uint32_t)test_random(random) &
              (IMMUDB_DESC | IMMUDB_INCLUSIVE_SEEK | IMMUDB_INCLUSIVE_END | IMMUDB_WITH_DELETED | IMMUDB_WITH_REVISION);
    return o;
}

/* The same with own writes over what is there: new keys, changed ones, deleted ones. */
static void scan_in_tx(struct fixture *f, const struct model *committed, uint64_t *random)
{
    struct model m[MODEL_KEYS];
    immudb_scan_options o;
    immudb_cursor *cursor;
    immudb_tx *tx;
    char value[16], expected[4096];

    memcpy(m, committed, sizeof m);
    OK(immudb_tx_begin(f->db, NULL, &tx, E));
    for (int i = 0; i < 25; i++) {
        struct model *k = &m[test_random(random) % MODEL_KEYS];

        snprintf(value, sizeof value, "%d", ++k->revision);
        if (k->revision > 1 && !k->is_deleted && test_random(random) % 2 == 0) {
            k->is_deleted = true;
            OK(immudb_tx_delete(tx, S(k->key), 0, E));
        } else {
            k->is_deleted = false;
            OK(immudb_tx_set(tx, S(k->key), S(value), NULL, E));
        }
    }
    for (int i = 0; i < 4000; i++) {
        o = random_options(random);
        scan_expected(m, &o, expected);
        OK(immudb_tx_scan(tx, &o, &cursor, E));
        assert_string_equal(listed(cursor), expected);
    }
    immudb_tx_cancel(tx);
}

static void test_scan(void **state)
{
    struct model m[MODEL_KEYS];
    struct fixture f;
    immudb_scan_options o;
    immudb_cursor *cursor;
    uint64_t random = 5, count;
    char value[16], expected[4096];

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    memset(m, 0, sizeof m);
    for (int i = 0; i < MODEL_KEYS; i++)
        snprintf(m[i].key, sizeof m[i].key, "%c%d", 'a' + i / 10, i % 10);
    for (int i = 0; i < 150; i++) {
        struct model *k = &m[test_random(&random) % (MODEL_KEYS - 5)];

        snprintf(value, sizeof value, "%d", ++k->revision);
        if (k->revision > 1 && !k->is_deleted && test_random(&random) % 4 == 0) {
            k->is_deleted = true;
            OK(immudb_delete(f.db, S(k->key), 0, NULL, E));
        } else {
            k->is_deleted = false;
            set(&f, k->key, value);
        }
        if (i == 80)
            OK(immudb_flush_index(f.db, E));
    }
    for (int i = 0; i < 4000; i++) {
        o = random_options(&random);
        scan_expected(m, &o, expected);
        OK(immudb_scan(f.db, &o, &cursor, E));
        assert_string_equal(listed(cursor), expected);
    }
    scan_in_tx(&f, m, &random);
    OK(immudb_count(f.db, NULL, S("a"), 0, &count, E));
    assert_int_equal(count, 10);
    OK(immudb_count(f.db, NULL, immudb_bytes_of("\0a1", 3), IMMUDB_RAW, &count, E));
    assert_int_equal(count, 1);
    IS(IMMUDB_INVALID, immudb_count(f.db, NULL, S("xyz"), IMMUDB_RAW, &count, E));
    /* Raw: store keys and values. */
    immudb_scan_options_init(&o);
    o.flags = IMMUDB_RAW;
    IS(IMMUDB_INVALID, immudb_scan(f.db, &o, &cursor, E));
    assert_null(cursor);
    o.prefix = immudb_bytes_of("\0c", 2);
    o.seek = immudb_bytes_of("\1", 1);
    IS(IMMUDB_INVALID, immudb_scan(f.db, &o, &cursor, E));
    o.seek = S("");
    OK(immudb_scan(f.db, &o, &cursor, E));
    {
        immudb_entry e;

        immudb_entry_init(&e);
        OK(immudb_cursor_next(cursor, &e, E));
        assert_int_equal(e.key.len, 3);
        assert_int_equal(((const uint8_t *)e.key.data)[0], 0);
        assert_int_equal(((const uint8_t *)e.value.data)[0], 0);
    }
    immudb_cursor_close(cursor);
    o.flags = 1u << 25;
    IS(IMMUDB_UNSUPPORTED, immudb_scan(f.db, &o, &cursor, E));
    fixture_end(&f);
}

static void test_history(void **state)
{
    struct fixture f;
    immudb_cursor *cursor;
    immudb_entry e;
    char value[16];

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    immudb_entry_init(&e);
    for (int i = 1; i <= 200; i++) {
        snprintf(value, sizeof value, "v%d", i);
        if (i % 50 == 0)
            OK(immudb_delete(f.db, S("k"), 0, NULL, E));
        else
            set(&f, "k", value);
        if (i == 120)
            OK(immudb_flush_index(f.db, E));
    }
    for (uint64_t offset = 0; offset <= 210; offset += 35) {
        for (unsigned desc = 0; desc < 2; desc++) {
            OK(immudb_history(f.db, NULL, S("k"), offset, desc != 0 ? IMMUDB_DESC : 0, &cursor, E));
            for (uint64_t i = offset; i < 200; i++) {
                uint64_t revision = desc != 0 ? 200 - i : i + 1;

                OK(immudb_cursor_next(cursor, &e, E));
                assert_int_equal(e.revision, revision);
                assert_int_equal(e.tx_id, revision);
                snprintf(value, sizeof value, "v%d", (int)revision);
                BYTES(e.value, revision % 50 == 0 ? "" : value);
                assert_int_equal(e.flags, revision % 50 == 0 ? IMMUDB_ENTRY_DELETED : 0);
            }
            IS(IMMUDB_NOT_FOUND, immudb_cursor_next(cursor, &e, E));
            immudb_cursor_close(cursor);
        }
    }
    IS(IMMUDB_NOT_FOUND, immudb_history(f.db, NULL, S("never"), 0, 0, &cursor, E));
    assert_null(cursor);
    fixture_end(&f);
}

/* A reference as the server writes it. */
static void reference_set(struct fixture *f, const char *key, uint64_t at_tx, const char *target)
{
    uint8_t store_key[64] = {0}, value[64] = {1};
    immudb_set_options so;

    immudb_set_options_init(&so);
    so.flags = IMMUDB_RAW;
    memcpy(store_key + 1, key, strlen(key));
    for (int i = 0; i < 8; i++)
        value[1 + i] = (uint8_t)(at_tx >> (56 - 8 * i));
    memcpy(value + 10, target, strlen(target));
    OK(immudb_set(f->db, immudb_bytes_of(store_key, 1 + strlen(key)), immudb_bytes_of(value, 10 + strlen(target)), &so, NULL, E));
}

static void test_references(void **state)
{
    struct fixture f;
    immudb_get_options o;
    immudb_cursor *cursor;
    immudb_entry e;
    uint64_t first;

    (void)state;
    fixture_begin(&f, 0);
    immudb_entry_init(&e);
    immudb_get_options_init(&o);
    first = set(&f, "target", "one");
    set(&f, "target", "two");
    reference_set(&f, "free", 0, "target");
    reference_set(&f, "bound", first, "target");
    reference_set(&f, "loop", 0, "free");
    reference_set(&f, "nowhere", 0, "missing");
    OK(immudb_get(f.db, S("free"), NULL, f.buffer, &e, E));
    BYTES(e.key, "free");
    BYTES(e.value, "two");
    BYTES(e.referenced_key, "target");
    assert_int_equal(e.referenced_tx_id, 2);
    assert_int_equal(e.tx_id, 3);
    assert_int_equal(e.flags, IMMUDB_ENTRY_REFERENCE);
    OK(immudb_get(f.db, S("bound"), NULL, f.buffer, &e, E));
    BYTES(e.value, "one");
    assert_int_equal(e.referenced_tx_id, first);
    FAILS(IMMUDB_LIMIT, "resolution", immudb_get(f.db, S("loop"), NULL, f.buffer, &e, E));
    FAILS(IMMUDB_NOT_FOUND, "reference", immudb_get(f.db, S("nowhere"), NULL, f.buffer, &e, E));
    o.flags = IMMUDB_NO_FOLLOW;
    OK(immudb_get(f.db, S("nowhere"), &o, f.buffer, &e, E));
    BYTES(e.referenced_key, "missing");
    assert_int_equal(e.value.len, 0);
    OK(immudb_scan(f.db, NULL, &cursor, E));
    assert_string_equal(listed(cursor), "bound=one free=two target=two ");
    OK(immudb_delete(f.db, S("target"), 0, NULL, E));
    GET(&f, "free", NULL);
    fixture_end(&f);
}

/* --- states --- */
static void key_make(char **pem, size_t *len)
{
    EC_KEY *key = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    char *data;
    long n;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    key = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    assert_int_equal(EC_KEY_generate_key(key), 1);
    assert_int_equal(PEM_write_bio_ECPrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    EC_KEY_free(key);
#pragma GCC diagnostic pop
    n = BIO_get_mem_data(bio, &data);
    *pem = malloc((size_t)n);
    assert_non_null(*pem);
    memcpy(*pem, data, (size_t)n);
    *len = (size_t)n;
    BIO_free(bio);
}

struct hook {
    immudb_status answer;
    size_t payload_len;
    uint32_t signature_len;
};
static immudb_status sign_hook(void *ctx, immudb_bytes payload, immudb_signature *out, immudb_error *err)
{
    struct hook *h = ctx;

    h->payload_len = payload.len;
    out->signature_len = h->signature_len;
    memset(out->signature, 7, 10);
    if (h->answer != IMMUDB_OK)
        snprintf(err->text, sizeof err->text, "the card is out");
    return h->answer;
}

static void test_state(void **state)
{
    struct fixture f;
    struct hook hook = {IMMUDB_OK, 0, 10};
    immudb_state s;
    immudb_signature sig;
    immudb_signer *signer = NULL;
    immudb_hash empty;
    uint64_t tx_id;
    size_t len;
    char *pem;

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    immudb_state_init(&s);
    immudb_signature_init(&sig);
    OK(immudb_state_get(f.db, &s, E));
    immudb_sha256(S(""), &empty);
    assert_int_equal(s.tx_id, 0);
    assert_memory_equal(&s.alh, &empty, sizeof empty);
    set(&f, "a", "1");
    OK(immudb_state_get(f.db, &s, E));
    assert_int_equal(s.visible_tx_id, 1);
    OK(immudb_sync(f.db, E));
    OK(immudb_state_get(f.db, &s, E));
    assert_int_equal(s.tx_id, 1);
    FAILS(IMMUDB_INVALID, "without a signer", immudb_state_sign(f.db, &s, &sig, E));
    fixture_close(&f);

    key_make(&pem, &len);
    OK(immudb_signer_from_pem(immudb_bytes_of(pem, len), &signer, E));
    f.o.signer = signer;
    f.o.name = "accounts";
    fixture_open(&f);
    OK(immudb_state_sign(f.db, &s, &sig, E));
    assert_true(sig.signature_len > 60 && sig.public_key_len == 65);
    OK(immudb_verify_signature(immudb_bytes_of(sig.public_key, sig.public_key_len), immudb_bytes_of(sig.signature, sig.signature_len), "accounts",
                               s.tx_id, &s.alh, E));
    IS(IMMUDB_CORRUPT, immudb_verify_signature(immudb_bytes_of(sig.public_key, sig.public_key_len), immudb_bytes_of(sig.signature, sig.signature_len),
                                               "account", s.tx_id, &s.alh, E));
    IS(IMMUDB_CORRUPT, immudb_verify_signature(immudb_bytes_of(sig.public_key, sig.public_key_len), immudb_bytes_of(sig.signature, sig.signature_len),
                                               "accounts", s.tx_id + 1, &s.alh, E));
    fixture_close(&f);
    immudb_signer_free(signer);
    IS(IMMUDB_INVALID, immudb_signer_from_pem(S("no key"), &signer, E));
    assert_null(signer);
    free(pem);

    OK(immudb_signer_from_callback(sign_hook, &hook, &signer, E));
    f.o.signer = signer;
    fixture_open(&f);
    OK(immudb_state_sign(f.db, &s, &sig, E));
    assert_int_equal(hook.payload_len, 4 + strlen("accounts") + 8 + 32);
    assert_int_equal(sig.signature_len, 10);
    assert_int_equal(sig.signature[9], 7);
    hook.signature_len = 1000;
    IS(IMMUDB_INVALID, immudb_state_sign(f.db, &s, &sig, E));
    hook.answer = IMMUDB_TIMEOUT;
    FAILS(IMMUDB_TIMEOUT, "the card is out", immudb_state_sign(f.db, &s, &sig, E));
    immudb_state_init(&s);
    OK(immudb_tx_since(f.db, 0, &tx_id, E));
    assert_int_equal(tx_id, 1);
    IS(IMMUDB_NOT_FOUND, immudb_tx_since(f.db, INT64_MAX, &tx_id, E));
    assert_int_equal(tx_id, 0);
    OK(immudb_wait_indexed(f.db, 0, 0, E));
    IS(IMMUDB_TIMEOUT, immudb_wait_indexed(f.db, 50, 20, E));
    f.o.signer = NULL;
    fixture_end(&f);
    immudb_signer_free(signer);
}

/* --- other databases --- */
static void test_export(void **state)
{
    struct fixture f, g;
    immudb_state a, b;
    immudb_committed c;
    immudb_bytes blob;
    immudb_buffer *buffer;

    (void)state;
    fixture_begin(&f, 0);
    fixture_begin(&g, 0);
    OK(immudb_buffer_create(&buffer, E));
    immudb_committed_init(&c);
    immudb_state_init(&a);
    immudb_state_init(&b);
    for (int i = 0; i < 20; i++)
        set(&f, i % 2 == 0 ? "even" : "odd", i % 3 == 0 ? "x" : "y");
    OK(immudb_delete(f.db, S("odd"), 0, NULL, E));
    for (uint64_t id = 1; id <= 21; id++) {
        OK(immudb_export(f.db, id, 0, buffer, &blob, E));
        if (id == 5) {
            uint8_t *bad = malloc(blob.len);

            assert_non_null(bad);
            memcpy(bad, blob.data, blob.len);
            bad[blob.len - 1] ^= 1;
            IS(IMMUDB_INVALID, immudb_import(g.db, immudb_bytes_of(bad, blob.len), 0, 0, NULL, E));
            free(bad);
        }
        OK(immudb_import(g.db, blob, 0, 0, &c, E));
        assert_int_equal(c.tx_id, id);
        IS(IMMUDB_EXISTS, immudb_import(g.db, blob, 0, 0, NULL, E));
    }
    OK(immudb_state_get(f.db, &a, E));
    OK(immudb_state_get(g.db, &b, E));
    assert_int_equal(a.tx_id, b.tx_id);
    assert_memory_equal(&a.alh, &b.alh, sizeof a.alh);
    GET(&g, "even", "x");
    GET(&g, "odd", NULL);
    IS(IMMUDB_NOT_FOUND, immudb_export(f.db, 22, 0, buffer, &blob, E));
    assert_int_equal(blob.len, 0);
    IS(IMMUDB_UNSUPPORTED, immudb_export(f.db, 1, 64, buffer, &blob, E));
    immudb_buffer_free(buffer);
    fixture_end(&g);
    fixture_end(&f);
}

static void test_external_commit(void **state)
{
    struct fixture f;
    immudb_ticket *tickets[3];
    immudb_committed c;
    immudb_state s;
    immudb_hash alh;
    immudb_tx *tx;

    (void)state;
    fixture_begin(&f, IMMUDB_EXTERNAL_COMMIT);
    immudb_state_init(&s);
    immudb_committed_init(&c);
    for (int i = 0; i < 3; i++) {
        OK(immudb_tx_begin(f.db, NULL, &tx, E));
        OK(immudb_tx_set(tx, S("k"), S(i == 0 ? "0" : i == 1 ? "1" : "2"), NULL, E));
        OK(immudb_tx_commit_ticket(tx, &tickets[i], E));
    }
    do {
        usleep(1000);
        OK(immudb_state_get(f.db, &s, E));
    } while (s.precommitted_tx_id < 3);
    assert_int_equal(s.tx_id, 0);
    GET(&f, "k", NULL);
    IS(IMMUDB_BUSY, immudb_ticket_wait(tickets[0], 10, &c, E));
    alh = s.precommitted_alh;
    alh.bytes[0] ^= 1;
    IS(IMMUDB_CORRUPT, immudb_allow_commit(f.db, 3, &alh, E));
    {
        immudb_buffer *b;
        immudb_bytes blob;

        OK(immudb_buffer_create(&b, E));
        IS(IMMUDB_NOT_FOUND, immudb_export(f.db, 1, 0, b, &blob, E));
        OK(immudb_export(f.db, 2, IMMUDB_WITH_PRECOMMITTED, b, &blob, E));
        immudb_buffer_free(b);
    }
    OK(immudb_discard(f.db, 2, E));
    assert_int_not_equal(immudb_ticket_wait(tickets[2], IMMUDB_FOREVER, &c, E), IMMUDB_OK);
    OK(immudb_state_get(f.db, &s, E));
    assert_int_equal(s.precommitted_tx_id, 2);
    OK(immudb_allow_commit(f.db, 2, &s.precommitted_alh, E));
    OK(immudb_ticket_wait(tickets[1], IMMUDB_FOREVER, &c, E));
    assert_int_equal(c.tx_id, 2);
    GET(&f, "k", "1");
    for (int i = 0; i < 3; i++)
        immudb_ticket_free(tickets[i]);
    fixture_end(&f);
}

/* --- maintenance --- */
static int finding(void *ctx, uint64_t tx_id, const char *what)
{
    (void)tx_id;
    (void)what;
    (*(int *)ctx)++;
    return 1;
}

static void test_maintenance(void **state)
{
    struct fixture f;
    immudb_stats s;
    immudb_entry e;
    immudb_get_options o;
    uint64_t found = 9, freed = 0;
    int calls = 0;
    static char big[300000];

    (void)state;
    fixture_begin(&f, IMMUDB_ASYNC);
    immudb_stats_init(&s);
    immudb_entry_init(&e);
    memset(big, 'b', sizeof big);
    for (int i = 0; i < 12; i++)
        OK(immudb_set(f.db, S("big"), immudb_bytes_of(big, sizeof big), NULL, NULL, E));
    set(&f, "small", "v");
    OK(immudb_sync(f.db, E));
    OK(immudb_flush_index(f.db, E));
    OK(immudb_compact_index(f.db, E));
    OK(immudb_truncate(f.db, 6, &freed, E));
    assert_true(freed > sizeof big);
    immudb_get_options_init(&o);
    o.at_tx = 1;
    OK(immudb_get(f.db, S("big"), &o, f.buffer, &e, E));
    assert_int_equal(e.flags, IMMUDB_ENTRY_VALUE_GONE);
    assert_int_equal(e.value.len, 0);
    o.at_tx = 12;
    OK(immudb_get(f.db, S("big"), &o, f.buffer, &e, E));
    assert_int_equal(e.value.len, sizeof big);
    GET(&f, "small", "v");
    OK(immudb_store_verify(f.db, finding, &calls, &found, E));
    assert_int_equal(found, 0);
    assert_int_equal(calls, 0);
    OK(immudb_stats_get(f.db, &s, E));
    assert_int_equal(s.txs, 13);
    assert_true(s.disk_bytes > sizeof big && s.log_bytes > 0 && s.index_bytes > 0 && s.index_runs == 1 && s.syncs > 0);
    assert_true(s.memory_limit > 0 && s.memory_cache.limit > 0 && s.memory_memtable.limit > 0 && s.memory_bytes > 0);
    assert_int_equal(s.queue_length, 0);
    fixture_close(&f);
    fixture_open(&f);
    GET(&f, "small", "v");
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),        cmocka_unit_test(test_log),   cmocka_unit_test(test_lost_end), cmocka_unit_test(test_get),
        cmocka_unit_test(test_metadata),    cmocka_unit_test(test_many),  cmocka_unit_test(test_scan),     cmocka_unit_test(test_history),
        cmocka_unit_test(test_references),  cmocka_unit_test(test_state), cmocka_unit_test(test_export),   cmocka_unit_test(test_external_commit),
        cmocka_unit_test(test_maintenance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
