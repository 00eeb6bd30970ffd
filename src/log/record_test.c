/* Records: what is encoded is decoded; every single flipped bit of a record is noticed; lengths that cannot be are refused before anything is read. */
#include "log/log_fixture.h"

/* The record of a content as it lies in a frame. */
static uint8_t *record_make(const struct content *c, uint32_t seed, size_t *len)
{
    uint8_t head[TX_HEAD_BYTES_MAX], *record;
    struct tx_body *b = NULL;
    size_t head_len, at;

    assert_int_equal(tx_body_encode(c->entries, c->header.entry_count, &b, NULL), ST_OK);
    assert_int_equal(tx_record_head_encode(&c->header, b, seed, head, &head_len, NULL), ST_OK);
    *len = head_len + b->meta_bytes + (size_t)b->value_bytes;
    assert_true(tx_body_bytes(b) >= *len);
    assert_non_null(record = malloc(*len));
    memcpy(record, head, head_len);
    memcpy(record + head_len, b->meta, b->meta_bytes);
    at = head_len + b->meta_bytes;
    for (size_t i = 0; i < b->piece_count; i++) {
        memcpy(record + at, b->pieces[i].data, b->pieces[i].len);
        at += b->pieces[i].len;
    }
    assert_int_equal(at, *len);
    tx_body_free(b);
    return record;
}

static enum status record_check(const uint8_t *record, size_t len, uint32_t seed, struct tx_layout *x)
{
    enum status st = tx_layout_decode(record, len, seed, x, NULL);

    if (st == ST_OK && x->record_len != len)
        st = ST_CORRUPT;
    if (st == ST_OK)
        st = tx_meta_check(record, x, NULL);
    return st == ST_OK ? tx_values_check(record, x, NULL) : st;
}

static void records_come_back(void **state)
{
    struct fixture f = {.seed = 3, .big_every = 50};

    (void)state;
    for (uint64_t id = 1; id < 400; id++) {
        uint32_t value_end = 0;
        struct tx_header h;
        struct tx_layout x;
        struct content c;
        struct tx_row row;
        uint8_t *record;
        size_t len;

        content_make(&f, id, &c);
        record = record_make(&c, 99, &len);
        assert_int_equal(record_check(record, len, 99, &x), ST_OK);
        assert_int_equal(record_check(record, len, 98, &x), ST_CORRUPT);
        assert_int_equal(record_check(record, len, 99, &x), ST_OK);
        assert_int_equal(tx_head_to_header(record, &x, &h, NULL), ST_OK);
        assert_int_equal(h.id, id);
        assert_int_equal(h.entry_count, c.header.entry_count);
        assert_int_equal(h.md.extra_len, c.header.md.extra_len);
        assert_int_equal(h.md.truncated_upto, c.header.md.truncated_upto);
        assert_int_equal(x.has_eh, h.entry_count != 1);
        if (x.has_eh)
            assert_memory_equal(h.eh.b, c.header.eh.b, HASH_LEN);
        for (uint32_t i = 0; i < h.entry_count; i++) {
            const struct tx_entry *e = &c.entries[i];
            const uint8_t *p = record + x.rows_at + i * TX_ROW_BYTES, *key;

            assert_true(tx_row_decode(p, value_end, &row));
            key = record + x.keys_at + row.key_at;
            assert_true(bytes_equal(e->key, bytes_of(key, row.key_len)));
            assert_true(bytes_equal(e->md, bytes_of(key + row.key_len, row.md_len)));
            assert_true(bytes_equal(e->value, bytes_of(record + x.values_at + row.value_at, row.value_len)));
            assert_int_equal(row.has_hval, e->value.len > TX_HVAL_INLINE_MAX);
            value_end = load_u32le(p + 4);
        }
        free(record);
        content_free(&c);
    }
}

static void every_flipped_bit_is_noticed(void **state)
{
    struct fixture f = {.seed = 5};
    uint64_t checked = 0;

    (void)state;
    for (uint64_t id = 1; id < 60; id++) {
        struct tx_layout x;
        struct content c;
        uint8_t *record;
        size_t len;

        content_make(&f, id, &c);
        record = record_make(&c, 99, &len);
        for (size_t bit = 0; bit < len * 8; bit++) {
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(record_check(record, len, 99, &x), ST_OK);
            record[bit / 8] ^= (uint8_t)(1u << bit % 8);
            checked++;
        }
        for (size_t cut = 0; cut < len; cut++)
            assert_int_not_equal(record_check(record, cut, 99, &x), ST_OK);
        free(record);
        content_free(&c);
    }
    assert_true(checked > 100000);
}

/* An entry of another tx, or another entry of this one, does not pass for the one that is asked for. */
static void entries_are_bound_to_their_place(void **state)
{
    uint8_t value[2][8] = {"value a", "value b"};
    struct tx_entry e[2][2];
    struct tx_body *b[2];
    const uint8_t *row;
    uint32_t crc;

    (void)state;
    memset(e, 0, sizeof e);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 2; i++) { /* entry 0 is the same in both txs but for its value */
            e[t][i].key = bytes_str(i == 0 ? "key" : "kex");
            e[t][i].value = bytes_of(value[t], 8);
            sha256(value[t], 8, &e[t][i].hval);
        }
    assert_int_equal(tx_body_encode(e[0], 2, &b[0], NULL), ST_OK);
    assert_int_equal(tx_body_encode(e[1], 2, &b[1], NULL), ST_OK);
    assert_int_not_equal(b[0]->seed, b[1]->seed);
    row = b[0]->meta;
    crc = load_u32le(row + 8);
    assert_int_equal(crc, tx_entry_crc(b[0]->seed, 0, row, bytes_str("key"), bytes_of(value[0], 8)));
    assert_int_not_equal(crc, tx_entry_crc(b[0]->seed, 1, row, bytes_str("key"), bytes_of(value[0], 8)));
    assert_int_not_equal(crc, tx_entry_crc(b[1]->seed, 0, row, bytes_str("key"), bytes_of(value[0], 8)));
    assert_int_not_equal(load_u32le(b[1]->meta + 8), tx_entry_crc(b[0]->seed, 0, b[1]->meta, bytes_str("key"), bytes_of(value[1], 8)));
    tx_body_free(b[0]);
    tx_body_free(b[1]);
}

static void bodies_have_limits(void **state)
{
    static uint8_t key[70000];
    struct tx_entry e = {.key = bytes_of(key, 0)};
    struct tx_body *b;
    struct err err;

    (void)state;
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_INVALID);
    assert_null(b);
    e.key.len = 65536;
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_INVALID);
    e.key.len = 65535;
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_OK);
    tx_body_free(b);
    e.md = bytes_of(key, 12);
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_INVALID);
    e.md.len = 0;
    e.value = bytes_of(key, (size_t)UINT32_MAX - 400); /* measured, not read */
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_LIMIT);
    e.value = bytes_of(key, 5);
    e.is_value_gone = true;
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_INVALID);
    e.value.len = 0;
    assert_int_equal(tx_body_encode(&e, 1, &b, &err), ST_OK);
    assert_true(b->values_removed);
    tx_body_free(b);
}

static void marks(void **state)
{
    struct mark_record m = {RECORD_DISCARD, 77, {{1, 2, 3}}}, got;
    uint8_t bytes[MARK_RECORD_BYTES];

    (void)state;
    for (int t = RECORD_COMMIT; t <= RECORD_DISCARD; t++) {
        m.type = (enum record_type)t;
        mark_record_encode(&m, 5, bytes);
        assert_int_equal(mark_record_decode(bytes, 5, &got, NULL), ST_OK);
        assert_int_equal(got.type, t);
        assert_int_equal(got.tx_id, 77);
        assert_memory_equal(got.alh.b, m.alh.b, HASH_LEN);
        assert_int_equal(mark_record_decode(bytes, 6, &got, NULL), ST_CORRUPT);
        for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(mark_record_decode(bytes, 5, &got, NULL), ST_CORRUPT);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(entries_are_bound_to_their_place),
        cmocka_unit_test(bodies_have_limits),
        cmocka_unit_test(marks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
