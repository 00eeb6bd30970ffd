/* Proves what damaged files do: bits flipped anywhere in the log, its manifest, the tree and the index, files cut short, files missing. After each, the database is opened:
 *   - it opens; damage to acknowledged data makes it read-only and is named, damage to derived files is rebuilt
 *   - what is answered is right: each header, entry, value, version of a key, state, proof is the model's, or an error - never a wrong one, never an older one, never "not
 *     found" for what was acknowledged
 * Argument: distance of the flipped bytes (default 37; smaller is more thorough). */
#include "base/test.h"
#include "store/store_model.h"
#include "vfs/vfs_memory.h"

#include <stdio.h>
#include <stdlib.h>

enum { TXS = 60, FILES_MAX = 64 };

struct world {
    struct test_env env;
    struct vfs *disk;
    struct runtime *runtime;
    struct store *store;
    struct model model;
    struct store_state state;
    char files[FILES_MAX][64];
    uint64_t lengths[FILES_MAX];
    size_t file_count;
    uint64_t points, healthy, damaged;
};

static enum status opened(struct world *w, struct vfs *disk, struct err *err)
{
    struct runtime_options ro = {.vfs = disk, .env = &w->env.env, .memory_limit = 4 << 20};
    struct store_options o = {.dir = "db", .tx_version = 1, .segment_bytes_first = 4096, .segment_bytes_max = 4096, .memtable_bytes_max = 64 << 10};
    enum status st;

    assert_int_equal(runtime_create(&ro, &w->runtime, err), ST_OK);
    o.runtime = w->runtime;
    o.create = w->file_count == 0;
    if ((st = store_open(&o, &w->store, err)) != ST_OK) {
        runtime_destroy(w->runtime);
        w->runtime = NULL;
    }
    return st;
}

static void closed(struct world *w)
{
    store_close(w->store);
    runtime_destroy(w->runtime);
    w->store = NULL;
    w->runtime = NULL;
}

static void put(struct world *w, unsigned i)
{
    static uint8_t value[2000];
    struct kv_metadata md = {.is_deleted = i % 9 == 8};
    struct store_draft *d;
    struct store_result r;
    struct err err;
    size_t len = md.is_deleted ? 0 : i % 7 == 3 ? 1200 : 20 + i;

    for (size_t k = 0; k < sizeof value; k++)
        value[k] = (uint8_t)(k * 7 + i);
    model_begin(&w->model);
    for (unsigned e = 0; e < 1 + i % 3; e++) {
        char key[16];

        key[0] = 0;
        snprintf(key + 1, sizeof key - 1, "key%u", (i + e) % 13);
        model_entry_add(&w->model, bytes_of(key, 1 + strlen(key + 1)), &md, bytes_of(value, len));
    }
    assert_int_equal(draft_create(w->store, &d, &err), ST_OK);
    for (unsigned e = 0; e < 1 + i % 3; e++) {
        const struct model_entry *me = &w->model.txs[w->model.count - 1].entries[e];

        assert_int_equal(draft_set(d, bytes_of(me->key, me->key_len), &md, bytes_of(me->value, me->value_len), &err), ST_OK);
    }
    assert_int_equal(store_commit(w->store, d, false, &r, &err), ST_OK);
    w->model.txs[w->model.count - 1].is_acked = true;
    w->model.txs[w->model.count - 1].alh = r.alh;
}

static void file_note(struct world *w, const char *dir, const char *name)
{
    struct vfs_file *f;
    char path[64];

    snprintf(path, sizeof path, "%.30s/%.30s", dir, name);
    assert_int_equal(w->disk->ops->open(w->disk, path, VFS_READ, &f, NULL), ST_OK);
    assert_true(w->file_count < FILES_MAX);
    assert_int_equal(f->ops->length(f, &w->lengths[w->file_count], NULL), ST_OK);
    f->ops->close(f);
    memcpy(w->files[w->file_count++], path, sizeof path);
}

struct listing {
    struct world *w;
    const char *dir;
};
static bool visit(void *ctx, const char *name, bool is_dir)
{
    struct listing *l = ctx;

    if (!is_dir)
        file_note(l->w, l->dir, name);
    return true;
}

/* How the life before ended: the third one leaves only the empty frame to vouch for the last one. */
enum ending { CLOSED, KILLED, KILLED_WITHOUT_END };

static void world_make(struct world *w, enum ending ending)
{
    static const char *const dirs[] = {"db/log", "db/tree", "db/index"};
    struct err err;

    memset(w, 0, sizeof *w);
    test_env_init(&w->env, 5);
    model_init(&w->model);
    w->disk = vfs_memory_create();
    assert_int_equal(opened(w, w->disk, &err), ST_OK);
    for (unsigned i = 0; i < TXS; i++) {
        put(w, i);
        if (i == 25 || i == 45)
            assert_int_equal(store_flush_index(w->store, &err), ST_OK);
    }
    store_get_state(w->store, &w->state);
    if (ending == CLOSED) {
        closed(w);
    } else { /* killed: no close mark, only what vouches for the last frame */
        struct vfs *copy = vfs_memory_clone(w->disk);

        closed(w);
        vfs_memory_destroy(w->disk);
        w->disk = copy;
        vfs_memory_power_cut(w->disk, POWER_CUT_KEEP_ALL, 0);
    }
    if (ending == KILLED_WITHOUT_END)
        assert_int_equal(w->disk->ops->unlink(w->disk, "db/log/END", &err), ST_OK);
    for (size_t i = 0; i < 3; i++) {
        struct listing l = {w, dirs[i]};

        assert_int_equal(w->disk->ops->list(w->disk, dirs[i], visit, &l, &err), ST_OK);
    }
}

static void world_free(struct world *w)
{
    vfs_memory_destroy(w->disk);
    model_free(&w->model);
}

/* --- judging --- */
static bool value_judge(struct world *w, struct log_tx *t, uint32_t i, const struct model_entry *want, char why[512])
{
    struct arena arena;
    struct bytes value;
    struct err err;
    bool ok = true;

    arena_init(&arena, 4096, 0);
    if (store_tx_value(w->store, t, i, &arena, &value, &err) == ST_OK)
        ok = bytes_equal(value, bytes_of(want->value, want->value_len));
    arena_free(&arena);
    if (!ok)
        snprintf(why, 512, "a wrong value of tx %lu", t->header.id);
    return ok;
}

static bool tx_judge(struct world *w, uint64_t id, char why[512])
{
    const struct model_tx *tx = &w->model.txs[id - 1];
    struct log_tx t;
    struct tx_entry e;
    struct err err;
    hash_t alh;
    bool ok = true;
    enum status st = store_tx_open(w->store, id, false, &t, &err);

    if (st == ST_NOT_FOUND) {
        snprintf(why, 512, "tx %lu: %s", id, err.text);
        return false;
    }
    if (st != ST_OK)
        return true;
    naive_alh(&t.header, &alh);
    if (!hash_equal(&alh, &tx->alh) || t.entry_count != tx->count) {
        snprintf(why, 512, "a wrong header of tx %lu", id);
        ok = false;
    }
    for (uint32_t i = 0; i < t.entry_count && ok; i++) {
        const struct model_entry *want = &tx->entries[i];

        if (store_tx_entry(w->store, &t, i, &e, &err) != ST_OK)
            continue;
        if (!bytes_equal(e.key, bytes_of(want->key, want->key_len)) || !hash_equal(&e.hval, &want->hval)) {
            snprintf(why, 512, "a wrong entry of tx %lu", id);
            ok = false;
        }
        ok = ok && value_judge(w, &t, i, want, why);
    }
    store_tx_close(w->store, &t);
    return ok;
}

static bool keys_judge(struct world *w, char why[512])
{
    struct store_snapshot *view;
    struct err err;
    bool ok = true;

    if (store_snapshot_open(w->store, TXS, &view, &err) != ST_OK)
        return true;
    for (unsigned k = 0; k < 13 && ok; k++) {
        struct index_version v;
        uint64_t last = 0, count = 0, revision = 0;
        char key[16];
        enum status st;

        snprintf(key, sizeof key, "key%u", k);
        for (uint64_t id = 1; id <= TXS; id++)
            for (size_t i = 0; i < w->model.txs[id - 1].count; i++)
                if (strcmp((const char *)w->model.txs[id - 1].entries[i].key + 1, key) == 0 ||
                    (w->model.txs[id - 1].entries[i].key_len == strlen(key) + 1 &&
                     memcmp(w->model.txs[id - 1].entries[i].key + 1, key, strlen(key)) == 0)) {
                    last = id;
                    count++;
                }
        st = index_get(store_snapshot_index(view), INDEX_NS_KV, bytes_str(key), false, &v, &revision, &err);
        if (st == ST_NOT_FOUND || (st == ST_OK && (v.tx_id != last || revision != count))) {
            snprintf(why, 512, "%s: %s, tx %lu revision %lu instead of %lu %lu", key, status_name(st), v.tx_id, revision, last, count);
            ok = false;
        }
    }
    store_snapshot_close(view);
    return ok;
}

static bool judge(struct world *w, char why[512])
{
    struct store_snapshot *view;
    struct store_health health;
    struct store_state s;
    struct dual_proof p;
    struct arena arena;
    struct err err;
    bool more = true, ok = true;

    for (int i = 0; i < 50 && more; i++)
        if (store_maintain(w->store, &more, &err) != ST_OK)
            break;
    store_health(w->store, &health);
    store_get_state(w->store, &s);
    if (health.kind == STORE_HEALTHY) {
        w->healthy++;
        if (s.tx_id != TXS || !hash_equal(&s.alh, &w->state.alh)) {
            snprintf(why, 512, "healthy, but ends at tx %lu", s.tx_id);
            return false;
        }
        /* A damaged run is found when it is read; that read fails, then it is rebuilt. */
        ok = model_check(&w->model, w->store, TXS, 0, why);
        more = !ok;
        for (int i = 0; i < 50 && more; i++)
            if (store_maintain(w->store, &more, &err) != ST_OK)
                break;
        return (ok || model_check(&w->model, w->store, TXS, 0, why)) && model_check_proof(w->store, 1, &w->model.txs[0].alh, why);
    }
    w->damaged++;
    if (health.kind != STORE_READ_ONLY_DAMAGED || health.text[0] == '\0') {
        snprintf(why, 512, "health %d: %.400s", (int)health.kind, health.text);
        return false;
    }
    /* Fewer than there were only where the end of the log is damaged: then the newest is unknown and asking for it is an error. */
    if (s.visible_tx_id < TXS && store_snapshot_open(w->store, 0, &view, &err) != ST_CORRUPT) {
        snprintf(why, 512, "damaged (%.200s): visible %lu, and nobody is told", health.text, s.visible_tx_id);
        return false;
    }
    if (s.tx_id > TXS || !hash_equal(&s.alh, s.tx_id == 0 ? &HASH_EMPTY : &w->model.txs[s.tx_id - 1].alh)) {
        snprintf(why, 512, "damaged (%.200s): state %lu, visible %lu", health.text, s.tx_id, s.visible_tx_id);
        return false;
    }
    for (uint64_t id = 1; id <= TXS && ok; id++)
        ok = tx_judge(w, id, why);
    ok = ok && keys_judge(w, why);
    arena_init(&arena, 4096, 0);
    for (uint64_t id = 1; id <= s.tx_id && ok; id += 7) {
        if (store_dual_proof(w->store, id, s.tx_id, &arena, &p, &err) == ST_OK &&
            !dual_proof_verify(&p, id, s.tx_id, &w->model.txs[id - 1].alh, &s.alh)) {
            snprintf(why, 512, "a proof that does not hold");
            ok = false;
        }
        arena_reset(&arena);
    }
    arena_free(&arena);
    return ok;
}

static void point(struct world *w, struct vfs *disk, const char *what, size_t file, uint64_t at)
{
    char why[512] = "";
    struct err err;
    enum status st = opened(w, disk, &err);

    w->points++;
    if (st != ST_OK)
        fail_msg("%s %s at %lu: open: %s", what, w->files[file], at, err.text);
    if (!judge(w, why))
        fail_msg("%s %s at %lu of %lu: %s", what, w->files[file], at, w->lengths[file], why);
    closed(w);
    vfs_memory_destroy(disk);
}

static uint64_t distance = 37;

static void everything(enum ending ending)
{
    struct world w;
    struct err err;

    world_make(&w, ending);
    for (size_t f = 0; f < w.file_count; f++) {
        struct vfs_file *file;
        struct vfs *disk;

        for (uint64_t at = 0; at < w.lengths[f]; at += distance) {
            disk = vfs_memory_clone(w.disk);
            assert_int_equal(vfs_memory_flip_bit(disk, w.files[f], at * 8 + at % 8, &err), ST_OK);
            point(&w, disk, "bit flipped in", f, at);
        }
        if (ending == KILLED_WITHOUT_END) /* a file cut behind a frame is an earlier state then: docs/format.md */
            continue;
        disk = vfs_memory_clone(w.disk);
        assert_int_equal(disk->ops->unlink(disk, w.files[f], &err), ST_OK);
        point(&w, disk, "missing", f, 0);
        for (uint64_t part = 0; part < 4; part++) {
            disk = vfs_memory_clone(w.disk);
            assert_int_equal(disk->ops->open(disk, w.files[f], VFS_WRITE, &file, &err), ST_OK);
            assert_int_equal(file->ops->truncate(file, w.lengths[f] * part / 4, &err), ST_OK);
            file->ops->close(file);
            point(&w, disk, "cut short", f, w.lengths[f] * part / 4);
        }
    }
    printf("%s: %lu damages in %zu files: %lu without consequence or rebuilt, %lu read-only and named\n",
           ending == CLOSED   ? "closed"
           : ending == KILLED ? "killed"
                              : "killed, without log/END",
           w.points, w.file_count, w.healthy, w.damaged);
    assert_true(w.healthy > 50 && w.damaged > 50);
    world_free(&w);
}

static void after_clean_close(void **state)
{
    (void)state;
    everything(CLOSED);
}

static void after_kill(void **state)
{
    (void)state;
    everything(KILLED);
}

static void after_kill_without_end(void **state)
{
    (void)state;
    everything(KILLED_WITHOUT_END);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(after_clean_close), cmocka_unit_test(after_kill), cmocka_unit_test(after_kill_without_end)};

    if (argc > 1)
        distance = strtoull(argv[1], NULL, 10);
    return distance == 0 ? 2 : cmocka_run_group_tests(tests, NULL, NULL);
}
