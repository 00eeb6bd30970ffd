/* SHA-256 with the cryptographic extension of ARMv8. Each instruction does four rounds, on (A B C D) and (E F G H). */
#include "base/hash_internal.h"

#if defined(__aarch64__)
#if defined(__clang__) && !defined(__ARM_FEATURE_SHA2)
#define __ARM_FEATURE_SHA2 1 /* older clang declares the intrinsics only under this */
#endif
#include <arm_neon.h>
#include <sys/auxv.h>

#ifndef HWCAP_SHA2
#define HWCAP_SHA2 (1 << 6)
#endif

#if defined(__clang__)
#define SHA_TARGET __attribute__((target("sha2")))
#else
#define SHA_TARGET __attribute__((target("+sha2")))
#endif
#define SHA_INLINE SHA_TARGET __attribute__((always_inline)) static inline

bool sha256_armv8_usable(void) { return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0; }

struct two_regs {
    uint32x4_t abcd, efgh;
};

SHA_INLINE void group(struct two_regs *s, uint32x4_t w[4], unsigned g)
{
    uint32x4_t wk = vaddq_u32(w[g & 3], vld1q_u32(sha256_k + 4 * g)), abcd = s->abcd;

    s->abcd = vsha256hq_u32(s->abcd, s->efgh, wk);
    s->efgh = vsha256h2q_u32(s->efgh, abcd, wk);
    if (g < 12)
        w[g & 3] = vsha256su1q_u32(vsha256su0q_u32(w[g & 3], w[(g + 1) & 3]), w[(g + 2) & 3], w[(g + 3) & 3]);
}

SHA_TARGET static void armv8_blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    struct two_regs s = {vld1q_u32(state), vld1q_u32(state + 4)}, before;
    uint32x4_t w[4];

    for (; count > 0; count--, data += 64) {
        before = s;
        for (unsigned i = 0; i < 4; i++)
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
#pragma GCC unroll 16
        for (unsigned g = 0; g < 16; g++)
            group(&s, w, g);
        s.abcd = vaddq_u32(s.abcd, before.abcd);
        s.efgh = vaddq_u32(s.efgh, before.efgh);
    }
    vst1q_u32(state, s.abcd);
    vst1q_u32(state + 4, s.efgh);
}

static void armv8_node(const uint8_t *left, const uint8_t *right, uint8_t *out) { sha256_node_by_blocks(&sha256_armv8, left, right, out); }

static void armv8_leaf(const uint8_t *data, uint8_t *out) { sha256_leaf_by_blocks(&sha256_armv8, data, out); }

static void armv8_nodes(const uint8_t *in, size_t pair_count, uint8_t *out)
{
    for (size_t i = 0; i < pair_count; i++)
        armv8_node(in + 64 * i, in + 64 * i + 32, out + 32 * i);
}

const struct sha256_impl sha256_armv8 = {"armv8", armv8_blocks, armv8_node, armv8_leaf, armv8_nodes};
#else
typedef int sha256_armv8_is_left_out; /* a translation unit may not be empty */
#endif
