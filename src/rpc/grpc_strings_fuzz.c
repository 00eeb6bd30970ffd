/* Fuzz target: header blocks and frames of anybody. The input is a sequence of frames' bytes in two equal rounds, so that strings return; what comes out
 * must have the length that was announced, and each rewritten block must decode to the fields of the one it replaces. */
#include <assert.h>
#include <stdlib.h>

#include "rpc/grpc_strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A digest of the fields of a block, read by a decoder of its own. */
static uint64_t fields(const uint8_t *in, size_t len, bool *is_good)
{
    nghttp2_hd_inflater *decoder;
    uint64_t digest = 0;
    nghttp2_nv nv;
    int flags = 0;
    ssize_t n;

    if (nghttp2_hd_inflate_new(&decoder) != 0)
        abort();
    do {
        n = nghttp2_hd_inflate_hd2(decoder, &nv, &flags, in, len, 1);
        if (n < 0)
            break;
        in += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT) {
            for (size_t i = 0; i < nv.namelen; i++)
                digest = digest * 1099511628211u + nv.name[i];
            for (size_t i = 0; i < nv.valuelen; i++)
                digest = digest * 1099511628211u + nv.value[i];
            digest = digest * 1099511628211u + nv.namelen;
        }
    } while (!(flags & NGHTTP2_HD_INFLATE_FINAL) && (len > 0 || (flags & NGHTTP2_HD_INFLATE_EMIT)));
    *is_good = n >= 0;
    nghttp2_hd_inflate_del(decoder);
    return digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct grpc_strings strings = {0};

    for (int round = 0; round < 3; round++) {
        struct grpc_frame_walk walk = {0};
        size_t as_is, taken;

        for (size_t at = 0; at < len; at += as_is + taken) {
            struct bytes instead;
            bool x_good, y_good;

            as_is = grpc_strings_next(&strings, &walk, data + at, len - at, &instead, &taken);
            assert(as_is + taken <= len - at && as_is + taken > 0);
            if (taken == 0)
                continue;
            size_t skip = instead.data[4] & 0x20 ? 14 : 9;
            assert(instead.len <= GRPC_REWRITE_ROOM && instead.len >= skip && taken >= skip);
            assert(((size_t)instead.data[0] << 16 | (size_t)instead.data[1] << 8 | instead.data[2]) == instead.len - 9);
            uint64_t x = fields(data + at + as_is + skip, taken - skip, &x_good);
            uint64_t y = fields(instead.data + skip, instead.len - skip, &y_good);
            assert(x_good == y_good && (!x_good || x == y));
        }
    }
    grpc_strings_free(&strings);
    return 0;
}
