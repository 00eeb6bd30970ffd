/* The proof of an entry: shared by VerifiableGet and its streamed form. */
#ifndef HANDLERS_KV_VERIFY_H
#define HANDLERS_KV_VERIFY_H

#include "handlers/kv_common.h"

struct kv_entry_proof {
    struct kv_tx_read tx; /* of the entry, or of the reference that led to it */
    uint32_t leaf;        /* the entry's index in it */
    struct merkle_path inclusion;
    struct kv_proof proof;
};
/* e as read by r. On success out->tx is open. */
MUST_USE enum status kv_prove_entry(struct request *rq, struct kv_reader *r, const struct kv_entry *e, uint64_t since_tx, struct kv_entry_proof *out,
                                    struct err *err);
MUST_USE enum status kv_verifiable_get_check(struct request *rq, const Immudb__Schema__VerifiableGetRequest *m);

#endif
