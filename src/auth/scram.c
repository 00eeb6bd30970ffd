/* Keys of RFC 5802, section 3, and their text form; see scram.h. */
#include "auth/scram.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "auth/base64.h"
#include "base/hash.h"

static const char SCHEME[] = "SCRAM-SHA-256$";
enum { SCHEME_LEN = sizeof SCHEME - 1, SALT_TEXT_LEN = 24, KEY_TEXT_LEN = 44 };

bool scram_takes(struct bytes password)
{
    size_t i;

    for (i = 0; i < password.len; i++)
        if (password.data[i] < 0x20 || password.data[i] > 0x7e)
            return false;
    return password.len > 0;
}

static bool keyed(const uint8_t key[SCRAM_KEY_BYTES], const char *text, uint8_t out[SCRAM_KEY_BYTES])
{
    unsigned len = SCRAM_KEY_BYTES;

    return HMAC(EVP_sha256(), key, SCRAM_KEY_BYTES, (const uint8_t *)text, strlen(text), out, &len) != NULL && len == SCRAM_KEY_BYTES;
}

enum status scram_derive(struct bytes password, struct scram_verifier *v, struct err *err)
{
    uint8_t salted[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES];
    bool is_good = PKCS5_PBKDF2_HMAC((const char *)password.data, (int)password.len, v->salt, SCRAM_SALT_BYTES, (int)v->iterations, EVP_sha256(),
                                     SCRAM_KEY_BYTES, salted) == 1 &&
                   keyed(salted, "Client Key", client_key) && keyed(salted, "Server Key", v->server_key);
    hash_t stored;

    if (is_good) {
        sha256(client_key, sizeof client_key, &stored);
        memcpy(v->stored_key, stored.b, SCRAM_KEY_BYTES);
    }
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client_key, sizeof client_key);
    return is_good ? ST_OK : err_set(err, ST_NOMEM, 0, "making a SCRAM verifier: out of memory");
}

enum status scram_create(const struct env *env, struct bytes password, struct scram_verifier *out, struct err *err)
{
    *out = (struct scram_verifier){.iterations = SCRAM_ITERATIONS};
    env_random(env, out->salt, sizeof out->salt);
    return scram_derive(password, out, err);
}

const char *scram_encode(const struct scram_verifier *v, char out[SCRAM_TEXT_MAX])
{
    char salt[SALT_TEXT_LEN + 1] = "", stored[KEY_TEXT_LEN + 1] = "", server[KEY_TEXT_LEN + 1] = "";

    base64_encode(BASE64_STD, bytes_of(v->salt, sizeof v->salt), salt);
    base64_encode(BASE64_STD, bytes_of(v->stored_key, sizeof v->stored_key), stored);
    base64_encode(BASE64_STD, bytes_of(v->server_key, sizeof v->server_key), server);
    snprintf(out, SCRAM_TEXT_MAX, "%s%u:%s$%s:%s", SCHEME, v->iterations, salt, stored, server);
    return out;
}

/* len bytes written as text_len characters of base64, then the separator (0 = the end). */
static bool field_take(struct bytes *text, size_t text_len, uint8_t *out, size_t len, char separator)
{
    uint8_t room[KEY_TEXT_LEN / 4 * 3 + 3];
    size_t got = 0;

    if (text->len < text_len || base64_decode(BASE64_STD, bytes_of(text->data, text_len), room, &got, NULL) != ST_OK || got != len)
        return false;
    memcpy(out, room, len);
    *text = bytes_of(text->data + text_len, text->len - text_len);
    if (separator == '\0')
        return text->len == 0;
    if (text->len == 0 || text->data[0] != (uint8_t)separator)
        return false;
    *text = bytes_of(text->data + 1, text->len - 1);
    return true;
}

bool scram_decode(struct bytes text, struct scram_verifier *out)
{
    uint32_t iterations = 0;

    *out = (struct scram_verifier){0};
    if (!bytes_has_prefix(text, bytes_of(SCHEME, SCHEME_LEN)))
        return false;
    text = bytes_of(text.data + SCHEME_LEN, text.len - SCHEME_LEN);
    while (text.len > 0 && text.data[0] >= '0' && text.data[0] <= '9' && iterations <= SCRAM_ITERATIONS_MAX) {
        iterations = iterations * 10 + (uint32_t)(text.data[0] - '0');
        text = bytes_of(text.data + 1, text.len - 1);
    }
    if (iterations == 0 || iterations > SCRAM_ITERATIONS_MAX || text.len == 0 || text.data[0] != ':')
        return false;
    text = bytes_of(text.data + 1, text.len - 1);
    out->iterations = iterations;
    return field_take(&text, SALT_TEXT_LEN, out->salt, SCRAM_SALT_BYTES, '$') &&
           field_take(&text, KEY_TEXT_LEN, out->stored_key, SCRAM_KEY_BYTES, ':') &&
           field_take(&text, KEY_TEXT_LEN, out->server_key, SCRAM_KEY_BYTES, '\0');
}
