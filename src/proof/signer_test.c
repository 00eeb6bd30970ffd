/* Proves that states are signed and verified as published, and which key files are refused with which text.
 *
 * How: signatures of P-256 and P-384 keys verify with the point and with the PEM, and with no bit of anything flipped; key files in
 * other forms; many threads signing with one signer. The keys below were made for this test alone. */
#include <pthread.h>
#include <stdlib.h>

#include "base/test.h"
#include "proof/proof.h"

static const char key_p256[] = "-----BEGIN EC PRIVATE KEY-----\n"
                               "MHcCAQEEICvy5lj1tXtlNRcxIT0U+MO9q4AvyqJHcP17/Nk/bRZZoAoGCCqGSM49\n"
                               "AwEHoUQDQgAEj6KaMShgCdkKUxaWfAoN9HQAffi75aQV8hIjBtLu7pidb/0m82Kj\n"
                               "DJJbZyRctcr3fdDKe0CFiJQtIXjMamOIBw==\n"
                               "-----END EC PRIVATE KEY-----\n";
static const char key_p384[] = "-----BEGIN EC PRIVATE KEY-----\n"
                               "MIGkAgEBBDCotKRcMHuSsGb7RyMutK+5DdO82Ib94O+fD1jfIvHMx9LSIKE6KOdi\n"
                               "popR/yvokbCgBwYFK4EEACKhZANiAAQb2gsN0DzdZt+ejWlWF5Twkeh7iDwwKPFg\n"
                               "LLwLFJO/lSW2nahMp2jYi0/WDZDSF2zTjZy+1+v8WhCXQulcVxJQyMGwJiYFyxXh\n"
                               "D3tUlBw8azhiMrqif5RRe3ZnJ3PN4J4=\n"
                               "-----END EC PRIVATE KEY-----\n";
static const char key_without_point[] = "-----BEGIN EC PRIVATE KEY-----\n"
                                        "MDECAQEEICvy5lj1tXtlNRcxIT0U+MO9q4AvyqJHcP17/Nk/bRZZoAoGCCqGSM49\n"
                                        "AwEH\n"
                                        "-----END EC PRIVATE KEY-----\n";
static const char key_pkcs8[] = "-----BEGIN PRIVATE KEY-----\n"
                                "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgK/LmWPW1e2U1FzEh\n"
                                "PRT4w72rgC/Kokdw/Xv82T9tFlmhRANCAASPopoxKGAJ2QpTFpZ8Cg30dAB9+Lvl\n"
                                "pBXyEiMG0u7umJ1v/SbzYqMMkltnJFy1yvd90Mp7QIWIlC0heMxqY4gH\n"
                                "-----END PRIVATE KEY-----\n";
static const char key_after_parameters[] = "-----BEGIN EC PARAMETERS-----\n"
                                           "BggqhkjOPQMBBw==\n"
                                           "-----END EC PARAMETERS-----\n"
                                           "-----BEGIN EC PRIVATE KEY-----\n"
                                           "MHcCAQEEIPDtk1ctIjCfRVXtmRiFhM7jbQZboMHBlduakvjOMdHUoAoGCCqGSM49\n"
                                           "AwEHoUQDQgAEIgbM1JGGMSZzWhrymgzdnpyLrAa2UT/k8+14mFKb9tPtuTxC/t/M\n"
                                           "i8MwHNugUBsLlXige3fScVVwlcRpdl9Bcw==\n"
                                           "-----END EC PRIVATE KEY-----\n";
static const char key_rsa[] = "-----BEGIN RSA PRIVATE KEY-----\n"
                              "MIICXAIBAAKBgQDJDCeVypatWOpRZXA9wevltJLc8O/Pj9NC1M90crkH2hPxvBQT\n"
                              "ZaCZkOh4Jagpvi7GAK4tfDTfl6vc4LR0f6LhEytcKxL511SQ0/LivbD0atOqJfUb\n"
                              "NSTNmLU7FXPSFq4b/gMCb+/4Q0P2EoV6Z0b0VRa39D1d0jP+o7tOhBcbMwIDAQAB\n"
                              "AoGAVo7dHCi05r05ZQH/aRdssOElueoh1YNeuY9WIhSihTbnD1SicBd5JaS18cSE\n"
                              "ujQffzAbzYmEWh+65sX365BoVyssnbAICN251B9OY+8x5BtfNWr60Zvg23JuyWFn\n"
                              "gEre39VwcwFnaRnlmY+4O8HnhxH7IlyOe6J3yVspW1R9bQECQQD1dkaCDAhs1aYw\n"
                              "/GkAyezTI68dKuecrq5x0qQQI2bPpUyWOCQSPFNk+P5ThorBA/vB2Mp0k7YeXAI0\n"
                              "i8awTFexAkEA0a2+9D5jZDqr/LmfI9hD7wwUyAsxuGAimySIgJ/hyKzStIKSbW4o\n"
                              "z+7mtqHtBF8yaPqIB9IVAPfjSzuFO95+IwJADk+oCrsC3r2SI/cDdD1RpnnFIvE2\n"
                              "cccpeo9qa1p1CxQ7I+MAD2QfBJsT0PDeNCS0T/gAzc0y6BA7PK8NlYfN8QJABBeO\n"
                              "9XdOO0OF3b3FpE5xLPYgZbMKOl3t7vcsjs4P+vmcdxdhQi93Lm+sIv5QANjWxAO3\n"
                              "qedor4cm8W3s8Lkr3wJBAJLvljubqc03F14NqsG3q7tgcXdTBxDSupOKd1HYOuBh\n"
                              "VCtBSgydqudZITbbpusys2zPkpjY9u1mhbrQBP55QiY=\n"
                              "-----END RSA PRIVATE KEY-----\n";
static const char key_other_curve[] = "-----BEGIN EC PRIVATE KEY-----\n"
                                      "MHQCAQEEIEhr0efSE7NHwibJ9ljuno4FwMMAga1zdGgKNp61LK3uoAcGBSuBBAAK\n"
                                      "oUQDQgAEXO7lb3pTAkq0tNFHwuw/0dSBgalQRBw3GXSElvNFgKFdl+bI4R3Z+AoS\n"
                                      "b5Zf7WC5ADDucJa2cQ/6O7gXABalSw==\n"
                                      "-----END EC PRIVATE KEY-----\n";
static const char key_encrypted[] = "-----BEGIN EC PRIVATE KEY-----\n"
                                    "Proc-Type: 4,ENCRYPTED\n"
                                    "DEK-Info: AES-128-CBC,8CF05C7F608843034C3FE82D8AF60E2C\n"
                                    "\n"
                                    "pNTrm9248SdJsJFa6wID24segujjmTj2sa51nEAHelgUdxh9Eo7Jn7/wd0mVFWtq\n"
                                    "MxyEzYTlvPlrPYGLRv0A4ATuluzY14Bm1V/cakPPl2Mu78xnTzyTH5xb2jPMEgS2\n"
                                    "QfDnzcMIanjLmxZPGpN0k4o2fFzgCcKq2hbYqoMBNA0=\n"
                                    "-----END EC PRIVATE KEY-----\n";
static const char public_p256[] = "-----BEGIN PUBLIC KEY-----\n"
                                  "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEj6KaMShgCdkKUxaWfAoN9HQAffi7\n"
                                  "5aQV8hIjBtLu7pidb/0m82KjDJJbZyRctcr3fdDKe0CFiJQtIXjMamOIBw==\n"
                                  "-----END PUBLIC KEY-----\n";
static const char public_p384[] = "-----BEGIN PUBLIC KEY-----\n"
                                  "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEG9oLDdA83Wbfno1pVheU8JHoe4g8MCjx\n"
                                  "YCy8CxSTv5Ultp2oTKdo2ItP1g2Q0hds042cvtfr/FoQl0LpXFcSUMjBsCYmBcsV\n"
                                  "4Q97VJQcPGs4YjK6on+UUXt2ZydzzeCe\n"
                                  "-----END PUBLIC KEY-----\n";
static struct bytes signature_of(const struct state_signature *s) { return bytes_of(s->signature, s->signature_len); }
static struct bytes point_of(const struct state_signature *s) { return bytes_of(s->public_key, s->public_key_len); }

static void payload_bytes(void **state)
{
    uint8_t out[STATE_DB_LEN_MAX + 64];
    char name[STATE_DB_LEN_MAX];

    (void)state;
    assert_int_equal(state_payload(bytes_str("ab"), 0x0102, &HASH_ZERO, out), 4 + 2 + 8 + 32);
    assert_memory_equal(out, "\0\0\0\2ab\0\0\0\0\0\0\1\2\0\0", 16);
    memset(name, 'x', sizeof name);
    assert_int_equal(state_payload(bytes_of(name, sizeof name), 1, &HASH_ZERO, out), 4 + 256 + 8 + 32);
}

static void sign_and_verify(const char *private_pem, const char *public_pem, size_t point_len)
{
    struct bytes db = bytes_str("defaultdb"), pem = bytes_str(public_pem);
    struct state_signature s, other;
    struct signer *signer = NULL;
    uint8_t signature[SIGNATURE_BYTES_MAX + 1];
    hash_t alh = HASH_EMPTY;

    assert_int_equal(signer_open(bytes_str(private_pem), &signer, NULL), ST_OK);
    for (unsigned k = 0; k < 20; k++) {
        assert_int_equal(signer_sign(signer, db, 77, &alh, &s, NULL), ST_OK);
        assert_int_equal(s.public_key_len, point_len);
        assert_true(state_signature_verify(pem, signature_of(&s), db, 77, &alh));
        assert_true(state_signature_verify(point_of(&s), signature_of(&s), db, 77, &alh));
    }
    assert_int_equal(signer_sign(signer, db, 77, &alh, &other, NULL), ST_OK);
    assert_false(bytes_equal(signature_of(&s), signature_of(&other))); /* randomized */
    assert_false(state_signature_verify(pem, signature_of(&s), db, 78, &alh));
    assert_false(state_signature_verify(pem, signature_of(&s), bytes_str("defaultdc"), 77, &alh));
    assert_false(state_signature_verify(pem, signature_of(&s), bytes_str("default"), 77, &alh));
    alh.b[31] ^= 1;
    assert_false(state_signature_verify(pem, signature_of(&s), db, 77, &alh));
    alh.b[31] ^= 1;
    memcpy(signature, s.signature, s.signature_len);
    signature[s.signature_len] = 0;
    assert_false(state_signature_verify(pem, bytes_of(signature, s.signature_len + 1), db, 77, &alh));
    for (size_t len = 0; len < s.signature_len; len++)
        assert_false(state_signature_verify(pem, bytes_of(signature, len), db, 77, &alh));
    for (size_t bit = 0; bit < s.signature_len * 8; bit++) {
        signature[bit / 8] = (uint8_t)(signature[bit / 8] ^ (1u << bit % 8));
        assert_false(state_signature_verify(pem, bytes_of(signature, s.signature_len), db, 77, &alh));
        signature[bit / 8] = (uint8_t)(signature[bit / 8] ^ (1u << bit % 8));
    }
    assert_false(state_signature_verify(bytes_of(s.public_key, point_len - 1), signature_of(&s), db, 77, &alh));
    s.public_key[point_len - 1] ^= 1; /* no longer on the curve */
    assert_false(state_signature_verify(point_of(&s), signature_of(&s), db, 77, &alh));
    signer_close(signer);
}

static void curves(void **state)
{
    (void)state;
    sign_and_verify(key_p256, public_p256, 65);
    sign_and_verify(key_without_point, public_p256, 65);
    sign_and_verify(key_p384, public_p384, 97);
}

static void keys_do_not_mix(void **state)
{
    struct bytes db = bytes_str("db");
    struct state_signature s;
    struct signer *signer = NULL;

    (void)state;
    assert_int_equal(signer_open(bytes_str(key_p256), &signer, NULL), ST_OK);
    assert_int_equal(signer_sign(signer, db, 1, &HASH_EMPTY, &s, NULL), ST_OK);
    assert_false(state_signature_verify(bytes_str(public_p384), signature_of(&s), db, 1, &HASH_EMPTY));
    assert_false(state_signature_verify(bytes_str(key_encrypted), signature_of(&s), db, 1, &HASH_EMPTY)); /* and nobody is asked */
    assert_false(state_signature_verify(bytes_str("no key"), signature_of(&s), db, 1, &HASH_EMPTY));
    assert_false(state_signature_verify(bytes_of(NULL, 0), signature_of(&s), db, 1, &HASH_EMPTY));
    {
        char name[STATE_DB_LEN_MAX + 1];

        memset(name, 'x', sizeof name);
        assert_int_equal(signer_sign(signer, bytes_of(name, sizeof name), 1, &HASH_EMPTY, &s, NULL), ST_INVALID);
    }
    signer_close(signer);
}

static void key_files_refused(void **state)
{
    static const struct {
        const char *pem, *text;
    } cases[] = {
        {"", "no ecdsa key found in provided signing key file"},
        {"hello", "no ecdsa key found in provided signing key file"},
        {"-----BEGIN EC PRIVATE KEY-----\nMHcC", "no ecdsa key found in provided signing key file"},
        {key_pkcs8, "x509: failed to parse private key (use ParsePKCS8PrivateKey instead for this key format)"},
        {key_rsa, "x509: failed to parse private key (use ParsePKCS1PrivateKey instead for this key format)"},
        {key_other_curve, "x509: unknown elliptic curve"},
        {key_after_parameters, "x509: failed to parse EC private key: asn1: structure error"},
        {key_encrypted, "x509: failed to parse EC private key: asn1: structure error"},
        {public_p256, "x509: failed to parse EC private key: asn1: structure error"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct signer *signer = NULL;
        struct err err = {0};

        assert_int_equal(signer_open(bytes_str(cases[i].pem), &signer, &err), ST_INVALID);
        assert_null(signer);
        assert_string_equal(err.text, cases[i].text);
    }
    assert_int_equal(signer_open(bytes_of(NULL, 0), &(struct signer *){NULL}, NULL), ST_INVALID);
}

/* Every byte of the block changed: never a crash; when it opens, it signs. */
static void damaged_key_files(void **state)
{
    char pem[sizeof key_p256];
    size_t opened = 0;

    (void)state;
    for (size_t at = 0; at < sizeof pem - 1; at++) {
        struct state_signature s;
        struct signer *signer = NULL;

        memcpy(pem, key_p256, sizeof pem);
        pem[at] = pem[at] == 'A' ? 'B' : 'A';
        if (signer_open(bytes_of(pem, sizeof pem - 1), &signer, NULL) != ST_OK)
            continue;
        opened++;
        assert_int_equal(signer_sign(signer, bytes_str("db"), 1, &HASH_EMPTY, &s, NULL), ST_OK);
        assert_true(state_signature_verify(point_of(&s), signature_of(&s), bytes_str("db"), 1, &HASH_EMPTY));
        signer_close(signer);
    }
    assert_true(opened > 0);
}

static void *sign_many(void *ctx)
{
    uintptr_t bad = 0;

    for (uint64_t k = 1; k <= 200; k++) {
        struct state_signature s;

        if (signer_sign(ctx, bytes_str("db"), k, &HASH_EMPTY, &s, NULL) != ST_OK ||
            !state_signature_verify(point_of(&s), signature_of(&s), bytes_str("db"), k, &HASH_EMPTY))
            bad++;
    }
    return (void *)bad;
}

static void many_threads(void **state)
{
    struct signer *signer = NULL;
    pthread_t threads[6];

    (void)state;
    assert_int_equal(signer_open(bytes_str(key_p256), &signer, NULL), ST_OK);
    for (size_t k = 0; k < 6; k++)
        assert_int_equal(pthread_create(&threads[k], NULL, sign_many, signer), 0);
    for (size_t k = 0; k < 6; k++) {
        void *bad = NULL;

        assert_int_equal(pthread_join(threads[k], &bad), 0);
        assert_null(bad);
    }
    signer_close(signer);
    signer_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payload_bytes),     cmocka_unit_test(curves),       cmocka_unit_test(keys_do_not_mix), cmocka_unit_test(key_files_refused),
        cmocka_unit_test(damaged_key_files), cmocka_unit_test(many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
