/* Truncation: values go, everything else stays; readers that began before it finish undisturbed; old files disappear with the last reader, leftovers at the
 * next open; what is damaged is not rewritten. (Crashes at every step: recovery_crash_test.) */
#include "log/log_fixture.h"

static void make(struct fixture *f, uint64_t txs)
{
    fixture_init(f, vfs_memory_create());
    f->segment_bytes_first = f->segment_bytes_max = 4096;
    f->big_every = 23;
    assert_int_equal(fixture_open(f, true), ST_OK);
    for (uint64_t id = 1; id <= txs; id += 2)
        assert_int_equal(fixture_commit(f, id, id + 1), ST_OK);
    assert_int_equal(log_advance_background(f->log, &f->err), ST_OK);
}

struct names {
    int count;
    char newest[40];
    bool has_old;
};
static bool visit_name(void *ctx, const char *name, bool is_dir)
{
    struct names *n = ctx;

    (void)is_dir;
    n->count++;
    n->has_old = n->has_old || strcmp(name, "seg-00000001.0") == 0;
    return true;
}

static struct names names(struct fixture *f)
{
    struct names n = {0};

    assert_int_equal(f->vfs->ops->list(f->vfs, FIXTURE_DIR, visit_name, &n, &f->err), ST_OK);
    return n;
}

static void values_go_and_the_rest_stays(void **state)
{
    uint64_t freed, upto, again;
    struct log_stats stats;
    struct fixture f;

    (void)state;
    make(&f, 100);
    fixture_check_range(&f, 1, 100, false);
    assert_int_equal(log_truncate(f.log, 60, &freed, &upto, &f.err), ST_OK);
    assert_true(upto > 40 && upto <= 60);
    assert_true(freed > 0);
    log_stats(f.log, &stats);
    assert_true(stats.values_removed_segments > 3);
    for (int round = 0; round < 3; round++) {
        fixture_check_range(&f, 1, upto, true);
        fixture_check_range(&f, upto + 1, 100, false);
        assert_int_equal(fixture_scrub(&f), 0);
        assert_false(names(&f).has_old);
        fixture_close(&f, round != 1);
        assert_int_equal(fixture_open(&f, false), ST_OK);
        assert_false(f.report.is_damaged);
        assert_int_equal(f.report.precommitted_upto, 100);
    }
    assert_int_equal(log_truncate(f.log, 60, &freed, &again, &f.err), ST_OK); /* nothing left to do */
    assert_int_equal(again, upto);
    assert_int_equal(freed, 0);
    log_note_committed(f.log, 100);
    assert_int_equal(log_truncate(f.log, 1000, &freed, &upto, &f.err), ST_OK); /* seals the active segment first */
    assert_int_equal(upto, 100);
    fixture_check_range(&f, 1, 100, true);
    assert_int_equal(fixture_commit(&f, 101, 110), ST_OK);
    fixture_check_range(&f, 101, 110, false);
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, true);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_int_equal(f.report.precommitted_upto, 110);
    fixture_check_range(&f, 1, 100, true);
    fixture_check_range(&f, 101, 110, false);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

static void readers_of_the_old_generation_finish(void **state)
{
    struct log_pin pin = {0};
    struct arena arena;
    struct content c;
    struct bytes value;
    uint64_t freed, upto;
    struct tx_entry e;
    struct fixture f;
    struct log_tx t;

    (void)state;
    make(&f, 60);
    arena_init(&arena, 4096, 0);
    content_make(&f, 23, &c); /* the large one: its value is not in the block */
    assert_int_equal(log_tx_open(f.log, 23, false, &t, &f.err), ST_OK);
    assert_non_null(t.segment_);
    fixture_check_range(&f, 1, 60, false); /* all of them are cached now */
    assert_int_equal(log_entry_read(f.log, 2, 0, false, true, &arena, &pin, &e, &f.err), ST_OK);
    assert_int_equal(log_truncate(f.log, 40, &freed, &upto, &f.err), ST_OK);
    assert_true(upto >= 23);
    assert_int_equal(log_tx_value(f.log, &t, 0, &arena, &value, &f.err), ST_OK);
    assert_true(bytes_equal(value, c.entries[0].value));
    fixture_check_tx(&f, 23, true); /* a new reader */
    log_tx_close(f.log, &t);
    assert_int_equal(log_entry_read(f.log, 2, 0, false, true, &arena, &pin, &e, &f.err), ST_OK); /* the pin still shows what it showed */
    log_pin_release(f.log, &pin);
    assert_int_equal(log_entry_read(f.log, 2, 0, false, true, &arena, &pin, &e, &f.err), ST_NOT_FOUND);
    assert_true(e.is_value_gone);
    log_pin_release(f.log, &pin);
    assert_non_null(f.log->retired); /* the segment of tx 23 was read until now */
    assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    assert_null(f.log->retired);
    fixture_check_range(&f, 1, upto, true);
    content_free(&c);
    arena_free(&arena);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

static void leftovers_are_removed(void **state)
{
    struct vfs_file *file;
    struct fixture f;
    int count;

    (void)state;
    make(&f, 40);
    fixture_close(&f, true);
    count = names(&f).count;
    assert_int_equal(f.vfs->ops->open(f.vfs, FIXTURE_DIR "/seg-00000002.1", VFS_WRITE | VFS_CREATE, &file, &f.err), ST_OK);
    assert_int_equal(vfs_write_at(file, 0, "half a segment", 14, &f.err), ST_OK);
    file->ops->close(file);
    assert_int_equal(f.vfs->ops->open(f.vfs, FIXTURE_DIR "/MANIFEST.tmp", VFS_WRITE | VFS_CREATE, &file, &f.err), ST_OK);
    file->ops->close(file);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_false(f.report.is_damaged);
    assert_int_equal(names(&f).count, count);
    fixture_check_range(&f, 1, 40, false);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

static void damage_is_not_rewritten(void **state)
{
    uint64_t freed, upto;
    struct fixture f;

    (void)state;
    make(&f, 60);
    fixture_close(&f, true);
    assert_int_equal(vfs_memory_flip_bit(f.vfs, FIXTURE_DIR "/seg-00000002.0", 900 * 8, &f.err), ST_OK);
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_false(f.report.is_damaged); /* sealed segments are looked into by the scrub, or when read */
    assert_true(fixture_scrub(&f) > 0);
    assert_int_equal(log_truncate(f.log, 50, &freed, &upto, &f.err), ST_CORRUPT);
    assert_non_null(strstr(f.err.text, "seg-00000002.0"));
    assert_true(upto > 0 && upto < 20);
    assert_true(fixture_scrub(&f) > 0);
    assert_int_equal(fixture_commit(&f, 61, 62), ST_OK);
    fixture_close(&f, true);
    vfs_memory_destroy(f.vfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_go_and_the_rest_stays),
        cmocka_unit_test(readers_of_the_old_generation_finish),
        cmocka_unit_test(leftovers_are_removed),
        cmocka_unit_test(damage_is_not_rewritten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
