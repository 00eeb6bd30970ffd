/* A source that lies, from a script (client_script.h): what it says about databases and transactions is refused with a clear error, whatever it is.
 *   - names of databases become names of folders: one that leads out of the data folder, or is none, ends the import before anything is made of it
 *   - a state that names a transaction beyond all bounds, or one that the source then does not deliver: the import fails and names the transaction,
 *     what was right before it stays, and nothing says that the database was copied */
#include "base/test.h"
#include "client/client_script.h"
#include "migrate/copy.h"
#include "migrate/migrate.h"
#include "vfs/vfs_memory.h"
#include "wire/part.h"
#include "wire/pb.h"

#include <stdio.h>

static const uint8_t some_hash[HASH_LEN] = {1, 2, 3};

/* --- the source's part --- */
static struct script_state {
    uint32_t next_stream;
    uint8_t message[4096];
} part;

static void source_begins(void)
{
    script_begin();
    script_frame(FRAME_SETTINGS, 0, 0, NULL, 0);
    script_frame(FRAME_SETTINGS, 1, 0, NULL, 0); /* acknowledges the client's */
    part.next_stream = 1;
}

static void source_sends(uint32_t stream, struct bytes message)
{
    uint8_t frame[sizeof part.message + 5] = {0};

    assert_true(message.len <= sizeof part.message);
    store_u32be(frame + 1, (uint32_t)message.len);
    if (message.len > 0)
        memcpy(frame + 5, message.data, message.len);
    script_frame(FRAME_DATA, 0, stream, frame, message.len + 5);
}

/* Answers the next unary call. */
static void source_answers(struct bytes message)
{
    if (part.next_stream > 1)
        script_gate();
    script_answer(part.next_stream, "200");
    source_sends(part.next_stream, message);
    script_trailers(part.next_stream, "0", "");
    part.next_stream += 2;
}

static void source_refuses(const char *code, const char *text)
{
    script_gate();
    script_answer(part.next_stream, "200");
    script_trailers(part.next_stream, code, text);
    part.next_stream += 2;
}

static struct pb writing(void)
{
    struct pb w;

    pb_init_fixed(&w, part.message, sizeof part.message);
    return w;
}

static struct bytes written(const struct pb *w) { return bytes_of(w->at, pb_len(w)); }

/* Messages are written from their end. */
static void answers_session(void)
{
    struct pb w = writing();

    pb_bytes(&w, 1, bytes_str("session"));
    source_answers(written(&w));
}

static void answers_admin(void)
{
    static const uint8_t permission[] = {0x10, 0xff, 0x01}; /* permission: 255 */
    uint8_t user[64];
    struct pb w = writing(), u;

    pb_init_fixed(&u, user, sizeof user);
    pb_bytes(&u, 3, bytes_of(permission, sizeof permission));
    pb_bytes(&u, 1, bytes_str("immudb"));
    pb_bytes(&w, 1, written(&u));
    source_answers(written(&w));
}

static void answers_list(struct bytes name, bool is_old)
{
    uint8_t database[512];
    struct pb w = writing(), d;

    pb_init_fixed(&d, database, sizeof database);
    if (!is_old)
        pb_bool(&d, 3, true); /* loaded */
    pb_bytes(&d, 1, name);
    pb_bytes_item(&w, 1, written(&d));
    source_answers(written(&w));
}

static void answers_state(const char *database, uint64_t tx_id, const void *alh)
{
    struct pb w = writing();

    pb_bytes(&w, 3, bytes_of(alh, HASH_LEN));
    pb_u64(&w, 2, tx_id);
    pb_bytes(&w, 1, bytes_str(database));
    source_answers(written(&w));
}

/* --- the whole import --- */
struct import {
    char parent[256], dir[300];
    FILE *progress, *report;
};

static void import_begin(struct import *im)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(im->parent, sizeof im->parent, "%s/hostile_source_XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(im->parent));
    snprintf(im->dir, sizeof im->dir, "%s/data", im->parent);
    im->progress = tmpfile();
    im->report = tmpfile();
    assert_true(im->progress != NULL && im->report != NULL);
}

static void import_end(struct import *im)
{
    fclose(im->progress);
    fclose(im->report);
    assert_int_equal(vfs_remove_tree(vfs_posix(), im->parent, NULL), ST_OK);
}

static enum migrate_end import_run(const struct import *im, struct err *err)
{
    const struct migrate_options o = {.host = "h",
                                      .port = 1,
                                      .username = "immudb",
                                      .password = "immudb",
                                      .dir = im->dir,
                                      .silence_ns = 1000000,
                                      .is_quiet = true,
                                      .progress = im->progress,
                                      .report = im->report,
                                      .env = env_system()};

    *err = (struct err){.text = ""};
    return migrate_run(&o, err);
}

static bool says(FILE *f, const char *text)
{
    static char all[16384];
    size_t len;

    rewind(f);
    len = fread(all, 1, sizeof all - 1, f);
    all[len] = '\0';
    return strstr(all, text) != NULL;
}

struct names {
    const char *const *expected; /* NULL at the end */
    const char *dir;
};

static bool is_expected(void *ctx, const char *name, bool is_dir)
{
    const struct names *n = ctx;

    (void)is_dir;
    for (const char *const *e = n->expected; *e != NULL; e++)
        if (strcmp(*e, name) == 0)
            return true;
    fail_msg("%s/%s was made", n->dir, name);
    return false;
}

static void check_folder(const char *dir, const char *const *expected)
{
    struct names n = {expected, dir};

    assert_int_equal(vfs_posix()->ops->list(vfs_posix(), dir, is_expected, &n, NULL), ST_OK);
}

/* Beside and in the data folder there is nothing but what every data folder has. */
static void check_nothing_else(const struct import *im)
{
    static const char *const beside[] = {"data", NULL};
    static const char *const inside[] = {"systemdb", "defaultdb", "immudb.identifier", "LOCK", "databases.counts", "immudb.lock", NULL};

    check_folder(im->parent, beside);
    check_folder(im->dir, inside);
}

/* Everything up to the list of databases. */
static void source_is_joined(void)
{
    struct pb w;

    source_begins();
    answers_session();
    w = writing();
    pb_bytes(&w, 1, bytes_str("1.11.0"));
    source_answers(written(&w));       /* ServerInfo */
    source_answers(bytes_of(NULL, 0)); /* CloseSession */
    answers_session();
    answers_admin();
}

static void names_that_are_none(void **state)
{
    static char long_name[129];
    static const char *const names[] = {
        "..",           ".",        "../data2", "../../etc", "./logdir",  "./immulog", "a/b",         "/etc/x", "",      long_name,
        "Upper",        "SystemDB", "a\\b",     "a b",       "a\nb",      ".hidden",   ".deleted-db", "-",      "a\xff", "\xc0\xae\xc0\xae",
        "\xef\xbc\x8f", "a\x1b[2J", "COM1:",    "a.tmp",     "systemdb/", "~",         "%2e%2e"};
    struct import im;
    struct err err;

    (void)state;
    memset(long_name, 'a', 129);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool is_old = i % 2 == 1; /* by the older call too */
        struct bytes name = names[i] == long_name ? bytes_of(long_name, 129) : bytes_str(names[i]);

        import_begin(&im);
        source_is_joined();
        if (is_old)
            source_refuses("12", "unknown method");
        answers_list(name, is_old);
        if (import_run(&im, &err) != MIGRATE_DIVERGED)
            fail_msg("name %zu, '%s': %s", i, names[i], err.text);
        if (strstr(err.text, "a database whose name is none") == NULL && strstr(err.text, "bytes that are no answer") == NULL)
            fail_msg("name %zu, '%s': %s", i, names[i], err.text);
        check_nothing_else(&im);
        assert_false(says(im.report, "as the source's state says"));
        import_end(&im);
    }
}

/* The longest one there may be, so that the test above is no accident. */
static void the_longest_name(void **state)
{
    static char name[128];
    struct source_options o = {.host = "h", .port = 1, .username = "u", .password = "p", .env = env_system(), .silence_ns = 1000000};
    struct source_databases list;
    struct source *s = NULL;
    struct err err;

    (void)state;
    memset(name, 'a', sizeof name);
    assert_int_equal(source_create(&o, &s, &err), ST_OK);
    source_begins();
    answers_session();
    answers_list(bytes_of(name, sizeof name), false);
    assert_int_equal(source_select(s, "defaultdb", &err), ST_OK);
    assert_int_equal(source_list(s, &list, &err), ST_OK);
    assert_int_equal(list.count, 2);
    assert_memory_equal(list.items[1].name, name, sizeof name);
    source_databases_free(&list);
    source_free(s);
}

static void states_beyond_all_bounds(void **state)
{
    static const uint64_t ids[] = {(uint64_t)INT64_MAX + 1, UINT64_MAX - 1, UINT64_MAX};
    struct import im;
    struct err err;
    char id[32];

    (void)state;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        import_begin(&im);
        source_is_joined();
        answers_list(bytes_str("db"), false);
        source_answers(bytes_of(NULL, 0));
        answers_session();
        answers_state("systemdb", ids[i], some_hash);
        assert_int_equal(import_run(&im, &err), MIGRATE_DIVERGED);
        snprintf(id, sizeof id, "%llu", (unsigned long long)ids[i]);
        if (strstr(err.text, "the source's state names tx ") == NULL || strstr(err.text, id) == NULL)
            fail_msg("%s", err.text);
        assert_true(says(im.report, "systemdb: 0 transactions"));
        assert_true(says(im.report, "not complete"));
        assert_true(says(im.report, "db: not begun"));
        assert_false(says(im.report, "as the source's state says"));
        check_nothing_else(&im);
        import_end(&im);
    }
}

/* --- transactions that do not come --- */
enum { TXS = 2 };

struct pair {
    struct vfs *vfs;
    struct runtime *runtime;
    struct store *from, *to;
};

static void store_made(struct pair *p, const char *dir, struct store **out)
{
    struct store_options o = {.runtime = p->runtime, .dir = dir, .create = true, .tx_version = 1};
    struct err err;

    if (store_open(&o, out, &err) != ST_OK)
        fail_msg("%s", err.text);
}

static void pair_begin(struct pair *p)
{
    struct runtime_options o = {.memory_limit = 64 << 20};
    struct store_result result;
    struct store_draft *d;
    struct err err;

    assert_non_null(p->vfs = vfs_memory_create());
    o.vfs = p->vfs;
    assert_int_equal(runtime_create(&o, &p->runtime, &err), ST_OK);
    store_made(p, "from", &p->from);
    store_made(p, "to", &p->to);
    for (int i = 0; i < TXS; i++) {
        assert_int_equal(draft_create(p->from, &d, &err), ST_OK);
        assert_int_equal(draft_set(d, bytes_of("\0key", 4), NULL, bytes_of("\0value", 6), &err), ST_OK);
        assert_int_equal(store_commit(p->from, d, false, &result, &err), ST_OK);
    }
}

static void pair_end(struct pair *p)
{
    store_close(p->from);
    store_close(p->to);
    runtime_destroy(p->runtime);
    vfs_memory_destroy(p->vfs);
}

static void sends_tx(struct pair *p, uint32_t stream, uint64_t tx_id)
{
    struct arena arena;
    struct bytes blob;
    struct err err;
    size_t len;

    arena_init(&arena, 4096, 0);
    assert_int_equal(store_export(p->from, tx_id, false, false, &arena, &blob, &err), ST_OK);
    assert_int_equal(part_chunk_count(blob.len), 1);
    len = part_chunk_size(blob.len, 0, NULL, 0);
    assert_true(len <= sizeof part.message);
    part_chunk_write(blob, 0, NULL, 0, part.message, len);
    script_answer(stream, "200");
    source_sends(stream, bytes_of(part.message, len));
    arena_free(&arena);
}

/* How the source goes on behind the last one that it has; code NULL: with silence. */
struct ending {
    const char *code, *text;
    enum copy_fault fault;
    const char *expected;
};

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void copied(struct pair *p, uint64_t named, const struct ending *e)
{
    struct source_options o = {.host = "h",
                               .port = 1,
                               .username = "u",
                               .password = "p",
                               .env = env_system(),
                               .silence_ns = 1000000,
                               .tx_bytes_max = 1 << 20,
                               .is_stopped = never};
    uint64_t lanes = named < 4 ? named : 4;
    struct progress progress;
    struct copy_result result;
    struct source *s = NULL;
    struct store_state here;
    struct tx_header header;
    struct err err;
    hash_t alh;
    enum copy_fault fault;

    source_begins();
    answers_session();
    answers_state("db", named, some_hash);
    for (uint64_t i = 0; i < lanes; i++)
        script_gate();
    for (uint32_t i = 0; i < TXS; i++)
        sends_tx(p, 5 + 2 * i, i + 1);
    script_answer(5 + 2 * TXS, "200");
    if (e->code != NULL) {
        script_trailers(5 + 2 * TXS, e->code, e->text);
        script_frame(FRAME_RST_STREAM, 0, 5 + 2 * TXS, "\0\0\0\0", 4); /* nor are further requests read */
    }
    script.is_silent_at_end = true;
    progress_init(&progress, o.env, stderr, true);
    assert_int_equal(source_create(&o, &s, &err), ST_OK);
    fault = copy_database(s, "db", p->to, o.env, &progress, &result, &err);
    source_free(s);
    if (fault != e->fault || strstr(err.text, e->expected) == NULL || strstr(err.text, "tx 3: ") == NULL)
        fail_msg("%s at %llu: %d, %s", e->expected, (unsigned long long)named, (int)fault, err.text);
    /* What is there is a verified beginning, and is told as such. */
    assert_false(result.is_same);
    assert_int_equal(result.tx_id, TXS);
    assert_int_equal(result.txs, TXS);
    store_get_state(p->to, &here);
    assert_int_equal(here.tx_id, TXS);
    assert_int_equal(store_tx_header(p->from, TXS, &header, &alh, &err), ST_OK);
    assert_true(hash_equal(&here.alh, &alh) && hash_equal(&result.alh, &alh));
}

static void transactions_that_do_not_come(void **state)
{
    static const uint64_t named[] = {TXS + 1, 1000, INT64_MAX};
    static const struct ending endings[] = {
        {"2", "no new transactions", COPY_FAULT_HISTORY, "the source has no such transaction (no new transactions)"},
        {"2", "tx not found", COPY_FAULT_HISTORY, "the source has no such transaction (tx not found)"},
        {"0", "", COPY_FAULT_SOURCE, "before the transaction was whole"},
        {NULL, NULL, COPY_FAULT_SOURCE, "nothing arrived from the source"},
    };
    struct pair p;

    (void)state;
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        for (size_t k = 0; k < sizeof endings / sizeof endings[0]; k++) {
            pair_begin(&p);
            copied(&p, named[i], &endings[k]);
            pair_end(&p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(the_longest_name),
        cmocka_unit_test(states_beyond_all_bounds),
        cmocka_unit_test(transactions_that_do_not_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
