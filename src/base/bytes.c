/* Variable-length integers (LEB128, as in protobuf): seven bits a byte, least significant first, the top bit says that
 * another byte follows. Only the shortest form of a number is accepted, so equal numbers have equal bytes. */
#include "base/bytes.h"

enum { VARINT_BYTES_MAX = 10 };

uint64_t reader_varint(struct reader *r)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        uint8_t byte = reader_u8(r);

        if (r->failed)
            return 0;
        /* The tenth byte holds bit 63 alone; a last byte of zero behind others is an overlong form. */
        if ((i == VARINT_BYTES_MAX - 1 && byte > 1) || (i > 0 && byte == 0))
            break;
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0)
            return v;
    }
    r->failed = true;
    return 0;
}

void writer_varint(struct writer *w, uint64_t v)
{
    uint8_t buf[VARINT_BYTES_MAX];
    size_t len = 0;

    while (v >= 0x80) {
        buf[len++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    buf[len++] = (uint8_t)v;
    writer_put(w, buf, len);
}
