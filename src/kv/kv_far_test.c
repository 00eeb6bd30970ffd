/* Proves that reads which leave large values in the log find the same entries as reads that do not, with the same bytes where the values were left, and take no memory
 * for them; that references and what looks at kinds alone are not misled; and that nothing is left without waiting.
 *
 * How: a store in memory with values and references of all sizes; each entry is read both ways, the value that was left is read in pieces. */
#include "kv/kv_fixture.h"

#define VALUE_MAX 1200000u /* no block of the cache is so large */

static uint8_t content[VALUE_MAX + 1];

static struct bytes value_of(size_t len) { return bytes_of(content, len); }

static void content_fill(void)
{
    uint64_t seed = 3;

    test_random_fill(&seed, content, sizeof content);
}

static uint64_t put_value(struct bytes key, struct bytes value)
{
    struct store_draft *d = draft();

    OK(kv_draft_set(d, &f.arena, key, NULL, value, &err));
    return commit(d);
}

/* Of the value of e, read where it was left. */
static void same_value(const struct kv_entry *e, struct bytes value, size_t far_bytes)
{
    uint8_t *all;
    struct log_value v;

    assert_int_equal(e->value.len, value.len);
    if (e->far.tx_id == 0) {
        assert_true(value.len + 1 < far_bytes);
        assert_true(bytes_equal(e->value, value));
        return;
    }
    assert_null(e->value.data);
    assert_true(value.len + 1 >= far_bytes);
    assert_true(e->far.skip <= 1);
    all = malloc(value.len + 1);
    assert_non_null(all);
    OK(store_value_open(f.store, e->far.tx_id, e->far.entry_index, &v, &err));
    assert_int_equal(v.len, value.len + e->far.skip);
    OK(store_value_read(f.store, &v, all, e->far.skip, &err));
    OK(store_value_read(f.store, &v, all, value.len, &err));
    assert_memory_equal(all, value.data, value.len);
    store_value_close(&v);
    free(all);
}

static struct kv_reader far_reader(size_t far_bytes, size_t keep_max)
{
    struct kv_reader r = reader_now();

    kv_reader_far(&r, far_bytes, keep_max);
    return r;
}

static const size_t LENS[] = {0, 1, 63, 64, 65, 2046, 2047, 2048, 5000, 65534, 65535, 65536, 262142, 262143, 262144, VALUE_MAX};
enum { LENS_COUNT = sizeof LENS / sizeof LENS[0] };

static void all_kinds_of_reads(void **state)
{
    static const size_t fars[] = {2048, 65536, KV_FAR_BYTES};
    uint64_t tx_ids[LENS_COUNT];
    char key[32], ref[32];

    (void)state;
    content_fill();
    for (size_t i = 0; i < LENS_COUNT; i++) {
        snprintf(key, sizeof key, "k%02zu", i);
        snprintf(ref, sizeof ref, "r%02zu", i);
        tx_ids[i] = put_value(S(key), value_of(LENS[i]));
        (void)put_ref(ref, key, 0);
        zadd("set", (double)i, key, 0);
    }
    for (size_t k = 0; k < sizeof fars / sizeof fars[0]; k++)
        for (int round = 0; round < 3; round++) { /* not cached, cached soon, cached as a whole where that is done */
            struct kv_reader r = far_reader(fars[k], SIZE_MAX);
            struct kv_scan_options o = {.prefix = S("k"), .limit = 100};
            struct kv_zscan_options zo = {.set = S("set"), .limit = 100};
            struct kv_zscan zs;
            struct kv_zentry z;
            struct kv_scan scan;
            struct kv_entry e;
            size_t i;

            OK(kv_scan_open(&scan, &r, &o, &err));
            for (i = 0; i < LENS_COUNT; i++) {
                OK(kv_scan_next(&scan, &e, &err));
                same_value(&e, value_of(LENS[i]), fars[k]);
            }
            kv_scan_close(&scan);
            OK(kv_zscan_open(&zs, &r, &zo, &err));
            for (i = 0; i < LENS_COUNT; i++) {
                OK(kv_zscan_next(&zs, &z, &err));
                same_value(&z.entry, value_of(LENS[i]), fars[k]);
            }
            kv_zscan_close(&zs);
            for (i = 0; i < LENS_COUNT; i++) {
                const struct kv_tx_spec raw = {.is_given = true, .kv = KV_RAW}, resolve = {.is_given = true, .kv = KV_RESOLVE};
                struct kv_history h;
                struct kv_tx_read t;

                snprintf(key, sizeof key, "k%02zu", i);
                snprintf(ref, sizeof ref, "r%02zu", i);
                OK(kv_get_latest(&r, S(key), &e, &err));
                same_value(&e, value_of(LENS[i]), fars[k]);
                OK(kv_get_latest(&r, S(ref), &e, &err));
                assert_true(e.has_reference && is(e.key, key) && is(e.reference.key, ref));
                same_value(&e, value_of(LENS[i]), fars[k]);
                OK(kv_get_at(&r, S(key), tx_ids[i], &e, &err));
                same_value(&e, value_of(LENS[i]), fars[k]);
                OK(kv_history_open(&h, &r, S(key), 0, 0, false, &err));
                OK(kv_history_next(&h, &e, &err));
                same_value(&e, value_of(LENS[i]), fars[k]);
                OK(kv_tx_open(&t, &r, tx_ids[i], &resolve, &err));
                assert_int_equal(t.tx.kv_entry_count, 1);
                same_value(&t.tx.kv_entries[0], value_of(LENS[i]), fars[k]);
                kv_tx_close(&t);
                OK(kv_tx_open(&t, &r, tx_ids[i], &raw, &err));
                assert_int_equal(t.tx.entry_count, 1);
                assert_int_equal(t.tx.entries[0].value.len, LENS[i] + 1);
                assert_true((t.tx.entry_fars != NULL && t.tx.entry_fars[0].tx_id != 0) == (LENS[i] + 1 >= fars[k]));
                if (t.tx.entry_fars == NULL) {
                    assert_memory_equal(t.tx.entries[0].value.data + 1, content, LENS[i]);
                } else {
                    assert_true(t.tx.entry_fars[0].skip == 0 && t.tx.entry_fars[0].tx_id == tx_ids[i] && t.tx.entries[0].value.data == NULL);
                }
                kv_tx_close(&t);
            }
            kv_reader_close(&r);
        }
}

/* A reference may be longer than values that are left: it is followed all the same. */
static void long_references(void **state)
{
    static char key[1001];
    struct kv_tx_spec spec = {.is_given = true, .kv = KV_RESOLVE};
    struct kv_reader r;
    struct kv_entry e;
    struct kv_tx_read t;
    uint64_t tx_id;

    (void)state;
    content_fill();
    memset(key, 'x', sizeof key - 1);
    (void)put_value(S(key), value_of(100000));
    tx_id = put_ref("ref", key, 0);
    for (int round = 0; round < 3; round++) {
        r = far_reader(500, SIZE_MAX);
        OK(kv_get_latest(&r, S("ref"), &e, &err));
        assert_true(e.has_reference && is(e.key, key));
        same_value(&e, value_of(100000), 500);
        OK(kv_tx_open(&t, &r, tx_id, &spec, &err));
        assert_true(t.tx.kv_entry_count == 1 && t.tx.kv_entries[0].has_reference);
        same_value(&t.tx.kv_entries[0], value_of(100000), 500);
        kv_tx_close(&t);
        spec.keep_references = true;
        OK(kv_tx_open(&t, &r, tx_id, &spec, &err));
        assert_true(t.tx.kv_entry_count == 1 && t.tx.kv_entries[0].has_reference && t.tx.kv_entries[0].far.tx_id == 0 &&
                    is(t.tx.kv_entries[0].key, key));
        kv_tx_close(&t);
        spec.keep_references = false;
        kv_reader_close(&r);
    }
}

/* Large values cost no memory, and a long list of middling ones only as much as is allowed. */
static void memory(void **state)
{
    struct kv_get_options o = {.key = S("large"), .deadline_ns = UINT64_MAX};
    struct kv_scan_options so = {.prefix = S("m"), .limit = 1000};
    struct kv_tx_spec raw = {.is_given = true, .kv = KV_RAW};
    struct store_draft *d = draft();
    struct kv_tx_read t;
    struct kv_reader r;
    struct kv_scan scan;
    struct kv_entry e;
    struct arena arena, small;
    size_t left = 0;
    uint64_t tx_id;
    char key[16];

    (void)state;
    content_fill();
    (void)put_value(S("large"), value_of(VALUE_MAX));
    arena_init(&arena, 4096, 0);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "m%03u", i);
        OK(kv_draft_set(d, &arena, S(key), NULL, value_of(10000), &err));
    }
    tx_id = commit(d);
    arena_free(&arena);
    arena_init(&small, 4096, 100000);
    r = reader();
    r.arena = &small;
    FAILS(kv_get(&r, &o, &e, &err), ST_NOMEM, err.text);
    kv_reader_close(&r);
    arena_reset(&small);
    r = reader();
    r.arena = &small;
    kv_reader_far(&r, KV_FAR_BYTES, 1000000);
    OK(kv_get(&r, &o, &e, &err));
    same_value(&e, value_of(VALUE_MAX), KV_FAR_BYTES);
    kv_reader_close(&r);
    arena_free(&small);
    arena_init(&arena, 4096, 0);
    for (int way = 0; way < 2; way++) {
        r = far_reader(KV_FAR_BYTES, 1000000);
        r.arena = &arena;
        left = 0;
        if (way == 0) {
            OK(kv_scan_open(&scan, &r, &so, &err));
            for (unsigned i = 0; i < 300; i++) {
                OK(kv_scan_next(&scan, &e, &err));
                assert_int_equal(e.value.len, 10000);
                left += e.far.tx_id != 0;
            }
            kv_scan_close(&scan);
        } else {
            OK(kv_tx_open(&t, &r, tx_id, &raw, &err));
            for (unsigned i = 0; i < 300; i++)
                left += t.tx.entry_fars[i].tx_id != 0;
            kv_tx_close(&t);
        }
        assert_true(left >= 190 && left <= 210); /* a hundred times 10,001 bytes were read */
        kv_reader_close(&r);
    }
    assert_true(arena.bytes_used < 3000000);
    arena_free(&arena);
}

/* Without waiting nothing is left: that is for another thread. Who asks for the kind alone reads no value. */
static void kinds_and_waiting(void **state)
{
    enum kv_presence presence;
    struct kv_reader r;
    struct kv_entry e;
    struct arena small;

    (void)state;
    content_fill();
    (void)put_value(S("large"), value_of(VALUE_MAX));
    (void)put_value(S("small"), value_of(100));
    r = far_reader(KV_FAR_BYTES, SIZE_MAX);
    for (int round = 0; round < 3; round++) { /* what can be is in memory then */
        r.nowait = false;
        OK(kv_get_latest(&r, S("large"), &e, &err));
        OK(kv_get_latest(&r, S("small"), &e, &err));
    }
    r.nowait = true;
    assert_int_equal(kv_get_latest(&r, S("small"), &e, NULL), ST_OK);
    assert_int_equal(kv_get_latest(&r, S("large"), &e, NULL), ST_AGAIN);
    kv_reader_close(&r);
    arena_init(&small, 4096, 50000);
    r = reader_now();
    r.arena = &small;
    OK(kv_presence(&r, S("large"), 0, &presence, &err));
    assert_int_equal(presence, KV_PLAIN);
    kv_reader_close(&r);
    arena_free(&small);
    zadd("set", 1, "large", 0);
    (void)put_ref("ref", "large", 0);
    FAILS(try_ref("large", "small", 0, &(uint64_t){0}, &err), ST_INVALID, "final key cannot be converted into a reference");
}

/* A value with a byte of its own in front is stored without a copy; as it is otherwise. */
static void values_in_place(void **state)
{
    static const size_t lens[] = {0, 1, 4095, 4096, 70000};
    struct kv_entry e;
    struct arena small;

    (void)state;
    content_fill();
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        uint8_t *own = malloc(lens[i] + 1);
        struct store_draft *d = draft();
        struct kv_reader r;

        assert_non_null(own);
        memset(own, 0xff, 1);
        memcpy(own + 1, content, lens[i]);
        arena_init(&small, 256, 5000);
        OK(kv_draft_set_in_place(d, &small, S("k"), NULL, bytes_of(own + 1, lens[i]), &err));
        (void)commit(d);
        arena_free(&small);
        free(own);
        r = reader_now();
        OK(kv_get_latest(&r, S("k"), &e, &err));
        assert_true(bytes_equal(e.value, value_of(lens[i])));
        kv_reader_close(&r);
    }
    {
        struct store_draft *d = draft();

        FAILS(kv_draft_set_in_place(d, &f.arena, S(""), NULL, value_of(5000), &err), ST_INVALID, "illegal arguments");
        draft_free(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_kinds_of_reads, begin, end),
        cmocka_unit_test_setup_teardown(long_references, begin, end),
        cmocka_unit_test_setup_teardown(memory, begin, end),
        cmocka_unit_test_setup_teardown(kinds_and_waiting, begin, end),
        cmocka_unit_test_setup_teardown(values_in_place, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
