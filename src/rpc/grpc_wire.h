/* Small pieces of the gRPC wire format: message prefix, grpc-timeout, percent-encoded text, base64 of -bin headers.
 *
 * Pure functions over borrowed bytes; nothing allocates; safe from any thread. */
#ifndef RPC_GRPC_WIRE_H
#define RPC_GRPC_WIRE_H

#include "base/bytes.h"

/* A message travels as: byte 0 compressed flag (0 or 1), bytes 1..4 length (big-endian), then the message. */
#define GRPC_PREFIX_LEN 5

static inline void grpc_prefix_write(uint8_t prefix[GRPC_PREFIX_LEN], uint32_t len)
{
    prefix[0] = 0;
    store_u32be(prefix + 1, len);
}

enum grpc_timeout_result {
    GRPC_TIMEOUT_OK = 0,
    GRPC_TIMEOUT_SHORT, /* fewer than two characters */
    GRPC_TIMEOUT_LONG,  /* more than eight digits */
    GRPC_TIMEOUT_UNIT,  /* last character is none of H M S m u n */
    GRPC_TIMEOUT_DIGITS /* something else than digits in front of it */
};
/* Value of a grpc-timeout header into nanoseconds; saturates at UINT64_MAX. *out_ns is 0 unless GRPC_TIMEOUT_OK. */
enum grpc_timeout_result grpc_timeout_parse(struct bytes value, uint64_t *out_ns);

/* Bytes below 0x20, above 0x7e and '%' become %XX. Writes at most out_max bytes and returns how many; text that does not fit is
 * cut at a character boundary (no half escape, no half UTF-8 sequence). out_max of 3 * text.len always suffices. */
size_t grpc_message_encode(struct bytes text, uint8_t *out, size_t out_max);
/* Length of the whole encoding. */
size_t grpc_message_encoded_len(struct bytes text);

/* Standard alphabet without padding. out has room for grpc_base64_len(data.len) bytes, which is what it returns. */
static inline size_t grpc_base64_len(size_t len) { return len / 3 * 4 + (len % 3 * 8 + 5) / 6; }
size_t grpc_base64_encode(struct bytes data, uint8_t *out);
/* Takes the padded and the unpadded form. out has room for text.len / 4 * 3 + 3 bytes. False when text is not base64. */
bool grpc_base64_decode(struct bytes text, uint8_t *out, size_t *out_len);

/* application/grpc, alone or followed by '+' or ';', in any case. */
bool grpc_content_type_is_grpc(struct bytes value);

/* Writes text between double quotes, with '"', '\' and control bytes escaped, cut to fit; NUL-terminated. out_max at least 8. */
void grpc_quote(struct bytes text, char *out, size_t out_max);

#endif
