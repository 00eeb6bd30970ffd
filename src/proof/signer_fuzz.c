/* Fuzz target: key files, as PEM text (first byte even) or as the DER inside one (odd), and signatures. A key that opens
 * must sign what its own point verifies. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "proof/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void open_and_sign(struct bytes pem)
{
    struct signer *signer = NULL;
    struct state_signature s;

    if (signer_open(pem, &signer, NULL) != ST_OK)
        return;
    assert(signer_sign(signer, bytes_str("db"), 1, &HASH_EMPTY, &s, NULL) == ST_OK);
    assert(state_signature_verify(bytes_of(s.public_key, s.public_key_len), bytes_of(s.signature, s.signature_len), bytes_str("db"), 1, &HASH_EMPTY));
    signer_close(signer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char begin[] = "-----BEGIN EC PRIVATE KEY-----\n", end[] = "\n-----END EC PRIVATE KEY-----\n";
    char pem[4096];
    size_t n = strlen(begin);

    if (len == 0 || len > 1500)
        return 0;
    state_signature_verify(bytes_of(data + 1, len - 1), bytes_of(data, len), bytes_str("db"), 1, &HASH_EMPTY);
    if (data[0] % 2 == 0) {
        open_and_sign(bytes_of(data + 1, len - 1));
        return 0;
    }
    /* Lines of 48 bytes, 64 characters each. */
    memcpy(pem, begin, n);
    for (size_t at = 1; at < len; at += 48) {
        size_t part = len - at < 48 ? len - at : 48;

        n += (size_t)EVP_EncodeBlock((unsigned char *)pem + n, data + at, (int)part);
        if (at + part < len)
            pem[n++] = '\n';
    }
    memcpy(pem + n, end, strlen(end));
    open_and_sign(bytes_of(pem, n + strlen(end)));
    return 0;
}
