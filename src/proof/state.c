/* What is signed of a state: u32(len db) db u64(tx id) alh, big-endian. */
#include "proof/proof.h"

#include <assert.h>

size_t state_payload(struct bytes db, uint64_t tx_id, const hash_t *alh, uint8_t out[STATE_DB_LEN_MAX + 64])
{
    struct writer w = writer_of(out, STATE_DB_LEN_MAX + 64);

    assert(db.len <= STATE_DB_LEN_MAX);
    writer_u32be(&w, (uint32_t)db.len);
    writer_put(&w, db.data, db.len);
    writer_u64be(&w, tx_id);
    writer_put(&w, alh->b, HASH_LEN);
    return writer_len(&w);
}
