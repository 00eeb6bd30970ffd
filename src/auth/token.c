/* Encoding, parsing and signing; see token.h. */
#include "auth/token.h"

#include <stdio.h>
#include <stdlib.h>

#include "auth/base64.h"
#include "auth/json_text.h"

static const char HEADER[] = "v2.public.";
static const char FOOTER[] = "immudb";
enum { HEADER_LEN = sizeof HEADER - 1, FOOTER_LEN = sizeof FOOTER - 1, SIGNATURE_LEN = 64 };

EVP_PKEY *token_key_create(void) { return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"); }

/* Pre-authentication encoding: count, then each piece behind its length, all 64-bit little-endian. */
static struct bytes pae(struct arena *arena, struct bytes payload, struct bytes footer)
{
    size_t len = 8 + 3 * 8 + HEADER_LEN + payload.len + footer.len;
    uint8_t *buf = arena_alloc(arena, len);
    struct writer w;

    if (buf == NULL)
        return bytes_of(NULL, 0);
    w = writer_of(buf, len);
    writer_u64le(&w, 3);
    writer_u64le(&w, HEADER_LEN);
    writer_put(&w, HEADER, HEADER_LEN);
    writer_u64le(&w, payload.len);
    writer_put(&w, payload.data, payload.len);
    writer_u64le(&w, footer.len);
    writer_put(&w, footer.data, footer.len);
    return bytes_of(buf, writer_len(&w));
}

static enum status payload_make(const char *user, int64_t database, int64_t expires_s, struct json_text *out, struct err *err)
{
    struct record_time expires = {.unix_s = expires_s};
    char number[24];

    snprintf(number, sizeof number, "%lld", (long long)database);
    json_put_open(out, '{');
    json_put_name(out, "database");
    json_put_str(out, bytes_str(number));
    json_put_name(out, "exp");
    json_put_time(out, &expires);
    if (user[0] != '\0') {
        json_put_name(out, "sub");
        json_put_str(out, bytes_str(user));
    }
    json_put_close(out, '}');
    return out->failed ? err_set(err, ST_NOMEM, 0, "making a token: out of memory") : ST_OK;
}

enum status token_issue(EVP_PKEY *key, const char *user, int64_t database, int64_t expires_s, struct arena *arena, char **out, struct err *err)
{
    struct json_text payload = {0};
    EVP_MD_CTX *md = NULL;
    size_t signature_len = SIGNATURE_LEN, len;
    struct bytes message;
    uint8_t *body;
    char *text;
    enum status st;

    *out = NULL;
    if ((st = payload_make(user, database, expires_s, &payload, err)) != ST_OK)
        goto done;
    st = ST_NOMEM;
    message = pae(arena, bytes_of(payload.text, payload.len), bytes_of(FOOTER, FOOTER_LEN));
    body = arena_alloc(arena, payload.len + SIGNATURE_LEN);
    text = arena_alloc(arena, HEADER_LEN + base64_len(BASE64_URL_RAW, payload.len + SIGNATURE_LEN) + 1 + base64_len(BASE64_URL_RAW, FOOTER_LEN) + 1);
    if (message.data == NULL || body == NULL || text == NULL || (md = EVP_MD_CTX_new()) == NULL)
        goto done;
    memcpy(body, payload.text, payload.len);
    if (EVP_DigestSignInit(md, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(md, body + payload.len, &signature_len, message.data, message.len) != 1 || signature_len != SIGNATURE_LEN)
        goto done;
    memcpy(text, HEADER, HEADER_LEN);
    len = HEADER_LEN + base64_encode(BASE64_URL_RAW, bytes_of(body, payload.len + SIGNATURE_LEN), text + HEADER_LEN);
    text[len++] = '.';
    len += base64_encode(BASE64_URL_RAW, bytes_of(FOOTER, FOOTER_LEN), text + len);
    text[len] = '\0';
    *out = text;
    st = ST_OK;
done:
    EVP_MD_CTX_free(md);
    json_text_free(&payload);
    return st == ST_OK ? ST_OK : err_set(err, st, 0, "making a token: out of memory");
}

/* The claims inside the payload. */
static enum status claims_read(struct token *t, struct err *err)
{
    const json_t *user, *database, *expires;
    struct record_time when;
    json_t *object = NULL;
    char *end;
    enum status st = ST_INVALID;

    if (json_read(t->payload, &object, NULL) != ST_OK || !json_is_object(object)) {
        err_set(err, ST_INVALID, 0, "malformed token: payload is no JSON object");
        goto done;
    }
    user = json_object_get(object, "sub");
    database = json_object_get(object, "database");
    expires = json_object_get(object, "exp");
    if ((user != NULL && (!json_is_string(user) || json_string_length(user) >= sizeof t->user)) || !json_is_string(database) ||
        !json_is_string(expires)) {
        err_set(err, ST_INVALID, 0, "malformed token: a claim is missing or of the wrong type");
        goto done;
    }
    if (user != NULL)
        memcpy(t->user, json_string_value(user), json_string_length(user) + 1);
    t->database = strtoll(json_string_value(database), &end, 10);
    if (*end != '\0' || record_time_parse(bytes_of(json_string_value(expires), json_string_length(expires)), &when, NULL) != ST_OK) {
        err_set(err, ST_INVALID, 0, "malformed token: a claim cannot be read");
        goto done;
    }
    t->expires_s = when.unix_s;
    st = ST_OK;
done:
    json_decref(object);
    return st;
}

static enum status part_decode(struct bytes text, const char *what, struct arena *arena, struct bytes *out, struct err *err)
{
    uint8_t *buf = arena_alloc(arena, base64_decoded_max(text.len));
    struct err cause;
    size_t len;

    *out = bytes_of(NULL, 0);
    if (buf == NULL)
        return err_set(err, ST_NOMEM, 0, "reading a token: out of memory");
    if (base64_decode(BASE64_URL_RAW, text, buf, &len, &cause) != ST_OK)
        return err_set(err, ST_INVALID, 0, "error decoding token %s: %s", what, cause.text);
    *out = bytes_of(buf, len);
    return ST_OK;
}

enum status token_parse(struct bytes text, struct arena *arena, struct token *out, struct err *err)
{
    const uint8_t *first, *second, *third, *end = text.data + text.len;
    struct bytes body;
    enum status st;

    *out = (struct token){.database = TOKEN_NO_DATABASE};
    if (text.len == 0 || text.len > TOKEN_LEN_MAX)
        return err_set(err, ST_INVALID, 0, "malformed token: expected at least 3 pieces");
    first = memchr(text.data, '.', text.len);
    second = first == NULL ? NULL : memchr(first + 1, '.', (size_t)(end - first - 1));
    if (second == NULL)
        return err_set(err, ST_INVALID, 0, "malformed token: expected at least 3 pieces");
    if ((size_t)(second + 1 - text.data) != HEADER_LEN || memcmp(text.data, HEADER, HEADER_LEN) != 0)
        return err_set(err, ST_INVALID, 0, "malformed token: incorrect token header");
    third = memchr(second + 1, '.', (size_t)(end - second - 1));
    if ((st = part_decode(bytes_of(second + 1, (size_t)((third != NULL ? third : end) - second - 1)), "payload", arena, &body, err)) != ST_OK)
        return st;
    if (third != NULL && (st = part_decode(bytes_of(third + 1, (size_t)(end - third - 1)), "footer", arena, &out->footer, err)) != ST_OK)
        return st;
    if (body.len < SIGNATURE_LEN)
        return err_set(err, ST_INVALID, 0, "malformed token: incorrect token size");
    out->payload = bytes_of(body.data, body.len - SIGNATURE_LEN);
    memcpy(out->signature, body.data + out->payload.len, SIGNATURE_LEN);
    return claims_read(out, err);
}

enum status token_verify(const struct token *t, EVP_PKEY *key, struct err *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    struct arena arena;
    struct bytes message;
    bool is_good = false;

    arena_init(&arena, TOKEN_LEN_MAX, 0);
    message = pae(&arena, t->payload, t->footer);
    if (md != NULL && message.data != NULL)
        is_good = EVP_DigestVerifyInit(md, NULL, NULL, NULL, key) == 1 &&
                  EVP_DigestVerify(md, t->signature, SIGNATURE_LEN, message.data, message.len) == 1;
    arena_free(&arena);
    EVP_MD_CTX_free(md);
    return is_good ? ST_OK : err_set(err, ST_INVALID, 0, "invalid signature");
}
