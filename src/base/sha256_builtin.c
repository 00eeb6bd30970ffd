/* SHA-256 by this library's own code, the fastest that the CPU runs: the default build (option sha=builtin). */
#include "base/hash_internal.h"

/* Written by the constructor alone, read ever after. */
static const struct sha256_impl *sha = &sha256_portable;

__attribute__((constructor(101))) static void sha256_choose(void)
{
#if defined(__x86_64__)
    if (sha256_x86_usable())
        sha = &sha256_x86;
#elif defined(__aarch64__)
    if (sha256_armv8_usable())
        sha = &sha256_armv8;
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
