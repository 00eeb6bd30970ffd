/* Choice of the implementation, SHA-256 of streams and messages, and the hash for tables in memory. */
#include "base/hash_internal.h"

#include <assert.h>

const hash_t HASH_ZERO = {{0}};
const hash_t HASH_EMPTY = {{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
                            0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}};

const uint32_t sha256_start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Written by the constructor alone, read ever after. */
static const struct sha256_impl *sha = &sha256_portable;
static const struct crc32c_impl *crc = &crc32c_portable;

__attribute__((constructor(101))) static void hash_choose(void)
{
    crc32c_portable_init();
#if defined(__x86_64__)
    if (sha256_x86_usable())
        sha = &sha256_x86;
    if (crc32c_x86_usable())
        crc = &crc32c_x86;
#elif defined(__aarch64__)
    if (sha256_armv8_usable())
        sha = &sha256_armv8;
    if (crc32c_armv8_usable())
        crc = &crc32c_armv8;
#endif
}

const char *sha256_backend(void) { return sha->name; }

static void state_store(const uint32_t state[8], uint8_t *out)
{
    for (unsigned i = 0; i < 8; i++)
        store_u32be(out + 4 * i, state[i]);
}

/* The last rest_len < 64 bytes of a message of total bytes, with the padding behind them. */
static void finish(const struct sha256_impl *impl, uint32_t state[8], const uint8_t *rest, size_t rest_len, uint64_t total, uint8_t *out)
{
    uint8_t tail[128] = {0};
    size_t tail_len = rest_len < 56 ? 64 : 128;

    if (rest_len > 0)
        memcpy(tail, rest, rest_len);
    tail[rest_len] = 0x80;
    store_u64be(tail + tail_len - 8, total * 8);
    impl->blocks(state, tail, tail_len / 64);
    state_store(state, out);
}

void sha256_init(struct sha256 *s)
{
    memcpy(s->state, sha256_start, sizeof s->state);
    s->total = 0;
}

void sha256_update(struct sha256 *s, const void *data, size_t len)
{
    const uint8_t *at = data;
    size_t filled = s->total % 64, part;

    s->total += len;
    if (filled > 0) {
        part = len < 64 - filled ? len : 64 - filled;
        if (part > 0)
            memcpy(s->block + filled, at, part);
        at = part > 0 ? at + part : at;
        len -= part;
        if (filled + part < 64)
            return;
        sha->blocks(s->state, s->block, 1);
    }
    if (len >= 64) {
        sha->blocks(s->state, at, len / 64);
        at += len / 64 * 64;
        len %= 64;
    }
    if (len > 0)
        memcpy(s->block, at, len);
}

void sha256_final(struct sha256 *s, hash_t *out) { finish(sha, s->state, s->block, s->total % 64, s->total, out->b); }

void sha256(const void *data, size_t len, hash_t *out)
{
    uint32_t state[8];
    const uint8_t *at = data;
    size_t whole = len / 64;

    memcpy(state, sha256_start, sizeof state);
    if (whole > 0) {
        sha->blocks(state, at, whole);
        at += whole * 64;
    }
    finish(sha, state, at, len % 64, len, out->b);
}

void sha256_node(const hash_t *left, const hash_t *right, hash_t *out) { sha->node(left->b, right->b, out->b); }
void sha256_leaf(const hash_t *data, hash_t *out) { sha->leaf(data->b, out->b); }
void sha256_nodes(const hash_t *in, size_t pair_count, hash_t *out)
{
    if (pair_count > 0)
        sha->nodes(in->b, pair_count, out->b);
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
