/* Damage to acknowledged data is never taken for a torn tail.
 *
 * A log with several segments, sealed and not, is damaged in one place: every bit of every acknowledged frame of the last segments (the newest one
 * included once a vouching frame follows it), segment headers, manifests, missing and shortened files. Expected: it opens, read-only, names
 * the file, changes nothing on disk; every tx that was not hit is still there; or, where only derived bytes were hit, it opens as if nothing
 * had happened. A log never comes back shorter without a word (the end of it: recovery_end_test.c). */
#include "log/damage_fixture.h"

static void flipped_bits_in_acknowledged_frames(void **state)
{
    enum { PLACES = 64 };
    static struct frame_place places[PLACES];
    struct vfs *original = make_log(false), *opened = vfs_memory_clone(original);
    struct fixture f;
    size_t count = 0;
    uint64_t random = 5;

    (void)state;
    open_any(&f, opened); /* which proves the last frame durable: not in the original */
    for (size_t i = 0; i < table_count(f.log); i++)
        if (!atomic_load(&table_at(f.log, i)->is_sealed))
            count += list_frames(&f, i, places + count, PLACES - count);
    fixture_close(&f, false);
    vfs_memory_destroy(opened);
    assert_true(count >= 12 && count < PLACES);
    for (size_t p = 0; p < count; p++) {
        bool is_newest = p + 1 == count;
        uint64_t bits = places[p].len * 8;

        /* All bits of the header, a sample of the body's. */
        for (uint64_t bit = 0; bit < bits; bit += bit < FRAME_HEADER_BYTES * 8 ? 1 : 1 + test_random(&random) % 397) {
            struct vfs *copy = vfs_memory_clone(original), *faulty = NULL;
            char path[PATH_BYTES_MAX];

            assert_int_equal(vfs_path(path, &f.err, FIXTURE_DIR, "%s", places[p].name), ST_OK);
            assert_int_equal(vfs_memory_flip_bit(copy, path, places[p].at * 8 + bit, &f.err), ST_OK);
            if (is_newest) { /* the vouching frame itself: nothing acknowledged is lost with it */
                assert_true(places[p].is_empty);
                open_any(&f, copy);
                assert_false(f.report.is_damaged);
            } else {
                open_untouched(&f, copy, &faulty);
                if (strstr(f.report.damage, places[p].name) == NULL)
                    fail_msg("batch %llu, bit %llu: %s", (unsigned long long)places[p].batch, (unsigned long long)bit, f.report.damage);
            }
            assert_int_equal(f.report.precommitted_upto, TXS);
            /* A frame holds two txs. */
            assert_true(count_good(&f) >= (is_newest || places[p].is_empty ? TXS : TXS - 2));
            fixture_close(&f, false);
            if (faulty != NULL)
                vfs_faulty_destroy(faulty);
            vfs_memory_destroy(copy);
        }
    }
    vfs_memory_destroy(original);
}

/* Every sector of the last two segments gone bad at once. */
static void zeroed_frames(void **state)
{
    static struct frame_place places[64];
    struct vfs *original = make_log(true);
    struct fixture f;
    size_t count;
    static const uint8_t zeros[65536];

    (void)state;
    open_any(&f, original);
    count = list_frames(&f, table_count(f.log) - 1, places, 64);
    fixture_close(&f, true);
    for (size_t p = 0; p + 2 < count; p++) { /* the last two are empty: vouching, close mark */
        struct vfs *copy = vfs_memory_clone(original), *faulty;
        struct vfs_file *file;
        char path[PATH_BYTES_MAX];

        assert_int_equal(vfs_path(path, &f.err, FIXTURE_DIR, "%s", places[p].name), ST_OK);
        assert_int_equal(copy->ops->open(copy, path, VFS_WRITE, &file, &f.err), ST_OK);
        assert_int_equal(vfs_write_at(file, places[p].at, zeros, (size_t)places[p].len, &f.err), ST_OK);
        file->ops->close(file);
        open_untouched(&f, copy, &faulty);
        assert_int_equal(f.report.precommitted_upto, TXS);
        assert_true(count_good(&f) >= TXS - 2);
        fixture_close(&f, false);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(original);
}

static void missing_shortened_and_headless_files(void **state)
{
    struct vfs *original = make_log(true);
    uint64_t segments;
    struct fixture f;

    (void)state;
    open_any(&f, original);
    segments = table_count(f.log);
    fixture_close(&f, false);
    for (uint64_t no = 1; no <= segments; no++)
        for (int what = 0; what < 6; what++) {
            struct vfs *copy = vfs_memory_clone(original), *faulty;
            char path[PATH_BYTES_MAX];
            struct vfs_file *file;
            uint64_t length, good, hit;

            segment_path(path, no);
            open_any(&f, copy);
            hit = atomic_load(&table_at(f.log, no - 1)->tx_count);
            fixture_close(&f, false);
            assert_int_equal(copy->ops->open(copy, path, VFS_WRITE, &file, &f.err), ST_OK);
            assert_int_equal(file->ops->length(file, &length, &f.err), ST_OK);
            if (what == 0)
                assert_int_equal(copy->ops->unlink(copy, path, &f.err), ST_OK);
            else if (what < 4)
                assert_int_equal(file->ops->truncate(file, what == 1 ? 0 : what == 2 ? 700 : length - 100, &f.err), ST_OK);
            else
                assert_int_equal(vfs_memory_flip_bit(copy, path, what == 4 ? 8 * 72 + 3 : 5, &f.err), ST_OK);
            file->ops->close(file);
            open_untouched(&f, copy, &faulty);
            segment_name(path, no, 0);
            if (strstr(f.report.damage, path) == NULL)
                fail_msg("%s: %s", path, f.report.damage);
            /* What a missing one held is said: of the newest only log/END knows. */
            if (what == 0 && (strstr(f.report.damage, " is missing (txs ") == NULL || strstr(f.report.damage, "(txs 0..0)") != NULL ||
                              (no == segments && (strstr(f.report.damage, "..60, known from log/END)") == NULL))))
                fail_msg("%s: %s", path, f.report.damage);
            good = count_good(&f);
            if (good < TXS - hit)
                fail_msg("%s, damage %d: %llu txs left, %llu were in it: %s", path, what, (unsigned long long)good, (unsigned long long)hit,
                         f.report.damage);
            /* The salt is in the manifest too: a damaged header costs nothing but the warning. Nor does a cut inside the empty frames. */
            if (what >= 4 || (no == segments && what == 3))
                assert_int_equal(good, TXS);
            assert_int_equal(f.report.precommitted_upto, TXS);
            fixture_close(&f, false);
            vfs_faulty_destroy(faulty);
            vfs_memory_destroy(copy);
        }
    vfs_memory_destroy(original);
}

static void sealed_footers_are_replaceable(void **state)
{
    struct vfs *original = make_log(true);
    char path[PATH_BYTES_MAX];
    struct segment_trailer t;
    struct fixture f;

    (void)state;
    open_any(&f, original);
    assert_true(atomic_load(&table_at(f.log, 1)->is_sealed));
    t = table_at(f.log, 1)->trailer;
    fixture_close(&f, false);
    segment_path(path, 2);
    for (uint64_t at = t.body_end; at < t.file_bytes; at += 37) {
        struct vfs *copy = vfs_memory_clone(original);
        bool in_trailer = at >= t.file_bytes - SEGMENT_TRAILER_BYTES;

        assert_int_equal(vfs_memory_flip_bit(copy, path, at * 8 + at % 8, &f.err), ST_OK);
        open_any(&f, copy);
        assert_false(f.report.is_damaged);
        assert_int_equal(f.report.precommitted_upto, TXS);
        if (in_trailer) { /* found at once, the txs come from reading the segment */
            assert_int_equal(count_good(&f), TXS);
        } else { /* found when a page is needed */
            uint64_t good = count_good(&f);

            assert_true(good >= TXS - (t.last_tx_id + 1 - t.first_tx_id));
        }
        assert_true(fixture_scrub(&f) > 0);
        fixture_close(&f, false);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(original);
}

static void manifest_is_rebuilt(void **state)
{
    struct vfs *original = make_log(true);
    uint8_t *file;
    size_t len;
    struct fixture f;

    (void)state;
    assert_int_equal(vfs_read_all(original, FIXTURE_DIR "/MANIFEST", 1 << 20, &file, &len, &f.err), ST_OK);
    free(file);
    for (uint64_t bit = 0; bit <= len * 8; bit += 7) {
        struct vfs *copy = vfs_memory_clone(original);

        if (bit + 7 > len * 8)
            assert_int_equal(copy->ops->unlink(copy, FIXTURE_DIR "/MANIFEST", &f.err), ST_OK);
        else
            assert_int_equal(vfs_memory_flip_bit(copy, FIXTURE_DIR "/MANIFEST", bit, &f.err), ST_OK);
        for (int again = 0; again < 2; again++) {
            open_any(&f, copy);
            if (f.report.is_damaged)
                fail_msg("bit %llu: %s", (unsigned long long)bit, f.report.damage);
            assert_int_equal(f.report.precommitted_upto, TXS + (unsigned)again);
            assert_int_equal(count_good(&f), TXS);
            assert_int_equal(fixture_scrub(&f), 0);
            if (again == 0)
                assert_int_equal(fixture_commit(&f, TXS + 1, TXS + 1), ST_OK);
            fixture_close(&f, true);
        }
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(original);
}

/* Which generation counts without a manifest: the new one when it is complete, the old one when it is not. */
static void manifest_lost_with_two_generations(void **state)
{
    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        struct vfs *memory = make_log(true), *before = vfs_memory_clone(memory);
        uint64_t freed, upto, len_old, len;
        uint8_t *old;
        size_t old_len;
        struct vfs_file *file;
        struct fixture f;

        open_any(&f, memory);
        assert_int_equal(log_truncate(f.log, 20, &freed, &upto, &f.err), ST_OK);
        assert_true(upto > 0 && upto <= 20 && freed > 0);
        fixture_close(&f, true);
        assert_int_equal(vfs_read_all(before, FIXTURE_DIR "/seg-00000001.0", 1 << 20, &old, &old_len, &f.err), ST_OK);
        assert_int_equal(memory->ops->open(memory, FIXTURE_DIR "/seg-00000001.0", VFS_WRITE | VFS_CREATE | VFS_EXCLUSIVE, &file, &f.err), ST_OK);
        assert_int_equal(vfs_write_at(file, 0, old, old_len, &f.err), ST_OK);
        file->ops->close(file);
        free(old);
        if (broken != 0) {
            assert_int_equal(memory->ops->open(memory, FIXTURE_DIR "/seg-00000001.1", VFS_WRITE, &file, &f.err), ST_OK);
            assert_int_equal(file->ops->length(file, &len, &f.err), ST_OK);
            assert_int_equal(file->ops->truncate(file, len - 1, &f.err), ST_OK);
            file->ops->close(file);
        }
        assert_int_equal(memory->ops->unlink(memory, FIXTURE_DIR "/MANIFEST", &f.err), ST_OK);
        open_any(&f, memory);
        assert_false(f.report.is_damaged);
        assert_int_equal(f.report.precommitted_upto, TXS);
        fixture_check_range(&f, 1, 1, broken == 0);
        assert_int_equal(fixture_scrub(&f), 0);
        fixture_close(&f, true);
        /* The other one is gone now. */
        assert_int_equal(
            vfs_read_all(memory, broken == 0 ? FIXTURE_DIR "/seg-00000001.0" : FIXTURE_DIR "/seg-00000001.1", 1 << 20, &old, &old_len, &f.err),
            ST_NOT_FOUND);
        (void)len_old;
        vfs_memory_destroy(before);
        vfs_memory_destroy(memory);
    }
}

static void marks_of_derived_files(void **state)
{
    struct vfs *memory = make_log(true);
    struct fixture f;

    (void)state;
    fixture_init(&f, memory);
    f.vouched_tx_id = TXS;
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_false(f.report.is_damaged);
    fixture_close(&f, true);
    f.vouched_tx_id = TXS + 1;
    assert_int_equal(fixture_open(&f, false), ST_OK);
    assert_true(f.report.is_damaged);
    assert_int_equal(count_good(&f), TXS);
    fixture_close(&f, true);
    vfs_memory_destroy(memory);
    memory = vfs_memory_create();
    fixture_init(&f, memory);
    f.vouched_tx_id = 3;
    assert_int_equal(fixture_open(&f, true), ST_CORRUPT); /* the whole log is gone */
    fixture_close(&f, true);
    vfs_memory_destroy(memory);
}

static void patch_crc(struct vfs *v, const char *path, uint64_t field_at, uint32_t value, size_t covered, uint64_t crc_at)
{
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct vfs_file *file;
    struct err err;

    assert_int_equal(v->ops->open(v, path, VFS_WRITE, &file, &err), ST_OK);
    assert_int_equal(file->ops->read(file, 0, bytes, covered + 4, &err), ST_OK);
    store_u32le(bytes + field_at, value);
    store_u32le(bytes + crc_at, crc32c(0, bytes, covered));
    assert_int_equal(vfs_write_at(file, 0, bytes, covered + 4, &err), ST_OK);
    file->ops->close(file);
}

static void newer_formats_are_refused(void **state)
{
    struct vfs *original = make_log(true);
    struct fixture f;

    (void)state;
    for (int what = 0; what < 4; what++) {
        struct vfs *copy = vfs_memory_clone(original);

        if (what < 2)
            patch_crc(copy, FIXTURE_DIR "/seg-00000003.0", what == 0 ? 8 : 12, what == 0 ? 2 : 1, 508, 508);
        else
            patch_crc(copy, FIXTURE_DIR "/MANIFEST", what == 2 ? 8 : 12, what == 2 ? 2 : 1, 60, 60);
        fixture_init(&f, copy);
        assert_int_equal(fixture_open(&f, false), ST_UNSUPPORTED);
        assert_non_null(strstr(f.err.text, "newest known version is 1"));
        assert_null(f.log);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(original);
}

/* A file of another database, or a segment in the place of another one. */
static void copied_segments_are_noticed(void **state)
{
    struct vfs *memory = make_log(true), *other = make_log(true);
    uint8_t *bytes;
    size_t len;
    struct vfs_file *file;
    struct fixture f;

    (void)state;
    for (int what = 0; what < 2; what++) {
        struct vfs *copy = vfs_memory_clone(memory);

        assert_int_equal(vfs_read_all(what == 0 ? other : memory, what == 0 ? FIXTURE_DIR "/seg-00000002.0" : FIXTURE_DIR "/seg-00000001.0", 1 << 20,
                                      &bytes, &len, &f.err),
                         ST_OK);
        assert_int_equal(copy->ops->open(copy, FIXTURE_DIR "/seg-00000002.0", VFS_WRITE | VFS_TRUNCATE, &file, &f.err), ST_OK);
        assert_int_equal(vfs_write_at(file, 0, bytes, len, &f.err), ST_OK);
        file->ops->close(file);
        free(bytes);
        open_any(&f, copy);
        assert_true(f.report.is_damaged);
        assert_non_null(strstr(f.report.damage, "seg-00000002.0"));
        assert_int_equal(f.report.precommitted_upto, TXS);
        fixture_close(&f, false);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(memory);
    vfs_memory_destroy(other);
}

/* The scrub notices every flipped bit of a sealed file, and of every frame of an unsealed one. */
static void scrub_finds_every_bit(void **state)
{
    static struct frame_place places[64];
    struct vfs *original = make_log(true);
    struct fixture f;
    size_t count, last;
    uint64_t sealed_bytes;
    char path[PATH_BYTES_MAX];

    (void)state;
    open_any(&f, original);
    sealed_bytes = table_at(f.log, 0)->trailer.file_bytes;
    assert_true(table_at(f.log, 0)->trailer.has_frontier == false);
    last = table_count(f.log) - 1;
    count = list_frames(&f, last, places, 64);
    segment_path(path, 1);
    for (uint64_t bit = 0; bit < sealed_bytes * 8; bit += 37) {
        assert_int_equal(vfs_memory_flip_bit(original, path, bit, &f.err), ST_OK);
        if (fixture_scrub(&f) == 0)
            fail_msg("bit %llu of %s", (unsigned long long)bit, path);
        assert_int_equal(vfs_memory_flip_bit(original, path, bit, &f.err), ST_OK);
    }
    segment_path(path, last + 1);
    for (size_t p = 0; p < count; p++)
        for (uint64_t bit = 0; bit < places[p].len * 8; bit += 29) {
            assert_int_equal(vfs_memory_flip_bit(original, path, places[p].at * 8 + bit, &f.err), ST_OK);
            assert_true(fixture_scrub(&f) > 0);
            assert_int_equal(vfs_memory_flip_bit(original, path, places[p].at * 8 + bit, &f.err), ST_OK);
        }
    assert_int_equal(fixture_scrub(&f), 0);
    fixture_close(&f, false);
    vfs_memory_destroy(original);
}

/* The note of a switch is lost, the old file too: the other generation is taken. */
static void the_other_generation_is_found(void **state)
{
    struct vfs *memory = make_log(true);
    uint8_t *old;
    size_t old_len;
    uint64_t freed, upto;
    struct vfs_file *file;
    struct fixture f;

    (void)state;
    assert_int_equal(vfs_read_all(memory, FIXTURE_DIR "/MANIFEST", 1 << 20, &old, &old_len, &f.err), ST_OK);
    open_any(&f, memory);
    assert_int_equal(log_truncate(f.log, 20, &freed, &upto, &f.err), ST_OK);
    fixture_close(&f, true);
    assert_int_equal(memory->ops->open(memory, FIXTURE_DIR "/MANIFEST", VFS_WRITE | VFS_TRUNCATE, &file, &f.err), ST_OK);
    assert_int_equal(vfs_write_at(file, 0, old, old_len, &f.err), ST_OK);
    file->ops->close(file);
    free(old);
    for (int again = 0; again < 2; again++) {
        open_any(&f, memory);
        if (f.report.is_damaged)
            fail_msg("%s", f.report.damage);
        fixture_check_range(&f, 1, upto, true);
        fixture_check_range(&f, upto + 1, TXS, false);
        fixture_close(&f, true);
    }
    vfs_memory_destroy(memory);
}

/* Without manifest, with the trailer of a sealed segment gone and a frame in it damaged: what follows it proves that it was complete. */
static void damage_between_sealed_segments(void **state)
{
    struct vfs *memory = make_log(true), *faulty;
    static struct frame_place places[64];
    char path[PATH_BYTES_MAX];
    struct segment_trailer t;
    struct fixture f;
    size_t count;

    (void)state;
    open_any(&f, memory);
    assert_true(atomic_load(&table_at(f.log, 2)->is_sealed));
    count = list_frames(&f, 1, places, 64);
    t = table_at(f.log, 1)->trailer;
    fixture_close(&f, false);
    assert_true(count > 2);
    segment_path(path, 2);
    assert_int_equal(memory->ops->unlink(memory, FIXTURE_DIR "/MANIFEST", &f.err), ST_OK);
    assert_int_equal(vfs_memory_flip_bit(memory, path, (t.file_bytes - 100) * 8, &f.err), ST_OK);
    open_any(&f, memory); /* the frames alone are enough */
    assert_false(f.report.is_damaged);
    assert_int_equal(count_good(&f), TXS);
    fixture_close(&f, false);
    assert_int_equal(memory->ops->unlink(memory, FIXTURE_DIR "/MANIFEST", &f.err), ST_OK);
    for (size_t p = 0; p < count; p++) {
        struct vfs *copy = vfs_memory_clone(memory);

        assert_int_equal(vfs_memory_flip_bit(copy, path, (places[p].at + 20) * 8, &f.err), ST_OK);
        open_untouched(&f, copy, &faulty);
        assert_int_equal(f.report.precommitted_upto, TXS);
        assert_true(f.report.intact_upto < t.last_tx_id + 1);
        assert_true(count_good(&f) >= TXS - 2);
        fixture_close(&f, false);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(copy);
    }
    vfs_memory_destroy(memory);
}

/* Precommitted, committed and discarded txs; then several random injuries at once. Whatever can be read is exactly what was written. */
static void random_injuries(void **state)
{
    struct vfs *original = vfs_memory_create();
    hash_t alh = HASH_ZERO;
    uint64_t random = 99;
    unsigned damaged = 0;
    struct fixture f;

    (void)state;
    fixture_init(&f, original);
    f.segment_bytes_first = f.segment_bytes_max = 4096;
    assert_int_equal(fixture_open(&f, true), ST_OK);
    for (uint64_t id = 1; id <= TXS; id += 4) { /* each four are written, dropped and written again */
        f.seed = 1000 + id;
        assert_int_equal(fixture_write(&f, id, id + 9, id - 1), ST_OK);
        assert_int_equal(log_batch_begin(f.log, &f.err), ST_OK);
        assert_int_equal(log_batch_discard(f.log, id - 1, &alh, &f.err), ST_OK);
        assert_int_equal(log_batch_write(f.log, id - 1, &f.err), ST_OK);
        assert_int_equal(log_sync(f.log, &f.err), ST_OK);
        log_cut(f.log, id - 1);
        f.seed = 7;
        assert_int_equal(fixture_write(&f, id, id + 3, id - 1), ST_OK);
        assert_int_equal(log_batch_begin(f.log, &f.err), ST_OK);
        assert_int_equal(log_batch_commit(f.log, id + 3, &alh, &f.err), ST_OK);
        assert_int_equal(log_batch_write(f.log, 0, &f.err), ST_OK);
        assert_int_equal(log_sync(f.log, &f.err), ST_OK);
        log_publish(f.log, id + 3);
        if (id < TXS / 3)
            assert_int_equal(log_advance_background(f.log, &f.err), ST_OK);
    }
    assert_int_equal(log_vouch(f.log, &f.err), ST_OK);
    fixture_close(&f, false);
    vfs_memory_power_cut(original, POWER_CUT_KEEP_ALL, 1);
    for (int i = 0; i < 500; i++) {
        struct vfs *copy = vfs_memory_clone(original);
        uint64_t injuries = 1 + test_random(&random) % 4, segments = 20;
        char path[PATH_BYTES_MAX];
        enum status st;

        for (uint64_t k = 0; k < injuries; k++) {
            segment_path(path, 1 + test_random(&random) % segments);
            if (test_random(&random) % 25 == 0)
                (void)!copy->ops->unlink(copy, test_random(&random) % 2 == 0 ? path : FIXTURE_DIR "/MANIFEST", NULL);
            else
                (void)!vfs_memory_flip_bit(copy, path, test_random(&random) % (4500 * 8), NULL);
        }
        fixture_init(&f, copy);
        f.segment_bytes_first = f.segment_bytes_max = 4096;
        st = fixture_open(&f, false);
        if (st != ST_OK)
            fail_msg("injury %d: %s", i, f.err.text);
        if (!f.report.is_damaged)
            assert_true(f.report.precommitted_upto == TXS);
        damaged += f.report.is_damaged ? 1 : 0;
        assert_true(f.report.precommitted_upto <= TXS + 10);
        assert_true(f.report.intact_upto <= f.report.precommitted_upto);
        for (uint64_t id = 1; id <= TXS; id++) {
            struct tx_header h;
            struct content c;

            if (log_tx_header(f.log, id, &h, &f.err) != ST_OK)
                continue;
            assert_int_equal(h.id, id);
            content_make(&f, id, &c);
            /* With a DISCARD lost, a tx from before it may show up: never as one of a log in order. */
            if (!hash_equal(&h.eh, &c.header.eh))
                assert_true(f.report.is_damaged);
            content_free(&c);
        }
        (void)fixture_scrub(&f);
        fixture_close(&f, false);
        vfs_memory_destroy(copy);
    }
    assert_true(damaged > 100);
    vfs_memory_destroy(original);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_in_acknowledged_frames),
        cmocka_unit_test(zeroed_frames),
        cmocka_unit_test(missing_shortened_and_headless_files),
        cmocka_unit_test(sealed_footers_are_replaceable),
        cmocka_unit_test(manifest_is_rebuilt),
        cmocka_unit_test(manifest_lost_with_two_generations),
        cmocka_unit_test(marks_of_derived_files),
        cmocka_unit_test(newer_formats_are_refused),
        cmocka_unit_test(scrub_finds_every_bit),
        cmocka_unit_test(the_other_generation_is_found),
        cmocka_unit_test(damage_between_sealed_segments),
        cmocka_unit_test(random_injuries),
        cmocka_unit_test(copied_segments_are_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
