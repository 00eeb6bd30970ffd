/* Proofs, signatures and states: answers of the verifiable calls. */
#include "wire/wire.h"

/* Signature: 1 publicKey, 2 signature. */
void wire_signature(struct pb *w, const struct state_signature *s)
{
    pb_bytes(w, 2, bytes_of(s->signature, s->signature_len));
    pb_bytes(w, 1, bytes_of(s->public_key, s->public_key_len));
}

static void signature_field(struct pb *w, uint32_t field, const struct state_signature *s)
{
    size_t mark = pb_len(w);

    if (s == NULL)
        return;
    wire_signature(w, s);
    pb_message(w, field, mark);
}

static void put_hashes(struct pb *w, uint32_t field, const struct hash_list *l)
{
    for (size_t i = l->count; i-- > 0;)
        pb_hash(w, field, &l->items[i]);
}

/* InclusionProof: 1 leaf, 2 width, 3 terms. */
void wire_inclusion_proof(struct pb *w, uint32_t leaf, uint32_t width, const struct merkle_path *path)
{
    struct hash_list terms = {path->term_count, path->terms};

    put_hashes(w, 3, &terms);
    pb_i32(w, 2, (int32_t)width);
    pb_i32(w, 1, (int32_t)leaf);
}

/* LinearProof: 1 sourceTxId, 2 TargetTxId, 3 terms. */
void wire_linear_proof(struct pb *w, const struct linear_proof *p)
{
    put_hashes(w, 3, &p->terms);
    pb_u64(w, 2, p->target_tx_id);
    pb_u64(w, 1, p->source_tx_id);
}

/* LinearAdvanceProof: 1 linearProofTerms, 2 inclusionProofs; of these only the terms are filled. */
static void put_linear_advance(struct pb *w, const struct linear_advance_proof *p)
{
    for (size_t i = p->inclusion_count; i-- > 0;) {
        size_t mark = pb_len(w);

        put_hashes(w, 3, &p->inclusions[i]);
        pb_message(w, 2, mark);
    }
    put_hashes(w, 1, &p->terms);
}

static void header_field(struct pb *w, uint32_t field, const struct tx_header *h, bool with_metadata)
{
    size_t mark = pb_len(w);

    wire_tx_header(w, h, with_metadata);
    pb_message(w, field, mark);
}

/* DualProof: 1 sourceTxHeader, 2 targetTxHeader, 3 inclusionProof, 4 consistencyProof, 5 targetBlTxAlh, 6 lastInclusionProof,
 * 7 linearProof, 8 LinearAdvanceProof. */
void wire_dual_proof(struct pb *w, const struct dual_proof *p, bool source_metadata, bool target_metadata)
{
    size_t mark = pb_len(w);

    if (p->advance.is_present) {
        put_linear_advance(w, &p->advance);
        pb_message(w, 8, mark);
    }
    if (p->has_linear) {
        mark = pb_len(w);
        wire_linear_proof(w, &p->linear);
        pb_message(w, 7, mark);
    }
    put_hashes(w, 6, &p->last_inclusion);
    pb_hash(w, 5, &p->target_bl_alh);
    put_hashes(w, 4, &p->consistency);
    put_hashes(w, 3, &p->inclusion);
    if (p->has_target)
        header_field(w, 2, &p->target, target_metadata);
    if (p->has_source)
        header_field(w, 1, &p->source, source_metadata);
}

/* DualProofV2: the first four fields of DualProof. */
void wire_dual_proof_v2(struct pb *w, const struct dual_proof_v2 *p, bool source_metadata, bool target_metadata)
{
    put_hashes(w, 4, &p->consistency);
    put_hashes(w, 3, &p->inclusion);
    if (p->has_target)
        header_field(w, 2, &p->target, target_metadata);
    if (p->has_source)
        header_field(w, 1, &p->source, source_metadata);
}

/* VerifiableTx: 1 tx, 2 dualProof, 3 signature. */
void wire_verifiable_tx(struct pb *w, const struct wire_verifiable_tx *v)
{
    size_t mark;

    signature_field(w, 3, v->signature);
    mark = pb_len(w);
    wire_dual_proof(w, v->proof, v->source_metadata, v->target_metadata);
    pb_message(w, 2, mark);
    mark = pb_len(w);
    wire_tx(w, v->tx);
    pb_message(w, 1, mark);
}

/* VerifiableEntry: 1 entry, 2 verifiableTx, 3 inclusionProof. */
void wire_verifiable_entry(struct pb *w, const struct kv_entry *e, const struct wire_verifiable_tx *v, uint32_t leaf, uint32_t width,
                           const struct merkle_path *inclusion)
{
    size_t mark = pb_len(w);

    wire_inclusion_proof(w, leaf, width, inclusion);
    pb_message(w, 3, mark);
    mark = pb_len(w);
    wire_verifiable_tx(w, v);
    pb_message(w, 2, mark);
    mark = pb_len(w);
    wire_entry(w, e);
    pb_message(w, 1, mark);
}

/* ImmutableState: 1 db, 2 txId, 3 txHash, 4 signature, 5 precommittedTxId, 6 precommittedTxHash. */
void wire_state(struct pb *w, struct bytes db, uint64_t tx_id, const hash_t *alh, const struct state_signature *signature,
                uint64_t precommitted_tx_id, const hash_t *precommitted_alh)
{
    pb_hash(w, 6, precommitted_alh);
    pb_u64(w, 5, precommitted_tx_id);
    signature_field(w, 4, signature);
    pb_hash(w, 3, alh);
    pb_u64(w, 2, tx_id);
    pb_bytes(w, 1, db);
}

size_t wire_proof_hint(const struct dual_proof *p)
{
    size_t terms = p->inclusion.count + p->consistency.count + p->last_inclusion.count + p->linear.terms.count + 1;

    return 2 * WIRE_TX_HEADER_BYTES + SIGNATURE_BYTES_MAX + PUBLIC_KEY_BYTES_MAX + 64 +
           (terms < PB_MESSAGE_BYTES_MAX / 128 ? terms : PB_MESSAGE_BYTES_MAX / 128) * (HASH_LEN + 2);
}
