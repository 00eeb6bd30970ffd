/* CRC-32C (polynomial 0x1EDC6F41, reflected 0x82F63B78) in plain C: eight bytes a step by eight tables. */
#include "base/hash_internal.h"

static uint32_t table[8][256]; /* filled before main() starts, then constant */

void crc32c_portable_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t v = i;

        for (unsigned bit = 0; bit < 8; bit++)
            v = (v >> 1) ^ ((v & 1) != 0 ? 0x82f63b78u : 0);
        table[0][i] = v;
    }
    for (unsigned t = 1; t < 8; t++)
        for (unsigned i = 0; i < 256; i++)
            table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xff];
}

static uint32_t portable_update(uint32_t crc, const uint8_t *data, size_t len)
{
    for (; len >= 8; len -= 8, data += 8) {
        uint32_t low = crc ^ load_u32le(data), high = load_u32le(data + 4);

        crc = table[7][low & 0xff] ^ table[6][(low >> 8) & 0xff] ^ table[5][(low >> 16) & 0xff] ^ table[4][low >> 24] ^ table[3][high & 0xff] ^
              table[2][(high >> 8) & 0xff] ^ table[1][(high >> 16) & 0xff] ^ table[0][high >> 24];
    }
    for (; len > 0; len--, data++)
        crc = (crc >> 8) ^ table[0][(crc ^ *data) & 0xff];
    return crc;
}

const struct crc32c_impl crc32c_portable = {"portable", portable_update};
