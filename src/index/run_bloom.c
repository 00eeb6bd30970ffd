/* Key hash and Bloom filter of a partition: seven bits within one 64-byte line, so that a probe costs one cache miss. */
#include "index/run_format.h"

#include <stdlib.h>

#define K0 0xa0761d6478bd642full
#define K1 0xe7037ed1a0b428dbull
#define K2 0x8ebc6af09c88c6e3ull
#define K3 0x589965cc75374cc3ull

static uint64_t mum(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Part of the format: never changes. */
uint64_t index_key_hash(struct index_key k)
{
    const uint8_t *p = k.key.data;
    size_t left = k.key.len;
    uint64_t h = K0 ^ (uint64_t)k.ns * K3;

    for (; left >= 16; left -= 16, p += 16)
        h = mum(load_u64le(p) ^ K1, load_u64le(p + 8) ^ h);
    if (left > 0) {
        uint8_t tail[16] = {0};
        memcpy(tail, p, left);
        h = mum(load_u64le(tail) ^ K1, load_u64le(tail + 8) ^ h);
    }
    return mum(h ^ K2, (uint64_t)k.key.len ^ K1);
}

static uint64_t bits_of(uint64_t hash) { return mum(hash ^ K3, K1); }

void bloom_line_add(uint8_t *line, uint64_t hash)
{
    uint64_t g = bits_of(hash);

    for (unsigned i = 0; i < BLOOM_PROBES; i++, g >>= 9)
        line[(g & 511) >> 3] |= (uint8_t)(1u << (g & 7));
}

bool bloom_line_has(const uint8_t *line, uint64_t hash)
{
    uint64_t g = bits_of(hash);

    for (unsigned i = 0; i < BLOOM_PROBES; i++, g >>= 9) {
        if ((line[(g & 511) >> 3] & (1u << (g & 7))) == 0)
            return false;
    }
    return true;
}

bool bloom_build(struct grow *out, const uint64_t *hashes, size_t count)
{
    uint32_t lines = bloom_lines(count), pages = bloom_pages(lines);
    uint32_t last = bloom_page_lines(lines, pages - 1);
    size_t len = (size_t)(pages - 1) * BLOOM_PAGE_LEN + BLOOM_LINE_LEN + (size_t)last * BLOOM_LINE_LEN;
    uint8_t *base;

    if (!grow_reserve(out, len))
        return false;
    base = out->data + out->len;
    memset(base, 0, len);
    for (uint32_t page = 0; page < pages; page++) {
        uint32_t n = bloom_page_lines(lines, page);
        run_block_header(base + (size_t)page * BLOOM_PAGE_LEN, BLOCK_BLOOM, 0, BLOOM_LINE_LEN + (size_t)n * BLOOM_LINE_LEN, n);
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t line = bloom_line(hashes[i], lines);
        bloom_line_add(base + (size_t)(line / BLOOM_PAGE_LINES) * BLOOM_PAGE_LEN + BLOOM_LINE_LEN +
                           (size_t)(line % BLOOM_PAGE_LINES) * BLOOM_LINE_LEN,
                       hashes[i]);
    }
    out->len += len;
    return true;
}
