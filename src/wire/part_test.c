/* Proves that parts come out the same wherever chunks are cut, that written chunks have the published shape and read back, and
 * that announced lengths cost no memory and are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka last */
#include <cmocka.h>

#include "wire/part.h"

static struct arena arena;

#define LIT(s) bytes_of(s, sizeof(s) - 1)

static void every_cut_gives_the_same_parts(void **state)
{
    static const char input[] = "\0\0\0\0\0\0\0\2k1"
                                "\0\0\0\0\0\0\0\0"
                                "\0\0\0\0\0\0\0\5value";
    static const char *const expected[] = {"k1", "", "value"};

    (void)state;
    for (size_t cut = 1; cut < sizeof input; cut++) {
        struct part_reader p;
        struct bytes in, part;
        size_t found = 0;
        bool is_whole;

        part_reader_init(&p, &arena);
        for (size_t at = 0; at < sizeof input - 1; at += cut) {
            in = bytes_of(NULL, 0); /* a chunk without content says nothing, wherever it comes */
            assert_int_equal(part_reader_feed(&p, &in, 100, &is_whole, &part, NULL), ST_OK);
            assert_false(is_whole);
            in = bytes_of(input + at, sizeof input - 1 - at < cut ? sizeof input - 1 - at : cut);
            while (in.len > 0) {
                assert_int_equal(part_reader_feed(&p, &in, 100, &is_whole, &part, NULL), ST_OK);
                if (!is_whole)
                    continue;
                assert_true(found < 3);
                assert_true(bytes_equal(part, bytes_str(expected[found])));
                found++;
            }
        }
        assert_int_equal(found, 3);
        assert_true(part_reader_is_between(&p));
        arena_reset(&arena);
    }
}

static void lengths_are_bounded_before_memory_is_taken(void **state)
{
    struct part_reader p;
    struct bytes in, part;
    struct arena small;
    struct err err;
    bool is_whole;

    (void)state;
    arena_init(&small, 256, 100000);
    part_reader_init(&p, &small);
    in = LIT("\x80\0\0\0\0\0\0\0");
    assert_int_equal(part_reader_feed(&p, &in, UINT64_MAX, &is_whole, &part, &err), ST_INVALID);
    assert_string_equal(err.text, "illegal arguments");
    part_reader_init(&p, &small);
    in = LIT("\0\0\0\0\0\0\0\x0b");
    assert_int_equal(part_reader_feed(&p, &in, 10, &is_whole, &part, &err), ST_LIMIT);
    part_reader_init(&p, &small);
    in = LIT("\0\0\0\0\x02\0\0\0abc"); /* 32 MiB announced, three bytes there */
    assert_int_equal(part_reader_feed(&p, &in, 32u << 20, &is_whole, &part, &err), ST_OK);
    assert_false(is_whole);
    assert_false(part_reader_is_between(&p));
    assert_true(small.bytes_used < 100000);
    arena_free(&small);
}

static void memory_runs_out_in_order(void **state)
{
    static uint8_t big[200000];
    struct part_reader p;
    struct bytes in, part;
    struct arena small;
    struct err err;
    bool is_whole;

    (void)state;
    arena_init(&small, 256, 100000);
    part_reader_init(&p, &small);
    store_u64be(big, sizeof big);
    in = bytes_of(big, sizeof big);
    assert_int_equal(part_reader_feed(&p, &in, 32u << 20, &is_whole, &part, &err), ST_NOMEM);
    arena_free(&small);
}

static struct bytes chunk_of(struct bytes part, size_t index, const struct wire_chunk_metadata *md, size_t md_count)
{
    size_t size = part_chunk_size(part.len, index, md, md_count);
    uint8_t *to = arena_alloc(&arena, size);

    assert_non_null(to);
    part_chunk_write(part, index, md, md_count, to, size);
    return bytes_of(to, size);
}

/* Chunks of parts around the border sizes: contents are 64 KiB but for the last, and read back whole. */
static void written_chunks_read_back(void **state)
{
    static const size_t lens[] = {0, 1, 65527, 65528, 65529, 65528 + 65536, 65528 + 65536 + 1, 200000};
    uint8_t *data = malloc(200000);

    (void)state;
    assert_non_null(data);
    for (size_t i = 0; i < 200000; i++)
        data[i] = (uint8_t)(i * 31);
    for (size_t k = 0; k < sizeof lens / sizeof lens[0]; k++) {
        size_t count = part_chunk_count(lens[k]), total = 0;
        struct part_reader p;
        struct bytes message, content, part = {0};
        bool is_whole = false;

        part_reader_init(&p, &arena);
        for (size_t i = 0; i < count; i++) {
            message = chunk_of(bytes_of(data, lens[k]), i, NULL, 0);
            assert_int_equal(wire_unpack_chunk(message, &content, NULL), ST_OK);
            if (i + 1 < count)
                assert_int_equal(content.len, PART_CHUNK_BYTES);
            else
                assert_true(content.len > 0 && content.len <= PART_CHUNK_BYTES);
            total += content.len;
            while (content.len > 0)
                assert_int_equal(part_reader_feed(&p, &content, 32u << 20, &is_whole, &part, NULL), ST_OK);
        }
        assert_int_equal(total, lens[k] + 8);
        assert_true(is_whole);
        assert_true(bytes_equal(part, bytes_of(data, lens[k])));
        arena_reset(&arena);
    }
    free(data);
}

static void metadata_goes_with_the_first_chunk(void **state)
{
    struct wire_chunk_metadata md = {"committed-txid-bin", bytes_of("\0\0\0\0\0\0\0\3", 8)};
    struct bytes message = chunk_of(bytes_str("abc"), 0, &md, 1);
    Immudb__Schema__Chunk *c;

    (void)state;
    assert_int_equal(wire_unpack(&immudb__schema__chunk__descriptor, message, &arena, (void **)&c, NULL), ST_OK);
    assert_int_equal(c->content.len, 11);
    assert_memory_equal(c->content.data, "\0\0\0\0\0\0\0\3abc", 11);
    assert_int_equal(c->n_metadata, 1);
    assert_string_equal(c->metadata[0]->key, "committed-txid-bin");
    assert_memory_equal(c->metadata[0]->value.data, "\0\0\0\0\0\0\0\3", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_the_same_parts),     cmocka_unit_test(lengths_are_bounded_before_memory_is_taken),
        cmocka_unit_test(memory_runs_out_in_order),           cmocka_unit_test(written_chunks_read_back),
        cmocka_unit_test(metadata_goes_with_the_first_chunk),
    };
    int failed;

    arena_init(&arena, 1 << 16, 0);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
