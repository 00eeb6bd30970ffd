/* Format 1 stays readable: testdata/format-1 is a log directory written once and never again. It holds sealed segments, one generation without values, a
 * DISCARD across segments, COMMIT marks, a large value, an unsealed tail and a close mark; every later build must open it, read every byte of it and go on
 * writing a copy of it.
 *
 *   LOG_TESTDATA=DIR log_format_test          checks DIR/format-1
 *   LOG_TESTDATA=DIR LOG_TESTDATA_WRITE=1 ... makes it (only for a new format) */
#include "log/log_fixture.h"

enum { TXS = 64, TRUNCATED = 18 };

static void fixture_format(struct fixture *f, struct vfs *v)
{
    fixture_init(f, v);
    f->segment_bytes_first = f->segment_bytes_max = 4096;
    f->big_every = 61;
}

static void write_log(struct fixture *f)
{
    struct frontier frontier = {0};
    hash_t alh = {{9}};
    uint64_t freed, upto;

    fixture_random_state = 12345;
    fixture_format(f, vfs_memory_create());
    assert_int_equal(fixture_open(f, true), ST_OK);
    for (uint64_t id = 1; id <= 30; id += 3) {
        assert_int_equal(fixture_commit(f, id, id + 2), ST_OK);
        frontier.size = id + 2;
        memset(frontier.nodes, (int)id, sizeof frontier.nodes);
        log_note_frontier(f->log, &frontier);
    }
    assert_int_equal(log_truncate(f->log, 20, &freed, &upto, &f->err), ST_OK);
    assert_int_equal(upto, TRUNCATED);
    f->seed = 8; /* 31..60 are discarded */
    assert_int_equal(fixture_write(f, 31, 45, 30), ST_OK);
    assert_int_equal(fixture_write(f, 46, 60, 30), ST_OK);
    assert_int_equal(log_batch_begin(f->log, &f->err), ST_OK);
    assert_int_equal(log_batch_discard(f->log, 30, &alh, &f->err), ST_OK);
    assert_int_equal(log_batch_write(f->log, 30, &f->err), ST_OK);
    assert_int_equal(log_sync(f->log, &f->err), ST_OK);
    log_cut(f->log, 30);
    f->seed = 7;
    for (uint64_t id = 31; id <= TXS; id += 2)
        assert_int_equal(fixture_commit(f, id, id + 1), ST_OK);
    assert_int_equal(log_batch_begin(f->log, &f->err), ST_OK);
    assert_int_equal(log_batch_commit(f->log, TXS, &alh, &f->err), ST_OK);
    assert_int_equal(log_batch_write(f->log, TXS, &f->err), ST_OK);
    assert_int_equal(log_sync(f->log, &f->err), ST_OK);
    assert_int_equal(log_advance_background(f->log, &f->err), ST_OK);
    fixture_close(f, true);
}

struct copy {
    struct vfs *from, *to;
    const char *from_dir, *to_dir;
};

static bool copy_file(void *ctx, const char *name, bool is_dir)
{
    const struct copy *c = ctx;
    char path[PATH_BYTES_MAX];
    struct vfs_file *file;
    struct err err;
    uint8_t *bytes;
    size_t len;

    assert_false(is_dir);
    assert_int_equal(vfs_path(path, &err, c->from_dir, "%s", name), ST_OK);
    assert_int_equal(vfs_read_all(c->from, path, 1 << 22, &bytes, &len, &err), ST_OK);
    assert_int_equal(vfs_path(path, &err, c->to_dir, "%s", name), ST_OK);
    assert_int_equal(c->to->ops->open(c->to, path, VFS_WRITE | VFS_CREATE | VFS_TRUNCATE, &file, &err), ST_OK);
    assert_int_equal(vfs_write_at(file, 0, bytes, len, &err), ST_OK);
    file->ops->close(file);
    free(bytes);
    return true;
}

static void testdata_path(char *path)
{
    const char *dir = getenv("LOG_TESTDATA");
    struct err err;

    if (dir == NULL)
        fail_msg("LOG_TESTDATA must name the testdata folder");
    assert_int_equal(vfs_path(path, &err, dir, "format-1"), ST_OK);
}

static void format_1_is_read(void **state)
{
    char path[PATH_BYTES_MAX];
    struct copy c = {vfs_posix(), vfs_memory_create(), path, FIXTURE_DIR};
    struct frontier frontier;
    struct fixture f;
    uint64_t at;

    (void)state;
    testdata_path(path);
    if (getenv("LOG_TESTDATA_WRITE") != NULL) {
        struct copy out = {NULL, vfs_posix(), FIXTURE_DIR, path};

        write_log(&f);
        out.from = f.vfs;
        assert_int_equal(f.vfs->ops->list(f.vfs, FIXTURE_DIR, copy_file, &out, &f.err), ST_OK);
        vfs_memory_destroy(f.vfs);
    }
    assert_int_equal(c.to->ops->mkdir(c.to, "db", NULL), ST_OK);
    assert_int_equal(c.to->ops->mkdir(c.to, FIXTURE_DIR, NULL), ST_OK);
    assert_int_equal(c.from->ops->list(c.from, path, copy_file, &c, NULL), ST_OK);
    fixture_format(&f, c.to);
    if (fixture_open(&f, false) != ST_OK)
        fail_msg("%s", f.err.text);
    assert_false(f.report.is_damaged);
    assert_true(f.report.was_clean);
    assert_int_equal(f.report.precommitted_upto, TXS);
    assert_int_equal(f.report.committed_upto, TXS);
    fixture_check_range(&f, 1, TRUNCATED, true);
    fixture_check_range(&f, TRUNCATED + 1, TXS, false);
    assert_int_equal(fixture_scrub(&f), 0);
    assert_int_equal(log_tx_since(f.log, 1010, &at, &f.err), ST_OK);
    assert_int_equal(at, 30);
    assert_int_equal(log_frontier_before(f.log, 20, &frontier, &at, &f.err), ST_OK);
    assert_int_equal(at, TRUNCATED);
    assert_int_equal(frontier.nodes[1].b[31], TRUNCATED - 2);
    assert_int_equal(fixture_commit(&f, TXS + 1, TXS + 20), ST_OK);
    fixture_close(&f, true);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_int_equal(f.report.precommitted_upto, TXS + 20);
    fixture_check_range(&f, TRUNCATED + 1, TXS + 20, false);
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, true);
    vfs_memory_destroy(c.to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(format_1_is_read)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
