/* A log whose end is gone is never taken for a shorter one.
 *
 * After a clean close: every cut of the newest segment (at every frame's border, inside frames, inside the segment's header) and every zeroing of
 * its last frames opens read-only, names file, offset and txs, and changes nothing on disk. After the death of the process alone: the same for
 * every cut that takes a synced frame. Then log/END itself: missing, damaged, of another database, older than the log, contradicting it; and
 * the limit that stays when it is gone. */
#include "log/damage_fixture.h"

enum end_kind { END_CUT, END_ZEROED };

/* Takes everything from offset `from` of the newest segment away. False: there were only zeros. */
static bool lose_end(struct vfs *v, const char *name, uint64_t from, enum end_kind kind)
{
    char path[PATH_BYTES_MAX];
    struct vfs_file *file;
    uint8_t *bytes = NULL;
    size_t length = 0;
    struct err err;
    bool is_zero = true;

    assert_int_equal(vfs_path(path, &err, FIXTURE_DIR, "%s", name), ST_OK);
    assert_int_equal(vfs_read_all(v, path, 1 << 20, &bytes, &length, &err), ST_OK);
    assert_true(from < length);
    for (size_t i = from; i < length; i++)
        is_zero = is_zero && bytes[i] == 0;
    free(bytes);
    assert_int_equal(v->ops->open(v, path, VFS_WRITE, &file, &err), ST_OK);
    if (kind == END_CUT)
        assert_int_equal(file->ops->truncate(file, from, &err), ST_OK);
    else
        assert_int_equal(file->ops->zero(file, from, length - from, &err), ST_OK);
    file->ops->close(file);
    return kind == END_CUT || !is_zero;
}

/* Expects damage that names file, offset and txs; nothing on disk changes; what stands before `from` is readable. */
static void expect_lost_end(struct vfs *copy, const char *name, uint64_t from, uint64_t good_min)
{
    struct vfs *faulty = NULL;
    uint64_t good;
    struct fixture f;

    open_untouched(&f, copy, &faulty);
    if (strstr(f.report.damage, name) == NULL || strstr(f.report.damage, "offset ") == NULL || strstr(f.report.damage, "(tx ") == NULL)
        fail_msg("%s from %llu: %s", name, (unsigned long long)from, f.report.damage);
    assert_true(f.report.end_is_lost);
    assert_int_equal(f.report.precommitted_upto, TXS); /* known to have been there */
    if ((good = count_good(&f)) < good_min)
        fail_msg("%s from %llu: %llu of at least %llu txs left", name, (unsigned long long)from, (unsigned long long)good,
                 (unsigned long long)good_min);
    fixture_close(&f, false);
    vfs_faulty_destroy(faulty);
}

/* Of the newest segment: where its frames are, and how many txs stand before each of them. */
struct newest {
    struct frame_place places[64];
    uint64_t txs_before[64];
    size_t count;
};
static void newest_find(struct vfs *original, struct newest *n)
{
    struct vfs *copy = vfs_memory_clone(original);
    struct segment *s;
    struct fixture f;
    uint64_t txs;

    open_any(&f, copy);
    s = table_at(f.log, table_count(f.log) - 1);
    n->count = list_frames(&f, s->table_index, n->places, 64);
    assert_true(n->count >= 3 && n->count < 64);
    txs = atomic_load(&s->first_tx) - 1;
    for (size_t p = 0; p < n->count; p++) { /* a frame holds two txs or none */
        n->txs_before[p] = txs;
        txs += n->places[p].is_empty ? 0 : 2;
    }
    assert_int_equal(txs, TXS);
    fixture_close(&f, false);
    vfs_memory_destroy(copy);
}

static void every_cut_after_a_clean_close(void **state)
{
    static struct newest n;
    struct vfs *original = make_log(true);
    uint64_t random = 17;

    (void)state;
    newest_find(original, &n);
    for (size_t p = 0; p < n.count; p++)
        for (int k = 0; k < 40; k++) {
            /* At the border, one byte behind it, one before the end, and anywhere between. */
            uint64_t inside = k == 0 ? 0 : k == 1 ? 1 : k == 2 ? n.places[p].len - 1 : test_random(&random) % n.places[p].len;

            for (int kind = END_CUT; kind <= END_ZEROED; kind++) {
                struct vfs *copy = vfs_memory_clone(original);

                if (lose_end(copy, n.places[p].name, n.places[p].at + inside, (enum end_kind)kind))
                    expect_lost_end(copy, n.places[p].name, n.places[p].at + inside, n.txs_before[p]);
                vfs_memory_destroy(copy);
            }
        }
    for (uint64_t from = 0; from < SEGMENT_HEADER_BYTES; from += 31) { /* its header, too */
        struct vfs *copy = vfs_memory_clone(original), *faulty = NULL;
        struct fixture f;

        assert_true(lose_end(copy, n.places[0].name, from, END_CUT));
        open_untouched(&f, copy, &faulty);
        assert_non_null(strstr(f.report.damage, n.places[0].name));
        assert_true(count_good(&f) >= n.txs_before[0]);
        fixture_close(&f, false);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(original);
}

/* Killed, the system lives: all that was synced is known; the vouching frame behind it was not, and nothing is lost with it. */
static void every_cut_after_a_kill(void **state)
{
    static struct newest n;
    struct vfs *original = make_log(false);

    (void)state;
    newest_find(original, &n);
    assert_true(n.places[n.count - 1].is_empty && !n.places[n.count - 2].is_empty);
    for (size_t p = 0; p < n.count; p++)
        for (int kind = END_CUT; kind <= END_ZEROED; kind++) {
            struct vfs *copy = vfs_memory_clone(original);
            struct fixture f;

            assert_true(lose_end(copy, n.places[p].name, n.places[p].at, (enum end_kind)kind));
            if (p + 1 < n.count) {
                expect_lost_end(copy, n.places[p].name, n.places[p].at, n.txs_before[p]);
            } else {
                open_any(&f, copy);
                assert_false(f.report.is_damaged);
                assert_int_equal(count_good(&f), TXS);
                fixture_close(&f, false);
            }
            vfs_memory_destroy(copy);
        }
    vfs_memory_destroy(original);
}

static void file_replace(struct vfs *v, const char *path, const uint8_t *bytes, size_t len)
{
    struct vfs_file *file;
    struct err err;

    assert_int_equal(v->ops->open(v, path, VFS_WRITE | VFS_TRUNCATE, &file, &err), ST_OK);
    assert_int_equal(vfs_write_at(file, 0, bytes, len, &err), ST_OK);
    file->ops->close(file);
}

/* The limit: without END the last frame and the empty one behind it go unnoticed; the log goes on from there, and a new mark with it. */
static void without_the_mark(void **state)
{
    static struct newest n;
    struct vfs *original = make_log(false), *other;
    uint8_t *bytes = NULL;
    struct fixture f;
    size_t len = 0;

    (void)state;
    newest_find(original, &n);
    for (int what = 0; what < 4; what++) {
        struct vfs *copy = vfs_memory_clone(original);

        if (what == 0)
            assert_int_equal(copy->ops->unlink(copy, FIXTURE_DIR "/END", &f.err), ST_OK);
        for (uint64_t slot = 0; slot < END_MARK_SLOTS && what == 1; slot++)
            assert_int_equal(vfs_memory_flip_bit(copy, FIXTURE_DIR "/END", (slot * END_MARK_SLOT_STEP + 33) * 8, &f.err), ST_OK);
        if (what == 2) { /* what another database says */
            fixture_random_state += 1000003;
            other = make_log(true);
            assert_int_equal(vfs_read_all(other, FIXTURE_DIR "/END", 1 << 20, &bytes, &len, &f.err), ST_OK);
            vfs_memory_destroy(other);
            file_replace(copy, FIXTURE_DIR "/END", bytes, len);
            free(bytes);
        }
        if (what == 3)
            file_replace(copy, FIXTURE_DIR "/END", (const uint8_t *)"x", 1);
        (void)lose_end(copy, n.places[n.count - 2].name, n.places[n.count - 2].at, END_CUT);
        open_any(&f, copy);
        assert_false(f.report.is_damaged);
        assert_int_equal(f.report.precommitted_upto, TXS - 2);
        assert_int_equal(fixture_commit(&f, TXS - 1, TXS + 4), ST_OK);
        fixture_close(&f, true);
        open_any(&f, copy);
        assert_false(f.report.is_damaged);
        assert_true(f.report.was_clean);
        assert_int_equal(f.report.precommitted_upto, TXS + 4);
        assert_int_equal(f.log->end.batch, f.log->tail.last_batch);
        fixture_close(&f, false);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(original);
}

/* One slot torn: the other one counts. An old mark under a log that went on only says less. */
static void older_marks(void **state)
{
    struct vfs *original = make_log(true);
    uint8_t *bytes = NULL;
    struct fixture f;
    size_t len = 0;

    (void)state;
    for (uint64_t slot = 0; slot < END_MARK_SLOTS; slot++)
        for (uint64_t byte = 0; byte < END_MARK_BYTES; byte++) {
            struct vfs *copy = vfs_memory_clone(original);

            assert_int_equal(vfs_memory_flip_bit(copy, FIXTURE_DIR "/END", (slot * END_MARK_SLOT_STEP + byte) * 8 + byte % 8, &f.err), ST_OK);
            open_any(&f, copy);
            assert_false(f.report.is_damaged);
            assert_true(f.log->end.batch >= f.log->tail.last_batch - 2);
            assert_int_equal(count_good(&f), TXS);
            fixture_close(&f, true);
            vfs_memory_destroy(copy);
        }
    assert_int_equal(vfs_read_all(original, FIXTURE_DIR "/END", 1 << 20, &bytes, &len, &f.err), ST_OK);
    open_any(&f, original);
    assert_int_equal(fixture_commit(&f, TXS + 1, TXS + 40), ST_OK);
    fixture_close(&f, false);
    file_replace(original, FIXTURE_DIR "/END", bytes, len);
    free(bytes);
    open_any(&f, original);
    assert_false(f.report.is_damaged);
    assert_int_equal(f.report.precommitted_upto, TXS + 40);
    fixture_close(&f, true);
    vfs_memory_destroy(original);
}

/* The newest frame replaced by another whole one of the same place and number: only a second witness can tell. */
static void another_end_than_the_mark_knows(void **state)
{
    struct vfs *first = make_log(true), *second = vfs_memory_clone(first), *faulty = NULL;
    char path[PATH_BYTES_MAX];
    uint8_t *bytes = NULL;
    struct fixture f;
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 2; i++) { /* two lives go on from the same copy */
        open_any(&f, i == 0 ? first : second);
        f.seed = 70 + (unsigned)i;
        assert_int_equal(fixture_commit(&f, TXS + 1, TXS + 1), ST_OK);
        assert_int_equal(vfs_path(path, &f.err, FIXTURE_DIR, "%s", f.log->tail.active->name), ST_OK);
        fixture_close(&f, true);
    }
    assert_int_equal(vfs_read_all(second, path, 1 << 20, &bytes, &len, &f.err), ST_OK);
    file_replace(first, path, bytes, len);
    free(bytes);
    open_untouched(&f, first, &faulty);
    assert_non_null(strstr(f.report.damage, "another frame than log/END knows"));
    assert_int_equal(count_good(&f), TXS);
    fixture_close(&f, false);
    vfs_faulty_destroy(faulty);
    vfs_memory_destroy(first);
    vfs_memory_destroy(second);
}

/* Opened and closed without a write: nothing is changed on the disk. Its whole log gone: END tells. A newer END is refused. */
static void an_idle_life_and_a_lost_log(void **state)
{
    struct vfs *memory = make_log(true), *faulty = vfs_faulty_create(memory), *copy;
    uint8_t *bytes = NULL;
    struct fixture f;
    size_t len = 0;

    (void)state;
    open_any(&f, faulty);
    assert_true(f.report.was_clean && !f.report.is_damaged);
    fixture_close(&f, true);
    assert_int_equal(vfs_faulty_op_count(faulty), 1); /* a leftover MANIFEST.tmp is asked to go */
    vfs_faulty_destroy(faulty);

    copy = vfs_memory_clone(memory);
    assert_int_equal(vfs_read_all(copy, FIXTURE_DIR "/END", 1 << 20, &bytes, &len, &f.err), ST_OK);
    store_u32le(bytes + 8, 2);
    store_u32le(bytes + 124, crc32c(0, bytes, 124));
    file_replace(copy, FIXTURE_DIR "/END", bytes, len);
    free(bytes);
    fixture_init(&f, copy);
    assert_int_equal(fixture_open(&f, false), ST_UNSUPPORTED);
    assert_non_null(strstr(f.err.text, "newest known version is 1"));
    vfs_memory_destroy(copy);

    open_any(&f, memory);
    for (uint64_t no = table_count(f.log); no > 0; no--) {
        char path[PATH_BYTES_MAX];

        segment_path(path, no);
        assert_int_equal(memory->ops->unlink(memory, path, &f.err), ST_OK);
    }
    fixture_close(&f, false);
    assert_int_equal(memory->ops->unlink(memory, FIXTURE_DIR "/MANIFEST", &f.err), ST_OK);
    fixture_init(&f, memory);
    assert_int_equal(fixture_open(&f, true), ST_CORRUPT);
    assert_non_null(strstr(f.err.text, "log/END knows tx 60"));
    vfs_memory_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_after_a_clean_close),
        cmocka_unit_test(every_cut_after_a_kill),
        cmocka_unit_test(without_the_mark),
        cmocka_unit_test(older_marks),
        cmocka_unit_test(another_end_than_the_mark_knows),
        cmocka_unit_test(an_idle_life_and_a_lost_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
