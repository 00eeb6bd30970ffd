/* Recorded document proofs, checked as the published client checks them. */
#include "golden.h"

#include <stdlib.h>

#define DEPTH_MAX 32

/* --- the stored message (google.protobuf.Struct) against the client's JSON --- */

struct field {
    unsigned no;
    uint64_t number;    /* wire types 0 and 1 */
    struct bytes bytes; /* wire type 2 */
};

static bool field_next(struct reader *r, struct field *f)
{
    uint64_t tag;

    if (r->failed || reader_left(r) == 0)
        return false;
    tag = reader_varint(r);
    *f = (struct field){.no = (unsigned)(tag >> 3)};
    switch (tag & 7) {
    case 0:
        f->number = reader_varint(r);
        break;
    case 1:
        f->number = reader_u64le(r);
        break;
    case 2:
        f->bytes = reader_bytes(r, reader_varint(r));
        break;
    default:
        r->failed = true;
    }
    return !r->failed;
}

static bool struct_same(struct bytes message, const json_t *want, unsigned depth);

static bool list_same(struct bytes message, const json_t *want, unsigned depth);

static bool value_same(struct bytes message, const json_t *want, unsigned depth)
{
    struct reader r = reader_of(message);
    struct field f = {0}, last = {0};
    double number;

    while (field_next(&r, &f))
        last = f;
    if (!reader_done(&r) || depth > DEPTH_MAX)
        return false;
    switch (last.no) {
    case 2:
        memcpy(&number, &last.number, sizeof number);
        return json_is_number(want) && json_number_value(want) == number;
    case 3:
        return json_is_string(want) && bytes_equal(last.bytes, bytes_of(json_string_value(want), json_string_length(want)));
    case 4:
        return json_is_boolean(want) && json_is_true(want) == (last.number != 0);
    case 5:
        return struct_same(last.bytes, want, depth + 1);
    case 6:
        return list_same(last.bytes, want, depth + 1);
    default:
        return json_is_null(want);
    }
}

static bool list_same(struct bytes message, const json_t *want, unsigned depth)
{
    struct reader r = reader_of(message);
    struct field f;
    size_t at = 0;

    while (field_next(&r, &f))
        if (f.no == 1 && !value_same(f.bytes, json_array_get(want, at++), depth))
            return false;
    return reader_done(&r) && json_is_array(want) && at == json_array_size(want);
}

static bool member_same(struct bytes pair, const json_t *want, unsigned depth)
{
    struct reader r = reader_of(pair);
    struct bytes name = bytes_of("", 0), value = bytes_of("", 0);
    const json_t *member;
    struct field f;

    while (field_next(&r, &f)) {
        if (f.no == 1)
            name = f.bytes;
        else if (f.no == 2)
            value = f.bytes;
    }
    member = json_object_getn(want, (const char *)name.data, name.len);
    return reader_done(&r) && member != NULL && value_same(value, member, depth);
}

static bool struct_same(struct bytes message, const json_t *want, unsigned depth)
{
    struct reader r = reader_of(message);
    struct field f;
    size_t count = 0;

    if (!json_is_object(want))
        return false;
    while (field_next(&r, &f)) {
        if (f.no != 1)
            continue;
        count++;
        if (!member_same(f.bytes, want, depth))
            return false;
    }
    return reader_done(&r) && count == json_object_size(want);
}

/* --- the proof --- */

/* Row key of a document: primary key is the id, 32 bytes at most, zero padded, with its length behind. */
static struct bytes document_key(struct golden *g, uint64_t collection_id, struct bytes id)
{
    uint8_t *buf = arena_zalloc(&g->arena, 64);
    struct writer w = writer_of(buf, 64);

    if (buf == NULL || id.len > 32)
        return bytes_of("", 0);
    writer_put(&w, "\x03R.", 3);
    writer_u32be(&w, 1);
    writer_u32be(&w, (uint32_t)collection_id);
    writer_u32be(&w, 0);
    writer_u8(&w, 0x80);
    writer_put(&w, id.data, id.len);
    writer_reserve(&w, 32 - id.len);
    writer_u32be(&w, (uint32_t)id.len);
    return bytes_of(buf, writer_len(&w));
}

/* The stored row: u32(count), then u32(column) u32(len) bytes; the second column is the document. */
static struct bytes document_of_row(struct bytes row)
{
    struct reader r = reader_of(row);

    reader_u32be(&r);
    reader_u32be(&r);
    reader_bytes(&r, reader_u32be(&r));
    reader_u32be(&r);
    return reader_bytes(&r, reader_u32be(&r));
}

static bool entries_hold(struct golden *g, const json_t *tx, const struct tx_header *h, struct bytes key, struct bytes row)
{
    const json_t *entries = json_object_get(tx, "entries"), *e;
    size_t count = json_array_size(entries), hits = 0, i;
    hash_t *digests = arena_array(&g->arena, count + 1, 2 * sizeof *digests), row_hash, eh;

    if (digests == NULL)
        abort();
    sha256(row.data, row.len, &row_hash);
    json_array_foreach(entries, i, e)
    {
        struct bytes entry_key = golden_hex(g, e, "key"), md;
        uint8_t buf[KV_METADATA_BYTES_MAX];
        struct kv_metadata attributes;
        hash_t hval;

        golden_hash(g, e, "hValue", &hval);
        golden_kv_metadata(json_object_get(e, "metadata"), &attributes);
        md = bytes_of(buf, kv_metadata_encode(&attributes, buf));
        if (entry_digest(h->version, entry_key, md, &hval, &digests[i], NULL) != ST_OK)
            return false;
        if (!bytes_equal(entry_key, key))
            continue;
        hits++;
        if (!hash_equal(&hval, &row_hash))
            return false;
    }
    htree_root(digests, count, digests + count, &eh);
    return hits == 1 && hash_equal(&eh, &h->eh);
}

static bool known_state_holds(struct golden *g, const json_t *known, const struct dual_proof_v2 *p, const hash_t *source, const hash_t *target)
{
    uint64_t tx_id = golden_u64(known, "txId");
    hash_t alh;

    if (tx_id == 0)
        return p->source.id == 1;
    golden_hash(g, known, "txHash", &alh);
    if (tx_id != p->source.id && tx_id != p->target.id)
        return false;
    return (tx_id != p->source.id || hash_equal(&alh, source)) && (tx_id != p->target.id || hash_equal(&alh, target));
}

static bool document_check(struct golden *g, const json_t *v, const json_t *root, uint64_t *new_tx_id, hash_t *new_alh)
{
    const json_t *r = json_object_get(v, "response"), *document = json_object_get(v, "document");
    const json_t *verifiable_tx = json_object_get(r, "verifiableTx"), *tx = json_object_get(verifiable_tx, "tx");
    struct bytes row = golden_hex(g, r, "encodedDocument"), id = golden_hex(g, document, golden_text(r, "documentIdFieldName"));
    struct dual_proof_v2 proof;
    struct tx_header h;
    hash_t alh, source, target;

    golden_header(g, json_object_get(tx, "header"), &h);
    golden_dual_v2(g, json_object_get(verifiable_tx, "dualProof"), &proof);
    if (h.version > TX_VERSION_MAX || proof.source.version > TX_VERSION_MAX || proof.target.version > TX_VERSION_MAX)
        return false;
    if (!entries_hold(g, tx, &h, document_key(g, golden_u64(r, "collectionId"), id), row) || !struct_same(document_of_row(row), document, 0))
        return false;
    tx_header_alh(&h, &alh);
    tx_header_alh(&proof.source, &source);
    tx_header_alh(&proof.target, &target);
    if ((h.id != proof.source.id && h.id != proof.target.id) || (h.id == proof.source.id && !hash_equal(&alh, &source)) ||
        (h.id == proof.target.id && !hash_equal(&alh, &target)))
        return false;
    *new_tx_id = proof.target.id;
    *new_alh = target;
    return known_state_holds(g, json_object_get(v, "knownState"), &proof, &source, &target) &&
           dual_proof_v2_verify(&proof, proof.source.id, proof.target.id, &source, &target, NULL) == ST_OK &&
           state_signature_verify(bytes_str(golden_text(root, "publicPEM")), golden_hex(g, json_object_get(verifiable_tx, "signature"), "signature"),
                                  bytes_str(golden_text(r, "database")), proof.target.id, &target);
}

void golden_documents(struct golden *g, const json_t *root)
{
    const json_t *v;
    size_t i;

    json_array_foreach(json_object_get(root, "vectors"), i, v)
    {
        const json_t *after = json_object_get(v, "newState");
        uint64_t tx_id = 0;
        hash_t alh, want;
        bool is_valid = document_check(g, v, root, &tx_id, &alh);

        golden_check(g, is_valid == golden_true(v, "valid"), "document proof", v);
        if (is_valid && golden_true(v, "valid")) {
            golden_hash(g, after, "txHash", &want);
            golden_check(g, tx_id == golden_u64(after, "txId") && hash_equal(&alh, &want), "state after a document proof", v);
        }
        arena_reset(&g->arena);
    }
}
