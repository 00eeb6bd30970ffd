/* SHA-256 (FIPS 180-4) in plain C, for CPUs without instructions for it, and as the reference for the tests. */
#include "base/hash_internal.h"

const uint32_t sha256_k[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

const uint32_t sha256_start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static inline uint32_t rotr(uint32_t x, unsigned n) { return (x >> n) | (x << (32 - n)); }
static inline uint32_t sum0(uint32_t x) { return rotr(x, 2) ^ rotr(x, 13) ^ rotr(x, 22); }
static inline uint32_t sum1(uint32_t x) { return rotr(x, 6) ^ rotr(x, 11) ^ rotr(x, 25); }
static inline uint32_t sigma0(uint32_t x) { return rotr(x, 7) ^ rotr(x, 18) ^ (x >> 3); }
static inline uint32_t sigma1(uint32_t x) { return rotr(x, 17) ^ rotr(x, 19) ^ (x >> 10); }
static inline uint32_t choose(uint32_t x, uint32_t y, uint32_t z) { return z ^ (x & (y ^ z)); }
static inline uint32_t majority(uint32_t x, uint32_t y, uint32_t z) { return (x & y) | (z & (x | y)); }

/* One round; the caller rotates the names of the eight variables instead of moving their values. */
#define ROUND(a, b, c, d, e, f, g, h, i) \
    do { \
        uint32_t t1_ = h + sum1(e) + choose(e, f, g) + sha256_k[i] + w[(i)&15]; \
        d += t1_; \
        h = t1_ + sum0(a) + majority(a, b, c); \
    } while (0)
#define EIGHT_ROUNDS(i) \
    do { \
        ROUND(a, b, c, d, e, f, g, h, (i)); \
        ROUND(h, a, b, c, d, e, f, g, (i) + 1); \
        ROUND(g, h, a, b, c, d, e, f, (i) + 2); \
        ROUND(f, g, h, a, b, c, d, e, (i) + 3); \
        ROUND(e, f, g, h, a, b, c, d, (i) + 4); \
        ROUND(d, e, f, g, h, a, b, c, (i) + 5); \
        ROUND(c, d, e, f, g, h, a, b, (i) + 6); \
        ROUND(b, c, d, e, f, g, h, a, (i) + 7); \
    } while (0)

static void block_one(uint32_t state[8], const uint8_t *data)
{
    uint32_t w[16];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];

    for (unsigned i = 0; i < 16; i++)
        w[i] = load_u32be(data + 4 * i);
    EIGHT_ROUNDS(0);
    EIGHT_ROUNDS(8);
    for (unsigned base = 16; base < 64; base += 16) {
        for (unsigned i = 0; i < 16; i++)
            w[i] += sigma0(w[(i + 1) & 15]) + w[(i + 9) & 15] + sigma1(w[(i + 14) & 15]);
        EIGHT_ROUNDS(base);
        EIGHT_ROUNDS(base + 8);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

static void portable_blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    for (; count > 0; count--, data += 64)
        block_one(state, data);
}

static void portable_node(const uint8_t *left, const uint8_t *right, uint8_t *out) { sha256_node_by_blocks(&sha256_portable, left, right, out); }

static void portable_leaf(const uint8_t *data, uint8_t *out) { sha256_leaf_by_blocks(&sha256_portable, data, out); }

static void portable_nodes(const uint8_t *in, size_t pair_count, uint8_t *out)
{
    for (size_t i = 0; i < pair_count; i++)
        portable_node(in + 64 * i, in + 64 * i + 32, out + 32 * i);
}

const struct sha256_impl sha256_portable = {"portable", portable_blocks, portable_node, portable_leaf, portable_nodes};

static void state_store(const uint32_t state[8], uint8_t *out)
{
    for (unsigned i = 0; i < 8; i++)
        store_u32be(out + 4 * i, state[i]);
}

void sha256_node_by_blocks(const struct sha256_impl *impl, const uint8_t *left, const uint8_t *right, uint8_t *out)
{
    uint32_t state[8];
    uint8_t message[128] = {0x01};

    memcpy(message + 1, left, HASH_LEN);
    memcpy(message + 33, right, HASH_LEN);
    message[65] = 0x80;
    store_u16be(message + 126, 65 * 8);
    memcpy(state, sha256_start, sizeof state);
    impl->blocks(state, message, 2);
    state_store(state, out);
}

void sha256_leaf_by_blocks(const struct sha256_impl *impl, const uint8_t *data, uint8_t *out)
{
    uint32_t state[8];
    uint8_t message[64] = {0x00};

    memcpy(message + 1, data, HASH_LEN);
    message[33] = 0x80;
    store_u16be(message + 62, 33 * 8);
    memcpy(state, sha256_start, sizeof state);
    impl->blocks(state, message, 1);
    state_store(state, out);
}
