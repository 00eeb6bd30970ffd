/* Format 1 stays readable, as a whole database: testdata/format-1 was written once by fixture_make.c. Every later build
 *   - opens it in place, read-only, without changing a byte of it
 *   - opens a copy, finds every fact of facts.txt in it, verifies all of it, writes a tx more, and finds all that again after reopening
 *
 * Environment STORE_TESTDATA: the testdata folder. */
#include "base/test.h"
#include "store/format_fixture.h"
#include "store/store_internal.h"
#include "vfs/vfs_memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#define OK(call) \
    do { \
        struct err *err_ = &err; \
        if ((call) != ST_OK) \
            fail_msg("%s: %s", #call, err_->text); \
    } while (0)

static void data_path(const char *name, char out[PATH_BYTES_MAX])
{
    const char *dir = getenv("STORE_TESTDATA");
    struct err err;

    if (dir == NULL)
        fail_msg("STORE_TESTDATA must name the testdata folder");
    OK(vfs_path(out, &err, dir, "format-1/%s", name));
}

/* --- copying and comparing --- */
struct copy {
    struct vfs *from, *to;
    const char *from_dir, *to_dir;
    bool is_comparison;
    size_t files, bytes;
};

static bool copy_one(void *ctx, const char *name, bool is_dir)
{
    struct copy *c = ctx;
    char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
    uint8_t *bytes = NULL, *other = NULL;
    size_t len = 0, other_len = 0;
    struct vfs_file *file = NULL;
    struct err err;

    OK(vfs_path(from, &err, c->from_dir, "%s", name));
    OK(vfs_path(to, &err, c->to_dir, "%s", name));
    if (is_dir) {
        struct copy inner = *c;

        inner.from_dir = from;
        inner.to_dir = to;
        if (!c->is_comparison)
            OK(c->to->ops->mkdir(c->to, to, &err));
        OK(c->from->ops->list(c->from, from, copy_one, &inner, &err));
        c->files = inner.files;
        c->bytes = inner.bytes;
        return true;
    }
    OK(vfs_read_all(c->from, from, 1 << 22, &bytes, &len, &err));
    if (c->is_comparison) {
        OK(vfs_read_all(c->to, to, 1 << 22, &other, &other_len, &err));
        if (len != other_len || (len > 0 && memcmp(bytes, other, len) != 0))
            fail_msg("%s was changed", from);
    } else {
        OK(c->to->ops->open(c->to, to, VFS_WRITE | VFS_CREATE, &file, &err));
        if (len > 0)
            OK(vfs_write_at(file, 0, bytes, len, &err));
        file->ops->close(file);
    }
    c->files++;
    c->bytes += len;
    free(bytes);
    free(other);
    return true;
}

static struct vfs *copied(void)
{
    char path[PATH_BYTES_MAX];
    struct copy c = {.from = vfs_posix(), .to = vfs_memory_create(), .from_dir = path, .to_dir = "db"};
    struct err err;

    data_path("db", path);
    OK(c.to->ops->mkdir(c.to, "db", &err));
    OK(c.from->ops->list(c.from, path, copy_one, &c, &err));
    assert_true(c.files > 8 && c.bytes > 100000 && c.bytes < 300 << 10);
    return c.to;
}

/* --- facts --- */
static void hex_is(const uint8_t *bytes, size_t len, const char *hex, const char *what, uint64_t id)
{
    char *have = malloc(2 * len + 1);

    assert_non_null(have);
    format_hex(bytes, len, have);
    if (strcmp(have, hex) != 0)
        fail_msg("%s %" PRIu64 " is %.100s instead of %.100s", what, id, have, hex);
    free(have);
}

static void value_is(struct store *s, uint64_t tx_id, uint32_t entry_index, const char *hex)
{
    struct log_pin pin = {0};
    struct arena arena;
    struct tx_entry e;
    struct err err;

    arena_init(&arena, 4096, 0);
    OK(store_entry_read(s, tx_id, entry_index, false, true, &arena, &pin, &e, &err));
    hex_is(e.value.data, e.value.len, hex, "value in tx", tx_id);
    store_pin_release(s, &pin);
    arena_free(&arena);
}

static void key_is(struct store *s, const char *key, uint64_t tx_id, uint64_t revision, const char *hex)
{
    struct store_snapshot *view = NULL;
    struct index_version v;
    uint64_t found = 0;
    struct err err;

    OK(store_snapshot_open(s, 0, &view, &err));
    if (revision > 0)
        OK(index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_str(key), false, &v, &found, &err));
    else
        OK(index_get_at(store_snapshot_index(view), INDEX_NS_KV, bytes_str(key), tx_id, false, &v, NULL, &err));
    if (v.tx_id != tx_id || (revision > 0 && found != revision))
        fail_msg("%s is of tx %" PRIu64 ", revision %" PRIu64 " instead of %" PRIu64 ", %" PRIu64, key, v.tx_id, found, tx_id, revision);
    assert_int_equal(v.is_deleted, strcmp(hex, "-") == 0);
    if (!v.is_deleted)
        value_is(s, tx_id, v.entry_index, hex);
    store_snapshot_close(view);
}

struct told {
    uint64_t txs, gone, runs;
    unsigned roots, alhs, keys, olds;
};

/* One line; is_extended: a tx more was written since. */
static void fact_check(struct store *s, const char *line, bool is_extended, struct told *told)
{
    static char key[64], hex[FORMAT_LINE_MAX];
    uint64_t id, revision;
    struct store_stats stats;
    struct store_state state;
    struct tx_header h;
    struct err err;
    hash_t hash;

    store_get_state(s, &state);
    if (sscanf(line, "txs %" SCNu64, &told->txs) == 1) {
        assert_int_equal(state.tx_id, told->txs + (is_extended ? 1 : 0));
    } else if (sscanf(line, "alh %64s", hex) == 1) {
        OK(store_tx_header(s, told->txs, &h, &hash, &err));
        hex_is(hash.b, HASH_LEN, hex, "last alh, of tx", told->txs);
        if (!is_extended)
            assert_true(hash_equal(&hash, &state.alh));
    } else if (sscanf(line, "gone %" SCNu64, &told->gone) == 1) {
        struct tx_entry e;
        struct log_tx t;

        for (id = told->gone; id <= told->gone + 1; id++) {
            OK(store_tx_open(s, id, false, &t, &err));
            OK(store_tx_entry(s, &t, 0, &e, &err));
            assert_int_equal(e.is_value_gone, id == told->gone);
            store_tx_close(s, &t);
        }
    } else if (sscanf(line, "runs %" SCNu64, &told->runs) == 1) {
        store_get_stats(s, &stats);
        if (!is_extended)
            assert_int_equal(stats.index.runs, told->runs);
    } else if (sscanf(line, "root %" SCNu64 " %64s", &id, hex) == 2) {
        OK(store_root_at(s, id, &hash, &err));
        hex_is(hash.b, HASH_LEN, hex, "root", id);
        told->roots++;
    } else if (sscanf(line, "tx %" SCNu64 " %64s", &id, hex) == 2) {
        OK(store_tx_header(s, id, &h, &hash, &err));
        hex_is(hash.b, HASH_LEN, hex, "alh of tx", id);
        told->alhs++;
    } else if (sscanf(line, "key %63s %" SCNu64 " %" SCNu64 " %8191s", key, &id, &revision, hex) == 4) {
        key_is(s, key, id, revision, hex);
        told->keys++;
    } else if (sscanf(line, "old %63s %" SCNu64 " %8191s", key, &id, hex) == 3) {
        key_is(s, key, id, 0, hex);
        told->olds++;
    } else {
        fail_msg("no fact: %s", line);
    }
}

static void facts_check(struct store *s, bool is_extended)
{
    struct told told = {0};
    char path[PATH_BYTES_MAX], *text, *save = NULL;
    uint8_t *bytes = NULL;
    size_t len = 0;
    struct err err;

    data_path("facts.txt", path);
    OK(vfs_read_all(vfs_posix(), path, 1 << 20, &bytes, &len, &err));
    text = malloc(len + 1);
    assert_non_null(text);
    memcpy(text, bytes, len);
    text[len] = '\0';
    for (const char *line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
        fact_check(s, line, is_extended, &told);
    assert_true(told.txs > 300 && told.gone > 30 && told.runs >= 2);
    assert_true(told.roots >= 8 && told.alhs >= 8 && told.keys == FORMAT_KEYS && told.olds >= 10);
    free(text);
    free(bytes);
}

static bool no_findings(void *ctx, uint64_t tx_id, const char *what)
{
    (void)ctx;
    fail_msg("tx %" PRIu64 ": %s", tx_id, what);
    return false;
}

static void check_all(struct store *s, bool is_extended)
{
    struct store_health health;
    struct err err;

    store_health(s, &health);
    if (health.kind != STORE_HEALTHY)
        fail_msg("%s", health.text);
    facts_check(s, is_extended);
    OK(store_verify(s, no_findings, NULL, &err));
}

/* --- tests --- */
static struct store *opened(struct runtime *rt, const char *dir, bool is_read_only)
{
    struct store_options o = format_options(rt);
    struct store *s = NULL;
    struct err err;
    enum status st;

    o.dir = dir;
    o.read_only = is_read_only;
    /* The folder in place may be under the same test of another build. */
    for (unsigned tries = 0; (st = store_open(&o, &s, &err)) == ST_BUSY && tries < 600; tries++)
        nanosleep(&(struct timespec){0, 100000000}, NULL);
    if (st != ST_OK)
        fail_msg("%s", err.text);
    return s;
}

static struct runtime *runtime_on(struct test_env *env, struct vfs *vfs)
{
    struct runtime_options ro = {.vfs = vfs, .env = &env->env, .memory_limit = 64 << 20};
    struct runtime *rt = NULL;
    struct err err;

    test_env_init(env, 3);
    OK(runtime_create(&ro, &rt, &err));
    return rt;
}

static void read_in_place(void **state)
{
    char path[PATH_BYTES_MAX];
    struct copy after = {.from = vfs_posix(), .to = copied(), .from_dir = path, .to_dir = "db", .is_comparison = true}, *c = &after;
    struct test_env env;
    struct runtime *rt = runtime_on(&env, vfs_posix());
    struct copy back;
    struct err err;
    struct store *s;

    (void)state;
    data_path("db", path);
    s = opened(rt, path, true);
    check_all(s, false);
    store_close(s);
    runtime_destroy(rt);
    OK(vfs_posix()->ops->list(vfs_posix(), path, copy_one, c, &err));
    /* Nothing was added, nothing is gone. */
    back = (struct copy){.from = after.to, .to = vfs_posix(), .from_dir = "db", .to_dir = path, .is_comparison = true};
    OK(after.to->ops->list(after.to, "db", copy_one, &back, &err));
    assert_true(back.files == after.files && back.bytes == after.bytes);
    vfs_memory_destroy(after.to);
}

static void a_copy_goes_on(void **state)
{
    struct vfs *disk = copied();
    struct test_env env;
    struct runtime *rt = runtime_on(&env, disk);
    struct store_draft *d = NULL;
    struct store_result r;
    struct store *s;
    struct err err;

    (void)state;
    s = opened(rt, "db", false);
    check_all(s, false);
    OK(draft_create(s, &d, &err));
    OK(draft_set(d, bytes_of("\0another", 8), NULL, bytes_str("value"), &err));
    OK(store_commit(s, d, false, &r, &err));
    check_all(s, true);
    store_close(s);
    s = opened(rt, "db", false);
    check_all(s, true);
    store_close(s);
    runtime_destroy(rt);
    vfs_memory_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(read_in_place), cmocka_unit_test(a_copy_goes_on)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
