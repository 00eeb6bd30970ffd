/* Proves that reader and writer keep their bounds at every length, fail for good, agree with each other for all integer
 * widths, and that varints have exactly one form. */
#include "base/bytes.h"
#include "base/test.h"

static void compare(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_str("")));
    assert_false(bytes_equal(bytes_str("a"), bytes_str("b")));
    assert_false(bytes_equal(bytes_str("a"), bytes_str("ab")));
    assert_true(bytes_compare(bytes_str("a"), bytes_str("ab")) < 0);
    assert_true(bytes_compare(bytes_str("b"), bytes_str("ab")) > 0);
    assert_true(bytes_compare(bytes_of("\xff", 1), bytes_of("\x01", 1)) > 0);
    assert_int_equal(bytes_compare(bytes_of(NULL, 0), bytes_of(NULL, 0)), 0);
    assert_true(bytes_compare(bytes_of(NULL, 0), bytes_str("a")) < 0);
    assert_true(bytes_has_prefix(bytes_str("abc"), bytes_str("ab")));
    assert_true(bytes_has_prefix(bytes_str("abc"), bytes_of(NULL, 0)));
    assert_false(bytes_has_prefix(bytes_str("a"), bytes_str("ab")));
}

static void write_all(struct writer *w, uint64_t v)
{
    writer_u8(w, (uint8_t)v);
    writer_u16be(w, (uint16_t)v);
    writer_u32be(w, (uint32_t)v);
    writer_u64be(w, v);
    writer_u16le(w, (uint16_t)v);
    writer_u32le(w, (uint32_t)v);
    writer_u64le(w, v);
    writer_varint(w, v);
    writer_put(w, "xyz", 3);
}

/* The same values come back from a buffer that is just large enough; every smaller buffer fails on both sides. */
static void integers_both_ways(void **state)
{
    static const uint64_t values[] = {0, 1, 0x7f, 0x80, 0xff, 0x0102030405060708, UINT64_MAX, (uint64_t)1 << 63, 0x8000};
    uint8_t buf[64];

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        uint64_t v = values[i];
        struct writer w = writer_of(buf, sizeof buf);
        struct reader r;
        size_t len;

        write_all(&w, v);
        assert_false(w.failed);
        len = writer_len(&w);
        r = reader_of(bytes_of(buf, len));
        assert_int_equal(reader_u8(&r), (uint8_t)v);
        assert_int_equal(reader_u16be(&r), (uint16_t)v);
        assert_int_equal(reader_u32be(&r), (uint32_t)v);
        assert_true(reader_u64be(&r) == v);
        assert_int_equal(reader_u16le(&r), (uint16_t)v);
        assert_int_equal(reader_u32le(&r), (uint32_t)v);
        assert_true(reader_u64le(&r) == v);
        assert_true(reader_varint(&r) == v);
        assert_true(bytes_equal(reader_bytes(&r, 3), bytes_str("xyz")));
        assert_true(reader_done(&r));
        for (size_t short_len = 0; short_len < len; short_len++) {
            uint8_t small_buf[sizeof buf];
            struct writer small = writer_of(small_buf, short_len);

            write_all(&small, v);
            assert_true(small.failed);
            r = reader_of(bytes_of(buf, short_len));
            (void)reader_take(&r, 29);
            (void)reader_varint(&r);
            (void)reader_take(&r, 3);
            assert_true(r.failed);
            assert_false(reader_done(&r));
        }
    }
}

static void byte_order(void **state)
{
    uint8_t buf[8];

    (void)state;
    store_u64be(buf, 0x0102030405060708);
    assert_memory_equal(buf, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
    store_u64le(buf, 0x0102030405060708);
    assert_memory_equal(buf, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    assert_int_equal(load_u16be((const uint8_t *)"\xfe\x01"), 0xfe01);
    assert_int_equal(load_u16le((const uint8_t *)"\xfe\x01"), 0x01fe);
    assert_true(load_u32be((const uint8_t *)"\xff\xff\xff\xfe") == 0xfffffffe);
}

static void failed_for_good(void **state)
{
    struct reader r = reader_of(bytes_str("abc"));
    uint8_t buf[2] = {0};
    struct writer w = writer_of(buf, sizeof buf);

    (void)state;
    assert_null(reader_take(&r, 4));
    assert_true(r.failed);
    assert_null(reader_take(&r, 1));
    assert_int_equal(reader_u8(&r), 0);
    assert_int_equal(reader_left(&r), 3);
    assert_false(reader_done(&r));
    r = reader_of(bytes_str("abc"));
    assert_null(reader_take(&r, SIZE_MAX));
    r = reader_of(bytes_of(NULL, 0));
    assert_non_null(reader_take(&r, 0));
    assert_true(reader_done(&r));

    assert_null(writer_reserve(&w, 3));
    assert_null(writer_reserve(&w, 1));
    writer_u8(&w, 9);
    assert_int_equal(buf[0], 0);
    w = writer_of(buf, sizeof buf);
    assert_null(writer_reserve(&w, SIZE_MAX));
    assert_int_equal(writer_len(&w), 0);
}

static bool varint_ok(const char *data, size_t len, uint64_t expected)
{
    struct reader r = reader_of(bytes_of(data, len));
    uint64_t v = reader_varint(&r);

    return reader_done(&r) && v == expected;
}

static bool varint_refused(const char *data, size_t len)
{
    struct reader r = reader_of(bytes_of(data, len));

    return reader_varint(&r) == 0 && r.failed;
}

static void varint_forms(void **state)
{
    (void)state;
    assert_true(varint_ok("\x00", 1, 0));
    assert_true(varint_ok("\x7f", 1, 127));
    assert_true(varint_ok("\x80\x01", 2, 128));
    assert_true(varint_ok("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, UINT64_MAX));
    assert_true(varint_refused("", 0));
    assert_true(varint_refused("\x80", 1));                                          /* cut */
    assert_true(varint_refused("\x80\x00", 2));                                      /* overlong zero */
    assert_true(varint_refused("\x81\x80\x00", 3));                                  /* overlong one */
    assert_true(varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10));     /* bit 64 */
    assert_true(varint_refused("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11)); /* eleven bytes */
    assert_true(varint_refused("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11));
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int delta = -1; delta <= 1; delta++) {
            uint64_t v = ((uint64_t)1 << bit) + (uint64_t)(int64_t)delta;
            uint8_t buf[10];
            struct writer w = writer_of(buf, sizeof buf);

            writer_varint(&w, v);
            assert_true(varint_ok((const char *)buf, writer_len(&w), v));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare),         cmocka_unit_test(integers_both_ways), cmocka_unit_test(byte_order),
        cmocka_unit_test(failed_for_good), cmocka_unit_test(varint_forms),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
