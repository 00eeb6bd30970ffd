/* The manifest: what is appended is there after loading; a torn append is ignored and overwritten; a flipped bit anywhere is either a torn append (in the last
 * record) or damage, never another content; crash at every operation of appends and rewrites leaves the old or the new state. */
#include "log/log_fixture.h"

#define DIR "m"

static struct manifest_entry entry(uint64_t no, uint32_t generation, bool sealed)
{
    struct manifest_entry e = {.segment_no = no, .generation = generation, .is_sealed = sealed, .values_removed = generation > 0};

    store_u64le(e.salt, no * 1000 + generation);
    if (sealed) {
        e.first_tx_id = no * 10;
        e.last_tx_id = e.end_tx_id = no * 10 + 9;
        e.last_batch = no * 3;
        e.file_bytes = no * 4096;
        e.chain_end = (uint32_t)no * 77;
    }
    return e;
}

static void check_same(const struct manifest *a, const struct manifest *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->uuid, b->uuid, 16);
    for (size_t i = 0; i < a->count; i++) {
        const struct manifest_entry *x = &a->entries[i], *y = &b->entries[i];

        assert_int_equal(x->segment_no, y->segment_no);
        assert_int_equal(x->generation, y->generation);
        assert_int_equal(x->is_sealed, y->is_sealed);
        assert_int_equal(x->values_removed, y->values_removed);
        assert_memory_equal(x->salt, y->salt, 8);
        assert_int_equal(x->first_tx_id, y->first_tx_id);
        assert_int_equal(x->last_tx_id, y->last_tx_id);
        assert_int_equal(x->end_tx_id, y->end_tx_id);
        assert_int_equal(x->last_batch, y->last_batch);
        assert_int_equal(x->file_bytes, y->file_bytes);
        assert_int_equal(x->chain_end, y->chain_end);
    }
}

static void fill(struct manifest *m, struct vfs *v, uint64_t segments)
{
    struct err err;

    manifest_init(m);
    memcpy(m->uuid, "manifest of test", 16);
    assert_int_equal(v->ops->mkdir(v, DIR, &err), ST_OK);
    assert_int_equal(v->ops->sync_dir(v, ".", &err), ST_OK);
    assert_int_equal(manifest_rewrite(m, v, DIR, &err), ST_OK);
    for (uint64_t no = 1; no <= segments; no++) {
        struct manifest_entry e[3] = {entry(no, 0, false), entry(no, 0, true), entry(no, 1, true)};

        for (uint64_t i = 0; i < 1 + no % 3; i++)
            assert_int_equal(manifest_append(m, v, DIR, &e[i], &err), ST_OK);
    }
}

static void appended_is_loaded(void **state)
{
    struct vfs *v = vfs_memory_create();
    struct manifest m, loaded;
    enum manifest_state s;
    struct err err;

    (void)state;
    fill(&m, v, 40);
    assert_int_equal(manifest_load(v, DIR, &loaded, &s, &err), ST_OK);
    assert_int_equal(s, MANIFEST_GOOD);
    check_same(&m, &loaded);
    assert_int_equal(loaded.record_count, m.record_count);
    manifest_free(&loaded);
    assert_int_equal(manifest_rewrite(&m, v, DIR, &err), ST_OK);
    assert_int_equal(manifest_load(v, DIR, &loaded, &s, &err), ST_OK);
    check_same(&m, &loaded);
    manifest_free(&loaded);
    assert_int_equal(v->ops->unlink(v, DIR "/MANIFEST", &err), ST_OK);
    assert_int_equal(manifest_load(v, DIR, &loaded, &s, &err), ST_OK);
    assert_int_equal(s, MANIFEST_MISSING);
    manifest_free(&m);
    vfs_memory_destroy(v);
}

static void many_switches_are_compacted(void **state)
{
    struct vfs *v = vfs_memory_create();
    struct manifest m, loaded;
    enum manifest_state s;
    struct err err;

    (void)state;
    fill(&m, v, 3);
    for (uint32_t g = 2; g < 9000; g++) {
        struct manifest_entry e = entry(1 + g % 3, g, true);

        assert_int_equal(manifest_append(&m, v, DIR, &e, &err), ST_OK);
        assert_true(m.record_count < 5000);
    }
    assert_int_equal(manifest_load(v, DIR, &loaded, &s, &err), ST_OK);
    check_same(&m, &loaded);
    manifest_free(&loaded);
    manifest_free(&m);
    vfs_memory_destroy(v);
}

static void flipped_bits_and_cuts(void **state)
{
    struct vfs *v = vfs_memory_create();
    struct manifest m, got;
    uint8_t *file;
    struct err err;
    size_t len;

    (void)state;
    fill(&m, v, 6);
    assert_int_equal(vfs_read_all(v, DIR "/MANIFEST", 1 << 20, &file, &len, &err), ST_OK);
    for (size_t bit = 0; bit < len * 8; bit++) {
        enum status st;

        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        st = manifest_parse(bytes_of(file, len), &got, &err);
        if (bit / 8 >= len - MANIFEST_RECORD_BYTES) {
            assert_int_equal(st, ST_OK);
            assert_int_equal(got.record_count, m.record_count - 1);
        } else {
            assert_int_not_equal(st, ST_OK);
            assert_null(got.entries);
        }
        manifest_free(&got);
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut <= len; cut++) {
        enum status st = manifest_parse(bytes_of(file, cut), &got, &err);

        assert_int_equal(st, cut < MANIFEST_HEADER_BYTES ? ST_CORRUPT : ST_OK);
        if (st == ST_OK)
            assert_int_equal(got.record_count, (cut - MANIFEST_HEADER_BYTES) / MANIFEST_RECORD_BYTES);
        manifest_free(&got);
    }
    free(file);
    manifest_free(&m);
    vfs_memory_destroy(v);
}

static void crash_at_every_operation(void **state)
{
    bool fired = true;

    (void)state;
    for (uint64_t n = 1; fired; n++) {
        struct vfs *v = vfs_memory_create(), *faulty = vfs_faulty_create(v);
        struct manifest_entry steps[3] = {entry(6, 0, false), entry(3, 7, true), entry(6, 0, true)};
        struct manifest m, loaded;
        enum manifest_state s;
        struct err err;
        int done = 0, found;

        fill(&m, v, 5);
        vfs_memory_power_cut(v, POWER_CUT_KEEP_ALL, 1);
        vfs_faulty_arm(faulty, FAULT_STOP_TORN, n, n);
        while (done < 3 && manifest_append(&m, faulty, DIR, &steps[done], &err) == ST_OK &&
               (done != 1 || manifest_rewrite(&m, faulty, DIR, &err) == ST_OK))
            done++;
        fired = vfs_faulty_fired(faulty);
        for (uint64_t mode = 0; mode < 6; mode++) {
            struct vfs *copy = vfs_memory_clone(v);

            vfs_memory_power_cut(copy, mode < 2 ? (enum power_cut_mode)mode : POWER_CUT_RANDOM, n * 10 + mode);
            assert_int_equal(manifest_load(copy, DIR, &loaded, &s, &err), ST_OK);
            assert_int_equal(s, MANIFEST_GOOD);
            found = loaded.count < 6 ? 0 : loaded.entries[5].is_sealed ? 3 : loaded.entries[2].generation == 7 ? 2 : 1;
            assert_true(found >= done && found <= done + 1);
            manifest_free(&loaded);
            vfs_memory_destroy(copy);
        }
        manifest_free(&m);
        vfs_faulty_destroy(faulty);
        vfs_memory_destroy(v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_is_loaded),
        cmocka_unit_test(many_switches_are_compacted),
        cmocka_unit_test(flipped_bits_and_cuts),
        cmocka_unit_test(crash_at_every_operation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
