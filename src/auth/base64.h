/* Base64 (RFC 4648), standard and URL alphabets, with and without padding.
 *
 * Decoding is strict and names the first offending byte, as clients see it: "illegal base64 data at input byte N". Line ends inside the text
 * are skipped by the standard form, as the published tools do. No allocation; any thread. */
#ifndef AUTH_BASE64_H
#define AUTH_BASE64_H

#include "base/bytes.h"
#include "base/err.h"

enum base64_form { BASE64_STD, BASE64_URL, BASE64_URL_RAW /* no padding */ };

/* Characters that len bytes take. */
static inline size_t base64_len(enum base64_form form, size_t len)
{
    return form == BASE64_URL_RAW ? len / 3 * 4 + (len % 3 == 0 ? 0 : len % 3 + 1) : (len + 2) / 3 * 4;
}
/* Room that decoding text_len characters needs at most. */
static inline size_t base64_decoded_max(size_t text_len) { return text_len / 4 * 3 + 3; }

/* Writes base64_len() characters, no NUL; out has room for them. Returns their number. */
size_t base64_encode(enum base64_form form, struct bytes in, char *out);
/* out has room for base64_decoded_max(text.len). ST_INVALID with the text above. */
MUST_USE enum status base64_decode(enum base64_form form, struct bytes text, uint8_t *out, size_t *out_len, struct err *err);

#endif
