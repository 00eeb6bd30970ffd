/* Versions of a key in a run: inline beside the key, or in pages of fixed-width columns when there are many. */
#include "index/run_format.h"

#include <assert.h>

/* --- payloads --- */

static uint8_t *version_put(uint8_t *p, uint64_t tx_delta, const struct index_version *v)
{
    p = varint_put(p, tx_delta);
    p = varint_put(p, (uint64_t)v->entry_index << 2 | (v->has_expiry ? 2u : 0) | (v->is_deleted ? 1u : 0));
    p = varint_put(p, v->value_len);
    if (v->has_expiry)
        p = varint_put(p, ((uint64_t)v->expires_at << 1) ^ (uint64_t)(v->expires_at >> 63));
    return p;
}

size_t run_payload_put_inline(uint8_t *out, uint64_t tx_first, const struct index_version *oldest_first, uint32_t count)
{
    uint8_t versions[INLINE_VERSIONS_MAX * VERSION_BYTES_MAX], *p = versions, *q = varint_put(out, count);

    assert(count >= 1 && count <= INLINE_VERSIONS_MAX);
    if (count == 1)
        return (size_t)(version_put(q, oldest_first[0].tx_id - tx_first, &oldest_first[0]) - out);
    for (uint32_t i = count; i-- > 0;)
        p = version_put(p, i == count - 1 ? oldest_first[i].tx_id - tx_first : oldest_first[i + 1].tx_id - oldest_first[i].tx_id, &oldest_first[i]);
    q = varint_put(q, (uint64_t)(p - versions));
    memcpy(q, versions, (size_t)(p - versions));
    return (size_t)(q - out) + (size_t)(p - versions);
}

size_t run_payload_put_paged(uint8_t *out, uint64_t tx_first, uint64_t count, const struct index_version *newest, uint64_t offset, uint64_t len)
{
    uint8_t *p = varint_put(out, count);

    p = version_put(p, newest->tx_id - tx_first, newest);
    p = varint_put(p, offset);
    return (size_t)(varint_put(p, len) - out);
}

void run_payload_read(const uint8_t *p, uint64_t tx_first, struct payload *out)
{
    out->count = varint_get(&p);
    if (out->count > INLINE_VERSIONS_MAX) {
        uint64_t tx = tx_first;
        p = version_get(p, true, &tx, &out->newest);
        out->offset = varint_get(&p);
        out->len = (uint32_t)varint_get(&p);
        return;
    }
    if (out->count > 1)
        (void)varint_get(&p);
    out->versions = p;
}

/* --- pages --- */

static uint32_t width_of(uint64_t max) { return max <= UINT8_MAX ? 1 : max <= UINT16_MAX ? 2 : max <= UINT32_MAX ? 4 : 8; }

static void column_put(uint8_t *p, uint32_t width, uint64_t v)
{
    for (uint32_t i = 0; i < width; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t column_get(const uint8_t *p, uint32_t width)
{
    switch (width) {
    case 1:
        return p[0];
    case 2:
        return load_u16le(p);
    case 4:
        return load_u32le(p);
    default:
        return load_u64le(p);
    }
}

bool version_page_put(struct grow *out, const struct index_version *v, uint32_t count)
{
    uint64_t index_max = 0, len_max = 0;
    uint32_t w_tx, w_index, w_len, flags = 0;
    size_t len;
    uint8_t *b, *p;

    assert(count >= 1 && count <= VERSION_PAGE_MAX);
    for (uint32_t i = 0; i < count; i++) {
        index_max |= v[i].entry_index;
        len_max |= v[i].value_len;
        flags |= (v[i].is_deleted || v[i].has_expiry ? 1u : 0) | (v[i].has_expiry ? 2u : 0);
    }
    w_tx = width_of(v[count - 1].tx_id - v[0].tx_id);
    w_index = width_of(index_max);
    w_len = width_of(len_max);
    len = BLOCK_HEADER_LEN + 8 + (size_t)count * (w_tx + w_index + w_len + (flags & 1 ? 1 : 0) + (flags & 2 ? 8 : 0));
    if (!grow_reserve(out, len))
        return false;
    b = out->data + out->len;
    run_block_header(b, BLOCK_VERSIONS, count, len, w_tx | w_index << 8 | w_len << 16 | flags << 24);
    store_u64le(b + BLOCK_HEADER_LEN, v[0].tx_id);
    p = b + BLOCK_HEADER_LEN + 8;
    for (uint32_t i = 0; i < count; i++, p += w_tx)
        column_put(p, w_tx, v[i].tx_id - v[0].tx_id);
    for (uint32_t i = 0; i < count; i++, p += w_index)
        column_put(p, w_index, v[i].entry_index);
    for (uint32_t i = 0; i < count; i++, p += w_len)
        column_put(p, w_len, v[i].value_len);
    for (uint32_t i = 0; (flags & 1) != 0 && i < count; i++)
        *p++ = (uint8_t)((v[i].is_deleted ? 1 : 0) | (v[i].has_expiry ? 2 : 0));
    for (uint32_t i = 0; (flags & 2) != 0 && i < count; i++, p += 8)
        store_u64le(p, v[i].has_expiry ? (uint64_t)v[i].expires_at : 0);
    out->len += len;
    return true;
}

uint64_t version_page_tx(const uint8_t *block, uint32_t nth)
{
    uint32_t w_tx = block[12];
    return load_u64le(block + BLOCK_HEADER_LEN) + column_get(block + BLOCK_HEADER_LEN + 8 + (size_t)nth * w_tx, w_tx);
}

void version_page_nth(const uint8_t *block, uint32_t nth, struct index_version *out)
{
    uint32_t w_tx = block[12], w_index = block[13], w_len = block[14], flags = block[15], count = block_count(block);
    const uint8_t *p = block + BLOCK_HEADER_LEN + 8 + (size_t)count * w_tx;
    uint8_t bits = 0;

    assert(nth < count);
    out->tx_id = version_page_tx(block, nth);
    out->entry_index = (uint32_t)column_get(p + (size_t)nth * w_index, w_index);
    p += (size_t)count * w_index;
    out->value_len = (uint32_t)column_get(p + (size_t)nth * w_len, w_len);
    p += (size_t)count * w_len;
    if (flags & 1) {
        bits = p[nth];
        p += count;
    }
    out->is_deleted = (bits & 1) != 0;
    out->has_expiry = (bits & 2) != 0;
    out->expires_at = out->has_expiry ? (int64_t)load_u64le(p + (size_t)nth * 8) : 0;
}

uint32_t version_page_upto(const uint8_t *block, uint64_t upto)
{
    uint32_t low = 0, high = block_count(block);

    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (version_page_tx(block, mid) <= upto)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}
