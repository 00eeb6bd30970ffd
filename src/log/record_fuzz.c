/* Any bytes as a record. Byte 0: bit 0 = make the head's checksum right, bit 1 = the meta's too. What passes the checks can be read row by row without leaving the
 * record, and encodes to the same bytes again. */
#include <assert.h>
#include <stdlib.h>

#include "log/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fix(uint8_t *p, size_t len, unsigned how)
{
    size_t head;
    uint64_t values_at;

    if ((how & 1) == 0 || len < TX_FIXED_BYTES)
        return;
    store_u32le(p + 4, (uint32_t)len);
    head = tx_head_len(p);
    values_at = head + (uint64_t)load_u32le(p + 12) * TX_ROW_BYTES + load_u32le(p + 48);
    if (head > len)
        return;
    if ((how & 2) != 0 && values_at <= len)
        store_u32le(p + 40, crc32c(load_u32le(p + 44), p + head, (size_t)values_at - head));
    store_u32le(p, crc32c(7, p + 4, head - 4));
}

static void read_rows(const uint8_t *p, const struct tx_layout *x)
{
    uint32_t value_end = 0, crc = 0;
    struct tx_row row;

    for (uint32_t i = 0; i < x->entry_count; i++) {
        const uint8_t *r = p + x->rows_at + (size_t)i * TX_ROW_BYTES;
        bool ok = tx_row_decode(r, value_end, &row);

        assert(ok);
        crc ^= crc32c(0, p + x->keys_at + row.key_at, row.key_part_len);
        crc ^= crc32c(0, p + x->values_at + row.value_at, row.value_len);
        value_end = load_u32le(r + 4);
    }
    if (crc == 0x12345678)
        abort(); /* so that the bytes are read */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct mark_record m;
    struct tx_header h;
    struct tx_layout x;
    struct err err;
    uint8_t *p;

    if (len < 1 || (p = malloc(len)) == NULL)
        return 0;
    len--;
    memcpy(p, data + 1, len);
    fix(p, len, data[0]);
    if (tx_layout_decode(p, len, 7, &x, &err) == ST_OK) {
        (void)!tx_head_to_header(p, &x, &h, &err);
        if (x.record_len <= len && tx_meta_check(p, &x, &err) == ST_OK) {
            read_rows(p, &x);
            (void)!tx_values_check(p, &x, &err);
        }
    }
    if (len >= MARK_RECORD_BYTES) {
        p[8] = RECORD_COMMIT;
        store_u32le(p + 4, MARK_RECORD_BYTES);
        store_u32le(p, crc32c(7, p + 4, MARK_RECORD_BYTES - 4));
        (void)!mark_record_decode(p, 7, &m, &err);
    }
    free(p);
    return 0;
}
