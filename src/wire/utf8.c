/* UTF-8 as Unicode defines it: no surrogates, no overlong forms, at most U+10FFFF. */
#include "wire/wire.h"

/* Length of the well-formed sequence at p, or 0. */
static size_t utf8_sequence(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0], low = 0x80, high = 0xBF;
    size_t len;

    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (len > left)
        return 0;
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

bool utf8_is_valid(struct bytes s)
{
    size_t i = 0;

    while (i < s.len) {
        uint64_t eight;
        size_t len;

        if (s.len - i >= 8) { /* plain ASCII in steps of eight */
            memcpy(&eight, s.data + i, 8);
            if ((eight & 0x8080808080808080u) == 0) {
                i += 8;
                continue;
            }
        }
        if ((len = utf8_sequence(s.data + i, s.len - i)) == 0)
            return false;
        i += len;
    }
    return true;
}
