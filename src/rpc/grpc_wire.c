/* Small pieces of the gRPC wire format; see grpc_wire.h. */
#include "rpc/grpc_wire.h"

#include <assert.h>
#include <stdio.h>

enum grpc_timeout_result grpc_timeout_parse(struct bytes value, uint64_t *out_ns)
{
    uint64_t unit_ns, count = 0;

    *out_ns = 0;
    if (value.len < 2)
        return GRPC_TIMEOUT_SHORT;
    if (value.len > 9)
        return GRPC_TIMEOUT_LONG;
    switch (value.data[value.len - 1]) {
    case 'H':
        unit_ns = UINT64_C(3600000000000);
        break;
    case 'M':
        unit_ns = UINT64_C(60000000000);
        break;
    case 'S':
        unit_ns = UINT64_C(1000000000);
        break;
    case 'm':
        unit_ns = UINT64_C(1000000);
        break;
    case 'u':
        unit_ns = UINT64_C(1000);
        break;
    case 'n':
        unit_ns = 1;
        break;
    default:
        return GRPC_TIMEOUT_UNIT;
    }
    for (size_t i = 0; i + 1 < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return GRPC_TIMEOUT_DIGITS;
        count = count * 10 + (uint64_t)(value.data[i] - '0');
    }
    if (__builtin_mul_overflow(count, unit_ns, out_ns))
        *out_ns = UINT64_MAX;
    return GRPC_TIMEOUT_OK;
}

static bool is_plain(uint8_t c) { return c >= 0x20 && c <= 0x7e && c != '%'; }

size_t grpc_message_encoded_len(struct bytes text)
{
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++)
        len += is_plain(text.data[i]) ? 1 : 3;
    return len;
}

/* Bytes of the character at p: the sequence that a UTF-8 lead byte announces as far as continuation bytes follow, else 1. */
static size_t char_len(const uint8_t *p, size_t left)
{
    size_t announced = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : *p >= 0xc0 ? 2 : 1, len = 1;

    while (len < announced && len < left && (p[len] & 0xc0) == 0x80)
        len++;
    return len;
}

size_t grpc_message_encode(struct bytes text, uint8_t *out, size_t out_max)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = 0;

    for (size_t i = 0; i < text.len;) {
        size_t n = char_len(text.data + i, text.len - i);

        if ((is_plain(text.data[i]) ? 1 : 3 * n) > out_max - len)
            break;
        if (is_plain(text.data[i])) {
            out[len++] = text.data[i++];
            continue;
        }
        for (; n > 0; n--, i++) {
            out[len++] = '%';
            out[len++] = (uint8_t)hex[text.data[i] >> 4];
            out[len++] = (uint8_t)hex[text.data[i] & 15];
        }
    }
    return len;
}

size_t grpc_base64_encode(struct bytes data, uint8_t *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = 0, i = 0;

    for (; i + 3 <= data.len; i += 3) {
        uint32_t v = (uint32_t)data.data[i] << 16 | (uint32_t)data.data[i + 1] << 8 | data.data[i + 2];

        out[len++] = (uint8_t)alphabet[v >> 18];
        out[len++] = (uint8_t)alphabet[v >> 12 & 63];
        out[len++] = (uint8_t)alphabet[v >> 6 & 63];
        out[len++] = (uint8_t)alphabet[v & 63];
    }
    if (i < data.len) {
        uint32_t v = (uint32_t)data.data[i] << 16 | (i + 1 < data.len ? (uint32_t)data.data[i + 1] << 8 : 0);

        out[len++] = (uint8_t)alphabet[v >> 18];
        out[len++] = (uint8_t)alphabet[v >> 12 & 63];
        if (i + 1 < data.len)
            out[len++] = (uint8_t)alphabet[v >> 6 & 63];
    }
    assert(len == grpc_base64_len(data.len));
    return len;
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool grpc_base64_decode(struct bytes text, uint8_t *out, size_t *out_len)
{
    uint32_t v = 0;
    unsigned bits = 0;

    *out_len = 0;
    if (text.len > 0 && text.len % 4 == 0 && text.data[text.len - 1] == '=')
        text.len -= text.data[text.len - 2] == '=' ? 2 : 1;
    if (text.len % 4 == 1)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_value(text.data[i]);

        if (digit < 0)
            return false;
        v = v << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[(*out_len)++] = (uint8_t)(v >> bits);
        }
    }
    return true;
}

bool grpc_content_type_is_grpc(struct bytes value)
{
    static const char want[] = "application/grpc";
    size_t len = sizeof(want) - 1;

    if (value.len < len)
        return false;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = value.data[i];

        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != want[i])
            return false;
    }
    return value.len == len || value.data[len] == '+' || value.data[len] == ';';
}

void grpc_quote(struct bytes text, char *out, size_t out_max)
{
    size_t len = 0;

    assert(out_max >= 8);
    out[len++] = '"';
    for (size_t i = 0; i < text.len && len + 6 < out_max; i++) {
        uint8_t c = text.data[i];

        if (c == '"' || c == '\\') {
            out[len++] = '\\';
            out[len++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            len += (size_t)snprintf(out + len, 5, "\\x%02x", c);
        } else {
            out[len++] = (char)c;
        }
    }
    out[len++] = '"';
    out[len] = '\0';
}
