/* SHA-256 with the SHA extensions of x86-64.
 *
 * The two state registers hold (A B E F) and (C D G H), most significant word first, as sha256rnds2 wants them. A block is
 * sixteen groups of four rounds; w[] keeps the last sixteen words of the message schedule, four in a register.
 * One block is bound by the latency of sha256rnds2, so two independent messages side by side take little longer than one.
 *
 * A Merkle node is 65 bytes: 0x01, left, right. Its words are loaded straight from the two hashes, shifted by the one byte
 * of the prefix; the second block is the last byte of right, the padding and the length 520. */
#include "base/hash_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define SHA_INLINE SHA_TARGET __attribute__((always_inline)) static inline

struct two_regs {
    __m128i abef, cdgh;
};

bool sha256_x86_usable(void)
{
    unsigned a, b, c, d, c1;

    if (__get_cpuid(1, &a, &b, &c, &d) == 0)
        return false;
    c1 = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0)
        return false;
    return (c1 & bit_SSE4_1) != 0 && (c1 & bit_SSSE3) != 0 && (b & (1u << 29)) != 0;
}

SHA_INLINE __m128i load(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* Big-endian words from bytes. */
SHA_INLINE __m128i swap_words(__m128i x) { return _mm_shuffle_epi8(x, _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203)); }

SHA_INLINE struct two_regs state_start(void)
{
    return (struct two_regs){_mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c),
                             _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19)};
}

SHA_INLINE struct two_regs state_load(const uint32_t state[8])
{
    __m128i badc = _mm_shuffle_epi32(load(state), 0xb1);     /* words from the top: C D A B */
    __m128i hgfe = _mm_shuffle_epi32(load(state + 4), 0x1b); /* E F G H */

    return (struct two_regs){_mm_alignr_epi8(badc, hgfe, 8), _mm_blend_epi16(hgfe, badc, 0xf0)};
}

/* (A B C D) and (E F G H), A in the lowest word. */
SHA_INLINE void state_unpack(struct two_regs s, __m128i *dcba, __m128i *hgfe)
{
    __m128i feba = _mm_shuffle_epi32(s.abef, 0x1b), dchg = _mm_shuffle_epi32(s.cdgh, 0xb1);

    *dcba = _mm_blend_epi16(feba, dchg, 0xf0);
    *hgfe = _mm_alignr_epi8(dchg, feba, 8);
}

SHA_INLINE void state_store(struct two_regs s, uint32_t state[8])
{
    __m128i dcba, hgfe;

    state_unpack(s, &dcba, &hgfe);
    _mm_storeu_si128((__m128i *)(void *)state, dcba);
    _mm_storeu_si128((__m128i *)(void *)(state + 4), hgfe);
}

SHA_INLINE void state_out(struct two_regs s, uint8_t *out)
{
    __m128i dcba, hgfe;

    state_unpack(s, &dcba, &hgfe);
    _mm_storeu_si128((__m128i *)(void *)out, swap_words(dcba));
    _mm_storeu_si128((__m128i *)(void *)(out + 16), swap_words(hgfe));
}

/* Rounds 4g to 4g+3; then w[g & 3] becomes the words of group g + 4. */
SHA_INLINE void group(struct two_regs *s, __m128i w[4], unsigned g)
{
    __m128i wk = _mm_add_epi32(w[g & 3], load(sha256_k + 4 * g));

    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
    if (g < 12)
        w[g & 3] = _mm_sha256msg2_epu32(
            _mm_add_epi32(_mm_sha256msg1_epu32(w[g & 3], w[(g + 1) & 3]), _mm_alignr_epi8(w[(g + 3) & 3], w[(g + 2) & 3], 4)), w[(g + 3) & 3]);
}

SHA_INLINE void block(struct two_regs *s, __m128i w[4])
{
    struct two_regs before = *s;

#pragma GCC unroll 16
    for (unsigned g = 0; g < 16; g++)
        group(s, w, g);
    s->abef = _mm_add_epi32(s->abef, before.abef);
    s->cdgh = _mm_add_epi32(s->cdgh, before.cdgh);
}

SHA_INLINE void block_pair(struct two_regs *s, __m128i w[4], struct two_regs *t, __m128i v[4])
{
    struct two_regs s_before = *s, t_before = *t;

#pragma GCC unroll 16
    for (unsigned g = 0; g < 16; g++) {
        group(s, w, g);
        group(t, v, g);
    }
    s->abef = _mm_add_epi32(s->abef, s_before.abef);
    s->cdgh = _mm_add_epi32(s->cdgh, s_before.cdgh);
    t->abef = _mm_add_epi32(t->abef, t_before.abef);
    t->cdgh = _mm_add_epi32(t->cdgh, t_before.cdgh);
}

SHA_TARGET static void x86_blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    struct two_regs s = state_load(state);

    for (; count > 0; count--, data += 64) {
        __m128i w[4] = {swap_words(load(data)), swap_words(load(data + 16)), swap_words(load(data + 32)), swap_words(load(data + 48))};

        block(&s, w);
    }
    state_store(s, state);
}

/* The first block of a node: the prefix, left, and right without its last byte. */
SHA_INLINE void node_first(const uint8_t *left, const uint8_t *right, __m128i w[4])
{
    __m128i left_low = load(left), left_high = load(left + 16), right_low = load(right);

    w[0] = swap_words(_mm_alignr_epi8(left_low, _mm_set1_epi8(0x01), 15));
    w[1] = swap_words(_mm_alignr_epi8(left_high, left_low, 15));
    w[2] = swap_words(_mm_alignr_epi8(right_low, left_high, 15));
    w[3] = swap_words(load(right + 15));
}

SHA_INLINE void node_second(const uint8_t *right, __m128i w[4])
{
    w[0] = _mm_cvtsi32_si128((int)(((uint32_t)right[31] << 24) | 0x800000));
    w[1] = w[2] = _mm_setzero_si128();
    w[3] = _mm_set_epi32(65 * 8, 0, 0, 0);
}

SHA_TARGET static void x86_node(const uint8_t *left, const uint8_t *right, uint8_t *out)
{
    struct two_regs s = state_start();
    __m128i w[4], w2[4];

    node_first(left, right, w);
    node_second(right, w2);
    block(&s, w);
    block(&s, w2);
    state_out(s, out);
}

SHA_TARGET static void x86_leaf(const uint8_t *data, uint8_t *out)
{
    struct two_regs s = state_start();
    __m128i low = load(data), high = load(data + 16);
    __m128i w[4] = {swap_words(_mm_slli_si128(low, 1)), swap_words(_mm_alignr_epi8(high, low, 15)),
                    _mm_cvtsi32_si128((int)(((uint32_t)data[31] << 24) | 0x800000)), _mm_set_epi32(33 * 8, 0, 0, 0)};

    block(&s, w);
    state_out(s, out);
}

SHA_TARGET static void x86_nodes(const uint8_t *in, size_t pair_count, uint8_t *out)
{
    for (; pair_count >= 2; pair_count -= 2, in += 128, out += 64) {
        struct two_regs s = state_start(), t = state_start();
        __m128i w[4], v[4], w2[4], v2[4];

        /* All input is read before any output is written: out may equal in. */
        node_first(in, in + 32, w);
        node_first(in + 64, in + 96, v);
        node_second(in + 32, w2);
        node_second(in + 96, v2);
        block_pair(&s, w, &t, v);
        block_pair(&s, w2, &t, v2);
        state_out(s, out);
        state_out(t, out + 32);
    }
    if (pair_count > 0)
        x86_node(in, in + 32, out);
}

const struct sha256_impl sha256_x86 = {"sha-ni", x86_blocks, x86_node, x86_leaf, x86_nodes};
#endif
