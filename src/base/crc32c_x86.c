/* CRC-32C with the crc32 instruction of x86-64.
 *
 * The instruction takes a word a cycle but answers three cycles later, so three lanes of equal length run side by side.
 * Then crc(lane 0 || lane 1 || lane 2) = crc0 * x^(16 L) + crc1 * x^(8 L) + crc2 for lanes of L bytes. In the reflected
 * representation a carry-less product with x^(8 n - 33), reduced by one more crc32, multiplies by x^(8 n). */
#include "base/hash_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define CRC_TARGET __attribute__((target("sse4.2,pclmul")))

bool crc32c_x86_usable(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_2) != 0 && (c & bit_PCLMUL) != 0;
}

/* Lane lengths from long to short, with x^(8 L - 33) and x^(16 L - 33) modulo the polynomial. */
static const struct lane {
    uint32_t len, one, two;
} lanes[] = {
    {1360, 0x3f70cc6f, 0x5aa1f3cf},
    {336, 0xa60ce07b, 0xcec3662e},
    {80, 0x39d3b296, 0x878a92a7},
};

CRC_TARGET static inline uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

CRC_TARGET static inline uint64_t times(uint32_t crc, uint32_t factor)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi32_si128((int)crc), _mm_cvtsi32_si128((int)factor), 0);

    return (uint64_t)_mm_cvtsi128_si64(product);
}

CRC_TARGET static inline uint32_t three_lanes(uint32_t crc, const uint8_t *data, const struct lane *lane)
{
    uint64_t crc0 = crc, crc1 = 0, crc2 = 0;
    size_t len = lane->len;

    for (const uint8_t *end = data + len; data < end; data += 8) {
        crc0 = _mm_crc32_u64(crc0, load_u64(data));
        crc1 = _mm_crc32_u64(crc1, load_u64(data + len));
        crc2 = _mm_crc32_u64(crc2, load_u64(data + 2 * len));
    }
    return (uint32_t)crc2 ^ (uint32_t)_mm_crc32_u64(0, times((uint32_t)crc0, lane->two) ^ times((uint32_t)crc1, lane->one));
}

CRC_TARGET static uint32_t x86_update(uint32_t crc, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) {
        size_t step = 3 * (size_t)lanes[i].len;

        for (; len >= step; len -= step, data += step)
            crc = three_lanes(crc, data, &lanes[i]);
    }
    for (; len >= 8; len -= 8, data += 8)
        crc = (uint32_t)_mm_crc32_u64(crc, load_u64(data));
    for (; len > 0; len--, data++)
        crc = _mm_crc32_u8(crc, *data);
    return crc;
}

const struct crc32c_impl crc32c_x86 = {"sse4.2", x86_update};
#endif
