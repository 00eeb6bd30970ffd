/* Segment header, frame header, offset pages, frontier block, trailer: they come back as they were written, at the byte offsets of docs/format.md; every
 * single flipped bit is noticed; what belongs to another place, segment, salt or database is not accepted. */
#include "log/log_fixture.h"

static const uint8_t uuid[16] = "sixteen bytes ..", salt[8] = "eight b";

#define FLIP_ALL(bytes, still_good) \
    for (size_t bit_ = 0; bit_ < sizeof(bytes) * 8; bit_++) { \
        (bytes)[bit_ / 8] ^= (uint8_t)(1u << bit_ % 8); \
        assert_false(still_good); \
        (bytes)[bit_ / 8] ^= (uint8_t)(1u << bit_ % 8); \
    }

static void segment_headers(void **state)
{
    struct segment_header h = {.segment_no = 12, .generation = 3, .values_removed = true, .first_tx_id = 99, .epoch = 4, .created_ns = 5}, got;
    uint8_t bytes[SEGMENT_HEADER_BYTES];
    struct err err;

    (void)state;
    memcpy(h.uuid, uuid, 16);
    memcpy(h.salt, salt, 8);
    segment_header_encode(&h, bytes);
    assert_memory_equal(bytes, "IMMULOG1", 8);
    assert_int_equal(load_u32le(bytes + 8), 1);
    assert_int_equal(load_u32le(bytes + 20), 512);
    assert_memory_equal(bytes + 24, uuid, 16);
    assert_int_equal(load_u64le(bytes + 40), 12);
    assert_memory_equal(bytes + 72, salt, 8);
    assert_int_equal(segment_header_decode(bytes, &got, &err), ST_OK);
    assert_memory_equal(&h, &got, sizeof h);
    FLIP_ALL(bytes, segment_header_decode(bytes, &got, &err) == ST_OK);
    store_u32le(bytes + 8, 2);
    store_u32le(bytes + 508, crc32c(0, bytes, 508));
    assert_int_equal(segment_header_decode(bytes, &got, &err), ST_UNSUPPORTED);
    store_u32le(bytes + 8, 1);
    store_u32le(bytes + 16, 0xff); /* compat flags */
    store_u32le(bytes + 508, crc32c(0, bytes, 508));
    assert_int_equal(segment_header_decode(bytes, &got, &err), ST_OK);
    store_u64le(bytes + 40, 0);
    store_u32le(bytes + 508, crc32c(0, bytes, 508));
    assert_int_equal(segment_header_decode(bytes, &got, &err), ST_CORRUPT);
}

static void frame_headers(void **state)
{
    struct frame_header h = {.body_crc = 1,
                             .prev_crc = 2,
                             .len = 1000,
                             .batch = 7,
                             .first_tx_id = 5,
                             .last_tx_id = 9,
                             .committed_upto = 4,
                             .synced_batch = 6,
                             .record_count = 5},
                        got;
    uint32_t seed = segment_seed(uuid, salt, 1), place = segment_place_seed(seed, 512);
    uint8_t bytes[FRAME_HEADER_BYTES], again[FRAME_HEADER_BYTES], other[16] = "another database", other_salt[8] = "salt";

    (void)state;
    frame_header_encode(&h, place, bytes);
    assert_memory_equal(bytes, "FRAM", 4);
    assert_int_equal(load_u64le(bytes + 24), 7);
    assert_true(frame_header_decode(bytes, place, &got));
    frame_header_encode(&got, place, again);
    assert_memory_equal(bytes, again, sizeof bytes);
    FLIP_ALL(bytes, frame_header_decode(bytes, place, &got));
    assert_false(frame_header_decode(bytes, segment_place_seed(seed, 576), &got));
    assert_false(frame_header_decode(bytes, segment_place_seed(segment_seed(uuid, salt, 2), 512), &got));
    assert_false(frame_header_decode(bytes, segment_place_seed(segment_seed(other, salt, 1), 512), &got));
    assert_false(frame_header_decode(bytes, segment_place_seed(segment_seed(uuid, other_salt, 1), 512), &got));
    memset(bytes, 0, sizeof bytes);
    assert_false(frame_header_decode(bytes, place, &got));
    for (int what = 0; what < 5; what++) { /* checksum right, fields wrong */
        struct frame_header bad = h;

        if (what == 0)
            bad.synced_batch = 7;
        else if (what == 1)
            bad.len = 79;
        else if (what == 2)
            bad.first_tx_id = 10;
        else if (what == 3)
            bad.record_count = 0;
        else
            bad.len = UINT64_MAX;
        frame_header_encode(&bad, place, bytes);
        assert_false(frame_header_decode(bytes, place, &got));
    }
}

static void footers(void **state)
{
    static uint8_t page[OFFSET_PAGE_BYTES], block[FRONTIER_BLOCK_BYTES], trailer[SEGMENT_TRAILER_BYTES];
    static struct frontier f, back;
    uint32_t units[OFFSET_PAGE_TXS];
    struct segment_trailer t = {.has_frontier = true,
                                .segment_no = 2,
                                .generation = 1,
                                .first_tx_id = 10,
                                .last_tx_id = 10 + 2 * OFFSET_PAGE_TXS,
                                .first_batch = 3,
                                .last_batch = 8,
                                .chain_begin = 5,
                                .chain_end = 6,
                                .body_end = 64000,
                                .ts_min = 1,
                                .ts_max = 9,
                                .sealed_ns = 3,
                                .end_tx_id = 5000},
                           got;
    uint64_t at;

    (void)state;
    for (uint32_t i = 0; i < OFFSET_PAGE_TXS; i++)
        units[i] = 100 + i * 3;
    for (size_t count = 1; count <= OFFSET_PAGE_TXS; count += 339) {
        offset_page_encode(page, -5, units, count, 7777, 3);
        assert_true(offset_page_is_valid(page, 3));
        assert_false(offset_page_is_valid(page, 4));
        assert_int_equal(offset_page_ts_max(page), -5);
        for (size_t i = 0; i <= OFFSET_PAGE_TXS; i++)
            assert_int_equal(offset_page_at(page, i), 8 * (uint64_t)(i < count ? units[i] : 7777));
    }
    for (size_t bit = 0; bit < sizeof page * 8; bit += 3) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(offset_page_is_valid(page, 3));
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    f.size = 0x8000000000000005u;
    memset(f.nodes[0].b, 1, HASH_LEN);
    memset(f.nodes[2].b, 2, HASH_LEN);
    memset(f.nodes[63].b, 3, HASH_LEN);
    frontier_block_encode(block, &f, 3);
    assert_true(frontier_block_decode(block, 3, &back));
    assert_memory_equal(&f, &back, sizeof f);
    assert_false(frontier_block_decode(block, 4, &back));
    segment_trailer_layout(&t);
    assert_int_equal(t.page_count, 3);
    assert_int_equal(t.file_bytes, 64000 + 3 * 4096 + 2064 + 256);
    at = t.file_bytes - SEGMENT_TRAILER_BYTES;
    segment_trailer_encode(&t, trailer, 3);
    assert_true(segment_trailer_decode(trailer, 3, at, &got));
    assert_memory_equal(&t, &got, sizeof t);
    assert_false(segment_trailer_decode(trailer, 3, at + 64, &got)); /* contradicts its own layout */
    FLIP_ALL(trailer, segment_trailer_decode(trailer, 3, at, &got));
    t.last_tx_id = t.end_tx_id = 9; /* no tx at all */
    segment_trailer_layout(&t);
    assert_int_equal(t.page_count, 0);
    at = t.file_bytes - SEGMENT_TRAILER_BYTES;
    segment_trailer_encode(&t, trailer, 3);
    assert_true(segment_trailer_decode(trailer, 3, at, &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_headers),
        cmocka_unit_test(frame_headers),
        cmocka_unit_test(footers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
