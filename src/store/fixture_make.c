/* Writes the directory of a whole database that later builds are held to (format_test.c): segments of two generations, a tail, tree pages, three index
 * runs, log/END; and facts.txt that says what is in it. Clock and randomness are fixed and nothing runs beside, so that two runs of one build give
 * the same bytes. Only for a new format: what is in the repository stays as it is.
 *
 *   fixture_make DIRECTORY      makes DIRECTORY/db and DIRECTORY/facts.txt; the directory must be there */
#include <stdlib.h>
#include <time.h>

#include "store/format_fixture.h"
#include "store/store_internal.h"
#include "vfs/vfs_memory.h"

enum { TXS = 330, TRUNCATE_AT = 180, TRUNCATED_UPTO = 90, OLD_AT = 200 };

static void ok(enum status st, const struct err *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

/* --- nothing beside us --- */
struct holder {
    struct pool_job job;
    _Atomic bool is_held, is_released;
};

static void nap(void) { nanosleep(&(struct timespec){0, 200000}, NULL); }

static void hold(struct pool_job *job)
{
    struct holder *h = (struct holder *)((char *)job - offsetof(struct holder, job));

    atomic_store(&h->is_held, true);
    while (!atomic_load(&h->is_released))
        nap();
    atomic_store(&h->is_held, false);
}

/* --- contents --- */
static void commit(struct store *s, uint64_t n)
{
    static uint8_t value[1500];
    struct kv_metadata md = {.is_deleted = n % 23 == 22, .has_expiry = n % 29 == 28, .expires_at = 4000000000, .is_non_indexable = n % 31 == 30};
    struct store_draft *d = NULL;
    struct store_result r;
    char keys[4][24];
    struct err err;

    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i * 7 + n);
    ok(draft_create(s, &d, &err), &err);
    for (unsigned e = 0; e < 1 + n % 3; e++) {
        size_t len = md.is_deleted ? 0 : n % 37 == 36 ? sizeof value : 8 + (n + e) % 70;

        keys[e][0] = n % 11 == 10 ? 1 : 0;
        snprintf(keys[e] + 1, sizeof keys[e] - 1, "key%lu", (unsigned long)((n * 7 + e) % FORMAT_KEYS));
        ok(draft_set(d, bytes_of(keys[e], 1 + strlen(keys[e] + 1)), &md, bytes_of(value, len), &err), &err);
    }
    if (n % 50 == 0) {
        snprintf(keys[3], sizeof keys[3], "%cCTL.T%lu", 2, (unsigned long)n);
        ok(draft_set(d, bytes_str(keys[3]), NULL, bytes_of(value, 30), &err), &err);
    }
    if (n % 17 == 0)
        draft_set_extra(d, bytes_str("extra"));
    ok(store_commit(s, d, false, &r, &err), &err);
}

static void fill(struct test_env *env, struct store *s)
{
    uint64_t freed = 0;
    struct err err;

    for (uint64_t n = 0; n < TXS; n++) {
        commit(s, n);
        atomic_fetch_add(&env->wall_ns, 700000000);
        if (n == 120 || n == 240)
            ok(store_flush_index(s, &err), &err);
        if (n % 64 == 0)
            ok(log_advance_background(s->log, &err), &err);
        if (n == TRUNCATE_AT)
            ok(store_truncate(s, TRUNCATED_UPTO, &freed, &err), &err);
    }
    ok(store_flush_index(s, &err), &err);
    for (uint64_t n = TXS; n < TXS + 20; n++) /* behind what index and tree know */
        commit(s, n);
}

/* --- facts --- */
struct text {
    char *at;
    size_t len, cap;
};
static void say(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct text *t, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(t->at + t->len, t->cap - t->len, fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= t->cap - t->len)
        abort();
    t->len += (size_t)n;
}

/* VALUE of an entry, in hex. */
static const char *value_of(struct store *s, uint64_t tx_id, uint32_t entry_index, struct arena *arena)
{
    struct log_pin pin = {0};
    struct tx_entry e;
    struct err err;
    char *hex;

    ok(store_entry_read(s, tx_id, entry_index, false, true, arena, &pin, &e, &err), &err);
    if ((hex = arena_alloc(arena, 2 * e.value.len + 2)) == NULL)
        abort();
    format_hex(e.value.data, e.value.len, hex);
    store_pin_release(s, &pin);
    return e.value.len == 0 ? "-" : hex;
}

static void keys_tell(struct store *s, struct text *t)
{
    struct store_snapshot *view = NULL;
    struct index_version v;
    struct arena arena;
    uint64_t revision;
    struct err err;
    char key[24];

    arena_init(&arena, 65536, 0);
    ok(store_snapshot_open(s, 0, &view, &err), &err);
    for (unsigned k = 0; k < FORMAT_KEYS; k++) {
        snprintf(key, sizeof key, "key%u", k);
        ok(index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_str(key), false, &v, &revision, &err), &err);
        say(t, "key %s %lu %lu %s\n", key, v.tx_id, revision, v.is_deleted ? "-" : value_of(s, v.tx_id, v.entry_index, &arena));
        ok(index_get_at(store_snapshot_index(view), INDEX_NS_KV, bytes_str(key), OLD_AT + k, false, &v, NULL, &err), &err);
        if (!v.is_deleted && v.tx_id > TRUNCATED_UPTO)
            say(t, "old %s %lu %s\n", key, v.tx_id, value_of(s, v.tx_id, v.entry_index, &arena));
        arena_reset(&arena);
    }
    store_snapshot_close(view);
    arena_free(&arena);
}

static uint64_t gone_upto(struct store *s)
{
    uint64_t upto = 0;

    for (uint64_t id = 1; id <= TRUNCATED_UPTO; id++) {
        struct tx_entry e;
        struct log_tx t;
        struct err err;

        ok(store_tx_open(s, id, false, &t, &err), &err);
        ok(store_tx_entry(s, &t, 0, &e, &err), &err);
        if (e.is_value_gone)
            upto = id;
        store_tx_close(s, &t);
    }
    return upto;
}

static void facts_tell(struct store *s, struct text *t)
{
    struct store_state state;
    struct store_stats stats;
    struct tx_header h;
    char hex[65];
    struct err err;
    hash_t hash;

    store_get_state(s, &state);
    store_get_stats(s, &stats);
    format_hex(state.alh.b, HASH_LEN, hex);
    say(t, "txs %lu\nalh %s\ngone %lu\nruns %lu\n", state.tx_id, hex, gone_upto(s), (unsigned long)stats.index.runs);
    for (uint64_t id = 1; id <= state.tx_id; id += 37) {
        ok(store_root_at(s, id, &hash, &err), &err);
        format_hex(hash.b, HASH_LEN, hex);
        say(t, "root %lu %s\n", id, hex);
        ok(store_tx_header(s, id, &h, &hash, &err), &err);
        format_hex(hash.b, HASH_LEN, hex);
        say(t, "tx %lu %s\n", id, hex);
    }
    keys_tell(s, t);
}

/* --- out of memory, onto the disk --- */
struct copy {
    struct vfs *from;
    const char *from_dir, *to_dir;
};

static void file_put(const char *path, const void *bytes, size_t len)
{
    struct vfs_file *file = NULL;
    struct err err;

    ok(vfs_posix()->ops->open(vfs_posix(), path, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &file, &err), &err);
    if (len > 0)
        ok(vfs_write_at(file, 0, bytes, len, &err), &err);
    file->ops->close(file);
}

static bool copy_out(void *ctx, const char *name, bool is_dir)
{
    const struct copy *c = ctx;
    char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
    uint8_t *bytes = NULL;
    struct err err;
    size_t len = 0;

    ok(vfs_path(from, &err, c->from_dir, "%s", name), &err);
    ok(vfs_path(to, &err, c->to_dir, "%s", name), &err);
    if (is_dir) {
        struct copy inner = {c->from, from, to};
        enum status st = vfs_posix()->ops->mkdir(vfs_posix(), to, &err);

        if (st != ST_EXISTS)
            ok(st, &err);
        ok(c->from->ops->list(c->from, from, copy_out, &inner, &err), &err);
        return true;
    }
    ok(vfs_read_all(c->from, from, 1 << 22, &bytes, &len, &err), &err);
    file_put(to, bytes, strcmp(name, "LOCK") == 0 ? 0 : len); /* whose process it was is no fact */
    free(bytes);
    return true;
}

int main(int argc, char **argv)
{
    struct runtime_options ro = {.vfs = vfs_memory_create(), .memory_limit = 64 << 20};
    struct holder holder = {.job = {.run = hold}};
    struct text t = {.at = malloc(1 << 20), .cap = 1 << 20};
    char to[PATH_BYTES_MAX], facts[PATH_BYTES_MAX];
    struct copy out = {ro.vfs, "db", to};
    struct store *s = NULL;
    struct store_options o;
    struct test_env env;
    struct err err;

    if (argc != 2 || t.at == NULL)
        return 2;
    test_env_init(&env, 20261121);
    ro.env = &env.env;
    ok(runtime_create(&ro, &o.runtime, &err), &err);
    o = format_options(o.runtime);
    o.create = true;
    pool_submit(o.runtime->maintenance_pool, &holder.job);
    while (!atomic_load(&holder.is_held))
        nap();
    ok(store_open(&o, &s, &err), &err);
    fill(&env, s);
    facts_tell(s, &t);
    atomic_store(&holder.is_released, true);
    store_close(s);
    ok(vfs_path(to, &err, argv[1], "db"), &err);
    ok(vfs_path(facts, &err, argv[1], "facts.txt"), &err);
    (void)!vfs_posix()->ops->mkdir(vfs_posix(), to, &err);
    ok(ro.vfs->ops->list(ro.vfs, "db", copy_out, &out, &err), &err);
    file_put(facts, t.at, t.len);
    free(t.at);
    runtime_destroy(o.runtime);
    vfs_memory_destroy(ro.vfs);
    return 0;
}
