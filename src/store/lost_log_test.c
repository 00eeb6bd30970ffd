/* Proves that a database whose log is gone is never taken for a new one, and that what is lost is told in few lines.
 *
 *   - log/ removed or emptied, with index and tree as they are after few and after many transactions, opened with and without `create`: ST_CORRUPT, the
 *     text names what is missing and how much is known, and not one operation changes the disk
 *   - with nothing left at all `create` makes a database; what a creation leaves that is cut short anywhere is made whole by the next one
 *   - without the log's manifest index and tree still vouch for the newest transactions
 *   - thousands of lost transactions give a line for their range, not for each */
#include "store/store_fixture.h"
#include "vfs/vfs_faulty.h"

enum { FEW = 5, MANY = 3000, LINES_MAX = 8, SEGMENT_BYTES = 64 << 10 };

static void fill(struct fixture *f, unsigned txs)
{
    struct store_options o = defaults();
    char key[16];

    o.segment_bytes_first = o.segment_bytes_max = SEGMENT_BYTES;
    begin(f, o);
    for (unsigned i = 0; i < txs; i++) {
        snprintf(key, sizeof key, "key%u", i);
        put(f, key, "value");
    }
    store_close(f->store);
    f->store = NULL;
}

static void removed(struct fixture *f, const char *path)
{
    struct err err;

    OK(vfs_remove_tree(f->vfs, path, &err));
}

/* The fixture's runtime, and a store with it, over a vfs that counts. */
static enum status open_counted(struct fixture *f, bool create, uint64_t *changes, struct err *err)
{
    struct vfs *counting = vfs_faulty_create(f->vfs);
    struct runtime_options ro = {.vfs = counting, .env = &f->env.env, .memory_limit = 64 << 20};
    struct store_options o = f->o;
    struct store *s = NULL;
    enum status st;

    assert_int_equal(runtime_create(&ro, &o.runtime, NULL), ST_OK);
    o.create = create;
    st = store_open(&o, &s, err);
    *changes = vfs_faulty_op_count(counting);
    store_close(s);
    runtime_destroy(o.runtime);
    vfs_faulty_destroy(counting);
    return st;
}

static void refused(struct fixture *f, const char *what, const char *known)
{
    for (int create = 0; create < 2; create++) {
        uint64_t changes;
        struct err err;

        assert_int_equal(open_counted(f, create == 1, &changes, &err), ST_CORRUPT);
        if (strstr(err.text, what) == NULL || strstr(err.text, known) == NULL)
            fail_msg("%s", err.text);
        assert_true(changes <= (create == 1 ? 2 : 0)); /* the folder itself is made, when missing, and its name synced */
    }
}

static void a_log_that_is_gone(void **state)
{
    static const struct {
        unsigned txs;
        const char *gone[3];
        bool is_kept_empty;
        const char *what, *known;
    } cases[] = {
        {FEW, {"db/log"}, false, "log/ is missing", "how many txs were acknowledged is not known"},
        {FEW, {"db/log"}, true, "log/ is emptied", "index/ and tree/ are left"},
        {FEW, {"db/log", "db/index"}, false, "log/ is missing", "tree/ is left"},
        {FEW, {"db/log", "db/tree"}, false, "log/ is missing", "index/ is left"},
        {MANY, {"db/log"}, false, "log/ is missing", "txs 1..3000 at least were acknowledged (known from index/, tree/)"},
        {MANY, {"db/log", "db/tree"}, true, "log/ is emptied", "txs 1..3000 at least"},
        {MANY, {"db/log", "db/index"}, false, "log/ is missing", "txs 1..2816 at least were acknowledged (known from tree/)"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        struct err err;

        fill(&f, cases[i].txs);
        for (size_t k = 0; k < 3 && cases[i].gone[k] != NULL; k++)
            removed(&f, cases[i].gone[k]);
        if (cases[i].is_kept_empty)
            OK(f.vfs->ops->mkdir(f.vfs, "db/log", &err));
        refused(&f, cases[i].what, cases[i].known);
        end(&f);
    }
}

static void only_the_end_mark_is_left(void **state)
{
    struct fixture f;
    struct err err;

    (void)state;
    fill(&f, FEW);
    removed(&f, "db/index");
    removed(&f, "db/tree");
    OK(f.vfs->ops->rename(f.vfs, "db/log/END", "db/END", &err));
    removed(&f, "db/log");
    OK(f.vfs->ops->mkdir(f.vfs, "db/log", &err));
    OK(f.vfs->ops->rename(f.vfs, "db/END", "db/log/END", &err));
    refused(&f, "log/ is emptied", "txs 1..5 at least were acknowledged (known from log/END)");
    end(&f);
}

static void nothing_is_left(void **state)
{
    struct fixture f;
    uint64_t changes;
    struct err err;

    (void)state;
    fill(&f, FEW);
    removed(&f, "db");
    assert_int_equal(open_counted(&f, false, &changes, &err), ST_NOT_FOUND);
    assert_int_equal(changes, 0);
    assert_int_equal(open_counted(&f, true, &changes, &err), ST_OK);
    assert_int_equal(open_counted(&f, false, &changes, &err), ST_OK);
    end(&f);
}

/* The first opening dies at each operation, with what had reached the disk by then: the next one makes a database all the same. */
static void creation_cut_short(void **state)
{
    bool fired = true;

    (void)state;
    for (uint64_t n = 1; fired; n++) {
        struct vfs *disk = vfs_memory_create(), *faulty = vfs_faulty_create(disk);
        struct store_options o = {.dir = "db", .create = true, .tx_version = 1};
        struct runtime_options ro = {.vfs = faulty, .memory_limit = 4 << 20};
        struct store *s = NULL;
        struct test_env env;
        struct err err;

        test_env_init(&env, n);
        ro.env = &env.env;
        OK(runtime_create(&ro, &o.runtime, &err));
        vfs_faulty_arm(faulty, FAULT_STOP_TORN, n, n);
        if (store_open(&o, &s, &err) == ST_OK)
            store_close(s);
        fired = vfs_faulty_fired(faulty);
        runtime_destroy(o.runtime);
        vfs_memory_power_cut(disk, POWER_CUT_RANDOM, n);
        ro.vfs = disk;
        OK(runtime_create(&ro, &o.runtime, &err));
        OK(store_open(&o, &s, &err));
        store_close(s);
        runtime_destroy(o.runtime);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(disk);
    }
}

/* --- what is lost, in few words --- */

struct lines {
    unsigned errors;
    char last[256];
};

static struct lines heard;

static void hear(void *ctx, enum log_level level, const char *text)
{
    (void)ctx;
    if (level != LOG_ERROR)
        return;
    heard.errors++;
    if (strstr(text, "are lost") != NULL)
        snprintf(heard.last, sizeof heard.last, "%s", text);
}

static bool is_segment(const char *name, unsigned *no) { return sscanf(name, "seg-%8u.", no) == 1; }

static bool newest_visit(void *ctx, const char *name, bool is_dir)
{
    unsigned no = 0;

    (void)is_dir;
    if (is_segment(name, &no) && no > *(unsigned *)ctx)
        *(unsigned *)ctx = no;
    return true;
}

/* All segments but the first are removed, or all but the last. */
static void most_txs_are_lost(void **state)
{
    for (int keep_first = 0; keep_first < 2; keep_first++) {
        struct store_health health;
        struct fixture f;
        unsigned newest = 0;
        char path[64];
        struct err err;

        (void)state;
        fill(&f, MANY);
        OK(f.vfs->ops->list(f.vfs, "db/log", newest_visit, &newest, &err));
        assert_true(newest >= 4);
        for (unsigned no = keep_first ? 2 : 1; no <= newest - (keep_first ? 0 : 1); no++) {
            snprintf(path, sizeof path, "db/log/seg-%08u.0", no);
            OK(f.vfs->ops->unlink(f.vfs, path, &err));
        }
        heard = (struct lines){0};
        f.env.env.log = hear;
        opened(&f);
        store_health(f.store, &health);
        assert_int_equal(health.kind, STORE_READ_ONLY_DAMAGED);
        assert_true(heard.errors >= 1);
        if (heard.errors > newest + LINES_MAX) /* one for each missing file, and some more */
            fail_msg("%u lines", heard.errors);
        end(&f);
    }
}

/* The same with the segments there but their contents gone: only the manifest knows. */
static void emptied_segments(void **state)
{
    struct fixture f;
    struct store_state now;
    struct vfs_file *file;
    unsigned newest = 0, first, last;
    uint64_t length;
    char path[64];
    struct err err;

    (void)state;
    fill(&f, MANY);
    OK(f.vfs->ops->list(f.vfs, "db/log", newest_visit, &newest, &err));
    for (unsigned no = 2; no <= newest; no++) {
        snprintf(path, sizeof path, "db/log/seg-%08u.0", no);
        OK(f.vfs->ops->open(f.vfs, path, VFS_WRITE, &file, &err));
        OK(file->ops->length(file, &length, &err));
        OK(file->ops->truncate(file, 512, &err));
        file->ops->close(file);
    }
    heard = (struct lines){0};
    f.env.env.log = hear;
    opened(&f);
    store_get_state(f.store, &now);
    assert_true(now.tx_id > 0 && now.tx_id < MANY);
    if (heard.errors > 2 * newest + LINES_MAX || sscanf(heard.last, "database db is read-only: txs %u..%u are lost", &first, &last) != 2 ||
        first != now.tx_id + 1 || last < first + 2000)
        fail_msg("%u lines: %s", heard.errors, heard.last);
    end(&f);
}

static void without_manifest_others_vouch(void **state)
{
    struct fixture f;
    struct store_health health;
    unsigned newest = 0;
    char path[64];
    struct err err;

    (void)state;
    fill(&f, MANY);
    OK(f.vfs->ops->list(f.vfs, "db/log", newest_visit, &newest, &err));
    snprintf(path, sizeof path, "db/log/seg-%08u.0", newest);
    OK(f.vfs->ops->unlink(f.vfs, path, &err));
    OK(f.vfs->ops->unlink(f.vfs, "db/log/MANIFEST", &err));
    OK(f.vfs->ops->unlink(f.vfs, "db/log/END", &err));
    opened(&f);
    store_health(f.store, &health);
    assert_int_equal(health.kind, STORE_READ_ONLY_DAMAGED);
    if (strstr(health.text, "derived files know tx 3000") == NULL)
        fail_msg("%s", health.text);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_log_that_is_gone),           cmocka_unit_test(only_the_end_mark_is_left), cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(creation_cut_short),           cmocka_unit_test(most_txs_are_lost),         cmocka_unit_test(emptied_segments),
        cmocka_unit_test(without_manifest_others_vouch)};

    return cmocka_run_group_tests_name("lost_log", tests, NULL, NULL);
}
