/* Base64 by quanta of four characters; a short last quantum and the padding are where the forms differ. */
#include "auth/base64.h"

#include <assert.h>

static const char STD_ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char URL_ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t base64_encode(enum base64_form form, struct bytes in, char *out)
{
    const char *alphabet = form == BASE64_STD ? STD_ALPHABET : URL_ALPHABET;
    char *at = out;
    size_t i;

    for (i = 0; i + 3 <= in.len; i += 3) {
        uint32_t v = ((uint32_t)in.data[i] << 16) | ((uint32_t)in.data[i + 1] << 8) | in.data[i + 2];

        *at++ = alphabet[v >> 18];
        *at++ = alphabet[(v >> 12) & 63];
        *at++ = alphabet[(v >> 6) & 63];
        *at++ = alphabet[v & 63];
    }
    if (i < in.len) {
        uint32_t v = ((uint32_t)in.data[i] << 16) | (i + 1 < in.len ? (uint32_t)in.data[i + 1] << 8 : 0);

        *at++ = alphabet[v >> 18];
        *at++ = alphabet[(v >> 12) & 63];
        if (i + 1 < in.len)
            *at++ = alphabet[(v >> 6) & 63];
        else if (form != BASE64_URL_RAW)
            *at++ = '=';
        if (form != BASE64_URL_RAW)
            *at++ = '=';
    }
    assert((size_t)(at - out) == base64_len(form, in.len));
    return (size_t)(at - out);
}

/* 0..63, or -1 when c does not belong to the alphabet. */
static int char_value(enum base64_form form, uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (form == BASE64_STD)
        return c == '+' ? 62 : c == '/' ? 63 : -1;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

static bool is_line_end(uint8_t c) { return c == '\n' || c == '\r'; }

static enum status illegal(struct err *err, size_t offset) { return err_set(err, ST_INVALID, 0, "illegal base64 data at input byte %zu", offset); }

/* One quantum from *at on. quantum: its values; *count how many; *at moves behind it and its padding. */
static enum status quantum_read(enum base64_form form, struct bytes text, size_t *at, int quantum[4], size_t *count, bool *is_last, struct err *err)
{
    size_t i = *at;

    *count = 0;
    while (*count < 4) {
        int v;

        if (i == text.len) {
            if (*count == 0) {
                *at = i;
                return ST_OK;
            }
            if (*count == 1 || form != BASE64_URL_RAW)
                return illegal(err, i - *count);
            *is_last = true;
            break;
        }
        if (is_line_end(text.data[i])) {
            i++;
            continue;
        }
        if ((v = char_value(form, text.data[i])) >= 0) {
            quantum[(*count)++] = v;
            i++;
            continue;
        }
        if (text.data[i] != '=' || form == BASE64_URL_RAW || *count < 2)
            return illegal(err, i);
        if (*count == 2) { /* a second '=' must follow */
            i++;
            while (i < text.len && is_line_end(text.data[i]))
                i++;
            if (i == text.len)
                return illegal(err, text.len);
            if (text.data[i] != '=')
                return illegal(err, i);
        }
        i++;
        while (i < text.len && is_line_end(text.data[i]))
            i++;
        if (i < text.len)
            return illegal(err, i);
        *is_last = true;
        break;
    }
    *at = i;
    return ST_OK;
}

enum status base64_decode(enum base64_form form, struct bytes text, uint8_t *out, size_t *out_len, struct err *err)
{
    bool is_last = false;
    size_t at = 0, len = 0;

    *out_len = 0;
    while (at < text.len && !is_last) {
        int quantum[4] = {0};
        size_t count;
        uint32_t v;

        if (quantum_read(form, text, &at, quantum, &count, &is_last, err) != ST_OK)
            return ST_INVALID;
        v = ((uint32_t)quantum[0] << 18) | ((uint32_t)quantum[1] << 12) | ((uint32_t)quantum[2] << 6) | (uint32_t)quantum[3];
        if (count > 1)
            out[len++] = (uint8_t)(v >> 16);
        if (count > 2)
            out[len++] = (uint8_t)(v >> 8);
        if (count > 3)
            out[len++] = (uint8_t)v;
    }
    *out_len = len;
    return ST_OK;
}
