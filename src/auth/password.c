/* bcrypt by libxcrypt, with the prefix swap of password.h. */
#include "auth/password.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

enum { SALT_BYTES = 16, SALT_TEXT_LEN = 29 /* "$2y$10$" and 22 characters */ };

/* bcrypt's own base64: another alphabet, most significant bits first, no padding. */
static const char SALT_ALPHABET[] = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static void salt_text(const uint8_t salt[SALT_BYTES], char out[23])
{
    size_t i, at = 0;
    uint32_t bits = 0;
    unsigned bit_count = 0;

    for (i = 0; i < SALT_BYTES; i++) {
        bits = (bits << 8) | salt[i];
        for (bit_count += 8; bit_count >= 6; bit_count -= 6)
            out[at++] = SALT_ALPHABET[(bits >> (bit_count - 6)) & 63];
    }
    out[at++] = SALT_ALPHABET[(bits << (6 - bit_count)) & 63];
    out[at] = '\0';
}

/* crypt_rn over a NUL-terminated copy; false when the setting is none. (Not crypt_r: sanitizers bring one of their own, and the linker then leaves the
 * library out.) */
static bool bcrypt(struct bytes password, const char *setting, char out[PASSWORD_HASH_LEN + 1])
{
    char phrase[PASSWORD_LEN_MAX + 1];
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *result;
    bool is_good = false;

    if (data == NULL)
        return false;
    if (password.len > 0)
        memcpy(phrase, password.data, password.len);
    phrase[password.len] = '\0';
    result = crypt_rn(phrase, setting, data, (int)sizeof *data);
    if (result != NULL && strlen(result) == PASSWORD_HASH_LEN) {
        memcpy(out, result, PASSWORD_HASH_LEN + 1);
        is_good = true;
    }
    OPENSSL_cleanse(phrase, sizeof phrase);
    OPENSSL_cleanse(data, sizeof *data);
    free(data);
    return is_good;
}

enum status password_hash(const struct env *env, struct bytes password, unsigned cost, char out[PASSWORD_HASH_LEN + 1], struct err *err)
{
    uint8_t salt[SALT_BYTES];
    char setting[SALT_TEXT_LEN + 1], text[23];

    out[0] = '\0';
    if (password.len == 0)
        return err_set(err, ST_INVALID, 0, "password is empty");
    if (password.len > PASSWORD_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "error hashing password: bcrypt: password length exceeds 72 bytes");
    /* A NUL would cut the password for everybody who checks it with C strings; the peer takes it, but nobody can type it. */
    if (memchr(password.data, '\0', password.len) != NULL)
        return err_set(err, ST_INVALID, 0, "password contains a zero byte");
    if (cost < 4 || cost > 31)
        return err_set(err, ST_INVALID, 0, "bcrypt cost %u", cost);
    env_random(env, salt, sizeof salt);
    salt_text(salt, text);
    snprintf(setting, sizeof setting, "$2y$%02u$%.22s", cost, text);
    if (!bcrypt(password, setting, out))
        return err_set(err, ST_NOMEM, 0, "hashing the password failed");
    out[2] = 'a';
    return ST_OK;
}

static bool is_bcrypt(struct bytes hash)
{
    const uint8_t *h = hash.data;

    return hash.len == PASSWORD_HASH_LEN && h[0] == '$' && h[1] == '2' && h[2] >= 'a' && h[2] <= 'z' && h[3] == '$' && h[4] >= '0' && h[4] <= '3' &&
           h[5] >= '0' && h[5] <= '9' && h[6] == '$';
}

bool password_matches(struct bytes password, struct bytes hash)
{
    char setting[PASSWORD_HASH_LEN + 1], computed[PASSWORD_HASH_LEN + 1];

    if (!is_bcrypt(hash) || password.len > PASSWORD_LEN_MAX || (password.len > 0 && memchr(password.data, '\0', password.len) != NULL))
        return false;
    memcpy(setting, hash.data, PASSWORD_HASH_LEN);
    setting[PASSWORD_HASH_LEN] = '\0';
    setting[2] = 'y';
    if (!bcrypt(password, setting, computed))
        return false;
    return CRYPTO_memcmp(computed + 7, hash.data + 7, PASSWORD_HASH_LEN - 7) == 0;
}

void password_waste(struct bytes password)
{
    static const char hash[] = "$2a$10$abcdefghijklmnopqrstuuJ1P3g4jIfzYVYtkPrd2b8zG5lSvvYdW";
    struct bytes some = bytes_of("x", 1);

    (void)password_matches(password.len > PASSWORD_LEN_MAX ? some : password, bytes_of(hash, PASSWORD_HASH_LEN));
}
