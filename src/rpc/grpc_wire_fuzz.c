/* Fuzz target: the small encodings. Any bytes may be given to any of them; what decodes is encoded and must come back, what is
 * encoded must be printable and within its announced length. */
#include <stdlib.h>

#include "rpc/grpc_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check(bool is_true)
{
    if (!is_true)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes in = bytes_of(data, len);
    uint8_t *out, *back;
    size_t out_len, room = 3 * len + 8;
    char quoted[64];
    uint64_t ns;

    if (len > 1 << 16 || (out = malloc(room)) == NULL)
        return 0;
    if ((back = malloc(room)) == NULL) {
        free(out);
        return 0;
    }
    (void)grpc_timeout_parse(in, &ns);
    (void)grpc_content_type_is_grpc(in);
    grpc_quote(in, quoted, sizeof(quoted));
    check(strnlen(quoted, sizeof(quoted)) < sizeof(quoted));
    out_len = grpc_message_encode(in, out, room);
    check(out_len == grpc_message_encoded_len(in));
    for (size_t i = 0; i < out_len; i++)
        check(out[i] >= 0x20 && out[i] <= 0x7e);
    if (len > 0)
        check(grpc_message_encode(in, out, data[0]) <= data[0]);
    out_len = grpc_base64_encode(in, out);
    check(out_len == grpc_base64_len(len));
    check(grpc_base64_decode(bytes_of(out, out_len), back, &out_len) && out_len == len && (len == 0 || memcmp(back, data, len) == 0));
    if (grpc_base64_decode(in, out, &out_len))
        check(out_len <= len);
    free(back);
    free(out);
    return 0;
}
