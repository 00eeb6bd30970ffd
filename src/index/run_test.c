/* Proves the pieces of a run file one by one: data blocks, fences, version pages and Bloom filters against naive versions, and that the
 * bytes of a given run never change (a fixed digest: format 1 is what released files hold). */
#include "index/index_model.h"
#include "index/run.h"
#include "vfs/vfs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static struct run_identity identity(void)
{
    struct run_identity id = {.salt = 1, .run_id = 2, .tx_first = 1, .tx_last = 1000000, .file_len = 1 << 30, .path = "x"};
    id.seed = run_seed(id.uuid, id.salt, id.run_id);
    return id;
}

/* Keys in order, all searched for and all between searched for, over many key families. */
static void test_data_block(void **state)
{
    const struct run_identity id = identity();
    uint64_t rng = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct data_builder b = {.out = {NULL, 0, 0}};
        static uint8_t keys[1200][300], buf[INDEX_KEY_LEN_MAX + 1];
        size_t lens[1200], count = 0;
        struct model m = {0};

        for (int i = 0; i < 1000; i++) { /* the model sorts */
            struct index_entry e = {5, model_key_make(&rng, 1 + (uint32_t)(round * 7), buf), {1, 0, 0, 0, false, false}};
            if (round % 3 == 0) { /* deep common prefixes */
                memmove(buf + 150, buf, e.key.len > 100 ? 100 : e.key.len);
                memset(buf, 'p', 150);
                e.key = bytes_of(buf, 150 + (e.key.len > 100 ? 100 : e.key.len));
            }
            if (e.key.len <= 300 && model_find(&m, 5, e.key) == NULL)
                model_add(&m, &e);
        }
        for (; count < m.count && (count == 0 || b.out.len < DATA_BYTES_TARGET); count++) {
            struct index_version v = {1 + count, (uint32_t)count, 3, 0, false, false};
            uint8_t payload[PAYLOAD_BYTES_MAX];
            memcpy(keys[count], m.keys[count]->key, m.keys[count]->key_len);
            lens[count] = m.keys[count]->key_len;
            assert_true(
                data_block_add(&b, (struct index_key){5, bytes_of(keys[count], lens[count])}, payload, run_payload_put_inline(payload, 1, &v, 1)));
        }
        assert_true(data_block_finish(&b));
        run_block_seal(b.out.data, id.seed, 4096);
        assert_int_equal(run_block_check(&id, BLOCK_DATA, 4096, b.out.data, b.out.len, NULL), ST_OK);
        assert_int_equal(run_block_check(&id, BLOCK_DATA, 4097, b.out.data, b.out.len, NULL), ST_CORRUPT);
        assert_int_equal(run_block_check(&id, BLOCK_FENCE, 4096, b.out.data, b.out.len, NULL), ST_CORRUPT);
        for (size_t i = 0; i < count; i++) {
            struct data_entry e;
            struct payload p;
            struct index_version v;
            uint64_t tx = 1;
            bool equal;

            assert_int_equal(data_block_search(b.out.data, bytes_of(keys[i], lens[i]), &equal), i);
            assert_true(equal);
            data_block_entry(b.out.data, (uint32_t)i, &e);
            assert_true(e.shared + e.suffix_len == lens[i] && memcmp(e.head, keys[i], e.shared) == 0 &&
                        memcmp(e.suffix, keys[i] + e.shared, e.suffix_len) == 0);
            run_payload_read(e.payload, 1, &p);
            (void)version_get(p.versions, true, &tx, &v);
            assert_true(p.count == 1 && v.tx_id == 1 + i && v.entry_index == i);
        }
        for (int i = 0; i < 300; i++) {
            struct bytes key = model_key_make(&rng, 1000, buf);
            size_t below = 0;
            bool equal, found = false;

            if (key.len > 300)
                continue;
            if (i % 2 == 0) { /* near a key that is there */
                size_t at = model_below(&rng, count);
                memcpy(buf, keys[at], lens[at]);
                key = bytes_of(buf, model_below(&rng, lens[at] + 1));
                if (key.len > 0 && i % 4 == 0)
                    buf[key.len - 1] ^= (uint8_t)(1u << model_below(&rng, 8));
            }
            while (below < count && bytes_compare(bytes_of(keys[below], lens[below]), key) < 0)
                below++;
            found = below < count && bytes_equal(bytes_of(keys[below], lens[below]), key);
            assert_int_equal(data_block_search(b.out.data, key, &equal), below);
            assert_int_equal(equal, found);
        }
        grow_free(&b.out);
        model_free(&m);
    }
}

/* A sealed block with wrong contents is refused: every byte set to other values behind a right checksum must not crash a reader. */
static void test_structure_is_checked(void **state)
{
    const struct run_identity id = identity();
    struct data_builder b = {.out = {NULL, 0, 0}};
    size_t refused = 0, len;
    uint8_t *copy;

    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        struct index_version v[3] = {{1 + i, i, 3, 0, false, false}, {100 + i, i, 300, 5, true, true}, {2000 + i, i, 3, 0, false, false}};
        uint8_t payload[PAYLOAD_BYTES_MAX];
        char key[16];
        (void)snprintf(key, sizeof key, "key%04u", i);
        assert_true(data_block_add(&b, (struct index_key){5, bytes_str(key)}, payload, run_payload_put_inline(payload, 1, v, 1 + i % 3)));
    }
    assert_true(data_block_finish(&b));
    len = b.out.len;
    copy = malloc(len);
    assert_non_null(copy);
    for (size_t at = 4; at < len; at++) {
        for (unsigned value = 1; value < 256; value += at < 16 || at > len - 120 ? 1 : 7) {
            bool equal;
            memcpy(copy, b.out.data, len);
            copy[at] ^= (uint8_t)value;
            store_u32le(copy, run_checksum(id.seed, 0, copy + 4, len - 4));
            if (run_block_check(&id, BLOCK_DATA, 0, copy, len, NULL) != ST_OK) {
                refused++;
                continue;
            }
            for (uint32_t i = 0; i < block_count(copy); i++) { /* it passed: then it can be read */
                struct data_entry e;
                struct payload p;
                data_block_entry(copy, i, &e);
                run_payload_read(e.payload, 1, &p);
                (void)data_block_search(copy, bytes_of(e.suffix, e.suffix_len), &equal);
            }
        }
    }
    assert_true(refused > len);
    free(copy);
    grow_free(&b.out);
}

static void test_version_page(void **state)
{
    const struct run_identity id = identity();
    uint64_t rng = 3;

    (void)state;
    for (int round = 0; round < 400; round++) {
        uint32_t count = 1 + (uint32_t)model_below(&rng, round % 4 == 0 ? VERSION_PAGE_MAX : 70);
        struct index_version *v = calloc(count, sizeof *v), got;
        struct grow g = {NULL, 0, 0};
        uint64_t tx = 1 + model_below(&rng, 100);

        assert_non_null(v);
        for (uint32_t i = 0; i < count; i++) {
            v[i].tx_id = tx;
            tx += 1 + model_below(&rng, round % 2 == 0 ? 3 : 900);
            v[i].entry_index = (uint32_t)model_below(&rng, round % 3 == 0 ? INDEX_ENTRY_INDEX_MAX : 20);
            v[i].value_len = (uint32_t)model_below(&rng, round % 5 == 0 ? UINT32_MAX : 200);
            v[i].is_deleted = round % 7 == 0 && model_below(&rng, 3) == 0;
            v[i].has_expiry = round % 11 == 0 && model_below(&rng, 3) == 0;
            v[i].expires_at = v[i].has_expiry ? (int64_t)model_random(&rng) : 0;
        }
        assert_true(version_page_put(&g, v, count));
        run_block_seal(g.data, id.seed, 999);
        assert_int_equal(run_block_check(&id, BLOCK_VERSIONS, 999, g.data, g.len, NULL), ST_OK);
        for (uint32_t i = 0; i < count; i++) {
            version_page_nth(g.data, i, &got);
            assert_memory_equal(&got.tx_id, &v[i].tx_id, sizeof got.tx_id);
            assert_true(got.entry_index == v[i].entry_index && got.value_len == v[i].value_len && got.is_deleted == v[i].is_deleted &&
                        got.has_expiry == v[i].has_expiry && got.expires_at == v[i].expires_at);
            assert_int_equal(version_page_upto(g.data, v[i].tx_id), i + 1);
            assert_int_equal(version_page_upto(g.data, v[i].tx_id - 1), i);
        }
        grow_free(&g);
        free(v);
    }
}

/* The same for pages of versions. */
static void test_version_structure(void **state)
{
    const struct run_identity id = identity();
    struct index_version v[40], got;
    struct grow g = {NULL, 0, 0};
    size_t refused = 0, len;
    uint8_t *copy;

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        v[i] = (struct index_version){100 + 3 * i, i, 5 * i, i % 3 == 0 ? 7 : 0, i % 2 == 0, i % 3 == 0};
    assert_true(version_page_put(&g, v, 40));
    len = g.len;
    copy = malloc(len);
    assert_non_null(copy);
    for (size_t at = 4; at < len; at++) {
        for (unsigned value = 1; value < 256; value++) {
            memcpy(copy, g.data, len);
            copy[at] ^= (uint8_t)value;
            store_u32le(copy, run_checksum(id.seed, 0, copy + 4, len - 4));
            if (run_block_check(&id, BLOCK_VERSIONS, 0, copy, len, NULL) != ST_OK) {
                refused++;
                continue;
            }
            for (uint32_t i = 0; i < block_count(copy); i++)
                version_page_nth(copy, i, &got);
            (void)version_page_upto(copy, 120);
        }
    }
    assert_true(refused > 1000);
    free(copy);
    grow_free(&g);
}

static void test_bloom(void **state)
{
    enum { KEYS = 30000 };
    uint64_t *hashes = calloc(KEYS, sizeof *hashes);
    struct grow g = {NULL, 0, 0};
    uint32_t lines = bloom_lines(KEYS);
    size_t wrong = 0;

    (void)state;
    assert_non_null(hashes);
    for (uint32_t i = 0; i < KEYS; i++)
        hashes[i] = index_key_hash((struct index_key){0, bytes_of(&i, sizeof i)});
    assert_true(bloom_build(&g, hashes, KEYS));
    for (uint32_t i = 0; i < 2 * KEYS; i++) {
        uint64_t h = index_key_hash((struct index_key){0, bytes_of(&i, sizeof i)});
        uint32_t line = bloom_line(h, lines);
        bool has = bloom_line_has(g.data + (line / BLOOM_PAGE_LINES) * BLOOM_PAGE_LEN + BLOOM_LINE_LEN + (line % BLOOM_PAGE_LINES) * BLOOM_LINE_LEN,
                                  h);
        if (i < KEYS)
            assert_true(has);
        else
            wrong += has;
    }
    assert_true(wrong < KEYS / 50); /* 10 bits per key: a little above 1 % */
    grow_free(&g);
    free(hashes);
}

static void fixed_random(void *ctx, void *out, size_t len)
{
    (void)ctx;
    memset(out, 0x5a, len);
}

/* The key hash and the bytes of a run are part of the format. */
static void test_format_is_fixed(void **state)
{
    static const char *const texts[] = {"", "a", "0123456789abcdef", "0123456789abcdefg"};
    static const uint64_t hashes[] = {0x55ba897d2af3577cull, 0x43295f57dda68745ull, 0xa25654aeabb13e62ull, 0x41ccf2bd280b147bull};
    struct vfs *vfs = vfs_memory_create();
    struct run_writer *w = NULL;
    struct run_expect expect;
    uint8_t uuid[16] = "fixed", *image = NULL;
    size_t len = 0;
    struct env env = *bed_env();

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(index_key_hash((struct index_key){(uint32_t)i, bytes_str(texts[i])}), hashes[i]);
    env.random = fixed_random;
    assert_int_equal(run_writer_open(vfs, &env, "r", uuid, 7, 10, 5000, &w, NULL), ST_OK);
    for (uint32_t ns = 0; ns < 3; ns++) {
        for (unsigned i = 0; i < 400; i++) {
            unsigned versions = i == 20 ? 3000 : i == 30 ? 70 : 1 + i % 5;
            char key[16];

            (void)snprintf(key, sizeof key, "key%06u", i);
            assert_int_equal(run_writer_key(w, (struct index_key){ns, bytes_str(key)}, versions, NULL), ST_OK);
            for (unsigned v = 0; v < versions; v++) {
                struct index_version one = {10 + v, i, v * 3, v % 2 != 0 ? -5 : 0, v % 2 != 0, v % 3 == 0};
                assert_int_equal(run_writer_versions(w, &one, 1, NULL), ST_OK);
            }
        }
    }
    assert_int_equal(run_writer_finish(w, &expect, NULL), ST_OK);
    run_writer_close(w);
    assert_int_equal(vfs_read_all(vfs, "r", 1 << 24, &image, &len, NULL), ST_OK);
    assert_int_equal(len, expect.file_len);
    assert_int_equal(len, 157171);
    assert_int_equal(crc32c(0, image, len), 0xbe36565b);
    free(image);
    vfs_memory_destroy(vfs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_block),   cmocka_unit_test(test_structure_is_checked),
        cmocka_unit_test(test_version_page), cmocka_unit_test(test_version_structure),
        cmocka_unit_test(test_bloom),        cmocka_unit_test(test_format_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
