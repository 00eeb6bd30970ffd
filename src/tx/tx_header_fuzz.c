/* Fuzz target: headers and both kinds of metadata; the first byte says which. What is accepted must be written again as
 * bytes that read and hash the same. */
#include <assert.h>

#include "tx/tx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void kv(struct bytes in)
{
    uint8_t a[KV_METADATA_BYTES_MAX], b[KV_METADATA_BYTES_MAX];
    struct kv_metadata md, again;
    size_t n;

    if (kv_metadata_decode(in, &md, NULL) != ST_OK)
        return;
    n = kv_metadata_encode(&md, a);
    assert(n <= in.len && kv_metadata_decode(bytes_of(a, n), &again, NULL) == ST_OK);
    assert(bytes_equal(bytes_of(a, n), bytes_of(b, kv_metadata_encode(&again, b))));
}

static void tx(struct bytes in)
{
    uint8_t a[TX_METADATA_BYTES_MAX], b[TX_METADATA_BYTES_MAX];
    struct tx_metadata md, again;
    size_t n;

    if (tx_metadata_decode(in, &md, NULL) != ST_OK)
        return;
    n = tx_metadata_encode(&md, a);
    assert(n <= in.len && tx_metadata_decode(bytes_of(a, n), &again, NULL) == ST_OK);
    assert(bytes_equal(bytes_of(a, n), bytes_of(b, tx_metadata_encode(&again, b))));
}

static void header(struct bytes in)
{
    uint8_t a[TX_HEADER_BYTES_MAX];
    struct tx_header h, again;
    hash_t first, second;
    size_t n;

    if (tx_header_decode(in, &h, NULL) != ST_OK)
        return;
    n = tx_header_encode(&h, a);
    assert(n <= in.len && tx_header_decode(bytes_of(a, n), &again, NULL) == ST_OK);
    tx_header_alh(&h, &first);
    tx_header_alh(&again, &second);
    assert(hash_equal(&first, &second));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const kinds[])(struct bytes in) = {kv, tx, header};

    if (len > 0)
        kinds[data[0] % 3](bytes_of(data + 1, len - 1));
    return 0;
}
