/* Constants, the choice of the CRC-32C implementation, and the hash for tables in memory. */
#include "base/hash_internal.h"

const hash_t HASH_ZERO = {{0}};
const hash_t HASH_EMPTY = {{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                            0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

/* Written by the constructor alone, read ever after. */
static const struct crc32c_impl *crc = &crc32c_portable;

__attribute__((constructor(101))) static void crc32c_choose(void)
{
    crc32c_portable_init();
#if defined(__x86_64__)
    if (crc32c_x86_usable())
        crc = &crc32c_x86;
#elif defined(__aarch64__)
    if (crc32c_armv8_usable())
        crc = &crc32c_armv8;
#endif
}

uint32_t crc32c(uint32_t seed, const void *data, size_t len) { return len == 0 ? seed : ~crc->update(~seed, data, len); }

/* Both halves of a 128-bit product folded together: every bit of a and b reaches every bit of the result. */
static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load_u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t load_u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

uint64_t hash64(uint64_t seed, const void *data, size_t len)
{
    static const uint64_t odd[4] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu, 0xd6e8feb86659fd93u};
    const uint8_t *p = data;
    uint64_t a = 0, b = 0, h = seed ^ fold(seed ^ odd[0], odd[1]), h2;
    size_t left = len;
    /* Both factors depend on the seed: else bytes chosen to make one of them zero would collide under every seed. */
    uint64_t k1 = h ^ odd[1], k2 = ~h ^ odd[2];

    if (len > 16) {
        if (left > 32) {
            h2 = h;
            do {
                h = fold(load_u64(p) ^ k1, load_u64(p + 8) ^ h);
                h2 = fold(load_u64(p + 16) ^ k2, load_u64(p + 24) ^ h2);
                left -= 32;
                p += 32;
            } while (left > 32);
            h ^= h2;
        }
        if (left > 16)
            h = fold(load_u64(p) ^ k2, load_u64(p + 8) ^ h);
        /* The last 16 bytes, which may overlap what was read before. */
        a = load_u64(p + left - 16);
        b = load_u64(p + left - 8);
    } else if (len >= 8) {
        a = load_u64(p);
        b = load_u64(p + len - 8);
    } else if (len >= 4) {
        a = load_u32(p);
        b = load_u32(p + len - 4);
    } else if (len > 0) {
        a = ((uint64_t)p[0] << 16) | ((uint64_t)p[len / 2] << 8) | p[len - 1];
    }
    return fold(odd[2] ^ len, fold(a ^ k1, b ^ h) ^ odd[3]);
}
