/* CRC-32C with the instructions of ARMv8. */
#include "base/hash_internal.h"

#if defined(__aarch64__)
#if defined(__clang__) && !defined(__ARM_FEATURE_CRC32)
#define __ARM_FEATURE_CRC32 1 /* older clang declares the intrinsics only under this */
#endif
#include <arm_acle.h>
#include <sys/auxv.h>

#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif

#if defined(__clang__)
#define CRC_TARGET __attribute__((target("crc")))
#else
#define CRC_TARGET __attribute__((target("+crc")))
#endif

bool crc32c_armv8_usable(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

CRC_TARGET static uint32_t armv8_update(uint32_t crc, const uint8_t *data, size_t len)
{
    for (; len >= 8; len -= 8, data += 8)
        crc = __crc32cd(crc, load_u64le(data));
    for (; len > 0; len--, data++)
        crc = __crc32cb(crc, *data);
    return crc;
}

const struct crc32c_impl crc32c_armv8 = {"armv8", armv8_update};
#else
typedef int crc32c_armv8_is_left_out; /* a translation unit may not be empty */
#endif
